"""Structures that every side of the benchmarks computes: numpy and ASE only, the same everywhere.

Imported by our own benchmarks and by the scripts in `benchmarks/peers`, which run in other
environments. Only `Generator.init` is drawn from, and coordinates are rounded to what extended
XYZ keeps, so that a structure made in memory equals the one read back from its file.

    python -m benchmarks.structures OUT_FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

AVOGADRO_PER_A3 = 0.602214076  # 1 g/cm3 = 0.6022 amu/Å3
WATER_MASS = 18.01528  # amu


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation matrix drawn uniformly from SO(3) (Shoemake's three uniform numbers)."""
    u, v, w = rng.random(3)
    a, b = np.sqrt(1.0 - u), np.sqrt(u)
    q = np.array(
        [
            a * np.sin(2 * np.pi * v),
            a * np.cos(2 * np.pi * v),
            b * np.sin(2 * np.pi * w),
            b * np.cos(2 * np.pi * w),
        ]
    )
    x, y, z, s = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * s), 2 * (x * z + y * s)],
            [2 * (x * y + z * s), 1 - 2 * (x * x + z * z), 2 * (y * z - x * s)],
            [2 * (x * z - y * s), 2 * (y * z + x * s), 1 - 2 * (x * x + y * y)],
        ]
    )


def make_water_box(
    seed: int = 0,
    molecules: int = 64,
    density: float = 0.997,
    closest: float = 1.6,
    jitter: float = 0.2,
) -> Atoms:
    """A periodic cubic box of water molecules on a jittered grid, orientations at random.

    Not an equilibrated liquid: a box with the density and the neighbour counts of one.

    Args:
        molecules: a cube number (27, 64, 125, ...), so that the grid fills the box.
        density: g/cm3.
        closest: smallest distance allowed between atoms of two molecules, Å.
        jitter: largest shift of a molecule from its grid point along each axis, Å.

    Raises:
        ValueError: `molecules` is not a cube number.
        RuntimeError: a molecule could not be placed at `closest` within 2,000 tries.
    """
    side = round(molecules ** (1 / 3))
    if side**3 != molecules:
        raise ValueError(f"expected a cube number of molecules (27, 64, 125), got {molecules}")
    rng = np.random.default_rng(seed)
    length = round((molecules * WATER_MASS / (AVOGADRO_PER_A3 * density)) ** (1 / 3), 6)
    half_angle, bond = np.deg2rad(104.52) / 2, 0.9572
    molecule = bond * np.array(
        [
            [0.0, 0.0, 0.0],
            [np.sin(half_angle), 0.0, np.cos(half_angle)],
            [-np.sin(half_angle), 0.0, np.cos(half_angle)],
        ]
    )
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    centres = (grid + 0.5) * length / side
    placed = np.zeros((0, 3))
    for centre in centres:
        for _ in range(2000):
            shift = jitter * (2.0 * rng.random(3) - 1.0)
            candidate = centre + shift + molecule @ random_rotation(rng).T
            d = candidate[:, None, :] - placed[None, :, :]
            d -= length * np.round(d / length)
            if placed.size == 0 or np.sqrt((d**2).sum(-1)).min() >= closest:
                placed = np.concatenate([placed, candidate])
                break
        else:
            raise RuntimeError(f"no place for a molecule with every distance >= {closest} Å")
    return Atoms(
        numbers=[8, 1, 1] * molecules,
        positions=np.round(placed, 8),
        cell=np.diag([length] * 3),
        pbc=True,
        info={"name": f"water{3 * molecules}"},
    )


