"""How noisy a function is, from its values at equal steps.

Source: Moré and Wild, SIAM J. Sci. Comput. 33, 1292 (2011).
"""

import numpy as np

CERTAIN = 20.0
"""Standard deviations of the noise that are taken for noise: they are known to a factor of two,
and what rounding does to hundreds of components under another order of sums is not normal."""
ROUNDED = 12**-0.5
"""Of what can be told apart, the standard deviation that rounding to it has."""


def scatter(values: np.ndarray) -> float:
    """Standard deviation of the noise in nine values or more at equal steps, [9, …]; the largest.

    What is smooth has fourth differences of nearly nothing and what is noise has σ √70. Rounding
    may hide from them, where each step changes the value by the same: what float32 can tell
    apart is the least.
    """
    fourth = np.abs(np.diff(values, n=4, axis=0))
    sigma = float(np.max(np.median(fourth, axis=0)) / 0.6745 / 70**0.5)
    single = values.astype(np.float32)
    if (single != values).any():
        return sigma
    return max(sigma, ROUNDED * float(np.spacing(np.abs(single)).max()))
