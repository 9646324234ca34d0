"""A kept neighbour list gives the same graph as a new search, as long as it says it holds."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from brute_force import pairs, structure
from hypothesis import given
from hypothesis import strategies as st

from kohn.graphs.verlet import Verlet
from kohn.structures import Structure

CUTOFF, SKIN = 3.0, 0.6


def edges_of(s: Structure, verlet: Verlet) -> list[tuple]:
    """Edges in the graph as (i, j, d rounded)."""
    topology = verlet.update(s)
    positions = np.zeros((len(topology.species), 3))
    positions[: len(s)] = s.positions
    g = topology.graph(jnp.asarray(positions), jnp.asarray(s.cell), CUTOFF, np.float64)
    mask, index, d = (np.asarray(x) for x in (g.edge_mask, g.index, g.displacement))
    assert (np.linalg.norm(d, axis=-1) > 0).all()
    slots = np.flatnonzero(mask.ravel())
    reverse = np.asarray(g.reverse).ravel()
    np.testing.assert_array_equal(d.reshape(-1, 3)[reverse[slots]], -d.reshape(-1, 3)[slots])
    assert (np.asarray(g.reverse).ravel()[~mask.ravel()] < mask.size).all()
    return sorted((int(i), int(index[i, k]), *np.round(d[i, k], 6)) for i, k in np.argwhere(mask))


def searched(s: Structure) -> list[tuple]:
    i, j, _, d = pairs(s, CUTOFF)
    return sorted((int(a), int(b), *np.round(x, 6)) for a, b, x in zip(i, j, d, strict=True))


@given(seed=st.integers(0, 2**32 - 1), strained=st.booleans(), size=st.sampled_from([0.02, 0.1]))
def test_a_walk_through_configurations(seed, strained, size):
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * rng.uniform(2.5, 4.5) + 0.4 * rng.normal(size=(3, 3))
    s = structure(rng.uniform(-1, 2, (3, 3)) @ cell, cell=cell, periodic=True)
    verlet = Verlet(CUTOFF, SKIN, (14,))
    for _ in range(8):
        close = np.abs(np.linalg.norm(pairs(s, CUTOFF + 0.1)[3], axis=1) - CUTOFF) < 1e-6
        if not close.any() and np.linalg.norm(pairs(s, CUTOFF)[3], axis=1).min(initial=1) > 1e-3:
            assert edges_of(s, verlet) == searched(s)
        f = np.eye(3) + (0.3 * size * rng.normal(size=(3, 3)) if strained else 0.0)
        moved = s.positions @ f + size * rng.normal(size=(3, 3))
        s = replace(s, positions=moved, cell=s.cell @ f)


def test_small_moves_need_no_search_and_large_ones_do():
    s = structure([[0, 0, 0], [1.5, 0, 0]], cell=np.eye(3) * 5, periodic=True)
    verlet = Verlet(CUTOFF, SKIN, (14,))
    first = verlet.update(s)
    assert verlet.update(replace(s, positions=s.positions + np.array([0.29, 0, 0]))) is first
    assert verlet.builds == 1
    assert verlet.update(replace(s, positions=s.positions + np.array([0.31, 0, 0]))) is not first
    assert verlet.update(replace(s, numbers=np.array([14, 14], np.int32))) is not None
    assert verlet.builds == 3
    verlet.update(replace(s, periodic=np.zeros(3, bool)))
    assert verlet.builds == 4


def test_a_list_does_not_follow_positions_that_are_changed_in_place():
    """Callers move atoms in place: the list must remember where they were."""
    s = structure([[0, 0, 0], [5.0, 0, 0]])
    verlet = Verlet(CUTOFF, SKIN, (14,))
    assert edges_of(s, verlet) == []
    s.positions[1, 0] = 2.0
    assert len(edges_of(s, verlet)) == 2
