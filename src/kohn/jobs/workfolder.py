"""Manage work folders: one process at a time, and every result is written whole or not at all.

    records.jsonl   the plan in its first line, then a line for each completed piece of work
    other files     pieces of the result, each written whole (`kohn.records.replacing`)

The plan holds everything on which the result depends. Killed work is resumed, to the same bytes,
if the new plan is the same. Another plan is refused, and the error names the differences.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohn.errors import ConfigError, InputError, Place
from kohn.jobs.locks import LOCK, only_process, refuse_held
from kohn.records import (
    append_record,
    plain,
    read_records,
    remove_leftovers,
    to_json,
    write_atomically,
)
from kohn.typing import Document

RECORDS = "records.jsonl"
FORMAT = 3
"""Format of work folders, part of every plan; increase it when unfinished work must start
again."""


@dataclass(frozen=True)
class WorkFolder:
    """The folder of a long computation; the folder need not exist yet.

    Attributes:
        path: the path of the folder.
        what: the kind of work, for messages, e.g. 'training'.
    """

    path: Path
    what: str

    @property
    def records(self) -> Path:
        """The path of the file with the plan and the records."""
        return self.path / RECORDS

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and lock it until the end of the block.

        Raises:
            ConfigError: another process has locked the folder, or the folder cannot be made.
        """
        self.make()
        with only_process(self.path, self.what):
            remove_leftovers(self.path)
            yield

    def make(self) -> None:
        """Make the folder unless it exists; raise ConfigError if the folder cannot be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot make the folder: {error.strerror}",
                where=Place(file=self.path),
                fix=f"choose another folder for this {self.what}",
            ) from error

    def refuse_held(self) -> None:
        """Raise ConfigError if another process has locked the folder."""
        refuse_held(self.path, self.what)

    def has_other_files(self, *known: str) -> bool:
        """Return whether the folder has files besides the lock file and those named in `known`."""
        return self.path.is_dir() and any(
            path.name not in (LOCK, *known) for path in self.path.iterdir()
        )

    def begin(self, plan: Document) -> list[Document]:
        """Write the plan into a new folder, or resume work if the folder has the same plan.

        Returns:
            The stored records without the plan; a half-written last line is removed.

        Raises:
            InputError: the folder has another plan.
        """
        records = list(read_records(self.records)) if self.records.is_file() else []
        if not records:
            write_atomically(self.records, (to_json(plan) + "\n").encode())
            return []
        before, now = records[0], plain(dict(plan))
        differ = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
        if differ:
            raise InputError(
                f"the folder belongs to another {self.what}",
                where=Place(file=self.path),
                expected="; ".join(_setting(k, before.get(k), "as before") for k in differ),
                received="; ".join(_setting(k, now.get(k), "different") for k in differ),
                fix="repeat the first command to go on, remove the folder, or choose another one",
            )
        self.keep(lambda _: True)
        return records[1:]

    def append(self, record: Document) -> None:
        """Append a record to the file; raise TrainingError if the file cannot be written."""
        append_record(self.records, dict(record))

    def keep(self, wanted: Callable[[Document], bool]) -> None:
        """Remove records (the plan too) that are not `wanted`, and a line that was half written."""
        if not self.records.is_file():
            return
        data = "".join(to_json(r) + "\n" for r in read_records(self.records) if wanted(r)).encode()
        if data != self.records.read_bytes():
            write_atomically(self.records, data)

    def discard(self) -> None:
        """Remove the folder with all its files, if the folder exists."""
        if self.path.is_dir():
            shutil.rmtree(self.path)


def _setting(key: str, value: Any, otherwise: str) -> str:
    """Return 'key: value' for an error message; `otherwise` stands for a value that is too long."""
    text = to_json(value)
    return f"{key}: {text if len(text) < 100 else otherwise}"
