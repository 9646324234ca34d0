"""What angles give DimeNet: `python -m benchmarks.angles`.

Made molecules: bonds of length r about r_0, unit vectors u_b along them, and

    E = k_r Σ_bonds (r_b − r_0)² + k_θ Σ_angles (cos θ_ab − cos θ_0)²,   cos θ_ab = u_a · u_b

Lengths and directions are drawn independently and all that are not bonded are farther apart than
the cutoff, so a model that reads only distances of neighbours knows nothing but the r_b, however
many layers it has. The best it can say is E[E | r] = k_r Σ (r_b − r_0)² + the mean of the second
sum, and its error is the spread of the second sum: the floor in the table.

rMD17 ethanol ($KOHN_DATA, default ../shared/data): the same steps with three cutoffs; at 1.7 Å
bonds are all that most frames have within it. Trainings that are finished are kept in
benchmarks/scratch/angles; remove the folder to train anew.
"""

import json
import os
from pathlib import Path
from typing import Any

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

LENGTH, STRETCH = 1.5, 0.03
"""r_0, Å, and the largest |r/r_0 − 1|."""
CUTOFF, APART = 1.25 * LENGTH, 1.35
"""Å; and the least distance of what is not bonded, in r_0, with all bonds of length r_0.

Three bonds that stretch by 3 % bring two atoms nearer by 0.09 r_0 at most: 1.26 r_0 is left.
"""
K_R, K_THETA, COS_0 = 100.0, 1.0, -1 / 3
"""eV/Å², eV, and the cosine of a tetrahedron's angle."""
BONDS = {
    "AX4": ((0, 1), (0, 2), (0, 3), (0, 4)),
    "branched chain of 5": ((0, 1), (1, 2), (2, 3), (1, 4)),
}
ELEMENTS = {"AX4": (6, 9, 9, 9, 9), "branched chain of 5": (6,) * 5}
TRAIN, TEST, STEPS, BATCH = 500, 200, 2_000, 10
MODELS: dict[str, dict[str, Any]] = {
    "SchNet": {"family": "schnet", "channels": 64, "layers": 3},
    "SchNet, 6 layers": {"family": "schnet", "channels": 64, "layers": 6},
    "DimeNet": {"family": "dimenet", "channels": 32, "angular_channels": 16, "layers": 2},
    "NequIP": {"family": "nequip", "channels": 8, "layers": 3, "radial_widths": [32]},
    "MACE": {"family": "mace", "channels": 16, "l_max": 2, "radial_widths": [32]},
}
ETHANOL = {
    "SchNet": {"family": "schnet", "channels": 64, "layers": 3},
    "DimeNet": {"family": "dimenet", "channels": 32, "angular_channels": 16, "layers": 3},
}
CUTOFFS, ETHANOL_STEPS = (1.7, 2.6, 5.0), 4_000


# Made molecules


