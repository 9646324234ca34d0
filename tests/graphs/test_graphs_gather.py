"""The gather through reverse slots: linear, differentiable in both modes, free of scatters."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import structure
from jax.test_util import check_grads

from kohn.graphs import collate, gather_neighbours, neighbourhood, sum_over_reverse, take_reverse

CUTOFF, FEATURES = 3.0, 2


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)
    crystal = structure(
        rng.uniform(0, 1, (3, 3)) @ (2.6 * np.eye(3)), cell=2.6 * np.eye(3), periodic=True
    )
    molecule = structure([[0, 0, 0], [1.5, 0, 0], [0, 1.4, 0]])
    both = [crystal, molecule]
    g = collate(both, [neighbourhood(s, CUTOFF) for s in both], (14,), dtype=np.float64)
    return jax.tree.map(jnp.asarray, g)


def scatters(f, *arguments) -> int:
    """Scatter operations in a function, in its jaxpr and in what XLA is given."""
    text = str(jax.make_jaxpr(f)(*arguments))
    lowered = jax.jit(f).lower(*arguments).as_text()
    return len(re.findall(r"\bscatter", text)) + len(re.findall(r"stablehlo\.scatter", lowered))


def masked(g):
    """A nonlinear function of features of neighbours, as models use them."""
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(*g.index.shape, FEATURES)))

    def f(h):
        sent = gather_neighbours(h, g.index, g.reverse)
        return jnp.sum(jnp.sin(sent) * weight * g.edge_mask[..., None].astype(h.dtype), axis=1)

    return f


def plain(g):
    """The same by indexing: JAX's own derivatives of it are the reference."""
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(*g.index.shape, FEATURES)))
    return lambda h: jnp.sum(
        jnp.sin(h[g.index]) * weight * g.edge_mask[..., None].astype(h.dtype), axis=1
    )


@pytest.fixture
def h(graph):
    return jnp.asarray(np.random.default_rng(2).normal(size=(graph.index.shape[0], FEATURES)))


def test_values(graph, h):
    np.testing.assert_array_equal(
        gather_neighbours(h, graph.index, graph.reverse), np.asarray(h)[np.asarray(graph.index)]
    )


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_features_of_any_shape(graph, shape):
    h = np.random.default_rng(3).normal(size=(graph.index.shape[0], *shape))
    out = gather_neighbours(jnp.asarray(h), graph.index, graph.reverse)
    np.testing.assert_array_equal(out, h[np.asarray(graph.index)])


def test_each_is_the_transpose_of_the_other(graph, h):
    """<gather h, g> = <h, sum g> for g that vanishes in padding."""
    g = jnp.asarray(np.random.default_rng(4).normal(size=(*graph.index.shape, FEATURES)))
    g = g * graph.edge_mask[..., None].astype(g.dtype)
    left = jnp.vdot(gather_neighbours(h, graph.index, graph.reverse), g)
    right = jnp.vdot(h, sum_over_reverse(g, graph.index, graph.reverse))
    assert float(left) == pytest.approx(float(right), rel=1e-13)
    scattered = jnp.zeros_like(h).at[graph.index].add(g)
    np.testing.assert_allclose(
        sum_over_reverse(g, graph.index, graph.reverse), scattered, atol=1e-13
    )
    _, back = jax.vjp(lambda x: gather_neighbours(x, graph.index, graph.reverse), h)
    np.testing.assert_allclose(back(g)[0], scattered, atol=1e-13)
    transposed = jax.linear_transpose(lambda x: gather_neighbours(x, graph.index, graph.reverse), h)
    np.testing.assert_allclose(transposed(g)[0], scattered, atol=1e-13)
    twice = jax.linear_transpose(lambda x: sum_over_reverse(x, graph.index, graph.reverse), g)
    np.testing.assert_array_equal(twice(h)[0], gather_neighbours(h, graph.index, graph.reverse))


