"""What is written reads back to the last bit."""

from pathlib import Path

import numpy as np
import pytest
from ase.io import read as ase_read
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kohn.errors import InputError
from kohn.structures import Structure, read, write
from kohn.structures.writing import frame_text

DATA = Path(__file__).parents[1] / "data"
reals = st.floats(-1e6, 1e6, allow_nan=False)


def same(a: Structure, b: Structure) -> None:
    for x, y in ((a.numbers, b.numbers), (a.positions, b.positions), (a.cell, b.cell)):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(a.periodic, b.periodic)
    assert a.labels.keys() == b.labels.keys()
    for name, value in a.labels.items():
        np.testing.assert_array_equal(value, b.labels[name])
    assert (a.config_type, a.weight) == (b.config_type, b.weight)


@settings(max_examples=30, deadline=None)
@given(
    positions=hnp.arrays(np.float64, (3, 3), elements=reals),
    forces=hnp.arrays(np.float64, (3, 3), elements=reals),
    energy=reals,
    stress=hnp.arrays(np.float64, 6, elements=reals),
)
def test_round_trip_is_exact(tmp_path_factory, positions, forces, energy, stress):
    s = Structure(
        numbers=np.array([1, 8, 14], dtype=np.int32),
        positions=positions,
        cell=np.array([[3.1, 0, 0], [1 / 3, 4, 0], [0, -0.7, 5]]),
        periodic=np.array([True, True, True]),
        labels={
            "energy": np.array(energy),
            "forces": forces,
            "stress": stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]],
            "charges": forces[:, 0],
            "dipole": forces[1],
        },
        config_type="a kind",
        weight=0.1,
        info={"note": "two words", "charge": 1, "numbers": [1, 2]},
        arrays={"tags": np.array([1, 2, 3]), "MD17_forces": forces},
    )
    path = tmp_path_factory.mktemp("write") / "x.extxyz"
    write([s, s], path)
    back = read(path)
    for b in back:
        same(s, b)
        assert b.info["note"] == "two words"
        assert b.info["charge"] == 1
        np.testing.assert_array_equal(b.arrays["MD17_forces"], forces)


def test_real_files_round_trip(tmp_path):
    for name in ("ethanol.extxyz", "silicon.extxyz"):
        data = read(DATA / name)
        write(data, tmp_path / name)
        for a, b in zip(data, read(tmp_path / name), strict=True):
            same(a, b)


def test_predictions_go_where_ase_finds_them(tmp_path):
    (s,) = read(DATA / "silicon.extxyz")[:1]
    n, path = len(s), tmp_path / "out.extxyz"
    predicted = {"energy": -1.25, "forces": np.ones((n, 3)), "stress": np.arange(6.0)}
    write([s], path, predictions=[predicted])
    atoms = ase_read(path)
    assert atoms.get_potential_energy() == -1.25
    np.testing.assert_array_equal(atoms.get_forces(), np.ones((n, 3)))
    np.testing.assert_array_equal(atoms.get_stress(), np.arange(6.0))
    same(s, read(path)[0])  # labels are still there, and win


def test_predictions_must_fit():
    (s,) = read(DATA / "silicon.extxyz")[:1]
    with pytest.raises(InputError, match="wrong shape"):
        frame_text(s, {"forces": np.ones((2, 3))})
    with pytest.raises(InputError, match="not as many predictions"):
        write([s], "never", predictions=[])
