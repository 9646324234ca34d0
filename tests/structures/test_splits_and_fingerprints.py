"""Structures that are the same are recognised, and never straddle a split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from kohn.errors import InputError
from kohn.structures import Dataset, Structure, duplicates, fingerprint, orientation, read, split
from kohn.structures.fingerprints import ORIENTATION_TOLERANCE, TOLERANCE

DATA = Path(__file__).parents[1] / "data"
ETHANOL = read(DATA / "ethanol.extxyz")
SILICON = read(DATA / "silicon.extxyz")
REAL = (*ETHANOL[:4], *SILICON[::3])
seeds = st.integers(0, 2**32 - 1)


def disguised(s: Structure, rng: np.random.Generator, *, turn: bool = True) -> Structure:
    """The same structure: turned, moved, its atoms reordered and unwrapped, and rounded."""
    rotation = Rotation.random(random_state=rng.integers(2**31)).as_matrix() if turn else np.eye(3)
    order = rng.permutation(len(s))
    shifts = rng.integers(-3, 4, (len(s), 3)) * s.periodic
    positions = (s.positions + shifts @ s.cell) @ rotation + rng.normal(size=3)
    noise = rng.uniform(-5e-5, 5e-5, positions.shape)
    return replace(
        s,
        numbers=s.numbers[order],
        positions=(positions + noise)[order],
        cell=s.cell @ rotation,
        labels={},
    )


@settings(max_examples=25, deadline=None)
@given(seed=seeds, index=st.integers(0, len(REAL) - 1), turn=st.booleans())
def test_disguised_structures_are_duplicates(seed, index, turn):
    s = REAL[index]
    other = disguised(s, np.random.default_rng(seed), turn=turn)
    assert np.abs(fingerprint(s) - fingerprint(other)).max() < TOLERANCE
    assert duplicates([s, other]).tolist() == [0, 0]
    if not turn:
        assert np.abs(orientation(s) - orientation(other)).max() < ORIENTATION_TOLERANCE


@settings(max_examples=25, deadline=None)
@given(seed=seeds, index=st.integers(0, len(REAL) - 1))
def test_moved_atoms_are_not_duplicates(seed, index):
    s, rng = REAL[index], np.random.default_rng(seed)
    moved = s.positions + rng.normal(scale=5e-3, size=s.positions.shape)
    assert duplicates([s, replace(s, positions=moved)]).tolist() == [0, 1]


def test_other_element_cell_or_periodicity_is_another_structure():
    s = SILICON[5]
    other = s.numbers.copy()
    other[0] = 32
    variants = [
        replace(s, numbers=other),
        replace(s, cell=s.cell * 1.01, positions=s.positions * 1.01),
        replace(s, periodic=np.zeros(3, dtype=bool)),
    ]
    assert duplicates([s, *variants]).tolist() == [0, 1, 2, 3]


def test_two_elements_swapped_is_another_structure():
    s = ETHANOL[0]
    numbers = s.numbers.copy()
    numbers[[0, 2]] = numbers[[2, 0]]
    assert duplicates([s, replace(s, numbers=numbers)]).tolist() == [0, 1]


def test_rotation_shows_in_the_orientation():
    rng = np.random.default_rng(1)
    for s in REAL[:5]:
        turned = disguised(s, rng)
        assert np.abs(orientation(s) - orientation(turned)).max() > ORIENTATION_TOLERANCE


def test_real_frames_are_all_different_and_numbered_in_order():
    assert duplicates(ETHANOL.structures).tolist() == list(range(60))
    assert duplicates([]).tolist() == []
    assert duplicates([*ETHANOL[:3], *ETHANOL[:3]]).tolist() == [0, 1, 2, 0, 1, 2]


def test_large_structures_take_bounded_time():
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 35, (2000, 3))
    s = Structure(np.full(2000, 14, np.int32), positions, np.eye(3) * 35, np.ones(3, dtype=bool))
    assert fingerprint(s).shape == (2000 * 5 + 1,)


@settings(max_examples=20, deadline=None)
@given(
    seed=seeds,
    copies=st.lists(st.integers(0, 19), max_size=15),
    shares=st.sampled_from([(0.8, 0.2), (0.5, 0.25), (0.7, 0.3), (10, 5), (0.5, 5)]),
)
def test_duplicates_never_straddle_a_split(seed, copies, shares):
    rng = np.random.default_rng(seed)
    data = Dataset(tuple([*ETHANOL[:20], *(disguised(ETHANOL[c], rng) for c in copies)]))
    parts = split(data, {"train": shares[0], "test": shares[1]}, seed=seed)
    chosen = [[data.structures.index(s) for s in part] for part in parts.values()]
    assert all(indices == sorted(indices) for indices in chosen)  # in the order of the data
    assert not set(chosen[0]) & set(chosen[1])
    groups = duplicates(data.structures)
    assert not set(groups[chosen[0]]) & set(groups[chosen[1]])
    if shares[0] + shares[1] == 1:
        assert len(chosen[0]) + len(chosen[1]) == len(data)


def test_splits_are_the_same_everywhere():
    parts = split(ETHANOL, {"train": 0.8, "valid": 0.1, "test": 6}, seed=7)
    assert {k: len(v) for k, v in parts.items()} == {"train": 48, "valid": 6, "test": 6}
    frames = [s.place.frame for s in parts["test"]]
    assert frames == [
        s.place.frame for s in split(ETHANOL, {"train": 48, "valid": 6, "test": 6}, 7)["test"]
    ]
    assert frames == [0, 6, 13, 24, 37, 48]
    assert frames != [s.place.frame for s in split(ETHANOL, {"test": 6, "train": 48}, 8)["test"]]


@pytest.mark.parametrize(
    ("n", "sizes", "message"),
    [
        (3, {"train": 0.9, "valid": 0.1}, "too few frames"),
        (3, {"train": 2, "valid": 2}, "too few frames"),
        (3, {"train": 0.9, "valid": 0.9}, "too few frames"),
        (3, {"train": 1.5}, "not valid"),
        (3, {"train": 0}, "not valid"),
        (3, {"train": True}, "not valid"),
        (3, {}, "no parts"),
    ],
)
def test_impossible_splits(n, sizes, message):
    with pytest.raises(InputError, match=message):
        split(ETHANOL[:n], sizes)


def test_copies_of_one_structure_cannot_be_split():
    with pytest.raises(InputError, match="would be empty"):
        split(Dataset((ETHANOL[0],) * 4), {"train": 0.5, "test": 0.5})


@pytest.mark.parametrize("copies", [2, 3])
def test_data_of_copies_only_can_be_split(copies):
    """A part that is smaller than any group of copies gets one whole group."""
    data = Dataset(tuple(s for s in ETHANOL[:8] for _ in range(copies)))
    parts = split(data, {"train": len(data) - 1, "valid": 1})
    assert len(parts["valid"]) == copies
    assert len(parts["train"]) == len(data) - copies


@pytest.mark.parametrize(
    ("n", "sizes", "counts"),
    [
        (7, {"train": 0.8, "valid": 0.2}, (6, 1)),  # 5.6 and 1.4: the larger remainder
        (7, {"train": 0.7, "valid": 0.3}, (5, 2)),  # 4.9 and 2.1
        (8, {"train": 0.5, "valid": 0.25}, (4, 2)),  # two are left over
        (9, {"train": 0.5, "valid": 0.5}, (5, 4)),  # 4.5 each: the first
        (10, {"train": 6, "valid": 0.25}, (6, 2)),  # 2.5 rounds to the even 2
        (10, {"train": 1.0}, (10,)),
    ],
)
def test_fractions_are_of_all_frames_by_largest_remainder(n, sizes, counts):
    parts = split(ETHANOL[:n], sizes)
    assert tuple(len(p) for p in parts.values()) == counts


def test_structures_are_the_same_within_the_tolerance():
    """H₂ of r and r + δ: distances from the centroid differ by δ/2, other components by less."""

    def hydrogen(r: float) -> Structure:
        positions = np.array([[0, 0, 0], [0, 0, r]])
        return Structure(np.ones(2, np.int32), positions, np.zeros((3, 3)), np.zeros(3, bool))

    assert duplicates([hydrogen(0.9), hydrogen(0.9 + 7.8e-4)]).tolist() == [0, 0]
    assert duplicates([hydrogen(0.9), hydrogen(0.9 + 8.2e-4)]).tolist() == [0, 1]
