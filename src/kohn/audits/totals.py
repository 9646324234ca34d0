"""Measure sums of forces, the independence of fragments, and the effects of earlier calls."""

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
"""Å between the two fragments: more than any cutoff in use."""
WHOLE = 40
"""A molecule of at most this number of atoms is a fragment as a whole."""
FORCES_FIRST = ("forces", "stress", "energy")
ENERGY_FIRST = ("energy", "forces", "stress")
"""Orders of requests that differ from the usual one, `ORDER`, which begins with the stress."""
CUT = 8
"""Number of atoms of a cluster that is cut out of a crystal or of a larger molecule."""


def fragments(case: Case) -> list[Measurement]:
    """Measure whether E(A + B) = E(A) + E(B), and likewise forces, for fragments A, B 50 Å apart.

    B is a rotated copy of A, because an error common to identical fragments would cancel. If the
    structure is a crystal or a large molecule, A is a cluster cut out of it. The fragments are in
    vacuum or, if the calculator refuses vacuum, in a large periodic box.
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
    """Σ F_i = 0: the sum of the forces F_i on all atoms i vanishes."""
    total = float(np.abs(case.forces.sum(0)).max())
    return [
        Measurement(
            "net force", total, "eV/Å", NOISE_MULTIPLE * case.noise.forces * len(case.s) ** 0.5
        )
    ]


def net_torque(case: Case) -> list[Measurement]:
    """Σ r_i × F_i = 0: the net torque vanishes; it is divided by the radius, to be in eV/Å."""
    if case.s.periodic.any():
        raise Unmeasured("periodic: a torque has no meaning")
    r = case.s.positions - case.s.positions.mean(0)
    radius = max(1.0, float(np.linalg.norm(r, axis=1).max()))
    torque = float(np.abs(np.cross(r, case.forces).sum(0)).max()) / radius
    error = NOISE_MULTIPLE * case.noise.forces * len(case.s) ** 0.5
    return [Measurement("net torque over radius", torque, "eV/Å", error)]


def determinism(case: Case) -> list[Measurement]:
    """Compare repeated results for one structure: two calls in a row, and after other structures.

    Energy, forces and stress are requested in several orders: quantities requested last are often
    looked up in stored results, which may belong to the previous structure. One of the other
    structures differs in its positions, the second also in its cell.
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
    """Measure by how much, in Å, the calculator changes the atoms that it is given."""
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
