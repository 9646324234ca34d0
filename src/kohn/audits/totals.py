"""Sums over atoms, separate parts, and calls that follow each other."""

from dataclasses import replace

import numpy as np

from kohn.audits.asking import Outcome, Unmeasured, atoms_of, has_stress
from kohn.audits.case import (
    CERTAIN,
    Case,
    Measured,
    cluster,
    compare,
    growth,
    moved,
    needs_no_charge,
    random_rotation,
    take,
)

APART = 50.0
"""Å between fragments: farther than any cutoff in use."""
WHOLE = 40
"""Atoms of a molecule that is not cut."""
CUT = 8
"""Atoms of a cluster that is cut out of something larger."""


def fragments(case: Case) -> list[Measured]:
    """E(A + B) = E(A) + E(B), and the same forces, where A and B are 50 Å apart in vacuum.

    B is A in another place. Of crystals and large molecules A is a cluster cut out of them.
    """
    needs_no_charge(case.s)
    whole = not case.s.periodic.any() and len(case.s) <= WHOLE
    a = cluster(case.s, WHOLE if whole else CUT, int(case.rng.integers(len(case.s))))
    extent = float(np.ptp(a.positions, axis=0).max())
    away = random_rotation(case.rng)[0] * (2 * extent + APART)
    b = moved(a, a.positions + away)
    n = len(a)
    both = moved(take(a, np.tile(np.arange(n), 2)), np.vstack([a.positions, b.positions]))
    one, other, together = (case.ask(x, stress=False) for x in (a, b, both))
    lost = one.forces is None or other.forces is None
    forces = None if lost else np.vstack([one.forces, other.forces])  # type: ignore[list-item]
    expected = Outcome(one.energy + other.energy, forces)
    return compare(case, expected, together, growth=growth(a, both))


def net_force(case: Case) -> list[Measured]:
    """Σ F_i = 0: nothing pulls the whole."""
    total = float(np.abs(case.forces.sum(0)).max())
    return [Measured("net force", total, "eV/Å", CERTAIN * case.noise.forces * len(case.s) ** 0.5)]


def net_torque(case: Case) -> list[Measured]:
    """Σ r_i × F_i = 0: nothing turns the whole; divided by its radius, so it is a force."""
    if case.s.periodic.any():
        raise Unmeasured("periodic: a torque has no meaning")
    r = case.s.positions - case.s.positions.mean(0)
    radius = max(1.0, float(np.linalg.norm(r, axis=1).max()))
    torque = float(np.abs(np.cross(r, case.forces).sum(0)).max()) / radius
    error = CERTAIN * case.noise.forces * len(case.s) ** 0.5
    return [Measured("net torque over radius", torque, "eV/Å", error)]


def determinism(case: Case) -> list[Measured]:
    """The same input gives the same output: twice in a row, and after another structure."""
    ask, s = case.ask, case.s
    ask.reset()
    first = ask(s)
    ask.reset()
    again = [replace(m, error=0.0, note="twice") for m in compare(case, first, ask(s))]
    ask(moved(s, s.positions + 0.05 * case.rng.normal(size=s.positions.shape)))
    later = ask(s)
    return again + [replace(m, note="after another structure") for m in compare(case, first, later)]


def mutation(case: Case) -> list[Measured]:
    """The calculator leaves the atoms that it is given as they were."""
    atoms, before = atoms_of(case.s), atoms_of(case.s)
    case.ask.reset()
    case.ask.of(atoms, forces=True, stress=has_stress(case.s))
    note = ", ".join(
        name
        for name, changed in (
            ("numbers", not np.array_equal(atoms.numbers, before.numbers)),
            ("periodic flags", not np.array_equal(atoms.pbc, before.pbc)),
            ("constraints", len(atoms.constraints) != len(before.constraints)),
        )
        if changed
    )
    if note:
        return [Measured("atoms changed", np.inf, "Å", note=note)]
    worst = max(
        float(np.abs(atoms.positions - before.positions).max()),
        float(np.abs(atoms.cell.array - before.cell.array).max()),
    )
    return [Measured("positions or cell changed", worst, "Å")]
