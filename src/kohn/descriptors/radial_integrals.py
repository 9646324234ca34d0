"""Compute orthonormal radial functions g_nl and their overlap with a Gaussian at distance r'.

The expansion of a Gaussian of width σ at r' in g_nl and spherical harmonics has the coefficients

    I_nl(r') = 4π ∫ dr r² g_nl(r) exp(−(r² + r'²)/2σ²) i_l(r r'/σ²)

(i_l: modified spherical Bessel functions of the first kind). I_nl is as smooth as a Gaussian of
width σ, so a Chebyshev series of some 40 terms is exact up to rounding; for all n and l together it
is one matrix product. This module uses NumPy, because it runs once for each choice of settings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import gamma, pi, sqrt

import numpy as np

from kohn.errors import ConfigError

PRECISION = 1e-14
"""Terms of a series below this fraction of the largest term are left out."""

STRIDE = 7
"""Chebyshev polynomials are computed as products of T_a and T_(STRIDE·b), with a < STRIDE."""


@dataclass(frozen=True)
class RadialBasis:
    """Radial functions, orthonormal with the metric r² dr.

    Attributes:
        functions: (l, r [R]) -> g_nl(r) [n_max, R], r in Å, g in Å^(−3/2).
        extent: distance at which the functions have vanished, Å; integrals end there.
    """

    functions: Callable[[int, np.ndarray], np.ndarray]
    extent: float


def loewdin(primitives: Callable[[np.ndarray], np.ndarray], extent: float) -> np.ndarray:
    """Return B = S^(−1/2), S_kk' = ∫ dr r² φ_k φ_k', so that Bφ is orthonormal; φ: `primitives`.

    B follows from the singular values of √w r φ at quadrature points r of weight w, without S: for
    eight polynomials S has the condition number 1e16, but errors grow only with its square root.
    """
    r, w = gauss_legendre(extent, 400)
    _, s, vt = np.linalg.svd((primitives(r) * np.sqrt(w) * r).T, full_matrices=False)
    return (vt.T / s) @ vt


def gauss_legendre(end: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` points and weights of Gauss–Legendre quadrature on [0, end]."""
    x, w = np.polynomial.legendre.leggauss(count)
    return 0.5 * end * (x + 1), 0.5 * end * w


def gto(r_cut: float, n_max: int) -> RadialBasis:
    """Return featomic's basis "Gto": orthonormalised Gaussians, the same for every degree l.

    φ_n ∝ r^n exp(−r²/2s_n²), s_n = r_c max(√n, 1)/n_max, n = 0 … n_max − 1, normalised.
    """
    n = np.arange(n_max)
    s = (r_cut * np.maximum(np.sqrt(n), 1) / n_max)[:, None]
    norms = [sqrt(2 / (float(a) ** (2 * k + 3) * gamma(k + 1.5))) for k, a in enumerate(s[:, 0])]

    def primitives(r: np.ndarray) -> np.ndarray:
        return np.array(norms)[:, None] * r ** n[:, None] * np.exp(-0.5 * (r / s) ** 2)

    extent = 6 * r_cut
    b = loewdin(primitives, extent)
    return RadialBasis(lambda l, r: b @ primitives(r), extent)


def gto_dscribe(r_cut: float, n_max: int, l_max: int) -> RadialBasis:
    """Return DScribe's basis "gto" of φ_nl = r^l exp(−α_nl r²), orthonormalised by `loewdin`.

    φ_nl(R_n) = 10⁻³ at R = linspace(1 Å, r_c, n_max). Because φ is not normalised before Löwdin's
    orthonormalisation, the basis differs from a normalised one, but spans the same space.
    """
    ends = np.linspace(1.0, r_cut, n_max)

    def primitives(l: int) -> Callable[[np.ndarray], np.ndarray]:
        alpha = (-np.log(1e-3 / ends**l) / ends**2)[:, None]
        return lambda r: r**l * np.exp(-alpha * r**2)

    extent = 6 * r_cut
    b = [loewdin(primitives(l), extent) for l in range(l_max + 1)]
    return RadialBasis(lambda l, r: b[l] @ primitives(l)(r), extent)


