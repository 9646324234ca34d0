"""A ranked table read block by block, a million rows and more: numbers of all, words of some.

Ids, formulas and decompositions are kept of the rows nearest to the hull alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kohn.errors import InputError
from kohn.reports.parity import FEW
from kohn.tables import blocks, columns_of
from kohn.typing import Document, Float, Int

WORDS = ("id", "formula", "decomposition")
NUMBERS = ("distance_std", "probability_stable", "distance_95", "distance_labelled")
"""Columns that a table may lack."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """What figures need of a ranked table; row k has rank k + 1.

    Attributes:
        distance: d, eV/atom, NaN where there is no energy, [M].
        stable: whether a row is on the hull or below it, [M].
        numbers: other columns, of those that the table has, [M] each.
        words: row -> id, formula and decomposition, nearest to the hull first, `FEW` at most.
    """

    distance: Float[np.ndarray, " M"]
    stable: np.ndarray
    numbers: Mapping[str, np.ndarray]
    words: Mapping[int, Sequence[str]]


def read_ranked(table: str | Path) -> Ranked:
    """Numbers of all rows, and words of those nearest to the hull.

    Raises:
        InputError: a file that cannot be read, or that lacks columns.
    """
    file = Path(table)
    there = columns_of(file)
    missing = [n for n in ("distance", "stable", *WORDS) if n not in there]
    if missing:
        raise InputError(
            "the table is none of a screening",
            where=str(file),
            expected=f"columns {', '.join(missing)}",
            received=", ".join(there)[:120],
            fix="give the table that `kohn screen` wrote",
        )
    names = ["distance", *(n for n in NUMBERS if n in there)]
    numbers: dict[str, list[np.ndarray]] = {n: [] for n in names}
    stable, near, read = [np.zeros(0, bool)], [], 0
    for block, _ in blocks(file, [*names, "stable", *WORDS]):
        for n in names:
            numbers[n].append(_numbers(block[n]))
        stable.append(np.array([v in (True, "true") for v in block["stable"]], bool))
        above = np.maximum(numbers["distance"][-1], 0.0)
        words = [block[w] for w in WORDS]
        near += [(above[i], read + i, [w[i] for w in words]) for i in _lowest(above)]
        near = sorted(near, key=lambda kept: kept[:2])[:FEW]
        read += len(above)
    joined = {n: np.concatenate([np.zeros(0), *parts]) for n, parts in numbers.items()}
    words = {row: text for _, row, text in near}
    return Ranked(joined.pop("distance"), np.concatenate(stable), joined, words)


def _numbers(column: Sequence[Any]) -> Float[np.ndarray, " m"]:
    """A column as numbers; an empty field is NaN."""
    return np.array([np.nan if v is None or v == "" else float(v) for v in column])


def _lowest(above: Float[np.ndarray, " m"]) -> list[int]:
    """The `FEW` rows of the lowest value, earlier ones first; none that are NaN."""
    order = np.argsort(above, kind="stable")[:FEW]
    return order[np.isfinite(above[order])].tolist()


def sums_of_probabilities(
    rows: Ranked, metrics: Document
) -> tuple[Float[np.ndarray, " m"], Int[np.ndarray, " m"] | None] | None:
    """Σ P up to each rank, of rows that have a P; and how many of these labels call stable.

    None of fewer than two.
    """
    p = rows.numbers.get("probability_stable")
    if p is None or np.isfinite(p).sum() < 2:
        return None
    known, truth = np.isfinite(p), rows.numbers.get("distance_labelled")
    if truth is None or not metrics:
        return np.cumsum(p[known]), None
    stable = metrics["true_positives"] + metrics["false_negatives"]
    lowest = np.sort(truth[np.isfinite(truth)])[:stable]  # those within the tolerance
    return np.cumsum(p[known]), np.cumsum(truth[known] <= lowest.max(initial=-np.inf))
