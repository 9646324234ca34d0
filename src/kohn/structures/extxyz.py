"""Read extended XYZ frame by frame; errors name the file, frame and line.

`comment_line` reads the comment line. The rows are parsed here, because ASE neither names the
line of an error nor refuses a row with too many columns, and stops silently at a blank line.
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kohn.errors import InputError, Place, nearest
from kohn.structures import comment_line
from kohn.structures.elements import atomic_number
from kohn.structures.properties import known_keys
from kohn.structures.raw_frames import RawFrame
from kohn.units import ATOMIC_UNITS, UNIT_NAMES

PLAIN = "species:S:1:pos:R:3"
"""The columns of a frame without `Properties`."""
ELEMENTS = ("species", "element", "elements", "symbol", "symbols")
"""Names of the column of chemical symbols; Kohn writes the first."""
CELLS = ("cell", "box", "lattice")
"""Words in keys that other programs use instead of `Lattice`."""
FLAGS = ("periodic", "periodicity", "boundary", "boundary_conditions")
"""Keys that other programs use instead of `pbc`."""


def frames(path: Path, name: str) -> Iterator[RawFrame]:
    """Yield the frames of an extended XYZ file (also gzipped), one at a time.

    Args:
        path: the file.
        name: the name of the file in errors.

    Raises:
        InputError: the file is truncated, or a line does not follow the format.
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
            raise _not_utf8(path, Place(name, frame)) from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                "the gzip file is damaged or truncated",
                where=Place(name, frame),
                received=str(error),
                fix="copy or compress it again; if it is not gzip, remove the suffix .gz",
            ) from error


def _not_utf8(path: Path, place: Place) -> InputError:
    """Return the error for the first line of a file that is not in UTF-8."""
    binary = False
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            binary = binary or b"\0" in line
            try:
                line.decode()
            except UnicodeDecodeError as error:
                if binary:
                    break
                return InputError(
                    "a character is not in UTF-8",
                    where=Place(place.file, place.frame, number),
                    expected="a text file in UTF-8",
                    received=f"the byte 0x{line[error.start]:02x} in "
                    f"{line.decode('latin-1').strip()[:60]!r}",
                    fix="convert the file: iconv -f latin1 -t utf-8",
                )
    return InputError(
        "this is not a text file",
        where=place,
        expected="an extended XYZ file",
        fix="give it the file suffix of its format, so that it is read as that",
    )


def looks_like_xyz(path: Path) -> bool:
    """Return whether the first line of a file that is not blank is a number of atoms, as in XYZ."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            first = next((line.strip() for line in stream if line.strip()), b"")
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return True  # `frames` raises the error
    return first.removeprefix(codecs.BOM_UTF8).isdigit()


def _count(header: str, place: Place) -> int:
    text = header.strip()
    if re.fullmatch("[0-9]{1,12}", text) and int(text) > 0:
        return int(text)
    if re.fullmatch("0+", text):
        raise InputError(
            "the frame has no atoms",
            where=place,
            expected="a line with the number of atoms, 1 or more",
            received=repr(text),
            fix="remove this line and the comment line after it",
        )
    if text.startswith("VEC"):
        fix = 'write the cell as Lattice="..." in the comment line instead of VEC rows'
    elif place.frame:
        fix = "the frame before it may state too few atoms"
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
    line = Place(place.file, place.frame, place.line + 1)
    info, notes = _comment(rows[0], line)
    stated, lattice, flags = (info.pop(key, None) for key in ("Properties", "Lattice", "pbc"))
    _refuse_other_names(info, lattice is None, flags is None, line)
    columns, words = _columns(PLAIN if stated is None else stated, line), rows[1 : n + 1]
    if stated is None and any(len(row.split()) > 4 for row in words):
        words = [" ".join(row.split()[:4]) for row in words]
        notes.append("columns after the fourth were left out: no Properties describes them")
    arrays = _table(words, columns, place)
    if ELEMENTS[0] not in arrays and (other := [e for e in ELEMENTS if e in arrays]):
        notes.append(f"the column {other[0]} was read as {ELEMENTS[0]}")
    return RawFrame(
        numbers=_numbers(arrays, place),
        positions=_positions(arrays, place),
        cell=np.zeros((3, 3)) if lattice is None else _cell(lattice, line),
        periodic=_periodic(flags, lattice is not None, line),
        info=info,
        arrays=arrays,
        place=place,
        notes=tuple(notes),
    )


def _comment(line: str, place: Place) -> tuple[dict[str, Any], list[str]]:
    """Return the keys and values of a comment line, and notes on them."""
    try:
        info = comment_line.parse(line)
    except comment_line.NotReadable as error:
        if not _has_keys(line):  # a plain XYZ file, with words of any kind
            return {"comment": line.strip()}, []
        raise InputError(
            "the comment line of a frame cannot be read",
            where=place,
            expected="key=value pairs as in extended XYZ, each key once",
            received=str(error),
            fix="correct this line",
        ) from error
    words = [key for key, value in info.items() if value is True]
    stated = [word for word in words if UNIT_NAMES.get(word, 1.0) != 1.0 or word in ATOMIC_UNITS]
    if stated and any(key in known_keys() for key in info):
        raise InputError(
            "the comment line states a unit",
            where=place,
            expected="numbers in eV and Å, without units",
            received=stated[0],
            fix="convert the numbers (kohn.units has the factors), and remove the unit",
        )
    notes = [_rename_key(info, key, place) for key in ("Properties", "Lattice", "pbc")]
    return info, [note for note in notes if note]


def _has_keys(line: str) -> bool:
    """Return whether a comment line has known keys, and so is more than a remark."""
    keys = {"properties", "lattice", "pbc", *(key.lower() for key in known_keys())}
    return any(key.lower() in keys for key in re.findall(r"""([^\s=,"']+)\s*=""", line))


