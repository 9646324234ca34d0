"""Run `kohn audit`: check the laws of physics on a model or any ASE calculator."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from pathlib import Path

from rich.console import Console

import kohn
from kohn.audits import NAMES, CalculatorProcess, audit
from kohn.cli.options import assignments
from kohn.cli.progress import bar
from kohn.errors import ConfigError
from kohn.interfaces.opening import is_class, open_calculator
from kohn.reports.audit import audit_page
from kohn.typing import Document


def run_audit(
    paths: Sequence[Path],
    calculator: str | None,
    arguments: str | None,
    *,
    laws: str | None,
    thresholds: Sequence[str],
    frames: int,
    seed: int,
    temperature: float,
    dtype: str,
    out: Path | None,
    console: Console,
) -> Document:
    """Run `kohn.audit`, show its progress, and draw the HTML page if `out` is given.

    Args:
        paths: a model, or "module:Class" of a calculator, which runs in a process of its own; then
            files of structures. Only the files if `calculator` is given.
        calculator: "module:Class". arguments: arguments of the calculator, as a JSON object.
        laws: names of laws, separated by commas; all laws if None.
        thresholds: "law=value". The other arguments are those of `kohn.audit`.

    Returns:
        `Audit.to_json()`, with the path of the page as "report" if `out` is given.

    Raises:
        ConfigError, InputError, ModelFileError: an argument or a file that cannot be used.
    """
    chosen = None if laws is None else [name.strip() for name in laws.split(",") if name.strip()]
    limits = parse_thresholds(thresholds)
    with stdout_to_stderr(), ExitStack() as ends:
        options = None if arguments is None else _arguments(arguments)
        if calculator is None:
            named, files = _named_and_files(paths)
            audited = open_calculator(named, options, dtype=_dtype(dtype))
        else:
            named, files, audited = calculator, paths, CalculatorProcess(calculator, options)
        if isinstance(audited, AbstractContextManager):  # a process, which must be ended
            ends.enter_context(audited)
        for text in getattr(audited, "warnings", ()):
            console.print(f"warning: {text}")
        of_class = calculator is not None or is_class(named)
        name = f"{named} {arguments or ''}".strip() if of_class else f"{named} in {dtype}"
        data = kohn.read([str(f) for f in files], labels="none")
        if len(data) > frames:
            console.print(f"{frames} of {len(data)} structures; --frames takes more")
        total = min(frames, len(data)) * len(NAMES if chosen is None else set(chosen))
        with bar(console, "auditing", total) as advance:
            result = audit(
                audited,
                data,
                laws=chosen,
                thresholds=limits,
                frames=frames,
                seed=seed,
                temperature=temperature,
                out=out,
                name=name,
                advance=advance,
            )
    document = result.to_json()
    if out is not None:
        document["report"] = str(audit_page(out))
        console.print(f"open {document['report']}")
    return document


def parse_thresholds(texts: Sequence[str]) -> dict[str, float]:
    """Return the threshold of each law: ["rotation=1e-5"] gives {"rotation": 1e-5}."""
    values = assignments(
        texts,
        "--threshold",
        "law=value, e.g. --threshold rotation=1e-5, each law once",
        twice="a threshold is given twice",
        nothing="--threshold sets nothing",
    )
    try:
        return {law: float(text) for law, text in values.items()}
    except ValueError as error:
        raise ConfigError(
            "a threshold is not a number",
            expected="law=value, e.g. --threshold rotation=1e-5",
            received=repr(list(texts)),
        ) from error


def _named_and_files(paths: Sequence[Path]) -> tuple[Path, Sequence[Path]]:
    if len(paths) < 2:
        raise ConfigError(
            "a model, or module:Class of a calculator, and a file of structures are needed",
            expected="kohn audit MODEL FILE, e.g. kohn audit ase.calculators.emt:EMT copper.xyz",
            received=f"kohn audit {' '.join(map(str, paths))}",
        )
    return paths[0], paths[1:]


def _dtype(name: str) -> str:
    if name not in ("float32", "float64"):
        raise ConfigError(
            "this precision does not exist", expected="float64 or float32", received=repr(name)
        )
    return name


def _arguments(text: str) -> Document:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            "the calculator's arguments are not JSON",
            expected="""an object, e.g. --calculator-args '{"method": "GFN2-xTB"}'""",
            received=f"{text!r}: {error}",
        ) from error
    if not isinstance(options, dict):
        raise ConfigError(
            "the calculator's arguments are not a JSON object",
            expected="""an object, e.g. --calculator-args '{"method": "GFN2-xTB"}'""",
            received=repr(text),
        )
    return options


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send the prints of calculators, also of Fortran code, to stderr: stdout is for results."""
    sys.stdout.flush()
    original = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(original, 1)
        os.close(original)
