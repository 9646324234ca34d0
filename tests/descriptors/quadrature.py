"""SOAP coefficients by brute force on a grid, sharing no code and no formula with Kohn.

The density is evaluated on (Gauss–Legendre r) × (Gauss–Legendre cos θ) × (uniform φ) and
projected; there is no addition theorem and no Bessel function.
"""

import numpy as np
from scipy.special import sph_harm_y


def real_harmonics(l_max: int, u: np.ndarray) -> np.ndarray:
    """Orthonormal real Y_lm of unit vectors, [N, (l_max + 1)²], from SciPy's complex ones."""
    theta, phi = np.arccos(np.clip(u[:, 2], -1, 1)), np.arctan2(u[:, 1], u[:, 0])
    columns = []
    for l in range(l_max + 1):
        for m in range(-l, l + 1):
            y = sph_harm_y(l, abs(m), theta, phi) * (-1) ** m
            part = y.real if m >= 0 else y.imag
            columns.append(part * (np.sqrt(2) if m else 1.0))
    return np.stack(columns, axis=1)


def coefficients(vectors, weights, sigma, functions, l_max, end, n_r=90, n_theta=60):
    """c[n, lm] = ∫ d³r g_nl(r) Y_lm(r̂) Σ_j w_j exp(−|r − r_j|²/2σ²) for neighbours at `vectors`."""
    x, w = np.polynomial.legendre.leggauss(n_r)
    r, w = 0.5 * end * (x + 1), 0.5 * end * w
    cosine, w_theta = np.polynomial.legendre.leggauss(n_theta)
    phi = np.pi * np.arange(2 * n_theta) / n_theta
    sine = np.sqrt(1 - cosine**2)
    u = np.stack(
        [np.outer(sine, np.cos(phi)), np.outer(sine, np.sin(phi)), np.outer(cosine, 0 * phi + 1)],
        -1,
    ).reshape(-1, 3)
    y = real_harmonics(l_max, u) * np.repeat(w_theta, len(phi))[:, None] * (np.pi / n_theta)
    density = np.stack(
        [np.exp(-((ri * u[:, None] - vectors) ** 2).sum(-1) / (2 * sigma**2)) @ weights for ri in r]
    )
    projected = density @ y
    rows = []
    for l in range(l_max + 1):
        g = functions(l, r) * (w * r**2)
        rows.append(g @ projected[:, l * l : (l + 1) ** 2])
    return np.concatenate(rows, axis=1)
