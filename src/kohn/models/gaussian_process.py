r"""Model atomic energies by a sparse Gaussian process on SOAP environments.

    E    = Σ_i ε_i,  ε_i = f(i) − f(0),  f ~ GP(0, δ² k)
    k(i, i') = (p̂_i · p̂_i')^ζ for centres of one element, else 0
    mean ε_i = Σ_m [k(i, m) − k(0, m)] δ² w_m      over inducing environments m
    var  y*  = k_** − k_*M [K_MM⁻¹ − (K_MM + K_MN Σ⁻¹ K_NM)⁻¹] k_M*

where p̂ is the SOAP vector of an atom divided by its norm, y* any linear function of ε (an energy,
or a component of a force), M the inducing environments, N the labels and Σ the variances of their
noise. With L Lᵀ = δ² K_MM, V = L⁻¹ K_MN and R Rᵀ = I + V Σ⁻¹ Vᵀ, var y* = k_** − |a|² + |R⁻¹ a|²,
a = L⁻¹ k_M*. Forces and stress are derivatives of the mean energy: the potential is conservative.
The process models the energy above that of the lone atom 0 of the same element, so E0 holds
exactly. f(0) enters the energy of n atoms n times; therefore the lone atom is the first inducing
environment of its element, and f(0) is inferred from the labels like all other values.
`posterior` adds the variance of labels that no f can describe.

Sources: Quiñonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005), "DTC"; Bartók,
Payne, Kondor, Csányi, Phys. Rev. Lett. 104, 136403 (2010).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Annotated, Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from kohn.descriptors.neighbour_blocks import in_blocks
from kohn.descriptors.soap import SoapConfig, expansion, soap
from kohn.errors import ConfigError
from kohn.graphs import Graph
from kohn.sections import Section
from kohn.structures.elements import symbol
from kohn.typing import Array, ArrayLike, Float, Int

JITTER = 1e-10
"""The relative increase of the diagonal of K_MM, so that it can be factorised."""


class GaussianProcessConfig(Section):
    """Settings of a sparse Gaussian process; noises are standard deviations."""

    family: Literal["gaussian-process"] = "gaussian-process"
    soap: Annotated[SoapConfig, Field(description="environments of atoms")] = SoapConfig(
        sigma=0.4, scaling_radius=2.5
    )
    zeta: Annotated[int, Field(ge=1, description="power of the kernel")] = 4
    inducing: Annotated[
        int | None,
        Field(
            ge=1,
            description="inducing environments in total, without lone atoms; null: 2000, or all "
            "if fewer",
        ),
    ] = None
    selection: Annotated[
        Literal["farthest-point", "cur"], Field(description="selection of inducing environments")
    ] = "farthest-point"
    signal: Annotated[float, Field(gt=0, description="δ, eV: spread of atomic energies")] = 1.0
    noise_energy: Annotated[
        float, Field(gt=0, description="σ of energies, eV per square root of the atoms")
    ] = 0.001
    noise_forces: Annotated[float, Field(gt=0, description="σ of force components, eV/Å")] = 0.02
    noise_stress: Annotated[float, Field(gt=0, description="σ of stress components, eV/Å³")] = 0.002
    config_noise: Annotated[
        dict[str, float],
        Field(description="config_type -> factor on the noises of its structures"),
    ] = {}
    tune: Annotated[
        Literal["marginal-likelihood", "none"],
        Field(description="how signal and noises are fitted, starting from the given values"),
    ] = "marginal-likelihood"
    inducing_by_element: Annotated[
        dict[str, NonNegativeInt] | None,
        Field(description="symbol -> inducing environments; null: by the square root of atoms"),
    ] = None
    residuals: Annotated[
        dict[Literal["energy", "forces", "stress"], PositiveFloat],
        Field(
            description="rms residual of each kind of label, in the units of the noises; "
            "computed by the fit, which replaces given values"
        ),
    ] = {}
    unexplained: Annotated[
        dict[Literal["energy", "forces"], NonNegativeFloat],
        Field(
            description="rms of the prior of labels that inducing environments do not explain, in "
            "the units of the noises; computed by the fit, which replaces given values"
        ),
    ] = {}

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
        """The cutoff radius r_c, Å."""
        return self.soap.reach


class GaussianProcess(eqx.Module):
    """A fitted Gaussian process: its mean as a model of atomic energies, and its variance.

    Attributes:
        points: unit SOAP vectors of the inducing environments of each element, [M_a, D]; the lone
            atom comes first, except in files from before the release of Kohn 0.1 (see `posterior`).
        zero: k(0, m), the kernel of each inducing environment m with its element's lone atom, [M].
        weights: the weights w of the inducing environments, element after element, 1/eV, [M].
        scale: δ, the prior standard deviation of atomic energies, eV.
        posterior: R, the lower triangular factor of the variance, packed by rows, [M (M + 1)/2].
        counts: number of inducing environments of each element.
        solved: True. See `kohn.models.derivatives.is_solved`.
    """

    solved: ClassVar[bool] = True

    points: tuple[Float[Array, "M_a D"], ...]
    zero: Float[Array, " M"]
    weights: Float[Array, " M"]
    scale: Float[Array, ""]
    posterior: Float[Array, " packed"]
    config: GaussianProcessConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        key: Array,
        config: GaussianProcessConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        scale: float = 1.0,
        dtype: DTypeLike = np.float64,
    ) -> "GaussianProcess":
        """Return the prior, with zero energies; nothing is random, and `key` is not used."""
        del key
        counts, size = counts_of(config, elements), expansion(config.soap, elements).size
        m = sum(counts)
        return cls(
            points=tuple(jnp.zeros((count, size), dtype) for count in counts),
            zero=jnp.zeros((m,), dtype),
            weights=jnp.zeros((m,), dtype),
            scale=jnp.asarray(scale, dtype),
            posterior=jnp.zeros((m * (m + 1) // 2,), dtype),
            config=config,
            elements=elements,
            neighbours=neighbours,
        )

    @classmethod
    def at(
        cls,
        points: Sequence[Float[ArrayLike, "M_a D"]],
        weights: Float[ArrayLike, " M"],
        config: GaussianProcessConfig,
        elements: tuple[int, ...],
        *,
        posterior: Float[ArrayLike, " packed"] | None = None,
    ) -> "GaussianProcess":
        """Return a float64 model with given inducing environments, unit SOAP vectors by element."""
        counts = {symbol(z): len(p) for z, p in zip(elements, points, strict=True)}
        config = config.model_copy(update={"inducing_by_element": counts})
        prior = cls.init(None, config, elements, neighbours=0.0, scale=config.signal)  # type: ignore[arg-type]
        lone = lone_atoms(config.soap, elements)
        zero = [(np.asarray(p) @ z) ** config.zeta for p, z in zip(points, lone, strict=True)]
        return replace(
            prior,
            points=tuple(map(jnp.asarray, points)),
            zero=jnp.asarray(np.concatenate(zero)),
            weights=jnp.asarray(weights),
            posterior=prior.posterior if posterior is None else jnp.asarray(posterior),
        )

    @property
    def cutoff(self) -> float:
        """The cutoff radius r_c, Å."""
        return self.config.cutoff

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of inducing environments of each element."""
        return counts_of(self.config, self.elements)

    @property
    def segments(self) -> list[slice]:
        """The slices of the M inducing environments that belong to each element."""
        ends = np.cumsum(self.counts)
        return [slice(int(e) - c, int(e)) for c, e in zip(self.counts, ends, strict=True)]

    def restricted(self, elements: tuple[int, ...]) -> "GaussianProcess":
        """Return the model for some of its elements only, without features of other elements."""
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
            points=tuple(self.points[i][:, np.array(columns)] for i in keep),
            zero=self.zero[rows],
            weights=self.weights[rows],
            config=self.config.model_copy(update={"inducing_by_element": counts}),
            elements=tuple(elements),
        )

    def for_elements(self, elements: tuple[int, ...], key: Array) -> "GaussianProcess":
        """Refuse fine-tuning: a Gaussian process is fitted to all data again, in minutes."""
        raise ConfigError(
            "a Gaussian process cannot be fine-tuned",
            received=f"elements {elements}",
            fix="fit it to all the data: leave run.init_from out",
        )

    def __call__(self, graph: Graph) -> Float[Array, " N"]:
        """Compute the energy of each atom without its E0, eV; zero for a lone atom."""
        neighbour = jnp.asarray(graph.species).at[graph.index].get(mode="promise_in_bounds")
        rows = (graph.displacement, neighbour, graph.edge_mask, graph.species)
        if len(self.elements) == 1:
            energies = self._energies(*rows)
        else:  # sorted, so that most blocks are of one element
            order = jnp.argsort(jnp.where(graph.atom_mask, graph.species, len(self.elements)))
            energies = self._energies(*(jnp.asarray(x)[order] for x in rows))[jnp.argsort(order)]
        real = graph.atom_mask & jnp.any(graph.edge_mask, axis=1)  # zero without rounding
        return energies * real.astype(energies.dtype)

    def _energies(self, displacement: Array, neighbour: Array, mask: Array, centre: Array) -> Array:
        """Compute the energy ε of each row together with its derivative by the displacements of
        that row, so that gradients compute nothing twice and keep nothing large."""
        table, by_element = expansion(self.config.soap, self.elements), self._by_element()
        rows, wanted = (neighbour, mask, centre), jnp.any(mask, axis=1)  # of lone atoms ε is zero

        def value(d: Array, neighbour: Array, mask: Array, centre: Array) -> Array:
            p = soap(table, d, neighbour, mask, centre)
            return atomic_energies(self.config.zeta, by_element, p, centre)[0]

        def with_slopes(d: Array, neighbour: Array, mask: Array, centre: Array) -> Any:
            p, pull = jax.vjp(lambda d: soap(table, d, neighbour, mask, centre), d)
            energy, slope = atomic_energies(self.config.zeta, by_element, p, centre)
            return energy, pull(slope)[0]

        @jax.custom_jvp
        def energies(d: Array) -> Array:
            return in_blocks(value, (d, *rows), table.size, wanted)

        @energies.defjvp
        def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
            energy, slope = in_blocks(with_slopes, (*primals, *rows), table.size, wanted)
            return energy, jnp.einsum("nka,nka->n", slope, tangents[0])

        return energies(displacement)

    def _by_element(self) -> list[tuple[Array, Array, Array]]:
        """Return p̂ of the inducing environments, δ² w and Σ k(0, m) δ² w for each element."""
        weights = self.scale**2 * self.weights
        zero = self.zero * weights
        return [
            (points, weights[here], jnp.sum(zero[here]))
            for points, here in zip(self.points, self.segments, strict=True)
        ]


