"""Entries: formulas, files, and what bad ones are told."""

import gzip
import json

import numpy as np
import pytest
from brute_force import structure
from systems import FILES, textbook, totals

from kohn.errors import InputError
from kohn.stability import Entries, Provenance, parse_formula, read_entries
from kohn.stability.entries import (
    composition_keys,
    refuse_energies_per_atom,
    refuse_formation_energies,
    slope_with_size,
)
from kohn.structures import write
from kohn.structures.computed_entries import correction
from kohn.structures.properties import PREDICTED_BY


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("Fe2O3", {"Fe": 2, "O": 3}),
        ("Li4Fe4(PO4)4", {"Li": 4, "Fe": 4, "P": 4, "O": 16}),
        ("Li4 Fe4 P4 O16", {"Li": 4, "Fe": 4, "P": 4, "O": 16}),
        ("K4[Fe(CN)6]3", {"K": 4, "Fe": 3, "C": 18, "N": 18}),
        ("Li0.5CoO2", {"Li": 0.5, "Co": 1, "O": 2}),
        ("CuSO4·5H2O", {"Cu": 1, "S": 1, "O": 9, "H": 10}),
        ("CaSO4.H2O", {"Ca": 1, "S": 1, "O": 5, "H": 2}),
        ("2H2O*NaCl", {"H": 4, "O": 2, "Na": 1, "Cl": 1}),
        ("CO", {"C": 1, "O": 1}),
        ("Co", {"Co": 1}),
        ("Fe0Ni2", {"Ni": 2}),
        ("D2O", {"H": 2, "O": 1}),
        ("(ND4)2SO4", {"N": 2, "H": 8, "S": 1, "O": 4}),
        ("HTO", {"H": 2, "O": 1}),
    ],
)
def test_formulas(text, counts):
    assert parse_formula(text) == counts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no atoms"),
        ("Fe0", "no atoms"),
        ("Xx2O", "'Xx', which is no element"),
        ("Fee2", "cannot be read from 'e2'"),
        ("fe2o3", "cannot be read"),
        ("Fe2(O3", "brackets"),
        ("Fe2)O3", "brackets"),
        ("(Fe]2", "brackets"),
        ("Fe2O3+", "cannot be read"),
        ("CuSO4.5H2O", "hydrate's or a decimal"),
        ("Fe2 3", None),
    ],
)
def test_formulas_that_are_none(text, message):
    if message is None:
        assert parse_formula(text) == {"Fe": 23}
        return
    with pytest.raises(InputError, match=message) as caught:
        parse_formula(text, where="a.csv, line 3")
    assert "a.csv, line 3" in str(caught.value)


def test_the_nearest_element_is_named():
    with pytest.raises(InputError, match="did you mean"):
        parse_formula("Sx2O")


def test_columns():
    e = textbook()
    assert e.elements == ("Fe", "O")
    np.testing.assert_array_equal(e.counts[2], [2, 1])
    np.testing.assert_allclose(e.energies_per_atom[2], (-4 - 0.9) / 3)
    assert e.formulas == ("Fe", "O", "Fe2O", "FeO")
    assert e.systems == ("Fe", "O", "Fe-O", "Fe-O")
    assert Entries.of(["Li0.5CoO2", "Fe4O6"], [-20, -60.0]).formulas == ("LiCo2O4", "Fe2O3")
    assert e.select([3, 0]).ids == ("FeO", "Fe")
    wide = e.over(("Fe", "Li", "O"))
    assert wide.counts.shape == (4, 3)
    assert wide.formulas == e.formulas
    with pytest.raises(InputError, match="elements that the hull lacks: O"):
        e.over(("Fe", "Li"))


def test_mappings_with_oxidation_states():
    e = Entries.of([{"Fe3+": 2, "O2-": 3, "Li": 0}], [-30.0])
    assert (e.elements, e.counts.tolist()) == (("Fe", "O"), [[2, 3]])
    with pytest.raises(InputError, match="-1 atoms"):
        Entries.of([{"Fe": -1}], [-30.0])


@pytest.mark.parametrize(
    ("species", "element"),
    [
        ("Fe3+,spin=5", "Fe"),
        ("Fe,spin=5", "Fe"),
        ("Mn3.5+,spin=-4", "Mn"),
        ("Fe2+spin=4", "Fe"),
        ("D+", "H"),
        ("Dy3+,spin=5", "Dy"),
    ],
)
def test_species_count_as_their_elements(species, element):
    e = Entries.of([{species: 2, "O2-": 3}], [-30.0])
    assert dict(zip(e.elements, e.counts[0].tolist(), strict=True)) == {element: 2, "O": 3}


def test_which_isotopes_were_read_as_hydrogen(tmp_path):
    (tmp_path / "a.csv").write_text("id,formula,energy\nice,H2O,-14\nheavy,D2O,-14.1\nx,Dy,-4\n")
    found = read_entries(tmp_path / "a.csv")
    assert found.isotopes == {"heavy"}
    assert found.formulas == ("H2O", "H2O", "Dy")
    both = Entries.of([{"T+": 1}, {"Dy3+": 1}], [-3.0, -4.0], ids=["t", "y"]).joined(found)
    assert both.isotopes == {"t", "heavy"}


