"""Call a calculator for atoms; run as a script, call it on behalf of another process.

This file does not import Kohn: importing Kohn switches JAX to 64-bit numbers, and a calculator
written with JAX must be measured in its own precision. `calculator_process.py` starts the script
and sends it questions, one line of JSON each, over a pipe; each answer is one line of JSON too.
"""

import difflib
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io.jsonio import decode, encode

SHAPES: dict[str, tuple[Callable[[int], list[tuple[int, ...]]], str]] = {
    "energy": (lambda n: [(), (1,)], "a number"),
    "forces": (lambda n: [(n, 3)], "({n}, 3)"),
    "stress": (lambda n: [(6,), (3, 3)], "(6,), Voigt's xx yy zz yz xz xy, or (3, 3)"),
}
"""Quantity -> (function of n that returns the allowed shapes for n atoms, these in words)."""


class WrongShape(Exception):
    """A calculator returned an array whose shape is not that of ASE's calculators."""


class Refused(Exception):
    """A calculator cannot be made; `parts` are the class and arguments of a `KohnError`."""

    def __init__(self, kind: str, message: str, **parts: str | None):
        super().__init__(message)
        self.parts = {"kind": kind, "message": message, **parts}


def answer(calculator: Any, atoms: Atoms, wanted: Sequence[str]) -> dict[str, Any]:
    """Compute the wanted quantities of atoms with a calculator, one after the other.

    The energy is the free energy if the calculator has one, because forces and stress are its
    derivatives.

    Args:
        wanted: some of 'energy', 'forces' and 'stress', in the order of the requests.

    Returns:
        Quantity -> array, as computed; 'lacks' -> {quantity: why the calculator does not give it};
        after an exception 'raised' -> its text; after a refusal 'first' -> the text of the first.
    """
    # In ASE's classes `implemented_properties` is a list; in some others it is a method.
    properties = getattr(calculator, "implemented_properties", ())
    free = isinstance(properties, (list, tuple, set)) and "free_energy" in properties
    atoms.calc = calculator
    methods = {
        "energy": lambda: atoms.get_potential_energy(force_consistent=free),
        "forces": lambda: atoms.get_forces(apply_constraint=False),
        "stress": lambda: calculator.get_stress(atoms),
    }
    results: dict[str, Any] = {"lacks": {}}
    for name in wanted:
        try:
            results[name] = _array(name, methods[name](), len(atoms))
        except NotImplementedError as error:  # raised by ASE's calculators that lack a property
            results["lacks"][name] = text_of(error)
            if name == "energy" or not isinstance(error, PropertyNotImplementedError):
                results.setdefault("first", text_of(error))
        except WrongShape as error:
            return {**results, "raised": str(error)}
        except (Exception, SystemExit) as error:  # calculators may raise anything
            return {**results, "raised": text_of(error)}
    return results


def _array(name: str, value: Any, n: int) -> np.ndarray:
    array = np.array(value, np.float64)
    shapes, words = SHAPES[name]
    if array.shape not in shapes(n):
        expected = words.format(n=n)
        raise WrongShape(f"{name} of the shape {array.shape}, expected {expected}")
    return array


def text_of(error: BaseException) -> str:
    """Return an exception as one line of text; the cause of the exception, if any, comes first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if "StackTrace" in type(cause).__name__:  # JAX attaches one to its errors
        cause = None
    text = str(error).strip().split("\n")[0][:200]
    text = f"{type(error).__name__}: {text}" if text else f"{error!r}"
    return f"{text_of(cause)}; then {text}" if cause is not None else text


def reset(calculator: Any) -> str | None:
    """Make a calculator forget its last results; return the text of an exception, or None."""
    forget = getattr(calculator, "reset", None)
    if callable(forget):
        try:
            forget()
        except (Exception, SystemExit) as error:
            return text_of(error)
    return None


# Making a calculator from its name


def make_calculator(name: str, options: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the calculator "module:Class" with arguments `options`, and warnings about arguments.

    Raises:
        Refused: the module or class does not exist, or an argument is refused or unknown.
    """
    module, _, attribute = name.partition(":")
    kind = _attribute(_module(module), module, attribute)
    try:
        calculator = kind(**options)
    except (Exception, SystemExit) as error:  # constructors may raise anything
        raise Refused(
            "InputError",
            f"{name} could not be made",
            expected=_signature(kind),
            received=f"{options or 'no arguments'}: {text_of(error)}",
            fix="give its arguments as JSON with --calculator-args",
        ) from error
    if not hasattr(calculator, "get_potential_energy"):
        raise Refused("InputError", NO_CALCULATOR, **not_a_calculator(calculator))
    return calculator, check_arguments(calculator, options)


NO_CALCULATOR = "this is not an ASE calculator"


