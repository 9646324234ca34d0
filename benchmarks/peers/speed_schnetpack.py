"""Timing worker for schnetpack's SchNet (protocol: see `protocol.py`). Runs in the peers'
environment `.venv-peers-schnetpack`.

    python speed_schnetpack.py

The model is `NeuralNetworkPotential` of PairwiseDistances, the representation SchNet (128 features,
3 interactions, 20 Gaussians to 5 Å, cosine cutoff), Atomwise energies and Forces, with random
weights and without gradients of them; no stress. Mode "eager" is how its calculator and its
trainer run it; "compile" is torch.compile of the energy, for each case's own shape, with the
gradient by the positions outside. As it comes, torch 2.13.0's compiled module can die on two
threads (see `speed_mace_torch.py`): inductor's kernels are held to one thread, matrix products
keep theirs.

`TorchWorker` is what this worker and nequip's share. Commands beside those of `protocol.py`:

- {"cmd": "time", ..., "mode": MODE}
- {"cmd": "predict", "case": NAME, "mode": MODE, "move": [atom, axis, Å]}: total energy of the batch
  and forces, after one coordinate has been moved, on the prepared edges; "move" is optional.
"""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

from protocol import guard_stdout, serve

WARMUP = 3
COMMANDS = ("load", "prepare", "time", "predict")


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Of what is installed."""
    from importlib.metadata import version

    return {name: version(name) for name in packages}


class TorchWorker:
    """One model in its modes, and the prepared batches."""

    packages: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.model: Any = None
        self.cases: dict[str, Any] = {}
        self.runs: dict[tuple[str, str], Any] = {}

    def build(self) -> Any:
        """The model."""
        raise NotImplementedError

    def batch(self, frames: list[Any]) -> tuple[Any, int]:
        """Inputs of the model for some structures, and the number of edges."""
        raise NotImplementedError

    def compiled(self, mode: str, case: str) -> Any:
        """A function from inputs to energies and forces."""
        raise NotImplementedError

    def moved(self, inputs: Any, atom: int, axis: int, distance: float) -> Any:
        """Inputs after a coordinate has moved."""
        raise NotImplementedError

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """A model with random weights."""
        import torch

        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: int(command["threads"])])
        torch.set_num_threads(int(command["threads"]))
        if command.get("dtype", "float32") != "float32":
            raise ValueError(f"only float32 is timed, got {command['dtype']}")
        torch.manual_seed(0)
        self.model = self.build().eval()
        count = sum(p.numel() for p in self.model.parameters())
        for parameter in self.model.parameters():
            parameter.requires_grad = False
        return {"parameters": count, "versions": versions(self.packages)}

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """One batch of the first frames, repeated where there are fewer."""
        import ase.io

        frames = ase.io.read(command["structures"], index=":")
        count = int(command.get("batch", 1))
        chosen = [frames[i % len(frames)] for i in range(count)]
        self.cases[command["case"]], edges = self.batch(chosen)
        return {"structures": count, "atoms": sum(map(len, chosen)), "edges": edges}

    def run(self, case: str, mode: str) -> Any:
        """The function that is timed."""
        if (case, mode) not in self.runs:
            self.runs[case, mode] = self.compiled(mode, case)
        return self.runs[case, mode]

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Seconds of each repeat, compilation not included."""
        case = command["case"]
        run, inputs = self.run(case, command["mode"]), self.cases[case]
        for _ in range(WARMUP):
            run(inputs)
        seconds = []
        for _ in range(int(command["repeats"])):
            started = time.perf_counter()
            run(inputs)
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}

    def predict(self, command: dict[str, Any]) -> dict[str, Any]:
        """Total energy and forces."""
        import torch

        case = command["case"]
        inputs = self.cases[case]
        if "move" in command:
            inputs = self.moved(inputs, *command["move"])
        energy, forces = self.run(case, command["mode"])(inputs)
        return {
            "energy": float(energy.detach().to(torch.float64).sum()),
            "forces": forces.detach().tolist(),
        }


def serve_worker(side: str, make: Any) -> int:
    """Serve until "quit"."""
    answers = guard_stdout()
    warnings.simplefilter("ignore")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    worker = make()
    return serve(answers, {"side": side}, {name: getattr(worker, name) for name in COMMANDS})


class Schnetpack(TorchWorker):
    """SchNet."""

    packages = ("schnetpack", "torch")

    def build(self) -> Any:
        """The representation, energies and forces."""
        import torch.utils.data.dataloader as dataloader

        if not hasattr(dataloader, "T_co"):  # a name for annotations, which newer torch lacks
            dataloader.T_co = Any
        import schnetpack as spk

        cutoff = 5.0
        representation = spk.representation.SchNet(
            n_atom_basis=128,
            n_interactions=3,
            radial_basis=spk.nn.GaussianRBF(n_rbf=20, cutoff=cutoff),
            cutoff_fn=spk.nn.CosineCutoff(cutoff),
        )
        return spk.model.NeuralNetworkPotential(
            representation=representation,
            input_modules=[spk.atomistic.PairwiseDistances()],
            output_modules=[
                spk.atomistic.Atomwise(n_in=128, output_key="energy"),
                spk.atomistic.Forces(),
            ],
        )

    def batch(self, frames: list[Any]) -> tuple[Any, int]:
        """Through schnetpack's own converter."""
        import schnetpack as spk
        import torch

        convert = spk.interfaces.AtomsConverter(
            neighbor_list=spk.transform.ASENeighborList(cutoff=5.0), dtype=torch.float32
        )
        inputs = convert(frames)
        return inputs, len(inputs[spk.properties.idx_i])

    def compiled(self, mode: str, case: str) -> Any:
        """Eager, or with the energy compiled."""
        import torch

        def eager(inputs: Any) -> Any:
            out = self.model(dict(inputs))
            return out["energy"], out["forces"]

        if mode == "eager":
            return eager
        modules = [*self.model.input_modules, self.model.representation]
        modules.append(self.model.output_modules[0])

        def energies(inputs: Any) -> Any:
            for module in modules:
                inputs = module(inputs)
            return inputs["energy"]

        limits = ("recompile_limit", "cache_size_limit")  # the latter until torch 2.5
        for name in limits:
            if hasattr(torch._dynamo.config, name):
                setattr(torch._dynamo.config, name, 64)  # one shape a case
        fast = torch.compile(energies, dynamic=False, options={"cpp.threads": 1})

        def run(inputs: Any) -> Any:
            positions = inputs["_positions"].detach().requires_grad_(True)
            energy = fast({**inputs, "_positions": positions})
            (gradient,) = torch.autograd.grad(energy.sum(), positions)
            return energy.detach(), -gradient

        return run

    def moved(self, inputs: Any, atom: int, axis: int, distance: float) -> Any:
        """Of the copied positions."""
        positions = inputs["_positions"].detach().clone()
        positions[atom, axis] += distance
        return {**inputs, "_positions": positions}


if __name__ == "__main__":
    raise SystemExit(serve_worker("schnetpack", Schnetpack))
