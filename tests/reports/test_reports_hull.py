"""The page of a hull: names and counts are the table's, and it can be read on small screens."""

import json
import re

import numpy as np
import pytest
from test_reports_browser import browser, measured
from test_reports_page import Page, figures_in

from kohn.reports.formulas import decomposition, subscripts
from kohn.reports.hull import hull_page
from kohn.reports.hull_figures import face, hull_figures
from kohn.reports.labels import places_of_names
from kohn.tables import shortened

assert browser  # a fixture
NASTY = "</script><img src=x onerror=alert(1)>&amp;"


def entry(formula, fractions, height=0.0, candidate=False, name=None) -> dict:
    """A row of the document of `hull_page`."""
    found = {
        "id": name or f"mp-{formula}",
        "formula": formula,
        "fractions": fractions,
        "formation_energy_per_atom": -1.0 + height,
        "e_above_hull": max(0.0, height),
        "stable": height <= 0,
        "decomposition": {formula: 1.0},
        "candidate": candidate,
    }
    return found | ({"distance": height} if candidate else {})


def ternary(many: int = 0) -> dict:
    """A, B, C, their compounds AB and ABC2 on the hull, others above it, three candidates."""
    entries = [entry(e, {e: 1.0}) for e in ("A", "B", "C")]
    entries += [entry("AB", {"A": 0.5, "B": 0.5}), entry("ABC2", {"A": 0.25, "B": 0.25, "C": 0.5})]
    rng = np.random.default_rng(0)
    for k in range(10 + many):
        x = rng.dirichlet((1, 1, 1)).tolist()
        entries.append(entry(f"A{k}B2C3", dict(zip("ABC", x, strict=True)), 0.1, name=f"up-{k}"))
    entries += [
        entry("AC2", {"A": 1 / 3, "C": 2 / 3}, -0.0123, True, name="new-" + "long-" * 20 + "one"),
        entry("B2C", {"B": 2 / 3, "C": 1 / 3}, 0.05, True, name=NASTY),
        entry("BC3", {"B": 0.25, "C": 0.75}, 0.07, True),
    ]
    lines = [[0, 3], [1, 3], [0, 4], [1, 4], [2, 4], [3, 4], [0, 2], [1, 2]]
    return {"elements": ["A", "B", "C"], "entries": entries, "tie_lines": lines, "remarks": []}


def quaternary(many: int = 0) -> dict:
    """The same with D, and ABCD on the hull."""
    document = ternary(many)
    document["entries"] += [entry("D", {"D": 1.0}), entry("ABCD", dict.fromkeys("ABCD", 0.25))]
    n = len(document["entries"])
    lines = [*document["tie_lines"], *([k, n - 1] for k in (0, 1, 2, 4, n - 2)), [0, n - 2]]
    return document | {"elements": list("ABCD"), "tie_lines": lines}


def legend(figure: dict) -> dict[str, str]:
    """Name -> shape of what is in the legend."""
    shown = [t for t in figure["data"] if t.get("showlegend", True)]
    return {t["name"]: t["marker"].get("symbol", "circle") for t in shown}


def test_counts_and_names_are_those_of_the_tables(tmp_path):
    page = Page(hull_page(ternary(), tmp_path))
    assert "5 of 15 entries are stable. 1 of 3 candidates is" not in page.text
    assert "5 of 15 entries are stable. 1 of 3 candidates are on the hull or below it." in page.text
    figure = figures_in(page)["hull-A-B-C"]
    assert legend(figure) == {
        "above the hull (10)": "circle",
        "stable (5)": "circle",
        "candidate above the hull (2)": "diamond-open",
        "candidate on the hull or below it (1)": "diamond",
    }
    for caption in ("Candidates (3)", "Stable (5)", "Above the hull (10)"):
        assert caption in page.text
    rows = sum(tag == "tr" for tag, _ in page.tags)
    assert rows == 18 + 3  # and heads
    assert "−0.0123" in page.text
    names = {n for t in figure["data"] for n in t.get("text", ())}
    assert {"AC<sub>2</sub>", "B<sub>2</sub>C", "ABC<sub>2</sub>", "<b>A</b>"} <= names
    assert not any(re.match("A.B<sub>2</sub>C", n) for n in names)  # nothing above the hull
    told = "".join(t for trace in figure["data"] for t in trace.get("customdata", ()))
    assert "0.0123 eV/atom below the hull" in told
    assert "candidate mp-BC3" in told


