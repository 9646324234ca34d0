"""Timing worker for mace-torch (protocol: see `protocol.py`). Runs in the peers' environment.

    python speed_mace_torch.py

What is timed, and kept as favourable to mace-torch as its users can have it on a CPU:

- "energy_forces": the model on a prepared batch (neighbour list excluded), forces by autograd as
  `mace.modules` computes them, parameters without gradients as in MACECalculator, no stress. The
  modes are "eager" (what MACECalculator runs by default: an eager module whose e3nn parts are
  TorchScript), "script" (`e3nn.util.jit.compile`, what mace_run_train saves as _compiled.model),
  "compile" and "compile_threads" (torch.compile the way MACECalculator(compile_mode="default") does
  it, for each case's own shape). With mode "fastest", the default, each of "modes" (a key of "time"
  or of "load"; eager and script when in neither) is tried on the case first, and the fastest that
  works is timed; the answer names it and what the others took.
  As it comes, torch 2.13.0's compiled module dies on two threads of "double free or corruption".
  Two settings of inductor, neither of which a user would know, avoid that: "compile" holds its
  kernels to one thread (matrix products keep theirs), which is the fastest for molecules;
  "compile_threads" keeps the threads and leaves explicit vectorisation out, the fastest for large
  structures. Each takes about a minute to compile for a case (seconds when inductor has it cached).
- "train_step": zero_grad, forward with training=True, WeightedEnergyForcesLoss(1, 100), backward,
  Adam(amsgrad) step; eager, as mace_run_train does it and has no option to do otherwise, without
  its gradient clipping and EMA. The other modes can be asked for.
"""

from __future__ import annotations

import copy
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from protocol import guard_stdout, serve

WARMUP = 4  # TorchScript's profiling executor specialises during the first calls
MODES = ("eager", "script", "compile", "compile_threads")
INDUCTOR = {"compile": {"cpp.threads": 1}, "compile_threads": {"cpp.simdlen": 1}}


