"""Apply functions to rows of neighbours in blocks that fit the processor's caches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kohn.typing import Array

SLOTS, FEATURES = 1024, 90_000
"""The largest numbers of neighbour slots and of features in one block."""


def in_blocks(
    function: Callable[..., Any], rows: tuple[Array, ...], size: int, wanted: Array
) -> Any:
    """Apply a function to rows in blocks whose intermediate values fit the processor's caches.

    Args:
        function: maps n rows to arrays [n, …], with `size` features for each row on the way.
        rows: arrays of N rows; the first three, displacement, neighbour and mask, are [N, K, …].
        wanted: bool [N]; a block in which no row is wanted is not computed, and has zeros.
    """
    n, k = rows[1].shape[:2]
    at_once = max(8, min(SLOTS // k, FEATURES // size))
    if n <= at_once:
        return function(*rows)
    blocks = -(-n // at_once)
    at_once = -(-n // blocks)
    parts = tuple(
        jnp.concatenate(
            [x, jnp.broadcast_to(x[-1:], (blocks * at_once - n, *x.shape[1:]))]
        ).reshape(blocks, at_once, *x.shape[1:])
        for x in map(jnp.asarray, (wanted, *rows))
    )
    shapes = jax.eval_shape(function, *(x[0] for x in parts[1:]))

    def zeros(*_: Array) -> Any:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    values = jax.lax.map(lambda b: jax.lax.cond(jnp.any(b[0]), function, zeros, *b[1:]), parts)
    return jax.tree.map(lambda x: x.reshape(blocks * at_once, *x.shape[2:])[:n], values)
