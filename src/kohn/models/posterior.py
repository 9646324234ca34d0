"""How sure a Gaussian process is of an energy and of each component of a force.

    var y* = k_** − |a|² + |R⁻¹ a|²,   a = L⁻¹ k_M*      (see `gaussian_process`)

The prior variances k_** are sums over pairs of centres i, j of one element:

    of E      Σ k(i, j) − k(i, 0) − k(0, j) + k(0, 0)
    of F_a    Σ ∂_a û_i · ∂_a û_j ζ s^(ζ−1) + (∂_a û_i · û_j)(û_i · ∂_a û_j) ζ (ζ−1) s^(ζ−2)

with s = û_i · û_j and û = p/|p|.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from kohn.compilation import compiled
from kohn.descriptors.soap import Expansion, expansion, soap_jacobian
from kohn.graphs import Neighbourhood, neighbourhood
from kohn.models.gaussian_process import GaussianProcess, lone_atoms
from kohn.models.label_covariances import (
    Centres,
    Inducing,
    centres,
    compiled_kernels,
    factor_of,
    labels,
    padded,
    unit_features,
    whitened_covariances,
)
from kohn.structures import Structure
from kohn.typing import Float, Int

WIDTH = 16
"""Widths of rows are multiples of this, so that few shapes are compiled."""
ATOMS = 1024
"""Atoms whose energies are taken together."""


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

    def variances(self, structure: Structure) -> Variances:
        """Of one structure; memory grows with atoms × neighbours × features."""
        model, n = self.model, len(structure)
        config, elements = model.config, model.elements
        rows = neighbourhood(structure, model.cutoff)
        block = centres([structure], [rows], elements, max(rows.width, 1))
        asked = structure.with_labels(energy=np.zeros(()), forces=np.zeros((n, 3)), stress=None)
        plain = config.model_copy(update={"config_noise": {}})
        y = labels([asked], [0.0], block, plain, ("energy", "forces"))
        a = whitened_covariances(block, y, elements, config, self._inducing)
        a[:, 0] *= np.sqrt(n)  # undo the factor on the noise of an energy
        s = float(model.scale) ** 2
        explained = np.sum(a**2, axis=0)
        left = np.sum(solve_triangular(self._r, a, lower=True) ** 2, axis=0)
        energy, forces = prior_variances(block, elements, model)
        prior = np.concatenate([[energy], forces.ravel()])
        variance = s * np.maximum(prior - explained, 0.0) + s * left
        return Variances(float(variance[0]), variance[1:].reshape(n, 3))

    def energy_variances(self, structures: Sequence[Structure]) -> np.ndarray:
        """Of the energies of structures, eV², [M], without derivatives; a few at a time."""
        found = np.empty(len(structures))
        waiting: dict[int, tuple[list[int], list[Neighbourhood]]] = {}
        for i, structure in enumerate(structures):
            rows = neighbourhood(structure, self.model.cutoff)
            width = -(-max(rows.width, 1) // WIDTH) * WIDTH
            batch, of_batch = waiting.setdefault(width, ([], []))
            batch.append(i)
            of_batch.append(rows)
            if sum(len(r.index) for r in of_batch) >= ATOMS:
                found[batch] = self._energy_variances(
                    [structures[k] for k in batch], of_batch, width
                )
                del waiting[width]
        for width, (batch, of_batch) in waiting.items():
            found[batch] = self._energy_variances([structures[k] for k in batch], of_batch, width)
        return found

    def _energy_variances(
        self, structures: Sequence[Structure], rows: Sequence[Neighbourhood], width: int
    ) -> np.ndarray:
        model = self.model
        config, elements, zeta = model.config, model.elements, model.config.zeta
        features, _ = compiled_kernels(expansion(config.soap, elements), zeta)
        block = centres(structures, rows, elements, width)
        u = unit_features(block, np.arange(len(block.centre)), features)
        member = sparse.csr_array(
            (np.ones(len(u)), (block.structure, np.arange(len(u)))),
            shape=(len(structures), len(u)),
        ).tocsc()
        whitened = []
        for a, points in enumerate(self._inducing.points):
            here = np.flatnonzero(block.centre == a)
            value = (u[here] @ points.T) ** zeta - self._inducing.zero[a]
            covariance = member[:, here] @ value
            factor = self._inducing.factors[a]
            whitened.append(solve_triangular(factor, covariance.T, lower=True))
        a = np.concatenate(whitened)
        left = np.sum(solve_triangular(self._r, a, lower=True) ** 2, axis=0)
        lone = lone_atoms(config.soap, elements)
        starts = np.cumsum([0, *(len(s) for s in structures)])
        prior = np.array(
            [prior_of_energy(u[i:j], block.centre[i:j], lone, zeta) for i, j in pairwise(starts)]
        )
        explained = np.sum(a**2, axis=0)
        return float(model.scale) ** 2 * (np.maximum(prior - explained, 0.0) + left)


def prior_of_energy(
    u: Float[np.ndarray, "n D"],
    species: Int[np.ndarray, " n"],
    lone: Float[np.ndarray, "S D"],
    zeta: int,
) -> float:
    """k_** of the energy of one structure, δ = 1.

    Args:
        u: û of its centres. species: index of their elements.
        lone: û of an atom without neighbours, of each element.
    """
    same = species[:, None] == species
    s, s_lone = u @ u.T, np.sum(u * lone[species], axis=1)
    own = np.sum(lone[species] ** 2, axis=1)
    from_zero = (s**zeta) - (s_lone[:, None] ** zeta) - s_lone**zeta + own**zeta
    return float(np.sum(from_zero * same))


def prior_variances(
    block: Centres, elements: tuple[int, ...], model: GaussianProcess
) -> tuple[float, np.ndarray]:
    """k_** of the energy and of the force components [n, 3] of one structure, with δ = 1."""
    zeta, table = model.config.zeta, expansion(model.config.soap, elements)
    n = len(block.centre)
    some = padded(np.arange(n), 8)
    found = _unit_and_jacobian(table)(*(jnp.asarray(x) for x in block.rows(some)))
    u, du = (np.asarray(x)[:n] for x in found)
    same = block.centre[:, None] == block.centre
    energy = prior_of_energy(u, block.centre, lone_atoms(model.config.soap, elements), zeta)
    forces = np.empty((n, 3))
    for atom in range(n):
        near, slots = np.nonzero((block.index == atom) & block.mask)
        involved = np.union1d(near, [atom])
        for axis in range(3):
            d = np.zeros((len(involved), u.shape[1]))
            np.add.at(d, np.searchsorted(involved, near), du[near, slots, axis])
            d[np.searchsorted(involved, atom)] -= du[atom, :, axis].sum(axis=0)
            forces[atom, axis] = _pairs(d, u[involved], same[np.ix_(involved, involved)], zeta)
    return energy, forces


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
