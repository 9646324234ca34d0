"""Learn dipoles, polarizabilities and scalars of structures.

    L = Σ_targets Σ_l ⟨|t_l − t_l^label|²⟩_structures / s²,   s² = ⟨|t_l^label − offset|²⟩

t_l: components of degree l of a target; s: spread of its labels, so that targets and degrees count
equally. The offset of degree 0 depends on composition only: a sum over atoms (a mean for intensive
properties) fitted by least squares. Huber's ℓ may replace the square, for errors in units of s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from kohn.errors import ConfigError, InputError
from kohn.graphs import Graph, Shape
from kohn.models.heads.properties import (
    PropertyConfig,
    PropertyNetwork,
    by_degree,
    cartesian,
    degrees_of,
)
from kohn.potential.properties import Origin, about_centre_of_mass, charge_of, label_of
from kohn.structures import PROPERTIES, Structure, is_isolated_atom
from kohn.structures.elements import symbol
from kohn.training.losses import penalty
from kohn.training.settings import TrainSettings
from kohn.typing import Array, Float


class PropertyLabels(eqx.Module):
    """Labels of a padded batch of G structures, by target; float64.

    Attributes:
        values: spherical components by target and degree l, [G, 2l+1].
        weights: weights of the structures by target, [G]; 0 without a label.
    """

    values: dict[str, dict[int, Float[Array, "G m"]]]
    weights: dict[str, Float[Array, " G"]]


@dataclass(frozen=True)
class Ions:
    """Facts about ions that files may not state.

    Attributes:
        origin: origin of the dipoles of ions in the files.
        charge: total charge, e, of molecules whose frames do not state it.
    """

    origin: Origin = None
    charge: float | None = None

    def label(self, structure: Structure, target: str) -> np.ndarray | None:
        """Return the label to learn, a dipole about the centre of mass; None without a label."""
        label = label_of(structure, target)
        if label is None or target != "dipole":
            return label
        charge = charge_of(structure, self.charge) or 0.0
        return about_centre_of_mass(label, structure, charge, self.origin)


@dataclass(frozen=True, eq=False)
class PropertyTask:
    """The task of learning properties other than energies; see `kohn.training.task`.

    Attributes:
        config: configuration of the model.
        scales: spread s of the labels by target and degree.
        ions: facts about ions that files may not state.
        huber_delta: δ of the penalty, in units of s; None for the square.
    """

    config: PropertyConfig
    scales: dict[str, dict[int, float]]
    ions: Ions
    huber_delta: float | None = None

    def labels(self, structures: Sequence[Structure], shape: Shape) -> PropertyLabels:
        """Return the padded labels by target and degree; dipoles are about the centre of mass."""
        values, weights = {}, {}
        for target in self.config.targets:
            parts = {l: np.zeros((shape.structures, 2 * l + 1)) for l in degrees_of(target)}
            weight = np.zeros(shape.structures)
            for g, s in enumerate(structures):
                label = self.ions.label(s, target)
                if label is None:
                    continue
                for l, x in by_degree(target, label).items():
                    parts[l][g] = x
                weight[g] = s.weight
            values[target], weights[target] = parts, weight
        return PropertyLabels(values, weights)  # type: ignore[arg-type]

    def charges(self, structures: Sequence[Structure]) -> list[float] | None:
        """Return the total charge of each structure, e, if the model uses charges, else None."""
        if not self.config.charged:
            return None
        return [charge_of(s, self.ions.charge) or 0.0 for s in structures]

    def weights(self, late: bool) -> None:
        """Return None: all targets always count equally, so that the loss has no weights."""

    def predict(self, model: PropertyNetwork, graph: Graph) -> dict[str, dict[int, Array]]:
        """Return the predicted spherical components by target and degree."""
        return model(graph)

    def loss(
        self, predicted: dict[str, dict[int, Array]], labels: PropertyLabels, weights: None
    ) -> tuple[Array, dict[str, Array]]:
        """Return the loss L (see `kohn.training.properties`), and its part for each target."""
        parts = {}
        for target, by_l in predicted.items():
            w = labels.weights[target]
            count = jnp.maximum(jnp.sum(w > 0).astype(jnp.float64), 1.0)
            parts[target] = sum(
                jnp.sum(
                    w[:, None]
                    * penalty(
                        (x - labels.values[target][l]) / self.scales[target][l], self.huber_delta
                    )
                )
                / count
                for l, x in by_l.items()
            )
        return jnp.sum(jnp.stack(list(parts.values()))), parts  # type: ignore[arg-type]

    def errors(
        self, predicted: dict[str, dict[int, Array]], labels: PropertyLabels
    ) -> dict[str, tuple[Array, Array]]:
        """Return for each target the Cartesian errors, and which structures have a label."""
        return {
            target: (
                cartesian(target, parts) - cartesian(target, labels.values[target]),
                labels.weights[target] > 0,
            )
            for target, parts in predicted.items()
        }


@dataclass(frozen=True, eq=False)
class Statistics:
    """Spread of the labels by target and degree, and contribution of each element to degree 0."""

    scales: dict[str, dict[int, float]]
    atoms: dict[str, np.ndarray]

    @classmethod
    def of(
        cls,
        structures: Sequence[Structure],
        elements: tuple[int, ...],
        config: PropertyConfig,
        ions: Ions,
        *,
        composition: bool = True,
    ) -> "Statistics":
        """Compute the statistics of labels; without `composition`, elements contribute equally."""
        scales, atoms = {}, {}
        for target in config.targets:
            labelled = [s for s in structures if label_of(s, target) is not None]
            values = [x for s in labelled if (x := ions.label(s, target)) is not None]
            parts = by_degree(target, np.stack(values))
            counts = np.array([[(s.numbers == z).sum() for z in elements] for s in labelled], float)
            if target not in config.extensive:
                counts = counts / counts.sum(axis=1, keepdims=True)
            if not composition:
                counts = np.repeat(counts.mean(axis=1, keepdims=True), len(elements), axis=1)
            if 0 in parts:
                atoms[target] = np.linalg.lstsq(counts, parts[0][:, 0], rcond=None)[0]
                parts[0] = parts[0] - (counts @ atoms[target])[:, None]
            scales[target] = {l: spread(x) for l, x in parts.items()}
        return cls(scales, atoms)


def mean_labels(structures: Sequence[Structure], targets: Sequence[str]) -> dict[str, list]:
    """Return the mean label of each target: the trivial prediction that a model must beat."""
    return {
        t: np.mean([x for s in structures if (x := label_of(s, t)) is not None], axis=0).tolist()
        for t in targets
    }


def spread(x: Float[np.ndarray, "G m"]) -> float:
    """Return √⟨|x|²⟩; 1 if it is 0, which happens if the composition determines all labels."""
    return float(np.sqrt((x**2).sum(axis=1).mean())) or 1.0


def refuse_unlearnable_labels(structures: Sequence[Structure], settings: TrainSettings) -> None:
    """Refuse structures from whose labels properties cannot be learned.

    Raises:
        InputError: a structure has no label, or the charge of a molecule is not stated.
        ConfigError: a structure is an ion, and the origin of its dipole is not stated.
    """
    heads = settings.heads
    for s in structures:
        for target in settings.targets:
            if label_of(s, target) is None:
                raise InputError(
                    f"a structure has no {target}",
                    where=s.place,
                    expected="a label of the table, or a number under this key",
                    received=", ".join([*s.labels, *s.info]) or "no labels",
                    fix=f"name its key (data.keys: {{{target}: KEY}}), or leave the structure out"
                    if target in PROPERTIES
                    else f"write {target}=… into the comment line of each frame",
                )
    if "dipole" not in settings.targets:
        return
    for s in structures:
        if s.periodic.any() or is_isolated_atom(s):
            continue
        charge = charge_of(s, heads.charge)
        if heads.charges and charge is None and s.numbers.sum() % 2:
            raise InputError(
                "a molecule that states no charge has an odd number of electrons if neutral",
                where=s.place,
                expected="charge=... in the file, or heads.charge for all",
                received=" ".join(symbol(z) for z in s.numbers[:12]),
                fix="state the charge (0 for a radical), or set heads.charges: false",
            )
        if charge and heads.dipole_origin is None:
            raise ConfigError(
                "the dipole of an ion depends on the origin, which is not stated",
                where=s.place,
                expected="heads.dipole_origin: positions (that of the coordinates in the file) "
                "or mass (the centre of mass)",
                received=f"charge {charge:g} e",
                fix="look up the origin that the code which computed the labels uses",
            )
