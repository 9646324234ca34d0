"""Build the hulls of many chemical systems from one set of entries.

A compound can only decompose into entries made of its own elements. So a candidate needs only the
hull of its chemical system, from the entries made of these elements: this hull is small and exact,
and is built once for all candidates of the system.
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
"""The largest number of hulls that are kept in memory for reuse."""


class SystemHulls:
    """The hulls of many chemical systems, which are the sets of elements of compounds.

    Attributes:
        entries: entries of all systems.
        references: energies of the elements; None to use their lowest entries.
        tolerance: a compound is stable if its distance to the hull is at most this, eV/atom.
    """

    def __init__(
        self,
        entries: Entries,
        references: ElementalReferences | None = None,
        *,
        tolerance: float = TOLERANCE,
        kept: int = KEPT,
    ):
        """Prepare hulls. Each hull is built when first requested; at most `kept` stay in memory.

        Provenance is not checked here, because it must be checked for all entries at once; see
        `kohn.stability.provenance`.
        """
        self.entries, self.references, self.tolerance = entries, references, tolerance
        has = entries.counts > 0
        self._masks = _bit_masks(has)
        pure = has[has.sum(axis=1) == 1].any(axis=0)
        self._known = {entries.elements[j] for j in np.flatnonzero(pure).tolist()}
        if entries.formation:  # counted from the elements, which need no entry
            self._known.update(entries.elements)
        if references is not None:
            self._known.update(references.elements)
        self._kept = kept
        self._hulls: OrderedDict[tuple[str, ...], ConvexHull] = OrderedDict()

    def of(self, system: Iterable[str]) -> ConvexHull:
        """Return the hull of the chemical system with these elements.

        Raises:
            InputError: an element that has neither an entry nor a reference energy.
        """
        elements = tuple(sorted(system))
        hull = self._hulls.pop(elements, None)
        if hull is None:
            hull = self._build(elements)
        self._hulls[elements] = hull
        if len(self._hulls) > self._kept:
            self._hulls.popitem(last=False)
        return hull

    def lacking(self, systems: Iterable[Iterable[str]]) -> list[str]:
        """Return the elements of the systems that have neither an entry nor a reference energy."""
        return sorted({e for system in systems for e in system} - self._known)

    def rows(self, elements: Iterable[str]) -> np.ndarray:
        """Return the indices of the entries that contain no other elements than `elements`."""
        inside = set(elements)
        others = np.array([e not in inside for e in self.entries.elements])
        return np.flatnonzero(((self._masks & _bit_masks(others[None])) == 0).all(axis=1))

    def _build(self, elements: tuple[str, ...]) -> ConvexHull:
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


def _bit_masks(has: Bool[np.ndarray, "N D"]) -> Int[np.ndarray, "N W"]:
    """Pack each row of booleans into integers of 62 bits, so that sets are compared quickly."""
    bits = np.int64(1) << np.arange(62)
    parts = [has[:, j : j + 62] for j in range(0, has.shape[1], 62)]
    return np.column_stack([part @ bits[: part.shape[1]] for part in parts])
