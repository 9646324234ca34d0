"""The Coulomb matrix: its symmetries, its derivatives, and what each form of it breaks.

`data/dscribe_coulomb_matrix.npz` holds DScribe 2.1.2's numbers (`CoulombMatrix(n_atoms_max=12)`)
for the first two frames of tests/data/ethanol.extxyz, and on the straight path between them.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import random_rotation

from kohn.descriptors.coulomb_matrix import (
    coulomb_matrix,
    coulomb_spectrum,
    sorted_coulomb_matrix,
)
from kohn.errors import ConfigError, InputError
from kohn.structures import read
from kohn.units import BOHR, HARTREE

ETHANOL = read(Path(__file__).parents[1] / "data" / "ethanol.extxyz")
NUMBERS = ETHANOL[0].numbers
DSCRIBE = np.load(Path(__file__).parent / "data" / "dscribe_coulomb_matrix.npz")
FORMS = {"raw": coulomb_matrix, "sorted": sorted_coulomb_matrix, "spectrum": coulomb_spectrum}
every_form = pytest.mark.parametrize("form", FORMS)

FORMALDEHYDE = np.array([[0, 0, 0], [0, 0, 1.21], [0.94, 0, -0.59], [-0.94, 0, -0.59]])
ITS_TWIN = np.array(
    [
        [0.445843742771850, 0.005610098864648, -0.671103573903405],
        [-0.176120448252465, -0.154083936321007, 0.374602551626981],
        [0.556459893556117, 0.563934969468954, 0.789367144785704],
        [-1.076375919612690, 0.266156430860831, -0.096614028894137],
    ]
)
"""Hydrogens on the oxygen instead; found by least squares from a displaced formaldehyde."""
CH2O = [6, 8, 1, 1]


def path(t: float) -> np.ndarray:
    """Positions on the straight line between the first two frames of ethanol."""
    return (1 - t) * ETHANOL[0].positions + t * ETHANOL[1].positions


def distances(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions[:, None] - positions, axis=-1)


# Symmetries and values


@every_form
@pytest.mark.parametrize("law", ["translation", "rotation", "reflection"])
def test_the_place_in_space_does_not_matter(form, law, rng):
    r = ETHANOL[0].positions
    q = random_rotation(rng)
    moved = {"translation": r + rng.normal(size=3), "rotation": r @ q.T, "reflection": -r @ q.T}
    difference = FORMS[form](moved[law], NUMBERS) - FORMS[form](r, NUMBERS)
    assert np.abs(difference).max() < 1e-11


@pytest.mark.parametrize("form", ["sorted", "spectrum"])
def test_labels_do_not_matter(form, rng):
    p, r = rng.permutation(len(NUMBERS)), ETHANOL[0].positions
    difference = FORMS[form](r[p], NUMBERS[p]) - FORMS[form](r, NUMBERS)
    assert np.abs(difference).max() < 1e-11


def test_the_raw_matrix_breaks_under_relabelling():
    """Exchanging the carbons of ethanol moves its entries by tens of hartree."""
    r, p = ETHANOL[0].positions, np.arange(len(NUMBERS))
    carbons = np.flatnonzero(NUMBERS == 6)
    p[carbons] = carbons[::-1]
    difference = coulomb_matrix(r[p], NUMBERS[p]) - coulomb_matrix(r, NUMBERS)
    assert np.array_equal(NUMBERS, NUMBERS[p])
    assert np.abs(difference).max() > 1


@every_form
def test_dscribe_s_numbers(form):
    """To 1e-10 with distances in Å; the eigenvalues as a set, because its order jumps."""
    for frame, expected in zip(ETHANOL, DSCRIBE[form], strict=False):
        ours = np.asarray(FORMS[form](frame.positions, NUMBERS, 12, "angstrom")).ravel()
        if form == "spectrum":
            ours, expected = np.sort(ours), np.sort(expected)
        assert np.abs(ours - expected).max() < 1e-10


def test_bohr_gives_hartree():
    """Two protons 1 Å apart repel each other by 14.4 eV."""
    m = np.asarray(coulomb_matrix(np.array([[0.0, 0, 0], [0, 0, 1.0]]), [1, 1]))
    assert np.allclose(m, [[0.5, BOHR], [BOHR, 0.5]], rtol=1e-14)
    assert m[0, 1] * HARTREE == pytest.approx(14.3996, abs=1e-4)


@every_form
def test_padding_adds_zeros(form):
    r = ETHANOL[0].positions
    small, large = FORMS[form](r, NUMBERS), FORMS[form](r, NUMBERS, 14)
    if form == "spectrum":
        expected = np.sort(np.append(small, np.zeros(5)))[::-1]
    else:
        expected = np.pad(small, (0, 5))
    assert np.array_equal(large, expected)


# Derivatives


@pytest.mark.slow
@every_form
@pytest.mark.parametrize("unit", ["bohr", "angstrom"])
def test_derivatives_are_those_of_finite_differences(form, unit, rng):
    r = jnp.asarray(ETHANOL[0].positions)
    direction = jnp.asarray(rng.normal(size=r.shape))

    def along(t):
        return FORMS[form](r + t * direction, NUMBERS, 12, unit).ravel()

    h = 1e-3
    steps = [(-1 / 60, -3), (3 / 20, -2), (-3 / 4, -1), (3 / 4, 1), (-3 / 20, 2), (1 / 60, 3)]
    numerical = sum(c * along(n * h) for c, n in steps) / h
    exact = jax.jvp(along, (0.0,), (1.0,))[1]
    assert np.abs(exact - numerical).max() < 1e-8 * np.abs(exact).max()
    reverse = jax.jacrev(along)(0.0)
    assert np.abs(exact - reverse).max() < 1e-12 * np.abs(exact).max()


@pytest.mark.slow
def test_derivatives_are_finite_at_equal_eigenvalues():
    """Methane's three equal eigenvalues."""
    r = 0.63 * jnp.array([[0.0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    values = coulomb_spectrum(r, [6, 1, 1, 1, 1])
    assert np.ptp(values[2:]) < 1e-12
    for jacobian in (jax.jacrev, jax.jacfwd):
        assert np.isfinite(jacobian(coulomb_spectrum)(r, [6, 1, 1, 1, 1], 8)).all()


def test_it_compiles_and_maps():
    r = jnp.stack([jnp.asarray(s.positions) for s in ETHANOL[:3]])
    z = jnp.asarray(NUMBERS)
    for function in FORMS.values():
        mapped = jax.jit(jax.vmap(lambda x, f=function: f(x, z)))(r)
        one_by_one = np.stack([function(x, NUMBERS) for x in r])
        assert np.abs(mapped - one_by_one).max() < 1e-12


# What breaks


def test_zeros_of_padding_stand_among_the_eigenvalues():
    """Two hydrogens 0.5 Å apart: ½ ± 2, of which one is negative."""
    found = coulomb_spectrum(np.array([[0.0, 0, 0], [0.5, 0, 0]]), [1, 1], 4, "angstrom")
    np.testing.assert_allclose(found, [2.5, 0.0, 0.0, -1.5], rtol=0, atol=1e-14)


def test_the_spectrum_is_continuous_where_dscribe_s_jumps():
    """Two eigenvalues of opposite sign exchange their places by magnitude, within 1e-10 of the
    path: DScribe's vector jumps by 14.9, ours moves by no more than the matrix does."""
    before, after = DSCRIBE["path"]
    ours = [np.asarray(coulomb_spectrum(path(t), NUMBERS, 12, "angstrom")) for t in (before, after)]
    theirs = DSCRIBE["spectrum_on_path"]
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(np.sort(a) - np.sort(b)).max() < 1e-9
    assert np.abs(theirs[1] - theirs[0]).max() > 14.8
    assert np.abs(ours[1] - ours[0]).max() < 1e-7


@pytest.mark.parametrize("unit", ["bohr", "angstrom"])
def test_the_spectrum_moves_no_more_than_the_matrix(unit):
    """Weyl, |λ_k(M) − λ_k(M')| ≤ ‖M − M'‖, along the whole path, zeros of padding included."""
    steps = np.linspace(0, 1, 201)
    spectra = np.array([coulomb_spectrum(path(t), NUMBERS, 12, unit) for t in steps])
    matrices = np.array([coulomb_matrix(path(t), NUMBERS, 12, unit) for t in steps])
    moved = np.linalg.norm(np.diff(matrices, axis=0), ord=2, axis=(1, 2))
    assert (np.abs(np.diff(spectra, axis=0)).max(axis=1) <= moved + 1e-12).all()
    if unit == "angstrom":  # negative eigenvalues stay on their side of the zeros
        assert spectra.min() < 0


def test_the_sorted_matrix_jumps():
    """On the path, atoms exchange their places in the order of norms: found by bisection to
    1e-13 of the path, the matrix jumps by more than 5 hartree there."""

    def order(t: float) -> tuple[int, ...]:
        norms = np.linalg.norm(coulomb_matrix(path(t), NUMBERS), axis=1)
        return tuple(np.argsort(-norms))

    def jump(low: float, high: float) -> float:
        while high - low > 1e-13:
            middle = 0.5 * (low + high)
            low, high = (low, middle) if order(middle) != order(low) else (middle, high)
        ends = [np.asarray(sorted_coulomb_matrix(path(t), NUMBERS)) for t in (low, high)]
        raw = [np.asarray(coulomb_matrix(path(t), NUMBERS)) for t in (low, high)]
        assert np.abs(raw[1] - raw[0]).max() < 1e-10
        return float(np.abs(ends[1] - ends[0]).max())

    steps = np.linspace(0, 1, 41)
    crossings = [(a, b) for a, b in pairwise(steps) if order(a) != order(b)]
    assert max(jump(*ends) for ends in crossings) > 5


def test_different_molecules_share_a_spectrum():
    """Formaldehyde, and another CH2O whose distances differ by up to half an Å and more."""
    ours = coulomb_spectrum(FORMALDEHYDE, CH2O)
    assert np.abs(ours - coulomb_spectrum(ITS_TWIN, CH2O)).max() < 1e-12
    a, b = distances(FORMALDEHYDE), distances(ITS_TWIN)
    assert min(a[0, 2:]) < 1.2 < min(b[0, 2:])  # bonds C–H there, O–H here
    assert min(b[1, 2:]) < 1.2 < min(a[1, 2:])
    sorted_apart = sorted_coulomb_matrix(FORMALDEHYDE, CH2O) - sorted_coulomb_matrix(ITS_TWIN, CH2O)
    assert np.abs(sorted_apart).max() > 1


# Bad input


@every_form
@pytest.mark.parametrize(
    ("positions", "numbers", "size", "message"),
    [
        (np.zeros((0, 3)), [], None, "no atoms"),
        (np.zeros((2, 3)), [1, 1], None, "atoms 0 and 1 are in the same place"),
        (np.array([[0.0, 0, 0], [0, np.nan, 1]]), [1, 1], None, "atom 1 at"),
        (np.eye(3), [1, 1, 1], 2, "more atoms than rows"),
        (np.eye(3), [1, 1], None, "do not fit"),
        (np.eye(3), [1, 1, 0], None, "start at 1"),
    ],
)
def test_bad_input_is_refused(form, positions, numbers, size, message):
    with pytest.raises(InputError, match=message):
        FORMS[form](positions, numbers, size)


def test_an_unknown_unit_is_refused():
    unit: Any = "hartree"
    with pytest.raises(ConfigError, match="unit of distances"):
        coulomb_matrix(np.eye(3), [1, 1, 1], unit=unit)
