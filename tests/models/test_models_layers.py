"""Layers that families share."""

import jax
import numpy as np
import pytest

from kohn.models.layers import normal


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3,), np.float32), ((2, 40, 13), np.float32), ((33, 40), np.float64)]
)
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
