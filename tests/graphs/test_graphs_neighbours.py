"""Neighbours of atoms, against a search through every image that shares no code."""

import numpy as np
import pytest
from brute_force import closest, pairs, structure
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kohn.errors import InputError
from kohn.graphs import neighbourhood, pairs_within
from kohn.graphs.neighbours import dense_rows
from kohn.structures import Structure


@st.composite
def structures(draw, periodic=None) -> Structure:
    """Any cell: small or long, skewed, left-handed, partly periodic; atoms anywhere."""
    lengths = draw(st.tuples(*[st.floats(1.6, 9.0)] * 3))
    skews = draw(st.tuples(*[st.floats(-1.5, 1.5)] * 3))
    cell = np.diag(lengths)
    cell[1, 0], cell[2, 0], cell[2, 1] = np.array(skews) * np.array(lengths)[[0, 0, 1]]
    cell = cell[list(draw(st.permutations(range(3))))]  # odd ones are left-handed
    flags = np.array(draw(st.tuples(*[st.booleans()] * 3)) if periodic is None else [periodic] * 3)
    if draw(st.booleans()):  # a direction that does not repeat may have no vector at all
        cell[~flags] = 0.0
    n = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Unwrapped: fractional coordinates up to two cells away.
    wide = draw(st.sampled_from([1.0, 4.0]))
    base = np.where(np.abs(cell).sum(1)[:, None] > 0, cell, np.diag(lengths))
    return structure(rng.uniform(-wide / 2, wide / 2, (n, 3)) @ base, cell=cell, periodic=flags)


CUTOFF = 4.0


def as_set(i, j, shift):
    return sorted(zip(i.tolist(), j.tolist(), map(tuple, shift.tolist()), strict=True))


def disagreement(search, s: Structure, cutoff: float = CUTOFF) -> str:
    """What differs between a search and the reference; empty if nothing does."""
    i, j, shift, d = search(s, cutoff)
    expected = pairs(s, cutoff)
    ours, theirs = as_set(i, j, shift), as_set(*expected[:3])
    if ours != theirs:
        return f"missing {set(theirs) - set(ours)}, superfluous {set(ours) - set(theirs)}"
    if len(d):
        exact = s.positions[j] + shift.astype(float) @ s.cell - s.positions[i]
        if np.abs(d - exact).max() > 1e-12:
            return "displacements are not r_j + S · cell − r_i"
    return ""


@settings(max_examples=120)
@given(s=structures())
def test_neighbours_are_those_of_the_brute_force_search(s):
    r = np.linalg.norm(pairs(s, CUTOFF + 0.1)[3], axis=1)
    assume(not (np.abs(r - CUTOFF) < 1e-9).any() and (r > 1e-3).all())
    assert disagreement(pairs_within, s) == ""


def minimum_image(s, cutoff):
    i, j, shift, d = pairs(s, cutoff)
    best = {}
    for e in range(len(i)):
        key = (i[e], j[e])
        if key not in best or np.linalg.norm(d[e]) < np.linalg.norm(d[best[key]]):
            best[key] = e
    kept = sorted(best.values())
    return i[kept], j[kept], shift[kept], d[kept]


def nearest_cells_only(s, cutoff):
    return pairs(s, cutoff, [range(-1, 2) if p else range(1) for p in s.periodic])


def without_self_images(s, cutoff):
    found = pairs(s, cutoff)
    kept = found[0] != found[1]
    return tuple(x[kept] for x in found)


def other_sign_of_shift(s, cutoff):
    i, j, shift, d = pairs(s, cutoff)
    return i, j, -shift, d


def inclusive(s, cutoff):
    return pairs(s, np.nextafter(cutoff, np.inf))


SMALL = structure([[0, 0, 0], [7.0, 1.0, 1.0]], cell=np.diag([2.5, 2.6, 2.7]), periodic=True)
EXACT = structure([[0, 0, 0], [CUTOFF, 0, 0]])


