"""A small random potential for the calculator and the command line."""

import jax
import numpy as np
import pytest

from kohn.models import Mace, MaceConfig
from kohn.potential import Potential


@pytest.fixture(scope="session")
def potential() -> Potential:
    """Random weights, float64, hydrogen, carbon, oxygen and silicon."""
    config = MaceConfig(
        channels=4, hidden_l_max=1, l_max=2, correlation=2, radial_widths=(8,), cutoff=4.0
    )
    model = Mace.init(
        jax.random.key(0), config, (1, 6, 8, 14), neighbours=8.0, scale=0.3, dtype=np.float64
    )
    return Potential(model, {1: -13.6, 6: -1030.0, 8: -2040.0, 14: -5.0})
