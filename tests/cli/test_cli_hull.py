"""`kohn hull` as its users meet it."""

import json
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data" / "phase_diagrams"


@pytest.fixture
def ab(tmp_path):
    """A2B and AB on the hull of A and B, A3B above it."""
    file = tmp_path / "ab.csv"
    file.write_text("id,formula,energy\na,Li,-2\nb,O,-5\nx,Li2O,-15\ny,LiO,-10.5\nz,Li3O,-13\n")
    return file


def test_a_document_with_all_that_is_asked_for(ab, kohn_cli):
    code, out, _ = kohn_cli("hull", ab, "--json")
    assert code == 0
    document = json.loads(out)
    by_id = {e["id"]: e for e in document["entries"]}
    assert {k for k, e in by_id.items() if e["stable"]} == {"a", "b", "x", "y"}
    # E_f(Li2O) = (−15 + 4 + 5)/3 = −2; Li3O is 3/4 Li2O + 1/4 Li by atoms: −1.5, itself −0.5.
    assert by_id["x"]["formation_energy_per_atom"] == pytest.approx(-2.0, abs=1e-12)
    assert by_id["z"]["e_above_hull"] == pytest.approx(1.0, abs=1e-12)
    assert by_id["z"]["decomposition"] == pytest.approx({"x": 0.75, "a": 0.25}, abs=1e-12)


def test_candidates_are_judged_and_drawn(ab, kohn_cli, tmp_path):
    (tmp_path / "new.csv").write_text("id,formula,energy\np,Li2O2,-22\nq,Li4O,-16\nx,Li2O,-15\n")
    command = ("hull", ab, "--candidates", "new.csv", "--plot", "hull.html", "--json")
    code, out, said = kohn_cli(*command)
    assert code == 0
    rows = {r["id"]: r for r in json.loads(out)["candidates"]}
    # LiO at −11 instead of −10.5: 0.25 eV an atom below; Li2O is in the hull as x.
    assert rows["p"]["distance"] == pytest.approx(-0.25, abs=1e-12)
    assert rows["p"]["stable"]
    assert rows["x"]["in_hull"]
    assert rows["x"]["distance"] < 0
    assert "left out of their own hull" in said
    page = (tmp_path / "hull.html").read_text()
    assert "Li – O" in page
    assert "candidate" in page


def test_heavy_water_is_water_and_it_is_said(kohn_cli, tmp_path):
    (tmp_path / "water.csv").write_text("id,formula,energy\na,H2,-6\nb,O2,-10\nx,D2O,-14.3\n")
    code, out, said = kohn_cli("hull", "water.csv", "--json")
    assert code == 0
    assert [e["formula"] for e in json.loads(out)["entries"]] == ["H", "O", "H2O"]
    assert "Deuterium and tritium are read as hydrogen, whose energy is the same (1: x)" in said


def test_a_real_phase_diagram(kohn_cli):
    code, out, _ = kohn_cli("hull", DATA / "Mn_O_entries.json.gz")
    assert code == 0
    assert "6 of 90 entries stable" in out
    code, out, _ = kohn_cli("hull", DATA / "Mn_O_entries.json.gz", "--open", "O=-5.5", "--json")
    assert code == 0
    assert json.loads(out)["open"]["mu"] == {"O": -5.5}


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("id,formula,energy\na,Xx2,-1\n", (), "Xx"),
        ("id,formula,energy\na,Li,-1\na,O,-2\n", (), "id is given to several"),
        ("id,formula,energy\na,Li,nan\nb,O,-1\n", (), "not finite"),
        ("id,formula,energy\na,Li2O,-15\n", (), "Li"),
        ("id,formula,energy\na,Li,-2\nb,O,-5\n", ("--open", "O=high"), "not a number"),
        ("id,formula,energy\na,Li,-2\nb,O,-5\n", ("--open", "N=-8"), "cannot be open"),
        ("", (), "formula"),
    ],
)
def test_bad_input_is_refused(text, arguments, said, kohn_cli, tmp_path):
    (tmp_path / "bad.csv").write_text(text)
    code, _, error = kohn_cli("hull", "bad.csv", *arguments)
    assert code == 2
    assert said in error


def test_another_way_of_computing_is_refused_unless_allowed(kohn_cli, tmp_path):
    head = "id,formula,energy,functional\n"
    (tmp_path / "hull.csv").write_text(head + "a,Li,-2,PBE\nb,O,-5,PBE\nx,Li2O,-15,PBE\n")
    (tmp_path / "new.csv").write_text(head + "y,LiO,-9,r2SCAN\n")
    code, _, said = kohn_cli("hull", "hull.csv", "--candidates", "new.csv")
    assert code == 2
    assert "r2SCAN" in said
    command = ("hull", "hull.csv", "--candidates", "new.csv", "--allow-mixed", "--json")
    code, out, said = kohn_cli(*command)
    assert code == 0
    assert "Mixed, as allowed" in said
    assert any("r2SCAN" in r for r in json.loads(out)["remarks"])
