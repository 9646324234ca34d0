"""Select a few representative points: farthest-point sampling and a CUR-like choice of columns.

Both methods are greedy and nested: a selection of m points begins every longer selection.
"""

import numpy as np

from kohn.errors import ConfigError


def farthest_points(kernel: np.ndarray, count: int) -> np.ndarray:
    """Choose points one by one, each farthest from all chosen before; d_ij² = k_ii + k_jj − 2k_ij.

    Args:
        kernel: [n, n], symmetric and positive semi-definite. count: number of points, at most n.

    Returns:
        Indices in the order of choice; the first point is the one closest to the mean.
    """
    _check_count(len(kernel), count)
    diagonal = np.diagonal(kernel)
    chosen = [int(np.argmin(diagonal - 2 * kernel.mean(axis=0)))]
    distance = diagonal + diagonal[chosen[0]] - 2 * kernel[chosen[0]]
    for _ in range(count - 1):
        j = int(np.argmax(distance))
        chosen.append(j)
        np.minimum(distance, diagonal + diagonal[j] - 2 * kernel[j], out=distance)
    return np.array(chosen)


def cur_points(kernel: np.ndarray, count: int) -> np.ndarray:
    """Choose points by a pivoted Cholesky decomposition of the kernel: each step chooses the
    point with the largest residual. This is CUR without randomness, one point at a time.

    Arguments and result are as in `farthest_points`; fewer points are chosen if the residuals of
    all other points are below 1e-12 of the largest diagonal element.
    """
    _check_count(len(kernel), count)
    residual = np.diagonal(kernel).copy()
    floor = 1e-12 * residual.max()
    factor = np.zeros((count, len(kernel)))
    chosen: list[int] = []
    for m in range(count):
        j = int(np.argmax(residual))
        if residual[j] <= floor:
            break
        factor[m] = (kernel[j] - factor[:m, j] @ factor[:m]) / np.sqrt(residual[j])
        residual -= factor[m] ** 2
        residual[j] = -np.inf
        chosen.append(j)
    return np.array(chosen)


def _check_count(available: int, count: int) -> None:
    if not 0 < count <= available:
        raise ConfigError(
            "cannot choose so many points",
            expected=f"1 to {available}, the number of environments",
            received=str(count),
            fix="choose fewer, or give more structures",
        )
