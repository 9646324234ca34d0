"""Metrics of predicted stability, by hand; each definition against the wrong one beside it."""

import numpy as np
import pytest
from scipy.stats import binom

from kohn.calibration import calibration, wilson
from kohn.errors import InputError
from kohn.stability.metrics import predicted_distance, stability_metrics

TRUE = np.array([-0.1, 0.0, 0.2, 0.1, -0.05, 0.3])
PREDICTED = np.array([-0.2, 0.1, -0.1, 0.1, np.nan, 0.3])


def test_a_small_case_by_hand():
    """Stable: rows 0, 1, 4. Said to be: 0, 2. Row 4 has no prediction and counts unstable."""
    m = stability_metrics(TRUE, PREDICTED)
    assert (m.true_positives, m.false_positives) == (1, 1)
    assert (m.true_negatives, m.false_negatives) == (2, 2)
    assert m.missing == 1
    assert m.precision == pytest.approx(1 / 2)
    assert m.recall == pytest.approx(1 / 3)
    assert m.f1 == pytest.approx(2 / 5)
    assert m.accuracy == pytest.approx(3 / 6)
    assert m.prevalence == pytest.approx(3 / 6)
    assert m.daf == pytest.approx(1.0)
    # errors of rows 0 to 3 and 5: -0.1, 0.1, -0.3, 0, 0
    assert m.mae == pytest.approx(0.5 / 5)
    assert m.rmse == pytest.approx(np.sqrt(0.11 / 5))
    # true values -0.1, 0, 0.2, 0.1, 0.3 have the mean 0.1 and squares adding to 0.1
    assert m.r2 == pytest.approx(1 - 0.11 / 0.1)


def test_on_the_hull_is_stable_and_the_threshold_moves_both():
    assert stability_metrics(np.zeros(2), np.zeros(2)).true_positives == 2
    m = stability_metrics(np.array([0.05, 0.2]), np.array([0.1, 0.05]), threshold=0.1)
    assert (m.true_positives, m.false_positives) == (1, 1)


def test_the_prevalence_is_not_rounded():
    """153.4 in a thousand: rounded to 0.153, DAF would differ in the third digit."""
    n, stable = 10_000, 1534
    d = np.where(np.arange(n) < stable, -0.1, 0.1)
    predicted = np.where(np.arange(n) < 1000, -0.1, 0.1)
    m = stability_metrics(d, predicted)
    assert m.prevalence == 0.1534
    assert m.daf == pytest.approx(1 / 0.1534, rel=1e-12)
    assert abs(m.daf - 1 / 0.153) > 0.01


def test_distances_are_not_rounded():
    """0.4 meV/atom above the hull is unstable; rounded to meV, four compounds would flip."""
    d = np.array([0.0004, 0.0004, -0.1, 0.1])
    assert stability_metrics(d, np.array([0.0004, -0.0004, -0.1, 0.1])).false_positives == 1
    rounded = stability_metrics(d.round(3), d.round(3))
    assert rounded.prevalence == 0.75
    assert stability_metrics(d, d).prevalence == 0.25


def test_errors_of_distances_are_those_of_formation_energies(rng):
    by_hand = predicted_distance(np.array([-0.02]), np.array([-1.0]), np.array([-0.95]))
    np.testing.assert_allclose(by_hand, [0.03])
    d, formation = rng.normal(size=50), rng.normal(size=50)
    predicted = formation + 0.03 * rng.normal(size=50)
    m = stability_metrics(d, predicted_distance(d, formation, predicted))
    assert m.mae == pytest.approx(np.abs(predicted - formation).mean(), rel=1e-12)
    missing = predicted_distance(d, formation, np.where(np.arange(50) < 3, np.nan, predicted))
    assert stability_metrics(d, missing).missing == 3


def test_a_missing_prediction_does_not_improve_what_is_measured():
    """Left out, it would raise recall and accuracy."""
    d = np.array([-0.1, -0.1, 0.1, 0.1])
    m = stability_metrics(d, np.array([-0.1, np.nan, 0.1, 0.1]))
    assert m.recall == 0.5
    assert m.accuracy == 0.75


