"""Build hulls of many chemical systems from one set of entries.

A compound decomposes into entries made of its own elements, since no others can take part. So a
candidate needs only the hull of its elements, from the entries within these: small, exact, and
built once for all candidates of the system.
"""

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from kohn.errors import InputError
from kohn.stability.entries import Entries
from kohn.stability.hull import TOLERANCE
from kohn.stability.phase_diagram import ConvexHull
from kohn.stability.references import ElementalReferences
from kohn.typing import Bool, Int

KEPT = 1000
"""Number of hulls that are kept for reuse."""


class SystemHulls:
    """Hulls by chemical system.

    Attributes:
        entries: entries of all systems.
        references: of formation energies; by default the lowest entries of the elements.
        tolerance: eV/atom.
    """

    def __init__(
        self,
        entries: Entries,
        references: ElementalReferences | None = None,
        *,
        tolerance: float = TOLERANCE,
        kept: int = KEPT,
    ):
        """Prepare the hulls of entries; each is built when it is first requested.

        Provenance is not checked here: it must be checked for all entries at once, see
        `kohn.stability.provenance`.
        """
        self.entries, self.references, self.tolerance = entries, references, tolerance
        has = entries.counts > 0
        self._words = _words(has)
        pure = has[has.sum(axis=1) == 1].any(axis=0)
        self._known = {entries.elements[j] for j in np.flatnonzero(pure).tolist()}
        if entries.formation:  # counted from the elements, which need no entry
            self._known.update(entries.elements)
        if references is not None:
            self._known.update(references.elements)
        self._kept = kept
        self._hulls: OrderedDict[tuple[str, ...], ConvexHull] = OrderedDict()

    def of(self, system: Iterable[str]) -> ConvexHull:
        """Return the hull of elements.

        Raises:
            InputError: an element without entry and reference.
        """
        elements = tuple(sorted(system))
        hull = self._hulls.pop(elements, None)
        if hull is None:
            hull = self._built(elements)
        self._hulls[elements] = hull
        if len(self._hulls) > self._kept:
            self._hulls.popitem(last=False)
        return hull

    def lacking(self, systems: Iterable[Iterable[str]]) -> list[str]:
        """Return the elements of the systems that have neither a pure entry nor a reference."""
        return sorted({e for system in systems for e in system} - self._known)

    def rows(self, elements: Iterable[str]) -> np.ndarray:
        """Return the rows of the entries that are made of these elements alone."""
        inside = set(elements)
        others = np.array([e not in inside for e in self.entries.elements])
        return np.flatnonzero(((self._words & _words(others[None])) == 0).all(axis=1))

    def _built(self, elements: tuple[str, ...]) -> ConvexHull:
        missing = self.lacking([elements])
        if missing:
            raise InputError(
                f"the hull has no entry of {', '.join(missing)} alone",
                expected=f"an entry or a reference energy of each of {', '.join(elements)}",
                fix="add them, computed in the same way",
            )
        inside = self.entries.select(self.rows(elements)).over(elements)
        # Mixed energies were refused or allowed for all systems together.
        return ConvexHull(inside, self.references, tolerance=self.tolerance, allow_mixed=True)


def _words(has: Bool[np.ndarray, "N D"]) -> Int[np.ndarray, "N W"]:
    """Return rows of booleans as integers of 62 bits, to compare sets of elements at once."""
    bits = np.int64(1) << np.arange(62)
    parts = [has[:, j : j + 62] for j in range(0, has.shape[1], 62)]
    return np.column_stack([part @ bits[: part.shape[1]] for part in parts])
