"""Evaluate a potential for moving atoms; neighbour lists are kept as long as they are valid."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import jax
import numpy as np

from kohn.graphs import Neighbourhood, Verlet, growing_shape
from kohn.graphs.verlet import ShapeChoice
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
    """A potential that is evaluated for one geometry after another, as in a simulation.

    Neighbours are searched again only when an atom has moved by half the skin. At each search the
    geometry is compared with the training data, if the model file stores their distances; the first
    that is unlike them gives a warning (`kohn.potential.ExtrapolationWarning`), later ones do not.

    Args:
        potential: the potential that predicts.
        skin: skin of the neighbour list, Å; if 0, neighbours are searched for each geometry.
        choose_shape: chooses the padded shape of a new list; by default shapes only grow, so that a
            long simulation compiles a few times at most.
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
        choose_shape: ShapeChoice = growing_shape,
        elements: Sequence[int] = (),
        checked: bool = True,
    ):
        self.potential, self.skin, self.checked = potential, skin, checked
        self._choose_shape, self._elements = choose_shape, tuple(elements)
        self._lists: dict[tuple[int, ...], Verlet] = {}
        self._near: Neighbourhood | None = None
        self._warned = False

    @property
    def compilations(self) -> int:
        """Number of compilations: one for each set of elements and padded shape of its lists."""
        return sum(len(verlet.shapes) for verlet in self._lists.values())

    @property
    def searches(self) -> int:
        """Number of searches for neighbours so far."""
        return sum(verlet.builds for verlet in self._lists.values())

    def forget(self) -> None:
        """Forget the geometries so far; compiled functions are kept."""
        self._near = None
        for verlet in self._lists.values():
            verlet.forget()

    def __call__(self, structure: Structure) -> Prediction:
        """Predict energy, forces and stress of a structure; see `kohn.structures.MovingModel`."""
        p, n = self.potential, len(structure)
        present = {*np.unique(structure.numbers).tolist(), *self._elements}
        model = p.compiled(tuple(sorted(present)))
        if model.elements not in self._lists:
            self._lists[model.elements] = Verlet(
                p.cutoff, self.skin, model.elements, self._inspect, self._choose_shape
            )
        topology = self._lists[model.elements].update(structure)
        self._refuse_overlaps(structure)
        positions = np.zeros((topology.species.shape[0], 3))
        positions[:n] = structure.positions
        derived = jax.device_get(model.move(topology, positions, structure.cell))
        return p.complete(structure, derived, 0, slice(0, n))

    def _inspect(self, structure: Structure, rows: Neighbourhood) -> None:
        """Keep the pairs of atoms that may overlap before the next list; warn of extrapolation.

        Args:
            structure: structure for which a list is made. rows: neighbours in this list.
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
        """Raise InputError if atoms have come too near each other since the list was made."""
        rows = self._near
        if rows is None:
            return
        neighbours = np.append(structure.positions, np.zeros((1, 3)), axis=0)[rows.index]
        d = neighbours + rows.shift @ structure.cell - structure.positions[:, None]
        self.potential.domain.refuse_overlaps(structure, replace(rows, displacement=d))
