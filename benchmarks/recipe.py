"""Recipes of training compared in the same time: `python -m benchmarks.recipe STUDY [NAME …]`.

A recipe is a set of settings of `kohn train`. Each run has the processor time, on one core, that
the recipe of before (`BEFORE`) takes for the case, or a share of it: in one process, steps of both
recipes are timed in turn, and the number of steps follows from the ratio, so that the speed of the
machine and its other work cancel. The studies:

    screen [RECIPE …]     one change at a time: ethanol, an eighth of the time
    confirm [CASE …]      before and new: every case, the whole time, and new in a third of it
    reach [CASE …]        before and new where data are few, many, or unlike those learned from

An interrupted run goes on where it was, and a finished one is not repeated; a study ends with its
table, results/recipe.md, made of all runs that have ended. Screening takes hours, confirming a day.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import labelled_sets
from benchmarks.accuracy import CASES, put_right
from benchmarks.common import (
    DATA,
    FOLDERS,
    machine,
    machine_line,
    need_data,
    parsed,
    parser_of,
    write_json,
    write_text,
)

Settings = dict[str, Any]

BEFORE: Settings = {
    "model": {
        "hidden_l_max": 1,
        "correlation": 3,
        "element_maps": True,
        "radial_widths": [64, 64, 64],
    },
    "optimiser": {"kind": "amsgrad", "learning_rate": 0.01},
    "loss": {"kind": "mse"},
}
"""The defaults before this study."""
NEW: Settings = {
    "model": {
        "hidden_l_max": 2,
        "correlation": 2,
        "element_maps": False,
        "radial_widths": [32],
    },
    "optimiser": {"kind": "eigen-adam", "learning_rate": 0.02},
    "loss": {"kind": "mse"},
}
"""The best together."""
EIGEN: Settings = {"optimiser": {"kind": "eigen-adam"}}
LEAN: Settings = {"model": {"element_maps": False, "radial_widths": [32]}}
RECIPES: dict[str, tuple[str, Settings, list[Settings]]] = {
    "before": ("the defaults before this study", BEFORE, []),
    "eigen-adam": ("eigen-adam", BEFORE, [EIGEN]),
    "lean": ("eigen-adam; no element maps, one radial layer of 32", BEFORE, [EIGEN, LEAN]),
    "new": ("new: features to degree 2, correlation 2, rate 0.02, too", NEW, []),
    "rate": ("new, rate 0.01", NEW, [{"optimiser": {"learning_rate": 0.01}}]),
    "32": ("new, 32 channels", NEW, [{"model": {"channels": 32}}]),
    "l_max": ("new, harmonics to degree 2", NEW, [{"model": {"l_max": 2}}]),
    "correlation": ("new, correlation 3", NEW, [{"model": {"correlation": 3}}]),
    "huber": ("new, Huber's loss, δ 0.01 eV/Å", NEW, [{"loss": {"kind": "huber"}}]),
    "huber-0.03": (
        "new, Huber's loss, δ 0.03 eV/Å",
        NEW,
        [{"loss": {"kind": "huber", "huber_delta": 0.03}}],
    ),
}
"""name -> (what it is, the recipe that is changed, the changes)."""
MADE = ("acac-xtb", "qm7-xtb")
"""Cases whose data are labelled here, see `labelled_sets`."""
_OF_MOLECULES = {"loss": CASES["ethanol"]["loss"], "run": CASES["ethanol"]["run"]}
OTHER_CASES: dict[str, Settings] = {
    "uracil": {
        "data": {"train": ["rmd17/uracil_train.extxyz"], "test": ["rmd17/uracil_test.extxyz"]},
        **_OF_MOLECULES,
    },
    "ethanol-50": {"data": CASES["ethanol"]["data"], **_OF_MOLECULES},
    "acac-xtb": {"run": CASES["acac"]["run"]},
    "qm7-xtb": _OF_MOLECULES,
}
STEPS = {
    "ethanol": 104_500,
    "aspirin": 66_500,
    "acac": 28_500,
    "silicon": 6_000,
    "uracil": 40_000,
    "ethanol-50": 10_000,
    "acac-xtb": 28_500,
    "qm7-xtb": 30_000,
}
"""Steps of the recipe of before in the whole time."""
CHANNELS = {"silicon": 32}
CONFIRMED = ("ethanol", "aspirin", "acac", "silicon", "uracil")
REACHED = ("ethanol-50", "qm7-xtb", "acac-xtb")
TINY, EIGHTH, THIRD, WHOLE = 0.002, 0.125, 1 / 3, 1.0
TIMED = 60
"""Steps of each recipe whose median gives the ratio."""
FEW = 50
"""Frames of the case that has few."""


def run_folder(case: str, recipe: str, share: float, seed: int) -> Path:
    """Where a run is."""
    return FOLDERS.work / "recipe" / f"{case}-{recipe}-{share:.3f}-{seed}"


def budget_file(case: str, recipe: str, share: float, seed: int) -> Path:
    """Where the number of steps of a run stands."""
    folder = run_folder(case, recipe, share, seed)
    return folder.with_name(f"{folder.name}.budget.json")


def settings_of(case: str, recipe: str, seed: int) -> Settings:
    """The settings of `kohn train` for a case by a recipe, without the number of steps."""
    from kohn.sections import merged

    found: Settings = json.loads(json.dumps({**CASES, **OTHER_CASES}[case]))
    found["model"] = {"channels": CHANNELS.get(case, 64)}
    _, base, changes = RECIPES[recipe]
    for change in (base, *changes):
        found = merged(found, change)
    found["data"] = files_of(case)
    found["run"] |= {"seed": seed, "threads": 1}
    return found


def files_of(case: str) -> dict[str, list[str]]:
    """The files of a case, which are made if they are ours."""
    if case in MADE:
        made = {"acac-xtb": labelled_sets.acac, "qm7-xtb": labelled_sets.qm7}[case]()
        return {"train": [str(made["train"])], "test": [str(made["test"])]}
    given = {**CASES, **OTHER_CASES}[case]["data"]
    need_data(*given["train"], *given["test"])
    found = {name: [DATA / file for file in files] for name, files in given.items()}
    if case == "silicon":
        found = {name: [put_right(file) for file in files] for name, files in found.items()}
    if case == "ethanol-50":
        found["train"] = [_first_frames(found["train"][0])]
    return {name: [str(file) for file in files] for name, files in found.items()}


def _first_frames(file: Path) -> Path:
    """A file with the first `FEW` frames of another; rMD17's frames are in random order."""
    from kohn.structures import read, write

    few = FOLDERS.work / "sets" / f"{file.stem}-{FEW}.extxyz"
    if not few.exists():
        few.parent.mkdir(parents=True, exist_ok=True)
        write(read(file).structures[:FEW], few)
    return few


