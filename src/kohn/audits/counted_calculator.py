"""Call a calculator, count the calls, and distinguish missing quantities from errors."""

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
"""The usual order of requests, stress first: calculators then have forces and energy stored."""


class Unmeasured(Exception):
    """A law could not be measured; the message says why."""


class NotANumber(Exception):
    """The calculator returned a value that is not finite; the message names the quantity."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The results of a calculator for one structure.

    Attributes:
        energy: the total energy, eV.
        forces: eV/Å, [n, 3]; None if the calculator gives none.
        stress: eV/Å³, [3, 3], positive in tension; None if the calculator or structure has none.
            Components off the periodic vectors of slabs and wires have no meaning and are 0.
        lacks: missing quantity -> why the calculator does not give it.
    """

    energy: float
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    lacks: dict[str, str] = field(default_factory=dict)


class CountedCalculator:
    """A calculator with a counter of its calls.

    Each call gets a new copy of the atoms, without constraints, so that a calculator that changes
    its atoms does not disturb other calls.

    Args:
        calculator: anything with ASE's interface, or a `CalculatorProcess`.

    Attributes:
        calls: the number of structures computed so far.
    """

    def __init__(self, calculator: Any):
        self.calculator = calculator
        self.calls = 0
        remote = isinstance(calculator, CalculatorProcess)
        self._answer = calculator.answer if remote else partial(worker.answer, calculator)
        self._reset = calculator.reset if remote else partial(worker.reset, calculator)
        self._no_stress_of_slabs = ""

    def __call__(
        self,
        s: Structure,
        *,
        forces: bool = True,
        stress: bool = True,
        order: Sequence[str] = ORDER,
    ) -> Outcome:
        """Compute the energy, and forces and stress if they are wanted and available.

        Args:
            order: the order in which the quantities are requested, one after the other.

        Raises:
            Raised: the calculator raised an exception.
            NotANumber: the calculator returned a value that is not finite.
        """
        unwanted = {"forces": not forces, "stress": not (stress and has_stress(s))}
        wanted = [name for name in order if not unwanted.get(name)]
        stress_of_slab = "stress" in wanted and not s.periodic.all()
        if stress_of_slab and self._no_stress_of_slabs:
            return self._without_stress(s, wanted)
        try:
            return self.of(atoms_of(s), wanted)
        except Raised as error:
            if not stress_of_slab:
                raise
            try:
                outcome = self._without_stress(s, wanted)
            except Raised:
                raise error from None
            self._no_stress_of_slabs = str(error)
            return replace(outcome, lacks={**outcome.lacks, "stress": str(error)})

    def _without_stress(self, s: Structure, wanted: Sequence[str]) -> Outcome:
        """Compute the other wanted quantities of a slab whose stress the calculator refuses."""
        outcome = self.of(atoms_of(s), [name for name in wanted if name != "stress"])
        return replace(outcome, lacks={**outcome.lacks, "stress": self._no_stress_of_slabs})

    def of(self, atoms: Atoms, wanted: Sequence[str] = ORDER) -> Outcome:
        """Compute the wanted quantities of `atoms`, which the calculator may change."""
        self.calls += 1
        directions = periodic_directions(atoms.pbc, atoms.cell.array)
        answer = self._answer(atoms, wanted)
        if "raised" in answer or "energy" not in answer:
            causes = dict.fromkeys(answer[x] for x in ("first", "raised") if x in answer)
            raise Raised("; then ".join(causes))
        stress = answer.get("stress")
        if stress is not None:
            full = stress if stress.shape == (3, 3) else voigt_6_to_full_3x3_stress(stress)
            stress = directions @ (directions.T @ full @ directions) @ directions.T
        outcome = Outcome(answer["energy"].item(), answer.get("forces"), stress, answer["lacks"])
        for name in ("energy", "forces", "stress"):
            value = getattr(outcome, name)
            if value is not None and not np.isfinite(value).all():
                raise NotANumber(name)
        return outcome

    def forces(self, s: Structure) -> np.ndarray:
        """Compute only the forces, eV/Å, [n, 3]; raise Unmeasured if the calculator gives none."""
        return forces_of(self(s, stress=False))

    def reset(self) -> None:
        """Make the calculator forget its last results, so that the next call computes again."""
        raised = self._reset()
        if raised is not None:
            raise Raised(raised)


def forces_of(outcome: Outcome) -> np.ndarray:
    """Return the forces, eV/Å, [n, 3]; raise Unmeasured, with the reason, if there are none."""
    if outcome.forces is None:
        raise Unmeasured(lacking("forces", outcome))
    return outcome.forces


def lacking(name: str, outcome: Outcome, of: str = "") -> str:
    """Return 'the calculator gives no {name}{of}', followed by the calculator's reason, if any."""
    reason = outcome.lacks.get(name, "")
    reason = "" if reason.startswith("PropertyNotImplementedError") else reason
    return f"the calculator gives no {name}{of}" + (f": {reason}" if reason else "")


def atoms_of(s: Structure) -> Atoms:
    """Return the structure as new ASE atoms, without labels, results or constraints."""
    return to_ase(replace(s, labels={}))


def has_stress(s: Structure) -> bool:
    """Return whether a stress is defined: the structure has a periodic vector and a volume.

    The energy is a smooth function of the strain along periodic vectors; the volume is that of the
    cell as given, vacuum included, as in ASE.
    """
    return bool(s.periodic.any()) and s.volume > 0


def periodic_directions(periodic: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return orthonormal columns, [3, number of periodic vectors], that span these vectors."""
    return np.eye(3) if periodic.all() else np.linalg.qr(cell[periodic].T)[0]