def directions(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors along the bonds, [count, bonds, 3], uniform where nothing comes too near."""
    found: list[np.ndarray] = []
    while len(found) < count:
        u = rng.normal(size=(20_000, len(BONDS[kind]), 3))
        u /= np.linalg.norm(u, axis=-1, keepdims=True)
        found += list(u[unbonded(kind, places(kind, u)) > APART])
    return np.array(found[:count])


def places(kind: str, vectors: np.ndarray) -> np.ndarray:
    """Positions [count, atoms, 3] from the vectors along the bonds; atom 0 at the origin."""
    x = np.zeros((len(vectors), len(BONDS[kind]) + 1, 3))
    for b, (i, j) in enumerate(BONDS[kind]):
        x[:, j] = x[:, i] + vectors[:, b]
    return x


def unbonded(kind: str, x: np.ndarray) -> np.ndarray:
    """The least distance of two atoms that share no bond, [count]."""
    n = x.shape[1]
    pairs = [p for p in zip(*np.triu_indices(n, 1), strict=True) if tuple(p) not in BONDS[kind]]
    i, j = np.array(pairs).T
    return np.linalg.norm(x[:, i] - x[:, j], axis=-1).min(axis=1)


def angles(kind: str) -> list[tuple[int, int, int]]:
    """(vertex, end, end) of all angles between bonds."""
    ends: dict[int, list[int]] = {}
    for i, j in BONDS[kind]:
        ends.setdefault(i, []).append(j)
        ends.setdefault(j, []).append(i)
    return [(v, a, b) for v, e in ends.items() for k, a in enumerate(e) for b in e[:k]]


def energies(kind: str, x: Any) -> tuple[Any, Any]:
    """Both sums of E, eV, from positions [atoms, 3]."""
    import jax.numpy as jnp

    def unit(i: int, j: int) -> tuple[Any, Any]:
        r = jnp.linalg.norm(x[j] - x[i])
        return r, (x[j] - x[i]) / r

    stretch = sum(K_R * (unit(i, j)[0] - LENGTH) ** 2 for i, j in BONDS[kind])
    bend = sum(K_THETA * (unit(v, a)[1] @ unit(v, b)[1] - COS_0) ** 2 for v, a, b in angles(kind))
    return stretch, bend


def molecules(kind: str, count: int, seed: int) -> tuple[list[Any], np.ndarray]:
    """Labelled structures, and their energies of angles, eV."""
    import jax

    from kohn.structures import Structure

    rng = np.random.default_rng(seed)
    u = directions(kind, count, rng)
    r = LENGTH * (1 + STRETCH * rng.uniform(-1, 1, size=(*u.shape[:2], 1)))
    x = places(kind, r * u)
    assert unbonded(kind, x).min() > CUTOFF > r.max()
    one = jax.value_and_grad(lambda x: sum(energies(kind, x)))
    e, g = jax.jit(jax.vmap(one))(x)
    bend = jax.jit(jax.vmap(lambda x: energies(kind, x)[1]))(x)
    empty, numbers = (np.zeros((3, 3)), np.zeros(3, bool)), np.array(ELEMENTS[kind], np.int32)
    made = [
        Structure(numbers, x[k], *empty).with_labels(energy=float(e[k]), forces=-np.asarray(g[k]))
        for k in range(count)
    ]
    return made, np.asarray(bend)


def folder_of(name: str) -> Path:
    """Where files of this benchmark lie."""
    return FOLDERS.work / "angles" / name.replace(", ", "-").replace(" ", "-")


def synthetic(kind: str, steps: int) -> tuple[float, dict[str, float]]:
    """The floor, and the error of each model on other molecules; rms, meV."""
    from kohn.structures import write

    folder = folder_of(kind)
    folder.mkdir(parents=True, exist_ok=True)
    write(molecules(kind, TRAIN, 0)[0], folder / "train.extxyz")
    test, bend = molecules(kind, TEST, 1)
    write(test, folder / "test.extxyz")
    data = {
        "train": [str(folder / "train.extxyz")],
        "test": [str(folder / "test.extxyz")],
        "e0s": {"C": 0.0} | ({"F": 0.0} if 9 in ELEMENTS[kind] else {}),
    }
    found = {}
    for name, model in MODELS.items():
        document = {"data": data, "model": {**model, "cutoff": CUTOFF}}
        done = trained(document, folder / folder_of(name).name, steps)
        found[name] = done["energy_root_mean_square_error_meV"]
    return 1e3 * float(bend.std()), found


# Ethanol


def ethanol(cutoff: float, steps: int) -> dict[str, float]:
    """Force MAE of each model, meV/Å."""
    from kohn.structures import read, write

    test = folder_of("ethanol-test.extxyz")
    if not test.exists():
        test.parent.mkdir(parents=True, exist_ok=True)
        write(list(read([DATA / "rmd17" / "ethanol_test.extxyz"]))[:TEST], test)
    data = {"train": [str(DATA / "rmd17" / "ethanol_train.extxyz")], "test": [str(test)]}
    found = {}
    for name, model in ETHANOL.items():
        document = {"data": data, "model": {**model, "cutoff": cutoff}}
        done = trained(document, folder_of(f"ethanol-{name}-{cutoff}"), steps)
        found[name] = done["forces_mean_absolute_error_meV_per_angstrom"]
    return found


def within(cutoff: float) -> float:
    """Neighbours of an atom within the cutoff, mean over the test frames; ethanol's 8 bonds
    alone are 16/9."""
    from kohn.graphs import pairs_within
    from kohn.structures import read

    frames = list(read([folder_of("ethanol-test.extxyz")]))
    return float(np.mean([len(pairs_within(s, cutoff)[0]) / len(s) for s in frames]))


# Both


def trained(document: dict[str, Any], folder: Any, steps: int) -> dict[str, float]:
    """Errors on the test file; what is finished is not trained again."""
    from kohn.training import train
    from kohn.training.settings import parse

    errors, clock = folder / "evaluation-test.json", folder.with_suffix(".seconds.json")
    if not errors.exists():
        run = {"steps": steps, "batch_size": BATCH, "evaluate_every": 10, "threads": 1}
        whole = {
            **document,
            "loss": {"weights": {"energy": 10.0, "forces": 10.0}, "late_weights": None},
            "optimiser": {"ema": 0.99},
            "run": {**run, "checkpoint_every": 10},
        }
        import time

        started = time.process_time()
        train(parse(whole), out=folder, resume=folder.exists())
        write_json(clock, time.process_time() - started)
        print(folder.name, f"{json.loads(clock.read_text()):.0f} s", flush=True)
    return json.loads(errors.read_text())["errors"]


def table(made: dict[str, Any], real: dict[float, Any], steps: int, ethanol_steps: int) -> str:
    """Both tables in Markdown."""
    names = ["floor", *MODELS]
    lines = [
        f"Made molecules: rms error of the energy, meV, on {TEST} others after learning energies "
        f"and forces of {TRAIN * 19 // 20} for {steps:,} steps of {BATCH}.",
        "",
        "| molecule | " + " | ".join(names) + " |",
        "| --- " * (1 + len(names)) + "|",
    ]
    for kind, (floor, found) in made.items():
        numbers = [floor, *(found[n] for n in MODELS)]
        lines.append(f"| {kind} | " + " | ".join(f"{x:.3g}" for x in numbers) + " |")
    lines += [
        "",
        f"rMD17 ethanol: MAE of the forces, meV/Å, on {TEST} frames after {ethanol_steps:,} steps "
        f"of {BATCH} on 950 frames. Bonds alone are {16 / 9:.2f} neighbours.",
        "",
        "| cutoff, Å | neighbours | " + " | ".join(ETHANOL) + " | ratio |",
        "| --- " * (3 + len(ETHANOL)) + "|",
    ]
    for cutoff, found in real.items():
        ratio = found["SchNet"] / found["DimeNet"]
        numbers = " | ".join(f"{found[n]:.1f}" for n in ETHANOL)
        lines.append(f"| {cutoff} | {within(cutoff):.2f} | {numbers} | {ratio:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is not trained yet, and write benchmarks/results/angles.md."""
    arguments = parsed(parser_of(__doc__))
    kinds, cutoffs, steps, ethanol_steps = list(BONDS), CUTOFFS, STEPS, ETHANOL_STEPS
    if arguments.quick:
        kinds, cutoffs, steps, ethanol_steps = kinds[:1], CUTOFFS[:1], 100, 100
    need_data("rmd17/ethanol_train.extxyz", "rmd17/ethanol_test.extxyz")
    m = machine()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    made = {kind: synthetic(kind, steps) for kind in kinds}
    real = {cutoff: ethanol(cutoff, ethanol_steps) for cutoff in cutoffs}
    document = {"made": made, "ethanol": real}
    write_results("angles", m, document, table(made, real, steps, ethanol_steps))


if __name__ == "__main__":
    main()
