"""P(stable): closed forms, hulls of each sample by linear programs, and errors that cancel."""

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import norm

from kohn.errors import InputError
from kohn.stability.facets import (
    below_their_elements,
    cheapest_mixtures,
    elemental_start,
    highest,
    lower_facets,
)
from kohn.stability.hull import LowerHull
from kohn.stability.uncertainty import Errors, _SampledHull, draws, probability_stable

BINARY = np.array([[1.0, 0.0], [0.0, 1.0]])
AB = np.array([[0.5, 0.5]])


def system(elements: int, entries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Small stoichiometries with energies near ideal mixing, as in a real chemical system."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((entries, elements))
    for row in counts:
        k = rng.integers(2, min(elements, 4) + 1)
        row[rng.choice(elements, k, replace=False)] = rng.integers(1, 7, k)
    counts[:elements] = np.eye(elements)
    x = counts / counts.sum(axis=1, keepdims=True)
    mixing = -np.where(x > 0, x * np.log(np.where(x > 0, x, 1)), 0).sum(axis=1)
    e = -1.2 * mixing * (1 + 0.15 * rng.normal(size=entries)) + 0.08 * abs(rng.normal(size=entries))
    e[:elements] = 0
    return x, e


def height_by_program(x: np.ndarray, e: np.ndarray, at: np.ndarray, without: int) -> float:
    """h by HiGHS; NaN where no mixture has the composition."""
    allowed = np.arange(len(x)) != without
    found = linprog(e[allowed], A_eq=x[allowed].T, b_eq=at, bounds=(0, None), method="highs")
    return found.fun if found.status == 0 else np.nan


# --- the inner loops ----------------------------------------------------------------------


@pytest.mark.parametrize("elements", [1, 2, 3, 4, 5])
def test_facets_mixtures_and_programs_agree(elements):
    x, e = system(elements, 300) if elements > 1 else (np.ones((5, 1)), np.arange(5.0))
    at = system(elements, 200, seed=1)[0] if elements > 1 else np.ones((3, 1))
    _, planes, _ = lower_facets(x, e)
    heights, facets = highest(planes, at)
    start = elemental_start(x, e, np.full(len(at), -1))
    mixed, entries, shares = cheapest_mixtures(x, e, at, start)
    np.testing.assert_allclose(heights, (at @ planes.T).max(axis=1), atol=1e-13)
    np.testing.assert_array_equal(facets, (at @ planes.T).argmax(axis=1))
    np.testing.assert_allclose(mixed, heights, atol=1e-13)
    np.testing.assert_allclose(np.einsum("md,mdk->mk", shares, x[entries]), at, atol=1e-8)
    np.testing.assert_allclose(heights, LowerHull(x, e).height(at), atol=1e-13)
    np.testing.assert_allclose(
        mixed[:20], [height_by_program(x, e, row, -1) for row in at[:20]], atol=1e-9
    )


def test_six_elements_are_layered_and_the_facets_the_same(monkeypatch):
    """With compounds of five and six elements among them, which belong to no smaller system."""
    x, e = system(6, 120)
    rng = np.random.default_rng(2)
    more = rng.integers(0, 4, (60, 6)) + np.eye(6)[rng.integers(0, 6, 60)]
    x = np.vstack([x, more / more.sum(axis=1, keepdims=True)])
    e = np.concatenate([e, rng.uniform(-1.5, -0.2, 60)])
    layered = lower_facets(x, e)
    assert len(below_their_elements(x, e)) < 150
    monkeypatch.setattr("kohn.stability.facets.LAYERED", 9)
    whole = lower_facets(x, e)
    facets = [set(map(tuple, np.sort(found[0], axis=1))) for found in (layered, whole)]
    assert facets[0] == facets[1]
    assert len(facets[0]) > 100


def test_facets_between_dilute_compositions_are_kept():
    """A facet of the size of 1e-6 is as good as any other."""
    x = np.vstack([np.eye(3), [[1 - 3e-6, 1e-6, 2e-6], [1 - 3e-6, 2e-6, 1e-6]]])
    e = np.array([0.0, 0.0, 0.0, -1e-5, -1e-5])
    at = np.array([[1 - 2e-6, 1e-6, 1e-6], [0.9, 0.05, 0.05]])
    start = elemental_start(x, e, np.full(2, -1))
    expected, _, _ = cheapest_mixtures(x, e, at, start)
    np.testing.assert_allclose(highest(lower_facets(x, e)[1], at)[0], expected, atol=1e-12)
    assert expected[0] < -6e-6


def test_the_reference_of_the_energies_moves_the_planes_by_just_that(rng):
    x, e = system(3, 200)
    reference = rng.uniform(-9, -2, 3)
    _, planes, _ = lower_facets(x, e)
    _, moved, _ = lower_facets(x, e + x @ reference)
    at = system(3, 50, seed=1)[0]
    np.testing.assert_allclose(
        highest(moved, at)[0], highest(planes, at)[0] + at @ reference, atol=1e-13
    )


def test_no_compound_is_below_the_elements():
    x = np.vstack([np.eye(3), [[0.01, 0.99, 0]], [[0.2, 0.3, 0.5]]])
    vertices, planes, _ = lower_facets(x, np.array([0.0, 0, 0, 5.0, 0.3]))
    np.testing.assert_array_equal(np.sort(vertices), [[0, 1, 2]])
    np.testing.assert_allclose(planes, 0, atol=1e-15)


def test_the_simplex_method_ends_where_many_mixtures_are_equal():
    """All entries on one plane, many of the same composition: every step has length zero."""
    x = np.repeat(system(4, 60)[0], 3, axis=0)
    at = system(4, 100, seed=1)[0]
    e = x @ np.array([1.0, -2.0, 0.5, 3.0])
    heights, _, _ = cheapest_mixtures(x, e, at, elemental_start(x, e, np.full(len(at), -1)))
    np.testing.assert_allclose(heights, at @ np.array([1.0, -2.0, 0.5, 3.0]), atol=1e-13)


def test_the_order_that_ends_for_sure_ends_too(monkeypatch):
    monkeypatch.setattr("kohn.stability.facets.GREEDY", 0)
    x, e = system(3, 100)
    at = system(3, 50, seed=1)[0]
    heights, _, _ = cheapest_mixtures(x, e, at, elemental_start(x, e, np.full(len(at), -1)))
    np.testing.assert_allclose(heights, highest(lower_facets(x, e)[1], at)[0], atol=1e-13)


# --- each sampled hull is exact -----------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "entries", "others", "samples"),
    [(2, 150, 100, 4), (3, 200, 200, 4), (4, 100, 200, 3), (4, 150, 20, 3), (5, 60, 30, 3)],
)
def test_distances_are_those_of_linear_programs_without_the_candidate(
    elements, entries, others, samples
):
    """Candidates that are entries and others, pruned facets (many) and mixtures (few)."""
    x, e = system(elements, entries)
    at, energies = system(elements, others + elements, seed=1)
    own = np.arange(0, entries, 3 if elements > 3 else 1)
    which = np.concatenate([own, np.full(others, -1)])
    at = np.vstack([x[own], at[elements:]])
    energies = np.concatenate([e[own], energies[elements:]])
    errors = Errors(hull=0.03, candidates=0.02)
    found = probability_stable(x, e, at, energies, errors, entries=which, samples=samples)
    some = np.random.default_rng(0).choice(len(at), 40, replace=False)
    for s, (e_s, e_cs) in enumerate(draws(x, e, at, energies, which, errors, samples, 0)):
        np.testing.assert_array_equal(e_cs[which >= 0], e_s[own])
        expected = [e_cs[i] - height_by_program(x, e_s, at[i], which[i]) for i in some]
        # without the only entry of an element there is no hull there
        np.testing.assert_allclose(found.distances[s, some], np.nan_to_num(expected), atol=1e-9)


