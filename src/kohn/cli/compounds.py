"""Lay out tables of compounds that fit a terminal: numbers are never cut, formulas and
decompositions wrap over several lines, and ids are shortened in the middle."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from kohn.tables import shortened

LONG = 0.35
"""Largest share of the width of all text columns that the column of formulas gets."""
LEAST = {"formula": 10, "id": 8, "falls into": 16}
"""Smallest widths of the columns of text, if the terminal has room for them, characters."""
ID = 12
"""Smallest width of ids if decompositions then still get twice their smallest width."""
GAP = 2
"""Characters between columns."""
ELEMENT = re.compile(r"[A-Z][a-z]?[\d.]*|.")


@dataclass(frozen=True)
class Compound:
    """A row of a table of compounds.

    Attributes:
        formula: the formula as text.
        id: id of the entry or candidate.
        numbers: the numbers of the row as texts, one for each column of numbers.
        falls_into: parts of the decomposition with their shares, '0.25 Li2O', or one word.
        stable: whether the compound is on the hull or below the hull.
        rank: rank of the compound, shown before the formula; empty without a ranking.
    """

    formula: str
    id: str
    numbers: Sequence[str]
    falls_into: Sequence[str]
    stable: bool
    rank: str = ""


def compound_table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Compound],
    width: int,
    *,
    falls_into: str = "falls into",
    caption: str = "",
) -> Table:
    """Return a table of compounds that fits a terminal of `width` characters.

    Args:
        title: text above the table.
        heads: names of the columns of numbers; a line break separates a name from its unit.
        rows: the compounds.
        width: width of the terminal, characters.
        falls_into: name of the last column.
        caption: text below the table.
    """
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="bold")
    table.title, table.caption = Text(title), Text(caption) if caption else None
    ranks = ["rank", *(r.rank for r in rows)] if any(r.rank for r in rows) else []
    numbers = [
        max(map(len, [*head.split("\n"), *(r.numbers[k] for r in rows)]))
        for k, head in enumerate(heads)
    ]
    fixed = [*([max(map(len, ranks))] if ranks else []), *numbers]
    formula, name, parts = _widths(rows, width - sum(fixed) - GAP * (len(fixed) + 2))
    if ranks:
        table.add_column("rank", justify="right", width=fixed[0], no_wrap=True, header_style="dim")
    table.add_column("formula", width=formula, overflow="fold")
    table.add_column("id", width=name, no_wrap=True, header_style="dim")
    for head, size in zip(heads, numbers, strict=True):
        table.add_column(head, justify="right", width=size, no_wrap=True, header_style="dim")
    table.add_column(falls_into, width=parts, overflow="fold", header_style="dim")
    for r in rows:
        plus = [f" + {p}" if k else p for k, p in enumerate(r.falls_into)]
        cells = [*([r.rank] if ranks else []), lines(ELEMENT.findall(r.formula), formula)]
        cells += [shortened(r.id, name), *r.numbers, lines(plus, parts)]
        table.add_row(*map(Text, cells), style="green" if r.stable else None)
    return table


def _widths(rows: Sequence[Compound], room: int) -> tuple[int, int, int]:
    """Return the widths of formulas, ids and decompositions; ids get the width that remains."""
    formula, name, parts = (
        max([least, *map(len, texts)])
        for least, texts in (
            (len("formula"), [r.formula for r in rows]),
            (len("id"), [r.id for r in rows]),
            (len("would fall into"), [" + ".join(r.falls_into) for r in rows]),
        )
    )
    small = min(1.0, room / sum(LEAST.values()))
    least = {column: max(1, int(small * width)) for column, width in LEAST.items()}
    piece = max((2 + len(part) for r in rows for part in r.falls_into), default=0)
    most = min(int(LONG * room), room - least["id"] - piece)  # no part is broken over two lines
    formula = min(formula, max(least["formula"], most))
    if room - formula >= ID + 2 * LEAST["falls into"]:
        least["id"] = ID
    name = min(name, max(least["id"], room - formula - parts))
    return formula, name, max(1, min(parts, room - formula - name))


def lines(words: Sequence[str], width: int) -> str:
    """Join words, with line breaks between them so that no line is longer than `width`."""
    rows = [""]
    for word in words:
        if rows[-1] and len(rows[-1]) + len(word) > width:
            rows.append("")
        rows[-1] += word if rows[-1] else word.lstrip()
    return "\n".join(rows)
