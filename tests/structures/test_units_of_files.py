"""What programs write in their own units, with their own signs, is read in eV, Å and eV/Å³."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from kohn.structures import from_ase, read, to_ase
from kohn.structures.ase_conversion import voigt

KBAR = 1e8 * 1e-30 / 1.602176634e-19
"""eV/Å³, of the SI."""


def test_a_database_in_rydberg_and_bohr_is_converted(tmp_path):
    """−2 Ry, 0.5 Ry/bohr along x, 3 bohr apart in a cell of 10; stress of 1e-3 Ry/bohr³."""
    atoms = Atoms("H2", positions=[[0, 0, 0], [3.0, 0, 0]], cell=[10.0] * 3, pbc=True)
    data = {
        "energy": np.array([-2.0]),
        "forces": np.array([[0.5, 0, 0], [-0.5, 0, 0]]),
        "stress": 1e-3 * np.eye(3),
    }
    units = {"energy": "Ry", "forces": "Ry/bohr", "stress": "Ry/bohr^3"}
    with connect(tmp_path / "x.db") as db:
        db.metadata = {"_distance_unit": "Bohr", "_property_unit_dict": units}
        db.write(atoms, data=data)
    (s,) = read(tmp_path / "x.db")
    assert float(s.labels["energy"]) == pytest.approx(-27.2113860, rel=1e-7)
    assert s.labels["forces"][0, 0] == pytest.approx(12.8555168, rel=1e-7)
    assert s.labels["stress"][1, 1] == pytest.approx(0.0918157677, rel=1e-7)
    assert s.positions[1, 0] == pytest.approx(1.58753163, rel=1e-7)
    assert s.volume == pytest.approx(148.184711, rel=1e-7)


def test_a_pressure_in_kbar_or_gpa_that_a_database_states_is_converted(tmp_path):
    atoms = Atoms("H", cell=[3.0] * 3, pbc=True)
    for unit, one in (("kbar", KBAR), ("GPa", 10 * KBAR)):
        with connect(tmp_path / f"{unit}.db") as db:
            db.metadata = {"_property_unit_dict": {"stress": unit, "energy": "eV"}}
            db.write(atoms, data={"stress": np.diag([5.0, 6.0, 7.0]), "energy": np.array([-1.0])})
        (s,) = read(tmp_path / f"{unit}.db")
        np.testing.assert_allclose(
            s.labels["stress"], one * np.diag([5.0, 6.0, 7.0]), rtol=1e-7, atol=1e-15
        )


def test_six_numbers_are_xx_yy_zz_yz_xz_xy_both_ways():
    full = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]]) / 100
    np.testing.assert_array_equal(100 * voigt(full), [1, 2, 3, 4, 5, 6])
    atoms = Atoms("H", cell=[2.0, 3.0, 4.0], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, stress=np.arange(1.0, 7.0) / 100)
    s = from_ase(atoms)
    np.testing.assert_array_equal(s.labels["stress"], full)
    np.testing.assert_array_equal(to_ase(s).get_stress(voigt=False), full)


def test_a_virial_of_a_left_handed_cell_is_divided_by_its_volume(tmp_path):
    """det cell = −24 Å³; −virial / 24, with its off-diagonal components."""
    lattice = 'Lattice="0 3 0 2 0 0 0 0 4" pbc="T T T" Properties=species:S:1:pos:R:3'
    virial = 'virial="24 12 6 12 48 3 6 3 -24"'
    path: Path = tmp_path / "x.extxyz"
    path.write_text(f"1\n{lattice} {virial}\nH 0 0 0\n")
    (s,) = read(path)
    expected = -np.array([[24, 12, 6], [12, 48, 3], [6, 3, -24]]) / 24
    np.testing.assert_allclose(s.labels["stress"], expected, rtol=1e-14)
    assert s.volume == pytest.approx(24.0, rel=1e-14)


def test_energies_are_of_the_whole_and_those_of_atoms_are_kept_apart(tmp_path):
    path = tmp_path / "x.extxyz"
    path.write_text(
        "2\nProperties=species:S:1:pos:R:3:REF_energies:R:1 REF_energy=-3.5\n"
        "H 0 0 0 -1.5\nO 0 0 1 -2.0\n"
    )
    (s,) = read(path)
    assert float(s.labels["energy"]) == -3.5
    np.testing.assert_array_equal(s.labels["energies"], [-1.5, -2.0])


def test_a_stress_and_a_virial_may_differ_by_one_percent(tmp_path):
    """V = 10 Å³, stress −1 eV/Å³: virials of 10 (1 ± 0.0099) agree, and of 10 (1 ± 0.0103) not."""
    from kohn.errors import InputError

    lattice = 'Lattice="1 0 0 0 2 0 0 0 5" pbc="T T T" Properties=species:S:1:pos:R:3'
    path = tmp_path / "x.extxyz"
    for off, agrees in ((0.0099, True), (-0.0099, True), (0.0103, False), (-0.0103, False)):
        path.write_text(
            f'1\n{lattice} stress="-1 0 0 0 0 0" virial="{10 * (1 + off)} 0 0 0 0 0"\nH 0 0 0\n'
        )
        if agrees:
            assert read(path)[0].labels["stress"][0, 0] == -1.0
        else:
            with pytest.raises(InputError, match="contradict"):
                read(path)


def test_the_centre_of_mass_is_that_of_ase_and_not_the_centroid():
    """H of 1.008 at 0 and O of 15.999 at 1 Å: 15.999/17.007."""
    atoms = Atoms("HO", positions=[[0, 0, 0], [0, 0, 1.0]])
    centre = from_ase(atoms).centre_of_mass
    np.testing.assert_allclose(centre, [0, 0, 15.999 / 17.007], rtol=1e-12)
    np.testing.assert_allclose(centre, atoms.get_center_of_mass(), rtol=1e-14)