def test_many_candidates_and_few_have_the_same_distances():
    """More than 4^D are held against planes, fewer have their mixtures found."""
    x, e = system(3, 300)
    at, energies = system(3, 200, seed=1)
    many = probability_stable(x, e, at, energies, Errors(hull=0.03), samples=20)
    few = probability_stable(x, e, at[:30], energies[:30], Errors(hull=0.03), samples=20)
    np.testing.assert_allclose(many.distances[:, :30], few.distances, atol=1e-13)
    np.testing.assert_array_equal(many.competitors[:30, 0], few.competitors[:, 0])
    np.testing.assert_allclose(many.frequencies[:30], few.frequencies, atol=1e-12)


def test_mixtures_on_coplanar_facets_have_the_composition():
    """All on one plane: of the facets that are equally high, one that the composition is in."""
    x, _ = system(3, 60)
    at, _ = system(3, 200, seed=1)
    e = x @ np.array([0.0, -1.0, 2.0]) - 0.1 * (x.max(axis=1) < 1)
    hull = _SampledHull(x, e, at, np.full(200, -1))
    heights, entries, shares = hull.mixtures(e)
    assert hull.by_facets
    assert shares.min() >= 0
    np.testing.assert_allclose(np.einsum("md,mdk->mk", shares, x[entries]), at, atol=1e-8)
    np.testing.assert_allclose(np.einsum("md,md->m", shares, e[entries]), heights, atol=1e-8)


