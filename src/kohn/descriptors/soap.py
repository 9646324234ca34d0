r"""SOAP: the smooth overlap of atomic positions, in the order of its definition.

    ρ_i^a(r) = Σ_j∈a f(r_ij) exp(−|r − r_ij|²/2σ²)              density of species a around atom i
    c_nlm^a  = ∫ d³r g_n(r) Y_lm(r̂) ρ_i^a(r)
             = Σ_j∈a f(r_ij) I_nl(r_ij) Y_lm(r̂_ij)              coefficients
    p_l^AB   = Σ_m c_Alm c_Blm                                   power spectrum
    k(i, i') = (p_i · p_i' / |p_i| |p_i'|)^ζ                     kernel

with channels A = (a, n), real orthonormal Y_lm, orthonormal g_n and I_nl from
`radial_integrals`. The centre itself belongs to its density. p is symmetric in A and B: pairs
A ≤ B are kept, those with A ≠ B times √2, so that a plain dot product is the textbook kernel.

Rotations, reflections and permutations leave p unchanged by construction. f falls to zero with
two continuous derivatives at r_c, so that p is C² in positions and cell. The conventions of two
other codes are presets, with their own cutoffs, whose jumps at r_c are theirs.

Sources: Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013); conventions of DScribe
(Himanen et al., Comput. Phys. Commun. 247, 106949 (2020)) and featomic.
"""

from collections.abc import Callable
from functools import lru_cache
from math import log, pi, sqrt
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kohn.descriptors.alchemy import species_channels
from kohn.descriptors.cutoffs import smooth_step
from kohn.descriptors.radial_integrals import (
    PRECISION,
    RadialBasis,
    bessel,
    chebyshev_series,
    gaussian_integrals,
    gto,
    gto_dscribe,
    polynomial,
)
from kohn.graphs import select_columns
from kohn.o3.harmonics import degree_slice, spherical_harmonics
from kohn.structures.elements import symbol
from kohn.typing import Array, Bool, Float, Int


class SoapConfig(BaseModel):
    """Settings of SOAP. Lengths in Å."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    r_cut: Annotated[float, Field(gt=0, description="cutoff radius, Å")] = 5.0
    n_max: Annotated[int, Field(ge=1, le=32, description="radial functions")] = 8
    l_max: Annotated[int, Field(ge=0, le=20, description="highest degree")] = 6
    sigma: Annotated[float, Field(gt=0, description="width of the Gaussians, Å")] = 0.5
    radial: Annotated[
        Literal["gto", "polynomial", "bessel"], Field(description="radial functions")
    ] = "gto"
    smoothing_width: Annotated[
        float | None,
        Field(ge=0, description="f falls from 1 to 0 over so much before r_cut, Å; null: over all"),
    ] = None
    scaling_radius: Annotated[
        float | None,
        Field(gt=0, description="f also falls as 1/(1 + (r/R)^m) with this R, Å; null: not"),
    ] = None
    scaling_exponent: Annotated[float, Field(ge=2, description="m of that")] = 4.0
    centre_weight: Annotated[float, Field(ge=0, description="of the centre in its density")] = 1.0
    species_channels: Annotated[
        int | None,
        Field(ge=1, description="compress species to so many; null: one channel for each"),
    ] = None
    average: Annotated[
        Literal["off", "inner", "outer"],
        Field(description="per structure: of coefficients (inner) or power spectra (outer)"),
    ] = "off"
    convention: Annotated[
        Literal["kohn", "dscribe", "featomic"],
        Field(description="whose numbers, cutoff and order of features"),
    ] = "kohn"

    @classmethod
    def dscribe(cls, **settings) -> "SoapConfig":
        """The numbers of DScribe's `SOAP(weighting=None)`; not continuous at its cutoff."""
        return cls(convention="dscribe", **settings)

    @classmethod
    def featomic(cls, **settings) -> "SoapConfig":
        """The numbers of featomic's `SoapPowerSpectrum`, a "Gto" basis with max_radial
        n_max − 1, `spline_accuracy=None`; a shifted cosine of `smoothing_width`, or a step where
        that is 0. Not C² at its cutoff."""
        return cls(convention="featomic", **{"smoothing_width": 0.5, **settings})

    @property
    def reach(self) -> float:
        """How far neighbours count, Å: r_cut, but for DScribe as far as its Gaussians reach."""
        if self.convention != "dscribe":
            return self.r_cut
        return float(np.nextafter(self.r_cut + self.sigma * sqrt(2 * log(1000)), np.inf))


