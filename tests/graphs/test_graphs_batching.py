"""Batches: padding is invisible, shapes are few, and what does not fit is refused."""

import jax
import numpy as np
import pytest
from brute_force import structure
from hypothesis import given
from hypothesis import strategies as st

from kohn.errors import InputError, Place
from kohn.graphs import (
    Shape,
    collate,
    fitting_shape,
    needed_shape,
    neighbourhood,
    plan_shapes,
    species_index,
    waste,
)

CUTOFF = 3.0
ELEMENTS = (1, 8, 14)


def crystals(rng, count):
    found = []
    for _ in range(count):
        n = int(rng.integers(1, 5))
        cell = np.eye(3) * rng.uniform(2.6, 4) + rng.normal(size=(3, 3)) * 0.3
        numbers = rng.choice(ELEMENTS, n)
        found.append(structure(rng.uniform(-1, 2, (n, 3)) @ cell, numbers, cell, True))
    return found


def check_layout(structures, rows, graph, elements=ELEMENTS):
    """A batch holds exactly its structures, and its padding what the docstring says."""
    g = jax.tree.map(np.asarray, graph)
    n, k = g.index.shape
    start = 0
    for number, (s, h) in enumerate(zip(structures, rows, strict=True)):
        here = slice(start, start + len(s))
        width = h.width
        np.testing.assert_array_equal(np.array(elements)[g.species[here]], s.numbers)
        assert (g.structure[here] == number).all()
        assert g.atom_mask[here].all()
        np.testing.assert_array_equal(g.edge_mask[here, :width], h.mask)
        assert not g.edge_mask[here, width:].any()
        mask = g.edge_mask[here]
        np.testing.assert_array_equal(g.index[here][mask] - start, h.index[h.mask])
        np.testing.assert_array_equal(
            g.displacement[here][mask], h.displacement[h.mask].astype(g.displacement.dtype)
        )
        assert g.volume[number] == pytest.approx(s.volume or 1.0, rel=1e-6)
        start += len(s)
    assert not g.atom_mask[start:].any()
    assert not g.edge_mask[start:].any()
    assert start < n, "the last row is a dummy"
    padding = ~g.edge_mask
    assert (g.index[padding] == n - 1).all()
    assert (g.reverse[padding] == n * k - 1).all()
    assert (np.linalg.norm(g.displacement[padding], axis=-1) > 0).all()
    # Through the whole batch the reverse is an involution with the opposite displacement.
    slots = np.flatnonzero(g.edge_mask.ravel())
    reverse, d = g.reverse.ravel(), g.displacement.reshape(-1, 3)
    np.testing.assert_array_equal(reverse[reverse[slots]], slots)
    np.testing.assert_array_equal(d[reverse[slots]], -d[slots])
    np.testing.assert_array_equal(reverse[slots] // k, g.index.ravel()[slots])


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 5),
    extra=st.tuples(*[st.integers(0, 6)] * 3),
)
def test_layout(seed, count, extra):
    rng = np.random.default_rng(seed)
    structures = crystals(rng, count)
    structures.insert(0, structure([[0, 0, 0]], [8]))  # an atom without neighbours
    rows = [neighbourhood(s, CUTOFF) for s in structures]
    needed = needed_shape(rows)
    shape = Shape(*(a + b for a, b in zip(needed, extra, strict=True)))
    graph = collate(structures, rows, ELEMENTS, shape, dtype=np.float64)
    check_layout(structures, rows, graph)
    assert graph.index.shape == shape[:2]
    assert graph.n_structures == shape.structures
    check_layout(structures, rows, collate(structures, rows, ELEMENTS))


def test_dtypes():
    s = crystals(np.random.default_rng(0), 1)
    rows = [neighbourhood(x, CUTOFF) for x in s]
    for dtype in (np.float32, np.float64):
        g = collate(s, rows, ELEMENTS, dtype=dtype)
        assert g.displacement.dtype == dtype
        assert (g.species.dtype, g.index.dtype, g.reverse.dtype, g.structure.dtype) == (
            np.int32,
        ) * 4
        assert (g.edge_mask.dtype, g.atom_mask.dtype) == (np.bool_,) * 2


def test_sums_over_atoms_leave_padding_out(rng):
    structures = crystals(rng, 3)
    rows = [neighbourhood(s, CUTOFF) for s in structures]
    needed = needed_shape(rows)
    graph = collate(structures, rows, ELEMENTS, Shape(needed.rows + 3, needed.slots, 5))
    values = rng.normal(size=(needed.rows + 3, 2))
    total = np.asarray(graph.sum_atoms(jax.numpy.asarray(values)))
    start = 0
    for g, s in enumerate(structures):
        np.testing.assert_allclose(total[g], values[start : start + len(s)].sum(0), atol=1e-14)
        start += len(s)
    np.testing.assert_array_equal(total[3:], 0.0)
    single = graph.sum_atoms(jax.numpy.asarray(values, np.float32))
    assert single.dtype == np.float64


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_shape_too_small_is_refused(missing, rng):
    structures = crystals(rng, 2)
    rows = [neighbourhood(s, CUTOFF) for s in structures]
    shape = list(needed_shape(rows))
    shape[missing] -= 1
    with pytest.raises(InputError, match="batch too small"):
        collate(structures, rows, ELEMENTS, Shape(*shape))


def test_unseen_elements_are_named_with_their_place():
    s = structure([[0, 0, 0], [1, 0, 0]], [8, 79])
    object.__setattr__(s, "place", Place(file="gold.extxyz", frame=7))
    with pytest.raises(InputError, match=r"(?s)not seen Au.*gold\.extxyz, frame 7.*H, O, Si"):
        species_index(s, ELEMENTS)
    with pytest.raises(InputError, match="Au"):
        collate([s], [neighbourhood(s, CUTOFF)], ELEMENTS)