def not_a_calculator(value: Any) -> dict[str, str | None]:
    """Return `expected`, `received` and `fix` of the error `NO_CALCULATOR` for a wrong value."""
    is_class = isinstance(value, type)
    return {
        "expected": "an object with get_potential_energy, get_forces and get_stress",
        "received": f"the class {value.__name__}" if is_class else str(type(value)),
        "fix": "make an instance of the class first" if is_class else None,
    }


def check_arguments(calculator: Any, options: dict[str, Any]) -> list[str]:
    """Find arguments that a calculator has accepted but will ignore.

    ASE's base class accepts any keyword, so that a misspelt one goes unnoticed. If the class lists
    its parameters (`default_parameters` of ASE), an argument that the list lacks is an error. If
    the class has no list, or passes arguments on to a program, unlisted arguments give a warning.
    A class without ``**kwargs`` needs no check: Python itself refuses unknown arguments.

    Returns:
        Warnings about arguments that the calculator may ignore.

    Raises:
        Refused: the calculator does not know an argument; the fix names the nearest known argument.
    """
    kind = type(calculator)
    defaults = getattr(calculator, "default_parameters", None)
    named = {name for base in kind.__mro__ for name in _parameters(base)}
    unknown = sorted(set(options) - named - {*(defaults or {})})
    bases = {base.__name__ for base in kind.__mro__ if base.__module__.startswith("ase.")}
    if not unknown or not bases:
        return []
    # Calculators that write input files pass any keyword on to their program.
    if not defaults or any("FileIO" in name for name in bases):
        return [f"{kind.__name__} may ignore {', '.join(unknown)}: not among its parameters"]
    known = sorted({*defaults, *_parameters(kind)} - _GENERIC_PARAMETERS)
    guess = _nearest(unknown[0], known)
    raise Refused(
        "ConfigError",
        f"{kind.__name__} does not know the argument {unknown[0]!r}",
        expected=f"one of {', '.join(known)}",
        fix=f"did you mean {guess!r}?" if guess else "remove it",
    )


_GENERIC_PARAMETERS = {"self", "args", "kwargs"}


def _nearest(word: str, known: Sequence[str]) -> str | None:
    by_lower = {x.lower(): x for x in known}
    matches = difflib.get_close_matches(word.lower(), list(by_lower), n=1)
    return by_lower[matches[0]] if matches else None


def _parameters(kind: type) -> list[str]:
    try:
        return list(inspect.signature(kind.__init__).parameters)
    except (TypeError, ValueError):
        return []


def _module(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # modules of the user, in the working folder
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # an import runs the module
        missing = isinstance(error, ModuleNotFoundError) and error.name == name.split(".")[0]
        raise Refused(
            "InputError",
            f"the module {name} could not be imported",
            received=text_of(error),
            fix="install it where kohn is installed, or correct the name"
            if missing
            else "correct the name, or the module",
        ) from error


def _attribute(module: Any, module_name: str, name: str) -> Any:
    kind = getattr(module, name, None)
    if callable(kind):
        return kind
    known = [n for n, value in vars(module).items() if inspect.isclass(value)]
    guess = _nearest(name, known)
    raise Refused(
        "InputError",
        f"{module_name} has no class {name}",
        expected=f"one of its classes: {', '.join(sorted(known)[:12])}" if known else None,
        fix=f"did you mean {module_name}:{guess}?" if guess else None,
    )


def _signature(kind: Any) -> str | None:
    try:
        return f"{getattr(kind, '__name__', kind)}{inspect.signature(kind)}"
    except (TypeError, ValueError):
        return None


# The process


def reply(calculator: Any, question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a question of a `CalculatorProcess`, with the atoms if they changed."""
    if question["what"] == "reset":
        return {"raised": reset(calculator)}
    atoms: Any = question["atoms"]
    before = atoms.copy()
    results = answer(calculator, atoms, question["wanted"])
    atoms.calc = None
    same = all(np.array_equal(x, before.arrays.get(k)) for k, x in atoms.arrays.items())
    same = same and np.array_equal(atoms.cell, before.cell) and not atoms.constraints
    return results if same and (atoms.pbc == before.pbc).all() else {**results, "atoms": atoms}


def serve(questions: Any, answers: Any) -> None:
    """Make the calculator that the first line of `questions` names; then answer line by line."""

    def send(message: dict[str, Any]) -> None:
        answers.write(encode(message) + "\n")
        answers.flush()

    first: Any = decode(next(questions))
    try:
        calculator, warnings = make_calculator(first["name"], first["arguments"])
    except Refused as error:
        return send({"refused": error.parts})
    send({"warnings": warnings})
    for line in questions:
        question: Any = decode(line)
        send(reply(calculator, question))


def main() -> None:
    """Serve over the original stdin and stdout; output of calculators goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once; the parent reports it
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        serve(questions, answers)
    except BrokenPipeError:  # the parent has closed its end
        os._exit(1)


if __name__ == "__main__":
    main()
