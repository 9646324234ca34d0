"""Tensor models learn, by degree, and refuse labels that cannot be learned from."""

import numpy as np
import pytest
from brute_force import random_rotation, structure

from kohn.errors import InputError
from kohn.models.nequip import NequipConfig
from kohn.training.settings import OptimiserSettings
from kohn.training.tensors import (
    Statistics,
    errors_by_degree,
    fit_tensors,
    labels,
    predict_tensors,
)

TARGETS = ("dipole", "polarizability")
CONFIG = NequipConfig(cutoff=3.0, channels=8, l_max=2, layers=2, radial_widths=(16,))


def water(rng):
    """A bent molecule with charges, and a polarizability of its bonds, in any orientation."""
    r, angle = 1 + 0.1 * rng.normal(size=2), 1.8 + 0.2 * rng.normal()
    h = np.array([[1.0, 0, 0], [np.cos(angle), np.sin(angle), 0]]) * r[:, None]
    q = random_rotation(rng)
    x = np.vstack([np.zeros(3), h]) @ q.T
    bonds = x[1:]
    alpha = 3.0 * np.eye(3) + sum(np.outer(b, b) for b in bonds)
    s = structure(x + rng.normal(size=3), [8, 1, 1])
    return s.with_labels(dipole=0.3 * bonds.sum(axis=0), polarizability=alpha)


WATERS = [water(np.random.default_rng([7, i])) for i in range(60)]


@pytest.mark.slow
def test_a_model_learns_both_and_beats_a_constant():
    train, valid, test = WATERS[:40], WATERS[40:45], WATERS[45:]
    told = []
    model = fit_tensors(
        train,
        valid,
        TARGETS,
        CONFIG,
        steps=300,
        validate_every=100,
        optimise=OptimiserSettings(warmup_steps=10, ema=0.9),
        monitor=lambda *x: told.append(x),
    )
    assert [x[0] for x in told] == [100, 200, 300]
    assert told[-1][2] < 0.05 * 3  # of a loss that is 1 for each of three parts at a constant
    errors = errors_by_degree(test, predict_tensors(model, test))
    for target in TARGETS:
        for rmse, spread in errors[target].values():
            assert rmse < 0.3 * spread
    again = fit_tensors(train, valid, TARGETS, CONFIG, steps=3, validate_every=3)
    same = fit_tensors(train, valid, TARGETS, CONFIG, steps=3, validate_every=3)
    for target, values in predict_tensors(again, test).items():
        np.testing.assert_array_equal(values, predict_tensors(same, test)[target])


def test_statistics_are_of_what_composition_does_not_say():
    found = Statistics.of(WATERS, (1, 8), TARGETS)
    trace = labels(WATERS, TARGETS)["polarizability"][0][:, 0]
    counts = np.array([2.0, 1.0])
    assert counts @ found.atoms["polarizability"] == pytest.approx(trace.mean(), rel=1e-12)
    assert found.scales["polarizability"][0] == pytest.approx(trace.std(), rel=1e-12)
    dipoles = np.stack([s.labels["dipole"] for s in WATERS])
    rms = np.sqrt((dipoles**2).sum(axis=1).mean())
    assert found.scales["dipole"][1] == pytest.approx(rms, rel=1e-12)
    assert "dipole" not in found.atoms


def test_labels_that_cannot_be_learned_from():
    with pytest.raises(InputError, match="no dipole"):
        labels([WATERS[0].with_labels(dipole=None)], TARGETS)
    skew = np.array(WATERS[0].labels["polarizability"])
    skew[0, 1] += 0.1
    with pytest.raises(InputError, match="not symmetric"):
        labels([WATERS[1], WATERS[0].with_labels(polarizability=skew)], TARGETS)


def test_errors_of_a_constant_are_the_spread():
    mean = {t: np.stack([np.mean([s.labels[t] for s in WATERS], axis=0)] * 60) for t in TARGETS}
    for parts in errors_by_degree(WATERS, mean).values():
        for rmse, spread in parts.values():
            assert rmse == pytest.approx(spread, rel=1e-9)
