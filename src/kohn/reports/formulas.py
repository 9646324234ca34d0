"""Formulas as chemists write them: the numbers of atoms below the line."""

import re
from html import escape

from markupsafe import Markup

AMOUNT = re.compile(r"(?<=[A-Za-z)\]}])(\d+(?:\.\d+)?)")
"""What follows a symbol or a bracket; not the 5 of ·5H2O."""
PART = re.compile(r"((?:^|\+ )[\d.]+ )(\S+)")
"""A share and a formula, in what something falls into."""


def subscripts(formula: str) -> Markup:
    """A formula as HTML: Li₂O. Plotly's labels take it too."""
    return Markup(AMOUNT.sub(r"<sub>\1</sub>", escape(formula)))


def decomposition(text: str) -> Markup:
    """'0.25 Li2O (mp-1960) + 0.75 FeO (mp-2)' as HTML, formulas with subscripts."""
    found, end = [], 0
    for part in PART.finditer(text):
        found += [escape(text[end : part.start()] + part[1]), subscripts(part[2])]
        end = part.end()
    return Markup("".join([*found, escape(text[end:])]))
