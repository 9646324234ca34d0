"""Compute radial basis functions of the distances between atoms."""

from math import pi, sqrt

import jax.numpy as jnp

from kohn.typing import Array, Float


def bessel_basis(r: Float[Array, "..."], cutoff: float, count: int) -> Float[Array, "... count"]:
    """b_n(r) = sqrt(2/r_c) sin(nπ r/r_c) / r, n = 1 … count: Bessel functions, zero at r_c.

    One sine and one cosine give the sines for all n: sin (n+1)x = 2 cos x sin nx − sin (n−1)x.

    Args:
        r: distances, Å, positive. cutoff: r_c, Å. count: number of functions.

    Source: Gasteiger, Groß, Günnemann, ICLR 2020, arXiv:2003.03123, eq. 7.
    """
    x = r * (pi / cutoff)
    twice_cosine = 2.0 * jnp.cos(x)
    sines = [jnp.zeros_like(x), jnp.sin(x)]
    for _ in range(count - 1):
        sines.append(twice_cosine * sines[-1] - sines[-2])
    return jnp.stack(sines[1:], axis=-1) * (sqrt(2.0 / cutoff) / r)[..., None]
