"""Files that ASE reads, where its readers invent or drop: LAMMPS, CIF, PDB, databases, VASP."""

from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from kohn.errors import InputError
from kohn.structures import read
from kohn.units import BOHR, HARTREE, KCAL_PER_MOL

DATA_FOLDER = Path(__file__).parents[1] / "data"
DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp ff
0 4
0 5
0 6
ITEM: ATOMS id type element x y z fx fy fz
2 2 Al 2 2 2 0.5 0 0
1 1 Cu 0 0 0 -0.5 0 0
"""
DATA = """LAMMPS data file via write_data, units = {units}

2 atoms
2 atom types
0 4 xlo xhi
0 5 ylo yhi
0 6 zlo zhi

Masses

1 63.546
2 26.98

Atoms # atomic

1 1 0 0 0
2 2 2 2 2
"""
CIF = """data_x
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c 4.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{sites}
"""


@pytest.fixture
def given(tmp_path):
    def write(name: str, text: str):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def refusal(path, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        read(path, **options)
    assert caught.value.fix
    return caught.value


def test_a_dump_has_forces_and_no_energy(given):
    (s,) = data = read(given("md.lammpstrj", DUMP))
    assert set(s.labels) == {"forces"}
    assert s.symbols == ["Cu", "Al"]
    assert s.labels["forces"][:, 0].tolist() == [-0.5, 0.5]
    assert s.periodic.tolist() == [True, True, False]
    assert any("no energy" in note for note in data.sources[0].notes)
    assert any("metal" in note for note in data.sources[0].notes)


@pytest.mark.parametrize(("units", "force"), [("real", 0.5 * KCAL_PER_MOL), ("metal", 0.5)])
def test_units_of_a_dump(given, units, force):
    text = DUMP.replace("ITEM: TIMESTEP", f"ITEM: UNITS\n{units}\nITEM: TIMESTEP", 1)
    (s,) = read(given("md.lammpstrj", text))
    assert s.labels["forces"][1, 0] == pytest.approx(force, rel=1e-6)


def test_units_that_are_none(given):
    text = DUMP.replace("ITEM: TIMESTEP", "ITEM: UNITS\nlj\nITEM: TIMESTEP", 1)
    assert "units lj" in str(refusal(given("md.lammpstrj", text)).received)


def test_types_are_no_elements(given):
    text = DUMP.replace(" element", "").replace(" Al", "").replace(" Cu", "")
    error = refusal(given("md.lammpstrj", text))
    assert "which elements its types are" in error.message
    assert "dump_modify" in str(error.fix)
    text = (
        DATA.format(units="metal").split("Masses")[0] + "Atoms # atomic\n\n1 1 0 0 0\n2 2 2 2 2\n"
    )
    assert "Masses" in str(refusal(given("x.lammps-data", text)).expected)


def test_elements_by_masses(given):
    (s,) = data = read(given("x.lammps-data", DATA.format(units="metal")))
    assert s.symbols == ["Cu", "Al"]
    assert any("masses" in note for note in data.sources[0].notes)


@pytest.mark.parametrize("kind", ["species:S:1", "species:I:1"])
def test_types_in_extended_xyz(given, kind):
    error = refusal(given("x.xyz", f"2\nProperties={kind}:pos:R:3\n1 0 0 0\n2 0 0 2\n"))
    assert "numbers: types" in error.message
    assert str(error.where).endswith("line 3")
    (s,) = read(given("z.xyz", "2\nProperties=Z:I:1:pos:R:3\n1 0 0 0\n8 0 0 1\n"))
    assert s.symbols == ["H", "O"]


@pytest.mark.parametrize(
    "sites",
    ["Cu1 Cu 0 0 0 0.6\nAl1 Al 0 0 0 0.4", "Cu1 Cu 0 0 0 1.0\nAl1 Al 0.5 0.5 0.5 0.5"],
)
def test_shared_and_partial_sites(given, sites):
    error = refusal(given("x.cif", CIF.format(sites=sites)))
    assert "disordered" in error.message
    for labels in ("usable", "none"):
        assert (
            "disordered" in refusal(given("x.cif", CIF.format(sites=sites)), labels=labels).message
        )


def test_full_sites(given):
    sites = "Cu1 Cu 0 0 0 1.0\nAl1 Al 0.5 0.5 0.5 1.0"
    (s,) = read(given("x.cif", CIF.format(sites=sites)))
    assert sorted(s.symbols) == ["Al", "Cu"]


@pytest.mark.parametrize(
    ("occupancy", "ordered"), [("1.00", True), ("0.00", True), ("0.50", False)]
)
def test_occupancies_of_pdb(given, occupancy, ordered):
    row = f"HETATM    1 CU   CU  A   1       0.000   0.000   0.000  {occupancy}  0.00          CU\n"
    path = given("x.pdb", row + "END\n")
    if ordered:
        assert read(path)[0].symbols == ["Cu"]
    else:
        assert "disordered" in refusal(path).message


@pytest.fixture
def database(tmp_path):
    """Three frames of EMT in other units."""

    def write(metadata: dict, energy: float, force: float, length: float, name: str = "x.db"):
        with ase.db.connect(tmp_path / name) as db:
            db.metadata = metadata
            for seed in range(3):
                atoms = bulk("Cu", cubic=True)
                atoms.rattle(0.1, seed=seed)
                atoms.calc = EMT()
                data = {
                    "energy": np.array([atoms.get_potential_energy() / energy]),
                    "forces": atoms.get_forces() / force,
                }
                scaled = Atoms(
                    atoms.numbers, atoms.positions / length, cell=atoms.cell / length, pbc=True
                )
                db.write(scaled, data=data)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("metadata", "scales"),
    [
        (
            {
                "_distance_unit": "Bohr",
                "_property_unit_dict": {"energy": "Hartree", "forces": "Hartree/Bohr"},
            },
            (HARTREE, HARTREE / BOHR, BOHR),
        ),
        (
            {
                "_distance_unit": "Ang",
                "_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Ang"},
            },
            (KCAL_PER_MOL, KCAL_PER_MOL, 1.0),
        ),
        ({}, (1.0, 1.0, 1.0)),
    ],
)
def test_units_that_a_database_states_are_converted(database, metadata, scales):
    data = read(database(metadata, *scales))
    for seed, s in enumerate(data):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        np.testing.assert_allclose(s.positions, atoms.positions, atol=1e-12)
        np.testing.assert_allclose(s.cell, atoms.cell, atol=1e-12)
        np.testing.assert_allclose(s.labels["energy"], atoms.get_potential_energy(), atol=1e-9)
        np.testing.assert_allclose(s.labels["forces"], atoms.get_forces(), atol=1e-9)
    converted = [note for note in data.sources[0].notes if "converted from" in note]
    assert bool(converted) == (scales[0] != 1.0)


def test_units_that_nobody_knows(database):
    metadata = {"_property_unit_dict": {"energy": "furlong"}}
    error = refusal(database(metadata, 1.0, 1.0, 1.0))
    assert "for energy" in error.message
    assert "furlong" in str(error.received)


def test_results_in_a_database_are_converted_too(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    energy = atoms.get_potential_energy()
    with ase.db.connect(tmp_path / "x.db") as db:
        db.metadata = {"_property_unit_dict": {"energy": "kcal/mol", "gap": "meV"}}
        db.write(atoms, key_value_pairs={"gap": 250.0})
    (s,) = read(tmp_path / "x.db")
    assert float(s.labels["energy"]) == pytest.approx(energy * KCAL_PER_MOL)
    assert s.info["gap"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("comment", "received"),
    [
        ("REF_energy=-40.5 Hartree", "Hartree"),
        ("energy=-12.0 kcal/mol", "kcal/mol"),
        ("energy=-0.5 a.u.", "a.u."),
        ("REF_energy=-40.5 energy_unit=Hartree", "energy_unit=Hartree"),
        ("REF_energy=-40.5 units=kcal/mol", "units=kcal/mol"),
        ("length_unit=bohr", "length_unit=bohr"),
    ],
)
def test_units_that_a_frame_states(given, comment, received):
    assert received in str(refusal(given("x.xyz", f"1\n{comment}\nH 0 0 0\n")).received)


def test_kohns_own_units_may_be_stated(given):
    comment = "REF_energy=-13.6 eV energy_unit=eV length_unit=Angstrom units=metal"
    assert float(read(given("x.xyz", f"1\n{comment}\nH 0 0 0\n"))[0].labels["energy"]) == -13.6


def test_ghosts_are_refused_everywhere(tmp_path):
    frames = [Atoms("CuX", [[0, 0, 0], [0, 0, 2]]), Atoms("Cu")]
    for name in ("x.traj", "x.db"):
        ase.io.write(tmp_path / name, frames)
        error = refusal(tmp_path / name)
        assert "not a chemical element" in error.message
        assert "ghost" in str(error.received)
        assert "frame 0" in str(error.where)
    assert "ghost" in str(refusal(frames).received)


def test_rows_without_atoms(tmp_path):
    with ase.db.connect(tmp_path / "x.db") as db:
        db.write(Atoms("Cu"))
        db.reserve(name="later")
    error = refusal(tmp_path / "x.db")
    assert "no atoms" in error.message
    assert "frame 1" in str(error.where)
    assert "no atoms" in refusal([Atoms()]).message


def test_steps_of_a_machine_learned_force_field():
    """Its second calculation has no electronic steps: VASP writes such ones with ML_LMLFF."""
    error = refusal(DATA_FOLDER / "vasprun_ml.xml")
    assert "machine-learned force field" in error.message
    assert "frame 1" in str(error.where)
