"""Soft constraints: penalties on forces that no energy, or no isolated molecule, would have.

With J = ∂F/∂x of a structure of n atoms, x their coordinates relative to their mean:

    asymmetry   ⟨‖J − Jᵀ‖²_F / 3n⟩ = ⟨E_v ‖J v − Jᵀ v‖² / 3n⟩     v: random signs
    net_force   ⟨|Σ_i F_i|² / n⟩
    torque      ⟨|Σ_i x_i × F_i|² / n⟩                            structures without periodicity

and ⟨⟩ the mean over the structures of a batch. J v is a forward and Jᵀ v a reverse derivative;
J itself is never formed. Atoms of one structure do not see those of another, so that one v of
all atoms of a batch is one for each structure.

Forces with an energy have a symmetric J. The estimate from one v has the right mean, and so has
its gradient; it is zero for every v only where J is symmetric.

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
    """The forces of a model of any family."""
    return lambda graph: energy_and_derivatives(model, graph).forces


def moved(graph: Graph, x: Float[Array, "N 3"]) -> Graph:
    """The graph with its atoms moved by x, Å, and the same edges."""
    d = gather_neighbours(x, graph.index, graph.reverse) - x[:, None]
    d = jnp.where(graph.edge_mask[..., None], d, jnp.zeros_like(d))
    return eqx.tree_at(lambda g: g.displacement, graph, graph.displacement + d)


def twist(forces: Forces, graph: Graph, v: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
    """(J − Jᵀ) v, eV/Å² for v in Å."""

    def at(x: Array) -> Array:
        return forces(moved(graph, x))

    here = jnp.zeros_like(v)
    _, forward = jax.jvp(at, (here,), (v,))
    _, transposed = jax.vjp(at, here)
    return forward - transposed(v)[0]


def asymmetry(forces: Forces, graph: Graph, key: Array) -> Float[Array, ""]:
    """Unbiased estimate of ⟨‖J − Jᵀ‖²_F / 3n⟩ from one v, (eV/Å²)²; see the module's head."""
    signs = jax.random.rademacher(key, (*graph.atom_mask.shape, 3), graph.displacement.dtype)
    found = twist(forces, graph, signs * graph.atom_mask[:, None].astype(signs.dtype))
    return _mean(graph.sum_atoms(jnp.sum(found * found, axis=1)) / (3.0 * _atoms(graph)), graph)


def net_force(forces: Forces, graph: Graph) -> Float[Array, ""]:
    """⟨|Σ_i F_i|² / n⟩, (eV/Å)²."""
    net = graph.sum_atoms(forces(graph))
    return _mean(jnp.sum(net * net, axis=1) / _atoms(graph), graph)


def torque(forces: Forces, graph: Graph) -> Float[Array, ""]:
    """⟨|Σ_i x_i × F_i|² / n⟩, eV²; of a graph with positions. Periodic structures have none."""
    positions = jnp.asarray(graph.positions)
    mean = graph.sum_atoms(positions) / _atoms(graph)[:, None]
    x = positions - mean[graph.structure]
    whole = graph.sum_atoms(jnp.cross(x, forces(graph).astype(x.dtype)))
    return _mean(jnp.sum(whole * whole, axis=1) / _atoms(graph), graph)


def _atoms(graph: Graph) -> Float[Array, " G"]:
    """n of each structure; 1 in padding."""
    return jnp.maximum(graph.sum_atoms(graph.atom_mask.astype(jnp.float64)), 1.0)


def _mean(values: Float[Array, " G"], graph: Graph) -> Float[Array, ""]:
    """Over the structures that have atoms; of the others the value is zero."""
    there = graph.sum_atoms(graph.atom_mask.astype(jnp.float64)) > 0
    return jnp.sum(values) / jnp.maximum(jnp.sum(there.astype(jnp.float64)), 1.0)


PENALTIES: dict[str, Callable[[Forces, Graph, Array], Array]] = {
    "asymmetry": asymmetry,
    "net_force": lambda forces, graph, key: net_force(forces, graph),
    "torque": lambda forces, graph, key: torque(forces, graph),
}
"""Name in configurations -> the penalty of a batch."""


def penalised(objective: Objective, unravel: Unravel, weights: Mapping[str, float]) -> Objective:
    """loss + Σ λ · penalty, with the penalties before their weights among the parts.

    Args:
        objective: without penalties. unravel: makes a model of θ.
        weights: λ by name, see `PENALTIES`; those of weight 0 are not computed.
    """
    wanted = {name: weight for name, weight in weights.items() if weight}

    def with_penalties(
        theta: Array, graph: Graph, t: Any, w: Any, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        loss, parts = objective(theta, graph, t, w, key)
        forces = forces_of(unravel(theta))
        found = {name: PENALTIES[name](forces, graph, key) for name in wanted}
        total = loss + sum((found[name] * weight for name, weight in wanted.items()), 0.0)
        return total, {**parts, **found}

    return with_penalties
