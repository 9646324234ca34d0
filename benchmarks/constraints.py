"""Hard and soft constraints on forces: `python -m benchmarks.constraints [CASE …]`.

One NequIP body (16 channels, l_max 2, two layers) learns rMD17 ethanol of $KOHN_DATA (default
../shared/data), 950 of 1000 frames, the same steps each time, float32, one core:

    conservative   forces are the derivative of the energy
    direct         forces predicted beside the energy (nequip-direct)
    direct, λ = …  the same with λ ‖J − Jᵀ‖² / 3n in the loss, J the derivative of the forces

Judged on 200 test frames; Jacobians, loops and simulations in the units of the table. A case that
has its record in benchmarks/scratch is not done again, unless it is named.
"""

import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import (
    DATA,
    FOLDERS,
    machine,
    need_data,
    parsed,
    parser_of,
    write_json,
    write_results,
)

CASES: dict[str, dict[str, Any]] = {
    "conservative": {"family": "nequip", "penalties": {}},
    "direct": {"family": "nequip-direct", "penalties": {}},
    **{
        f"direct, λ = {x:g}": {"family": "nequip-direct", "penalties": {"asymmetry": x}}
        for x in (0.1, 1.0, 10.0)
    },
}
BODY = {"channels": 16, "l_max": 2, "layers": 2, "radial_widths": [32], "cutoff": 4.0}
STEPS, TEST = 20_000, 200
PICOSECONDS, TIME_STEP, TEMPERATURE, RUNS = 5.0, 0.5, 300.0, 2
"""ps, fs, K, and from how many frames simulations start."""


def frames(count: int) -> Any:
    """The first test frames."""
    from kohn.structures import read

    return read([DATA / "rmd17" / "ethanol_test.extxyz"]).select(range(count))


def trained(case: dict[str, Any], steps: int, folder: Path) -> Any:
    """A potential after so many steps."""
    import kohn
    from kohn.training import train
    from kohn.training.settings import parse

    settings = {
        "data": {"train": [str(DATA / "rmd17" / "ethanol_train.extxyz")]},
        "model": {"family": case["family"], **BODY},
        "loss": {"penalties": case["penalties"]},
        "run": {"steps": steps, "evaluate_every": 5, "checkpoint_every": 5},
    }
    train(parse(settings), out=folder, resume=folder.exists())
    return kohn.load(folder)


def timed(case: dict[str, Any], steps: int, potential: Any) -> dict[str, float]:
    """Milliseconds of one core for a training step and for a call; to be taken on an idle one."""
    from kohn.records import read_records

    with TemporaryDirectory() as short:
        trained(case, steps, Path(short) / "run")
        records = list(read_records(Path(short) / "run" / "records.jsonl"))
    epochs = [r for r in records if r["kind"] == "epoch"]
    seconds = [b["seconds"] / (b["step"] - a["step"]) for a, b in pairwise(epochs)]
    call = seconds_a_call(potential, frames(1)[0])
    return {"step": 1e3 * median(seconds), "call": 1e3 * call}


def jacobians(potential: Any, structures: Sequence[Any]) -> list[np.ndarray]:
    """J = ∂F/∂x of molecules of one size, eV/Å², [3n, 3n], by forward derivatives."""
    from kohn.graphs import collate, neighbourhood
    from kohn.training.penalties import forces_of, moved

    n, forces = len(structures[0]), forces_of(potential.model)
    zero = jnp.zeros((n + 1, 3), potential.dtype)
    dense = jax.jit(lambda graph: jax.jacfwd(lambda x: forces(moved(graph, x)))(zero))
    found = []
    for s in structures:
        rows = neighbourhood(s, potential.cutoff, width=n)
        graph = collate([s], [rows], potential.elements, dtype=potential.dtype)
        graph = jax.tree.map(jnp.asarray, graph)
        found.append(np.asarray(dense(graph))[:n, :, :n].reshape(3 * n, 3 * n))
    return found


def work_around_loops(potential: Any, structures: Sequence[Any], radius: float = 0.05) -> float:
    """Root mean square of ∮ F · dx around circles in the space of all coordinates, meV.

    Each coordinate moves by a normal number times the radius, Å; 64 equidistant points, for
    which the sum is exact up to exponentially small terms.
    """
    from dataclasses import replace

    rng, found = np.random.default_rng(0), []
    turns = 2 * np.pi * np.arange(64) / 64
    for s in structures:
        u, v = radius * rng.normal(size=(2, *s.positions.shape))
        path = [replace(s, positions=s.positions + np.cos(t) * u + np.sin(t) * v) for t in turns]
        forces = [p.forces for p in potential.predict(path)]
        power = [
            (f * (np.cos(t) * v - np.sin(t) * u)).sum() for f, t in zip(forces, turns, strict=True)
        ]
        found.append(2 * np.pi * np.mean(power))
    return 1e3 * rms(np.array(found))


