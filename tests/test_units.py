"""Units are those of ASE to the last bits, and those of CODATA within what its editions differ."""

import ase.units
import pytest

from kohn import units

# The SI since 2019, exact; hartree and bohr of CODATA 2018. Editions differ by some 1e-8.
E, AVOGADRO, LIGHT = 1.602176634e-19, 6.02214076e23, 299792458.0
HARTREE_J, BOHR_M, AMU_KG = 4.3597447222071e-18, 5.29177210903e-11, 1.66053906660e-27


@pytest.mark.parametrize(
    ("ours", "ases"),
    [
        (units.HARTREE, ase.units.Hartree),
        (units.RYDBERG, ase.units.Rydberg),
        (units.BOHR, ase.units.Bohr),
        (units.KCAL_PER_MOL, ase.units.kcal / ase.units.mol),
        (units.KJ_PER_MOL, ase.units.kJ / ase.units.mol),
        (units.GPA, ase.units.GPa),
        (units.KBAR, 1000 * ase.units.bar),
        (units.DEBYE, ase.units.Debye),
        (units.FEMTOSECOND, ase.units.fs),
    ],
)
def test_a_number_converted_here_and_one_converted_with_ase_agree(ours, ases):
    assert ours == pytest.approx(ases, rel=1e-14)


@pytest.mark.parametrize(
    ("ours", "closed"),
    [
        (units.HARTREE, HARTREE_J / E),
        (units.RYDBERG, HARTREE_J / E / 2),
        (units.BOHR, BOHR_M * 1e10),
        (units.KCAL_PER_MOL, 4184 / AVOGADRO / E),
        (units.KJ_PER_MOL, 1000 / AVOGADRO / E),
        (units.GPA, 1e9 * 1e-30 / E),
        (units.KBAR, 1e8 * 1e-30 / E),
        (units.DEBYE, 1e-21 / LIGHT / E * 1e10),
        (units.FEMTOSECOND, 1e-15 / (1e-10 * (AMU_KG / E) ** 0.5)),
    ],
)
def test_units_are_those_of_codata(ours, closed):
    assert ours == pytest.approx(closed, rel=3e-8)


def test_the_pressures_that_people_know():
    """1 eV/Å³ in GPa and in kbar."""
    found = [1 / units.GPA, 1 / units.KBAR]
    assert found == pytest.approx([160.21766, 1602.1766], rel=1e-7)


@pytest.mark.parametrize(
    ("unit", "one"),
    [
        ("eV", 1.0),
        ("meV", 0.001),
        ("Hartree", 27.2113860),
        ("Ha", 27.2113860),
        ("Eh", 27.2113860),
        ("Rydberg", 13.6056930),
        ("Ry", 13.6056930),
        ("kcal/mol", 0.0433641),
        ("kJ/mol", 0.01036427),
        ("Ang", 1.0),
        ("Å", 1.0),
        ("Bohr", 0.52917721),
        ("a0", 0.52917721),
        ("nm", 10.0),
        ("GPa", 0.00624150913),
        ("kbar", 0.000624150913),
        ("kB", 0.000624150913),
        ("Debye", 0.208194334),
        ("Hartree/Bohr", 51.4220670),
        ("Ry/bohr", 25.7110335),
        ("Ry/Bohr^3", 91.8157677),
        ("Hartree/bohr**3", 183.6315353),
        ("kcal/mol/Ang", 0.0433641),
        ("kJ/mol/nm", 0.001036427),
        ("eV/Ang^3", 1.0),
        ("e*Bohr", 0.52917721),
        ("Bohr^3", 0.14818471),
        ("1", 1.0),
        ("", 1.0),
        ("furlong", None),
        ("a.u.", None),
    ],
)
def test_what_one_of_a_unit_is(unit, one):
    assert units.factor(unit) == (None if one is None else pytest.approx(one, rel=2e-7))
