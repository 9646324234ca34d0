"""Check the distances between atoms, and the cells."""

from collections.abc import Sequence

import numpy as np

from kohn.checks.labels import first_places
from kohn.checks.report import Finding, Severity
from kohn.errors import Place
from kohn.structures import Structure
from kohn.structures.elements import covalent_radii, symbol
from kohn.structures.neighbours import pairs

SEARCH = 3.0
"""The cutoff of the search for shortest distances, Å."""
IMPOSSIBLE = 0.3
"""Two atoms closer than this distance, Å, are reported as an error."""
SHORT = 0.55
"""Two atoms closer than this fraction of the sum of their covalent radii give a warning."""


def shortest_distances(
    structures: Sequence[Structure],
) -> tuple[dict[str, tuple[float, Place]], list[tuple[float, float]]]:
    """Return the shortest distances between atoms in the structures of a set.

    Returns:
        A dict 'C-H' -> (shortest distance in Å, file and frame) of pairs of elements closer than
        `SEARCH`; and for each structure the shortest distance in Å, and the smallest ratio of a
        distance to the sum of covalent radii (both infinite if no distance is below `SEARCH`).
    """
    shortest: dict[tuple[int, int], tuple[float, Place]] = {}
    distances = []
    for s in structures:
        if unusable_cell(s):
            distances.append((np.inf, np.inf))
            continue
        i, j, r = pairs(s, SEARCH)
        if len(r) == 0:
            distances.append((np.inf, np.inf))
            continue
        radii = covalent_radii(s.numbers)
        distances.append((float(r.min()), float((r / (radii[i] + radii[j])).min())))
        low = np.minimum(s.numbers[i], s.numbers[j]).astype(np.int64)
        code = low * 256 + np.maximum(s.numbers[i], s.numbers[j])
        for value in np.unique(code):
            bond = (int(value) // 256, int(value) % 256)
            distance = float(r[code == value].min())
            if bond not in shortest or distance < shortest[bond][0]:
                shortest[bond] = (distance, s.place)
    return {f"{symbol(a)}-{symbol(b)}": v for (a, b), v in sorted(shortest.items())}, distances


def geometry_findings(
    structures: Sequence[Structure], distances: Sequence[tuple[float, float]], name: str
) -> list[Finding]:
    """Return the findings on cells and on the distances (from `shortest_distances`) of one set."""
    close = [s for s, (r, _) in zip(structures, distances, strict=True) if r < IMPOSSIBLE]
    short = [
        s
        for s, (r, share) in zip(structures, distances, strict=True)
        if r >= IMPOSSIBLE and share < SHORT
    ]
    unusable = [s for s in structures if unusable_cell(s)]
    left_handed = [s for s in structures if s.periodic.any() and np.linalg.det(s.cell) < -1e-6]
    shortest = min((r for r, _ in distances), default=np.inf)
    findings = [
        _finding(
            close,
            "short-distance",
            "error",
            f"{name}: atoms are closer than {IMPOSSIBLE} Å ({shortest:.3f} Å)",
            "remove these frames, or correct the positions and the cell",
        ),
        _finding(
            short,
            "short-distance",
            "warning",
            f"{name}: atoms are closer than {SHORT} of the sum of their covalent radii",
            "check that positions are in Å, and that these frames are intended",
        ),
        _finding(
            unusable,
            "periodic-zero-cell",
            "error",
            f"{name}: periodic along cell vectors that are zero or not independent",
            "give the cell, or read with periodic=False",
        ),
        _finding(
            left_handed,
            "left-handed-cell",
            "note",
            f"{name}: cell vectors are left-handed",
            "nothing to do: they are used without change",
        ),
    ]
    return [f for f in findings if f is not None]


def _finding(
    frames: Sequence[Structure], kind: str, severity: Severity, message: str, fix: str
) -> Finding | None:
    if not frames:
        return None
    return Finding(kind, severity, message, first_places(frames), len(frames), fix=fix)


def unusable_cell(s: Structure) -> bool:
    """Return whether a structure is periodic along zero or linearly dependent cell vectors."""
    vectors = s.cell[s.periodic]
    return len(vectors) > 0 and bool(np.linalg.matrix_rank(vectors, tol=1e-6) < len(vectors))
