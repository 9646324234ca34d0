"""Define layers shared by several families: linear maps by degree, the radial network, SiLU.

Weights are drawn from N(0, 1), and a layer divides by the square root of the number of its inputs,
as in e3nn: one learning rate then suits layers of every width.
"""

from collections.abc import Callable, Sequence
from math import prod, sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike

from kohn.typing import Array, Float

SILU_NORM = 1.6765324703310907
"""The factor c with ∫ (c silu(z))² N(z; 0, 1) dz = 1."""


def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """c · x/(1 + e⁻ˣ), with unit second moment; by tanh, which is twice as fast in XLA on CPU."""
    half = 0.5 * x
    return SILU_NORM * (half + half * jnp.tanh(half))


def normal(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Draw the numbers of `jax.random.normal` with one compiled function for many shapes.

    Element i of a draw depends only on the key and on i (`jax_threefry_partitionable`, JAX's
    default), so a draw is the beginning of any longer draw; lengths are powers of four. A model has
    some fifty shapes, and compiling for each of them takes longer than the first training step.
    """
    if isinstance(key, Tracer):
        return jax.random.normal(key, shape, dtype)
    size, length = prod(shape), 1024
    while length < size:
        length *= 4
    longer = np.asarray(jax.random.normal(key, (length,), dtype))
    return jnp.asarray(longer[:size].reshape(shape))


class Linear(eqx.Module):
    """y = x W / sqrt(n_in), without bias. The weight is [..., n_in, n_out]."""

    weight: Float[Array, "... n_in n_out"]

    @classmethod
    def init(cls, key: Array, shape: tuple[int, ...], dtype) -> "Linear":
        """Draw weights from N(0, 1)."""
        return cls(normal(key, shape, dtype))

    @property
    def matrix(self) -> Float[Array, "... n_in n_out"]:
        """The scaled weights W / sqrt(n_in)."""
        return self.weight * (1.0 / sqrt(self.weight.shape[-2]))

    def __call__(self, x: Float[Array, "... n_in"]) -> Float[Array, "... n_out"]:
        return x @ self.matrix


class RadialNetwork(eqx.Module):
    """The hidden layers, with SiLU, of the network R(r) that weights messages by distance."""

    layers: tuple[Linear, ...]

    @classmethod
    def init(cls, key: Array, n_in: int, widths: tuple[int, ...], dtype) -> "RadialNetwork":
        """Draw the weights of layers n_in -> widths[0] -> widths[1] …"""
        sizes = (n_in, *widths)
        keys = jax.random.split(key, len(widths))
        pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
        return cls(tuple(Linear.init(k, (a, b), dtype) for k, a, b in pairs))

    def __call__(self, x: Float[Array, "edges n_in"]) -> Float[Array, "edges hidden"]:
        for layer in self.layers:
            x = silu(layer(x))
        return x


def one_hot(species: Array, count: int, dtype) -> Array:
    """Return one-hot vectors of indices of species, [..., count]. Products with them replace
    gathers, whose gradients would be scatters."""
    return (species[..., None] == jnp.arange(count, dtype=species.dtype)).astype(dtype)


def split(x: Array, sizes: Sequence[int], axis: int) -> list[Array]:
    """Split x along an axis. The gradient is one concatenation, while that of slices would be a
    sum of padded arrays."""
    return list(jax.lax.split(x, tuple(sizes), axis))


def unstack(x: Array, axis: int) -> list[Array]:
    """Return the slices x[0], x[1], … along an axis, by `split`."""
    return [jnp.squeeze(part, axis) for part in split(x, (1,) * x.shape[axis], axis)]


def split_degrees(x: Array, l_max: int, axis: int) -> list[Array]:
    """Split an axis of (l_max + 1)² components into degrees 0 … l_max."""
    return split(x, [2 * l + 1 for l in range(l_max + 1)], axis)


SLOTS_AT_ONCE = 131_072
"""The number of edges whose messages are formed at once: 350 MB for 64 channels and 10 paths."""


def by_rows(function: Callable[..., tuple[Array, ...]], rows: Sequence[Array]) -> tuple[Array, ...]:
    """Compute function(*rows); for large systems, in parts of a few rows each.

    The gradient computes the intermediate arrays of each part again, so that the size of a part
    limits the memory, not the number of edges.

    Args:
        function: maps arrays [n, K, ...] to arrays [n, ...], row by row.
        rows: arrays [N, K, ...].
    """
    n, k = rows[0].shape[:2]
    parts = -(-n * k // SLOTS_AT_ONCE)
    if parts == 1:
        return function(*rows)
    size = -(-n // parts)

    def padded(x: Array) -> Array:
        wide = jnp.pad(x, [(0, parts * size - n), *[(0, 0)] * (x.ndim - 1)])
        return wide.reshape(parts, size, *x.shape[1:])

    once = jax.checkpoint(lambda part: function(*part))
    result = jax.lax.map(once, [padded(x) for x in rows])
    return tuple(x.reshape(parts * size, *x.shape[2:])[:n] for x in result)
