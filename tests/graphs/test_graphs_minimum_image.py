"""The minimum-image graph: the same where it is whole, refused where it misses neighbours."""

import numpy as np
import pytest
from brute_force import structure

from kohn.errors import InputError
from kohn.graphs import neighbourhood


def box(edge: float, n: int = 12):
    """Random atoms in a cubic cell."""
    rng = np.random.default_rng(1)
    return structure(rng.uniform(0, edge, (n, 3)), cell=np.eye(3) * edge, periodic=True)


def test_it_is_the_whole_graph_in_a_large_cell():
    s = box(11.0)
    every, nearest = neighbourhood(s, 5.0), neighbourhood(s, 5.0, images="nearest")
    assert nearest.edges == every.edges > 0
    # Each pair once, at the shortest of its images.
    for i, j in zip(*np.nonzero(nearest.mask), strict=True):
        other = nearest.index[i, j]
        shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3) * 11.0
        d = s.positions[other] - s.positions[i] + shifts
        np.testing.assert_allclose(
            np.linalg.norm(nearest.displacement[i, j]), np.linalg.norm(d, axis=1).min()
        )


@pytest.mark.parametrize(
    ("edge", "n", "said"), [(6.0, 12, "would miss"), (4.9, 1, "would miss 6 of 6 neighbours")]
)
def test_it_is_refused_where_it_would_miss_neighbours(edge, n, said):
    """A second image of another atom, and an image of the atom itself."""
    with pytest.raises(InputError, match=said):
        neighbourhood(box(edge, n), 5.0, images="nearest")
