"""Compare energy, forces and stress of descriptions that are equivalent by symmetry."""

from dataclasses import replace

import numpy as np

from kohn.audits.case import (
    Case,
    Measurement,
    compare,
    deformed,
    growth,
    moved,
    needs_atoms,
    needs_lattice,
    needs_no_charge,
    needs_period,
    random_rotation,
    take,
)
from kohn.structures import Structure


def translation(case: Case) -> list[Measurement]:
    """E(x + t) = E(x), F(x + t) = F(x), σ(x + t) = σ(x) for energy E, forces F and stress σ at
    positions x, and a random shift t of all atoms."""
    s = moved(case.s, case.s.positions + case.rng.normal(size=3) * 3.0)
    return compare(case, case.here, case.ask(s), growth=growth(case.s, s))


def rotation(case: Case) -> list[Measurement]:
    """E(Q x) = E(x), F(Q x) = Q F(x), σ(Q x) = Q σ(x) Qᵀ for energy E, forces F and stress σ at
    positions x, and a random rotation Q: det Q = 1."""
    return _compare_rotated(case, random_rotation(case.rng))


def reflection(case: Case) -> list[Measurement]:
    """E(Q x) = E(x), F(Q x) = Q F(x), σ(Q x) = Q σ(x) Qᵀ for energy E, forces F and stress σ at
    positions x, and a random improper rotation Q: det Q = −1."""
    return _compare_rotated(case, -random_rotation(case.rng))


def _compare_rotated(case: Case, q: np.ndarray) -> list[Measurement]:
    s, outcome = deformed(case.s, q), case.here
    forces = None if outcome.forces is None else outcome.forces @ q.T
    stress = None if outcome.stress is None else q @ outcome.stress @ q.T
    return compare(case, replace(outcome, forces=forces, stress=stress), case.ask(s))


def permutation(case: Case) -> list[Measurement]:
    """E(P x) = E(x), F(P x) = P F(x): the order P of atoms changes only the order of forces F."""
    needs_atoms(case.s)
    p = case.rng.permutation(len(case.s))
    if (p == np.arange(len(p))).all():
        p = p[::-1]
    forces = None if case.here.forces is None else case.here.forces[p]
    return compare(case, replace(case.here, forces=forces), case.ask(take(case.s, p)))


def lattice_shift(case: Case) -> list[Measurement]:
    """E(…, x_i + n · cell, …) = E(x), n integers: an atom and its periodic image are one atom."""
    needs_period(case.s)
    positions = case.s.positions.copy()
    shift = case.rng.choice([-3, -2, 2, 3], 3) * case.s.periodic
    positions[case.rng.integers(len(positions))] += shift @ case.s.cell
    s = moved(case.s, positions)
    return compare(case, case.here, case.ask(s), growth=growth(case.s, s))


def unwrapped(case: Case) -> list[Measurement]:
    """Compare a crystal as given, with all atoms wrapped into the cell, and in random images."""
    needs_period(case.s)
    wrapped = _wrapped(case.s)
    images = case.rng.integers(-2, 3, (len(wrapped), 3)) * wrapped.periodic
    shifted = moved(wrapped, wrapped.positions + images @ wrapped.cell)
    return [
        m
        for s in (wrapped, shifted)
        for m in compare(case, case.here, case.ask(s), growth=growth(case.s, s))
    ]


def _wrapped(s: Structure) -> Structure:
    """Return the structure with fractional coordinates in [0, 1) along periodic vectors."""
    periodic = s.cell[s.periodic]
    fractional = s.positions @ np.linalg.pinv(periodic)
    return moved(s, s.positions - np.floor(fractional) @ periodic)


def supercell(case: Case) -> list[Measurement]:
    """E(2 cells) = 2 E(1 cell); the forces on each atom and the stress do not change."""
    s = case.s
    needs_period(s)
    needs_no_charge(s)
    lengths = np.where(s.periodic, np.linalg.norm(s.cell, axis=1), np.inf)
    axis = int(np.argmin(lengths))
    doubled = take(s, np.tile(np.arange(len(s)), 2))
    positions = doubled.positions.copy()
    positions[len(s) :] += s.cell[axis]
    cell = s.cell.copy()
    cell[axis] *= 2
    doubled = replace(doubled, positions=positions, cell=cell)
    forces = None if case.here.forces is None else np.tile(case.here.forces, (2, 1))
    expected = replace(case.here, energy=2 * case.here.energy, forces=forces)
    return compare(case, expected, case.ask(doubled), growth=growth(s, doubled))


def cell_choice(case: Case) -> list[Measurement]:
    """E(M cell) = E(cell), and likewise the stress, for integer matrices M with det M = ±1: a
    lattice has many cells, some of them skewed and half of them left-handed."""
    needs_lattice(case.s)
    skewed = np.eye(3, dtype=int)
    for _ in range(2):
        a, b = case.rng.choice(3, 2, replace=False)
        shear = np.eye(3, dtype=int)
        shear[a, b] = case.rng.choice([-1, 1])
        skewed = shear @ skewed
    swapped = np.eye(3, dtype=int)[[1, 0, 2]]
    measurements = []
    for m, name in ((skewed, "skewed cell"), (swapped, "cell of opposite handedness")):
        got = case.ask(replace(case.s, cell=m @ case.s.cell))
        measurements += [replace(x, note=name) for x in compare(case, case.here, got)]
    return measurements
