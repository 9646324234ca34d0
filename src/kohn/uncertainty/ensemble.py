"""Combine the predictions of several potentials.

    y = Σ_s y_s / S        s² = Σ_s (y_s − y)² / (S − 1)        σ = s √(1 + 1/S)

σ is the standard deviation of the error of the mean, if the truth is drawn like one more member;
the error follows Student's distribution with ν = S − 1 degrees of freedom.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from kohn.errors import ConfigError
from kohn.potential import MovingPotential, Potential
from kohn.structures import Energies, Prediction, Readable, Structure, structures_of
from kohn.typing import Document, Float


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Several potentials used as one; see `kohn.structures.Predictive`.

    Attributes:
        members: at least two.

    Raises:
        ConfigError: fewer than two members.
    """

    members: tuple[Potential, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ConfigError(
                "an ensemble has at least two members", received=f"{len(self.members)}"
            )

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that all members know."""
        known = set.intersection(*(set(m.elements) for m in self.members))
        return tuple(sorted(known))

    @property
    def cutoff(self) -> float:
        """The largest r_c of the members, Å."""
        return max(m.cutoff for m in self.members)

    @property
    def conservative(self) -> bool:
        """Whether forces and stress of all members are derivatives of their energies."""
        return all(m.conservative for m in self.members)

    @property
    def confident(self) -> bool:
        """True: the spread of the members gives standard deviations."""
        return True

    @property
    def provenance(self) -> Document:
        """The provenance of each member, and the mean of the mean energies of their data."""
        of_members = [m.provenance for m in self.members]
        means = [p["mean_energy_per_atom"] for p in of_members if "mean_energy_per_atom" in p]
        document: Document = {"members": of_members}
        return document | ({"mean_energy_per_atom": float(np.mean(means))} if means else {})

    def zero(self, structure: Structure) -> float:
        """Return the part of the energy that is not learned, averaged over the members, eV."""
        return float(np.mean([m.zero(structure) for m in self.members]))

    def astype(self, dtype: type) -> Self:
        """Return the same ensemble computing in float32 or float64."""
        return replace(self, members=tuple(m.astype(dtype) for m in self.members))

    def predict(
        self,
        structures: Readable,
        *,
        uncertainty: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """Return the mean of the predictions; with `uncertainty` also σ of energies and forces."""
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
        """Return the mean of the members' energies; with `deviations` also their σ."""
        energies = [m.energies(structures, elements=elements).mean for m in self.members]
        std = spread(np.array(energies)) if deviations else None
        return Energies(np.mean(energies, axis=0), std, len(self.members) - 1.0)

    def moving(self, *, skin: float = 0.2) -> "MovingEnsemble":
        """Return the ensemble for moving atoms; each member keeps its own neighbours."""
        return MovingEnsemble(tuple(m.moving(skin=skin) for m in self.members))


@dataclass(frozen=True, eq=False)
class MovingEnsemble:
    """The members of an ensemble, for moving atoms."""

    members: tuple[MovingPotential, ...]

    @property
    def compilations(self) -> int:
        """Number of shapes that all members needed."""
        return sum(m.compilations for m in self.members)

    @property
    def searches(self) -> int:
        """Number of searches for neighbours."""
        return sum(m.searches for m in self.members)

    def __call__(self, structure: Structure) -> Prediction:
        """Return the mean, with σ of energy and forces."""
        return mean([m(structure) for m in self.members], True)


def mean(predictions: Sequence[Prediction], uncertainty: bool) -> Prediction:
    """Return the mean of several predictions of one structure, with σ if `uncertainty`."""
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
    """σ of the error of the mean of the members: s √(1 + 1/S)."""
    return values.std(axis=0, ddof=1) * np.sqrt(1 + 1 / len(values))