def simulated(potential: Any, structure: Any, seed: int, picoseconds: float) -> dict[str, float]:
    """Velocity Verlet at constant energy: slope of E + K in meV/atom/ps, and temperatures."""
    from ase import units
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation
    from ase.md.verlet import VelocityVerlet

    import kohn
    from kohn.structures import to_ase

    atoms = to_ase(structure.with_labels(**dict.fromkeys(structure.labels)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that forces are not conservative is what is measured
        atoms.calc = kohn.Calculator(potential)
    MaxwellBoltzmannDistribution(
        atoms, temperature_K=TEMPERATURE, rng=np.random.default_rng(seed), force_temp=True
    )
    Stationary(atoms)
    ZeroRotation(atoms)
    energies, temperatures = [], []

    def note() -> None:
        energies.append(atoms.get_total_energy())
        temperatures.append(atoms.get_temperature())

    dynamics = VelocityVerlet(atoms, TIME_STEP * units.fs)
    dynamics.attach(note, interval=10)
    for _ in dynamics.irun(round(picoseconds * 1e3 / TIME_STEP)):
        if temperatures and temperatures[-1] > 10 * TEMPERATURE:
            break  # forces that are not conservative can heat without end
    ps = np.arange(len(energies)) * 10e-3 * TIME_STEP
    slope = float(np.polyfit(ps, energies, 1)[0])
    last = len(temperatures) // 5
    return {
        "drift": 1e3 * slope / len(atoms),
        "spread": 1e3 * float(np.ptp(energies)) / len(atoms),
        "temperature": float(np.mean(temperatures[-last:])),
    }


def seconds_a_call(potential: Any, structure: Any) -> float:
    """Median processor time of energy and forces through the calculator, the list kept, s."""
    import kohn
    from kohn.structures import to_ase

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calculator = kohn.Calculator(potential)
    atoms, spent = to_ase(structure), []
    for _ in range(300):
        started = time.process_time()
        calculator.calculate(atoms)
        spent.append(time.process_time() - started)
    return median(spent)


def rms(x: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


def judged(potential: Any) -> dict[str, float]:
    """Errors on the test frames, and what the forces violate there."""
    test = frames(TEST).structures
    found = potential.predict(test)
    pairs = list(zip(found, test, strict=True))
    forces = np.concatenate([p.forces - s.labels["forces"] for p, s in pairs])
    energy = np.array([p.energy - s.labels["energy"] for p, s in pairs])
    torques = [np.cross(s.positions - s.positions.mean(0), p.forces).sum(0) for p, s in pairs]
    double = potential.astype(np.float64)
    dense = jacobians(double, test[:20])
    return {
        "force_mae": 1e3 * float(np.abs(forces).mean()),
        "energy_mae": 1e3 * float(np.abs(energy).mean()),
        "asymmetry": rms(np.array([np.linalg.norm(j - j.T) / np.linalg.norm(j) for j in dense])),
        "penalty": float(np.mean([np.sum((j - j.T) ** 2) / len(j) for j in dense])),
        "work": work_around_loops(double, test[:10]),
        "net_force": 1e3 * rms(np.array([np.linalg.norm(p.forces.sum(0)) for p in found])),
        "torque": 1e3 * rms(np.linalg.norm(torques, axis=1)),
    }


def driven(potential: Any, picoseconds: float) -> dict[str, float]:
    """What becomes of simulations at constant energy."""
    test = frames(RUNS).structures
    runs = [simulated(potential, s, i, picoseconds) for i, s in enumerate(test)]
    return {
        "drift": rms(np.array([run["drift"] for run in runs])),
        "spread": max(run["spread"] for run in runs),
        "temperature": float(np.mean([run["temperature"] for run in runs])),
    }


COLUMNS: dict[str, Callable[[dict[str, float]], str]] = {
    "force MAE, meV/Å": lambda r: f"{r['force_mae']:.1f}",
    "energy MAE, meV": lambda r: f"{r['energy_mae']:.2f}",
    "‖J − Jᵀ‖ / ‖J‖": lambda r: f"{r['asymmetry']:.1e}",
    "work around a loop, meV": lambda r: f"{r['work']:.1e}",
    "net force, meV/Å": lambda r: f"{r['net_force']:.1e}",
    "net torque, meV": lambda r: f"{r['torque']:.1e}",
    "NVE drift, meV/atom/ps": lambda r: f"{r['drift']:.2g}",
    "K at the end": lambda r: f"{r['temperature']:.0f}",
    "training step, ms": lambda r: f"{r['step']:.1f}",
    "call, ms": lambda r: f"{r['call']:.2f}",
}


def table(records: dict[str, dict[str, float]]) -> str:
    """The measurements in Markdown."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "| --- " * (1 + len(COLUMNS)) + "|"]
    for name, record in records.items():
        cells = " | ".join(show(record) for show in COLUMNS.values())
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines) + "\n"


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """Record and model of a case."""
    plain = name.replace(", λ = ", "-")
    return folder / f"{plain}.json", folder / f"{plain}.safetensors"


def main() -> None:
    """Measure and write benchmarks/results/constraints.md."""
    parser = parser_of(__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parsed(parser)
    names, steps_timed, picoseconds = list(CASES), 5_000, PICOSECONDS
    if arguments.quick:
        names, picoseconds = ["conservative", "direct, λ = 1"], 0.05
        arguments.steps = steps_timed = 2_000
    need_data("rmd17/ethanol_train.extxyz", "rmd17/ethanol_test.extxyz")
    m = machine()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from kohn.potential import load, save

    folder, records = FOLDERS.work / "constraints", {}
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: _files(folder, name) for name in names}
    for name, (record, model) in files.items():
        if name in arguments.cases or not record.exists():
            save(trained(CASES[name], arguments.steps, record.with_suffix("")), model)
            write_json(record, {})
    stages = {
        "force_mae": lambda name, potential: judged(potential),
        "drift": lambda name, potential: driven(potential, picoseconds),
        "call": lambda name, potential: timed(CASES[name], steps_timed, potential),
    }
    for sign, measure in stages.items():
        for name, (record, model) in files.items():
            found = json.loads(record.read_text())
            if sign not in found:
                found |= measure(name, load(model))
                write_json(record, found)
            records[name] = found
            print(name, {k: f"{v:.3g}" for k, v in found.items()}, flush=True)
    write_results("constraints", m, {"rows": records}, table(records))


if __name__ == "__main__":
    main()
