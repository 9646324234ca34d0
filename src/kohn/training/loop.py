"""Run the training loop: steps, validations, checkpoints, and the resulting model."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from kohn.errors import Place, TrainingError
from kohn.jobs import WorkFolder
from kohn.potential import Potential, PropertyModel
from kohn.potential import save as save_potential
from kohn.progress import Progress
from kohn.training import checkpoints
from kohn.training.checkpoints import RunProgress
from kohn.training.loader import Batch, Loader
from kohn.training.optimiser import (
    State,
    StepReport,
    flatten,
    initial_state,
    learning_rate,
    make_step,
    make_validation,
    objective_of,
    optimiser,
)
from kohn.training.penalties import penalised
from kohn.training.preparation import Prepared
from kohn.training.settings import TrainSettings
from kohn.typing import Array, Document, Tree

MODEL = "model.safetensors"
LAST = "last.safetensors"
DIVERGED = 10.0
"""A run stops if its validation loss is this many times what it was before the first step, and what
it is for a model that predicts zero: training has then made the model worse."""


@dataclass(frozen=True, eq=False)
class Trainer:
    """The inputs of a training run, its length, and the weights of its loss."""

    settings: TrainSettings
    prepared: Prepared
    work: WorkFolder
    meter: Progress

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole run."""
        run = self.settings.run
        return run.epochs or max(1, round(run.steps / self.prepared.train.steps))

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return self.epochs * self.prepared.train.steps

    def weights(self, step: int) -> Tree:
        """Return the weights of the loss at a step: late weights in the last part of the run."""
        return self.prepared.task.weights(step >= self.settings.loss.late_from * self.steps)


def run(trainer: Trainer, *, resume: bool) -> Potential | PropertyModel:
    """Train to the end of the run, from its start or from its checkpoint.

    Returns:
        The potential or model of properties with the lowest validation loss, as saved in the run.

    Raises:
        TrainingError: a loss is not finite (the frame is named), training makes the model worse, or
            the disk is full.
    """
    settings, prepared, work = trainer.settings, trainer.prepared, trainer.work
    theta, unravel = flatten(prepared.potential.model)
    rule = optimiser(settings.optimiser, trainer.steps, prepared.potential.model)
    objective = objective_of(prepared.task, unravel)
    penalties = settings.loss.penalties.model_dump()
    if any(penalties.values()):
        objective = penalised(objective, unravel, penalties)
    step = make_step(objective, rule, ema=settings.optimiser.ema, seed=settings.run.seed)
    validate = make_validation(prepared.task, unravel)
    state, best, progress = initial_state(theta, rule), theta, RunProgress()
    if resume and checkpoints.exists(work.path):
        state, best, progress = checkpoints.load(work.path, state, prepared.fingerprint)
    forget_after(work, progress.epoch)
    schedule = learning_rate(settings.optimiser, trainer.steps)

    def rate(step_number: int) -> float:
        with jax.numpy_dtype_promotion("standard"):
            return float(np.asarray(schedule(step_number)))

    late = prepared.task.weights(True)
    untrained, of_zero, _ = _validate(validate, theta, prepared.valid, late)
    limit = DIVERGED * max((x for x in (untrained, of_zero) if np.isfinite(x)), default=np.inf)
    trainer.meter.work("training", int(state.step), trainer.steps)  # steps of the run before
    started, written = time.perf_counter(), progress.best_epoch
    while progress.epoch < trainer.epochs and not progress.stopped:
        state, losses = _epoch(trainer, step, state, progress.epoch)
        progress = replace(progress, epoch=progress.epoch + 1)
        last = progress.epoch == trainer.epochs
        if last or progress.epoch % settings.run.evaluate_every == 0:
            valid, _, errors = _validate(validate, state.average, prepared.valid, late)
            progress, best = _keep_best(progress, best, state, valid, settings.run.patience)
            record = {
                "kind": "epoch",
                "epoch": progress.epoch,
                "step": int(state.step),
                "learning_rate": rate(int(state.step)),
                "train_loss": losses,
                "valid_loss": valid,
                "best_epoch": progress.best_epoch,
                "seconds": time.perf_counter() - started,
                "compilations": step._cache_size() + validate._cache_size(),  # type: ignore[attr-defined]
                **errors,
            }
            work.append(record)
            started = time.perf_counter()
            trainer.meter.record(record)
            if not valid <= limit:
                raise _diverged(trainer, record, limit)
        if last or progress.stopped or progress.epoch % settings.run.checkpoint_every == 0:
            checkpoints.save(work.path, state, best, progress, prepared.fingerprint)
            if progress.best_epoch > written:  # the best model so far can be used already
                written = progress.best_epoch
                _write(trainer, unravel(best), MODEL, state, progress)
    _write(trainer, unravel(state.average), LAST, state, progress)
    return _write(trainer, unravel(best), MODEL, state, progress)


