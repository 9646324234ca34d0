"""Clebsch–Gordan coefficients, complex and real."""

from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from brute_force import random_rotation

from kohn.o3 import clebsch_gordan, wigner_d
from kohn.o3.clebsch_gordan import _complex_coefficient as complex_coefficient
from kohn.o3.products import nonzero_coefficients

E3NN = np.load(Path(__file__).parent / "data" / "e3nn.npz")
L = 4
TRIPLES = [
    (l1, l2, l3)
    for l1 in range(L + 1)
    for l2 in range(L + 1)
    for l3 in range(abs(l1 - l2), min(l1 + l2, 5) + 1)
]


# The complex coefficients are all fixed by: total J² and J_z, the ladder, one sign.


def ladder(l: int) -> np.ndarray:
    """J_- on |l m>, m = -l … l."""
    m = np.arange(-l, l + 1)
    return np.diag(np.sqrt(l * (l + 1) - m[1:] * (m[1:] - 1.0)), 1)


def coupled_state(f, l1: int, l2: int, l3: int, m3: int) -> np.ndarray:
    """|l3 m3> in the product basis, [2 l1 + 1, 2 l2 + 1]."""
    return np.array(
        [[f(l1, m1, l2, m2, l3, m3) for m2 in range(-l2, l2 + 1)] for m1 in range(-l1, l1 + 1)]
    )


def ladder_error(f, triples=TRIPLES) -> float:
    """Largest violation of J_+|l3 l3> = 0, J_-|l3 m> = c |l3 m-1>, norm, and the phase."""
    worst = 0.0
    for l1, l2, l3 in triples:
        down1, down2 = ladder(l1), ladder(l2)
        state = coupled_state(f, l1, l2, l3, l3)
        raised = down1.T @ state + state @ down2
        worst = max(worst, np.abs(raised).max(), abs((state**2).sum() - 1))
        if not state[2 * l1, l3 - l1 + l2] > 0:  # <l1 l1 l2 (l3-l1)|l3 l3> > 0
            return 1.0
        for m in range(l3, -l3, -1):
            lowered = down1 @ state + state @ down2.T
            state = coupled_state(f, l1, l2, l3, m - 1)
            worst = max(worst, np.abs(lowered - sqrt(l3 * (l3 + 1) - m * (m - 1)) * state).max())
    return float(worst)


def test_complex_coefficients_obey_the_ladder():
    assert ladder_error(complex_coefficient) < 1e-13


@pytest.mark.parametrize(
    "fault",
    [
        lambda l1, m1, l2, m2, l3, m3: complex_coefficient(l2, m2, l1, m1, l3, m3),  # exchanged
        lambda *a: complex_coefficient(*a) * (1 + 1e-9 * a[1]),
        lambda *a: -complex_coefficient(*a) if a[1] == 1 and a[3] == 0 else complex_coefficient(*a),
    ],
    ids=["exchanged", "m-dependent", "sign"],
)
def test_planted_faults_in_complex_coefficients_are_seen(fault):
    assert ladder_error(fault) > 1e-10


def test_complex_coefficients_that_textbooks_print():
    c = complex_coefficient
    assert c(1, 1, 1, -1, 0, 0) == pytest.approx(1 / sqrt(3))
    assert c(1, 0, 1, 0, 0, 0) == pytest.approx(-1 / sqrt(3))
    assert c(1, 1, 1, 0, 1, 1) == pytest.approx(1 / sqrt(2))
    assert c(1, 0, 1, 1, 1, 1) == pytest.approx(-1 / sqrt(2))
    assert c(1, 0, 1, 0, 1, 0) == 0.0
    assert c(1, 0, 1, 0, 2, 0) == pytest.approx(sqrt(2 / 3))
    assert c(2, 2, 1, -1, 3, 1) == pytest.approx(sqrt(1 / 15))
    assert c(2, 0, 2, 0, 2, 0) == pytest.approx(-sqrt(2 / 7))
    for l in range(9):
        for m in range(-l, l + 1):
            assert c(l, m, 0, 0, l, m) == pytest.approx(1.0)
            assert c(l, m, l, -m, 0, 0) == pytest.approx((-1) ** (l - m) / sqrt(2 * l + 1))
            if l:
                assert c(l, m, 1, 0, l, m) == pytest.approx(m / sqrt(l * (l + 1)))


# Real coefficients


def against_e3nn(f) -> float:
    worst = 0.0
    for l1, l2, l3 in TRIPLES:
        theirs = E3NN[f"coupling_{l1}_{l2}_{l3}"]
        worst = max(worst, np.abs(theirs - f(l1, l2, l3) / sqrt(2 * l3 + 1)).max())
    return float(worst)


