"""Read and write tables (CSV, or Parquet with pyarrow) block by block, and shorten ids in them."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kohn.errors import ConfigError, InputError
from kohn.records import replacing
from kohn.typing import Document, Int

ROWS = 16_384
"""Number of rows in a block."""
SUFFIXES = (".csv", ".parquet")
HEAD = 100
"""Number of rows of a sorted table that `reorder_tables` returns."""
LINE_BREAKS = re.compile(r"[\r\n]+")
Block = Mapping[str, Sequence[Any]]
"""Name of a column -> its values."""


def is_table(file: Path) -> bool:
    """Return whether the name of a file ends in .csv or .parquet."""
    return file.suffix.lower() in SUFFIXES


def pyarrow(name: str) -> Any:
    """Import a module of pyarrow. Raises InputError if pyarrow is not installed."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise InputError(
            "Parquet files need pyarrow, which is not installed",
            fix="pip install 'kohn[materials]', or use CSV",
        ) from None


def columns_of(file: Path) -> list[str]:
    """Read the names of the columns of a table.

    Raises:
        InputError: the file does not exist or cannot be read.
    """
    if not file.is_file():
        raise InputError("there is no such file", where=str(file), fix="check the path")
    if file.suffix.lower() == ".parquet":
        return list(_parquet(file).schema_arrow.names)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return next(csv.reader(stream), [])
    except UnicodeDecodeError as error:
        raise _not_text(file, error) from None


def blocks(file: Path, columns: Sequence[str]) -> Iterator[tuple[Block, Int[np.ndarray, " m"]]]:
    """Yield some columns of a table, `ROWS` rows at a time, with the line number of each row (in
    Parquet the row number), from 1. Values of CSV are texts; empty lines are skipped.

    Raises:
        InputError: the file cannot be read, or a row has more or fewer fields than the header.
    """
    if file.suffix.lower() == ".parquet":
        start = 1
        for batch in _parquet(file).iter_batches(ROWS, columns=list(columns)):
            numbers = np.arange(start, start + batch.num_rows)
            start += batch.num_rows
            yield {name: batch.column(name).to_pylist() for name in columns}, numbers
        return
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            yield from _csv_blocks(file, csv.reader(stream), columns)
    except UnicodeDecodeError as error:
        raise _not_text(file, error) from None


def _csv_blocks(
    file: Path, reader: Any, columns: Sequence[str]
) -> Iterator[tuple[Block, Int[np.ndarray, " m"]]]:
    header = next(reader, [])
    chosen = [header.index(name) for name in columns]
    more = True
    while more:
        more, lines = False, []
        values: list[list[str]] = [[] for _ in chosen]
        # Store the chosen columns only: a list for each row would burden the garbage collector.
        appends = [(column.append, k) for column, k in zip(values, chosen, strict=True)]
        for row in islice(reader, ROWS):
            more = True
            if len(row) == len(header):
                lines.append(reader.line_num)
                for append, k in appends:
                    append(row[k])
            elif row:
                raise InputError(
                    "a row does not have as many fields as the header",
                    where=f"{file}, line {reader.line_num}",
                    expected=f"{len(header)} fields: {', '.join(header)}",
                    received=f"{len(row)}: {','.join(row)[:120]}",
                    fix="correct the row; put fields that have commas between quotes",
                )
        if lines:
            yield dict(zip(columns, values, strict=True)), np.array(lines)


def _not_text(file: Path, error: UnicodeDecodeError) -> InputError:
    return InputError(
        "the file is not UTF-8 text",
        where=str(file),
        received=str(error)[:120],
        fix="write it as UTF-8",
    )


def _parquet(file: Path) -> Any:
    try:
        return pyarrow("pyarrow.parquet").ParquetFile(file)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise InputError(
            "the file is not Parquet",
            where=str(file),
            received=str(error)[:120],
            fix="write it again",
        ) from None


