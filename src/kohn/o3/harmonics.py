"""Compute real spherical harmonics, to any degree.

Convention, used everywhere in Kohn: orthonormal on the unit sphere, polar axis z, ordered
m = -l … l within each degree and degrees ascending, and no Condon–Shortley phase:

    Y_lm(θ, φ) = sqrt((2l+1)/(4π) · (l-|m|)!/(l+|m|)!) · P_l^|m|(cos θ) · { √2 sin|m|φ   m < 0
                                                                           { 1           m = 0
                                                                           { √2 cos mφ   m > 0

with P_l^m ≥ 0 near the pole, so Y_1 = sqrt(3/4π) (y, z, x). This is the convention of
sphericart. e3nn takes y as its polar axis: Y^e3nn_lm(x, y, z) = Y_lm(z, x, y), in its
"component" normalisation times sqrt(4π); `to_e3nn` is the change of basis.
"""

from math import factorial, pi, sqrt

import jax.numpy as jnp
import numpy as np

from kohn.typing import Array, ArrayLike, Float


def degree_slice(l: int) -> slice:
    """Return the slice of the 2l+1 components of degree l among all (l_max + 1)² harmonics."""
    return slice(l * l, (l + 1) * (l + 1))


def solid_harmonics(d: Float[ArrayLike, "... 3"], l_max: int) -> Float[Array, "... lm"]:
    """Compute r^l Y_lm(d), see `harmonics_by_component`, as one array [..., (l_max + 1)²]."""
    return jnp.stack(harmonics_by_component(d, l_max), axis=-1)


def harmonics_by_component(d: Float[ArrayLike, "... 3"], l_max: int) -> list[Float[Array, "..."]]:
    """Compute regular solid harmonics r^l Y_lm(d): polynomials in d, smooth everywhere, also at 0.

    Recursions, with ρ² = x² + y² + z² and c_m + i s_m = (x + iy)^m:

        Q_m^m = (2m-1)!!
        Q_l^m = ((2l-1) z Q_(l-1)^m - (l+m-1) ρ² Q_(l-2)^m) / (l-m)
        r^l Y_l,±m = N_lm Q_l^m (c_m or s_m)

    Args:
        d: vectors [..., 3].
        l_max: highest degree.

    Returns:
        (l_max + 1)² arrays [...], in the dtype of `d`.

    Source: Bigi, Fraux, Browning, Ceriotti, J. Chem. Phys. 159, 064802 (2023).
    """
    d = jnp.asarray(d)
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    rr = x * x + y * y + z * z
    ones = jnp.ones_like(x)

    cosine, sine = [ones], [jnp.zeros_like(x)]
    for _ in range(l_max):
        c, s = cosine[-1], sine[-1]
        cosine.append(x * c - y * s)
        sine.append(x * s + y * c)

    columns = [ones] * (l_max + 1) ** 2
    for m in range(l_max + 1):
        double_factorial = float(np.prod(np.arange(1, 2 * m, 2, dtype=float)))
        below, q = jnp.zeros_like(x), ones * double_factorial
        for l in range(m, l_max + 1):
            if l > m:
                below, q = q, ((2 * l - 1) * z * q - (l + m - 1) * rr * below) / (l - m)
            norm = sqrt((2 * l + 1) / (4 * pi) * factorial(l - m) / factorial(l + m))
            centre = l * l + l
            if m == 0:
                columns[centre] = norm * q
            else:
                columns[centre + m] = sqrt(2) * norm * q * cosine[m]
                columns[centre - m] = sqrt(2) * norm * q * sine[m]
    return columns


def spherical_harmonics(u: Float[ArrayLike, "... 3"], l_max: int) -> Float[Array, "... lm"]:
    """Compute orthonormal real spherical harmonics of unit vectors `u`.

    Args:
        u: unit vectors [..., 3], not normalised here: the caller decides how to treat length zero.
        l_max: highest degree.

    Returns:
        Y_lm(u), [..., (l_max + 1)²].
    """
    return solid_harmonics(u, l_max)


def to_complex(l: int) -> np.ndarray:
    """Return the unitary Q in Y^complex_lm = Σ_m' Q[m, m'] Y_lm', complex128 [2l+1, 2l+1].

    The complex harmonics are the quantum mechanical ones, with the Condon–Shortley phase.
    """
    q = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    q[l, l] = 1
    for m in range(1, l + 1):
        phase = (-1) ** m
        q[l + m, l + m], q[l + m, l - m] = phase / sqrt(2), 1j * phase / sqrt(2)
        q[l - m, l + m], q[l - m, l - m] = 1 / sqrt(2), -1j / sqrt(2)
    return q
