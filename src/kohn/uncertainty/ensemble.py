"""Average the predictions y_s of S potentials, and estimate the standard deviation σ of the error.

    y = Σ_s y_s / S        s² = Σ_s (y_s − y)² / (S − 1)        σ = s √(1 + 1/S)

σ is the standard deviation of the error of the mean y, if the truth is distributed like one more
prediction; the error follows Student's distribution with ν = S − 1 degrees of freedom.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from kohn.errors import ConfigError
from kohn.potential import MovingPotential, Potential, as_potential
from kohn.structures import Energies, Prediction, Readable, Structure, structures_of
from kohn.typing import Document, Float


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Several potentials that predict together, as one `kohn.structures.Predictive` model.

    Attributes:
        members: the potentials, at least two.

    Raises:
        ConfigError: fewer than two members.
        ModelFileError: a member is a model of properties.
    """

    members: tuple[Potential, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ConfigError(
                "an ensemble has at least two members", received=f"{len(self.members)}"
            )
        for member in self.members:
            as_potential(member)

    @property
    def elements(self) -> tuple[int, ...]:
        """The atomic numbers that all members know, in ascending order."""
        known = set.intersection(*(set(m.elements) for m in self.members))
        return tuple(sorted(known))

    @property
    def cutoff(self) -> float:
        """The largest cutoff of the members, Å."""
        return max(m.cutoff for m in self.members)

    @property
    def conservative(self) -> bool:
        """Whether forces and stress of all members are derivatives of their energies."""
        return all(m.conservative for m in self.members)

    @property
    def confident(self) -> bool:
        """Whether standard deviations are predicted: True, from the spread of the members."""
        return True

    @property
    def provenance(self) -> Document:
        """The provenance of each member, and the mean of `mean_energy_per_atom` where given."""
        of_members = [m.provenance for m in self.members]
        means = [p["mean_energy_per_atom"] for p in of_members if "mean_energy_per_atom" in p]
        document: Document = {"members": of_members}
        return document | ({"mean_energy_per_atom": float(np.mean(means))} if means else {})

    def zero(self, structure: Structure) -> float:
        """Return the mean over members of the energy that is not learned (E0s, baseline), eV."""
        return float(np.mean([m.zero(structure) for m in self.members]))

    def astype(self, dtype: type) -> Self:
        """Return the same ensemble, with members that compute in float32 or float64."""
        return replace(self, members=tuple(m.astype(dtype) for m in self.members))

    def predict(
        self,
        structures: Readable,
        *,
        uncertainty: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """Return the members' mean predictions; with `uncertainty` also σ of energy and forces."""
        structures = structures_of(structures)
        *others, last = self.members
        predictions = [m.predict(structures) for m in others]
        predictions.append(last.predict(structures, advance=advance))
        return [mean(each, uncertainty) for each in zip(*predictions, strict=True)]

    def energies(
        self,
        structures: Sequence[Structure],
        *,
        elements: Sequence[int] | None = None,
        deviations: bool = False,
    ) -> Energies:
        """Return the mean of the members' energies; with `deviations` also standard deviations."""
        energies = [m.energies(structures, elements=elements).mean for m in self.members]
        std = spread(np.array(energies)) if deviations else None
        return Energies(np.mean(energies, axis=0), std, len(self.members) - 1.0)

    def moving(self, *, skin: float = 0.2) -> "MovingEnsemble":
        """Return the ensemble for moving atoms; each member keeps its own neighbour list."""
        return MovingEnsemble(tuple(m.moving(skin=skin) for m in self.members))


@dataclass(frozen=True, eq=False)
class MovingEnsemble:
    """An ensemble for moving atoms, whose members keep neighbour lists between calls."""

    members: tuple[MovingPotential, ...]

    @property
    def compilations(self) -> int:
        """Number of compilations so far, summed over the members."""
        return sum(m.compilations for m in self.members)

    @property
    def searches(self) -> int:
        """Number of searches for neighbours so far, summed over the members."""
        return sum(m.searches for m in self.members)

    def __call__(self, structure: Structure) -> Prediction:
        """Return the mean prediction, with standard deviations σ of energy and forces."""
        return mean([m(structure) for m in self.members], True)


def mean(predictions: Sequence[Prediction], uncertainty: bool) -> Prediction:
    """Return the mean of several predictions for one structure; if `uncertainty`, with σ."""
    energies = np.array([p.energy for p in predictions])
    forces = np.stack([p.forces for p in predictions])
    stresses = [p.stress for p in predictions if p.stress is not None]
    return Prediction.of_energy(
        energy=float(energies.mean()),
        energies=np.mean([p.energies for p in predictions], axis=0),
        forces=forces.mean(axis=0),
        stress=np.mean(stresses, axis=0) if len(stresses) == len(predictions) else None,
        energy_std=float(spread(energies)) if uncertainty else None,
        forces_std=spread(forces) if uncertainty else None,
        outside=tuple(dict.fromkeys(text for p in predictions for text in p.outside)),
    )


def spread(values: Float[np.ndarray, "members ..."]) -> Float[np.ndarray, "..."]:
    """Return σ = s √(1 + 1/S), the standard deviation of the error of the mean of S members."""
    return values.std(axis=0, ddof=1) * np.sqrt(1 + 1 / len(values))
