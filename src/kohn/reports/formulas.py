"""Write formulas as chemists do, with the numbers of atoms below the line."""

import re
from html import escape

from markupsafe import Markup

AMOUNT = re.compile(r"(?<=[A-Za-z)\]}])(\d+(?:\.\d+)?)")
"""A number after a symbol or a bracket; not the 5 of ·5H2O."""
PART = re.compile(r"((?:^|\+ )[\d.]+ )(\S+)")
"""A share and a formula in a decomposition."""


def subscripts(formula: str) -> Markup:
    """Return a formula as HTML: Li₂O. Labels of Plotly accept it too."""
    return Markup(AMOUNT.sub(r"<sub>\1</sub>", escape(formula)))


def decomposition(text: str) -> Markup:
    """Return '0.25 Li2O (mp-1960) + 0.75 FeO (mp-2)' as HTML, formulas with subscripts."""
    pieces, end = [], 0
    for part in PART.finditer(text):
        pieces += [escape(text[end : part.start()] + part[1]), subscripts(part[2])]
        end = part.end()
    return Markup("".join([*pieces, escape(text[end:])]))
