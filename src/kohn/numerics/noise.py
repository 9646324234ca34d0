"""Estimate how noisy a function is, from its values at equal steps.

Source: Moré and Wild, SIAM J. Sci. Comput. 33, 1292 (2011).
"""

import numpy as np

NOISE_MULTIPLE = 20.0
"""Number of standard deviations up to which a difference counts as noise: σ is known to a factor of
two, and rounding errors of hundreds of components, summed in another order, are not normal."""
ROUNDING_STD = 12**-0.5
"""Standard deviation of a rounding error, in units of the spacing of the rounded numbers."""


def scatter(values: np.ndarray) -> float:
    """Return the standard deviation σ of the noise in nine or more values at equal steps, [9, …].

    The largest σ of all columns is returned. Fourth differences of a smooth function nearly vanish,
    those of noise have σ √70. They hide rounding if each step changes the value by the same amount:
    if all values are float32, σ is at least that of rounding to float32.
    """
    fourth = np.abs(np.diff(values, n=4, axis=0))
    sigma = float(np.max(np.median(fourth, axis=0)) / 0.6745 / 70**0.5)
    single = values.astype(np.float32)
    if (single != values).any():
        return sigma
    return max(sigma, ROUNDING_STD * float(np.spacing(np.abs(single)).max()))
