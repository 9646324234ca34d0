"""Implement SchNet: invariant messages through continuous filters.

Schütt, Sauceda, Kindermans, Tkatchenko, Müller, J. Chem. Phys. 148, 241722 (2018):

    h⁰_i   = embedding of z_i
    W(r)   = W₂ ssp(W₁ g(r)),   g_n(r) = exp(−(r − μ_n)²/2w²),   μ_n = n w        (filters)
    v_i    = 1/√λ Σ_j (W_in h_j) ∘ W(r_ij) c(r_ij)                              (messages)
    h'_i   = h_i + W_4 ssp(W_3 v_i)                                             (update)
    E_i    = W_6 ssp(W_5 h_i) − W_6 ssp(W_5 h⁰_i)

ssp is the shifted softplus, c the cutoff function, and λ the average number of neighbours.
W(r) c(r) depends only on the weights and the distance: after training it becomes a table
(`tabulated`), so the filters, which are nearly all of the work, are only looked up.

Layers have no bias, so an atom without neighbours keeps h⁰ and its E0. c has two continuous
derivatives at r_c, unlike the cosine of the original. The model is invariant: it sees angles only
through the distances of several layers.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from pydantic import Field

from kohn.descriptors import polynomial_cutoff
from kohn.graphs import Graph, gather_neighbours
from kohn.models.layers import Linear, by_rows, one_hot
from kohn.models.network import DIVIDED_BY_ELEMENT, Features, Network
from kohn.models.radial_table import RadialTable, sum_over_neighbours
from kohn.sections import Section
from kohn.typing import Array, Float

SSP_NORM = 1.8755962561350425
"""The factor c with ∫ (c ssp(z))² N(z; 0, 1) dz = 1."""


class SchNetConfig(Section):
    """Settings of a SchNet model; elements and scale come from the training data."""

    family: Literal["schnet"] = "schnet"
    cutoff: Annotated[float, Field(gt=0, description="r_c, Å")] = 5.0
    channels: Annotated[int, Field(ge=1, description="features of an atom")] = 128
    layers: Annotated[int, Field(ge=1, le=12, description="rounds of messages")] = 3
    n_gaussians: Annotated[int, Field(ge=2, description="radial basis functions")] = 20
    cutoff_power: Annotated[int, Field(ge=2, description="p of the polynomial cutoff")] = 5


@jax.custom_jvp
def shifted_softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """c · log(½ eˣ + ½), zero at zero, with unit second moment for a standard normal x.

    The slope c σ(x) is written with tanh: XLA computes it in a quarter of the time that it needs
    for the derivative of softplus.
    """
    return SSP_NORM * (jnp.maximum(x, 0.0) + jnp.log(0.5 + 0.5 * jnp.exp(-jnp.abs(x))))


@shifted_softplus.defjvp
def _shifted_softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return shifted_softplus(x), (0.5 * SSP_NORM) * (1.0 + jnp.tanh(0.5 * x)) * dx


class Interaction(eqx.Module):
    """A layer of SchNet: a round of messages, and the update of the features."""

    filters: tuple[Linear, ...]  # two; none if a table replaces them
    incoming: Linear
    update: tuple[Linear, Linear]

    @classmethod
    def init(cls, key: Array, config: SchNetConfig, dtype) -> "Interaction":
        """Draw weights from N(0, 1)."""
        c, keys = config.channels, jax.random.split(key, 5)
        shapes = [(config.n_gaussians, c), *[(c, c)] * 4]
        first, second, incoming, *update = (
            Linear.init(k, shape, dtype) for k, shape in zip(keys, shapes, strict=True)
        )
        return cls((first, second), incoming, (update[0], update[1]))

    def filter(self, basis: Float[Array, "edges n"], cut: Float[Array, " edges"]) -> Array:
        """Compute the filters W(r) c(r) [edges, C] from the basis g(r) and the cutoff c(r)."""
        first, second = self.filters
        return second(shifted_softplus(first(basis))) * cut[:, None]

    def messages(self, h: Array, basis: Array, cut: Array, graph: Graph) -> Float[Array, "N C"]:
        """Compute Σ_j h_j ∘ W(r_ij) c(r_ij) from h [N, C], the basis [N, K, n] and c(r) [N, K]."""

        def messages(basis: Array, cut: Array, sender: Array) -> tuple[Array]:
            n, k, _ = basis.shape
            filters = self.filter(basis.reshape(n * k, -1), cut.ravel()).reshape(n, k, -1)
            return (jnp.einsum("nkc,nkc->nc", filters, sender),)

        sender = gather_neighbours(h, graph.index, graph.reverse)
        return by_rows(messages, (basis, cut, sender))[0]

    def __call__(self, h: Float[Array, "N C"], add: "Messages", scale: float) -> Array:
        """Compute new features from features h; `add` sums the messages, `scale` is 1/√λ."""
        v = add(self.incoming(h)) * scale
        return h + self.update[1](shifted_softplus(self.update[0](v)))


Messages = Callable[[Float[Array, "N C"]], Float[Array, "N C"]]
"""The sum Σ_j x_j ∘ W(r_ij) c(r_ij) of one layer, as a function of values x of atoms."""


class SchNet(Network):
    """A SchNet model of the interaction energies of atoms; attributes as in `Network`.

    For inference, tables may replace the filters of the layers, whose weights are then dropped.
    """

    config: SchNetConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)
    embedding: Linear = eqx.field(metadata=DIVIDED_BY_ELEMENT)
    interactions: tuple[Interaction, ...]
    readout: tuple[Linear, Linear]
    scale: Float[Array, ""]
    tables: tuple[RadialTable, ...] = ()

    @property
    def newer_fusion(self) -> bool:
        """Whether XLA's newer fusion is faster; see `kohn.compilation.compiled`."""
        return bool(self.tables)

    @classmethod
    def init(
        cls,
        key: Array,
        config: SchNetConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        scale: float = 1.0,
        dtype: DTypeLike = np.float32,
    ) -> "SchNet":
        """Return an untrained model; arguments as for `Mace.init`."""
        s, c = len(elements), config.channels
        keys = iter(jax.random.split(key, 3 + config.layers))
        return cls(
            config=config,
            elements=tuple(elements),
            neighbours=float(neighbours),
            embedding=Linear.init(next(keys), (s, c), dtype),
            interactions=tuple(
                Interaction.init(next(keys), config, dtype) for _ in range(config.layers)
            ),
            readout=(
                Linear.init(next(keys), (c, c // 2), dtype),
                Linear.init(next(keys), (c // 2, 1), dtype),
            ),
            scale=jnp.asarray(scale, dtype),
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of channels of the features of each degree."""
        return (self.config.channels // 2,)

    def features(self, graph: Graph) -> Features:
        """Compute the features of atoms, ssp(W₅ h) − ssp(W₅ h⁰)."""
        d = graph.displacement
        r = jnp.sqrt(jnp.sum(d * d, axis=-1))
        alone = self.embedding(one_hot(graph.species, len(self.elements), self.scale.dtype))
        h = alone
        for interaction, add in zip(self.interactions, self.messages(r, graph), strict=True):
            h = interaction(h, add, self.neighbours**-0.5)
        hidden = self.readout[0]
        return Features(shifted_softplus(hidden(h)) - shifted_softplus(hidden(alone)))

    def read(self, x: Float[Array, "N F"]) -> Float[Array, " N"]:
        """Compute W₆ x, the energies of atoms from their features x."""
        return self.readout[1](x)[:, 0]

    def messages(self, r: Float[Array, "N K"], graph: Graph) -> tuple[Messages, ...]:
        """Return functions that sum the messages of each layer; filters from r, Å, or tables."""
        config = self.config
        if self.tables:
            position, mask = self.tables[0].locate(r), graph.edge_mask.astype(r.dtype)
            return tuple(
                lambda x, table=table: sum_over_neighbours(table, position, mask, x, graph.index)
                for table in self.tables
            )
        cut = polynomial_cutoff(r, config.cutoff, config.cutoff_power)
        cut = cut * graph.edge_mask.astype(r.dtype)
        basis = gaussian_basis(r, config.cutoff, config.n_gaussians)
        return tuple(
            partial(layer.messages, basis=basis, cut=cut, graph=graph)
            for layer in self.interactions
        )

    def tabulated(self) -> "SchNet":
        """Return the same model for inference; tables, if accurate, replace the filters."""
        if self.tables:
            return self
        exact = jax.tree.map(lambda x: x.astype(jnp.float64), self.interactions)

        def filters(r: Array) -> Array:
            basis = gaussian_basis(r, self.config.cutoff, self.config.n_gaussians)
            cut = polynomial_cutoff(r, self.config.cutoff, self.config.cutoff_power)
            return jnp.concatenate([layer.filter(basis, cut) for layer in exact], axis=-1)

        table = RadialTable.of(filters, self.cutoff, self.scale.dtype)
        if table is None:
            return self
        bare = tuple(replace(x, filters=()) for x in self.interactions)
        return replace(self, interactions=bare, tables=table.split(len(bare)))


def gaussian_basis(r: Float[Array, "..."], cutoff: float, count: int) -> Float[Array, "... count"]:
    """Compute g_n(r) = exp(−(r − n w)²/2w²), n = 0 … count − 1, w = r_c/(count − 1)."""
    w = cutoff / (count - 1)
    centres = jnp.arange(count, dtype=r.dtype) * w
    return jnp.exp(-0.5 * ((r[..., None] - centres) / w) ** 2)
