"""Detect impossible geometries, and geometries unlike the training data of a model.

The model file stores two kinds of distances in the training data, within the cutoff:

    shortest    the shortest distance between atoms of each pair of elements
    loneliest   the longest distance from an atom of each element to its nearest neighbour

A distance that is shorter or a neighbour that is farther by more than `MARGIN`, or a pair of
elements that were never neighbours, is extrapolation: the network still predicts a value, but no
training data support it. Known distances alone do not make a geometry safe, because angles and
environments are not checked. Atoms nearer than `NEAREST` of the sum of their covalent radii are
refused, unless such atoms were as near in the training data.
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
"""Share of the sum of covalent radii below which atoms are refused (C–C 0.30, H–H 0.12 Å)."""
MARGIN = 0.05
"""Relative amount by which a distance may leave the range of the training data."""
_BASE = 128
"""A pair of atomic numbers a ≤ b is coded as one number, a · _BASE + b."""


class ExtrapolationWarning(UserWarning):
    """A model was applied to a geometry unlike its training data."""


@dataclass(frozen=True)
class TrainingDistances:
    """Distances between atoms in the training data, within the cutoff.

    Attributes:
        shortest: pair of atomic numbers, the smaller first -> their shortest distance, Å.
        farthest_nearest: atomic number -> longest distance of an atom to its nearest neighbour, Å.
    """

    shortest: dict[tuple[int, int], float]
    farthest_nearest: dict[int, float]

    @classmethod
    def of(cls, structures: Sequence[Structure], rows: Sequence[Neighbourhood]) -> Self:
        """Collect the distances in structures, from the neighbours of their atoms (`rows`)."""
        shortest: dict[tuple[int, int], float] = {}
        farthest_nearest: dict[int, float] = {}
        for s, h in zip(structures, rows, strict=True):
            pairs, nearest = _distances(s, h)
            for pair, r in pairs.items():
                shortest[pair] = min(r, shortest.get(pair, np.inf))
            for z, r in nearest.items():
                farthest_nearest[z] = max(r, farthest_nearest.get(z, 0.0))
        return cls(shortest, farthest_nearest)

    def joined(self, other: "TrainingDistances") -> "TrainingDistances":
        """Return the distances of both sets of training data together."""
        shortest = {
            pair: min(self.shortest.get(pair, np.inf), other.shortest.get(pair, np.inf))
            for pair in self.shortest.keys() | other.shortest.keys()
        }
        farthest_nearest = {
            z: max(self.farthest_nearest.get(z, 0.0), other.farthest_nearest.get(z, 0.0))
            for z in self.farthest_nearest.keys() | other.farthest_nearest.keys()
        }
        return TrainingDistances(shortest, farthest_nearest)

    @classmethod
    def from_json(cls, document: Document) -> Self:
        """Return the distances from a document that `to_json` made."""
        shortest = {(int(a), int(b)): float(r) for a, b, r in document["shortest"]}
        return cls(shortest, {int(z): float(r) for z, r in document["loneliest"]})

    def to_json(self) -> Document:
        """Return the distances as lists, each of atomic numbers and a distance, Å."""
        return {
            "shortest": [[a, b, r] for (a, b), r in sorted(self.shortest.items())],
            "loneliest": [[z, r] for z, r in sorted(self.farthest_nearest.items())],
        }

    def outside(self, structure: Structure, rows: Neighbourhood) -> list[str]:
        """Return texts on how a structure is unlike the training data; none if it is similar."""
        pairs, nearest = _distances(structure, rows)
        texts = []
        for (a, b), r in pairs.items():
            name, known = f"{symbol(a)}–{symbol(b)}", self.shortest.get((a, b))
            if known is None:
                texts.append(f"{name} were never neighbours in the training data")
            elif r < known * (1 - MARGIN):
                texts.append(f"{name} at {r:.2f} Å, in the training data {known:.2f} Å or more")
        for z, r in nearest.items():
            known = self.farthest_nearest.get(z)
            if known is not None and r > known * (1 + MARGIN):
                texts.append(
                    f"{symbol(z)} without a neighbour within {r:.2f} Å, in the training data "
                    f"always within {known:.2f} Å"
                )
        return texts


@dataclass(frozen=True)
class ApplicabilityDomain:
    """The geometries that a model accepts; others are refused, or predicted with a warning.

    Attributes:
        cutoff: cutoff of the model, Å.
        distances: distances in its training data; None if the model file does not store them.
    """

    cutoff: float
    distances: TrainingDistances | None = None

    def rows(self, structure: Structure) -> Neighbourhood:
        """Return the neighbours of a structure within the cutoff.

        Raises:
            InputError: see `kohn.graphs.neighbourhood`; or two atoms are nearer than `NEAREST` of
                the sum of their covalent radii, and also nearer than in the training data.
        """
        neighbours = neighbourhood(structure, self.cutoff)
        self.refuse_overlaps(structure, neighbours)
        return neighbours

    def outside(self, structure: Structure, rows: Neighbourhood) -> tuple[str, ...]:
        """Return texts on how a structure is unlike the training data; none without `distances`."""
        return () if self.distances is None else tuple(self.distances.outside(structure, rows))

    def refuse_overlaps(self, structure: Structure, rows: Neighbourhood) -> None:
        """Raise InputError if two atoms are too near each other."""
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
                "two atoms are too near each other",
                where=structure.place,
                expected=f"at least {least:.2f} Å, {NEAREST:g} of the sum of their radii",
                received=f"{names[0]} and {names[1]}{' or its image' if a == b else ''}, "
                f"{r[k]:.3f} Å apart",
                fix="check that positions and cell are in Å, and that no atom occurs twice",
            )

    def limit(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the distance, Å, below which atoms of atomic numbers a, b [...] are refused."""
        limit = NEAREST * (covalent_radii(a) + covalent_radii(b))
        if self.distances is None or not self._overlaps:
            return limit
        codes = np.minimum(a, b).astype(np.int64) * _BASE + np.maximum(a, b)
        known = np.array([self._overlaps.get(code, np.inf) for code in codes.ravel().tolist()])
        return np.minimum(limit, (1 - MARGIN) * known.reshape(codes.shape))

    @cached_property
    def _overlaps(self) -> dict[int, float]:
        """Coded pair of elements -> shortest known distance, Å, if `NEAREST` would refuse it."""
        assert self.distances is not None
        return {
            a * _BASE + b: r
            for (a, b), r in self.distances.shortest.items()
            if r < NEAREST * float(covalent_radii(np.array([a, b])).sum())
        }


def domain_of(cutoff: float, provenance: Document) -> ApplicabilityDomain:
    """Return the applicability domain of a model with this cutoff, Å, and this provenance."""
    document = provenance.get("seen")
    return ApplicabilityDomain(
        cutoff, None if document is None else TrainingDistances.from_json(document)
    )


def _distances(
    structure: Structure, rows: Neighbourhood
) -> tuple[dict[tuple[int, int], float], dict[int, float]]:
    """Return the shortest distance of each pair of elements, and for each element the longest
    distance from an atom to its nearest neighbour, if it has one."""
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
