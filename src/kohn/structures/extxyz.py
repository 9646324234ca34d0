"""Extended XYZ, frame by frame, with exact places in every error.

The grammar of the comment line is ASE's (`ase.io.extxyz.key_val_str_to_dict` does the parsing).
The rows are parsed here, because ASE neither names the line of an error nor refuses a row with
too many columns, stops silently at a blank line, and cannot read a stress of six components.
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kohn.errors import InputError, Place
from kohn.structures.elements import atomic_number


@dataclass(frozen=True)
class RawFrame:
    """One frame before any key is understood.

    Attributes:
        numbers: atomic numbers, int32 [n].
        positions: Å, float64 [n, 3].
        cell: rows, Å, float64 [3, 3].
        periodic: bool [3].
        info: key -> value of what the file says once per frame.
        arrays: key -> array [n, ...] of what it says once per atom.
        place: file, frame, and the line with the number of atoms (where there are lines).
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    periodic: np.ndarray
    info: dict[str, Any]
    arrays: dict[str, np.ndarray]
    place: Place

    def place_of(self, atom: int | None = None) -> Place:
        """The comment line of this frame, or the line of one of its atoms."""
        if self.place.line is None:
            return self.place
        offset = 1 if atom is None else 2 + atom
        return Place(self.place.file, self.place.frame, self.place.line + offset)


def frames(path: Path, name: str) -> Iterator[RawFrame]:
    """The frames of an extended XYZ file (also gzipped), one at a time.

    Args:
        path: the file.
        name: what to call it in errors.

    Raises:
        InputError: the file is truncated, or a line is not what the format wants.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as stream:
        line_number, frame = 0, 0
        try:
            for header in stream:
                line_number += 1
                if not header.strip():
                    continue
                place = Place(name, frame, line_number)
                n = _count(header, place)
                rows = list(islice(stream, n + 1))
                yield _frame(rows, n, place)
                line_number += n + 1
                frame += 1
        except UnicodeDecodeError as error:
            raise InputError(
                "this is not a text file",
                where=Place(name, frame),
                expected="an extended XYZ file",
                fix="give it the file suffix of its format, so that it is read as that",
            ) from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                "the gzip file is damaged or truncated",
                where=Place(name, frame),
                received=str(error),
                fix="copy or compress it again; if it is not gzip, remove the suffix .gz",
            ) from error


def looks_like_xyz(path: Path) -> bool:
    """Whether the first line that is not blank is a whole number."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            first = next((line.strip() for line in stream if line.strip()), b"")
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return True  # `frames` says what is wrong with it
    return first.removeprefix(codecs.BOM_UTF8).isdigit()


def _count(header: str, place: Place) -> int:
    text = header.strip()
    if re.fullmatch("[0-9]{1,12}", text) and int(text) > 0:
        return int(text)
    if text.startswith("VEC"):
        fix = 'write the cell as Lattice="..." in the comment line instead of VEC rows'
    elif place.frame:
        fix = "the frame before it may state too small a number of atoms"
    else:
        fix = "convert the file to extended XYZ, or give it the suffix of its format"
    raise InputError(
        "this is not extended XYZ" if not place.frame else "a frame does not start here",
        where=place,
        expected="a line with the number of atoms, 1 or more",
        received=repr(text[:60]),
        fix=fix,
    )


def _frame(rows: list[str], n: int, place: Place) -> RawFrame:
    assert place.line is not None
    if len(rows) < n + 1:
        raise InputError(
            "the file ends inside a frame: it is truncated",
            where=Place(place.file, place.frame, place.line + len(rows)),
            expected=f"a comment line and {n} atoms",
            received=f"{max(len(rows) - 1, 0)} atoms" if rows else "nothing",
            fix="copy or write the file again, or remove its last frame",
        )
    info = _comment(rows[0], Place(place.file, place.frame, place.line + 1))
    columns = _columns(info.pop("Properties", "species:S:1:pos:R:3"), place)
    arrays = _table(rows[1 : n + 1], columns, place)
    lattice, flags = info.pop("Lattice", None), info.pop("pbc", None)
    cell = np.zeros((3, 3)) if lattice is None else np.array(lattice, dtype=np.float64).T
    return RawFrame(
        numbers=_numbers(arrays, place),
        positions=_positions(arrays, place),
        cell=np.ascontiguousarray(cell),
        periodic=_periodic(flags, lattice is not None, place),
        info=info,
        arrays=arrays,
        place=place,
    )


def _periodic(flags: Any, has_cell: bool, place: Place) -> np.ndarray:
    """`pbc` as three flags; without it a frame that has a cell is periodic."""
    array = np.array(has_cell if flags is None else flags)
    if array.shape not in ((), (1,), (3,)) or not np.isin(array, (False, True)).all():
        raise InputError(
            "pbc cannot be read",
            where=Place(place.file, place.frame, (place.line or 0) + 1),
            expected='three flags, as in pbc="T T F"',
            received=repr(flags if isinstance(flags, str) else array.tolist()),
            fix="correct pbc in this line",
        )
    return np.broadcast_to(array.astype(bool), 3).copy()


_SIX = re.compile(r"""(?<![\w-])(stress|virial)\s*=\s*(["'{\[])([^"'}\]]*)["'}\]]""")


