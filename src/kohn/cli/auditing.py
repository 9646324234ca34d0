"""`kohn audit`: a model or any ASE calculator before the laws of physics."""

import importlib
import inspect
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console

import kohn
from kohn.audits import NAMES, audit
from kohn.cli.options import assignments
from kohn.cli.running import bar
from kohn.errors import ConfigError, InputError, nearest
from kohn.reports.audit import audit_page


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
) -> dict[str, Any]:
    """Audit with progress, and draw the page where there is a folder for it.

    Args:
        paths: the model and files of structures; the files alone where `calculator` is given.
        calculator: "module:Class". arguments: a JSON object. laws: names between commas.
        thresholds: "law=value". Others as in `kohn.audit`.

    Returns:
        The document of the audit.

    Raises:
        ConfigError, InputError, ModelFileError: anything that cannot be used as it is.
    """
    chosen = None if laws is None else [name.strip() for name in laws.split(",") if name.strip()]
    limits = parse_thresholds(thresholds)
    with stdout_to_stderr():
        if calculator is None:
            if arguments is not None:
                raise ConfigError(
                    "arguments without a calculator", fix="name it with --calculator module:Class"
                )
            model, files = _model_and_files(paths)
            asked, name = kohn.Calculator(model, dtype=_dtype(dtype)), f"{model} in {dtype}"
        else:
            asked, files = open_calculator(calculator, arguments), paths
            for text in check_arguments(asked, _arguments(arguments)):
                console.print(f"warning: {text}", markup=False)
            name = f"{calculator} {arguments}" if arguments else calculator
        data = kohn.read([str(f) for f in files])
        if len(data) > frames:
            console.print(f"{frames} of {len(data)} structures; --frames takes more")
        total = min(frames, len(data)) * len(NAMES if chosen is None else set(chosen))
        with bar(console, "auditing", total) as advance:
            found = audit(
                asked,
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
    document = found.to_json()
    if out is not None:
        document["report"] = str(audit_page(out))
        console.print(f"open {document['report']}", markup=False)
    return document


def parse_thresholds(texts: Sequence[str]) -> dict[str, float]:
    """["rotation=1e-5"] as numbers."""
    found = assignments(
        texts,
        "--threshold",
        "law=value, e.g. --threshold rotation=1e-5, once for a law",
        twice="a threshold is given twice",
        nothing="--threshold sets nothing",
    )
    try:
        return {law: float(text) for law, text in found.items()}
    except ValueError as error:
        raise ConfigError(
            "a threshold is not a number",
            expected="law=value, e.g. --threshold rotation=1e-5",
            received=repr(list(texts)),
        ) from error


def _model_and_files(paths: Sequence[Path]) -> tuple[Path, Sequence[Path]]:
    if len(paths) < 2:
        raise ConfigError(
            "a model and a file of structures are needed",
            expected="kohn audit MODEL FILE, or kohn audit --calculator module:Class FILE",
            received=f"kohn audit {' '.join(map(str, paths))}",
        )
    return paths[0], paths[1:]


def _dtype(name: str) -> str:
    if name not in ("float32", "float64"):
        raise ConfigError(
            "there is no such precision", expected="float64 or float32", received=repr(name)
        )
    return name


def open_calculator(name: str, arguments: str | None = None) -> Any:
    """A calculator from "module:Class" and a JSON object of keyword arguments.

    Raises:
        InputError: no such module or class, or what its constructor refuses.
        ConfigError: a name or arguments of another form.
    """
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise ConfigError(
            "this does not name a calculator",
            expected="module:Class, e.g. ase.calculators.emt:EMT",
            received=repr(name),
        )
    options = _arguments(arguments)
    kind = _attribute(_module(module), module, attribute)
    try:
        return kind(**options)
    except Exception as error:  # constructors raise whatever they happen to meet
        raise InputError(
            f"{name} could not be made",
            expected=_signature(kind),
            received=f"{arguments or 'no arguments'}: {type(error).__name__}: {error}",
            fix="give its arguments as JSON with --calculator-args",
        ) from error


def check_arguments(calculator: Any, options: dict[str, Any]) -> list[str]:
    """Look for arguments that a calculator took and will not look at.

    ASE's base class keeps any keyword, so that a slip of the pen is silent. Where the class lists
    its parameters (`default_parameters` of ASE) one that is not among them is an error; where it
    lists none, or hands on what it is given, nobody can tell, and it is a warning. Without
    ``**kwargs`` Python itself refuses it.

    Returns:
        What is to be said of arguments that cannot be checked.

    Raises:
        ConfigError: an argument that the calculator does not know, with the nearest that it does.
    """
    kind = type(calculator)
    defaults = getattr(calculator, "default_parameters", None)
    named = {name for base in kind.__mro__ for name in _parameters(base)}
    unknown = sorted(set(options) - named - {*(defaults or {})})
    bases = {base.__name__ for base in kind.__mro__ if base.__module__.startswith("ase.")}
    if not unknown or not bases:
        return []
    # What writes input files for other programs hands on any keyword that these may know.
    if not defaults or any("FileIO" in name for name in bases):
        return [f"{kind.__name__} does not list {', '.join(unknown)}: perhaps ignored"]
    known = sorted({*defaults, *_parameters(kind)} - _OF_EVERY)
    guess = nearest(unknown[0], known)
    raise ConfigError(
        f"{kind.__name__} does not know the argument {unknown[0]!r}",
        expected=f"one of {', '.join(known)}",
        fix=f"did you mean {guess!r}?" if guess else "remove it",
    )


_OF_EVERY = {"self", "args", "kwargs"}


def _parameters(kind: type) -> list[str]:
    try:
        return list(inspect.signature(kind.__init__).parameters)
    except (TypeError, ValueError):
        return []


def _arguments(text: str | None) -> dict[str, Any]:
    try:
        options = json.loads(text or "{}")
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


def _module(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a module of the user's own, beside the structures
    try:
        return importlib.import_module(name)
    except Exception as error:  # importing runs the module, which may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == name.split(".")[0]
        raise InputError(
            f"the module {name} could not be imported",
            received=f"{type(error).__name__}: {error}",
            fix="install it where kohn is installed, or correct the name"
            if missing
            else "correct the name, or the module",
        ) from error


def _attribute(module: Any, module_name: str, name: str) -> Any:
    kind = getattr(module, name, None)
    if callable(kind):
        return kind
    known = [n for n, value in vars(module).items() if inspect.isclass(value)]
    guess = nearest(name, known)
    raise InputError(
        f"{module_name} has no class {name}",
        expected=f"one of its classes: {', '.join(sorted(known)[:12])}" if known else None,
        fix=f"did you mean {module_name}:{guess}?" if guess else None,
    )


def _signature(kind: Any) -> str | None:
    try:
        return f"{getattr(kind, '__name__', kind)}{inspect.signature(kind)}"
    except (TypeError, ValueError):
        return None


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """What calculators print, also from Fortran, goes to stderr: stdout is for results."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