def _rename_key(info: dict[str, Any], key: str, place: Place) -> str:
    """Rename a key equal to `key` but for case, and return a note; '' if there is no such key."""
    others = [k for k in info if k != key and k.lower() == key.lower()]
    if not others:
        return ""
    if key in info or len(others) > 1:
        raise InputError(
            f"{key} occurs twice",
            where=place,
            received=", ".join(k for k in info if k.lower() == key.lower()),
            fix="keep one of them",
        )
    info[key] = info.pop(others[0])
    return f"{others[0]} was read as {key}"


def _refuse_other_names(info: dict[str, Any], no_cell: bool, no_flags: bool, place: Place) -> None:
    """Refuse a cell or periodic flags under a key of another program: they would be lost."""
    for key, value in info.items():
        numbers = np.asarray(value)
        sizes = (3, 6, 9) if key.lower() in CELLS else (6, 9)
        named = re.search("|".join(CELLS), key.lower()) or nearest(key, ["lattice"], cutoff=0.7)
        if no_cell and named and numbers.dtype.kind in "if" and numbers.size in sizes:
            raise InputError(
                f"{key} is not how extended XYZ names the cell",
                where=place,
                expected='Lattice="ax ay az bx by bz cx cy cz"',
                received=f"{key}={numbers.tolist()}",
                fix="rename it to Lattice, or to something else if it is no cell",
            )
        words = str(value).lower().split() if isinstance(value, str) else []
        flag = numbers.dtype.kind == "b" or (words and set("".join(words)) <= set("pfsmtn"))
        if no_flags and flag and key.lower() in FLAGS:
            raise InputError(
                f"{key} is not how extended XYZ names the periodic flags",
                where=place,
                expected='pbc="T T F"',
                received=f"{key}={value}",
                fix="rename it to pbc",
            )


def _cell(lattice: Any, place: Place) -> np.ndarray:
    """Return cell vectors as rows, from 9 numbers or a 3×3 matrix."""
    array = np.asarray(lattice)
    if array.dtype.kind not in "if" or array.shape not in ((9,), (3, 3)):
        raise InputError(
            "Lattice cannot be read",
            where=place,
            expected='9 numbers: Lattice="ax ay az bx by bz cx cy cz"',
            received=str(array.tolist())[:80],
            fix="correct Lattice in this line",
        )
    return np.ascontiguousarray(array.reshape(3, 3), dtype=np.float64)


def _periodic(flags: Any, has_cell: bool, place: Place) -> np.ndarray:
    """Return `pbc` as three flags; without `pbc`, a frame that has a cell is periodic."""
    array = np.array(has_cell if flags is None else flags)
    if array.shape not in ((), (1,), (3,)) or not np.isin(array, (False, True)).all():
        raise InputError(
            "pbc cannot be read",
            where=place,
            expected='three flags, as in pbc="T T F"',
            received=repr(flags if isinstance(flags, str) else array.tolist()),
            fix="correct pbc in this line",
        )
    return np.broadcast_to(array.astype(bool), 3).copy()


