"""Run `kohn train`, and print the notes and warnings that several commands share."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from kohn.cli.progress import progress_bars
from kohn.progress import Progress
from kohn.structures import PROPERTIES, Dataset
from kohn.typing import Document
from kohn.units import GPA

QUIET = 2.0
"""Smallest time between two printed lines if no bar can be drawn, s."""


def run_training(
    source: Path | Sequence[Path],
    folder: Path,
    resume: bool,
    sections: Document,
    console: Console,
) -> Document:
    """Run `kohn.train`, show its progress, print the evaluations, and draw the report.

    Returns:
        A document with the paths of the run, the model and the report, and the evaluations.
    """
    from kohn.records import read_records
    from kohn.reports import report
    from kohn.reports.terminal import evaluation_table
    from kohn.training import train

    last = [time.monotonic()]
    warned: list[bool] = []

    def validated(record: Document) -> None:
        now = time.monotonic()
        if console.is_terminal or now - last[0] > QUIET:
            last[0] = now
            console.print(epoch_line(record))

    with progress_bars(console) as bars:
        bars.work("reading and checking", 0, None)

        def work(what: str, done: int, total: int | None) -> None:
            if not warned:
                warned.append(True)
                _show_warnings(folder, console)
            bars.work(what, done, total)

        source = source if isinstance(source, Path) else list(source)
        progress = Progress(work, validated)
        potential = train(source, out=folder, resume=resume, progress=progress, **sections)
    document: Document = {"run": str(folder), "model": str(folder / "model.safetensors")}
    for name in ("valid", "test"):
        path = folder / f"evaluation-{name}.json"
        if path.is_file():
            result = next(iter(read_records(path)))
            result.pop("frames", None)
            document[name] = result
            console.print(evaluation_table(result))
            show_suspicions(result, console)
    warn_of_forces(potential, console)
    console.print(f"model   {document['model']}")
    document["report"] = str(report(folder))  # last, as nothing depends on the report
    console.print(f"report  {document['report']}")
    return document


def show_skipped(data: Dataset, console: Console) -> None:
    """Print which labels and files were skipped when the data were read, and why."""
    for source in data.sources:
        for u in source.unusable[:3]:
            console.print(f"note: left out: {u.reason} ({u.where or u.place})", markup=False)
        if len(source.unusable) > 3:
            more = len(source.unusable) - 3
            console.print(f"note: left out: {more} more labels of {source.file}", markup=False)
    for skipped in data.unread:
        console.print(f"note: not read: {skipped.file}: {skipped.reason}", markup=False)


def show_suspicions(result: Document, console: Console) -> None:
    """Print the suspicions of an evaluation that labels are wrong, as warnings."""
    for text in result["suspicions"]:
        console.print(f"warning [{result['name']}] {text}", markup=False)


def warn_of_forces(potential: object, console: Console) -> None:
    """Print a warning if the forces of a potential are not derivatives of its energy."""
    from kohn.models import NOT_CONSERVATIVE, is_conservative

    if not is_conservative(potential):
        console.print(f"warning {NOT_CONSERVATIVE}")


def _show_warnings(folder: Path, console: Console) -> None:
    """Print the warnings of the data check that a run folder holds."""
    from kohn.training.train import CHECK

    for finding in json.loads((folder / CHECK).read_text(encoding="utf-8"))["findings"]:
        if finding["severity"] == "warning":
            allowed = " (allowed)" if finding["overridden"] else ""
            console.print(
                f"warning [{finding['kind']}]{allowed} {finding['message']}", markup=False
            )


def epoch_line(record: Document) -> str:
    """Return the record of a validation as one line of text: epoch, loss and errors."""
    parts = [f"epoch {record['epoch']:5d}", f"loss {record['train_loss']:.3g}"]
    for key, factor, unit in (
        ("valid_energy_per_atom_mae", 1e3, "meV/atom"),
        ("valid_forces_mae", 1e3, "meV/Å"),
        ("valid_stress_mae", 1 / GPA, "GPa"),
    ):
        if key in record:
            parts.append(f"{record[key] * factor:.3g} {unit}")
    for key, value in record.items():
        name = key.removeprefix("valid_").removesuffix("_mae")
        if key.endswith("_mae") and name not in ("energy_per_atom", "forces", "stress"):
            unit = PROPERTIES[name].unit if name in PROPERTIES else ""
            parts.append(f"{name} {value:.3g} {unit}".rstrip())
    return "  ".join(parts)
