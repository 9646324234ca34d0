"""Accuracy of the families against their cost: `python -m benchmarks.families_accuracy`.

Trains, as `python -m benchmarks.accuracy ethanol ethanol-nequip ethanol-dimenet ethanol-schnet`
does, what is not finished in benchmarks/scratch/accuracy, two hours in all: the same data, the same
processor time, each family with the settings that `kohn template train` gives it. Writes
results/families_accuracy.md and .svg.
"""

import json
import os
from itertools import accumulate
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from benchmarks.accuracy import files_of, folder_of, train_ours
from benchmarks.common import (
    DATA,
    FOLDERS,
    machine,
    need_data,
    parsed,
    parser_of,
    write_results,
)

CASES = {
    "schnet": "ethanol-schnet",
    "dimenet": "ethanol-dimenet",
    "nequip": "ethanol-nequip",
    "mace": "ethanol",
}
COLOURS = {"schnet": "#8a6d1a", "dimenet": "#b4455b", "nequip": "#2b6cb0", "mace": "#2f855a"}
CALLS = 200


def curve(folder: Path) -> tuple[list[float], list[float]]:
    """Minutes of one core and validation force errors, meV/Å."""
    from kohn.records import read_records

    epochs = [r for r in read_records(folder / "records.jsonl") if r["kind"] == "epoch"]
    spent = json.loads(folder.with_suffix(".clock.json").read_text())["cpu"]
    wall = list(accumulate(r["seconds"] for r in epochs))
    minutes = [t / wall[-1] * spent / 60 for t in wall]
    return minutes, [1e3 * r["valid_forces_mae"] for r in epochs]


def milliseconds(folder: Path) -> float:
    """Processor time of energy and forces of one molecule, through the calculator, one core."""
    import kohn
    from kohn.structures import read, to_ase

    frames = [to_ase(s) for s in read([DATA / "rmd17" / "ethanol_test.extxyz"])[:CALLS]]
    calculator, spent = kohn.Calculator(folder / "model.safetensors"), []
    for atoms in frames * 2:
        started = process_time()
        calculator.calculate(atoms)
        spent.append(process_time() - started)
    return 1e3 * median(spent[CALLS:])


def measured(family: str) -> dict[str, Any]:
    """What is known of a family's run."""
    import kohn

    folder = folder_of(CASES[family])
    errors = json.loads((folder / "evaluation-test.json").read_text())["errors"]
    minutes, valid = curve(folder)
    steps = [json.loads(x) for x in (folder / "records.jsonl").read_text().splitlines()][-1]["step"]
    return {
        "minutes": minutes,
        "valid": valid,
        "steps": steps,
        "parameters": kohn.load(folder).n_parameters,
        "forces": errors["forces_mean_absolute_error_meV_per_angstrom"],
        "energy": errors["energy_mean_absolute_error_meV"],
        "call": milliseconds(folder),
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """The measurements in Markdown."""
    lines = [
        "| family | parameters | steps | one core, min | force MAE, meV/Å | energy MAE, meV "
        "| energy and forces of one molecule, ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for family, f in found.items():
        lines.append(
            f"| {family} | {f['parameters']:,} | {f['steps']:,} | {f['minutes'][-1]:.1f} | "
            f"{f['forces']:.2f} | {f['energy']:.2f} | {f['call']:.2f} |"
        )
    return "\n".join([*lines, "", "![accuracy against cost](results/families_accuracy.svg)"]) + "\n"


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Errors while training on the left, error against the cost of a call on the right."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.hashsalt": "kohn", "font.size": 9, "axes.spines.top": False}
    pyplot.rcParams |= {"axes.spines.right": False}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for family, f in found.items():
        colour = COLOURS[family]
        left.plot(f["minutes"], f["valid"], color=colour, lw=1.4)
        left.annotate(
            family,
            (f["minutes"][-1], f["valid"][-1]),
            (4, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
        right.plot(f["call"], f["forces"], "o", color=colour)
        right.annotate(
            f"{family}  {f['forces']:.1f}",
            (f["call"], f["forces"]),
            (7, 4),
            textcoords="offset points",
            color=colour,
        )
    left.set(
        xlabel="training, minutes of one core",
        ylabel="force MAE on validation, meV/Å",
        yscale="log",
        xlim=(0, 1.18 * max(f["minutes"][-1] for f in found.values())),
    )
    ticks = [4, 6, 10, 20, 40, 80]
    left.set_yticks(ticks, [str(t) for t in ticks], minor=False)
    left.set_yticks([], minor=True)
    top = 1.25 * max(f["forces"] for f in found.values())
    right.set(
        xlabel="energy and forces of one ethanol, ms of one core",
        ylabel="force MAE on test, meV/Å",
        xlim=(0, 1.45 * max(f["call"] for f in found.values())),
        ylim=(0, top),
    )
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train what is not finished, and write the table and the picture."""
    arguments = parsed(parser_of(__doc__))
    need_data(*files_of(list(CASES.values())))
    m = machine()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for case in CASES.values():
        train_ours(case, arguments.quick)
    found = {family: measured(family) for family in CASES}
    draw(found, FOLDERS.results / "families_accuracy.svg")
    write_results("families_accuracy", m, {"families": found}, table(found))


if __name__ == "__main__":
    main()
