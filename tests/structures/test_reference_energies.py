"""E0s: given, of isolated atoms, or fitted, and honest about which."""

from pathlib import Path

import numpy as np
import pytest

from kohn.errors import InputError
from kohn.structures import Dataset, Structure, is_isolated_atom, read, reference_energies

DATA = Path(__file__).parents[1] / "data"
E0 = {1: -13.5, 6: -1027.0, 8: -2038.0}


def molecule(numbers, energy=None, *, config_type="Default", cell=None, periodic=False):
    n = len(numbers)
    return Structure(
        numbers=np.array(numbers, dtype=np.int32),
        positions=np.arange(3.0 * n).reshape(n, 3),
        cell=np.zeros((3, 3))
        if cell is None
        else np.eye(3) * cell
        if np.ndim(cell) < 2
        else np.array(cell, float),
        periodic=np.broadcast_to(periodic, 3).copy(),
        labels={} if energy is None else {"energy": np.array(energy)},
        config_type=config_type,
    )


def made_of(*compositions):
    return [molecule(c, sum(E0[z] for z in c)) for c in compositions]


ATOMS = [molecule([z], e) for z, e in E0.items()]


def test_given():
    data = Dataset(tuple(made_of([1, 1, 8])))
    e0s = reference_energies(data, {"H": -13, 8: -2040, "C": 0})
    assert (e0s.values, e0s.source, e0s.warning) == ({1: -13.0, 6: 0.0, 8: -2040.0}, "given", None)
    assert e0s.total(data[0]) == -2066.0
    with pytest.raises(InputError, match="lack O"):
        reference_energies(data, {"H": -13})
    with pytest.raises(InputError, match="not a chemical element"):
        reference_energies(data, {"Hx": -13})


def test_isolated_atoms_in_the_data_or_beside_it():
    data = Dataset(tuple(made_of([1, 1, 8])))
    for e0s in (
        reference_energies(Dataset((*data, *ATOMS))),
        reference_energies(data, isolated=Dataset(tuple(ATOMS))),
    ):
        assert e0s.values[8] == -2038.0
        assert (e0s.source, e0s.warning) == ("isolated atoms", None)


@pytest.mark.parametrize(
    ("structure", "isolated"),
    [
        (molecule([1]), True),
        (molecule([1], config_type="isolated_atom", cell=3.0, periodic=True), True),
        (molecule([1], config_type="IsolatedAtom", cell=3.0, periodic=True), True),
        (molecule([1], cell=12.0, periodic=True), True),
        (molecule([1], cell=3.0, periodic=True), False),
        (molecule([1, 1]), False),
        # The nearest of the images counts, at 10 Å and beyond.
        (molecule([1], cell=[12, 3, 12], periodic=True), False),
        (molecule([1], cell=[12, 12, 9.99], periodic=True), False),
        (molecule([1], cell=[12, 12, 10.0], periodic=True), True),
        (molecule([1], cell=[12, 3, 12], periodic=[True, False, True]), True),
        (molecule([1], cell=[12, 3, 12], periodic=[True, True, False]), False),
        # 12 Å and 12.04 Å long, and 1 Å apart.
        (molecule([1], cell=[[12, 0, 0], [12, 1, 0], [0, 0, 12]], periodic=True), False),
        (molecule([1], cell=[[12, 0, 0], [24, 0, 0], [0, 0, 12]], periodic=True), False),
        (molecule([1], cell=0.0, periodic=True), False),
        # Along the diagonals of cubes of 13 Å: 11.3 Å apart.
        (molecule([1], cell=6.5 * (np.ones((3, 3)) - 2 * np.eye(3)), periodic=True), True),
    ],
)
def test_what_an_isolated_atom_is(structure, isolated):
    assert is_isolated_atom(structure) == isolated


def test_isolated_atoms_may_differ_by_a_tenth_of_a_millielectronvolt():
    known = molecule([1], -13.5)
    e0s = reference_energies(Dataset((known, molecule([1], -13.5 + 0.9e-4))))
    assert e0s.values == {1: -13.5}
    with pytest.raises(InputError, match="different energies"):
        reference_energies(Dataset((known, molecule([1], -13.5 + 1.1e-4))))


def test_a_fit_is_of_energies_per_atom_by_hand():
    """H₂ of −4, −2 an atom, and H₄ of −12, −3 an atom: the same weight gives −2.5."""
    e0s = reference_energies(Dataset((molecule([1, 1], -4.0), molecule([1] * 4, -12.0))))
    assert e0s.values == pytest.approx({1: -2.5}, abs=1e-12)


def test_isolated_atoms_that_cannot_be():
    with pytest.raises(InputError, match="different energies"):
        reference_energies(Dataset((ATOMS[0], molecule([1], -12.0))))
    with pytest.raises(InputError, match="several atoms"):
        reference_energies(Dataset((molecule([1, 1], -1.0, config_type="isolated_atom"),)))


def test_least_squares_is_exact_where_it_can_be_and_warns():
    data = Dataset(tuple(made_of([1, 1, 8], [6, 8], [6, 1, 1, 1, 1], [1, 1])))
    e0s = reference_energies(data)
    assert e0s.values == pytest.approx(E0, abs=1e-9)
    assert e0s.source == "least squares"
    assert "fitted" in e0s.warning


def test_one_composition_determines_one_offset():
    data = read(DATA / "ethanol.extxyz")
    e0s = reference_energies(data)
    assert "one composition (C2H6O)" in e0s.warning
    mean = np.mean([float(s.labels["energy"]) for s in data])
    assert e0s.total(data[0]) == pytest.approx(mean, abs=1e-9)
    assert e0s.values[1] == pytest.approx(e0s.values[8])  # the same for every atom


def test_isolated_atoms_for_some_elements():
    data = Dataset((*made_of([1, 1, 8], [6, 8], [6, 6, 1, 1]), ATOMS[0]))
    e0s = reference_energies(data)
    assert e0s.values == pytest.approx(E0, abs=1e-9)
    assert e0s.values[1] == -13.5
    assert e0s.source == "isolated atoms and least squares"
    assert e0s.sources == {1: "isolated atoms", 6: "least squares", 8: "least squares"}
    assert "E0 of C, O" in e0s.warning


def test_compositions_that_leave_something_open():
    e0s = reference_energies(Dataset(tuple(made_of([6, 8], [6, 6, 8, 8], [6, 8, 1, 1]))))
    assert "determine only 2 of 3" in e0s.warning


def test_no_energies():
    with pytest.raises(InputError, match="nothing to fit"):
        reference_energies(Dataset((molecule([1, 1]),)))
