"""Candidates by columns: what tables say is what entries say, and what is wrong is found with its
line."""

import csv
import json

import numpy as np
import pytest

from kohn.errors import InputError
from kohn.stability import read_entries
from kohn.stability.candidates import Parser, place_of
from kohn.stability.provenance import conflicts, groups
from kohn.stability.reading_candidates import read_candidates

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SYMBOLS = ("Li", "Fe", "O", "P", "Na")
MU = {"Li": -1.9, "Fe": -8.3, "O": -4.9, "P": -5.4, "Na": -1.3}


def made(rng, n=60):
    """Columns of compounds of several elements, all of different size."""
    columns = {"id": [], "formula": [], "energy": [], "energy_std": []}
    atoms = []
    for k in range(n):
        chosen = rng.choice(SYMBOLS, rng.integers(1, 5), replace=False)
        counts = rng.integers(1, 30, len(chosen))
        columns["id"].append(f"c-{k}")
        columns["formula"].append("".join(f"{e}{c}" for e, c in zip(chosen, counts, strict=True)))
        energy = sum(MU[e] * c for e, c in zip(chosen, counts, strict=True))
        columns["energy"].append(float(energy - rng.random() * counts.sum()))
        columns["energy_std"].append(float(rng.uniform(0.1, 3.0)))
        atoms.append(int(counts.sum()))
    return columns, np.array(atoms)


def write_csv(file, columns):
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return file


def text(folder, name, content):
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def test_csv_parquet_and_entries_are_the_same(rng, tmp_path):
    columns, atoms = made(rng)
    per_atom = {
        "id": columns["id"],
        "formula": columns["formula"],
        "energy_per_atom": (np.array(columns["energy"]) / atoms).tolist(),
        "energy_std_per_atom": (np.array(columns["energy_std"]) / atoms).tolist(),
    }
    files = [write_csv(tmp_path / "a.csv", columns), write_csv(tmp_path / "b.csv", per_atom)]
    for name, given in (("a.parquet", columns), ("b.parquet", per_atom)):
        files.append(tmp_path / name)
        pq.write_table(pa.table(given), files[-1])
    entries = read_entries(files[0])
    for file in files:
        found = read_candidates(file)
        assert found.ids == list(entries.ids)
        np.testing.assert_allclose(found.energies, entries.energies_per_atom, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            found.deviations, np.array(columns["energy_std"]) / atoms, rtol=0, atol=1e-12
        )
        for system, rows in found.by_system():
            mine, theirs = found.entries(rows), entries.select(rows).over(system)
            np.testing.assert_array_equal(mine.counts, theirs.counts)
            assert mine.ids == theirs.ids


def test_json_is_read_as_entries_are(rng, tmp_path):
    columns, _ = made(rng, 20)
    rows = zip(columns["id"], columns["formula"], columns["energy"], strict=True)
    documents = [
        {"entry_id": i, "composition": f, "energy": e, "correction": -0.5} for i, f, e in rows
    ]
    file = text(tmp_path, "entries.json", json.dumps(documents))
    found, entries = read_candidates(file), read_entries(file)
    assert found.ids == list(entries.ids)
    np.testing.assert_allclose(found.energies, entries.energies_per_atom, rtol=0, atol=1e-12)
    assert found.deviations is None


