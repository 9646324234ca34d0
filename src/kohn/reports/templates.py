"""Make HTML pages from templates, with the style sheet, and with figures as JSON."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from kohn.records import plain, write_atomically
from kohn.reports.figures import Figure
from kohn.reports.formulas import decomposition, subscripts
from kohn.typing import Document
from kohn.version import __version__


def script_json(figures: Sequence[Figure]) -> str:
    """Return the figures as JSON for a <script>, in which no character opens a tag."""
    documents: Document = {f.key: {"data": f.data, "layout": f.layout} for f in figures}
    text = json.dumps(plain(documents), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def plotly_script() -> str:
    """Return all of plotly.js, without closing tags, which would end the script around it."""
    return get_plotlyjs().replace("</script", "<\\/script")


def asset(name: str) -> str:
    """Return the text of a file in the folder of this module, e.g. the style sheet."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def write_page(template: str, out: str | Path, name: str, **fields: Any) -> Path:
    """Fill a template and write the page; the same fields give the same bytes.

    Args:
        out: file to write, or a folder to write `name` in.

    Returns:
        The path of the page.

    Raises:
        TrainingError: the page cannot be written.
    """
    target = Path(out) / name if Path(out).is_dir() else Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, filled(template, **fields).encode())
    return target


def filled(template: str, **fields: Any) -> str:
    """Fill the fields into a template, and return the HTML page as text."""
    common = {"css": asset("page.css"), "drawn_by": f"Kohn {__version__}"}
    return jinja_environment().get_template(template).render(**common, **fields)


@cache
def jinja_environment() -> Environment:
    """Return the jinja2 environment that loads the templates and fills them."""
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters |= {"subscripts": subscripts, "decomposition": decomposition}
    return jinja
