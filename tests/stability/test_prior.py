"""What is known of compounds like them: Bayes' theorem by integration, and by counting."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from kohn.calibration import calibration
from kohn.errors import InputError
from kohn.stability import SystemHulls, read_entries
from kohn.stability.prior import STEP, Prior, prior_of

WIDTH = 2 * STEP


def known(rng, n=500):
    """Most some tens of meV/atom above the hull, few below."""
    return rng.gamma(2.0, 0.04, n) - 0.03


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.005, 0.05, 0.3])
def test_probabilities_are_those_of_bayes_theorem(sigma, rng):
    prior = Prior.of(known(rng))
    for d in (-0.1, 0.0, 0.04, 0.3):

        def joint(x, d=d):
            p = (prior.weights * norm.pdf(x, prior.distances, WIDTH)).sum()
            return p * norm.pdf(d, x, sigma)

        low, high = prior.distances.min() - 8 * WIDTH, prior.distances.max() + 8 * WIDTH
        corners = np.linspace(low, 0.01, 40), np.linspace(0.01, high, 80)
        below, above = (sum(quad(joint, a, b)[0] for a, b in pairwise(c)) for c in corners)
        found = prior.probability(np.array([d]), np.array([sigma]), 0.01)[0]
        assert found == pytest.approx(below / (below + above), rel=1e-6)


def test_what_is_alike_everywhere_leaves_the_closed_form():
    prior = Prior.of(np.arange(-1.0, 2.0, STEP))
    d, sigma = np.linspace(-0.2, 0.2, 21), np.full(21, 0.05)
    found = prior.probability(d, sigma, 0.0)
    # the grain of the prior adds h² to σ², and rounds by no more than that
    np.testing.assert_allclose(found, norm.cdf(-d / sigma), rtol=0, atol=2e-3)


@pytest.mark.slow
def test_probabilities_are_calibrated_where_the_closed_form_is_not():
    rng = np.random.default_rng(4)
    prior = Prior.of(known(rng, 5000))
    truth = rng.choice(prior.distances, 200_000, p=prior.weights)
    truth = truth + WIDTH * rng.standard_normal(len(truth))
    sigma = rng.uniform(0.01, 0.1, len(truth))
    d = truth + sigma * rng.standard_normal(len(truth))
    stable = truth <= 0.0
    told = calibration(prior.probability(d, sigma, 0.0), stable)
    error = np.sqrt(told.predicted * (1 - told.predicted) / told.counts)
    np.testing.assert_array_less(np.abs(told.observed - told.predicted), 5 * error)
    flat = calibration(norm.cdf(-d / sigma), stable)
    assert np.nanmax(np.abs(flat.observed - flat.predicted)) > 0.1
    assert told.brier < flat.brier


def test_blocks_change_nothing(rng, monkeypatch):
    prior = Prior.of(known(rng))
    d, sigma = rng.normal(0, 0.1, 50), rng.uniform(0, 0.1, 50)
    sigma[::7] = 0.0
    whole = prior.probability(d, sigma, 1e-8)
    monkeypatch.setattr("kohn.stability.prior.BLOCK", 3 * len(prior.distances))
    np.testing.assert_array_equal(prior.probability(d, sigma, 1e-8), whole)
    np.testing.assert_array_equal(whole[::7], d[::7] <= 1e-8)


def test_too_few_tell_nothing(rng):
    with pytest.raises(InputError, match="too few compounds") as error:
        Prior.of(known(rng, 29))
    assert error.value.received == "29"
    assert Prior.of(known(rng, 30)).compounds == 30


def test_what_has_no_distance_has_no_probability(rng):
    nothing = np.array([np.nan])
    assert np.isnan(Prior.of(known(rng)).probability(nothing, nothing, 0.0)[0])


def test_the_compounds_of_the_hull_are_counted_and_its_elements_are_not(tmp_path):
    """LiO, of −1 eV/atom, and Li2O to Li30O, each 0.11 eV/atom above the line to lithium: without
    LiO the hull goes from Li2O, of −2/3 + 0.11, to oxygen, and has 3/4 of that at LiO. Distances
    are counted in bins of 0.002 eV/atom."""
    lines = ["id,formula,energy", "li,Li,-2", "o,O,-5", "lio,LiO,-9"]
    for k in range(2, 31):
        lines.append(f"{k},Li{k}O,{(k + 1) * (0.11 - 2 / (k + 1)) - 2 * k - 5}")
    (tmp_path / "hull.csv").write_text("\n".join(lines) + "\n")
    found = prior_of(SystemHulls(read_entries(tmp_path / "hull.csv"), None, tolerance=1e-8))
    assert found.compounds == 30
    below = -1 + 0.75 * (2 / 3 - 0.11)
    np.testing.assert_allclose(found.distances, [below, 0.11], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.weights, [1 / 30, 29 / 30], rtol=1e-12)
    assert found.stable == pytest.approx(1 / 30)


def test_what_lies_on_the_hull_is_stable():
    assert Prior(np.array([-0.1, 0.0, 0.2]), np.array([0.2, 0.3, 0.5]), 30).stable == 0.5
