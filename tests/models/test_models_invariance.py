"""What an invariant model cannot learn: a vector of a molecule in any orientation.

Its features are the same whichever way the molecule is turned, so that the best it can say is the
mean of the labels, which is zero but for chance: |mean|² is 1/n of the mean square for n turns.
"""

import re
from pathlib import Path

import numpy as np
import pytest

STUDY = Path(__file__).parents[2] / "docs" / "tutorials" / "invariance.md"


@pytest.mark.slow
def test_an_invariant_model_ends_at_the_mean_and_an_equivariant_one_does_not():
    """The program in docs/tutorials/invariance.md, and what it says of its result."""
    blocks = re.findall(
        r"```\{code-cell\} python\n(.*?)```", STUDY.read_text(encoding="utf-8"), re.DOTALL
    )
    found = {}
    exec("\n".join(blocks), found)
    blind, mean = found["blind"], found["dipoles"].mean(axis=0)
    np.testing.assert_allclose(blind - blind[0], 0, atol=1e-5)  # whatever the orientation
    assert np.linalg.norm(blind[0] - mean) < 0.05
    assert found["error"](blind) > 0.95
    assert found["error"](found["seeing"]) < 0.02