def refuse_non_table(out: Path, more: str = "") -> None:
    """Raise ConfigError if an output file is not CSV or Parquet; InputError if pyarrow is missing.

    Args:
        more: text about other formats, appended to the fix in the message.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            "the output is neither CSV nor Parquet",
            expected="a name that ends in .csv or .parquet",
            received=str(out),
            fix=f"take -o {out.with_suffix('.csv')}{more}",
        )
    if out.suffix.lower() == ".parquet":
        pyarrow("pyarrow.parquet")


def write_table(file: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length to a file that appears whole or not at all. In CSV, line
    breaks become spaces, so that each row is one line.

    Raises:
        InputError: the file is Parquet, and pyarrow is not installed.
        TrainingError: the file cannot be written.
    """
    if file.suffix.lower() == ".parquet":
        _write_parquet(file, pyarrow("pyarrow").table(dict(columns)))
        return
    rows = zip(*(_csv_values(column) for column in columns.values()), strict=True)
    with replacing(file) as stream:
        text = TextIOWrapper(stream, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        text.detach()


def reorder_tables(
    parts: Sequence[Path],
    order: Int[np.ndarray, " M"],
    out: Path,
    *,
    text: Sequence[str] = (),
    rank: str = "rank",
) -> list[Document]:
    """Join tables and write their rows in another order.

    Args:
        parts: tables with the same columns, written by `write_table`.
        order: indices of the rows, counted through all parts, in their new order.
        out: file of the joined table, in the same format.
        text: columns whose values are returned as texts even if they look like numbers.
        rank: name of the new first column, which counts the rows from 1.

    Returns:
        The first `HEAD` rows.

    Raises:
        TrainingError: the file cannot be written.
    """
    if out.suffix.lower() == ".parquet":
        read = pyarrow("pyarrow.parquet").read_table
        joined = pyarrow("pyarrow").concat_tables([read(p) for p in parts]).take(order)
        joined = joined.add_column(0, rank, [np.arange(1, len(order) + 1)])
        _write_parquet(out, joined)
        return joined.slice(0, HEAD).to_pylist()
    header, lines = "", []
    for part in parts:
        with part.open(newline="", encoding="utf-8") as stream:
            header = next(stream)
            lines.extend(stream)  # each row is one line
    with replacing(out) as stream:
        stream.write(f"{rank},{header}".encode())
        for start in range(0, len(order), ROWS):
            numbered = enumerate(order[start : start + ROWS].tolist(), start=start + 1)
            stream.write("".join([f"{n},{lines[i]}" for n, i in numbered]).encode())
    first = csv.DictReader([header, *(lines[i] for i in order[:HEAD].tolist())])
    return [
        {rank: n, **{k: v if k in text else _parsed_field(v) for k, v in row.items()}}
        for n, row in enumerate(first, start=1)
    ]


def _csv_values(column: Sequence[Any]) -> Sequence[Any]:
    """Return a column for CSV: numbers in full, NaN empty, booleans as true or false, one line."""
    if isinstance(column, np.ndarray) and column.dtype == bool:
        return np.where(column, "true", "false").tolist()
    if isinstance(column, np.ndarray) and column.dtype.kind == "f" and np.isnan(column).any():
        return ["" if v != v else v for v in column.tolist()]
    if isinstance(column, np.ndarray):
        return column.tolist()
    whole = "".join([v for v in column if isinstance(v, str)])
    if "\n" not in whole and "\r" not in whole:
        return column
    return [LINE_BREAKS.sub(" ", v) if isinstance(v, str) else v for v in column]


def _parsed_field(text: str) -> Any:
    """Return the value of a field of CSV: true, false, a number, a text, or None if empty."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text or None


def _write_parquet(file: Path, table: Any) -> None:
    with replacing(file) as stream:
        pyarrow("pyarrow.parquet").write_table(table, stream, row_group_size=ROWS)


def shortened(text: str, width: int) -> str:
    """Shorten a text to `width` characters: cut its middle, and keep the end, where ids differ."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    end = 2 * (width - 1) // 3
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"
