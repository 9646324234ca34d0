"""What all commands share: the application, options that return, one document on stdout."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from kohn.cli.options import assignments
from kohn.records import to_json

stderr = Console(stderr=True, highlight=False)

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


def parse_keys(keys: list[str] | None) -> dict[str, str]:
    """['energy=dft_energy'] as a dictionary."""
    return assignments(
        keys or [],
        "--key",
        "label=key, e.g. --key energy=dft_energy, once for a label",
        twice="a label is named twice",
        nothing="--key names no key",
    )


def emit(document: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(to_json(document, indent=2) + "\n")