def make_skewed_silicon(seed: int = 0) -> list[Atoms]:
    """Two small periodic silicon cells in which several images of an atom are neighbours.

    The first is the two-atom primitive cell written in a skewed basis of the same lattice, its
    heights well below 5 Å; the second has four atoms, a strained skewed cell and atoms that lie
    outside it (unwrapped). Both are rattled, so that no force or stress component vanishes.
    """
    rng = np.random.default_rng(seed)
    a = 5.431
    primitive = 0.5 * a * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    basis = np.array([[0.0, 0.0, 0.0], [0.25 * a] * 3])

    def rattled(positions: np.ndarray) -> np.ndarray:
        return np.round(positions + 0.15 * (2.0 * rng.random(positions.shape) - 1.0), 8)

    skew = np.array([[1, 0, 0], [1, 1, 0], [-1, 1, 1]])
    strain = np.eye(3) + 0.04 * (2.0 * rng.random((3, 3)) - 1.0)
    two = Atoms(
        numbers=[14, 14],
        positions=rattled(basis @ strain),
        cell=np.round(skew @ primitive @ strain, 6),
        pbc=True,
        info={"name": "silicon2"},
    )
    double = np.array([[2, 0, 0], [1, 1, 0], [0, 1, 1]])
    strain = np.eye(3) + 0.04 * (2.0 * rng.random((3, 3)) - 1.0)
    unwrapped = np.concatenate(
        [basis, basis + primitive[0] + 2 * primitive[2] - 3 * double[1] @ primitive]
    )
    four = Atoms(
        numbers=[14] * 4,
        positions=rattled(unwrapped @ strain),
        cell=np.round(double @ primitive @ strain, 6),
        pbc=True,
        info={"name": "silicon4"},
    )
    return [two, four]


def make_rattled_silicon(cells: int, seed: int = 0, amplitude: float = 0.1) -> Atoms:
    """A cube of diamond silicon, 8 cells³ atoms, moved by at most `amplitude` Å along each axis."""
    a = 5.431
    basis = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) / 4
    return _rattled_crystal(
        numbers=[14] * 8,
        fractions=np.concatenate([basis, basis + 0.25]),
        constant=a,
        repeats=(cells, cells, cells),
        amplitude=amplitude,
        rng=np.random.default_rng(seed),
        name=f"silicon{8 * cells**3}",
    )


def make_oxide(seed: int = 0, amplitude: float = 0.1) -> Atoms:
    """(Ba,Sr)(Ti,Zr)O3, 240 atoms: 4 by 4 by 3 cubic perovskite cells of 4.05 Å, half of the
    A sites Ba and half of the B sites Ti, at random, moved by at most `amplitude` Å."""
    rng = np.random.default_rng(seed)
    atoms = _rattled_crystal(
        numbers=[56, 22, 8, 8, 8],
        fractions=np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]) / 2,
        constant=4.05,
        repeats=(4, 4, 3),
        amplitude=amplitude,
        rng=rng,
        name="oxide240",
    )
    for usual, other in ((56, 38), (22, 40)):
        sites = np.flatnonzero(atoms.numbers == usual)
        order = np.argsort(rng.random(len(sites)))
        atoms.numbers[sites[order[: len(sites) // 2]]] = other
    return atoms


def _rattled_crystal(
    numbers: list[int],
    fractions: np.ndarray,
    constant: float,
    repeats: tuple[int, int, int],
    amplitude: float,
    rng: np.random.Generator,
    name: str,
) -> Atoms:
    """A cubic cell repeated; positions left where the rattling puts them, but wrapped: DScribe
    is wrong for atoms outside the cell."""
    axes = [np.arange(n) for n in repeats]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    positions = ((corners + fractions) * constant).reshape(-1, 3)
    positions += amplitude * (2.0 * rng.random(positions.shape) - 1.0)
    lengths = constant * np.array(repeats)
    return Atoms(
        numbers=numbers * len(corners),
        positions=np.round(positions % lengths, 8) % lengths,
        cell=np.diag(lengths),
        pbc=True,
        info={"name": name},
    )


def write_structures(folder: Path) -> list[Path]:
    """Writes water192.extxyz and silicon_skewed.extxyz; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    water, silicon = folder / "water192.extxyz", folder / "silicon_skewed.extxyz"
    write(water, make_water_box(), format="extxyz")
    write(silicon, make_skewed_silicon(), format="extxyz")
    return [water, silicon]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for path in write_structures(parser.parse_args().folder):
        print(path)
