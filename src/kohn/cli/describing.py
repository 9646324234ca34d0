"""`kohn describe` and `kohn similarity`: progress, settings from text, and what is shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from kohn.cli.options import assignments
from kohn.cli.progress import shown
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
    """`kohn.describe` with progress."""
    chosen = parse_settings(settings)
    with shown(console) as progress:
        found = describe(
            list(files),
            descriptor,
            out=out,
            settings=chosen,
            periodic=periodic,
            progress=progress,
        )
    said = f"wrote {found['rows']} rows of {found['features']} features"
    console.print(f"{said}, {found['structures']} structures, to {out}", markup=False)
    return found


def run_similarity(
    first: Path,
    second: Path,
    kernel: str,
    settings: Sequence[str],
    out: Path | None,
    *,
    same_species: bool,
    periodic: bool | None,
    most: tuple[int, int] | None,
    console: Console,
) -> Document:
    """`kohn.similarity` with progress."""
    chosen = parse_settings(settings)
    with shown(console) as progress:
        found = similarity(
            first,
            second,
            kernel,
            out=out,
            settings=chosen,
            same_species=same_species,
            periodic=periodic,
            most=most,
            progress=progress,
        )
    if out is not None:
        rows, columns = found["similarity"].shape
        console.print(f"wrote {rows} x {columns} similarities to {out}", markup=False)
    return found


def show_similarity(k: np.ndarray, console: Console) -> None:
    """The one number there is, or a table."""
    if k.size == 1:
        console.print(f"{k[0, 0]:.6f}")
        return
    table = Table("", *map(str, range(len(k[0]))), box=None, pad_edge=False)
    for index, row in enumerate(k):
        table.add_row(str(index), *(f"{value:.6f}" for value in row))
    console.print(table)


def parse_settings(settings: Sequence[str]) -> Document:
    """["r_cut=5"] as a dictionary.

    Raises:
        ConfigError: no value, or a name that comes twice.
    """
    found = assignments(
        settings,
        "--set",
        "name=value, e.g. --set r_cut=5, once for a name",
        twice="a setting is given twice",
        nothing="--set sets nothing",
    )
    return {name: scalar(text) for name, text in found.items()}


def scalar(text: str) -> Any:
    """A number, None, or the text as it is.

    YAML takes `off` for false, and 1e-3 for text; here the one is a word and the other a number.
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
