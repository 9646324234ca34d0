"""Phase diagrams: pymatgen's numbers, a textbook, planted faults, and what is degenerate."""

import json
from dataclasses import replace

import numpy as np
import pytest
from systems import FILES, of_pymatgen, textbook, totals

from kohn.errors import InputError
from kohn.stability import (
    ConvexHull,
    ElementalReferences,
    Entries,
    Provenance,
    element_bias,
    read_entries,
)

NAMES = ("Mn_O", "Fe_Li_O_P")


@pytest.fixture(scope="module")
def hulls():
    return {name: ConvexHull(read_entries(FILES[name])) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_all_numbers_of_pymatgen(hulls, name):
    hull, expected = hulls[name], of_pymatgen(name)
    rows = [expected["rows"][i] for i in hull.entries.ids]
    formation, above = ([r[k] for r in rows] for k in ("formation", "above"))
    np.testing.assert_allclose(hull.formation_energies, formation, rtol=0, atol=1e-9)
    np.testing.assert_allclose(hull.e_above_hull, above, rtol=0, atol=1e-9)
    stable = [i for i, ok in zip(hull.entries.ids, hull.stable, strict=True) if ok]
    assert sorted(stable) == expected["stable"]
    for found, row in zip(hull.decompose(hull.entries), rows, strict=True):
        assert found == pytest.approx(row["products"], rel=0, abs=1e-9)


def test_forty_are_stable(hulls):
    assert hulls["Fe_Li_O_P"].stable.sum() == 40


@pytest.mark.parametrize("name", NAMES)
def test_open_to_oxygen(hulls, name):
    expected = of_pymatgen(name)
    grand = hulls[name].grand_potential(expected["open"], temperature=1100.0, pressure=0.2)
    above = [expected["rows"][i]["open"] for i in grand.entries.ids]
    np.testing.assert_allclose(grand.e_above_hull, above, rtol=0, atol=1e-9)
    assert sum("open" in r for r in expected["rows"].values()) == len(above)
    opened = grand.document()["open"]
    assert opened == {"mu": expected["open"], "temperature": 1100.0, "pressure": 0.2}
    candidates = hulls[name].entries.select([0, 7, 20])
    assert grand.distance(candidates).known.all()


def test_decomposition_enthalpies(hulls):
    expected = of_pymatgen("Mn_O")["enthalpies"]
    found = hulls["Mn_O"].decomposition_enthalpy(list(expected))
    np.testing.assert_allclose(found, list(expected.values()), rtol=0, atol=1e-7)  # SLSQP's
    assert sum(v < 0 for v in found) == 4


@pytest.mark.slow
def test_programs_agree_on_real_data(hulls):
    hull = hulls["Fe_Li_O_P"]
    rows = np.arange(0, len(hull.entries), 5)
    x, e = hull.hull.fractions[rows], hull.hull.energies[rows]
    by_program = hull.hull.distance(x, e, "program")
    np.testing.assert_allclose(by_program, hull.distances[rows], rtol=0, atol=1e-10)


def test_textbook():
    """Fe3O2 has x = 0.4, between Fe2O (1/3, -0.3) and FeO (1/2, -0.4): 0.6 and 0.4 of the atoms."""
    hull = ConvexHull(textbook(Fe3O2=-0.3))
    expected = 0.6 * -0.3 + 0.4 * -0.4
    row = hull.row("Fe3O2")
    assert hull.distances[row] == pytest.approx(-0.3 - expected, abs=1e-15)
    assert hull.stable.tolist() == [True, True, True, True, False]
    assert hull.decomposition("Fe3O2") == pytest.approx({"Fe2O": 0.6, "FeO": 0.4}, abs=1e-14)
    assert hull.amounts("Fe3O2") == pytest.approx({"Fe2O": 1.0, "FeO": 1.0}, abs=1e-14)
    assert hull.decomposition_enthalpy(["FeO"])[0] == pytest.approx(-0.4 + 0.3 * 5 / 6, abs=1e-14)
    np.testing.assert_allclose(hull.formation_energies, [0, 0, -0.3, -0.4, -0.3], atol=1e-15)


def test_candidates():
    hull = ConvexHull(textbook())
    below = Entries.of(["Fe3O2", "Fe3O2"], totals({"Fe3O2": -0.5}) * 2, ids=["new", "FeO2"])
    found = hull.distance(below)
    np.testing.assert_allclose(found.values, -0.5 + 0.34, atol=1e-14)
    assert not found.known.any()
    np.testing.assert_allclose(hull.distance(below, method="program").values, found.values)
    assert hull.decompose(below)[0] == pytest.approx({"Fe2O": 0.6, "FeO": 0.4})


def test_a_candidate_in_the_hull_is_left_out_of_its_own():
    hull = ConvexHull(textbook())
    found = hull.distance(textbook())
    assert found.known.all()
    np.testing.assert_allclose(found.values[:2], 0, atol=1e-15)
    assert found.values[3] == pytest.approx(-0.4 + 0.3 * 0.75)
    # the same by composition and energy, in a larger cell with another name
    copy = Entries.of(["Fe4O4"], [totals({"FeO": -0.4})[0] * 4], ids=["copy"])
    again = hull.distance(copy)
    assert again.known.all()
    assert again.values[0] == pytest.approx(found.values[3])
    # by id alone: a model's energy of the same phase
    model = Entries.of(["FeO"], totals({"FeO": -0.35}), ids=["FeO"])
    assert hull.distance(model).values[0] == pytest.approx(-0.35 + 0.225)
    # ids that were made up identify nothing
    nameless = ConvexHull(Entries.of(["Fe", "O", "FeO"], totals({"Fe": 0, "O": 0, "FeO": -0.4})))
    other = Entries.of(["FeO", "FeO", "FeO"], totals({"FeO": -0.3}) * 3)
    assert not nameless.distance(other).known.any()


def test_an_id_of_another_composition():
    with pytest.raises(InputError, match="id of an entry of another composition"):
        ConvexHull(textbook()).distance(Entries.of(["Fe2O"], [-5.0], ids=["FeO"]))


def shifted(entries: Entries, seed: int = 0) -> Entries:
    """E + Σ n_j c_j."""
    c = np.random.default_rng(seed).normal(0, 3.0, len(entries.elements))
    return replace(entries, energies=entries.energies + entries.counts @ c)


@pytest.mark.parametrize("name", NAMES)
def test_offsets_of_all_entries_change_nothing(hulls, name):
    moved = ConvexHull(shifted(hulls[name].entries))
    np.testing.assert_allclose(moved.distances, hulls[name].distances, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        moved.formation_energies, hulls[name].formation_energies, rtol=0, atol=1e-12
    )


def test_offsets_of_candidates_alone_are_found(hulls):
    hull = hulls["Fe_Li_O_P"]
    rng = np.random.default_rng(1)
    c = np.array([0.05, -0.04, 0.03, 0.0])
    noise = rng.normal(0, 0.005, len(hull.entries)) * hull.entries.atoms
    energies = hull.entries.energies + hull.entries.counts @ c + noise
    ids = tuple(f"model {i}" for i in hull.entries.ids)
    candidates = replace(hull.entries, energies=energies, ids=ids)
    assert np.abs(hull.distance(candidates).values - hull.distances).max() > 0.02
    bias = element_bias(candidates, hull.entries)
    assert bias is not None
    assert bias.elements == hull.elements
    # the lowest of several noisy polymorphs is a little lower than the lowest was
    np.testing.assert_allclose(bias.offsets, c, atol=0.005)
    assert (bias.errors < 0.003).all()
    assert bias.detected
    assert bias.after < 0.3 * bias.before
    quiet = replace(candidates, energies=hull.entries.energies + noise)
    unbiased = element_bias(quiet, hull.entries)
    assert unbiased is not None
    assert not unbiased.detected


def test_too_few_compositions_say_nothing_of_offsets(hulls):
    assert element_bias(textbook(), textbook()) is None


def test_polymorphs_duplicates_and_coplanar_phases():
    e = {"Fe": 0.0, "O": 0.0, "FeO": -0.4, "Fe2O2": -0.4, "Fe3O3": -0.35, "Fe3O": -0.2}
    hull = ConvexHull(Entries.of(list(e), totals(e), ids=list(e)))
    # Fe3O lies on the line from Fe to FeO, and is stable; so are both copies of FeO.
    assert hull.stable.tolist() == [True, True, True, True, False, True]
    assert hull.decomposition("Fe3O") == {"Fe3O": 1.0}
    assert hull.decomposition("Fe2O2") == {"Fe2O2": 1.0}
    assert hull.decomposition("Fe3O3") == pytest.approx({"FeO": 1.0})
    assert hull.e_above_hull[4] == pytest.approx(0.05)
    assert hull.decomposition_enthalpy(["Fe2O2", "Fe3O3"]) == pytest.approx(
        [-0.4 + 0.4 / 3, -0.35 + 0.4 / 3]
    )


def test_tolerance():
    loose = ConvexHull(textbook(Fe3O2=-0.3395), tolerance=1e-3)
    assert loose.stable.all()
    assert not ConvexHull(textbook(Fe3O2=-0.3395)).stable.all()


def test_one_element():
    hull = ConvexHull(Entries.of(["Si2", "Si4"], [-10.8, -21.2], ids=["a", "b"]))
    np.testing.assert_allclose(hull.e_above_hull, [0, 0.1], atol=1e-14)
    assert hull.decomposition("b") == {"a": 1.0}
    found = hull.distance(hull.entries)
    np.testing.assert_allclose(found.values, [-0.1, 0.1], atol=1e-14)
    alone = ConvexHull(Entries.of(["Si2"], [-10.8], ids=["a"]))
    assert alone.distance(alone.entries).values.tolist() == [0.0]


def test_seven_elements():
    symbols = ["Al", "Co", "Cr", "Cu", "Fe", "Mn", "Ni"]
    rng = np.random.default_rng(0)
    formulas = [*symbols, *("".join(rng.choice(symbols, k, False)) for k in (2, 3, 4, 5, 7, 7))]
    n = np.array([sum(c.isupper() for c in f) for f in formulas])
    energies = -4.0 * n - 0.1 * rng.random(len(n)) * n * (n > 1)
    hull = ConvexHull(Entries.of(formulas, energies, ids=[str(i) for i in range(len(n))]))
    planes = hull.hull.distance(hull.hull.fractions, hull.hull.energies, "facets")
    np.testing.assert_allclose(hull.distances, planes, atol=1e-10)
    assert hull.stable[:7].all()
    assert hull.distance(hull.entries).known.all()


def test_missing_elements():
    with pytest.raises(InputError, match="there is none of O") as caught:
        ConvexHull(Entries.of(["Fe", "FeO", "Fe2O2"], [-1, -3.8, -7.6]))
    assert "add O computed in the same way" in str(caught.value)
    with pytest.raises(InputError, match="none of Fe, O"):
        ConvexHull(Entries.of(["FeO"], [-3.8]))


def test_given_references(tmp_path):
    path = tmp_path / "mu.json"
    path.write_text(json.dumps({"Fe": -1.0, "O": -2.0}))
    compounds = textbook().select([2, 3])
    for given in ({"Fe": -1.0, "O": -2.0}, path):
        hull = ConvexHull(compounds, ElementalReferences.given(given))
        assert hull.entries.ids == ("Fe2O", "FeO", "reference:Fe", "reference:O")
        np.testing.assert_allclose(hull.formation_energies, [-0.3, -0.4, 0, 0], atol=1e-14)
        np.testing.assert_allclose(hull.e_above_hull, 0, atol=1e-14)
    # Where the elements have entries, references move formation energies but no distance.
    other = ConvexHull(textbook(), ElementalReferences.given({"Fe": -1.5, "O": -2.5}))
    np.testing.assert_allclose(other.distances, 0, atol=1e-14)
    np.testing.assert_allclose(other.formation_energies, [0.5, 0.5, 0.2, 0.1], atol=1e-14)
    with pytest.raises(InputError, match="no reference energy of O"):
        ConvexHull(compounds, ElementalReferences.given({"Fe": -1.0}))
    csv = tmp_path / "mu.csv"
    csv.write_text("element,energy\nFe,-1\nO,-2\n")
    assert ElementalReferences.given({"Fe3+,spin=5": -1.0, "D": -3.0}).elements == ("Fe", "H")
    with pytest.raises(InputError, match="two energies of Fe"):
        ElementalReferences.given({"Fe3+": -1.0, "Fe": -1.0})
    assert ElementalReferences.given(csv).energies.tolist() == [-1, -2]
    csv.write_text("metal,energy\nFe,-1\n")
    with pytest.raises(InputError, match="cannot be read"):
        ElementalReferences.given(csv)
    for bad, message in (({"Qq": 1.0}, "no element"), ({"Fe": np.nan}, "not finite")):
        with pytest.raises(InputError, match=message):
            ElementalReferences.given(bad)


def test_formation_energies_as_they_are():
    e = {"Fe2O": -0.3, "FeO": -0.4, "Fe3O2": -0.3}
    entries = Entries.of(list(e), list(e.values()), ids=list(e), formation=True)
    hull = ConvexHull(entries)
    whole = ConvexHull(textbook(Fe3O2=-0.3))
    np.testing.assert_allclose(hull.distances[:3], whole.distances[2:], atol=1e-14)
    np.testing.assert_allclose(hull.formation_energies, [*e.values(), 0, 0], atol=1e-15)
    # formation energies beside totals, and the other way
    renamed = replace(entries, ids=("a", "b", "c"))
    found = ConvexHull(textbook()).distance(renamed)
    assert found.known.tolist() == [True, True, False]
    assert found.values[2] == pytest.approx(0.04)
    with pytest.raises(InputError, match="formation energies, but"):
        hull.distance(textbook())
    with pytest.raises(InputError, match="need no references"):
        ConvexHull(entries, ElementalReferences.given({"Fe": 0, "O": 0}))


def test_candidates_that_are_formation_energies_by_mistake(hulls):
    hull = hulls["Fe_Li_O_P"]
    rows = np.flatnonzero((hull.entries.counts > 0).sum(axis=1) > 2)[:50]
    some = hull.entries.select(rows)
    wrong = hull.formation_energies[rows] * some.atoms
    candidates = replace(some, energies=wrong, ids=tuple(f"new {i}" for i in some.ids))
    with pytest.raises(InputError, match="look like formation energies"):
        hull.distance(candidates)


def test_elements_that_the_hull_lacks():
    with pytest.raises(InputError, match="1 of 2 entries have elements that the hull lacks: Li"):
        ConvexHull(textbook()).distance(Entries.of(["FeO", "LiFeO2"], [-3.8, -12]))


def test_open_elements_by_hand():
    """At μ_O = -2 (that of O) the corner Fe is FeO: φ = (E − μ_O n_O)/n_Fe, -1 − 0.8 eV."""
    hull = ConvexHull(textbook())
    grand = hull.grand_potential({"O": -2.0})
    assert grand.elements == ("Fe",)
    assert grand.entries.ids == ("Fe", "Fe2O", "FeO")
    np.testing.assert_allclose(grand.entries.energies_per_atom, [-1, -1.45, -1.8], atol=1e-14)
    np.testing.assert_allclose(grand.e_above_hull, [0.8, 0.35, 0], atol=1e-14)
    assert grand.formulas == ("Fe", "Fe2O", "FeO")
    assert grand.to_rows()[1]["decomposition"] == {"FeO": 1.0}
    new = Entries.of(["Fe3O2"], totals({"Fe3O2": -0.5}), ids=["new"])
    assert grand.distance(new).values[0] == pytest.approx(-1 - 5 * 0.5 / 3 + 1.8)
    for bad in ({}, {"Li": -1.0}, {"O": np.nan}, {"Fe": -1.0, "O": -2.0}):
        with pytest.raises(InputError, match="cannot be open"):
            hull.grand_potential(bad)
    with pytest.raises(InputError, match="open elements only"):
        grand.distance(Entries.of(["O2"], [-4.0]))


def test_documents(hulls):
    document = json.loads(json.dumps(hulls["Mn_O"].document()))
    assert document["elements"] == ["Mn", "O"]
    assert document["provenance"][0]["entries"] == 90
    row = next(r for r in document["entries"] if not r["stable"])
    assert sum(row["decomposition"].values()) == pytest.approx(1)
    assert set(row) == {
        "id",
        "formula",
        "formation_energy_per_atom",
        "e_above_hull",
        "stable",
        "decomposition",
    }
    with pytest.raises(InputError, match="no entry has this id"):
        hulls["Mn_O"].decomposition("mp-0")


def test_allowed_mixtures_are_recorded():
    e = textbook()
    mixed = replace(e, provenance=(Provenance("PBE"), *[Provenance("r2SCAN")] * 3))
    with pytest.raises(InputError, match="functionals differ"):
        ConvexHull(mixed)
    document = ConvexHull(mixed, allow_mixed=True).document()
    assert document["conflicts"]