def test_systems_part_the_rows(rng, tmp_path):
    columns, _ = made(rng, 200)
    found = read_candidates(write_csv(tmp_path / "a.csv", columns))
    systems = found.by_system()
    np.testing.assert_array_equal(
        np.sort(np.concatenate([rows for _, rows in systems])), np.arange(200)
    )
    assert [s for s, _ in systems] == sorted({s for s, _ in systems})
    for system, rows in systems:
        assert (np.diff(rows) > 0).all()
        assert found.entries(rows).elements == system == tuple(sorted(system))
        assert (found.entries(rows).counts > 0).all()
    over_all = found.sample(np.arange(200))
    np.testing.assert_allclose(over_all.energies_per_atom, found.energies, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(
        over_all.counts, read_entries(tmp_path / "a.csv").over(over_all.elements).counts
    )


def test_formulas_in_any_spelling_are_one_composition(tmp_path):
    rows = [("Li2O", 1), ("OLi2", 1), ("Li 2 O", 1), ("(Li2O)2", 2), ("Li4O2", 2), ("LiO0.5", 0.5)]
    lines = "".join(f"s{k},{f},{-14.1 * n}\n" for k, (f, n) in enumerate(rows))
    found = read_candidates(text(tmp_path, "s.csv", "id,formula,energy\n" + lines))
    np.testing.assert_allclose(found.energies, -4.7, rtol=0, atol=1e-12)
    ((system, which),) = found.by_system()
    assert system == ("Li", "O")
    np.testing.assert_allclose(
        found.entries(which).fractions, [[2 / 3, 1 / 3]] * 6, rtol=0, atol=1e-15
    )
    assert [found.formula(i) for i in range(6)] == [f for f, _ in rows]


def test_headers_in_any_case_with_other_columns_and_a_mark(tmp_path):
    file = text(tmp_path, "a.csv", "﻿note,Energy,ENTRY_ID, Formula ,band_gap\nx,-14.1,p,Li2O,1\n")
    found = read_candidates(file)
    assert found.ids == ["p"]
    np.testing.assert_allclose(found.energies, -4.7, rtol=0, atol=1e-12)


def test_without_ids_names_are_made_up_and_identify_nothing(tmp_path):
    a = text(tmp_path, "a.csv", "formula,energy\nLi2O,-14.1\nLi2O,-14.2\n")
    (tmp_path / "more").mkdir()
    b = text(tmp_path / "more", "a.csv", "formula,energy\nLi2O,-14.3\n")
    found = read_candidates([a, b])
    assert not found.named.any()
    assert len(set(found.ids)) == 3
    ((_, rows),) = found.by_system()
    assert found.entries(rows).unnamed == set(found.ids)


def test_blocks_change_nothing_and_are_told(rng, tmp_path, monkeypatch):
    columns, _ = made(rng)
    files = [write_csv(tmp_path / "a.csv", columns), tmp_path / "a.parquet"]
    pq.write_table(pa.table(columns), files[1])
    whole = [read_candidates(f) for f in files]
    monkeypatch.setattr("kohn.tables.ROWS", 7)
    for file, expected in zip(files, whole, strict=True):
        told = []
        found = read_candidates(file, advance=told.append)
        assert told == [7] * 8 + [4]
        assert found.ids == expected.ids
        np.testing.assert_array_equal(found.energies, expected.energies)
        np.testing.assert_array_equal(found.which, expected.which)


def test_several_files_follow_each_other_with_their_places(rng, tmp_path, monkeypatch):
    columns, _ = made(rng, 30)
    files = []
    for k in range(3):
        part = {name: column[10 * k : 10 * k + 10] for name, column in columns.items()}
        files.append(tmp_path / f"{k}.{'parquet' if k == 1 else 'csv'}")
        if k == 1:
            pq.write_table(pa.table(part), files[-1])
        else:
            write_csv(files[-1], part)
    monkeypatch.setattr("kohn.tables.ROWS", 4)
    found = read_candidates(files)
    whole = read_candidates(write_csv(tmp_path / "all.csv", columns))
    assert found.ids == whole.ids
    np.testing.assert_allclose(found.energies, whole.energies, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.deviations, whole.deviations, rtol=0, atol=1e-12)
    assert found.place(9) == f"{files[0]}, line 11"
    assert found.place(10) == f"{files[1]}, row 1"
    assert found.place(20) == f"{files[2]}, line 2"
    assert found.place(29) == f"{files[2]}, line 11"


def test_places_count_from_the_file_of_the_row():
    places = (("a.csv", 0), ("b.json", 5), ("c.CSV", 6))
    assert place_of(places, 0, 2) == "a.csv, line 2"
    assert place_of(places, 4, 6) == "a.csv, line 6"
    assert place_of(places, 5, 1) == "b.json, row 1"
    assert place_of(places, 7, 3) == "c.CSV, line 3"


SCHEME = "MaterialsProject2020Compatibility"
TOLD = [
    ("Li2O", "PBE", SCHEME, "VASP"),
    ("FeO", "PBE+U", SCHEME, "VASP"),
    ("Fe2O3", "PBE+U", "none", "VASP"),
    ("Li2O2", "PBE", "none", ""),
    ("Na2O", "", "", ""),
    ("Li3P", "r2SCAN", "none", "VASP"),
]


def provenances(folder, told):
    """Of candidates, and of entries of the same file."""
    lines = "".join(f"c{k},{f},-9,{a},{b},{c}\n" for k, (f, a, b, c) in enumerate(told))
    file = text(folder, "a.csv", "id,formula,energy,functional,scheme,source\n" + lines)
    entries = read_entries(file)
    found = {p: sorted(ids) for p, ids in read_candidates(file).provenance.items()}
    return found, groups(entries.ids, entries.provenance)


def test_provenance_is_that_of_entries(tmp_path):
    found, expected = provenances(tmp_path, TOLD)
    assert found == expected
    assert len(expected) == 5
    alone = [("Fe", "PBE", "none", "VASP"), ("LiFe", "PBE", "none", ""), ("FeO", "PBE", "none", "")]
    found, expected = provenances(tmp_path, alone)
    assert found == expected
    assert {p.scheme for p in found} == {"none", "none needed"}


def test_nothing_that_is_said_is_unknown(tmp_path):
    found = read_candidates(text(tmp_path, "b.csv", "id,formula,energy\nq,Li,-2\n")).provenance
    assert [(p.functional, p.scheme, p.source) for p in found] == [("unknown",) * 3]


def test_a_scheme_reconciles_within_its_file_alone(tmp_path):
    head = "id,formula,energy,functional,scheme\n"
    corrected = f"{head}a,Li2O,-14,PBE,{SCHEME}\nb,FeO,-9,PBE+U,{SCHEME}\n"
    a = text(tmp_path, "a.csv", corrected)
    b = text(tmp_path, "b.csv", f"{head}c,Li2O,-9,PBE,none\n")
    by_id = {i: p for p, ids in read_candidates([a, b]).provenance.items() for i in ids}
    assert by_id["a"] == by_id["b"]
    assert by_id["a"].functional == "PBE, PBE+U"
    assert by_id["c"].functional == "PBE"


def test_shared_compositions_are_found(tmp_path):
    hull = read_entries(text(tmp_path, "h.csv", "id,formula,energy\na,Li4O2,-28\nb,Fe,-8\n"))
    found = read_candidates(
        text(tmp_path, "c.csv", "id,formula,energy\np,OLi2,-14\nq,LiO,-9\nr,Fe2,-16\ns,NaP,-9\n")
    )
    np.testing.assert_array_equal(found.shared(hull), [0, 2])


def test_a_parser_parses_each_formula_once(monkeypatch):
    from kohn.stability import candidates

    asked = []
    parse = candidates.parse_formula

    def counted(formula, **more):
        asked.append(formula)
        return parse(formula, **more)

    monkeypatch.setattr(candidates, "parse_formula", counted)
    parser = Parser()
    assert [parser.index(f) for f in ("Li2O", "Fe", "Li2O", "OLi2", "Fe")] == [0, 1, 0, 2, 1]
    assert asked == ["Li2O", "Fe", "OLi2"]
    compositions = parser.compositions()
    assert compositions.systems == (("Li", "O"), ("Fe",))
    np.testing.assert_array_equal(compositions.atoms, [3.0, 1.0, 3.0])


# --- what is wrong ------------------------------------------------------------------------

GOOD = "".join(f"g{k},Li{k + 1}O,{-2.0 * k - 8}\n" for k in range(5))
WRONG = [
    ("x,Li2Ox,-14\n", "has 'Ox', which is no element"),
    ("x,,-14\n", "has no atoms"),
    ("x,Li0O0,-14\n", "has no atoms"),
    ("x,(Li2O,-14\n", "brackets that do not match"),
    ("x,CuSO4.5H2O,-14\n", "a dot"),
    ("x,Li2O,nan\n", "energy is not a finite number"),
    ("x,Li2O,inf\n", "energy is not a finite number"),
    ("x,Li2O,\n", "energy is not a finite number"),
    ("x,Li2O,low\n", "energy is not a finite number"),
    ("g1,Li2O,-14\n", "1 id is given to several entries"),
]


@pytest.mark.parametrize(("row", "said"), WRONG)
@pytest.mark.parametrize("rows", [3, 65_536])
def test_a_bad_row_is_named_with_file_and_line(row, said, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("kohn.tables.ROWS", rows)
    good = text(tmp_path, "good.csv", "id,formula,energy\n" + GOOD.replace("g", "h"))
    bad = text(tmp_path, "bad.csv", "id,formula,energy\n" + GOOD + row)
    with pytest.raises(InputError) as error:
        read_candidates([good, bad])
    assert said in error.value.message
    assert "bad.csv, line 7" in str(error.value.where)
    assert error.value.fix


@pytest.mark.parametrize("value", ["-0.1", "nan", "inf", "", "small"])
@pytest.mark.parametrize("name", ["energy_std", "Energy_std_per_atom"])
def test_a_deviation_that_is_none_is_refused(name, value, tmp_path):
    file = text(tmp_path, "a.csv", f"id,formula,energy,{name}\np,Li2O,-14,0\nq,LiO,-9,{value}\n")
    with pytest.raises(InputError, match=f"{name} is not a finite number ≥ 0") as error:
        read_candidates(file)
    assert str(error.value.where).endswith("a.csv, line 3")


def test_bad_values_of_parquet_are_named_by_row(tmp_path):
    file = tmp_path / "a.parquet"
    for columns, said in (
        ({"formula": ["Li", "Xx"], "energy": [-2.0, -3.0]}, "which is no element"),
        ({"formula": ["Li", None], "energy": [-2.0, -3.0]}, "the formula"),
        ({"formula": ["Li", "O"], "energy": [-2.0, None]}, "not a finite number"),
        ({"formula": ["Li", "O"], "energy": [-2.0, float("nan")]}, "not a finite number"),
    ):
        pq.write_table(pa.table(columns), file)
        with pytest.raises(InputError, match=said) as error:
            read_candidates(file)
        assert str(error.value.where).endswith("a.parquet, row 2")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no column formula"),
        ("id,formula,energy\n", "no rows"),
        ("id,energy\na,-1\n", "no column formula"),
        ("id,formula\na,Li\n", "no column energy"),
        ("id,formula,energy,energy_per_atom\na,Li2O,-14,-4.7\n", "two columns of energies"),
        ("id,formula,formation_energy_per_atom\na,Li2O,-2\n", "only formation energies"),
        ("id,formula,energy\na,Li2O\n", "not have as many fields"),
        ("id,formula,energy\na,Li2O,-14,1\n", "not have as many fields"),
        ('id,formula,energy\n"a\nb",Li2O,-14\n', "line break"),
    ],
)
def test_a_bad_file_is_named(content, said, tmp_path):
    with pytest.raises(InputError, match=said) as error:
        read_candidates(text(tmp_path, "bad.csv", content))
    assert "bad.csv" in str(error.value.where)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_candidates(tmp_path / "none.csv")
    with pytest.raises(InputError, match="not Parquet"):
        read_candidates(text(tmp_path, "a.parquet", "id,formula,energy\n"))


