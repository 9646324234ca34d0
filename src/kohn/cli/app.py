"""Define `kohn check`, `template`, `train`, `audit`, `eval`, `predict`, `describe`, `similarity`,
`hull`, `screen`, `report` and `demo`.

Progress and messages go to stderr. With `--json` one document goes to stdout. Exit code 0:
done; 1: a check or an audit failed; 2: bad input or usage; 130: stopped by Ctrl-C.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.text import Text
from typer.exceptions import TyperException

from kohn.cli import stability
from kohn.cli.common import (
    Files,
    Json,
    Keys,
    NotPeriodic,
    Settings,
    app,
    check_new_file,
    console,
    emit,
    parse_keys,
    stderr,
)
from kohn.errors import ConfigError, InputError, KohnError, nearest
from kohn.typing import Document

STOPPED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as in shells."""


@app.command(epilog="Example: `kohn check train.extxyz --test test.extxyz`")
def check(
    files: Files,
    test: Annotated[
        list[Path] | None, typer.Option(help="test files, which must not repeat the other files")
    ] = None,
    key: Keys = None,
    not_periodic: NotPeriodic = False,
    allow: Annotated[
        list[str] | None, typer.Option(help="kind of finding to accept; repeatable")
    ] = None,
    json: Json = False,
) -> None:
    """Report what files of labelled structures contain, and which data cannot be trusted."""
    import kohn

    sets = {"train": [str(f) for f in files]}
    if test:
        sets["test"] = [str(f) for f in test]
    report = kohn.check(
        sets,
        keys=parse_keys(key) or None,
        allow=allow or (),
        periodic=False if not_periodic else None,
    )
    if json:
        emit(report.to_json())
    else:
        console().print(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command(epilog="Example: `kohn template train > train.yaml`")
def template(
    what: Annotated[str, typer.Argument(help="command to configure: train")] = "train",
    model: Annotated[
        str,
        typer.Option(
            help="model family: schnet, dimenet, nequip, mace, nequip-direct, mace-direct or "
            "gaussian-process"
        ),
    ] = "mace",
) -> None:
    """Print a commented configuration file with every setting and its default."""
    from kohn.training import template as text

    if what != "train":
        guess = nearest(what, ["train"])
        raise ConfigError(
            f"no template for {what!r}",
            expected="train",
            fix=f"did you mean {guess!r}?" if guess else None,
        )
    sys.stdout.write(text(model))


@app.command(epilog="Examples: `kohn train train.yaml` · `kohn train DATA.extxyz --out runs/first`")
def train(
    source: Annotated[
        list[Path], typer.Argument(help="a YAML configuration, or files of labelled structures")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="folder of the run; default runs/NAME, named after the first file"
        ),
    ] = None,
    test: Annotated[list[Path] | None, typer.Option(help="files to evaluate on at the end")] = None,
    key: Keys = None,
    not_periodic: NotPeriodic = False,
    allow: Annotated[
        list[str] | None, typer.Option(help="kind of finding to accept; repeatable")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="property to learn instead of energies: dipole, polarizability, or a key of "
            "numbers in the files; repeatable"
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="number of training steps")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="seed of weights, split, order")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="number of CPU cores")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue a stopped run")] = False,
    json: Json = False,
) -> None:
    """Train a potential, or with --target a model of properties, and write the run to a folder."""
    from kohn.cli.training import run_training

    folder = out or _folder_for(source)
    overrides: Document = {
        **({"targets": list(target)} if target else {}),
        "data": {
            name: value
            for name, value in (
                ("test", [str(t) for t in test or ()]),
                ("keys", parse_keys(key)),
                ("allow", allow),
                ("periodic", False if not_periodic else None),
            )
            if value or value is False
        },
        "run": {
            name: value
            for name, value in (("steps", steps), ("seed", seed), ("threads", threads))
            if value is not None
        },
    }
    document = run_training(
        source[0] if len(source) == 1 else source, folder, resume, overrides, stderr
    )
    if json:
        emit(document)


def _folder_for(source: list[Path]) -> Path:
    """Return runs/NAME, the default folder of a run: the name of the first file without suffix."""
    return Path("runs") / source[0].stem


