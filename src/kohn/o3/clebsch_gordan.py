"""Compute Clebsch–Gordan coefficients of real spherical harmonics."""

from fractions import Fraction
from functools import lru_cache
from math import factorial, sqrt

import numpy as np

from kohn.o3.harmonics import to_complex


def _complex_coefficient(l1: int, m1: int, l2: int, m2: int, l3: int, m3: int) -> float:
    """Compute <l1 m1 l2 m2 | l3 m3> by Racah's formula, summed exactly in rational numbers.

    Source: Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum, 8.2.1 (3).
    """
    if m3 != m1 + m2:
        return 0.0
    f = factorial
    prefactor = Fraction(
        (2 * l3 + 1) * f(l3 + l1 - l2) * f(l3 - l1 + l2) * f(l1 + l2 - l3), f(l1 + l2 + l3 + 1)
    ) * Fraction(f(l3 + m3) * f(l3 - m3), f(l1 + m1) * f(l1 - m1) * f(l2 + m2) * f(l2 - m2))
    total = Fraction(0)
    first = max(0, m1 - l1, l2 - l1 + m3)
    last = min(l2 + l3 + m1, l3 - l1 + l2, l3 + m3)
    for k in range(first, last + 1):
        total += Fraction(
            (-1) ** (k + l2 + m2) * f(l2 + l3 + m1 - k) * f(l1 - m1 + k),
            f(k) * f(l3 - l1 + l2 - k) * f(l3 + m3 - k) * f(k + l1 - l2 - m3),
        )
    return float(total) * sqrt(prefactor)


@lru_cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """Return the real coefficients C of (x ⊗ y)_m3 = Σ C[m1, m2, m3] x_m1 y_m2, of degree l3.

    C is normalised so that Σ_m1m2 C[m1, m2, m3] C[m1, m2, m3'] = δ_m3m3', and zero unless
    |l1 - l2| ≤ l3 ≤ l1 + l2. The sign is that of the complex coefficients, made real by the phase
    (-i)^l for each degree, which is also e3nn's sign; C equals sqrt(2 l3 + 1) times e3nn's
    `wigner_3j`, because e3nn differs from Kohn only in the names of the axes.

    Returns:
        float64 [2 l1 + 1, 2 l2 + 1, 2 l3 + 1], read-only.
    """
    shape = (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        return np.zeros(shape)
    c = np.zeros(shape)
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                value = _complex_coefficient(l1, m1, l2, m2, l3, m1 + m2)
                c[l1 + m1, l2 + m2, l3 + m1 + m2] = value
    q1, q2, q3 = (((-1j) ** l) * to_complex(l) for l in (l1, l2, l3))
    # x_real = Q^H x_complex: contract each complex index with the change of basis.
    real = np.einsum("ai,bj,ck,abc->ijk", q1, q2, q3.conj(), c)
    assert np.abs(real.imag).max() < 1e-12
    result = np.ascontiguousarray(real.real)
    result[np.abs(result) < 1e-14] = 0.0
    result.flags.writeable = False
    return result