def test_real_json():
    e = read_entries(FILES["Mn_O"])
    assert (len(e), e.elements) == (90, ("Mn", "O"))
    assert set(e.provenance) == {
        Provenance("PBE, PBE+U", "MaterialsProject2020Compatibility", "VASP")
    }
    raw = json.loads(gzip.decompress(FILES["Mn_O"].read_bytes()))
    expected = [d["energy"] + d["correction"] for d in raw]
    np.testing.assert_allclose(e.energies, expected, rtol=1e-14)
    assert not e.unnamed
    assert read_entries(FILES["Fe_Li_O_P"]).elements == ("Fe", "Li", "O", "P")


def test_json_of_other_shapes(tmp_path):
    plain = [{"composition": "Fe2O3", "energy": -30.0, "correction": -1.5}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"entries": plain}))
    e = read_entries([path])
    assert e.energies.tolist() == [-31.5]
    assert len(e.unnamed) == 1
    for bad, message in (({"x": 1}, "no list"), ([{"energy": 1}], "no composition")):
        path.write_text(json.dumps(bad))
        with pytest.raises(InputError, match=message):
            read_entries(path)
    path.write_text("[1,")
    with pytest.raises(InputError, match="not JSON"):
        read_entries(path)
    with pytest.raises(InputError, match="no such file"):
        read_entries(tmp_path / "none.csv")


def test_corrections():
    per_atom = {"adj_per_atom": -0.5, "n_atoms": 4.0}
    warm = {"adj_per_deg": -1e-3, "temp": 300.0, "n_atoms": 2.0}
    both = {"energy_adjustments": [per_atom, warm, {"value": 0.1}]}
    assert correction(both, "here") == pytest.approx(-2.5)
    with pytest.raises(InputError, match="not the sum"):
        correction({**both, "correction": -2.0}, "here")


def test_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ID,Formula,Energy,functional\na,Fe2,-16.0,PBE\n,O2,-9.9,\n")
    e = read_entries(path, provenance=Provenance(scheme="none", source="VASP"))
    assert e.ids[0] == "a"
    assert e.unnamed == {e.ids[1]}
    assert e.provenance[0] == Provenance("PBE", "none needed", "VASP")
    path.write_text("formula,energy_per_atom\nFe2,-8.0\n")
    assert read_entries(path).energies.tolist() == [-16.0]
    path.write_text("formula,formation_energy_per_atom\nFe2O3,-1.0\nFe,0\nO,0\n")
    with pytest.raises(InputError, match="only formation energies"):
        read_entries(path)
    assert read_entries(path, formation=True).energies.tolist() == [-5.0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message", "where"),
    [
        ("formula,energy\nFe2,nan\n", "not finite", "line 2"),
        ("formula,energy\nFe2,-1\nFe3,-inf\n", "1 of 2 entries have an energy", "line 3"),
        ("formula,energy\nFe2,minus\n", "not a number", "line 2"),
        ("formula,energy\nFe2,\n", "not a number", "line 2"),
        ("formula,energy\nXy2,-3\n", "no element", "line 2"),
        ("id,formula,energy\na,Fe2,-3\na,Fe,-2\n", "id is given to several", "line 2 and"),
        ("formula,energy\n", "no entries", "a.csv"),
        ("formel,energy\nFe,1\n", "no column formula", "a.csv"),
        ("formula,energies\nFe,1\n", "no column energy", "a.csv"),
        ("formula,energy,energy_per_atom\nFe,1,1\n", "two columns", "a.csv"),
    ],
)
def test_bad_csv(tmp_path, text, message, where):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_entries(path)
    assert where in str(caught.value.where)
    assert caught.value.fix


def test_structures(tmp_path):
    path = tmp_path / "a.extxyz"
    path.write_text(
        '2\nProperties=species:S:1:pos:R:3 energy=-8.5 id=x1 pbc="F F F"\nFe 0 0 0\nO 0 0 2\n'
        '1\nProperties=species:S:1:pos:R:3 energy=-3.0 pbc="F F F"\nFe 0 0 0\n'
    )
    e = read_entries(path)
    assert (e.ids[0], e.formulas, e.energies.tolist()) == ("x1", ("FeO", "Fe"), [-8.5, -3])
    assert e.structures is not None
    assert len(e.select([1]).structures[0]) == 1
    path.write_text(path.read_text().replace("energy=-3.0 ", ""))
    with pytest.raises(InputError, match="no energy"):
        read_entries(path)


def test_an_element_that_comes_again_in_a_formula_is_added():
    assert parse_formula("CH3COOH") == {"C": 2.0, "H": 4.0, "O": 2.0}
    assert parse_formula("Ca(OH)2H2O") == {"Ca": 1.0, "O": 3.0, "H": 4.0}


