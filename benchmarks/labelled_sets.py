"""Sets that are labelled here, with GFN2-xTB of tblite (`make .venv-peers-tblite/.done`).

    acac      acetylacetone: the published frames at 300 K, relabelled, and frames at 600 K from
              Langevin dynamics at this level
    qm7       the molecules of QM7, each rattled twice: 10,000 frames to learn from, 500 to test

Each file is made once, in benchmarks/scratch/sets.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from benchmarks.common import DATA, FOLDERS, PEERS, need_data
from benchmarks.peers.mace_calculator import beside

WARM = 600.0
"""The temperature of the warm frames, K; those to learn from have 300 K."""
WARM_FRAMES, STARTS = 400, 8
BETWEEN = 40
"""Steps of 0.5 fs between two frames."""
RATTLED = 0.05
"""Standard deviation of the displacement of each coordinate, Å."""
LARGE, LARGE_TEST = 10_000, 500


def calculator() -> Any:
    """GFN2-xTB."""
    beside(PEERS["tblite"].folder, "tblite")
    from tblite.ase import TBLite  # pyright: ignore[reportMissingImports]

    return TBLite(method="GFN2-xTB", verbosity=0)


def labelled(frames: Iterable[Atoms], config_type: str | None = None) -> list[Atoms]:
    """Frames with energies and forces of GFN2-xTB, and no other labels."""
    found, calculate = [], calculator()
    for old in frames:
        atoms = Atoms(old.numbers, old.positions)
        atoms.calc = calculate
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info = {"energy": energy} | ({"config_type": config_type} if config_type else {})
        atoms.arrays["forces"] = forces
        found.append(atoms)
    return found


def lone(frames: Iterable[Atoms]) -> list[Atoms]:
    """A lone atom of each element of the frames."""
    return [Atoms([z]) for z in sorted({int(z) for atoms in frames for z in atoms.numbers})]


def warm(frames: list[Atoms], seed: int = 0) -> list[Atoms]:
    """Frames at `WARM` from dynamics that start at some of these; a picosecond warms them up."""
    rng, found = np.random.default_rng(seed), []
    for start in rng.choice(len(frames), STARTS, replace=False):
        atoms = Atoms(frames[start].numbers, frames[start].positions)
        atoms.calc = calculator()
        MaxwellBoltzmannDistribution(atoms, temperature_K=WARM, rng=rng)
        friction = 0.02 / units.fs
        dynamics = Langevin(
            atoms, 0.5 * units.fs, temperature_K=WARM, friction=friction, rng=rng, fixcm=False
        )
        dynamics.run(2000)
        for _ in range(WARM_FRAMES // STARTS):
            dynamics.run(BETWEEN)
            found.append(Atoms(atoms.numbers, atoms.positions))
    return found


def rattled(frames: list[Atoms], copies: int, seed: int = 0) -> list[Atoms]:
    """Copies of each frame with normal displacements of all coordinates, in random order."""
    rng = np.random.default_rng(seed)
    found = []
    for atoms in (a for a in frames for _ in range(copies)):
        moved = rng.normal(scale=RATTLED, size=atoms.positions.shape)
        found.append(Atoms(atoms.numbers, atoms.positions + moved))
    return [found[i] for i in rng.permutation(len(found))]


def acac() -> dict[str, Path]:
    """The files of acetylacetone: what to learn from, tests at 300 K and at `WARM`."""
    need_data("acac/train_300K.xyz", "acac/test_MD_300K.xyz")
    files = {n: FOLDERS.work / "sets" / f"acac-{n}.extxyz" for n in ("train", "test", "warm")}
    if not all(file.exists() for file in files.values()):
        train, test = (read(DATA / "acac" / f, ":") for f in ("train_300K.xyz", "test_MD_300K.xyz"))
        atoms = labelled(lone(train), "IsolatedAtom")
        _write(files["train"], [*atoms, *labelled(train)])
        _write(files["test"], labelled(test))
        _write(files["warm"], labelled(warm(train)))
    return files


def qm7() -> dict[str, Path]:
    """The files of rattled molecules."""
    need_data("qm7/qm7.extxyz")
    files = {n: FOLDERS.work / "sets" / f"qm7-{n}.extxyz" for n in ("train", "test")}
    if not all(file.exists() for file in files.values()):
        frames = [a for a in read(DATA / "qm7" / "qm7.extxyz", ":") if len(a) > 1]
        chosen = np.random.default_rng(0).permutation(len(frames))
        n, n_test = LARGE // 2, LARGE_TEST // 2
        train = rattled([frames[i] for i in chosen[:n]], 2)
        test = rattled([frames[i] for i in chosen[n : n + n_test]], 2)  # other molecules
        atoms = labelled(lone(frames), "IsolatedAtom")
        _write(files["train"], [*atoms, *labelled(train)])
        _write(files["test"], labelled(test))
    return files


def _write(file: Path, frames: list[Atoms]) -> None:
    """Write frames, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name("part." + file.name)
    write(part, frames, format="extxyz")
    part.replace(file)
