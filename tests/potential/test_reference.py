"""What energies are counted from: added to what a model says, subtracted from labels."""

import numpy as np
import pytest
from brute_force import structure

from kohn.errors import InputError
from kohn.models import Derived
from kohn.potential import Prediction, Reference

E0S = {1: -1.5, 8: -4.0}
CELL = 5.0 * np.eye(3)
WATER = structure([[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]], [8, 1, 1], CELL, True)
SAID = Derived(
    np.array([9.0, 0.1, 0.2, 0.3, 9.0]),
    np.array([9.0, 0.6]),
    np.arange(15.0).reshape(5, 3),
    np.stack([np.eye(3), 0.25 * np.eye(3)]),
)
"""Of a batch whose second structure is the water, with one row before and one after it."""


def cheaper(structure):
    """A baseline: half an electronvolt an atom, a force along x, and a pressure."""
    n = len(structure)
    forces = np.tile([1.0, 0.0, 0.0], (n, 1))
    return Prediction.of_energy(0.5 * n, np.full(n, 0.5), forces, 0.125 * np.eye(3))


def test_e0s_are_added_to_what_the_model_says():
    found = Reference(E0S).complete(WATER, SAID, 1, slice(1, 4), stress=True)
    assert found.energy == pytest.approx(-4.0 - 1.5 - 1.5 + 0.6, abs=1e-15)
    np.testing.assert_allclose(found.energies, [-3.9, -1.3, -1.2], atol=1e-15)
    np.testing.assert_array_equal(found.forces, SAID.forces[1:4])
    np.testing.assert_array_equal(found.stress, 0.25 * np.eye(3))


def test_a_baseline_is_added_to_all_of_them():
    found = Reference(E0S, cheaper).complete(WATER, SAID, 1, slice(1, 4), stress=True)
    assert found.energy == pytest.approx(-7.0 + 1.5 + 0.6, abs=1e-15)
    np.testing.assert_allclose(found.energies, [-3.4, -0.8, -0.7], atol=1e-15)
    np.testing.assert_array_equal(found.forces - SAID.forces[1:4], [[1.0, 0, 0]] * 3)
    np.testing.assert_array_equal(found.stress, 0.375 * np.eye(3))
    assert Reference(E0S, cheaper).total(WATER) == pytest.approx(-5.5, abs=1e-15)


def test_there_is_no_stress_without_a_volume_or_where_the_model_has_none():
    molecule = structure(WATER.positions, WATER.numbers)
    for reference in (Reference(E0S), Reference(E0S, cheaper)):
        assert reference.complete(molecule, SAID, 1, slice(1, 4), stress=True).stress is None
        assert reference.complete(WATER, SAID, 1, slice(1, 4), stress=False).stress is None


@pytest.mark.parametrize("reference", [Reference(E0S), Reference(E0S, cheaper)], ids=["e0s", "b"])
def test_what_is_above_is_what_is_left_to_learn(reference):
    """A model that has learned it gives the labels again; labels that lack are not filled in."""
    labels = {"energy": np.array(-6.4), "forces": np.ones((3, 3)), "stress": np.eye(3)}
    above = reference.above(WATER.with_labels(**labels))
    energies, forces = np.zeros(5), np.zeros((5, 3))
    forces[1:4] = above.labels["forces"]
    total = np.array([0.0, above.labels["energy"]])
    stress = np.stack([np.zeros((3, 3)), above.labels["stress"]])
    learned = Derived(energies, total, forces, stress)
    found = reference.complete(WATER, learned, 1, slice(1, 4), stress=True)
    assert found.energy == pytest.approx(-6.4, abs=1e-14)
    np.testing.assert_allclose(found.forces, 1.0, atol=1e-15)
    np.testing.assert_allclose(found.stress, np.eye(3), atol=1e-15)
    assert reference.above(WATER.with_labels(energy=np.array(1.0))).labels.keys() == {"energy"}


def test_an_element_without_an_e0_is_refused():
    with pytest.raises(InputError, match="no E0 of Si"):
        Reference(E0S).atoms(structure([[0, 0, 0]]))