def test_ids_given_twice_in_two_files_are_found(tmp_path):
    head = "id,formula,energy\n"
    a = text(tmp_path, "a.csv", head + "p,Li2O,-14\nq,LiO,-9\n")
    b = text(tmp_path, "b.csv", head + "r,Li3O,-14\nq,LiO,-9\n")
    with pytest.raises(InputError, match="1 id is given") as error:
        read_candidates([a, b])
    assert str(error.value.where) == f"{a}, line 3 and {b}, line 3"
    assert error.value.received == "q"


def test_other_quantities_than_totals_are_refused(rng, tmp_path):
    columns, atoms = made(rng)
    write_csv(tmp_path / "totals.csv", columns)
    read_candidates(tmp_path / "totals.csv")
    columns["energy"] = (np.array(columns["energy"]) / atoms).tolist()
    with pytest.raises(InputError, match="look like energies per atom") as error:
        read_candidates(write_csv(tmp_path / "wrong.csv", columns))
    assert "energy_per_atom" in str(error.value.fix)
    zero = "id,formula,energy\na,Li,0\nb,O,0\nc,Li2O,-2\n"
    with pytest.raises(InputError, match="look like formation energies"):
        read_candidates(text(tmp_path, "zero.csv", zero))
    assert read_candidates(tmp_path / "zero.csv", formation=True).formation


