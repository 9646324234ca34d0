"""The loop of a run around a model of one number, whose whole history is known beforehand.

Each step halves the distance of θ to the label, 0 (or takes all of it, where the late weight is 2):
the loss is w (θ − t)², its gradient 2 w (θ − t), and the rate 1/4.
"""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kohn.errors import ModelFileError, Place, TrainingError
from kohn.jobs import RECORDS, WorkFolder
from kohn.progress import Progress
from kohn.records import read_records
from kohn.training import checkpoints, loop
from kohn.training.checkpoints import RunProgress
from kohn.training.loader import Batch
from kohn.training.optimiser import initial_state
from kohn.training.preparation import Prepared
from kohn.training.settings import parse


class Number(eqx.Module):
    """The model."""

    theta: Any


@dataclass(frozen=True)
class Held:
    """The potential."""

    model: Number
    provenance: dict = field(default_factory=dict)


class Square:
    """The task: the number is the label."""

    def weights(self, late):
        return np.float64(2.0 if late else 1.0)

    def predict(self, model, graph):
        return model.theta

    def loss(self, predicted, labels, weights):
        off = jnp.sum((predicted - labels) ** 2)
        return weights * off, {"energy": off}

    def errors(self, predicted, labels):
        return {"energy": (predicted - labels, jnp.ones(1))}


class Batches:
    """The loader: batches of structures with one label each, and a memory of the epochs."""

    def __init__(self, labels, sizes):
        self.labels, self.sizes, self.asked = labels, sizes, []
        self.structures, self.steps = [None] * sum(sizes), len(labels)

    def epoch(self, seed, epoch):
        self.asked.append((seed, epoch))
        return self.batches()

    def batches(self):
        for label, size in zip(self.labels, self.sizes, strict=True):
            yield Batch(np.zeros(1), np.array([label]), tuple(range(size)))


@pytest.fixture
def written(monkeypatch):
    """Name of a model file -> what was last written there; steps of a known size."""
    found = {}
    monkeypatch.setattr(loop, "optimiser", lambda settings, steps, model: optax.sgd(0.25))
    monkeypatch.setattr(
        loop, "save_potential", lambda model, path: found.setdefault(path.name, []).append(model)
    )
    return found


def trainer(
    folder, run, *, ema=0.0, late_from=1.0, train=((0.0,), (1,)), valid=((0.0,), (1,)), **of
):
    folder.mkdir(exist_ok=True)
    settings = parse(
        {
            "data": {"train": ["x"]},
            "run": run,
            "loss": {"late_from": late_from},
            "optimiser": {"ema": ema, "schedule": "constant", "warmup_steps": 4},
        }
    )
    held = Held(Number(jnp.asarray([1.0])))
    prepared = Prepared(held, Batches(*train), Batches(*valid), Square(), None, "f")
    return loop.Trainer(
        settings, prepared, WorkFolder(folder, "training"), of.get("told", Progress())
    )


def records(folder):
    return list(read_records(folder / RECORDS))


def column(of, name):
    return [r[name] for r in records(of.work.path)]


def theta(potential):
    return float(potential.model.theta[0])


# A run


