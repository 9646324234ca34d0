"""Rows in blocks: the same values, and nothing computed for padding at the end."""

import jax.numpy as jnp
import numpy as np
import pytest

from kohn.descriptors.neighbour_blocks import SLOTS, in_blocks


def rows(n: int, k: int, real: int):
    x = np.arange(float(n * k)).reshape(n, k)
    return x, np.zeros((n, k), np.int32), np.arange(n)[:, None] < np.full((1, k), real)


@pytest.mark.slow
def test_blocks_change_nothing():
    n, k = 3 * SLOTS // 4 + 7, 4
    x, neighbour, mask = rows(n, k, n)
    total, each = in_blocks(
        lambda x, i, m: (jnp.sum(jnp.sin(x), axis=1), jnp.cos(x)),
        (x, neighbour, mask),
        10,
        mask[:, 0],
    )
    np.testing.assert_allclose(total, np.sin(x).sum(1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(each, np.cos(x), rtol=0, atol=1e-12)


def test_blocks_that_are_not_wanted_are_zero_and_others_are_not():
    n, k = 2 * SLOTS, 4
    x, neighbour, mask = rows(n, k, SLOTS // 2 + 1)
    arrays = (x, neighbour, mask)
    found = np.asarray(in_blocks(lambda x, i, m: jnp.ones(len(x)), arrays, 10, mask[:, 0]))
    assert (found[: SLOTS // 2 + 1] == 1).all()
    assert (found[-SLOTS // 4 :] == 0).all()
