"""One step of training against closed forms: rates, clipping, moments, and the moving average."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kohn.training.optimiser import (
    flatten,
    initial_state,
    learning_rate,
    make_step,
    make_validation,
    optimiser,
)
from kohn.training.settings import OptimiserSettings

NOTHING = np.zeros(1)


def settings(**more):
    return OptimiserSettings.model_validate({"learning_rate": 0.1, "warmup_steps": 0, **more})


def rates(chosen, steps, at):
    with jax.numpy_dtype_promotion("standard"):
        schedule = learning_rate(chosen, steps)
        return [float(np.asarray(schedule(k))) for k in at]


# Rates


def test_the_rate_rises_linearly_and_falls_along_half_a_cosine():
    """From 20 to 100 steps: at 40, 60 and 80 the cosine is at 45°, 90° and 135°."""
    chosen = settings(warmup_steps=20, final_fraction=0.2)
    found = rates(chosen, 100, (0, 5, 10, 20, 40, 60, 80, 100))
    eighth = 2**-0.5
    expected = [0.0, 0.025, 0.05, 0.1, 0.06 + 0.04 * eighth, 0.06, 0.06 - 0.04 * eighth, 0.02]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_a_constant_rate_is_constant_after_its_rise():
    chosen = settings(warmup_steps=10, schedule="constant")
    np.testing.assert_allclose(rates(chosen, 100, (0, 5, 10, 99)), [0.0, 0.05, 0.1, 0.1], rtol=1e-6)
    assert rates(settings(schedule="constant"), 100, (0, 99)) == pytest.approx([0.1, 0.1])
    assert rates(settings(), 100, (0,)) == pytest.approx([0.1])


def test_a_run_shorter_than_its_rise_reaches_the_highest_rate_all_the_same():
    found = rates(settings(warmup_steps=100), 5, (0, 2, 4))
    np.testing.assert_allclose(found, [0.0, 0.05, 0.1], rtol=1e-6)


# Updates


def updates(chosen, gradients, theta):
    """Updates of θ, one after the other, at the same θ."""
    theta = jnp.asarray(theta)
    rule = optimiser(chosen, 1000, theta)
    state, found = rule.init(theta), []
    with jax.numpy_dtype_promotion("standard"):
        step = jax.jit(rule.update)
        for g in gradients:
            update, state = step(jnp.asarray(g), state, theta)
            found.append(np.asarray(update))
    return found


def test_adamw_moves_by_the_rate_and_shrinks_the_weights():
    """At first the moments' ratio is the sign of the gradient: −η (sign g + λ θ)."""
    chosen = settings(kind="adamw", schedule="constant", weight_decay=0.5)
    (found,) = updates(chosen, [[3.0, -4.0]], [1.0, 2.0])
    np.testing.assert_allclose(found, [-0.1 * 1.5, -0.1 * 0.0], atol=1e-8)


def test_amsgrad_remembers_the_largest_gradient():
    """After g and 0: −η β₁/(1 + β₁) · g/|g| with the largest v = g²; Adam's v would have halved."""
    chosen = settings(kind="amsgrad", schedule="constant", weight_decay=0.5)
    first, second = updates(chosen, [[2.0], [0.0]], [7.0])
    np.testing.assert_allclose(first, [-0.1], atol=1e-8)
    np.testing.assert_allclose(second, [-0.1 * 0.9 / 1.9], atol=1e-8)


def test_long_gradients_are_shortened_and_short_ones_are_not():
    """As seen by the moments: (30, 40) becomes (6, 8), and then (0.3, 0.4) stays.

    m̂ = (β₁ (1 − β₁) g₁ + (1 − β₁) g₂)/(1 − β₁²) over the root of the largest v̂ = g₁².
    """
    chosen = settings(clip=10.0, schedule="constant")
    _, found = updates(chosen, [[30.0, 40.0], [0.3, 0.4]], [0.0, 0.0])
    ratio = 0.1 * (0.9 * 10.0 + 0.5) / (1 - 0.9**2) / 10.0
    np.testing.assert_allclose(found, [-0.1 * ratio] * 2, rtol=1e-6)


# Steps


def square(theta, graph, t, w, key):
    """w Σ (θ − t)², with a part that is not weighted."""
    off = jnp.sum((theta - t) ** 2)
    return w * off, {"energy": off}


