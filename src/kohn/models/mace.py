"""MACE: messages of high body order from products of atomic bases.

Batatia, Kovács, Simm, Ortner, Csányi, NeurIPS 2022, arXiv:2206.07697; the layout of the
published code (mace-torch, interaction "RealAgnostic", then "RealAgnosticResidual").

With h the features of atoms, Y the harmonics and R the learned radial functions of edges:

    A_i,klm   = 1/λ Σ_k' W_kk'l Σ_j Σ_paths R_k'(r_ij) [h_j,k'l1 ⊗ Y_l2(r_ij)]_lm     (eq. 8, 9)
    B_i,kLM   = Σ_ν Σ_η w_z(i),ηk [A_i,k ⊗ … ⊗ A_i,k]_η,LM                             (eq. 10, 11)
    h'_i,kLM  = Σ_k' W_kk'L B_i,k'LM + Σ_k' W_z(i),kk'L h_i,k'LM                         (eq. 12)
    E_i       = W h¹_i,00 + MLP(h²_i,00)                                                  (eq. 13)
"""

from collections.abc import Callable
from dataclasses import replace
from math import pi, sqrt
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from kohn.descriptors import bessel_basis, polynomial_cutoff
from kohn.graphs import Graph, gather_neighbours
from kohn.models.layers import (
    Linear,
    RadialNetwork,
    by_rows,
    one_hot,
    silu,
    split,
    split_degrees,
    unstack,
)
from kohn.models.zbl import zbl_energies
from kohn.o3 import clebsch_gordan, spherical_harmonics, symmetric_product
from kohn.structures.elements import covalent_radii
from kohn.typing import Array, Float

Degrees = tuple[Array, ...]
"""Features by degree: for each l an array [N, 2l+1, C]."""


