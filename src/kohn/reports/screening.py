"""Draw a screening as one HTML page: distances of candidates to the hull and their errors σ."""

from pathlib import Path

import numpy as np

from kohn.reports.ranked import Ranked, cumulative_stable, read_ranked
from kohn.reports.screening_figures import MEV, screening_figures
from kohn.reports.sections import Cell, Table, identifier
from kohn.reports.templates import plotly_script, script_json, write_page
from kohn.reports.text import NONE, fixed, number, plural
from kohn.typing import Document


def screening_page(table: str | Path, summary: Document, out: str | Path) -> Path:
    """Draw the HTML page of a screening.

    Args:
        table: the ranked table, CSV or Parquet.
        summary: the document of `kohn screen --json`.
        out: file to write, or a folder to write `screening.html` in.

    Returns:
        The path of the page.

    Raises:
        InputError: the table cannot be read, or is not the output of a screening.
        TrainingError: the page cannot be written.
    """
    rows = read_ranked(table)
    figures = screening_figures(rows, summary)
    return write_page(
        "screening.html",
        out,
        "screening.html",
        title=Path(table).name,
        verdict=sentence(summary),
        mixed=[r for r in summary["remarks"] if _is_mixed(r)],
        remarks=[r for r in summary["remarks"] if not _is_mixed(r)],
        facts=facts(summary),
        figures=figures,
        first=yield_table(rows, summary["metrics"] or {}),
        best=best_table(summary),
        figures_json=script_json(figures),
        plotly=plotly_script() if figures else "",
    )


def sentence(summary: Document) -> str:
    """Return the numbers of stable candidates: predicted, expected, and by labels, in words."""
    stable, total = summary["stable"], summary["candidates"]
    verb = _verb(1 if total == 1 else stable)
    text = f"{stable:,} of {plural(total, 'candidate')} {verb} on the hull or below it"
    if summary["expected_stable"] is not None:
        text += f", and {number(summary['expected_stable'])} are expected to be stable"
    metrics = summary["metrics"]
    if metrics is None:
        return f"{text}."
    true, hits = metrics["true_positives"] + metrics["false_negatives"], metrics["true_positives"]
    chosen = hits + metrics["false_positives"]
    return (
        f"{text}. By labels, {true:,} of {metrics['compared']:,} {_verb(true)} stable, {hits:,} of "
        f"them among the {chosen:,} that {_verb(chosen)} predicted to be stable."
    )


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"


def _is_mixed(remark: str) -> bool:
    return remark.lower().startswith("mixed")


def facts(summary: Document) -> list[tuple[str, str]]:
    """Return names and values of the ranking key, further counts, and the relaxed structures."""
    by = {"probability_stable": "P(stable), then distance"}.get(summary["ranked_by"], "distance")
    pairs = [("Ranked by", by), ("Chemical systems", f"{summary['systems']:,}")]
    if summary["failed"]:
        pairs.append(("Without energy", f"{summary['failed']:,}"))
    if summary["in_hull"]:
        pairs.append(("Entries of the hull too", f"{summary['in_hull']:,}"))
    if summary["structures"] is not None:
        pairs.append(("Relaxed structures", Path(summary["structures"]).name))
    return pairs


def yield_table(rows: Ranked, metrics: Document) -> Table | None:
    """Return the stable candidates expected in the first 10, 30 …; None if ≤ 10 have P(stable)."""
    sums = cumulative_stable(rows, metrics)
    if sums is None:
        return None
    expected, labelled = sums
    m, total = len(expected), float(expected[-1])
    steps = [n for k in range(1, 10) for n in (10**k, 3 * 10**k) if n < m]
    if not steps:
        return None
    lines = []
    for n in [*steps, m]:
        value = float(expected[n - 1])
        better = number(value / total * m / n, 2) if total else NONE
        cells = [f"{n:,}" if n < m else f"all {m:,}", number(value), better]
        cells += [] if labelled is None else [f"{labelled[n - 1]:,}"]
        lines.append(tuple(map(Cell, cells)))
    head = ("first", "expected stable", "times a random choice")
    if labelled is not None:
        head += ("stable by labels",)
    return Table("If you compute the first", head, tuple(lines))


def best_table(summary: Document) -> Table:
    """Return the first rows of the ranked table, as a table of the page."""
    shown = summary["head"]
    with_sigma, labelled, failed = (
        any(row.get(name) not in (None, "") for row in shown)
        for name in ("probability_stable", "distance_labelled", "problem")
    )
    head = ["rank", "formula", "id", "from the hull, meV/atom"]
    head += ["± σ, meV/atom", "P(stable)"] if with_sigma else []
    head += ["by label, meV/atom"] if labelled else []
    left = {1, 2, len(head)}
    head += ["would fall into, by share of atoms"]
    if failed:
        left.add(len(head))
        head += ["problem"]
    lines = []
    for row in shown:
        cells = [Cell(f"{int(row['rank']):,}"), Cell(row["formula"], formula=True)]
        cells.append(identifier(row["id"]))
        cells.append(_mev(row["distance"]))
        if with_sigma:
            p = _known(row["probability_stable"])
            cells += [_mev(row["distance_std"]), Cell(fixed(p, 3), bar=p)]
        cells += [_mev(row["distance_labelled"])] if labelled else []
        cells.append(Cell(row["decomposition"] or NONE, wraps=True, mixture=True))
        cells += [Cell(row["problem"] or "", wraps=True)] if failed else []
        lines.append(tuple(cells))
    rest = summary["candidates"] - len(shown)
    more = f"and {rest:,} more in the table" if rest > 0 else ""
    return Table("First in the ranking", tuple(head), tuple(lines), frozenset(left), more)


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value


def _mev(value: float | None) -> Cell:
    known = _known(value)
    return Cell(fixed(None if known is None else MEV * known, 1))
