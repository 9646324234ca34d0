"""Kohn's side of the speed benchmark: the line protocol of `peers/protocol.py`."""

import os
import time
from typing import Any

from benchmarks.peers.protocol import guard_stdout, serve

WARMUP = 3


class Worker:
    """One model and its prepared batches."""

    def __init__(self) -> None:
        self.potential: Any = None
        self.cases: dict[str, tuple[Any, Any]] = {}
        self.steps: dict[str, Any] = {}
        self.calls: dict[tuple[str, str], Any] = {}  # of case and what: traced once, not each round

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """Convert an exported mace-torch model, or make a random one of the same shape where none
        is given; threads through the affinity of the process."""
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: command["threads"]])
        import jax
        import jaxlib
        import numpy as np

        import kohn

        dtype = np.dtype(command["dtype"]).type
        if command["model"] is None:
            from kohn.models import Mace, MaceConfig

            config, elements = MaceConfig(channels=64, hidden_l_max=0), (1, 6, 7, 8)
            model = Mace.init(jax.random.key(0), config, elements, neighbours=14.375, dtype=dtype)
            self.potential = kohn.Potential(model, dict.fromkeys(elements, 0.0))
        else:
            from kohn.interfaces.mace_torch import from_mace_torch

            self.potential = from_mace_torch(command["model"], dtype=dtype)
        versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__}
        return {
            "parameters": self.potential.n_parameters,
            "versions": versions,
            "kohn": kohn.__file__,
        }

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """One batch of the first frames, repeated where there are fewer."""
        import jax

        import kohn
        from kohn.graphs import collate, neighbourhood

        data = kohn.read(command["structures"])
        chosen = [data[i % len(data)] for i in range(command["batch"])]
        rows = [neighbourhood(s, self.potential.cutoff) for s in chosen]
        import numpy as np

        present = tuple(sorted({int(z) for s in chosen for z in np.unique(s.numbers)}))
        self.present = self.potential.compiled(present)
        graph = collate(chosen, rows, present, dtype=self.potential.dtype)
        self.cases[command["case"]] = (jax.device_put(graph), chosen)
        self.calls = {k: call for k, call in self.calls.items() if k[0] != command["case"]}
        return {
            "atoms": sum(len(s) for s in chosen),
            "edges": sum(r.edges for r in rows),
            "structures": len(chosen),
            "slots": int(graph.edge_mask.size),
        }

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Seconds of each repeat, compilation not included."""
        import jax

        key = command["case"], command["what"]
        if key not in self.calls:
            self.calls[key] = getattr(self, command["what"])(command["case"])
        call = self.calls[key]
        started = time.perf_counter()
        jax.block_until_ready(call())
        compile_seconds = time.perf_counter() - started
        for _ in range(WARMUP):
            jax.block_until_ready(call())
        seconds = []
        for _ in range(command["repeats"]):
            started = time.perf_counter()
            jax.block_until_ready(call())
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds, "first_call_seconds": compile_seconds}

    def energy_forces(self, case: str) -> Any:
        """Energy, forces and stress of the batch."""
        graph, _ = self.cases[case]
        present = self.present
        return lambda: present(graph)

    def train_step(self, case: str) -> Any:
        """Loss, gradient, AMSGrad and moving average."""
        import jax
        import numpy as np

        from kohn.graphs import collate, needed_shape, neighbourhood
        from kohn.training.losses import EnergyTask, LossWeights
        from kohn.training.optimiser import (
            flatten,
            initial_state,
            make_step,
            objective_of,
            optimiser,
        )
        from kohn.training.settings import OptimiserSettings

        _, chosen = self.cases[case]
        labelled = [
            s.with_labels(energy=np.asarray(self.potential.zero(s)), forces=0 * s.positions)
            for s in chosen
        ]
        shape = needed_shape([neighbourhood(s, self.potential.cutoff) for s in chosen])
        full = [neighbourhood(s, self.potential.cutoff) for s in chosen]
        graph = jax.device_put(
            collate(chosen, full, self.potential.elements, dtype=self.potential.dtype)
        )
        weights = LossWeights(1.0, 100.0, 0.0)
        task = EnergyTask(self.potential.reference, weights, weights)
        labels = jax.device_put(task.labels(labelled, shape))
        theta, unravel = flatten(self.potential.model)
        rule = optimiser(OptimiserSettings(learning_rate=1e-6), 1000, self.potential.model)
        step = make_step(objective_of(task, unravel), rule, ema=0.99)
        self.steps[case] = initial_state(theta, rule)

        def call() -> Any:
            self.steps[case], report = step(self.steps[case], graph, labels, task.weights(False))
            return self.steps[case], report

        return call

    def predict(self, command: dict[str, Any]) -> dict[str, Any]:
        """Interaction energies (E0s left out) and forces, to see that both sides agree."""
        _, chosen = self.cases[command["case"]]
        found = self.potential.predict(chosen)
        e0 = [self.potential.zero(s) for s in chosen]
        return {
            "energies": [p.energy for p in found],
            "interaction_energies": [p.energy - e for p, e in zip(found, e0, strict=True)],
            "forces": [f for p in found for f in p.forces.tolist()],
        }

    def dynamics(self, command: dict[str, Any]) -> dict[str, Any]:
        """Steps of velocity Verlet with ASE, neighbour list included.

        Random weights pull atoms together, and the calculator refuses atoms that have met: here
        the forces of the model are a hundredth, and nuclei repel each other.
        """
        from dataclasses import replace

        import ase.io
        import numpy as np
        from ase import units
        from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
        from ase.md.verlet import VelocityVerlet

        from kohn.interfaces.ase_calculator import Calculator

        model = self.potential.model
        config = model.config.model_copy(update={"zbl": True})
        model = replace(model, config=config, scale=0.01 * model.scale)
        atoms = ase.io.read(command["structures"], index=0)
        atoms.calc = Calculator(replace(self.potential, model=model))
        MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
        dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
        dynamics.run(10)
        started = time.perf_counter()
        dynamics.run(command["steps"])
        seconds = time.perf_counter() - started
        per_step, compilations = seconds / command["steps"], atoms.calc.compilations
        return {"seconds_a_step": per_step, "compilations": compilations}

    def matmul_peak(self, command: dict[str, Any]) -> dict[str, Any]:
        """GFLOP/s of a 2048 by 2048 matrix product in float32, the best of several."""
        import jax
        import jax.numpy as jnp

        n = 2048
        a = jnp.ones((n, n), jnp.float32)
        product = jax.jit(lambda x: x @ x)
        product(a).block_until_ready()
        best = float("inf")
        for _ in range(12):
            started = time.perf_counter()
            product(a).block_until_ready()
            best = min(best, time.perf_counter() - started)
        return {"gflops": 2 * n**3 / best / 1e9}


def main() -> int:
    """Serve until told to quit."""
    answers = guard_stdout()
    worker = Worker()
    names = ("load", "prepare", "time", "predict", "dynamics", "matmul_peak")
    return serve(answers, {"side": "kohn"}, {name: getattr(worker, name) for name in names})


if __name__ == "__main__":
    raise SystemExit(main())
