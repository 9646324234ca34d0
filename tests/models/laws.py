"""Laws of physics as functions: law(calculate, structure, rng) -> violation.

`calculate` takes structures and returns an `Outcome` for each; it may be anything. A violation
is the largest difference between what is and what should be, in eV, eV/Å or eV/Å³; a law that
has nothing to say of a structure (lattice laws of a molecule) returns 0.

Most are measured as `kohn audit` measures them. Its thresholds are not used here: float64 obeys
to 1e-9, and of derivatives a violation counts beyond their error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from brute_force import random_rotation, structure

from kohn import audits
from kohn.audits.case import Case, Noise, deformed, take
from kohn.audits.counted_calculator import ORDER, Unmeasured, forces_of, has_stress
from kohn.audits.counted_calculator import Outcome as Answer
from kohn.structures import Structure

EXACT = Noise(1e-13, 1e-13, 1e-13)
"""Of float64."""


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


# Laws of the audit


class CountedCalculator:
    """Answers the laws of the audit one structure at a time, as its `CountedCalculator` does."""

    def __init__(self, calculate: Calculate):
        self.calculate = calculate

    def __call__(self, s: Structure, *, forces=True, stress=True, order=ORDER) -> Answer:
        (o,) = self.calculate([s])
        return Answer(o.energy, o.forces, o.stress if has_stress(s) else None)

    def forces(self, s: Structure) -> np.ndarray:
        return forces_of(self(s))


def of_audit(name: str) -> Law:
    """A law of `kohn audit`: the largest violation that is beyond its error."""
    (measure,) = (law.measure for law in audits.TABLE if law.name == name)

    def law(calculate: Calculate, s: Structure, rng: np.random.Generator) -> float:
        ask = CountedCalculator(calculate)
        try:
            found = measure(Case(ask, s, ask(s), EXACT, rng))  # type: ignore[arg-type]
        except Unmeasured:
            return 0.0
        values = [np.inf if np.isnan(m.value) else m.value for m in found if np.isfinite(m.error)]
        errors = [m.error for m in found if np.isfinite(m.error)]
        assert values, found
        return max(v if v > e else 0.0 for v, e in zip(values, errors, strict=True))

    law.__name__ = law.__qualname__ = name
    return law


translation = of_audit("translation")
rotation = of_audit("rotation")
reflection = of_audit("reflection")
permutation = of_audit("permutation")
lattice_shift = of_audit("lattice-shift")
unwrapped = of_audit("unwrapped")
supercell = of_audit("supercell")
cell_choice = of_audit("cell-choice")
fragments = of_audit("fragments")
forces_are_derivatives = of_audit("forces")
stress_is_strain = of_audit("stress")
jacobian = of_audit("jacobian")
net_force = of_audit("net-force")
net_torque = of_audit("net-torque")


# Laws of what no calculator of ASE tells, or of a cutoff that is known


def energies_of_atoms(calculate, s, rng) -> float:
    """They go with their atoms, in any order, turned and moved; and sum to the energy."""
    p, q = rng.permutation(len(s)), random_rotation(rng)
    other = deformed(take(s, p), q)
    still, moved = calculate([s, replace(other, positions=other.positions + rng.normal(size=3))])
    apart = np.abs(moved.energies - still.energies[p]).max()
    return float(max(apart, abs(still.energies.sum() - still.energy)))


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


def finite(calculate, s, rng) -> float:
    """Everything is a number: also pressed together, and far apart."""
    worst = 0.0
    for factor in (0.95 if s.periodic.any() else 0.3, 1.0, 3.0):
        for o in calculate([deformed(s, factor * np.eye(3))]):
            parts = (o.energy, o.energies, o.forces, o.stress)
            worst = max(worst, 0.0 if all(np.isfinite(p).all() for p in parts) else np.inf)
    return worst
