"""Labels in a wrong order, seen in the errors of a model."""

from dataclasses import replace

import numpy as np
import pytest
from brute_force import structure

from kohn.evaluation.suspicions import suspicions
from kohn.potential import Prediction


def pairs(order=(0, 1, 2), kind="AIMD", count=8, noise=0.1):
    """Predictions that are right up to noise, and labels with their shear components moved."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        shear = rng.normal(size=3)
        moved = shear[list(order)]

        def full(v):
            return np.array([[1.0, v[2], v[1]], [v[2], 1.0, v[0]], [v[1], v[0], 1.0]]) * 0.01

        s = structure(np.zeros((1, 3)), cell=np.eye(3), periodic=True)
        s = replace(s.with_labels(stress=full(moved)), config_type=kind)
        stress = full(shear + noise * rng.normal(size=3))
        found.append((s, Prediction.of_energy(0.0, np.zeros(1), np.zeros((1, 3)), stress)))
    return found


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ((1, 0, 2), "yz is called xz, xz is called yz"),
        ((2, 1, 0), "yz is called xy"),
        ((1, 2, 0), "xz is called yz"),
    ],
)
def test_a_wrong_order_is_named(order, words):
    (text,) = suspicions(pairs(order))
    assert "stress of AIMD" in text
    assert words in text


def test_only_the_kind_that_is_wrong_is_named():
    (text,) = suspicions(pairs(kind="Elastic") + pairs((1, 0, 2), kind="Vacancy"))
    assert "Vacancy" in text


def test_nothing_is_suspected_of_right_or_few_or_noisy_labels():
    assert suspicions(pairs()) == []
    assert suspicions(pairs((1, 0, 2), count=4)) == []
    assert suspicions(pairs((1, 0, 2), noise=5.0)) == []


def half_swapped(u, count=5):
    """Labels yz 1, xz 0, xy 0; predictions u, 1 − u, 0: off by 2 (1 − u) as they are, by 2 u if yz
    and xz change places, summed over the three of them."""

    def full(yz, xz):
        return np.array([[0.0, 0.0, xz], [0.0, 0.0, yz], [xz, yz, 0.0]])

    s = structure(np.zeros((1, 3)), cell=np.eye(3), periodic=True).with_labels(stress=full(1, 0))
    said = Prediction.of_energy(0.0, np.zeros(1), np.zeros((1, 3)), full(u, 1 - u))
    return [(s, said)] * count


def test_an_error_that_halves_is_suspected_and_told_in_gpa():
    """0.67 · 2/3 and 0.33 · 2/3 eV/Å³ of 160.2177 GPa."""
    (text,) = suspicions(half_swapped(0.33))
    assert "falls from 71.6 to 35.2 GPa" in text
    assert suspicions(half_swapped(0.34)) == []
    assert suspicions(half_swapped(0.33, count=4)) == []
