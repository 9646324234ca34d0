"""Keep neighbour lists while atoms move, by means of a skin, in arrays whose shape only grows."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kohn.graphs.batching import Graph, Shape, species_index
from kohn.graphs.gather import gather_neighbours
from kohn.graphs.neighbours import Neighbourhood, neighbourhood
from kohn.structures import Structure
from kohn.typing import Array, Bool, Float, Int


class Topology(eqx.Module):
    """The possible neighbours of each atom (candidates); with positions they give a `Graph`.

    Attributes as in `Graph`; shift: cell vector S of the image in each slot, integers, [N, K, 3].
    """

    species: Int[Array, " N"]
    index: Int[Array, "N K"]
    reverse: Int[Array, "N K"]
    shift: Float[Array, "N K 3"]
    candidates: Bool[Array, "N K"]
    atom_mask: Bool[Array, " N"]

    def graph(
        self, positions: Float[Array, "N 3"], cell: Float[Array, "3 3"], cutoff: float, dtype
    ) -> Graph:
        """Return the graph of these positions: candidates within the cutoff are edges.

        Displacements are computed in float64 and then cast: positions far from the origin
        lose no precision.
        """
        neighbours = gather_neighbours(positions, self.index, self.reverse)
        d = neighbours - positions[:, None] + self.shift.astype(jnp.float64) @ cell
        within = self.candidates & (jnp.sum(d * d, axis=-1) < cutoff * cutoff)
        far = jnp.array([cutoff, 0.0, 0.0])
        d = jnp.where(within[..., None], d, far)
        n = self.species.shape[0]
        volume = jnp.abs(jnp.linalg.det(cell))
        return Graph(
            self.species,
            d.astype(dtype),
            self.index,
            self.reverse,
            within,
            self.atom_mask,
            jnp.zeros(n, jnp.int32),
            jnp.where(volume > 0, volume, 1.0).astype(dtype)[None],
        )


ShapeChoice = Callable[[int, int, Sequence[Shape]], Shape]
"""(n, k, earlier shapes) -> padded shape of a neighbour list of n atoms with k neighbours each."""


def growing_shape(n: int, k: int, known: Sequence[Shape]) -> Shape:
    """Return the smallest known shape for n atoms with k neighbours, or a new shape with room."""
    # For one system the shape only grows; the shape of a much larger system would be wasteful.
    near = [s for s in known if n + 1 <= s.rows <= 2 * (n + 1)]
    fitting = [s for s in near if s.slots >= k]
    if fitting:
        return min(fitting)
    # The first shape has little spare room; if it was too little, the next has much more.
    room = max(2, k // 2 if near else k // 8)
    return Shape(n + 1, -(-(k + room) // 4) * 4, 1)


def ladder_shape(n: int, k: int, known: Sequence[Shape]) -> Shape:
    """Return a shape that depends on n and k only, not on earlier structures: padding may change
    the rounding of results."""
    del known
    return Shape(_rung(n + 1), _rung(k), 1)


def _rung(n: int) -> int:
    """Round n up to one of 4, 8, 16, 32, 48, 64, 96, 128, 192 …: the steps are coarser for small n,
    where compiling takes longer than computing the padding."""
    power = max(4, 1 << (n - 1).bit_length())
    return 3 * power // 4 if power > 32 and n <= 3 * power // 4 else power


class Verlet:
    """A neighbour list with a skin, and the padded shapes it has had.

    The list contains all pairs closer than cutoff + skin; it is valid until an atom has moved by
    more than half the skin. If the cell changes, movements are measured from equal fractional
    coordinates, and the strain limits how near images can come.

    Args:
        cutoff: r_c, Å. skin: Å. elements: atomic numbers in the order of the model.
        inspect: called with each structure that gets a new list, and the neighbours in the list.
        choose_shape: chooses the padded shape of each new list.
    """

    def __init__(
        self,
        cutoff: float,
        skin: float,
        elements: tuple[int, ...],
        inspect: Callable[[Structure, Neighbourhood], None] = lambda structure, rows: None,
        choose_shape: ShapeChoice = growing_shape,
    ):
        self.cutoff, self.skin, self.elements, self.inspect = cutoff, skin, elements, inspect
        self.choose_shape = choose_shape
        self.shapes: list[Shape] = []
        self.builds = 0
        self._made_for: Structure | None = None
        self._topology: Topology | None = None

    def update(self, structure: Structure) -> Topology:
        """Return the topology of a structure: the present topology if it is still valid."""
        if self._topology is None or not self._is_valid_for(structure):
            rows = neighbourhood(structure, self.cutoff + self.skin)
            self.inspect(structure, rows)
            self._topology = self._topology_of(structure, rows)
            # Copy the arrays, because callers move atoms in place.
            self._made_for = replace(
                structure, positions=structure.positions.copy(), cell=structure.cell.copy()
            )
            self.builds += 1
        return self._topology

    def forget(self) -> None:
        """Forget the list, so that the next structure gets a new one; the shapes are kept."""
        self._made_for = self._topology = None

    def _is_valid_for(self, new: Structure) -> bool:
        old = self._made_for
        if old is None or len(old) != len(new) or self.skin == 0.0:
            return False
        same = np.array_equal(old.numbers, new.numbers)
        if not same or not np.array_equal(old.periodic, new.periodic):
            return False
        moved = np.linalg.norm(new.positions - old.positions, axis=1).max()
        if np.array_equal(old.cell, new.cell):
            return bool(moved < 0.5 * self.skin)
        # d' = r_j' - r_i' + S cell' ; a pair beyond r_c + skin must stay beyond r_c. With
        # cell' = cell F: d' = d F + (moves beyond the strain), so |d'| >= |d| s - 2 m, where s
        # is the smallest singular value of F.
        if not new.periodic.all():
            return False
        strain = np.linalg.solve(old.cell, new.cell)
        smallest = np.linalg.svd(strain, compute_uv=False).min()
        residual = np.linalg.norm(new.positions - old.positions @ strain, axis=1).max()
        return bool((self.cutoff + self.skin) * smallest - 2.0 * residual > self.cutoff)

    def _topology_of(self, structure: Structure, rows: Neighbourhood) -> Topology:
        """Return the topology of these rows, padded to a shape that holds them."""
        n, k = rows.index.shape
        shape = self.choose_shape(n, k, self.shapes)
        if shape not in self.shapes:
            self.shapes.append(shape)
        n_rows, n_slots, _ = shape
        species = np.zeros(n_rows, np.int32)
        species[:n] = species_index(structure, self.elements)
        index = np.full((n_rows, n_slots), n_rows - 1, np.int32)
        reverse = np.full((n_rows, n_slots), n_rows * n_slots - 1, np.int32)
        shift = np.zeros((n_rows, n_slots, 3), np.float32)
        candidates = np.zeros((n_rows, n_slots), bool)
        mask = rows.mask
        index[:n, :k] = np.where(mask, rows.index, n_rows - 1)
        reverse_slot = (rows.reverse // k) * n_slots + rows.reverse % k
        reverse[:n, :k] = np.where(mask, reverse_slot, n_rows * n_slots - 1)
        shift[:n, :k], candidates[:n, :k] = rows.shift, mask
        atoms = np.arange(n_rows) < n
        arrays = (species, index, reverse, shift, candidates, atoms)
        return Topology(*jax.device_put(arrays))
