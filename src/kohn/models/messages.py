"""Compute messages of spherical tensors and sum them over neighbours, as in MACE and NequIP.

    A_i,klm = Σ_k' W_kk'l Σ_j Σ_paths R_k'(r_ij) [h_j,k'l1 ⊗ Y_l2(r_ij)]_lm

with h the features of atoms, Y the harmonics and R = H W the learned radial functions of edges.
For prediction, H, the last hidden layer of the radial network, becomes a table of the distance.

Source: Batzner et al., Nat. Commun. 13, 2453 (2022), eq. 4 and 5.
"""

from math import pi, sqrt
from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp

from kohn.descriptors import bessel_basis, polynomial_cutoff
from kohn.graphs import Graph, gather_neighbours
from kohn.models.layers import (
    Linear,
    RadialNetwork,
    by_rows,
    one_hot,
    split,
    split_degrees,
    unstack,
)
from kohn.models.network import DIVIDED_BY_ELEMENT
from kohn.models.radial_table import RadialTable, values
from kohn.o3 import clebsch_gordan, spherical_harmonics
from kohn.typing import Array, Float

Degrees = tuple[Array, ...]
"""Features by degree: for each l an array [N, 2l+1, C]."""


class Messages(Protocol):
    """The settings that messages need from the configuration of a family."""

    @property
    def cutoff(self) -> float: ...
    @property
    def cutoff_power(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def hidden_l_max(self) -> int: ...
    @property
    def l_max(self) -> int: ...
    @property
    def n_bessel(self) -> int: ...
    @property
    def radial_widths(self) -> tuple[int, ...]: ...
    def paths(self, layer: int) -> tuple[tuple[int, int, int], ...]: ...


def natural_paths(features: int, harmonics: int, results: int) -> tuple[tuple[int, int, int], ...]:
    """Return the degrees (l1, l2, l3) of features, harmonics, results that have natural parity."""
    return tuple(
        (l1, l2, l3)
        for l3 in range(results + 1)
        for l1 in range(features + 1)
        for l2 in range(abs(l3 - l1), min(harmonics, l1 + l3) + 1)
        if (l1 + l2 + l3) % 2 == 0
    )


class Edges(eqx.Module):
    """The quantities of edges that all layers use, computed once."""

    harmonics: Float[Array, "N K lm"]  # component normalisation, 4π orthonormal
    r: Float[Array, "N K"]  # distances, Å; beyond r_c in padding
    radial: Float[Array, "N K n"]  # basis times cutoff; zero in padding
    species: Float[Array, "N K S"]  # one-hot element of the neighbour


class ElementLinear(eqx.Module):
    """A linear map for each of S elements, scaled as in e3nn: y_i = x_i W_z(i) / sqrt(n_in S)."""

    weight: Float[Array, "S n_in n_out"] = eqx.field(metadata=DIVIDED_BY_ELEMENT)

    @property
    def matrix(self) -> Float[Array, "S n_in n_out"]:
        """The scaled weights W / sqrt(n_in S)."""
        s, n_in, _ = self.weight.shape
        return self.weight * (1.0 / sqrt(n_in * s))

    def __call__(self, x: Float[Array, "N m n_in"], species: Float[Array, "N S"]) -> Array:
        return select_matmul(x, self.matrix, species)


def select_matmul(
    x: Float[Array, "N m n_in"], matrices: Float[Array, "S n_in n_out"], species: Array
) -> Float[Array, "N m n_out"]:
    """Compute x_i M_z(i), M_z the matrix of an element. For up to eight elements, one large product
    with masked rows is faster than many small ones; for more, each atom fetches its matrix."""
    s = matrices.shape[0]
    if s == 1:
        return x @ matrices[0]
    if s <= 8:
        masked = x[:, :, None, :] * species[:, None, :, None]
        n, m, _, c = masked.shape
        return masked.reshape(n, m, s * c) @ matrices.reshape(s * c, -1)
    own = jnp.tensordot(species, matrices, axes=1)
    return jnp.einsum("nmc,ncd->nmd", x, own)


class Interaction(eqx.Module):
    """A layer that sums the messages of neighbours: A from the features h (MACE, eq. 8, 9).

    For inference, a table may replace the hidden radial layers, whose weights are then dropped.
    """

    up: tuple[Linear, ...]  # by degree of h
    network: RadialNetwork
    radial: Linear  # last layer of the network, [hidden, paths · C]
    mix: tuple[Linear, ...]  # by degree of A, [paths to it · C, C]
    table: RadialTable | None = None

    @classmethod
    def init(
        cls, key: Array, config: Messages, layer: int, outputs: tuple[int, ...], dtype
    ) -> "Interaction":
        """Draw weights from N(0, 1); `outputs` are the numbers of channels of A by degree."""
        c, paths = config.channels, [p for p in config.paths(layer) if p[2] < len(outputs)]
        n_up = 1 + max(l1 for l1, _, _ in paths)
        keys = iter(jax.random.split(key, 2 + n_up + len(outputs)))
        return cls(
            tuple(Linear.init(next(keys), (c, c), dtype) for _ in range(n_up)),
            RadialNetwork.init(next(keys), config.n_bessel, config.radial_widths, dtype),
            Linear.init(next(keys), (config.radial_widths[-1], len(paths) * c), dtype),
            tuple(
                Linear.init(next(keys), (c * sum(p[2] == l for p in paths), n), dtype)
                for l, n in enumerate(outputs)
            ),
        )

    def coordinate(self, edges: Edges) -> Float[Array, "N K ..."]:
        """Return the argument of `hidden` for each edge: the radial basis, or r for a table."""
        return edges.radial if self.table is None else edges.r

    def hidden(self, x: Float[Array, "N K ..."]) -> Float[Array, "edges hidden"]:
        """Compute H, the last hidden layer of the radial network, from x = `coordinate(edges)`."""
        if self.table is not None:
            return values(self.table, x.ravel())
        return self.network(x.reshape(-1, x.shape[-1]))

    def of_species(self, embedding: Float[Array, "S C"], edges: Edges, config: Messages) -> Degrees:
        """Compute the sums A of the first layer, where features h depend only on the element.

        Then Σ_j R(r_ij) Y(r_ij) h_z(j) = Σ_s h_s W · Σ_(j of s) H(r_ij) Y(r_ij), with H the last
        hidden layer: the sum over neighbours comes first, and the widest product of the radial
        network is computed once per atom instead of once per edge.
        """
        width = self.radial.weight.shape[0]

        def sums(coordinate: Array, harmonics: Array, species: Array) -> tuple[Array]:
            n, k, s = species.shape
            by_species = harmonics[:, :, :, None] * species[:, :, None, :]
            hidden = self.hidden(coordinate).reshape(n, k, -1)
            moments = jnp.einsum("nkp,nkb->npb", by_species.reshape(n, k, -1), hidden)
            return (moments.reshape(n, -1, s * width),)

        up = embedding @ self.up[0].matrix
        (moments,) = by_rows(sums, (self.coordinate(edges), edges.harmonics, edges.species))
        radial = self.radial.matrix.reshape(width, -1, config.channels)
        result = []
        for l, (part, mix) in enumerate(
            zip(split_degrees(moments, config.l_max, 1), self.mix, strict=False)
        ):
            matrix = (up[:, None, :] * radial[None, :, l, :]).reshape(-1, config.channels)
            result.append(part @ (matrix @ mix.matrix))
        return tuple(result)

    def __call__(self, h: Degrees, edges: Edges, graph: Graph, config: Messages) -> Degrees:
        paths = [p for p in config.paths(1) if p[2] < len(self.mix)]

        def messages(coordinate: Array, harmonics: Array, *senders: Array) -> Degrees:
            n, k, _ = harmonics.shape
            functions = (self.hidden(coordinate) @ self.radial.matrix).reshape(n, k, -1)
            radial = split(functions, (config.channels,) * len(paths), 2)
            y = split_degrees(harmonics, config.l_max, 2)
            parts: list[list[Array]] = [[] for _ in self.mix]
            for r, (l1, l2, l3) in zip(radial, paths, strict=True):
                parts[l3].append(_couple_and_sum(_times(senders[l1], r), y[l2], l1, l2, l3))
            return tuple(
                mix(jnp.concatenate(part, axis=-1))
                for mix, part in zip(self.mix, parts, strict=True)
            )

        # Degrees are gathered one by one: slices of one array would each be copied.
        senders = [
            gather_neighbours(up(x), graph.index, graph.reverse)
            for up, x in zip(self.up, h, strict=True)
        ]
        return by_rows(messages, (self.coordinate(edges), edges.harmonics, *senders))

    def tabulated(self, config: Messages) -> "Interaction":
        """Return a layer for inference, with H from a table; `self` if no table is accurate."""
        if self.table is not None:
            return self
        exact = jax.tree.map(lambda x: x.astype(jnp.float64), self.network)
        table = RadialTable.of(
            lambda r: exact(basis_from_zero(r, config)), config.cutoff, self.radial.weight.dtype
        )
        if table is None:
            return self
        return Interaction(self.up, RadialNetwork(()), self.radial, self.mix, table)


def _times(x: Float[Array, "N K m C"], r: Float[Array, "N K C"]) -> Float[Array, "N K m C"]:
    """Compute x r by component: XLA then unrolls the sum in the gradient by r, 4 times as fast."""
    return jnp.stack([part * r for part in unstack(x, 2)], axis=2)


def _couple_and_sum(
    x: Float[Array, "N K m1 C"], y: Float[Array, "N K m2"], l1: int, l2: int, l3: int
) -> Float[Array, "N m3 C"]:
    """Compute Σ_k [x_k ⊗ y_k]_l3 over neighbours k. y is coupled first, without channels; then one
    product sums over (k, m1), the last axis of its left factor, where products are fastest."""
    n, k, m1, c = x.shape
    if l1 == 0:
        coupled = jnp.swapaxes(y, 1, 2)
    else:
        cg = jnp.asarray(clebsch_gordan(l1, l2, l3), y.dtype)
        coupled = jnp.einsum("nkb,abm->nmka", y, cg).reshape(n, -1, k * m1)
    return jnp.einsum("nmq,nqc->nmc", coupled, x.reshape(n, k * m1, c))


def edges_of(graph: Graph, config: Messages, n_species: int, dtype) -> tuple[Array, Edges]:
    """Compute the distances r [N, K], Å, and the `Edges` of a graph."""
    d = graph.displacement
    r = jnp.sqrt(jnp.sum(d * d, axis=-1))
    cut = polynomial_cutoff(r, config.cutoff, config.cutoff_power)
    cut = cut * graph.edge_mask.astype(r.dtype)
    basis = bessel_basis(r, config.cutoff, config.n_bessel)
    y = spherical_harmonics(d / r[..., None], config.l_max) * sqrt(4 * pi)
    sender = jnp.asarray(graph.species).at[graph.index].get(mode="promise_in_bounds")
    beyond = jnp.where(graph.edge_mask, r, 2.0 * config.cutoff)
    return r, Edges(y, beyond, basis * cut[..., None], one_hot(sender, n_species, dtype))


def basis_from_zero(r: Float[Array, "..."], config: Messages) -> Float[Array, "... n"]:
    """Compute `Edges.radial` at distances r ≥ 0, Å, with derivatives also at zero:
    sqrt(2/r_c) sin(nπ r/r_c) / r = sqrt(2/r_c) (nπ/r_c) sinc(n r/r_c)."""
    n = jnp.arange(1, config.n_bessel + 1, dtype=r.dtype)
    scale = n * (pi / config.cutoff * sqrt(2.0 / config.cutoff))
    cut = polynomial_cutoff(r, config.cutoff, config.cutoff_power)
    return scale * jnp.sinc(r[..., None] * (n / config.cutoff)) * cut[..., None]
