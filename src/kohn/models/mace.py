"""Implement MACE: messages of high body order from products of atomic bases.

Batatia, Kovács, Simm, Ortner, Csányi, NeurIPS 2022, arXiv:2206.07697, with the layout of the
published code (mace-torch, interaction "RealAgnostic", then "RealAgnosticResidual").

With h the features of atoms, Y the harmonics, R the learned radial functions of edges, W and w the
weights, λ the average number of neighbours, ν the number of factors and η the path of a product:

    A_i,klm   = 1/λ Σ_k' W_kk'l Σ_j Σ_paths R_k'(r_ij) [h_j,k'l1 ⊗ Y_l2(r_ij)]_lm     (eq. 8, 9)
    B_i,kLM   = Σ_ν Σ_η w_z(i),ηk [A_i,k ⊗ … ⊗ A_i,k]_η,LM                             (eq. 10, 11)
    h'_i,kLM  = Σ_k' W_kk'L B_i,k'LM + Σ_k' W_z(i),kk'L h_i,k'LM                         (eq. 12)
    E_i       = W h¹_i,00 + MLP(h²_i,00)                                                  (eq. 13)

In the first layer, A_i,klm is also mixed by a matrix W_z(i) of the element. Without
`element_maps` this mixing is left out, and the last W of eq. 12 is shared by all elements.
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from pydantic import Field, PositiveInt, model_validator

from kohn.errors import ConfigError
from kohn.graphs import Graph
from kohn.models.layers import Linear, normal, one_hot, silu, split, unstack
from kohn.models.messages import (
    Degrees,
    ElementLinear,
    Interaction,
    edges_of,
    natural_paths,
)
from kohn.models.network import BY_ELEMENT, DIVIDED_BY_ELEMENT, Features, Network
from kohn.models.zbl import zbl_energies
from kohn.o3 import symmetric_product
from kohn.sections import Section
from kohn.structures.elements import covalent_radii
from kohn.typing import Array, Float


class BodyConfig(Section):
    """Settings that all MACE models share, whatever they read from the features."""

    family: str
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
    zbl_factor: Annotated[float, Field(description="factor on zbl; mace-torch's scale")] = 1.0
    element_maps: Annotated[
        bool,
        Field(description="linear maps of their own for each element, as in mace-torch"),
    ] = True
    residual_first: Annotated[
        bool,
        Field(description="self-connection in the first layer too; lone atoms then differ from E0"),
    ] = False

    @model_validator(mode="after")
    def _degrees_are_reached(self) -> Self:
        if self.hidden_l_max > self.l_max:
            raise ValueError("hidden_l_max cannot be above l_max: no harmonic has that degree")
        return self

    def paths(self, layer: int) -> tuple[tuple[int, int, int], ...]:
        """Return degrees (l1, l2, l3) of features, harmonics and results, of natural parity."""
        highest = self.hidden_l_max if layer > 0 else 0
        return natural_paths(highest, self.l_max, self.l_max)

    def result_degrees(self, layer: int, highest: int = 0) -> tuple[int, ...]:
        """Return the degrees of the features after a layer, up to `highest` after the last."""
        last = layer == self.layers - 1
        return tuple(range((highest if last else self.hidden_l_max) + 1))


class MaceConfig(BodyConfig):
    """Settings of a MACE model; elements and scale come from the training data."""

    family: Literal["mace"] = "mace"


class Product(eqx.Module):
    """The many-body products of a layer and the update of its features (eq. 10 to 12)."""

    weights: tuple[tuple[Array, ...], ...] = eqx.field(metadata=BY_ELEMENT)
    # by degree L and order ν, [S, paths, C]
    linear: tuple[Linear, ...]  # by degree L
    skip: tuple[ElementLinear | Linear, ...]  # by degree L; empty without self-connection

    @classmethod
    def init(
        cls, key: Array, config: MaceConfig, layer: int, n_species: int, dtype, highest: int = 0
    ) -> "Product":
        """Draw weights from N(0, 1); those of products are divided by the number of paths."""
        c, degrees = config.channels, config.result_degrees(layer, highest)
        keys = iter(jax.random.split(key, len(degrees) * (config.correlation + 2)))
        weights, linear, skip = [], [], []
        for degree in degrees:
            paths = symmetric_product(config.l_max, degree, config.correlation).paths
            weights.append(
                tuple(normal(next(keys), (n_species, len(p), c), dtype) / len(p) for p in paths)
            )
            linear.append(Linear.init(next(keys), (c, c), dtype))
            if (layer > 0 and degree <= config.hidden_l_max) or (
                config.residual_first and degree == 0
            ):
                if config.element_maps:
                    skip.append(ElementLinear(normal(next(keys), (n_species, c, c), dtype)))
                else:
                    skip.append(Linear.init(next(keys), (c, c), dtype))
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
                b = b + _mapped(self.skip[degree], h[degree], species)
            result.append(b)
        return tuple(result)


def _mapped(linear: ElementLinear | Linear, x: Array, species: Array) -> Array:
    """Map the channels of features [N, m, C], by the matrix of the element if each has its own."""
    return linear(x, species) if isinstance(linear, ElementLinear) else linear(x)


class Mace(Network):
    """A MACE model of the energies of atoms relative to lone atoms.

    Attributes:
        config: see `MaceConfig`.
        elements: atomic numbers, in the order of `graph.species`.
        neighbours: λ, the average number of neighbours in the training data.
        scale: learned factor by which all these energies are multiplied, eV.
    """

    equivariant: ClassVar[bool] = True

    config: MaceConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)
    embedding: Linear = eqx.field(metadata=DIVIDED_BY_ELEMENT)
    select: tuple[ElementLinear, ...]  # first layer, by degree of A; empty without element_maps
    interactions: tuple[Interaction, ...]
    products: tuple[Product, ...]
    readouts: tuple[Linear, ...]
    last_readout: tuple[Linear, Linear]
    scale: Float[Array, ""]

    @classmethod
    def init(
        cls,
        key: Array,
        config: MaceConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        scale: float = 1.0,
        dtype: DTypeLike = np.float32,
        highest: int = 0,
    ) -> "Mace":
        """Return an untrained model.

        Args:
            key: JAX random key.
            elements: atomic numbers of the elements of the model.
            neighbours: average number of neighbours, by which messages are divided.
            scale: size of the energies of atoms, eV; the rms force is a good choice.
            dtype: float32 or float64.
            highest: highest degree of the features after the last layer.
        """
        s, c = len(elements), config.channels
        keys = iter(jax.random.split(key, 5 + config.l_max + 3 * config.layers))
        selecting = config.element_maps and not config.residual_first
        select = range(config.l_max + 1) if selecting else ()
        return cls(
            config=config,
            elements=tuple(elements),
            neighbours=float(neighbours),
            embedding=Linear.init(next(keys), (s, c), dtype),
            select=tuple(ElementLinear(normal(next(keys), (s, c, c), dtype)) for _ in select),
            interactions=tuple(
                Interaction.init(next(keys), config, t, (c,) * (config.l_max + 1), dtype)
                for t in range(config.layers)
            ),
            products=tuple(
                Product.init(next(keys), config, t, s, dtype, highest) for t in range(config.layers)
            ),
            readouts=tuple(
                Linear.init(next(keys), (c, 1), dtype) for _ in range(config.layers - 1)
            ),
            last_readout=(
                Linear.init(next(keys), (c, config.readout_width), dtype),
                Linear.init(next(keys), (config.readout_width, 1), dtype),
            ),
            scale=jnp.asarray(scale, dtype),
        )

    @classmethod
    def for_heads(
        cls,
        key: Array,
        config: MaceConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        dtype: DTypeLike,
        highest: int,
    ) -> "Mace":
        """Return a network whose last layer reaches degree `highest`; see `Network.for_heads`."""
        if highest > config.l_max:
            raise ConfigError(
                f"features cannot have the degree {highest}",
                expected=f"at most l_max, {config.l_max}",
                fix="raise model.l_max",
            )
        return cls.init(key, config, elements, neighbours=neighbours, dtype=dtype, highest=highest)

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of channels of the features of each degree."""
        config, highest = self.config, len(self.products[-1].linear) - 1
        invariant = config.channels * (config.layers - 1) + config.readout_width
        return (invariant, *(config.channels,) * highest)

    def features(self, graph: Graph) -> Features:
        """Compute the features of atoms: the scalars of all layers, those of the last after the
        hidden layer of its readout, and the equivariant features of the last layer."""
        config, dtype = self.config, self.scale.dtype
        species = one_hot(graph.species, len(self.elements), dtype)
        _, edges = edges_of(graph, config, len(self.elements), dtype)
        embedding = self.embedding.matrix
        h: Degrees = ((species @ embedding)[:, None],)
        invariant = []
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
            invariant.append(h[0][:, 0])
        invariant[-1] = silu(self.last_readout[0](invariant[-1]))
        return Features(jnp.concatenate(invariant, axis=-1), h[1:])

    def read(self, x: Float[Array, "N F"]) -> Float[Array, " N"]:
        """Compute energies of atoms from invariant features: the sum of linear readouts."""
        config = self.config
        widths = (*[config.channels] * (config.layers - 1), config.readout_width)
        readouts = (*self.readouts, self.last_readout[1])
        parts = zip(readouts, split(x, widths, 1), strict=True)
        return sum((w(part)[:, 0] for w, part in parts), jnp.zeros(len(x), x.dtype))

    def __call__(self, graph: Graph) -> Float[Array, " N"]:
        """Compute the energy of each atom without its E0, eV; zero for a lone atom, unless the
        first layer has a self-connection."""
        energies = self.read(self.features(graph).invariant) * self.scale
        if self.config.zbl:
            energies = energies + self.config.zbl_factor * self._zbl(graph)
        return energies * graph.atom_mask.astype(self.scale.dtype)

    def tabulated(self) -> "Mace":
        """Return the same model for inference; tables replace the hidden layers of R(r)."""
        interactions = tuple(x.tabulated(self.config) for x in self.interactions)
        return replace(self, interactions=interactions)

    def _zbl(self, graph: Graph) -> Float[Array, " N"]:
        r, edges = edges_of(graph, self.config, len(self.elements), self.scale.dtype)
        numbers = jnp.asarray(self.elements, r.dtype)
        radii = jnp.asarray(covalent_radii(np.array(self.elements)), r.dtype)
        z_i, z_j = one_hot(graph.species, len(self.elements), r.dtype), edges.species
        reach = (z_i @ radii)[:, None] + z_j @ radii
        masked = jnp.where(graph.edge_mask, r, 2.0 * reach)  # padding has no repulsion
        return zbl_energies(
            masked, (z_i @ numbers)[:, None], z_j @ numbers, reach, self.config.cutoff_power
        )
