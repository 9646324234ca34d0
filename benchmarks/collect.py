"""Puts the tables of benchmarks/results into the pages: `python -m benchmarks.collect`.

The pages are benchmarks/README.md and CONTRIBUTING.md. In them a table and the command above it
stand between two comments:

    <!-- NAME -->
    `python -m benchmarks.NAME …`

    the table
    <!-- end of NAME -->

They are replaced by results/NAME.md and the command that results/NAME.json tells. A table whose
result is not there, a command that is not told, and all text outside of the comments stay as they
are.
"""

import json
import re
from pathlib import Path

from benchmarks.common import HERE, ROOT, write_text

PAGES = (HERE / "README.md", ROOT / "CONTRIBUTING.md")

BLOCK = re.compile(r"<!-- (\w+) -->\n(`[^\n]*`)\n\n(.*?)\n<!-- end of \1 -->", re.DOTALL)


def collected(page: str, results: Path) -> str:
    """A page with the tables of a folder of results."""
    tables = {path.stem: path.read_text().strip() for path in sorted(results.glob("*.md"))}

    def renewed(found: re.Match) -> str:
        name, before, table = found.groups()
        record = results / f"{name}.json"
        told = json.loads(record.read_text()).get("command") if record.exists() else None
        line = f"`{told}`" if told else before
        return f"<!-- {name} -->\n{line}\n\n{tables.get(name, table)}\n<!-- end of {name} -->"

    return BLOCK.sub(renewed, page)


def check_places(pages: list[str], results: Path) -> None:
    """See that every result is shown.

    Raises:
        SystemExit: a table has no place in any page.
    """
    places = {found[1] for page in pages for found in BLOCK.finditer(page)}
    if homeless := sorted({path.stem for path in results.glob("*.md")} - places):
        raise SystemExit(
            f"no place for {', '.join(homeless)}: a page needs <!-- {homeless[0]} -->, the "
            f"command in backticks, an empty line, anything, and <!-- end of {homeless[0]} -->"
        )


def main() -> None:
    """Renew the pages."""
    texts = [path.read_text() for path in PAGES]
    check_places(texts, HERE / "results")
    for path, text in zip(PAGES, texts, strict=True):
        write_text(path, collected(text, HERE / "results"))


if __name__ == "__main__":
    main()
