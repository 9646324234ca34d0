"""Recognise errors of predictions that look like mistakes in the labels."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from kohn.structures import Prediction, Structure
from kohn.units import GPA

SHEAR = ("yz", "xz", "xy")
FEWEST, FACTOR = 5, 2.0
"""Fewest stresses of a config_type to check, and factor by which another order cuts the error."""


def suspicions(pairs: Sequence[tuple[Structure, Prediction]]) -> list[str]:
    """Return a sentence for each config_type in which labels of the stress seem wrong.

    The mistake is another order of the shear components: VASP prints xx yy zz xy yz zx, ASE has
    xx yy zz yz xz xy. No check of the data alone reveals the wrong order. A model with built-in
    symmetry cannot learn the wrong order, so the errors of its predictions reveal it.
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
    """Return a sentence if another order of the shear labels, [structures, 3], fits much better."""
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