def _comment(line: str, place: Place) -> dict[str, Any]:
    """The key-value pairs of a comment line. `stress` and `virial` may have 6 components."""
    from ase.io.extxyz import key_val_str_to_dict

    def nine(match: re.Match) -> str:
        parts = match[3].replace(",", " ").split()
        if len(parts) != 6:
            return match[0]
        xx, yy, zz, yz, xz, xy = parts
        return f'{match[1]}="{xx} {xy} {xz} {xy} {yy} {yz} {xz} {yz} {zz}"'

    try:
        return key_val_str_to_dict(_SIX.sub(nine, line)) if line.strip() else {}
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(
            "the comment line of a frame cannot be read",
            where=place,
            expected="key=value pairs as in extended XYZ; 9 numbers for Lattice, "
            "6 or 9 for stress and virial",
            received=str(error),
            fix="correct this line",
        ) from error


def _columns(properties: Any, place: Place) -> list[tuple[str, str, int]]:
    """(name, type, number of columns) of each entry of `Properties`."""
    fields = str(properties).split(":")
    triples = list(zip(fields[0::3], fields[1::3], fields[2::3], strict=False))
    well = len(fields) % 3 == 0 and all(
        kind in ("R", "I", "S", "L") and count.isdigit() and int(count) > 0
        for _, kind, count in triples
    )
    if not well or not triples:
        raise InputError(
            "Properties cannot be read",
            where=Place(place.file, place.frame, (place.line or 0) + 1),
            expected="name:type:columns triples, as in species:S:1:pos:R:3:REF_forces:R:3",
            received=repr(properties),
            fix="correct Properties in this line",
        )
    return [(name, kind, int(count)) for name, kind, count in triples]


def _table(
    rows: list[str], columns: list[tuple[str, str, int]], place: Place
) -> dict[str, np.ndarray]:
    """The per-atom columns by name; every row must have exactly the stated columns."""
    width = sum(count for _, _, count in columns)
    words = [row.split() for row in rows]
    for k, row in enumerate(words):
        if len(row) != width:
            raise InputError(
                "an atom has the wrong number of columns",
                where=Place(place.file, place.frame, (place.line or 0) + 2 + k),
                expected=f"{width} ("
                + ", ".join(f"{name} {count}" for name, _, count in columns)
                + ")",
                received=f"{len(row)}: {rows[k].strip()[:60]!r}",
                fix="correct the row, Properties, or the number of atoms of the frame",
            )
    arrays, first = {}, 0
    for name, kind, count in columns:
        part = [row[first : first + count] for row in words]
        values = _convert(part, kind, name, place)
        arrays[name] = values[:, 0] if count == 1 else values
        first += count
    return arrays


_TRUTH = {"T": True, "True": True, "true": True, "1": True}
_FALSEHOOD = {"F": False, "False": False, "false": False, "0": False}


def _convert(part: list[list[str]], kind: str, name: str, place: Place) -> np.ndarray:
    one: Any = {"R": float, "I": int, "S": str, "L": (_TRUTH | _FALSEHOOD).__getitem__}[kind]
    for k, row in enumerate(part):
        try:
            part[k] = [one(word) for word in row]
        except (ValueError, KeyError) as error:
            raise InputError(
                f"a value in the column {name!r} cannot be read",
                where=Place(place.file, place.frame, (place.line or 0) + 2 + k),
                expected={"R": "a real number", "I": "an integer", "L": "T or F"}[kind],
                received=" ".join(row),
                fix="correct this row; if it belongs to the next frame, a row is missing",
            ) from error
    dtype = {"R": np.float64, "I": np.int64, "S": np.str_, "L": np.bool_}[kind]
    return np.array(part, dtype=dtype)


def _numbers(arrays: dict[str, np.ndarray], place: Place) -> np.ndarray:
    elements = arrays.pop("species", None)
    for name in ("Z", "numbers"):
        stated = arrays.pop(name, None)
        elements = stated if elements is None else elements
    if elements is None:
        raise InputError(
            "the frame does not say what its atoms are",
            where=Place(place.file, place.frame, (place.line or 0) + 1),
            expected="species:S:1 or Z:I:1 in Properties",
            fix="add the column",
        )
    known = {}
    for k, element in enumerate(elements.tolist()):
        if element in known:
            continue
        try:
            known[element] = atomic_number(element)
        except InputError as error:
            error.where = Place(place.file, place.frame, (place.line or 0) + 2 + k)
            raise InputError(
                error.message,
                expected=error.expected,
                received=error.received,
                where=error.where,
                fix=error.fix,
            ) from None
    return np.array([known[element] for element in elements.tolist()], dtype=np.int32)


def _positions(arrays: dict[str, np.ndarray], place: Place) -> np.ndarray:
    positions = arrays.pop("pos", None)
    if positions is None:
        positions = arrays.pop("positions", None)
    if positions is None or positions.ndim != 2 or positions.shape[1] != 3:
        raise InputError(
            "the frame has no positions",
            where=Place(place.file, place.frame, (place.line or 0) + 1),
            expected="pos:R:3 in Properties",
            fix="add the columns",
        )
    return np.ascontiguousarray(positions, dtype=np.float64)