def warm_file(case: str) -> Path | None:
    """Frames of another temperature than those of the case, if it has such."""
    return labelled_sets.acac()["warm"] if case == "acac-xtb" else None


# --- the same time ------------------------------------------------------------------------


def stepper(document: Settings) -> Callable[[int], float]:
    """A function that takes one training step, its batch included, and returns processor time."""
    import jax

    from kohn.training.optimiser import (
        flatten,
        initial_state,
        make_step,
        objective_of,
        optimiser,
    )
    from kohn.training.preparation import prepare
    from kohn.training.settings import parse

    settings = parse(document)
    prepared = prepare(settings)
    model, loader = prepared.potential.model, prepared.train
    theta, unravel = flatten(model)
    rule = optimiser(settings.optimiser, 10_000, model)
    step = make_step(objective_of(prepared.task, unravel), rule, ema=settings.optimiser.ema)
    state, weights = initial_state(theta, rule), prepared.task.weights(False)
    epoch = loader.epoch(0, 0)
    chosen = [batch.indices for batch, _ in zip(epoch, range(8), strict=False)]

    def timed(i: int) -> float:
        nonlocal state
        started = time.process_time()
        batch = loader.batch(chosen[i % len(chosen)])
        state, report = step(state, batch.graph, batch.targets, weights)
        jax.block_until_ready((state, report))
        return time.process_time() - started

    for i in range(10):
        timed(i)
    return timed


def budget(case: str, recipe: str, share: float, seed: int) -> Settings:
    """The number of steps of a run, and the times from which it follows; measured once."""
    record = budget_file(case, recipe, share, seed)
    if record.exists():
        return json.loads(record.read_text())
    ours, before = (stepper(settings_of(case, name, seed)) for name in (recipe, "before"))
    times = np.array([[ours(i), before(i)] for i in range(TIMED)])
    mine, theirs = (float(t) for t in np.median(times, axis=0))
    steps = share * STEPS[case] * theirs / mine
    found = {"steps": max(1, round(steps)), "ms": 1e3 * mine, "ms_before": 1e3 * theirs}
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, found)
    return found


# --- runs ---------------------------------------------------------------------------------


def run(case: str, recipe: str, share: float, seed: int) -> None:
    """Train and test once, in this process; go on with a run that was interrupted."""
    import kohn
    from kohn.training.settings import parse

    folder = run_folder(case, recipe, share, seed)
    allowed, document = budget(case, recipe, share, seed), settings_of(case, recipe, seed)
    document["run"]["steps"] = allowed["steps"]
    potential = kohn.train(parse(document), out=folder, resume=folder.exists())
    if warm := warm_file(case):
        write_json(folder / "evaluation-warm.json", kohn.evaluate(potential, warm).to_json())


def measured(case: str, recipe: str, share: float, seed: int) -> Settings | None:
    """The errors of a run that has ended, with its steps and times; else None."""
    folder = run_folder(case, recipe, share, seed)
    tests = {name: folder / f"evaluation-{name}.json" for name in ("test", "warm")}
    needed = tests if case == "acac-xtb" else ["test"]
    if not all(tests[name].exists() for name in needed):
        return None
    found = json.loads(budget_file(case, recipe, share, seed).read_text())
    e = {name: json.loads(tests[name].read_text())["errors"] for name in needed}
    return {
        **found,
        "energy": e["test"]["energy_mean_absolute_error_meV"],
        "energy_per_atom": e["test"]["energy_per_atom_mean_absolute_error_meV_per_atom"],
        "forces": e["test"]["forces_mean_absolute_error_meV_per_angstrom"],
        "forces_rms": e["test"]["forces_root_mean_square_error_meV_per_angstrom"],
        "stress": e["test"].get("stress_mean_absolute_error_GPa"),
        "warm_forces_rms": e["warm"]["forces_root_mean_square_error_meV_per_angstrom"]
        if "warm" in e
        else None,
    }


