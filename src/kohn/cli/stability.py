"""`kohn hull` and `kohn screen`: what is asked of them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from kohn.cli.common import Json, NotPeriodic, console, emit, stderr
from kohn.cli.options import assignments
from kohn.records import plain


def hull(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="ENTRIES...",
            help="pymatgen JSON (.gz), CSV (formula, energy), or structures with total energies",
        ),
    ],
    candidates: Annotated[
        list[Path] | None, typer.Option(help="entries to judge by the hull; repeatable")
    ] = None,
    refs: Annotated[
        Path | None, typer.Option(help="JSON or CSV of energies of elements, eV/atom")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="table to write: .csv or .parquet")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="HTML file for the picture")] = None,
    open_: Annotated[
        list[str] | None,
        typer.Option("--open", help="ELEMENT=μ in eV/atom: exchanged with a reservoir; repeatable"),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="of the reservoir, K; noted")] = None,
    pressure: Annotated[float | None, typer.Option(help="of the reservoir, bar; noted")] = None,
    formation: Annotated[
        bool, typer.Option("--formation", help="energies are formation energies, eV/atom")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="stable within so many eV/atom")] = 1e-8,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="energies computed in different ways; it is said")
    ] = False,
    json: Json = False,
) -> None:
    """Say which compounds are stable, how far the others are from it, and what they fall into."""
    from kohn.cli.hulls import check_output, hull_table, picture, reservoirs, say, write_hull
    from kohn.stability import documents

    if out is not None:
        check_output(out)
    chosen = assignments(
        open_ or (),
        "--open",
        "ELEMENT=μ, as O=-5.2",
        twice="an element is open twice",
        nothing="an open element needs a chemical potential",
    )
    document = documents.hull(
        files,
        candidates or (),
        references=refs,
        formation=formation,
        allow_mixed=allow_mixed,
        tolerance=tolerance,
        reservoirs=reservoirs(chosen),
        temperature=temperature,
        pressure=pressure,
    )
    say(document, stderr)
    if out is not None:
        write_hull(document, out)
        _wrote(out)
    if plot is not None:
        from kohn.reports.hull import hull_page

        _wrote(hull_page(picture(document), plot))
    if json:
        emit(document)
    else:
        shown = console()
        shown.print(hull_table(document, shown.width))


def screen(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL...] CANDIDATES...",
            help="a potential, or several of an ensemble, and structures; or tables (CSV, Parquet) "
            "with energies",
        ),
    ],
    hull: Annotated[
        list[Path], typer.Option(help="entries, of any number of chemical systems; repeatable")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="table to write: .csv or .parquet")],
    refs: Annotated[
        Path | None, typer.Option(help="JSON or CSV of energies of elements, eV/atom")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="HTML file for the pictures")] = None,
    relax: Annotated[
        bool, typer.Option("--relax", help="relax atoms, and cells of crystals, with the model")
    ] = False,
    fmax: Annotated[float, typer.Option(help="until forces are below, eV/Å")] = 0.05,
    relax_steps: Annotated[int, typer.Option(min=1, help="of a relaxation, at most")] = 500,
    fixed_cell: Annotated[bool, typer.Option("--fixed-cell", help="relax atoms alone")] = False,
    scale: Annotated[
        float, typer.Option(min=0, help="factor on the σ that models or tables tell")
    ] = 1.0,
    error: Annotated[
        float, typer.Option(min=0, help="σ to add to that of every candidate, eV/atom")
    ] = 0.0,
    hull_error: Annotated[
        float, typer.Option(min=0, help="σ of each entry of the hull, eV/atom: joint samples")
    ] = 0.0,
    prior: Annotated[
        bool,
        typer.Option(
            "--prior", help="P(stable) knows how often the hull's own compounds were stable"
        ),
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="where the hull is uncertain")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="of the samples")] = 0,
    by: Annotated[
        str | None, typer.Option(help="rank by probability (where there is one) or distance")
    ] = None,
    formation: Annotated[
        bool, typer.Option("--formation", help="energies are formation energies, eV/atom")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="stable within so many eV/atom")] = 1e-8,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="energies computed in different ways; it is said")
    ] = False,
    not_periodic: NotPeriodic = False,
    json: Json = False,
) -> None:
    """Rank candidates by their distance to the hull, and by the probability to lie on it.

    Uncertainty comes from the spread of several models, from a gaussian-process, from the columns
    energy_std or energy_std_per_atom of a table, and from --error. Without any, candidates are
    ranked by distance. What was stopped goes on when the command is repeated.
    """
    from kohn.cli.screening import document, run_screen, say, show
    from kohn.discovery.candidate_energies import Relaxation
    from kohn.discovery.options import Options

    cell = False if fixed_cell else None
    options = Options(
        formation=formation,
        allow_mixed=allow_mixed,
        tolerance=tolerance,
        scale=scale,
        error=error,
        hull_error=hull_error,
        prior=prior,
        samples=samples,
        seed=seed,
        by=by,  # type: ignore[arg-type]
        relaxation=Relaxation(fmax, relax_steps, cell) if relax else None,
        periodic=False if not_periodic else None,
    )
    found = run_screen(paths, hull, out, refs, options, stderr)
    say(found, stderr)
    if plot is not None:
        from kohn.reports.screening import screening_page

        _wrote(screening_page(found.file, plain(document(found)), plot))
    if json:
        emit(document(found))
    else:
        show(found, console())


def _wrote(file: Path) -> None:
    """Say where something was written, on a line that can be copied."""
    stderr.print(Text(f"wrote {file}"), soft_wrap=True)
