r"""A sparse Gaussian process of atomic energies on SOAP environments.

    E    = Σ_i ε_i,  ε ~ GP(0, δ² k)
    k(i, i') = (p̂_i · p̂_i')^ζ for centres of one element, else 0
    mean ε_i = Σ_m [k(i, m) − k(0, m)] δ² w_m      over inducing environments m
    var  y*  = k_** − k_*M [K_MM⁻¹ − (K_MM + K_MN Σ⁻¹ K_NM)⁻¹] k_M*

for y* any linear function of ε: an energy, or a component of a force. With L Lᵀ = δ² K_MM,
V = L⁻¹ K_MN and R Rᵀ = I + V Σ⁻¹ Vᵀ this is k_** − |a|² + |R⁻¹ a|², a = L⁻¹ k_M*. Forces and
stress are derivatives of the mean energy, so the potential is conservative. What is modelled is
the energy above that of the lone atom 0, which is zero: E0 holds exactly.

Sources: Quiñonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005), "DTC"; Bartók,
Payne, Kondor, Csányi, Phys. Rev. Lett. 104, 136403 (2010).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from kohn.descriptors.soap import SoapConfig, expansion, soap
from kohn.errors import ConfigError
from kohn.graphs import Graph
from kohn.structures.elements import symbol
from kohn.typing import Array, Float

BLOCK = 512
"""Centres computed at once where there are many, which bounds the memory."""
JITTER = 1e-10
"""Added to the diagonal of K_MM, as a share of it."""


class GaussianProcessConfig(BaseModel):
    """A sparse Gaussian process; noises are standard deviations."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    family: Literal["gaussian-process"] = "gaussian-process"
    soap: Annotated[SoapConfig, Field(description="environments of atoms")] = SoapConfig(
        sigma=0.4, scaling_radius=2.5
    )
    zeta: Annotated[int, Field(ge=1, description="power of the kernel")] = 4
    inducing: Annotated[
        int | None,
        Field(ge=1, description="inducing environments in all; null: 2000, or all there are"),
    ] = None
    selection: Annotated[
        Literal["farthest-point", "cur"], Field(description="how they are chosen")
    ] = "farthest-point"
    signal: Annotated[float, Field(gt=0, description="δ, eV: spread of atomic energies")] = 1.0
    noise_energy: Annotated[
        float, Field(gt=0, description="of an energy, eV per square root of the atoms")
    ] = 0.001
    noise_forces: Annotated[float, Field(gt=0, description="of a force component, eV/Å")] = 0.02
    noise_stress: Annotated[float, Field(gt=0, description="of a stress component, eV/Å³")] = 0.002
    config_noise: Annotated[
        dict[str, float],
        Field(description="config_type -> factor on the noises of its structures"),
    ] = {}
    tune: Annotated[
        Literal["marginal-likelihood", "none"],
        Field(description="how signal and noises are found, starting from those given"),
    ] = "marginal-likelihood"
    inducing_by_element: Annotated[
        dict[str, NonNegativeInt] | None,
        Field(description="symbol -> inducing environments; null: by the square root of atoms"),
    ] = None

    @model_validator(mode="after")
    def _smooth_and_of_atoms(self) -> "GaussianProcessConfig":
        if self.soap.average != "off":
            raise ValueError("a potential needs the environments of atoms: soap.average off")
        if self.soap.convention != "kohn":
            raise ValueError(
                f"forces would jump at the cutoff of {self.soap.convention}: soap.convention kohn"
            )
        return self

    @property
    def cutoff(self) -> float:
        """r_c, Å."""
        return self.soap.reach


