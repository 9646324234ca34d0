"""Laws of physics as functions: law(calculate, structure, rng) -> violation.

`calculate` takes structures and returns an `Outcome` for each; it may be anything. A violation
is the largest difference between what is and what should be, in eV, eV/Å or eV/Å³; a law that
has nothing to say of a structure (lattice laws of a molecule) returns 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from brute_force import random_rotation, structure

from kohn.structures import Structure


@dataclass(frozen=True, eq=False)
class Outcome:
    """Energy, eV; energies of atoms [n]; forces [n, 3], eV/Å; stress [3, 3], eV/Å³."""

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray


Calculate = Callable[[Sequence[Structure]], list[Outcome]]
Law = Callable[[Calculate, Structure, np.random.Generator], float]


def difference(a: Outcome, b: Outcome) -> float:
    """Largest difference in anything."""
    worst = abs(a.energy - b.energy)
    for name in ("energies", "forces", "stress"):
        x, y = getattr(a, name), getattr(b, name)
        worst = max(worst, np.abs(x - y).max())
    return float(worst) if np.isfinite(worst) else np.inf


def compare(calculate: Calculate, a: Structure, b: Structure) -> float:
    """How differently two descriptions of the same thing come out."""
    return difference(*calculate([a, b]))


# Symmetries


def translation(calculate, s, rng) -> float:
    """Nothing depends on where the whole is."""
    return compare(calculate, s, replace(s, positions=s.positions + rng.normal(size=3) * 5))


def turned(s: Structure, q: np.ndarray) -> Structure:
    return replace(s, positions=s.positions @ q.T, cell=s.cell @ q.T)


def under(calculate, s, q) -> float:
    """E(Q x) = E(x), F(Q x) = Q F(x), σ(Q x) = Q σ(x) Qᵀ."""
    still, moved = calculate([s, turned(s, q)])
    expected = replace(still, forces=still.forces @ q.T, stress=q @ still.stress @ q.T)
    return difference(moved, expected)


def rotation(calculate, s, rng) -> float:
    """Nothing depends on orientation; forces and stress turn along."""
    return under(calculate, s, random_rotation(rng))


def reflection(calculate, s, rng) -> float:
    """Nothing depends on handedness."""
    return under(calculate, s, -random_rotation(rng))


def permutation(calculate, s, rng) -> float:
    """The order of atoms is only an order."""
    p = rng.permutation(len(s))
    still, moved = calculate([s, replace(s, numbers=s.numbers[p], positions=s.positions[p])])
    return difference(moved, replace(still, energies=still.energies[p], forces=still.forces[p]))


# Lattices


def lattice_shift(calculate, s, rng) -> float:
    """An atom and its image are the same atom."""
    if not s.periodic.any():
        return 0.0
    positions = s.positions.copy()
    i, shift = rng.integers(len(s)), rng.integers(1, 4, 3) * rng.choice([-1, 1], 3)
    positions[i] += (shift * s.periodic) @ s.cell
    return compare(calculate, s, replace(s, positions=positions))


def unwrapped(calculate, s, rng) -> float:
    """All atoms anywhere, against all of them in the cell."""
    if not s.periodic.all():
        return 0.0
    fractional = s.positions @ np.linalg.inv(s.cell)
    wrapped = fractional - np.floor(fractional)
    away = wrapped + rng.integers(-4, 5, (len(s), 3))
    return compare(
        calculate, replace(s, positions=wrapped @ s.cell), replace(s, positions=away @ s.cell)
    )


def repeated(s: Structure, times: Sequence[int]) -> Structure:
    shifts = np.stack(np.meshgrid(*[np.arange(t) for t in times], indexing="ij"), -1).reshape(-1, 3)
    positions = (s.positions[None] + (shifts @ s.cell)[:, None]).reshape(-1, 3)
    cell = np.array(times)[:, None] * s.cell
    return structure(positions, np.tile(s.numbers, len(shifts)), cell, s.periodic)


def supercell(calculate, s, rng) -> float:
    """Twice the crystal has twice the energy, the same forces again, the same stress."""
    if not s.periodic.all():
        return 0.0
    times = [1, 1, 1]
    for a in rng.choice(3, rng.integers(1, 3), replace=False):
        times[a] = 2
    n = int(np.prod(times))
    one, many = calculate([s, repeated(s, times)])
    expected = Outcome(
        n * one.energy, np.tile(one.energies, n), np.tile(one.forces, (n, 1)), one.stress
    )
    return difference(many, expected)


def other_lattice(calculate, s, rng) -> float:
    """The same lattice spanned by other vectors, of either hand."""
    if not s.periodic.all():
        return 0.0
    m = np.eye(3, dtype=int)
    for _ in range(2):
        a, b = rng.choice(3, 2, replace=False)
        shear = np.eye(3, dtype=int)
        shear[a, b] = rng.choice([-1, 1])
        m = shear @ m
    m = m[rng.permutation(3)] * rng.choice([-1, 1], 3)[:, None]
    return compare(calculate, s, replace(s, cell=m @ s.cell))


def left_handed(calculate, s, rng) -> float:
    """The vectors in another order are the same lattice, with det < 0; σ included."""
    if not s.periodic.all():
        return 0.0
    other = replace(s, cell=s.cell[[1, 0, 2]])
    return max(compare(calculate, s, other), stress_is_strain(calculate, other, rng))


# Derivatives

STENCIL = ((-3, -1 / 60), (-2, 3 / 20), (-1, -3 / 4), (1, 3 / 4), (2, -3 / 20), (3, 1 / 60))
"""Central difference of seven points: (steps, weight). Its error is of sixth order."""


def slope(calculate, path: Callable[[float], Structure], h: float) -> float:
    """dE/dt along a path of structures, at t = 0."""
    outcomes = calculate([path(k * h) for k, _ in STENCIL])
    return sum(w * o.energy for (_, w), o in zip(STENCIL, outcomes, strict=True)) / h


def forces_are_derivatives(calculate, s, rng, *, steps=(1e-3, 1e-4)) -> float:
    """−F · v = dE/dt along r + t v: for all atoms at random, and for one atom.

    Where a neighbour crosses a cutoff within the stencil, the third derivative jumps and the
    longer step errs: a true violation is there with either step.
    """
    (here,), worst = calculate([s]), 0.0
    everything = rng.normal(size=(len(s), 3))
    one = np.zeros((len(s), 3))
    one[rng.integers(len(s))] = rng.normal(size=3)
    for v in (everything, one):
        v = v / np.linalg.norm(v)
        expected = -np.sum(here.forces * v)

        def along(t: float, v=v) -> Structure:
            return replace(s, positions=s.positions + t * v)

        worst = max(worst, min(abs(slope(calculate, along, h) - expected) for h in steps))
    return float(worst)


def stress_is_strain(calculate, s, rng, *, steps=(3e-4, 5e-5)) -> float:
    """V σ : ε = dE/dt along (1 + t ε) of cell and positions; and σ is symmetric."""
    if not s.periodic.all():
        return 0.0
    (here,) = calculate([s])
    worst = np.abs(here.stress - here.stress.T).max()
    for _ in range(2):
        strain = rng.normal(size=(3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
        expected = np.sum(here.stress * strain)

        def along(t: float, e=strain) -> Structure:
            return turned(s, np.eye(3) + t * e)

        errors = [abs(slope(calculate, along, h) / s.volume - expected) for h in steps]
        worst = max(worst, min(errors))
    return float(worst)


def no_net_force(calculate, s, rng) -> float:
    """Forces add to zero."""
    return float(np.abs(calculate([s])[0].forces.sum(0)).max())


def smooth_at_cutoff(cutoff: float) -> Law:
    """The law that E, F and dF/dr are continuous where a neighbour leaves through r_c.

    The slope of the force comes from differences, which lose digits: it counts over 0.01 Å.
    """

    def law(calculate, s, rng, *, h: float = 1e-3) -> float:
        if s.periodic.any():
            return 0.0
        for _ in range(1000):
            u = rng.normal(size=3)
            u /= np.linalg.norm(u)
            apart = np.linalg.norm(s.positions[0] + cutoff * u - s.positions[1:], axis=1)
            if apart.min() > 1.0 and np.abs(apart - cutoff).min() > 0.05:
                break

        def at(r: float) -> Structure:
            return structure(
                np.vstack([s.positions, s.positions[0] + r * u]), [*s.numbers, s.numbers[-1]]
            )

        # From each side, the polynomial through six points, carried on to r_c itself.
        steps = np.arange(1, 7)
        to_value = np.linalg.inv(np.vander(steps, 6, increasing=True).astype(float))[:2]

        def jump(h: float) -> float:
            sides = []
            for side in (-1, 1):
                outcomes = calculate([at(cutoff + side * k * h) for k in steps])
                everything = np.array([[o.energy, *o.forces.ravel()] for o in outcomes])
                value, derivative = to_value @ everything
                sides.append((value, 0.01 * side * derivative[1:] / h))
            return float(max(np.abs(a - b).max() for a, b in zip(*sides, strict=True)))

        return min(jump(h), jump(h / 2))  # error shrinks with the step, a jump does not

    return law


# Sizes


def isolated_atom(e0s: dict[int, float]) -> Law:
    """The law that a lone atom has exactly its E0, in vacuum and in a large cell."""

    def law(calculate, s, rng) -> float:
        worst = 0.0
        for z, e0 in e0s.items():
            place = rng.normal(size=(1, 3)) * 5
            alone = structure(place, [z])
            boxed = structure(place, [z], np.eye(3) * 40.0, True)
            for outcome in calculate([alone, boxed]):
                expected = Outcome(e0, np.array([e0]), np.zeros((1, 3)), np.zeros((3, 3)))
                worst = max(worst, difference(outcome, expected))
        return worst

    return law


def separated_fragments(calculate, s, rng, *, apart: float = 30.0) -> float:
    """What is far apart does not know of each other."""
    if s.periodic.any():
        return 0.0
    q = random_rotation(rng)
    other = turned(s, q)
    away = rng.normal(size=3)
    away *= apart / np.linalg.norm(away)
    both = structure(
        np.vstack([s.positions, other.positions + away]), np.concatenate([s.numbers, s.numbers])
    )
    a, b, ab = calculate([s, other, both])
    expected = Outcome(
        a.energy + b.energy,
        np.concatenate([a.energies, b.energies]),
        np.concatenate([a.forces, b.forces]),
        ab.stress,
    )
    return difference(ab, expected)


def energies_add_up(calculate, s, rng) -> float:
    """The energies of the atoms sum to the energy."""
    (o,) = calculate([s])
    return float(abs(o.energies.sum() - o.energy))


def finite(calculate, s, rng) -> float:
    """Everything is a number: also pressed together, and far apart."""
    worst = 0.0
    for factor in (0.95 if s.periodic.any() else 0.3, 1.0, 3.0):
        for o in calculate([turned(s, factor * np.eye(3))]):
            parts = (o.energy, o.energies, o.forces, o.stress)
            worst = max(worst, 0.0 if all(np.isfinite(p).all() for p in parts) else np.inf)
    return worst
