"""Show the numbers of a report in a terminal, as tables of rich."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from kohn.reports.quantities import present
from kohn.reports.run import Run
from kohn.reports.sections import structures_of
from kohn.reports.summary import facts, model_facts
from kohn.reports.text import count, number, plural, times
from kohn.typing import Document


def evaluation_table(document: Document) -> Table:
    """Return a table of the errors of an evaluation, next to the errors of the mean baseline.

    Args:
        document: `Evaluation.to_json()`, with or without frames.
    """
    errors, baseline = document["errors"], document.get("mean_baseline", {})
    on = plural(structures_of(document), "structure")
    table = _table(f"{document.get('name', 'evaluation')}: {on}")
    for column in ("MAE", "RMSE", "mean baseline MAE"):
        table.add_column(column, justify="right", header_style="dim")
    table.add_column("unit", header_style="dim")
    table.add_column("", header_style="dim")
    for q in present(errors):
        mae, mean = q.mae(errors), q.mae(baseline)
        bad = mae is not None and mean is not None and mae >= mean
        table.add_row(
            Text(q.title),
            number(mae),
            number(q.rmse(errors)),
            number(mean),
            q.unit,
            f"{times(mae, mean)} it" if times(mae, mean) else "",
            style="yellow" if bad else None,
        )
    return table


def training_table(run: Run | str | Path) -> Table:
    """Return a table of the size, data, length, time and best validation of a training run.

    Args:
        run: a run folder, or a `Run` read from one; it need not be finished.

    Raises:
        InputError: see `Run.read`.
    """
    run = run if isinstance(run, Run) else Run.read(run)
    table = _table(f"{run.name}: {run.state}")
    table.add_column("", justify="right")
    for name, value in facts(run):
        table.add_row(Text(name), Text(value))
    for name, value in model_facts(run):
        if name == "forces":
            table.add_row(name, Text(value), style="yellow")
    best = run.best
    if best is not None:
        table.add_row("best epoch", count(best["epoch"]))
        table.add_row("validation loss there", number(best.get("valid_loss")))
    return table


def _table(title: str) -> Table:
    table = Table(title=Text(title, "bold"), title_justify="left", box=None, pad_edge=False)
    table.add_column("", justify="left")
    return table