def _epoch(trainer: Trainer, step: Callable, state: State, epoch: int) -> tuple[State, float]:
    """Train for one epoch; return state and mean loss. A loss is read while the next step runs."""
    loader = trainer.prepared.train
    total, count = 0.0, 0
    pending: tuple[State, Batch, StepReport] | None = None
    first = epoch * loader.steps
    for i, batch in enumerate(loader.epoch(trainer.settings.run.seed, epoch)):
        weights = trainer.weights(first + i)
        before = state
        state, report = step(state, batch.graph, batch.targets, weights)
        if pending is not None:
            total, count = total + _finite_loss(trainer, *pending), count + 1
        pending = (before, batch, report)
        trainer.meter.work("training", 1, trainer.steps)
    if pending is not None:
        total, count = total + _finite_loss(trainer, *pending), count + 1
    return state, total / max(count, 1)


def _finite_loss(trainer: Trainer, before: State, batch: Batch, report: StepReport) -> float:
    """Return the loss of a step; raise an error that names the frame if it is not finite."""
    value, norm = float(report.loss), float(report.gradient_norm)
    if np.isfinite(value) and np.isfinite(norm):
        return value
    loader = trainer.prepared.train
    _, unravel = flatten(trainer.prepared.potential.model)
    validate = make_validation(trainer.prepared.task, unravel)
    worst, reason = batch.indices[0], "the gradient"
    worst_loss = -1.0
    for i in batch.indices:
        single = loader.batch((i,))
        sums = validate(before.theta, single.graph, single.targets, trainer.weights(0))
        for name, part in reversed(sums.parts.items()):
            labelled = name in loader.structures[i].labels
            if labelled and not np.isfinite(float(part)):
                worst, worst_loss, reason = i, np.inf, f"the predicted {name}"
        if float(sums.loss) > worst_loss:
            worst, worst_loss = i, float(sums.loss)
    raise TrainingError(
        f"training diverged at step {int(before.step) + 1}: {reason} is not a finite number",
        where=loader.structures[worst].place,
        received=f"loss {value}, norm of the gradient {norm}",
        fix="look at this frame with `kohn check`; start again with a lower "
        "optimiser.learning_rate, from the best model so far if you like (run.init_from)",
    )


def _diverged(trainer: Trainer, record: Document, limit: float) -> TrainingError:
    """Return the error for a run whose validation loss is above `limit`."""
    rate = trainer.settings.optimiser.learning_rate
    best, folder = record["best_epoch"], trainer.work.path
    kept = best < record["epoch"] and (folder / MODEL).is_file()
    better = f"; the model of epoch {best} is in the run folder" if kept else ""
    return TrainingError(
        f"training diverged: it has made the model worse by epoch {record['epoch']}{better}",
        where=Place(file=folder),
        received=f"validation loss {record['valid_loss']:.3g}",
        expected=f"less than {limit:.3g}, {DIVERGED:.0f} times that of the model before training "
        "and of a model that predicts zero",
        fix=f"start again in another folder with a lower optimiser.learning_rate, for example "
        f"{rate / 3:.2g} instead of {rate:.2g}",
    )


def _validate(
    validate: Callable, theta: Array, loader: Loader, weights: Any
) -> tuple[float, float, dict[str, float]]:
    """Return the mean loss per structure, that of a model which predicts zero, and MAE and RMSE of
    each label in its unit."""
    total, of_zero, sums = 0.0, 0.0, {}
    for batch in loader.batches():
        sums_of_batch = validate(theta, batch.graph, batch.targets, weights)
        total += float(sums_of_batch.loss) * len(batch.indices)
        of_zero += float(sums_of_batch.loss_of_zero) * len(batch.indices)
        for name, parts in sums_of_batch.sums.items():
            sums[name] = sums.get(name, 0.0) + np.array([float(x) for x in parts])
    errors = {}
    for name, (absolute, square, count) in sums.items():
        if count:
            errors[f"valid_{name}_mae"] = absolute / count
            errors[f"valid_{name}_rmse"] = (square / count) ** 0.5
    count = len(loader.structures)
    return total / count, of_zero / count, errors


def _keep_best(
    progress: RunProgress, best: Array, state: State, valid: float, patience: int | None
) -> tuple[RunProgress, Array]:
    """Return the progress and the best weights after a validation with the loss `valid`.

    The run stops if patience has run out. All validations use the late weights, to be comparable.
    """
    if valid < progress.best_loss:
        better = replace(progress, best_loss=valid, best_epoch=progress.epoch, stale=0)
        return better, state.average
    stale = progress.stale + 1
    stopped = patience is not None and stale >= patience
    return replace(progress, stale=stale, stopped=stopped), best


def _write(trainer: Trainer, model: Any, name: str, state: State, progress: RunProgress) -> Any:
    """Write a model of the run to the file `name`, with the progress of the run."""
    start = trainer.prepared.potential
    training = {
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "steps": int(state.step),
        "valid_loss": progress.best_loss,
    }
    potential = replace(start, model=model, provenance={**start.provenance, "training": training})
    save_potential(potential, trainer.work.path / name)
    return potential


def forget_after(work: WorkFolder, epoch: int) -> None:
    """Remove records of epochs after `epoch`, which a resumed run repeats, and later records."""
    work.keep(
        lambda r: r["kind"] == "start" or (r["kind"] == "epoch" and r.get("epoch", 0) <= epoch)
    )
