"""Tables on disk: what is written is what is read, whatever text and numbers look like."""

import csv

import numpy as np
import pytest

from kohn.errors import InputError, TrainingError
from kohn.tables import blocks, columns_of, is_table, reorder_tables, write_table

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IDS = [
    "007",
    "1e5",
    "nan",
    "true",
    "-0",
    "a,b",
    'say "no"',
    "Li₂O · ½",
    " spaces ",
    "inf",
    "'",
    "",
    "tab\tbed",
    "line\u2028separator",
]
NUMBERS = [
    0.1,
    1 / 3,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    float("nan"),
    -1e-17,
    123456789.12345678,
]
SUFFIXES = [".csv", ".parquet"]


def made(n=14):
    numbers = np.resize(NUMBERS, n)
    return {
        "id": np.resize(IDS, n).tolist(),
        "number": numbers,
        "whole": np.arange(n),
        "flag": np.arange(n) % 3 == 0,
        "text": [f"x{k}" for k in range(n)],
    }


def back(file):
    """Columns as another reader has them: text and exact numbers."""
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pydict()
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    found = {name: [r[name] for r in rows] for name in rows[0]}
    found["number"] = [float(v) if v else float("nan") for v in found["number"]]
    for name in {"whole", "rank"} & set(found):
        found[name] = [int(v) for v in found[name]]
    found["flag"] = [{"true": True, "false": False}[v] for v in found["flag"]]
    return found


def same(found, columns):
    assert set(columns) <= set(found)
    for name, column in columns.items():
        if name == "number":  # to the bit; NaN is NaN
            mine, theirs = np.array(found[name]), np.asarray(column)
            np.testing.assert_array_equal(mine, theirs)
            np.testing.assert_array_equal(np.signbit(mine), np.signbit(theirs))
        else:
            assert list(found[name]) == list(column), name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(suffix, tmp_path):
    file = tmp_path / f"a{suffix}"
    write_table(file, made())
    assert columns_of(file) == list(made())
    same(back(file), made())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parts_are_joined_and_sorted(suffix, rng, tmp_path):
    columns = made(50)
    parts = []
    for k, (i, j) in enumerate([(0, 13), (13, 14), (14, 50)]):
        parts.append(tmp_path / f"{k}{suffix}")
        write_table(parts[-1], {name: column[i:j] for name, column in columns.items()})
    order = rng.permutation(50)
    out = tmp_path / f"out{suffix}"
    head = reorder_tables(parts, order, out, text=("id", "text"))
    expected = {name: [column[i] for i in order] for name, column in columns.items()}
    same(back(out), {"rank": range(1, 51), **expected})
    assert columns_of(out) == ["rank", *columns]
    assert len(head) == 50
    for n, (row, i) in enumerate(zip(head, order, strict=True), start=1):
        assert row["rank"] == n
        assert row["id"] == columns["id"][i]
        assert row["flag"] == columns["flag"][i]
        assert row["whole"] == columns["whole"][i]
        assert type(row["id"]) is str


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_the_first_rows_are_given_back(suffix, tmp_path):
    part, out = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_table(part, {"id": [f"{k:03d}" for k in range(300)], "whole": np.arange(300)})
    head = reorder_tables([part], np.arange(300)[::-1], out, text=("id",))
    assert [r["id"] for r in head] == [f"{k:03d}" for k in range(299, 199, -1)]
    assert [r["rank"] for r in head] == list(range(1, 101))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_blocks_make_up_the_table(suffix, tmp_path, monkeypatch):
    file = tmp_path / f"a{suffix}"
    write_table(file, made(50))
    monkeypatch.setattr("kohn.tables.ROWS", 8)
    found = [block for block, _ in blocks(file, ["whole", "id"])]
    assert [len(b["id"]) for b in found] == [8] * 6 + [2]
    assert [i for b in found for i in b["id"]] == made(50)["id"]
    assert [int(w) for b in found for w in b["whole"]] == list(range(50))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "call",
    [
        lambda part, file: write_table(file, made(50)),
        lambda part, file: reorder_tables([part], np.arange(14), file),
    ],
    ids=["write", "reorder"],
)
def test_the_file_is_there_whole_or_not_at_all(suffix, call, tmp_path, monkeypatch):
    file, part = tmp_path / f"a{suffix}", tmp_path / f"part{suffix}"
    write_table(part, made())
    write_table(file, made(3))
    before = file.read_bytes()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kohn.records.os.fsync", refuse)
    with pytest.raises(TrainingError, match="No space left"):
        call(part, file)
    assert file.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([file.name, part.name])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_that_cannot_be_written_leave_nothing(suffix, tmp_path):
    with pytest.raises(ValueError, match=r"argument|lengths|length"):
        write_table(tmp_path / f"a{suffix}", {"id": ["a", "b"], "whole": np.arange(3)})
    assert list(tmp_path.iterdir()) == []


def test_the_same_columns_give_the_same_bytes(tmp_path):
    for suffix in SUFFIXES:
        for name in ("a", "b"):
            write_table(tmp_path / f"{name}{suffix}", made())
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_names_of_tables(tmp_path):
    assert is_table(tmp_path / "a.CSV")
    assert is_table(tmp_path / "a.parquet")
    assert not is_table(tmp_path / "a.extxyz")


def test_parquet_without_pyarrow_is_refused(tmp_path, monkeypatch):
    def none(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", none)
    with pytest.raises(InputError, match="pyarrow") as error:
        write_table(tmp_path / "a.parquet", made())
    assert "kohn[materials]" in str(error.value.fix)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["a\rb", "a\nb", "a\r\nb"])
def test_line_breaks_in_text_survive(broken, tmp_path):
    """As spaces: a row is a line."""
    part, out = tmp_path / "a.csv", tmp_path / "b.csv"
    columns = {"id": ["p", "q"], "formula": [broken, "Li"], "whole": np.arange(2)}
    write_table(part, columns)
    reorder_tables([part], np.array([1, 0]), out, text=("id", "formula"))
    with out.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["id"], r["formula"]) for r in rows] == [("q", "Li"), ("p", "a b")]
