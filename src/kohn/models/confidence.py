"""Define the variances that a model can predict for its energies and forces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kohn.structures import Structure
from kohn.typing import Float


@dataclass(frozen=True, eq=False)
class Variances:
    """Variances of the energy, eV², and of the force components [n, 3], (eV/Å)²: the expected
    squared difference between a label and the prediction."""

    energy: float
    forces: np.ndarray


class Confidence(Protocol):
    """An object that computes the variances of a model; see `kohn.models.CONFIDENCES`."""

    def variances(self, structure: Structure) -> Variances:
        """Compute the variances of the energy and of the forces of one structure."""
        ...

    def energy_variances(self, structures: Sequence[Structure]) -> Float[np.ndarray, " M"]:
        """Compute the variances of the energies of M structures, eV²."""
        ...
