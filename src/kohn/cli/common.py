"""Define the application, the options that several commands share, and the output of JSON."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kohn.cli.options import assignments
from kohn.errors import InputError
from kohn.records import refuse_output, to_json
from kohn.version import __version__


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text verbatim: [brackets] and :colons: are not markup."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


stderr = console(stderr=True)

app = typer.Typer(
    name="kohn",
    help="Machine learning of molecules and materials in which the physics holds.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Files = Annotated[list[Path], typer.Argument(help="labelled structures: extxyz, vasprun.xml, …")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="key of a label: label=key, e.g. energy=dft_energy; repeatable"),
]
NotPeriodic = Annotated[
    bool, typer.Option("--not-periodic", help="ignore the periodic flags of the files")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="value of a setting: name=value, e.g. r_cut=5; repeatable"),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        import jax

        sys.stdout.write(f"kohn {__version__} (jax {jax.__version__})\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None: ...


def check_new_file(path: Path, suffixes: Sequence[str]) -> None:
    """Refuse an output file that cannot be written, before any work begins.

    Raises:
        InputError: the suffix is not in `suffixes`, the file exists, or its folder does not.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(
            f"this command does not write {path.suffix!r} files"
            if path.suffix
            else "the output file has no suffix that names its format",
            where=str(path),
            expected=" or ".join(suffixes),
            fix=f"name it {path.with_suffix(suffixes[0]).name}",
        )
    refuse_output(path)


def parse_keys(keys: list[str] | None) -> dict[str, str]:
    """Return the key of each label: ['energy=dft_energy'] gives {'energy': 'dft_energy'}."""
    return assignments(
        keys or [],
        "--key",
        "label=key, e.g. --key energy=dft_energy, each label once",
        twice="a label is named twice",
        nothing="--key names no key",
    )


def emit(document: object) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(to_json(document, indent=2) + "\n")