@app.command("audit", epilog="Example: `kohn audit --calculator ase.calculators.emt:EMT cu.xyz`")
def audit_laws(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL] FILE...",
            help="model file, run folder, or module:Class of an ASE calculator; then structures",
        ),
    ],
    calculator: Annotated[
        str | None, typer.Option(help="module:Class of an ASE calculator, instead of MODEL")
    ] = None,
    calculator_args: Annotated[
        str | None, typer.Option(help="arguments of the calculator, as a JSON object")
    ] = None,
    laws: Annotated[str | None, typer.Option(help="laws, separated by commas; default all")] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="threshold of a law: law=value in its unit; repeatable")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="number of structures, evenly spaced")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="seed of directions and velocities")] = 0,
    temperature: Annotated[float, typer.Option(help="temperature of dynamics, K")] = 300.0,
    dtype: Annotated[str, typer.Option(help="precision of MODEL: float64 or float32")] = "float64",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="folder for records and a page; continues an audit in it"),
    ] = None,
    json: Json = False,
) -> None:
    """Measure how far a model, or any ASE calculator, breaks the laws of physics.

    Print the largest violation, threshold and verdict of each law. Exit code 1 if a law fails.
    """
    from kohn.cli.auditing import run_audit
    from kohn.reports.audit import audit_table

    document = run_audit(
        paths,
        calculator,
        calculator_args,
        laws=laws,
        thresholds=threshold or (),
        frames=frames,
        seed=seed,
        temperature=temperature,
        dtype=dtype,
        out=out,
        console=stderr,
    )
    if json:
        emit(document)
    else:
        console().print(audit_table(document))
    if not document["ok"]:
        raise typer.Exit(1)


@app.command("eval", epilog="Example: `kohn eval runs/first/model.safetensors test.extxyz`")
def evaluate(
    model: Annotated[Path, typer.Argument(help="model file or run folder")],
    files: Files,
    key: Keys = None,
    not_periodic: NotPeriodic = False,
    json: Json = False,
) -> None:
    """Compute the errors of a model on labelled structures."""
    import kohn
    from kohn.cli.progress import bar
    from kohn.cli.training import show_skipped, show_suspicions, warn_of_forces
    from kohn.potential import Potential, load
    from kohn.reports.terminal import evaluation_table

    potential = load(model)
    data = kohn.read(
        [str(f) for f in files],
        keys=parse_keys(key) or None,
        periodic=False if not_periodic else None,
        labels="finite",
    )
    show_skipped(data, stderr)
    e0s: dict[int | str, float] | None = (
        {**potential.e0s} if isinstance(potential, Potential) else None
    )
    report = kohn.check({"labels": data}, e0s=e0s)
    for finding in report.findings:
        if finding.severity == "error":
            stderr.print(f"warning [{finding.kind}] {finding.message}", markup=False)
    for source in data.sources:
        for unread, known in source.near_keys.items():
            stderr.print(
                f"warning: {source.file}: the key {unread!r} was not read; it resembles {known!r}",
                markup=False,
            )
    with bar(stderr, "evaluating", len(data)) as advance:
        result = kohn.evaluate(potential, data, advance=advance)
    document = result.to_json()
    show_suspicions(document, stderr)
    warn_of_forces(potential, stderr)
    if json:
        emit(document)
    else:
        console().print(evaluation_table(document))


