"""The pages of the documentation that can be checked without building them."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

from kohn.errors import KohnError

DOCS = Path(__file__).parents[1] / "docs"
EQUATIONS = [
    row
    for section in yaml.safe_load((DOCS / "equations.yaml").read_text(encoding="utf-8"))
    for row in section["equations"]
]


def named(path: str):
    """What a dotted name means, and its module."""
    parts = path.split(".")
    for k in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        thing = module
        for part in parts[k:]:
            thing = getattr(thing, part)
        return thing, inspect.getmodule(thing)
    raise ModuleNotFoundError(path)


@pytest.mark.parametrize("row", EQUATIONS, ids=lambda row: row["name"])
def test_an_equation_stands_where_the_index_says(row):
    thing, module = named(row["code"])
    texts = [inspect.getdoc(thing) or "", inspect.getdoc(module) or ""]
    assert any(row["quote"] in text for text in texts)


def test_the_index_can_fail():
    thing, _ = named("kohn.stability.hull.LowerHull")
    assert "λ_1 ≥ … ≥ λ_size" not in (inspect.getdoc(thing) or "")
    with pytest.raises(AttributeError):
        named("kohn.stability.hull.NoSuchHull")


def test_errors_of_the_troubleshooting_page_are_raised_somewhere():
    """Each message in its table begins some error in the source."""
    source = "\n".join(
        p.read_text(encoding="utf-8") for p in (DOCS.parent / "src" / "kohn").rglob("*.py")
    )
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)…` \|", page, re.MULTILINE)
    assert len(messages) > 30
    assert issubclass(KohnError, Exception)
    for message in messages:
        assert message in source, message
