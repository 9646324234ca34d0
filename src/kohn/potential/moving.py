"""Evaluate a potential for moving atoms: neighbours are kept, with a skin, while they hold."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import jax
import numpy as np

from kohn.graphs import Neighbourhood, Verlet, growing_shape
from kohn.graphs.verlet import Shapes
from kohn.models import Derived
from kohn.potential.compiled_model import CompiledModel
from kohn.potential.extrapolation import ApplicabilityDomain, ExtrapolationWarning
from kohn.structures import Prediction, Structure


class PotentialForMoving(Protocol):
    """The part of a potential that `MovingPotential` needs."""

    @property
    def cutoff(self) -> float: ...

    @property
    def domain(self) -> ApplicabilityDomain: ...

    def compiled(self, elements: tuple[int, ...]) -> CompiledModel: ...

    def complete(self, structure: Structure, d: Derived, g: int, rows: slice) -> Prediction: ...


class MovingPotential:
    """Energy, forces and stress of one geometry after another.

    Neighbours are searched again only when an atom has moved half the skin. Geometries unlike the
    training data give one warning (`kohn.potential.ExtrapolationWarning`), if the model file stores
    the distances of these data; geometries are checked whenever neighbours are searched.

    Args:
        potential: the potential that predicts.
        skin: of the neighbour list, Å; with 0 neighbours are searched for each geometry.
        padded: chooses the shapes of lists; by default they only grow, so that a long
            simulation compiles a few times at most.
        elements: atomic numbers to compile for in addition to those present: structures of
            different composition then share compiled functions.
        checked: whether to warn of geometries, and to refuse atoms that are too near each other;
            False for callers that check every geometry themselves.
    """

    def __init__(
        self,
        potential: PotentialForMoving,
        *,
        skin: float = 0.2,
        padded: Shapes = growing_shape,
        elements: Sequence[int] = (),
        checked: bool = True,
    ):
        self.potential, self.skin, self.checked = potential, skin, checked
        self._padded, self._elements = padded, tuple(elements)
        self._lists: dict[tuple[int, ...], Verlet] = {}
        self._near: Neighbourhood | None = None
        self._warned = False

    @property
    def compilations(self) -> int:
        """Number of shapes, each for some elements; functions are compiled for each of them."""
        return sum(len(verlet.shapes) for verlet in self._lists.values())

    @property
    def searches(self) -> int:
        """Number of searches for neighbours."""
        return sum(verlet.builds for verlet in self._lists.values())

    def forget(self) -> None:
        """Forget the geometries so far; compiled functions are kept."""
        self._near = None
        for verlet in self._lists.values():
            verlet.forget()

    def __call__(self, structure: Structure) -> Prediction:
        """Compute energy, forces and stress; see `kohn.structures.MovingModel`."""
        p, n = self.potential, len(structure)
        present = {*np.unique(structure.numbers).tolist(), *self._elements}
        model = p.compiled(tuple(sorted(present)))
        if model.elements not in self._lists:
            self._lists[model.elements] = Verlet(
                p.cutoff, self.skin, model.elements, self._inspect, self._padded
            )
        topology = self._lists[model.elements].update(structure)
        self._refuse_overlaps(structure)
        positions = np.zeros((topology.species.shape[0], 3))
        positions[:n] = structure.positions
        derived = jax.device_get(model.move(topology, positions, structure.cell))
        return p.complete(structure, derived, 0, slice(0, n))

    def _inspect(self, structure: Structure, rows: Neighbourhood) -> None:
        """Keep the pairs that may come too near before the next list, and warn of extrapolation.

        Args:
            rows: neighbours within cutoff + skin.
        """
        if not self.checked:
            return
        domain = self.potential.domain
        r = np.linalg.norm(rows.displacement, axis=2)
        numbers = np.append(structure.numbers, 1)
        own = np.repeat(structure.numbers[:, None], rows.width, axis=1)
        near = rows.mask & (r < domain.limit(own, numbers[rows.index]) + self.skin)
        self._near = replace(rows, mask=near) if near.any() else None
        if not self._warned:
            within = replace(rows, mask=rows.mask & (r < self.potential.cutoff))
            outside = domain.outside(structure, within)
            if outside:
                self._warned = True
                warnings.warn(
                    "a geometry is unlike the training data, so the results may be wrong: "
                    f"{'; '.join(outside)}",
                    ExtrapolationWarning,
                    stacklevel=2,
                )

    def _refuse_overlaps(self, structure: Structure) -> None:
        """Raise InputError if atoms have come too near since the list was made."""
        rows = self._near
        if rows is None:
            return
        neighbours = np.append(structure.positions, np.zeros((1, 3)), axis=0)[rows.index]
        d = neighbours + rows.shift @ structure.cell - structure.positions[:, None]
        self.potential.domain.refuse_overlaps(structure, replace(rows, displacement=d))