def test_names_cannot_break_the_page_and_long_ones_keep_their_ends(tmp_path):
    page = Page(hull_page(ternary(), tmp_path))
    assert not any(tag == "img" for tag, _ in page.tags)
    long = ternary()["entries"][-3]["id"]
    assert shortened(long, 22) in page.text
    assert shortened(long, 22).endswith("-long-one")
    assert any(a.get("title") == long for tag, a in page.tags if tag == "code")
    assert "<img" not in json.dumps(figures_in(page))


def test_a_tetrahedron_and_its_faces():
    document = quaternary()
    whole, *faces = hull_figures(document)
    assert [f.key for f in faces] == [f"hull-{'-'.join(e)}" for e in ("ABC", "ABD", "ACD", "BCD")]
    assert {t["type"] for t in whole.data} == {"scatter3d"}
    hidden = [t["name"] for t in whole.data if t.get("visible") == "legendonly"]
    assert hidden == ["above the hull (10)"]
    # On a face is what has its elements alone; what coexists there does so in the whole.
    assert face(document, "ABC") == {k: v for k, v in ternary().items() if k != "remarks"}
    on = face(document, "ABD")
    assert {e["formula"] for e in on["entries"]} == {"A", "B", "AB", "D"}
    pairs = [{on["entries"][k]["formula"] for k in pair} for pair in on["tie_lines"]]
    assert pairs == [{"A", "AB"}, {"B", "AB"}, {"A", "D"}]


def test_what_is_far_above_the_hull_does_not_flatten_it():
    entries = [entry(e, {e: 1.0}) | {"formation_energy_per_atom": 0.0} for e in "AB"]
    entries += [entry("AB", {"A": 0.5, "B": 0.5}, 50.0)]
    document = {"elements": ["A", "B"], "entries": entries, "tie_lines": [[0, 1]]}
    (figure,) = hull_figures(document)
    assert figure.layout["yaxis"]["range"][1] < 1
    assert "1 beyond the axis" in figure.note
    assert "above the hull (1)" in legend({"data": figure.data})


@pytest.mark.parametrize("elements", ["A", "ABCDE"])
def test_hulls_without_a_picture_say_so(tmp_path, elements):
    entries = [entry(e, {e: 1.0}) for e in elements]
    document = {"elements": list(elements), "entries": entries, "tie_lines": [], "remarks": []}
    page = Page(hull_page(document, tmp_path))
    assert "Hulls of two to four elements have a picture" in page.text
    assert f"Stable ({len(elements)})" in page.text


def test_names_do_not_lie_on_each_other():
    rng = np.random.default_rng(1)
    at, others = rng.uniform(0, 300, (40, 2)), rng.uniform(0, 300, (30, 2))
    names = ["Li3Fe2P3O12"] * 40
    places = places_of_names(at, names, others)
    assert places[0] is not None
    assert 3 < sum(p is not None for p in places) < 40
    one = np.array([[0.0, 0.0]])
    assert places_of_names(one, ["Li2O"], np.array([[0.0, 12.0]])) == ["top center"]
    assert places_of_names(one.repeat(9, 0), ["Li2O"] * 9, at[:0])[8] is None
    assert places_of_names(one[:0], [], others) == []


def test_formulas_have_subscripts():
    assert subscripts("Li4Fe4(PO4)4") == "Li<sub>4</sub>Fe<sub>4</sub>(PO<sub>4</sub>)<sub>4</sub>"
    assert subscripts("CuSO4·5H2O") == "CuSO<sub>4</sub>·5H<sub>2</sub>O"
    assert subscripts("Li0.5CoO2") == "Li<sub>0.5</sub>CoO<sub>2</sub>"
    assert subscripts("<b>2") == "&lt;b&gt;2"
    told = "0.25 Li2O (mp-19) + 0.75 FeO (a b2)"
    assert decomposition(told) == "0.25 Li<sub>2</sub>O (mp-19) + 0.75 FeO (a b2)"
    assert decomposition("") == ""


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(("width", "most"), [(420, 6000), (1280, 4500)])
def test_pages_fit_their_screens(browser, tmp_path, width, most):
    found = measured(browser, hull_page(quaternary(900), tmp_path), width)
    assert found["drawn"] == "5"
    assert found["width"] <= width
    assert found["height"] < most
    above = found["said"][2]
    assert "down for all 500 rows" in above
    assert ("sideways" in above) == (width == 420)
