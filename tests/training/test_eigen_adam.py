"""Adam in eigenbases against its equations for one matrix, and against Adam where they agree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kohn.training.eigen_adam import eigen_adam
from kohn.training.matrices import Matrices

SHAPES = ((5,), (9, 12), (2, 96, 128), (), (3, 70), (4, 1))
RATE = 0.1


def rate(step):
    return jnp.asarray(RATE)


def gradients(count, *shape, seed=0):
    """Random gradients; those of square matrices have full rank, so that bases are determined."""
    random = np.random.default_rng(seed).standard_normal((count, *shape))
    wide = shape[-1] if len(shape) > 1 else 0
    return random + 3.0 * np.sqrt(wide) * np.eye(wide) if wide else random


def updates(shapes, given, **more):
    """Updates of θ = 0 by the gradients, one after the other."""
    size = sum(int(np.prod(s)) for s in shapes)
    rule = eigen_adam(rate, Matrices(tuple(shapes)), **more)
    theta, found = jnp.zeros(size), []
    state = rule.init(theta)
    step = jax.jit(rule.update)
    for g in given:
        change, state = step(jnp.asarray(g), state, theta)
        found.append(np.asarray(change))
    return np.array(found)


# Matrices


def test_stacks_and_vector_undo_each_other():
    theta = jnp.arange(float(sum(int(np.prod(s)) for s in SHAPES)))
    others, stacks = Matrices(SHAPES).stacks(theta)
    assert {block: x.shape[0] for block, x in stacks.items()} == {
        (9, 12): 1,
        (48, 64): 8,
        (3, 35): 2,
    }
    assert others.size == 5 + 1 + 4
    np.testing.assert_array_equal(Matrices(SHAPES).vector(others, stacks), theta)


def test_a_block_is_a_part_of_its_matrix():
    theta = np.random.default_rng(1).standard_normal((2, 96, 128))
    _, stacks = Matrices(((2, 96, 128),)).stacks(jnp.asarray(theta.ravel()))
    expected = [
        theta[k, a : a + 48, b : b + 64] for k in range(2) for a in (0, 48) for b in (0, 64)
    ]
    np.testing.assert_array_equal(stacks[48, 64], expected)


def test_a_model_without_matrices_has_no_stacks():
    others, stacks = Matrices(((12, 1), ())).stacks(jnp.arange(13.0))
    assert stacks == {}
    np.testing.assert_array_equal(Matrices(((12, 1), ())).vector(others, stacks), np.arange(13.0))


# Updates


def written_out(given, every, b1=0.95, b2=0.95, b3=0.95):
    """The equations for one matrix, in NumPy, with eigenvectors in columns and no stacks."""
    m, n = given[0].shape
    left, right, u, v = np.zeros((m, m)), np.zeros((n, n)), np.eye(m), np.eye(n)
    momentum, second, found = np.zeros((m, n)), np.zeros((m, n)), []
    for t, g in enumerate(given):
        left, right = b3 * left + (1 - b3) * g @ g.T, b3 * right + (1 - b3) * g.T @ g
        if t % every == 0:
            rows, columns = (
                np.argsort(-np.diag(q.T @ p @ q), kind="stable") for p, q in ((left, u), (right, v))
            )
            u, v = (
                np.linalg.qr(p @ q[:, order])[0]
                for p, q, order in ((left, u, rows), (right, v, columns))
            )
            second = second[rows][:, columns]
        momentum = b1 * momentum + (1 - b1) * g  # in the original basis
        second = b2 * second + (1 - b2) * (u.T @ g @ v) ** 2
        first = u.T @ momentum @ v / (1 - b1 ** (t + 1))
        found.append(-RATE * u @ (first / (np.sqrt(second / (1 - b2 ** (t + 1))) + 1e-8)) @ v.T)
    return np.array(found)


@pytest.mark.parametrize("size", [2, 12, 64])
def test_updates_are_those_of_the_equations(size):
    given = gradients(23, size, size)
    found = updates([(size, size)], given.reshape(23, -1), every=5)
    expected = written_out(given, every=5)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-9, atol=1e-9)


def test_each_block_is_updated_as_if_it_were_alone():
    given = gradients(12, 2, 2, 64, 64)  # of a stack of two matrices, 64 x 128
    theta = np.swapaxes(given, 2, 3).reshape(12, 2, 64, 128)
    whole = updates([(2, 64, 128)], theta.reshape(12, -1), every=4).reshape(12, 2, 64, 128)
    alone = updates([(64, 64)], given[:, 1, 0].reshape(12, -1), every=4)
    np.testing.assert_allclose(whole[:, 1, :, :64].reshape(12, -1), alone, rtol=1e-9, atol=1e-9)


def test_weights_in_no_matrix_are_updated_by_adam():
    given, adam = gradients(7, 40), optax.adam(RATE, b1=0.95, b2=0.95)
    state, expected = adam.init(jnp.zeros(40)), []
    for g in given:
        with jax.numpy_dtype_promotion("standard"):
            change, state = adam.update(jnp.asarray(g), state)
        expected.append(change)
    np.testing.assert_allclose(updates([(40,)], given), expected, rtol=1e-9)


def test_a_matrix_without_a_gradient_stays():
    """For example the weights of an element that no structure of a batch has."""
    given = gradients(12, 64 + 64)
    given[:, 64:] = 0.0
    found = updates([(8, 8), (8, 8)], given, every=3)
    assert np.all(np.isfinite(found))
    assert np.all(found[:, 64:] == 0.0)
    assert np.all(found[:, :64] != 0.0)


def test_the_weights_decay_by_the_rate():
    rule = eigen_adam(rate, Matrices(((8, 8),)), weight_decay=0.25)
    theta = jnp.arange(64.0)
    change, _ = rule.update(jnp.zeros(64), rule.init(theta), theta)
    np.testing.assert_allclose(change, -RATE * 0.25 * np.arange(64.0), rtol=1e-12)


def descent(rule, steps):
    """‖A W B‖² after steps from W = 1: steep and flat directions that are not along weights."""
    random = np.random.default_rng(3)
    a, b = (np.linalg.qr(random.standard_normal((8, 8)))[0] for _ in range(2))
    scale = 10.0 ** -np.linspace(0, 2, 8)

    def loss(theta):
        return jnp.sum((scale[:, None] * (a @ theta.reshape(8, 8) @ b) * scale) ** 2)

    theta = jnp.asarray(random.standard_normal(64))
    state, first = rule.init(theta), loss(theta)

    @jax.jit
    def step(theta, state):
        with jax.numpy_dtype_promotion("standard"):
            change, state = rule.update(jax.grad(loss)(theta), state, theta)
        return theta + change, state

    for _ in range(steps):
        theta, state = step(theta, state)
    return float(loss(theta) / first)


def test_descent_is_faster_than_adams_where_steep_directions_are_not_along_weights():
    falling = optax.cosine_decay_schedule(0.1, 200)
    ours = descent(eigen_adam(falling, Matrices(((8, 8),))), 200)
    adams = descent(optax.adam(falling, b1=0.95, b2=0.95), 200)
    assert ours < 0.1 * adams
