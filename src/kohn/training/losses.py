"""Compute the loss of a batch: energies per atom, forces and stress against their labels.

    L = w_E ⟨ℓ(ΔE/n)⟩_structures + w_F ⟨ℓ(ΔF)⟩_components + w_σ ⟨ℓ(Δσ)⟩_components

Δ is prediction minus label, n the number of atoms, σ the stress; ℓ is the square, or Huber's: the
square up to δ, then linear. δ is stated for forces; another label k has δ_k = δ √(w_F / w_k), so
that w_k ℓ turns linear at the same value for all labels. Otherwise errors of stress, whose numbers
are small, would stay squares, and outweigh those of forces that have turned linear.
A label that a structure lacks has weight 0; nothing is filled in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from kohn.graphs import Graph, Shape
from kohn.models import Derived, EnergyModel, energy_and_derivatives
from kohn.potential import Reference
from kohn.structures import Structure
from kohn.typing import Array, ArrayLike, Float


class Targets(eqx.Module):
    """Labels of a padded batch of G structures in N rows, with their weights; float64.

    Attributes:
        energy: less E0s and baseline, eV, [G]. forces: eV/Å, [N, 3]. stress: eV/Å³, [G, 3, 3].
        atoms: number of atoms of each structure, [G]; 1 in padding.
        energy_weight, stress_weight: weights in the loss, [G]; forces_weight: [N]; 0 without label.
    """

    energy: Float[Array, " G"]
    forces: Float[Array, "N 3"]
    stress: Float[Array, "G 3 3"]
    atoms: Float[Array, " G"]
    energy_weight: Float[Array, " G"]
    forces_weight: Float[Array, " N"]
    stress_weight: Float[Array, " G"]


class LossWeights(NamedTuple):
    """Weights of energy, forces and stress: arrays, which change in a run without a compilation."""

    energy: ArrayLike | np.float64 | float
    forces: ArrayLike | np.float64 | float
    stress: ArrayLike | np.float64 | float


def targets(structures: Sequence[Structure], shape: Shape) -> Targets:
    """Return the labels of structures, padded as `graphs.collate` pads the structures."""
    rows, _, count = shape
    energy, stress = np.zeros(count), np.zeros((count, 3, 3))
    forces, atoms = np.zeros((rows, 3)), np.ones(count)
    energy_weight, stress_weight = np.zeros(count), np.zeros(count)
    forces_weight, start = np.zeros(rows), 0
    for g, s in enumerate(structures):
        here = slice(start, start + len(s))
        start = here.stop
        atoms[g] = len(s)
        if "energy" in s.labels:
            energy[g], energy_weight[g] = float(s.labels["energy"]), s.weight
        if "forces" in s.labels:
            forces[here], forces_weight[here] = s.labels["forces"], s.weight
        if "stress" in s.labels:
            stress[g], stress_weight[g] = s.labels["stress"], s.weight
    weights = energy_weight, forces_weight, stress_weight
    labels: Any = (energy, forces, stress, atoms, *weights)
    return Targets(*labels)


def penalty(x: Array, huber_delta: Array | float | None) -> Array:
    """Return ℓ(x) = x², or 2δ|x| − δ² where |x| exceeds δ = `huber_delta`, if given."""
    if huber_delta is None:
        return x * x
    size = jnp.abs(x)
    return jnp.where(size <= huber_delta, x * x, huber_delta * (2.0 * size - huber_delta))


def _limits(delta: float | None, weights: LossWeights) -> tuple[Array | None, ...]:
    """Return δ_k of energy, forces and stress; δ where a label, or forces, have no weight."""
    if delta is None:
        return (None, None, None)
    of_forces = jnp.asarray(weights.forces)
    ratios = (of_forces / jnp.where(w > 0, w, jnp.inf) for w in map(jnp.asarray, weights))
    return tuple(delta * jnp.sqrt(jnp.where(ratio > 0, ratio, 1.0)) for ratio in ratios)


def loss(
    d: Derived,
    t: Targets,
    weights: LossWeights,
    huber_delta: float | None,
    *,
    derivatives: bool = True,
) -> tuple[Array, dict[str, Array]]:
    """Return the loss L of a batch (see the module), and its parts before weighting, float64.

    Args:
        derivatives: whether forces and stress count; if not, they are not even computed, because
            the compiler removes unused results.
    """
    structures = jnp.maximum(jnp.sum(t.energy_weight > 0).astype(jnp.float64), 1.0)
    atoms = jnp.maximum(jnp.sum(t.forces_weight > 0).astype(jnp.float64), 1.0)
    cells = jnp.maximum(jnp.sum(t.stress_weight > 0).astype(jnp.float64), 1.0)
    limits = _limits(huber_delta, weights)
    e = penalty((d.energy - t.energy) / t.atoms, limits[0])
    energy = jnp.sum(t.energy_weight * e) / structures
    forces = stress = jnp.zeros((), jnp.float64)
    if derivatives:
        f = penalty(d.forces.astype(jnp.float64) - t.forces, limits[1])
        s = penalty(d.stress - t.stress, limits[2])
        forces = jnp.sum(t.forces_weight[:, None] * f) / (3.0 * atoms)
        stress = jnp.sum(t.stress_weight[:, None, None] * s) / (9.0 * cells)
    total = energy * weights.energy + forces * weights.forces + stress * weights.stress
    return total, {"energy": energy, "forces": forces, "stress": stress}


@dataclass(frozen=True, eq=False)
class EnergyTask:
    """The task of learning energies with forces and stress; see `kohn.training.task`.

    Attributes:
        reference: E0s and baseline that are subtracted from the labels.
        early, late: weights of the loss, in the first and in the last part of the run.
        huber_delta: δ of the penalty; None for the square.
        positions: whether graphs need positions, because torques are penalised.
    """

    reference: Reference
    early: LossWeights
    late: LossWeights
    huber_delta: float | None = None
    positions: bool = False

    def labels(self, structures: Sequence[Structure], shape: Shape) -> Targets:
        """Return the labels of structures, less E0s and baseline, padded."""
        return targets([self.reference.above(s) for s in structures], shape)

    def weights(self, late: bool) -> LossWeights:
        """Return the weights of energy, forces and stress in the loss, as arrays."""
        chosen = self.late if late else self.early
        return LossWeights(*(np.float64(w) for w in chosen))

    def charges(self, structures: Sequence[Structure]) -> list[float] | None:
        """Return a charge of 0 for each structure if graphs need positions, else None."""
        return [0.0] * len(structures) if self.positions else None

    def predict(self, model: EnergyModel, graph: Graph) -> Derived:
        """Return the energies, forces and stresses that a model predicts for a batch."""
        return energy_and_derivatives(model, graph)

    def loss(
        self, predicted: Derived, labels: Targets, weights: LossWeights
    ) -> tuple[Array, dict[str, Array]]:
        """Return the loss and its parts; see `kohn.training.losses.loss`."""
        derivatives = any((*self.early[1:], *self.late[1:]))
        return loss(predicted, labels, weights, self.huber_delta, derivatives=derivatives)

    def errors(self, predicted: Derived, labels: Targets) -> dict[str, tuple[Array, Array]]:
        """Return for each label the errors, and which structures or atoms have the label."""
        d, t = predicted, labels
        return {
            "energy_per_atom": ((d.energy - t.energy) / t.atoms, t.energy_weight > 0),
            "forces": (d.forces.astype(jnp.float64) - t.forces, t.forces_weight > 0),
            "stress": (d.stress - t.stress, t.stress_weight > 0),
        }
