"""Entries of pymatgen read as structures: real ones, and what bad ones are told."""

import gzip
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

import kohn
from kohn.errors import InputError
from kohn.stability import read_entries
from kohn.structures import to_ase

FILE = Path(__file__).parents[1] / "data" / "phase_diagrams" / "Fe_Li_O_P_structures.json.gz"
PYMATGEN = {
    "mp-13": (-8.47000845, 11.453776235839058, 0.0),
    "mp-1960": (-14.950600479999999, 25.279818687680972, 2.329421),
    "mp-1008925": (-16.80745027, 33.6493489979624, 2.5286708660080004),
    "mp-1181437": (-14.27529511, 98.2365765156388, 1.812126),
    "mp-26181": (-83.43983467, 120.47028591597712, 3.636045720218069),
}
"""energy (eV), volume (Å³) and the largest distance (Å) by pymatgen 2026.10.16."""


def raw():
    return json.loads(gzip.decompress(FILE.read_bytes()))


@pytest.fixture
def given(tmp_path):
    """Writes what it is given, and says where."""

    def write(data, name="entries.json"):
        path = tmp_path / name
        path.write_text(json.dumps(data))
        return path

    return write


def test_real_entries_are_as_pymatgen_has_them():
    data = kohn.read(FILE)
    assert [s.info["id"] for s in data] == list(PYMATGEN)
    for s, entry in zip(data, raw(), strict=True):
        energy, volume, distance = PYMATGEN[s.info["id"]]
        assert float(s.labels["energy"]) == pytest.approx(energy, abs=1e-12)
        assert s.volume == pytest.approx(volume, rel=1e-12)
        assert to_ase(s).get_all_distances(mic=True).max() == pytest.approx(distance, abs=1e-9)
        xyz = [site["xyz"] for site in entry["structure"]["sites"]]
        np.testing.assert_allclose(s.positions, xyz, atol=1e-6)
        assert s.periodic.all()
        assert {e: s.symbols.count(e) for e in s.symbols} == entry["composition"]


def test_what_is_recorded():
    data = kohn.read(FILE)
    source = data.sources[0]
    assert source.keys == {"energy": {"energy": 5}}
    assert (source.frames, len(source.sha256)) == (5, 64)
    assert "with their corrections" in source.notes[0]
    assert source.other_keys == ()
    scheme = "MaterialsProject2020Compatibility"
    said = [tuple(s.info.get(c) for c in ("functional", "scheme", "source")) for s in data]
    assert said[:2] == [("PBE", "none", "VASP"), ("PBE", scheme, "VASP")]
    assert said[3] == ("PBE+U", scheme, "VASP")
    assert (data[3].place.file, data[3].place.frame) == (str(FILE), 3)


def test_hulls_have_the_same(tmp_path, given):
    """By way of structures, and of a file that Kohn wrote of them."""
    data, entries = kohn.read(FILE), read_entries(FILE)
    assert entries.structures is not None
    for s, energy, same in zip(data, entries.energies, entries.structures, strict=True):
        assert float(s.labels["energy"]) == pytest.approx(energy, abs=1e-12)
        np.testing.assert_array_equal(s.positions, same.positions)
        assert same.labels["energy"] == s.labels["energy"]
    zeros = [e | {"energy": 0.0, "correction": 0.0, "energy_adjustments": []} for e in raw()]
    formation = read_entries(given(zeros), formation=True).structures
    assert formation is not None
    assert "energy" not in formation[0].labels, "it would be taken for a total energy"
    kohn.write(data, tmp_path / "copy.extxyz")
    copy = read_entries(tmp_path / "copy.extxyz")
    assert (copy.ids, copy.provenance) == (entries.ids, entries.provenance)
    np.testing.assert_allclose(copy.energies, entries.energies, atol=1e-12)


def test_other_ways_to_write_them(given):
    entries = raw()
    assert len(kohn.read(given({"entries": entries}))) == 5
    entry = entries[1]  # Li2O
    expected = kohn.read(FILE)[1]
    entry["composition"] = {"Li+": 2, "O2-": 1}
    for site, species in zip(entry["structure"]["sites"], ("Li+", "Li+", "O2-"), strict=True):
        site["species"] = [{"element": species, "occu": 1.0}]
        del site["abc"]
    (s,) = kohn.read(given([entry]))
    np.testing.assert_allclose(s.positions, expected.positions, atol=1e-9)
    assert s.symbols == expected.symbols
    entry["composition"] = "Li2O"
    assert kohn.read(given([entry]))[0].symbols == expected.symbols
    entry["composition"] = {"Li+": 1, "Li0+": 1, "O2-": 1}
    assert len(kohn.read(given([entry]))) == 1


def test_species_may_have_spins(given):
    """As pymatgen writes decorated structures: str(Species) in compositions and labels."""
    iron = {"element": "Fe", "oxidation_state": 2, "spin": 4, "occu": 1}
    heavy = {"element": "D", "oxidation_state": 1, "spin": None, "occu": 1}
    file = given(
        [
            {
                "composition": {"Fe2+,spin=4": 1.0, "Fe3+,spin=5": 1.0, "D+": 1.0},
                "energy": -14.0,
                "structure": {
                    "lattice": {"matrix": (4 * np.eye(3)).tolist()},
                    "sites": [
                        {"species": [iron], "abc": [0, 0, 0], "label": "Fe2+,spin=4"},
                        {"species": [{"element": "Fe3+,spin=5", "occu": 1}], "abc": [0.5, 0, 0]},
                        {"species": [heavy], "abc": [0, 0.5, 0]},
                    ],
                },
            }
        ]
    )
    assert kohn.read(file)[0].symbols == ["Fe", "Fe", "H"]
    found = read_entries(file)
    assert found.formulas == ("Fe2H",)
    assert found.structures is not None


