"""What all tests share: strict dtypes, and Hypothesis runs that repeat."""

import os

import jax
import numpy as np
import pytest
from hypothesis import settings

import kohn  # noqa: F401  (enables 64-bit numbers)

# A float64 array that meets a float32 one is an error, not a silent promotion.
jax.config.update("jax_numpy_dtype_promotion", "strict")

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("hunt", deadline=None, max_examples=200, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
