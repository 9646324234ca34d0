"""How sure a Gaussian process is of an energy and of each component of a force.

    var y* = k_** − |a|² + |R⁻¹ a|²,   a = L⁻¹ k_M*      (see `gaussian_process`)

The prior variances k_** are sums over pairs of centres i, j of one element:

    of E      Σ k(i, j) − k(i, 0) − k(0, j) + k(0, 0)
    of F_a    Σ ∂_a û_i · ∂_a û_j ζ s^(ζ−1) + (∂_a û_i · û_j)(û_i · ∂_a û_j) ζ (ζ−1) s^(ζ−2)

with s = û_i · û_j and û = p/|p|.
"""

from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular

from kohn.compilation import compiled
from kohn.descriptors.soap import Expansion, expansion, soap_jacobian
from kohn.graphs import neighbourhood
from kohn.models.gaussian_process import GaussianProcess, lone_atoms
from kohn.models.label_covariances import (
    Centres,
    Inducing,
    centres,
    factor_of,
    labels,
    padded,
    whitened_covariances,
)
from kohn.structures import Structure


@dataclass(frozen=True, eq=False)
class Variances:
    """Posterior variances: of the energy, eV², and of the forces [n, 3], (eV/Å)².

    They are of the function, not of a noisy label.
    """

    energy: float
    forces: np.ndarray


class Posterior:
    """The factors L and R of a fitted model, unpacked once."""

    def __init__(self, model: GaussianProcess):
        self.model = model
        points = [np.asarray(p, np.float64) for p in model.points]
        zero = [np.asarray(model.zero[here], np.float64) for here in model.segments]
        factors = [factor_of(p, model.config.zeta) for p in points]
        self._inducing = Inducing(points, factors, zero)
        m = sum(model.counts)
        self._r = np.zeros((m, m))
        self._r[np.tril_indices(m)] = np.asarray(model.posterior, np.float64)

    def variances(self, structure: Structure, *, forces: bool = True) -> Variances:
        """Of one structure; memory grows with atoms × neighbours × features.

        Args:
            structure: any.
            forces: those of the forces too, which take most of the time; NaN without.
        """
        model, n = self.model, len(structure)
        config, elements = model.config, model.elements
        rows = neighbourhood(structure, model.cutoff)
        block = centres([structure], [rows], elements, max(rows.width, 1))
        zeros = np.zeros((n, 3)) if forces else None
        asked = structure.with_labels(energy=np.zeros(()), forces=zeros, stress=None)
        plain = config.model_copy(update={"config_noise": {}})
        y = labels([asked], [0.0], block, plain, ("energy", "forces") if forces else ("energy",))
        a = whitened_covariances(block, y, elements, config, self._inducing)
        a[:, 0] *= np.sqrt(n)  # undo the factor on the noise of an energy
        s = float(model.scale) ** 2
        explained = np.sum(a**2, axis=0)
        left = np.sum(solve_triangular(self._r, a, lower=True) ** 2, axis=0)
        energy, of_forces = prior_variances(block, elements, model, forces=forces)
        prior = np.concatenate([[energy], of_forces.ravel() if forces else []])
        variance = s * np.maximum(prior - explained, 0.0) + s * left
        found = variance[1:].reshape(n, 3) if forces else of_forces
        return Variances(float(variance[0]), found)


def prior_variances(
    block: Centres, elements: tuple[int, ...], model: GaussianProcess, *, forces: bool = True
) -> tuple[float, np.ndarray]:
    """k_** of the energy and of the force components [n, 3] of one structure, with δ = 1; the
    second NaN where they are not asked for."""
    zeta, table = model.config.zeta, expansion(model.config.soap, elements)
    n = len(block.centre)
    some = padded(np.arange(n), 8)
    found = _unit_and_jacobian(table)(*(jnp.asarray(x) for x in block.rows(some)))
    u, du = (np.asarray(x)[:n] for x in found)
    same = block.centre[:, None] == block.centre
    lone = lone_atoms(model.config.soap, elements)
    s, s_lone = u @ u.T, np.sum(u * lone[block.centre], axis=1)
    own = np.sum(lone[block.centre] ** 2, axis=1)
    from_zero = (s**zeta) - (s_lone[:, None] ** zeta) - s_lone**zeta + own**zeta
    energy = float(np.sum(from_zero * same))
    of_forces = np.full((n, 3), np.nan)
    for atom in range(n if forces else 0):
        near, slots = np.nonzero((block.index == atom) & block.mask)
        involved = np.union1d(near, [atom])
        for axis in range(3):
            d = np.zeros((len(involved), u.shape[1]))
            np.add.at(d, np.searchsorted(involved, near), du[near, slots, axis])
            d[np.searchsorted(involved, atom)] -= du[atom, :, axis].sum(axis=0)
            of_forces[atom, axis] = _pairs(d, u[involved], same[np.ix_(involved, involved)], zeta)
    return energy, of_forces


def _pairs(d: np.ndarray, u: np.ndarray, same: np.ndarray, zeta: int) -> float:
    """Σ_ij ∂∂k(i, j) for derivatives d of unit vectors u by one coordinate."""
    s, across = u @ u.T, d @ u.T
    found = zeta * s ** (zeta - 1) * (d @ d.T)
    if zeta > 1:
        found += zeta * (zeta - 1) * s ** (zeta - 2) * across * across.T
    return float(np.sum(found * same))


@lru_cache(maxsize=8)
def _unit_and_jacobian(table: Expansion):
    """û [N, D] and ∂û/∂d [N, K, 3, D]."""

    def both(*rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        p, jacobian = soap_jacobian(table, *rows)
        norm = jnp.sqrt(jnp.sum(p * p, axis=-1) + 1e-30)
        u = p / norm[:, None]
        along = jnp.einsum("nkad,nd->nka", jacobian, u)
        du = (jacobian - along[..., None] * u[:, None, None]) / norm[:, None, None, None]
        return u, du

    return compiled(both)