class Expansion:
    """The tables of a choice of settings and elements; equal choices share one (`expansion`).

    I_nl(r) = Σ_q [Σ_k T_k(2r/reach − 1) shared[k, q]] mixing[q, l, n]: the sum over neighbours
    runs over the q functions that all (n, l) share, which are fewer, and n and l come after.

    Attributes:
        elements: atomic numbers in ascending order.
        shared, mixing: see above.
        centre: what the centre adds to c_n00, [n].
        species: weights of the elements in the species channels [elements, S].
        labels: (a, b, l, n, n') of each feature.
        columns, inverse: which entries [l, A, B] of the power spectrum are features, and back.
        scale: factor of each feature, [D].
    """

    def __init__(self, config: SoapConfig, elements: tuple[int, ...]):
        self.config, self.elements = config, elements
        l_max, n_max, basis = config.l_max, config.n_max, _radial_basis(config)
        norm = (pi * config.sigma**2) ** -0.75 if config.convention == "featomic" else 1.0
        series = norm * chebyshev_series(basis, config.sigma, l_max, config.reach)
        u, s, vt = np.linalg.svd(series.reshape(len(series), -1), full_matrices=False)
        rank = int((s > PRECISION * s[0]).sum())
        self.shared = u[:, :rank]
        self.mixing = (s[:rank, None] * vt[:rank]).reshape(rank, l_max + 1, n_max)
        at_zero = gaussian_integrals(basis, config.sigma, 0, np.array([1e-9]))[:, 0]
        self.centre = norm * at_zero * config.centre_weight / sqrt(4 * pi)
        self.species = species_channels(elements, config.species_channels)
        self.channels = self.species.shape[1] * n_max
        self.labels, self.columns, self.scale = _features(config, self.species.shape[1])
        self.inverse = np.full((l_max + 1) * self.channels**2, len(self.columns), np.int32)
        self.inverse[self.columns] = np.arange(len(self.columns), dtype=np.int32)

    @property
    def size(self) -> int:
        """D, the number of features."""
        return len(self.columns)


def expansion(config: SoapConfig, elements: tuple[int, ...]) -> Expansion:
    """The tables for settings and elements (atomic numbers, ascending)."""
    # what is averaged later does not change the tables
    return _expansion(config.model_copy(update={"average": "off"}).model_dump_json(), elements)


@lru_cache(maxsize=32)
def _expansion(config: str, elements: tuple[int, ...]) -> Expansion:
    return Expansion(SoapConfig.model_validate_json(config), elements)


def _radial_basis(config: SoapConfig) -> RadialBasis:
    if config.radial == "polynomial":
        return polynomial(config.r_cut, config.n_max)
    if config.radial == "bessel":
        return bessel(config.r_cut, config.n_max)
    if config.convention == "dscribe":
        return gto_dscribe(config.r_cut, config.n_max, config.l_max)
    return gto(config.r_cut, config.n_max)


