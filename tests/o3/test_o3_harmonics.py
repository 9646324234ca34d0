"""Harmonics and Wigner matrices: their definition, and agreement with sphericart and e3nn-jax
(frozen by `benchmarks/peers/e3nn_numbers.py`)."""

from math import factorial, pi, sqrt
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sphericart
from brute_force import random_rotation
from hypothesis import given
from hypothesis import strategies as st

from kohn import o3
from kohn.o3 import degree_slice, to_complex, to_e3nn, wigner_d

# Compiled as a whole: one operation at a time takes seconds.
solid_harmonics = jax.jit(o3.solid_harmonics, static_argnums=1)
spherical_harmonics = jax.jit(o3.spherical_harmonics, static_argnums=1)

E3NN = np.load(Path(__file__).parent / "data" / "e3nn.npz")
L_MAX = 8
DEGREES = range(L_MAX + 1)


def unit_vectors(rng, n=40) -> np.ndarray:
    u = rng.normal(size=(n, 3))
    return u / np.linalg.norm(u, axis=1)[:, None]


def sphere(l: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of a quadrature on the sphere, exact to degree 2l and beyond."""
    n = 2 * l + 4
    z, w = np.polynomial.legendre.leggauss(n)
    phi = 2 * pi * np.arange(2 * n) / (2 * n)
    s = np.sqrt(1 - z**2)
    u = np.stack(
        [np.outer(s, np.cos(phi)), np.outer(s, np.sin(phi)), np.outer(z, np.ones(2 * n))], -1
    )
    return u.reshape(-1, 3), np.repeat(w, 2 * n) * pi / n


# Each check takes the function that it judges and returns its largest error, so that the
# planted faults below go through the very same code.


def against_sphericart(f) -> float:
    u = unit_vectors(np.random.default_rng(1))
    theirs = sphericart.SphericalHarmonics(L_MAX).compute(u)
    return float(np.abs(theirs - np.asarray(f(u, L_MAX))).max())


def against_e3nn(f) -> float:
    y, worst = np.asarray(f(E3NN["vectors"], L_MAX)), 0.0
    for l in DEGREES:
        ours = sqrt(4 * pi) * y[:, degree_slice(l)] @ to_e3nn(l).T
        worst = max(worst, np.abs(E3NN["harmonics"][:, degree_slice(l)] - ours).max())
    return float(worst)


def orthonormality(f) -> float:
    u, w = sphere(L_MAX)
    y = np.asarray(f(u, L_MAX))
    return float(np.abs(y.T @ (w[:, None] * y) - np.eye((L_MAX + 1) ** 2)).max())


def parity(f) -> float:
    u = unit_vectors(np.random.default_rng(3))
    sign = np.concatenate([np.full(2 * l + 1, (-1.0) ** l) for l in DEGREES])
    return float(np.abs(np.asarray(f(-u, L_MAX)) - sign * np.asarray(f(u, L_MAX))).max())


def addition_theorem(f) -> float:
    u, v = unit_vectors(np.random.default_rng(4)), unit_vectors(np.random.default_rng(5))
    y, z = np.asarray(f(u, L_MAX)), np.asarray(f(v, L_MAX))
    worst = 0.0
    for l in DEGREES:
        legendre = np.polynomial.legendre.Legendre.basis(l)((u * v).sum(1))
        dot = (y[:, degree_slice(l)] * z[:, degree_slice(l)]).sum(1)
        worst = max(worst, np.abs(dot - (2 * l + 1) / (4 * pi) * legendre).max())
    return float(worst)


def representation(f) -> float:
    """Y(R u) must be a fixed linear map of Y(u), the one `wigner_d` gives."""
    rng = np.random.default_rng(6)
    u, turn = unit_vectors(rng), random_rotation(rng)
    y, turned = np.asarray(f(u, L_MAX)), np.asarray(f(u @ turn.T, L_MAX))
    worst = 0.0
    for l in DEGREES:
        here = degree_slice(l)
        worst = max(
            worst, np.abs(turned[:, here] - y[:, here] @ np.asarray(wigner_d(turn, l)).T).max()
        )
    return float(worst)


CHECKS = [
    against_sphericart,
    against_e3nn,
    orthonormality,
    parity,
    addition_theorem,
    representation,
]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_harmonics(check):
    assert check(spherical_harmonics) < 1e-12


def _changed(change):
    def f(u, l_max):
        y = np.array(spherical_harmonics(u, l_max))
        return change(y, np.asarray(u))

    return f


def _sign_flip(y, u):
    y[:, 5] *= -1
    return y


def _m_dependent(y, u):
    y[:, 6] *= 1 + 1e-9
    return y


def _condon_shortley(y, u):
    for l in DEGREES:
        for m in range(-l, l + 1):
            y[:, l * l + l + m] *= (-1) ** m
    return y


def _mixed_parity(y, u):
    y[:, 1] += 1e-9
    return y


def _axes(y, u):
    return np.asarray(spherical_harmonics(u[:, [1, 2, 0]], L_MAX))


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (against_sphericart, _sign_flip),
        (against_sphericart, _condon_shortley),
        (against_e3nn, _sign_flip),
        (against_e3nn, _axes),
        (orthonormality, _m_dependent),
        (parity, _mixed_parity),
        (addition_theorem, _m_dependent),
        (representation, _m_dependent),
        (representation, _sign_flip),
    ],
)
def test_planted_faults_in_harmonics_are_seen(check, fault):
    assert check(_changed(fault)) > 1e-11


def test_the_formula_in_the_docstring():
    """Associated Legendre polynomials by Rodrigues' formula, no Condon–Shortley phase."""
    rng = np.random.default_rng(7)
    u = unit_vectors(rng, 10)
    cosine, phi = u[:, 2], np.arctan2(u[:, 1], u[:, 0])
    y = np.asarray(spherical_harmonics(u, 5))
    for l in range(6):
        legendre = np.polynomial.legendre.Legendre.basis(l)
        for m in range(-l, l + 1):
            k = abs(m)
            p = (1 - cosine**2) ** (k / 2) * (legendre.deriv(k) if k else legendre)(cosine)
            norm = sqrt((2 * l + 1) / (4 * pi) * factorial(l - k) / factorial(l + k))
            turn = {0: 1.0}.get(m, sqrt(2) * (np.cos(k * phi) if m > 0 else np.sin(k * phi)))
            np.testing.assert_allclose(y[:, l * l + l + m], norm * p * turn, atol=1e-13)


def test_degree_one_is_y_z_x():
    u = np.array([0.2, -0.3, 0.7])
    expected = sqrt(3 / (4 * pi)) * u[[1, 2, 0]]
    np.testing.assert_allclose(solid_harmonics(u, 1)[1:], expected, atol=1e-15)


def test_solid_harmonics_against_sphericart(rng):
    d = rng.normal(size=(30, 3))
    theirs = sphericart.SolidHarmonics(L_MAX).compute(d)
    np.testing.assert_allclose(solid_harmonics(d, L_MAX), theirs, rtol=1e-11, atol=1e-11)


def of_degree_six(d):
    return o3.solid_harmonics(d, 6)


FORWARD, REVERSE, SECOND = (
    jax.jit(derivative(of_degree_six)) for derivative in (jax.jacfwd, jax.jacrev, jax.hessian)
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [(0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1e-200, 1.0)],
    ids=["pole", "south", "zero", "equator", "near pole"],
)
def test_derivatives_are_finite_and_right_everywhere(point):
    d = jnp.asarray(point)
    jacobian = FORWARD(d)
    np.testing.assert_allclose(jacobian, REVERSE(d), atol=1e-14)
    h = 1e-3
    for a in range(3):
        e = np.zeros(3)
        e[a] = h
        f = [np.asarray(solid_harmonics(d + k * e, 6)) for k in (-2, -1, 1, 2)]
        difference = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)
        np.testing.assert_allclose(jacobian[:, a], difference, atol=2e-9)
    assert np.isfinite(SECOND(d)).all()


