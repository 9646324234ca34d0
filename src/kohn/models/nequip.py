"""Implement NequIP: equivariant messages and gates.

Batzner, Musaelian, Sun, Geiger, Mailoa, Kornbluth, Molinari, Smidt, Kozinsky, Nat. Commun. 13,
2453 (2022). With A the messages of `kohn.models.messages`:

    x_i,lm = A_i,lm/√λ + W_z(i),l h_i,lm
    h'_i,0 = silu(x_i,0),   h'_i,lm = x_i,lm ∘ σ(g_i,l)   with gates g_i,l, further scalars of x
    E_i    = W₂ W₁ (h_i,0 − h_z(i),0),   h_z: h of a lone atom of z

Features have natural parity: inversion multiplies those of degree l by (−1)^l. The scalars of a
lone atom (no messages) are subtracted, so that it keeps its E0. σ is the logistic function.
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from pydantic import Field, PositiveInt

from kohn.graphs import Graph
from kohn.models.layers import Linear, normal, one_hot, silu, split
from kohn.models.messages import (
    Degrees,
    ElementLinear,
    Interaction,
    edges_of,
    natural_paths,
)
from kohn.models.network import DIVIDED_BY_ELEMENT, Features, Network
from kohn.sections import Section
from kohn.typing import Array, Float


class BodyConfig(Section):
    """Settings that all NequIP models share, whatever they read from the features."""

    family: str
    cutoff: Annotated[float, Field(gt=0, description="r_c, Å")] = 5.0
    channels: Annotated[int, Field(ge=1, description="features of each degree")] = 32
    l_max: Annotated[int, Field(ge=0, le=4, description="degree of features and harmonics")] = 2
    layers: Annotated[int, Field(ge=1, le=8, description="rounds of messages")] = 4
    n_bessel: Annotated[int, Field(ge=1, description="radial basis functions")] = 8
    radial_widths: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1, description="hidden layers of the radial network"),
    ] = (64, 64)
    cutoff_power: Annotated[int, Field(ge=2, description="p of the polynomial cutoff")] = 5

    @property
    def hidden_l_max(self) -> int:
        """The highest degree of the features."""
        return self.l_max

    def paths(self, layer: int) -> tuple[tuple[int, int, int], ...]:
        """Return degrees (l1, l2, l3) of features, harmonics and results, of natural parity."""
        return natural_paths(self.l_max if layer else 0, self.l_max, self.l_max)


class NequipConfig(BodyConfig):
    """Settings of a NequIP model; elements and scale come from the training data."""

    family: Literal["nequip"] = "nequip"


class Layer(eqx.Module):
    """A layer of NequIP: messages, self-connection and gates."""

    interaction: Interaction
    skip: tuple[ElementLinear, ...]  # by degree

    @classmethod
    def init(
        cls, key: Array, config: BodyConfig, layer: int, highest: int, n_species: int, dtype
    ) -> "Layer":
        """Draw weights from N(0, 1); results reach degree `highest`, with more scalars as gates."""
        c = config.channels
        outputs = (c * (1 + highest), *[c] * highest)
        first, *rest = jax.random.split(key, 1 + len(outputs))
        known = 1 if layer == 0 else len(outputs)
        return cls(
            Interaction.init(first, config, layer, outputs, dtype),
            tuple(
                ElementLinear(normal(k, (n_species, c, n), dtype))
                for k, n in zip(rest[:known], outputs[:known], strict=True)
            ),
        )

    def __call__(self, a: Degrees, h: Degrees, species: Array) -> Degrees:
        """Compute new features h' from the summed messages a and the features h."""
        x = [
            part + self.skip[l](h[l], species) if l < len(self.skip) else part
            for l, part in enumerate(a)
        ]
        return gated(x)


def gated(x: list[Array]) -> Degrees:
    """Apply silu to scalars; multiply other degrees by σ (sigmoid) of gates, the last scalars."""
    c = x[0].shape[-1] // len(x)
    scalars, *gates = split(x[0], (c,) * len(x), 2)
    return (silu(scalars), *(y * jax.nn.sigmoid(g) for y, g in zip(x[1:], gates, strict=True)))