# --- faults that were found ---------------------------------------------------------------


def test_a_cell_in_json_says_nothing_of_a_formula_in_a_table(tmp_path):
    cell = {"entry_id": "j", "composition": {"Li": 2, "O": 2}, "energy": -21.0, "correction": 0.0}
    first = text(tmp_path, "a.json", json.dumps([cell]))
    second = text(tmp_path, "b.csv", "id,formula,energy\nk,LiO,-10.5\n")
    np.testing.assert_allclose(read_candidates([second, first]).energies, -5.25)
    np.testing.assert_allclose(read_candidates([first, second]).energies, -5.25)


def test_formation_energies_in_a_column_energy_are_per_atom(tmp_path):
    file = text(tmp_path, "a.csv", "id,formula,energy\na,Li2O,-2\n")
    assert read_entries(file, formation=True).energies_per_atom == pytest.approx(-2.0)
    assert read_candidates(file, formation=True).energies == pytest.approx(-2.0)


@pytest.mark.parametrize(
    "names", ["energy_std,energy_std_per_atom", "energy_std_per_atom,energy_std"]
)
def test_two_columns_of_deviations_are_refused(names, tmp_path):
    file = text(tmp_path, "a.csv", f"id,formula,energy,{names}\na,Li2O,-14,0.3,0.3\n")
    with pytest.raises(InputError, match="two columns"):
        read_candidates(file)


