"""Timing worker for mlip 0.2.5, JAX (protocol: see `protocol.py`). Runs in mlip's own environment.

    python speed_mlip.py

The model is mlip's MACE of the same shape with random weights: it is NOT the same function as
mace-torch's (its products go through e3j's power expansion, with other path weights), although the
number of parameters is the same: a comparison of speed between two implementations of one
architecture.
The load command's "model" is an object, every key optional: {"hidden_channels": 64,
"node_symmetry": 0, "elements": [1, 6, 7, 8], "avg_num_neighbors": 14.375, "scale": 1.0, "seed": 0,
"backend": "e3j"}; or the path of a safetensors file written by `export_mace_torch.py`, of which
only the shape is read.

"energy_forces" is `ForceField.predict` under jax.jit with the graph as argument; "train_step" is
mlip's own `make_train_step` with its MSELoss (energy 1, forces 100) and optax.amsgrad. It includes
mlip's EMA update, which cannot be switched off there (a few elementwise operations). Compilation is
excluded; results are waited for with block_until_ready. Graphs carry one padding graph with one
atom and one edge at least, as mlip's data pipeline makes them, and no other padding: less than its
users have.

The number of threads of XLA's CPU client is fixed when JAX starts, by the affinity of the process:
the first load command sets it (os.sched_setaffinity), and a later one must ask for the same.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from protocol import guard_stdout, serve

E0S = {1: -13.587222780835477, 6: -1029.4889999855063, 7: -1484.9814568572233,
       8: -2041.9816003861047, 14: -7881.1234567890123}  # fmt: skip
DEFAULT = {
    "hidden_channels": 64,
    "node_symmetry": 0,
    "elements": [1, 6, 7, 8],
    "avg_num_neighbors": 14.375,
    "scale": 1.0,
    "seed": 0,
    "r_max": 5.0,
    "num_bessel": 8,
    "radial_mlp": [64, 64, 64],
    "readout": "16x0e",
    "l_max": 3,
    "correlation": 3,
    "backend": "e3j",
}


def shape_of_export(path: str) -> dict[str, Any]:
    """Reads the shape of the model from the header of an exported safetensors file."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    meta = json.loads(header["__metadata__"]["mace_torch"])
    hidden = meta["hidden_irreps"].split("+")
    return {
        "hidden_channels": int(hidden[0].split("x")[0]),
        "node_symmetry": len(hidden) - 1,
        "elements": meta["atomic_numbers"],
        "avg_num_neighbors": meta["avg_num_neighbors"][0],
        "scale": meta["scale"],
        "r_max": meta["r_max"],
        "num_bessel": meta["num_bessel"],
        "radial_mlp": meta["radial_MLP"],
        "readout": meta["MLP_irreps"],
        "l_max": meta["max_ell"],
        "correlation": meta["correlation"][0],
    }


