"""Geometries without sense, and geometries unlike all that a model was trained on.

Of the training data the model file keeps, within the cutoff,

    shortest    the shortest distance of each pair of elements
    loneliest   the longest distance from an atom of each element to its nearest neighbour

A distance that is shorter or a neighbour that is farther by more than `MARGIN`, or a pair of
elements that were never neighbours, is extrapolation: a network says something there, and nothing
vouches for it. That all distances are known does not make a geometry safe: angles and environments
are not looked at. Atoms nearer than `NEAREST` of the sum of their covalent radii are refused,
unless the training data had them as near.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from kohn.errors import InputError
from kohn.graphs import Neighbourhood, neighbourhood
from kohn.structures import Structure
from kohn.structures.elements import covalent_radii, symbol
from kohn.typing import Document

NEAREST = 0.2
"""Share of the sum of covalent radii (C–C 0.30 Å, H–H 0.12 Å): nearer atoms have no sense."""
MARGIN = 0.05
"""By how much of itself a distance may leave the range of the training data."""
_BASE = 128
"""Pairs of atomic numbers are numbers to this base."""


class ExtrapolationWarning(UserWarning):
    """A model was asked about a geometry unlike those that it was trained on."""


@dataclass(frozen=True)
class Seen:
    """Distances of the training data.

    Attributes:
        shortest: pair of atomic numbers, the smaller first -> Å.
        loneliest: atomic number -> Å.
    """

    shortest: dict[tuple[int, int], float]
    loneliest: dict[int, float]

    @classmethod
    def of(cls, structures: Sequence[Structure], rows: Sequence[Neighbourhood]) -> Self:
        """Those of structures with their neighbourhoods."""
        shortest: dict[tuple[int, int], float] = {}
        loneliest: dict[int, float] = {}
        for s, h in zip(structures, rows, strict=True):
            pairs, nearest = _distances(s, h)
            for pair, r in pairs.items():
                shortest[pair] = min(r, shortest.get(pair, np.inf))
            for z, r in nearest.items():
                loneliest[z] = max(r, loneliest.get(z, 0.0))
        return cls(shortest, loneliest)

    def joined(self, other: "Seen") -> "Seen":
        """Those of both."""
        shortest = {
            pair: min(self.shortest.get(pair, np.inf), other.shortest.get(pair, np.inf))
            for pair in self.shortest.keys() | other.shortest.keys()
        }
        loneliest = {
            z: max(self.loneliest.get(z, 0.0), other.loneliest.get(z, 0.0))
            for z in self.loneliest.keys() | other.loneliest.keys()
        }
        return Seen(shortest, loneliest)

    @classmethod
    def from_json(cls, document: Document) -> Self:
        """What `to_json` wrote."""
        shortest = {(int(a), int(b)): float(r) for a, b, r in document["shortest"]}
        return cls(shortest, {int(z): float(r) for z, r in document["loneliest"]})

    def to_json(self) -> Document:
        """Lists of atomic numbers and Å."""
        return {
            "shortest": [[a, b, r] for (a, b), r in sorted(self.shortest.items())],
            "loneliest": [[z, r] for z, r in sorted(self.loneliest.items())],
        }

    def outside(self, structure: Structure, rows: Neighbourhood) -> list[str]:
        """In what a structure is unlike the training data, in words; empty where in nothing."""
        pairs, nearest = _distances(structure, rows)
        found = []
        for (a, b), r in pairs.items():
            name, known = f"{symbol(a)}–{symbol(b)}", self.shortest.get((a, b))
            if known is None:
                found.append(f"{name} were never neighbours in the training data")
            elif r < known * (1 - MARGIN):
                found.append(f"{name} at {r:.2f} Å, in the training data {known:.2f} Å or more")
        for z, r in nearest.items():
            known = self.loneliest.get(z)
            if known is not None and r > known * (1 + MARGIN):
                found.append(
                    f"{symbol(z)} without a neighbour within {r:.2f} Å, in the training data "
                    f"always within {known:.2f} Å"
                )
        return found


@dataclass(frozen=True)
class ApplicabilityDomain:
    """What is refused and warned of before a model is asked.

    Attributes:
        cutoff: of the model, Å.
        seen: of its training data; None where its file does not say.
    """

    cutoff: float
    seen: Seen | None = None

    def rows(self, structure: Structure) -> Neighbourhood:
        """The neighbours of a structure within the cutoff.

        Raises:
            InputError: no sense in the geometry: see `kohn.graphs.neighbourhood`; atoms nearer
                than `NEAREST` of the sum of their radii, and than in the training data.
        """
        found = neighbourhood(structure, self.cutoff)
        self.refuse_overlaps(structure, found)
        return found

    def outside(self, structure: Structure, rows: Neighbourhood) -> tuple[str, ...]:
        """In what a structure is unlike the training data, as far as they are known."""
        return () if self.seen is None else tuple(self.seen.outside(structure, rows))

    def refuse_overlaps(self, structure: Structure, rows: Neighbourhood) -> None:
        """Raises InputError where two atoms are too near."""
        i, slot = np.nonzero(rows.mask)
        r = np.linalg.norm(rows.displacement[i, slot], axis=1)
        j = rows.index[i, slot]
        near = np.flatnonzero(r < self.limit(structure.numbers[i], structure.numbers[j]))
        if len(near):
            k = near[np.argmin(r[near])]
            a, b = int(i[k]), int(j[k])
            least = float(self.limit(structure.numbers[[a]], structure.numbers[[b]])[0])
            names = [f"{symbol(structure.numbers[x])} (atom {x})" for x in (a, b)]
            raise InputError(
                "two atoms are too near each other to have a sense",
                where=structure.place,
                expected=f"at least {least:.2f} Å, {NEAREST:g} of the sum of their radii",
                received=f"{names[0]} and {names[1]}{' or its image' if a == b else ''}, "
                f"{r[k]:.3f} Å apart",
                fix="check that positions and cell are in Å, and that no atom is there twice",
            )

    def limit(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Å, below which atoms of atomic numbers a and b, of any one shape, have no sense."""
        limit = NEAREST * (covalent_radii(a) + covalent_radii(b))
        if self.seen is None or not self._nearer:
            return limit
        codes = np.minimum(a, b).astype(np.int64) * _BASE + np.maximum(a, b)
        known = np.array([self._nearer.get(code, np.inf) for code in codes.ravel().tolist()])
        return np.minimum(limit, (1 - MARGIN) * known.reshape(codes.shape))

    @cached_property
    def _nearer(self) -> dict[int, float]:
        """Pairs that the training data had nearer than `NEAREST` allows."""
        assert self.seen is not None
        return {
            a * _BASE + b: r
            for (a, b), r in self.seen.shortest.items()
            if r < NEAREST * float(covalent_radii(np.array([a, b])).sum())
        }


