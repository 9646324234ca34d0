"""Draw the report of one run: an HTML page that opens without a network."""

import shlex
from pathlib import Path
from typing import Any

from kohn.reports import audit, sections, summary
from kohn.reports.figures import learning_curves
from kohn.reports.parity import parity_figures
from kohn.reports.run import Run
from kohn.reports.templates import filled, plotly_script, script_json, write_page

NAME = "report.html"


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Draw the report of a run, one HTML page, from the records in the run folder.

    The run need not be finished: the page of a run that still goes on, or was killed, shows
    the records so far, and says so. The same records give the same bytes.

    Args:
        run: folder of a training run, or one that holds `evaluation-NAME.json` files.
        out: file to write, or a folder to write `report.html` in; default: the run folder.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder does not exist, is not a run folder, or has a damaged record.
        TrainingError: the page cannot be written.
    """
    return write_page("page.html", run if out is None else out, NAME, **fields_of(Run.read(run)))


def page(run: Run) -> str:
    """Return the HTML page of a run as text."""
    return filled("page.html", **fields_of(run))


def fields_of(run: Run) -> dict[str, Any]:
    """Return the fields of a run that the template `page.html` lays out."""
    main, name = run.main, next(iter(run.evaluations), "")
    curves = learning_curves(run)
    parity = parity_figures(run, main) if main is not None else []
    return dict(
        run=run,
        main=main,
        main_name={"valid": "validation"}.get(name, name),
        verdict=summary.verdict(run),
        facts=summary.facts(run),
        tiles=sections.tiles(main),
        curves=curves,
        parity=parity,
        errors=sections.error_table(run),
        classes=sections.class_tables(main),
        worst=sections.worst_table(main),
        data=[
            sections.sets_table(run),
            sections.labels_table(run),
            sections.sources_table(run),
            sections.e0_table(run),
        ],
        findings=sections.findings(run),
        laws=[audit.line(row) for row in run.audit.get("rows", ())],
        audited=audit.verdict_sentences(run.audit) if run.audit else [],
        timings=summary.timings(run),
        model=summary.model_facts(run),
        versions=summary.versions(run),
        model_path=f"{run.name}/model.safetensors",
        shell_folder=shlex.quote(run.name),
        shell_path=shlex.quote(f"{run.name}/model.safetensors"),
        elements=summary.elements(run),
        figures_json=script_json([*parity, *curves]),
        plotly=plotly_script(),
    )
