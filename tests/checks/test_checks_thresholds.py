"""Checks find what is just beyond their thresholds, and pass what is just within.

Data are planted so that what is judged can be computed by hand.
"""

from dataclasses import replace

import numpy as np
import pytest
from brute_force import structure

from kohn.checks import check
from kohn.checks.geometry import geometry_findings, shortest_distances
from kohn.checks.neighbouring_frames import (
    FramePairs,
    Ratio,
    curvature,
    energy_over_strain_work,
    energy_over_work,
)
from kohn.checks.outliers import outlying_energies, outlying_forces
from kohn.checks.units import (
    absolute_evidence,
    binding_evidence,
    bulk_modulus,
    energy_and_force_findings,
    force_size_evidence,
    neighbour_evidence,
    spread_evidence,
    stress_findings,
    stress_size_evidence,
)
from kohn.structures import Dataset, E0s, Structure

GPA = 1 / 160.2176634
"""eV/Å³."""
HARTREE = 27.211386
BOLTZMANN = 8.617333262e-5


def atoms(numbers, energy=None, forces=None, stress=None, cell=0.0) -> Structure:
    """Atoms 2 Å apart in a row."""
    positions = np.outer(np.arange(len(numbers)), [0, 0, 2.0])
    s = structure(positions, numbers, cell * np.eye(3), cell > 0)
    labels = {"energy": energy, "forces": forces, "stress": stress}
    return s.with_labels(**{k: np.array(v, float) for k, v in labels.items() if v is not None})


def hydrogen(r: float) -> Structure:
    return structure([[0, 0, 0], [0, 0, r]], [1, 1])


def kinds(*data: Structure, **options) -> set[str]:
    return {f.kind for f in check(Dataset(data), **options).findings}


# Geometry


@pytest.mark.parametrize(
    ("r", "severity"),
    [
        (0.299, "error"),  # closer than 0.3 Å
        (0.301, "warning"),
        (0.340, "warning"),  # 0.55 of twice the covalent radius of 0.31 Å: 0.341
        (0.342, None),
    ],
)
def test_atoms_that_are_too_close(r, severity):
    s = hydrogen(r)
    found = geometry_findings([s], shortest_distances([s])[1], "set")
    assert [f.severity for f in found] == ([] if severity is None else [severity])


def test_shortest_distances_are_looked_for_up_to_three_angstrom():
    assert shortest_distances([hydrogen(2.99)])[0]["H-H"][0] == pytest.approx(2.99)
    assert shortest_distances([hydrogen(3.01)]) == ({}, [(np.inf, np.inf)])


# Composition and copies


@pytest.mark.parametrize(("frames", "few"), [(19, True), (20, False)])
def test_fewer_than_twenty_frames_are_few(frames, few):
    data = [hydrogen(0.7 + 0.01 * k).with_labels(energy=np.array(-6.0)) for k in range(frames)]
    assert ("too-few-frames" in kinds(*data)) == few


@pytest.mark.parametrize(
    ("bound", "fits"), [(-15.1, False), (-14.9, True), (0.9, True), (1.1, False)]
)
def test_energies_that_do_not_fit_to_the_e0s(bound, fits):
    """`bound` eV an atom relative to E0."""
    data = atoms([1, 1], energy=2 * (-13.6 + bound))
    assert ("inconsistent-e0s" not in kinds(data, e0s={"H": -13.6})) == fits


@pytest.mark.parametrize(("gap", "said"), [(0.0009, False), (0.0011, True)])
def test_a_free_energy_that_is_more_than_a_millielectronvolt_an_atom_away(gap, said):
    s = atoms([1, 1], energy=-6.0, forces=np.ones((2, 3)))
    s = s.with_labels(free_energy=np.array(-6.0 - 2 * gap))
    assert ("free-energy" in kinds(s)) == said


@pytest.mark.parametrize(("gap", "contradict"), [(0.0049, False), (0.0051, True)])
def test_copies_whose_energies_differ_by_more_than_five_millielectronvolts_an_atom(gap, contradict):
    found = kinds(atoms([1, 1], energy=-6.0), atoms([1, 1], energy=-6.0 + 2 * gap))
    assert ("contradictory-labels" in found) == contradict