def atomic_energies(
    zeta: int,
    by_element: list[tuple[Array, Array, Array]],
    p: Float[Array, "n D"],
    centre: Int[Array, " n"],
) -> tuple[Float[Array, " n"], Float[Array, "n D"]]:
    """Compute energies ε of atoms, and ∂ε/∂p, from SOAP vectors p and inducing environments m.

    ε = Σ_m s_m^ζ w_m − ε_0,   s_m = p̂·p̂_m,   p̂ = p/|p|
    ∂ε/∂p = Σ_m ζ s_m^(ζ−1) w_m (p̂_m − s_m p̂)/|p|
    """
    inverse = 1.0 / jnp.sqrt(jnp.sum(p * p, axis=-1) + 1e-30)

    def of_element(a: int) -> tuple[Array, Array, Array]:
        """Return ε, Σ_m t_m p̂_m and Σ_m t_m s_m of rows of element a; t_m = ζ s_m^(ζ−1) w_m."""
        points, weights, zero = by_element[a]
        s = (p @ points.T) * inverse[:, None]
        t = zeta * s ** (zeta - 1) * weights
        along = jnp.sum(t * s, axis=1)
        return along / zeta - zero, t @ points, along

    def zeros() -> tuple[Array, Array, Array]:
        return jnp.zeros(p.shape[0], p.dtype), jnp.zeros_like(p), jnp.zeros(p.shape[0], p.dtype)

    def of_several() -> tuple[Array, Array, Array]:
        energy, toward, along = zeros()
        for a in range(len(by_element)):
            own = (centre == a).astype(p.dtype)
            e, t, x = jax.lax.cond(jnp.any(centre == a), partial(of_element, a), zeros)
            energy, toward, along = energy + own * e, toward + own[:, None] * t, along + own * x
        return energy, toward, along

    single = [partial(of_element, a) for a in range(len(by_element))]
    branch = jnp.where(jnp.all(centre == centre[0]), centre[0], len(single))
    energy, toward, along = jax.lax.switch(branch, [*single, of_several])
    return energy, (toward - (along * inverse)[:, None] * p) * inverse[:, None]


