"""Compress species into fewer channels, shared by elements close in the periodic table.

    κ_ab = exp(−(group_a − group_b)²/2σ_g² − (period_a − period_b)²/2σ_p²) = Σ_s λ_s v_as v_bs

κ_ab is the similarity of elements a and b, with eigenvalues λ_s. Element a has the weight √λ_s v_as
in species channel s; only the channels of the largest λ_s are kept.

Source: Willatt, Musil, Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018).
"""

import numpy as np

from kohn.errors import ConfigError

GROUP_WIDTH, PERIOD_WIDTH = 3.0, 1.0
NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)


def species_channels(elements: tuple[int, ...], count: int | None) -> np.ndarray:
    """Return the weights of elements in species channels, [elements, count]; None: the identity.

    Raises:
        ConfigError: there would be more channels than elements.
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
    coordinates = np.array([group_and_period(z) for z in elements], float)
    difference = (coordinates[:, None] - coordinates) / (GROUP_WIDTH, PERIOD_WIDTH)
    values, vectors = np.linalg.eigh(np.exp(-0.5 * (difference**2).sum(-1)))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    return vectors * signs * np.sqrt(np.maximum(values, 0.0))


def group_and_period(z: int) -> tuple[int, int]:
    """Return group (1 to 18) and period of atomic number z; lanthanides, actinides: group 3."""
    period = next(p for p, last in enumerate(NOBLE_GASES, 1) if z <= last)
    start = 0 if period == 1 else NOBLE_GASES[period - 2]
    n, length = z - start, NOBLE_GASES[period - 1] - start
    if n <= 2 and z != 2:
        return n, period
    from_end = length - n  # 0 for noble gases
    return max(18 - from_end, 3), period
