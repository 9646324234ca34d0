"""Convert units. Kohn works in eV, Å, eV/Å, eV/Å³, e·Å, Å³, fs and amu, as ASE does.

Conversion factors are CODATA 2014 as in ``ase.units`` (checked in the tests), so that numbers
converted here and numbers converted with ASE agree to the last bit that matters.
"""

import re

HARTREE = 27.211386024367243
"""One hartree in eV."""
BOHR = 0.5291772105638411
"""One bohr in Å."""
KCAL_PER_MOL = 0.04336410390059322
"""One kcal/mol in eV."""
KJ_PER_MOL = 0.010364269574711572
"""One kJ/mol in eV."""
GPA = 0.006241509125883258
"""One GPa in eV/Å³."""
RYDBERG = 0.5 * HARTREE
"""One rydberg in eV."""
KBAR = 0.1 * GPA
"""One kbar in eV/Å³."""
DEBYE = 0.20819433442462576
"""One debye in e·Å."""
FEMTOSECOND = 0.09822694788464063
"""One fs in ASE's unit of time, Å·sqrt(amu/eV)."""

UNIT_NAMES: dict[str, float] = {
    **dict.fromkeys(("eV", "ev", "electronvolt"), 1.0),
    **dict.fromkeys(("meV", "mev"), 1e-3),
    **dict.fromkeys(("Hartree", "hartree", "Ha", "Eh", "E_h"), HARTREE),
    **dict.fromkeys(("Rydberg", "rydberg", "Ry"), RYDBERG),
    **dict.fromkeys(("kcal/mol", "kcal_per_mol"), KCAL_PER_MOL),
    **dict.fromkeys(("kJ/mol", "kJ_per_mol"), KJ_PER_MOL),
    **dict.fromkeys(("Angstrom", "angstrom", "Ang", "ang", "Å", "A"), 1.0),
    **dict.fromkeys(("Bohr", "bohr", "a0"), BOHR),
    **dict.fromkeys(("nm", "nanometer"), 10.0),
    **dict.fromkeys(("GPa", "gpa"), GPA),
    **dict.fromkeys(("kbar", "kB"), KBAR),
    **dict.fromkeys(("Debye", "debye"), DEBYE),
    "e": 1.0,
}
"""Name of a unit in files -> its value in Kohn's units."""
ATOMIC_UNITS = ("a.u.", "au", "AU")
"""Ambiguous names: each may mean hartree, bohr, or a quotient of powers of both."""
_TERM = r"(?P<name>[A-Za-zÅ_]+0?)\^?(?P<power>[0-9]?)"


def factor(unit: str) -> float | None:
    """Return the value of a unit in Kohn's units; None if a name in it is unknown.

    Args:
        unit: product or quotient of powers of `UNIT_NAMES`, read from left to right, such as
            'Hartree/Bohr', 'kcal/mol/Ang', 'eV/Ang^3', 'e*Bohr'; '1' or '' for no unit.
    """
    text = unit.strip().replace("**", "^").replace("³", "3")
    if text in ("", "1"):
        return 1.0
    for name in ("kcal", "kJ"):
        text = text.replace(f"{name}/mol", f"{name}_per_mol")
    terms = re.split(r"\s*([*/ ])\s*", text)
    value = 1.0
    for operator, term in zip(["*", *terms[1::2]], terms[::2], strict=True):
        match = re.fullmatch(_TERM, term)
        if match is None or match["name"] not in UNIT_NAMES:
            return None
        power = int(match["power"] or 1)
        value *= UNIT_NAMES[match["name"]] ** (-power if operator == "/" else power)
    return value
