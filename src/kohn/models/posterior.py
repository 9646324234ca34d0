"""Compute variances of labels of a new structure about the mean of a Gaussian process.

    σ² of E*     = |R⁻¹ a|² + n s_E² + c_E² max(k_** − |a|² − n κ_E², 0),   a = L⁻¹ k_M*
    σ² of F*_a   = |R⁻¹ a|² + s_F² + c_F² max(k_** − |a|² − κ_F², 0),       c = min(1, s/κ)

for the energy E* of n atoms and a component F*_a of a force. |R⁻¹ a|² is the variance of f at the
inducing environments given the labels (see `gaussian_process`). s is the rms residual of the fit on
its own labels (`config.residuals`, see `training.gaussian_process.residuals`); for well-sampled
data it is nearly all of the error. It is assumed to be independent for each atom, hence n s_E².
k_** − |a|² is the prior variance that inducing environments do not explain, large for environments
unlike them. On the labels of the fit its mean is κ² (`config.unexplained`), which s includes, so
only the excess is added. The likelihood that determines δ does not contain this term, so κ may
exceed s; but the labels show that its mean was at most s², and c scales it accordingly.

Model files written before the lone atoms 0 became inducing environments have no `residuals`, and
their f(0) was not inferred. They are still read: s is the noise of the fit, and the unexplained
variance is conditioned on being zero at 0, as if 0 were an inducing environment whose f is certain.

The prior variances k_** are sums over pairs of centres i, j of the same element:

    of E      Σ k(i, j) − k(i, 0) − k(0, j) + k(0, 0)
    of F_a    Σ ∂_a û_i · ∂_a û_j ζ s^(ζ−1) + (∂_a û_i · û_j)(û_i · ∂_a û_j) ζ (ζ−1) s^(ζ−2)

with s = û_i · û_j and û = p/|p|.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from kohn.compilation import compiled
from kohn.descriptors.soap import Expansion, expansion, soap_jacobian
from kohn.graphs import Neighbourhood, neighbourhood
from kohn.models.confidence import Variances
from kohn.models.gaussian_process import GaussianProcess, lone_atoms
from kohn.models.label_covariances import (
    Centres,
    Inducing,
    centres,
    compiled_kernels,
    labels,
    padded,
    unit_features,
    whitened_covariances,
)
from kohn.structures import Structure
from kohn.typing import Float, Int

WIDTH_STEP = 16
"""Numbers of slots are rounded up to multiples of this, so that few shapes are compiled."""
BATCH_ATOMS = 1024
"""The variances of energies are computed as soon as a batch has this number of atoms."""
Kind = Literal["energy", "forces"]
LONE_TOLERANCE = 1e-6
"""An inducing environment m counts as the lone atom 0 if 1 − k(0, m) is below this."""


class Posterior:
    """The variances of a fitted Gaussian process, from its factors L and R, unpacked once."""

    def __init__(self, model: GaussianProcess):
        self.model = model
        points, inferred = [], []
        lone = lone_atoms(model.config.soap, model.elements)
        for p, here, z in zip(model.points, model.segments, lone, strict=True):
            lacks_lone = not np.any(np.asarray(model.zero[here]) > 1.0 - LONE_TOLERANCE)
            points.append(np.vstack([np.asarray(p, np.float64), z[None][: int(lacks_lone)]]))
            inferred.append(np.arange(len(points[-1])) < len(p))
        self._inducing = Inducing.at(points, model.config, model.elements)
        self._inferred = np.concatenate(inferred)
        m = sum(model.counts)
        self._r = np.zeros((m, m))
        self._r[np.tril_indices(m)] = np.asarray(model.posterior, np.float64)

    def variances(self, structure: Structure) -> Variances:
        """Compute the variances of one structure; memory grows as atoms × neighbours × features."""
        (energy, forces), a = self._prior(structure)
        return Variances(
            float(self._variance("energy", energy, a[:, :1], len(structure))[0]),
            self._variance("forces", forces.ravel(), a[:, 1:], 1).reshape(forces.shape),
        )

    def unexplained(self, structures: Sequence[Structure], kind: Kind) -> float:
        """Compute κ, the rms of the prior that inducing environments do not explain, of the
        energies, eV per square root of the atoms, or of the forces, eV/Å, of structures."""
        variances = []
        for s in structures:
            if kind == "energy":
                rows = neighbourhood(s, self.model.cutoff)
                prior, a = self._prior_of_energies([s], [rows], _rounded_width(rows.width))
                variances.append(self._unexplained(prior, a) / len(s))
            else:
                (_, prior), a = self._prior(s)
                variances.append(self._unexplained(prior.ravel(), a[:, 1:]))
        return float(np.sqrt(np.mean(np.concatenate(variances))))

    def _prior(self, structure: Structure) -> tuple[tuple[float, np.ndarray], np.ndarray]:
        """Compute k_** of the energy and the forces [n, 3], for δ = 1; a = L⁻¹ k_M* [M, 1 + 3n]."""
        model, n = self.model, len(structure)
        config, elements = model.config, model.elements
        rows = neighbourhood(structure, model.cutoff)
        block = centres([structure], [rows], elements, _rounded_width(rows.width))
        labelled = structure.with_labels(energy=np.zeros(()), forces=np.zeros((n, 3)), stress=None)
        plain = config.model_copy(update={"config_noise": {}})
        y = labels([labelled], [0.0], block, plain, ("energy", "forces"))
        a = whitened_covariances(block, y, elements, config, self._inducing)
        a[:, 0] *= np.sqrt(n)  # undo the factor on the noise of an energy
        prior = prior_variances(block, elements, model)
        return prior, a

    def _variance(self, kind: Kind, prior: Any, a: np.ndarray, n: Any) -> np.ndarray:
        """Compute σ² of Y labels of one kind from prior variances k_** [Y] for δ = 1, a = L⁻¹ k_M*
        [M, Y], and n [Y], the number of atoms for an energy and 1 for a component of a force."""
        config = self.model.config
        s: float = getattr(config, f"noise_{kind}")  # if the fit stored no residual
        s = config.residuals.get(kind) or s
        kappa = config.unexplained.get(kind, 0.0)
        scale = min(1.0, s / kappa) if kappa else 1.0
        inferred = np.sum(solve_triangular(self._r, a[self._inferred], lower=True) ** 2, axis=0)
        excess = np.maximum(self._unexplained(prior, a) - n * kappa**2, 0.0)
        return float(self.model.scale) ** 2 * inferred + n * s**2 + scale**2 * excess

    def _unexplained(self, prior: Any, a: np.ndarray) -> np.ndarray:
        """Compute δ² (k_** − |a|²), the prior that inducing environments do not explain."""
        return float(self.model.scale) ** 2 * np.maximum(prior - np.sum(a**2, axis=0), 0.0)

    def energy_variances(self, structures: Sequence[Structure]) -> np.ndarray:
        """Compute the variances of energies, eV², [M], in batches and without derivatives."""

        def of_batch(batch: Sequence[Structure], rows: Sequence[Neighbourhood], width: int):
            prior, a = self._prior_of_energies(batch, rows, width)
            return self._variance("energy", prior, a, np.array([len(s) for s in batch]))

        variances = np.empty(len(structures))
        waiting: dict[int, tuple[list[int], list[Neighbourhood]]] = {}
        for i, structure in enumerate(structures):
            rows = neighbourhood(structure, self.model.cutoff)
            width = _rounded_width(rows.width)
            batch, neighbourhoods = waiting.setdefault(width, ([], []))
            batch.append(i)
            neighbourhoods.append(rows)
            if sum(len(r.index) for r in neighbourhoods) >= BATCH_ATOMS:
                variances[batch] = of_batch([structures[k] for k in batch], neighbourhoods, width)
                del waiting[width]
        for width, (batch, neighbourhoods) in waiting.items():
            variances[batch] = of_batch([structures[k] for k in batch], neighbourhoods, width)
        return variances

    def _prior_of_energies(
        self, structures: Sequence[Structure], rows: Sequence[Neighbourhood], width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute k_** of Y energies, for δ = 1, and a = L⁻¹ k_M* [M, Y], without derivatives."""
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
        lone = lone_atoms(config.soap, elements)
        starts = np.cumsum([0, *(len(s) for s in structures)])
        prior = np.array(
            [prior_of_energy(u[i:j], block.centre[i:j], lone, zeta) for i, j in pairwise(starts)]
        )
        return prior, np.concatenate(whitened)


