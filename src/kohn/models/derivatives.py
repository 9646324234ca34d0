"""Forces and stress: derivatives of the energy by the displacement vectors of the edges.

With d_ij = r_j + S·cell − r_i and g_ij = ∂E/∂d_ij, one gradient gives both:

    F_i = −∂E/∂r_i = Σ_j g_ij − Σ_j g_ji          σ = (1/V) Σ_ij ½ (g_ij ⊗ d_ij + d_ij ⊗ g_ij)

The forces of a structure add to zero by construction, and no strained copy is needed.

A model that predicts forces itself (`kohn.models.heads.direct`) says what it predicts; such forces
are the derivative of nothing.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from kohn.graphs import Graph, sum_over_reverse
from kohn.typing import Array, Float

EnergyModel = Callable[[Graph], Float[Array, " N"]]
"""Any function of a graph to energies of atoms is a model."""

NOT_CONSERVATIVE = (
    "forces are predicted directly, not the derivative of an energy: not conservative"
)
"""What users are told of models that say `conservative = False`."""


class Derived(eqx.Module):
    """Energy and its derivatives.

    Attributes:
        atom_energies: [N], eV, without E0.
        energy: [G], eV, float64, without E0.
        forces: [N, 3], eV/Å.
        stress: [G, 3, 3], eV/Å³, positive in tension; meaningless without a volume, and of a
            model that is not conservative.
    """

    atom_energies: Float[Array, " N"]
    energy: Float[Array, " G"]
    forces: Float[Array, "N 3"]
    stress: Float[Array, "G 3 3"]


def is_conservative(model: object) -> bool:
    """Whether forces and stress are derivatives of the energy: of all models, or classes of
    models, but those that say `conservative = False`. Those have no stress."""
    return getattr(model, "conservative", True)


def is_solved(model: object) -> bool:
    """Whether weights come from linear equations, not step by step: of models, or classes of
    models, that say `solved = True`."""
    return getattr(model, "solved", False)


def energy_and_derivatives(model: EnergyModel, graph: Graph) -> Derived:
    """Energy, forces and stress of every structure in a batch.

    What is not used of the result is not computed, once compiled. Of a model that is not
    conservative, what it predicts (`derived`).
    """

    # Padding may hold any vector, also zero, where distances have no derivative.
    mask = graph.edge_mask[..., None]
    somewhere = jnp.asarray([1.0, 0.0, 0.0], graph.displacement.dtype)
    displacement = jnp.where(mask, graph.displacement, somewhere)

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
