"""Puts the tables of benchmarks/results into benchmarks/README.md: `python -m benchmarks.collect`.

In the README a table and the command above it stand between two comments:

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

from benchmarks.common import HERE, write_text

BLOCK = re.compile(r"<!-- (\w+) -->\n(`[^\n]*`)\n\n(.*?)\n<!-- end of \1 -->", re.DOTALL)


def collected(readme: str, results: Path) -> str:
    """The README with the tables of a folder of results.

    Raises:
        SystemExit: a table has no place in the README.
    """
    tables = {path.stem: path.read_text().strip() for path in sorted(results.glob("*.md"))}
    if homeless := sorted(set(tables) - {found[1] for found in BLOCK.finditer(readme)}):
        raise SystemExit(
            f"no place for {', '.join(homeless)}: README.md needs <!-- {homeless[0]} -->, the "
            f"command in backticks, an empty line, anything, and <!-- end of {homeless[0]} -->"
        )

    def renewed(found: re.Match) -> str:
        name, before, table = found.groups()
        record = results / f"{name}.json"
        told = json.loads(record.read_text()).get("command") if record.exists() else None
        line = f"`{told}`" if told else before
        return f"<!-- {name} -->\n{line}\n\n{tables.get(name, table)}\n<!-- end of {name} -->"

    return BLOCK.sub(renewed, readme)


def main() -> None:
    """Renew the README."""
    readme = HERE / "README.md"
    write_text(readme, collected(readme.read_text(), HERE / "results"))


if __name__ == "__main__":
    main()
