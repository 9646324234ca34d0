"""What predicts with confidence: the protocol of potentials, ensembles and whatever comes.

Calculator, prediction, evaluation and screening know a model by this alone.
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
    """What a potential says of one structure.

    Attributes:
        energy: eV, E0s included.
        energies: eV, [n], of each atom, E0 included.
        forces: eV/Å, [n, 3].
        stress: eV/Å³, [3, 3], positive in tension, of a structure that is periodic in some
            direction in a cell with a volume; None otherwise, and of a potential that is not
            conservative.
        energy_std: standard deviation that the error of the energy is expected to have, eV, of
            models that are `confident`.
        forces_std: of each force component, eV/Å, [n, 3].
        outside: in what the structure is unlike the training data, in words.
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
        said = [f"energy {self.energy:.6g} eV", f"{len(self.energies)} atoms"]
        said += [f"largest force {force:.4g} eV/Å"]
        said += ["with stress"] if self.stress is not None else []
        said += [f"σ {self.energy_std:.3g} eV"] if self.energy_std is not None else []
        said += ["outside the training data"] if self.outside else []
        return f"Prediction({'; '.join(said)})"

    def as_labels(self) -> dict[str, np.ndarray]:
        """The prediction under the names of the label table."""
        names = ("energy", "energies", "forces", "stress", "energy_std", "forces_std")
        values = {name: getattr(self, name) for name in names}
        return {name: np.asarray(v) for name, v in values.items() if v is not None}


@dataclass(frozen=True, eq=False)
class Energies:
    """Energies alone, of many structures.

    Attributes:
        mean: eV, [M].
        std: standard deviation that the errors are expected to have, eV, [M]; None of models that
            do not tell it.
        freedom: ν of the errors, which Student's distribution describes; infinite where the
            standard deviation is known, as that of a posterior.
    """

    mean: Float[np.ndarray, " M"]
    std: Float[np.ndarray, " M"] | None = None
    freedom: float = np.inf


class Moving(Protocol):
    """A model of atoms that move: it keeps what it can from one geometry to the next."""

    @property
    def compilations(self) -> int:
        """Shapes that were needed, and so functions compiled."""
        ...

    @property
    def searches(self) -> int:
        """How often the neighbours were found anew."""
        ...

    def __call__(self, structure: Structure) -> Prediction:
        """Energy, forces and stress of a geometry.

        Raises:
            InputError: an element that the model has not seen; a geometry without sense.
        """
        ...


class Predictive(Protocol):
    """Anything that predicts energies, forces and stresses, and perhaps how sure it is."""

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that it knows."""
        ...

    @property
    def cutoff(self) -> float:
        """Distance beyond which atoms do not see each other, Å."""
        ...

    @property
    def conservative(self) -> bool:
        """Whether forces and stress are derivatives of the energy. If not, there is no stress."""
        ...

    @property
    def confident(self) -> bool:
        """Whether it tells standard deviations of its errors."""
        ...

    @property
    def provenance(self) -> Document:
        """How it was made."""
        ...

    def zero(self, structure: Structure) -> float:
        """The part of the energy that is not learned: E0s and baseline, eV."""
        ...

    def predict(
        self,
        structures: Readable,
        *,
        uncertainty: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """Energies, forces and stresses of structures, in their order.

        Args:
            structures: whatever `kohn.read` takes.
            uncertainty: standard deviations of the errors too.
            advance: called with the number of structures done since the last call.

        Raises:
            InputError: an element that the model has not seen; a geometry without sense.
            ConfigError: `uncertainty` of a model that is not confident.
        """
        ...

    def energies(
        self,
        structures: Sequence[Structure],
        *,
        elements: Sequence[int] | None = None,
        deviations: bool = False,
    ) -> Energies:
        """Energies alone, of very many structures that come in portions.

        Args:
            structures: a portion.
            elements: atomic numbers of all portions.
            deviations: standard deviations of the errors too.

        Raises:
            InputError, ConfigError: see `predict`.
        """
        ...

    def moving(self, *, skin: float = 0.2) -> Moving:
        """For atoms that move; neighbours are kept with a skin, Å."""
        ...

    def astype(self, dtype: type) -> Self:
        """The same computing in float32 or float64."""
        ...