def test_nothing_to_divide_by():
    m = stability_metrics(np.array([0.1, 0.2]), np.array([np.nan, np.nan]))
    assert np.isnan([m.mae, m.rmse, m.r2, m.precision, m.recall, m.f1, m.daf]).all()
    assert m.accuracy == 1
    none_right = stability_metrics(np.array([-0.1, 0.2]), np.array([0.1, -0.2]))
    assert (none_right.precision, none_right.recall, none_right.f1) == (0, 0, 0)


# --- calibration --------------------------------------------------------------------------


def test_calibration_by_hand():
    c = calibration(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 1, 1, 1]), bins=2)
    np.testing.assert_array_equal(c.counts, [2, 2])
    np.testing.assert_allclose(c.predicted, [0.15, 0.85])
    np.testing.assert_allclose(c.observed, [0.5, 1.0])
    assert c.brier == pytest.approx((0.01 + 0.64 + 0.04 + 0.01) / 4)
    assert c.log_score == pytest.approx(-np.log([0.9, 0.2, 0.8, 0.9]).mean())
    assert c.expected_error == pytest.approx(0.5 * 0.35 + 0.5 * 0.15)


def test_edges_belong_to_the_bin_above_and_one_to_the_last():
    c = calibration(np.array([0.0, 0.5, 1.0]), np.array([0, 1, 1]), bins=2)
    np.testing.assert_array_equal(c.counts, [1, 2])


def test_empty_bins_are_nan_and_count_nothing():
    c = calibration(np.array([0.05, 0.95]), np.array([0, 1]), bins=10)
    assert np.isnan(c.observed[1:9]).all()
    assert np.isnan(c.interval[1:9]).all()
    assert c.expected_error == pytest.approx(0.05)


def test_what_was_impossible_and_happened_has_an_infinite_score_unless_it_was_counted():
    assert calibration(np.array([0.0, 1.0]), np.array([1, 1])).log_score == np.inf
    c = calibration(np.array([0.0, 1.0]), np.array([1, 1]), samples=99)
    assert c.log_score == pytest.approx(-np.log([0.005, 0.995]).mean())


def test_calibrated_probabilities_are_found_so_and_others_not(rng):
    p = rng.uniform(size=20_000)
    y = rng.uniform(size=20_000) < p
    good, bold = calibration(p, y), calibration(np.clip(2 * p - 0.5, 0, 1), y)
    assert good.expected_error < 0.015
    assert bold.expected_error > 0.1
    assert good.brier == pytest.approx(1 / 6, abs=0.005)
    assert good.brier < bold.brier
    inside = (good.interval[:, 0] <= good.predicted) & (good.predicted <= good.interval[:, 1])
    assert inside.sum() >= 8


def test_the_interval_covers_as_often_as_it_says():
    n, truth = 40, 0.1
    k = np.arange(n + 1)
    interval = wilson(k / n, np.full(n + 1, n))
    covers = (interval[:, 0] <= truth) & (truth <= interval[:, 1])
    assert binom.pmf(k, n, truth)[covers].sum() == pytest.approx(0.95, abs=0.02)
    assert interval[0, 0] == pytest.approx(0, abs=1e-12)
    assert interval[0, 1] > 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stability_metrics(np.zeros(2), np.zeros(3)), "do not fit"),
        (lambda: stability_metrics(np.zeros(0), np.zeros(0)), "do not fit"),
        (lambda: stability_metrics(np.array([np.nan]), np.zeros(1)), "not finite"),
        (lambda: calibration(np.zeros(2), np.zeros(3)), "do not fit"),
        (lambda: calibration(np.array([1.2]), np.ones(1)), "between 0 and 1"),
        (lambda: calibration(np.array([np.nan]), np.ones(1)), "between 0 and 1"),
    ],
)
def test_what_cannot_be_used_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_interval_is_that_of_newcombe():
    """81 of 263 at 95 %: 0.2553 to 0.3662 (Newcombe, Stat. Med. 17, 857 (1998), method 3)."""
    found = wilson(np.array([81 / 263]), np.array([263]), 0.95)
    np.testing.assert_allclose(found, [[0.2553, 0.3662]], rtol=0, atol=5e-5)


def test_bins_count_by_how_many_are_in_them():
    """Three of mean 0.2, of which a third came true, and one of 0.9 that did not."""
    c = calibration(np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 0, 1, 0]), bins=2)
    assert c.expected_error == pytest.approx((3 * (1 / 3 - 0.2) + 0.9) / 4, abs=1e-12)
