"""Functions by which a long computation reports its progress."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Functions that are called during a long computation; by default they do nothing.

    Attributes:
        work: called with the kind of work, how much more of it is done, and its total amount
            (None if unknown).
        record: called with each record that was written.
    """

    work: Callable[[str, int, int | None], None] = lambda what, done, total: None
    record: Callable[[dict[str, Any]], None] = lambda record: None

    def of(self, what: str, total: int | None = None) -> Callable[[int], None]:
        """Return a function that reports how much more of one kind of work is done."""
        return lambda done: self.work(what, done, total)
