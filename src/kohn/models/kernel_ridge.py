r"""Kernel ridge regression, exact: the mean of a Gaussian process, with its variance.

    y_i = m + f(x_i) + ε_i,    f ~ GP(0, s² k),    ε ~ N(0, σ²)

    Laplacian  k(x, x') = exp(−|x − x'|_1 / ℓ)
    Gaussian   k(x, x') = exp(−|x − x'|_2² / 2ℓ²)

    A = K + (σ/s)² 1 = L Lᵀ                             Cholesky, float64
    α = A⁻¹ (y − m)
    mean(x) = m + k(x)·α
    var(x)  = s² (1 − |L⁻¹ k(x)|²)                      of f, without the noise of a label
    log p(y) = −(y − m)·α/2s² − log|L| − n/2 log 2πs²   marginal likelihood

x: features of a whole structure; y: one number each, in any unit, of which s and σ are; ℓ in the
unit of the features. (σ/s)² is what kernel ridge regression calls λ or alpha.

Memory. K is what exactness costs: 8 n² bytes, three times that while hyper-parameters are tuned
(n = 10,000: 0.8 and 2.4 GB). Distances and predictions are computed in blocks.

Sources: Rasmussen, Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1 and
eq. 5.9; Laplacian for Coulomb matrices: Hansen et al., J. Chem. Theory Comput. 9, 3404 (2013).
"""

from dataclasses import dataclass
from math import inf, log, pi, sqrt
from typing import Any, Literal, Self

import numpy as np
from scipy.linalg import cho_solve, cholesky, get_lapack_funcs, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from kohn.errors import ConfigError, InputError

Kernel = Literal["laplacian", "gaussian"]
METRICS: dict[str, Literal["cityblock", "euclidean"]] = {
    "laplacian": "cityblock",
    "gaussian": "euclidean",
}
BLOCK = 2**22
"""Kernel values in a block: 32 MB."""
SAME = 1e-10
"""Features whose distance is a smaller share of the largest |x| are the same."""
BEYOND = 5 * sqrt(2)
"""Labels of the same features contradict each other when further apart, in units of σ."""