def halving(ema, count, theta=1.0):
    """States of steps that halve θ: gradient 2θ, rate 1/4."""
    rule = optax.sgd(0.25)
    step = make_step(square, rule, ema=ema)
    states, reports = [initial_state(jnp.asarray([theta]), rule)], []
    for _ in range(count):
        state, report = step(states[-1], NOTHING, np.zeros(1), np.float64(1.0))
        states.append(state)
        reports.append(report)
    return states, reports


def test_the_average_follows_the_weights_after_the_step():
    """Decays 2/11, 3/12, 4/13 … until the one that is asked for: 0.28 from the third step on."""
    states, _ = halving(0.28, 3)
    assert [float(s.theta[0]) for s in states] == [1.0, 0.5, 0.25, 0.125]
    assert [int(s.step) for s in states] == [0, 1, 2, 3]
    first = 2 / 11 * 1.0 + 9 / 11 * 0.5
    second = 3 / 12 * first + 9 / 12 * 0.25
    third = 0.28 * second + 0.72 * 0.125
    expected = [1.0, first, second, third]
    np.testing.assert_allclose([float(s.average[0]) for s in states], expected, rtol=1e-14)


def test_without_a_decay_the_average_is_the_weights():
    states, _ = halving(0.0, 2)
    assert [float(s.average[0]) for s in states] == [1.0, 0.5, 0.25]


def test_a_report_is_of_the_weights_before_the_step_and_of_the_gradient_before_clipping():
    rule = optimiser(settings(clip=0.5, schedule="constant"), 100, jnp.zeros(2))
    step = make_step(square, rule, ema=0.9)
    start = initial_state(jnp.asarray([3.0, 4.0]), rule)
    _, report = step(start, NOTHING, np.zeros(2), np.float64(2.0))
    assert float(report.loss) == 50.0
    assert float(report.parts["energy"]) == 25.0
    assert float(report.gradient_norm) == pytest.approx(20.0, rel=1e-14)


def test_the_key_is_another_one_in_each_step_and_the_same_again_when_a_run_goes_on():
    def drawing(theta, graph, t, w, key):
        drawn = jax.random.uniform(key, dtype=np.float64)
        return jnp.sum(theta) + 0.0 * drawn, {"drawn": drawn}

    def draws(seed, state, count):
        step = make_step(drawing, rule, ema=0.0, seed=seed)
        found = []
        for _ in range(count):
            state, report = step(state, NOTHING, np.zeros(1), np.float64(1.0))
            found.append(float(report.parts["drawn"]))
        return state, found

    rule = optax.sgd(0.25)
    start = initial_state(jnp.asarray([1.0]), rule)
    _, whole = draws(3, start, 4)
    half, first = draws(3, start, 2)
    assert first + draws(3, half, 2)[1] == whole
    assert len({*whole, *draws(4, start, 4)[1]}) == 8


def test_weights_become_one_vector_and_a_model_again():
    model = {"a": jnp.asarray([1.0, 2.0]), "counts": jnp.asarray([7]), "name": "x"}
    theta, unravel = flatten(model)
    np.testing.assert_array_equal(theta, [1.0, 2.0])
    again = unravel(2.0 * theta)
    np.testing.assert_array_equal(again["a"], [2.0, 4.0])
    assert (int(again["counts"][0]), again["name"]) == (7, "x")


# Validation


class Told:
    """Predicts what the weights say, of two labels of three, one with two components a row."""

    def predict(self, model, graph):
        return model

    def loss(self, predicted, labels, weights):
        return weights * jnp.sum(predicted), {"energy": jnp.sum(predicted)}

    def errors(self, predicted, labels):
        there = jnp.asarray([True, False, True])
        return {"energy": (predicted, there), "forces": (jnp.stack([predicted] * 2, 1), there)}


def test_validation_sums_errors_of_what_is_labelled():
    validate = make_validation(Told(), lambda theta: theta)
    theta = jnp.asarray([3.0, 100.0, -4.0])
    found = validate(theta, NOTHING, NOTHING, np.float64(2.0))
    assert float(found.loss) == 198.0
    assert float(found.loss_of_zero) == 0.0
    assert [float(x) for x in found.sums["energy"]] == [7.0, 25.0, 2.0]
    assert [float(x) for x in found.sums["forces"]] == [14.0, 50.0, 4.0]
