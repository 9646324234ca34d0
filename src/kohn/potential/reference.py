"""Add the E0s of atoms and a baseline to results of a model, and subtract them from labels.

    E = Σ_i E0(z_i) + E_b + Σ_i ε_i        F = F_b − ∂Σε/∂r        σ = σ_b + (1/V) ∂Σε/∂strain

ε_i is the energy of atom i that the model learns; E_b, forces F_b and stress σ_b are an optional
baseline, a cheaper level of theory that the model corrects. Only this module adds E0s and baseline
to results (`complete`) and subtracts them from labels (`above`), in float64.
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
"""Energy above the E0s, forces and stress of a structure by a cheaper level of theory. It is called
for a structure in every epoch, and caches expensive results."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The zero of the energies of a model: the part of an energy that is not learned.

    Attributes:
        e0s: atomic number -> energy of the lone atom, eV.
        baseline: the level of theory that the model corrects, or None.
    """

    e0s: Mapping[int, float] = field(default_factory=dict)
    baseline: Baseline | None = None

    def atoms(self, structure: Structure) -> Float[np.ndarray, " n"]:
        """Return the E0 of each atom, eV, float64.

        Raises:
            InputError: an element of the structure has no E0.
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
        """Return the part of the energy that is not learned: E0s and baseline, eV."""
        baseline = 0.0 if self.baseline is None else self.baseline(structure).energy
        return float(self.atoms(structure).sum()) + baseline

    def complete(
        self, structure: Structure, d: Derived, g: int, rows: slice, *, stress: bool
    ) -> Prediction:
        """Compute energy, forces and stress of a structure from results of the model.

        Args:
            d: results of the model for a batch that contains the structure.
            g: index of the structure in the batch. rows: rows of its atoms.
            stress: whether the model predicts stress; returned for structures with a volume.
        """
        e0 = self.atoms(structure)
        learned = Prediction.of_energy(
            energy=float(e0.sum() + np.float64(d.energy[g])),
            energies=e0 + np.asarray(d.atom_energies[rows], np.float64),
            forces=np.asarray(d.forces[rows], np.float64),
            stress=np.asarray(d.stress[g], np.float64) if stress and structure.has_volume else None,
        )
        if self.baseline is None:
            return learned
        baseline = self.baseline(structure)
        return Prediction.of_energy(
            energy=learned.energy + baseline.energy,
            energies=learned.energies + baseline.energies,
            forces=learned.forces + baseline.forces,
            stress=None
            if learned.stress is None or baseline.stress is None
            else learned.stress + baseline.stress,
        )

    def above(self, structure: Structure) -> Structure:
        """Return the structure with its labels less E0s and baseline: what the model learns."""
        below: dict[str, np.ndarray] = {"energy": np.asarray(self.atoms(structure).sum())}
        if self.baseline is not None:
            b = self.baseline(structure)
            below = {"energy": below["energy"] + b.energy, "forces": b.forces}
            below |= {} if b.stress is None else {"stress": b.stress}
        labels = structure.labels
        learned = {name: labels[name] - x for name, x in below.items() if name in labels}
        return structure.with_labels(**learned)