def _features(config: SoapConfig, n_species: int) -> tuple[list[tuple], np.ndarray, np.ndarray]:
    """(a, b, l, n, n') of each feature, its place in p[l, A, B] and its factor, in order."""
    n_max, whole = config.n_max, config.convention == "featomic"
    channels = n_species * n_max
    labels, columns, scale = [], [], []
    for a in range(n_species):
        for b in range(a, n_species):
            for l in range(config.l_max + 1):
                for n in range(n_max):
                    for n2 in range(n if a == b and not whole else 0, n_max):
                        labels.append((a, b, l, n, n2))
                        columns.append((l * channels + a * n_max + n) * channels + b * n_max + n2)
                        scale.append(_factor(config.convention, l, (a, n) == (b, n2), a == b))
    return labels, np.array(columns, np.int32), np.array(scale)


def _factor(convention: str, l: int, same_channel: bool, same_species: bool) -> float:
    if convention == "dscribe":
        return pi * sqrt(8 / (2 * l + 1))
    if convention == "featomic":
        return (-1) ** l / sqrt(2 * l + 1) * (1.0 if same_species else sqrt(2))
    return 1.0 if same_channel else sqrt(2)


def feature_names(config: SoapConfig, elements: tuple[int, ...]) -> list[str]:
    """'O-H l=2 n=0 n'=3' for each feature; compressed species are called s0, s1 …"""
    if config.species_channels is None:
        names = [symbol(z) for z in elements]
    else:
        names = [f"s{i}" for i in range(config.species_channels)]
    labels = expansion(config, elements).labels
    return [f"{names[a]}-{names[b]} l={l} n={n} n'={n2}" for a, b, l, n, n2 in labels]


def cutoff_function(config: SoapConfig) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    """f(r) of the settings, zero from `reach` on."""
    r_cut, width = config.r_cut, config.smoothing_width
    if config.convention == "dscribe":
        return lambda r: jnp.where(r < config.reach, 1.0, 0.0)
    if config.convention == "featomic":
        if not width:
            return lambda r: jnp.where(r < r_cut, 1.0, 0.0)
        return lambda r: jnp.where(
            r < r_cut,
            0.5 + 0.5 * jnp.cos(jnp.maximum(r - r_cut + width, 0.0) * (pi / width)),
            0.0,
        )
    inner = 0.0 if width is None else max(r_cut - width, 0.0)
    radius, m = config.scaling_radius, config.scaling_exponent
    if radius is None:
        return lambda r: smooth_step(r, inner, r_cut)
    return lambda r: smooth_step(r, inner, r_cut) / (1.0 + (r / radius) ** m)


def coefficients(
    table: Expansion,
    displacement: Float[Array, "N K 3"],
    neighbour: Int[Array, "N K"],
    mask: Bool[Array, "N K"],
    centre: Int[Array, " N"],
) -> Float[Array, "N lm channels"]:
    """c_Alm of every centre, with channels A = (species channel, n), n fastest.

    Args:
        displacement: from the centre to the neighbour, Å, not zero (also in padding).
        neighbour, centre: index of the element in `table.elements`.
        mask: which slots hold a neighbour.
    """
    config, dtype = table.config, displacement.dtype
    (n, k), degrees = mask.shape, config.l_max + 1
    r = jnp.sqrt(jnp.sum(displacement**2, axis=-1))
    f = cutoff_function(config)(r) * mask.astype(dtype)
    y = spherical_harmonics(displacement / r[..., None], config.l_max)

    t = _chebyshev(jnp.minimum(r * (2 / config.reach), 2.0) - 1.0, len(table.shared))
    u = jnp.tensordot(t.reshape(len(t), n * k), jnp.asarray(table.shared, dtype), ((0,), (0,)))
    species = jnp.asarray(table.species, dtype)
    weighted = (species[neighbour] * f[..., None])[..., None] * u.reshape(n, k, 1, -1)
    moments = jnp.einsum("nkm,nkc->nmc", y, weighted.reshape(n, k, -1))

    moments = moments.reshape(n, degrees**2, species.shape[1], -1)
    mixing = jnp.asarray(table.mixing, dtype)
    c = [
        (moments[:, degree_slice(l)] @ mixing[:, l]).reshape(n, 2 * l + 1, table.channels)
        for l in range(degrees)
    ]
    own = species[centre][..., None] * jnp.asarray(table.centre, dtype)
    c[0] = c[0] + own.reshape(n, 1, table.channels)
    return jnp.concatenate(c, axis=1)


