"""Define the protocol of models that predict energies: potentials, ensembles and others.

The ASE calculator, prediction, evaluation and screening use models through this protocol only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from kohn.structures.reading import Readable
from kohn.structures.structure import Structure
from kohn.typing import Document, Float


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The prediction of a model for one structure.

    Values have the names of the label table: `prediction["dipole"]`. The values of a potential are
    also attributes: `prediction.energy`.

    Attributes:
        values: name -> float64 array in Kohn's units, for the quantities that the model predicts.
        outside: how the structure differs from the training data, in words.
    """

    values: dict[str, np.ndarray]
    outside: tuple[str, ...] = ()

    @classmethod
    def of_energy(
        cls,
        energy: float,
        energies: np.ndarray,
        forces: np.ndarray,
        stress: np.ndarray | None = None,
        *,
        energy_std: float | None = None,
        forces_std: np.ndarray | None = None,
        outside: tuple[str, ...] = (),
    ) -> "Prediction":
        """Return a prediction with these values of a potential, without those that are None."""
        values = {
            "energy": energy,
            "energies": energies,
            "forces": forces,
            "stress": stress,
            "energy_std": energy_std,
            "forces_std": forces_std,
        }
        return cls({k: np.asarray(v) for k, v in values.items() if v is not None}, outside)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.values:
            raise KeyError(f"{name}: the model predicts {', '.join(self.values)}")
        return self.values[name]

    @property
    def energy(self) -> float:
        """The total energy, eV, including the reference energies E0."""
        return float(self["energy"])

    @property
    def energies(self) -> np.ndarray:
        """The energy of each atom, eV, [n], including its reference energy E0."""
        return self["energies"]

    @property
    def forces(self) -> np.ndarray:
        """The forces on the atoms, eV/Å, [n, 3]."""
        return self["forces"]

    @property
    def stress(self) -> np.ndarray | None:
        """The stress, eV/Å³, [3, 3], positive in tension, of a structure that is periodic in some
        direction in a cell with a volume; None otherwise, and if forces are predicted directly."""
        return self.values.get("stress")

    @property
    def energy_std(self) -> float | None:
        """The expected standard deviation of the energy's error, eV; None if not predicted."""
        std = self.values.get("energy_std")
        return None if std is None else float(std)

    @property
    def forces_std(self) -> np.ndarray | None:
        """The σ that is expected of the error of each force component, eV/Å, [n, 3], or None."""
        return self.values.get("forces_std")

    def __repr__(self) -> str:
        parts = [f"{k} {v:.6g}" for k, v in self.values.items() if v.ndim == 0]
        parts += [f"{k} {list(v.shape)}" for k, v in self.values.items() if v.ndim > 0]
        parts += ["outside the training data"] if self.outside else []
        return f"Prediction({'; '.join(parts)})"

    def as_labels(self) -> dict[str, np.ndarray]:
        """Return the values as a dict: name in the label table -> array."""
        return dict(self.values)


@dataclass(frozen=True, eq=False)
class Energies:
    """The predicted energies of M structures, without forces.

    Attributes:
        mean: the energies, eV, [M].
        std: expected standard deviation of their errors, eV, [M]; None if not predicted.
        freedom: the degrees of freedom ν of Student's distribution, which describes the errors;
            infinite if the standard deviation is known, as that of a posterior is.
    """

    mean: Float[np.ndarray, " M"]
    std: Float[np.ndarray, " M"] | None = None
    freedom: float = np.inf


class MovingModel(Protocol):
    """A model for moving atoms, which reuses data of one geometry for the next if it can."""

    @property
    def compilations(self) -> int:
        """The number of compiled functions, one for each shape of arrays that was needed."""
        ...

    @property
    def searches(self) -> int:
        """The number of times that the neighbour list was computed."""
        ...

    def __call__(self, structure: Structure) -> Prediction:
        """Return energy, forces and stress of a geometry.

        Raises:
            InputError: an element that the model has not seen; a geometry that is not valid.
        """
        ...


class Predictive(Protocol):
    """A model that predicts energies, forces and stresses, and perhaps their errors."""

    @property
    def elements(self) -> tuple[int, ...]:
        """The atomic numbers of the elements that the model knows."""
        ...

    @property
    def cutoff(self) -> float:
        """The cutoff, Å: atoms further apart are not neighbours."""
        ...

    @property
    def conservative(self) -> bool:
        """Whether forces and stress are derivatives of the energy. If not, stress is None."""
        ...

    @property
    def confident(self) -> bool:
        """Whether the model predicts standard deviations of its errors."""
        ...

    @property
    def provenance(self) -> Document:
        """The record of how the model was made."""
        ...

    def zero(self, structure: Structure) -> float:
        """Return the part of the energy that is not learned: E0s and baseline, eV."""
        ...

    def predict(
        self,
        structures: Readable,
        *,
        uncertainty: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """Return energies, forces and stresses of structures, in their order.

        Args:
            structures: anything that `kohn.read` takes.
            uncertainty: whether to predict standard deviations of the errors too.
            advance: called with the number of structures done since the last call.

        Raises:
            InputError: an element that the model has not seen; a geometry that is not valid.
            ConfigError: `uncertainty` for a model that is not confident.
        """
        ...

    def energies(
        self,
        structures: Sequence[Structure],
        *,
        elements: Sequence[int] | None = None,
        deviations: bool = False,
    ) -> Energies:
        """Return the energies, without forces, of one portion of very many structures.

        Args:
            structures: the structures of the portion.
            elements: the atomic numbers that occur in all portions together.
            deviations: whether to predict standard deviations of the errors too.

        Raises:
            InputError, ConfigError: see `predict`.
        """
        ...

    def moving(self, *, skin: float = 0.2) -> MovingModel:
        """Return the model for moving atoms; neighbour lists reach `skin`, Å, beyond the cutoff."""
        ...

    def astype(self, dtype: type) -> Self:
        """Return the same model, which computes in float32 or float64."""
        ...