@pytest.mark.slow
def test_solid_harmonics_are_harmonic(rng):
    """The Laplacian vanishes: a wrong recursion hardly keeps that."""
    d = jnp.asarray(rng.normal(size=3))
    laplacian = np.trace(SECOND(d), axis1=1, axis2=2)
    np.testing.assert_allclose(laplacian, 0.0, atol=1e-11)


@pytest.mark.slow
def test_the_dtype_is_that_of_the_vectors():
    u = np.array([0.6, 0.0, 0.8])
    assert solid_harmonics(u.astype(np.float32), 4).dtype == np.float32
    assert solid_harmonics(u, 4).dtype == np.float64
    assert wigner_d(np.eye(3, dtype=np.float32), 2).dtype == np.float32


def test_complex_harmonics(rng):
    """Y_11, Y_1-1 and Y_21 as textbooks print them, Condon–Shortley phase included."""
    x, y, z = unit_vectors(rng).T
    u = np.stack([x, y, z], 1)
    harmonics = np.asarray(spherical_harmonics(u, 2))
    one = harmonics[:, degree_slice(1)] @ to_complex(1).T
    two = harmonics[:, degree_slice(2)] @ to_complex(2).T
    np.testing.assert_allclose(one[:, 2], -sqrt(3 / (8 * pi)) * (x + 1j * y), atol=1e-14)
    np.testing.assert_allclose(one[:, 0], sqrt(3 / (8 * pi)) * (x - 1j * y), atol=1e-14)
    np.testing.assert_allclose(two[:, 3], -sqrt(15 / (8 * pi)) * (x + 1j * y) * z, atol=1e-14)
    for l in DEGREES:
        q = to_complex(l)
        np.testing.assert_allclose(q @ q.conj().T, np.eye(2 * l + 1), atol=1e-15)