def test_reversed_twice_is_itself(graph):
    """sum_over_reverse of one-hot slots: every real slot arrives exactly once, at its sender."""
    n, k = graph.index.shape
    mask, index = np.asarray(graph.edge_mask), np.asarray(graph.index)
    one = np.zeros((n, k, n * k))
    one.reshape(n * k, n * k)[np.arange(n * k), np.arange(n * k)] = mask.ravel()
    arrived = np.asarray(sum_over_reverse(jnp.asarray(one), graph.index, graph.reverse))
    for i, slot in np.argwhere(mask):
        column = arrived[:, i * k + slot]
        assert column.sum() == 1
        assert column[index[i, slot]] == 1


def test_values_of_reverse_edges(graph):
    """An antisymmetric function of edges changes sign; the map is its own transpose."""
    mask = graph.edge_mask[..., None].astype(graph.displacement.dtype)
    d = graph.displacement * mask
    back = take_reverse(d, graph.reverse) * mask
    np.testing.assert_array_equal(back, -d)
    rng = np.random.default_rng(5)
    x, y = (jnp.asarray(rng.normal(size=(*graph.index.shape, FEATURES))) for _ in range(2))
    y = y * mask
    _, pull = jax.vjp(lambda x: take_reverse(x, graph.reverse), x)
    np.testing.assert_array_equal(pull(y)[0] * mask, take_reverse(y, graph.reverse) * mask)
    assert float(jnp.vdot(take_reverse(x, graph.reverse), y)) == pytest.approx(
        float(jnp.vdot(x, pull(y)[0])), rel=1e-12
    )


