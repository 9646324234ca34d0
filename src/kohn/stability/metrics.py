"""How good predicted stability is: errors and classification; see also `kohn.calibration`.

With d the true distance to the hull, fixed, and E_f the formation energy of a compound, eV/atom:

    d_pred = d + (E_f,pred − E_f)                  so that errors of d are those of E_f
    stable: d ≤ t,   predicted: d_pred ≤ t         t = 0; a prediction that is NaN counts unstable
    precision = TP/(TP + FP),  recall = TP/(TP + FN),  F1 = 2 TP/(2 TP + FP + FN)
    DAF = precision/prevalence                     prevalence = (TP + FN)/n, not rounded

MAE, RMSE and R² are over predictions that are numbers.

Source: Riebesell et al., Nat. Mach. Intell. 7, 836 (2025), matbench-discovery.
"""

from dataclasses import dataclass

import numpy as np

from kohn.errors import InputError
from kohn.typing import Float


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


def _ratio(a: float, b: float) -> float:
    return float(a) / float(b) if b else float("nan")
