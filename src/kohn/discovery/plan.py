"""What a screening is to do, said in a file: whoever goes on must mean the same."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kohn.errors import InputError
from kohn.locks import refuse_held
from kohn.records import plain, to_json, write_atomically

PLAN = "plan.json"


def checksum(file: Path) -> str:
    """SHA-256 of a file, or of the model of a run's folder. Raises InputError."""
    path = file / "model.safetensors" if file.is_dir() else file
    if not path.is_file():
        raise InputError("there is no such file", where=str(file), fix="check the path")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def begin(out: Path, work: Path, plan: Mapping[str, Any], *more: Path) -> bool:
    """Make the folder of the records, or go on with one.

    Args:
        out: where the result will be.
        work: the folder.
        plan: what is to be done: whatever the result depends on.
        more: other files that will be written at the end.

    Returns:
        Whether there was something to go on with.

    Raises:
        InputError: the result is there already; the folder is of another plan.
        ConfigError: another process is at work in the folder.
    """
    if not out.parent.is_dir():
        raise InputError(
            "the folder of the output file does not exist",
            where=str(out),
            fix="make it first, or choose another -o",
        )
    there = next((f for f in (out, *more) if f.exists()), None)
    if there is not None:
        fix = "choose another -o"
        raise InputError("the output file exists already", where=str(there), fix=fix)
    file = work / PLAN
    refuse_held(work, "screening")
    if not begun(work):
        discard(work)
        work.mkdir()
        write_atomically(file, (to_json(plan, indent=2) + "\n").encode())
        return False
    before, now = json.loads(file.read_text(encoding="utf-8")), plain(dict(plan))
    differ = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
    if differ:
        raise InputError(
            "a screening that was stopped here was of other files or options",
            where=str(work),
            expected="; ".join(f"{k}: {_short(before.get(k))}" for k in differ),
            received="; ".join(f"{k}: {_short(now.get(k))}" for k in differ),
            fix=f"repeat the first command to go on, remove {work}, or choose another -o",
        )
    return True


def begun(work: Path) -> bool:
    """Whether the folder has records of a plan, and not the plan alone, or records of none."""
    return (work / PLAN).is_file() and any(work.glob("*-*"))


def discard(work: Path) -> None:
    """Remove the folder, if it is there."""
    if work.is_dir():
        shutil.rmtree(work)


def _short(value: Any) -> str:
    text = to_json(value)
    return text if len(text) < 100 else text[:97] + "…"
