"""Compute interatomic distances below a cutoff, periodic images included (vesin)."""

import numpy as np

from kohn.structures.structure import Structure


def pairs(structure: Structure, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each pair of atoms, or of an atom and an image, closer than the cutoff, once.

    Args:
        structure: the atoms, in any cell, wrapped or not.
        cutoff: the largest distance, Å.

    Returns:
        i, j: indices, int [pairs]; an atom and its own image have i = j.
        r: distances, Å, float64 [pairs].
    """
    i, j, r = _search(structure, cutoff, "ijd")
    return i.astype(np.int64), j.astype(np.int64), r


def displacements(
    structure: Structure, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return i, j and r of `pairs`, and the vectors from i to (the image of) j, Å, [pairs, 3]."""
    i, j, r, d = _search(structure, cutoff, "ijdD")
    return i.astype(np.int64), j.astype(np.int64), r, d


def _search(structure: Structure, cutoff: float, quantities: str) -> list[np.ndarray]:
    from vesin import NeighborList

    neighbours = NeighborList(cutoff=cutoff, full_list=False, n_threads=1)
    return neighbours.compute(
        points=structure.positions,
        box=structure.cell,
        periodic=structure.periodic,
        quantities=quantities,
    )
