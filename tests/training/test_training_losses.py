"""The loss of a batch, from numbers that can be checked by hand."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from brute_force import structure

from kohn.graphs import Shape
from kohn.models import Derived
from kohn.models.heads.properties import PropertyConfig
from kohn.potential import Reference
from kohn.training.losses import EnergyTask, LossWeights, _limits, loss, targets
from kohn.training.properties import Ions, PropertyTask

SHAPE = Shape(9, 1, 4)
"""Six atoms and three structures, with padding."""
ALL = LossWeights(1.0, 1.0, 1.0)
LOSS = jax.jit(loss, static_argnums=3)  # compiled once: one operation at a time takes seconds
CELL = 4.0 * np.eye(3)


def batch():
    """Two atoms of weight 3 with all labels, three without labels of energy and stress, and one
    that has an energy alone."""
    pair = structure([[0, 0, 0], [1.0, 0, 0]], cell=CELL, periodic=True)
    pair = pair.with_labels(
        energy=np.array(0.0), forces=np.full((2, 3), 0.5), stress=np.full((3, 3), 0.25)
    )
    bent = structure([[0, 0, 0], [3.0, 0, 0], [0, 6.0, 0]]).with_labels(forces=np.zeros((3, 3)))
    alone = structure([[0, 0, 0]]).with_labels(energy=np.array(-2.0))
    return [replace(pair, weight=3.0), bent, alone]


def said(energy=(0.0, 0.0, 0.0), forces=0.0, stress=0.0, padding=1e3):
    """A prediction; what it says in padding must not matter."""
    e, f = np.full(4, padding), np.full((9, 3), padding)
    s = np.full((4, 3, 3), padding)
    e[:3], f[:6], s[:3] = energy, forces, stress
    return Derived(np.zeros(9), e, f, s)


def parts_of(predicted, huber_delta=None):
    structures = batch()
    return LOSS(predicted, targets(structures, SHAPE), ALL, huber_delta)[1]


def test_labels_are_laid_out_with_their_weights_and_nothing_is_filled_in():
    structures = batch()
    t = targets(structures, SHAPE)
    np.testing.assert_array_equal(t.energy, [0.0, 0.0, -2.0, 0.0])
    np.testing.assert_array_equal(t.energy_weight, [3.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(t.stress_weight, [3.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(t.forces_weight, [3, 3, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(t.atoms, [2, 3, 1, 1])
    np.testing.assert_array_equal(t.forces[:2], 0.5)
    np.testing.assert_array_equal(t.forces[2:], 0.0)
    np.testing.assert_array_equal(t.stress[0], 0.25)


def test_energies_count_by_atom_and_once_with_the_weight_of_their_structure():
    """ΔE/n of 0.4/2 with weight 3 and of 0.5 with weight 1, over two structures with an energy."""
    found = parts_of(said(energy=(0.4, 99.0, -1.5), forces=0.0))["energy"]
    assert float(found) == pytest.approx((3 * 0.2**2 + 0.5**2) / 2, rel=1e-14)


def test_forces_are_a_mean_over_components():
    """ΔF of −0.2 in six components with weight 3 and of 0.3 in nine: fifteen components."""
    f = np.concatenate([np.full((2, 3), 0.3), np.full((3, 3), 0.3), np.full((1, 3), 9.0)])
    found = parts_of(said(forces=f))["forces"]
    assert float(found) == pytest.approx((6 * 3 * 0.2**2 + 9 * 0.3**2) / 15, rel=1e-14)


def test_stress_is_a_mean_over_components_of_what_has_a_label():
    s = np.array([0.35, 7.0, 7.0])[:, None, None]
    assert float(parts_of(said(stress=s))["stress"]) == pytest.approx(3 * 0.1**2, rel=1e-13)
    half = np.zeros((3, 3, 3))
    half[0] = 0.25 + np.diag([0.3, 0.0, 0.0])
    assert float(parts_of(said(stress=half))["stress"]) == pytest.approx(3 * 0.09 / 9, rel=1e-13)


def test_the_loss_is_the_sum_of_its_parts_times_their_weights():
    structures = batch()
    t = targets(structures, SHAPE)
    total, parts = LOSS(said((0.4, 0.0, -1.5), 0.3, 0.5), t, LossWeights(2.0, 30.0, 500.0), None)
    e, f, s = (float(parts[k]) for k in ("energy", "forces", "stress"))
    assert min(e, f, s) > 0.01
    assert float(total) == pytest.approx(2 * e + 30 * f + 500 * s, rel=1e-14)


def test_huber_s_loss_is_of_the_energy_of_an_atom():
    """δ = 0.3: 0.2 an atom is inside, 0.5 outside, where ℓ = 2 · 0.3 · 0.5 − 0.09 = 0.21."""
    found = parts_of(said(energy=(0.4, 0.0, -1.5), forces=0.5, stress=0.25), 0.3)
    assert float(found["energy"]) == pytest.approx((3 * 0.04 + 0.21) / 2, rel=1e-13)
    assert float(found["forces"]) == pytest.approx(9 * 0.21 / 15, rel=1e-13)


def test_huber_s_loss_turns_linear_at_the_same_weighted_value_for_all_labels():
    """With weights 4, 100 and 10⁴ the limits are 5 δ, δ and δ/10; δ for what has no weight."""

    def limits(*weights):
        return [float(x) for x in _limits(0.3, LossWeights(*map(np.float64, weights)))]

    assert limits(4.0, 100.0, 1e4) == pytest.approx([1.5, 0.3, 0.03], rel=1e-15)
    assert limits(0.0, 100.0, 25.0) == pytest.approx([0.3, 0.3, 0.6], rel=1e-15)
    assert limits(5.0, 0.0, 1e5) == [0.3, 0.3, 0.3]
    assert _limits(None, ALL) == (None, None, None)
    t = targets(batch(), SHAPE)
    off = said((0.8, 0.0, -1.5), 0.5 + 0.4, 0.25 + 0.05)
    _, parts = LOSS(off, t, LossWeights(4.0, 100.0, 1e4), 0.3)
    # energies 0.4 and 0.5 of an atom are inside 1.5; forces 0.4 and 0.9 outside 0.3: 0.15 and 0.45
    assert float(parts["energy"]) == pytest.approx((3 * 0.16 + 0.25) / 2, rel=1e-13)
    assert float(parts["forces"]) == pytest.approx((6 * 3 * 0.15 + 9 * 0.45) / 15, rel=1e-13)
    assert float(parts["stress"]) == pytest.approx(3 * 0.03 * (0.1 - 0.03), rel=1e-13)


def test_a_batch_without_a_label_costs_nothing():
    structures = [structure([[0, 0, 0], [1.0, 0, 0]])]
    t = targets(structures, SHAPE)
    total, parts = LOSS(said(padding=3.0), t, ALL, None)
    assert float(total) == 0.0
    assert all(float(x) == 0.0 for x in parts.values())


# Tasks


def task(early=(1.0, 2.0, 3.0), late=(4.0, 5.0, 6.0)):
    return EnergyTask(Reference({14: -1.0}), LossWeights(*early), LossWeights(*late))


def test_a_task_has_early_and_late_weights_and_labels_above_the_e0s():
    assert tuple(task().weights(False)) == (1.0, 2.0, 3.0)
    assert tuple(task().weights(True)) == (4.0, 5.0, 6.0)
    structures = batch()
    np.testing.assert_array_equal(task().labels(structures, SHAPE).energy, [2.0, 0.0, -1.0, 0.0])


def test_errors_are_those_of_labels():
    structures = batch()
    labels = task().labels(structures, SHAPE)
    found = jax.jit(task().errors)(said((3.0, 0.0, -0.5), 0.75, 0.5), labels)
    error, there = (np.asarray(x) for x in found["energy_per_atom"])
    np.testing.assert_array_equal(there, [True, False, True, False])
    np.testing.assert_allclose(error[there], [0.5, 0.5], rtol=1e-14)
    error, there = (np.asarray(x) for x in found["forces"])
    np.testing.assert_array_equal(there, [True] * 5 + [False] * 4)
    np.testing.assert_allclose(error[there], [[0.25] * 3] * 2 + [[0.75] * 3] * 3)
    error, there = (np.asarray(x) for x in found["stress"])
    np.testing.assert_array_equal(there, [True, False, False, False])
    np.testing.assert_allclose(error[there], 0.25)


@pytest.mark.parametrize(
    ("early", "late", "forces"),
    [((1, 0, 0), (2, 0, 0), 0.0), ((1, 1, 0), (2, 0, 0), 9 / 15), ((1, 0, 0), (2, 1, 0), 9 / 15)],
)
def test_derivatives_are_left_out_only_where_no_weight_asks_for_them(early, late, forces):
    structures = batch()
    chosen = task(early, late)
    f = np.concatenate([np.full((2, 3), 0.5), np.ones((3, 3)), np.ones((1, 3))])
    predicted, labels = said((-8.0, 0.0, -6.0), f, 0.25), chosen.labels(structures, SHAPE)
    _, parts = jax.jit(chosen.loss)(predicted, labels, chosen.weights(False))
    assert float(parts["forces"]) == pytest.approx(forces)


def test_the_loss_of_properties_is_a_mean_over_structures_in_units_of_their_spread():
    """Dipoles off by 1 and 3 along x with weights 2 and 1, s = 2: (2 · 1/4 + 9/4)/2."""
    config = PropertyConfig(targets=("dipole",))
    chosen = PropertyTask(config, {"dipole": {1: 2.0}}, Ions())
    water = structure([[0, 0, 0], [1.0, 0, 0]], [8, 1])
    told = [replace(water.with_labels(dipole=np.zeros(3)), weight=2.0), water]
    told.append(water.with_labels(dipole=np.zeros(3)))
    labels = chosen.labels(told, SHAPE)
    np.testing.assert_array_equal(labels.weights["dipole"], [2.0, 0.0, 1.0, 0.0])
    off = np.zeros((4, 3))
    off[:, 0] = [1.0, 50.0, 3.0, 50.0]
    total, parts = jax.jit(chosen.loss)({"dipole": {1: off}}, labels, None)
    assert float(total) == pytest.approx(1.375, rel=1e-14)
    assert float(parts["dipole"]) == pytest.approx(1.375, rel=1e-14)
    huber = replace(chosen, huber_delta=1.0)  # 1/2 is inside, 3/2 outside: 2 · 3/2 − 1 = 2
    total, _ = jax.jit(huber.loss)({"dipole": {1: off}}, labels, None)
    assert float(total) == pytest.approx((2 * 0.25 + 2.0) / 2, rel=1e-14)
    error, there = jax.jit(huber.errors)({"dipole": {1: off}}, labels)["dipole"]
    np.testing.assert_array_equal(there, [True, False, True, False])
    np.testing.assert_allclose(np.abs(np.asarray(error)).sum(axis=1), off[:, 0], rtol=1e-14)