def test_late_weights_hold_from_their_share_of_the_steps_on(tmp_path, written):
    """Two steps an epoch, late from the fifth of eight on: θ is 1, ½, ¼, ⅛, 1/16 and then 0."""
    of = trainer(tmp_path / "a", {"epochs": 4}, late_from=0.5, train=((0.0, 0.0), (1, 1)))
    loop.run(of, resume=False)
    losses = [(1 + 1 / 4) / 2, (1 / 16 + 1 / 64) / 2, 2 / 256 / 2, 0.0]
    np.testing.assert_allclose(column(of, "train_loss"), losses, rtol=1e-14)
    # Validations have the late weights from the first on, so that they can be compared.
    np.testing.assert_allclose(column(of, "valid_loss"), [2 / 16, 2 / 256, 0, 0], rtol=1e-14)
    assert column(of, "step") == [2, 4, 6, 8]
    assert column(of, "best_epoch") == [1, 2, 3, 3]  # as good is not better
    of_rise = [0.005, 0.01, 0.01, 0.01]
    np.testing.assert_allclose(column(of, "learning_rate"), of_rise, rtol=1e-6)
    assert of.prepared.train.asked == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_late_weights_that_begin_between_two_epochs(tmp_path, written):
    """Three quarters of two epochs of two steps: the last step alone."""
    of = trainer(tmp_path / "a", {"epochs": 2}, late_from=0.75, train=((0.0, 0.0), (1, 1)))
    loop.run(of, resume=False)
    losses = [(1 + 1 / 4) / 2, (1 / 16 + 2 / 64) / 2]
    np.testing.assert_allclose(column(of, "train_loss"), losses, rtol=1e-14)


def test_averages_are_judged_and_kept(tmp_path, written):
    """With averages 13/22 and then 59/176, the label between: the first epoch is the best."""
    first, second = 2 / 11 + 9 / 11 / 2, (2 / 11 + 9 / 11 / 2) / 4 + 3 / 4 / 4
    label = 0.55
    assert abs(second - label) > abs(first - label) > 0.0
    of = trainer(tmp_path / "a", {"epochs": 2, "seed": 7}, ema=0.9, valid=((label,), (1,)))
    best = loop.run(of, resume=False)
    expected = [2 * (first - label) ** 2, 2 * (second - label) ** 2]
    np.testing.assert_allclose(column(of, "valid_loss"), expected, rtol=1e-12)
    offs = [abs(first - label), abs(second - label)]
    np.testing.assert_allclose(column(of, "valid_energy_mae"), offs, rtol=1e-12)
    assert theta(best) == pytest.approx(first, rel=1e-14)
    assert theta(written[loop.MODEL][-1]) == pytest.approx(first, rel=1e-14)
    assert theta(written[loop.LAST][-1]) == pytest.approx(second, rel=1e-14)
    told = best.provenance["training"]
    assert (told["best_epoch"], told["epochs"], told["steps"]) == (1, 2, 2)
    assert told["valid_loss"] == pytest.approx(expected[0], rel=1e-12)
    assert of.prepared.train.asked == [(7, 0), (7, 1)]


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (3, 5), (None, 7)])
def test_patience_is_of_validations_without_a_better_one(patience, epochs, tmp_path, written):
    """θ passes the label, ¼, in the second epoch."""
    run = {"epochs": 7, "patience": patience}
    of = trainer(tmp_path / "a", run, valid=((0.25,), (1,)))
    best = loop.run(of, resume=False)
    assert column(of, "epoch") == list(range(1, epochs + 1))
    assert column(of, "best_epoch") == [1] + [2] * (epochs - 1)
    assert theta(best) == 0.25
    assert theta(written[loop.LAST][-1]) == 2.0**-epochs


def test_patience_counts_validations_and_begins_anew_after_a_better_one(
    tmp_path, written, monkeypatch
):
    losses = iter([9.0, 3.0, 4.0, 2.0, 2.5, 2.4, 1.0])  # the first before training
    monkeypatch.setattr(loop, "_validate", lambda *_: (next(losses), 1.0, {}))
    run = {"epochs": 30, "patience": 2, "evaluate_every": 3}
    of = trainer(tmp_path / "a", run)
    loop.run(of, resume=False)
    assert column(of, "epoch") == [3, 6, 9, 12, 15]
    assert column(of, "best_epoch") == [3, 3, 9, 9, 9]


def test_the_last_epoch_is_judged_in_any_case(tmp_path, written):
    of = trainer(tmp_path / "a", {"epochs": 5, "evaluate_every": 2, "checkpoint_every": 10})
    loop.run(of, resume=False)
    assert column(of, "epoch") == [2, 4, 5]
    assert checkpoints.exists(of.work.path)