@app.command(epilog="Example: `kohn predict runs/first new.xyz -o predicted.extxyz`")
def predict(
    model: Annotated[Path, typer.Argument(help="model file or run folder")],
    files: Annotated[list[Path], typer.Argument(help="files of structures; labels are not needed")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="extended XYZ file to write: .extxyz or .xyz")
    ],
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="also write expected errors (σ); gaussian-process only"),
    ] = False,
    not_periodic: NotPeriodic = False,
    json: Json = False,
) -> None:
    """Predict energies, forces and stresses, or properties, and write them with the structures.

    A model of properties predicts its targets, e.g. dipole (e·Å) or polarizability (Å³). Labels of
    the files are also written, under REF_ keys, except labels that cannot be used.
    """
    import kohn
    from kohn.cli.progress import bar
    from kohn.cli.training import show_skipped, warn_of_forces
    from kohn.potential import PropertyModel, load

    check_new_file(out, (".extxyz", ".xyz"))
    potential = load(model)
    warn_of_forces(potential, stderr)
    data = kohn.read(
        [str(f) for f in files], periodic=False if not_periodic else None, labels="usable"
    )
    show_skipped(data, stderr)
    document: Document = {"file": str(out), "structures": len(data)}
    with bar(stderr, "predicting", len(data)) as advance:
        predictions = potential.predict(data.structures, uncertainty=uncertainty, advance=advance)
    if isinstance(potential, PropertyModel):
        document |= {t: [p[t].tolist() for p in predictions] for t in potential.targets}
    else:
        document["energies"] = [p.energy for p in predictions]
        if uncertainty:
            document["energy_std"] = [p.energy_std for p in predictions]
    document["outside"] = [i for i, p in enumerate(predictions) if p.outside]
    name = (model if model.is_dir() else model.parent / model.stem).resolve().name
    columns = kohn.write(
        data, out, predictions=predictions, predicted_by=f"kohn {kohn.__version__}: {name}"
    )
    if columns:
        stderr.print(
            f"note: extended XYZ cannot hold the columns {', '.join(columns)}: left out",
            markup=False,
        )
    stderr.print(f"wrote {len(data)} structures to {out}", markup=False)
    if json:
        emit(document)


@app.command(
    "describe", epilog="Example: `kohn describe a.xyz --descriptor soap --set r_cut=5 -o out.npz`"
)
def describe_files(
    files: Annotated[list[Path], typer.Argument(help="files of structures; labels are not needed")],
    descriptor: Annotated[
        str, typer.Option("--descriptor", "-d", help="soap, coulomb-matrix or structure-factor")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="npz file to write")],
    settings: Settings = None,
    not_periodic: NotPeriodic = False,
    json: Json = False,
) -> None:
    """Compute features of structures for your own models; the features obey the symmetries.

    The npz file holds these arrays, and is read without pickle:

    - `features` float64 [rows, D]: a row of D features for each structure; with SOAP for each
      atom, unless `--set average=outer` or `inner`
    - `names` [D]: names of the features; columns depend on the elements (and the largest molecule)
      of the files, so describe files that belong together in one call
    - `structure` int [rows]: index of the row's structure, counted from 0 through all files
    - `numbers` int [rows]: atomic number of the row's atom, if rows are atoms
    - `elements` int: the atomic numbers of the files, ascending
    - `settings`: JSON text with the descriptor, all its settings and the files

    Settings are those of the transformers `Soap`, `CoulombMatrix` and `StructureFactor` in
    `kohn.descriptors`. Rows are written as they are computed, so their number is not limited.
    """
    import kohn
    from kohn.cli.describing import parse_settings
    from kohn.cli.progress import progress_bars

    chosen, periodic = parse_settings(settings or ()), False if not_periodic else None
    with progress_bars(stderr) as progress:
        document = kohn.describe(
            files, descriptor, out=out, settings=chosen, periodic=periodic, progress=progress
        )
    size = f"{document['rows']} rows of {document['features']} features"
    stderr.print(f"wrote {size}, {document['structures']} structures, to {out}", markup=False)
    if json:
        emit(document)


@app.command(epilog="Example: `kohn similarity a.xyz b.xyz --kernel rematch --set gamma=0.1`")
def similarity(
    first: Annotated[Path, typer.Argument(metavar="A", help="file of structures")],
    second: Annotated[Path, typer.Argument(metavar="B", help="file of structures; may be A")],
    kernel: Annotated[str, typer.Option(help="average or rematch")] = "average",
    settings: Settings = None,
    same_species: Annotated[
        bool, typer.Option("--same-species", help="compare only atoms of the same element")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="npz file for the matrix [A, B]")
    ] = None,
    not_periodic: NotPeriodic = False,
    json: Json = False,
) -> None:
    """Compare every structure of A with every structure of B by SOAP: 1 if they are the same.

    `average` compares all atoms with all atoms, `rematch` each atom with its best matches. --set
    takes the settings of SOAP (r_cut, n_max, l_max, sigma …), and zeta and gamma of the kernel.
    """
    import kohn
    from kohn.cli.describing import TABLE, parse_settings, show_similarity
    from kohn.cli.progress import progress_bars

    chosen = parse_settings(settings or ())
    with progress_bars(stderr) as progress:
        document = kohn.similarity(
            first,
            second,
            kernel,
            out=out,
            settings=chosen,
            same_species=same_species,
            periodic=False if not_periodic else None,
            max_structures=None if json or out else TABLE,
            progress=progress,
        )
    if out is not None:
        rows, columns = document["similarity"].shape
        stderr.print(f"wrote {rows} x {columns} similarities to {out}", markup=False)
    if json:
        emit({k: v for k, v in document.items() if out is None or k != "similarity"})
    elif out is None:
        show_similarity(document["similarity"], console())


