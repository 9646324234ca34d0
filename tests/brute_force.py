"""Plain NumPy references that share no code with Kohn, and random structures to try them on."""

from itertools import product

import numpy as np

from kohn.structures import Structure


def structure(positions, numbers=None, cell=None, periodic=False) -> Structure:
    """A structure from lists; silicon, not periodic and without cell by default."""
    positions = np.asarray(positions, np.float64).reshape(-1, 3)
    numbers = np.full(len(positions), 14) if numbers is None else np.asarray(numbers)
    cell = np.zeros((3, 3)) if cell is None else np.asarray(cell, np.float64)
    return Structure(
        numbers.astype(np.int32), positions, cell, np.broadcast_to(np.asarray(periodic, bool), 3)
    )


def reach(s: Structure, cutoff: float) -> list[range]:
    """Cell shifts, along each vector, that can bring one atom within the cutoff of another."""
    ranges = []
    basis = s.cell.copy()
    for a in range(3):
        if not s.periodic[a]:
            basis[a] = 0.0
    # The height of the (periodic part of the) cell over the plane of the other vectors.
    for a in range(3):
        if not s.periodic[a]:
            ranges.append(range(1))
            continue
        others = [basis[b] for b in range(3) if b != a and s.periodic[b]]
        normal = basis[a].copy()
        if others:
            q, _ = np.linalg.qr(np.array(others).T)
            normal = normal - q @ (q.T @ normal)
        height = np.linalg.norm(normal)
        along = s.positions @ normal / height
        span = along.max() - along.min()
        n = int(np.ceil((cutoff + span) / height)) + 1
        ranges.append(range(-n, n + 1))
    return ranges


def pairs(s: Structure, cutoff: float, shifts: list[range] | None = None):
    """All directed pairs with r < r_c, by looking at every image.

    Returns:
        i, j [E]; S [E, 3]; d [E, 3] = r_j + S · cell − r_i.
    """
    every = np.array(list(product(*(shifts or reach(s, cutoff)))), int)
    offsets = every @ np.where(s.periodic[:, None], s.cell, 0.0)
    between = s.positions[None, :] - s.positions[:, None]
    d = between + offsets[:, None, None]  # [shifts, i, j, 3]
    near = (d**2).sum(-1) < cutoff**2
    near[~every.any(1)] &= ~np.eye(len(s), dtype=bool)
    k, i, j = np.nonzero(near)
    return i, j, every[k], d[k, i, j]


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation drawn uniformly, [3, 3]."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def closest(s: Structure, cutoff: float = 3.0) -> float:
    """Shortest distance, at most the cutoff."""
    d = pairs(s, cutoff)[3]
    return float(np.linalg.norm(d, axis=-1).min(initial=cutoff))