@pytest.mark.parametrize(("angle", "turned"), [(7.5e-4, False), (8.2e-4, True)])
def test_copies_that_are_turned(angle, turned):
    """H₂ of 1 Å: the component yz of its orientation is w² g₁ θ / 2, with w = 0.5 + 1/5 and
    g₁ = sin(π/5) (1 − 1/25)³ = 0.520, so 1e-4 is reached at θ = 7.85e-4."""
    there = np.array([[0, 0, 0], [0, np.sin(angle), np.cos(angle)]])
    report = check({"train": hydrogen(1.0), "test": replace(hydrogen(1.0), positions=there)})
    found = {f.kind for f in report.findings}
    assert ("equivalent-between" in found) == turned
    assert ("duplicate-between" in found) != turned


# Outliers


def energies(*values: float) -> list[Structure]:
    """Frames of H₂ with these energies an atom."""
    return [atoms([1, 1], energy=2 * v) for v in values]


@pytest.mark.parametrize(("far", "found"), [(0.29, 0), (0.31, 1), (-0.29, 0), (-0.31, 1)])
def test_an_energy_is_far_from_300_millielectronvolts_an_atom_on(far, found):
    assert len(outlying_energies(energies(*[0.0] * 7, far), None)) == found


def test_energies_of_seven_frames_of_a_composition_say_nothing():
    assert outlying_energies(energies(*[0.0] * 6, 9.0), None) == []
    assert len(outlying_energies(energies(*[0.0] * 7, 9.0), None)) == 1


@pytest.mark.parametrize(("far", "found"), [(17.7, 0), (17.9, 1)])
def test_an_energy_is_far_at_twelve_robust_standard_deviations(far, found):
    """Energies of ±1: the median absolute deviation is 1, and 12 · 1.4826 = 17.79."""
    frames = energies(*[-1.0] * 11, 0.0, *[1.0] * 10, far)
    assert len(outlying_energies(frames, None)) == found


@pytest.mark.parametrize(("number", "found"), [(2, 2), (3, 0)])
def test_outliers_are_at_most_a_twentieth(number, found):
    frames = energies(*[0.0] * (40 - number), *[5.0] * number)
    assert len(outlying_energies(frames, None)) == found


@pytest.mark.parametrize(("far", "found"), [(1.9, 0), (2.1, 1)])
def test_among_compositions_an_energy_is_far_from_two_electronvolts_an_atom_on(far, found):
    e0s = E0s({1: -13.6}, "given")
    frames = [atoms([1] * n, energy=n * -13.6) for n in range(2, 9)]
    frames.append(atoms([1] * 9, energy=9 * (far - 13.6)))
    assert len(outlying_energies(frames, e0s)) == found
    assert outlying_energies(frames[1:], e0s) == []  # seven say nothing


@pytest.mark.parametrize(
    ("typical", "largest", "found"),
    [(0.5, 19.9, 0), (0.5, 20.1, 1), (2.0, 39.0, 0), (2.0, 41.0, 1)],
)
def test_a_force_is_far_at_20_and_at_twenty_times_what_is_typical(typical, largest, found):
    frames = [atoms([1, 1], forces=np.full((2, 3), typical)) for _ in range(7)]
    frames.append(atoms([1, 1], forces=[[0, 0, 0], [0.6 * largest, 0.8 * largest, 0]]))
    assert len(outlying_forces(frames)) == found
    assert outlying_forces(frames[1:]) == []


# Energies


@pytest.mark.parametrize("unit", ["eV", "hartree", "rydberg", "kcal/mol", "kJ/mol"])
@pytest.mark.parametrize(
    ("off", "near"), [(0.971, True), (0.969, False), (1.029, True), (1.031, False)]
)
def test_all_electron_energies_tell_their_unit_within_three_percent(unit, off, near):
    """Two atoms of H of half a hartree and one of O of 74.809."""
    per_hartree = {
        "eV": HARTREE,
        "hartree": 1.0,
        "rydberg": 2.0,
        "kcal/mol": 627.5095,
        "kJ/mol": 2625.4996,
    }[unit]
    found = absolute_evidence([atoms([1, 1, 8], energy=-75.809 * per_hartree * off)])
    assert (found is not None and found.unit == unit) == near


