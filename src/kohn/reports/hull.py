"""A convex hull as one HTML page: the picture, what is on it, and what lies how far above."""

from pathlib import Path

from kohn.reports.hull_figures import falls_into, hull_figures
from kohn.reports.sections import Cell, Table, identifier
from kohn.reports.templates import plotly_script, script_json, write_page
from kohn.reports.text import fixed, plural
from kohn.typing import Document

MOST = 500
"""Rows of a table."""


def hull_page(document: Document, out: str | Path) -> Path:
    """Draw the page of a hull.

    Args:
        document: what `kohn hull --json` prints: `elements`, `entries` (each with id, formula,
            fractions, formation_energy_per_atom, e_above_hull, stable, candidate, decomposition),
            `tie_lines` (pairs of indices of entries), and `remarks`.
        out: file to write, or a folder to write `hull.html` in.

    Returns:
        The path of the page.

    Raises:
        TrainingError: the disk refuses.
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
    """What came out, in one sentence or two."""
    own, candidates = parted(document)
    stable, below = (sum(e["stable"] for e in those) for those in (own, candidates))
    said = f"{stable:,} of {plural(len(own), 'entry', 'entries')} {_is(len(own))} stable."
    if candidates:
        said += f" {below:,} of {plural(len(candidates), 'candidate')} {_is(len(candidates))} "
        said += "on the hull or below it."
    return said


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def parted(document: Document) -> tuple[list[Document], list[Document]]:
    """The hull's own entries, and candidates."""
    entries = document["entries"]
    own = [e for e in entries if not e.get("candidate")]
    return own, [e for e in entries if e.get("candidate")]


def tables(document: Document) -> list[Table]:
    """Candidates, what is stable, and what lies above the hull, as far as there are some."""
    own, candidates = parted(document)
    stable = [e for e in own if e["stable"]]
    found = [
        _table("Candidates", sorted(candidates, key=_height), "from the hull, eV/atom"),
        _table("Stable", stable, None),
        _table(
            "Above the hull",
            sorted((e for e in own if not e["stable"]), key=_height),
            "above the hull, eV/atom",
        ),
    ]
    return [t for t in found if t.rows]


def _height(entry: Document) -> float:
    return entry.get("distance", entry["e_above_hull"])


def _table(caption: str, entries: list[Document], height: str | None) -> Table:
    """A table of entries; with a column of heights above the hull, if it has a name."""
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
