r"""Implement DimeNet: messages on edges that depend on the angles between edges.

Gasteiger, Groß, Günnemann, ICLR 2020, arXiv:2003.03123, with the smaller interaction of DimeNet++
(arXiv:2011.14115). h_i embeds the element of atom i, e(r) are the Bessel functions times the cutoff
function, m_ij is the message from j to i, and each W is a matrix of weights:

    m⁰_ij = silu(W_a h_i + W_b h_j + W_c e(r_ij))
    x_ij  = silu(W_x m_ij) ∘ W_g e(r_ij)
    s_ij  = Σ_(k∈N(i), k≠j) Σ_l P_l(cos ∠kij) R_l(r_ik) ∘ x_ik,   R_l(r) = W_l e(r)       (angles)
    m'_ij = m_ij + silu(W_m m_ij + W_s s_ji)
    E_i   = Σ_t W silu(W_o Σ_j W_e e(r_ij) ∘ mᵗ_ij)

By the addition theorem, the sum over pairs of edges costs no more than a sum over edges:

    P_l(r̂ · r̂') = 4π/(2l+1) Σ_m Y_lm(r̂) Y_lm(r̂')

    s_ij = Σ_l 4π/(2l+1) Σ_m Y_lm(r̂_ij) A_i,lm − Σ_l R_l(r_ij) ∘ x_ij,
    A_i,lm = Σ_k R_l(r_ik) Y_lm(r̂_ik) ∘ x_ik

The functions R_l of the distance are learned; DimeNet has spherical Bessel functions there. Layers
have no bias, so an atom without neighbours keeps its E0.
"""

from math import pi
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from pydantic import Field

from kohn.descriptors import bessel_basis, polynomial_cutoff
from kohn.graphs import Graph, gather_neighbours, take_reverse
from kohn.models.layers import Linear, by_rows, one_hot, silu, split, split_degrees
from kohn.models.network import DIVIDED_BY_ELEMENT, Features, Network
from kohn.o3 import spherical_harmonics
from kohn.sections import Section
from kohn.typing import Array, Float


class DimeNetConfig(Section):
    """Settings of a DimeNet model; elements and scale come from the training data."""

    family: Literal["dimenet"] = "dimenet"
    cutoff: Annotated[float, Field(gt=0, description="r_c, Å")] = 5.0
    channels: Annotated[int, Field(ge=1, description="features of a message")] = 64
    angular_channels: Annotated[int, Field(ge=1, description="features that depend on angles")] = 32
    l_max: Annotated[int, Field(ge=0, le=8, description="highest degree of the angles")] = 5
    layers: Annotated[int, Field(ge=1, le=8, description="rounds of interactions")] = 3
    n_bessel: Annotated[int, Field(ge=1, description="radial basis functions")] = 8
    cutoff_power: Annotated[int, Field(ge=2, description="p of the polynomial cutoff")] = 5


class Output(eqx.Module):
    """A layer that computes features of atoms from messages; `out` reads energies from these."""

    radial: Linear
    hidden: Linear
    out: Linear

    @classmethod
    def init(cls, key: Array, config: DimeNetConfig, dtype) -> "Output":
        """Draw weights from N(0, 1)."""
        c, keys = config.channels, jax.random.split(key, 3)
        shapes = ((config.n_bessel, c), (c, c), (c, 1))
        return cls(*(Linear.init(k, s, dtype) for k, s in zip(keys, shapes, strict=True)))

    def __call__(self, m: Array, basis: Array, scale: float) -> Float[Array, "N C"]:
        """Compute features of atoms from messages m [N, K, C] and the radial basis [N, K, n]."""

        def summed(m: Array, basis: Array) -> tuple[Array]:
            return (jnp.einsum("nkc,nkc->nc", self.radial(basis), m),)

        (t,) = by_rows(summed, (m, basis))
        return silu(self.hidden(t * scale))