@pytest.mark.parametrize(("spread", "told"), [(0.029, True), (0.031, False)])
def test_all_electron_energies_must_agree(spread, told):
    frames = [atoms([1, 1], energy=-1.0 * (1 + sign * spread)) for sign in (-1, 1)]
    assert (absolute_evidence([*frames, *frames]) is not None) == told


@pytest.mark.parametrize(
    ("bound", "too_much"), [(14.9, False), (15.1, True), (2990, True), (3010, False)]
)
def test_atoms_are_not_bound_by_more_than_15_electronvolts(bound, too_much):
    frame = atoms([1, 1], energy=2 * (-13.6 - bound))
    for source, known in (("given", True), ("least squares", False)):
        found = binding_evidence([frame], E0s({1: -13.6}, source))
        assert (found is not None) == (too_much and known)


def ladder(n: int, spread: float) -> np.ndarray:
    """n = 4 k + 1 equidistant numbers whose quartiles are 1.349 `spread` apart."""
    return np.linspace(-1, 1, n) * 1.349 * spread


@pytest.mark.parametrize(
    ("kelvin", "frames", "size", "told"),
    [
        (6100, 17, 4, True),
        (5900, 17, 4, False),
        (6100, 13, 4, False),  # fewer than 15 frames
        (6100, 17, 3, False),  # fewer than 4 atoms
    ],
)
def test_energies_spread_as_those_of_vibrations_at_6000_kelvin(kelvin, frames, size, told):
    """√(3 n / 2) k T."""
    spread = (1.5 * size) ** 0.5 * BOLTZMANN * kelvin
    data = [atoms([1] * size, energy=-20.0 + e) for e in ladder(frames, spread)]
    assert (spread_evidence(data) is not None) == told


@pytest.mark.parametrize(("spread", "told"), [(1.95, False), (2.05, True)])
def test_energies_an_atom_spread_about_a_sum_over_the_elements(spread, told):
    """Crystals of one element: the sum is their mean."""
    data = [atoms([14, 14], energy=2 * (-5.0 + e), cell=9.0) for e in ladder(17, spread)]
    found = spread_evidence(data)
    assert (found is not None and "kcal" in str(found.unit)) == told
    assert spread_evidence(data[2:-1]) is None  # fewer than 15


