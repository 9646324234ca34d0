r"""Read and write the comment line of extended XYZ: key=value pairs, and keys without a value.

    value   bare word | "text" | 'text' | {1 2 3} | "1 2 3" | [1, 2, 3] | [[1, 2], [3, 4]]
    number  an integer without leading zeros, or a real number with an exponent of d, D, e or E
    bool    T true True TRUE F false False FALSE

Words between delimiters are an array if all are numbers, or all are bools; else they are text. A
backslash makes the next character literal (``\n`` in quotes is a new line). Text that starts with
``_JSON`` is JSON, as ASE writes it. A value may be empty: in ``a= b=1`` it is an empty text. A key
without ``=`` has the value True.

Source: the specification of libAtoms/extxyz; single quotes, bare lists with commas, ``_JSON`` and
nan are ASE's (`ase.io.extxyz`).
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from kohn.records import plain

CLOSING = {'"': '"', "'": "'", "{": "}", "[": "]"}
_TRUTH = {word: True for word in ("T", "true", "True", "TRUE")}
_FALSEHOOD = {word: False for word in ("F", "false", "False", "FALSE")}
LOGICAL = _TRUTH | _FALSEHOOD
"""Word for a bool -> the bool."""
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_REAL = re.compile(
    r"[+-]?((?!0[0-9]+$)([0-9]+\.?[0-9]*|\.[0-9]+)([dDeE][+-]?[0-9]+)?|nan|inf(inity)?)",
    re.IGNORECASE,
)
_SPECIAL = re.compile(r"""[\s=,"'{}\[\]\\]""")
"""Characters that a text may contain only if it is in quotes."""
_NEXT_KEY = re.compile(r"""[A-Za-z_][^\s=,"'{}\[\]]*\s*=""")


class NotReadable(ValueError):
    """The error for a comment line that cannot be read; its message gives the reason."""


def parse(line: str) -> dict[str, Any]:
    """Return the keys of a comment line and their values.

    Returns:
        key -> bool, int, float, text, an array of numbers or bools (of any shape in square
        brackets), or a list or dict of JSON.

    Raises:
        NotReadable: a delimiter has no end; a key occurs twice with different values.
    """
    values: dict[str, Any] = {}
    for key, value in _pairs(line):
        if key in values and not _equal(values[key], value):
            raise NotReadable(f"{key} occurs twice: {_shown(values[key])} and {_shown(value)}")
        values[key] = value
    return values


def real(word: str) -> float:
    """Return a word as a real number; its exponent may be written with d or D as in Fortran.

    Raises:
        ValueError: the word is not a real number.
    """
    if not _REAL.fullmatch(word):
        raise ValueError(f"not a real number: {word!r}")
    return float(word.replace("d", "e").replace("D", "e"))


def pair(key: str, value: Any) -> str:
    """Return the text key=value, which `parse` and ASE read as the same value.

    Numbers have enough digits to be read back exactly. A value that is not a number, bool, text
    or array of numbers is written as JSON.
    """
    name = f'"{_escaped(key)}"' if _SPECIAL.search(key) or not key else key
    if isinstance(value, str):
        return f"{name}={_text(value)}"
    array = np.asarray(value)
    if array.dtype.kind in "fiub" and array.ndim == 0:
        return f"{name}={_word(array.item())}"
    if array.dtype.kind in "fiub" and array.size and (array.ndim == 1 or array.shape == (3, 3)):
        return f'{name}="{" ".join(map(_word, array.ravel().tolist()))}"'
    return f'{name}="_JSON {_escaped(json.dumps(plain(value)))}"'


def _word(x: bool | float) -> str:
    return ("T" if x else "F") if isinstance(x, bool) else repr(x)


def _text(value: str) -> str:
    """Return the text, in quotes if it would be read differently without them."""
    bare = value and not _SPECIAL.search(value)
    return value if bare else f'"{_escaped(value)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _pairs(line: str) -> Iterator[tuple[str, Any]]:
    line, at = line.strip(), 0
    while at < len(line):
        key, at = _key(line, at)
        after = _skip(line, at)
        if after == len(line) or line[after] != "=":
            yield key, True  # a word without a value
            at = after
            continue
        start = _skip(line, after + 1)
        spaced = start > after + 1
        if start == len(line) or (spaced and _NEXT_KEY.match(line, start)):
            yield key, ""
            at = start
        else:
            value, at = _value(line, start, key)
            if at < len(line) and not line[at].isspace():
                raise NotReadable(
                    f"a space is missing after the value of {key}: {line[at - 1 : at + 20]!r}"
                )
            yield key, value
        at = _skip(line, at)


