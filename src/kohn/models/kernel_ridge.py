r"""Fit kernel ridge regression exactly: the mean of a Gaussian process, with its variance.

    y_i = m + f(x_i) + ε_i,    f ~ GP(0, s² k),    ε ~ N(0, σ²)

    Laplacian  k(x, x') = exp(−|x − x'|_1 / ℓ)
    Gaussian   k(x, x') = exp(−|x − x'|_2² / 2ℓ²)

    A = K + (σ/s)² 1 = L Lᵀ                             Cholesky, float64
    α = A⁻¹ (y − m)
    mean(x) = m + k(x)·α
    var(x)  = s² (1 − |L⁻¹ k(x)|²)                      variance of f, without label noise
    log p(y) = −(y − m)·α/2s² − log|L| − n/2 log 2πs²   marginal likelihood

x are the features of a structure; y is one number for each structure, in any unit, also that of s
and σ; ℓ has the unit of the features. Kernel ridge regression calls (σ/s)² λ or alpha.

Memory. The exact solution stores K: 8 n² bytes, and three times as much while hyper-parameters are
tuned (n = 10,000: 0.8 and 2.4 GB). Distances and predictions are computed in blocks.

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
"""The number of kernel values in a block: 32 MB."""
SAME_FEATURES = 1e-10
"""Rows of features x are the same if their distance is below this fraction of the largest |x|."""
CONTRADICTION = 5 * sqrt(2)
"""Labels of the same features contradict each other if they differ by more than this times σ."""


class KernelRidge(RegressorMixin, BaseEstimator):
    """Kernel ridge regression; the docstring of its module gives the equations.

    Args:
        kernel: "laplacian" or "gaussian".
        length_scale: ℓ, in the unit of the features.
        noise: σ, standard deviation of the noise of labels, in the unit of y; above zero.
        signal: s, prior standard deviation of f, in the unit of y. Predictions depend only on σ/s,
            and their standard deviation is proportional to s.
        centre: m is the mean of the labels (True) or zero (False).
        tune: "marginal-likelihood" maximises the marginal likelihood over ℓ, s and σ, starting from
            the given values; None uses the given values.

    Attributes:
        length_scale_, noise_, signal_: ℓ, σ and s of the fit.
        mean_: m, the mean of the labels, or 0. alpha_: α, [n]. X_fit_: features of the fit, [n, D].
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
        """Fit the model to features and labels: solve for the weights α.

        Args:
            X: features [n, D]. y: labels [n].

        Raises:
            InputError: shapes that do not fit, numbers that are not finite, or labels that
                contradict each other.
            ConfigError: ℓ, σ or s is not positive, or σ is too small to solve the equations.
        """
        self._check_settings()
        x, y = finite(X, "X", 2), finite(y, "y", 1)
        if len(x) != len(y) or not len(x):
            raise InputError(
                "features and labels do not fit",
                expected="one label for each row of features, at least one row",
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
        """Return the mean [rows] or, with `return_std`, mean and standard deviation of f [rows].

        Raises:
            InputError: numbers that are not finite, or another number of features than in the fit.
        """
        check_is_fitted(self)
        x = finite(X, "X", 2)
        if x.shape[1] != self.n_features_in_:
            raise InputError(
                "the number of features differs from the fit",
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
        """Return log p(y) of the labels y of the fit, with the fitted hyper-parameters."""
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
    """The solution for given labels: L [n, n], lower triangular, α [n], and y − m [n]."""

    factor: np.ndarray
    alpha: np.ndarray
    y: np.ndarray

    def variance(self, k: np.ndarray) -> np.ndarray:
        """Compute 1 − |L⁻¹ k(x)|², the variance over s², for rows k(x) [rows, n]; at least zero."""
        whitened = solve_triangular(self.factor, k.T, lower=True, check_finite=False)
        return np.maximum(1.0 - np.einsum("nr,nr->r", whitened, whitened), 0.0)

    def log_likelihood(self, signal: float) -> float:
        """Return −y·α/2s² − log|L| − n/2 log 2πs², the log likelihood of y with the signal s."""
        quadratic = 0.5 * float(self.y @ self.alpha) / signal**2
        log_determinant = float(np.sum(np.log(np.diag(self.factor))))
        return -quadratic - log_determinant - 0.5 * len(self.y) * log(2 * pi * signal**2)


def solve(k: np.ndarray, y: np.ndarray, ratio: float) -> Posterior:
    """Compute α = (K + ratio² 1)⁻¹ y and L Lᵀ = K + ratio² 1; the kernels K [n, n] are overwritten.

    Args:
        ratio: σ/s.

    Raises:
        ConfigError: σ/s is so small that the matrix is not positive definite in float64.
    """
    k[np.diag_indices_from(k)] += ratio**2
    try:
        factor = cholesky(k.T, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise ConfigError(
            "the kernel matrix is not positive definite: the noise is lost in rounding",
            expected=f"noise/signal of about {sqrt(len(y) * 1e-16):.0e} or more",
            received=f"{ratio:.1e}",
            fix="raise noise; Kohn adds nothing else to the diagonal",
        ) from None
    return Posterior(factor, cho_solve((factor, True), y, check_finite=False), y)


def distances(a: np.ndarray, b: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Compute |a_i − b_j| in the norm of the kernel (Laplacian: L1, Gaussian: L2), [A, B].

    Differences are used, not dot products, so that small distances keep all their digits.
    """
    d = np.empty((len(a), len(b)))
    step = max(1, BLOCK // max(len(b), 1))
    for start in range(0, len(a), step):
        first = start if a is b else 0  # earlier columns are filled already, by symmetry
        block = cdist(a[start : start + step], b[first:], METRICS[kernel])
        d[start : start + step, first:] = block
        if a is b:
            d[first:, start : start + step] = block.T
    return d


def kernel_values(
    d: np.ndarray, kernel: Kernel, length_scale: float, out: np.ndarray | None = None
) -> np.ndarray:
    """Compute exp(−d/ℓ) (Laplacian) or exp(−d²/2ℓ²) (Gaussian); in place if `out` is d."""
    scaled = np.multiply(d, 1.0 / length_scale, out=out)
    if kernel == "gaussian":
        scaled *= scaled
        scaled *= 0.5
    np.negative(scaled, out=scaled)
    return np.exp(scaled, out=scaled)


def log_marginal_likelihood(
    d: np.ndarray, y: np.ndarray, kernel: Kernel, length_scale: float, signal: float, ratio: float
) -> tuple[float, np.ndarray]:
    """Compute log p(y) of labels y, and its derivatives by log ℓ, log s and log σ/s, [3].

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
    # A⁻¹ overwrites L, lower half only; its upper half and the diagonal of the slope are zero
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
    """Return the ℓ, s and σ that maximise the marginal likelihood: the better of two searches.

    One starts from `start`, one from the median distance and the spread of the labels. σ/s stays
    above 10⁻⁶, where Cholesky still works, and ℓ within a factor 10⁴ of the median distance.

    Raises:
        InputError: all labels, or all features, are the same.
    """
    median, spread = float(np.median(d[d > 0])) if (d > 0).any() else 0.0, float(np.std(y))
    if spread == 0 or median == 0:
        raise InputError(
            "hyper-parameters cannot be tuned: all "
            + ("labels are the same" if spread == 0 else "features are the same"),
            fix="give the hyper-parameters, with tune=None",
        )

    def maximised(point: tuple[float, float, float]) -> Any:
        low = np.log([median, spread, 1e-6]) - np.array([9, 9, 0])
        high = np.log([median, spread, 20.0]) + np.array([9, 9, 0])
        guess, bounds = np.clip(np.log(point), low, high), np.stack([low, high], axis=1)
        return minimize(_loss, guess, (d, y, kernel), "L-BFGS-B", jac=True, bounds=bounds)

    length, signal, noise = start
    best = min(
        (maximised((length, signal, noise / signal)), maximised((median, spread, 1e-2))),
        key=lambda result: result.fun,
    )
    length, signal, ratio = (float(v) for v in np.exp(best.x))
    return length, signal, signal * ratio


def _loss(
    theta: np.ndarray, d: np.ndarray, y: np.ndarray, kernel: Kernel
) -> tuple[float, np.ndarray]:
    """Return −log p(y)/n and its gradient by `theta`, (log ℓ, log s, log σ/s)."""
    length, signal, ratio = np.exp(theta)
    value, gradient = log_marginal_likelihood(d, y, kernel, length, signal, ratio)
    return -value / len(y), -gradient / len(y)


def refuse_contradictions(
    d: np.ndarray, x: np.ndarray, y: np.ndarray, noise: float, kernel: Kernel
) -> None:
    """Refuse rows with the same features whose labels differ by more than noise.

    Raises:
        InputError: labels of the same features differ by more than 5√2 σ.
    """
    order = 1 if kernel == "laplacian" else 2
    tolerance = SAME_FEATURES * float(np.linalg.norm(x, ord=order, axis=1).max())
    conflicts = [
        (float(abs(y[i] - y[j])), i, int(j))
        for i in range(len(y) - 1)
        for j in i + 1 + np.flatnonzero(d[i, i + 1 :] <= tolerance)
        if abs(y[i] - y[j]) > CONTRADICTION * noise
    ]
    if conflicts:
        worst, i, j = max(conflicts)
        raise InputError(
            f"labels contradict each other: {len(conflicts)} pairs of rows have the same features "
            "but labels that differ by more than noise",
            expected=f"at most {CONTRADICTION * noise:.3g} apart (5√2 of the noise {noise:.3g})",
            received=f"rows {i} and {j}: {y[i]:.10g} and {y[j]:.10g}, {worst:.3g} apart",
            fix="remove the wrong labels, or raise noise if labels are that uncertain",
        )


def finite(values: object, name: str, dimensions: int) -> np.ndarray:
    """Return the values as a float64 array of `dimensions` dimensions; all must be finite.

    Raises:
        InputError: the values do not form such an array.
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