@pytest.mark.parametrize(
    ("step", "compositions", "told"), [(0.0078, 30, True), (0.0082, 30, False), (0.0078, 29, False)]
)
def test_energies_of_many_compositions_do_not_lie_too_close(step, compositions, told):
    """Off the sum over the elements by ± step · 1.349 / 2 in turn: quartiles are at these values.

    Each composition comes with both signs, so the sum stays what it is.
    """
    off, data = step * 1.349 / 2, []
    for k in range(compositions):
        numbers = [1] * (1 + k % 6) + [8] * (1 + k // 6)
        mean = -13.6 * (1 + k % 6) - 2040.0 * (1 + k // 6)
        data += [atoms(numbers, energy=mean + sign * off * len(numbers)) for sign in (-1, 1)]
    found = spread_evidence(data)
    assert (found is not None and found.unit == "hartree") == told


# Forces and what they say of energies


def ratio(value: float, pairs: int = 20, agreement: float = 1.0, distance: float = 0.1) -> Ratio:
    return Ratio(value, pairs, agreement, distance)


@pytest.mark.parametrize(
    ("pairs", "agreement", "trusted"),
    [(8, 0.8, True), (7, 1.0, False), (8, 0.79, False)],
)
def test_a_ratio_is_trusted_of_eight_pairs_of_which_four_fifths_agree(pairs, agreement, trusted):
    assert ratio(1.0, pairs, agreement).trusted == trusted


@pytest.mark.parametrize(
    ("force", "stiff", "numbers", "unit"),
    [
        (14.9, None, [1, 6], None),
        (15.1, None, [1, 6], "kcal/mol/Å"),
        (1.0, 79.0, [1, 6], None),
        (1.0, 81.0, [1, 6], "kcal/mol/Å"),
        (1.0, 0.51, [1, 6], None),
        (1.0, 0.49, [1, 6], "hartree/bohr"),
        (1.0, 0.49, [14, 14], None),
        (1.0, -0.1, [1, 6], None),
    ],
)
def test_forces_and_curvatures_that_no_matter_has(force, stiff, numbers, unit):
    frame = atoms(numbers, forces=np.full((2, 3), force))
    bent = None if stiff is None else ratio(stiff)
    found = force_size_evidence([frame] * 3, bent)
    assert (None if found is None else found.unit) == unit


@pytest.mark.parametrize(
    ("value", "off"),
    [(0.39, True), (0.41, False), (2.49, False), (2.51, True), (-0.39, True), (-1.0, False)],
)
def test_energies_change_by_another_factor_than_forces_say(value, off):
    assert (neighbour_evidence(ratio(value)) is not None) == off
    assert neighbour_evidence(ratio(9.0, pairs=7)) is None


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("kcal/mol for eV", 23.0605),
        ("kJ/mol for eV", 96.4853),
        ("hartree for eV", 0.0367493),
        ("kcal/mol/Å for eV/Å", 0.0433641),
        ("kJ/mol/Å for eV/Å", 0.01036427),
        ("hartree/bohr for eV/Å", 51.42207),
        ("hartree/Å for eV/Å", 27.211386),
    ],
)
def test_a_factor_within_two_fifths_of_a_unit_is_named(name, factor):
    for share, named in ((0.72, True), (0.71, False), (1.39, True), (1.41, False)):
        found = neighbour_evidence(ratio(share * factor))
        assert found is not None
        assert (f"{name}: " in found.text) == named, (share, found.text)


# What all observations say together. Pairs are given row by row.


def pairs(n: int = 24, **columns: float | np.ndarray) -> FramePairs:
    """Pairs of frames without any work, but for these columns."""
    given = {"energy": 0.0, "work": 0.0, "strain_work": 0.0, "curvature": np.nan}
    given |= {"distance": 0.1, "strain": 0.0} | columns
    return FramePairs(**{k: np.broadcast_to(np.asarray(v, float), n) for k, v in given.items()})


def found_of(data, of_pairs) -> dict[str, str]:
    """Kind -> severity."""
    return {f.kind: f.severity for f in energy_and_force_findings(data, None, of_pairs, "set")}


@pytest.mark.parametrize(
    ("value", "n", "atomic"),
    [(1.51, 45, True), (1.49, 45, False), (2.39, 45, True), (2.41, 45, False), (1.9, 42, False)],
)
def test_hartree_with_hartree_over_bohr(value, n, atomic):
    """dE / (−F · dx) of 1.89: both are errors. A third of the pairs is looked at: 15 of 45."""
    data = [atoms([1, 1, 8], energy=-75.809)] * 3
    found = found_of(data, pairs(n, energy=value * 0.01, work=0.01))
    assert (found.get("energy-units") == "error") == atomic
    assert ("force-units" in found) == atomic


@pytest.mark.parametrize(
    ("value", "same"), [(0.71, True), (0.69, False), (1.39, True), (1.41, False)]
)
def test_forces_of_energies_in_another_unit_are_in_it_too(value, same):
    data = [atoms([1, 1, 8], energy=-75.809)] * 3
    found = found_of(data, pairs(energy=value * 0.01, work=0.01))
    assert ("force-units" in found) == same


@pytest.mark.parametrize(
    ("strained", "right"), [(0.41, True), (0.39, False), (2.49, True), (2.51, False)]
)
def test_energies_that_agree_with_stress_leave_forces_to_blame(strained, right):
    """Half of the pairs are of one cell, in which energies change by 1/23 of what forces say."""
    half = np.repeat([True, False], 24)
    of = pairs(
        48,
        energy=np.where(half, 0.0434 * 0.01, strained * 0.01),
        work=np.where(half, 0.01, 0.0),
        strain_work=np.where(half, 0.0, 0.01),
        strain=np.where(half, 0.0, 0.02),
    )
    found = found_of([atoms([14, 14], cell=9.0)], of)
    assert (found.get("force-units") == "error") == right


