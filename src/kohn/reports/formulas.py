"""Write chemical formulas in HTML, with the numbers of atoms as subscripts."""

import re
from html import escape

from markupsafe import Markup

AMOUNT = re.compile(r"(?<=[A-Za-z)\]}])(\d+(?:\.\d+)?)")
"""Pattern of a number after a symbol or a bracket; not the 5 of ·5H2O."""
PART = re.compile(r"((?:^|\+ )[\d.]+ )(\S+)")
"""Pattern of a share and a formula in a decomposition."""


def subscripts(formula: str) -> Markup:
    """Return a formula as HTML with subscripts, Li₂O, which labels of Plotly accept too."""
    return Markup(AMOUNT.sub(r"<sub>\1</sub>", escape(formula)))


def decomposition(text: str) -> Markup:
    """Return '0.25 Li2O (mp-1960) + 0.75 FeO (mp-2)' as HTML with subscripts in formulas."""
    pieces, end = [], 0
    for part in PART.finditer(text):
        pieces += [escape(text[end : part.start()] + part[1]), subscripts(part[2])]
        end = part.end()
    return Markup("".join([*pieces, escape(text[end:])]))
