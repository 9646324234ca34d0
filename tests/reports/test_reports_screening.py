"""The page of a screening: its figures hold what the table says, and no name can break it."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr
from test_reports_browser import browser, open_page
from test_reports_page import Page, figures_in

from kohn import tables
from kohn.calibration import calibration
from kohn.errors import InputError
from kohn.records import to_json
from kohn.reports import ranked as reading
from kohn.reports.hull_figures import hull_figure
from kohn.reports.ranked import read_ranked
from kohn.reports.screening import screening_page, yield_table
from kohn.reports.screening_figures import screening_figures
from kohn.stability.metrics import stability_metrics
from kohn.tables import write_table

assert browser  # a fixture
NASTY = "</script><img src=x onerror=alert(1)>&amp;@accent"
D = (-0.02, 0.0, 0.03, 0.1, 0.25)
SIGMA = 0.05


def columns(distance=D, *, sigma: float | None = SIGMA, labels=None, ids=None) -> dict:
    """A ranked table, by hand."""
    d = np.asarray(distance, float)
    found = {
        "rank": np.arange(1, len(d) + 1),
        "id": list(ids or (f"m{k}" for k in range(len(d)))),
        "formula": ["Li2O"] * len(d),
        "distance": d,
        "stable": d <= 1e-8,
        "in_hull": np.zeros(len(d), bool),
    }
    if sigma is not None:
        p = np.where(np.isnan(d), np.nan, ndtr(-d / sigma))
        spread = np.where(np.isnan(d), np.nan, sigma)
        found |= {"distance_std": spread, "probability_stable": p}
        found |= {"distance_95": d + 1.6448536269514722 * spread}
    if labels is not None:
        found["distance_labelled"] = np.asarray(labels, float)
    found["decomposition"] = ["0.5 Li (mp-1) + 0.5 LiO (mp-2)"] * len(d)
    found["problem"] = ["no energy" if bad else "" for bad in np.isnan(d)]
    return found


def summary_of(table: dict, remarks=()) -> dict:
    """What `kohn screen --json` prints of it."""
    d = table["distance"]
    p, truth = table.get("probability_stable"), table.get("distance_labelled")
    metrics = None
    if truth is not None:
        known = np.isfinite(truth)
        metrics = asdict(stability_metrics(truth[known], d[known], threshold=1e-8))
        metrics["compared"] = int(known.sum())
        if p is not None and (told := known & np.isfinite(p)).any():
            metrics["mean_z2"] = 0.5
            metrics["calibration"] = asdict(calibration(p[told], truth[told] <= 1e-8))
    rows = range(min(100, len(d)))
    document = {
        "ranked_by": "distance" if p is None else "probability_stable",
        "candidates": len(d),
        "systems": 1,
        "stable": int((d <= 1e-8).sum()),
        "expected_stable": None if p is None else float(np.nansum(p)),
        "in_hull": 0,
        "failed": int(np.isnan(d).sum()),
        "structures": None,
        "remarks": list(remarks),
        "metrics": metrics,
        "head": [{k: column[i] for k, column in table.items()} for i in rows],
    }
    return json.loads(to_json(document))


def drawn(folder: Path, table: dict, suffix: str = ".csv", remarks=()) -> Page:
    file = folder / f"ranked{suffix}"
    write_table(file, table)
    path = screening_page(file, summary_of(table, remarks), folder)
    assert path == folder / "screening.html"
    return Page(path)


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_figures_are_what_the_table_says(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    table = columns(labels=(0.01, -0.01, 0.02, np.nan, 0.3))
    figures = figures_in(drawn(tmp_path, table, suffix))
    assert set(figures) == {"distances", "yield", "sigma", "parity-distance", "reliability"}
    p = ndtr(-np.array(D) / SIGMA)

    whole, stable, expected = figures["distances"]["data"]
    assert (sum(whole["y"]), sum(stable["y"])) == (5, 2)
    assert sum(expected["y"][:-1]) == pytest.approx(p.sum(), rel=1e-5)
    at = dict(zip(whole["x"], whole["y"], strict=True))
    first = "−20 to −15 meV/atom<br>1 candidate, 1 on the hull or below it<br>0.655 expected stable"
    for trace in (whole, stable, expected):
        assert len(trace["customdata"]) == len(trace["x"])
        assert trace["customdata"][0] == first
    assert {x for x, n in at.items() if n} == {-17.5, 2.5, 32.5, 102.5, 252.5}  # bars of 5 meV

    ranked, random, found = figures["yield"]["data"]
    assert ranked["x"] == [0, 1, 2, 3, 4, 5]
    assert ranked["y"] == pytest.approx([0, *np.cumsum(p)], rel=1e-5)
    assert random["y"] == pytest.approx(np.arange(6) * p.sum() / 5, rel=1e-5)
    assert found["y"] == [0, 0, 1, 1, 1, 1]

    points = figures["sigma"]["data"][0]
    assert points["x"] == [-20.0, 0.0, 30.0, 100.0, 250.0]
    assert points["y"] == [50.0] * 5
    assert "would fall into<br>0.5 Li (mp-1)<br>+ 0.5 LiO (mp-2)" in points["customdata"][0]

    above, errors = figures["parity-distance"]["data"]
    assert above["x"] == [0.01, -0.01, 0.02, 0.3]
    assert above["y"] == [-0.02, 0.0, 0.03, 0.25]
    assert errors["y"] == pytest.approx([-30, 10, 10, -50])


def test_reliability_has_the_intervals_of_wilson(tmp_path):
    # Four of P = 0.5, one of which is stable. Wilson: (p + z²/2n ± z √(pq/n + z²/4n²))/(1 + z²/n).
    table = columns([0.0] * 4, labels=(-0.1, 0.1, 0.1, 0.1))
    points, bars = figures_in(drawn(tmp_path, table))["reliability"]["data"]
    assert (points["x"], points["y"]) == ([0.5], [0.25])
    z2, n, q = 1.959964**2, 4, 0.25
    half = np.sqrt(z2) * np.sqrt(q * (1 - q) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    middle = (q + z2 / (2 * n)) / (1 + z2 / n)
    assert points["error_y"]["array"] == pytest.approx([middle + half - q], rel=1e-5)
    assert points["error_y"]["arrayminus"] == pytest.approx([q - middle + half], rel=1e-5)
    assert bars["y"] == [0, 0, 0, 0, 0, 4, 0, 0, 0, 0]


def test_without_uncertainty_there_are_distances_alone(tmp_path):
    page = drawn(tmp_path, columns(sigma=None))
    assert set(figures_in(page)) == {"distances"}
    assert "2 of 5 candidates are on the hull or below it." in page.text
    assert "P(stable)" not in page.text
    assert len(figures_in(page)["distances"]["data"]) == 2


def test_words_and_mixed_energies(tmp_path):
    mixed = "Mixed, as allowed: functional is PBE and r2SCAN"
    page = drawn(tmp_path, columns(labels=D), remarks=[mixed, "other"])
    assert "2 of 5 candidates are on the hull or below it, and 1.45 are expected" in page.text
    assert "By labels, 2 of 5 are stable, 2 of them among the 2 that are predicted" in page.text
    errors = [a for tag, a in page.tags if tag == "li" and a.get("class") == "error"]
    assert len(errors) == 1
    assert mixed in page.text
    assert "mixed energies" in page.text
    assert "mixed energies" not in drawn(tmp_path, columns()).text


def test_rows_without_energy_count_nowhere_but_in_the_table(tmp_path):
    page = drawn(tmp_path, columns((0.01, 0.02, np.nan)))
    figures = figures_in(page)
    assert sum(figures["distances"]["data"][0]["y"]) == 2
    assert figures["yield"]["data"][0]["x"] == [0, 1, 2]
    assert len(figures["sigma"]["data"][0]["x"]) == 2
    assert "no energy" in page.text
    assert "nan" not in page.text


@pytest.mark.parametrize("distance", [-0.03, 0.0, 1.2, np.nan])
def test_one_candidate(tmp_path, distance):
    page = drawn(tmp_path, columns([distance], labels=[0.1]))
    assert "of 1 candidate " in page.text
    assert "m0" in page.text
    figures = json.loads(next((s for s in page.scripts if s.startswith("{")), "{}"))
    assert bool(figures) == np.isfinite(distance)


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_names_cannot_break_the_page(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    page = drawn(tmp_path, columns([0.01], ids=[NASTY], labels=[0.02]), suffix, [NASTY])
    assert not any(tag == "img" for tag, _ in page.tags)
    assert NASTY in page.text
    assert "<img" not in json.dumps(figures_in(page))
    loaded = [a for _, a in page.tags if a.get("src") or (a.get("href") or "#")[0] not in "#d"]
    assert loaded == []


def test_of_many_rows_the_nearest_are_kept_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "FEW", 40)
    monkeypatch.setattr(tables, "ROWS", 64)
    d = 0.5 - np.sort(np.random.default_rng(0).gamma(2.0, 0.1, 1500))  # the nearest come last
    assert 20 < np.sum(d < 0) < 1000
    write_table(tmp_path / "many.csv", columns(d))
    rows = read_ranked(tmp_path / "many.csv")
    near = np.argsort(np.maximum(d, 0.0), kind="stable")[:40]
    assert list(rows.words) == near.tolist()
    first = int(near[0])
    assert rows.words[first] == [f"m{first}", "Li2O", "0.5 Li (mp-1) + 0.5 LiO (mp-2)"]
    figures = {f.key: f for f in screening_figures(rows, summary_of(columns(d)))}
    assert len(figures["sigma"].data[0]["x"]) == 40
    ranked = figures["yield"].data[0]
    assert (ranked["x"][0], ranked["x"][-1]) == (1, 1500)
    assert len(ranked["x"]) < 400
    p = np.cumsum(ndtr(-d / SIGMA))
    assert ranked["y"] == pytest.approx(p[np.array(ranked["x"]) - 1], rel=1e-5)
    counted = figures["distances"].data[0]["y"]
    assert 0.98 * 1500 < sum(counted) <= 1500


def test_how_many_are_found_among_the_first(tmp_path):
    d = np.linspace(0.0, 0.2, 50)
    write_table(tmp_path / "fifty.csv", columns(d))
    found = yield_table(read_ranked(tmp_path / "fifty.csv"), {})
    assert found is not None
    assert [row[0].text for row in found.rows] == ["10", "30", "all 50"]
    p = ndtr(-d / SIGMA)
    expected = [p[:10].sum(), p[:30].sum(), p.sum()]
    assert [float(r[1].text) for r in found.rows] == pytest.approx(expected, rel=5e-3)
    better = p[:10].sum() / (10 / 50 * p.sum())
    assert float(found.rows[0][2].text) == pytest.approx(better, rel=5e-2)
    assert float(found.rows[-1][2].text) == 1.0


def test_lines_of_the_same_probability(tmp_path):
    """d = ±z σ, from the quantiles of the table; without them only the hull itself."""
    table = columns()
    shapes = figures_in(drawn(tmp_path, table))["sigma"]["layout"]["shapes"]
    assert len(shapes) == 3
    assert abs(shapes[1]["x1"] / shapes[1]["y1"]) == pytest.approx(1.6448536, rel=1e-5)
    table["distance_95"] = table["distance_95"] + np.linspace(0, 0.01, 5)  # of samples: no line
    shapes = figures_in(drawn(tmp_path, table))["sigma"]["layout"]["shapes"]
    assert len(shapes) == 1


def test_other_tables_are_refused(tmp_path):
    write_table(tmp_path / "other.csv", {"id": ["a"], "formula": ["Li"], "energy": [1.0]})
    with pytest.raises(InputError, match="not the output of a screening"):
        screening_page(tmp_path / "other.csv", summary_of(columns()), tmp_path)
    with pytest.raises(InputError, match="no such file"):
        screening_page(tmp_path / "nothing.csv", summary_of(columns()), tmp_path)


def test_points_of_a_hull_at_one_place_tell_of_all_that_are_there():
    """In a triangle, polymorphs lie on top of each other, and the mouse finds any of them."""
    entries = [
        {"id": i, "formula": "A", "fractions": {"A": 1.0}, "formation_energy_per_atom": e}
        | {"e_above_hull": e, "stable": e == 0, "decomposition": {"A": 1.0}}
        for i, e in (("worse", 0.2), ("best<", 0.0), ("bad", 0.1))
    ]
    document = {"elements": ["A", "B", "C"], "entries": entries, "tie_lines": []}
    figure = hull_figure(document)
    assert figure is not None
    told = {text for trace in figure.data for text in trace.get("customdata", ())}
    assert len(told) == 1
    text = told.pop()
    entries[2] |= {"decomposition": {"A2": 0.5, "B": 0.5}, "fractions": {"A": 0.5, "B": 0.5}}
    figure = hull_figure(document)
    assert figure is not None
    told = "".join(text for trace in figure.data for text in trace.get("customdata", ()))
    assert "falls into 0.500 A<sub>2</sub><br>+ 0.500 B" in told
    assert text.startswith("<b>A</b> best&lt;<br>formation energy 0.0000 eV/atom")
    assert text.index("also bad, 0.1000 eV/atom above") < text.index("also worse, 0.2000 eV/atom")


@pytest.mark.slow
@pytest.mark.browser
def test_all_figures_are_drawn(browser, tmp_path):
    table = columns(labels=(0.01, -0.01, 0.02, np.nan, 0.3), ids=[NASTY, *"abcd"])
    drawn(tmp_path, table)
    dom, console = open_page(browser, tmp_path / "screening.html", "--window-size=500,900")
    assert console == []
    assert 'data-drawn="5"' in dom
    shown = dom[: dom.index('id="figures"')]
    assert shown.count('class="point') > 10
    assert "<img" not in shown
