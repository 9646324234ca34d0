"""A calculator that counts its calls, with what it lacks told apart from what it raises."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from kohn.interfaces import worker
from kohn.interfaces.calculator_process import CalculatorProcess, Raised
from kohn.structures import Structure, to_ase

ORDER = ("stress", "forces", "energy")
"""The most first: what was computed for it is kept, so the rest is looked up."""


class Unmeasured(Exception):
    """A law could not be measured; the message says why."""


class NotANumber(Exception):
    """The calculator returned what is not a finite number; the message says of which quantity."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a calculator says of one structure.

    Attributes:
        energy: eV.
        forces: eV/Å, [n, 3]; None where it gives none.
        stress: eV/Å³, [3, 3], positive in tension; None where it, or the structure, has none. Of
            slabs and wires what is along their periodic vectors; the rest has no meaning and is 0.
        lacks: of what it does not give, why.
    """

    energy: float
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    lacks: dict[str, str] = field(default_factory=dict)


class CountedCalculator:
    """A calculator, and how often it was asked.

    Every call gets atoms of its own, without constraints, so a calculator that changes them
    disturbs no other call.

    Args:
        calculator: anything with ASE's interface, or a `CalculatorProcess`.

    Attributes:
        calls: structures it has been asked for.
    """

    def __init__(self, calculator: Any):
        self.calculator = calculator
        self.calls = 0
        apart = isinstance(calculator, CalculatorProcess)
        self._answer = calculator.answer if apart else partial(worker.answer, calculator)
        self._reset = calculator.reset if apart else partial(worker.reset, calculator)
        self._no_stress_of_slabs = ""

    def __call__(
        self,
        s: Structure,
        *,
        forces: bool = True,
        stress: bool = True,
        order: Sequence[str] = ORDER,
    ) -> Outcome:
        """Energy, and forces and stress where they are wanted and to be had.

        Args:
            order: in which they are asked for, each in a call of its own.

        Raises:
            Raised: the calculator raised an exception.
            NotANumber: it returned one that is not finite.
        """
        left_out = {"forces": not forces, "stress": not (stress and has_stress(s))}
        wanted = [name for name in order if not left_out.get(name)]
        partly = "stress" in wanted and not s.periodic.all()
        if partly and self._no_stress_of_slabs:
            return self._without_stress(s, wanted)
        try:
            return self.of(atoms_of(s), wanted)
        except Raised as error:
            if not partly:
                raise
            try:
                found = self._without_stress(s, wanted)
            except Raised:
                raise error from None
            self._no_stress_of_slabs = str(error)
            return replace(found, lacks={**found.lacks, "stress": str(error)})

    def _without_stress(self, s: Structure, wanted: Sequence[str]) -> Outcome:
        """Of a slab whose stress the calculator refuses."""
        found = self.of(atoms_of(s), [name for name in wanted if name != "stress"])
        return replace(found, lacks={**found.lacks, "stress": self._no_stress_of_slabs})

    def of(self, atoms: Atoms, wanted: Sequence[str] = ORDER) -> Outcome:
        """The same of `atoms`, which the calculator may change."""
        self.calls += 1
        along = periodic_directions(atoms.pbc, atoms.cell.array)
        said = self._answer(atoms, wanted)
        if "raised" in said or "energy" not in said:
            causes = dict.fromkeys(said[x] for x in ("first", "raised") if x in said)
            raise Raised("; then ".join(causes))
        stress = said.get("stress")
        if stress is not None:
            full = stress if stress.shape == (3, 3) else voigt_6_to_full_3x3_stress(stress)
            stress = along @ (along.T @ full @ along) @ along.T
        found = Outcome(said["energy"].item(), said.get("forces"), stress, said["lacks"])
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
        return forces_of(self(s, stress=False))

    def reset(self) -> None:
        """Make the calculator forget its last results, so that the next call computes."""
        raised = self._reset()
        if raised is not None:
            raise Raised(raised)


def forces_of(found: Outcome) -> np.ndarray:
    """Forces of an outcome, eV/Å, [n, 3].

    Raises:
        Unmeasured: there are none; the calculator's reason, where it gave one.
    """
    if found.forces is None:
        raise Unmeasured(lacking("forces", found))
    return found.forces


def lacking(name: str, found: Outcome, of: str = "") -> str:
    """'the calculator gives no stress of slabs', with its reason where it gave one."""
    why = found.lacks.get(name, "")
    plain = not why or why.startswith("PropertyNotImplementedError")
    return f"the calculator gives no {name}{of}" + ("" if plain else f": {why}")


def atoms_of(s: Structure) -> Atoms:
    """Fresh atoms without labels, results or constraints."""
    return to_ase(replace(s, labels={}))


def has_stress(s: Structure) -> bool:
    """Whether stress means something: periodic along one vector at least, in a volume.

    The energy is smooth in the strain along what is periodic; the volume is that of the cell as
    given, vacuum included, as in ASE.
    """
    return bool(s.periodic.any()) and s.volume > 0


def periodic_directions(periodic: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span what is periodic: [3, 3] of crystals, [3, 2] of slabs."""
    return np.eye(3) if periodic.all() else np.linalg.qr(cell[periodic].T)[0]
