"""Define the base class of networks: features of atoms, a linear readout, weights by element.

    E_i = s w · x_i        x_i the invariant features of an atom, zero without neighbours

Layers that read elements divide by the square root of the number of elements, as all layers divide
by that of their number of inputs; a network for other elements compensates this, to be the same.
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
"""(own array, array of another model, factor) → array; the factor keeps the function the same."""
BY_ELEMENT = {"by element": False}
"""Marks a field whose arrays have a row for each element, in the order of the model's elements."""
DIVIDED_BY_ELEMENT = {"by element": True}
"""As `BY_ELEMENT`, if the layer also divides by the square root of the number of elements."""


class Features(eqx.Module):
    """The features that a network computes for the atoms of a graph.

    Attributes:
        invariant: x, [N, F]; energies are linear in x.
        equivariant: features of degree 1, 2, …, [N, 2l+1, C]; empty for invariant families.
    """

    invariant: Float[Array, "N F"]
    equivariant: tuple[Float[Array, "N m C"], ...] = ()

    def of_degree(self, l: int) -> Float[Array, "N m C"]:
        """Return the features of degree l."""
        return self.invariant[:, None] if l == 0 else self.equivariant[l - 1]


class Network(eqx.Module):
    """A model with weights from N(0, 1), drawn by `init` for a list of elements.

    Families implement `features` and `read`.

    Attributes:
        config: the configuration, with `cutoff`.
        elements: atomic numbers, in the order of `graph.species`.
        neighbours: λ, the average number of neighbours in the training data.
        scale: learned factor of all energies, eV.
    """

    equivariant: ClassVar[bool] = False
    """Whether the features include degree 1 or higher."""

    config: eqx.AbstractVar[Any]
    elements: eqx.AbstractVar[tuple[int, ...]]
    neighbours: eqx.AbstractVar[float]
    scale: eqx.AbstractVar[Float[Array, ""]]

    @property
    def cutoff(self) -> float:
        """The cutoff radius r_c, Å."""
        return self.config.cutoff

    @abc.abstractmethod
    def features(self, graph: Graph) -> Features:
        """Compute the features of each atom."""

    @abc.abstractmethod
    def read(self, x: Float[Array, "N F"]) -> Float[Array, " N"]:
        """Compute w · x, the energies of atoms from their invariant features, without the scale."""

    def __call__(self, graph: Graph) -> Float[Array, " N"]:
        """Compute the energy of each atom without its E0, eV; zero for a lone atom."""
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
        """Return an untrained network whose features heads can read: it has `features`, and
        `widths`, the number of channels of the features of each degree.

        Args:
            highest: the highest degree that the heads need.

        Raises:
            ConfigError: the family has no features of that degree.
        """
        if highest > 0:
            raise ConfigError(
                f"the family {config.family} is invariant: vectors need an equivariant model",
                expected="an equivariant family, such as nequip or mace",
            )
        return cls.init(key, config, elements, neighbours=neighbours, dtype=dtype)  # type: ignore[attr-defined]

    def for_elements(self, elements: tuple[int, ...], key: Array) -> Self:
        """Return a network that is the same for known elements, with random weights for new ones.

        Args:
            elements: atomic numbers; known elements that are missing here are dropped.
            key: JAX random key.
        """
        fresh = type(self).init(  # type: ignore[attr-defined]
            key, self.config, elements, neighbours=self.neighbours, dtype=self.scale.dtype
        )
        known = np.array([i for i, z in enumerate(elements) if z in self.elements], np.int32)
        source = np.array([self.elements.index(elements[i]) for i in known], np.int32)

        def joined(mine: Array, new: Array, factor: float) -> Array:
            return new.at[known].set(mine[source] * mine.dtype.type(factor))

        return self._by_element(fresh, elements, joined)

    def restricted(self, elements: tuple[int, ...]) -> Self:
        """Return the same network for some of its elements only."""
        source = np.array([self.elements.index(z) for z in elements], np.int32)

        def chosen(mine: Array, _: Array, factor: float) -> Array:
            # On the host: JAX would compile each small operation for each shape.
            rows = np.asarray(mine)[source]
            return jax.device_put(rows * rows.dtype.type(factor))

        return self._by_element(self, elements, chosen)

    def tabulated(self) -> "Network":
        """Return the same network for inference only: tables replace parts that depend on one
        distance. Networks without such parts return themselves."""
        return self

    def _by_element(self, other: Self, elements: tuple[int, ...], combine: Combine) -> Self:
        """Return this model, and the networks inside it, for other elements: arrays with one row
        for each element are combined with those of another model; all other arrays are kept."""
        ratio = (len(elements) / len(self.elements)) ** 0.5

        def combined(mine: Any, theirs: Any, divided: bool | None) -> Any:
            """Return `mine` with its arrays by element combined with those of `theirs`."""
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
    """Return a network for inference only, see `Network.tabulated`; other models unchanged."""
    return model.tabulated() if isinstance(model, Network) else model


def where_neighbours(energies: Float[Array, " N"], graph: Graph) -> Float[Array, " N"]:
    """Set the energies of atoms without neighbours, and of padding, to exactly zero."""
    real = graph.atom_mask & jnp.any(graph.edge_mask, axis=1)
    return energies * real.astype(energies.dtype)
