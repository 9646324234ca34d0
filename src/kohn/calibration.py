"""Compare probabilities p of events with outcomes y: 1 if the event happened, else 0.

    Brier = mean (p − y)²          log score = −mean [y ln p + (1 − y) ln (1 − p)]
    ECE = Σ_b n_b/n |p̄_b − ȳ_b|    n_b of n events have p in bin b; p̄_b, ȳ_b: their means

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
    """The agreement of probabilities p with outcomes y (1 if an event happened, else 0).

    Attributes:
        brier: mean of (p − y)².
        log_score: mean −ln of the probability of what happened; infinite if one of these is 0.
        expected_error: expected calibration error, Σ_b n_b/n |p̄_b − ȳ_b| over bins b of p.
        edges: edges of the bins, [B + 1]; a bin includes its lower edge, the last bin both edges.
        counts: number n_b of events in each bin, [B].
        predicted: mean probability p̄_b in each bin, [B]; NaN in empty bins.
        observed: share ȳ_b of the events in each bin that happened, [B]; NaN in empty bins.
        interval: Wilson's confidence interval of ȳ_b, [B, 2]; NaN in empty bins.
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
    """Compute how well the probabilities of events agree with what happened.

    Args:
        probability: probability p of each event.
        happened: whether each event happened.
        bins: number of bins of equal width.
        confidence: confidence level of the intervals.
        samples: number S of samples, if each p is a share of samples. Shares 0 and 1 are then not
            certain, so that the log score replaces p by (S p + ½)/(S + 1).

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
    """Return Wilson's confidence interval of each share [B]; NaN if it is a share of 0 events."""
    z2 = float(ndtri(0.5 + confidence / 2)) ** 2
    n = np.where(counts > 0, counts, np.nan)
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return np.stack([middle - half, middle + half], axis=1)
