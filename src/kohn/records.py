"""Append records (lines of JSON) to files, and replace files whole or not at all.

Long computations write their results as records; tables, reports and resumed runs read them.
A reader of either kind of file sees a complete earlier state or a complete later state, never
a mixture, no matter when the writer was killed.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from kohn.errors import InputError, Place, TrainingError
from kohn.typing import Document

WRITING = ".kohn-"
"""Text in the names of temporary files: a file is written under such a name, then renamed."""


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, which holds either the old or the new bytes, never a part.

    The bytes go to a temporary file in the same folder and are flushed to the disk; the temporary
    file is renamed to `path`; then the folder is flushed, so that a power cut does not undo this.

    Raises:
        TrainingError: the disk is full or read-only; the old file is unchanged.
    """
    with replacing(path) as stream:
        stream.write(data)


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Yield a stream for new bytes of `path`; at the end of the block it gets all of them, or none.

    Raises:
        TrainingError: the file cannot be written; the old file is unchanged.
    """
    path = Path(path)
    handle, temporary = -1, None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{WRITING}")
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if not path.parent.is_dir():
            fix = "make the folder first, or choose another one"
        else:
            fix = "free some space or choose another folder; the previous file is untouched"
        raise TrainingError(
            f"could not write {path.name}: {error.strerror}", where=Place(file=path), fix=fix
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files (see `replacing`) that killed processes left in a folder."""
    for path in folder.glob(f".*{WRITING}*"):
        if path.is_file():
            path.unlink()


def refuse_output(*files: Path) -> None:
    """Refuse output files that cannot be written, before any work.

    Raises:
        InputError: a file exists already, or its folder does not exist.
    """
    for file in files:
        if file.exists():
            fix = "choose another -o"
            raise InputError("the output file exists already", where=str(file), fix=fix)
        if not file.parent.is_dir():
            raise InputError(
                "the folder of the output file does not exist",
                where=str(file),
                fix="make it first, or choose another -o",
            )


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file. Raises InputError if the file does not exist."""
    if not file.is_file():
        raise InputError("there is no such file", where=str(file), fix="check the path")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """Return `value` with arrays, paths and NumPy numbers converted to types of JSON.

    Numbers that are not finite become None, because JSON has no NaN.
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return `value` as JSON with sorted keys; the same value always gives the same text."""
    return json.dumps(plain(value), sort_keys=True, indent=indent, allow_nan=False)


def append_record(path: str | Path, record: Document) -> None:
    """Append one record as a line of JSON; if the process is killed, the line may be incomplete."""
    line = (to_json(record) + "\n").encode()
    try:
        with open(path, "ab") as stream:
            stream.write(line)
    except OSError as error:
        raise TrainingError(
            f"could not append to {Path(path).name}: {error.strerror}",
            where=Place(file=path),
            fix="free some space and resume",
        ) from error


def read_records(path: str | Path) -> Iterator[Document]:
    """Yield the records of a file of JSON lines in order; skip an incomplete last line.

    Raises:
        InputError: a line other than the last is not JSON.
    """
    lines = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            if number == len(lines):  # no newline follows: the writer was killed
                return
            raise InputError(
                "a record is not valid JSON",
                where=Place(file=path, line=number),
                received=repr(line[:80].decode(errors="replace")),
                fix="restore the file from a copy, or remove the line",
            ) from error
