"""Describe a run in words and short lists: verdict, timings, versions, and how to use it."""

import statistics
from dataclasses import dataclass

from kohn.models import FAMILIES, NOT_CONSERVATIVE, is_conservative
from kohn.reports.quantities import FORCES, present
from kohn.reports.run import Run
from kohn.reports.sections import structures_of
from kohn.reports.text import count, duration, number, plural
from kohn.structures.elements import symbol
from kohn.typing import Document

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Verdict:
    """The first lines of a report.

    Attributes:
        state: state of the run, in a word or two.
        good: whether the run ended, finished or stopped early.
        sentence: the result in one sentence.
        caveats: facts that are needed to read the result correctly.
    """

    state: str
    good: bool
    sentence: str
    caveats: tuple[str, ...]


def verdict(run: Run) -> Verdict:
    """Return the verdict on a run: its state, errors in one sentence, and caveats."""
    main, name = run.main, next(iter(run.evaluations), "")
    good = run.state in ("finished", "stopped early")
    caveats = []
    if main is None:
        sentence = _without_evaluation(run)
    else:
        errors = main["errors"]
        values = _values_in_words(errors)
        kind = {"test": "test ", "valid": "validation "}.get(name, "")
        on = plural(structures_of(main), f"{kind}structure")
        sentence = f"Mean absolute errors on {on}: {values}."
        if name == "valid":
            caveats.append(
                "The best epoch was chosen on these structures, which may come from the trajectory "
                "of the training data: errors on independent data are likely to be larger."
            )
        caveats += _worse_than_mean(main)
    caveats += _state_in_words(run) + _forces_caveat(run)
    return Verdict(run.state, good, sentence, tuple([*caveats, *_data_caveats(run)]))


def _values_in_words(errors: Document) -> str:
    shown = {q.name: f"{number(q.mae(errors))} {q.unit}".rstrip() for q in present(errors)}
    parts = [name for name in shown if name.rpartition("_l")[0] in shown]
    for name in parts:  # parts of a tensor that is listed as a whole
        del shown[name]
    per_atom = shown.pop("energy_per_atom", None)
    if per_atom and "energy" in shown:
        shown["energy"] += f" ({per_atom})"
    elif per_atom:
        shown["energy"] = per_atom
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _without_evaluation(run: Run) -> str:
    best = run.best
    if best is None:
        return "No epoch has been recorded yet."
    force = best.get("valid_forces_mae")
    shown = f" force MAE on validation {number(1e3 * force)} {FORCES.unit}," if force else ""
    return f"Best so far:{shown} loss {number(best.get('valid_loss'))}, at epoch {best['epoch']}."


def _worse_than_mean(evaluation: Document) -> list[str]:
    errors, baseline = evaluation["errors"], evaluation.get("mean_baseline", {})
    pairs = ((q.title.lower(), q.mae(errors), q.mae(baseline)) for q in present(errors))
    bad = [title for title, mae, mean in pairs if mean and mae is not None and mae >= mean]
    return [f"No better than predicting the mean: {', '.join(bad)}."] if bad else []


def _state_in_words(run: Run) -> list[str]:
    planned = f"{run.last_epoch:,} of {run.planned_epochs:,}" if run.planned_epochs else None
    if run.state == "stopped early":
        return [f"Stopped early, after {planned} epochs: validation no longer improved."]
    if run.state == "not evaluated":
        return ["Trained, but not evaluated yet: the evaluation is going on, or was stopped."]
    if run.state == "unfinished":
        done = planned or f"{run.last_epoch:,}"
        return [
            f"This run is still going, or was stopped: {done} epochs are recorded. If it was "
            "stopped, the same command with --resume continues from its checkpoint."
        ]
    if run.state == "not started":
        return ["No epoch is finished: this run is starting, was stopped, or its data are refused."]
    return []


def _forces_caveat(run: Run) -> list[str]:
    """Return a caveat if forces are not derivatives of the energy, or else an empty list."""
    family = (run.settings.get("model") or {}).get("family")
    if family not in FAMILIES or is_conservative(FAMILIES[family][1]):
        return []
    return [f"{NOT_CONSERVATIVE.capitalize()}. Simulations do not conserve energy."]


