"""Recognise errors of predictions that look like errors of the labels."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from kohn.structures import Prediction, Structure
from kohn.units import GPA

SHEAR = ("yz", "xz", "xy")
FEWEST, FACTOR = 5, 2.0
"""Smallest number of structures of a kind, and factor by which the error must fall."""


def suspicions(pairs: Sequence[tuple[Structure, Prediction]]) -> list[str]:
    """Describe in words, by config_type, apparent errors of the labels.

    They are shear components of the stress in another order: codes use different ones (VASP prints
    xx yy zz xy yz zx, ASE has xx yy zz yz xz xy), and no check of the data alone sees it. A
    model with the symmetry built in cannot learn a wrong order, so its errors show it.
    """
    descriptions = []
    for kind in sorted({s.config_type for s, _ in pairs}):
        stresses = [
            (s.labels["stress"], p.stress)
            for s, p in pairs
            if s.config_type == kind and "stress" in s.labels and p.stress is not None
        ]
        if len(stresses) >= FEWEST:
            labels, predicted = (
                np.array(x)[:, [1, 0, 0], [2, 2, 1]] for x in zip(*stresses, strict=True)
            )
            descriptions += _other_order(kind, labels, predicted)
    return descriptions


def _other_order(kind: str, labels: np.ndarray, predicted: np.ndarray) -> list[str]:
    """Compare shear components [frames, 3] with the predicted ones in each possible order."""
    errors = {
        order: float(np.abs(predicted - labels[:, order]).mean())
        for order in permutations(range(3))
    }
    best = min(errors, key=lambda order: errors[order])
    if errors[best] * FACTOR > errors[0, 1, 2]:
        return []
    moved = ", ".join(f"{SHEAR[i]} is called {SHEAR[j]}" for i, j in enumerate(best) if i != j)
    return [
        f"stress of {kind}: the error of the shear components falls from "
        f"{errors[0, 1, 2] / GPA:.3g} to {errors[best] / GPA:.3g} GPa if in the labels {moved}; "
        "check the order in which they were converted (VASP prints xx yy zz xy yz zx, ASE has "
        "xx yy zz yz xz xy)"
    ]