def test_species_follow_the_order_of_the_model():
    s = structure([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [14, 1, 8])
    np.testing.assert_array_equal(species_index(s, (14, 8, 1)), [0, 2, 1])


# Shapes of a training run


def plans_fit(plan, sizes, widths, batch, most, seed=0) -> str:
    """What is wrong with planned shapes: too many, or a batch that fits none."""
    shapes = plan(sizes, widths, batch, most=most)
    if not 1 <= len(set(shapes)) <= most:
        return f"{len(shapes)} shapes"
    rng = np.random.default_rng(seed)
    size = min(batch, len(sizes))
    draws = [rng.choice(len(sizes), rng.integers(1, size + 1), replace=False) for _ in range(50)]
    draws.append(np.argsort(sizes)[-size:])
    for chosen in draws:
        needed = Shape(int(sizes[chosen].sum()) + 1, int(widths[chosen].max()), len(chosen))
        try:
            found = fitting_shape(shapes, needed)
        except InputError:
            return f"{needed} fits none of {shapes}"
        if any(a < b for a, b in zip(found, needed, strict=True)):
            return f"{needed} does not fit {found}"
    return ""


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    batch=st.integers(1, 20),
    most=st.integers(1, 5),
    largest=st.sampled_from([1, 3, 40, 2000]),
)
def test_at_most_so_many_shapes_and_every_batch_fits(seed, count, batch, most, largest):
    rng = np.random.default_rng(seed)
    sizes, widths = rng.integers(1, largest + 1, count), rng.integers(1, 90, count)
    assert plans_fit(plan_shapes, sizes, widths, batch, most) == ""


@pytest.mark.parametrize(
    "fault",
    [
        lambda s, w, b, *, most: plan_shapes(s, w, b, most=most + 3),
        lambda s, w, b, *, most: plan_shapes(s, w, b, most=most)[:-1] or plan_shapes(s // 2, w, b),
        lambda s, w, b, *, most: plan_shapes(s, w // 2, b, most=most),
        lambda s, w, b, *, most: plan_shapes(s[: len(s) // 2], w, b, most=most),
    ],
    ids=["too many", "largest left out", "rows too short", "half the data"],
)
def test_planted_faults_in_plans_are_seen(fault):
    rng = np.random.default_rng(1)
    sizes, widths = np.sort(rng.integers(1, 400, 50)), rng.integers(5, 90, 50)
    assert plans_fit(plan_shapes, sizes, widths, 5, 3) == ""
    assert plans_fit(fault, sizes, widths, 5, 3) != ""


def mean_rows(most: int) -> float:
    """Rows of the padded batches of a set with a few large structures."""
    rng = np.random.default_rng(2)
    sizes = np.where(rng.random(200) < 0.8, 10, 200)
    widths = np.full(200, 30)
    shapes = plan_shapes(sizes, widths, 4, most=most)
    draws = [sizes[rng.choice(200, 4, replace=False)].sum() + 1 for _ in range(400)]
    return float(np.mean([fitting_shape(shapes, Shape(int(d), 30, 4)).rows for d in draws]))


def test_more_shapes_waste_less():
    assert mean_rows(4) <= mean_rows(3) < 0.8 * mean_rows(1)


def test_two_shapes_waste_less_than_one():
    assert mean_rows(2) < mean_rows(1)


def test_the_smallest_shape_that_fits_is_taken():
    shapes = (Shape(90, 40, 4), Shape(20, 40, 4), Shape(50, 40, 4))
    assert fitting_shape(shapes, Shape(21, 30, 3)) == Shape(50, 40, 4)
    assert fitting_shape(shapes, Shape(20, 40, 4)) == Shape(20, 40, 4)
    with pytest.raises(InputError, match="no planned shape"):
        fitting_shape(shapes, Shape(91, 1, 1))
    with pytest.raises(InputError, match="no planned shape"):
        fitting_shape(shapes, Shape(1, 41, 1))


def test_waste_is_counted():
    s = structure([[0, 0, 0], [1, 0, 0], [9, 0, 0]])
    h = neighbourhood(s, CUTOFF)
    w = waste(collate([s], [h], (14,), Shape(5, 4, 1)))
    assert (w.real_slots, w.padded_slots, w.ratio) == (2, 18, 9.0)
    alone = structure([[0, 0, 0]])
    assert waste(collate([alone], [neighbourhood(alone, CUTOFF)], (14,))).ratio == 2.0


def test_the_largest_planned_shape_has_no_more_rows_than_the_largest_batch():
    """50 and 4 atoms and the dummy; one structure in each batch of one."""
    sizes, widths = np.array([2, 3, 50, 4]), np.array([5, 7, 6, 1])
    assert max(plan_shapes(sizes, widths, 2)) == (55, 7, 2)
    assert max(plan_shapes(sizes, widths, 9)) == (60, 7, 4)
    assert max(plan_shapes(sizes, widths, 1)) == (51, 7, 1)


def test_planned_rows_are_at_most_three_percent_above_what_is_drawn():
    """One structure a batch, of 320 atoms or of 321 and more: the smaller ones have a shape of
    their own, up to a multiple of ten rows."""
    sizes = np.array([320] * 40 + [640] * 10)
    rows = [s.rows for s in plan_shapes(sizes, np.full(50, 3), 1)]
    assert rows == [330, 641]