def _columns(properties: Any, place: Place) -> list[tuple[str, str, int]]:
    """Return (name, type, number of columns) of each entry of `Properties`."""
    fields = str(properties).split(":")
    triples = list(zip(fields[0::3], fields[1::3], fields[2::3], strict=False))
    valid = len(fields) % 3 == 0 and all(
        kind in ("R", "I", "S", "L") and count.isdigit() and int(count) > 0
        for _, kind, count in triples
    )
    if not valid or not triples:
        raise InputError(
            "Properties cannot be read",
            where=place,
            expected="name:type:columns triples, as in species:S:1:pos:R:3:REF_forces:R:3",
            received=repr(properties),
            fix="correct Properties in this line",
        )
    names = [name for name, _, _ in triples]
    if len(set(names)) < len(names):
        raise InputError(
            "a column occurs twice",
            where=place,
            expected="each name once in Properties",
            received=next(name for name in names if names.count(name) > 1),
            fix="rename one of them, or keep one of them in all rows",
        )
    return [(name, kind, int(count)) for name, kind, count in triples]


def _table(
    rows: list[str], columns: list[tuple[str, str, int]], place: Place
) -> dict[str, np.ndarray]:
    """Return name -> per-atom array; every row must have exactly the columns that are stated."""
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


_LOGICAL = comment_line.LOGICAL | {"1": True, "0": False}


def _real(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return comment_line.real(word)


def _convert(part: list[list[str]], kind: str, name: str, place: Place) -> np.ndarray:
    convert: Any = {"R": _real, "I": int, "S": str, "L": _LOGICAL.__getitem__}[kind]
    for k, row in enumerate(part):
        try:
            part[k] = [convert(word) for word in row]
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
    """Return atomic numbers from the column of symbols or of numbers; if both exist, they agree."""
    symbols = next((arrays.pop(name) for name in ELEMENTS if name in arrays), None)
    stated = next((arrays.pop(name) for name in ("Z", "numbers") if name in arrays), None)
    if symbols is None and stated is None:
        raise InputError(
            "the frame does not say what its atoms are",
            where=Place(place.file, place.frame, (place.line or 0) + 1),
            expected="species:S:1 or Z:I:1 in Properties",
            received=f"the columns {', '.join(arrays)}",
            fix="give this name to the column of the elements",
        )
    columns = [_atomic_numbers(column, place) for column in (symbols, stated) if column is not None]
    if symbols is not None:
        _refuse_types(symbols, place)
    differ = np.flatnonzero(columns[0] != columns[-1])
    if len(differ):
        k = int(differ[0])
        raise InputError(
            "two columns say that an atom is of different elements",
            where=Place(place.file, place.frame, (place.line or 0) + 2 + k),
            received=f"atomic numbers {columns[0][k]} and {columns[-1][k]}",
            fix="keep the column that is right",
        )
    return columns[0]


def _refuse_types(symbols: np.ndarray, place: Place) -> None:
    """Refuse numbers in the column of symbols: atom types of a simulation, or atomic numbers."""
    numbers = [k for k, word in enumerate(symbols.tolist()) if str(word).isdigit()]
    if numbers:
        raise InputError(
            "the column of elements holds numbers: types, perhaps",
            where=Place(place.file, place.frame, (place.line or 0) + 2 + numbers[0]),
            expected="chemical symbols",
            received=", ".join(sorted({str(symbols[k]) for k in numbers})[:8]),
            fix="write the symbols; if they are atomic numbers, name the column Z:I:1",
        )


def _atomic_numbers(column: np.ndarray, place: Place) -> np.ndarray:
    known: dict[Any, int] = {}
    for k, element in enumerate(column.tolist()):
        if element in known:
            continue
        try:
            known[element] = atomic_number(element)
        except InputError as error:
            raise InputError(
                error.message,
                expected=error.expected,
                received=error.received,
                where=Place(place.file, place.frame, (place.line or 0) + 2 + k),
                fix=error.fix,
            ) from None
    return np.array([known[element] for element in column.tolist()], dtype=np.int32)


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
