"""Planted faults: each wraps an honest calculator, and breaks a law that is named beside it.

A fault is small, 1e-6 of something, unless its size is in its nature: a law that sees it would
see any larger one.
"""

from collections.abc import Callable
from dataclasses import replace

import laws
import numpy as np
from brute_force import pairs, reach
from laws import Calculate, Outcome

from kohn.graphs import Neighbourhood
from kohn.graphs.neighbours import dense_rows
from kohn.structures import Structure

SMALL = 1e-6
Fault = Callable[[Calculate], Calculate]


def changed(change: Callable[[Structure, Outcome], Outcome]) -> Fault:
    """The fault that changes each outcome."""
    return lambda calculate: (
        lambda structures: [
            change(s, o) for s, o in zip(structures, calculate(structures), strict=True)
        ]
    )


def add_energies(o: Outcome, extra: np.ndarray) -> Outcome:
    return replace(o, energies=o.energies + extra, energy=o.energy + float(np.sum(extra)))


def pair_term(cutoff: float, f, slope) -> Fault:
    """½ Σ f(r) added, with forces and stress that belong to it."""

    def change(s, o):
        i, _, _, d = pairs(s, cutoff)
        r = np.linalg.norm(d, axis=1)
        extra, forces = np.zeros(len(s)), np.zeros((len(s), 3))
        np.add.at(extra, i, 0.5 * f(r))
        np.add.at(forces, i, (slope(r) / r)[:, None] * d)
        virial = 0.5 * np.einsum("e,ea,eb->ab", slope(r) / r, d, d)
        stress = virial / s.volume if s.periodic.all() else 0.0
        return add_energies(replace(o, forces=o.forces + forces, stress=o.stress + stress), extra)

    return changed(change)


def power_at_cutoff(cutoff: float, k: int) -> Fault:
    """A pair term (1 − r/r_c)^k: k = 0 jumps in energy, 1 in force, 2 in the force's slope."""
    size = 100 * SMALL
    return pair_term(
        cutoff,
        lambda r: size * (1 - r / cutoff) ** k,
        lambda r: -size * k / cutoff * (1 - r / cutoff) ** max(k - 1, 0),
    )


def field(s, o):
    """Atoms feel where they are."""
    return add_energies(o, SMALL * s.positions[:, 0])


def anisotropic(s, o):
    """Neighbours along x count."""
    i, _, _, d = pairs(s, 3.0)
    extra = np.zeros(len(s))
    np.add.at(extra, i, SMALL * d[:, 0] ** 2 * (9.0 - (d**2).sum(1)) ** 3)
    return add_energies(o, extra)


def chiral(s, o):
    """The triple product of three moments of the neighbours changes sign in a mirror."""
    i, _, _, d = pairs(s, 3.5)
    r = np.linalg.norm(d, axis=1)
    weights = (3.5 - r) ** 2
    moments = np.zeros((3, len(s), 3))
    for k in range(3):
        np.add.at(moments[k], i, (weights * r**k * s.numbers[pairs(s, 3.5)[1]] ** k)[:, None] * d)
    return add_energies(o, SMALL * np.einsum("na,na->n", moments[0], np.cross(*moments[1:])))


def by_index(s, o):
    """An energy for the place in the list."""
    return add_energies(o, SMALL * np.arange(len(s)))


def sorted_forces(s, o):
    """Forces in the order of the elements, not of the atoms."""
    return replace(o, forces=o.forces[np.argsort(s.numbers, kind="stable")])


def scaled_forces(s, o):
    return replace(o, forces=o.forces * 1.001)


def gradient_for_forces(s, o):
    return replace(o, forces=-o.forces)


def net_force(s, o):
    return replace(o, forces=o.forces + np.array([0, SMALL, 0]))


def torque(s, o):
    """Forces turned by a little about z."""
    return replace(o, forces=o.forces + SMALL * np.cross([0, 0, 1], o.forces))


def pulled(s, o):
    """One force is a little larger, and another as much smaller: they turn the whole."""
    pull = np.zeros((len(s), 3))
    pull[0], pull[-1] = SMALL * np.array([1, 2, 0]), SMALL * np.array([-1, -2, 0])
    return replace(o, forces=o.forces + pull)


def signed_volume(s, o):
    """σ divided by det cell instead of |det cell|."""
    return replace(o, stress=o.stress * np.sign(np.linalg.det(s.cell)) if s.volume else o.stress)


def virial_for_stress(s, o):
    return replace(o, stress=-o.stress * s.volume)


def one_image_short(s, o):
    """The virial lacks one pair."""
    if not s.periodic.all():
        return o
    _, _, _, d = pairs(s, 3.5)
    nearest = d[np.argmin((d**2).sum(1))]
    return replace(o, stress=o.stress - SMALL * np.outer(nearest, nearest) / s.volume)