app.command(
    "hull", epilog="Example: `kohn hull entries.json.gz --candidates new.csv --plot hull.html`"
)(stability.hull)
app.command(
    "screen",
    epilog="Examples: `kohn screen new.xyz --model runs/a --hull entries.json.gz -o ranked.csv` · "
    "`kohn screen predicted.csv --hull entries.json.gz -o ranked.parquet`",
)(stability.screen)


@app.command(epilog="Example: `kohn report runs/first`")
def report(
    run: Annotated[Path, typer.Argument(help="run folder, finished or not")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="HTML file; default RUN/report.html")
    ] = None,
    json: Json = False,
) -> None:
    """Draw the report of a training run: one HTML page that opens offline."""
    from kohn.reports import report as draw

    path = draw(run, out)
    if json:
        emit({"report": str(path)})
    else:
        stderr.print(f"open {path}")


@app.command(epilog="Example: `kohn demo --out runs/demo`")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the runs")] = Path(
        "runs/demo"
    ),
    json: Json = False,
) -> None:
    """Train on real data that comes with Kohn: ethanol, and silicon with stress."""
    from kohn.cli.demo import run_demo

    document = run_demo(out, stderr)
    if json:
        emit(document)


def show_error(error: KohnError, *, json: bool) -> None:
    """Print an error on stderr, and with --json also as a document on stdout."""
    if json:
        parts = {k: getattr(error, k) for k in ("expected", "received", "where", "fix")}
        parts = {k: str(v) for k, v in parts.items() if v is not None}
        emit({"error": {"message": error.message, "kind": type(error).__name__, **parts}})
    body = Text(error.message, style="bold")
    for name in ("where", "expected", "received", "fix"):
        value = getattr(error, name)
        if value is not None and str(value):
            body.append(f"\n{name:>9}  ", style="dim")
            body.append(str(value), style="green" if name == "fix" else "none")
    stderr.print(Panel(body, title="error", title_align="left", border_style="red"))


def _show_warning(message: Warning | str, *_: Any) -> None:
    """Print a warning without the line of code that raised it."""
    stderr.print(f"warning: {message}", markup=False)


def main() -> None:
    """Run the command line, and turn errors into messages and exit codes."""
    json = "--json" in sys.argv
    warnings.showwarning = _show_warning
    try:
        code = app(standalone_mode=False)
    except KohnError as error:
        show_error(error, json=json)
        raise SystemExit(error.exit_code) from None
    except TyperException as error:  # bad usage: an unknown option, a missing argument
        command = getattr(getattr(error, "ctx", None), "command_path", "kohn")
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if message:  # without a message, help was shown instead
            show_error(ConfigError(message, fix=f"see `{command} --help`"), json=json)
        raise SystemExit(2) from None
    except OSError as error:
        file = None if error.filename is None else str(error.filename)
        text = f"the operating system refuses: {error.strerror or error}"
        fix = "check the path, the permissions and the free space"
        show_error(InputError(text, where=file, fix=fix), json=json)
        raise SystemExit(2) from None
    if code == STOPPED:
        more = "; `--resume` continues from the last checkpoint" if "train" in sys.argv else ""
        more = "; the same command continues" if "screen" in sys.argv else more
        stderr.print(f"stopped{more}")
        # No clean-up: exit during a compilation of XLA can crash, and files are replaced whole.
        sys.stdout.flush()
        os._exit(STOPPED)
    raise SystemExit(code or 0)