# Wigner matrices


def composition(d) -> float:
    rng = np.random.default_rng(8)
    a, b = random_rotation(rng), -random_rotation(rng)
    return max(float(np.abs(d(a @ b, l) - d(a, l) @ d(b, l)).max()) for l in DEGREES)


def orthogonality(d) -> float:
    r = random_rotation(np.random.default_rng(9))
    return max(float(np.abs(d(r, l) @ d(r, l).T - np.eye(2 * l + 1)).max()) for l in DEGREES)


def inversion(d) -> float:
    r = random_rotation(np.random.default_rng(10))
    return max(float(np.abs(d(-r, l) - (-1) ** l * d(r, l)).max()) for l in DEGREES)


def character(d) -> float:
    """The trace is sin((2l+1)θ/2) / sin(θ/2)."""
    theta = 0.7
    c, s = np.cos(theta), np.sin(theta)
    q = random_rotation(np.random.default_rng(11))
    r = q @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ q.T
    expected = [np.sin((2 * l + 1) * theta / 2) / np.sin(theta / 2) for l in DEGREES]
    return max(float(abs(np.trace(d(r, l)) - expected[l])) for l in DEGREES)


def d_against_e3nn(d) -> float:
    worst = 0.0
    for l in range(5):
        m = to_e3nn(l)
        ours = m @ d(E3NN["rotation"], l) @ m.T
        worst = max(worst, np.abs(E3NN[f"wigner_{l}"] - ours).max())
    return float(worst)


WIGNER = [composition, orthogonality, inversion, character, d_against_e3nn]


@pytest.mark.slow
@pytest.mark.parametrize("check", WIGNER, ids=lambda c: c.__name__)
def test_wigner(check):
    # e3nn-jax goes through Euler angles, and loses half a dozen digits on the way.
    assert check(wigner_d) < (1e-11 if check is d_against_e3nn else 1e-12)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (composition, lambda r, l: np.asarray(wigner_d(r, l)).T),
        (orthogonality, lambda r, l: np.asarray(wigner_d(r, l)) * (1 + 1e-9)),
        (inversion, lambda r, l: np.asarray(wigner_d(r * np.linalg.det(r), l))),
        (character, lambda r, l: np.asarray(wigner_d(np.eye(3), l))),
        (d_against_e3nn, lambda r, l: np.asarray(wigner_d(r, l)).T),
    ],
)
def test_planted_faults_in_wigner_are_seen(check, fault):
    assert check(fault) > 1e-10


@pytest.mark.slow
@given(seed=st.integers(0, 2**32 - 1), flip=st.booleans())
def test_wigner_turns_harmonics(seed, flip):
    rng = np.random.default_rng(seed)
    r = random_rotation(rng) * (-1 if flip else 1)
    u = unit_vectors(rng, 5)
    for l in (0, 1, 2, 3, 6):
        here = degree_slice(l)
        left = np.asarray(spherical_harmonics(u @ r.T, l))[:, here]
        right = np.asarray(spherical_harmonics(u, l))[:, here] @ np.asarray(wigner_d(r, l)).T
        np.testing.assert_allclose(left, right, atol=1e-12)


def test_wigner_of_degree_one_is_the_rotation(rng):
    r = random_rotation(rng)
    np.testing.assert_allclose(wigner_d(r, 1), r[np.ix_([1, 2, 0], [1, 2, 0])], atol=1e-14)


def test_wigner_takes_integers():
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(wigner_d(turn, 2), wigner_d(turn.astype(float), 2), atol=1e-14)


def test_e3nn_change_of_basis_is_orthogonal():
    for l in DEGREES:
        m = to_e3nn(l)
        np.testing.assert_allclose(m @ m.T, np.eye(2 * l + 1), atol=1e-13)
