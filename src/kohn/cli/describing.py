"""Parse the settings of `kohn describe` and `kohn similarity`, and print similarities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from kohn.cli.options import assignments
from kohn.typing import Document

TABLE = (40, 6)
"""Rows and columns of the largest table that is printed."""


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
