"""Compute covariances of labels with the inducing environments of a Gaussian process.

An energy is a sum of atomic energies ε_i, a force or a stress is a sum of derivatives ∂ε_i/∂d_ij by
displacements of edges; sparse matrices for these sums turn kernels into covariances of labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import cholesky, solve_triangular

from kohn.compilation import compiled
from kohn.descriptors.soap import Expansion, expansion, soap, soap_jacobian
from kohn.graphs import Neighbourhood, species_index
from kohn.models.gaussian_process import (
    JITTER,
    GaussianProcessConfig,
    kernel_and_derivatives,
    lone_atoms,
    normalised,
)
from kohn.structures import Structure

KINDS = ("energy", "forces", "stress")
_VOIGT = (np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1]))


CENTRES = 128
"""The number of centres whose SOAP vectors are computed at a time without derivatives."""


@dataclass(frozen=True, eq=False)
class Centres:
    """The N atoms of a block of structures, in order, with their neighbours padded to K slots.

    Attributes:
        displacement [N, K, 3], neighbour [N, K] (species), mask [N, K], centre [N] (species):
            the arguments of `soap`.
        structure: index of the structure of a centre in the block, [N].
        index: the centre of which a neighbour is an image, [N, K].
    """

    displacement: np.ndarray
    neighbour: np.ndarray
    mask: np.ndarray
    centre: np.ndarray
    structure: np.ndarray
    index: np.ndarray

    def rows(self, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the arguments of `soap` for the chosen centres."""
        parts = (self.displacement, self.neighbour, self.mask, self.centre)
        return tuple(x[chosen] for x in parts)


