"""Asking a calculator: with copies, counted; what it lacks and what it raises told apart."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms

from kohn.structures import Structure, to_ase


class Unmeasured(Exception):
    """A law could not be measured; the message says why."""


class Raised(Unmeasured):
    """The calculator raised something."""


class NotANumber(Exception):
    """The calculator returned what is not a finite number; the message says of which quantity."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a calculator says of one structure.

    Attributes:
        energy: eV.
        forces: eV/Å, [n, 3]; None where it gives none.
        stress: eV/Å³, [3, 3], positive in tension; None where it, or the structure, has none.
    """

    energy: float
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None


class Asking:
    """A calculator, and how often it was asked.

    The energy is the free energy where the calculator has one, because forces and stress are
    its derivatives. Every call gets atoms of its own, without constraints, so a calculator that
    changes them disturbs no other call.

    Args:
        calculator: anything with ASE's interface.

    Attributes:
        calls: structures it has been asked for.
    """

    def __init__(self, calculator: Any):
        self.calculator = calculator
        self.calls = 0
        # Of ASE's classes `implemented_properties` is a list; of some others a method.
        known = getattr(calculator, "implemented_properties", ())
        self._free = isinstance(known, (list, tuple, set)) and "free_energy" in known

    def __call__(self, s: Structure, *, forces: bool = True, stress: bool = True) -> Outcome:
        """Energy, and forces and stress where they are wanted and to be had.

        Raises:
            Raised: the calculator raised an exception.
            NotANumber: it returned one that is not finite.
        """
        return self.of(atoms_of(s), forces=forces, stress=stress and has_stress(s))

    def of(self, atoms: Atoms, *, forces: bool, stress: bool) -> Outcome:
        """The same of `atoms`, which the calculator may change."""
        self.calls += 1
        atoms.calc = self.calculator
        n = len(atoms)
        # The most first: what was computed for it is kept, so the rest is looked up.
        sigma = self._tensor(atoms, "stress", (3, 3)) if stress else None
        f = self._tensor(atoms, "forces", (n, 3)) if forces else None
        try:
            energy = self._guarded(lambda: atoms.get_potential_energy(force_consistent=self._free))
        except NotImplementedError as error:
            raise Raised(f"{type(error).__name__}: {error}") from error
        found = Outcome(float(np.asarray(energy).squeeze()), f, sigma)
        for name in ("energy", "forces", "stress"):
            value = getattr(found, name)
            if value is not None and not np.isfinite(value).all():
                raise NotANumber(name)
        return found

    def forces(self, s: Structure) -> np.ndarray:
        """Forces alone, eV/Å, [n, 3].

        Raises:
            Unmeasured: it gives none, or see above.
        """
        found = self(s, stress=False).forces
        if found is None:
            raise Unmeasured("the calculator gives no forces")
        return found

    def reset(self) -> None:
        """Make the calculator forget its last results, so that the next call computes."""
        forget = getattr(self.calculator, "reset", None)
        if callable(forget):
            self._guarded(forget)

    def _tensor(self, atoms: Atoms, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        options = {"apply_constraint": False} | ({"voigt": False} if name == "stress" else {})
        try:
            value = self._guarded(lambda: getattr(atoms, f"get_{name}")(**options))
        except NotImplementedError:
            return None
        array = np.array(value, np.float64)
        if array.shape != shape:
            raise Raised(f"{name} of the shape {array.shape} instead of {shape}")
        return array

    def _guarded(self, function) -> Any:
        try:
            return function()
        except NotImplementedError:  # of ASE's calculators, a property that they do not have
            raise
        except Exception as error:  # calculators raise whatever they happen to meet
            first = str(error).strip().split("\n")[0][:200]
            raise Raised(f"{type(error).__name__}: {first}" if first else f"{error!r}") from error


def atoms_of(s: Structure) -> Atoms:
    """Fresh atoms without labels, results or constraints."""
    return to_ase(replace(s, labels={}))


def has_stress(s: Structure) -> bool:
    """Whether stress means something: periodic along three vectors that span a volume."""
    return bool(s.periodic.all()) and s.volume > 0
