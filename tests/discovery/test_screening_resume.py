"""A screening that is killed at any step goes on to the same bytes, and with nothing else."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import screening_toys as toys

from kohn.discovery import ranking, screen
from kohn.discovery.options import Options
from kohn.errors import InputError
from kohn.progress import Progress
from kohn.records import read_records

OPTIONS = Options(error=0.02)


@pytest.fixture(autouse=True)
def in_small_parts(monkeypatch):
    monkeypatch.setattr("kohn.discovery.ranking.ROWS", 7)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(2)
    hull = toys.write(tmp_path / "hull.csv", toys.columns(rng, 60, "h", elements=True))
    return hull, toys.write(tmp_path / "new.csv", toys.columns(rng, 40, "c"))


def run(files, out, options=OPTIONS, **more):
    hull, new = files
    return screen([new], [hull], out, options=options, **more)


@pytest.fixture(params=[".csv", ".parquet"])
def alone(request, files):
    """Of a run that is left alone: where, and the bytes."""
    out = files[0].parent / f"alone{request.param}"
    run(files, out)
    assert not list(files[0].parent.glob("*.work"))
    return out, out.read_bytes()


def killing_at(nth, monkeypatch, after=False):
    """Die at the nth time that anything takes its name, before it or after it."""
    rename, remove, times = os.replace, shutil.rmtree, [0]

    def fatal(function):
        def call(*args, **more):
            times[0] += 1
            if times[0] == nth and not after:
                raise toys.Killed
            found = function(*args, **more)
            if times[0] == nth:
                raise toys.Killed
            return found

        return call

    monkeypatch.setattr(os, "replace", fatal(rename))
    monkeypatch.setattr(shutil, "rmtree", fatal(remove))


def killed(files, out, **more):
    """Whether it died on the way."""
    try:
        run(files, out, **more)
    except toys.Killed:
        return True
    return False


def whole(out, expected):
    """The bytes, every id once, and nothing left behind."""
    assert out.read_bytes() == expected
    ids = [r["id"] for r in toys.rows(out)]
    assert sorted(ids) == sorted(f"c{k}" for k in range(40))
    assert not out.parent.joinpath(f"{out.name}.work").exists()


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_each_file_that_is_written(after, files, alone):
    """Plan, keys and rows of six parts, the ranked table, its name, the folder."""
    first, expected = alone
    for n in range(1, 100):
        out = first.with_stem(f"at{n}")
        with pytest.MonkeyPatch.context() as patch:
            killing_at(n, patch, after)
            died = killed(files, out)
        if not died:
            break
        if out.exists():  # only the folder is left to be removed
            assert out.read_bytes() == expected
        else:
            run(files, out)
            whole(out, expected)
    assert n > 15
    whole(out, expected)


@pytest.mark.slow
def test_killed_at_each_step_that_is_told(files, alone):
    first, expected = alone
    for n in range(1, 100):
        out, told = first.with_stem(f"step{n}"), []

        def tell(what, done, total, told=told, n=n):
            told.append(what)
            if len(told) == n:
                raise toys.Killed

        if not killed(files, out, progress=Progress(tell)):
            break
        assert not out.exists()
        run(files, out)
        whole(out, expected)
    assert n > 8


def test_killed_again_and_again(files, alone):
    """Each time after one more part; what is there is not done again."""
    first, expected = alone
    out, deaths = first.with_stem("again"), 0
    for n in range(1, 100):
        judged, made = [], []
        with pytest.MonkeyPatch.context() as patch:

            def once(*args, made=made, table=ranking._table):
                made.append(args)
                return table(*args)

            patch.setattr(ranking, "_table", once)

            def tell(what, done, total, judged=judged, n=n):
                judged.append(what)
                if judged.count("assessing") == n:
                    raise toys.Killed

            if not killed(files, out, progress=Progress(tell)):
                break
        deaths += 1
        parts = list(out.parent.joinpath(f"{out.name}.work").glob(f"rows-*{out.suffix}"))
        assert len(parts) == n
        assert sum(len(rows) for *_, rows, _ in made) <= 7
    assert deaths == 6
    whole(out, expected)


def test_what_was_half_written_is_written_anew(files, alone):
    """A temporary file, and keys without their rows."""
    first, expected = alone
    out = first.with_stem("half")
    with pytest.MonkeyPatch.context() as patch:
        killing_at(4, patch)  # the plan, two files of the first part, then keys of the second
        assert killed(files, out)
    work = out.parent / f"{out.name}.work"
    (work / f".rows-000001{out.suffix}.xyz").write_bytes(b"half a")
    (work / "rows-000001.npz").write_bytes(b"not rows, so not asked for")
    run(files, out)
    whole(out, expected)


def test_the_comparison_can_fail(files, alone):
    """A part that is another one ends in the table."""
    first, expected = alone
    out = first.with_stem("planted")
    with pytest.MonkeyPatch.context() as patch:
        killing_at(8, patch)
        assert killed(files, out)
    work = out.parent / f"{out.name}.work"
    for suffix in (out.suffix, ".npz"):
        shutil.copy(work / f"rows-000001{suffix}", work / f"rows-000000{suffix}")
    run(files, out)
    assert out.read_bytes() != expected


def test_the_plan_says_what_is_done(files):
    out = files[0].parent / "o.csv"
    with pytest.MonkeyPatch.context() as patch:
        killing_at(3, patch)
        assert killed(files, out)
    plan = next(read_records(files[0].parent / "o.csv.work" / "records.jsonl"))
    assert plan["candidates"][0][0] == str(files[1])
    assert len(plan["hull"][0][1]) == 64
    assert plan["options"]["error"] == 0.02


def kept(work):
    """All that is in the folder but the lock, which says whose it was last."""
    return {p.name: p.read_bytes() for p in work.iterdir() if p.name != ".lock"}


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ("error", "options"),
        ("seed", "options"),
        ("by", "options"),
        ("candidates", "candidates"),
        ("bytes", "candidates"),
        ("hull", "hull"),
        ("references", "references"),
        ("version", "version"),
    ],
)
def test_another_plan_is_refused_and_named(differs, said, files, tmp_path, monkeypatch):
    hull, new = files
    out = tmp_path / "o.csv"
    with pytest.MonkeyPatch.context() as patch:
        killing_at(5, patch)
        assert killed(files, out)
    before = kept(tmp_path / "o.csv.work")
    options, candidates, more = OPTIONS, [new], {}
    if differs == "error":
        options = replace(OPTIONS, error=0.03)
    elif differs == "seed":
        options = replace(OPTIONS, seed=1)
    elif differs == "by":
        options = replace(OPTIONS, by="distance")
    elif differs == "candidates":
        candidates = [
            new,
            toys.write(tmp_path / "b.csv", toys.columns(np.random.default_rng(), 9, "d")),
        ]
    elif differs == "bytes":
        new.write_text(new.read_text().replace("c39,", "d39,"))
    elif differs == "hull":
        hull.write_text(hull.read_text().replace("h59,", "i59,"))
    elif differs == "references":
        (tmp_path / "refs.json").write_text(json.dumps(toys.MU))
        more = {"reference_energies": tmp_path / "refs.json"}
    else:
        monkeypatch.setattr("kohn.discovery.screening.__version__", "0.0.0-other")
    with pytest.raises(InputError, match="belongs to another screening") as error:
        screen(candidates, [hull], out, options=options, **more)
    names = [part.split(":")[0] for part in error.value.received.split("; ")]
    assert names == [said]
    assert "o.csv.work" in str(error.value.where)
    assert "remove" in error.value.fix
    assert kept(tmp_path / "o.csv.work") == before
    assert not out.exists()


def test_a_table_that_is_there_is_kept(files, alone):
    out, expected = alone
    with pytest.raises(InputError, match="exists already") as error:
        run(files, out)
    assert "-o" in error.value.fix
    whole(out, expected)


# --- faults that were found ---------------------------------------------------------------


def test_parts_without_a_plan_are_of_nobody(files, tmp_path):
    """A run that is killed as it removes its folder may leave parts, but no plan."""
    out = tmp_path / "o.csv"

    def half(folder):
        (folder / "records.jsonl").unlink()
        raise toys.Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        assert killed(files, out)
    out.rename(tmp_path / "kept.csv")
    other = toys.columns(np.random.default_rng(5), 40, "other")
    new = toys.write(tmp_path / "other.csv", other)
    try:
        run((files[0], new), out)
    except InputError:
        return
    assert {r["id"] for r in toys.rows(out)} == set(other["id"])


def test_a_folder_of_an_older_version_is_refused_and_kept(files, tmp_path):
    out = tmp_path / "o.csv"
    work = tmp_path / "o.csv.work"
    work.mkdir()
    for name in ("plan.json", "rows-000000.csv"):
        (work / name).write_text("{}")
    with pytest.raises(InputError, match="by an older version of Kohn") as error:
        run(files, out)
    assert "remove the folder" in error.value.fix
    assert {p.name for p in work.iterdir()} == {"plan.json", "rows-000000.csv"}