def study(name: str, runs: list[tuple[str, str, float, int]], quick: bool) -> None:
    """Run what is missing, each in a process of its own; record each when it has ended."""
    for case, recipe, share, seed in runs:
        key = {"study": name, "case": case, "recipe": recipe, "share": share, "seed": seed}
        if not any(key.items() <= row.items() for row in recorded()):
            began = machine()
            words = [case, recipe, str(share), str(seed), *(["--quick"] if quick else [])]
            subprocess.run([sys.executable, "-m", "benchmarks.recipe", "run", *words], check=True)
            row = {**key, **(measured(case, recipe, share, seed) or {}), "machine": began}
            write_json(
                FOLDERS.results / "recipe.json",
                {"command": "python -m benchmarks.recipe screen", "runs": [*recorded(), row]},
            )
        write_text(FOLDERS.results / "recipe.md", table(recorded()))


def recorded() -> list[Settings]:
    """The runs that have ended, here or elsewhere."""
    record = FOLDERS.results / "recipe.json"
    return json.loads(record.read_text())["runs"] if record.exists() else []


# --- the table ----------------------------------------------------------------------------

STUDIES = {
    "screen": "One change at a time, on ethanol:",
    "confirm": "Before and new:",
    "reach": "Few frames, many frames, and frames at 600 K after learning from 300 K:",
}
COLUMNS: dict[str, Callable[[Settings], str]] = {
    "case": lambda r: r["case"],
    "recipe": lambda r: RECIPES[r["recipe"]][0],
    "seed": lambda r: str(r["seed"]),
    "share of the time": lambda r: f"{r['share']:.3g}",
    "steps": lambda r: f"{r['steps']:,}",
    "a step, of before": lambda r: f"{r['ms'] / r['ms_before']:.2f}",
    "energy MAE, meV (an atom)": lambda r: f"{r['energy']:.2f} ({r['energy_per_atom']:.3f})",
    "force MAE, meV/Å": lambda r: f"{r['forces']:.2f}",
    "force RMSE, meV/Å": lambda r: f"{r['forces_rms']:.2f}",
    "stress MAE, GPa": lambda r: "" if r["stress"] is None else f"{r['stress']:.3f}",
    "force RMSE, 600 K": lambda r: (
        "" if r["warm_forces_rms"] is None else f"{r['warm_forces_rms']:.2f}"
    ),
}


def table(rows: list[Settings]) -> str:
    """What the runs found, in Markdown: a table for each study, without empty columns."""
    parts = []
    for name, title in STUDIES.items():
        found = [r for r in rows if r["study"] == name]
        found.sort(key=lambda r: (r["case"], -r["share"], list(RECIPES).index(r["recipe"])))
        if not found:
            continue
        cells = {title: [cell(r) for r in found] for title, cell in COLUMNS.items()}
        kept = {title: column for title, column in cells.items() if any(column)}
        lines = ["| " + " | ".join(kept) + " |", "|" + " --- |" * len(kept)]
        lines += ["| " + " | ".join(row) + " |" for row in zip(*kept.values(), strict=True)]
        parts += [title, "\n".join(lines)]
    parts += sorted({machine_line(r["machine"]) for r in rows if "machine" in r})
    return "\n\n".join(parts) + "\n"


def plan(name: str, names: list[str], quick: bool) -> list[tuple[str, str, float, int]]:
    """The runs of a study: (case, recipe, share of the time, seed)."""
    if quick:
        return [("ethanol", "new", TINY, 0)]
    if name == "screen":
        return [("ethanol", recipe, EIGHTH, 0) for recipe in names or RECIPES]
    shares = {
        "confirm": [("new", WHOLE), ("new", THIRD), ("before", WHOLE)],
        "reach": [("new", WHOLE), ("before", WHOLE)],
    }[name]
    cases = names or {"confirm": CONFIRMED, "reach": REACHED}[name]
    return [(case, *of, 0) for case in cases for of in shares]


def main() -> None:
    """Do what the arguments say."""
    parser = parser_of(__doc__)
    parser.add_argument("study", choices=[*STUDIES, "table", "run"])
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parsed(parser)
    name, names = arguments.study, arguments.names
    if name == "run":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
        case, recipe, share, seed = names
        run(case, recipe, float(share), int(seed))
        return
    if name != "table":
        known = {"screen": RECIPES, "confirm": CONFIRMED, "reach": REACHED}[name]
        if unknown := [n for n in names if n not in known]:
            parser.error(f"unknown names {unknown}; known: {', '.join(known)}")
        study(name, plan(name, names, arguments.quick), arguments.quick)
    sys.stdout.write(table(recorded()))


if __name__ == "__main__":
    main()
