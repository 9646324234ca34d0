r"""Compute SOAP, the smooth overlap of atomic positions, as a descriptor of atoms.

    ρ_i^a(r) = Σ_j∈a f(r_ij) exp(−|r − r_ij|²/2σ²)              density of species a around atom i
    c_nlm^a  = ∫ d³r g_n(r) Y_lm(r̂) ρ_i^a(r)
             = Σ_j∈a f(r_ij) I_nl(r_ij) Y_lm(r̂_ij)              coefficients
    p_l^AB   = Σ_m c_Alm c_Blm                                   power spectrum
    k(i, i') = (p_i · p_i' / |p_i| |p_i'|)^ζ                     kernel

with the cutoff function f, channels A = (a, n), real orthonormal Y_lm, orthonormal g_n and I_nl
from `radial_integrals`. The density includes the centre. p is symmetric in A and B: only pairs
A ≤ B are stored, times √2 if A ≠ B, so that a plain dot product is the textbook kernel.

Rotations, reflections and permutations leave p unchanged by construction. f falls to zero at r_c
with two continuous derivatives, so p is C² in positions and cell. Presets follow the conventions of
two other codes, with the cutoff functions of these codes and their jumps at r_c.

Sources: Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013); conventions of DScribe
(Himanen et al., Comput. Phys. Commun. 247, 106949 (2020)) and featomic.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from math import log, pi, sqrt
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial.chebyshev import chebder
from pydantic import Field

from kohn.descriptors.alchemy import species_channels
from kohn.descriptors.cutoffs import smooth_step
from kohn.descriptors.radial_integrals import (
    STRIDE,
    RadialBasis,
    as_products,
    bessel,
    chebyshev_series,
    gaussian_integrals,
    gto,
    gto_dscribe,
    polynomial,
)
from kohn.graphs import select_columns
from kohn.o3.harmonics import degree_slice, harmonics_by_component
from kohn.sections import Section
from kohn.structures.elements import symbol
from kohn.typing import Array, Bool, Float, Int


class SoapConfig(Section):
    """Settings of SOAP. Lengths are in Å."""

    r_cut: Annotated[float, Field(gt=0, description="cutoff radius, Å")] = 5.0
    n_max: Annotated[int, Field(ge=1, le=32, description="number of radial functions")] = 8
    l_max: Annotated[int, Field(ge=0, le=20, description="highest degree")] = 6
    sigma: Annotated[float, Field(gt=0, description="width of the Gaussians, Å")] = 0.5
    radial: Annotated[
        Literal["gto", "polynomial", "bessel"], Field(description="type of radial functions")
    ] = "gto"
    smoothing_width: Annotated[
        float | None,
        Field(ge=0, description="cutoff function falls within this width of r_cut, Å; null: r_cut"),
    ] = None
    scaling_radius: Annotated[
        float | None,
        Field(gt=0, description="R of the cutoff's factor 1/(1 + (r/R)^m), Å; null: no factor"),
    ] = None
    scaling_exponent: Annotated[float, Field(ge=2, description="m of 1/(1 + (r/R)^m)")] = 4.0
    centre_weight: Annotated[float, Field(ge=0, description="weight of the centre")] = 1.0
    species_channels: Annotated[
        int | None,
        Field(ge=1, description="number of species channels; null: one for each element"),
    ] = None
    average: Annotated[
        Literal["off", "inner", "outer"],
        Field(description="average over atoms: of coefficients (inner), of power spectra (outer)"),
    ] = "off"
    convention: Annotated[
        Literal["kohn", "dscribe", "featomic"],
        Field(description="code whose numbers, cutoff and feature order are used"),
    ] = "kohn"

    @classmethod
    def dscribe(cls, **settings) -> "SoapConfig":
        """Return settings that reproduce DScribe's `SOAP(weighting=None)`, which jumps at r_c."""
        return cls(convention="dscribe", **settings)

    @classmethod
    def featomic(cls, **settings) -> "SoapConfig":
        """Return settings that reproduce featomic's `SoapPowerSpectrum` with a "Gto" basis of
        max_radial n_max − 1 and `spline_accuracy=None`; the cutoff function is a shifted cosine of
        `smoothing_width`, or a step if this is 0. The features are not C² at the cutoff."""
        return cls(convention="featomic", **{"smoothing_width": 0.5, **settings})

    @property
    def reach(self) -> float:
        """The distance up to which neighbours count, Å: r_cut, or more in DScribe's convention."""
        if self.convention != "dscribe":
            return self.r_cut
        return float(np.nextafter(self.r_cut + self.sigma * sqrt(2 * log(1000)), np.inf))