def polynomial(r_cut: float, n_max: int) -> RadialBasis:
    """Return DScribe's "polynomial": (r_c − r)^(n+2), r ≤ r_c, n = 1 … n_max, orthonormalised."""
    n = np.arange(1, n_max + 1)[:, None]
    b = loewdin(lambda r: (r_cut - r) ** (n + 2), r_cut)
    return RadialBasis(lambda l, r: b @ (r_cut - r) ** (n + 2), r_cut)


def bessel(r_cut: float, n_max: int) -> RadialBasis:
    """Return j_0(nπ r/r_c) ∝ sin(nπ r/r_c)/r, r ≤ r_c, n = 1 … n_max: orthogonal, normalised."""
    n = np.arange(1, n_max + 1)[:, None]
    norm = n * pi / r_cut * sqrt(2 / r_cut)
    from scipy.special import spherical_jn  # imported late: it takes as long as the rest of Kohn

    return RadialBasis(lambda l, r: norm * spherical_jn(0, n * pi * r / r_cut), r_cut)


def gaussian_integrals(basis: RadialBasis, sigma: float, l: int, r: np.ndarray) -> np.ndarray:
    """Compute the overlaps I_nl(r') of g_nl with Gaussians at the distances r', [n_max, R']."""
    end = min(basis.extent, float(r.max()) + 9 * sigma)  # beyond, the Gaussian is below 1e-17
    x, w = gauss_legendre(end, 60 + int(12 * end / sigma))
    argument = np.maximum(np.outer(x, r) / sigma**2, 1e-300)
    # exp(−(x² + r²)/2σ²) i_l(xr/σ²), with the growth of i_l moved into the first factor
    bell = np.exp(-0.5 * ((x[:, None] - r) / sigma) ** 2)
    from scipy.special import ive

    scaled = np.sqrt(pi / 2 / argument) * ive(l + 0.5, argument)
    return 4 * pi * (basis.functions(l, x) * w * x**2) @ (bell * scaled)


def chebyshev_series(basis: RadialBasis, sigma: float, l_max: int, end: float) -> np.ndarray:
    """Compute the Chebyshev series C of I_nl(r') = Σ_k T_k(2r'/end − 1) C[k, l, n], 0 < r' ≤ end.

    Raises:
        ConfigError: the Gaussians are too narrow to be represented by 400 terms.
    """
    count = 32
    while count <= 512 and sigma > 0.01 * end:
        angle = pi * (np.arange(count) + 0.5) / count
        r = 0.5 * end * (np.cos(angle) + 1)
        values = np.stack([gaussian_integrals(basis, sigma, l, r) for l in range(l_max + 1)])
        series = np.einsum("kj,lnj->kln", np.cos(np.outer(np.arange(count), angle)), values)
        series *= 2 / count
        series[0] /= 2
        size = np.abs(series).max(axis=(1, 2))
        needed = int(np.nonzero(size > PRECISION * size.max())[0].max()) + 1
        if needed <= count - 8:
            return series[:needed]
        count *= 2
    raise ConfigError(
        "the Gaussians are too narrow for this cutoff",
        expected="a sigma of at least a hundredth of r_cut",
        received=f"sigma {sigma} Å, r_cut {end} Å",
        fix="raise sigma",
    )


def as_products(series: np.ndarray) -> np.ndarray:
    """Expand a Chebyshev series in T_a(x) T_(STRIDE·b)(x), a < STRIDE fastest, [terms, …].

    T_a T_7b = (T_(7b+a) + T_|7b−a|)/2 is solved from the highest term down; STRIDE is 7.
    """
    blocks = -(-len(series) // STRIDE)
    remaining = np.zeros((STRIDE * blocks, *series.shape[1:]))
    remaining[: len(series)] = series
    products = np.zeros_like(remaining)
    for k in range(STRIDE * blocks - 1, -1, -1):
        b, a = divmod(k, STRIDE)
        products[k] = remaining[k] if a == 0 or b == 0 else 2 * remaining[k]
        if a and b:
            remaining[STRIDE * b - a] -= remaining[k]
    return products