@pytest.mark.parametrize("first", ["a", "b"])
def test_deviations_that_some_files_lack_are_not_zero(first, tmp_path):
    """They are refused, whichever file comes first, and the file that lacks them is named."""
    a = text(tmp_path, "a.csv", "id,formula,energy,energy_std\na,Li2O,-14,0.3\n")
    b = text(tmp_path, "b.csv", "id,formula,energy\nb,Li2O,-14\n")
    with pytest.raises(InputError, match="1 of 2 candidates have no standard deviation") as error:
        read_candidates([a, b] if first == "a" else [b, a])
    assert str(error.value.where) == f"{b}, line 2"


def test_a_ragged_row_is_named_by_its_line(tmp_path):
    file = text(tmp_path, "a.csv", "id,formula,energy\n" + GOOD + "x,Li2O\n" + GOOD)
    with pytest.raises(InputError, match="not have as many fields") as error:
        read_candidates(file)
    assert str(error.value.where).endswith("line 7")


def test_empty_lines_are_counted(tmp_path):
    file = text(tmp_path, "a.csv", "id,formula,energy\na,Li2O,-14\n\n\nb,Xx,-1\n")
    with pytest.raises(InputError) as error:
        read_candidates(file)
    assert str(error.value.where).endswith("line 5")


def test_empty_lines_end_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("kohn.tables.ROWS", 2)
    file = text(tmp_path, "a.csv", "id,formula,energy\na,Li,-1\nb,Li,-2\n\n\nc,Li,-3\nd,Li,-4\n")
    assert read_candidates(file).ids == ["a", "b", "c", "d"]


def test_a_table_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes("id,formula,energy\né,Li2O,-14\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_candidates(tmp_path / "a.csv")


def test_no_files_are_refused():
    with pytest.raises(InputError):
        read_candidates([])


def test_ids_are_the_same_in_both_readers(tmp_path):
    file = text(tmp_path, "a.csv", "id,formula,energy\n p ,Li2O,-14\n")
    assert tuple(read_candidates(file).ids) == read_entries(file).ids


def test_ids_that_are_missing_are_made_up(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a", None], "formula": ["Li"] * 2, "energy": [-1.0] * 2}), file)
    assert "None" not in read_candidates(file).ids
    assert "" not in read_candidates(text(tmp_path, "a.csv", "id,formula,energy\n,Li,-1\n")).ids


@pytest.mark.parametrize("scheme", [SCHEME, "MaterialsProjectDFTMixingScheme"])
def test_what_needs_no_scheme_is_covered_as_among_entries(scheme, tmp_path):
    """With the mixing scheme, candidates that entries agree with are refused as mixed."""
    told = [("Li2O", "PBE", scheme, ""), ("Fe", "PBE", "none", ""), ("LiFe", "PBE", "none", "")]
    found, expected = provenances(tmp_path, told)
    assert conflicts(expected) == []
    assert conflicts(found) == []
    assert found == expected


def test_functionals_have_one_name_in_both_readers(tmp_path):
    file = text(tmp_path, "a.csv", "id,formula,energy,functional\na,Li2O,-14,GGA\n")
    entries = read_entries(file)
    assert set(read_candidates(file).provenance) == set(entries.provenance)
