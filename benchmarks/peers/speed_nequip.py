"""Timing workers for two NequIPs (protocol: see `protocol.py` and `speed_schnetpack.py`).

    python speed_nequip.py nequip     in .venv-peers-nequip: nequip, torch (2.6 at least for aoti)
    python speed_nequip.py mlip       in .venv-peers-mlip: mlip's Nequip, JAX

nequip: `NequIPGNNModel` with 4 layers, l_max 2, parity=False (32x0e+32x1o+32x2e: features of
natural parity), radial networks of two hidden layers of 64, 8 Bessel functions to 5 Å: the 11
paths of messages that Kohn has. Its self-connections multiply the features by all 32 numbers of the
element's embedding, where Kohn and mlip choose one of 4 matrices: that is most of its parameters.
It computes energy, forces and stress. Mode "eager" is its default (TorchScript is refused from
torch 2.10 on); "aoti" is what `nequip-compile --mode aotinductor` does with the target "ase", or
"batch" for several structures: sizes are left free, each case is its own example. The front door
needs a checkpoint of a training run; here the same function of nequip is called.

mlip: `Nequip` with 4 layers, target irreps 32x0e+32x1o+32x2e in every layer (the last included,
where nequip and Kohn keep scalars only; XLA drops what is not used), the same radial networks;
everything else as in `speed_mlip.py`. Its E0s are zero. No stress.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from speed_mlip import MlipWorker
from speed_schnetpack import TorchWorker, serve_worker, versions

SYMBOLS = ("H", "C", "N", "O")
NUMBERS = (1, 6, 7, 8)
CUTOFF, NEIGHBOURS = 5.0, 14.375


class NequipWorker(TorchWorker):
    """nequip's NequIP."""

    packages = ("nequip", "torch")

    def build(self) -> Any:
        """The model, float32; positions stay float64, as nequip has it."""
        from nequip.model import NequIPGNNModel
        from nequip.utils.global_state import set_global_state

        set_global_state(allow_tf32=False)
        return NequIPGNNModel(
            seed=0,
            model_dtype="float32",
            type_names=list(SYMBOLS),
            r_max=CUTOFF,
            num_layers=4,
            l_max=2,
            parity=False,
            num_features=32,
            radial_mlp_depth=2,
            radial_mlp_width=64,
            num_bessels=8,
            avg_num_neighbors=NEIGHBOURS,
            per_type_energy_scales=1.0,
            per_type_energy_shifts=0.0,
        )

    def batch(self, frames: list[Any]) -> tuple[Any, int]:
        """Through the transforms of nequip's calculator; a lone frame as the calculator has it."""
        from nequip.data import AtomicDataDict, from_ase
        from nequip.integrations.utils import basic_transforms

        transforms = basic_transforms(
            self.model.metadata, CUTOFF, list(SYMBOLS), {s: s for s in SYMBOLS}
        )
        data = []
        for frame in frames:
            datum = from_ase(frame)
            for transform in transforms:
                datum = transform(datum)
            data.append(datum)
        whole = AtomicDataDict.batched_from_list(data) if len(data) > 1 else data[0]
        return whole, int(whole[AtomicDataDict.EDGE_INDEX_KEY].shape[1])

    def compiled(self, mode: str, case: str) -> Any:
        """Eager, or compiled ahead of time from the case as its example."""
        model = self.model
        if mode == "aoti":
            model = self.ahead_of_time(self.cases[case])

        def run(inputs: Any) -> Any:
            out = model(inputs if mode == "aoti" else dict(inputs))
            return out["total_energy"], out["forces"]

        return run

    def ahead_of_time(self, data: Any) -> Any:
        """As `nequip.scripts.compile` does it."""
        import torch
        from nequip.data import AtomicDataDict
        from nequip.model.inference_models import load_aotinductor_model
        from nequip.scripts._compile_utils import COMPILE_TARGET_DICT
        from nequip.utils.aot import aot_export_model
        from nequip.utils.aoti_metadata import (
            NEQUIP_AOTI_INPUTS_KEY,
            NEQUIP_AOTI_OUTPUTS_KEY,
            serialize_aoti_keys,
        )
        from nequip.utils.versions import check_pt2_compile_compatibility

        check_pt2_compile_compatibility()
        several = AtomicDataDict.num_frames(data) > 1
        target = COMPILE_TARGET_DICT["batch" if several else "ase"]
        dims = {"graph": "num_frames", "node": "num_nodes", "edge": "num_edges"}
        dynamic = torch.export.dynamic_shapes.Dim
        shapes = {k: dynamic(name, min=2, max=torch.inf) for k, name in dims.items()}
        example = dict(data)
        if not several:
            example = target["data_settings"](example)
        metadata = {
            **self.model.metadata,
            NEQUIP_AOTI_INPUTS_KEY: serialize_aoti_keys(target["input"]),
            NEQUIP_AOTI_OUTPUTS_KEY: serialize_aoti_keys(target["output"]),
        }
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "model.nequip.pt2")
            aot_export_model(
                model=self.model,
                device="cpu",
                input_fields=target["input"],
                output_fields=target["output"],
                data=example,
                batch_map=target["batch_map_settings"](shapes),
                output_path=path,
                inductor_configs={"aot_inductor.metadata": metadata},
            )
            return load_aotinductor_model(path, "cpu", target["input"], target["output"])[0]

    def moved(self, inputs: Any, atom: int, axis: int, distance: float) -> Any:
        """Of the copied positions."""
        positions = inputs["pos"].detach().clone()
        positions[atom, axis] += distance
        return {**inputs, "pos": positions}


class MlipNequip(MlipWorker):
    """mlip's NequIP, with the commands of the other families' workers."""

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """A random force field."""
        self._set_threads(int(command["threads"]))
        import jax
        from mlip.data import DatasetInfo
        from mlip.models import ForceField, Nequip

        self.r_max = CUTOFF
        info = DatasetInfo(
            atomic_energies_map={z: 0.0 for z in NUMBERS},
            graph_cutoff_angstrom=CUTOFF,
            avg_num_neighbors=NEIGHBOURS,
            avg_r_min_angstrom=None,
            scaling_mean=0.0,
            scaling_stdev=1.0,
        )
        config = Nequip.Config(
            num_layers=4,
            target_irreps="32x0e + 32x1o + 32x2e",
            l_max=2,
            num_rbf=8,
            radial_mlp_hidden=[64, 64],
        )
        self.force_field = ForceField.from_mlip_network(Nequip(config, info), seed=0)
        self.predict_function = jax.jit(self.force_field.predictor.apply)
        return {**self.parameters(command), "versions": versions(("mlip", "jax"))}

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Seconds of each repeat."""
        return super().time({**command, "what": "energy_forces"})

    def predict(self, command: dict[str, Any]) -> dict[str, Any]:
        """Total energy and forces, after a coordinate has moved if asked."""
        case = command["case"]
        graph = self.graphs[case]
        if "move" in command:
            atom, axis, distance = command["move"]
            positions = graph.nodes.positions.at[atom, axis].add(distance)
            self.graphs[case] = graph.replace_nodes(positions=positions)
        try:
            found = super().predict(command)
        finally:
            self.graphs[case] = graph
        return {**found, "energy": sum(found["energy"])}


WORKERS = {"nequip": NequipWorker, "mlip": MlipNequip}

if __name__ == "__main__":
    raise SystemExit(serve_worker(sys.argv[1], WORKERS[sys.argv[1]]))