def centres(
    structures: Sequence[Structure],
    neighbourhoods: Sequence[Neighbourhood],
    elements: tuple[int, ...],
    width: int,
) -> Centres:
    """Collect the atoms of structures as centres, with `width` neighbour slots each."""
    species = [species_index(s, elements) for s in structures]
    total = sum(map(len, structures))
    index, mask = np.zeros((total, width), np.int64), np.zeros((total, width), bool)
    displacement = np.ones((total, width, 3))
    start = 0
    for h in neighbourhoods:
        n, k = h.mask.shape
        here = slice(start, start + n)
        mask[here, :k] = h.mask
        index[here, :k] = np.where(h.mask, h.index + start, 0)
        displacement[here, :k] = np.where(h.mask[..., None], h.displacement, 1.0)
        start += n
    centre = np.concatenate(species)
    structure = np.repeat(np.arange(len(structures)), [len(s) for s in structures])
    return Centres(displacement, centre[index], mask, centre, structure, index)


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a block as linear functions of atomic energies and their derivatives.

    y = of_energies ε + of_derivatives ∂ε/∂d, with each row divided by the factor on its noise.

    Attributes:
        values: y, [R]. kind: index into KINDS, [R].
        of_energies: sparse [R, N]. of_derivatives: sparse [R, N · K · 3].
    """

    values: np.ndarray
    kind: np.ndarray
    of_energies: Any
    of_derivatives: Any


def labels(
    structures: Sequence[Structure],
    e0: Sequence[float],
    block: Centres,
    config: GaussianProcessConfig,
    kinds: Sequence[str],
) -> Labels:
    """Build `Labels` from all labels of `kinds` in the structures, energies minus `e0` first."""
    n, k = block.mask.shape
    edge = np.flatnonzero(block.mask.ravel())
    i, j = edge // k, block.index.ravel()[edge]
    values, kind, energies, derivatives = [], [], [], []
    factor = np.array([config.config_noise.get(s.config_type, 1.0) for s in structures])
    sizes = np.array([len(s) for s in structures])

    def add(label: str, y: np.ndarray, noise: np.ndarray, of_energies: Any, of_derivatives: Any):
        scale = sparse.diags(1.0 / noise)
        values.append(y / noise)
        kind.append(np.full(len(y), KINDS.index(label)))
        energies.append(scale @ of_energies)
        derivatives.append(scale @ of_derivatives)

    has = {label: np.array([label in s.labels for s in structures]) for label in KINDS}
    if "energy" in kinds and has["energy"].any():
        y = [
            float(s.labels["energy"]) - e
            for s, e in zip(structures, e0, strict=True)
            if "energy" in s.labels
        ]
        member = sparse.csr_array(
            (np.ones(n), (block.structure, np.arange(n))), shape=(len(structures), n)
        )
        keep = has["energy"]
        zeros = sparse.csr_array((int(keep.sum()), n * k * 3))
        add("energy", np.array(y), (factor * np.sqrt(sizes))[keep], member[keep], zeros)
    if "forces" in kinds and has["forces"].any():
        # F_i = Σ_j g_ij − Σ_j g_ji with g_ij = ∂E/∂d_ij
        axes = np.arange(3)
        rows = np.concatenate([(3 * i[:, None] + axes).ravel(), (3 * j[:, None] + axes).ravel()])
        columns = np.tile((3 * edge[:, None] + axes).ravel(), 2)
        sign = np.repeat([1.0, -1.0], 3 * len(edge))
        operator = sparse.csr_array((sign, (rows, columns)), shape=(3 * n, n * k * 3))
        keep = np.repeat(has["forces"][block.structure], 3)
        y = np.concatenate([s.labels["forces"].ravel() for s in structures if "forces" in s.labels])
        noise = np.repeat(factor[block.structure], 3)[keep]
        add("forces", y, noise, sparse.csr_array((len(y), n)), operator[keep])
    if "stress" in kinds and has["stress"].any():
        operator = _stress_operator(structures, block, edge)
        keep = np.repeat(has["stress"], 6)
        y = np.concatenate([s.labels["stress"][_VOIGT] for s in structures if "stress" in s.labels])
        noise = np.repeat(factor, 6)[keep]
        add("stress", y, noise, sparse.csr_array((len(y), n)), operator[keep])
    return Labels(
        np.concatenate(values),
        np.concatenate(kind),
        sparse.vstack(energies).tocsr(),
        sparse.vstack(derivatives).tocsr(),
    )


def _stress_operator(structures: Sequence[Structure], block: Centres, edge: np.ndarray) -> Any:
    """Return the matrix of stresses (1/V) Σ ½ (g_a d_b + g_b d_a), six Voigt rows per structure."""
    n, k = block.mask.shape
    volume = np.array([s.volume if s.volume > 0 else 1.0 for s in structures])
    structure = block.structure[edge // k]
    d = block.displacement.reshape(-1, 3)[edge] / volume[structure, None]
    rows, columns, entries = [], [], []
    for v, (a, b) in enumerate(zip(*_VOIGT, strict=True)):
        for x, y in ((a, b), (b, a)):
            rows.append(6 * structure + v)
            columns.append(3 * edge + x)
            entries.append(0.5 * d[:, y])
    return sparse.csr_array(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))),
        shape=(6 * len(structures), n * k * 3),
    )


@dataclass(frozen=True, eq=False)
class Inducing:
    """Inducing environments by element: unit vectors, factors L, kernels k(0, m) with lone atom."""

    points: list[np.ndarray]
    factors: list[np.ndarray]
    zero: list[np.ndarray]

    @classmethod
    def at(
        cls,
        points: list[np.ndarray],
        config: GaussianProcessConfig,
        elements: tuple[int, ...],
    ) -> "Inducing":
        """Return the inducing environments of given unit SOAP vectors by element."""
        lone = lone_atoms(config.soap, elements)
        return cls(
            points,
            [factor_of(p, config.zeta) for p in points],
            [(p @ z) ** config.zeta for p, z in zip(points, lone, strict=True)],
        )

    @property
    def counts(self) -> list[int]:
        """The number of inducing environments of each element."""
        return [len(p) for p in self.points]


def factor_of(points: np.ndarray, zeta: int) -> np.ndarray:
    """Factorise the kernels K_MM of points, with JITTER, into L Lᵀ; return L, lower triangular."""
    k = (points @ points.T) ** zeta
    k[np.diag_indices_from(k)] *= 1.0 + JITTER
    return cholesky(k, lower=True, overwrite_a=True) if len(k) else k


@lru_cache(maxsize=8)
def compiled_kernels(table: Expansion, zeta: int) -> tuple[Callable, Callable]:
    def features(*rows):
        return normalised(soap(table, *rows))

    def with_derivatives(points, *rows):
        return kernel_and_derivatives(zeta, *soap_jacobian(table, *rows), points)

    return compiled(features), compiled(with_derivatives)


def whitened_covariances(
    block: Centres,
    y: Labels,
    elements: tuple[int, ...],
    config: GaussianProcessConfig,
    inducing: Inducing,
) -> np.ndarray:
    """Compute V = L⁻¹ K_MN, with the covariances K_MN of points and labels of a block, [M, R]."""
    features, derivatives = compiled_kernels(expansion(config.soap, elements), config.zeta)
    k = block.mask.shape[1]
    of_energies, of_derivatives = y.of_energies.tocsc(), y.of_derivatives.tocsc()
    energies_alone = of_derivatives.nnz == 0
    parts = []
    for a, points in enumerate(inducing.points):
        covariance = np.zeros((len(y.values), len(points)))
        chosen = np.flatnonzero(block.centre == a)
        if len(chosen) and len(points) and energies_alone:
            value = (unit_features(block, chosen, features) @ points.T) ** config.zeta
            covariance += of_energies[:, chosen] @ (value - inducing.zero[a])
        elif len(chosen) and len(points):
            value, slope = derivatives(points, *block.rows(padded(chosen, 8)))
            value = np.asarray(value)[: len(chosen)] - inducing.zero[a]
            slope = np.asarray(slope)[: len(chosen)].reshape(-1, len(points))
            columns = (3 * k * chosen[:, None] + np.arange(3 * k)).ravel()
            covariance += of_energies[:, chosen] @ value
            covariance += of_derivatives[:, columns] @ slope
        parts.append(solve_triangular(inducing.factors[a], covariance.T, lower=True))
    return np.concatenate(parts)


def unit_features(block: Centres, chosen: np.ndarray, features: Callable) -> np.ndarray:
    """Compute unit SOAP vectors of chosen centres, [n, D], in parts of one shape, compiled once."""
    parts = [chosen[i : i + CENTRES] for i in range(0, len(chosen), CENTRES)]
    return np.concatenate(
        [np.asarray(features(*block.rows(padded(part, CENTRES))))[: len(part)] for part in parts]
    )


def padded(chosen: np.ndarray, step: int) -> np.ndarray:
    """Repeat the last index of `chosen` up to a multiple of `step`, to compile few shapes."""
    extra = -len(chosen) % step
    return np.concatenate([chosen, np.full(extra, chosen[-1])])