@pytest.mark.parametrize(
    ("share", "theirs"), [(0.63, True), (0.62, False), (1.59, True), (1.61, False)]
)
def test_energies_that_differ_alike_from_forces_and_stress_are_to_blame(share, theirs):
    """By kcal/mol from forces, and by nearly the same from stress."""
    half = np.repeat([True, False], 24)
    of = pairs(
        48,
        energy=np.where(half, 23.06 * 0.01, share * 23.06 * 0.01),
        work=np.where(half, 0.01, 0.0),
        strain_work=np.where(half, 0.0, 0.01),
        strain=np.where(half, 0.0, 0.02),
    )
    frame = atoms([14, 14], stress=0.01 * np.eye(3), cell=9.0)
    assert (found_of([frame], of).get("energy-units") == "error") == theirs
    assert ("stress-units" in {f.kind for f in stress_findings([frame], of, "set")}) != theirs


@pytest.mark.parametrize(
    ("uphill", "distance", "n", "said"),
    [
        (4, 0.1, 45, True),  # 11 of 15 agree: 0.733
        (3, 0.1, 45, False),  # 12 of 15: 0.8
        (4, 0.26, 45, False),
        (4, 0.24, 45, True),
        (4, 0.1, 42, False),  # 14 pairs
    ],
)
def test_energies_that_go_up_where_forces_say_down(uphill, distance, n, said):
    energy = np.full(n, 0.01)
    energy[:uphill] = -0.01
    found = found_of([atoms([1, 1])], pairs(n, energy=energy, work=0.01, distance=distance))
    assert ("energy-force-inconsistent" in found) == said


@pytest.mark.parametrize(("value", "severity"), [(-1.0, "warning"), (1.0, None)])
def test_forces_that_push_away_or_rise_with_the_energy_have_the_other_sign(value, severity):
    one = found_of([atoms([1, 1])], pairs(energy=value * 0.01, work=0.01))
    assert one.get("force-sign") == severity
    two = found_of([atoms([1, 1])], pairs(energy=value * 0.01, work=0.01, curvature=value))
    assert two.get("force-sign") == (severity and "error")


# Neighbouring frames


def test_work_of_forces_is_looked_at_where_strain_does_less_than_a_tenth_of_it():
    for strain_work, n in ((0.0099, 8), (0.0101, 0)):
        found = energy_over_work(pairs(8, energy=0.1, work=0.1, strain_work=strain_work))
        assert (0 if found is None else found.pairs) == n


@pytest.mark.parametrize(
    ("strain", "work", "n"),
    [(1.1e-3, 0.0, 8), (0.9e-3, 0.0, 0), (0.01, 0.029, 8), (0.01, 0.031, 0)],
)
def test_strain_is_looked_at_where_forces_do_less_than_a_third_of_the_change(strain, work, n):
    """Of 0.1 eV, 0.03 eV."""
    found = energy_over_strain_work(pairs(8, energy=0.1, work=work, strain_work=0.1, strain=strain))
    assert (0 if found is None else found.pairs) == n
    assert found is None or found.value == pytest.approx((0.1 - work) / 0.1)


def test_frames_are_neighbours_within_half_an_angstrom():
    assert curvature(pairs(8, curvature=3.0, distance=0.49)).value == 3.0
    assert curvature(pairs(8, curvature=3.0, distance=0.51)) is None


def test_the_nearest_third_is_taken_and_eight_at_least():
    distance = np.linspace(0.1, 0.4, 30)
    value = np.where(np.arange(30) < 10, 2.0, 9.0)
    found = curvature(pairs(30, curvature=value, distance=distance))
    assert (found.value, found.pairs, found.agreement) == (2.0, 10, 1.0)
    assert found.distance == pytest.approx((distance[4] + distance[5]) / 2)
    assert curvature(pairs(12, curvature=value[:12], distance=distance[:12])).pairs == 8


