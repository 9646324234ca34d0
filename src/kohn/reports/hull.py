"""Draw a convex hull as one HTML page: figures, and tables of entries and candidates."""

from pathlib import Path

from kohn.reports.hull_figures import falls_into, hull_figures
from kohn.reports.sections import Cell, Table, identifier
from kohn.reports.templates import plotly_script, script_json, write_page
from kohn.reports.text import fixed, plural
from kohn.typing import Document

MOST = 500
"""Largest number of rows of a table."""


def hull_page(document: Document, out: str | Path) -> Path:
    """Draw the HTML page of a convex hull.

    Args:
        document: `kohn.cli.hulls.page_document`: `elements`, `entries` (each with id, formula,
            fractions, formation_energy_per_atom, e_above_hull, stable, candidate, decomposition),
            `tie_lines` (pairs of indices of entries), and `remarks`.
        out: file to write, or a folder to write `hull.html` in.

    Returns:
        The path of the page.

    Raises:
        TrainingError: the page cannot be written.
    """
    figures = hull_figures(document)
    return write_page(
        "hull.html",
        out,
        "hull.html",
        title=" – ".join(document["elements"]),
        elements=document["elements"],
        verdict=sentence(document),
        remarks=document["remarks"],
        figures=figures,
        tables=tables(document),
        figures_json=script_json(figures),
        plotly=plotly_script() if figures else "",
    )


def sentence(document: Document) -> str:
    """Return the numbers of stable entries and candidates, in one or two sentences."""
    own, candidates = entries_and_candidates(document)
    stable, below = (sum(e["stable"] for e in rows) for rows in (own, candidates))
    text = f"{stable:,} of {plural(len(own), 'entry', 'entries')} {_verb(len(own))} stable."
    if candidates:
        text += f" {below:,} of {plural(len(candidates), 'candidate')} {_verb(len(candidates))} "
        text += "on the hull or below it."
    return text


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"


def entries_and_candidates(document: Document) -> tuple[list[Document], list[Document]]:
    """Split the entries of a document into the entries of the hull itself and the candidates."""
    entries = document["entries"]
    own = [e for e in entries if not e.get("candidate")]
    return own, [e for e in entries if e.get("candidate")]


def tables(document: Document) -> list[Table]:
    """Return the tables of candidates, stable entries and entries above the hull that have rows."""
    own, candidates = entries_and_candidates(document)
    stable = [e for e in own if e["stable"]]
    all_tables = [
        _table("Candidates", sorted(candidates, key=_height), "from the hull, eV/atom"),
        _table("Stable", stable, None),
        _table(
            "Above the hull",
            sorted((e for e in own if not e["stable"]), key=_height),
            "above the hull, eV/atom",
        ),
    ]
    return [t for t in all_tables if t.rows]


def _height(entry: Document) -> float:
    return entry.get("distance", entry["e_above_hull"])


def _table(caption: str, entries: list[Document], height: str | None) -> Table:
    """Return a table of entries. `height`: name of a column of heights above the hull, or None."""
    rows = []
    for e in entries[:MOST]:
        cells = [Cell(e["formula"], formula=True), identifier(e["id"])]
        cells.append(Cell(fixed(e["formation_energy_per_atom"], 4)))
        if height:
            stable = e["stable"]
            parts = Cell("stable") if stable else Cell(falls_into(e), wraps=True, mixture=True)
            cells += [Cell(fixed(_height(e), 4)), parts]
        rows.append(tuple(cells))
    head = ("formula", "id", "formation energy, eV/atom")
    if height:
        head += (height, "falls into, by share of atoms")
    rest = len(entries) - MOST
    more = f"and {rest:,} more: kohn hull -o writes all" if rest > 0 else ""
    return Table(f"{caption} ({len(entries):,})", head, tuple(rows), frozenset({1, 4}), more)
