"""Compute errors of predictions by label, element, configuration type and size of the force.

Errors are summed in float64; a structure without a label does not count for that label.
Energies are compared in total and per atom, forces and stress by component.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from kohn.errors import InputError
from kohn.evaluation.suspicions import suspicions
from kohn.records import plain
from kohn.structures import Dataset, Prediction, Predictive, Structure
from kohn.structures.elements import symbol
from kohn.structures.properties import PREDICTED_BY
from kohn.typing import Document
from kohn.units import GPA

FORCE_BINS = (0.0, 0.5, 1.0, 2.0, 4.0, np.inf)
"""Edges, in eV/Å, of the classes of reference force |F| for which errors of forces are given."""


@dataclass(frozen=True)
class Errors:
    """The mean absolute error and the root mean square error of `count` values."""

    mae: float
    rmse: float
    count: int

    @classmethod
    def of(cls, differences: Sequence[np.ndarray] | np.ndarray) -> "Errors":
        """Return the errors over all elements of arrays of differences; NaN if there are none."""
        flat = [np.ravel(d) for d in differences]
        d = np.concatenate(flat) if flat else np.array([])
        if not d.size:
            return cls(float("nan"), float("nan"), 0)
        return cls(float(np.abs(d).mean()), float(np.sqrt(np.mean(d * d))), int(d.size))


@dataclass(frozen=True)
class Evaluation:
    """A comparison of the predictions of a model with the labels of structures.

    Attributes:
        name: the name of the data, such as 'test'.
        errors: label -> errors; in eV (energy, energy_per_atom), eV/Å (forces), eV/Å³ (stress).
        baseline: label -> errors if the prediction is the E0s plus the mean energy per atom (above
            the E0s) of the training data, zero forces and zero stress.
        forces_by_element, forces_by_size: class -> errors. by_config_type: type -> label -> errors.
        frames: one record for each structure, with labels and predictions; see `frame_record`.
        suspicions: sentences about errors that look like mistakes in the labels.
        units: label -> unit, of predicted properties other than energy, forces and stress.
    """

    name: str
    errors: dict[str, Errors]
    baseline: dict[str, Errors]
    forces_by_element: dict[str, Errors] = field(default_factory=dict)
    forces_by_size: dict[str, Errors] = field(default_factory=dict)
    by_config_type: dict[str, dict[str, Errors]] = field(default_factory=dict)
    frames: tuple[Document, ...] = ()
    suspicions: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)

    def to_json(self, *, frames: bool = False) -> Document:
        """Return a dictionary for JSON; its keys name the units: meV of energies, GPa of stress."""

        def table(errors: dict[str, Errors]) -> Document:
            return {k: v for name, e in errors.items() for k, v in in_units(name, e).items()}

        def of_forces(errors: dict[str, Errors]) -> Document:
            return {k: in_units("forces", e) for k, e in errors.items()}

        document: Document = {
            "name": self.name,
            "structures": len(self.frames),
            "errors": table(self.errors),
            "mean_baseline": table(self.baseline),
            "forces_by_element": of_forces(self.forces_by_element),
            "forces_by_size": of_forces(self.forces_by_size),
            "by_config_type": {k: table(e) for k, e in self.by_config_type.items()},
            "suspicions": list(self.suspicions),
        }
        if self.units:
            document["units"] = self.units
        if frames:
            document["frames"] = list(self.frames)
        return plain(document)


UNITS = {
    "energy": (1e3, "meV"),
    "energy_per_atom": (1e3, "meV_per_atom"),
    "forces": (1e3, "meV_per_angstrom"),
    "stress": (1 / GPA, "GPa"),
}
"""label -> (factor, unit): JSON documents give errors of the label times factor, in this unit."""


def in_units(name: str, errors: Errors) -> dict[str, float]:
    """Return errors in the units of `UNITS`, named in the keys; other labels keep their units."""
    factor, unit = UNITS.get(name, (1.0, ""))
    suffix = f"_{unit}" if unit else ""
    return {
        f"{name}_mean_absolute_error{suffix}": errors.mae * factor,
        f"{name}_root_mean_square_error{suffix}": errors.rmse * factor,
        f"{name}_count": errors.count,
    }


def evaluate_potential(
    potential: Predictive,
    data: Dataset,
    *,
    name: str = "test",
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Compare the predictions of a potential with the labels of structures.

    Args:
        potential: the model that predicts.
        data: labelled structures. A structure without a label does not count for that label.
        name: name of the data in reports.
        advance: called with the number of structures done since the last call, to show progress.

    Raises:
        InputError: no structure is labelled; or an error that `Predictive.predict` raises.
    """
    if not any(data.count(label) for label in ("energy", "forces", "stress")):
        by_model = any(PREDICTED_BY in s.info for s in data)
        raise InputError(
            "nothing to compare with: no structure has an energy, forces or a stress",
            where=data.sources[0].file if data.sources else None,
            received="predictions of a model, which are not references" if by_model else None,
            fix="name the keys of the labels (--key energy=KEY), or use `kohn predict`",
        )
    predictions = potential.predict(data.structures, advance=advance)
    pairs = list(zip(data.structures, predictions, strict=True))
    kinds = sorted({s.config_type for s in data})
    mean = float(potential.provenance.get("mean_energy_per_atom", 0.0))
    e0s = [potential.zero(s) for s in data]
    return Evaluation(
        name=name,
        errors=errors_of(pairs),
        baseline=errors_of(
            [(s, _baseline(s, e0, mean)) for s, e0 in zip(data.structures, e0s, strict=True)]
        ),
        forces_by_element=_by_element(pairs),
        forces_by_size=_by_size(pairs),
        by_config_type={k: errors_of([p for p in pairs if p[0].config_type == k]) for k in kinds},
        frames=tuple(frame_record(i, s, p) for i, (s, p) in enumerate(pairs)),
        suspicions=tuple(suspicions(pairs)),
    )


