"""Soft constraints: penalise forces that no energy, or no isolated molecule, can have.

J = ∂F/∂x is the Jacobian of the forces F on the n atoms of a structure, x are their coordinates
relative to their mean, and ⟨⟩ is the mean over the structures of a batch:

    asymmetry   ⟨‖J − Jᵀ‖²_F / 3n⟩ = ⟨E_v ‖J v − Jᵀ v‖² / 3n⟩     v: random signs
    net_force   ⟨|Σ_i F_i|² / n⟩
    torque      ⟨|Σ_i x_i × F_i|² / n⟩                            structures without periodicity

J v is a forward and Jᵀ v a reverse derivative; J itself is never formed. Atoms of different
structures do not interact, so one v of all atoms of a batch serves as one v for each structure.

Forces that derive from an energy have a symmetric J. The estimate from one v and its gradient
have the right mean; the estimate is zero for every v only if J is symmetric.

Source: Hutchinson, Commun. Stat. Simul. Comput. 19, 433 (1990), for the random signs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from kohn.graphs import Graph, gather_neighbours
from kohn.models import EnergyModel, energy_and_derivatives
from kohn.training.optimiser import Objective, Unravel
from kohn.typing import Array, Float

Forces = Callable[[Graph], Float[Array, "N 3"]]
"""Graph -> forces on its atoms, eV/Å; zero in padding."""


def forces_of(model: EnergyModel) -> Forces:
    """Return the function that computes the forces of a model of any family."""
    return lambda graph: energy_and_derivatives(model, graph).forces


def moved(graph: Graph, x: Float[Array, "N 3"]) -> Graph:
    """Return the graph with its atoms moved by x, Å, and the same edges."""
    d = gather_neighbours(x, graph.index, graph.reverse) - x[:, None]
    d = jnp.where(graph.edge_mask[..., None], d, jnp.zeros_like(d))
    return eqx.tree_at(lambda g: g.displacement, graph, graph.displacement + d)


def twist(forces: Forces, graph: Graph, v: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
    """Compute (J − Jᵀ) v, eV/Å for v in Å, with the Jacobian J = ∂F/∂x of the forces."""

    def at(x: Array) -> Array:
        return forces(moved(graph, x))

    here = jnp.zeros_like(v)
    _, forward = jax.jvp(at, (here,), (v,))
    _, transposed = jax.vjp(at, here)
    return forward - transposed(v)[0]


def asymmetry(forces: Forces, graph: Graph, key: Array) -> Float[Array, ""]:
    """Estimate ⟨‖J − Jᵀ‖²_F / 3n⟩, (eV/Å²)², without bias from one random v; see the module."""
    signs = jax.random.rademacher(key, (*graph.atom_mask.shape, 3), graph.displacement.dtype)
    curl = twist(forces, graph, signs * graph.atom_mask[:, None].astype(signs.dtype))
    return _mean(graph.sum_atoms(jnp.sum(curl * curl, axis=1)) / (3.0 * _atoms(graph)), graph)


def net_force(forces: Forces, graph: Graph) -> Float[Array, ""]:
    """⟨|Σ_i F_i|² / n⟩, (eV/Å)²: the penalty of a net force on structures of n atoms."""
    net = graph.sum_atoms(forces(graph))
    return _mean(jnp.sum(net * net, axis=1) / _atoms(graph), graph)


def torque(forces: Forces, graph: Graph) -> Float[Array, ""]:
    """⟨|Σ_i x_i × F_i|² / n⟩, eV²: the penalty of torques; 0 if periodic. Needs graph.positions."""
    positions = jnp.asarray(graph.positions)
    mean = graph.sum_atoms(positions) / _atoms(graph)[:, None]
    x = positions - mean[graph.structure]
    whole = graph.sum_atoms(jnp.cross(x, forces(graph).astype(x.dtype)))
    return _mean(jnp.sum(whole * whole, axis=1) / _atoms(graph), graph)


def _atoms(graph: Graph) -> Float[Array, " G"]:
    """Return the number n of atoms of each structure; 1 in padding."""
    return jnp.maximum(graph.sum_atoms(graph.atom_mask.astype(jnp.float64)), 1.0)


def _mean(values: Float[Array, " G"], graph: Graph) -> Float[Array, ""]:
    """Return the mean over the structures that have atoms; values of padding must be zero."""
    present = graph.sum_atoms(graph.atom_mask.astype(jnp.float64)) > 0
    return jnp.sum(values) / jnp.maximum(jnp.sum(present.astype(jnp.float64)), 1.0)


PENALTIES: dict[str, Callable[[Forces, Graph, Array], Array]] = {
    "asymmetry": asymmetry,
    "net_force": lambda forces, graph, key: net_force(forces, graph),
    "torque": lambda forces, graph, key: torque(forces, graph),
}
"""Name of a penalty in the settings -> function that computes it for a batch."""


def penalised(objective: Objective, unravel: Unravel, weights: Mapping[str, float]) -> Objective:
    """Return the objective loss + Σ λ · penalty; its parts include the penalties, without λ.

    Args:
        objective: the loss without penalties. unravel: makes a model of the weights θ.
        weights: name of a penalty (see `PENALTIES`) -> λ; those of weight 0 are not computed.
    """
    wanted = {name: weight for name, weight in weights.items() if weight}

    def with_penalties(
        theta: Array, graph: Graph, t: Any, w: Any, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        loss, parts = objective(theta, graph, t, w, key)
        forces = forces_of(unravel(theta))
        penalties = {name: PENALTIES[name](forces, graph, key) for name in wanted}
        total = loss + sum((penalties[name] * weight for name, weight in wanted.items()), 0.0)
        return total, {**parts, **penalties}

    return with_penalties