class Body(eqx.Module):
    """A NequIP network without readout: it computes features of atoms from a graph.

    Attributes:
        embedding, layers: the embedding of the elements, and the layers in order.
        config: the configuration of the family.
        neighbours: λ, the average number of neighbours in the training data.
    """

    embedding: Linear = eqx.field(metadata=DIVIDED_BY_ELEMENT)
    layers: tuple[Layer, ...]
    config: BodyConfig = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        key: Array,
        config: BodyConfig,
        n_species: int,
        neighbours: float,
        dtype: DTypeLike,
        highest: int = 0,
    ) -> "Body":
        """Draw weights from N(0, 1); the features of the last layer reach degree `highest`."""
        first, *rest = jax.random.split(key, 1 + config.layers)
        degrees = [config.l_max] * (config.layers - 1) + [highest]
        return cls(
            Linear.init(first, (n_species, config.channels), dtype),
            tuple(
                Layer.init(k, config, t, l, n_species, dtype)
                for t, (k, l) in enumerate(zip(rest, degrees, strict=True))
            ),
            config,
            float(neighbours),
        )

    def __call__(self, graph: Graph, dtype: DTypeLike) -> Degrees:
        """Compute features by degree, [N, 2l+1, C]; scalars without those of a lone atom."""
        embedding, scale = self.embedding.matrix, self.neighbours**-0.5
        s = len(embedding)
        species = one_hot(graph.species, s, dtype)
        _, edges = edges_of(graph, self.config, s, dtype)
        h: Degrees = ((species @ embedding)[:, None],)
        alone: Degrees = (embedding[:, None],)  # a lone atom of each element
        for t, layer in enumerate(self.layers):
            if t == 0:
                a = layer.interaction.of_species(embedding, edges, self.config)
            else:
                a = layer.interaction(h, edges, graph, self.config)
            h = layer(tuple(x * scale for x in a), h, species)
            no_messages = tuple(jnp.zeros((s, *x.shape[1:]), x.dtype) for x in a)
            alone = layer(no_messages, alone, jnp.eye(s, dtype=species.dtype))
        return (h[0] - (species @ alone[0][:, 0])[:, None], *h[1:])

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of channels of the features of each degree."""
        highest = len(self.layers[-1].interaction.mix) - 1
        return (self.config.channels,) * (1 + highest)

    def features(self, graph: Graph) -> Features:
        """Compute the features of atoms, in the precision of the weights; see `__call__`."""
        h = self(graph, self.embedding.weight.dtype)
        return Features(h[0][:, 0], h[1:])

    def tabulated(self) -> "Body":
        """Return the same network for inference; tables replace the hidden layers of R(r)."""
        layers = (replace(x, interaction=x.interaction.tabulated(self.config)) for x in self.layers)
        return replace(self, layers=tuple(layers))


class Nequip(Network):
    """A NequIP model of the interaction energies of atoms; attributes as in `Network`."""

    equivariant: ClassVar[bool] = True

    config: NequipConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)
    body: Body
    readout: tuple[Linear, Linear]
    scale: Float[Array, ""]

    @classmethod
    def init(
        cls,
        key: Array,
        config: NequipConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        scale: float = 1.0,
        dtype: DTypeLike = np.float32,
    ) -> "Nequip":
        """Return an untrained model; arguments as for `Mace.init`."""
        c, keys = config.channels, jax.random.split(key, 3)
        return cls(
            config=config,
            elements=tuple(elements),
            neighbours=float(neighbours),
            body=Body.init(keys[0], config, len(elements), neighbours, dtype),
            readout=(
                Linear.init(keys[1], (c, max(1, c // 2)), dtype),
                Linear.init(keys[2], (max(1, c // 2), 1), dtype),
            ),
            scale=jnp.asarray(scale, dtype),
        )

    @classmethod
    def for_heads(
        cls,
        key: Array,
        config: NequipConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        dtype: DTypeLike,
        highest: int,
    ) -> Body:
        """Return an untrained body, without readout; see `Network.for_heads`."""
        return Body.init(key, config, len(elements), neighbours, dtype, highest)

    def features(self, graph: Graph) -> Features:
        """Compute the features of atoms by the body."""
        return self.body.features(graph)

    def read(self, x: Float[Array, "N C"]) -> Float[Array, " N"]:
        """Compute energies of atoms from invariant features by two linear maps, w = W₁ W₂."""
        first, second = self.readout
        return second(first(x))[:, 0]

    def tabulated(self) -> "Nequip":
        """Return the same model for inference; tables replace the hidden layers of R(r)."""
        return replace(self, body=self.body.tabulated())
