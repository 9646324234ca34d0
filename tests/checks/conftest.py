"""A crystal whose energy, forces and stress belong together exactly, to plant faults in."""

from collections.abc import Callable

import numpy as np
import pytest

from kohn.structures import Dataset, Structure
from kohn.structures.neighbours import displacements

DEPTH, STEEPNESS, LENGTH, CUTOFF = 0.8, 1.4, 2.7, 5.0


def morse(s: Structure) -> dict[str, np.ndarray]:
    """E = sum over pairs of D ((1 - exp(-a (r - r0)))^2 - 1) (1 - (r / r_c)^2)^3."""
    i, j, r, d = displacements(s, CUTOFF)
    x = np.exp(-STEEPNESS * (r - LENGTH))
    well, slope = DEPTH * ((1 - x) ** 2 - 1), 2 * DEPTH * STEEPNESS * (1 - x) * x
    q = 1 - (r / CUTOFF) ** 2
    derivative = slope * q**3 - well * 6 * q**2 * r / CUTOFF**2
    f = (derivative / r)[:, None] * d
    forces = np.zeros_like(s.positions)
    np.add.at(forces, i, f)
    np.add.at(forces, j, -f)
    return {
        "energy": np.array(np.sum(well * q**3)),
        "forces": forces,
        "stress": np.einsum("pa,pb->ab", f, d) / s.volume,
    }


@pytest.fixture(scope="session")
def crystals() -> Callable[..., Dataset]:
    """Make `n` fcc crystals of 4 atoms, strained and shaken in turn."""

    def make(n: int = 40, seed: int = 0, number: int = 29) -> Dataset:
        rng = np.random.default_rng(seed)
        base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
        frames = []
        for k in range(n):
            strain, shake = rng.normal(scale=0.02, size=(3, 3)), rng.normal(scale=0.05, size=(4, 3))
            cell = 3.8 * (np.eye(3) + (strain + strain.T) / 2 * (k % 2))
            shaken = base @ cell + shake * (1 - k % 2)
            s = Structure(np.full(4, number, np.int32), shaken, cell, np.ones(3, dtype=bool))
            frames.append(s.with_labels(**morse(s)))
        return Dataset(tuple(frames))

    return make