def _chebyshev(x: Float[Array, "..."], count: int) -> Float[Array, "count ..."]:
    """T_k(x) = 2x T_(k−1) − T_(k−2)."""
    t = [jnp.ones_like(x), x]
    for _ in range(count - 2):
        t.append(2.0 * x * t[-1] - t[-2])
    return jnp.stack(t[:count])


def power_spectrum(
    table: Expansion, c: Float[Array, "N lm channels"]
) -> Float[Array, "N features"]:
    """p_l^AB = Σ_m c_Alm c_Blm, as features in the order of `feature_names`."""
    return _features_of(table, _products(table, c, c))


def _products(table: Expansion, c: Array, c2: Array) -> Float[Array, "N l channels channels"]:
    """Σ_m c_Alm c'_Blm for all A and B."""
    parts = [
        jnp.einsum("nma,nmb->nab", c[:, degree_slice(l)], c2[:, degree_slice(l)])
        for l in range(table.config.l_max + 1)
    ]
    return jnp.stack(parts, axis=1)


def _features_of(table: Expansion, products: Array) -> Float[Array, "N features"]:
    """Those with A ≤ B, times their factors."""
    columns, inverse = jnp.asarray(table.columns), jnp.asarray(table.inverse)
    kept = select_columns(products.reshape(products.shape[0], -1), columns, inverse)
    return kept * jnp.asarray(table.scale, products.dtype)


def soap(
    table: Expansion,
    displacement: Float[Array, "N K 3"],
    neighbour: Int[Array, "N K"],
    mask: Bool[Array, "N K"],
    centre: Int[Array, " N"],
) -> Float[Array, "N features"]:
    """Power spectra of centres; arguments as in `coefficients`. Differentiable."""
    return power_spectrum(table, coefficients(table, displacement, neighbour, mask, centre))


def soap_jacobian(
    table: Expansion,
    displacement: Float[Array, "N K 3"],
    neighbour: Int[Array, "N K"],
    mask: Bool[Array, "N K"],
    centre: Int[Array, " N"],
) -> tuple[Float[Array, "N features"], Float[Array, "N K 3 features"]]:
    """p and ∂p_i/∂d_ik, for the neighbours that a centre has and no others.

    By position: ∂p_i/∂r_j is the sum over the slots that hold images of j, and ∂p_i/∂r_i
    less the sum over all slots. Memory: 24 · N · K · D bytes; for potentials contract instead.
    """
    (n, k), dtype = mask.shape, displacement.dtype
    c = coefficients(table, displacement, neighbour, mask, centre)
    alone = jnp.zeros((n * k,), jnp.int32), jnp.ones((n * k, 1), bool)

    def along(axis: int) -> Array:
        """∂c/∂d of each edge for itself: c is a sum over edges."""
        direction = jnp.zeros((n * k, 1, 3), dtype).at[..., axis].set(1.0)

        def of_edge(d: Array) -> Array:
            return coefficients(table, d, neighbour.reshape(-1, 1), alone[1], alone[0])

        _, dc = jax.jvp(of_edge, (displacement.reshape(n * k, 1, 3),), (direction,))
        cc = jnp.broadcast_to(c[:, None], (n, k, *c.shape[1:])).reshape(dc.shape)
        half = _products(table, dc, cc)  # the other half has A and B exchanged
        dp = _features_of(table, half + jnp.swapaxes(half, -1, -2))
        return dp.reshape(n, k, -1) * mask[..., None].astype(dtype)

    return power_spectrum(table, c), jnp.stack([along(a) for a in range(3)], axis=2)
