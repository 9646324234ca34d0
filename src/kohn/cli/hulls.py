"""`kohn hull`: read entries and candidates, build the hull, say what is stable, draw it."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kohn.cli.compounds import Compound, compound_table
from kohn.errors import ConfigError, InputError
from kohn.stability import (
    ConvexHull,
    ElementalReferences,
    Entries,
    element_bias,
    parse_formula,
    read_entries,
)
from kohn.stability.provenance import conflicts, groups, refuse_mixed
from kohn.tables import SUFFIXES, pyarrow, write_table

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
    own = hull.comparable(candidates)  # over the hull's elements, which may be fewer
    formation = hull.references.formation_energies(own)
    rows = []
    for i in np.argsort(distances.values, kind="stable"):
        d = float(distances.values[i])
        rows.append(
            {
                "id": candidates.ids[i],
                "formula": candidates.formulas[i],
                "formation_energy_per_atom": float(formation[i]),
                "distance": d,
                "e_above_hull": max(0.0, d),
                "stable": d <= hull.tolerance,
                "in_hull": bool(distances.known[i]),
                "decomposition": falls[i],
                "fractions": _by_element(hull.elements, own.fractions[i]),
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


def hull_table(document: Mapping[str, Any], width: int) -> Table:
    """Candidates, or without any the entries: nearest to the hull first; `width` of a terminal."""
    rows, what = listed(document), "candidates" if document["candidates"] else "entries"
    stable = sum(row["stable"] for row in rows)
    named = {e["id"]: e["formula"] for e in document["entries"]}
    compounds = []
    for row in rows[:SHOWN]:
        formation = row["formation_energy_per_atom"]
        parts = [f"{share:.3f} {named[i]}" for i, share in row["decomposition"].items()]
        compounds.append(
            Compound(
                formula=row["formula"],
                id=row["id"],
                numbers=(f"{formation:.4f}", f"{row.get('distance', row['e_above_hull']):.4f}"),
                falls_into=["stable"] if row["stable"] else parts,
                stable=row["stable"],
            )
        )
    rest = len(rows) - SHOWN
    return compound_table(
        f"{'–'.join(document['elements'])}: {stable:,} of {len(rows):,} {what} stable",
        ("E_f\neV/atom", "from hull\neV/atom"),
        compounds,
        width,
        caption=f"and {rest:,} more: -o, --json or --plot has them" if rest > 0 else "",
    )


def listed(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that are shown and written: candidates, or without any the entries."""
    return document["candidates"] or sorted(document["entries"], key=lambda e: e["e_above_hull"])


def check_output(out: Path) -> None:
    """Refuse, before any work, what could not be written at its end. Raises InputError."""
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(
            "the output is neither CSV nor Parquet",
            expected="a name that ends in .csv or .parquet",
            received=str(out),
            fix=f"take -o {out.with_suffix('.csv')}; --plot writes HTML, --json prints JSON",
        )
    if out.suffix.lower() == ".parquet":
        pyarrow("pyarrow.parquet")
    if out.exists():
        raise InputError("the output file exists already", where=str(out), fix="choose another -o")
    if not out.parent.is_dir():
        raise InputError(
            "the folder of the output file does not exist",
            where=str(out),
            fix="make it first, or choose another -o",
        )


def write_hull(document: Mapping[str, Any], out: Path) -> None:
    """Write all rows of the table, energies in eV/atom, decompositions by shares of atoms.

    Raises:
        TrainingError: the disk refuses.
    """
    rows, named = listed(document), {e["id"]: e["formula"] for e in document["entries"]}
    parts = [
        [f"{share:.4g} {named[i]} ({i})" for i, share in row["decomposition"].items()]
        for row in rows
    ]
    names = ["id", "formula", "formation_energy_per_atom", "distance", "e_above_hull"]
    there = [n for n in (*names, "stable", "in_hull") if n in rows[0]]
    columns: dict[str, Any] = {n: [row[n] for row in rows] for n in there}
    flags: dict[str, Any] = {
        n: np.array(columns[n], bool) for n in ("stable", "in_hull") if n in columns
    }
    write_table(out, columns | flags | {"decomposition": [" + ".join(p) for p in parts]})


def say(document: Mapping[str, Any], console: Console) -> None:
    """The remarks, on stderr."""
    for remark in document["remarks"]:
        console.print(Text(f"note: {remark}"))


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
