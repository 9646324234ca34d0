"""Reading: which key gives which label, and what bad files are told."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from kohn.errors import InputError
from kohn.structures import Structure, from_ase, read, to_ase

DATA = Path(__file__).parents[1] / "data"
LATTICE = 'Lattice="3 0 0 0 4 0 0 0 5"'
GOOD = """2
Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-1.5 pbc="F F F"
H 0 0 0 0.1 0 0
O 0 0 1 -0.1 0 0
"""


def frame(comment: str, rows: tuple[str, ...] = ("H 0 0 0", "O 0 0 1")) -> str:
    return f"{len(rows)}\n{comment}\n" + "".join(f"{r}\n" for r in rows)


@pytest.fixture
def given(tmp_path):
    """Write text to a file and return its path."""

    def write_text(text: str, name: str = "data.extxyz") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_text


def test_real_files():
    ethanol, silicon = read(DATA / "ethanol.extxyz"), read(DATA / "silicon.extxyz")
    assert (len(ethanol), ethanol.elements) == (60, (1, 6, 8))
    assert ethanol.sources[0].keys == {
        "energy": {"REF_energy": 60},
        "forces": {"REF_forces": 60},
    }
    assert len(ethanol.sources[0].sha256) == 64
    assert silicon.count("stress") == len(silicon)
    assert silicon[0].labels["stress"].shape == (3, 3)
    assert ethanol[3].place.frame == 3
    assert ethanol[3].place.line == 34
    assert ethanol[0].numbers.dtype == np.int32


@pytest.mark.parametrize(
    ("text", "message", "where"),
    [
        ("", "empty", "data.extxyz"),
        ("\n\n", "no frames", "data.extxyz"),
        ("hello world\n", "not extended XYZ", "frame 0, line 1"),
        (GOOD + "hello\n", "a frame does not start here", "frame 1, line 5"),
        (GOOD + GOOD[:-8], "wrong number of columns", "frame 1, line 8"),
        (GOOD + "\n".join(GOOD.splitlines()[:3]) + "\n", "truncated", "frame 1, line 7"),
        (GOOD + "2\n", "truncated", "frame 1, line 5"),
        (GOOD.replace("2\n", "0\n", 1), "no atoms", "frame 0, line 1"),
        (GOOD + "0\nenergy=1\n", "no atoms", "frame 1, line 5"),
        (GOOD.replace("2\n", "3\n", 1) + GOOD, "wrong number of columns", "frame 0, line 5"),
        (GOOD.replace("0.1 0 0", "0.1 0"), "wrong number of columns", "frame 0, line 3"),
        (GOOD.replace("-0.1 0 0", "-0.1 0 0 0"), "wrong number of columns", "line 4"),
        (GOOD.replace("-0.1 0 0", "-0.1 0 x"), "cannot be read", "frame 0, line 4"),
        (GOOD + GOOD.replace("-0.1", "nan"), "REF_forces is not finite", "frame 1, line 8"),
        (GOOD.replace("=-1.5", "=inf"), "REF_energy is not finite", "frame 0, line 2"),
        (GOOD.replace("=-1.5", "=none"), "not a number", "frame 0, line 2"),
        (GOOD.replace("O 0 0 1", "Q 0 0 1"), "not a chemical element", "frame 0, line 4"),
        (GOOD.replace("O 0 0 1", "O 0 0 nan"), "position is not finite", "frame 0, line 4"),
        (GOOD.replace('"F F F"', '"T T T"'), "zero cell vector", "frame 0, line 2"),
        (frame('Lattice="0 0 0 0 0 0 0 0 0"'), "zero cell vector", "frame 0, line 2"),
        (frame('Lattice="1 0 0 2 0 0 0 0 1"'), "not independent", "frame 0, line 2"),
        (frame('Lattice="1 0 0 2 0 0"'), "Lattice cannot", "frame 0, line 2"),
        (frame("Properties=species:S:1:pos:R"), "Properties", "frame 0, line 2"),
        (frame("Properties=species:S:1:pos:R:2"), "wrong number of columns", "line 3"),
        (frame('REF_forces="1 2 3 4 5 6"'), "wrong shape", "frame 0, line 2"),
        (frame('REF_energy="1 2"'), "wrong shape", "frame 0, line 2"),
        (frame(f'{LATTICE} REF_stress="1 2 3 4"'), "wrong shape", "frame 0, line 2"),
        (frame(f'{LATTICE} stress="1 2 3 4"'), "wrong shape", "frame 0, line 2"),
        (frame(f'{LATTICE} REF_stress="1 2 3 4 5 6 7 8 9"'), "not symmetric", "line 2"),
        (frame("REF_energy=1 config_weight=-1"), "not a weight", "frame 0, line 2"),
    ],
)
def test_bad_files_are_refused_with_the_place(given, text, message, where):
    with pytest.raises(InputError) as caught:
        read(given(text))
    assert message in caught.value.message
    assert str(caught.value.where).endswith(where)
    assert caught.value.fix


def test_not_a_text_file(tmp_path):
    path = tmp_path / "data.xyz"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"not extended XYZ|not a text file"):
        read(path)
    path = tmp_path / "data.unknown"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="format of this file is not known"):
        read(path)


def test_missing_file_suggests_its_neighbour(given):
    path = given(GOOD)
    with pytest.raises(InputError, match=r"did you mean 'data\.extxyz'"):
        read(path.with_name("data.extxy"))


def test_blank_lines_lose_nothing(given):
    assert len(read(given(GOOD + "\n\n" + GOOD + "\n"))) == 2


def test_ref_keys_win_and_what_is_left_is_kept(given):
    data = read(given(frame("energy=-3 REF_energy=-1.5 dihedral=7")))
    assert float(data[0].labels["energy"]) == -1.5
    assert data[0].info["energy"] == -3
    assert data[0].info["dihedral"] == 7
    assert data.sources[0].keys == {"energy": {"REF_energy": 1}}
    assert "the frame also has energy" in data.sources[0].notes[0]


def test_keys_of_the_user(given):
    path = given(frame("REF_energy=-1 mine=-2"))
    data = read(path, keys={"energy": "mine"})
    assert float(data[0].labels["energy"]) == -2
    assert data.sources[0].keys == {"energy": {"mine": 1}}
    with pytest.raises(InputError, match="did you mean 'mine'"):
        read(path, keys={"energy": "mines"})
    with pytest.raises(InputError, match="did you mean 'energy'"):
        read(path, keys={"enrgy": "mine"})


def test_a_scalar_under_the_key_of_atomic_energies_is_refused_with_a_suggestion(given):
    with pytest.raises(InputError, match="did you mean REF_energy"):
        read(given(frame("REF_energies=-1")))


@pytest.mark.parametrize(
    ("comment", "near"),
    [
        ("REF_enery=-1", {"REF_enery": "REF_energy"}),
        ("Ref_Energy=-1", {"Ref_Energy": "REF_energy"}),
        ("REF_energy=-1 REF_enery=-1", {}),
        ("PBE0_atomization_energy=-1", {}),
        ("MD17_energy=-1", {}),
    ],
)
def test_nearly_right_keys_are_remembered(given, comment, near):
    assert read(given(frame(comment))).sources[0].near_keys == near


def test_nearly_right_columns_are_remembered(given):
    text = GOOD.replace("REF_forces", "REF_force")
    assert read(given(text)).sources[0].near_keys == {"REF_force": "REF_forces"}


def test_stress_in_all_spellings(given):
    full = np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]]) / 100
    six, nine = "0.01 0.02 0.03 0.04 0.05 0.06", " ".join(map(str, full.ravel()))
    for key in ("stress", "REF_stress"):
        for text in (six, nine):
            (s,) = read(given(frame(f'{LATTICE} {key}="{text}"')))
            np.testing.assert_array_equal(s.labels["stress"], full)
    (s,) = read(given(frame(f'{LATTICE} REF_stress="_JSON {full.tolist()}"')))
    np.testing.assert_array_equal(s.labels["stress"], full)


@pytest.mark.parametrize("key", ["virial", "REF_virial", "REF_virials"])
def test_virial_becomes_stress(given, key):
    data = read(given(frame(f'{LATTICE} {key}="60 0 0 0 0 0"')))
    np.testing.assert_allclose(data[0].labels["stress"], np.diag([-1.0, 0, 0]), rtol=1e-14)
    assert "virial" not in data[0].labels
    assert data.sources[0].keys == {"stress": {key: 1}}
    assert "stress = -virial / volume" in data.sources[0].notes[0]


def test_stress_and_virial_must_agree(given):
    good = given(frame(f'{LATTICE} stress="-1 0 0 0 0 0" virial="60 0 0 0 0 0"'))
    assert read(good)[0].labels["stress"][0, 0] == -1
    bad = given(frame(f'{LATTICE} stress="1 0 0 0 0 0" virial="60 0 0 0 0 0"'))
    with pytest.raises(InputError, match="contradict"):
        read(bad)
    assert read(bad, keys={"virial": "virial"})[0].labels["stress"][0, 0] == pytest.approx(-1)
    assert read(bad, keys={"stress": "stress"})[0].labels["stress"][0, 0] == 1


def test_energy_and_free_energy_are_kept_apart(given):
    path = given(frame("energy=-1 free_energy=-2"))
    (s,) = read(path)
    assert (float(s.labels["energy"]), float(s.labels["free_energy"])) == (-1, -2)
    data = read(path, energy="free_energy")
    assert float(data[0].labels["energy"]) == float(data[0].labels["free_energy"]) == -2
    assert data.sources[0].keys["energy"] == {"free_energy": 1}
    (s,) = read(given(frame("free_energy=-2")))
    assert "energy" not in s.labels


def test_general_words_that_do_not_fit_are_no_labels(given):
    (s,) = read(given(frame("alpha=90 mu=0.5")))
    assert not s.labels
    assert s.info == {"alpha": 90, "mu": 0.5}


def test_periodic_override(given):
    path = given(frame('Lattice="0 0 0 0 0 0 0 0 0" mu="1 2 3"'))
    (s,) = read(path, periodic=False)
    assert not s.periodic.any()
    np.testing.assert_array_equal(s.labels["dipole"], [1, 2, 3])


def test_weights_of_config_types(given):
    path = given(frame("config_type=a config_weight=2") + frame("config_type=b"))
    assert [s.weight for s in read(path, config_weights={"a": 3.0})] == [6.0, 1.0]
    with pytest.raises(InputError, match="config_type 'aa'"):
        read(path, config_weights={"aa": 3.0})


def test_several_files_and_folders_of_keys(given):
    a, b = given(GOOD, "a.xyz"), given(frame("energy=-1"), "b.xyz")
    data = read([a, b])
    assert [s.file for s in data.sources] == [str(a), str(b)]
    assert [list(s.keys["energy"]) for s in data.sources] == [["REF_energy"], ["energy"]]


def labelled_atoms() -> Atoms:
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1.0]], cell=[4, 5, 6], pbc=True)
    atoms.calc = SinglePointCalculator(
        atoms,
        energy=-3.0,
        free_energy=-3.1,
        forces=np.array([[0, 0, 1.0], [0, 0, -1.0]]),
        stress=np.arange(6) / 10,
    )
    atoms.set_constraint(FixAtoms([0]))
    return atoms


def check_labelled(s: Structure) -> None:
    assert float(s.labels["energy"]) == -3.0
    assert float(s.labels["free_energy"]) == -3.1
    np.testing.assert_array_equal(s.labels["forces"], [[0, 0, 1], [0, 0, -1]])
    assert s.labels["stress"][1, 2] == 0.3


@pytest.mark.parametrize("name", ["x.traj", "x.db", "x.json", "x.extxyz", "x.xyz.gz"])
def test_formats_of_ase_without_constraints_applied(tmp_path, name):
    import ase.io

    path = tmp_path / name
    ase.io.write(
        path,
        [labelled_atoms(), labelled_atoms()],
        **({"format": "extxyz"} if "xyz" in name else {}),
    )
    data = read(path)
    assert len(data) == 2
    for s in data:
        check_labelled(s)


def test_database_rows_with_their_own_keys(tmp_path):
    import ase.db

    path = tmp_path / "x.db"
    with ase.db.connect(path) as database:
        database.write(
            Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]),
            key_value_pairs={"REF_energy": -5.0},
            data={"REF_forces": np.ones((2, 3))},
        )
    (s,) = read(path)
    assert float(s.labels["energy"]) == -5.0
    assert s.labels["forces"].shape == (2, 3)


VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="version" type="string">5.4.4</i></generator>
 <kpoints><varray name="kpointlist"><v>0 0 0</v></varray>
  <varray name="weights"><v>1</v></varray></kpoints>
 <atominfo><atoms>1</atoms><types>1</types>
  <array name="atoms"><field type="string">element</field>
   <set><rc><c>Si</c><c>1</c></rc></set></array></atominfo>
 <structure name="initialpos"><crystal><varray name="basis">
   <v>3 0 0</v><v>0 3 0</v><v>0 0 3</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v></varray></structure>
 <calculation>
  <scstep><energy><i name="e_fr_energy">-5.0</i><i name="e_wo_entrp">-4.8</i>
   <i name="e_0_energy">-4.9</i></energy></scstep>
  <structure><crystal><varray name="basis">
   <v>3 0 0</v><v>0 3 0</v><v>0 0 3</v></varray></crystal>
   <varray name="positions"><v>0 0 0</v></varray></structure>
  <varray name="forces"><v>0.1 0 0</v></varray>
  <varray name="stress"><v>160.21766208 0 0</v><v>0 0 0</v><v>0 0 0</v></varray>
  <energy><i name="e_fr_energy">-5.0</i><i name="e_wo_entrp">-4.8</i>
   <i name="e_0_energy">-4.9</i></energy>
 </calculation>
</modeling>
"""


