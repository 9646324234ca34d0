"""Compare probabilities with outcomes: p is the probability of an event, y = 1 if it happened:

    Brier = mean (p − y)²          log score = −mean [y ln p + (1 − y) ln (1 − p)]
    ECE = Σ_b n_b/n |p̄_b − ȳ_b|    b: bins of p; p̄_b, ȳ_b: the means in bin b

Source: Wilson, J. Am. Stat. Assoc. 22, 209 (1927), for intervals of ȳ_b; Naeini et al., AAAI 2015,
for ECE.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from kohn.errors import InputError
from kohn.typing import Float, Int


@dataclass(frozen=True, eq=False)
class Calibration:
    """The agreement of probabilities with outcomes. Values of empty bins are NaN.

    Attributes:
        brier: mean squared error of p.
        log_score: mean −ln of the probability of the outcome; infinite if one of them was 0.
        expected_error: ECE, with these bins.
        edges: of the bins, [B + 1]; a bin includes its lower edge, the last bin both edges.
        counts: n_b, [B].
        predicted: p̄_b, [B].
        observed: ȳ_b, [B].
        interval: the Wilson interval of ȳ_b, [B, 2].
    """

    brier: float
    log_score: float
    expected_error: float
    edges: Float[np.ndarray, " B+1"]
    counts: Int[np.ndarray, " B"]
    predicted: Float[np.ndarray, " B"]
    observed: Float[np.ndarray, " B"]
    interval: Float[np.ndarray, "B 2"]


def calibration(
    probability: Float[np.ndarray, " M"],
    happened: np.ndarray,
    *,
    bins: int = 10,
    confidence: float = 0.95,
    samples: int | None = None,
) -> Calibration:
    """Compute the calibration of the probabilities of events.

    Args:
        probability: p of each event.
        happened: whether each event happened.
        bins: number of bins of equal width.
        confidence: confidence level of the intervals.
        samples: number of samples from which p was counted, S. Then 0 and 1 are not certain: in
            the log score, p is replaced by (S p + ½)/(S + 1).

    Raises:
        InputError: there are no events, shapes differ, or a probability is not between 0 and 1.
    """
    p, y = np.asarray(probability, float), np.asarray(happened, bool)
    if p.shape != y.shape or p.ndim != 1 or len(p) == 0:
        raise InputError(
            "probabilities and outcomes do not fit",
            expected="two arrays [M]",
            received=f"shapes {list(p.shape)} and {list(y.shape)}",
        )
    if not ((p >= 0) & (p <= 1)).all():
        wrong = p[~((p >= 0) & (p <= 1))][0]
        raise InputError("a probability is between 0 and 1", received=str(wrong))
    edges = np.linspace(0.0, 1.0, bins + 1)
    bin_ = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, bins - 1)
    counts = np.bincount(bin_, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        predicted = np.bincount(bin_, p, bins) / counts
        observed = np.bincount(bin_, y, bins) / counts
        softened = p if samples is None else (samples * p + 0.5) / (samples + 1)
        log_score = -np.log(np.where(y, softened, 1 - softened)).mean()
    gaps = np.abs(predicted - observed)[counts > 0]
    return Calibration(
        brier=float(((p - y) ** 2).mean()),
        log_score=float(log_score),
        expected_error=float((counts[counts > 0] * gaps).sum() / len(p)),
        edges=edges,
        counts=counts,
        predicted=predicted,
        observed=observed,
        interval=wilson(observed, counts, confidence),
    )


def wilson(
    share: Float[np.ndarray, " B"], counts: Int[np.ndarray, " B"], confidence: float = 0.95
) -> Float[np.ndarray, "B 2"]:
    """Return the interval that contains the true share with this confidence; NaN without counts."""
    z2 = float(ndtri(0.5 + confidence / 2)) ** 2
    n = np.where(counts > 0, counts, np.nan)
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return np.stack([middle - half, middle + half], axis=1)
