"""Errors that state what was expected, what was received, where, and how to fix it.

Every error that a user can cause is a `KohnError`. The command line prints it as one
message on stderr and exits with the code of its class; a program can read its parts.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """The source of data: a file, a frame (counted from 0) and a line (counted from 1)."""

    file: str | Path | None = None
    frame: int | None = None
    line: int | None = None

    def __str__(self) -> str:
        parts = [str(self.file)] if self.file is not None else []
        parts += [f"frame {self.frame}"] if self.frame is not None else []
        parts += [f"line {self.line}"] if self.line is not None else []
        return ", ".join(parts)


class KohnError(Exception):
    """The base class of all errors that Kohn raises on purpose.

    Args:
        message: what is wrong, in one sentence.
        expected: what would have been right.
        received: what was given instead.
        where: file, frame and line, if known.
        fix: what the user can do about it.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        received: str | None = None,
        where: Place | str | None = None,
        fix: str | None = None,
    ):
        self.message = message
        self.expected = expected
        self.received = received
        self.where = where
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.message]
        for name in ("where", "expected", "received", "fix"):
            value = getattr(self, name)
            if value is not None and str(value):
                lines.append(f"  {name}: {value}")
        return "\n".join(lines)

    def __reduce__(self):
        state = {k: getattr(self, k) for k in ("expected", "received", "where", "fix")}
        return (_rebuild, (type(self), self.message, state))


def _rebuild(cls: type[KohnError], message: str, state: dict) -> KohnError:
    return cls(message, **state)


class InputError(KohnError):
    """A file, a label or an argument cannot be used."""


class ConfigError(KohnError):
    """A configuration has an unknown key, a value out of range, or contradicts itself."""


class ModelFileError(KohnError):
    """A model file is damaged, or this version of Kohn cannot read it."""


class CheckFailed(KohnError):
    """A check was completed, and its result is a failure."""

    exit_code = 1


class TrainingError(KohnError):
    """Training cannot continue: it diverges, or the disk is full."""


def nearest(word: str, candidates, *, cutoff: float = 0.6) -> str | None:
    """Return the candidate most similar to `word`, for 'did you mean'; None if none is similar."""
    from difflib import get_close_matches

    by_lower = {str(c).lower(): str(c) for c in candidates}
    matches = get_close_matches(word.lower(), list(by_lower), n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None
