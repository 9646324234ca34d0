"""What the energies of a model are counted from, and how they become those of a structure.

    E = Σ_i E0(z_i) + E_b + Σ_i ε_i        F = F_b − ∂Σε/∂r        σ = σ_b + (1/V) ∂Σε/∂strain

b is a baseline, where there is one: a cheaper level of theory that the model corrects. Both are
added to what a model says (`complete`) and subtracted from labels (`above`) here and nowhere else,
in float64.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from kohn.errors import InputError
from kohn.models import Derived
from kohn.structures import Prediction, Structure
from kohn.structures.elements import symbol
from kohn.typing import Float

Baseline = Callable[[Structure], Prediction]
"""Energy above the E0s, forces and stress of a structure by a cheaper level of theory. It is asked
for a structure in every epoch, and keeps what was expensive."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Where zero is for a model.

    Attributes:
        e0s: atomic number -> energy of the lone atom, eV.
        baseline: what the model corrects; None for nothing.
    """

    e0s: Mapping[int, float] = field(default_factory=dict)
    baseline: Baseline | None = None

    def atoms(self, structure: Structure) -> Float[np.ndarray, " n"]:
        """E0 of each atom, eV, float64.

        Raises:
            InputError: an element without one.
        """
        table = np.full(120, np.nan)
        table[list(self.e0s)] = list(self.e0s.values())
        e0 = table[structure.numbers]
        if np.isnan(e0).any():
            missing = sorted({int(z) for z in structure.numbers[np.isnan(e0)]})
            raise InputError(
                f"the potential has no E0 of {', '.join(map(symbol, missing))}",
                where=structure.place,
            )
        return e0

    def total(self, structure: Structure) -> float:
        """The part of the energy that is not learned: E0s and baseline, eV."""
        below = 0.0 if self.baseline is None else self.baseline(structure).energy
        return float(self.atoms(structure).sum()) + below

    def complete(
        self, structure: Structure, d: Derived, g: int, rows: slice, *, stress: bool
    ) -> Prediction:
        """Energy, forces and stress of a structure.

        Args:
            d: what the model says of the batch that the structure is in.
            g: its place among the structures. rows: its atoms.
            stress: whether the model has one; given of structures with a volume.
        """
        e0 = self.atoms(structure)
        found = Prediction(
            energy=float(e0.sum() + np.float64(d.energy[g])),
            energies=e0 + np.asarray(d.atom_energies[rows], np.float64),
            forces=np.asarray(d.forces[rows], np.float64),
            stress=np.asarray(d.stress[g], np.float64) if stress and structure.has_volume else None,
        )
        if self.baseline is None:
            return found
        below = self.baseline(structure)
        return Prediction(
            energy=found.energy + below.energy,
            energies=found.energies + below.energies,
            forces=found.forces + below.forces,
            stress=None
            if found.stress is None or below.stress is None
            else found.stress + below.stress,
        )

    def above(self, structure: Structure) -> Structure:
        """The structure with what is left of its labels for the model to learn."""
        below: dict[str, np.ndarray] = {"energy": np.asarray(self.atoms(structure).sum())}
        if self.baseline is not None:
            b = self.baseline(structure)
            below = {"energy": below["energy"] + b.energy, "forces": b.forces}
            below |= {} if b.stress is None else {"stress": b.stress}
        labels = structure.labels
        left = {name: labels[name] - x for name, x in below.items() if name in labels}
        return structure.with_labels(**left)
