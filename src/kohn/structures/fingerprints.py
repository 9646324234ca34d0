"""Find structures that are the same up to rotation, translation, order of atoms, and rounding.

A hash of rounded numbers misses duplicates that fall on two sides of a rounding boundary. Here
a fingerprint is a vector whose components change at most in proportion to displacements of
atoms, and two structures are the same if no component differs by more than `TOLERANCE`.

For each atom i and each of a few radial functions g_k,

    rho_ki = sum_j w(Z_j) g_k(r_ij),    g_k(r) = sin(k pi r / r_c) (1 - (r / r_c)^2)^3 / k,

over all neighbours j within the cutoff r_c, images included, with a weight w for each element; in
molecules also the distance of i from the centroid. For each element the values are sorted, so that
the order of the atoms does not matter and the values do not jump. Number of atoms, composition and
periodicity must agree exactly, the volume nearly.

Limits: mirror images are the same. A structure and its supercell are different. Two structures
are taken for the same if they differ in no neighbourhood within 5 Å (nor, in a molecule, in the
distances from the centroid), or if their atoms differ by less than about 1e-4 Å. Crystals whose
atoms differ by 1e-3 Å are distinguished.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from kohn.structures.neighbours import displacements, pairs
from kohn.structures.structure import Structure

CUTOFF = 5.0
"""The cutoff r_c, Å."""
FUNCTIONS = 4
"""The number of radial functions g_k."""
TOLERANCE = 4e-4
"""The largest difference of a fingerprint component between structures that are the same."""
ORIENTATION_TOLERANCE = 1e-4
"""The largest difference of a component of `orientation` between copies not rotated."""


def fingerprint(structure: Structure) -> np.ndarray:
    """Return a vector that does not change if a structure is rotated, moved, reordered or wrapped.

    Returns:
        float64 [n * FUNCTIONS + n + 1] of n atoms; comparable if `composition_hash` agrees.
    """
    n = len(structure)
    i, j, r = pairs(structure, CUTOFF)
    g = _radial(r)
    # Each element has a weight of order one that differs from all others.
    weight = 0.5 + np.sqrt(structure.numbers) / 5
    rho = np.empty((FUNCTIONS + 1, n))
    for row, values in zip(rho, g, strict=False):
        row[:] = np.bincount(i, values * weight[j], n) + np.bincount(j, values * weight[i], n)
    centroid = structure.positions.mean(axis=0)
    distances = np.linalg.norm(structure.positions - centroid, axis=1)
    rho[-1] = 0.0 if structure.periodic.any() else distances
    order = np.argsort(structure.numbers, kind="stable")
    rho = rho[:, order]
    for z in np.unique(structure.numbers):
        rows = structure.numbers[order] == z
        rho[:, rows] = np.sort(rho[:, rows], axis=1)
    length = structure.volume ** (1 / 3) if structure.periodic.all() else 0.0
    return np.append(rho.ravel(), length)


def orientation(structure: Structure) -> np.ndarray:
    """Return a vector that differs between rotated copies, which have the same fingerprint.

    It is sum_ij w_i w_j g_k(r_ij) r_ij,a r_ij,b / r_ij^2, with weights w of the elements and radial
    functions g_k. It does not change with translation, order of the atoms, lattice shifts or
    inversion.

    Returns:
        float64 [FUNCTIONS * 9], divided by the number of atoms.
    """
    i, j, r, d = displacements(structure, CUTOFF)
    apart = r > 1e-8
    i, j, r, d = i[apart], j[apart], r[apart], d[apart] / r[apart, None]
    weight = 0.5 + np.sqrt(structure.numbers) / 5
    g = _radial(r) * (weight[i] * weight[j])
    return np.einsum("kp,pa,pb->kab", g, d, d).ravel() / len(structure)


def _radial(r: np.ndarray) -> np.ndarray:
    """Return the radial functions g_k(r), [FUNCTIONS, pairs]."""
    k = np.arange(1, FUNCTIONS + 1)[:, None]
    x = r / CUTOFF
    return np.sin(k * np.pi * x) * (1 - x**2) ** 3 * (1 / k)


def composition_hash(structure: Structure) -> str:
    """Return a hash of composition and periodicity, equal for structures that are the same."""
    numbers = np.sort(structure.numbers).astype("<i4").tobytes()
    flags = np.sort(structure.periodic).tobytes()
    return hashlib.sha256(numbers + flags).hexdigest()


def duplicates(structures: Sequence[Structure], *, tolerance: float = TOLERANCE) -> np.ndarray:
    """Return a number for each structure, equal for structures that are the same.

    Returns:
        int64 [structures], counted from 0 in the order of first appearance. If A is the same as B,
        and B as C, all three have one number.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    by_hash: dict[str, list[int]] = {}
    for index, structure in enumerate(structures):
        by_hash.setdefault(composition_hash(structure), []).append(index)
    links = [np.empty((0, 2), dtype=np.int64)]
    for members in by_hash.values():
        if len(members) > 1:
            vectors = np.stack([fingerprint(structures[m]) for m in members])
            links.append(np.array(members)[_close(vectors, tolerance)])
    i, j = np.concatenate(links).T
    n = len(structures)
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
    labels = connected_components(graph, directed=False)[1] if n else np.empty(0, np.int64)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _close(vectors: np.ndarray, tolerance: float) -> np.ndarray:
    """Return index pairs [pairs, 2] of rows whose components all differ by at most `tolerance`."""
    from scipy.spatial import KDTree

    # Means and standard deviations of blocks of components differ by no more than the
    # components do, so a search in these few numbers misses no pair.
    blocks = np.array_split(vectors, min(8, vectors.shape[1]), axis=1)
    summary = np.stack([f(b, axis=1) for b in blocks for f in (np.mean, np.std)], axis=1)
    candidates = KDTree(summary).query_pairs(tolerance, p=np.inf, output_type="ndarray")
    close = [
        chunk[np.abs(vectors[chunk[:, 0]] - vectors[chunk[:, 1]]).max(axis=1) <= tolerance]
        for chunk in np.array_split(candidates, 1 + len(candidates) // 10_000)
    ]
    return np.concatenate(close)