def _baseline(structure: Structure, e0: float, mean: float) -> Prediction:
    n = len(structure)
    return Prediction.of_energy(e0 + mean * n, np.full(n, mean), np.zeros((n, 3)), np.zeros((3, 3)))


def errors_of(pairs: Sequence[tuple[Structure, Prediction]]) -> dict[str, Errors]:
    """Return label -> errors, for each label that a structure of the pairs has."""
    energy = [p.energy - float(s.labels["energy"]) for s, p in pairs if "energy" in s.labels]
    atoms = [len(s) for s, _ in pairs if "energy" in s.labels]
    differences: dict[str, list[np.ndarray]] = {
        "energy": [np.array(energy)],
        "energy_per_atom": [np.array(energy) / np.array(atoms)] if atoms else [],
        "forces": [p.forces - s.labels["forces"] for s, p in pairs if "forces" in s.labels],
        "stress": [
            p.stress - s.labels["stress"]
            for s, p in pairs
            if "stress" in s.labels and p.stress is not None
        ],
    }
    errors = {name: Errors.of(d) for name, d in differences.items()}
    return {name: e for name, e in errors.items() if e.count}


def _by_element(pairs: Sequence[tuple[Structure, Prediction]]) -> dict[str, Errors]:
    labelled = [(s, p) for s, p in pairs if "forces" in s.labels]
    elements = sorted({int(z) for s, _ in labelled for z in np.unique(s.numbers)})
    return {
        symbol(z): Errors.of([(p.forces - s.labels["forces"])[s.numbers == z] for s, p in labelled])
        for z in elements
    }


def _by_size(pairs: Sequence[tuple[Structure, Prediction]]) -> dict[str, Errors]:
    labelled = [(s, p) for s, p in pairs if "forces" in s.labels]
    if not labelled:
        return {}
    reference = np.concatenate([s.labels["forces"] for s, _ in labelled])
    difference = np.concatenate([p.forces - s.labels["forces"] for s, p in labelled])
    size = np.linalg.norm(reference, axis=1)
    errors = {}
    for low, high in pairwise(FORCE_BINS):
        chosen = (size >= low) & (size < high)
        if chosen.any():
            name = f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}"
            errors[name] = Errors.of(difference[chosen])
    return errors


def frame_record(index: int, structure: Structure, prediction: Prediction) -> Document:
    """Return the labels and the predictions of one structure as a record for reports."""
    record: Document = {
        "index": index,
        "file": structure.place.file,
        "frame": structure.place.frame,
        "config_type": structure.config_type,
        "numbers": structure.numbers,
        "energy_predicted": prediction.energy,
        "forces_predicted": prediction.forces,
        "stress_predicted": prediction.stress,
    }
    for label in ("energy", "forces", "stress"):
        record[f"{label}_reference"] = structure.labels.get(label)
    return plain(record)
