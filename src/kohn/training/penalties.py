"""Soft constraints: penalise forces that no energy, or no isolated molecule, can have.

With J = ∂F/∂x of a structure of n atoms, x their coordinates relative to their mean:

    asymmetry   ⟨‖J − Jᵀ‖²_F / 3n⟩ = ⟨E_v ‖J v − Jᵀ v‖² / 3n⟩     v: random signs
    net_force   ⟨|Σ_i F_i|² / n⟩
    torque      ⟨|Σ_i x_i × F_i|² / n⟩                            structures without periodicity

and ⟨⟩ the mean over the structures of a batch. J v is a forward and Jᵀ v a reverse derivative;
J itself is never formed. Atoms of different structures do not interact, so that one v of all
atoms of a batch serves as one v for each structure.

Forces that derive from an energy have a symmetric J. The estimate from one v and its gradient
have the right mean; it is zero for every v only if J is symmetric.

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
"""Forces of atoms from a graph, eV/Å; zero in padding."""


def forces_of(model: EnergyModel) -> Forces:
    """Return the function that computes the forces of a model of any family."""
    return lambda graph: energy_and_derivatives(model, graph).forces


def moved(graph: Graph, x: Float[Array, "N 3"]) -> Graph:
    """Return the graph with its atoms moved by x, Å, and the same edges."""
    d = gather_neighbours(x, graph.index, graph.reverse) - x[:, None]
    d = jnp.where(graph.edge_mask[..., None], d, jnp.zeros_like(d))
    return eqx.tree_at(lambda g: g.displacement, graph, graph.displacement + d)


def twist(forces: Forces, graph: Graph, v: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
    """Compute (J − Jᵀ) v, eV/Å² for v in Å."""

    def at(x: Array) -> Array:
        return forces(moved(graph, x))

    here = jnp.zeros_like(v)
    _, forward = jax.jvp(at, (here,), (v,))
    _, transposed = jax.vjp(at, here)
    return forward - transposed(v)[0]


def asymmetry(forces: Forces, graph: Graph, key: Array) -> Float[Array, ""]:
    """Estimate ⟨‖J − Jᵀ‖²_F / 3n⟩ without bias from one v, (eV/Å²)²; see the module."""
    signs = jax.random.rademacher(key, (*graph.atom_mask.shape, 3), graph.displacement.dtype)
    curl = twist(forces, graph, signs * graph.atom_mask[:, None].astype(signs.dtype))
    return _mean(graph.sum_atoms(jnp.sum(curl * curl, axis=1)) / (3.0 * _atoms(graph)), graph)


def net_force(forces: Forces, graph: Graph) -> Float[Array, ""]:
    """⟨|Σ_i F_i|² / n⟩, (eV/Å)²."""
    net = graph.sum_atoms(forces(graph))
    return _mean(jnp.sum(net * net, axis=1) / _atoms(graph), graph)


def torque(forces: Forces, graph: Graph) -> Float[Array, ""]:
    """⟨|Σ_i x_i × F_i|² / n⟩, eV²; the graph needs positions. It is 0 for periodic structures."""
    positions = jnp.asarray(graph.positions)
    mean = graph.sum_atoms(positions) / _atoms(graph)[:, None]
    x = positions - mean[graph.structure]
    whole = graph.sum_atoms(jnp.cross(x, forces(graph).astype(x.dtype)))
    return _mean(jnp.sum(whole * whole, axis=1) / _atoms(graph), graph)


def _atoms(graph: Graph) -> Float[Array, " G"]:
    """n of each structure; 1 in padding."""
    return jnp.maximum(graph.sum_atoms(graph.atom_mask.astype(jnp.float64)), 1.0)


def _mean(values: Float[Array, " G"], graph: Graph) -> Float[Array, ""]:
    """Return the mean over structures with atoms; the values of the others are zero."""
    present = graph.sum_atoms(graph.atom_mask.astype(jnp.float64)) > 0
    return jnp.sum(values) / jnp.maximum(jnp.sum(present.astype(jnp.float64)), 1.0)


PENALTIES: dict[str, Callable[[Forces, Graph, Array], Array]] = {
    "asymmetry": asymmetry,
    "net_force": lambda forces, graph, key: net_force(forces, graph),
    "torque": lambda forces, graph, key: torque(forces, graph),
}
"""Name in configurations -> the penalty of a batch."""


def penalised(objective: Objective, unravel: Unravel, weights: Mapping[str, float]) -> Objective:
    """Return loss + Σ λ · penalty, whose parts include the penalties before their weights.

    Args:
        objective: without penalties. unravel: makes a model of θ.
        weights: λ by name, see `PENALTIES`; penalties of weight 0 are not computed.
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