def test_seven_elements_and_one():
    x, e = system(7, 60)
    at, energies = system(7, 20, seed=1)
    errors = Errors(hull=0.03)
    found = probability_stable(x, e, at, energies, errors, samples=2)
    for s, (e_s, _) in enumerate(draws(x, e, at, energies, np.full(20, -1), errors, 2, 0)):
        expected = [energies[i] - height_by_program(x, e_s, at[i], -1) for i in range(20)]
        np.testing.assert_allclose(found.distances[s], expected, atol=1e-9)
    one = probability_stable(
        np.ones((3, 1)), np.array([0.0, 0.1, 0.2]), np.ones((9, 1)), np.full(9, 0.05), Errors()
    )
    np.testing.assert_allclose(one.mean, 0.05)


def test_the_draws_are_those_of_the_seed_and_of_the_sample():
    x, e = system(3, 200)
    at, energies = system(3, 100, seed=1)
    errors = Errors(0.03, 0.02, elements=np.eye(3) * 1e-3, elements_of="candidates")
    long = probability_stable(x, e, at, energies, errors, samples=30, seed=7)
    short = probability_stable(x, e, at, energies, errors, samples=12, seed=7)
    np.testing.assert_array_equal(long.distances[:12], short.distances)
    again = probability_stable(x, e, at, energies, errors, samples=12, seed=7)
    np.testing.assert_array_equal(again.distances, short.distances)
    other = probability_stable(x, e, at, energies, errors, samples=12, seed=8)
    assert not np.isin(other.distances, short.distances).any()  # in no order
    # the hull is drawn first: the same, whoever is held against it
    alone = [e_s for e_s, _ in draws(x, e, at[:1], energies[:1], np.array([-1]), errors, 3, 7)]
    beside = [e_s for e_s, _ in draws(x, e, at, energies, np.full(100, -1), errors, 3, 7)]
    np.testing.assert_array_equal(alone, beside)


# --- closed forms: a compound AB between A and B ------------------------------------------


def binary(errors: Errors, energy: float = -0.02, samples: int = 8000):
    """AB against A and B at 0."""
    return probability_stable(BINARY, np.zeros(2), AB, np.array([energy]), errors, samples=samples)