class GaussianProcess(eqx.Module):
    """The posterior mean as a model of atomic energies, and what its variance needs.

    Attributes:
        points: p̂ of the inducing environments, element after element, [M, D].
        weights: w, eV, [M].
        scale: δ, eV.
        posterior: R packed by rows, [M (M + 1)/2].
        counts: inducing environments of each element.
    """

    points: Float[Array, "M D"]
    weights: Float[Array, " M"]
    scale: Float[Array, ""]
    posterior: Float[Array, " packed"]
    config: GaussianProcessConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)

    @classmethod
    def random(
        cls,
        key: Array,
        config: GaussianProcessConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        scale: float = 1.0,
        dtype: DTypeLike = np.float64,
    ) -> "GaussianProcess":
        """The prior: zero energies. Nothing is random; the name is that of all families."""
        del key
        m, size = sum(counts_of(config, elements)), expansion(config.soap, elements).size
        return cls(
            points=jnp.zeros((m, size), dtype),
            weights=jnp.zeros((m,), dtype),
            scale=jnp.asarray(scale, dtype),
            posterior=jnp.zeros((m * (m + 1) // 2,), dtype),
            config=config,
            elements=elements,
            neighbours=neighbours,
        )

    @property
    def cutoff(self) -> float:
        """r_c, Å."""
        return self.config.cutoff

    @property
    def counts(self) -> tuple[int, ...]:
        """Inducing environments of each element."""
        return counts_of(self.config, self.elements)

    @property
    def segments(self) -> list[slice]:
        """Where those of each element stand."""
        ends = np.cumsum(self.counts)
        return [slice(int(e) - c, int(e)) for c, e in zip(self.counts, ends, strict=True)]

    def restricted(self, elements: tuple[int, ...]) -> "GaussianProcess":
        """The mean for some elements only: features of absent ones are zero, and left out."""
        if elements == self.elements or self.config.soap.species_channels is not None:
            return self
        keep = [self.elements.index(z) for z in elements]
        labels = expansion(self.config.soap, self.elements).labels
        columns = [i for i, label in enumerate(labels) if label[0] in keep and label[1] in keep]
        segments = self.segments
        rows = np.concatenate([np.arange(segments[i].start, segments[i].stop) for i in keep])
        counts = {symbol(z): self.counts[i] for z, i in zip(elements, keep, strict=True)}
        return replace(
            self,
            points=self.points[rows][:, np.array(columns)],
            weights=self.weights[rows],
            config=self.config.model_copy(update={"inducing_by_element": counts}),
            elements=tuple(elements),
        )

    def for_elements(self, elements: tuple[int, ...], key: Array) -> "GaussianProcess":
        """Refused: a Gaussian process is fitted anew, which takes minutes."""
        raise ConfigError(
            "a Gaussian process cannot be fine-tuned",
            received=f"elements {elements}",
            fix="fit it to all the data: leave run.init_from out",
        )

    def __call__(self, graph: Graph) -> Float[Array, " N"]:
        """Energy of each atom without its E0, eV; zero for an atom without neighbours."""
        neighbour = jnp.asarray(graph.species).at[graph.index].get(mode="promise_in_bounds")
        rows = (graph.displacement, neighbour, graph.edge_mask, graph.species)
        energies = in_blocks(self._energies, rows)
        real = graph.atom_mask & jnp.any(graph.edge_mask, axis=1)  # zero without rounding
        return energies * real.astype(energies.dtype)

    def _energies(self, displacement: Array, neighbour: Array, mask: Array, centre: Array) -> Array:
        """Σ_m k(i, m) w_m, less the same of a lone atom."""
        table, dtype = expansion(self.config.soap, self.elements), self.points.dtype
        u = normalised(soap(table, displacement, neighbour, mask, centre))
        weights = self.scale**2 * jnp.asarray(self._membership, dtype) * self.weights
        lone = jnp.asarray(lone_atoms(self.config.soap, self.elements), dtype)
        zero = jnp.sum((lone @ self.points.T) ** self.config.zeta * weights, axis=1)
        each = (u @ self.points.T) ** self.config.zeta @ weights.T - zero
        own = (centre[:, None] == jnp.arange(len(self.elements), dtype=centre.dtype)).astype(dtype)
        return jnp.sum(each * own, axis=1)

    @property
    def _membership(self) -> np.ndarray:
        """Which inducing environments are of which element, [S, M]."""
        return np.repeat(np.eye(len(self.counts)), self.counts, axis=1)


def in_blocks(function: Callable[..., Array], rows: tuple[Array, ...]) -> Array:
    """A function of rows, block by block where they are many; recomputed block by block when
    differentiated, so that nothing large is kept."""
    n = rows[0].shape[0]
    if n <= 2 * BLOCK:
        return function(*rows)
    blocks = -(-n // BLOCK)
    padded = (
        jnp.concatenate([x, jnp.broadcast_to(x[-1:], (blocks * BLOCK - n, *x.shape[1:]))])
        for x in map(jnp.asarray, rows)
    )
    cut = tuple(x.reshape(blocks, BLOCK, *x.shape[1:]) for x in padded)
    return jax.lax.map(jax.checkpoint(lambda block: function(*block)), cut).reshape(-1)[:n]


def normalised(p: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """p / |p|; zero where p is."""
    return p / jnp.sqrt(jnp.sum(p * p, axis=-1, keepdims=True) + 1e-30)


def lone_atoms(config: SoapConfig, elements: tuple[int, ...]) -> np.ndarray:
    """p̂ of an atom of each element without neighbours, [S, D]."""
    table, n = expansion(config, elements), len(elements)
    empty = np.ones((n, 1, 3)), np.zeros((n, 1), np.int32), np.zeros((n, 1), bool)
    with jax.ensure_compile_time_eval():
        return np.asarray(normalised(soap(table, *empty, np.arange(n, dtype=np.int32))))  # type: ignore[arg-type]


def counts_of(config: GaussianProcessConfig, elements: tuple[int, ...]) -> tuple[int, ...]:
    """Inducing environments of each element, as the configuration says."""
    if config.inducing_by_element is None:
        return (0,) * len(elements)  # not chosen yet
    return tuple(config.inducing_by_element.get(symbol(z), 0) for z in elements)


def kernel_and_derivatives(
    zeta: int,
    p: Float[Array, "N D"],
    jacobian: Float[Array, "N K 3 D"],
    points: Float[Array, "M D"],
) -> tuple[Float[Array, "N M"], Float[Array, "N K 3 M"]]:
    """k(i, m) and ∂k(i, m)/∂d_ik, of centres and points of one element.

    ∂k = ζ (p̂·p̂_m)^(ζ−1) (∂p·p̂_m − (p̂·p̂_m)(p̂·∂p))/|p|.
    """
    norm = jnp.sqrt(jnp.sum(p * p, axis=-1) + 1e-30)
    u = p / norm[:, None]
    s = u @ points.T
    along = jnp.einsum("nkad,nd->nka", jacobian, u)
    across = jacobian.reshape(-1, jacobian.shape[-1]) @ points.T
    across = across.reshape(*jacobian.shape[:-1], -1) - along[..., None] * s[:, None, None]
    slope = zeta * s ** (zeta - 1) / norm[:, None]
    return s**zeta, across * slope[:, None, None]
