"""Compile the functions that compute energies, forces and stresses with a model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax

from kohn.compilation import compiled
from kohn.graphs import Graph, Topology
from kohn.models import Derived, energy_and_derivatives
from kohn.typing import Array, ArrayLike, Float


class CompiledModel:
    """A model compiled for energy, forces and stress: of batches, or of one structure that moves.

    The weights are separated from the rest of the model once, as a flat list, so that a call costs
    little more than the computation. Models of equal configuration share compiled functions.
    """

    def __init__(self, model: Any):
        self.elements: tuple[int, ...] = model.elements
        weights, rest = eqx.partition(model, eqx.is_array)
        self._weights, layout = jax.tree.flatten(weights)
        self._evaluate, self._move, self._energies = _functions(_Static(rest, layout))

    def __call__(self, graph: Graph) -> Derived:
        """Compute energy, forces and stress of a batch; compiled once for each shape."""
        return self._evaluate(self._weights, graph)

    def energies(self, graph: Graph) -> Float[Array, " G"]:
        """Compute the energies of a batch without derivatives, eV, in a third of the time."""
        return self._energies(self._weights, graph)

    def move(
        self, topology: Topology, positions: Float[ArrayLike, "N 3"], cell: Float[ArrayLike, "3 3"]
    ) -> Derived:
        """Compute energy, forces and stress of a structure from positions and cell, Å, float64."""
        return self._move(self._weights, topology, positions, cell)


def evaluate(model: Any, graph: Graph) -> Derived:
    """Compute energy, forces and stress of one batch."""
    return CompiledModel(model)(graph)


@dataclass(frozen=True)
class _Static:
    """A model without its weights, and the layout of these; equal for equal configurations."""

    rest: Any
    layout: Any

    def model(self, weights: list[Array]) -> Any:
        """Return the model with these weights."""
        return eqx.combine(jax.tree.unflatten(self.layout, weights), self.rest)

    def __hash__(self) -> int:
        return hash((jax.tree.structure(self.rest), self.layout))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Static)
            and self.layout == other.layout
            and jax.tree.structure(self.rest) == jax.tree.structure(other.rest)
        )


@lru_cache(maxsize=32)
def _functions(static: _Static) -> tuple[Callable, Callable, Callable]:
    def evaluate(weights: list[Array], graph: Graph) -> Derived:
        return energy_and_derivatives(static.model(weights), graph)

    def move(weights: list[Array], topology: Topology, positions: Array, cell: Array) -> Derived:
        model = static.model(weights)
        graph = topology.graph(positions, cell, model.cutoff, model.scale.dtype)
        return energy_and_derivatives(model, graph)

    def energies(weights: list[Array], graph: Graph) -> Float[Array, " G"]:
        return evaluate(weights, graph).energy  # the compiled function omits the rest

    newer = getattr(static.rest, "newer_fusion", False)
    evaluate_, move_, energies_ = (
        compiled(f, newer_fusion=newer) for f in (evaluate, move, energies)
    )
    return evaluate_, move_, energies_
