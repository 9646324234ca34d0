"""Opening whatever a user names as a calculator."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kohn.errors import ConfigError
from kohn.interfaces.ase_calculator import Calculator
from kohn.interfaces.calculator_process import CalculatorProcess


def open_calculator(
    name: str | Path, arguments: Mapping[str, Any] | None = None, *, dtype: str | None = None
) -> Calculator | CalculatorProcess:
    """Open a model file, a run folder or a calculator class.

    Args:
        name: of a model file or the folder of a run; or "module:Class", which is given a process
            of its own, to be closed in the end.
        arguments: of the class.
        dtype: of a model, "float32" or "float64"; that of its file by default.

    Raises:
        ModelFileError, InputError: it cannot be opened, or made.
        ConfigError: arguments for a model; another dtype.
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
    """Whether a name is "module:Class", and not that of a file which is there."""
    module, colon, attribute = str(name).partition(":")
    dotted = all(part.isidentifier() for part in f"{module}.{attribute}".split("."))
    return bool(colon) and dotted and not Path(name).exists()
