"""Compute errors and classification metrics of predicted stability; see also `kohn.calibration`.

With d the true distance to a fixed hull, and E_f the formation energy of a compound, in eV/atom:

    d_pred = d + (E_f,pred − E_f)                  so d_pred has the same error as E_f,pred
    stable: d ≤ t,   predicted: d_pred ≤ t         t = 0; a prediction of NaN counts as unstable
    precision = TP/(TP + FP),  recall = TP/(TP + FN),  F1 = 2 TP/(2 TP + FP + FN)
    DAF = precision/prevalence                     prevalence = (TP + FN)/n, not rounded

MAE, RMSE and R² include only predictions that are numbers.

Source: Riebesell et al., Nat. Mach. Intell. 7, 836 (2025), matbench-discovery.
"""

from dataclasses import dataclass

import numpy as np

from kohn.errors import InputError
from kohn.typing import Float


@dataclass(frozen=True)
class StabilityMetrics:
    """Errors of predicted distances d_pred to the hull, and metrics of the classification "stable".

    Attributes:
        mae, rmse: mean absolute and root mean square error of the distances, eV/atom.
        r2: 1 − Σ(d_pred − d)²/Σ(d − d̄)². This and other ratios are NaN if the denominator is zero.
        precision, recall, f1, accuracy: metrics of the classification as stable.
        daf: discovery acceleration factor, precision over prevalence: the share of stable compounds
            among those predicted to be stable, divided by their share among all.
        prevalence: the share of compounds that are stable.
        true_positives, false_positives, true_negatives, false_negatives: numbers of compounds.
        missing: number of predictions that are NaN.
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
    """Return d_pred, eV/atom, the distances of predicted energies to the true, unchanged hull.

    Args:
        distance: true distances d to the hull, eV/atom.
        formation: true formation energies E_f, eV/atom.
        predicted: predicted formation energies E_f,pred, eV/atom; NaN if there is no prediction.
    """
    return distance + (predicted - formation)


def stability_metrics(
    distance: Float[np.ndarray, " M"],
    predicted: Float[np.ndarray, " M"],
    *,
    threshold: float = 0.0,
) -> StabilityMetrics:
    """Compute the metrics of predicted distances to the hull; see `predicted_distance`.

    Args:
        distance: true distances d, eV/atom.
        predicted: predicted distances d_pred, eV/atom; NaN if there is no prediction.
        threshold: t, eV/atom; a compound is stable if its distance is at most t.

    Raises:
        InputError: no compounds, shapes that differ, or a true distance that is not finite.
    """
    d, d_pred = np.asarray(distance, float), np.asarray(predicted, float)
    if d.shape != d_pred.shape or d.ndim != 1 or len(d) == 0:
        raise InputError(
            "distances and predictions do not fit",
            expected="two arrays [M]",
            received=f"shapes {list(d.shape)} and {list(d_pred.shape)}",
        )
    if not np.isfinite(d).all():
        raise InputError(
            "a true distance is not finite", received=f"row {int(np.argmin(np.isfinite(d)))}"
        )
    stable, chosen = d <= threshold, d_pred <= threshold  # nothing is less than NaN
    tp, fp = int((stable & chosen).sum()), int((~stable & chosen).sum())
    fn, tn = int((stable & ~chosen).sum()), int((~stable & ~chosen).sum())
    known = ~np.isnan(d_pred)
    error, spread = d_pred[known] - d[known], d[known] - np.mean(d[known]) if known.any() else d[:0]
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