COVARIANCE = np.array([[9e-4, 3e-4], [3e-4, 4e-4]])
LINEAR = float(AB[0] @ COVARIANCE @ AB[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("errors", "variance"),
    [
        (Errors(candidates=0.03), 0.03**2),
        (Errors(hull=np.array([0.03, 0.05])), (0.03**2 + 0.05**2) / 4),
        (Errors(hull=0.04, candidates=0.03), 0.04**2 / 2 + 0.03**2),
        (Errors(elements=COVARIANCE, elements_of="candidates"), LINEAR),
        (Errors(elements=COVARIANCE, elements_of="hull"), LINEAR),
        (Errors(elements=COVARIANCE, correlation=0.0), 2 * LINEAR),
        (Errors(elements=COVARIANCE, correlation=0.75), 0.5 * LINEAR),
        (Errors(candidates=0.01, elements=COVARIANCE, correlation=0.5), LINEAR + 1e-4),
    ],
)
def test_probability_and_quantiles_of_a_binary_compound(errors, variance):
    """d is normal with mean −20 meV: P = Φ(20 meV/σ_d)."""
    found, sigma = binary(errors), np.sqrt(variance)
    expected = norm.cdf(0.02 / sigma)
    assert abs(found.probability[0] - expected) < 4 * found.probability_error[0]
    assert found.probability_error[0] == pytest.approx(
        np.sqrt(expected * (1 - expected) / 8000), rel=0.05
    )
    assert found.std[0] == pytest.approx(sigma, rel=0.03)
    np.testing.assert_allclose(
        found.quantiles[0], -0.02 + sigma * norm.ppf(found.levels), atol=0.05 * sigma
    )


@pytest.mark.slow
def test_quantiles_cover_new_draws_as_often_as_they_say():
    """Quantiles from one seed, distances of a ternary system from another."""
    x, e = system(3, 200)
    at, energies = system(3, 60, seed=1)
    errors = Errors(hull=0.03, candidates=0.02)
    levels = (0.05, 0.25, 0.75, 0.95)
    found = probability_stable(x, e, at, energies, errors, samples=1500, levels=levels)
    fresh = probability_stable(x, e, at, energies, errors, samples=1500, seed=1).distances
    for k, level in enumerate(levels):
        below = (fresh <= found.quantiles[:, k]).mean(axis=0)
        deviation = np.sqrt(2 * level * (1 - level) / 1500)
        assert abs(below.mean() - level) < deviation  # candidates share hulls: not / √60
        assert np.abs(below - level).max() < 5 * deviation


@pytest.mark.slow
def test_competitors_are_those_that_it_falls_into():
    """AB beside A and B alone; with A₃B near the line, that takes A's place as often as it is
    below it."""
    found = binary(Errors(candidates=0.03), samples=50)
    np.testing.assert_array_equal(found.competitors[0, :3], [0, 1, -1])
    np.testing.assert_array_equal(found.frequencies[0, :3], [1, 1, 0])
    x = np.vstack([BINARY, [[0.75, 0.25]]])
    e, sigma = np.array([0.0, 0.0, 0.01]), np.array([0.0, 0.0, 0.02])
    found = probability_stable(x, e, AB, np.zeros(1), Errors(hull=sigma), samples=4000)
    np.testing.assert_array_equal(found.competitors[0, :3], [1, 0, 2])  # most often first
    often = dict(zip(found.competitors[0].tolist(), found.frequencies[0], strict=True))
    assert often[1] == 1
    assert often[2] == pytest.approx(norm.cdf(-0.5), abs=0.03)
    assert often[0] == pytest.approx(1 - often[2], abs=1e-12)


@pytest.mark.slow
def test_an_entry_is_not_its_own_competitor_and_has_one_energy():
    """AB is in the hull: its error counts once, and A and B are what it falls into."""
    x, e = np.vstack([BINARY, AB]), np.array([0.0, 0.0, -0.02])
    found = probability_stable(
        x, e, AB, e[2:], Errors(hull=0.03, candidates=9.0), entries=np.array([2]), samples=4000
    )
    np.testing.assert_array_equal(found.competitors[0, :3], [0, 1, -1])
    assert found.std[0] == pytest.approx(0.03 * np.sqrt(1.5), rel=0.05)
    elements = probability_stable(x, e, x[:2], e[:2], Errors(hull=0.03), entries=np.arange(2))
    np.testing.assert_allclose(elements.distances, 0, atol=1e-15)
    np.testing.assert_array_equal(elements.probability, 1)


# --- errors that all share ----------------------------------------------------------------


def test_an_error_of_the_elements_shared_by_all_cancels():
    x, e = system(3, 400)
    at, energies = system(3, 100, seed=1)
    exact = energies - LowerHull(x, e).height(at)
    found = probability_stable(x, e, at, energies, Errors(elements=COV3), samples=50)
    np.testing.assert_allclose(found.distances, np.tile(exact, (50, 1)), atol=1e-12)
    # and so it does when it is added to every energy, as an ensemble that shares it would have it
    c = np.random.default_rng(0).multivariate_normal(np.zeros(3), COV3, 50)
    ensemble = Errors(ensemble_hull=e + c @ x.T, ensemble_candidates=energies + c @ at.T)
    found = probability_stable(x, e, at, energies, ensemble)
    np.testing.assert_allclose(found.distances, np.tile(exact, (50, 1)), atol=1e-12)


COV3 = np.array([[9.0, 2.0, 1.0], [2.0, 9.0, -3.0], [1.0, -3.0, 9.0]]) * 1e-4


def test_what_is_shared_must_not_be_drawn_independently():
    """σ = 30 meV/atom, 2,000 entries of three elements: the spread of the distance is 36 meV/atom
    with independent errors, 21 with errors of the elements on the candidates alone, and 0 with the
    same errors on all; and independent errors lower the hull by 7 meV/atom."""
    x, e = system(3, 2000)
    at, energies = system(3, 303, seed=1)
    at, energies = at[3:], energies[3:]
    exact = energies - LowerHull(x, e).height(at)

    def spread(errors: Errors) -> tuple[float, float]:
        found = probability_stable(x, e, at, energies, errors, samples=200)
        return 1e3 * float(found.std.mean()), 1e3 * float((found.mean - exact).mean())

    shared = 9e-4 * np.eye(3)
    wide, bias = spread(Errors(hull=0.03, candidates=0.03))
    assert 35 < wide < 38
    assert 6 < bias < 9
    wide, _ = spread(Errors(elements=shared, elements_of="candidates"))
    assert 20 < wide < 23
    wide, bias = spread(Errors(elements=shared))
    assert wide < 1e-9
    assert abs(bias) < 1e-9


# --- ensembles ----------------------------------------------------------------------------


def test_an_ensemble_drawn_from_the_gaussian_gives_the_same():
    """The very same draws: the same distances, to the last digits."""
    x, e = system(3, 200)
    at, energies = system(3, 100, seed=1)
    errors = Errors(hull=0.03, candidates=0.02)
    expected = probability_stable(x, e, at, energies, errors, samples=40)
    hulls, candidates = zip(
        *draws(x, e, at, energies, np.full(100, -1), errors, 40, 0), strict=True
    )
    ensemble = Errors(ensemble_hull=np.array(hulls), ensemble_candidates=np.array(candidates))
    found = probability_stable(x, e, at, energies, ensemble)
    assert found.distances.shape == (40, 100)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-13)
    np.testing.assert_array_equal(found.probability, expected.probability)
    np.testing.assert_array_equal(found.competitors, expected.competitors)