def test_the_loss_of_validation_is_a_mean_over_structures(tmp_path, written):
    """θ = ½ after one step; batches of three structures off by ½ and of one off by 1½."""
    of = trainer(tmp_path / "a", {"epochs": 1}, valid=((0.0, 2.0), (3, 1)))
    loop.run(of, resume=False)
    assert column(of, "valid_loss") == [2 * (3 * 0.25 + 2.25) / 4]
    assert column(of, "valid_energy_mae") == [1.0]  # one number a batch
    assert column(of, "valid_energy_rmse") == [((0.25 + 2.25) / 2) ** 0.5]


def test_a_run_is_of_epochs_or_of_as_many_as_are_nearest_to_its_steps(tmp_path):
    def length(run):
        of = trainer(tmp_path / "a", run, train=((0.0,) * 4, (1,) * 4))
        return of.epochs, of.steps

    assert length({"epochs": 3}) == (3, 12)
    assert length({"steps": 9}) == (2, 8)
    assert length({"steps": 11}) == (3, 12)
    assert length({"steps": 1}) == (1, 4)
    assert length({"steps": 100, "epochs": 2}) == (2, 8)


def test_what_is_told_while_it_goes_on(tmp_path, written):
    steps, seen = [], []
    told = Progress(lambda *x: steps.append(x), seen.append)
    train = ((0.0, 0.0), (1, 1))
    of = trainer(tmp_path / "a", {"epochs": 2}, train=train, told=told)
    loop.run(of, resume=False)
    assert steps == [("training", done, 4) for done in (0, 1, 1, 1, 1)]
    assert [r["epoch"] for r in seen] == [1, 2]


