"""Lock a folder, so that one process at a time works in it.

The kernel holds the lock (flock) on a file in the folder, so a killed process leaves no lock
behind, whatever the file contains; the file names the owner of the lock, for error messages.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kohn.errors import ConfigError, Place

LOCK = ".lock"
"""Name of the file in a folder that is locked."""


@contextmanager
def only_process(folder: str | Path, what: str) -> Iterator[None]:
    """Lock an existing folder until the end of the block, so that no other process works in it.

    Args:
        folder: the folder to lock. what: the kind of work, for the message, e.g. 'training'.

    Raises:
        ConfigError: another process holds the lock, or the folder cannot be written.
    """
    path = Path(folder) / LOCK
    handle = _open_lock_file(path)
    try:
        _lock(handle, path, what)
        os.ftruncate(handle, 0)
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%c")}
        os.pwrite(handle, json.dumps({**owner, "what": what}).encode(), 0)
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(handle)  # releases the lock


def refuse_held(folder: str | Path, what: str) -> None:
    """Raise ConfigError if another process has locked the folder; the folder need not exist."""
    path = Path(folder) / LOCK
    if path.is_file():
        handle = os.open(path, os.O_RDWR)
        try:
            _lock(handle, path, what)
        finally:
            os.close(handle)


def _open_lock_file(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(
            f"cannot write into the folder: {error.strerror}",
            where=Place(file=path.parent),
            fix="choose another folder",
        ) from error


def _lock(handle: int, path: Path, what: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(handle, 1000, 0).decode(errors="replace")
        try:
            owner = json.loads(text)
            holder = f"process {owner['process']} on {owner['host']}, since {owner['since']}"
        except (ValueError, KeyError, TypeError):
            holder = "a process that has just started"
        raise ConfigError(
            "another process is at work in this folder",
            where=Place(file=path.parent),
            received=holder,
            fix=f"wait until it has ended, or choose another folder for this {what}",
        ) from None
    except OSError:  # file systems without locks
        return