def normalised(p: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Return p / |p|, or zero if p is zero."""
    return p / jnp.sqrt(jnp.sum(p * p, axis=-1, keepdims=True) + 1e-30)


def lone_atoms(config: SoapConfig, elements: tuple[int, ...]) -> np.ndarray:
    """Return the unit SOAP vector of a lone atom of each element, [elements, D], read-only."""
    return _lone_atoms(config.model_dump_json(), elements)


@lru_cache(maxsize=32)  # a fit needs them twenty times, and each time takes a fifth of a second
def _lone_atoms(config: str, elements: tuple[int, ...]) -> np.ndarray:
    table, n = expansion(SoapConfig.model_validate_json(config), elements), len(elements)
    empty = np.ones((n, 1, 3)), np.zeros((n, 1), np.int32), np.zeros((n, 1), bool)
    with jax.ensure_compile_time_eval():
        p = np.array(normalised(soap(table, *empty, np.arange(n, dtype=np.int32))))  # type: ignore[arg-type]
    p.flags.writeable = False
    return p


def counts_of(config: GaussianProcessConfig, elements: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of inducing environments of each element; 0 if not chosen yet."""
    if config.inducing_by_element is None:
        return (0,) * len(elements)  # not chosen yet
    return tuple(config.inducing_by_element.get(symbol(z), 0) for z in elements)


def kernel_and_derivatives(
    zeta: int,
    p: Float[Array, "N D"],
    jacobian: Float[Array, "N K 3 D"],
    points: Float[Array, "M D"],
) -> tuple[Float[Array, "N M"], Float[Array, "N K 3 M"]]:
    """Compute k(i, m) and ∂k(i, m)/∂d_ik for centres i and points m of the same element.

    ∂k = ζ (p̂·p̂_m)^(ζ−1) (∂p·p̂_m − (p̂·p̂_m)(p̂·∂p))/|p|, with p̂ = p/|p|.
    """
    norm = jnp.sqrt(jnp.sum(p * p, axis=-1) + 1e-30)
    u = p / norm[:, None]
    s = u @ points.T
    along = jnp.einsum("nkad,nd->nka", jacobian, u)
    across = jacobian.reshape(-1, jacobian.shape[-1]) @ points.T
    across = across.reshape(*jacobian.shape[:-1], -1) - along[..., None] * s[:, None, None]
    slope = zeta * s ** (zeta - 1) / norm[:, None]
    return s**zeta, across * slope[:, None, None]