def test_formation_energies_are_not_totals():
    formation = {"Fe": 0.0, "O": 0.0, "FeO": -0.4}
    with pytest.raises(InputError, match="look like formation energies"):
        Entries.of(list(formation), list(formation.values()))
    e = Entries.of(list(formation), list(formation.values()), formation=True)
    assert e.energies.tolist() == [0, 0, -0.8]


def test_energies_per_atom_are_not_totals():
    real = read_entries(FILES["Mn_O"])
    formulas = [{s: n for s, n in zip(real.elements, row, strict=True) if n} for row in real.counts]
    with pytest.raises(InputError, match="look like energies per atom"):
        Entries.of(formulas, real.energies_per_atom)
    one_each = [real.compositions.index(c) for c in dict.fromkeys(real.compositions)]
    chosen = [formulas[i] for i in one_each]
    Entries.of(chosen, real.energies[one_each])
    with pytest.raises(InputError, match="grows as N"):
        Entries.of(chosen, real.energies_per_atom[one_each])


@pytest.mark.parametrize(("noise", "refused"), [(0.05, True), (0.5, False)])
def test_a_slope_that_is_not_certain_refuses_nothing(noise, refused):
    """ln|E| on ln N with slope 0.4: below ½ by two standard errors only where it is known well."""
    formulas = [f"H{k}O" for k in range(1, 13)]
    n = np.log(np.arange(2.0, 14.0))
    off = np.where(np.arange(12) % 2, 1.0, -1.0)
    off -= off.mean() + (n - n.mean()) * ((n - n.mean()) @ off) / ((n - n.mean()) @ (n - n.mean()))
    energies = -np.exp(0.4 * n + noise * off)
    if refused:
        with pytest.raises(InputError, match=r"grows as N\^0.40"):
            Entries.of(formulas, energies)
    else:
        slope, error = slope_with_size(Entries.of(formulas, energies))
        assert slope == pytest.approx(0.4)
        assert slope - 2 * error < 0.5 < slope + 2 * error


def test_totals_of_real_compounds_are_totals():
    """Neither rule takes 943 totals, nor any 12 of them, for something else."""
    real = read_entries(FILES["Fe_Li_O_P"])
    for seed in range(200):
        some = real.select(np.random.default_rng(seed).choice(len(real), 12, False))
        refuse_energies_per_atom(some)
        refuse_formation_energies(some)


def test_joined():
    e, more = textbook(), Entries.of(["Li2O"], [-12.0], ids=["Li2O"])
    both = e.joined(more)
    assert (both.elements, len(both)) == (("Fe", "Li", "O"), 5)
    assert both.energies[4] == -12
    with pytest.raises(InputError, match="4 ids are given to several"):
        e.joined(e)
    with pytest.raises(InputError, match="formation energies"):
        e.joined(Entries.of(["Li"], [0.0], formation=True))


def test_lengths():
    with pytest.raises(InputError, match="differ in number"):
        Entries.of(["Fe"], [1.0, 2.0])
    with pytest.raises(InputError, match="no entries"):
        Entries.of([], [])
    assert totals({"FeO": -0.4}) == [-3.8]


def test_objects_that_say_what_their_dict_is_are_read_like_its_file(tmp_path):
    """pymatgen's entries, which Kohn does not import."""

    class Computed:
        def __init__(self, data):
            self.as_dict = lambda: data

    file = FILES["Mn_O"]
    with gzip.open(file, "rt") as stream:
        objects = [Computed(entry) for entry in json.load(stream)]
    found, expected = read_entries(objects), read_entries(file)
    assert found.ids == expected.ids
    assert found.provenance == expected.provenance
    np.testing.assert_array_equal(found.energies, expected.energies)
    assert found.places[3] == "(in memory), entry 3"


def test_totals_that_are_said_to_be_formation_energies():
    Entries.of(["Li", "O", "Li2O"], [0.0, 0.05, -2.0], formation=True)
    with pytest.raises(InputError, match="look like total energies"):
        Entries.of(["Li", "O", "Li2O"], [-1.9, -4.9, -4.8], formation=True)


def test_compositions_are_equal_to_nine_digits():
    apart = np.array([[1 / 3, 2 / 3], [1 / 3 + 1e-4, 2 / 3 - 1e-4], [1 / 3 + 1e-12, 2 / 3], [0, 1]])
    a, b, c, d = composition_keys(apart)
    assert a == c
    assert len({a, b, d}) == 3
    assert composition_keys(np.array([[-0.0, 1.0]])) == [d]


def test_a_prediction_wins_over_the_label_that_stands_beside_it(tmp_path):
    """Of a file that a model wrote both are there: the energy is the model's."""
    file = tmp_path / "predicted.extxyz"
    write(structure([[0, 0, 0], [0, 0, 1]], [1, 1]).with_labels(energy=np.array(-7.0)), file)
    assert read_entries([file]).energies.tolist() == [-7.0]
    text = file.read_text()
    file.write_text(text.replace("REF_energy", f'energy=-9.0 {PREDICTED_BY}="a" REF_energy'))
    assert read_entries([file]).energies.tolist() == [-9.0]