class Expansion:
    """Tables for computing SOAP with given settings and elements; `expansion` caches them.

    I_nl(r) = Σ_t series[(l, n), t] T_t(r), and I'_nl likewise with `slopes`; the T_t are the
    products of Chebyshev polynomials from `_chebyshev`.

    Attributes:
        elements: atomic numbers in ascending order.
        series, slopes: coefficients of I_nl and I'_nl, [(l_max + 1) n_max, terms].
        centre: contribution of the centre to the coefficient c_n00, [n].
        species: weights of the elements in the species channels, [elements, S].
        labels: species channels a, b, degree l and radial indices n, n' of each feature.
        columns: index of each feature in the flat spectrum [l, A, B]. inverse: feature of an index.
        scale: factor of each feature, [D].
    """

    def __init__(self, config: SoapConfig, elements: tuple[int, ...]):
        self.config, self.elements = config, elements
        l_max, n_max, basis = config.l_max, config.n_max, _radial_basis(config)
        norm = (pi * config.sigma**2) ** -0.75 if config.convention == "featomic" else 1.0
        series = norm * chebyshev_series(basis, config.sigma, l_max, config.reach)
        self.series = as_products(series.reshape(len(series), -1)).T
        self.slopes = as_products(chebder(series.reshape(len(series), -1)) * (2 / config.reach)).T
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
    """Return the tables for settings and elements (atomic numbers, ascending), from a cache."""
    # averages are taken later and do not change the tables
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
    """Return the label (a, b, l, n, n') of each feature, its index in p[l, A, B] and its factor."""
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
    """Return names such as "O-H l=2 n=0 n'=3" of all features; compressed species are s0, s1 …"""
    if config.species_channels is None:
        names = [symbol(z) for z in elements]
    else:
        names = [f"s{i}" for i in range(config.species_channels)]
    labels = expansion(config, elements).labels
    return [f"{names[a]}-{names[b]} l={l} n={n} n'={n2}" for a, b, l, n, n2 in labels]


