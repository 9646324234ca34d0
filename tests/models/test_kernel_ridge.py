"""Kernel ridge regression against scikit-learn's, brute force, and planted faults."""

from math import log, pi
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge as Sklearns
from sklearn.model_selection import GridSearchCV

from kohn.errors import ConfigError, InputError
from kohn.models import kernel_ridge
from kohn.models.kernel_ridge import (
    KernelRidge,
    distances,
    kernel_values,
    log_marginal_likelihood,
)

KERNELS = ("laplacian", "gaussian")
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
LENGTH, SIGNAL, NOISE = 2.5, 3.0, 0.2


def problem(rng: np.random.Generator, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A smooth function of four features, with noise and an offset."""
    x = rng.normal(size=(n, 4))
    return x, 7.0 + np.sin(2 * x).sum(axis=1) + 0.1 * rng.normal(size=n)


def brute_force_kernel(a: np.ndarray, b: np.ndarray, kernel: str) -> np.ndarray:
    difference = a[:, None] - b
    if kernel == "laplacian":
        return np.exp(-np.abs(difference).sum(axis=-1) / LENGTH)
    return np.exp(-(difference**2).sum(axis=-1) / 2 / LENGTH**2)


def fitted(kernel: str, x: np.ndarray, y: np.ndarray, **settings) -> KernelRidge:
    values = {"length_scale": LENGTH, "noise": NOISE, "signal": SIGNAL, **settings}
    return KernelRidge(kernel=kernel, **values).fit(x, y)  # type: ignore[arg-type]


# Against others


@every_kernel
def test_predictions_are_scikit_learn_s(kernel, rng):
    x, y = problem(rng)
    new = rng.normal(size=(25, 4))
    name, gamma = ("laplacian", 1 / LENGTH) if kernel == "laplacian" else ("rbf", 0.5 / LENGTH**2)
    settings: Any = {"alpha": (NOISE / SIGNAL) ** 2, "kernel": name, "gamma": gamma}
    theirs = Sklearns(**settings).fit(x, y)
    ours = fitted(kernel, x, y, centre=False)
    assert np.abs(ours.predict(new) - theirs.predict(new)).max() < 1e-9


def test_the_process_is_scikit_learn_s(rng):
    """Mean, standard deviation and likelihood of `GaussianProcessRegressor`."""
    x, y = problem(rng)
    new = rng.normal(size=(25, 4))
    kernel = ConstantKernel(SIGNAL**2) * RBF(LENGTH) + WhiteKernel(NOISE**2)
    settings: Any = {"optimizer": None, "alpha": 0.0}
    theirs = GaussianProcessRegressor(kernel, **settings).fit(x, y - y.mean())
    mean, std = theirs.predict(new, return_std=True)
    ours = fitted("gaussian", x, y)
    our_mean, our_std = ours.predict(new, return_std=True)
    assert np.abs(our_mean - mean - y.mean()).max() < 1e-9
    assert np.abs(np.hypot(our_std, NOISE) - std).max() < 1e-9  # theirs is of a label
    likelihood = theirs.log_marginal_likelihood_value_
    assert ours.log_marginal_likelihood() == pytest.approx(likelihood, rel=1e-10)


@every_kernel
def test_the_posterior_is_the_formula_s(kernel, rng):
    """By explicit inverse and determinant."""
    x, y = problem(rng)
    new = rng.normal(size=(25, 4))
    covariance = SIGNAL**2 * brute_force_kernel(x, x, kernel) + NOISE**2 * np.eye(len(x))
    cross = SIGNAL**2 * brute_force_kernel(new, x, kernel)
    inverse, centred = np.linalg.inv(covariance), y - y.mean()
    variance = SIGNAL**2 - np.einsum("ri,ij,rj->r", cross, inverse, cross)
    mean, std = fitted(kernel, x, y).predict(new, return_std=True)
    assert np.abs(mean - y.mean() - cross @ inverse @ centred).max() < 1e-9
    assert np.abs(std - np.sqrt(variance)).max() < 1e-9
    _, determinant = np.linalg.slogdet(covariance)
    expected = -0.5 * (centred @ inverse @ centred + determinant + len(y) * log(2 * pi))
    likelihood = fitted(kernel, x, y).log_marginal_likelihood()
    assert likelihood == pytest.approx(expected, rel=1e-10)


def test_one_label_in_closed_form():
    """n = 1: mean s²k y/(s² + σ²), variance s² − s⁴k²/(s² + σ²)."""
    model = fitted("laplacian", np.zeros((1, 2)), np.array([2.0]), centre=False)
    k, total = np.exp(-3 / LENGTH), SIGNAL**2 + NOISE**2
    mean, std = model.predict(np.array([[1.0, -2.0]]), return_std=True)
    assert mean[0] == pytest.approx(SIGNAL**2 * k * 2 / total, rel=1e-12)
    assert std[0] ** 2 == pytest.approx(SIGNAL**2 - SIGNAL**4 * k**2 / total, rel=1e-12)
    expected = -0.5 * (4 / total + log(2 * pi * total))
    assert model.log_marginal_likelihood() == pytest.approx(expected, rel=1e-12)


# Kernels


@every_kernel
def test_kernel_matrices_are_positive_definite(kernel, rng):
    """Down to −n ε, rounding: also with rows that are nearly, or exactly, the same."""
    x = rng.normal(size=(200, 4))
    x = np.concatenate([x, x + 1e-9 * rng.normal(size=x.shape), x])
    k = kernel_values(distances(x, x, kernel), kernel, LENGTH)
    assert np.array_equal(k, k.T)
    assert np.linalg.eigvalsh(k).min() > -len(x) * np.finfo(float).eps


@every_kernel
def test_blocks_change_nothing(kernel, rng, monkeypatch):
    x, y = problem(rng)
    new = rng.normal(size=(23, 4))
    whole = distances(x, x, kernel), fitted(kernel, x, y).predict(new, return_std=True)
    monkeypatch.setattr(kernel_ridge, "BLOCK", 7 * len(x))
    blocks = distances(x, x, kernel), fitted(kernel, x, y).predict(new, return_std=True)
    assert np.array_equal(whole[0], blocks[0])
    assert np.abs(np.array(whole[1]) - np.array(blocks[1])).max() < 1e-12


def test_small_distances_keep_their_digits():
    """1e-9 at 1e3 from the origin; from dot products nothing would be left of it."""
    x = np.array([[1e3], [1e3 + 1e-9]])
    assert distances(x, x, "gaussian")[0, 1] == pytest.approx(x[1, 0] - x[0, 0], rel=1e-12)


# Hyper-parameters


@every_kernel
def test_gradient_of_the_likelihood(kernel, rng):
    x, y = problem(rng)
    d, centred, h = distances(x, x, kernel), y - y.mean(), 1e-3
    at = np.log([LENGTH, SIGNAL, NOISE / SIGNAL])

    def value(theta):
        return log_marginal_likelihood(d, centred, kernel, *np.exp(theta))[0]

    _, gradient = log_marginal_likelihood(d, centred, kernel, *np.exp(at))
    for e, exact in zip(np.eye(3), gradient, strict=True):
        near, far = (value(at + n * h * e) - value(at - n * h * e) for n in (1, 2))
        assert (8 * near - far) / 12 / h == pytest.approx(exact, rel=1e-8)


@every_kernel
def test_tuning_finds_the_top(kernel, rng):
    """The gradient is zero there, and it is above where it began; noise comes out as planted."""
    x, y = problem(rng, 200)
    tuned = fitted(kernel, x, y, tune="marginal-likelihood")
    ratio = tuned.noise_ / tuned.signal_
    found = (tuned.length_scale_, tuned.signal_, ratio)
    value, gradient = log_marginal_likelihood(distances(x, x, kernel), y - y.mean(), kernel, *found)
    assert np.abs(gradient).max() < 0.05
    assert value == pytest.approx(tuned.log_marginal_likelihood(), rel=1e-9)
    assert value > fitted(kernel, x, y).log_marginal_likelihood()
    if kernel == "gaussian":
        assert tuned.noise_ == pytest.approx(0.1, rel=0.3)


def test_it_is_a_scikit_learn_regressor(rng):
    x, y = problem(rng)
    grid = {"length_scale": [1.0, 3.0], "kernel": KERNELS, "noise": [0.1, 10.0]}
    search = GridSearchCV(KernelRidge(), grid, scoring="neg_mean_absolute_error", cv=3).fit(x, y)
    assert search.best_params_["noise"] == 0.1
    best: Any = search.best_estimator_
    assert isinstance(best, KernelRidge)
    copy: Any = clone(best)
    assert copy.get_params() == best.get_params()
    assert not hasattr(copy, "alpha_")
    assert best.score(x, y) > 0.9


# Bad input


def test_labels_that_contradict_each_other_are_refused(rng):
    """Planted: the same features twice, labels 30 σ apart. One σ apart is noise."""
    x, y = problem(rng)
    x[41], y[41] = x[7], y[7] + 30 * NOISE
    with pytest.raises(InputError, match="contradict each other: 1 pairs") as caught:
        fitted("laplacian", x, y)
    assert "rows 7 and 41" in str(caught.value)
    y[41] = y[7] + NOISE
    fitted("laplacian", x, y)


@pytest.mark.slow
@every_kernel
def test_contradictions_survive_rounding_and_tuning(kernel, rng):
    """The features of a turned molecule are the same to 1e-13; tuned noise is no excuse for one
    wrong label among 200."""
    x, y = problem(rng, 200)
    x[41], y[41] = x[7] * (1 + 1e-13), y[7] + 100
    with pytest.raises(InputError, match="contradict"):
        fitted(kernel, x, y)
    y[41] = y[7] + 3
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    y[41] += 100
    with pytest.raises(InputError, match="contradict"):
        fitted(kernel, x, y, tune="marginal-likelihood")


@pytest.mark.parametrize("noise", [0.0, -0.1, np.nan])
def test_noise_must_be_positive(noise, rng):
    with pytest.raises(ConfigError, match="noise must be positive"):
        fitted("laplacian", *problem(rng), noise=noise)


def test_noise_that_is_lost_in_rounding_is_refused(rng):
    """A very smooth kernel is singular in float64; nothing is added in silence."""
    with pytest.raises(ConfigError, match="lost in rounding"):
        fitted("gaussian", *problem(rng), length_scale=1e4, noise=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": "cubic"}, "kernel is not known"),
        ({"length_scale": -1.0}, "length_scale must be positive"),
        ({"tune": "luck"}, "tune is not known"),
    ],
)
def test_settings_without_sense_are_refused(settings, message, rng):
    with pytest.raises(ConfigError, match=message):
        KernelRidge(**settings).fit(*problem(rng))


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(which, value, rng):
    x, y = problem(rng)
    if which == "x":
        x[3, 1] = value
    else:
        y[3] = value
    with pytest.raises(InputError, match=r"not finite(.|\n)*row 3"):
        fitted("laplacian", x, y)


def test_shapes_that_do_not_fit_are_refused(rng):
    x, y = problem(rng)
    with pytest.raises(InputError, match="do not fit"):
        fitted("laplacian", x, y[:-1])
    with pytest.raises(InputError, match="at least one"):
        fitted("laplacian", x[:0], y[:0])
    with pytest.raises(InputError, match="wrong shape"):
        fitted("laplacian", x[0], y)
    with pytest.raises(InputError, match="not an array of numbers"):
        fitted("laplacian", [["H"]], [1.0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="number of features differs"):
        fitted("laplacian", x, y).predict(x[:, :2])


def test_nothing_to_tune_by_is_refused(rng):
    x, y = problem(rng)
    for what, a, b in (("labels", x, np.ones_like(y)), ("features", np.ones_like(x), y)):
        with pytest.raises(InputError, match=f"all {what} are the same"):
            fitted("laplacian", a, b, tune="marginal-likelihood")
