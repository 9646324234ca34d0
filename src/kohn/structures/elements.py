"""Provide data of the elements, so that other modules need not import ASE."""

import numpy as np

from kohn.errors import InputError, nearest


def symbol(number: int) -> str:
    """Return the chemical symbol of an atomic number."""
    from ase.data import chemical_symbols

    return chemical_symbols[int(number)]


def atomic_number(element: int | str) -> int:
    """Return the atomic number of an element, given as a symbol or as an atomic number.

    Raises:
        InputError: the element does not exist.
    """
    from ase.data import atomic_numbers, chemical_symbols

    text = str(element).strip()
    if text.isdigit() and 0 < int(text) < len(chemical_symbols):
        return int(text)
    if text.capitalize() in atomic_numbers and text.upper() != "X":
        return atomic_numbers[text.capitalize()]
    guess = nearest(text, chemical_symbols[1:])
    fix = f"did you mean {guess!r}?" if guess else "correct the symbol"
    if text.upper() in ("D", "T"):
        fix = f"{text} is an isotope of hydrogen: write H; energies do not depend on masses"
    if text.upper() == "X":
        fix = "X is a ghost or dummy atom: remove it, or write which element it is"
    raise InputError(
        "this is not a chemical element",
        expected="a symbol such as 'Si', or an atomic number",
        received=repr(element),
        fix=fix,
    )


def covalent_radii(numbers: np.ndarray) -> np.ndarray:
    """Return covalent radii of atoms, Å (Cordero et al., Dalton Trans. 2008, 2832)."""
    from ase.data import covalent_radii as radii

    return np.asarray(radii, dtype=np.float64)[numbers]


def formula(numbers: np.ndarray) -> str:
    """Return the formula of atoms, with symbols in alphabetical order: 'C2H6O'."""
    values, counts = np.unique(numbers, return_counts=True)
    parts = sorted((symbol(z), int(n)) for z, n in zip(values, counts, strict=True))
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in parts)