@pytest.mark.parametrize(
    ("fault", "s"),
    [
        (minimum_image, SMALL),
        (nearest_cells_only, SMALL),
        (without_self_images, SMALL),
        (other_sign_of_shift, SMALL),
        (inclusive, EXACT),
    ],
)
def test_planted_faults_in_searches_are_seen(fault, s):
    assert disagreement(pairs_within, s) == ""
    assert disagreement(fault, s) != ""


def test_the_cutoff_itself_is_outside():
    inside = np.nextafter(CUTOFF, 0)
    for r, count in ((CUTOFF, 0), (inside, 2), (np.nextafter(CUTOFF, 9), 0)):
        assert neighbourhood(structure([[0, 0, 0], [r, 0, 0]]), CUTOFF).edges == count
    cubic = structure([[0.3, 0.1, 0.2]], cell=np.eye(3) * 2.0, periodic=True)
    h = neighbourhood(cubic, CUTOFF)  # 2 Å lattice: shells up to r² = 12 inside 16
    assert h.edges == 6 + 12 + 8 + 6 * 0 + 0


@settings(max_examples=80)
@given(s=structures())
def test_every_edge_has_its_reverse(s):
    assume(closest(s) > 1e-3)
    h = neighbourhood(s, CUTOFF)
    check_rows(h, len(s))


def check_rows(h, n):
    """What the layout promises, slot by slot."""
    k = h.width
    slots = np.flatnonzero(h.mask.ravel())
    reverse = h.reverse.ravel()
    assert (reverse[~h.mask.ravel()] == -1).all()
    assert (h.index[~h.mask] == n).all()
    np.testing.assert_array_equal(np.sort(reverse[slots]), slots)
    np.testing.assert_array_equal(reverse[reverse[slots]], slots)
    d = h.displacement.reshape(-1, 3)
    np.testing.assert_array_equal(d[reverse[slots]], -d[slots])
    shift = h.shift.reshape(-1, 3)
    np.testing.assert_array_equal(shift[reverse[slots]], -shift[slots])
    np.testing.assert_array_equal(reverse[slots] // k, h.index.ravel()[slots])
    assert (np.linalg.norm(d[slots], axis=1) < h.cutoff * (1 + 1e-15)).all()
    np.testing.assert_array_equal(
        d[~h.mask.ravel()], np.array([[h.cutoff, 0, 0]]).repeat((~h.mask).sum(), axis=0)
    )
    # Rows are filled from the left.
    assert (np.diff(h.mask.astype(int), axis=1) <= 0).all()


@settings(max_examples=40)
@given(s=structures(periodic=True), seed=st.integers(0, 2**32 - 1))
def test_wrapping_atoms_changes_shifts_only(s, seed):
    r = np.linalg.norm(pairs(s, CUTOFF + 0.1)[3], axis=1)
    assume(not (np.abs(r - CUTOFF) < 1e-9).any() and (r > 1e-3).all())
    moves = np.random.default_rng(seed).integers(-3, 4, (len(s), 3))
    moved = structure(s.positions + moves @ s.cell, cell=s.cell, periodic=True)
    a, b = pairs_within(s, CUTOFF), pairs_within(moved, CUTOFF)
    back = b[2] - moves[b[0]] + moves[b[1]]
    assert as_set(*a[:3]) == as_set(b[0], b[1], back)


def test_boundary_edges_always_come_in_pairs():
    """Pairs a rounding error from the cutoff: both directions must be kept or both dropped."""
    rng = np.random.default_rng(5)
    for _ in range(60):
        cell = 0.5 * rng.normal(size=(3, 3)) + 3.0 * np.eye(3)
        s = structure(rng.uniform(-1, 1, (3, 3)) @ cell, cell=cell, periodic=True)
        d = pairs(s, CUTOFF)[3]
        r = float(np.linalg.norm(d[rng.integers(len(d))]))
        for cutoff in (r, np.nextafter(r, 0), np.nextafter(r, 9)):
            check_rows(neighbourhood(s, cutoff), 3)


@pytest.mark.parametrize("extra", [0, 1, 7])
def test_rows_may_be_longer_than_needed(extra):
    h = neighbourhood(SMALL, CUTOFF)
    wide = neighbourhood(SMALL, CUTOFF, width=h.width + extra)
    assert wide.width == h.width + extra
    assert wide.edges == h.edges
    check_rows(wide, 2)


def test_rows_may_not_be_shorter():
    with pytest.raises(InputError, match="rows too short"):
        neighbourhood(SMALL, CUTOFF, width=3)


def test_dense_rows_take_pairs_in_any_order(rng):
    i, j, shift, d = pairs_within(SMALL, CUTOFF)
    order = rng.permutation(len(i))
    h = dense_rows(2, i[order], j[order], shift[order], d[order], CUTOFF)
    check_rows(h, 2)
    assert h.edges == len(i)


def test_dtypes():
    h = neighbourhood(SMALL, CUTOFF)
    assert (h.index.dtype, h.shift.dtype, h.reverse.dtype) == (np.int32,) * 3
    assert (h.mask.dtype, h.displacement.dtype) == (np.bool_, np.float64)


def test_a_lone_atom_has_one_empty_slot():
    h = neighbourhood(structure([[0, 0, 0]]), CUTOFF)
    assert (h.edges, h.index.shape) == (0, (1, 1))


FCC = 5.43 / 2 * (np.ones((3, 3)) - np.eye(3))


@pytest.mark.parametrize(
    ("positions", "cell", "periodic"),
    [
        ([[0, 0, 0], [1, 0, 0], [0, 0, 0]], None, False),
        ([[0, 0, 0], [3, 0, 0]], np.eye(3) * 3, True),  # the image of one is on the other
        ([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3] + FCC[0] * 3 - FCC[1]], FCC, True),  # but for rounding
        ([[0, 0, 0], [0, 1e-9, 0]], None, False),
    ],
    ids=["same place", "image", "image, rounded", "nearly"],
)
def test_coincident_atoms_are_refused(positions, cell, periodic):
    with pytest.raises(InputError, match=r"same place"):
        neighbourhood(structure(positions, cell=cell, periodic=periodic), CUTOFF)


