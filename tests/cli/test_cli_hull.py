"""`kohn hull` as its users meet it."""

import json
from pathlib import Path

import pytest

from kohn.cli.hulls import page_document
from kohn.tables import blocks, columns_of

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
    (tmp_path / "water.csv").write_text("formula,energy\nD2O,-14.3\n")
    code, _, said = kohn_cli("hull", "water.csv")
    assert code == 2
    assert "none of H, O" in said
    assert "deuterium and tritium count as H" in said


LONG = "a candidate :factory: of a [bold]file[/bold] with a long name, line 12"
"""A name that is too long, and has what rich would make something else of."""


def test_a_terminal_of_80_columns(ab, kohn_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / ("a-long-folder-" * 5)
    folder.mkdir()
    file = folder / "candidates.csv"
    file.write_text(f'id,formula,energy\n,Li1.234O1.5,-9.1\n"{LONG}",Li3O2,-15\n:pig:,Li7O3,-24\n')
    code, out, said = kohn_cli("hull", ab, "--candidates", file, "--plot", folder / "hull.html")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    first = next(line for line in out.splitlines() if line.startswith("Li3O2"))
    # (−15 + 6 + 10)/5 = 0.2, above 3/5 of −2 and 2/5 of −1.75.
    assert first.split("0.2000     2.1000  ")[1].strip() in (
        "0.400 LiO + 0.600 Li2O",
        "0.600 Li2O + 0.400 LiO",
    )
    assert "…" in first
    assert ", line 12" in first
    assert ":pig:" in out
    assert all(text in out for text in ("falls into", "from hull", "E_f", "eV/atom"))
    assert f"wrote {folder / 'hull.html'}" in said


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_table_is_written(ab, kohn_cli, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "new.csv").write_text("id,formula,energy\np,Li2O2,-22\nq,Li4O,-16\nx,Li2O,-15\n")
    out = tmp_path / f"table{suffix}"
    code, text, said = kohn_cli("hull", ab, "--candidates", "new.csv", "-o", out, "--json")
    assert code == 0
    assert f"wrote {out}" in said
    document = json.loads(text)
    names = ["id", "formula", "formation_energy_per_atom", "distance", "e_above_hull", "stable"]
    names += ["in_hull", "decomposition"]
    assert columns_of(out) == names
    block = next(iter(blocks(out, names)))[0]
    assert list(block["id"]) == [r["id"] for r in document["candidates"]]
    assert [float(v) for v in block["distance"]] == [r["distance"] for r in document["candidates"]]
    assert [v in (True, "true") for v in block["in_hull"]] == [True, False, False]
    assert block["decomposition"][1] == "1 LiO (y)"
    code, _, error = kohn_cli("hull", ab, "-o", out)
    assert code == 2
    assert "exists already" in error


def test_without_candidates_all_entries_are_written(ab, kohn_cli, tmp_path):
    code, _, _ = kohn_cli("hull", ab, "-o", "all.csv")
    assert code == 0
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert lines[0] == "id,formula,formation_energy_per_atom,e_above_hull,stable,decomposition"
    start, falls = lines[-1].rsplit(",", 1)
    assert start == "z,Li3O,-0.5,1.0,false"
    assert set(falls.split(" + ")) == {"0.25 Li (a)", "0.75 Li2O (x)"}
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("out", "said"),
    [("table.html", "neither CSV nor Parquet"), ("none/table.csv", "folder of the output file")],
)
def test_outputs_that_are_refused(ab, kohn_cli, out, said):
    code, _, error = kohn_cli("hull", ab, "-o", out)
    assert code == 2
    assert said in error


def test_candidates_of_a_hull_that_is_open(ab, kohn_cli, tmp_path):
    """φ = (E − μ n_O) over closed atoms; compositions are those of closed elements."""
    (tmp_path / "c.csv").write_text("id,formula,energy\nc,C,-7\no,LiCO3,-30\n")
    (tmp_path / "new.csv").write_text("id,formula,energy\np,Li2O2,-18\nq,Li4C2O7,-70\n")
    command = ("hull", ab, "c.csv", "--candidates", "new.csv", "--open", "O=-5", "--json")
    code, out, _ = kohn_cli(*command, "--plot", "open.html")
    assert code == 0
    rows = {r["id"]: r for r in json.loads(out)["candidates"]}
    # Of closed atoms: p is all lithium, at (−18 + 10)/2 = −4; q is 2/3 lithium.
    assert rows["p"]["fractions"] == {"Li": 1.0}
    assert rows["q"]["fractions"] == pytest.approx({"C": 1 / 3, "Li": 2 / 3}, abs=1e-15)
    lowest = min((-15 + 5) / 2, (-10.5 + 5) / 1, (-13 + 5) / 3, -2.0)
    assert rows["p"]["formation_energy_per_atom"] == pytest.approx(-4 - lowest, abs=1e-12)


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


def test_formation_energies_are_those_of_candidates_too(kohn_cli, tmp_path):
    """Li2O at −2 eV/atom, and LiO at −1.6 is 0.1 below the line to O, where it is −1.5."""
    (tmp_path / "formed.csv").write_text("id,formula,energy\na,Li,0\nb,O,0\nx,Li2O,-2\n")
    (tmp_path / "new.csv").write_text("id,formula,energy\np,LiO,-1.6\n")
    command = ("hull", "formed.csv", "--candidates", "new.csv", "--formation", "--json")
    code, out, said = kohn_cli(*command)
    assert code == 0, said
    (row,) = json.loads(out)["candidates"]
    assert row["distance"] == pytest.approx(-0.1, abs=1e-12)
    assert row["formation_energy_per_atom"] == pytest.approx(-1.6, abs=1e-12)


def test_shares_of_entries_of_one_formula_are_added():
    """In the picture decompositions are by formula, of which there may be several entries."""
    entries = [{"id": i, "formula": f, "decomposition": {}} for i, f in (("a", "Li"), ("b", "Li"))]
    falls = {"id": "c", "formula": "LiO", "in_hull": False, "decomposition": {"a": 0.25, "b": 0.5}}
    drawn = page_document({"entries": entries, "candidates": [falls]})
    assert drawn["entries"][-1]["decomposition"] == {"Li": 0.75}
    assert [e["candidate"] for e in drawn["entries"]] == [False, False, True]
