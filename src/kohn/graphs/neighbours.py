"""Find the neighbours of atoms within the cutoff r_c, as one padded row of slots for every atom.

All periodic images within the cutoff count, in any cell, however small or skewed, with atoms
wrapped or not. The library vesin searches the pairs; this module arranges them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from vesin import NeighborList

from kohn.errors import InputError, Place
from kohn.graphs.gather import reverse_slots
from kohn.structures import Structure


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The neighbours of the n atoms of a structure: NumPy arrays with a row of K slots per atom.

    The edge in slot (i, k) goes from atom i to the image of atom j = index[i, k] displaced by
    the integer cell vector S = shift[i, k]:  d[i, k] = r_j + S · cell − r_i.

    Attributes:
        index: int32 [n, K], the neighbour j; n in padding slots, which is not an atom.
        shift: int32 [n, K, 3], S; 0 in padding slots.
        mask: bool [n, K], False in padding slots.
        reverse: int32 [n, K], j·K + k' if the edge from j to i with −S is in slot (j, k'); else −1.
        displacement: float64 [n, K, 3], d, Å; (cutoff, 0, 0) in padding slots.
        cutoff: r_c, Å; every edge has r < r_c.
    """

    index: np.ndarray
    shift: np.ndarray
    mask: np.ndarray
    reverse: np.ndarray
    displacement: np.ndarray
    cutoff: float

    @property
    def edges(self) -> int:
        """The number of edges; each pair of neighbours has two, one in each direction."""
        return int(self.mask.sum())

    @property
    def width(self) -> int:
        """The number K of slots in a row."""
        return self.index.shape[1]


def pairs_within(
    structure: Structure, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return all directed pairs of an atom i and an image of an atom j nearer than the cutoff.

    Returns:
        i, j: atoms [E]; S: cell shifts of j, integers [E, 3]; d: displacements, Å, float64 [E, 3].

    Raises:
        InputError: positions or cell are not finite; a periodic direction has no cell
            vector; two atoms coincide.
    """
    check_geometry(structure, cutoff)
    search = NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    i, j, shift, d = search.compute(
        points=structure.positions,
        box=structure.cell,
        periodic=structure.periodic,
        quantities="ijSD",
    )
    r2 = np.einsum("ea,ea->e", d, d)
    inside = r2 < cutoff * cutoff  # vesin keeps r ≤ r_c
    if r2.size and r2.min() < 1e-12:  # rounding displaces an image that lies on an atom
        e = int(np.argmin(r2))
        raise InputError(
            f"atoms {i[e]} and {j[e]} are in the same place",
            where=structure.place,
            fix="remove one of them",
        )
    if not inside.all():
        i, j, shift, d = i[inside], j[inside], shift[inside], d[inside]
    return i.astype(np.int32), j.astype(np.int32), shift.astype(np.int32), d


def check_geometry(structure: Structure, cutoff: float) -> None:
    """Refuse coordinates that are not finite, and periodic directions without a cell vector."""
    where: Place = structure.place
    if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()):
        raise InputError("positions or cell are not finite numbers", where=where)
    if not cutoff > 0:
        raise InputError("the cutoff must be positive", received=str(cutoff))
    periodic = np.asarray(structure.periodic, bool)
    vectors = structure.cell[periodic]
    if len(vectors) and np.linalg.matrix_rank(vectors, tol=1e-6) < len(vectors):
        raise InputError(
            "periodic along cell vectors that are zero or parallel",
            where=where,
            expected="independent cell vectors in periodic directions",
            received=f"pbc {periodic.tolist()}, cell {structure.cell.tolist()}",
            fix="give the cell, or read with periodic=False",
        )


def neighbourhood(
    structure: Structure,
    cutoff: float,
    *,
    width: int | None = None,
    images: Literal["all", "nearest"] = "all",
) -> Neighbourhood:
    """Return the neighbours of all atoms of a structure, by default with all periodic images.

    Args:
        structure: positions need not be wrapped; the cell may be left-handed.
        cutoff: r_c in Å.
        width: number K of slots per row; at least, and by default, the most neighbours of an atom.
        images: 'nearest' gives the minimum-image graph: only the nearest image of each atom.

    Raises:
        InputError: see `pairs_within`; `width` is too small; the minimum-image graph misses some.
    """
    i, j, shift, d = pairs_within(structure, cutoff)
    if images == "nearest":
        _refuse_missed_images(structure, cutoff, i, j)
    return dense_rows(len(structure), i, j, shift, d, cutoff, width=width)


def _refuse_missed_images(
    structure: Structure, cutoff: float, i: np.ndarray, j: np.ndarray
) -> None:
    """Refuse a minimum-image graph, one edge s* = argmin |r_j + s · cell − r_i| per pair, unless it
    is the whole graph within r_c: if it misses neighbours, no potential can use it, because the
    nearest image jumps as atoms move."""
    pairs = np.unique(np.stack([i, j])[:, i != j], axis=1).shape[1]
    missed = len(i) - pairs  # further images of other atoms, and all images of the atom itself
    if missed:
        raise InputError(
            f"the minimum-image graph would miss {missed} of {len(i)} neighbours",
            where=structure.place,
            expected="at most one image of each atom within the cutoff, none of the atom itself",
            received=f"cutoff {cutoff:g} Å in the cell {structure.cell.tolist()}",
            fix="use all images (the default), a larger cell or a smaller cutoff",
        )


def dense_rows(
    n: int,
    i: np.ndarray,
    j: np.ndarray,
    shift: np.ndarray,
    d: np.ndarray,
    cutoff: float,
    *,
    width: int | None = None,
) -> Neighbourhood:
    """Arrange pairs (i, j, shift, d), each in both directions, in n rows of `width` slots."""
    if (i[1:] < i[:-1]).any():
        order = np.argsort(i, kind="stable")
        i, j, shift, d = i[order], j[order], shift[order], d[order]
    counts = np.bincount(i, minlength=n)
    needed = int(counts.max(initial=1))
    k = needed if width is None else width
    if k < needed:
        raise InputError(
            "rows too short for the neighbours", expected=f"{needed} slots", received=str(k)
        )
    slot = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)

    index = np.full((n, k), n, dtype=np.int32)
    shifts = np.zeros((n, k, 3), dtype=np.int32)
    mask = np.zeros((n, k), dtype=bool)
    displacement = np.zeros((n, k, 3))
    displacement[..., 0] = cutoff
    index[i, slot], shifts[i, slot], mask[i, slot] = j, shift, True
    displacement[i, slot] = d
    reverse = reverse_slots(index, shifts, mask)
    return Neighbourhood(index, shifts, mask, reverse, displacement, cutoff)