def test_vasprun(given):
    data = read(given(VASPRUN, "vasprun.xml"))
    (s,) = data
    assert float(s.labels["energy"]) == pytest.approx(-4.9)
    assert float(s.labels["free_energy"]) == pytest.approx(-5.0)
    # 160.2 kbar of VASP is 0.1 eV/Å³, and means that the cell wants to grow.
    assert s.labels["stress"][0, 0] == pytest.approx(-0.1, rel=1e-6)
    assert any("VASP" in note for note in data.sources[0].notes)


def test_atoms_in_memory_and_back():
    atoms = labelled_atoms()
    s = from_ase(atoms)
    check_labelled(s)
    data = read([atoms, atoms])
    assert len(data) == 2
    check_labelled(data[1])
    back = to_ase(s)
    assert back.get_potential_energy() == -3.0
    np.testing.assert_array_equal(back.get_stress(), np.arange(6) / 10)
    check_labelled(from_ase(back))


def test_results_for_other_positions_are_refused():
    atoms = labelled_atoms()
    atoms.positions[0, 0] += 1
    with pytest.raises(InputError, match="for other atoms"):
        from_ase(atoms)


def test_nothing_to_read():
    with pytest.raises(InputError, match="nothing here to read"):
        read([])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("T", [1, 1, 1]), ("1 1 0", [1, 1, 0]), ("F F F", [0, 0, 0])],
)
def test_periodic_flags(given, flags, expected):
    path = given(frame(f'{LATTICE} pbc="{flags}"'))
    assert read(path)[0].periodic.tolist() == expected


@pytest.mark.parametrize("flags", ["maybe", "F F", "2 2 2"])
def test_periodic_flags_that_are_none(given, flags):
    with pytest.raises(InputError, match="pbc cannot be read") as caught:
        read(given(frame(f'{LATTICE} pbc="{flags}"')))
    assert caught.value.where.line == 2


@pytest.mark.parametrize("count", ["²", "９", "9" * 5000])
def test_numbers_of_atoms_that_python_takes_for_digits(given, count):
    with pytest.raises(InputError, match="not extended XYZ"):
        read(given(f"{count}\n" + GOOD.partition("\n")[2]))


def test_a_byte_order_mark_is_no_error(given, tmp_path):
    path = tmp_path / "mark.data"  # recognised without its suffix, too
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert len(read(path)) == 1


def test_damaged_gzip(tmp_path):
    import gzip

    path = tmp_path / "data.xyz.gz"
    for damaged in (b"plain text", gzip.compress(GOOD.encode() * 50)[:-20]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="gzip file is damaged"):
            read(path)


def test_a_named_key_with_the_values_of_atoms(given):
    with pytest.raises(InputError, match="has a value for each atom"):
        read(given(GOOD), keys={"energy": "REF_forces"})