def test_a_broken_run_goes_on_as_if_nothing_had_been(tmp_path, written):
    """Broken in the fourth epoch of six, with a checkpoint of the second."""

    def stop(record):
        if record["epoch"] == 4:
            raise KeyboardInterrupt

    def of(name, **more):
        run = {"epochs": 6, "checkpoint_every": 2, "patience": 5}
        label = ((0.2,), (1,))
        return trainer(tmp_path / name, run, ema=0.5, late_from=0.7, valid=label, **more)

    whole = loop.run(of("whole"), resume=False)
    expected = records(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        loop.run(of("broken", told=Progress(record=stop)), resume=False)
    again = of("broken")
    found = loop.run(again, resume=True)
    assert again.prepared.train.asked == [(0, k) for k in range(2, 6)]
    unlike = ("seconds", "compilations")
    for a, b in zip(records(tmp_path / "broken"), expected, strict=True):
        assert {k: a[k] for k in a if k not in unlike} == {k: b[k] for k in b if k not in unlike}
    assert theta(found) == theta(whole)
    assert found.provenance == whole.provenance
    last = written[loop.LAST]
    assert theta(last[0]) == theta(last[1])


def test_a_loss_that_is_no_number_names_the_frame(tmp_path, written):
    """The second of three, whose label is none; the step is the fourth, of the second epoch."""
    places = [Place("some.extxyz", k) for k in range(3)]
    labels = {0: 0.0, 1: np.nan, 2: 9.0}
    of = trainer(tmp_path / "a", {"epochs": 2}, train=((0.0, 0.0), (1, 3)))
    loader = of.prepared.train
    loader.structures = [SimpleNamespace(labels=("energy",), place=p) for p in places]
    loader.batch = lambda chosen: Batch(np.zeros(1), np.array([labels[i] for i in chosen]), chosen)
    asked = iter([(0.0, 0.0), (0.0, np.nan)])
    loader.epoch = lambda *_: Batches(next(asked), (1, 3)).batches()
    with pytest.raises(TrainingError, match="diverged at step 4: the predicted energy") as caught:
        loop.run(of, resume=False)
    assert caught.value.where == places[1]
    assert "loss nan" in caught.value.received


class Root(Square):
    """|θ − label|, which is finite where it has no slope."""

    def loss(self, predicted, labels, weights):
        off = jnp.sqrt(jnp.sum((predicted - labels) ** 2))
        return weights * off, {"energy": off}


def test_a_gradient_that_is_no_number_is_one_too(tmp_path, written):
    """θ is the label from the start: the loss is 0, and its slope 0/0."""
    of = trainer(tmp_path / "a", {"epochs": 1}, train=((1.0,), (1,)))
    of = replace(of, prepared=replace(of.prepared, task=Root()))
    loader, place = of.prepared.train, Place("some.extxyz", 0)
    loader.structures = [SimpleNamespace(labels=("energy",), place=place)]
    loader.batch = lambda chosen: Batch(np.zeros(1), np.array([1.0]), chosen)
    with pytest.raises(TrainingError, match="diverged at step 1: the gradient") as caught:
        loop.run(of, resume=False)
    assert caught.value.where == place


def test_a_run_that_makes_the_model_worse_stops_with_advice(tmp_path, written):
    """θ goes from 1 half of the way to the training label; the validation label is 0.2, so that the
    loss was 2 · 0.64 at the start and would be 2 · 0.04 for zero: the limit is 12.8."""
    asked = {"train": ((6.0,), (1,)), "valid": ((0.2,), (1,))}
    of = trainer(tmp_path / "a", {"epochs": 2}, **asked)
    with pytest.raises(TrainingError, match="made the model worse by epoch 1") as caught:
        loop.run(of, resume=False)
    assert column(of, "valid_loss") == [pytest.approx(2 * 3.3**2)]  # the record is kept
    assert caught.value.expected.startswith("less than 12.8")
    assert "0.0033 instead of 0.01" in caught.value.fix


def test_a_validation_loss_below_the_limit_does_not_stop_a_run(tmp_path, written):
    """As above, to 2.5 and then 2.75."""
    asked = {"train": ((3.0,), (1,)), "valid": ((0.2,), (1,))}
    of = trainer(tmp_path / "a", {"epochs": 1}, **asked)
    loop.run(of, resume=False)
    assert column(of, "valid_loss") == [pytest.approx(2 * 1.8**2)]


# Checkpoints


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    rule = optax.adam(0.1)
    like = initial_state(jnp.zeros(2), rule)
    leaves, structure = jax.tree.flatten(like)
    counted = [jnp.full_like(x, 3 + k) for k, x in enumerate(leaves)]
    state = jax.tree.unflatten(structure, counted)
    progress = RunProgress(epoch=5, best_loss=0.1, best_epoch=3, stale=2, stopped=True)
    checkpoints.save(tmp_path, state, jnp.asarray([8.0, 9.0]), progress, "mine")
    found, best, there = checkpoints.load(tmp_path, like, "mine")
    np.testing.assert_array_equal(best, [8.0, 9.0])
    assert there == progress
    np.testing.assert_array_equal(found.theta, [3.0, 3.0])
    np.testing.assert_array_equal(found.average, [4.0, 4.0])
    np.testing.assert_array_equal(found.moments[0].mu, [6.0, 6.0])
    assert int(found.step) == 8
    with pytest.raises(ModelFileError, match="other settings or other data"):
        checkpoints.load(tmp_path, like, "another's")


def test_before_the_first_validation_the_best_loss_is_infinite(tmp_path):
    state = initial_state(jnp.zeros(1), optax.sgd(0.1))
    checkpoints.save(tmp_path, state, jnp.zeros(1), RunProgress(), "mine")
    assert checkpoints.load(tmp_path, state, "mine")[2] == RunProgress()


def test_records_after_the_checkpoint_are_forgotten(tmp_path):
    work = WorkFolder(tmp_path, "training")
    for record in (
        {"kind": "start", "epochs": 9},
        *({"kind": "epoch", "epoch": k} for k in (1, 2, 3)),
    ):
        work.append(record)
    loop.forget_after(work, 2)
    assert [r.get("epoch") for r in read_records(work.records)] == [None, 1, 2]
    loop.forget_after(WorkFolder(tmp_path / "none", "training"), 2)
