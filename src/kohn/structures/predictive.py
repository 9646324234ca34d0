"""Define the protocol of models that predict energies: potentials, ensembles and others.

Calculator, prediction, evaluation and screening use a model through this protocol alone.
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
    """The prediction of a potential for one structure.

    Attributes:
        energy: eV, E0s included.
        energies: eV, [n], of each atom, E0 included.
        forces: eV/Å, [n, 3].
        stress: eV/Å³, [3, 3], positive in tension, for a structure that is periodic in some
            direction in a cell with a volume; None otherwise, and for a potential that is not
            conservative.
        energy_std: expected standard deviation of the error of the energy, eV, for models that
            are `confident`.
        forces_std: the same for each force component, eV/Å, [n, 3].
        outside: how the structure differs from the training data, in words.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray | None
    energy_std: float | None = None
    forces_std: np.ndarray | None = None
    outside: tuple[str, ...] = ()

    def __repr__(self) -> str:
        force = np.linalg.norm(self.forces, axis=1).max(initial=0.0)
        parts = [f"energy {self.energy:.6g} eV", f"{len(self.energies)} atoms"]
        parts += [f"largest force {force:.4g} eV/Å"]
        parts += ["with stress"] if self.stress is not None else []
        parts += [f"σ {self.energy_std:.3g} eV"] if self.energy_std is not None else []
        parts += ["outside the training data"] if self.outside else []
        return f"Prediction({'; '.join(parts)})"

    def as_labels(self) -> dict[str, np.ndarray]:
        """Return the prediction under the names of the label table."""
        names = ("energy", "energies", "forces", "stress", "energy_std", "forces_std")
        values = {name: getattr(self, name) for name in names}
        return {name: np.asarray(v) for name, v in values.items() if v is not None}


@dataclass(frozen=True, eq=False)
class Energies:
    """Predicted energies alone, of many structures.

    Attributes:
        mean: eV, [M].
        std: expected standard deviation of the errors, eV, [M]; None for models that do not
            predict it.
        freedom: ν of Student's distribution, which describes the errors; infinite if the
            standard deviation is known, as that of a posterior.
    """

    mean: Float[np.ndarray, " M"]
    std: Float[np.ndarray, " M"] | None = None
    freedom: float = np.inf


class MovingModel(Protocol):
    """A model for moving atoms: it reuses data of one geometry for the next if it can."""

    @property
    def compilations(self) -> int:
        """The number of shapes that were needed, and so of functions compiled."""
        ...

    @property
    def searches(self) -> int:
        """The number of searches for neighbours."""
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
        """The atomic numbers that the model knows."""
        ...

    @property
    def cutoff(self) -> float:
        """The cutoff, beyond which atoms do not see each other, Å."""
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
        """Return energies alone, of very many structures that come in portions.

        Args:
            structures: a portion.
            elements: atomic numbers of all portions.
            deviations: whether to predict standard deviations of the errors too.

        Raises:
            InputError, ConfigError: see `predict`.
        """
        ...

    def moving(self, *, skin: float = 0.2) -> MovingModel:
        """Return the model for moving atoms, with a skin of the neighbour lists, Å."""
        ...

    def astype(self, dtype: type) -> Self:
        """Return the same model, computing in float32 or float64."""
        ...