@pytest.mark.parametrize(
    ("cell", "periodic"),
    [
        (np.zeros((3, 3)), [True, True, True]),
        (np.zeros((3, 3)), [False, False, True]),
        ([[4, 0, 0], [0, 4, 0], [0, 0, 0]], [True, True, True]),
        ([[4, 0, 0], [8, 0, 0], [0, 0, 4]], [True, True, False]),
        ([[4, 0, 0], [0, 4, 0], [4, 4, 0]], [True, True, True]),
    ],
)
def test_periodic_without_a_cell_is_refused(cell, periodic):
    with pytest.raises(InputError, match="periodic along cell vectors that are zero or parallel"):
        neighbourhood(structure([[0, 0, 0]], cell=cell, periodic=periodic), CUTOFF)


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), [[4, 0, 0], [8, 0, 0], [0, 0, 0]]])
def test_a_cell_that_is_not_used_may_be_anything(cell):
    molecule = structure([[0, 0, 0], [1.5, 0, 0]], cell=cell)
    assert neighbourhood(molecule, CUTOFF).edges == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_geometry_that_is_not_finite_is_refused(bad):
    with pytest.raises(InputError, match="not finite"):
        neighbourhood(structure([[0, 0, 0], [bad, 0, 0]]), CUTOFF)
    with pytest.raises(InputError, match="not finite"):
        neighbourhood(structure([[0, 0, 0]], cell=np.full((3, 3), bad), periodic=True), CUTOFF)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan])
def test_the_cutoff_must_be_positive(cutoff):
    with pytest.raises(InputError, match="cutoff"):
        neighbourhood(SMALL, cutoff)
