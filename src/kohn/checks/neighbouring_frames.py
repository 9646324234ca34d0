"""Compare energies with forces and stresses by finite differences between similar frames.

Between two frames of the same atoms, with displacements dx and strain e, the energy changes by

    dE  =  -F . dx + V s : e,

where the forces F, stress s and volume V are means of both frames (the trapezoidal rule, exact for
springs). Without strain dE / (-F . dx) is 1 for any system if energy and forces belong together,
23 or 1/27 if energies are in kcal/mol or hartree, and negative if the sign of the forces is wrong.
The difference dF of the forces gives a curvature  -dF . dx / |dx|^2  without energies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kohn.structures import Structure

FRAMES = 300
"""The largest number of frames of one composition that are compared with each other."""
GROUPS = 6
"""The largest number of compositions that are checked; those with most frames."""
FAR = 0.5
"""Frames whose atoms are displaced by more than this (rms, Å) are not compared."""


@dataclass(frozen=True)
class FramePairs:
    """Differences between two neighbouring frames, one row for each pair of frames.

    Attributes:
        energy: the energy change dE, eV; NaN without energies.
        work: -F . dx, the dE that the forces F predict, eV; NaN without forces, and for copies.
        strain_work: V s : e, the dE that the stress s predicts, eV; NaN if cells differ without s.
        curvature: -dF . dx / |dx|^2, eV/Å²; NaN without forces, and if the cells differ.
        distance: the rms displacement of the atoms, Å.
        strain: the largest component of the strain e.
    """

    energy: np.ndarray
    work: np.ndarray
    strain_work: np.ndarray
    curvature: np.ndarray
    distance: np.ndarray
    strain: np.ndarray

    def nearest(self, rows: np.ndarray, fraction: float = 1 / 3, least: int = 8) -> np.ndarray:
        """Return the indices of the nearest pairs (of smallest `distance`) in the mask `rows`."""
        indices = np.flatnonzero(rows & (self.distance < FAR))
        order = np.argsort(self.distance[indices], kind="stable")
        return indices[order[: max(int(len(order) * fraction), least)]]


@dataclass(frozen=True)
class Ratio:
    """The median over pairs of frames of energy change / predicted change, or of the curvature.

    Attributes:
        value: the median.
        pairs: number of pairs of frames.
        agreement: share of the pairs whose value has the sign of the median.
        distance: median over the pairs of the rms displacement of the atoms, Å.
    """

    value: float
    pairs: int
    agreement: float
    distance: float

    @property
    def trusted(self) -> bool:
        """Whether there are 8 pairs or more, and at least 80% of them agree in sign."""
        return self.pairs >= 8 and self.agreement >= 0.8


def frame_pairs(structures: Sequence[Structure]) -> FramePairs:
    """Return the differences between each frame and the most similar frame of the same atoms."""
    groups: dict[bytes, list[Structure]] = {}
    for s in structures:
        if len(s) > 1 and s.periodic.all() == s.periodic.any():  # in three directions, or none
            key = s.numbers.tobytes() + s.periodic.tobytes()
            groups.setdefault(key, []).append(s)
    largest = sorted(groups.values(), key=lambda g: -len(g))[:GROUPS]
    parts = [_pairs_of_group(g) for g in largest if len(g) > 2]
    empty = np.empty((0, 6))
    rows = np.concatenate([empty, *parts])
    return FramePairs(*rows.T)


def energy_over_work(pairs: FramePairs) -> Ratio | None:
    """Return the ratio energy / work of near `FramePairs` with little strain, or None."""
    strained = np.nan_to_num(pairs.strain_work, nan=np.inf)
    rows = np.isfinite(pairs.energy) & np.isfinite(pairs.work) & (pairs.work != 0)
    rows &= np.abs(strained) <= 0.1 * np.abs(np.nan_to_num(pairs.work))
    return _ratio(pairs, pairs.energy, pairs.work, rows)


def energy_over_strain_work(pairs: FramePairs) -> Ratio | None:
    """Return the ratio (energy - work) / strain_work of near, strained `FramePairs`, or None."""
    work = np.nan_to_num(pairs.work)
    rows = np.isfinite(pairs.energy) & np.isfinite(pairs.strain_work) & (pairs.strain > 1e-3)
    # Compare work with the energy change: the unit of stress, and so of strain_work, is in doubt.
    rows &= np.abs(work) <= 0.3 * np.abs(np.nan_to_num(pairs.energy))
    rows &= np.nan_to_num(pairs.strain_work) != 0
    return _ratio(pairs, pairs.energy - work, pairs.strain_work, rows)


def curvature(pairs: FramePairs) -> Ratio | None:
    """Return the median curvature, eV/Å², positive if forces pull atoms back, or None."""
    rows = np.isfinite(pairs.curvature)
    return _ratio(pairs, pairs.curvature, np.ones(len(pairs.curvature)), rows)


def _ratio(
    pairs: FramePairs, numerator: np.ndarray, denominator: np.ndarray, rows: np.ndarray
) -> Ratio | None:
    chosen = pairs.nearest(rows)
    if len(chosen) == 0:
        return None
    ratios = numerator[chosen] / denominator[chosen]
    value = float(np.median(ratios))
    agreement = float(np.mean(np.sign(ratios) == np.sign(value)))
    return Ratio(value, len(chosen), agreement, float(np.median(pairs.distance[chosen])))


def _pairs_of_group(group: list[Structure]) -> np.ndarray:
    """Pair frames of the same atoms; return an array [pairs, 6] of the fields of `FramePairs`."""
    n = len(group[0])
    group = group[: max(3, min(FRAMES, int(np.sqrt(2e7 / n))))]
    x = np.stack([s.positions for s in group])
    forces = _labels(group, "forces", (n, 3))
    energies = _labels(group, "energy", ())
    i = np.arange(len(group))
    if group[0].periodic.any():
        cells = np.stack([s.cell for s in group])
        j = _nearest_in_cell(x, cells)
        dx, strain, volume = _displacement_in_cell(x, cells, i, j)
        rotated = forces[j]
    else:
        x = x - x.mean(axis=1, keepdims=True)
        j = _nearest_molecule(x)
        rotation = _superpose(x[i], x[j])
        dx, rotated = x[j] @ rotation - x[i], forces[j] @ rotation
        strain, volume = np.zeros((len(group), 3, 3)), np.zeros(len(group))
    stress = _labels(group, "stress", (3, 3))
    square = np.einsum("pia,pia->p", dx, dx)
    work = -np.einsum("pia,pia->p", (forces[i] + rotated) / 2, dx)
    strain_work = volume * np.einsum("pab,pab->p", (stress[i] + stress[j]) / 2, strain)
    size = np.abs(strain).max(axis=(1, 2))
    moved = square > 1e-12 * n
    curvatures = -np.einsum("pia,pia->p", rotated - forces[i], dx) / np.where(moved, square, 1.0)
    rows = np.stack(
        [
            energies[j] - energies[i],
            np.where(moved | (size >= 1e-6), work, np.nan),  # copies give no evidence
            np.where(size < 1e-6, 0.0, strain_work),
            np.where(moved & (size < 1e-6), curvatures, np.nan),
            np.sqrt(square / n),
            size,
        ],
        axis=1,
    )
    low, high = np.minimum(i, j), np.maximum(i, j)
    _, first = np.unique(np.stack([low, high], axis=1), axis=0, return_index=True)
    return rows[first]


def _labels(group: list[Structure], name: str, shape: tuple[int, ...]) -> np.ndarray:
    missing = np.full(shape, np.nan)
    return np.stack([s.labels.get(name, missing) for s in group])


def _nearest_molecule(x: np.ndarray) -> np.ndarray:
    """Return, for each frame, the index of the frame with the most similar atomic distances."""
    from scipy.spatial.distance import cdist

    atoms = np.linspace(0, x.shape[1] - 1, min(x.shape[1], 40)).astype(int)
    a, b = np.triu_indices(len(atoms), k=1)
    distances = np.linalg.norm(x[:, atoms[a]] - x[:, atoms[b]], axis=-1)
    differences = cdist(distances, distances)
    np.fill_diagonal(differences, np.inf)
    return np.argmin(differences, axis=1)


def _superpose(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Return rotations R [p, 3, 3] that bring moving @ R nearest to fixed (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(np.einsum("pia,pib->pab", moving, fixed))
    proper = np.ones((len(fixed), 3))
    proper[:, 2] = np.sign(np.linalg.det(u @ vt))
    return np.einsum("pab,pb,pbc->pac", u, proper, vt)


def _nearest_in_cell(x: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return, for each frame, the index of the frame with the most similar positions and cell."""
    nearest = np.empty(len(x), dtype=int)
    indices = np.arange(len(x))
    for k in indices:
        dx, strain, _ = _displacement_in_cell(x, cells, np.full(len(x), k), indices)
        distances = np.sqrt(np.einsum("pia,pia->p", dx, dx) / x.shape[1])
        distances += 2 * np.abs(strain).sum(axis=(1, 2))
        distances[k] = np.inf
        nearest[k] = np.argmin(distances)
    return nearest


def _displacement_in_cell(
    x: np.ndarray, cells: np.ndarray, i: np.ndarray, j: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return displacements to nearest images in the mean cell, strains, and mean cell volumes."""
    inverse = np.linalg.inv(cells)
    fractional = x @ inverse
    ds = fractional[j] - fractional[i]
    ds -= np.round(ds)
    ds -= ds.mean(axis=1, keepdims=True)
    mean = (cells[i] + cells[j]) / 2
    # Relative to the mean cell, the difference is centred, like the trapezoidal rule.
    strain = np.linalg.inv(mean) @ (cells[j] - cells[i])
    strain = (strain + np.swapaxes(strain, 1, 2)) / 2
    return ds @ mean, strain, np.abs(np.linalg.det(mean))
