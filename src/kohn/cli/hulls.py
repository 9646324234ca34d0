"""Parse chemical potentials for `kohn hull`, and print and write its tables."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kohn.cli.compounds import Compound, compound_table
from kohn.errors import ConfigError
from kohn.records import refuse_output
from kohn.stability import parse_formula
from kohn.tables import refuse_non_table, write_table
from kohn.typing import Document

SHOWN = 40
"""Largest number of rows of a table in the terminal."""


def page_document(document: Document) -> Document:
    """Return the input of `hull_page`: candidates among the entries, decompositions by formula."""
    formulas = {e["id"]: e["formula"] for e in document["entries"]}
    entries = []
    for row in [*document["entries"], *document["candidates"]]:
        parts: dict[str, float] = {}
        for name, share in row["decomposition"].items():
            parts[formulas[name]] = parts.get(formulas[name], 0.0) + share
        entries.append({**row, "decomposition": parts, "candidate": "in_hull" in row})
    return {**document, "entries": entries}


def hull_table(document: Document, width: int) -> Table:
    """Return a table of the first `SHOWN` rows of `table_rows`, `width` characters wide."""
    rows, kind = table_rows(document), "candidates" if document["candidates"] else "entries"
    stable = sum(row["stable"] for row in rows)
    formulas = {e["id"]: e["formula"] for e in document["entries"]}
    compounds = []
    for row in rows[:SHOWN]:
        formation = row["formation_energy_per_atom"]
        parts = [f"{share:.3f} {formulas[i]}" for i, share in row["decomposition"].items()]
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
        f"{'–'.join(document['elements'])}: {stable:,} of {len(rows):,} {kind} stable",
        ("E_f\neV/atom", "from hull\neV/atom"),
        compounds,
        width,
        caption=f"and {rest:,} more: see -o, --json or --plot" if rest > 0 else "",
    )


def table_rows(document: Document) -> list[Document]:
    """Return the candidates, or the entries without candidates; the nearest to the hull first."""
    return document["candidates"] or sorted(document["entries"], key=lambda e: e["e_above_hull"])


def check_output(out: Path) -> None:
    """Refuse an output file that cannot be written, before any work begins. Raises InputError."""
    refuse_non_table(out, " (--plot writes HTML, --json prints JSON)")
    refuse_output(out)


def write_hull(document: Document, out: Path) -> None:
    """Write `table_rows` in eV/atom and shares of atoms. Raises TrainingError if this fails."""
    rows, formulas = table_rows(document), {e["id"]: e["formula"] for e in document["entries"]}
    parts = [
        [f"{share:.4g} {formulas[i]} ({i})" for i, share in row["decomposition"].items()]
        for row in rows
    ]
    names = ["id", "formula", "formation_energy_per_atom", "distance", "e_above_hull"]
    present = [n for n in (*names, "stable", "in_hull") if n in rows[0]]
    columns: Document = {n: [row[n] for row in rows] for n in present}
    flags: Document = {n: np.array(columns[n], bool) for n in ("stable", "in_hull") if n in columns}
    write_table(out, columns | flags | {"decomposition": [" + ".join(p) for p in parts]})


def print_remarks(document: Document, console: Console) -> None:
    """Print the remarks in the document of a hull, as notes."""
    for remark in document["remarks"]:
        console.print(Text(f"note: {remark}"))


def reservoirs(texts: Mapping[str, str]) -> dict[str, float]:
    """Return open elements -> chemical potential μ, eV/atom.

    Raises:
        ConfigError: a chemical potential is not a number.
        InputError: the name of an element cannot be read as a formula.
    """
    mu = {}
    for element, text in texts.items():
        parse_formula(element, where="--open")
        try:
            mu[element] = float(text)
        except ValueError:
            raise ConfigError(
                "a chemical potential is not a number",
                expected="--open O=-5.2, in eV/atom",
                received=f"{element}={text}",
            ) from None
    return mu
