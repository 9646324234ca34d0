"""P(stable) in closed form against draws of the same model, and what is left open."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm, t

from kohn.calibration import calibration
from kohn.stability import ConvexHull, Entries
from kohn.stability.assessment import QUANTITIES, Uncertainty, assess, closed_form
from kohn.uncertainty.ensemble import spread

DEVIATIONS = np.array([0.01, 0.05, 0.2, 0.08, 0.1])
CERTAIN = Uncertainty()
FORMULAS = ["FeO", "Fe2O", "FeO2", "Fe3O4", "FeO"]
ENERGIES = np.array([-0.42, -0.25, -0.1, -0.37, -0.38])
"""Formation energies, eV/atom."""


def entries(formulas, formation, prefix):
    totals = []
    for f, e in zip(formulas, formation, strict=True):
        one = Entries.of([f], [0.0])
        n = dict(zip(one.elements, one.counts[0], strict=True))
        totals.append(-8.0 * n.get("Fe", 0) - 5.0 * n.get("O", 0) + e * one.atoms[0])
    return Entries.of(formulas, totals, [f"{prefix}{k}" for k in range(len(formulas))])


def hull(**more):
    formulas = ["Fe", "O", "FeO", "Fe2O"]
    return ConvexHull(entries(formulas, [0.0, 0.0, -0.4, -0.3], "h"), **more)


def result(uncertainty=CERTAIN, sigma=DEVIATIONS, energies=ENERGIES, of=FORMULAS, **more):
    at = entries(of, energies, "c").over(("Fe", "O"))
    return assess(hull(**more), at, list(of), sigma, uncertainty)


def heights():
    """h at the compositions of the candidates, by hand: Fe, Fe2O, FeO, O in line."""
    x = np.array([1 / 2, 1 / 3, 2 / 3, 4 / 7, 1 / 2])  # of oxygen
    return np.interp(x, [0, 1 / 3, 1 / 2, 1], [0, -0.3, -0.4, 0])


def test_columns_are_what_they_say():
    found = result(tolerance=0.03)
    d = ENERGIES - heights()
    np.testing.assert_allclose(found["distance"], d, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["formation_energy_per_atom"], ENERGIES, rtol=0, atol=1e-12)
    x = np.array([1 / 2, 1 / 3, 2 / 3, 4 / 7, 1 / 2])
    np.testing.assert_allclose(
        found["energy_per_atom"], ENERGIES - 8 * (1 - x) - 5 * x, rtol=0, atol=1e-12
    )
    np.testing.assert_array_equal(found["e_above_hull"], np.maximum(found["distance"], 0))
    np.testing.assert_array_equal(found["stable"], [True, False, False, True, True])
    np.testing.assert_array_equal(found["in_hull"], [False] * 5)
    assert found["decomposition"][1] == "1 Fe2O (h3)"
    assert set(found["decomposition"][2].split(" + ")) == {"0.6667 FeO (h2)", "0.3333 O (h1)"}
    assert "probability_stable" not in result(sigma=None)


@pytest.mark.parametrize("freedom", [2.0, 4.0, np.inf])
def test_the_closed_form_is_the_share_of_draws(freedom, rng):
    """Also of the quantiles: so many draws lie below."""
    found = result(Uncertainty(freedom=freedom), tolerance=0.01)
    n = 200_000
    draws = rng.standard_normal(n) if np.isinf(freedom) else rng.standard_t(freedom, n)
    distances = found["distance"] + DEVIATIONS * draws[:, None]
    for name, at, p in (
        ("probability_stable", 0.01, found["probability_stable"]),
        ("distance_05", found["distance_05"], np.full(5, 0.05)),
        ("distance_95", found["distance_95"], np.full(5, 0.95)),
    ):
        share = (distances <= at).mean(axis=0)
        error = np.sqrt(np.maximum(p * (1 - p), 1e-6) / n)
        np.testing.assert_array_less(np.abs(share - p), 5 * error, err_msg=name)
    np.testing.assert_array_equal(found["distance_std"], DEVIATIONS)


def test_the_closed_form_is_that_of_scipy():
    d, tolerance = np.array([-0.1, 0.0, 0.05, 0.3]), 1e-8
    sigma = np.array([0.02, 0.1, 0.05, 0.1])
    normal = closed_form(d, sigma, tolerance, CERTAIN)
    expected = norm.cdf(tolerance, d, sigma)
    np.testing.assert_allclose(normal["probability_stable"], expected, rtol=1e-12)
    np.testing.assert_allclose(normal["distance_95"], norm.ppf(0.95, d, sigma), rtol=0, atol=1e-12)
    for freedom in (1.0, 2.0, 9.0):
        found = closed_form(d, sigma, tolerance, Uncertainty(freedom))
        expected = t.cdf(tolerance, freedom, d, sigma)
        np.testing.assert_allclose(found["probability_stable"], expected, rtol=1e-9)
        expected = t.ppf(0.05, freedom, d, sigma)
        np.testing.assert_allclose(found["distance_05"], expected, rtol=0, atol=1e-9)


def test_without_deviation_p_is_one_or_nothing():
    found = closed_form(np.array([-0.1, 0.0, 1e-8, 2e-8, 0.1]), np.zeros(5), 1e-8, CERTAIN)
    np.testing.assert_array_equal(found["probability_stable"], [1, 1, 1, 0, 0])


@pytest.mark.slow
def test_an_uncertain_hull_beside_a_closed_form():
    """AB between two elements: the variance of the hull there is σ²/2."""
    ends = ConvexHull(entries(["Fe", "O"], [0.0, 0.0], "h"))
    formation = np.array([-0.1, -0.02, 0.0, 0.03, 0.15])
    at = entries(["FeO"] * 5, formation, "c").over(("Fe", "O"))
    sigma, of_hull, n = np.full(5, 0.04), 0.06, 8000
    found = assess(ends, at, ["FeO"] * 5, sigma, Uncertainty(hull=of_hull, samples=n))
    spread = np.hypot(sigma, of_hull / np.sqrt(2))
    expected = ndtr((1e-8 - formation) / spread)
    error = np.sqrt(expected * (1 - expected) / n)
    np.testing.assert_array_less(np.abs(found["probability_stable"] - expected), 5 * error)
    np.testing.assert_allclose(found["distance_std"], spread, rtol=5 / np.sqrt(2 * n))
    # a quantile at 5 % has the error √(0.05 · 0.95/n)/density
    density = norm.pdf(norm.ppf(0.05)) / spread
    error = np.sqrt(0.05 * 0.95 / n) / density
    for level, name in ((0.05, "distance_05"), (0.95, "distance_95")):
        expected = norm.ppf(level, formation, spread)
        np.testing.assert_array_less(np.abs(found[name] - expected), 5 * error)
    # The hull for certain would have said another thing.
    certain = closed_form(formation, sigma, 1e-8, CERTAIN)["probability_stable"]
    assert np.abs(found["probability_stable"] - certain).max() > 0.05


@pytest.mark.slow
def test_a_hull_nearly_certain_is_one_that_is():
    few = result(Uncertainty(hull=1e-9, samples=8000))
    certain = result()
    p = certain["probability_stable"]
    error = np.sqrt(np.maximum(p * (1 - p), 1e-4) / 8000)
    np.testing.assert_array_less(np.abs(few["probability_stable"] - p), 5 * error)


def test_draws_in_blocks_are_draws_of_the_same_hull(monkeypatch):
    """Without errors of their own, candidates see the same hulls however they are parted."""
    asked = Uncertainty(hull=0.05, samples=500)
    whole = result(asked, sigma=None)
    monkeypatch.setattr("kohn.stability.assessment.DRAWN", 1000)
    parted = result(asked, sigma=None)
    for name in QUANTITIES:
        np.testing.assert_allclose(parted[name], whole[name], rtol=0, atol=1e-12)
    assert (whole["distance_std"] > 0.01).all()


# --- coverage of an ensemble --------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "beyond", "surer"), [(3, 0.12087, 10.0), (4, 0.09927, 6.0), (5, 0.08767, 4.5)]
)
def test_probabilities_of_an_ensemble_hold(members, beyond, surer):
    """The truth is one more draw beside S; distances are spread evenly around the hull.

    With errors of one size for all candidates, the share of stable ones at z = −d/σ is
    T_S(z √(S/(S − 1))) by integration over s: what is told, T_(S−1)(z), is never surer than that.
    The normal law is: of what it calls stable with less than 1 %, `surer` times as many are.
    """
    rng = np.random.default_rng(members)
    n, tau = 400_000, 0.05
    centre = rng.uniform(-1.0, 1.0, n)
    energies = centre + tau * rng.standard_normal((members, n))
    truth = centre + tau * rng.standard_normal(n)
    mean, std = energies.mean(axis=0), spread(energies)
    student = closed_form(mean, std, 0.0, Uncertainty(members - 1.0))
    normal = closed_form(mean, std, 0.0, CERTAIN)

    # 1. The truth lies beyond the quantiles as often as they say.
    assert t.sf(norm.ppf(0.95), members - 1) == pytest.approx(beyond, abs=5e-6)
    for found, share in ((student, 0.05), (normal, beyond)):
        error = np.sqrt(share * (1 - share) / n)
        assert abs((truth < found["distance_05"]).mean() - share) < 5 * error
        assert abs((truth > found["distance_95"]).mean() - share) < 5 * error

    # 2. At each z so many are stable as the integral says, and P is on the side of ½.
    z, stable = -mean / std, truth <= 0
    exact = t.cdf(z * np.sqrt(members / (members - 1)), members)
    assert (np.abs(student["probability_stable"] - 0.5) <= np.abs(exact - 0.5)).all()
    bins = calibration(exact, stable)
    error = np.sqrt(bins.predicted * (1 - bins.predicted) / bins.counts)
    np.testing.assert_array_less(np.abs(bins.observed - bins.predicted), 5 * error)
    told = calibration(student["probability_stable"], stable)
    assert told.expected_error < {3: 0.013, 4: 0.008, 5: 0.006}[members]

    # 3. The normal law is too sure.
    few = normal["probability_stable"] < 0.01
    assert stable[few].sum() > surer * normal["probability_stable"][few].sum()
    assert stable[few].sum() < student["probability_stable"][few].sum()


def test_without_the_mean_s_own_error_an_ensemble_is_too_sure(rng):
    """s alone, without √(1 + 1/S): the comparison above would see it."""
    n, members = 200_000, 3
    energies = rng.standard_normal((members, n))
    truth = rng.standard_normal(n)
    s = energies.std(axis=0, ddof=1)
    found = closed_form(energies.mean(axis=0), s, 0.0, Uncertainty(members - 1.0))
    assert abs((truth < found["distance_05"]).mean() - 0.05) > 0.01


# --- no energy, and no other hull ---------------------------------------------------------


@pytest.mark.parametrize("of_hull", [0.0, 0.05])
def test_what_has_no_energy_has_no_numbers_and_stops_nobody(of_hull):
    energies = ENERGIES.copy()
    energies[1] = np.nan
    sigma = np.where(np.isnan(energies), np.nan, DEVIATIONS)
    asked = Uncertainty(hull=of_hull, samples=200)
    at = entries(FORMULAS, ENERGIES, "c").over(("Fe", "O"))
    at = replace(at, energies=energies * at.atoms + at.counts @ [-8.0, -5.0])
    found = assess(hull(), at, FORMULAS, sigma, asked)
    others = [0, 2, 3, 4]
    for name in ("energy_per_atom", "distance", "e_above_hull"):
        assert np.isnan(found[name][1])
        assert np.isfinite(found[name][others]).all()
    assert not found["stable"][1]
    if of_hull == 0:
        expected = result()
        for name in QUANTITIES:
            np.testing.assert_array_equal(found[name][others], expected[name][others])
    for name in ("distance_std", "distance_05", "distance_95"):
        assert np.isnan(found[name][1])


@pytest.mark.parametrize("of_hull", [0.0, 0.05])
def test_what_has_no_energy_has_no_probability(of_hull):
    energies, sigma = ENERGIES.copy(), DEVIATIONS.copy()
    energies[1] = sigma[1] = np.nan
    at = entries(FORMULAS, ENERGIES, "c").over(("Fe", "O"))
    at = replace(at, energies=energies)
    found = assess(hull(), at, FORMULAS, sigma, Uncertainty(hull=of_hull, samples=50))
    assert np.isnan(found["probability_stable"][1])


@pytest.mark.parametrize("of_hull", [0.0, 0.05])
def test_the_only_entry_of_an_element_is_stable(of_hull):
    """By its id, with another energy too: it has no hull but itself."""
    same = entries(["Fe", "O"], [0.0, 0.2], "h").over(("Fe", "O"))
    sigma = np.full(2, 0.1)
    found = assess(hull(), same, ["Fe", "O"], sigma, Uncertainty(hull=of_hull, samples=100))
    np.testing.assert_array_equal(found["in_hull"], True)
    np.testing.assert_allclose(found["distance"], 0.0, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found["stable"], True)
    if of_hull:
        np.testing.assert_array_equal(found["probability_stable"], 1.0)
        np.testing.assert_array_equal(found["distance_std"], 0.0)


def test_the_only_entry_of_an_element_is_stable_for_certain_beside_a_certain_hull():
    """As it is beside an uncertain one."""
    same = entries(["Fe", "O"], [0.0, 0.0], "h").over(("Fe", "O"))
    found = assess(hull(), same, ["Fe", "O"], np.full(2, 0.1), Uncertainty())
    np.testing.assert_array_equal(found["probability_stable"], 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("of_hull", [0.0, 0.05])
def test_an_entry_as_candidate_is_without_itself(of_hull):
    """FeO at −0.5 instead of −0.4, by its id: held against Fe2O and O, at −0.225 there."""
    one = entries(["FeO"], [-0.5], "x").over(("Fe", "O"))
    asked = Uncertainty(hull=of_hull, samples=4000)
    for name, expected, known in (("x0", -0.1, False), ("h2", -0.275, True)):
        found = assess(hull(), replace(one, ids=(name,)), ["FeO"], np.array([0.05]), asked)
        assert found["distance"][0] == pytest.approx(expected, abs=1e-12)
        assert found["in_hull"][0] == known
        middle = (found["distance_05"][0] + found["distance_95"][0]) / 2
        assert middle == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_errors_of_few_models_stay_student_s_beside_an_uncertain_hull():
    """The smaller the error of the hull, the nearer to the closed form."""
    few = result(Uncertainty(freedom=2.0, hull=1e-9, samples=8000))
    p = result(Uncertainty(freedom=2.0))["probability_stable"]
    error = np.sqrt(np.maximum(p * (1 - p), 1e-4) / 8000)
    np.testing.assert_array_less(np.abs(few["probability_stable"] - p), 5 * error)