@pytest.mark.slow
def test_derivatives_of_both_orders_and_modes(graph, h):
    check_grads(masked(graph), (h,), order=2, modes=("fwd", "rev"), atol=1e-7, rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "operator",
    [
        lambda f: f,
        lambda f: jax.grad(lambda x: jnp.sum(f(x) ** 2)),
        lambda f: jax.jacfwd(f),
        lambda f: jax.jacrev(f),
        lambda f: jax.hessian(lambda x: jnp.sum(f(x) ** 3)),
        lambda f: jax.grad(lambda x: jnp.sum(jax.grad(lambda y: jnp.sum(f(y) ** 2))(x) ** 2)),
        lambda f: lambda x: jax.jvp(jax.grad(lambda y: jnp.sum(f(y) ** 2)), (x,), (x,))[1],
        lambda f: jax.grad(jax.checkpoint(lambda x: jnp.sum(f(x) ** 2))),
        lambda f: lambda x: jax.linearize(f, x)[1](x),
    ],
    ids=[
        "value",
        "grad",
        "jacfwd",
        "jacrev",
        "hessian",
        "grad of grad",
        "jvp of grad",
        "checkpoint",
        "linearize",
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_every_transformation_agrees_with_indexing(graph, h, operator, compiled):
    ours, theirs = operator(masked(graph)), operator(plain(graph))
    if compiled:
        ours = jax.jit(ours)
    np.testing.assert_allclose(ours(h), theirs(h), atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_batched_over_features_alone(graph, axis):
    """An ensemble: many h, one graph."""
    h = np.random.default_rng(5).normal(size=(graph.index.shape[0], FEATURES))
    many = jnp.asarray(np.stack([h, 2 * h, h**2], axis=axis))
    for f, g in (
        (masked(graph), plain(graph)),
        (jax.jacrev(masked(graph)), jax.jacrev(plain(graph))),
    ):
        np.testing.assert_allclose(
            jax.vmap(f, in_axes=axis)(many), jax.vmap(g, in_axes=axis)(many), atol=1e-12
        )
    gradient = jax.grad(lambda x: jnp.sum(jax.vmap(masked(graph), in_axes=axis)(x) ** 2))
    expected = jax.grad(lambda x: jnp.sum(jax.vmap(plain(graph), in_axes=axis)(x) ** 2))
    np.testing.assert_allclose(gradient(many), expected(many), atol=1e-12)
    assert scatters(gradient, many) == 0
    assert (
        scatters(jax.vmap(jax.grad(lambda x: jnp.sum(masked(graph)(x))), in_axes=axis), many) == 0
    )


def test_batched_twice(graph, h):
    many = jnp.stack([h, 2 * h])
    more = jnp.stack([many, many**2, -many])
    ours = jax.vmap(jax.vmap(masked(graph)))(more)
    np.testing.assert_allclose(ours, jax.vmap(jax.vmap(plain(graph)))(more), atol=1e-12)


@pytest.mark.slow
def test_batched_over_everything(graph, h):
    """Several graphs of one shape, and also one h in several graphs."""
    n, k = graph.index.shape
    # The same graph with its atoms in another order is another graph of the same shape.
    order = np.concatenate([np.random.default_rng(6).permutation(n - 1), [n - 1]])
    place = np.argsort(order)
    index = place[np.asarray(graph.index)[order]].astype(np.int32)
    old = np.asarray(graph.reverse)[order]
    reverse = (place[old // k] * k + old % k).astype(np.int32)
    mask = np.asarray(graph.edge_mask)
    indices = jnp.stack([graph.index, jnp.asarray(index)])
    reverses = jnp.stack([graph.reverse, jnp.asarray(reverse)])
    masks = jnp.asarray(np.stack([mask, mask[order]]), h.dtype)[..., None]

    def ours(x, i, r, m):
        return jnp.sum(jnp.sin(gather_neighbours(x, i, r)) * m)

    def theirs(x, i, r, m):
        return jnp.sum(jnp.sin(x[i]) * m)

    many = jnp.stack([h, h[order]])
    for axes, x in ((0, many), (None, h)):
        in_axes = (axes, 0, 0, 0)
        for outer in (lambda f: f, jax.grad):
            np.testing.assert_allclose(
                jax.vmap(outer(ours), in_axes)(x, indices, reverses, masks),
                jax.vmap(outer(theirs), in_axes)(x, indices, reverses, masks),
                atol=1e-12,
            )

        def total(f, y, in_axes=in_axes):
            return jnp.sum(jax.vmap(f, in_axes)(y, indices, reverses, masks))

        gradients = [jax.grad(partial(total, f))(x) for f in (ours, theirs)]
        np.testing.assert_allclose(*gradients, atol=1e-12)
    # Index batched and reverse not, or the other way round: whatever the mask of axes.
    for in_axes in ((0, 0, None), (0, None, 0), (None, None, 0), (None, 0, None)):
        arguments = [
            many if in_axes[0] == 0 else h,
            indices if in_axes[1] == 0 else graph.index,
            reverses if in_axes[2] == 0 else graph.reverse,
        ]
        out = jax.vmap(gather_neighbours, in_axes)(*arguments)
        expected = jax.vmap(lambda x, i, r: x[i], in_axes)(*arguments)
        np.testing.assert_array_equal(out, expected)


def test_scan_and_jit_around_it(graph, h):
    f = masked(graph)

    def body(x, _):
        return x + 0.1 * f(x), jnp.sum(x)

    ours = jax.jit(lambda x: jax.lax.scan(body, x, None, length=4)[0])(h)
    x = h
    for _ in range(4):
        x = x + 0.1 * plain(graph)(x)
    np.testing.assert_allclose(ours, x, atol=1e-12)
    assert np.isfinite(
        jax.grad(lambda x: jnp.sum(jax.lax.scan(body, x, None, length=4)[0]))(h)
    ).all()


def test_no_scatter_where_indexing_has_one(graph, h):
    def gradient(f):
        return jax.grad(lambda x: jnp.sum(f(x) ** 2))

    assert scatters(gradient(plain(graph)), h) > 0  # so the count counts
    assert scatters(gradient(masked(graph)), h) == 0
    assert scatters(jax.grad(lambda x: jnp.sum(gradient(masked(graph))(x) ** 2)), h) == 0
    assert scatters(jax.jacfwd(gradient(masked(graph))), h) == 0


def test_the_dtype_is_kept(graph, h):
    for dtype in (jnp.float32, jnp.float64):
        x = h.astype(dtype)
        assert gather_neighbours(x, graph.index, graph.reverse).dtype == dtype
        gradient = jax.grad(lambda y: jnp.sum(gather_neighbours(y, graph.index, graph.reverse)))(x)
        assert gradient.dtype == dtype