def orthogonality(f) -> float:
    """Σ_m1m2 C C = δ within l3 and 0 between; all l3 together are complete."""
    worst = 0.0
    for l1 in range(L + 1):
        for l2 in range(L + 1):
            size = (2 * l1 + 1) * (2 * l2 + 1)
            columns = [f(l1, l2, l3).reshape(size, -1) for l3 in range(abs(l1 - l2), l1 + l2 + 1)]
            c = np.concatenate(columns, axis=1)
            worst = max(worst, np.abs(c.T @ c - np.eye(size)).max())
    return float(worst)


def equivariance(f) -> float:
    """Σ C D_1 D_2 = D_3 C, for rotations and for what l1 + l2 + l3 says of reflections."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for sign in (1, -1):
        r = sign * random_rotation(rng)
        d = [np.asarray(wigner_d(r, l)) for l in range(2 * L + 1)]
        for l1, l2, l3 in TRIPLES:
            c = f(l1, l2, l3)
            turned = np.einsum("abm,ai,bj->ijm", c, d[l1], d[l2])
            # An odd coupling is a pseudotensor: it does not change sign as Y_l3 does.
            axial = sign ** (l1 + l2 + l3)
            worst = max(worst, np.abs(turned - axial * np.einsum("ijn,mn->ijm", c, d[l3])).max())
    return float(worst)


REAL_CHECKS = [against_e3nn, orthogonality, equivariance]


@pytest.mark.slow
@pytest.mark.parametrize("check", REAL_CHECKS, ids=lambda c: c.__name__)
def test_real_coefficients(check):
    assert check(clebsch_gordan) < 1e-12


def sign_flipped(l1, l2, l3):
    c = clebsch_gordan(l1, l2, l3).copy()
    if (l1, l2, l3) == (1, 2, 3):
        where = tuple(np.argwhere(c)[0])
        c[where] *= -1
    return c


def weighted_by_m(l1, l2, l3):
    return clebsch_gordan(l1, l2, l3) * (1 + 1e-9 * np.arange(2 * l3 + 1))


def other_overall_sign(l1, l2, l3):
    return clebsch_gordan(l1, l2, l3) * (-1 if l1 + l2 + l3 == 5 else 1)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (against_e3nn, sign_flipped),
        (against_e3nn, weighted_by_m),
        (against_e3nn, other_overall_sign),
        (orthogonality, sign_flipped),
        (orthogonality, weighted_by_m),
        (equivariance, sign_flipped),
        (equivariance, weighted_by_m),
    ],
)
def test_planted_faults_in_real_coefficients_are_seen(check, fault):
    assert check(fault) > 1e-10


def test_exchange_of_the_factors():
    """C(l2, l1, l3) is C(l1, l2, l3) transposed, times (-1)^(l1 + l2 - l3)."""
    for l1, l2, l3 in TRIPLES:
        exchanged = np.swapaxes(clebsch_gordan(l2, l1, l3), 0, 1)
        sign = (-1) ** (l1 + l2 - l3)
        np.testing.assert_allclose(clebsch_gordan(l1, l2, l3), sign * exchanged, atol=1e-14)


def test_forbidden_couplings_are_zero_and_results_cannot_be_written_to():
    assert not clebsch_gordan(1, 1, 3).any()
    with pytest.raises(ValueError, match="read-only"):
        clebsch_gordan(1, 1, 2)[0, 0, 0] = 1.0


def test_vectors_couple_to_dot_and_cross_product(rng):
    """In the order (y, z, x): degree 0 is a·b/√3, degree 1 ±(a × b)/√2."""
    a, b = rng.normal(size=(2, 3))
    x, y = a[[1, 2, 0]], b[[1, 2, 0]]
    dot = np.einsum("abm,a,b->m", clebsch_gordan(1, 1, 0), x, y)[0]
    assert abs(dot) == pytest.approx(abs(a @ b) / sqrt(3))
    cross = np.einsum("abm,a,b->m", clebsch_gordan(1, 1, 1), x, y)
    expected = np.cross(a, b)[[1, 2, 0]] / sqrt(2)
    assert min(np.abs(cross - expected).max(), np.abs(cross + expected).max()) < 1e-14


def test_nonzero_coefficients_are_those_of_the_dense_array():
    for l1, l2, l3 in [(1, 2, 2), (3, 3, 2), (2, 2, 4)]:
        dense = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
        for k, i, j, c in nonzero_coefficients(l1, l2, l3):
            dense[i, j, k] = c
        np.testing.assert_array_equal(dense, clebsch_gordan(l1, l2, l3))


@pytest.mark.slow
def test_high_degrees_stay_exact():
    c = clebsch_gordan(10, 10, 10)
    flat = c.reshape(-1, 21)
    np.testing.assert_allclose(flat.T @ flat, np.eye(21), atol=1e-12)
