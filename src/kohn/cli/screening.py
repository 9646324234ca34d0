"""Run `kohn screen`: refuse models among candidates, show progress, and print the result."""

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kohn.cli.compounds import Compound, compound_table
from kohn.cli.progress import progress_bars
from kohn.discovery.options import Options
from kohn.discovery.ranking import Screening
from kohn.discovery.screening import screen
from kohn.errors import ConfigError
from kohn.typing import Document

SHOWN = 25
"""Largest number of rows of the table in the terminal."""
ENTRY_ID = re.compile(r" \(.*?\)(?= \+ \d|$)")
"""Pattern of the entry ids in a decomposition, which the terminal does not show."""


def run_screen(
    candidates: Sequence[Path],
    models: Sequence[Path],
    hull: Sequence[Path],
    out: Path,
    reference_energies: Path | None,
    options: Options,
    console: Console,
) -> Screening:
    """Run `kohn.discovery.screen`, and show its progress.

    Args:
        candidates, models, hull, out, reference_energies, options: as in `kohn.discovery.screen`.

    Raises:
        ConfigError: a model is among the candidates.
        InputError, ModelFileError: see `kohn.discovery.screen`.
    """
    for path in candidates:
        if path.suffix == ".safetensors" or (path / "model.safetensors").is_file():
            raise ConfigError(
                "a model is among the candidates",
                expected="kohn screen CANDIDATES... --model MODEL --hull ENTRIES -o ranked.csv",
                received=str(path),
                fix=f"name it as --model {path}",
            )
    if Path(f"{out}.work").is_dir() and not out.exists():
        console.print(Text(f"going on with {out}.work"), soft_wrap=True)
    with progress_bars(console) as progress:
        return screen(
            candidates,
            hull,
            out,
            models=models,
            reference_energies=reference_energies,
            options=options,
            progress=progress,
        )


def print_table(screening: Screening, console: Console) -> None:
    """Print the number of stable candidates, and the first rows of the ranked table."""
    title = f"{screening.stable:,} of {screening.candidates:,} candidates on the hull or below it"
    if screening.expected_stable is not None:
        title += f"; {screening.expected_stable:,.1f} expected to be stable"
    with_sigma = screening.expected_stable is not None
    heads = ("from hull\neV/atom", *(("± σ\neV/atom", "P(stable)") if with_sigma else ()))
    rows = []
    for row in screening.head[:SHOWN]:
        numbers = [number(row["distance"], 4)]
        numbers += [number(row[n], 3) for n in ("distance_std", "probability_stable") if with_sigma]
        parts = ENTRY_ID.sub("", row["decomposition"] or "").split(" + ")
        rows.append(
            Compound(row["formula"], row["id"], numbers, parts, row["stable"], str(row["rank"]))
        )
    console.print(compound_table(title, heads, rows, console.width, falls_into="would fall into"))


def number(value: float | None, digits: int) -> str:
    """Return a number with `digits` decimals as text, or a dash for None and NaN."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def print_summary(screening: Screening, console: Console) -> None:
    """Print remarks, errors against labels if candidates have labels, and paths of the results."""
    for remark in screening.remarks:
        console.print(Text(f"note: {remark}"))
    if screening.metrics is not None:
        m = screening.metrics
        text = (
            f"by {m['compared']:,} labels: MAE {1e3 * m['mae']:.0f} meV/atom, "
            f"precision {number(m['precision'], 2)}, recall {number(m['recall'], 2)}, "
            f"F1 {number(m['f1'], 2)}, DAF {number(m['daf'], 2)}"
        )
        if m["true_positives"] + m["false_positives"] == 0:
            text += " (no candidate with a label is predicted to be stable)"
        if "calibration" in m:
            c, z2 = m["calibration"], m["mean_z2"]
            text += (
                f"; P(stable): Brier {c['brier']:.3f}, calibration error {c['expected_error']:.3f}"
            )
            if z2 is not None:
                text += f"; mean (error/σ)² {z2:.2f}, so --scale {z2**0.5:.2g} would suit σ"
        console.print(Text(text))
    console.print(Text(f"table       {screening.file}"), soft_wrap=True)
    if screening.structures is not None:
        console.print(Text(f"structures  {screening.structures}"), soft_wrap=True)


def document(screening: Screening) -> Document:
    """Return the document that `kohn screen --json` prints."""
    return dict(vars(screening))
