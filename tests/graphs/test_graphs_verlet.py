"""A kept neighbour list gives the same graph as a new search, as long as it says it holds."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from brute_force import pairs, structure
from hypothesis import given, settings
from hypothesis import strategies as st

from kohn.graphs import Shape
from kohn.graphs.verlet import Verlet
from kohn.structures import Structure

CUTOFF, SKIN = 3.0, 0.6


ROOM = Shape(5, 240, 1)
"""A shape that holds all structures here, so that the graph is compiled once."""
GRAPH = jax.jit(lambda topology, x, cell: topology.graph(x, cell, CUTOFF, np.float64))


def made() -> Verlet:
    """A list with room."""
    verlet = Verlet(CUTOFF, SKIN, (14,))
    verlet.shapes.append(ROOM)
    return verlet


def edges_of(s: Structure, verlet: Verlet) -> list[tuple]:
    """Edges in the graph as (i, j, d rounded)."""
    topology = verlet.update(s)
    positions = np.zeros((len(topology.species), 3))
    positions[: len(s)] = s.positions
    g = GRAPH(topology, positions, s.cell)
    mask, index, d = (np.asarray(x) for x in (g.edge_mask, g.index, g.displacement))
    assert (np.linalg.norm(d, axis=-1) > 0).all()
    slots = np.flatnonzero(mask.ravel())
    reverse = np.asarray(g.reverse).ravel()
    np.testing.assert_array_equal(d.reshape(-1, 3)[reverse[slots]], -d.reshape(-1, 3)[slots])
    assert (np.asarray(g.reverse).ravel()[~mask.ravel()] < mask.size).all()
    return sorted((int(i), int(index[i, k]), *np.round(d[i, k], 6)) for i, k in np.argwhere(mask))


def searched(s: Structure) -> list[tuple] | None:
    """The same by looking at every image; None where rounding decides, or atoms coincide."""
    i, j, _, d = pairs(s, CUTOFF + 0.1)
    r = np.linalg.norm(d, axis=1)
    if (np.abs(r - CUTOFF) < 1e-6).any() or r.min(initial=1) < 1e-3:
        return None
    near = zip(i[r < CUTOFF], j[r < CUTOFF], d[r < CUTOFF], strict=True)
    return sorted((int(a), int(b), *np.round(x, 6)) for a, b, x in near)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([0.05, 0.1]),
    strain=st.sampled_from([0.0, 0.02, 0.2, 0.7]),
)
def test_a_walk_through_configurations(seed, size, strain):
    """Each atom goes its own way, two of them against each other, and the cell is strained the
    same way: step by step, so that small steps come to more than the skin together."""
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * rng.uniform(2.5, 4.5) + 0.4 * rng.normal(size=(3, 3))
    s = structure(rng.uniform(-1, 2, (3, 3)) @ cell, cell=cell, periodic=True)
    step = rng.normal(size=(3, 3))
    step *= size / np.linalg.norm(step, axis=1, keepdims=True)
    step[1] = -step[0]
    f = np.eye(3) + strain * size * rng.normal(size=(3, 3))
    verlet = made()
    for _ in range(12):
        expected = searched(s)
        if expected is not None:
            assert edges_of(s, verlet) == expected
        s = replace(s, positions=s.positions @ f + step, cell=s.cell @ f)
        if s.volume < 10:  # neighbours without end
            break


def test_each_list_is_inspected_with_all_that_may_come_near():
    """Neighbours within cutoff + skin, once for each list that is made."""
    seen = []
    verlet = Verlet(CUTOFF, SKIN, (14,), lambda s, rows: seen.append((s, rows)))
    pair = structure([[0, 0, 0], [CUTOFF + 0.9 * SKIN, 0, 0]])
    moved = replace(pair, positions=pair.positions * 0.9)
    for s in (pair, pair, moved):
        verlet.update(s)
    assert [s for s, _ in seen] == [pair, moved]
    assert [rows.edges for _, rows in seen] == [2, 2]


def test_small_moves_need_no_search_and_large_ones_do():
    s = structure([[0, 0, 0], [1.5, 0, 0]], cell=np.eye(3) * 5, periodic=True)
    verlet = Verlet(CUTOFF, SKIN, (14,))
    first = verlet.update(s)
    assert verlet.update(replace(s, positions=s.positions + np.array([0.29, 0, 0]))) is first
    assert verlet.builds == 1
    assert verlet.update(replace(s, positions=s.positions + np.array([0.31, 0, 0]))) is not first
    assert verlet.builds == 2
    verlet.update(replace(s, periodic=np.zeros(3, bool)))
    assert verlet.builds == 3


def test_other_elements_in_the_same_places_are_another_list():
    s = structure([[0, 0, 0], [1.5, 0, 0]], [14, 14])
    verlet = Verlet(CUTOFF, SKIN, (8, 14))
    assert np.asarray(verlet.update(s).species)[:2].tolist() == [1, 1]
    for numbers, species in (([14, 8], [1, 0]), ([8, 14], [0, 1])):
        other = replace(s, numbers=np.array(numbers, np.int32))
        assert np.asarray(verlet.update(other).species)[:2].tolist() == species
    assert verlet.builds == 3


def test_a_list_does_not_follow_positions_that_are_changed_in_place():
    """Callers move atoms in place: the list must remember where they were."""
    s = structure([[0, 0, 0], [5.0, 0, 0]])
    verlet = made()
    assert edges_of(s, verlet) == []
    s.positions[1, 0] = 2.0
    assert len(edges_of(s, verlet)) == 2


def test_atoms_that_come_near_while_the_cell_is_strained_are_found():
    """At 0 and 3.65 Å, neither candidates nor neighbours; then 2.99 Å apart in a cell that is
    hardly longer: both moves count, not one of them, and the list must be made anew."""
    apart = structure([[0, 0, 0], [3.65, 0, 0]], cell=12.0 * np.eye(3), periodic=True)
    verlet = made()
    assert edges_of(apart, verlet) == []
    x = np.array([[0.33, 0, 0], [3.32, 0, 0]])
    near = replace(apart, positions=x, cell=12.01 * np.eye(3))
    assert edges_of(near, verlet) == [(0, 1, 2.99, 0.0, 0.0), (1, 0, -2.99, 0.0, 0.0)]


def test_a_cell_that_shrinks_brings_images_near():
    """Images 3.7 Å apart are no candidates; then the cell has 2.99 Å, and the atom stays."""
    one = structure([[0, 0, 0]], cell=np.diag([3.7, 9.0, 9.0]), periodic=True)
    verlet = made()
    assert edges_of(one, verlet) == []
    short = replace(one, cell=np.diag([2.99, 9.0, 9.0]))
    assert [e[2] for e in edges_of(short, verlet)] == [-2.99, 2.99]


def test_a_list_is_kept_while_atoms_follow_the_strain():
    """Of 3.6 Å a strain of 10 % leaves 3.24, and moves of 0.1 Å beside it 3.04: it still holds."""
    s = structure([[0, 0, 0], [1.5, 0, 0]], cell=np.eye(3) * 5, periodic=True)
    verlet = Verlet(CUTOFF, SKIN, (14,))
    first = verlet.update(s)
    strained = replace(s, positions=0.9 * s.positions, cell=0.9 * s.cell)
    moved = replace(strained, positions=strained.positions + np.array([0.1, 0, 0]))
    assert verlet.update(moved) is first
    farther = replace(strained, positions=strained.positions + np.array([0.13, 0, 0]))
    assert verlet.update(farther) is not first


def test_a_list_is_made_anew_when_periodic_flags_change():
    """Atoms and cell stay as they are, and images come or go."""
    crystal = structure([[0, 0, 0], [1.4, 1.3, 1.2]], [14, 14], 2.9 * np.eye(3), True)
    verlet = made()
    for flags in ([True] * 3, [True, True, False], [False] * 3, [True] * 3):
        s = replace(crystal, periodic=np.array(flags))
        assert edges_of(s, verlet) == searched(s)
    assert verlet.builds == 4


def test_the_volume_is_positive_whatever_hand_the_cell_has():
    cell = np.array([[0, 2.9, 0], [3.0, 0, 0], [0.2, 0, 3.1]])
    s = structure([[0, 0, 0], [1.4, 1.3, 1.2]], [14, 14], cell, True)
    topology = made().update(s)
    positions = np.zeros((len(topology.species), 3))
    positions[:2] = s.positions
    assert np.linalg.det(cell) < 0
    assert float(GRAPH(topology, positions, cell).volume[0]) == pytest.approx(26.97, rel=1e-12)