def _skip(line: str, at: int) -> int:
    while at < len(line) and line[at].isspace():
        at += 1
    return at


def _key(line: str, at: int) -> tuple[str, int]:
    if line[at] == '"':
        return _quoted(line, at, "a key")
    end = at
    while end < len(line) and not line[end].isspace() and line[end] != "=":
        end += 1
    if end == at:
        raise NotReadable(f"there is no key before {line[at : at + 30]!r}")
    return line[at:end], end


def _value(line: str, at: int, key: str) -> tuple[Any, int]:
    first = line[at]
    if first == "[":
        return _array(line, at, key)
    if first in CLOSING:
        text, end = _quoted(line, at, key)
        return _value_of_text(text), end
    end, text = at, ""
    while end < len(line) and not line[end].isspace():
        end += line[end] == "\\" and end + 1 < len(line)
        text, end = text + line[end], end + 1
    return _value_of_text(text), end


def _quoted(line: str, at: int, key: str) -> tuple[str, int]:
    """Return the text between the delimiters at the index `at`, and the index after them."""
    closing, text, end = CLOSING[line[at]], [], at + 1
    while end < len(line) and line[end] != closing:
        if line[end] == "\\" and end + 1 < len(line):
            end += 1
            text.append("\n" if line[end] == "n" else line[end])
        else:
            text.append(line[end])
        end += 1
    if end == len(line):
        raise NotReadable(f"the value of {key} opens with {line[at]} and has no {closing}")
    return "".join(text), end + 1


def _array(line: str, at: int, key: str) -> tuple[Any, int]:
    """Return an array (or lists of text) in square brackets at `at`, and the index after it."""
    depth, end, quoted = 0, at, False
    for end in range(at, len(line)):
        if line[end] == '"' and line[end - 1] != "\\":
            quoted = not quoted
        elif not quoted:
            depth += (line[end] == "[") - (line[end] == "]")
        if depth == 0:
            break
    else:
        raise NotReadable(f"the value of {key} opens with [ and has no ]")
    items, rest = _items(line[at : end + 1], 1)
    if rest != end + 1 - at:
        raise NotReadable(f"the value of {key} has brackets that do not match")
    return _array_of_lists(items), end + 1


def _items(text: str, at: int) -> tuple[list[Any], int]:
    """Return the words and lists up to the closing bracket, and the index after it."""
    items: list[Any] = []
    while text[at] != "]":
        if text[at] == "[":
            inner, at = _items(text, at + 1)
            items.append(inner)
        elif text[at] == '"':
            word, at = _quoted(text, at, "a list")
            items.append(word)
        elif text[at] == "," or text[at].isspace():
            at += 1
        else:
            end = at
            while text[end] not in "[], \t":
                end += 1
            items.append(text[at:end])
            at = end
    return items, at + 1


def _array_of_lists(items: list[Any]) -> Any:
    """Return nested lists of words as an array of numbers or bools, or else without change."""
    try:
        words = np.array(items, dtype=np.str_)
    except ValueError:  # rows of different lengths
        return items
    values = _array_of_words(words.ravel().tolist())
    return items if values is None else values.reshape(words.shape)


def _value_of_text(text: str) -> Any:
    """Return the value of a text: a number, a bool, an array of them, JSON, or the text itself."""
    if text.startswith("_JSON "):
        return _value_of_json(text.removeprefix("_JSON "))
    values = _array_of_words(re.findall(r"[^\s,]+", text))
    if values is None:
        return text
    return values[0].item() if len(values) == 1 else values


def _array_of_words(words: list[str]) -> np.ndarray | None:
    """Return words as an array of integers, real numbers or bools; None for text or no words."""
    if not words:
        return None
    if all(word in LOGICAL for word in words):
        return np.array([LOGICAL[word] for word in words])
    try:
        if all(_INTEGER.fullmatch(word) for word in words):
            return np.array([int(word) for word in words], dtype=np.int64)
    except OverflowError:
        pass
    try:
        return np.array([real(word) for word in words])
    except ValueError:
        return None


def _value_of_json(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise NotReadable(f"the text after _JSON is not JSON: {error}") from error
    try:
        array = np.array(value)
    except ValueError:
        return value
    return array if array.ndim and array.dtype.kind in "ifb" else value


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(np.array_equal(a, b, equal_nan=True))
    except TypeError:  # text has no nan
        return bool(np.array_equal(a, b))


def _shown(value: Any) -> str:
    text = str(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 40 else text[:37] + "..."
