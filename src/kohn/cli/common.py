"""What all commands share: the application, options that return, one document on stdout."""

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
    """A console that prints what users named as it is: [brackets] and :colons: too."""
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
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="label=key in the file, e.g. energy=dft_energy; repeatable"),
]
NotPeriodic = Annotated[
    bool, typer.Option("--not-periodic", help="ignore the periodic flags of the files")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="name=value of a setting, e.g. r_cut=5; repeatable"),
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
    """Refuse a file that is to be written, before any work.

    Raises:
        InputError: another suffix; it exists already; its folder does not.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(
            f"files of the kind {path.suffix!r} are not written here"
            if path.suffix
            else "the output file has no suffix to say its kind",
            where=str(path),
            expected=" or ".join(suffixes),
            fix=f"name it {path.with_suffix(suffixes[0]).name}",
        )
    refuse_output(path)


def parse_keys(keys: list[str] | None) -> dict[str, str]:
    """['energy=dft_energy'] as a dictionary."""
    return assignments(
        keys or [],
        "--key",
        "label=key, e.g. --key energy=dft_energy, once for a label",
        twice="a label is named twice",
        nothing="--key names no key",
    )


def emit(document: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(to_json(document, indent=2) + "\n")