def cutoff_function(config: SoapConfig) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    """Return the cutoff function f(r) of the settings; it is zero from `config.reach` on."""
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
    """Compute density coefficients c_Alm of all centres, A = (species channel, n), n fastest.

    Args:
        displacement: from the centre to the neighbour, Å, never zero (also in padding).
        neighbour, centre: index of the element of each atom in `table.elements`.
        mask: true for slots that hold a neighbour.
    """
    config, dtype = table.config, displacement.dtype
    n, k = mask.shape
    r = jnp.sqrt(jnp.sum(displacement**2, axis=-1))
    weighted = _radial(table, r.reshape(n * k)) * mask.reshape(n * k).astype(dtype)
    radial = weighted.reshape(config.l_max + 1, config.n_max, n, k)
    y = jnp.stack(harmonics_by_component(displacement / r[..., None], config.l_max), axis=1)
    species = jnp.asarray(table.species, dtype)

    of_slots = jnp.swapaxes(species[neighbour], 1, 2)

    def of_degree(l: int) -> Array:
        """Sum Y_lm f I_nl over the neighbours k of each centre, for each species channel."""
        u = jnp.swapaxes(radial[l], 0, 1)
        if species.shape[1] > 1:
            u = (of_slots[:, :, None] * u[:, None]).reshape(n, -1, k)
        return jnp.einsum("nmk,nck->nmc", y[:, degree_slice(l)], u)

    c = [of_degree(l) for l in range(config.l_max + 1)]
    own = species[centre][..., None] * jnp.asarray(table.centre, dtype)
    c[0] = c[0] + own.reshape(n, 1, table.channels)
    return jnp.concatenate(c, axis=1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _radial(table: Expansion, r: Float[Array, " R"]) -> Float[Array, "l·n R"]:
    """Compute f(r) I_nl(r), the cutoff function times the radial integrals."""
    f = cutoff_function(table.config)(r)
    return jnp.asarray(table.series, r.dtype) @ _chebyshev(table, r, f)


@_radial.defjvp
def _radial_jvp(table: Expansion, primals: tuple[Array], tangents: tuple[Array]):
    """Differentiate `_radial`: d(f I) = (f' I + f I') dr, where I' has its own series."""
    (r,), (dr,) = primals, tangents
    f, df = jax.jvp(cutoff_function(table.config), (r,), (jnp.ones_like(r),))
    both = jnp.asarray(np.concatenate([table.series, table.slopes]), r.dtype)
    value, slope = jnp.split(both @ _chebyshev(table, r, jnp.ones_like(r)), 2)
    return f * value, (df * value + f * slope) * dr


def _chebyshev(table: Expansion, r: Float[Array, " R"], f: Array) -> Float[Array, "terms R"]:
    """Compute f T_a(x) T_7b(x), x = 2r/reach − 1, b slowest: the basis of the series, see
    `as_products`. This needs fewer dependent steps than the recursion of T_k, and the product
    with the identity keeps XLA from computing its factors again for every term."""
    x = jnp.minimum(r * (2 / table.config.reach), 2.0) - 1.0
    a = _recursion(x, jnp.ones_like(x), STRIDE + 1)
    b = _recursion(a[STRIDE], f, table.series.shape[1] // STRIDE)
    factors = jnp.stack(a[:STRIDE] + b)
    factors = jnp.eye(len(factors), dtype=r.dtype) @ factors
    products = factors[STRIDE:, None] * factors[None, :STRIDE]
    return products.reshape(-1, r.shape[0])


def _recursion(x: Array, first: Array, count: int) -> list[Array]:
    """Return first · T_k(x) for k = 0 … count − 1, by T_k = 2x T_(k−1) − T_(k−2)."""
    t = [first, x * first]
    for _ in range(count - 2):
        t.append(2.0 * x * t[-1] - t[-2])
    return t[:count]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def power_spectrum(
    table: Expansion, c: Float[Array, "N lm channels"]
) -> Float[Array, "N features"]:
    """Compute p_l^AB = Σ_m c_Alm c_Blm, the features in the order of `feature_names`."""
    n, config, n_max = c.shape[0], table.config, table.config.n_max
    species = table.species.shape[1]
    upper = np.array([i * n_max + j for i in range(n_max) for j in range(i, n_max)])
    parts = []
    for a in range(species):  # pairs (a, b) with b ≥ a
        here = slice(a * n_max, (a + 1) * n_max)
        products = jnp.stack(
            [
                sum(
                    c[:, i, here, None] * c[:, i, None, here.start :]
                    for i in range(s.start, s.stop)
                )
                for s in map(degree_slice, range(config.l_max + 1))
            ],
            axis=1,
        ).reshape(n, -1, n_max, species - a, n_max)
        pairs = jnp.transpose(products, (0, 3, 1, 2, 4)).reshape(n, species - a, -1, n_max**2)
        own = pairs[:, 0] if config.convention == "featomic" else pairs[:, 0][:, :, upper]
        parts += [own.reshape(n, -1), pairs[:, 1:].reshape(n, -1)]
    return jnp.concatenate(parts, axis=1) * jnp.asarray(table.scale, c.dtype)


@power_spectrum.defjvp
def _power_spectrum_jvp(table: Expansion, primals: tuple[Array], tangents: tuple[Array]):
    """Return p and dp_l^AB = Σ_m (dc_Alm c_Blm + c_Alm dc_Blm), a product and its transpose."""
    (c,), (dc,) = primals, tangents
    half = _products(table, dc, c)
    return power_spectrum(table, c), _features_of(table, half + jnp.swapaxes(half, -1, -2))


def _products(table: Expansion, c: Array, c2: Array) -> Float[Array, "N l channels channels"]:
    """Compute Σ_m c_Alm c'_Blm for all degrees l and all pairs of channels A and B."""
    parts = [
        jnp.einsum("nma,nmb->nab", c[:, degree_slice(l)], c2[:, degree_slice(l)])
        for l in range(table.config.l_max + 1)
    ]
    return jnp.stack(parts, axis=1)


def _features_of(table: Expansion, products: Array) -> Float[Array, "N features"]:
    """Select the products with A ≤ B as features, and multiply each by its factor."""
    columns, inverse = jnp.asarray(table.columns), jnp.asarray(table.inverse)
    values = select_columns(products.reshape(products.shape[0], -1), columns, inverse)
    return values * jnp.asarray(table.scale, products.dtype)


def soap(
    table: Expansion,
    displacement: Float[Array, "N K 3"],
    neighbour: Int[Array, "N K"],
    mask: Bool[Array, "N K"],
    centre: Int[Array, " N"],
) -> Float[Array, "N features"]:
    """Compute SOAP power spectra of centres, differentiable; arguments as in `coefficients`."""
    return power_spectrum(table, coefficients(table, displacement, neighbour, mask, centre))


def soap_jacobian(
    table: Expansion,
    displacement: Float[Array, "N K 3"],
    neighbour: Int[Array, "N K"],
    mask: Bool[Array, "N K"],
    centre: Int[Array, " N"],
) -> tuple[Float[Array, "N features"], Float[Array, "N K 3 features"]]:
    """Compute power spectra p_i and ∂p_i/∂d_ik by displacements, zero in slots without a neighbour.

    ∂p_i/∂r_j is the sum over the slots that hold images of j; for ∂p_i/∂r_i, subtract the sum over
    all slots. Memory: 24 · N · K · D bytes; potentials contract with a vector instead.
    """
    (n, k), dtype = mask.shape, displacement.dtype
    c = coefficients(table, displacement, neighbour, mask, centre)
    alone = jnp.zeros((n * k,), jnp.int32), jnp.ones((n * k, 1), bool)

    def along(axis: int) -> Array:
        """Compute ∂p/∂d along one axis for each edge alone, because c is a sum over edges."""
        direction = jnp.zeros((n * k, 1, 3), dtype).at[..., axis].set(1.0)

        def of_edge(d: Array) -> Array:
            return coefficients(table, d, neighbour.reshape(-1, 1), alone[1], alone[0])

        _, dc = jax.jvp(of_edge, (displacement.reshape(n * k, 1, 3),), (direction,))
        cc = jnp.broadcast_to(c[:, None], (n, k, *c.shape[1:])).reshape(dc.shape)
        _, dp = jax.jvp(lambda x: power_spectrum(table, x), (cc,), (dc,))
        return dp.reshape(n, k, -1) * mask[..., None].astype(dtype)

    return power_spectrum(table, c), jnp.stack([along(a) for a in range(3)], axis=2)