def sheared_stress(s, o):
    """An antisymmetric part."""
    return replace(o, stress=o.stress + SMALL * np.triu(np.ones((3, 3)), 1))


def cell_dependent(s, o):
    """The length of the first vector counts."""
    return add_energies(o, SMALL * np.full(len(s), np.linalg.norm(s.cell[0])))


def crowd(s, o):
    """Energy grows with the square of the number of atoms."""
    return add_energies(o, SMALL * np.full(len(s), float(len(s))))


def bias(s, o):
    return add_energies(o, np.full(len(s), SMALL))


def books(s, o):
    """Energies that do not sum to the energy."""
    return replace(o, energies=o.energies + SMALL)


def not_a_number(s, o):
    return replace(o, forces=np.where(o.forces > 0, np.nan, o.forces))


def long_range(s, o):
    """1/r between everything."""
    d = s.positions[:, None] - s.positions[None]
    r = np.linalg.norm(d, axis=-1) + np.eye(len(s))
    return add_energies(o, 1e-3 * ((1 - np.eye(len(s))) / r).sum(1))


# Neighbour searches that are wrong


def rows_from(s: Structure, found, cutoff: float) -> Neighbourhood:
    i, j, shift, d = found
    return dense_rows(len(s), i, j, shift, d, cutoff)


def minimum_image(s: Structure, cutoff: float) -> Neighbourhood:
    """Of all images of an atom only the nearest."""
    i, j, shift, d = pairs(s, cutoff)
    half: dict[tuple[int, int], int] = {}
    for e in np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], np.round((d**2).sum(1), 9))):
        half.setdefault((min(i[e], j[e]), max(i[e], j[e])), int(e))
    kept = []
    for e in half.values():  # each with its reverse
        back = (i == j[e]) & (j == i[e]) & (shift == -shift[e]).all(1)
        kept += [e, int(np.flatnonzero(back)[0])]
    kept = sorted(set(kept))
    return rows_from(s, (i[kept], j[kept], shift[kept], d[kept]), cutoff)


def wrapped_only(s: Structure, cutoff: float) -> Neighbourhood:
    """As many cells as a wrapped structure needs, whether it is wrapped or not."""
    still = replace(s, positions=s.positions[:1])
    ranges = [range(r.start + 1, r.stop - 1) if len(r) > 1 else r for r in reach(still, cutoff)]
    return rows_from(s, pairs(s, cutoff, ranges), cutoff)


def nearest_cells(s: Structure, cutoff: float) -> Neighbourhood:
    """One cell to each side, however small the cell."""
    ranges = [range(-1, 2) if p else range(1) for p in s.periodic]
    return rows_from(s, pairs(s, cutoff, ranges), cutoff)


def table(cutoff: float, e0s: dict[int, float]) -> list[tuple[laws.Law, str, Fault]]:
    """Every law with faults that break it."""
    smooth, lone = laws.smooth_at_cutoff(cutoff), laws.isolated_atom(e0s)
    rows: list[tuple[laws.Law, Callable]] = [
        (laws.translation, field),
        (laws.rotation, anisotropic),
        (laws.rotation, torque),
        (laws.reflection, chiral),
        (laws.permutation, sorted_forces),
        (laws.lattice_shift, field),
        (laws.unwrapped, field),
        (laws.supercell, crowd),
        (laws.supercell, cell_dependent),
        (laws.cell_choice, cell_dependent),
        (laws.cell_choice, signed_volume),
        (laws.stress_is_strain, signed_volume),
        (laws.stress_is_strain, virial_for_stress),
        (laws.stress_is_strain, one_image_short),
        (laws.stress_is_strain, sheared_stress),
        (laws.forces_are_derivatives, scaled_forces),
        (laws.forces_are_derivatives, gradient_for_forces),
        (laws.forces_are_derivatives, net_force),
        (laws.forces_are_derivatives, torque),
        (laws.net_force, net_force),
        (laws.jacobian, torque),
        (laws.net_torque, pulled),
        (laws.energies_of_atoms, by_index),
        (laws.fragments, crowd),
        (laws.fragments, long_range),
        (laws.energies_of_atoms, books),
        (laws.finite, not_a_number),
        (lone, bias),
    ]
    named = [(law, fault.__name__, changed(fault)) for law, fault in rows]
    named += [(smooth, f"power_{k}", power_at_cutoff(cutoff, k)) for k in (0, 1, 2)]
    return named


SEARCHES = [
    (laws.lattice_shift, wrapped_only),
    (laws.unwrapped, wrapped_only),
    (laws.supercell, minimum_image),
    (laws.supercell, nearest_cells),
    (laws.cell_choice, nearest_cells),
]
"""Laws and the wrong searches for neighbours that break them."""