def test_columns_of_one_member_go_together():
    """A model that is wrong by the same for all says nothing about the distance; shuffled, much."""
    shift = np.random.default_rng(0).normal(0, 0.05, 200)
    hull, candidates = np.tile(shift[:, None], (1, 2)), -0.02 + shift[:, None]
    errors = Errors(ensemble_hull=hull, ensemble_candidates=candidates)
    found = probability_stable(BINARY, np.zeros(2), AB, np.array([-0.02]), errors)
    assert found.std[0] < 1e-15
    shuffled = Errors(ensemble_hull=hull, ensemble_candidates=candidates[::-1])
    wrong = probability_stable(BINARY, np.zeros(2), AB, np.array([-0.02]), shuffled)
    assert wrong.std[0] == pytest.approx(0.05 * np.sqrt(2), rel=0.2)


def test_few_members_say_little_however_often_they_are_drawn():
    errors = Errors(candidates=1e-3, ensemble_candidates=np.array([[-0.02], [0.02], [-0.01]]))
    found = probability_stable(BINARY, np.zeros(2), AB, np.zeros(1), errors, samples=999)
    assert found.probability[0] == pytest.approx(2 / 3, abs=1e-3)
    assert found.probability_error[0] == pytest.approx(np.sqrt(2.5 * 1.5 / 16 / 5))


def test_zero_and_one_are_not_certain():
    found = binary(Errors(candidates=1e-4), energy=-0.1, samples=100)
    assert found.probability[0] == 1
    assert 0.004 < found.probability_error[0] < 0.008


def test_nothing_uncertain():
    x, e = system(3, 200)
    at, energies = system(3, 100, seed=1)
    found = probability_stable(x, e, at, energies, Errors(), samples=3)
    exact = energies - LowerHull(x, e).height(at)
    np.testing.assert_allclose(found.mean, exact, atol=1e-13)
    np.testing.assert_array_equal(found.probability, exact <= 1e-8)


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fractions": BINARY[:1]}, "do not fit"),
        ({"fractions": BINARY * 2}, "add to 1"),
        ({"energies": np.array([0.0, np.nan])}, "not finite"),
        ({"fractions": np.array([[1.0, 0], [0.5, 0.5]])}, "an element has no entry"),
        ({"entries": np.array([2])}, "does not exist"),
        ({"entries": np.array([1])}, "differs from the entry"),
        ({"errors": Errors(hull=-0.1)}, "deviations of the hull"),
        ({"errors": Errors(candidates=np.zeros(3))}, "deviations of the candidates"),
        ({"errors": Errors(elements=np.array([[1.0, 2], [2, 1]]))}, "covariance"),
        ({"errors": Errors(elements=np.eye(3))}, "covariance"),
        ({"errors": Errors(correlation=1.5)}, "correlation"),
        ({"errors": Errors(elements_of="all")}, "elements_of"),  # type: ignore[arg-type]
        ({"errors": Errors(ensemble_hull=np.zeros((4, 3)))}, "ensemble of the hull"),
        (
            {
                "errors": Errors(
                    ensemble_hull=np.zeros((4, 2)), ensemble_candidates=np.zeros((3, 1))
                )
            },
            "ensemble of the candidates",
        ),
        ({"samples": 0}, "no samples"),
        ({"seed": -1}, "no samples"),
    ],
)
def test_what_cannot_be_used_is_refused(change, message):
    given = {
        "fractions": BINARY,
        "energies": np.zeros(2),
        "candidates": AB,
        "candidate_energies": np.zeros(1),
        "errors": Errors(candidates=0.1),
        "samples": 2,
    }
    with pytest.raises(InputError, match=message):
        probability_stable(**{**given, **change})
