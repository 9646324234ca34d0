"""Models that tell how far their predictions may be off."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kohn.structures import Structure
from kohn.typing import Float


@dataclass(frozen=True, eq=False)
class Variances:
    """Of the energy, eV², and of the components of the forces [n, 3], (eV/Å)²: what a label may
    be off by, squared, on average."""

    energy: float
    forces: np.ndarray


class Confidence(Protocol):
    """Tells the variances of a model; see `kohn.models.confidence_of`."""

    def variances(self, structure: Structure) -> Variances:
        """Of one structure."""
        ...

    def energy_variances(self, structures: Sequence[Structure]) -> Float[np.ndarray, " M"]:
        """Of the energies of many structures, eV²."""
        ...
