"""What settings and data decide of a run: who validates, the weights, where zero is."""

import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from brute_force import structure

from kohn.errors import InputError
from kohn.graphs import neighbourhood
from kohn.jobs import WorkFolder
from kohn.models import FAMILIES, SchNetConfig
from kohn.potential import TrainingDistances
from kohn.records import read_records
from kohn.structures import Dataset, reference_energies
from kohn.training.preparation import (
    STRESS_WEIGHT,
    _distances,
    _huber_delta,
    _parts,
    _provenance_of_energies,
    _refuse_missing_labels,
    prepare,
    resolved,
)
from kohn.training.settings import Weights, parse
from kohn.training.train import _write_start


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
        return _huber_delta(parse({"data": {"train": ["x"]}, "loss": loss}))

    assert found({"kind": "huber", "huber_delta": 0.02}) == 0.02
    assert found({"kind": "mse", "huber_delta": 0.02}) is None


def test_the_mean_energy_is_of_an_atom_above_the_e0s():
    """Two atoms of −9 eV, three of −16 and three of −13 are 1, −1 and 2 eV above E0s of −5."""
    data = [numbered(k).with_labels(energy=np.array(e)) for k, e in ((0, -9.0), (1, -16.0))]
    data += [numbered(4).with_labels(energy=np.array(-13.0)), numbered(2).with_labels(energy=None)]
    e0s = reference_energies(Dataset(tuple(data)), {14: -5.0})
    found = _provenance_of_energies(Dataset(tuple(data)), e0s)
    assert found["mean_energy_per_atom"] == pytest.approx((1.0 - 1.0 + 2.0) / 8, rel=1e-14)


def test_labels_are_asked_for_by_early_and_by_late_weights():
    data = Dataset((numbered(0), numbered(1)))
    alone, both = Weights(energy=1, forces=0, stress=0), Weights(energy=1, forces=1, stress=0)
    _refuse_missing_labels(data, data, alone, alone)
    for weights in ((both, alone), (alone, both)):
        with pytest.raises(InputError, match="the loss wants forces, and no training structure"):
            _refuse_missing_labels(data, data, *weights)
    forced = Dataset((numbered(0).with_labels(forces=np.zeros((2, 3))),))
    with pytest.raises(InputError, match="no validation structure"):
        _refuse_missing_labels(forced, data, both, both)


# From settings to a run


class Drawn:
    """Stands for a family: says what it was asked for."""

    @classmethod
    def init(cls, key, config, elements, **more):
        return {"key": jax.random.key_data(key).tolist(), "elements": elements, **more}


@pytest.fixture
def prepared(ethanol, monkeypatch):
    """A run without a network, by sections of settings."""
    monkeypatch.setitem(FAMILIES, "schnet", (SchNetConfig, Drawn))
    monkeypatch.setattr("kohn.training.stress.is_conservative", lambda family: True)

    def made(**sections):
        data = {"train": [str(ethanol)], **sections.pop("data", {})}
        return prepare(parse({"data": data, "model": {"family": "schnet"}, **sections}))

    return made


def test_a_task_has_the_weights_of_the_settings(prepared):
    early, late = ({"energy": 2.0, "forces": 3.0}, {"energy": 5.0, "forces": 7.0})
    task = prepared(loss={"weights": early, "late_weights": late}).task
    assert tuple(task.early) == (2.0, 3.0, 0.0)
    assert tuple(task.late) == (5.0, 7.0, 0.0)
    assert task.huber_delta is None
    task = prepared(loss={"weights": early, "late_weights": None, "kind": "huber"}).task
    assert tuple(task.late) == (2.0, 3.0, 0.0)
    assert task.huber_delta == 0.01


def test_labels_that_late_weights_alone_want_are_asked_for(prepared):
    early, late = {"energy": 1.0, "stress": 0.0}, {"energy": 1.0, "stress": 1.0}
    with pytest.raises(InputError, match="the loss wants stress"):
        prepared(loss={"weights": early, "late_weights": late})


def test_a_network_is_drawn_by_the_seed_for_the_data(prepared):
    """Its energies have the size of the forces, the root mean square of their components."""
    run = {"seed": 5, "batch_size": 7, "dtype": "float64"}
    found = prepared(run=run, data={"config_weights": {"Default": 2.5}})
    drawn, loader = found.potential.model, found.train
    assert drawn["key"] == [0, 5]
    assert drawn["elements"] == (1, 6, 8)
    assert drawn["dtype"] is np.float64
    assert drawn["neighbours"] == loader.average_neighbours
    components = np.concatenate([s.labels["forces"].ravel() for s in loader.structures])
    assert drawn["scale"] == pytest.approx(
        np.linalg.norm(components) / len(components) ** 0.5, rel=1e-12
    )
    assert {s.weight for s in loader.structures} == {2.5}
    assert (loader.batch_size, len(loader.structures)) == (7, 23)
    assert prepared(run={"seed": 6}).potential.model["key"] == [0, 6]


def test_test_files_are_read_as_the_training_files_are(tmp_path, monkeypatch):
    """With the same keys, energy and periodicity."""
    module, asked = sys.modules["kohn.training.train"], {}

    def read(files, **how):
        asked[tuple(files)] = how
        return Dataset(())

    monkeypatch.setattr(module, "read", read)
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: None)
    monkeypatch.setattr(module, "write_evaluation", lambda *_: None)
    data = {"train": ["a.xyz"], "test": ["t.xyz"], "keys": {"forces": "f"}, "periodic": False}
    settings = parse({"data": data | {"energy": "free_energy"}})
    prepared = SimpleNamespace(valid=SimpleNamespace(structures=()))
    module._evaluate(settings, prepared, tmp_path, None)
    how = {"keys": {"forces": "f"}, "periodic": False, "energy": "free_energy"}
    assert asked == {("t.xyz",): how | {"labels": "finite"}}


def test_distances_that_a_model_has_seen_count_when_it_learns_more():
    """Si at 2.4 Å before, at 2.2 Å now."""
    pair = structure([[0, 0, 0], [0, 0, 2.2]], [14, 14])
    loader = SimpleNamespace(structures=[pair], neighbourhoods=[neighbourhood(pair, 4.0)])
    earlier = TrainingDistances({(14, 14): 2.4, (6, 14): 1.9}, {14: 2.6})
    start = SimpleNamespace(domain=SimpleNamespace(distances=earlier))
    documents = (_distances(loader, s)["seen"] for s in (None, start))
    alone, both = map(TrainingDistances.from_json, documents)
    assert alone.shortest == {(14, 14): pytest.approx(2.2, abs=1e-9)}
    assert both.shortest == {**alone.shortest, (6, 14): 1.9}
    assert both.farthest_nearest == {14: 2.6}


def test_a_run_that_begins_again_has_one_start(tmp_path):
    """One that was killed before its first checkpoint left records of its own."""
    loader = SimpleNamespace(
        structures=[None],
        shapes=[(4, 2, 1)],
        average_neighbours=2.0,
        waste=lambda: SimpleNamespace(ratio=1.0),
    )
    potential = SimpleNamespace(n_parameters=1, provenance={}, e0s={1: -13.6})
    report = SimpleNamespace(to_json=dict)
    prepared = SimpleNamespace(report=report, train=loader, valid=loader, potential=potential)
    work = WorkFolder(tmp_path, "training")
    for steps in (5, 7):
        _write_start(work, prepared, steps=steps)
    (start,) = read_records(work.records)
    assert start["kind"] == "start"
    assert start["steps"] == 7
