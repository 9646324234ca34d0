"""Layers that families share."""

import jax
import numpy as np
import pytest

from kohn.models.layers import normal


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (1,), (2, 40, 13), (33, 40)])
def test_draws_are_those_of_jax(shape, dtype):
    """To the last bit: weights of earlier versions are found again from their seeds."""
    for key in jax.random.split(jax.random.key(5), 2):
        expected = jax.random.normal(key, shape, dtype)
        found = normal(key, shape, dtype)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


def test_draws_within_a_compiled_function_are_the_same():
    key = jax.random.key(2)
    compiled = jax.jit(lambda k: normal(k, (4, 5), np.float64))(key)
    np.testing.assert_array_equal(compiled, normal(key, (4, 5), np.float64))
