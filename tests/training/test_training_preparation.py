"""What settings and data decide of a run: who validates, the weights, where zero is."""

from types import SimpleNamespace

import numpy as np
import pytest
from brute_force import structure

from kohn.structures import Dataset, reference_energies
from kohn.training.preparation import (
    STRESS_WEIGHT,
    _huber,
    _parts,
    _provenance_of_energies,
    resolved,
)
from kohn.training.settings import Weights, parse


def numbered(k):
    """A chain of 2 to 4 atoms, unlike all others, with its own number for an energy."""
    chain = structure(np.arange(2 + k % 3)[:, None] * np.array([1.0 + 0.1 * k, 0.0, 0.0]))
    return chain.with_labels(energy=np.array(float(k)))


# A share of the data that validates


def parts(data, seed=0, share=0.25):
    settings = parse(
        {"data": {"train": ["x"], "valid_fraction": share}, "run": {"seed": seed, "epochs": 1}}
    )
    return _parts(settings, Dataset(tuple(data)))


def energies(part):
    return [float(s.labels["energy"]) for s in part]


def test_what_validates_is_not_learned_from():
    atom = structure([[0, 0, 0]]).with_labels(energy=np.array(-1.0))
    data = [*(numbered(k) for k in range(12)), atom]
    found = parts(data)
    train, valid = energies(found["train"]), energies(found["valid"])
    assert len(valid) == 3
    assert sorted(train + valid) == [-1.0, *range(12)]
    assert -1.0 in train  # an isolated atom is never validated by
    assert energies(parts(data)["valid"]) == valid
    assert energies(parts(data, seed=1)["valid"]) != valid
    assert len(parts(data, share=0.01)["valid"]) == 1
    assert len(parts(data, share=0.99)["train"]) == 1 + 1


def test_structures_are_read_apart_where_files_validate(monkeypatch):
    settings = parse({"data": {"train": ["x"], "valid": ["y"]}, "run": {"epochs": 1}})
    other = SimpleNamespace()
    monkeypatch.setattr("kohn.training.preparation._read", lambda data, files: other)
    data = Dataset((numbered(0),))
    assert _parts(settings, data) == {"train": data, "valid": other}


# Labels


def test_stress_is_wanted_by_default_where_every_frame_has_one():
    without = numbered(0)
    with_stress = without.with_labels(stress=np.zeros((3, 3)))
    assert resolved(Weights(), Dataset((with_stress, with_stress))).stress == STRESS_WEIGHT
    assert resolved(Weights(), Dataset((with_stress, without))).stress == 0.0
    assert resolved(Weights(stress=7.0), Dataset((without,))).stress == 7.0
    assert resolved(Weights(stress=0.0), Dataset((with_stress,))).stress == 0.0


def test_huber_s_loss_is_used_where_it_is_asked_for():
    def found(loss):
        return _huber(parse({"data": {"train": ["x"]}, "loss": loss}))

    assert found({"kind": "huber", "huber_delta": 0.02}) == 0.02
    assert found({"kind": "mse", "huber_delta": 0.02}) is None


def test_the_mean_energy_is_of_an_atom_above_the_e0s():
    """Two atoms of −9 eV, three of −16 and three of −13 are 1, −1 and 2 eV above E0s of −5."""
    data = [numbered(k).with_labels(energy=np.array(e)) for k, e in ((0, -9.0), (1, -16.0))]
    data += [numbered(4).with_labels(energy=np.array(-13.0)), numbered(2).with_labels(energy=None)]
    e0s = reference_energies(Dataset(tuple(data)), {14: -5.0})
    found = _provenance_of_energies(Dataset(tuple(data)), e0s)
    assert found["mean_energy_per_atom"] == pytest.approx((1.0 - 1.0 + 2.0) / 8, rel=1e-14)
