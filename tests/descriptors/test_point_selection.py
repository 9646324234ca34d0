"""Few points that stand for many, on a line where each choice can be followed by hand."""

import numpy as np

from kohn.descriptors.point_selection import cur_points, farthest_points

ON_A_LINE = np.array([0.0, 1.0, 5.0, 9.0, 10.0])


def test_each_point_is_the_farthest_from_all_that_are_chosen():
    """5 is nearest to the mean; then 0 and 10, each 5 away; then 1 and 9, each 1 away."""
    kernel = np.outer(ON_A_LINE, ON_A_LINE)
    assert farthest_points(kernel, 5).tolist() == [2, 0, 4, 1, 3]


def test_each_column_is_the_one_that_is_explained_least():
    """Vectors of lengths 1, 3 and 2, of which the last is along the second and the first is not."""
    vectors = np.array([[0.0, 1.0], [3.0, 0.0], [2.0, 0.0]])
    assert cur_points(vectors @ vectors.T, 3).tolist() == [1, 0]
