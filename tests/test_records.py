"""Records: lines that are appended, files that are replaced whole, JSON for machines."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from kohn.errors import InputError, TrainingError
from kohn.records import (
    append_record,
    plain,
    read_records,
    replacing,
    to_json,
    write_atomically,
)


def test_records_are_read_in_order_and_half_a_last_one_is_not(tmp_path):
    path = tmp_path / "records.jsonl"
    for k in range(3):
        append_record(path, {"k": k})
    assert [r["k"] for r in read_records(path)] == [0, 1, 2]
    with path.open("a") as stream:
        stream.write('{"k": 3, "half')
    assert [r["k"] for r in read_records(path)] == [0, 1, 2]


@pytest.mark.parametrize("line", [2, 3])
def test_a_whole_line_that_is_no_json_is_refused_and_told(tmp_path, line):
    """The last whole one too: only what has no end of line was being written."""
    lines = ['{"k": 0}', '{"k": 1}', '{"k": 2}']
    lines[line - 1] = "{'k': 1}"
    (tmp_path / "r.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=f"line {line}"):
        list(read_records(tmp_path / "r.jsonl"))


def test_json_has_no_numbers_that_are_not_finite():
    value = {"a": np.array([1.0, np.nan]), "b": float("inf"), 3: Path("x/y"), "c": (np.int64(2),)}
    assert plain(value) == {"a": [1.0, None], "b": None, "3": "x/y", "c": [2]}
    assert json.loads(to_json(value)) == plain(value)
    assert to_json({"b": 1, "a": 2}) == '{"a": 2, "b": 1}'


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "model"
    write_atomically(path, b"old")

    def half():
        with replacing(path) as stream:
            stream.write(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["model"]


def test_what_is_written_reaches_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """A power cut leaves the old file or the new one: file, name, folder, in this order."""
    steps = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), rename(a, b)))
    write_atomically(tmp_path / "model", b"new")
    assert steps == ["fsync", "replace", "fsync"]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(TrainingError, match="make the folder first"):
        write_atomically(tmp_path / "none" / "model", b"")
