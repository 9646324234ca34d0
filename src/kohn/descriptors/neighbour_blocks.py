"""Apply functions to rows of neighbours in blocks that fit the processor's caches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kohn.typing import Array

SLOTS, FEATURES = 1024, 90_000
"""The largest numbers of neighbours and of features that are computed at once."""


def in_blocks(
    function: Callable[..., Any], rows: tuple[Array, ...], size: int, wanted: Array
) -> Any:
    """Compute a function of rows in blocks whose intermediate values fit the processor's caches.

    Args:
        function: of rows of K slots and `size` features.
        rows: displacement, neighbour and mask first, each [N, K, …].
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