class MaceTorchWorker:
    """State of the worker: one model in its modes, and the prepared batches."""

    def __init__(self) -> None:
        self.source: Any = None  # the model as loaded, parameters with gradients
        self.dtype = "float32"
        self.modes: tuple[str, ...] = ("eager", "script")
        self.inference: dict[str, Any] = {}  # mode -> module
        self.failed: dict[str, str] = {}
        self.training: dict[str, tuple[Any, Any, Any]] = {}
        self.batches: dict[str, Any] = {}
        self.fastest: dict[Any, tuple[str, dict[str, float]]] = {}

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """Loads a .model file; answers the parameter count."""
        import torch
        from export_mace_torch import load_model

        threads = int(command["threads"])
        torch.set_num_threads(threads)
        self.dtype = command.get("dtype", "float32")
        self.modes = self._check_modes(command.get("modes", ("eager", "script")))
        torch.set_default_dtype(getattr(torch, self.dtype))
        self.source = load_model(Path(command["model"])).to(getattr(torch, self.dtype))
        self.inference, self.failed, self.training = {}, {}, {}
        self.batches, self.fastest = {}, {}
        return {**self.parameters(command), "threads": torch.get_num_threads()}

    @staticmethod
    def _check_modes(modes: Any) -> tuple[str, ...]:
        if set(modes) - set(MODES):
            raise ValueError(f"unknown modes {sorted(set(modes) - set(MODES))}; known: {MODES}")
        return tuple(modes)

    def parameters(self, _: dict[str, Any]) -> dict[str, Any]:
        """Number of trainable parameters."""
        return {"parameters": sum(p.numel() for p in self.source.parameters())}

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """Builds the batch of a case with mace's own data pipeline."""
        import ase.io
        from mace_models import make_batch

        frames = ase.io.read(command["structures"], index=":")
        count = int(command.get("batch", 1))
        frames = [frames[i % len(frames)] for i in range(count)]
        batch = make_batch(self.source, frames, self.dtype)
        self.batches[command["case"]] = batch
        self.fastest = {k: v for k, v in self.fastest.items() if k[0] != command["case"]}
        return {
            "structures": count,
            "atoms": int(batch.positions.shape[0]),
            "edges": int(batch.edge_index.shape[1]),
        }

    def _inference_module(self, mode: str) -> Any:
        """The model without parameter gradients, in one of the modes; made once."""
        if mode in self.inference:
            return self.inference[mode]
        if mode in self.failed:
            raise RuntimeError(self.failed[mode])
        try:
            self.inference[mode] = self._make_inference_module(mode)
        except Exception as error:
            self.failed[mode] = f"{type(error).__name__}: {error}"[:500]
            raise
        return self.inference[mode]

    def _make_module(self, mode: str) -> Any:
        """A copy of the model, as it is, scripted or wrapped in torch.compile."""
        import torch

        module = copy.deepcopy(self.source)
        if mode == "script":
            from e3nn.util import jit

            module = jit.compile(module)
        elif mode in INDUCTOR:
            from mace.tools.compile import configure_autograd_for_compile, prepare
            from mace.tools.scripts_utils import extract_model

            torch._dynamo.config.recompile_limit = 64  # one shape a case
            configure_autograd_for_compile(allow_autograd=True)
            module = prepare(extract_model)(model=module, map_location="cpu")
            module = torch.compile(module, fullgraph=True, dynamic=False, options=INDUCTOR[mode])
        return module

    def _make_inference_module(self, mode: str) -> Any:
        module = self._make_module(mode)
        for parameter in module.parameters():
            parameter.requires_grad = False
        return module

    def _energy_forces(self, case: str, mode: str) -> dict[str, Any]:
        """One evaluation."""
        module = self._inference_module(mode)
        data = self.batches[case].to_dict()
        if mode in INDUCTOR:  # as MACECalculator._clone_batch and its call do
            data["positions"] = data["positions"].detach().clone().requires_grad_(True)
            data["node_attrs"] = data["node_attrs"].detach().clone().requires_grad_(True)
        return module(data, training=mode in INDUCTOR, compute_force=True)

    def _train_step(self, case: str, mode: str) -> float:
        """One optimiser step on the worker's own copy of the model; answers the loss."""
        import torch
        from mace.modules import WeightedEnergyForcesLoss

        if mode not in self.training:
            module = self._make_module(self._check_modes([mode])[0])
            parameters = [p for p in module.parameters() if p.requires_grad]
            optimizer = torch.optim.Adam(parameters, lr=1e-4, amsgrad=True)
            loss = WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=100.0)
            self.training[mode] = (module, optimizer, loss)
        module, optimizer, loss_function = self.training[mode]
        batch = self.batches[case]
        data = batch.to_dict()
        if mode in INDUCTOR:
            data["positions"] = data["positions"].detach().clone().requires_grad_(True)
            data["node_attrs"] = data["node_attrs"].detach().clone().requires_grad_(True)
        data["positions"].grad = None
        optimizer.zero_grad(set_to_none=True)
        output = module(data, training=True, compute_force=True)
        loss = loss_function(pred=output, ref=batch)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def _times(self, run: Any, repeats: int, warmup: int = WARMUP) -> list[float]:
        for _ in range(warmup):
            run()
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return seconds

    def _choose(self, case: str, modes: tuple[str, ...]) -> tuple[str, dict[str, float]]:
        """The fastest working mode for a case, and the median time of each.

        The modes take turns, so that what else the machine does falls on all of them.
        """
        key = (case, modes)
        if key not in self.fastest:
            times: dict[str, list[float]] = {}
            for mode in modes:
                try:
                    self._times(lambda mode=mode: self._energy_forces(case, mode), 0)
                    times[mode] = []
                except Exception as error:
                    self.failed.setdefault(mode, f"{type(error).__name__}: {error}"[:500])
                    print(f"mode {mode} does not work: {self.failed[mode]}", file=sys.stderr)
            if not times:
                raise RuntimeError(f"no mode works: {self.failed}")
            for _ in range(7):
                for mode in times:
                    run = self._times(lambda mode=mode: self._energy_forces(case, mode), 1, 1)
                    times[mode] += run
            medians = {mode: statistics.median(values) for mode, values in times.items()}
            self.fastest[key] = (min(medians, key=medians.__getitem__), medians)
        return self.fastest[key]

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Times `repeats` evaluations or training steps."""
        case, what, repeats = command["case"], command["what"], int(command.get("repeats", 10))
        if case not in self.batches:
            raise ValueError(f"case {case!r} is not prepared; prepared: {sorted(self.batches)}")
        answer: dict[str, Any] = {}
        if what == "energy_forces":
            mode = command.get("mode", "fastest")
            if mode == "fastest":
                modes = self._check_modes(command.get("modes", self.modes))
                mode, medians = self._choose(case, modes)
                answer = {"modes_seconds": medians, "modes_failed": self.failed}
            seconds = self._times(lambda: self._energy_forces(case, mode), repeats)
        elif what == "train_step":
            mode = command.get("mode", "eager")
            seconds = self._times(lambda: self._train_step(case, mode), repeats)
        else:
            raise ValueError(f"unknown what {what!r}: energy_forces or train_step")
        return {"seconds": seconds, "mode": mode, **answer}

    def predict(self, command: dict[str, Any]) -> dict[str, Any]:
        """Energies and forces of a case, from the eager model or the mode asked for."""
        out = self._energy_forces(command["case"], command.get("mode", "eager"))
        return {
            "energy": out["energy"].detach().tolist(),
            "interaction_energy": out["interaction_energy"].detach().tolist(),
            "forces": out["forces"].detach().tolist(),
        }

    def matmul_peak(self, command: dict[str, Any]) -> dict[str, Any]:
        """Best of several square matrix products."""
        import torch

        n = int(command.get("size", 2048))
        a, b = torch.rand(n, n), torch.rand(n, n)
        best = min(self._times(lambda: torch.mm(a, b), int(command.get("repeats", 8)), warmup=2))
        return {"gflops": 2.0 * n**3 / best * 1e-9, "size": n, "dtype": str(a.dtype)}


def main() -> int:
    """Serves until "quit"."""
    answers = guard_stdout()
    warnings.simplefilter("ignore")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import mace  # before e3nn, whose constants torch >= 2.6 refuses otherwise
    import torch

    worker = MaceTorchWorker()
    return serve(
        answers,
        {"side": "mace-torch", "mace_torch": mace.__version__, "torch": torch.__version__},
        {
            name: getattr(worker, name)
            for name in ("load", "prepare", "time", "predict", "parameters", "matmul_peak")
        },
    )


if __name__ == "__main__":
    raise SystemExit(main())
