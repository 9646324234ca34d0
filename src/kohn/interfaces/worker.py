"""What a calculator answers of atoms; and, run as a script, a process that holds one calculator.

This file imports nothing of Kohn: importing Kohn switches JAX to 64-bit numbers, and a calculator
written with JAX is to be measured in the precision that it ships with. `calculator_process.py`
starts the script and speaks with it over pipes, in lines of JSON, one answer for each question.
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
"""What each may come as, of n atoms, and that in words."""


class WrongShape(Exception):
    """A calculator's array has another shape than ASE's."""


class Refused(Exception):
    """A calculator that cannot be made: the parts of an error, see `kohn.errors`."""

    def __init__(self, kind: str, message: str, **parts: str | None):
        super().__init__(message)
        self.parts = {"kind": kind, "message": message, **parts}


def answer(calculator: Any, atoms: Atoms, wanted: Sequence[str]) -> dict[str, Any]:
    """What a calculator says of atoms, asked for one quantity after the other.

    The energy is the free energy where the calculator has one, because forces and stress are its
    derivatives.

    Args:
        wanted: of 'energy', 'forces' and 'stress', in the order in which they are asked for.

    Returns:
        Arrays by name, as they came; `lacks`, by name why there is none; and if something was
        raised, `raised`, its text, and `first`, what had been refused before it.
    """
    # Of ASE's classes `implemented_properties` is a list; of some others a method.
    known = getattr(calculator, "implemented_properties", ())
    free = isinstance(known, (list, tuple, set)) and "free_energy" in known
    atoms.calc = calculator
    ask = {
        "energy": lambda: atoms.get_potential_energy(force_consistent=free),
        "forces": lambda: atoms.get_forces(apply_constraint=False),
        "stress": lambda: calculator.get_stress(atoms),
    }
    said: dict[str, Any] = {"lacks": {}}
    for name in wanted:
        try:
            said[name] = _array(name, ask[name](), len(atoms))
        except NotImplementedError as error:  # of ASE's calculators, a property they do not have
            said["lacks"][name] = text_of(error)
            if name == "energy" or not isinstance(error, PropertyNotImplementedError):
                said.setdefault("first", text_of(error))
        except WrongShape as error:
            return {**said, "raised": str(error)}
        except (Exception, SystemExit) as error:  # calculators raise whatever they happen to meet
            return {**said, "raised": text_of(error)}
    return said


def _array(name: str, value: Any, atoms: int) -> np.ndarray:
    array = np.array(value, np.float64)
    shapes, words = SHAPES[name]
    if array.shape not in shapes(atoms):
        expected = words.format(n=atoms)
        raise WrongShape(f"{name} of the shape {array.shape}, expected {expected}")
    return array


def text_of(error: BaseException) -> str:
    """An exception in one line; of one that another led to, that one first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if "StackTrace" in type(cause).__name__:  # JAX hangs one on its errors
        cause = None
    said = str(error).strip().split("\n")[0][:200]
    said = f"{type(error).__name__}: {said}" if said else f"{error!r}"
    return f"{text_of(cause)}; then {said}" if cause is not None else said


def reset(calculator: Any) -> str | None:
    """Make a calculator forget its last results; what it raises."""
    forget = getattr(calculator, "reset", None)
    if callable(forget):
        try:
            forget()
        except (Exception, SystemExit) as error:
            return text_of(error)
    return None


# Making a calculator from its name


def made(name: str, options: dict[str, Any]) -> tuple[Any, list[str]]:
    """A calculator from "module:Class" and keyword arguments, and what is to be said of them.

    Raises:
        Refused: no such module or class, what its constructor refuses, or an argument that the
            calculator does not know.
    """
    module, _, attribute = name.partition(":")
    kind = _attribute(_module(module), module, attribute)
    try:
        calculator = kind(**options)
    except (Exception, SystemExit) as error:  # constructors raise whatever they happen to meet
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


def not_a_calculator(found: Any) -> dict[str, str | None]:
    """The other parts of an error that says so."""
    is_class = isinstance(found, type)
    return {
        "expected": "an object with get_potential_energy, get_forces and get_stress",
        "received": f"the class {found.__name__}" if is_class else str(type(found)),
        "fix": "make one of the class first" if is_class else None,
    }


def check_arguments(calculator: Any, options: dict[str, Any]) -> list[str]:
    """Look for arguments that a calculator took and will not look at.

    ASE's base class keeps any keyword, so that a slip of the pen is silent. Where the class lists
    its parameters (`default_parameters` of ASE) one that is not among them is an error; where it
    lists none, or hands on what it is given, nobody can tell, and it is a warning. Without
    ``**kwargs`` Python itself refuses it.

    Returns:
        What is to be said of arguments that cannot be checked.

    Raises:
        Refused: an argument that the calculator does not know, with the nearest that it does.
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
    guess = _nearest(unknown[0], known)
    raise Refused(
        "ConfigError",
        f"{kind.__name__} does not know the argument {unknown[0]!r}",
        expected=f"one of {', '.join(known)}",
        fix=f"did you mean {guess!r}?" if guess else "remove it",
    )


_OF_EVERY = {"self", "args", "kwargs"}


def _nearest(word: str, known: Sequence[str]) -> str | None:
    by_lower = {x.lower(): x for x in known}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1)
    return by_lower[found[0]] if found else None


def _parameters(kind: type) -> list[str]:
    try:
        return list(inspect.signature(kind.__init__).parameters)
    except (TypeError, ValueError):
        return []


def _module(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a module of the user's own, beside the structures
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # importing runs the module, which may raise anything
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
    """The answer to one question of `calculator_process.py`."""
    if question["what"] == "reset":
        return {"raised": reset(calculator)}
    atoms: Any = question["atoms"]
    before = atoms.copy()
    said = answer(calculator, atoms, question["wanted"])
    atoms.calc = None
    same = all(np.array_equal(x, before.arrays.get(k)) for k, x in atoms.arrays.items())
    same = same and np.array_equal(atoms.cell, before.cell) and not atoms.constraints
    return said if same and (atoms.pbc == before.pbc).all() else {**said, "atoms": atoms}


def serve(questions: Any, answers: Any) -> None:
    """Make a calculator as the first line says, then answer line by line."""

    def say(what: dict[str, Any]) -> None:
        answers.write(encode(what) + "\n")
        answers.flush()

    first: Any = decode(next(questions))
    try:
        calculator, warnings = made(first["name"], first["arguments"])
    except Refused as error:
        return say({"refused": error.parts})
    say({"warnings": warnings})
    for line in questions:
        question: Any = decode(line)
        say(reply(calculator, question))


def main() -> None:
    """Answer on the pipes that were stdin and stdout; what calculators print goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, and the parent says so
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        serve(questions, answers)
    except BrokenPipeError:  # nobody listens any more
        os._exit(1)


if __name__ == "__main__":
    main()