# Stress


def squeezed(modulus: float, n: int = 8, reach: float = 0.01, noise: float = 0.0):
    """n crystals of 1000 Å³ (1 ± reach), with σ = B (V − V₀)/V₀ and ± noise in turn."""
    frames = []
    for k, x in enumerate(np.linspace(-reach, reach, n)):
        off = noise * (1 if k % 4 in (0, 3) else -1)  # no slope
        cell = 10 * (1 + x) ** (1 / 3)
        frames.append(atoms([14, 14], stress=(modulus * x + off) * np.eye(3), cell=cell))
    return frames


def test_a_bulk_modulus_is_the_slope_of_the_stress():
    assert bulk_modulus(squeezed(100 * GPA)) == pytest.approx(100 * GPA, rel=1e-9)
    assert bulk_modulus(squeezed(-100 * GPA)) == pytest.approx(-100 * GPA, rel=1e-9)
    assert bulk_modulus(squeezed(100 * GPA, n=7)) is None


def test_volumes_must_differ_and_stresses_follow_them():
    """Eight equidistant volumes of ± x have a standard deviation of x √(3/7)."""
    assert bulk_modulus(squeezed(1.0, reach=0.0031 * (7 / 3) ** 0.5)) is not None
    assert bulk_modulus(squeezed(1.0, reach=0.0029 * (7 / 3) ** 0.5)) is None
    # With noise of q standard deviations the correlation is 1/√(1 + q²): 0.7 at q = 1.02.
    deviation = 0.01 * (3 / 7) ** 0.5
    assert bulk_modulus(squeezed(1.0, noise=1.00 * deviation)) is not None
    assert bulk_modulus(squeezed(1.0, noise=1.04 * deviation)) is None


@pytest.mark.parametrize(("largest", "told"), [(0.49, False), (0.51, True)])
def test_stresses_of_half_an_electronvolt_are_too_large(largest, told):
    frame = atoms([14, 14], stress=np.diag([0.1, -largest, 0.0]), cell=9.0)
    assert (stress_size_evidence([frame] * 3, None) is not None) == told


@pytest.mark.parametrize(("modulus", "told"), [(990, False), (1010, True), (-1010, True)])
def test_a_bulk_modulus_of_a_thousand_gigapascal_is_too_large(modulus, told):
    frame = atoms([14, 14], stress=0.01 * np.eye(3), cell=9.0)
    found = stress_size_evidence([frame], modulus * GPA)
    assert (found is not None) == told
    if found is not None:
        assert "0.01 eV/Å³ (1.6 GPa)" in found.text
        assert "1.01e+03 GPa" in found.text


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (0.21, None),
        (0.19, ""),
        (4.9, None),
        (5.1, ""),
        (GPA * 2.49, "GPa"),
        (GPA * 2.51, ""),
        (GPA / 2.49, "GPa"),
        (GPA / 10 * 2.49, "kbar"),
        (GPA / 10 / 2.49, "kbar"),
        (GPA / 10 / 2.51, ""),
    ],
)
def test_energies_change_by_another_factor_than_stresses_say(value, unit):
    of = pairs(energy=value * 0.01, strain_work=0.01, strain=0.02)
    found = stress_findings([atoms([14, 14], stress=0.01 * np.eye(3), cell=9.0)], of, "set")
    (finding,) = found or [None]
    assert (finding is None) == (unit is None)
    if finding is not None:
        assert finding.kind == "stress-units"
        named = finding.evidence[0].split("the mark of ")
        assert (named[1] if len(named) > 1 else "") == unit


def test_a_stress_that_is_positive_in_compression_has_the_other_sign():
    frames = squeezed(-50 * GPA)
    of = pairs(energy=-0.01, strain_work=0.01, strain=0.02)
    (two,) = stress_findings(frames, of, "set")
    assert (two.kind, two.severity, len(two.evidence)) == ("stress-sign", "error", 2)
    assert "-50 GPa" in two.evidence[1]
    (one,) = stress_findings(frames, pairs(), "set")
    assert one.severity == "warning"
