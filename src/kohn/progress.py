"""Report the progress of a long computation to functions that the caller provides."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Functions that are called during a long computation; by default they do nothing.

    Attributes:
        work: called with the kind of work, the amount done since the last call, and the total
            amount (None if unknown).
        record: called with each record that was written.
    """

    work: Callable[[str, int, int | None], None] = lambda kind, done, total: None
    record: Callable[[dict[str, Any]], None] = lambda record: None

    def of(self, kind: str, total: int | None = None) -> Callable[[int], None]:
        """Return a function (amount done since its last call) that reports this kind of work."""
        return lambda done: self.work(kind, done, total)
