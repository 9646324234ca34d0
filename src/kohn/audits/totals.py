"""Measure sums over atoms, the independence of separate parts, and effects of earlier calls."""

from dataclasses import replace

import numpy as np

from kohn.audits.case import (
    Case,
    Measurement,
    alone,
    cluster,
    compare,
    deformed,
    growth,
    moved,
    needs_no_charge,
    random_rotation,
    take,
)
from kohn.audits.counted_calculator import ORDER, Outcome, Unmeasured, atoms_of, forces_of
from kohn.numerics.noise import NOISE_MULTIPLE
from kohn.structures import Structure

APART = 50.0
"""Å between fragments: more than any cutoff in use."""
WHOLE = 40
"""Largest number of atoms of a molecule that is not cut."""
FORCES_FIRST = ("forces", "stress", "energy")
ENERGY_FIRST = ("energy", "forces", "stress")
"""Orders of requests other than the usual one, which begins with the stress."""
CUT = 8
"""Number of atoms of a cluster that is cut out of something larger."""


def fragments(case: Case) -> list[Measurement]:
    """Measure E(A + B) = E(A) + E(B), and the same of forces, for A and B 50 Å apart in vacuum.

    B is a rotated copy of A: an error common to identical parts would otherwise cancel. For
    crystals and large molecules, A is a cluster cut out of them. A calculator that refuses vacuum
    is called again with a large periodic box.
    """
    needs_no_charge(case.s)
    whole = not case.s.periodic.any() and len(case.s) <= WHOLE
    a = cluster(case.s, WHOLE if whole else CUT, int(case.rng.integers(len(case.s))))
    extent = float(np.ptp(a.positions, axis=0).max())
    # Along a diagonal the largest coordinate is smallest, and so is rounding in float32.
    shift = case.rng.choice([-1, 1], 3) / 3**0.5 * (2 * extent + APART)
    n, x = len(a), a.positions - a.positions.mean(0)
    b = x @ random_rotation(case.rng).T
    pair = moved(take(a, np.tile(np.arange(n), 2)), np.vstack([x - shift / 2, b + shift / 2]))

    def measure(pair: Structure) -> tuple[Outcome, Outcome]:
        structures = (take(pair, np.arange(n)), take(pair, np.arange(n, 2 * n)), pair)
        first, second, both = (case.ask(x, stress=False) for x in structures)
        if case.here.forces is None:
            return Outcome(first.energy + second.energy), both
        forces = np.vstack([forces_of(first), forces_of(second)])
        return Outcome(first.energy + second.energy, forces), both

    (expected, both), box = alone(pair, measure)
    measurements = compare(case, expected, both, growth=growth(case.s, pair))
    return [replace(m, note=box) for m in measurements] if box else measurements


def net_force(case: Case) -> list[Measurement]:
    """Σ F_i = 0: no net force acts on the structure."""
    total = float(np.abs(case.forces.sum(0)).max())
    return [
        Measurement(
            "net force", total, "eV/Å", NOISE_MULTIPLE * case.noise.forces * len(case.s) ** 0.5
        )
    ]


def net_torque(case: Case) -> list[Measurement]:
    """Σ r_i × F_i = 0: no net torque acts; over the radius of the structure, it is a force."""
    if case.s.periodic.any():
        raise Unmeasured("periodic: a torque has no meaning")
    r = case.s.positions - case.s.positions.mean(0)
    radius = max(1.0, float(np.linalg.norm(r, axis=1).max()))
    torque = float(np.abs(np.cross(r, case.forces).sum(0)).max()) / radius
    error = NOISE_MULTIPLE * case.noise.forces * len(case.s) ** 0.5
    return [Measurement("net torque over radius", torque, "eV/Å", error)]


def determinism(case: Case) -> list[Measurement]:
    """Compare repeated results for one structure: at once, and after another structure.

    Energy, forces and stress are requested in several orders: a later one is often looked up in
    stored results, which may belong to the structure before. One of the other structures has
    other positions, the second has another cell too.
    """
    ask, s = case.ask, case.s
    displaced = moved(s, s.positions + 0.05 * case.rng.normal(size=s.positions.shape))
    strained = deformed(displaced, np.eye(3) + 0.02 * np.diag(case.rng.choice([-1, 1], 3)))
    ask.reset()
    first = ask(s)
    ask.reset()
    measurements = [replace(m, error=0.0, note="twice") for m in compare(case, first, ask(s))]
    other = ask(displaced)
    pairs = [(first, ask(s, order=ENERGY_FIRST)), (other, ask(displaced, order=FORCES_FIRST))]
    ask(strained)
    pairs.append((first, ask(s, order=FORCES_FIRST)))
    for (expected, got), name in zip(pairs, ("energy", "forces", "forces"), strict=True):
        note = f"after another structure, {name} first"
        measurements += [replace(m, note=note) for m in compare(case, expected, got)]
    return measurements


def mutation(case: Case) -> list[Measurement]:
    """Measure how much the calculator changes the atoms that it is given."""
    atoms, before = atoms_of(case.s), atoms_of(case.s)
    case.ask.reset()
    case.ask.of(atoms, ORDER if case.here.stress is not None else ORDER[1:])
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
        return [Measurement("atoms changed", np.inf, "Å", note=note)]
    worst = max(
        float(np.abs(atoms.positions - before.positions).max()),
        float(np.abs(atoms.cell.array - before.cell.array).max()),
    )
    return [Measurement("positions or cell changed", worst, "Å")]
