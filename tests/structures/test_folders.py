"""A folder of calculations: what is taken, what is left, and that both are said."""

import json
import shutil
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from rich.console import Console

from kohn.checks import check
from kohn.errors import InputError
from kohn.structures import read, scan
from kohn.structures.folders import _repeats

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def folder(tmp_path):
    """Two calculations, a trajectory, a broken file, and what lies about."""
    top = tmp_path / "calculations"
    for name in ("a/relax", "b", "c", ".hidden"):
        (top / name).mkdir(parents=True)
    text = (DATA / "vasprun_ml.xml").read_text()
    steps = text.split("<calculation>")
    computed = "<calculation>".join(steps[:2]) + "</modeling>"  # without the second step
    (top / "a/relax/vasprun.xml").write_text(computed)
    (top / "a/relax/OUTCAR").write_text("vasp.6.4\n")
    (top / "a/relax/POSCAR").write_text("x\n1\n1 0 0\n0 1 0\n0 0 1\nCu\n1\nDirect\n0 0 0\n")
    (top / "a/INCAR").write_text("NSW = 3\n")
    (top / ".hidden/vasprun.xml").write_text(computed)
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.get_forces()
    ase.io.write(top / "b/md.traj", [atoms, atoms])
    lines = (DATA / "ethanol.extxyz").read_text().splitlines()
    (top / "c/ethanol.extxyz").write_text("\n".join(lines[:33]) + "\n")
    return top


def test_what_is_taken_and_left(folder):
    data = read(folder)
    taken = [Path(source.file).relative_to(folder).as_posix() for source in data.sources]
    assert taken == ["a/relax/vasprun.xml", "b/md.traj", "c/ethanol.extxyz"]
    assert [source.frames for source in data.sources] == [1, 2, 3]
    left = {Path(x.file).name: x.reason for x in data.unread}
    assert set(left) == {"INCAR", "OUTCAR", "POSCAR"}
    assert "same calculation" in left["OUTCAR"]
    assert not any(x.broken for x in data.unread)
    assert [len(s) for s in scan(folder)] == [len(s) for s in data]


def test_a_broken_file_is_left_and_said(folder):
    (folder / "d.extxyz").write_text("3\nenergy=-1\nH 0 0 0\n")
    data = read(folder)
    (broken,) = [x for x in data.unread if x.broken]
    assert Path(broken.file).name == "d.extxyz"
    assert "truncated" in broken.reason
    assert "line" in broken.reason
    (finding,) = check(folder).of_kind("file-left-out")
    assert finding.severity == "warning"
    assert "d.extxyz" in str(finding.where[0])


def test_check_says_it(folder, capsys):
    report = check(folder)
    left = report.to_json()["sets"][0]["left"]
    assert {Path(x["file"]).name for x in left} >= {"OUTCAR", "POSCAR"}
    Console(width=200).print(report)
    text = capsys.readouterr().out
    assert "Files" in text
    assert "not read: the same calculation as vasprun.xml" in text


def test_folders_of_structures_alone(tmp_path):
    for k in range(2):
        ase.io.write(tmp_path / f"{k}.cif", bulk("Cu", cubic=True))
    (tmp_path / "notes.txt").write_text("nothing\n")
    data = read(tmp_path, labels="none")
    assert len(data) == 2
    assert [Path(x.file).name for x in data.unread] == ["notes.txt"]


@pytest.mark.parametrize("files", [(), ("notes.txt",)])
def test_folders_without_anything(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("nothing\n")
    with pytest.raises(InputError, match="nothing that can be read") as caught:
        read(tmp_path)
    assert "vasprun" in str(caught.value.expected)


def test_nothing_that_can_be_read(tmp_path):
    for name in ("a.xyz", "b.xyz"):
        (tmp_path / name).write_text("3\n\nH 0 0 0\n")
    with pytest.raises(InputError, match="no file of the folder can be read"):
        read(tmp_path)


def test_second_copies(folder):
    shutil.copy(folder / "a/relax/vasprun.xml", folder / "a/relax/vasprun.xml.bak")
    assert sum(source.file.endswith("vasprun.xml") for source in read(folder).sources) == 1


def test_pymatgen_structures(tmp_path):
    site = {"species": [{"element": "Cu", "occu": 1}], "abc": [0, 0, 0]}
    lattice = {"matrix": [[3.6, 0, 0], [0, 3.6, 0], [0, 0, 3.6]]}
    structure = {"@class": "Structure", "lattice": lattice, "sites": [site]}
    water = {
        "@class": "Molecule",
        "sites": [
            {"species": [{"element": e, "occu": 1}], "xyz": list(map(float, x))}
            for e, x in zip("OHH", molecule("H2O").positions, strict=True)
        ],
    }
    document = {"material_id": "mp-1", "structure": structure, "energy_per_atom": -3.7}
    for name, data in {
        "one": structure,
        "list": [structure, structure],
        "molecule": water,
        "documents": [document],
        "entries": {"entries": [document, structure]},
    }.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(data))
        found = read(path)
        assert not any(s.labels for s in found)
        assert len(found) == (2 if name in ("list", "entries") else 1)
    assert read(tmp_path / "documents.json")[0].info["id"] == "mp-1"
    assert not read(tmp_path / "molecule.json")[0].periodic.any()


def test_an_entry_without_its_energy_is_no_structure(tmp_path):
    entry = {"@class": "ComputedStructureEntry", "structure": {"sites": [], "lattice": {}}}
    (tmp_path / "x.json").write_text(json.dumps([entry]))
    with pytest.raises(InputError, match="no composition and no energy"):
        read(tmp_path / "x.json")


class OfPymatgen:
    """What Kohn sees of one of pymatgen's objects."""

    def as_dict(self):
        site = {"species": [{"element": "Cu", "occu": 1}], "abc": [0, 0, 0]}
        lattice = {"matrix": [[3.6, 0, 0], [0, 3.6, 0], [0, 0, 3.6]]}
        return {"@class": "Structure", "lattice": lattice, "sites": [site]}


def test_objects_of_pymatgen():
    assert read([OfPymatgen(), OfPymatgen()], labels="none")[1].symbols == ["Cu"]
    assert read(OfPymatgen())[0].volume == pytest.approx(3.6**3)


def test_structures_are_scanned_without_periodic_flags_where_that_is_wished(folder):
    for periodic in (None, False):
        flags = [s.periodic.any() for s in scan(folder / "b" / "md.traj", periodic=periodic)]
        assert flags == [periodic is None] * 2


def test_an_outcar_is_left_for_the_vasprun_of_its_own_step(tmp_path):
    """OUTCAR.1 beside vasprun.xml.1, and none beside that of step 2."""
    for name in ("OUTCAR.1", "vasprun.xml.1", "OUTCAR.3", "vasprun.xml.2", "vasprun.xml.2.gz"):
        (tmp_path / name).write_text("x")
    taken = [tmp_path / n for n in sorted(p.name for p in tmp_path.iterdir())]
    assert {p.name for p in _repeats(taken)} == {"OUTCAR.1", "vasprun.xml.2.gz"}
