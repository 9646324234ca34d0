"""Read the ranked table of a screening block by block: a million rows and more fit in memory.

Numbers of all rows are kept; ids, formulas and decompositions only of rows nearest to the hull.
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
"""Columns of numbers that a ranked table may lack."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The columns of a ranked table that figures need; row k has rank k + 1.

    Attributes:
        distance: distance d to the hull, eV/atom, NaN without an energy, [M].
        stable: whether the candidate is on the hull or below the hull, [M].
        numbers: the columns of `NUMBERS` that the table has, [M] each.
        words: row -> (id, formula, decomposition) of the `FEW` rows nearest to the hull, in order.
    """

    distance: Float[np.ndarray, " M"]
    stable: np.ndarray
    numbers: Mapping[str, np.ndarray]
    words: Mapping[int, Sequence[str]]


def read_ranked(table: str | Path) -> Ranked:
    """Read a ranked table: numbers of all rows, words only of the rows nearest to the hull.

    Raises:
        InputError: the file cannot be read, or lacks columns.
    """
    file = Path(table)
    columns = columns_of(file)
    missing = [n for n in ("distance", "stable", *WORDS) if n not in columns]
    if missing:
        raise InputError(
            "the table is not the output of a screening",
            where=str(file),
            expected=f"columns {', '.join(missing)}",
            received=", ".join(columns)[:120],
            fix="give the table that `kohn screen` wrote",
        )
    names = ["distance", *(n for n in NUMBERS if n in columns)]
    numbers: dict[str, list[np.ndarray]] = {n: [] for n in names}
    stable, near, read = [np.zeros(0, bool)], [], 0
    for block, _ in blocks(file, [*names, "stable", *WORDS]):
        for n in names:
            numbers[n].append(_numbers(block[n]))
        stable.append(np.array([v in (True, "true") for v in block["stable"]], bool))
        above = np.maximum(numbers["distance"][-1], 0.0)
        words = [block[w] for w in WORDS]
        near += [(above[i], read + i, [w[i] for w in words]) for i in _lowest(above)]
        near = sorted(near, key=lambda row: row[:2])[:FEW]
        read += len(above)
    joined = {n: np.concatenate([np.zeros(0), *parts]) for n, parts in numbers.items()}
    words = {row: text for _, row, text in near}
    return Ranked(joined.pop("distance"), np.concatenate(stable), joined, words)


def _numbers(column: Sequence[Any]) -> Float[np.ndarray, " m"]:
    """Return a column as numbers; an empty field becomes NaN."""
    return np.array([np.nan if v is None or v == "" else float(v) for v in column])


def _lowest(above: Float[np.ndarray, " m"]) -> list[int]:
    """Return the indices of the `FEW` lowest values, without NaN; of equal values the earlier."""
    order = np.argsort(above, kind="stable")[:FEW]
    return order[np.isfinite(above[order])].tolist()


def cumulative_stable(
    rows: Ranked, metrics: Document
) -> tuple[Float[np.ndarray, " m"], Int[np.ndarray, " m"] | None] | None:
    """Return, up to each rank, the sum of P(stable) and the number of rows that labels call stable.

    Rows without P(stable) are skipped. The second array is None without labels; the whole result
    is None if fewer than two rows have P(stable).
    """
    p = rows.numbers.get("probability_stable")
    if p is None or np.isfinite(p).sum() < 2:
        return None
    known, truth = np.isfinite(p), rows.numbers.get("distance_labelled")
    if truth is None or not metrics:
        return np.cumsum(p[known]), None
    stable = metrics["true_positives"] + metrics["false_negatives"]
    lowest = np.sort(truth[np.isfinite(truth)])[:stable]  # labels within the tolerance
    return np.cumsum(p[known]), np.cumsum(truth[known] <= lowest.max(initial=-np.inf))
