"""How a long computation reports its progress."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Called while work goes on; by default nothing happens.

    Attributes:
        work: called with what is being done, how much more of it is done, and of how much in all
            (None where nobody knows).
        record: called with each record that the work has written.
    """

    work: Callable[[str, int, int | None], None] = lambda what, done, total: None
    record: Callable[[dict[str, Any]], None] = lambda record: None

    def of(self, what: str, total: int | None = None) -> Callable[[int], None]:
        """A function that is called with how much more of one kind of work is done."""
        return lambda done: self.work(what, done, total)
