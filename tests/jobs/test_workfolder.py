"""Plans, records and what killed writers leave."""

import pytest

from kohn.errors import ConfigError, InputError
from kohn.jobs import RECORDS, WorkFolder
from kohn.records import read_records

PLAN = {"files": ["a.xyz"], "seed": 3}


@pytest.fixture
def work(tmp_path):
    return WorkFolder(tmp_path / "deep" / "work", "labelling")


def test_the_plan_comes_first_and_records_after_it(work):
    with work.held():
        assert work.begin(PLAN) == []
        work.append({"done": 1})
        work.append({"done": 2})
    assert list(read_records(work.path / RECORDS)) == [PLAN, {"done": 1}, {"done": 2}]
    assert work.begin({"seed": 3, "files": ("a.xyz",)}) == [{"done": 1}, {"done": 2}]


def test_half_a_record_is_done_again(work):
    with work.held():
        work.begin(PLAN)
        work.append({"done": 1})
        with work.records.open("ab") as stream:
            stream.write(b'{"done": 2')
        assert work.begin(PLAN) == [{"done": 1}]
        work.append({"done": 2})
    assert work.begin(PLAN) == [{"done": 1}, {"done": 2}]


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        ({**PLAN, "seed": 4}, "seed"),
        ({"seed": 3}, "files"),
        ({**PLAN, "more": 1}, "more"),
        ({"seed": 4, "files": []}, "files seed"),
    ],
)
def test_another_plan_is_refused_with_what_differs(work, plan, names):
    with work.held():
        work.begin(PLAN)
        before = work.records.read_bytes()
        with pytest.raises(InputError, match="belongs to another labelling") as refused:
            work.begin(plan)
    for text in (refused.value.expected, refused.value.received):
        assert [part.split(":")[0] for part in text.split("; ")] == names.split()
    assert work.records.read_bytes() == before


def test_records_that_are_not_kept_are_gone(work):
    work.keep(lambda _: False)  # there are none
    work.make()
    for k in range(4):
        work.append({"epoch": k})
    work.keep(lambda r: r["epoch"] < 2)
    assert list(read_records(work.records)) == [{"epoch": 0}, {"epoch": 1}]


def test_what_killed_writers_left_goes_and_what_is_the_users_stays(work):
    work.make()
    for name in (".piece-01.npz.kohn-ab12_9yz", ".records.jsonl.kohn-abcdefgh"):
        (work.path / name).write_bytes(b"half a")
    kept = {".gitignore", ".hidden", "notes.txt", ".settings.yaml.original"}
    for name in kept:
        (work.path / name).write_text("mine")
    with work.held():
        pass
    assert {p.name for p in work.path.iterdir()} == kept


def test_a_folder_is_empty_but_for_its_lock_and_what_is_known(work):
    assert not work.has_other_files()
    with work.held():
        assert not work.has_other_files()
        (work.path / "structures.extxyz").write_text("")
        assert work.has_other_files()
        assert not work.has_other_files("structures.extxyz")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the folder") as refused:
        WorkFolder(tmp_path / "file" / "work", "labelling").make()
    assert "another folder for this labelling" in refused.value.fix


def test_one_process_at_a_time(work):
    with work.held(), pytest.raises(ConfigError, match="another process"):
        work.refuse_held()
    work.refuse_held()
    work.discard()
    work.discard()
    assert not work.path.exists()