def domain_of(cutoff: float, provenance: Document) -> ApplicabilityDomain:
    """The judge for a model with this history."""
    document = provenance.get("seen")
    return ApplicabilityDomain(cutoff, None if document is None else Seen.from_json(document))


def _distances(
    structure: Structure, rows: Neighbourhood
) -> tuple[dict[tuple[int, int], float], dict[int, float]]:
    """Shortest distance by pair of elements; longest distance to a nearest neighbour by element,
    of atoms that have one."""
    r = np.where(rows.mask, np.linalg.norm(rows.displacement, axis=2), np.inf)
    numbers = np.append(structure.numbers, 0).astype(np.int64)
    own, other = numbers[:-1, None], numbers[rows.index]
    codes = (np.minimum(own, other) * _BASE + np.maximum(own, other))[rows.mask]
    pairs, where = np.unique(codes, return_inverse=True)
    least = np.full(len(pairs), np.inf)
    np.minimum.at(least, where, r[rows.mask])
    nearest = r.min(axis=1, initial=np.inf)
    farthest = {}
    for z in np.unique(structure.numbers):
        of_z = nearest[(structure.numbers == z) & np.isfinite(nearest)]
        if len(of_z):
            farthest[int(z)] = float(of_z.max())
    return {divmod(int(p), _BASE): float(x) for p, x in zip(pairs, least, strict=True)}, farthest
