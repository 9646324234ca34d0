"""Kernels between structures: numbers of DScribe, limits of REMatch, laws, memory, bad input."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from brute_force import random_rotation, structure
from scipy.optimize import linear_sum_assignment

from kohn.descriptors import kernels
from kohn.descriptors.kernels import (
    TOLERANCE,
    KernelConfig,
    environment_kernel,
    kernel_matrix,
    match,
)
from kohn.descriptors.soap import SoapConfig
from kohn.descriptors.soap_stream import soap_features
from kohn.errors import ConfigError, InputError

DSCRIBE = np.load(Path(__file__).parent / "data" / "dscribe_kernels.npz")
MOLECULES = [DSCRIBE[f"features_{i}"] for i in range(5)]
NUMBERS = [DSCRIBE[f"numbers_{i}"] for i in range(5)]
CONFIGS = {
    "average": KernelConfig("average", zeta=2),
    "rematch": KernelConfig("rematch", zeta=2, gamma=0.2),
}
SMALL = SoapConfig(r_cut=4.0, n_max=3, l_max=3)

every_kernel = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def soaps(structures):
    return list(soap_features(structures, SMALL, (1, 8, 14)))


def some(rng, sizes, width=20):
    """Features whose dot products are not negative, as those of SOAP."""
    return [rng.random((n, width)) ** 3 for n in sizes]


def one_by_one(a, b, value):
    """k(A, B) of each pair alone, with a function of the environment kernel."""
    k = np.array([[value(environment_kernel(p, q, 2)) for q in b] for p in a])
    own = [np.sqrt([value(environment_kernel(p, p, 2)) for p in side]) for side in (a, b)]
    return k / np.outer(*own)


# --- numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("zeta", [1, 3])
def test_dscribe(zeta):
    found = kernel_matrix(MOLECULES, None, KernelConfig("average", zeta))
    assert np.abs(found - DSCRIBE[f"average_zeta{zeta}"]).max() < 1e-12
    for gamma in (10.0, 1.0, 0.1):
        found = kernel_matrix(MOLECULES, None, KernelConfig("rematch", zeta, gamma))
        assert np.abs(found - DSCRIBE[f"rematch_zeta{zeta}_gamma{gamma:g}"]).max() < TOLERANCE
    found = kernel_matrix(MOLECULES[:2], MOLECULES[2:], KernelConfig("rematch", zeta, 1.0))
    assert np.abs(found - DSCRIBE[f"rectangular_zeta{zeta}"]).max() < TOLERANCE


@pytest.mark.slow
def test_dscribe_from_positions():
    """The same numbers from Kohn's own features in DScribe's convention."""
    frames = [structure(DSCRIBE[f"positions_{i}"], NUMBERS[i]) for i in range(5)]
    config = SoapConfig.dscribe(r_cut=4.0, n_max=3, l_max=2, sigma=0.5)
    found = kernel_matrix(
        list(soap_features(frames, config, (1, 6, 8))), None, KernelConfig("average")
    )
    expected = kernel_matrix(MOLECULES)
    assert np.abs(found - expected).max() < 1e-8


def test_environments():
    p, q = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    expected = np.array([[0.6, 0.8, 1.4 / 2**0.5], [1.0, 0.0, 0.5**0.5]]) ** 3
    assert np.abs(environment_kernel(p, q, 3) - expected).max() < 1e-15
    same = environment_kernel(p, q, 3, (np.array([1, 8]), np.array([1, 8, 8])))
    assert np.abs(same - expected * [[1, 0, 0], [0, 1, 1]]).max() < 1e-15


@every_kernel
def test_species_keep_centres_apart(config, rng):
    """As if features of different species stood in different places."""
    sizes = (4, 6, 3)
    features, numbers = some(rng, sizes), [rng.choice([1, 8], n) for n in sizes]
    found = kernel_matrix(features, None, config, species_a=numbers)
    apart = [
        np.hstack([p * (z == 1)[:, None], p * (z == 8)[:, None]])
        for p, z in zip(features, numbers, strict=True)
    ]
    assert np.abs(found - kernel_matrix(apart, None, config)).max() < TOLERANCE
    other = kernel_matrix(features, features, config, species_a=numbers, species_b=numbers)
    assert np.abs(found - other).max() < TOLERANCE
    assert np.abs(found - kernel_matrix(features, None, config)).max() > 0.1


# --- REMatch ------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1e-6, 1e-4, 0.01, 0.3, 1.0, 50.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 7), (4, 9), (9, 4), (40, 41)])
def test_a_match_has_the_right_sums_and_form(gamma, shape, rng):
    """C_ij/γ − ln P_ij = −f_i − g_j is what makes it the maximum."""
    c = rng.random((3, *shape))
    p = match(c, gamma)
    n, m = shape
    assert np.abs(p.sum(axis=2) - 1 / n).max() <= TOLERANCE
    assert np.abs(p.sum(axis=1) - 1 / m).max() <= TOLERANCE
    if gamma >= 0.01:
        x = c / gamma - np.log(p)
        assert np.abs(x - x[:, :1] - x[:, :, :1] + x[:, :1, :1]).max() < 1e-9


def test_a_match_is_what_sinkhorn_finds(rng):
    c = rng.random((5, 8))
    k = np.exp(c / 0.5)
    u = np.ones(5)
    for _ in range(500):
        v = 1 / 8 / (k.T @ u)
        u = 1 / 5 / (k @ v)
    assert np.abs(match(c, 0.5) - u[:, None] * k * v).max() < TOLERANCE


def test_a_match_where_scalings_hardly_move(rng):
    """Groups that are alike inside and not between: thousands of scalings, few Newton steps."""
    same = rng.integers(0, 3, 12)[:, None] == rng.integers(0, 3, 9)
    p = match(np.where(same, 0.9 + 0.1 * rng.random((12, 9)), 0.0), 0.02)
    assert np.abs(p.sum(axis=1) - 1 / 12).max() <= TOLERANCE


def test_large_gamma_is_the_average(rng):
    features = some(rng, (3, 8, 5))
    average = kernel_matrix(features, None, KernelConfig("average", 2))
    errors = [
        np.abs(kernel_matrix(features, None, KernelConfig("rematch", 2, g)) - average).max()
        for g in (1e2, 1e4, 1e9)
    ]
    assert 1e-4 < errors[0] < 1e-2
    assert errors[1] < errors[0] / 50  # as 1/γ
    assert errors[2] < 1e-9


def test_small_gamma_is_the_best_assignment(rng):
    """Of as many atoms; k is then the mean over the assignment, because k(A, A) is 1 already."""

    def best(c):
        return c[linear_sum_assignment(c, maximize=True)].mean()

    features = some(rng, (7, 7, 7))
    found = kernel_matrix(features, None, KernelConfig("rematch", 2, 1e-5))
    assert np.abs(found - one_by_one(features, features, best)).max() < 1e-8
    average = kernel_matrix(features, None, KernelConfig("average", 2))
    assert np.abs(found - average).max() > 0.1


def test_a_match_that_does_not_converge(monkeypatch, rng):
    monkeypatch.setattr(kernels, "STEPS", 2)
    with pytest.raises(ConfigError, match=r"does not converge(.|\n)*raise gamma"):
        match(rng.random((6, 6)), 0.01)


# --- laws ---------------------------------------------------------------------------------


@every_kernel
def test_blocks_are_seamless(config, monkeypatch, rng):
    """The same from blocks of a few rows as pair by pair, of one side and of two."""
    a, b = some(rng, (2, 2, 2, 8, 5, 1, 8)), some(rng, (2, 9, 4))

    def value(c):
        return c.mean() if config.kind == "average" else (match(c, config.gamma) * c).sum()

    monkeypatch.setattr(kernels, "MAX_ENVIRONMENTS", 7)
    counted: list[int] = []
    found = kernel_matrix(a, b, config, advance=counted.append)
    assert np.abs(found - one_by_one(a, b, value)).max() < TOLERANCE
    assert sum(counted) == 21
    assert len(counted) > 4
    alone = kernel_matrix(a, None, config)
    assert np.abs(alone - one_by_one(a, a, value)).max() < TOLERANCE


@every_kernel
def test_symmetric_and_one_with_itself(config, rng):
    features = some(rng, rng.integers(1, 12, 20))
    k = kernel_matrix(features, None, config)
    assert np.array_equal(k, k.T)
    assert np.abs(np.diagonal(k) - 1).max() < 1e-15
    assert k.min() > 0
    assert k.max() < 1 + 1e-9
    turned = kernel_matrix(features[3:], features[:3], config)
    assert np.abs(k[3:, :3] - turned).max() < TOLERANCE


@pytest.mark.parametrize("zeta", [1, 2, 5])
def test_positive_semi_definite(zeta, rng):
    """Down to −1e-12 of the largest; with more structures than features the rank is not full."""
    features = some(rng, rng.integers(1, 9, 60), width=6)
    numbers = [rng.choice([1, 8], len(p)) for p in features]
    rows = np.concatenate(features)
    config = KernelConfig("average", zeta)
    for k in (
        environment_kernel(rows, rows, zeta),
        kernel_matrix(features, None, config),
        kernel_matrix(features, None, config, species_a=numbers),
    ):
        values = np.linalg.eigvalsh((k + k.T) / 2)
        assert values[0] > -1e-12 * values[-1]
    assert np.linalg.eigvalsh(1 - k)[0] < -1e-3  # the check can fail


@pytest.mark.slow
@every_kernel
def test_invariances(config, rng):
    """Translation, rotation, reflection, order, lattice shifts of single atoms, supercells."""
    cell = np.diag([4.0, 4.5, 5.0]) + 0.3 * rng.normal(size=(3, 3))
    positions = rng.random((4, 3)) @ cell
    numbers = np.array([1, 8, 14, 8])
    turn = random_rotation(rng)
    order = rng.permutation(4)
    shifts = rng.integers(-2, 3, (4, 3)) @ cell
    doubled = np.vstack([positions, positions + cell[0]])
    same = [
        structure(positions @ turn.T + 3.0, numbers, cell @ turn.T, True),
        structure(-positions, numbers, -cell, True),
        structure((positions + shifts)[order], numbers[order], cell, True),
        structure(doubled, np.tile(numbers, 2), np.diag([2.0, 1, 1]) @ cell, True),
    ]
    moved = structure(positions + 0.2 * rng.normal(size=(4, 3)), numbers, cell, True)
    k = kernel_matrix(
        soaps([structure(positions, numbers, cell, True)]), soaps([*same, moved]), config
    )
    assert np.abs(k[0, :-1] - 1).max() < 1e-9
    assert k[0, -1] < 1 - 1e-5


@pytest.mark.slow
@every_kernel
def test_memory_is_bounded(config, monkeypatch):
    """2 × 64 structures of 1 MB, made as they are asked for, in blocks of 4 MB."""

    class Made:
        def __iter__(self):
            return (np.random.default_rng(i).random((2, 2**16)) for i in range(64))

    monkeypatch.setattr(kernels, "MAX_FEATURES", 2**19)
    tracemalloc.start()
    k = kernel_matrix(Made(), Made(), config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert k.shape == (64, 64)
    assert peak < 30e6


# --- bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "rematsch"}, "did you mean 'rematch'"),
        ({"zeta": 0}, "whole number from 1"),
        ({"zeta": 1.5}, "whole number from 1"),
        ({"zeta": True}, "whole number from 1"),
        ({"gamma": 0.0}, "from 1e-6"),
        ({"gamma": float("inf")}, "from 1e-6"),
        ({"gamma": "small"}, "from 1e-6"),
    ],
)
def test_settings_without_sense(settings, message):
    with pytest.raises(ConfigError, match=message):
        KernelConfig(**settings)


@pytest.mark.parametrize(
    ("a", "message"),
    [
        ([], "there are no structures in a"),
        (iter(MOLECULES), "only once"),
        ([np.ones(3)], r"features of atoms(.|\n)*structure 0"),
        ([np.ones((2, 3)), np.ones((0, 3))], r"features of atoms(.|\n)*structure 1"),
        ([np.ones((2, 3)), np.ones((2, 4))], r"\[atoms, 3\](.|\n)*\(2, 4\)(.|\n)*structure 1"),
        ([np.eye(3) * [1, 1, 0]], r"cannot be compared(.|\n)*atom 2(.|\n)*structure 0"),
        ([np.full((1, 3), np.nan)], "cannot be compared"),
        ([np.array([[1.0, 0.0], [-1.0, 0.0]])], "no similarity with itself"),
    ],
)
def test_features_without_sense(a, message):
    with pytest.raises(InputError) as caught:
        kernel_matrix(a, None, KernelConfig(zeta=1))
    lines = str(caught.value)
    for part in message.split(r"(.|\n)*"):
        assert part.replace("\\", "") in lines


def test_two_sides_that_do_not_fit():
    with pytest.raises(InputError, match=r"different features(.|\n)*in b"):
        kernel_matrix([np.ones((2, 3))], [np.ones((2, 4))])
    with pytest.raises(InputError, match="there are no structures in b"):
        kernel_matrix([np.ones((2, 3))], [])
    with pytest.raises(InputError, match=r"species do not fit(.|\n)*a, structure 1"):
        kernel_matrix(MOLECULES[:2], species_a=NUMBERS[:1])
    with pytest.raises(InputError, match="one side only"):
        kernel_matrix(MOLECULES, MOLECULES, species_a=NUMBERS)
    with pytest.raises(InputError, match="one side only"):
        kernel_matrix(MOLECULES, species_b=NUMBERS)


# --- imports ------------------------------------------------------------------------------


@pytest.mark.slow
def test_names_are_imported_when_used():
    """`import kohn` and the bases of models must not wait for scikit-learn."""
    code = (
        "import sys, kohn, kohn.descriptors as d; assert 'sklearn' not in sys.modules; "
        "[getattr(d, name) for name in d.__all__]; assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