def _data_caveats(run: Run) -> list[str]:
    kinds = {f["kind"] for f in run.check.get("findings") or []}
    caveats = []
    if kinds & {"duplicate-between", "equivalent-between"}:
        caveats.append("Some structures are in more than one set: see the findings on the data.")
    if "single-composition-e0s" in kinds:
        caveats.append(
            "All data have one composition, so the energies of single atoms are arbitrary: "
            "energies of atomisation and of other compositions should not be trusted."
        )
    return caveats


def facts(run: Run) -> Pairs:
    """Return the size of the model and data, epochs and time, for a line below the verdict."""
    start = run.start
    pairs: Pairs = []
    if start.get("parameters"):
        pairs.append(("parameters", count(start["parameters"])))
    if start.get("train_structures"):
        valid = start.get("valid_structures")
        pairs.append(("training structures", count(start["train_structures"])))
        pairs.append(("validation structures", count(valid)))
    if run.epochs:
        pairs.append(("epochs", count(run.last_epoch)))
        pairs.append(("time in training", duration(run.seconds)))
    return pairs


def timings(run: Run) -> Pairs:
    """Return the times of a run, the padded shapes that were compiled, and the device."""
    start, pairs = run.start, []
    if run.epochs:
        seconds = run.seconds_an_epoch
        median = statistics.median(seconds[1:] or seconds)
        pairs.append(("time in training, validation included", duration(run.seconds)))
        pairs.append(("first epoch, with compilation", duration(seconds[0])))
        others = "median of the other epochs" if seconds[1:] else "median epoch"
        pairs.append((others, duration(median)))
        if start.get("train_structures") and median:
            rate = start["train_structures"] / median
            pairs.append(("training structures a second", number(rate)))
        if run.epochs[-1].get("step"):
            pairs.append(("steps", count(run.epochs[-1]["step"])))
        if run.epochs[-1].get("compilations") is not None:
            pairs.append(("compiled functions", count(run.epochs[-1]["compilations"])))
    if start.get("shapes"):
        shapes = dict.fromkeys(" × ".join(f"{n:,}" for n in s) for s in start["shapes"])
        pairs.append(("padded shapes: atoms × neighbours × structures", "; ".join(shapes)))
    if start.get("padding_per_edge") is not None:
        pairs.append(("padding slots for each real edge", number(start["padding_per_edge"])))
    if start.get("average_neighbours") is not None:
        pairs.append(("neighbours of an atom, on average", number(start["average_neighbours"])))
    if start.get("device"):
        pairs.append(("device", str(start["device"])))
    return pairs


def elements(run: Run) -> str:
    """Return the symbols of the elements that the model knows, or words if E0s are unknown."""
    known = run.start.get("e0s") or {}
    return ", ".join(symbol(int(z)) for z in known) or "only the elements of its training data"


def versions(run: Run) -> Pairs:
    """Return the names and versions of the software that a run used."""
    numbers = run.start.get("provenance", {}).get("versions") or {}
    return [(str(k), str(v)) for k, v in sorted(numbers.items())]


def model_facts(run: Run) -> Pairs:
    """Return the names and values of the main settings of the model."""
    model, training = run.settings.get("model") or {}, run.settings.get("run") or {}
    names = {
        "family": "family",
        "cutoff": "cutoff, Å",
        "layers": "layers",
        "channels": "channels",
        "hidden_l_max": "hidden features up to l",
        "l_max": "harmonics up to l",
        "correlation": "correlation order",
    }
    pairs = [(title, str(model[key])) for key, title in names.items() if key in model]
    if _forces_caveat(run):
        pairs.append(("forces", NOT_CONSERVATIVE.removeprefix("forces are ")))
    if model.get("zbl"):
        pairs.append(("short-range repulsion", "ZBL"))
    if training.get("dtype"):
        pairs.append(("numbers", str(training["dtype"])))
    if training.get("seed") is not None:
        pairs.append(("seed", str(training["seed"])))
    if run.best:
        pairs.append(("best epoch, which the model file holds", count(run.best["epoch"])))
    return pairs