class Interaction(eqx.Module):
    """A round of messages that depend on the angles between edges."""

    down: Linear  # W_x
    gate: Linear  # W_g
    radial: Linear  # W_l, all degrees next to each other
    keep: Linear  # W_m
    up: Linear  # W_s

    @classmethod
    def init(cls, key: Array, config: DimeNetConfig, dtype) -> "Interaction":
        """Draw weights from N(0, 1)."""
        c, a, n = config.channels, config.angular_channels, config.n_bessel
        shapes = ((c, a), (n, a), (n, (config.l_max + 1) * a), (c, c), (a, c))
        keys = jax.random.split(key, len(shapes))
        return cls(*(Linear.init(k, s, dtype) for k, s in zip(keys, shapes, strict=True)))

    def __call__(self, m: Array, basis: Array, y: Array, graph: Graph, scale: float) -> Array:
        """Compute new messages from old m [N, K, C], basis [N, K, n] and harmonics y [N, K, lm]."""
        (s,) = by_rows(self.angles, (m, basis, y))
        s = self.up(take_reverse(s, graph.reverse)) * scale
        return m + silu(self.keep(m) + s)

    def angles(self, m: Array, basis: Array, y: Array) -> tuple[Float[Array, "N K a"]]:
        """Compute s_ij, the sum over the angles of edge ij with all other edges of atom i."""
        n, k, _ = basis.shape
        degrees = round(y.shape[-1] ** 0.5)
        x = silu(self.down(m)) * self.gate(basis)
        weighted = self.radial(basis).reshape(n, k, degrees, -1) * x[:, :, None]  # R_l ∘ x
        moments = [
            jnp.einsum("nkm,nkc->nmc", y_l, weighted[:, :, l]) * (4 * pi / (2 * l + 1))
            for l, y_l in enumerate(split_degrees(y, degrees - 1, 2))
        ]
        all_edges = jnp.einsum("nkm,nmc->nkc", y, jnp.concatenate(moments, axis=1))
        return ((all_edges - jnp.sum(weighted, axis=2)) * degrees**-0.5,)


class DimeNet(Network):
    """A DimeNet model of the interaction energies of atoms; attributes as in `Network`."""

    config: DimeNetConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)
    embedding: tuple[Linear, Linear] = eqx.field(metadata=DIVIDED_BY_ELEMENT)  # of i, of j
    first: Linear
    interactions: tuple[Interaction, ...]
    outputs: tuple[Output, ...]
    scale: Float[Array, ""]

    @classmethod
    def init(
        cls,
        key: Array,
        config: DimeNetConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        scale: float = 1.0,
        dtype: DTypeLike = np.float32,
    ) -> "DimeNet":
        """Return an untrained model; arguments as for `Mace.init`."""
        s, c, rounds = len(elements), config.channels, config.layers
        keys = iter(jax.random.split(key, 4 + 2 * rounds))
        return cls(
            config=config,
            elements=tuple(elements),
            neighbours=float(neighbours),
            embedding=(
                Linear.init(next(keys), (s, c), dtype),
                Linear.init(next(keys), (s, c), dtype),
            ),
            first=Linear.init(next(keys), (config.n_bessel, c), dtype),
            interactions=tuple(Interaction.init(next(keys), config, dtype) for _ in range(rounds)),
            outputs=tuple(Output.init(next(keys), config, dtype) for _ in range(rounds + 1)),
            scale=jnp.asarray(scale, dtype),
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of channels of the features of each degree."""
        return (self.config.channels * (self.config.layers + 1),)

    def features(self, graph: Graph) -> Features:
        """Compute the features of atoms: the hidden layers of all outputs, concatenated."""
        config, d = self.config, graph.displacement
        r = jnp.sqrt(jnp.sum(d * d, axis=-1))
        cut = polynomial_cutoff(r, config.cutoff, config.cutoff_power)
        cut = cut * graph.edge_mask.astype(r.dtype)
        basis = bessel_basis(r, config.cutoff, config.n_bessel) * cut[..., None]
        y = spherical_harmonics(d / r[..., None], config.l_max)

        species = one_hot(graph.species, len(self.elements), self.scale.dtype)
        of_i, of_j = (embedding(species) for embedding in self.embedding)
        sender = gather_neighbours(of_j, graph.index, graph.reverse)
        sender = sender * graph.edge_mask[..., None].astype(r.dtype)
        m = silu(of_i[:, None] + sender + self.first(basis))

        scale = self.neighbours**-0.5
        hidden = [self.outputs[0](m, basis, scale)]
        for interaction, output in zip(self.interactions, self.outputs[1:], strict=True):
            m = interaction(m, basis, y, graph, scale)
            hidden.append(output(m, basis, scale))
        return Features(jnp.concatenate(hidden, axis=-1))

    def read(self, x: Float[Array, "N F"]) -> Float[Array, " N"]:
        """Compute energies of atoms from their features: the sum of the last layers of outputs."""
        parts = split(x, (self.config.channels,) * len(self.outputs), 1)
        energies = (o.out(part)[:, 0] for o, part in zip(self.outputs, parts, strict=True))
        return sum(energies, jnp.zeros(len(x), x.dtype))