class MaceConfig(BaseModel):
    """What shapes a MACE model; elements and scale come from the training data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["mace"] = "mace"
    cutoff: Annotated[float, Field(gt=0, description="r_c, Å")] = 5.0
    channels: Annotated[int, Field(ge=1, description="features of each degree")] = 64
    hidden_l_max: Annotated[
        int, Field(ge=0, le=2, description="0: scalar features; 1: scalars and vectors")
    ] = 1
    l_max: Annotated[int, Field(ge=0, le=6, description="degree of the harmonics")] = 3
    correlation: Annotated[
        int, Field(ge=1, le=4, description="factors in a product; body order is one more")
    ] = 3
    layers: Annotated[int, Field(ge=1, le=4, description="rounds of messages")] = 2
    n_bessel: Annotated[int, Field(ge=1, description="radial basis functions")] = 8
    radial_widths: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1, description="hidden layers of the radial network"),
    ] = (64, 64, 64)
    cutoff_power: Annotated[int, Field(ge=2, description="p of the polynomial cutoff")] = 5
    readout_width: Annotated[int, Field(ge=1, description="hidden layer of the last readout")] = 16
    zbl: Annotated[bool, Field(description="add screened nuclear repulsion")] = False
    zbl_factor: Annotated[float, Field(description="multiplies it; mace-torch's scale")] = 1.0
    residual_first: Annotated[
        bool,
        Field(description="self-connection in the first layer too; then a lone atom is not E0"),
    ] = False

    @model_validator(mode="after")
    def _degrees_are_reached(self) -> "MaceConfig":
        if self.hidden_l_max > self.l_max:
            raise ValueError("hidden_l_max cannot be above l_max: no harmonic has that degree")
        return self

    def paths(self, layer: int) -> tuple[tuple[int, int, int], ...]:
        """(l1, l2, l3) of every message: features, harmonics, result; natural parity only."""
        highest = self.hidden_l_max if layer > 0 else 0
        return tuple(
            (l1, l2, l3)
            for l3 in range(self.l_max + 1)
            for l1 in range(highest + 1)
            for l2 in range(abs(l3 - l1), min(self.l_max, l1 + l3) + 1)
            if (l1 + l2 + l3) % 2 == 0
        )

    def result_degrees(self, layer: int) -> tuple[int, ...]:
        """Degrees of the features after a layer; the last one keeps scalars only."""
        return (0,) if layer == self.layers - 1 else tuple(range(self.hidden_l_max + 1))


class Edges(eqx.Module):
    """What the layers need of the edges, computed once."""

    harmonics: Float[Array, "N K lm"]  # component normalisation, 4π orthonormal
    radial: Float[Array, "N K n"]  # basis times cutoff; zero in padding
    species: Float[Array, "N K S"]  # one-hot element of the neighbour


class ElementLinear(eqx.Module):
    """y_i = x_i W_z(i) / sqrt(n_in S): a linear map for each element, as e3nn scales it."""

    weight: Float[Array, "S n_in n_out"]

    @property
    def matrix(self) -> Float[Array, "S n_in n_out"]:
        """W / sqrt(n_in S)."""
        s, n_in, _ = self.weight.shape
        return self.weight * (1.0 / sqrt(n_in * s))

    def __call__(self, x: Float[Array, "N m n_in"], species: Float[Array, "N S"]) -> Array:
        return select_matmul(x, self.matrix, species)


def select_matmul(
    x: Float[Array, "N m n_in"], matrices: Float[Array, "S n_in n_out"], species: Array
) -> Float[Array, "N m n_out"]:
    """x_i M_z(i). All elements are multiplied and one kept while they are few, for which one
    large product is faster than many small ones; with many, each atom fetches its own."""
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
    """Messages and their sum over neighbours: A from h (eq. 8, 9)."""

    up: tuple[Linear, ...]  # by degree of h
    network: RadialNetwork
    radial: Linear  # last layer of the network, [hidden, paths · C]
    mix: tuple[Linear, ...]  # by degree of A, [paths to it · C, C]

    @classmethod
    def random(cls, key: Array, config: MaceConfig, layer: int, dtype) -> "Interaction":
        """Weights from N(0, 1)."""
        c, paths = config.channels, config.paths(layer)
        n_up = 1 + max(l1 for l1, _, _ in paths)
        keys = iter(jax.random.split(key, 3 + n_up + config.l_max))
        return cls(
            tuple(Linear.random(next(keys), (c, c), dtype) for _ in range(n_up)),
            RadialNetwork.random(next(keys), config.n_bessel, config.radial_widths, dtype),
            Linear.random(next(keys), (config.radial_widths[-1], len(paths) * c), dtype),
            tuple(
                Linear.random(next(keys), (c * sum(p[2] == l for p in paths), c), dtype)
                for l in range(config.l_max + 1)
            ),
        )

    def of_species(
        self, embedding: Float[Array, "S C"], edges: Edges, config: MaceConfig
    ) -> Degrees:
        """The first layer, where h depends on the element alone.

        Then Σ_j R(r_ij) Y(r_ij) h_z(j) = Σ_s h_s W · Σ_(j of s) H(r_ij) Y(r_ij), with H the last
        hidden layer: the sum over neighbours comes first, and the widest product of the
        radial network is done per atom instead of per edge.
        """
        width = self.radial.weight.shape[0]

        def sums(basis: Array, harmonics: Array, species: Array) -> tuple[Array]:
            n, k, s = species.shape
            hidden = self.network(basis.reshape(n * k, -1)).reshape(n, k, -1)
            by_species = harmonics[:, :, :, None] * species[:, :, None, :]
            moments = jnp.einsum("nkp,nkb->npb", by_species.reshape(n, k, -1), hidden)
            return (moments.reshape(n, -1, s * width),)

        up = embedding @ self.up[0].matrix
        (moments,) = by_rows(sums, (edges.radial, edges.harmonics, edges.species))
        radial = self.radial.matrix.reshape(width, -1, config.channels)
        result = []
        for l, part in enumerate(split_degrees(moments, config.l_max, 1)):
            matrix = (up[:, None, :] * radial[None, :, l, :]).reshape(-1, config.channels)
            result.append(part @ (matrix @ self.mix[l].matrix))
        return tuple(result)

    def __call__(self, h: Degrees, edges: Edges, graph: Graph, config: MaceConfig) -> Degrees:
        paths = config.paths(1)

        def messages(basis: Array, harmonics: Array, sender: Array) -> Degrees:
            n, k, _ = basis.shape
            hidden = self.network(basis.reshape(n * k, -1)) @ self.radial.matrix
            radial = split(hidden.reshape(n, k, 1, -1), (config.channels,) * len(paths), 3)
            features = split_degrees(sender, config.hidden_l_max, 2)
            y = split_degrees(harmonics, config.l_max, 2)
            parts: list[list[Array]] = [[] for _ in self.mix]
            for r, (l1, l2, l3) in zip(radial, paths, strict=True):
                parts[l3].append(_couple_and_sum(features[l1] * r, y[l2], l1, l2, l3))
            return tuple(
                mix(jnp.concatenate(part, axis=-1))
                for mix, part in zip(self.mix, parts, strict=True)
            )

        lifted = jnp.concatenate([up(x) for up, x in zip(self.up, h, strict=True)], axis=1)
        sender = gather_neighbours(lifted, graph.index, graph.reverse)
        return by_rows(messages, (edges.radial, edges.harmonics, sender))


def _couple_and_sum(
    x: Float[Array, "N K m1 C"], y: Float[Array, "N K m2"], l1: int, l2: int, l3: int
) -> Float[Array, "N m3 C"]:
    """Σ_k [x_k ⊗ y_k]_l3: y is coupled first, without channels, then one product over (k, m1)."""
    n, k, _, c = x.shape
    if l1 == 0:
        return jnp.einsum("nkm,nkc->nmc", y, x[:, :, 0])
    cg = jnp.asarray(clebsch_gordan(l1, l2, l3), y.dtype)
    coupled = jnp.einsum("nkb,abm->nkam", y, cg).reshape(n, k * (2 * l1 + 1), -1)
    return jnp.einsum("nqm,nqc->nmc", coupled, x.reshape(n, -1, c))


class Product(eqx.Module):
    """Many-body products and the update of the features (eq. 10 to 12)."""

    weights: tuple[tuple[Array, ...], ...]  # by degree L and order ν, [S, paths, C]
    linear: tuple[Linear, ...]  # by degree L
    skip: tuple[ElementLinear, ...]  # by degree L; empty without self-connection

    @classmethod
    def random(cls, key: Array, config: MaceConfig, layer: int, n_species: int, dtype):
        """Weights from N(0, 1), those of products divided by the number of paths."""
        c, degrees = config.channels, config.result_degrees(layer)
        keys = iter(jax.random.split(key, len(degrees) * (config.correlation + 2)))
        weights, linear, skip = [], [], []
        for degree in degrees:
            paths = symmetric_product(config.l_max, degree, config.correlation).paths
            weights.append(
                tuple(
                    jax.random.normal(next(keys), (n_species, len(p), c), dtype) / len(p)
                    for p in paths
                )
            )
            linear.append(Linear.random(next(keys), (c, c), dtype))
            if (layer > 0 and degree <= config.hidden_l_max) or (
                config.residual_first and degree == 0
            ):
                matrix = jax.random.normal(next(keys), (n_species, c, c), dtype)
                skip.append(ElementLinear(matrix))
        return cls(tuple(weights), tuple(linear), tuple(skip))

    def __call__(
        self, a: Degrees, h: Degrees, species: Float[Array, "N S"], config: MaceConfig
    ) -> Degrees:
        components = {l: tuple(unstack(x, 1)) for l, x in enumerate(a)}
        result = []
        for degree, (weights, linear) in enumerate(zip(self.weights, self.linear, strict=True)):
            own = [unstack(jnp.tensordot(species, w, axes=1), 1) for w in weights]
            coupled = symmetric_product(config.l_max, degree, config.correlation)(components, own)
            b = linear(jnp.stack(coupled, axis=1))
            if degree < len(self.skip):
                b = b + self.skip[degree](h[degree], species)
            result.append(b)
        return tuple(result)


class Mace(eqx.Module):
    """A MACE model: interaction energies of atoms from a graph.

    Attributes:
        config: see `MaceConfig`.
        elements: atomic numbers, in the order of `graph.species`.
        neighbours: λ, the average number of neighbours in the training data.
        scale: learned factor of all energies, eV.
    """

    config: MaceConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)
    embedding: Linear
    select: tuple[ElementLinear, ...]  # first layer, by degree of A; empty if residual_first
    interactions: tuple[Interaction, ...]
    products: tuple[Product, ...]
    readouts: tuple[Linear, ...]
    last_readout: tuple[Linear, Linear]
    scale: Float[Array, ""]

    @classmethod
    def random(
        cls,
        key: Array,
        config: MaceConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        scale: float = 1.0,
        dtype: DTypeLike = np.float32,
    ) -> "Mace":
        """An untrained model.

        Args:
            key: JAX random key.
            elements: atomic numbers that the model will know.
            neighbours: average number of neighbours, which messages are divided by.
            scale: size of the energies of atoms in eV; the rms force is a good choice.
            dtype: float32 or float64.
        """
        s, c = len(elements), config.channels
        keys = iter(jax.random.split(key, 5 + config.l_max + 3 * config.layers))
        select = () if config.residual_first else range(config.l_max + 1)
        return cls(
            config,
            tuple(elements),
            float(neighbours),
            Linear.random(next(keys), (s, c), dtype),
            tuple(ElementLinear(jax.random.normal(next(keys), (s, c, c), dtype)) for _ in select),
            tuple(Interaction.random(next(keys), config, t, dtype) for t in range(config.layers)),
            tuple(Product.random(next(keys), config, t, s, dtype) for t in range(config.layers)),
            tuple(Linear.random(next(keys), (c, 1), dtype) for _ in range(config.layers - 1)),
            (
                Linear.random(next(keys), (c, config.readout_width), dtype),
                Linear.random(next(keys), (config.readout_width, 1), dtype),
            ),
            jnp.asarray(scale, dtype),
        )

    @property
    def cutoff(self) -> float:
        """r_c, Å."""
        return self.config.cutoff

    def for_elements(self, elements: tuple[int, ...], key: Array) -> "Mace":
        """The same function of the elements that it knows, with random weights for new ones.

        Args:
            elements: atomic numbers; those left out are forgotten.
            key: JAX random key.
        """
        fresh = Mace.random(
            key,
            self.config,
            elements,
            neighbours=self.neighbours,
            dtype=self.scale.dtype,
        )
        known = np.array([i for i, z in enumerate(elements) if z in self.elements], np.int32)
        source = np.array([self.elements.index(elements[i]) for i in known], np.int32)

        def joined(mine: Array, new: Array, factor: float) -> Array:
            return new.at[known].set(mine[source] * mine.dtype.type(factor))

        return self._by_element(fresh, joined)

    def restricted(self, elements: tuple[int, ...]) -> "Mace":
        """The same function, for some of its elements only."""
        source = np.array([self.elements.index(z) for z in elements], np.int32)

        def chosen(mine: Array, _: Array, factor: float) -> Array:
            return mine[source] * mine.dtype.type(factor)

        return self._by_element(replace(self, elements=tuple(elements)), chosen)

    def _by_element(self, other: "Mace", combine: Callable[[Array, Array, float], Array]) -> "Mace":
        """This model with the elements of another: arrays that have one row for each element
        are combined, the others kept. Layers divide by the root of the number of elements,
        which the factor undoes; products do not."""
        ratio = (len(other.elements) / len(self.elements)) ** 0.5

        def leaf(path: tuple, mine: Array, theirs: Array) -> Array:
            name = jax.tree_util.keystr(path)
            if not any(part in name for part in ("embedding", "select", "skip", ".weights")):
                return mine
            return combine(mine, theirs, 1.0 if ".weights" in name else ratio)

        like = replace(other, elements=self.elements)
        combined = jax.tree_util.tree_map_with_path(leaf, self, like)
        return replace(combined, elements=other.elements)

    def __call__(self, graph: Graph) -> Float[Array, " N"]:
        """Energy of each atom without its E0, eV; zero for an atom without neighbours."""
        config = self.config
        dtype = self.scale.dtype
        species = one_hot(graph.species, len(self.elements), dtype)
        r, edges = self._edges(graph)
        embedding = self.embedding.matrix
        h: Degrees = ((species @ embedding)[:, None],)
        energies = jnp.zeros(graph.species.shape, dtype)
        for t, (interaction, product) in enumerate(
            zip(self.interactions, self.products, strict=True)
        ):
            if t == 0:
                a = interaction.of_species(embedding, edges, config)
            else:
                a = interaction(h, edges, graph, config)
            a = tuple(x * (1.0 / self.neighbours) for x in a)
            if t == 0 and self.select:
                a = tuple(w(x, species) for w, x in zip(self.select, a, strict=True))
            h = product(a, h, species, config)
            scalars = h[0][:, 0]
            if t < config.layers - 1:
                energies = energies + self.readouts[t](scalars)[:, 0]
            else:
                first, second = self.last_readout
                energies = energies + second(silu(first(scalars)))[:, 0]
        energies = energies * self.scale
        if config.zbl:
            energies = energies + config.zbl_factor * self._zbl(r, graph, edges)
        return energies * graph.atom_mask.astype(dtype)

    def _edges(self, graph: Graph) -> tuple[Array, Edges]:
        d = graph.displacement
        r = jnp.sqrt(jnp.sum(d * d, axis=-1))
        cut = polynomial_cutoff(r, self.cutoff, self.config.cutoff_power)
        basis = bessel_basis(r, self.cutoff, self.config.n_bessel)
        y = spherical_harmonics(d / r[..., None], self.config.l_max) * sqrt(4 * pi)
        neighbour = jnp.asarray(graph.species).at[graph.index].get(mode="promise_in_bounds")
        species = one_hot(neighbour, len(self.elements), r.dtype)
        cut = cut * graph.edge_mask.astype(r.dtype)
        return r, Edges(y, basis * cut[..., None], species)

    def _zbl(self, r: Array, graph: Graph, edges: Edges) -> Array:
        numbers = jnp.asarray(self.elements, r.dtype)
        radii = jnp.asarray(covalent_radii(np.array(self.elements)), r.dtype)
        z_i, z_j = one_hot(graph.species, len(self.elements), r.dtype), edges.species
        reach = (z_i @ radii)[:, None] + z_j @ radii
        far = jnp.where(graph.edge_mask, r, 2.0 * reach)  # padding feels nothing
        return zbl_energies(
            far, (z_i @ numbers)[:, None], z_j @ numbers, reach, self.config.cutoff_power
        )
