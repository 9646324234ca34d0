"""Compute forces and stress as derivatives of the energy by the displacement vectors of edges.

With d_ij = r_j + S·cell − r_i, S integers, and g_ij = ∂E/∂d_ij, one gradient gives both:

    F_i = −∂E/∂r_i = Σ_j g_ij − Σ_j g_ji          σ = (1/V) Σ_ij ½ (g_ij ⊗ d_ij + d_ij ⊗ g_ij)

The forces of a structure add to zero by construction, and no strained copy is needed.

A model that predicts forces directly (`kohn.models.heads.direct`) returns its own predictions; such
forces are not the derivative of an energy.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from kohn.graphs import Graph, sum_over_reverse
from kohn.typing import Array, Float

EnergyModel = Callable[[Graph], Float[Array, " N"]]
"""A model is any function from a graph to the energies of its atoms, eV."""

NOT_CONSERVATIVE = (
    "forces are predicted directly, not the derivative of an energy: not conservative"
)
"""The text shown to users for models with `conservative = False`."""


class Derived(eqx.Module):
    """The energies of the G structures of a batch with N atoms, and their derivatives.

    Attributes:
        atom_energies: [N], eV, without the energies E0 of lone atoms.
        energy: [G], eV, float64, without E0.
        forces: [N, 3], eV/Å.
        stress: [G, 3, 3], eV/Å³, positive in tension; meaningless without a volume, and for a
            model that is not conservative.
    """

    atom_energies: Float[Array, " N"]
    energy: Float[Array, " G"]
    forces: Float[Array, "N 3"]
    stress: Float[Array, "G 3 3"]


def is_conservative(model: object) -> bool:
    """Return whether a model, or class of models, has forces and stress that are derivatives of its
    energy: always true except with `conservative = False`; such models have no stress."""
    return getattr(model, "conservative", True)


def is_solved(model: object) -> bool:
    """Return whether weights come from linear equations, not training steps (`solved = True`)."""
    return getattr(model, "solved", False)


def energy_and_derivatives(model: EnergyModel, graph: Graph) -> Derived:
    """Compute energy, forces and stress of every structure in a batch.

    Once compiled, results that are not used are not computed. A model that is not conservative
    returns its own predictions by its method `derived`.
    """

    # Padding may hold any vector, also zero, at which distances have no derivative.
    mask = graph.edge_mask[..., None]
    unit_vector = jnp.asarray([1.0, 0.0, 0.0], graph.displacement.dtype)
    displacement = jnp.where(mask, graph.displacement, unit_vector)

    def at(d: Array) -> Graph:
        return eqx.tree_at(lambda g: g.displacement, graph, d)

    if not is_conservative(model):
        return model.derived(at(displacement))  # type: ignore[attr-defined]

    def total(d: Array) -> tuple[Array, Array]:
        energies = model(at(d))
        return jnp.sum(energies), energies

    g, energies = jax.grad(total, has_aux=True)(displacement)
    g = g * mask.astype(g.dtype)
    forces = jnp.sum(g, axis=1) - sum_over_reverse(g, graph.index, graph.reverse)
    forces = forces * graph.atom_mask[:, None].astype(g.dtype)
    virial = jnp.einsum("nka,nkb->nab", g, displacement)
    virial = 0.5 * (virial + jnp.swapaxes(virial, -1, -2))
    stress = graph.sum_atoms(virial) / graph.volume[:, None, None].astype(jnp.float64)
    return Derived(energies, graph.sum_atoms(energies), forces, stress)
