"""Open the model or the calculator class that a user names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kohn.errors import ConfigError
from kohn.interfaces.ase_calculator import Calculator
from kohn.interfaces.calculator_process import CalculatorProcess


def open_calculator(
    name: str | Path, arguments: Mapping[str, Any] | None = None, *, dtype: str | None = None
) -> Calculator | CalculatorProcess:
    """Open a model file, a run folder or a calculator class as a calculator.

    Args:
        name: a model file or run folder; or "module:Class", whose calculator runs in a separate
            process, which the caller must close.
        arguments: keyword arguments of the class.
        dtype: the precision of a model, "float32" or "float64"; that of its file by default.

    Raises:
        ModelFileError, InputError: the model cannot be opened, or the calculator cannot be made.
        ConfigError: arguments are given for a model file, or the dtype is unknown.
    """
    if is_class(name):
        return CalculatorProcess(str(name), arguments)
    if arguments is not None:
        raise ConfigError(
            "a model file takes no arguments",
            received=f"{name} with {dict(arguments)}",
            fix="name a calculator as module:Class, e.g. ase.calculators.emt:EMT",
        )
    return Calculator(name, dtype=dtype)


def is_class(name: str | Path) -> bool:
    """Return whether a name has the form "module:Class" and is not that of a file."""
    module, colon, attribute = str(name).partition(":")
    dotted = all(part.isidentifier() for part in f"{module}.{attribute}".split("."))
    return bool(colon) and dotted and not Path(name).exists()
