"""The loss of a batch: energies per atom, forces and stress against their labels.

    L = w_E ⟨ℓ(ΔE/n)⟩_structures + w_F ⟨ℓ(ΔF)⟩_components + w_σ ⟨ℓ(Δσ)⟩_components

ℓ is the square or Huber's function (quadratic to δ, then linear, scaled to agree with the
square inside). A label that a structure lacks has weight zero; nothing is filled in.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from kohn.graphs import Graph, Shape
from kohn.models import Derived
from kohn.structures import Structure
from kohn.typing import Array, ArrayLike, Float


class Targets(eqx.Module):
    """Labels of a padded batch with their weights; float64.

    Attributes:
        energy: E − Σ E0, eV, [G]. forces: eV/Å, [N, 3]. stress: eV/Å³, [G, 3, 3].
        atoms: atoms of each structure, [G]; 1 in padding.
        energy_weight, stress_weight: [G]; forces_weight: [N]; 0 where there is no label.
    """

    energy: Float[Array, " G"]
    forces: Float[Array, "N 3"]
    stress: Float[Array, "G 3 3"]
    atoms: Float[Array, " G"]
    energy_weight: Float[Array, " G"]
    forces_weight: Float[Array, " N"]
    stress_weight: Float[Array, " G"]


class LossWeights(NamedTuple):
    """w_E, w_F and w_σ, as arrays: they change during a run without compiling anew."""

    energy: ArrayLike | np.float64
    forces: ArrayLike | np.float64
    stress: ArrayLike | np.float64


class LossParts(NamedTuple):
    """The loss and its three parts before their weights."""

    total: Array
    energy: Array
    forces: Array
    stress: Array


def targets(structures: Sequence[Structure], e0: Sequence[float], shape: Shape) -> Targets:
    """Labels of structures, laid out as `graphs.collate` lays out the structures."""
    rows, _, count = shape
    energy, stress = np.zeros(count), np.zeros((count, 3, 3))
    forces, atoms = np.zeros((rows, 3)), np.ones(count)
    energy_weight, stress_weight = np.zeros(count), np.zeros(count)
    forces_weight = np.zeros(rows)
    start = 0
    for g, s in enumerate(structures):
        here = slice(start, start + len(s))
        start = here.stop
        atoms[g] = len(s)
        if "energy" in s.labels:
            energy[g], energy_weight[g] = float(s.labels["energy"]) - e0[g], s.weight
        if "forces" in s.labels:
            forces[here], forces_weight[here] = s.labels["forces"], s.weight
        if "stress" in s.labels:
            stress[g], stress_weight[g] = s.labels["stress"], s.weight
    return Targets(energy, forces, stress, atoms, energy_weight, forces_weight, stress_weight)  # type: ignore[arg-type]


def penalty(x: Array, huber_delta: float | None) -> Array:
    """ℓ(x): x², or beyond δ the line 2δ|x| − δ²."""
    if huber_delta is None:
        return x * x
    size = jnp.abs(x)
    return jnp.where(size <= huber_delta, x * x, huber_delta * (2.0 * size - huber_delta))


def loss(
    d: Derived, graph: Graph, t: Targets, weights: LossWeights, huber_delta: float | None
) -> LossParts:
    """The loss of a batch, float64. See the module's head."""
    structures = jnp.maximum(jnp.sum(t.energy_weight > 0).astype(jnp.float64), 1.0)
    atoms = jnp.maximum(jnp.sum(t.forces_weight > 0).astype(jnp.float64), 1.0)
    cells = jnp.maximum(jnp.sum(t.stress_weight > 0).astype(jnp.float64), 1.0)
    e = penalty((d.energy - t.energy) / t.atoms, huber_delta)
    f = penalty(d.forces.astype(jnp.float64) - t.forces, huber_delta)
    s = penalty(d.stress - t.stress, huber_delta)
    energy = jnp.sum(t.energy_weight * e) / structures
    forces = jnp.sum(t.forces_weight[:, None] * f) / (3.0 * atoms)
    stress = jnp.sum(t.stress_weight[:, None, None] * s) / (9.0 * cells)
    total = energy * weights.energy + forces * weights.forces + stress * weights.stress
    return LossParts(total, energy, forces, stress)
