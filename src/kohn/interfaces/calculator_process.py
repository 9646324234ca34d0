"""Run a calculator in a separate process, which does not import Kohn.

Importing Kohn switches JAX to 64-bit numbers for the whole process. A calculator written with JAX
would then compute in a precision other than its own, or not at all.
"""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ase import Atoms
from ase.io.jsonio import decode, encode

from kohn import errors
from kohn.errors import ConfigError, InputError, KohnError

WORKER = Path(__file__).with_name("worker.py")


class Raised(Exception):
    """The calculator raised an exception, or the process of the calculator ended."""


class CalculatorProcess:
    """A calculator that is made and called in a separate process; for `kohn.audit`.

        with CalculatorProcess("ase.calculators.emt:EMT") as calculator:
            kohn.audit(calculator, "copper.xyz")

    A process that dies, as Fortran programs may, is started again for the next structure.

    Args:
        name: "module:Class", or "module:function" with a function that returns a calculator.
        arguments: keyword arguments of the class or function, which JSON must be able to store.

    Attributes:
        warnings: warnings about arguments that the calculator may ignore.

    Raises:
        InputError: the module or class does not exist, or refuses the arguments.
        ConfigError: `name` has another form, or the calculator does not know an argument.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any] | None = None):
        module, _, attribute = name.partition(":")
        if not (module and attribute):
            raise ConfigError(
                "this does not name a calculator",
                expected="module:Class, e.g. ase.calculators.emt:EMT",
                received=repr(name),
            )
        self.name, self.arguments = name, dict(arguments or {})
        self._process: subprocess.Popen[str] | None = None
        self.warnings = self._start()

    def _start(self) -> list[str]:
        """Start the process, make the calculator and return warnings about its arguments."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],  # -P: files next to the worker are no modules
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            answer = self._ask({"name": self.name, "arguments": self.arguments})
        except Raised as error:
            message = f"{self.name} could not be made"
            raise InputError(message, received=str(error), fix="try it in Python") from error
        if "refused" in answer:
            self.close()
            parts = answer["refused"]
            raise getattr(errors, parts.pop("kind"))(parts.pop("message"), **parts)
        return answer["warnings"]

    def answer(self, atoms: Atoms, wanted: Sequence[str]) -> dict[str, Any]:
        """Return the results of `worker.answer`, and change `atoms` if the calculator changes them.

        Raises:
            Raised: the process died.
        """
        results = self._ask({"what": "answer", "atoms": atoms, "wanted": list(wanted)})
        changed = results.pop("atoms", None)
        if changed is not None:
            atoms.arrays, atoms.pbc = changed.arrays, changed.pbc
            atoms.set_cell(changed.cell)
            atoms.constraints = changed.constraints
        return results

    def reset(self) -> str | None:
        """Make the calculator forget its last results; return the text of an exception, or None."""
        return self._ask({"what": "reset"})["raised"]

    def _ask(self, question: dict[str, Any]) -> Any:
        if self._process is None:
            try:
                self._start()
            except KohnError as error:
                raise Raised(f"{error.message}: {error.received}") from error
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(encode(question) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            self._process = None
            raise Raised(f"its process ended{_cause(process.wait())}")
        return decode(line)

    def close(self) -> None:
        """End the process of the calculator."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()


def _cause(code: int) -> str:
    if code < 0:
        return f" by the signal {signal.Signals(-code).name}"
    return f" with the exit code {code}"