def test_periodic_flags(given):
    entry = raw()[1]
    assert not kohn.read(given([entry]), periodic=False)[0].periodic.any()
    entry["structure"]["lattice"]["pbc"] = [True, True, False]
    assert kohn.read(given([entry]))[0].periodic.tolist() == [True, True, False]


def set_at(*path):
    """Puts the last at the path before it; None removes."""
    *keys, last, value = path

    def plant(entry):
        for key in keys:
            entry = entry[key]
        if value is None:
            del entry[last]
        else:
            entry[last] = value

    return plant


HALF = [{"element": "Li", "occu": 0.5}]
SHARED = [{"element": "Li", "occu": 0.5}, {"element": "Fe", "occu": 0.5}]
SITES = ("structure", "sites")


@pytest.mark.parametrize(
    ("plant", "message", "where"),
    [
        (set_at("structure", None), "no structure", "entry 1"),
        (set_at("energy", None), "no energy", "entry 1"),
        (set_at("composition", None), "no composition", "entry 1"),
        (set_at("composition", "Li-O"), "composition cannot be read", "entry 1"),
        (set_at("energy", "low"), "energy is not a number", "entry 1"),
        (set_at("energy", float("nan")), "label energy is not finite", "frame 1"),
        (set_at("correction", -9.0), "not the sum", "entry 1"),
        (set_at(*SITES, 1, "species", HALF), "disordered", "entry 1, site 1"),
        (set_at(*SITES, 1, "species", SHARED), "disordered", "entry 1, site 1"),
        (set_at(*SITES, 0, "species", None), "disordered", "entry 1, site 0"),
        (set_at(*SITES, 0, "species", 0, "occu", "full"), "disordered", "entry 1, site 0"),
        (set_at(*SITES, 2, "species", 0, "element", "Xx"), "not a chemical", "entry 1, site 2"),
        (set_at("structure", "lattice", None), "lattice", "entry 1"),
        (set_at("structure", "lattice", "matrix", None), "lattice", "entry 1"),
        (set_at("structure", "lattice", "matrix", 0, 1, float("inf")), "lattice", "entry 1"),
        (set_at("structure", "lattice", "matrix", 0, [0, 0, 0]), "zero cell", "frame 1"),
        (set_at("structure", "lattice", "pbc", [True]), "lattice", "entry 1"),
        (set_at(*SITES, 2, "abc", [0, 0]), "coordinates of a site", "entry 1, site 2"),
        (set_at(*SITES, 2, "abc", [0, 0, float("nan")]), "coordinates", "entry 1, site 2"),
        (set_at(*SITES, 2, None), "not the atoms of the composition", "entry 1"),
        (set_at(*SITES, None), "not the atoms of the composition", "entry 1"),
        (set_at("composition", {"Li": 4, "O": 2}), "not the atoms", "entry 1"),
        (set_at("composition", {"Li": 2, "S": 1}), "not the atoms", "entry 1"),
    ],
)
def test_bad_entries_are_refused_with_the_place(given, plant, message, where):
    entries = raw()
    plant(entries[1])
    path = given(entries)
    with pytest.raises(InputError, match=message) as caught:
        kohn.read(path)
    assert str(caught.value.where) == f"{path}, {where}"
    assert caught.value.fix


def test_plain_entries_and_molecules_are_told_apart(given):
    plain = deepcopy(raw()[:1])
    del plain[0]["structure"]
    plain[0]["@class"] = "ComputedEntry"
    with pytest.raises(InputError, match="no structure") as caught:
        kohn.read(given(plain))
    assert caught.value.received == "ComputedEntry"
    molecule = {"sites": [{"species": [{"element": "Fe", "occu": 1}], "xyz": [0, 0, 0]}]}
    plain[0]["structure"] = molecule
    with pytest.raises(InputError, match="lattice") as caught:
        kohn.read(given(plain))
    assert "molecules as extended XYZ" in caught.value.fix


@pytest.mark.parametrize(
    "plant",
    [
        set_at("structure", None),
        set_at(*SITES, 1, "species", SHARED),
        set_at("composition", {"Li": 4, "O": 2}),
    ],
)
def test_hulls_need_no_structures(given, plant):
    """Absent, disordered, or of another cell than the energy: the energy is used all the same."""
    entries = raw()
    plant(entries[1])
    found = read_entries(given(entries))
    assert len(found) == 5
    assert found.structures is None


def test_hulls_refuse_atoms_that_contradict_the_composition(given):
    entries = raw()
    entries[1]["composition"] = {"Li": 2, "P": 1}
    with pytest.raises(InputError, match="not the atoms") as caught:
        read_entries(given(entries))
    assert "entry 1" in str(caught.value.where)


def test_json_that_has_no_entries(given, tmp_path):
    with pytest.raises(InputError, match="format of this file is not known"):
        kohn.read(given({"x": 1}))
    with pytest.raises(InputError, match="no frames"):
        kohn.read(given([]))
    text, cut = tmp_path / "cut.json", tmp_path / "cut.json.gz"
    text.write_text(json.dumps(raw())[:-200])
    cut.write_bytes(FILE.read_bytes()[:-200])
    for reader, path in ((kohn.read, text), (read_entries, text), (read_entries, cut)):
        with pytest.raises(InputError, match="not JSON") as caught:
            reader(path)
        assert str(caught.value.where) == str(path)
    with pytest.raises(InputError, match="gzip file is damaged"):
        kohn.read(cut)
