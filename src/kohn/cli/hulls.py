"""`kohn hull`: read entries and candidates, build the hull, say what is stable, draw it."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kohn.errors import ConfigError
from kohn.stability import (
    ConvexHull,
    ElementalReferences,
    Entries,
    element_bias,
    parse_formula,
    read_entries,
)
from kohn.stability.provenance import conflicts, groups, refuse_mixed

SHOWN = 40
"""Rows of a table in the terminal."""


def run_hull(
    files: Sequence[Path],
    candidates: Sequence[Path],
    *,
    references: Path | None,
    formation: bool,
    allow_mixed: bool,
    tolerance: float,
    reservoirs: Mapping[str, str],
    temperature: float | None,
    pressure: float | None,
) -> dict[str, Any]:
    """The hull of some files, and what it says of candidates.

    Args:
        files, candidates: entries.
        references: file of the energies of elements, eV/atom.
        formation: energies are formation energies, eV/atom.
        allow_mixed: do not refuse energies that were computed in different ways.
        tolerance: stable within this distance, eV/atom.
        reservoirs: open elements -> μ, eV/atom.
        temperature, pressure: for which these hold, K and bar; recorded.

    Returns:
        A document: `ConvexHull.document` with `fractions`, `candidates`, `tie_lines` and `remarks`.

    Raises:
        InputError, ConfigError: see `read_entries` and `ConvexHull`.
    """
    entries = read_entries(files, formation=formation)
    given = None if references is None else ElementalReferences.given(references)
    hull = ConvexHull(entries, given, tolerance=tolerance, allow_mixed=allow_mixed)
    remarks = [f"Mixed, as allowed: {c}" for c in hull.conflicts] + hull.notes
    remarks += isotopes(entries)
    if reservoirs:
        open_ = {element: _number(mu, element) for element, mu in reservoirs.items()}
        hull = hull.grand_potential(open_, temperature=temperature, pressure=pressure)
    document = hull.document()
    for row, x in zip(document["entries"], hull.entries.fractions, strict=True):
        row["fractions"] = _by_element(hull.elements, x)
    document["tie_lines"] = tie_lines(hull)
    document["candidates"] = []
    if candidates:
        new = read_entries(candidates, formation=formation)
        both = groups((*entries.ids, *new.ids), (*entries.provenance, *new.provenance))
        if not allow_mixed:
            refuse_mixed(both)
        remarks += [f"Mixed, as allowed: {c}" for c in conflicts(both) if c not in hull.conflicts]
        bias = element_bias(new, entries) if not formation else None
        if bias is not None and bias.detected:
            remarks.append(bias.sentence())
        remarks += isotopes(new)
        document["candidates"] = judged(hull, new)
        known = sum(row["in_hull"] for row in document["candidates"])
        if known:
            remarks.append(
                f"{known} of {len(new)} candidates are entries of the hull too, and were left out "
                "of their own hull."
            )
    document["remarks"] = remarks
    return document


def isotopes(entries: Entries) -> list[str]:
    """What was read as hydrogen, if anything was."""
    some = sorted(entries.isotopes)
    if not some:
        return []
    named = f"{len(some)}: {', '.join(some[:3])}{' …' if len(some) > 3 else ''}"
    return [f"Deuterium and tritium are read as hydrogen, whose energy is the same ({named})"]


def judged(hull: ConvexHull, candidates: Entries) -> list[dict[str, Any]]:
    """A record for each candidate, nearest first."""
    distances = hull.distance(candidates)
    falls = hull.shares(distances)
    over = (
        candidates.over(hull.elements) if set(candidates.elements) <= set(hull.elements) else None
    )
    formation = hull.references.formation_energies(candidates) if over is not None else None
    rows = []
    for i in np.argsort(distances.values, kind="stable"):
        d = float(distances.values[i])
        rows.append(
            {
                "id": candidates.ids[i],
                "formula": candidates.formulas[i],
                "formation_energy_per_atom": None if formation is None else float(formation[i]),
                "distance": d,
                "e_above_hull": max(0.0, d),
                "stable": d <= hull.tolerance,
                "in_hull": bool(distances.known[i]),
                "decomposition": falls[i],
                "fractions": {} if over is None else _by_element(hull.elements, over.fractions[i]),
            }
        )
    return rows


def tie_lines(hull: ConvexHull) -> list[list[int]]:
    """Pairs of rows of entries that are corners of one facet; none where there are no facets."""
    if hull.hull.method == "program":
        return []
    corners = hull.hull.facets.entries.tolist()
    return [list(p) for p in sorted({p for f in corners for p in combinations(sorted(f), 2)})]


def picture(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as `reports.hull_page` takes it: candidates among the entries, decompositions by
    formula."""
    named = {e["id"]: e["formula"] for e in document["entries"]}
    entries = []
    for row in [*document["entries"], *document["candidates"]]:
        parts: dict[str, float] = {}
        for name, share in row["decomposition"].items():
            parts[named[name]] = parts.get(named[name], 0.0) + share
        entries.append({**row, "decomposition": parts, "candidate": "in_hull" in row})
    return {**document, "entries": entries}


def hull_table(document: Mapping[str, Any]) -> Table:
    """Candidates, or without any the entries: nearest to the hull first."""
    candidates = bool(document["candidates"])
    rows = document["candidates"] or sorted(document["entries"], key=lambda e: e["e_above_hull"])
    stable = sum(row["stable"] for row in rows)
    what = "candidates" if candidates else "entries"
    title = f"{'–'.join(document['elements'])}: {stable} of {len(rows)} {what} stable"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("formula", no_wrap=True)
    table.add_column("id", no_wrap=True, header_style="dim")
    for name in ("E_f, eV/atom", "from hull, eV/atom"):
        table.add_column(name, justify="right", no_wrap=True, header_style="dim")
    table.add_column("falls into", overflow="fold", header_style="dim")
    named = {e["id"]: e["formula"] for e in document["entries"]}
    for row in rows[:SHOWN]:
        distance = row.get("distance", row["e_above_hull"])
        parts = " + ".join(f"{s:.3f} {named[i]}" for i, s in row["decomposition"].items())
        formation = row["formation_energy_per_atom"]
        table.add_row(
            escape(row["formula"]),
            escape(row["id"]),
            "" if formation is None else f"{formation:.4f}",
            f"{distance:.4f}",
            "stable" if row["stable"] else escape(parts),
            style="green" if row["stable"] else None,
        )
    if len(rows) > SHOWN:
        table.caption = f"and {len(rows) - SHOWN:,} more: --json or --plot has them"
    return table


def say(document: Mapping[str, Any], console: Console) -> None:
    """The remarks, on stderr."""
    for remark in document["remarks"]:
        console.print(f"note: {remark}", markup=False)


def _by_element(elements: Sequence[str], x: np.ndarray) -> dict[str, float]:
    return {e: float(v) for e, v in zip(elements, x, strict=True) if v}


def _number(text: str, element: str) -> float:
    parse_formula(element, where="--open")
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            "a chemical potential is not a number",
            expected="--open O=-5.2, in eV/atom",
            received=f"{element}={text}",
        ) from None