def _rounded_width(width: int) -> int:
    """Round the number of neighbour slots up to a multiple of `WIDTH_STEP`."""
    return -(-max(width, 1) // WIDTH_STEP) * WIDTH_STEP


def prior_of_energy(
    u: Float[np.ndarray, "n D"],
    species: Int[np.ndarray, " n"],
    lone: Float[np.ndarray, "S D"],
    zeta: int,
) -> float:
    """Compute the prior variance k_** of the energy of one structure, for δ = 1.

    Args:
        u: unit SOAP vectors of the atoms. species: indices of the elements of the atoms.
        lone: unit SOAP vectors of a lone atom of each element.
    """
    same = species[:, None] == species
    s, s_lone = u @ u.T, np.sum(u * lone[species], axis=1)
    own = np.sum(lone[species] ** 2, axis=1)
    from_zero = (s**zeta) - (s_lone[:, None] ** zeta) - s_lone**zeta + own**zeta
    return float(np.sum(from_zero * same))


def prior_variances(
    block: Centres, elements: tuple[int, ...], model: GaussianProcess
) -> tuple[float, np.ndarray]:
    """Compute prior variances of energy and force components [n, 3] of a structure, for δ = 1."""
    zeta, table = model.config.zeta, expansion(model.config.soap, elements)
    n = len(block.centre)
    rows = block.rows(padded(np.arange(n), 8))
    unit_and_jacobian = _unit_and_jacobian(table)(*(jnp.asarray(x) for x in rows))
    u, du = (np.asarray(x)[:n] for x in unit_and_jacobian)
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
            forces[atom, axis] = _pair_sum(d, u[involved], same[np.ix_(involved, involved)], zeta)
    return energy, forces


def _pair_sum(d: np.ndarray, u: np.ndarray, same: np.ndarray, zeta: int) -> float:
    """Compute Σ_ij ∂_i ∂_j k(i, j) from unit vectors u and their derivatives d by a coordinate."""
    s, across = u @ u.T, d @ u.T
    k = zeta * s ** (zeta - 1) * (d @ d.T)
    if zeta > 1:
        k += zeta * (zeta - 1) * s ** (zeta - 2) * across * across.T
    return float(np.sum(k * same))


@lru_cache(maxsize=8)
def _unit_and_jacobian(table: Expansion):
    """Return the function that computes unit SOAP vectors û [N, D] and ∂û/∂d [N, K, 3, D]."""

    def both(*rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        p, jacobian = soap_jacobian(table, *rows)
        norm = jnp.sqrt(jnp.sum(p * p, axis=-1) + 1e-30)
        u = p / norm[:, None]
        along = jnp.einsum("nkad,nd->nka", jacobian, u)
        du = (jacobian - along[..., None] * u[:, None, None]) / norm[:, None, None, None]
        return u, du

    return compiled(both)
