"""Screening of tables: laws that hold whatever the energies, bad input, and real entries."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import screening_toys as toys
from scipy.stats import norm

from kohn.discovery import screen
from kohn.discovery.options import Options
from kohn.errors import ConfigError, InputError
from kohn.progress import Progress
from kohn.stability import ConvexHull, parse_formula, read_entries

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

DATA = Path(__file__).parents[1] / "data" / "phase_diagrams"
QUANTITIES = (
    "formation_energy_per_atom",
    "distance",
    "e_above_hull",
    "distance_std",
    "probability_stable",
    "distance_05",
    "distance_95",
)


@pytest.fixture
def tables():
    """Hull and candidates with deviations; some of no system but their own."""
    rng = np.random.default_rng(1)
    hull = toys.columns(rng, 150, "h", elements=True)
    new = toys.columns(rng, 90, "c")
    return hull, {**new, "energy_std": rng.uniform(0.05, 2.0, 90).tolist()}


@pytest.fixture
def files(tables, tmp_path):
    hull, new = tables
    return toys.write(tmp_path / "hull.csv", hull), toys.write(tmp_path / "new.csv", new)


def run(files, name="out.csv", **options):
    hull, new = files
    out = hull.parent / name
    return screen([new], [hull], out, options=Options(**options)), toys.by_id(out)


def same(a, b, atol=1e-9, names=QUANTITIES):
    assert set(a) == set(b)
    for name in names:
        mine, theirs = ([rows[i][name] for i in sorted(rows)] for rows in (a, b))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol, err_msg=name)


# --- laws ---------------------------------------------------------------------------------


def test_distances_are_those_of_one_hull_of_all_entries(files):
    hull, new = (read_entries(f) for f in files)
    expected = ConvexHull(hull).distance(new)
    found, rows = run(files)
    distances = [rows[i]["distance"] for i in new.ids]
    np.testing.assert_allclose(distances, expected.values, rtol=0, atol=1e-10)
    assert found.candidates == 90
    assert found.systems == len(set(new.systems))
    assert found.stable == (expected.values <= 1e-8).sum() > 3
    assert found.expected_stable == pytest.approx(
        sum(r["probability_stable"] for r in rows.values()), abs=1e-9
    )
    assert found.in_hull == expected.known.sum()
    assert found.failed == 0
    assert found.metrics is None


def test_every_column_follows_from_the_others(files, tables):
    found, rows = run(files, tolerance=0.02)
    near = [0.0 < r["distance"] <= 0.02 for r in rows.values()]
    assert found.stable == sum(near) + sum(r["distance"] <= 0.0 for r in rows.values())
    elements = {i: e for i, e in zip(tables[0]["id"], tables[0]["formula"], strict=True)}
    sigma = dict(zip(tables[1]["id"], tables[1]["energy_std"], strict=True))
    for row in rows.values():
        n = parse_formula(row["formula"])
        atoms = sum(n.values())
        d, s = row["distance"], row["distance_std"]
        assert row["e_above_hull"] == max(d, 0.0)
        assert row["stable"] == (d <= 0.02)
        assert s == pytest.approx(sigma[row["id"]] / atoms, rel=1e-12)
        assert row["probability_stable"] == pytest.approx(norm.cdf(0.02, d, s), rel=1e-9)
        assert row["distance_05"] == pytest.approx(norm.ppf(0.05, d, s), abs=1e-12)
        assert row["distance_95"] == pytest.approx(norm.ppf(0.95, d, s), abs=1e-12)
        # What it falls into has its composition: shares of atoms, in four digits.
        mixed, whole = dict.fromkeys(n, 0.0), 0.0
        for part in row["decomposition"].split(" + "):
            share, formula, name = re.fullmatch(r"(\S+) (\S+) \((\S+)\)", part).groups()
            of = parse_formula(elements[name])
            assert parse_formula(formula).keys() == of.keys() <= n.keys()
            for e, k in of.items():
                mixed[e] += float(share) * k / sum(of.values())
            whole += float(share)
        assert whole == pytest.approx(1.0, abs=5e-4)
        for e in n:
            assert mixed[e] == pytest.approx(n[e] / atoms, abs=5e-4)


def test_a_constant_for_each_element_changes_nothing(tables, files, tmp_path):
    by = dict(zip(toys.ELEMENTS, (1.7, -3.1, 0.4, -2.2, 0.9, -0.3), strict=True))
    found, before = run(files)
    others = [toys.write(tmp_path / f"{k}.csv", toys.moved(t, by)) for k, t in enumerate(tables)]
    again, after = run(others, "moved.csv")
    same(before, after)
    assert [r["id"] for r in found.head] == [r["id"] for r in again.head]
    assert {i: r["decomposition"] for i, r in before.items()} == {
        i: r["decomposition"] for i, r in after.items()
    }


def test_a_constant_on_one_side_alone_is_seen_and_said(tables, files, tmp_path):
    by = {"O": 0.2, "Li": -0.3}
    by = {e: by.get(e, 0.0) for e in toys.ELEMENTS}
    hull = {name: column[:100] for name, column in tables[0].items()}
    new = {name: [*column, *hull[name]] for name, column in tables[1].items() if name in hull}
    new["id"] = [f"n{k}" for k in range(len(new["id"]))]
    pair = [toys.write(tmp_path / "h.csv", hull), toys.write(tmp_path / "n.csv", new)]
    found, before = run(pair, "a.csv")
    assert not any(" for each " in r or "O" in r for r in found.remarks)
    toys.write(pair[1], toys.moved(new, by))
    found, after = run(pair, "b.csv")
    x = {i: parse_formula(r["formula"]) for i, r in after.items()}
    off = [sum(by[e] * n for e, n in x[i].items()) / sum(x[i].values()) for i in sorted(x)]
    moved = [after[i]["formation_energy_per_atom"] for i in sorted(x)]
    start = [before[i]["formation_energy_per_atom"] for i in sorted(x)]
    np.testing.assert_allclose(np.subtract(moved, start), off, rtol=0, atol=1e-9)
    assert any("O" in r and "Li" in r for r in found.remarks)


@pytest.mark.parametrize("rows", [7, 50_000])
def test_the_order_of_candidates_changes_the_order_of_ties_alone(
    rows, tables, files, tmp_path, monkeypatch
):
    monkeypatch.setattr("kohn.discovery.ranking.ROWS", rows)
    _, before = run(files)
    order = np.random.default_rng(0).permutation(90)
    mixed = {name: [column[i] for i in order] for name, column in tables[1].items()}
    _, after = run((files[0], toys.write(tmp_path / "mixed.csv", mixed)), "mixed-out.csv")
    same(before, after, atol=1e-12)
    for name in ("id", "stable", "in_hull", "decomposition", "formula"):
        assert {i: r[name] for i, r in before.items()} == {i: r[name] for i, r in after.items()}
    ranked = [toys.rows(tmp_path / f) for f in ("out.csv", "mixed-out.csv")]
    keys = [[(r["probability_stable"], r["distance"]) for r in one] for one in ranked]
    np.testing.assert_allclose(keys[0], keys[1], rtol=0, atol=1e-12)
    assert len(set(keys[0])) == 90  # no ties here, so that the ids are in one order too
    assert [r["id"] for r in ranked[0]] == [r["id"] for r in ranked[1]]


def test_candidates_in_several_files_and_kinds_are_the_same(tables, files, tmp_path):
    hull, new = tables
    _, whole = run(files)
    first = toys.write(tmp_path / "a.csv", {k: v[:33] for k, v in new.items()})
    pq.write_table(pa.table({k: v[33:] for k, v in new.items()}), tmp_path / "b.parquet")
    documents = [
        {"entry_id": i, "composition": f, "energy": e, "correction": 0.0}
        for i, f, e in zip(hull["id"], hull["formula"], hull["energy"], strict=True)
    ]
    (tmp_path / "hull.json").write_text(json.dumps(documents))
    out = tmp_path / "parts.parquet"
    screen([first, tmp_path / "b.parquet"], [tmp_path / "hull.json"], out)
    same(whole, toys.by_id(out), atol=1e-12)


def test_csv_and_parquet_have_the_same_rows(files):
    run(files, "a.csv")
    run(files, "b.parquet")
    one, two = (toys.rows(files[0].parent / n) for n in ("a.csv", "b.parquet"))
    assert one == two


@pytest.mark.parametrize("rows", [1, 11, 89, 90])
def test_rows_in_blocks_are_the_same(rows, files, monkeypatch):
    _, expected = run(files)
    monkeypatch.setattr("kohn.discovery.ranking.ROWS", rows)
    _, found = run(files, "blocks.csv")
    same(expected, found, atol=1e-12)
    assert [r["rank"] for r in found.values()] == [r["rank"] for r in expected.values()]


@pytest.mark.parametrize(
    ("by", "ranked"),
    [
        (None, "probability_stable"),
        ("probability", "probability_stable"),
        ("distance", "distance"),
    ],
)
def test_the_ranking_is_what_it_says(by, ranked, files):
    found, _ = run(files, by=by)
    assert found.ranked_by == ranked
    rows = toys.rows(found.file)
    assert [r["rank"] for r in rows] == list(range(1, 91))
    keys = [
        (r["distance"],) if by == "distance" else (-r["probability_stable"], r["distance"])
        for r in rows
    ]
    assert keys == sorted(keys)
    assert [r["id"] for r in found.head] == [r["id"] for r in rows]
    assert found.head[0]["distance"] == rows[0]["distance"]


def test_ranks_differ_between_the_two(files):
    one, two = (run(files, f"{by}.csv", by=by)[0] for by in ("probability", "distance"))
    assert [r["id"] for r in one.head] != [r["id"] for r in two.head]


def test_deviations_are_scaled_and_added(files):
    _, plain = run(files)
    _, more = run(files, "more.csv", scale=1.5, error=0.03)
    _, none = run(files, "none.csv", scale=0.0)
    for i, row in plain.items():
        expected = np.hypot(1.5 * row["distance_std"], 0.03)
        assert more[i]["distance_std"] == pytest.approx(expected, rel=1e-12)
        p = norm.cdf(1e-8, row["distance"], expected)
        assert more[i]["probability_stable"] == pytest.approx(p, rel=1e-9)
        assert none[i]["probability_stable"] == float(row["stable"])


@pytest.mark.slow
def test_an_uncertain_hull_spreads_all_of_them_and_the_seed_tells_how(files):
    _, certain = run(files)
    one, a = run(files, "a.csv", hull_error=0.05, samples=60)
    two, _ = run(files, "b.csv", hull_error=0.05, samples=60)
    assert one.file.read_bytes() == two.file.read_bytes()
    _, other = run(files, "c.csv", hull_error=0.05, samples=60, seed=1)
    same(a, other, names=("distance",))
    assert any(a[i]["probability_stable"] != other[i]["probability_stable"] for i in a)
    lone = [i for i in a if a[i]["in_hull"]]
    wider = [a[i]["distance_std"] > 0.6 * certain[i]["distance_std"] for i in a if i not in lone]
    assert all(wider)
    assert np.mean([a[i]["distance_std"] > certain[i]["distance_std"] for i in a]) > 0.6


def test_without_deviations_there_is_no_probability(tables, files):
    new = {k: v for k, v in tables[1].items() if k != "energy_std"}
    found, rows = run((files[0], toys.write(files[1], new)))
    assert found.ranked_by == "distance"
    assert found.expected_stable is None
    assert "probability_stable" not in next(iter(rows.values()))
    with pytest.raises(ConfigError, match="no probability to rank by"):
        run(files, "b.csv", by="probability")


def test_candidates_of_the_hull_are_left_out_of_it_and_it_is_said(tables, files):
    hull, new = tables
    chosen = [7, 20, 33, 60]
    more = {name: [*new[name], *(hull[name][i] for i in chosen)] for name in ("formula", "energy")}
    more["id"] = [*new["id"], hull["id"][7], hull["id"][20], "copy", "other"]
    more["energy"][-3] -= 4.0  # the same id with another energy
    more["energy"][-1] += 0.01  # another id and energy: something else
    found, rows = run((files[0], toys.write(files[1], more)))
    known = {i for i, r in rows.items() if r["in_hull"]}
    assert known == {hull["id"][7], hull["id"][20], "copy"}
    assert found.in_hull == 3
    assert any("3 of 94 candidates are entries of the hull too" in r for r in found.remarks)
    entries = read_entries(files[0])
    for name, energy in zip(more["id"][-4:-1], more["energy"][-4:-1], strict=True):
        i = entries.row["h33" if name == "copy" else name]
        others = entries.select([j for j in range(len(entries)) if j != i])
        one = replace(entries.select([i]), energies=np.array([energy]), ids=("?",))
        expected = ConvexHull(others).distance(one).values[0]
        assert rows[name]["distance"] == pytest.approx(expected, abs=1e-10)


def test_progress_adds_up(files, monkeypatch):
    monkeypatch.setattr("kohn.discovery.ranking.ROWS", 40)
    told = []
    hull, new = files
    screen([new], [hull], hull.parent / "o.csv", progress=Progress(lambda *a: told.append(a)))
    assert [w for k, (w, *_) in enumerate(told) if k == 0 or told[k - 1][0] != w] == [
        "reading the hull",
        "reading candidates",
        "assessing",
        "ranking",
    ]
    assert [(n, total) for w, n, total in told if w == "assessing"] == [
        (40, 90),
        (40, 90),
        (10, 90),
    ]
    assert sum(n for w, n, _ in told if w == "reading candidates") == 90


# --- small and odd sets -------------------------------------------------------------------

HULL = "id,formula,energy\na,Li,-2\nb,O,-5\nx,Li2O,-15\ny,LiO,-10.5\nz,Li3O,-13\n"


def small(folder, candidates, hull=HULL, **options):
    (folder / "h.csv").write_text(hull)
    (folder / "c.csv").write_text(candidates)
    found = screen(
        [folder / "c.csv"], [folder / "h.csv"], folder / "o.csv", options=Options(**options)
    )
    return found, toys.by_id(folder / "o.csv")


def test_one_entry_and_one_candidate(tmp_path):
    hull, new = "id,formula,energy\na,Fe2,-16\n", "id,formula,energy\np,Fe,-7.5\n"
    found, rows = small(tmp_path, new, hull)
    assert rows["p"]["distance"] == pytest.approx(0.5, abs=1e-12)
    assert rows["p"]["decomposition"] == "1 Fe (a)"
    assert (found.candidates, found.systems, found.stable) == (1, 1, 0)


def test_the_only_entry_of_an_element(tmp_path):
    _, rows = small(tmp_path, "id,formula,energy\na,Li,-2\nb,O,-4\nq,Li,-2.5\n")
    for name, d, known in (("a", 0.0, True), ("b", 0.0, True), ("q", -0.5, False)):
        assert rows[name]["distance"] == pytest.approx(d, abs=1e-12)
        assert rows[name]["in_hull"] == known


def test_all_of_one_composition(tmp_path):
    new = "id,formula,energy\n" + "".join(f"p{k},Li{k}O{k},{-10.3 * k}\n" for k in (1, 2, 3, 4))
    found, rows = small(tmp_path, new)
    assert found.systems == 1
    for row in rows.values():
        assert row["distance"] == pytest.approx(0.1, abs=1e-12)
        assert row["decomposition"] == "1 LiO (y)"


def test_ids_are_kept_as_text(tmp_path):
    ids = ["007", "1e5", "nan", "a,b", 'say "no"', "Li₂O·½", " s ", "true", "inf"]
    new = {"id": ids, "formula": ["Li2O2"] * 9, "energy": [-19.9 - k / 70 for k in range(9)]}
    toys.write(tmp_path / "c.csv", new)
    (tmp_path / "h.csv").write_text(HULL)
    for out in ("o.csv", "o.parquet"):
        found = screen([tmp_path / "c.csv"], [tmp_path / "h.csv"], tmp_path / out)
        kept = [name.strip() for name in ids[::-1]]
        assert [r["id"] for r in toys.rows(tmp_path / out)] == kept
        assert [r["id"] for r in found.head] == kept


def test_energies_are_the_same_to_the_last_digit(tmp_path):
    new = {"id": ["p", "q"], "formula": ["LiO", "Li4O"], "energy_per_atom": [-0.1 * 49, -10 / 3]}
    toys.write(tmp_path / "c.csv", new)
    (tmp_path / "h.csv").write_text(HULL)
    for out in ("o.csv", "o.parquet"):
        screen([tmp_path / "c.csv"], [tmp_path / "h.csv"], tmp_path / out)
        rows = toys.by_id(tmp_path / out)
        assert [rows[i]["energy_per_atom"] for i in "pq"] == new["energy_per_atom"]


def test_formation_energies_where_they_are_meant(tmp_path):
    hull = "id,formula,formation_energy_per_atom\na,Li,0\nb,O,0\nx,Li2O,-2\n"
    new = "id,formula,formation_energy_per_atom,energy_std_per_atom\np,LiO,-1.6,0.1\n"
    _, rows = small(tmp_path, new, hull, formation=True)
    assert rows["p"]["distance"] == pytest.approx(-0.1, abs=1e-12)
    assert rows["p"]["formation_energy_per_atom"] == -1.6
    assert rows["p"]["probability_stable"] == pytest.approx(norm.cdf(1.0), abs=1e-6)


def test_references_stand_in_for_elements(tmp_path):
    (tmp_path / "refs.json").write_text(json.dumps({"Li": -2.0, "O": -5.0}))
    (tmp_path / "h.csv").write_text("id,formula,energy\nx,Li2O,-15\n")
    (tmp_path / "c.csv").write_text("id,formula,energy\np,LiO,-10.2\n")
    out = tmp_path / "o.csv"
    screen(
        [tmp_path / "c.csv"], [tmp_path / "h.csv"], out, reference_energies=tmp_path / "refs.json"
    )
    assert toys.by_id(out)["p"]["distance"] == pytest.approx(-1.6 + 1.5, abs=1e-12)
    with pytest.raises(InputError, match="elements that the hull lacks"):
        screen([tmp_path / "c.csv"], [tmp_path / "h.csv"], tmp_path / "p.csv")


# --- bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "said", "where"),
    [
        ("p,Li2O,-15\nq,NaO,-9\nr,Na2O,-9\n", "2 of 3 candidates have elements that .* Na", 3),
        ("p,Li2Ox,-15\n", "no element", 2),
        ("p,Li0,-15\n", "no atoms", 2),
        ("p,,-15\n", "no atoms", 2),
        ("p,Li2O,-15\nq,LiO,nan\n", "not a finite number", 3),
        ("p,Li2O,-15\np,LiO,-10\n", "1 id is given to several", 2),
        ("x,LiO,-10\n", "id of an entry of another composition", 2),
        ("p,Li2O,-5.4\nq,LiO,-3.2\nr,Li3O,-4.0\n", "look like formation energies, but", 2),
        (
            "".join(f"p{k},Li{k}O{k},{-5.2 - 0.01 * k}\n" for k in range(1, 12)),
            "look like energies per atom",
            2,
        ),
        ("p,Li,0\nq,O,0\nr,LiO,-2\n", "look like formation energies", 2),
        ("", "no rows", None),
    ],
)
def test_bad_candidates_are_refused_and_said(rows, said, where, tmp_path):
    with pytest.raises(InputError, match=said) as error:
        small(tmp_path, "id,formula,energy\n" + rows)
    assert "c.csv" in str(error.value.where)
    if where is not None:
        assert f"line {where}" in str(error.value.where)
    assert error.value.fix
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("hull", "said"),
    [
        ("id,formula,energy\na,Li,-2\nx,Li2O,-15\n", "elements that the hull lacks: O"),
        ("id,formula,energy\na,Li,-2\nb,O,nan\n", "not finite"),
        ("id,formula,energy\na,Li,0\nb,O,0\nx,Li2O,-2\n", "look like formation energies"),
        ("id,formula,energy\na,Li,-2\na,O,-5\n", "given to several"),
        ("id,formula,energy\n", "no entries"),
        ("id,formula,formation_energy_per_atom\na,Li,0\nb,O,0\n", "only formation energies"),
    ],
)
def test_a_bad_hull_is_refused_and_said(hull, said, tmp_path):
    with pytest.raises(InputError, match=said):
        small(tmp_path, "id,formula,energy\np,LiO,-10\n", hull)
    assert not (tmp_path / "o.csv").exists()


def test_other_ways_of_computing_are_refused_unless_allowed(tmp_path):
    hull = "id,formula,energy,functional\na,Li,-2,PBE\nb,O,-5,PBE\nx,Li2O,-15,PBE\n"
    new = "id,formula,energy,functional\np,LiO,-10.5,r2SCAN\nq,Li3O,-13,r2SCAN\n"
    with pytest.raises(InputError, match="not computed in the same way") as error:
        small(tmp_path, new, hull)
    assert "r2SCAN (2 entries: p, q)" in error.value.received
    (tmp_path / "other").mkdir()
    found, rows = small(tmp_path / "other", new, hull, allow_mixed=True)
    assert any(r.startswith("Mixed, as allowed: functionals differ") for r in found.remarks)
    assert all(r["warning"].startswith("mixed: functionals differ") for r in rows.values())
    (tmp_path / "one").mkdir()
    found, rows = small(tmp_path / "one", new.replace("r2SCAN", "PBE"), hull, allow_mixed=True)
    assert "warning" not in rows["p"]
    assert not found.remarks


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"error": -0.1}, "negative"),
        ({"error": float("nan")}, "negative"),
        ({"hull_error": -0.1}, "negative"),
        ({"tolerance": -1e-3}, "negative"),
        ({"samples": 0}, "negative"),
        ({"seed": -1}, "negative"),
    ],
)
def test_options_without_sense_are_refused_before_anything(options, said, files):
    with pytest.raises(ConfigError, match=said):
        run(files, **options)
    assert not list(files[0].parent.glob("out*"))


def test_files_that_cannot_be(files):
    hull, new = files
    folder = hull.parent
    for target, said in (("o.txt", "neither CSV nor Parquet"), ("none/o.csv", "folder of the")):
        with pytest.raises((ConfigError, InputError), match=said):
            screen([new], [hull], folder / target)
    for one, other in ((folder / "no.csv", hull), (new, folder / "no.csv")):
        with pytest.raises(InputError, match="no such file") as error:
            screen([one], [other], folder / "o.csv")
        assert "no.csv" in str(error.value.where)
    assert not list(folder.glob("o.*"))


# --- real entries -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_real_phase_diagram_against_itself(suffix, tmp_path):
    file = DATA / "Fe_Li_O_P_entries.csv"
    entries = read_entries(file)
    expected = ConvexHull(entries).distance(entries)
    found = screen([file], [file], tmp_path / f"o{suffix}")
    rows = toys.by_id(found.file)
    assert found.in_hull == len(entries) == len(rows)
    assert all(r["in_hull"] for r in rows.values())
    distances = [rows[i]["distance"] for i in entries.ids]
    np.testing.assert_allclose(distances, expected.values, rtol=0, atol=1e-9)
    assert found.stable == (expected.values <= 1e-8).sum()
    # The hull with them on it is another thing: its own entries are never below it.
    assert min(distances) < -0.01


# --- faults that were found ---------------------------------------------------------------


def test_bad_input_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError):
        small(tmp_path, "id,formula,energy\np,LiO,nan\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.csv", "h.csv"]


def test_a_corrected_file_is_screened(tmp_path):
    with pytest.raises(InputError):
        small(tmp_path, "id,formula,energy\np,LiO,nan\n")
    small(tmp_path, "id,formula,energy\np,LiO,-10\n")


def test_formation_energies_of_many_systems_are_refused(tmp_path):
    mu = dict(zip(("Li", "Na", "Fe", "Co", "O"), (-3.0, -4.0, -8.0, -7.0, -5.0), strict=True))
    hull = "id,formula,energy\n" + "".join(f"{e},{e},{m}\n" for e, m in mu.items())
    pairs = [(a, b) for a in mu for b in mu if a < b]
    new = "id,formula,energy\n" + "".join(f"{a}-{b},{a}{b},-0.2\n" for a, b in pairs)
    with pytest.raises(InputError, match="look like formation energies"):
        small(tmp_path, new, hull)


def test_formation_energies_in_a_column_of_totals_are_refused(tmp_path):
    """As databases tell them, in eV/atom, and a good part of 1 eV or more."""
    new = "p,Li2O,-1.9\nq,Li2O2,-1.7\nr,Li3O,-1.4\nt,Li4O,-1.2\n"
    with pytest.raises(InputError, match="look like"):
        small(tmp_path, "id,formula,energy\n" + new)


def test_ids_count_beside_a_file_that_has_none(files):
    folder = files[0].parent
    (folder / "h.csv").write_text(HULL)
    (folder / "a.csv").write_text("id,formula,energy\ny,LiO,-11\n")
    (folder / "b.csv").write_text("formula,energy\nLi4O,-15\n")
    found = screen([folder / "a.csv", folder / "b.csv"], [folder / "h.csv"], folder / "o.csv")
    assert found.in_hull == 1


def test_an_id_of_another_composition_is_refused_in_any_system(tmp_path):
    hull = HULL + "f,Fe,-8\ng,FeO,-14\n"
    with pytest.raises(InputError, match="id of an entry of another composition"):
        small(tmp_path, "id,formula,energy\ng,LiO,-10\n", hull)


@pytest.mark.parametrize(
    ("hull", "new"),
    [
        (HULL, 'id,formula,energy\np,"Li\n2O",-14\nq,Li2O,-14.5\n'),
        (HULL.replace("a,Li", '"a\nb",Li'), "id,formula,energy\np,Li4O,-14\nq,Li2O,-14.5\n"),
    ],
    ids=["formula", "id of the hull"],
)
def test_no_row_is_cut(hull, new, tmp_path):
    """Line breaks in what is written again."""
    small(tmp_path, new, hull)
    with (tmp_path / "o.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert {len(r) for r in rows} == {len(rows[0])}
    assert [r[1] for r in rows] == ["id", "q", "p"]
    lines = (tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3


@pytest.mark.parametrize("between", ["\r", "\n"], ids=["return", "new line"])
def test_an_id_with_a_line_break_is_refused(between, tmp_path):
    with pytest.raises(InputError, match="an id has a line break"):
        small(tmp_path, f'id,formula,energy\n"p{between}q",Li2O,-14\nq,Li2O,-14.5\n')


def test_ranking_by_what_is_not_there_is_refused(files):
    with pytest.raises(ConfigError, match="rank"):
        run(files, by="probabilty")


def test_a_prior_beside_an_uncertain_hull_is_refused(files):
    """It is not left out in silence: it is of a hull that is certain."""
    with pytest.raises(ConfigError, match="the prior needs a hull without errors"):
        run(files, hull_error=0.03, samples=40, prior=True)
    assert not list(files[0].parent.glob("out*"))


def test_a_prior_moves_probabilities_alone(files):
    _, without = run(files)
    _, found = run(files, "b.csv", prior=True)
    same(without, found, atol=0, names=[n for n in QUANTITIES if n != "probability_stable"])
    p, q = (np.array([r[i]["probability_stable"] for i in found]) for r in (without, found))
    assert np.abs(p - q).max() > 0.05
    assert ((q >= 0) & (q <= 1)).all()


def test_a_negative_scale_is_refused(files):
    with pytest.raises(ConfigError):
        run(files, scale=-1.0)
