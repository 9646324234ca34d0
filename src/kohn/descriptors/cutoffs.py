"""Compute cutoff functions, which fall from 1 to 0 and have two continuous derivatives."""

import jax.numpy as jnp

from kohn.typing import Array, Float


def polynomial_cutoff(r: Float[Array, "..."], cutoff: float, p: int) -> Float[Array, "..."]:
    """c(x) = 1 − (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) − p(p+1)/2 x^(p+2), x = r/r_c; 0 if x > 1.

    This cutoff function is 1 at r = 0; its value and its first two derivatives vanish at r_c.

    Args:
        r: distances, Å. cutoff: r_c, Å. p: power, at least 2; a larger p falls more steeply.

    Source: Gasteiger, Groß, Günnemann, ICLR 2020, arXiv:2003.03123, eq. 8.
    """
    x = jnp.minimum(r / cutoff, 1.0)  # at 1, value and derivatives are zero from both sides
    inner = (p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2))
    return jnp.where(x < 1.0, 1.0 - x**p * inner, 0.0)


def smooth_step(r: Float[Array, "..."], inner: float, outer: float) -> Float[Array, "..."]:
    """c(x) = 1 − 10x³ + 15x⁴ − 6x⁵, x = (r − inner)/(outer − inner): 1 below inner, 0 above outer.

    This cutoff function has two continuous derivatives. r, inner and outer are distances, Å.
    """
    x = jnp.clip((r - inner) / (outer - inner), 0.0, 1.0)
    return 1.0 - x**3 * (10.0 - x * (15.0 - x * 6.0))
