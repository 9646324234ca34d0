"""Run `kohn describe` and `kohn similarity`: parse settings, show progress, print results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from kohn.cli.options import assignments
from kohn.cli.progress import progress_bars
from kohn.descriptors.archives import describe, similarity
from kohn.typing import Document

TABLE = (40, 6)
"""Rows and columns of the largest table that is printed."""


def run_describe(
    files: Sequence[Path],
    descriptor: str,
    settings: Sequence[str],
    out: Path,
    *,
    periodic: bool | None,
    console: Console,
) -> Document:
    """Run `kohn.describe`, show its progress, and return its document."""
    chosen = parse_settings(settings)
    with progress_bars(console) as progress:
        document = describe(
            list(files),
            descriptor,
            out=out,
            settings=chosen,
            periodic=periodic,
            progress=progress,
        )
    size = f"{document['rows']} rows of {document['features']} features"
    console.print(f"wrote {size}, {document['structures']} structures, to {out}", markup=False)
    return document


def run_similarity(
    first: Path,
    second: Path,
    kernel: str,
    settings: Sequence[str],
    out: Path | None,
    *,
    same_species: bool,
    periodic: bool | None,
    max_structures: tuple[int, int] | None,
    console: Console,
) -> Document:
    """Run `kohn.similarity`, show its progress, and return its document."""
    chosen = parse_settings(settings)
    with progress_bars(console) as progress:
        document = similarity(
            first,
            second,
            kernel,
            out=out,
            settings=chosen,
            same_species=same_species,
            periodic=periodic,
            max_structures=max_structures,
            progress=progress,
        )
    if out is not None:
        rows, columns = document["similarity"].shape
        console.print(f"wrote {rows} x {columns} similarities to {out}", markup=False)
    return document


def show_similarity(similarities: np.ndarray, console: Console) -> None:
    """Print a matrix of similarities as a table, or as a number if it has one element."""
    if similarities.size == 1:
        console.print(f"{similarities[0, 0]:.6f}")
        return
    table = Table("", *map(str, range(len(similarities[0]))), box=None, pad_edge=False)
    for index, row in enumerate(similarities):
        table.add_row(str(index), *(f"{value:.6f}" for value in row))
    console.print(table)


def parse_settings(settings: Sequence[str]) -> Document:
    """Return the value of each setting: ["r_cut=5"] gives {"r_cut": 5}.

    Raises:
        ConfigError: a name or a value is missing, or a name is repeated.
    """
    values = assignments(
        settings,
        "--set",
        "name=value, e.g. --set r_cut=5, each name once",
        twice="a setting is given twice",
        nothing="--set sets nothing",
    )
    return {name: scalar(text) for name, text in values.items()}


def scalar(text: str) -> Any:
    """Return the value of a setting: a number, None, or the text unchanged.

    YAML reads `off` as false and 1e-3 as text; here `off` is text and 1e-3 is a number.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    try:
        return float(text)
    except ValueError:
        return text
