"""How good predicted stability is: errors, classification, and calibration of probabilities.

With d the true distance to the hull, fixed, and E_f the formation energy of a compound, eV/atom:

    d_pred = d + (E_f,pred − E_f)                  so that errors of d are those of E_f
    stable: d ≤ t,   predicted: d_pred ≤ t         t = 0; a prediction that is NaN counts unstable
    precision = TP/(TP + FP),  recall = TP/(TP + FN),  F1 = 2 TP/(2 TP + FP + FN)
    DAF = precision/prevalence                     prevalence = (TP + FN)/n, not rounded

MAE, RMSE and R² are over predictions that are numbers. With p = P(stable) and y whether it is:

    Brier = mean (p − y)²          log score = −mean [y ln p + (1 − y) ln (1 − p)]
    ECE = Σ_b n_b/n |p̄_b − ȳ_b|    b bins of p, p̄_b and ȳ_b the means in it

Source: Riebesell et al., Nat. Mach. Intell. 7, 836 (2025), matbench-discovery; Wilson, J. Am. Stat.
Assoc. 22, 209 (1927), for intervals of ȳ_b; Naeini et al., AAAI 2015, for ECE.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from kohn.errors import InputError
from kohn.typing import Float, Int


@dataclass(frozen=True)
class StabilityMetrics:
    """Predicted against true stability. What is divided by zero is NaN.

    Attributes:
        mae, rmse: of the distances, eV/atom.
        r2: 1 − Σ(d_pred − d)²/Σ(d − d̄)².
        precision, recall, f1, accuracy: of "stable".
        daf: precision over prevalence, how many times more stable compounds are among those chosen
            than among all.
        prevalence: the share that is stable.
        true_positives, false_positives, true_negatives, false_negatives: counts.
        missing: predictions that are NaN.
    """

    mae: float
    rmse: float
    r2: float
    precision: float
    recall: float
    f1: float
    accuracy: float
    daf: float
    prevalence: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    missing: int


@dataclass(frozen=True, eq=False)
class Calibration:
    """Probabilities of stability against what was found. Bins without a candidate have NaN.

    Attributes:
        brier: mean squared error of p.
        log_score: mean −ln of what was given to the outcome; infinite where that was 0.
        expected_error: ECE, with these bins.
        edges: of the bins, [B + 1]; a bin has its lower edge, the last one both.
        counts: n_b, [B].
        predicted: p̄_b, [B].
        observed: ȳ_b, [B].
        interval: Wilson's of ȳ_b, [B, 2].
    """

    brier: float
    log_score: float
    expected_error: float
    edges: Float[np.ndarray, " B+1"]
    counts: Int[np.ndarray, " B"]
    predicted: Float[np.ndarray, " B"]
    observed: Float[np.ndarray, " B"]
    interval: Float[np.ndarray, "B 2"]


def predicted_distance(
    distance: Float[np.ndarray, " M"],
    formation: Float[np.ndarray, " M"],
    predicted: Float[np.ndarray, " M"],
) -> Float[np.ndarray, " M"]:
    """d_pred, eV/atom: on the hull that d is from, only the candidate's own energy moves.

    Args:
        distance: d, the true distances.
        formation: E_f, the true formation energies.
        predicted: E_f,pred; NaN where there is none.
    """
    return distance + (predicted - formation)


def stability_metrics(
    distance: Float[np.ndarray, " M"],
    predicted: Float[np.ndarray, " M"],
    *,
    threshold: float = 0.0,
) -> StabilityMetrics:
    """Metrics of predicted distances; see `predicted_distance`.

    Args:
        distance: d, eV/atom.
        predicted: d_pred, eV/atom; NaN where there is none.
        threshold: t, eV/atom; up to and with it a compound is stable.

    Raises:
        InputError: no compounds, shapes that differ, or a true distance that is not finite.
    """
    d, found = np.asarray(distance, float), np.asarray(predicted, float)
    if d.shape != found.shape or d.ndim != 1 or len(d) == 0:
        raise InputError(
            "distances and predictions do not fit",
            expected="two arrays [M]",
            received=f"shapes {list(d.shape)} and {list(found.shape)}",
        )
    if not np.isfinite(d).all():
        raise InputError(
            "a true distance is not finite", received=f"row {int(np.argmin(np.isfinite(d)))}"
        )
    stable, chosen = d <= threshold, found <= threshold  # nothing is less than NaN
    tp, fp = int((stable & chosen).sum()), int((~stable & chosen).sum())
    fn, tn = int((stable & ~chosen).sum()), int((~stable & ~chosen).sum())
    known = ~np.isnan(found)
    error, spread = found[known] - d[known], d[known] - np.mean(d[known]) if known.any() else d[:0]
    precision, prevalence = _ratio(tp, tp + fp), (tp + fn) / len(d)
    return StabilityMetrics(
        mae=_ratio(np.abs(error).sum(), len(error)),
        rmse=float(np.sqrt(_ratio((error**2).sum(), len(error)))),
        r2=1 - _ratio((error**2).sum(), (spread**2).sum()),
        precision=precision,
        recall=_ratio(tp, tp + fn),
        f1=_ratio(2 * tp, 2 * tp + fp + fn),
        accuracy=(tp + tn) / len(d),
        daf=_ratio(precision, prevalence),
        prevalence=prevalence,
        true_positives=tp,
        false_positives=fp,
        true_negatives=tn,
        false_negatives=fn,
        missing=int((~known).sum()),
    )


def calibration(
    probability: Float[np.ndarray, " M"],
    stable: np.ndarray,
    *,
    bins: int = 10,
    confidence: float = 0.95,
    samples: int | None = None,
) -> Calibration:
    """Calibration of P(stable).

    Args:
        probability: p of each compound.
        stable: whether it is.
        bins: of equal width.
        confidence: of the intervals.
        samples: how many samples p was counted in, S. Then 0 and 1 are not certain: in the log
            score, p is (S p + ½)/(S + 1).

    Raises:
        InputError: no compounds, shapes that differ, or a probability not between 0 and 1.
    """
    p, y = np.asarray(probability, float), np.asarray(stable, bool)
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
    apart = np.abs(predicted - observed)[counts > 0]
    return Calibration(
        brier=float(((p - y) ** 2).mean()),
        log_score=float(log_score),
        expected_error=float((counts[counts > 0] * apart).sum() / len(p)),
        edges=edges,
        counts=counts,
        predicted=predicted,
        observed=observed,
        interval=wilson(observed, counts, confidence),
    )


def wilson(
    share: Float[np.ndarray, " B"], counts: Int[np.ndarray, " B"], confidence: float = 0.95
) -> Float[np.ndarray, "B 2"]:
    """The interval in which the true share lies with this confidence; NaN without counts."""
    z2 = float(ndtri(0.5 + confidence / 2)) ** 2
    n = np.where(counts > 0, counts, np.nan)
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return np.stack([middle - half, middle + half], axis=1)


def _ratio(a: float, b: float) -> float:
    return float(a) / float(b) if b else float("nan")
