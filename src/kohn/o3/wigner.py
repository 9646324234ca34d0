"""Compute Wigner matrices of real spherical harmonics."""

from functools import lru_cache, partial
from math import pi

import jax
import jax.numpy as jnp
import numpy as np

from kohn.o3.harmonics import degree_slice, spherical_harmonics
from kohn.typing import Array, ArrayLike, Float


@lru_cache
def _quadrature(l: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points [q, 3] on the unit sphere and weights [q] that integrate degree 2l exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(l + 1)
    phi = 2 * pi * np.arange(2 * l + 2) / (2 * l + 2)
    sine = np.sqrt(1 - nodes**2)
    points = np.stack(
        [
            np.outer(sine, np.cos(phi)),
            np.outer(sine, np.sin(phi)),
            np.outer(nodes, np.ones_like(phi)),
        ],
        axis=-1,
    )
    area = np.outer(weights, np.full(2 * l + 2, 2 * pi / (2 * l + 2)))
    return points.reshape(-1, 3), area.reshape(-1)


@partial(jax.jit, static_argnames="l")  # without jit about a hundred operations per degree
def wigner_d(rotation: Float[ArrayLike, "3 3"], l: int) -> Float[Array, "m m"]:
    """Compute the Wigner matrix D_l(R): Y_l(R u) = D_l(R) Y_l(u) for every unit vector u.

    D_mm' = ∫ Y_lm(R u) Y_lm'(u) dΩ, by a quadrature that is exact for these polynomials;
    R may be a reflection, and the result is differentiable in R.

    Args:
        rotation: the orthogonal matrix R, [3, 3].
        l: the degree.

    Returns:
        D_l [2l+1, 2l+1], orthogonal; for l = 1 it is R in the order y, z, x.
    """
    rotation = jnp.asarray(rotation)
    if not jnp.issubdtype(rotation.dtype, jnp.floating):  # a matrix written with integers
        rotation = rotation.astype(jnp.float64)
    points, weights = _quadrature(l)
    u = jnp.asarray(points, rotation.dtype)
    turned = spherical_harmonics(u @ rotation.T, l)[:, degree_slice(l)]
    still = spherical_harmonics(u, l)[:, degree_slice(l)]
    return turned.T @ (still * jnp.asarray(weights, rotation.dtype)[:, None])


def to_e3nn(l: int) -> np.ndarray:
    """Return the matrix M from Kohn's to e3nn's harmonics of degree l, float64 [2l+1, 2l+1].

    Y^e3nn_l(u) = M Y_l(u), up to the factor of e3nn's normalisation. e3nn renames Kohn's axes
    (x, y, z) -> (z, x, y), so M is D_l of this rotation.
    """
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return np.asarray(wigner_d(turn, l))
