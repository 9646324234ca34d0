"""Compress species into fewer channels, shared by elements close in the periodic table.

    κ_ab = exp(−(group_a − group_b)²/2σ_g² − (period_a − period_b)²/2σ_p²) = Σ_s λ_s v_as v_bs

The weights of an element in the species channels are √λ_s v_as for the largest λ_s.

Source: Willatt, Musil, Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018).
"""

import numpy as np

from kohn.errors import ConfigError

GROUP_WIDTH, PERIOD_WIDTH = 3.0, 1.0
NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)


def species_channels(elements: tuple[int, ...], count: int | None) -> np.ndarray:
    """Return the weights of elements in channels, [elements, channels]; the identity for None.

    Raises:
        ConfigError: there are more channels than elements.
    """
    if count is None:
        return np.eye(len(elements))
    if count > len(elements):
        raise ConfigError(
            "more species channels than elements",
            expected=f"at most {len(elements)}",
            received=str(count),
            fix="lower species_channels, or leave it out",
        )
    places = np.array([group_and_period(z) for z in elements], float)
    difference = (places[:, None] - places) / (GROUP_WIDTH, PERIOD_WIDTH)
    values, vectors = np.linalg.eigh(np.exp(-0.5 * (difference**2).sum(-1)))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    return vectors * signs * np.sqrt(np.maximum(values, 0.0))


def group_and_period(z: int) -> tuple[int, int]:
    """Return the place in the 18-column periodic table; lanthanides, actinides: group 3."""
    period = next(p for p, last in enumerate(NOBLE_GASES, 1) if z <= last)
    start = 0 if period == 1 else NOBLE_GASES[period - 2]
    n, length = z - start, NOBLE_GASES[period - 1] - start
    if n <= 2 and z != 2:
        return n, period
    from_end = length - n  # 0 for noble gases
    return max(18 - from_end, 3), period
