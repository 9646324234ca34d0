"""Convert formulas to counts of atoms, and back.

    formula = part [· part]…     part = [number] (symbol | bracketed formula) [number]…

Hydrates are written with · or *. A plain dot between digits is a decimal point, so 'CuSO4.5H2O'
would mean SO4.5, and is refused.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from math import gcd, isfinite, lcm

import numpy as np

from kohn.errors import InputError, nearest
from kohn.structures.computed_entries import ISOTOPES, bare
from kohn.typing import Float

TOKEN = re.compile(r"([A-Z][a-z]?)|(\d+(?:\.\d+)?|\.\d+)|([([{])|([)\]}])|([·•*.])")
SIMPLE = re.compile(r"(?:[A-Z][a-z]?\d*)+")
PART = re.compile(r"([A-Z][a-z]?)(\d*)")
CLOSING = {"(": ")", "[": "]", "{": "}"}
DENOMINATOR = 1000
"""Fractional amounts with denominators up to this become whole numbers in reduced formulas."""
ELECTRONEGATIVITY = (
    "Fr Cs K Rb Ba Ra Na Sr Li Ca Ac La Tb Yb Ce Pm Pr Nd Sm Eu Gd Dy Y Ho Er Tm Lu Pu Am Bk Cf Cm "
    "Es Fm Hf Lr Md No Th Mg Zr Np Sc U Pa Ta Ti Mn Be Nb Al Tl V Zn Cr Cd In Ga Fe Co Cu Re Si Tc "
    "Ni Ag Sn Hg Po Ge Bi B Sb Te Mo As P At H Ir Os Pd Rn Ru Pt Rh Pb W Au C Se S Xe I Br Kr N Cl "
    "O F Ar He Ne"
)
"""Symbols by increasing electronegativity (Pauling), the order in formulas such as LiFePO4."""
RANK = {symbol: i for i, symbol in enumerate(ELECTRONEGATIVITY.split())}


@cache
def symbols() -> frozenset[str]:
    """Return the symbols of all chemical elements."""
    from ase.data import chemical_symbols

    return frozenset(chemical_symbols[1:])


def parse_formula(text: str, *, where: str | None = None) -> dict[str, float]:
    """Return symbol -> number of atoms, from 'Li4Fe4(PO4)4', 'Li0.5CoO2' or 'CuSO4·5H2O'.

    Deuterium and tritium (D and T) are read as hydrogen, whose energy is the same.

    Raises:
        InputError: an empty text, a symbol that is not an element, brackets that do not match, no
            atoms, any other text that is not a formula.
    """
    packed = "".join(str(text).split())
    if SIMPLE.fullmatch(packed) and (counts := _simple(packed)):
        return counts
    if re.search(r"\d\.\d+H2O", packed):
        raise _bad(text, where, "has a dot, a hydrate's or a decimal point", "write · for hydrates")
    stack: list[dict[str, float]] = [{}]
    factors, opened, at = [1.0], [""], 0
    while at < len(packed):
        token = TOKEN.match(packed, at)
        if token is None:
            guess = _nearest(packed[at : at + 2])
            raise _bad(text, where, f"cannot be read from {packed[at:]!r} on", guess)
        symbol, number, left, right, dot = token.groups()
        symbol = ISOTOPES.get(symbol, symbol)
        at = token.end()
        if left:
            stack.append({})
            factors.append(1.0)
            opened.append(left)
        elif symbol or right:
            if right and (len(stack) == 1 or CLOSING.get(opened[-1]) != right):
                raise _bad(text, where, "has brackets that do not match", "close each bracket")
            if symbol and symbol not in symbols():
                raise _bad(text, where, f"has {symbol!r}, which is no element", _nearest(symbol))
            group = {symbol: 1.0} if symbol else _close(stack, factors, opened)
            times = TOKEN.match(packed, at)
            if times and times[2]:
                at = times.end()
            _add(stack[-1], group, factors[-1] * (float(times[2]) if times and times[2] else 1.0))
        elif dot:
            factors[-1] = 1.0
        else:  # a number before the part that it multiplies
            before = packed[: token.start()]
            if before and before[-1] not in "·•*.([{":
                raise _bad(text, where, f"cannot be read from {packed[token.start() :]!r} on", None)
            factors[-1] = float(number)
    if len(stack) > 1:
        raise _bad(text, where, "has brackets that do not match", "close each bracket")
    return checked_counts(stack[0], text, where)


def _simple(packed: str) -> dict[str, float] | None:
    """Parse a formula without brackets and decimals, ten times faster; return None if it is bad."""
    counts: dict[str, float] = {}
    for symbol, number in PART.findall(packed):
        counts[symbol] = counts.get(symbol, 0.0) + (float(number) if number else 1.0)
    return counts if symbols().issuperset(counts) and all(counts.values()) else None


def _close(stack: list, factors: list, opened: list) -> dict[str, float]:
    factors.pop()
    opened.pop()
    return stack.pop()


def _add(total: dict[str, float], group: Mapping[str, float], times: float) -> None:
    for symbol, n in group.items():
        total[symbol] = total.get(symbol, 0.0) + n * times


def checked_counts(
    counts: Mapping[str, float], text: object, where: str | None = None
) -> dict[str, float]:
    """Return element -> number of atoms, without zeros; species such as 'Fe3+' become elements.

    Raises:
        InputError: an unknown element; a number of atoms that is negative or not finite; no atoms.
    """
    atoms: dict[str, float] = {}
    for key, value in counts.items():
        symbol = bare(key)
        if symbol not in symbols():
            raise _bad(text, where, f"has {symbol!r}, which is no element", _nearest(symbol))
        n = float(value)
        if not isfinite(n) or n < 0:
            raise _bad(text, where, f"has {n:g} atoms of {symbol}", "correct the number")
        if n > 0:
            atoms[symbol] = atoms.get(symbol, 0.0) + n
    if not atoms:
        raise _bad(text, where, "has no atoms", "remove this entry, or correct its formula")
    return atoms


def has_isotopes(given: str | Mapping[str, float]) -> bool:
    """Return whether a formula or mapping, which must be valid, has deuterium or tritium."""
    if isinstance(given, Mapping):
        return any(str(key)[:1] in ISOTOPES and bare(key) == "H" for key in given)
    return bool(ISOTOPES.keys() & set(re.findall(r"[A-Z][a-z]?", given)))


def _nearest(symbol: str) -> str | None:
    letters = re.sub(r"[^A-Za-z]", "", symbol)
    guess = nearest(letters, sorted(symbols())) if letters else None
    return f"did you mean {guess!r}?" if guess else None


def _bad(text: object, where: str | None, problem: str, fix: str | None) -> InputError:
    return InputError(
        f"the formula {problem}",
        where=where,
        expected="a formula such as 'Li4Fe4(PO4)4', 'Li0.5CoO2' or 'CuSO4·5H2O'",
        received=repr(text),
        fix=fix or "correct the formula",
    )


def _whole(amounts: list[float]) -> list[float]:
    """Return the smallest whole numbers in the ratio of the amounts; the amounts if none exist."""
    if all(n.is_integer() for n in amounts):
        divisor = gcd(*map(int, amounts))
        return [n / divisor for n in amounts]
    parts = [Fraction(n).limit_denominator(DENOMINATOR) for n in amounts]
    near = all(abs(float(p) - n) < 1e-6 for p, n in zip(parts, amounts, strict=True))
    if not near or not all(parts):
        return amounts
    whole = lcm(*(p.denominator for p in parts))
    return _whole([float(p * whole) for p in parts])


def reduced(elements: tuple[str, ...], counts: Float[np.ndarray, " D"]) -> tuple[str, float]:
    """Return the reduced formula of one entry and its number of atoms, such as ('LiFePO4', 7.0)."""
    row = counts.tolist()
    present = sorted(
        (i for i, n in enumerate(row) if n), key=lambda i: RANK.get(elements[i], len(RANK))
    )
    amounts = _whole([row[i] for i in present])
    named = zip((elements[i] for i in present), amounts, strict=True)
    return "".join(e if n == 1 else f"{e}{n:g}" for e, n in named), sum(amounts)