class KernelRidge(RegressorMixin, BaseEstimator):
    """Kernel ridge regression; see the module for the equations.

    Args:
        kernel: "laplacian" or "gaussian".
        length_scale: ℓ, in the unit of the features.
        noise: σ, standard deviation of the noise of labels, in the unit of y; above zero.
        signal: s, standard deviation of f before any label, in the unit of y. Predictions depend
            on σ/s alone, and their standard deviation is proportional to s.
        centre: m is the mean of the labels (True) or zero.
        tune: "marginal-likelihood" maximises it over ℓ, s and σ, from the values given; None
            takes them as they are.

    Attributes:
        length_scale_, noise_, signal_: those in use.
        mean_: m. alpha_: α, [n]. X_fit_: features that it was fitted to, [n, D].
    """

    def __init__(
        self,
        kernel: Kernel = "laplacian",
        length_scale: float = 1.0,
        noise: float = 1e-2,
        signal: float = 1.0,
        centre: bool = True,
        tune: Literal["marginal-likelihood"] | None = None,
    ):
        self.kernel: Kernel = kernel
        self.length_scale = length_scale
        self.noise = noise
        self.signal = signal
        self.centre = centre
        self.tune = tune

    def fit(self, X: object, y: object) -> Self:
        """Solve for α.

        Args:
            X: features [n, D]. y: labels [n].

        Raises:
            InputError: shapes that do not fit, numbers that are not finite, labels that
                contradict each other.
            ConfigError: ℓ, σ or s that is not positive, or σ too small to solve with.
        """
        self._check_settings()
        x, y = finite(X, "X", 2), finite(y, "y", 1)
        if len(x) != len(y) or not len(x):
            raise InputError(
                "features and labels do not fit",
                expected="as many labels as rows of features, at least one",
                received=f"{len(x)} rows and {len(y)} labels",
            )
        self.n_features_in_ = x.shape[1]
        self.mean_ = float(y.mean()) if self.centre else 0.0
        self.X_fit_ = x
        self.length_scale_, self.signal_, self.noise_ = self.length_scale, self.signal, self.noise
        d = distances(x, x, self.kernel)
        if self.tune is not None:
            start = (self.length_scale, self.signal, self.noise)
            tuned = tuned_by_likelihood(d, y - self.mean_, self.kernel, start)
            self.length_scale_, self.signal_, self.noise_ = tuned
        refuse_contradictions(d, x, y, self.noise_, self.kernel)
        k = kernel_values(d, self.kernel, self.length_scale_, out=d)
        self._posterior = solve(k, y - self.mean_, self.noise_ / self.signal_)
        self.alpha_ = self._posterior.alpha
        return self

    def predict(self, X: object, return_std: bool = False) -> Any:
        """The mean [rows], and with `return_std` also the standard deviation of f [rows].

        Raises:
            InputError: not as many features as in the fit, or numbers that are not finite.
        """
        check_is_fitted(self)
        x = finite(X, "X", 2)
        if x.shape[1] != self.n_features_in_:
            raise InputError(
                "other features than those of the fit",
                expected=f"{self.n_features_in_} columns",
                received=f"{x.shape[1]}",
            )
        mean, std = np.empty(len(x)), np.empty(len(x))
        step = max(1, BLOCK // len(self.X_fit_))
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            d = distances(x[rows], self.X_fit_, self.kernel)
            k = kernel_values(d, self.kernel, self.length_scale_, out=d)
            mean[rows] = self.mean_ + k @ self.alpha_
            if return_std:
                std[rows] = self.signal_ * np.sqrt(self._posterior.variance(k))
        return (mean, std) if return_std else mean

    def log_marginal_likelihood(self) -> float:
        """log p(y) of the labels fitted to, with the hyper-parameters in use."""
        check_is_fitted(self)
        return self._posterior.log_likelihood(self.signal_)

    def _check_settings(self) -> None:
        if self.kernel not in METRICS:
            raise ConfigError(
                "kernel is not known",
                expected="one of laplacian, gaussian",
                received=repr(self.kernel),
            )
        if self.tune not in (None, "marginal-likelihood"):
            raise ConfigError(
                "tune is not known",
                expected="'marginal-likelihood' or None",
                received=repr(self.tune),
            )
        for name in ("length_scale", "noise", "signal"):
            value = getattr(self, name)
            if not 0 < value < inf:
                raise ConfigError(
                    f"{name} must be positive", expected="a number above 0", received=repr(value)
                )


@dataclass(frozen=True, eq=False)
class Posterior:
    """What conditioning on labels gives: L [n, n] (lower), α [n], and y − m [n]."""

    factor: np.ndarray
    alpha: np.ndarray
    y: np.ndarray

    def variance(self, k: np.ndarray) -> np.ndarray:
        """1 − |L⁻¹ k(x)|² for rows k(x) [rows, n]; rounding below zero is zero."""
        whitened = solve_triangular(self.factor, k.T, lower=True, check_finite=False)
        return np.maximum(1.0 - np.einsum("nr,nr->r", whitened, whitened), 0.0)

    def log_likelihood(self, signal: float) -> float:
        """−y·α/2s² − log|L| − n/2 log 2πs²."""
        quadratic = 0.5 * float(self.y @ self.alpha) / signal**2
        log_determinant = float(np.sum(np.log(np.diag(self.factor))))
        return -quadratic - log_determinant - 0.5 * len(self.y) * log(2 * pi * signal**2)


def solve(k: np.ndarray, y: np.ndarray, ratio: float) -> Posterior:
    """L Lᵀ = K + ratio² 1 and α = (K + ratio² 1)⁻¹ y. K [n, n] is overwritten.

    Args:
        ratio: σ/s.

    Raises:
        ConfigError: the matrix is not positive definite in float64, because σ/s is too small.
    """
    k[np.diag_indices_from(k)] += ratio**2
    try:
        factor = cholesky(k.T, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise ConfigError(
            "the kernel matrix is not positive definite: the noise is lost in rounding",
            expected=f"noise/signal of about {sqrt(len(y) * 1e-16):.0e} or more",
            received=f"{ratio:.1e}",
            fix="raise noise; nothing is added to the diagonal unasked",
        ) from None
    return Posterior(factor, cho_solve((factor, True), y, check_finite=False), y)


def distances(a: np.ndarray, b: np.ndarray, kernel: Kernel) -> np.ndarray:
    """|a_i − b_j| in the norm of the kernel (L1 for Laplacian, L2 for Gaussian), [A, B].

    From differences, not from dot products, so that small distances have all their digits.
    """
    d = np.empty((len(a), len(b)))
    step = max(1, BLOCK // max(len(b), 1))
    for start in range(0, len(a), step):
        first = start if a is b else 0  # the rest is there already, mirrored
        block = cdist(a[start : start + step], b[first:], METRICS[kernel])
        d[start : start + step, first:] = block
        if a is b:
            d[first:, start : start + step] = block.T
    return d


def kernel_values(
    d: np.ndarray, kernel: Kernel, length_scale: float, out: np.ndarray | None = None
) -> np.ndarray:
    """exp(−d/ℓ) for Laplacian, exp(−d²/2ℓ²) for Gaussian; in place where `out` is d."""
    scaled = np.multiply(d, 1.0 / length_scale, out=out)
    if kernel == "gaussian":
        scaled *= scaled
        scaled *= 0.5
    np.negative(scaled, out=scaled)
    return np.exp(scaled, out=scaled)


def log_marginal_likelihood(
    d: np.ndarray, y: np.ndarray, kernel: Kernel, length_scale: float, signal: float, ratio: float
) -> tuple[float, np.ndarray]:
    """log p(y), and its derivatives by log ℓ, log s and log σ/s, [3].

        ∂/∂θ log p = ½ tr((α αᵀ/s² − A⁻¹) ∂A/∂θ),   ∂/∂log s log p = y·α/s² − n

    Args:
        d: distances [n, n]. y: labels without their mean [n]. ratio: σ/s.

    Raises:
        ConfigError: see `solve`.
    """
    k = kernel_values(d, kernel, length_scale)
    slope = k * d
    if kernel == "gaussian":
        slope *= d
    slope /= length_scale if kernel == "laplacian" else length_scale**2
    posterior = solve(k, y, ratio)
    alpha, n = posterior.alpha, len(y)
    # A⁻¹ over L, its lower half; the other holds zeros, and so does the diagonal of the slope
    (invert,) = get_lapack_funcs(("potri",), (posterior.factor,))
    value = posterior.log_likelihood(signal)
    inverse, _ = invert(posterior.factor, lower=1, overwrite_c=1)
    by_length = alpha @ slope @ alpha / signal**2 - 2 * np.einsum("ij,ij->", inverse, slope)
    by_ratio = 2 * ratio**2 * (alpha @ alpha / signal**2 - np.trace(inverse))
    by_signal = 2 * (y @ alpha / signal**2 - n)
    gradient = 0.5 * np.array([by_length, by_signal, by_ratio])
    return value, gradient


def tuned_by_likelihood(
    d: np.ndarray, y: np.ndarray, kernel: Kernel, start: tuple[float, float, float]
) -> tuple[float, float, float]:
    """ℓ, s, σ that maximise the marginal likelihood: the better of two climbs.

    One climbs from `start`, one from the median distance and the spread of the labels. σ/s stays
    above 10⁻⁶, where Cholesky still holds, and ℓ within 10⁴ times the median distance.

    Raises:
        InputError: labels that are all the same, or features that are.
    """
    median, spread = float(np.median(d[d > 0])) if (d > 0).any() else 0.0, float(np.std(y))
    if spread == 0 or median == 0:
        raise InputError(
            "nothing to tune hyper-parameters by: all "
            + ("labels are the same" if spread == 0 else "features are the same"),
            fix="give hyper-parameters, with tune=None",
        )

    def climbed(point: tuple[float, float, float]) -> Any:
        low = np.log([median, spread, 1e-6]) - np.array([9, 9, 0])
        high = np.log([median, spread, 20.0]) + np.array([9, 9, 0])
        guess, bounds = np.clip(np.log(point), low, high), np.stack([low, high], axis=1)
        return minimize(_loss, guess, (d, y, kernel), "L-BFGS-B", jac=True, bounds=bounds)

    length, signal, noise = start
    best = min(
        (climbed((length, signal, noise / signal)), climbed((median, spread, 1e-2))),
        key=lambda found: found.fun,
    )
    length, signal, ratio = (float(v) for v in np.exp(best.x))
    return length, signal, signal * ratio


def _loss(
    theta: np.ndarray, d: np.ndarray, y: np.ndarray, kernel: Kernel
) -> tuple[float, np.ndarray]:
    """−log p(y)/n and its gradient by (log ℓ, log s, log σ/s)."""
    length, signal, ratio = np.exp(theta)
    value, gradient = log_marginal_likelihood(d, y, kernel, length, signal, ratio)
    return -value / len(y), -gradient / len(y)


def refuse_contradictions(
    d: np.ndarray, x: np.ndarray, y: np.ndarray, noise: float, kernel: Kernel
) -> None:
    """Rows with the same features must have labels that differ by noise at most.

    Raises:
        InputError: labels of the same features further than 5√2 σ apart.
    """
    order = 1 if kernel == "laplacian" else 2
    tolerance = SAME * float(np.linalg.norm(x, ord=order, axis=1).max())
    found = [
        (float(abs(y[i] - y[j])), i, int(j))
        for i in range(len(y) - 1)
        for j in i + 1 + np.flatnonzero(d[i, i + 1 :] <= tolerance)
        if abs(y[i] - y[j]) > BEYOND * noise
    ]
    if found:
        worst, i, j = max(found)
        raise InputError(
            f"labels contradict each other: {len(found)} pairs of rows have the same features "
            "and labels further apart than noise",
            expected=f"at most {BEYOND * noise:.3g} apart (5√2 of the noise {noise:.3g})",
            received=f"rows {i} and {j}: {y[i]:.10g} and {y[j]:.10g}, {worst:.3g} apart",
            fix="remove the wrong labels, or raise noise if labels are that uncertain",
        )


def finite(values: object, name: str, dimensions: int) -> np.ndarray:
    """As a float64 array of that many dimensions, all of it finite.

    Raises:
        InputError: if it is not.
    """
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} is not an array of numbers", received=f"{type(values).__name__}: {error}"
        ) from None
    if array.ndim != dimensions:
        raise InputError(
            f"{name} has the wrong shape",
            expected=f"{dimensions} dimensions",
            received=f"shape {array.shape}",
        )
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        raise InputError(
            f"{name} has numbers that are not finite",
            received=f"{int(bad.sum())} of them, the first in row {row}",
            fix="remove these rows",
        )
    return array
