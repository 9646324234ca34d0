"""What the networks share: features, a read-out that is linear in them, and rows by element.

    E_i = s w · x_i        x_i the invariant features of an atom, zero without neighbours

Layers that read elements divide by the root of their number, as all layers divide by the root
of their inputs; a network for other elements undoes it, so that it is the same function.
"""

import abc
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kohn.errors import ConfigError
from kohn.graphs import Graph
from kohn.typing import Array, Float

Combine = Callable[[Array, Array, float], Array]
"""(own array, other array, factor) → array. The factor keeps the function the same."""
BY_ELEMENT = {"by element": False}
"""Of a field whose arrays have a row for each element, in the order of the model's elements."""
DIVIDED_BY_ELEMENT = {"by element": True}
"""The same, where the layer divides them by the root of the number of elements."""


class Features(eqx.Module):
    """What a network knows of the atoms of a graph.

    Attributes:
        invariant: x, [N, F]; energies are linear in them.
        equivariant: of degree 1, 2, …, [N, 2l+1, C]; none of families that are invariant.
    """

    invariant: Float[Array, "N F"]
    equivariant: tuple[Float[Array, "N m C"], ...] = ()

    def of_degree(self, l: int) -> Float[Array, "N m C"]:
        """Those of one degree."""
        return self.invariant[:, None] if l == 0 else self.equivariant[l - 1]


class Network(eqx.Module):
    """A model with weights from N(0, 1), which `random` draws for a list of elements.

    Families implement `features` and `read`.

    Attributes:
        config: its configuration, with `cutoff`.
        elements: atomic numbers, in the order of `graph.species`.
        neighbours: λ, the average number of neighbours in the training data.
        scale: learned factor of all energies, eV.
    """

    equivariant: ClassVar[bool] = False
    """Whether there are features of degree 1 and more."""

    config: eqx.AbstractVar[Any]
    elements: eqx.AbstractVar[tuple[int, ...]]
    neighbours: eqx.AbstractVar[float]
    scale: eqx.AbstractVar[Float[Array, ""]]

    @property
    def cutoff(self) -> float:
        """r_c, Å."""
        return self.config.cutoff

    @abc.abstractmethod
    def features(self, graph: Graph) -> Features:
        """Of each atom."""

    @abc.abstractmethod
    def read(self, x: Float[Array, "N F"]) -> Float[Array, " N"]:
        """w · x: energies of atoms from their invariant features, without the scale."""

    def __call__(self, graph: Graph) -> Float[Array, " N"]:
        """Energy of each atom without its E0, eV; zero for an atom without neighbours."""
        energies = self.read(self.features(graph).invariant)
        return where_neighbours(energies * self.scale, graph)

    @classmethod
    def for_heads(
        cls,
        key: Array,
        config: Any,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        dtype: DTypeLike,
        highest: int,
    ) -> Any:
        """An untrained network whose features heads read: it has `features` and `widths`, their
        channels by degree.

        Args:
            highest: degree that the features must reach.

        Raises:
            ConfigError: the family has no features of that degree.
        """
        if highest > 0:
            raise ConfigError(
                f"a {config.family} is invariant: vectors need an equivariant model",
                expected="another family, as nequip or mace",
            )
        return cls.random(key, config, elements, neighbours=neighbours, dtype=dtype)  # type: ignore[attr-defined]

    def for_elements(self, elements: tuple[int, ...], key: Array) -> Self:
        """The same function of the elements that it knows, with random weights for new ones.

        Args:
            elements: atomic numbers; those left out are forgotten.
            key: JAX random key.
        """
        fresh = type(self).random(  # type: ignore[attr-defined]
            key, self.config, elements, neighbours=self.neighbours, dtype=self.scale.dtype
        )
        known = np.array([i for i, z in enumerate(elements) if z in self.elements], np.int32)
        source = np.array([self.elements.index(elements[i]) for i in known], np.int32)

        def joined(mine: Array, new: Array, factor: float) -> Array:
            return new.at[known].set(mine[source] * mine.dtype.type(factor))

        return self._by_element(fresh, elements, joined)

    def restricted(self, elements: tuple[int, ...]) -> Self:
        """The same function, for some of its elements only."""
        source = np.array([self.elements.index(z) for z in elements], np.int32)

        def chosen(mine: Array, _: Array, factor: float) -> Array:
            # On the host: each small operation of JAX is compiled for each shape.
            rows = np.asarray(mine)[source]
            return jax.device_put(rows * rows.dtype.type(factor))

        return self._by_element(self, elements, chosen)

    def tabulated(self) -> "Network":
        """The same function, for inference alone: what depends on the weights and one distance
        is computed beforehand. Families without such a part are their own."""
        return self

    def _by_element(self, other: Self, elements: tuple[int, ...], combine: Combine) -> Self:
        """This model with other elements, also those of networks inside it: arrays that have one
        row for each element are combined with those of another model, the rest is kept."""
        ratio = (len(elements) / len(self.elements)) ** 0.5

        def combined(mine: Any, theirs: Any, divided: bool | None) -> Any:
            """`divided`: of the field in which an array stands, see `BY_ELEMENT`."""
            if isinstance(mine, eqx.Module):
                parts = {
                    f.name: combined(
                        getattr(mine, f.name),
                        getattr(theirs, f.name),
                        f.metadata.get("by element", divided),
                    )
                    for f in fields(mine)
                    if not f.metadata.get("static", False)
                }
                known = {"elements": tuple(elements)} if isinstance(mine, Network) else {}
                return replace(mine, **parts, **known)
            if isinstance(mine, tuple):
                return tuple(combined(a, b, divided) for a, b in zip(mine, theirs, strict=True))
            if divided is None or mine is None:
                return mine
            return combine(mine, theirs, ratio if divided else 1.0)

        return combined(self, other, None)


def for_inference(model: Any) -> Any:
    """The same function, for inference alone; see `Network.tabulated`."""
    return model.tabulated() if isinstance(model, Network) else model


def where_neighbours(energies: Float[Array, " N"], graph: Graph) -> Float[Array, " N"]:
    """The energies, exactly zero for atoms without neighbours and in padding."""
    real = graph.atom_mask & jnp.any(graph.edge_mask, axis=1)
    return energies * real.astype(energies.dtype)