class MlipWorker:
    """State of the worker: one force field, its compiled functions and the prepared graphs."""

    def __init__(self) -> None:
        self.force_field: Any = None
        self.threads: int | None = None
        self.r_max = 5.0
        self.graphs: dict[str, Any] = {}
        self.structures: dict[str, int] = {}
        self.predict_function: Any = None
        self.training: dict[str, tuple[Any, Any]] = {}

    def _set_threads(self, threads: int) -> None:
        """Limits the process to `threads` cores before JAX starts its thread pool."""
        if self.threads is None:
            cores = sorted(os.sched_getaffinity(0))
            if threads < len(cores):
                os.sched_setaffinity(0, cores[:threads])
            os.environ["OMP_NUM_THREADS"] = str(threads)
            self.threads = min(threads, len(cores))
        elif self.threads != threads:
            raise ValueError(f"this worker runs on {self.threads} threads: start another")

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """Makes a random force field; answers the parameter count."""
        self._set_threads(int(command["threads"]))
        dtype = command.get("dtype", "float32")
        if dtype != "float32":
            raise ValueError(f"only float32 is timed for mlip, got {dtype}")
        import jax
        from mlip.data import DatasetInfo
        from mlip.models import ForceField, Mace

        asked = command.get("model") or {}
        shape = shape_of_export(asked) if isinstance(asked, str) else asked
        unknown = set(shape) - set(DEFAULT)
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}; known: {sorted(DEFAULT)}")
        options = {**DEFAULT, **shape}
        self.r_max = float(options["r_max"])
        info = DatasetInfo(
            atomic_energies_map={z: E0S[z] for z in options["elements"]},
            graph_cutoff_angstrom=self.r_max,
            avg_num_neighbors=float(options["avg_num_neighbors"]),
            avg_r_min_angstrom=None,
            scaling_mean=0.0,
            scaling_stdev=float(options["scale"]),
        )
        config = Mace.Config(
            num_layers=2,
            num_channels=int(options["hidden_channels"]),
            l_max=int(options["l_max"]),
            node_symmetry=int(options["node_symmetry"]),
            correlation=int(options["correlation"]),
            readout_irreps=(options["readout"], "0e"),
            num_rbf=int(options["num_bessel"]),
            radial_mlp_hidden=list(options["radial_mlp"]),
            symmetric_contraction_backend=options["backend"],
        )
        self.force_field = ForceField.from_mlip_network(
            Mace(config, info), seed=int(options["seed"])
        )
        self.predict_function = jax.jit(self.force_field.predictor.apply)
        self.graphs, self.training = {}, {}
        return {**self.parameters(command), "threads": self.threads, "model": options}

    def parameters(self, _: dict[str, Any]) -> dict[str, Any]:
        """Number of parameters."""
        import jax

        leaves = jax.tree.leaves(self.force_field.params)
        return {"parameters": int(sum(leaf.size for leaf in leaves))}

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """Builds the batched graph of a case with mlip's own pipeline."""
        import ase.io
        import jax
        import numpy as np
        from mlip.data.chemical_system import ChemicalSystem
        from mlip.graph import Graph
        from mlip.graph.batching_helpers import batch_graphs, pad_with_graphs

        frames = ase.io.read(command["structures"], index=":")
        count = int(command.get("batch", 1))
        graphs = []
        for i in range(count):
            atoms = frames[i % len(frames)]
            forces = atoms.arrays.get("REF_forces")
            system = ChemicalSystem(
                atomic_numbers=atoms.numbers,
                positions=atoms.positions,
                energy=float(atoms.info.get("REF_energy", 0.0)),
                forces=np.zeros_like(atoms.positions) if forces is None else forces,
                cell=np.asarray(atoms.cell.array) if atoms.pbc.any() else None,
                pbc=tuple(bool(p) for p in atoms.pbc),
            )
            graphs.append(Graph.from_chemical_system(system, self.r_max))
        batch = batch_graphs(graphs)
        atoms_total, edges = int(batch.n_node.sum()), int(batch.n_edge.sum())
        batch = pad_with_graphs(batch, atoms_total + 1, edges + 1, count + 1)

        def single(leaf: Any) -> Any:
            leaf = np.asarray(leaf)
            return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf

        self.graphs[command["case"]] = jax.device_put(jax.tree.map(single, batch))
        self.structures[command["case"]] = count
        return {"structures": count, "atoms": atoms_total, "edges": edges}

    def _energy_forces(self, case: str) -> Any:
        import jax

        out = self.predict_function(self.force_field.params, self.graphs[case])
        result = (out.globals.energy, out.nodes.forces)
        return jax.block_until_ready(result)

    def _train_step(self, case: str) -> None:
        import jax
        import optax
        from mlip.models.loss import MSELoss
        from mlip.training.ema import exponentially_moving_average
        from mlip.training.training_state import init_training_state
        from mlip.training.training_step import make_train_step

        if case not in self.training:
            loss = MSELoss(
                energy_weight_schedule=lambda _: 1.0,
                forces_weight_schedule=lambda _: 100.0,
                stress_weight_schedule=lambda _: 0.0,
            )
            optimizer, ema = optax.amsgrad(1e-4), exponentially_moving_average(0.99)
            step = make_train_step(
                self.force_field.predictor,
                loss,
                optimizer,
                ema,
                avg_n_graphs_per_batch=float(self.structures[case]),
            )
            state = init_training_state(self.force_field.params, optimizer, ema)
            self.training[case] = (step, state)
        step, state = self.training[case]
        state, _ = step(state, self.graphs[case], 0)
        jax.block_until_ready(state.params)
        self.training[case] = (step, state)

    def _times(self, run: Any, repeats: int, warmup: int = 3) -> list[float]:
        for _ in range(warmup):
            run()
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return seconds

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Times `repeats` evaluations or training steps."""
        case, what, repeats = command["case"], command["what"], int(command.get("repeats", 10))
        if case not in self.graphs:
            raise ValueError(f"case {case!r} is not prepared; prepared: {sorted(self.graphs)}")
        runs = {"energy_forces": self._energy_forces, "train_step": self._train_step}
        if what not in runs:
            raise ValueError(f"unknown what {what!r}: energy_forces or train_step")
        return {"seconds": self._times(lambda: runs[what](case), repeats), "mode": "jit"}

    def predict(self, command: dict[str, Any]) -> dict[str, Any]:
        """Energies and forces of a case, padding left out."""
        import numpy as np

        energy, forces = self._energy_forces(command["case"])
        graph = self.graphs[command["case"]]
        count = self.structures[command["case"]]
        atoms = int(np.asarray(graph.n_node)[:count].sum())
        return {
            "energy": np.asarray(energy)[:count].tolist(),
            "forces": np.asarray(forces)[:atoms].tolist(),
        }

    def matmul_peak(self, command: dict[str, Any]) -> dict[str, Any]:
        """Best of several square matrix products."""
        import jax
        import jax.numpy as jnp

        n = int(command.get("size", 2048))
        a, b = jax.random.uniform(jax.random.key(0), (2, n, n), dtype=jnp.float32)
        product = jax.jit(jnp.matmul)
        best = min(
            self._times(lambda: product(a, b).block_until_ready(), int(command.get("repeats", 8)))
        )
        return {"gflops": 2.0 * n**3 / best * 1e-9, "size": n, "dtype": "float32"}


def main() -> int:
    """Serves until "quit"."""
    answers = guard_stdout()
    warnings.simplefilter("ignore")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from importlib.metadata import version

    worker = MlipWorker()
    return serve(
        answers,
        {"side": "mlip", "mlip": version("mlip"), "jax": version("jax")},
        {
            name: getattr(worker, name)
            for name in ("load", "prepare", "time", "predict", "parameters", "matmul_peak")
        },
    )


if __name__ == "__main__":
    raise SystemExit(main())
