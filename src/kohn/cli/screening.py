"""`kohn screen`: which are models, which are candidates; progress; what came of it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import TaskID
from rich.table import Table

from kohn.cli.running import _progress
from kohn.discovery.options import Monitor, Options
from kohn.discovery.ranking import Screening
from kohn.discovery.screening import screen
from kohn.errors import ConfigError

SHOWN = 25
"""Rows of the table in the terminal."""
OF_ENTRY = re.compile(r" \([^ ]*\)(?= \+ |$)")
"""The ids in a decomposition, which the file has."""


def run_screen(
    paths: Sequence[Path],
    hull: Sequence[Path],
    out: Path,
    references: Path | None,
    options: Options,
    console: Console,
) -> Screening:
    """Screen with progress.

    Args:
        paths: models, if any, and then candidates.
        hull, out, references, options: as of `kohn.discovery.screen`.

    Raises:
        ConfigError: no candidates; a model after them.
        InputError, ModelFileError: see `kohn.discovery.screen`.
    """
    models, candidates = split(paths)
    if Path(f"{out}.work").is_dir() and not out.exists():
        console.print(f"going on with {out}.work", markup=False)
    with monitored(console) as monitor:
        return screen(
            candidates,
            hull,
            out,
            models=models,
            references=references,
            options=options,
            monitor=monitor,
        )


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Models, and what comes after them. Raises ConfigError."""
    is_model = [p.suffix == ".safetensors" or (p / "model.safetensors").is_file() for p in paths]
    first = is_model.index(False) if False in is_model else len(paths)
    if first == len(paths) or any(is_model[first:]):
        raise ConfigError(
            "models come first, and then candidates",
            expected="kohn screen [MODEL...] CANDIDATES... --hull ENTRIES -o ranked.csv",
            received=" ".join(map(str, paths)),
            fix="name a file of candidates" if first == len(paths) else "put all models first",
        )
    return list(paths[:first]), list(paths[first:])


@contextmanager
def monitored(console: Console) -> Iterator[Monitor]:
    """A bar for each kind of work."""
    with _progress(console) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.advance(tasks[what], done)

        yield tell


def show(found: Screening, console: Console) -> None:
    """The first rows, and what users should know."""
    counted = f"{found.stable:,} of {found.candidates:,} candidates on the hull or below it"
    if found.expected_stable is not None:
        counted += f"; {found.expected_stable:,.1f} expected to be stable"
    table = Table(title=counted, title_justify="left", title_style="bold", box=None, pad_edge=False)
    probable = found.expected_stable is not None
    table.add_column("rank", justify="right", header_style="dim")
    table.add_column("formula", no_wrap=True)
    table.add_column("id", no_wrap=True, header_style="dim")
    for name in ("from hull, eV/atom", *(["±", "P(stable)"] if probable else [])):
        table.add_column(name, justify="right", no_wrap=True, header_style="dim")
    table.add_column("would fall into", overflow="fold", header_style="dim")
    for row in found.head[:SHOWN]:
        sure = [number(row[n], 3) for n in ("distance_std", "probability_stable") if probable]
        table.add_row(
            str(row["rank"]),
            escape(row["formula"]),
            escape(row["id"]),
            number(row["distance"], 4),
            *sure,
            escape(OF_ENTRY.sub("", row["decomposition"] or "")),
            style="green" if row["stable"] else None,
        )
    console.print(table)


def number(value: float | None, digits: int) -> str:
    """A number; a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def say(found: Screening, console: Console) -> None:
    """Remarks, errors where the truth is known, and where the files are."""
    for remark in found.remarks:
        console.print(f"note: {remark}", markup=False)
    if found.metrics is not None:
        m = found.metrics
        text = (
            f"by {m['compared']:,} labels: MAE {1e3 * m['mae']:.0f} meV/atom, precision "
            f"{m['precision']:.2f}, recall {m['recall']:.2f}, F1 {m['f1']:.2f}, "
            f"DAF {m['daf']:.2f}"
        )
        if "calibration" in m:
            c, z2 = m["calibration"], m["mean_z2"]
            text += (
                f"; P(stable): Brier {c['brier']:.3f}, calibration error {c['expected_error']:.3f}"
            )
            if z2 is not None:
                text += f"; mean (error/σ)² {z2:.2f}, so --scale {z2**0.5:.2g} would suit σ"
        console.print(text, markup=False)
    console.print(f"table       {found.file}", markup=False)
    if found.structures is not None:
        console.print(f"structures  {found.structures}", markup=False)


def document(found: Screening) -> dict[str, Any]:
    """What `--json` prints."""
    return dict(vars(found))
