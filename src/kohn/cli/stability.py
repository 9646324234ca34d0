"""Define the commands `kohn hull` and `kohn screen` with their options."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from kohn.cli.common import Json, NotPeriodic, console, emit, stderr
from kohn.cli.options import assignments
from kohn.records import plain

ReferenceEnergies = Annotated[
    Path | None, typer.Option(help="JSON or CSV file of energies of the elements, eV/atom")
]
Formation = Annotated[
    bool, typer.Option("--formation", help="read energies as formation energies, eV/atom")
]
Tolerance = Annotated[
    float, typer.Option(min=0, help="largest distance that counts as stable, eV/atom")
]
AllowMixed = Annotated[
    bool, typer.Option("--allow-mixed", help="use energies of different methods, with a remark")
]


def hull(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="ENTRIES...",
            help="pymatgen JSON (.gz), CSV (formula, energy), or structures with total energies",
        ),
    ],
    candidates: Annotated[
        list[Path] | None, typer.Option(help="entries to compare with the hull; repeatable")
    ] = None,
    reference_energies: ReferenceEnergies = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="table to write: .csv or .parquet")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="HTML file for the picture")] = None,
    open_: Annotated[
        list[str] | None,
        typer.Option("--open", help="element open to a reservoir: ELEMENT=μ, eV/atom; repeatable"),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="temperature of the reservoir, K; only recorded")
    ] = None,
    pressure: Annotated[
        float | None, typer.Option(help="pressure of the reservoir, bar; only recorded")
    ] = None,
    formation: Formation = False,
    tolerance: Tolerance = 1e-8,
    allow_mixed: AllowMixed = False,
    json: Json = False,
) -> None:
    """Show the stable compounds; of other compounds, distances to the hull and decompositions."""
    from kohn.cli.hulls import (
        check_output,
        hull_table,
        page_document,
        print_remarks,
        reservoirs,
        write_hull,
    )
    from kohn.stability import documents

    if out is not None:
        check_output(out)
    chosen = assignments(
        open_ or (),
        "--open",
        "ELEMENT=μ, e.g. O=-5.2",
        twice="an element is open twice",
        nothing="an open element needs a chemical potential",
    )
    document = documents.hull(
        files,
        candidates or (),
        reference_energies=reference_energies,
        formation=formation,
        allow_mixed=allow_mixed,
        tolerance=tolerance,
        reservoirs=reservoirs(chosen),
        temperature=temperature,
        pressure=pressure,
    )
    print_remarks(document, stderr)
    if out is not None:
        write_hull(document, out)
        _wrote(out)
    if plot is not None:
        from kohn.reports.hull import hull_page

        _wrote(hull_page(page_document(document), plot))
    if json:
        emit(document)
    else:
        terminal = console()
        terminal.print(hull_table(document, terminal.width))


def screen(
    candidates: Annotated[
        list[Path],
        typer.Argument(
            metavar="CANDIDATES...",
            help="files of structures; or tables (CSV, Parquet) with energies, without a model",
        ),
    ],
    hull: Annotated[
        list[Path], typer.Option(help="hull entries of any number of chemical systems; repeatable")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="table to write: .csv or .parquet")],
    model: Annotated[
        list[Path] | None,
        typer.Option(help="potential that predicts energies; several are an ensemble; repeatable"),
    ] = None,
    reference_energies: ReferenceEnergies = None,
    plot: Annotated[Path | None, typer.Option(help="HTML file for the pictures")] = None,
    relax: Annotated[
        bool, typer.Option("--relax", help="relax atoms, and cells of crystals, with the model")
    ] = False,
    fmax: Annotated[float, typer.Option(help="relax until all forces are below this, eV/Å")] = 0.05,
    relax_steps: Annotated[int, typer.Option(min=1, help="maximum steps of a relaxation")] = 500,
    fixed_cell: Annotated[bool, typer.Option("--fixed-cell", help="relax atoms only")] = False,
    scale: Annotated[float, typer.Option(min=0, help="factor for the σ of models or tables")] = 1.0,
    error: Annotated[
        float, typer.Option(min=0, help="further σ of each candidate, added in quadrature, eV/atom")
    ] = 0.0,
    hull_error: Annotated[
        float, typer.Option(min=0, help="σ of each entry of the hull, eV/atom; uses joint samples")
    ] = 0.0,
    prior: Annotated[
        bool, typer.Option("--prior", help="take the prior of P(stable) from the hull's compounds")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="samples of an uncertain hull")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="seed of the samples")] = 0,
    by: Annotated[
        str | None, typer.Option(help="rank by probability (default if it is known) or distance")
    ] = None,
    formation: Formation = False,
    tolerance: Tolerance = 1e-8,
    allow_mixed: AllowMixed = False,
    not_periodic: NotPeriodic = False,
    json: Json = False,
) -> None:
    """Rank candidates by their distance to the hull and by the probability that they are stable.

    Uncertainty comes from the spread of several models, from a gaussian-process, from the columns
    energy_std or energy_std_per_atom of a table, and from --error. Without uncertainty, candidates
    are ranked by distance. A screening that was stopped continues when the command is repeated.
    """
    from kohn.cli.screening import document, print_summary, print_table, run_screen
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
    result = run_screen(candidates, model or (), hull, out, reference_energies, options, stderr)
    print_summary(result, stderr)
    if plot is not None:
        from kohn.reports.screening import screening_page

        _wrote(screening_page(result.file, plain(document(result)), plot))
    if json:
        emit(document(result))
    else:
        print_table(result, console())


def _wrote(file: Path) -> None:
    """Print the path of a file that was written, on one line that can be copied."""
    stderr.print(Text(f"wrote {file}"), soft_wrap=True)
