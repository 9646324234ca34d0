"""Build batches: concatenate the atoms of structures, and pad all arrays to a fixed shape.

A batch has N rows (one per atom), K slots per row (one per neighbour) and G structures, padding
included. The last row is a dummy atom, to which padding slots point; their reverse edge is the
last slot of that row. A function is compiled for each shape, so `plan_shapes` chooses a few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from kohn.errors import InputError
from kohn.graphs.neighbours import Neighbourhood
from kohn.structures import Structure
from kohn.structures.elements import symbol
from kohn.typing import Array, Bool, Float, Int


class Graph(eqx.Module):
    """A batch of G structures for a model: N rows (atoms) of K slots (neighbours), with padding.

    Attributes:
        species: index of the atom's element in the list of the model, [N]; 0 in padding rows.
        displacement: vector d from the atom to the neighbour, Å, [N, K, 3]: the one input on which
            energies depend continuously; forces and stress are derivatives with respect to it.
        index: row of the neighbour, [N, K]; the last row in padding slots.
        reverse: slot of the reverse edge, counted through all N·K, [N, K]; the last one in padding.
        edge_mask: which slots hold an edge, [N, K].
        atom_mask: which rows hold an atom, [N].
        structure: index of the structure to which a row belongs, [N].
        volume: |det cell|, Å³, [G]; 1 if a structure has no volume.
        positions: relative to the centre of mass, Å, float64, [N, 3]; zero if periodic.
        charge: total charge Q of each structure, e, float64, [G]; zero if periodic.
        isolated: which structures are not periodic in any direction, [G].

    Positions, charge and isolated are None unless requested, because few models need them.
    """

    species: Int[Array, " N"]
    displacement: Float[Array, "N K 3"]
    index: Int[Array, "N K"]
    reverse: Int[Array, "N K"]
    edge_mask: Bool[Array, "N K"]
    atom_mask: Bool[Array, " N"]
    structure: Int[Array, " N"]
    volume: Float[Array, " G"]
    positions: Float[Array, "N 3"] | None = None
    charge: Float[Array, " G"] | None = None
    isolated: Bool[Array, " G"] | None = None

    @property
    def n_structures(self) -> int:
        """The number G of structures, padding included."""
        return self.volume.shape[0]

    def sum_atoms(self, values: Float[Array, " N *features"]) -> Float[Array, " G *features"]:
        """Sum over the atoms of each structure, without padding, in float64.

        This is a product with a matrix of 0 and 1: no scatter is needed, forward or backward.
        """
        belongs = jnp.arange(self.n_structures, dtype=jnp.int32)[:, None] == self.structure[None]
        member = (belongs & self.atom_mask[None]).astype(jnp.float64)
        return jnp.tensordot(member, values.astype(jnp.float64), axes=1)


class Shape(NamedTuple):
    """The shape of a padded batch: the numbers of rows, of slots per row, and of structures."""

    rows: int
    slots: int
    structures: int


@dataclass(frozen=True)
class Waste:
    """The numbers of padding slots and of slots with an edge, summed over batches."""

    padded_slots: int
    real_slots: int

    @property
    def ratio(self) -> float:
        """Number of padding slots per slot with an edge."""
        return self.padded_slots / max(self.real_slots, 1)


def species_index(structure: Structure, elements: Sequence[int]) -> np.ndarray:
    """Return the position of each atom's element in `elements`, int32 [n].

    Raises:
        InputError: an element of the structure is not in `elements`.
    """
    table = np.full(120, -1, dtype=np.int32)
    table[list(elements)] = np.arange(len(elements), dtype=np.int32)
    species = table[structure.numbers]
    if (species < 0).any():
        unseen = sorted({int(z) for z in structure.numbers[species < 0]})
        raise InputError(
            f"the model has not seen {', '.join(map(symbol, unseen))}",
            where=structure.place,
            expected=f"only {', '.join(map(symbol, elements))}",
            fix="train on data with these elements, or remove the structure",
        )
    return species


def collate(
    structures: Sequence[Structure],
    neighbourhoods: Sequence[Neighbourhood],
    elements: Sequence[int],
    shape: Shape | None = None,
    *,
    dtype: type = np.float32,
    charges: Sequence[float] | None = None,
) -> Graph:
    """Build one padded graph of several structures, of NumPy arrays (JAX copies them when used).

    Args:
        structures, neighbourhoods: structures (at most `shape.structures`) and their neighbours.
        elements: atomic numbers in the order of the model.
        shape: shape of the batch; at least, and by default, `needed_shape(neighbourhoods)`.
        dtype: number type of displacements and volumes.
        charges: total charges, e; if given, the graph has positions, charge and isolated.

    Raises:
        InputError: the shape is too small, or an element is not in the list.
    """
    needed = needed_shape(neighbourhoods)
    shape = needed if shape is None else shape
    if any(a < b for a, b in zip(shape, needed, strict=True)):
        raise InputError("batch too small", expected=f"at least {needed}", received=str(shape))
    rows, slots, n_structures = shape
    species = np.zeros(rows, np.int32)
    structure = np.full(rows, n_structures - 1, np.int32)
    atom_mask = np.zeros(rows, bool)
    index = np.full((rows, slots), rows - 1, np.int32)
    reverse = np.full((rows, slots), rows * slots - 1, np.int32)
    edge_mask = np.zeros((rows, slots), bool)
    displacement = np.zeros((rows, slots, 3), dtype)
    displacement[..., 0] = neighbourhoods[0].cutoff if len(neighbourhoods) else 1.0
    volume = np.ones(n_structures, dtype)
    start = 0
    for g, (s, rows_of) in enumerate(zip(structures, neighbourhoods, strict=True)):
        n, k = rows_of.index.shape
        here = slice(start, start + n)
        species[here] = species_index(s, elements)
        structure[here], atom_mask[here] = g, True
        mask = rows_of.mask
        index[here, :k] = np.where(mask, rows_of.index + start, rows - 1)
        # slot i·k + s of the structure is slot (start + i)·K + s of the batch
        reverse_slot = (start + rows_of.reverse // k) * slots + rows_of.reverse % k
        reverse[here, :k] = np.where(mask, reverse_slot, rows * slots - 1)
        edge_mask[here, :k] = mask
        displacement[here, :k] = rows_of.displacement
        if s.volume > 0:
            volume[g] = s.volume
        start += n
    parts: Any = (species, displacement, index, reverse, edge_mask, atom_mask, structure, volume)
    return Graph(*parts, *([] if charges is None else _molecules(structures, charges, shape)))


def _molecules(
    structures: Sequence[Structure], charges: Sequence[float], shape: Shape
) -> tuple[Any, Any, Any]:
    """Return the padded arrays positions, charge and isolated of a `Graph`."""
    positions, charge = np.zeros((shape.rows, 3)), np.zeros(shape.structures)
    isolated, start = np.zeros(shape.structures, bool), 0
    for g, s in enumerate(structures):
        here = slice(start, start := start + len(s))
        isolated[g] = not s.periodic.any()
        if isolated[g]:
            positions[here], charge[g] = s.positions - s.centre_of_mass, charges[g]
    return positions, charge, isolated


def needed_shape(neighbourhoods: Sequence[Neighbourhood]) -> Shape:
    """Return the smallest shape of a batch of these structures, with its dummy row."""
    rows = sum(len(h.index) for h in neighbourhoods) + 1
    slots = max((h.width for h in neighbourhoods), default=1)
    return Shape(rows, slots, len(neighbourhoods))


def plan_shapes(
    sizes: np.ndarray, widths: np.ndarray, batch: int, *, most: int = 4, seed: int = 0
) -> tuple[Shape, ...]:
    """Choose at most `most` batch shapes for training, so that few functions are compiled.

    Random batches are drawn as in training. Each shape is chosen for an equal share of them, so
    that most batches need little padding; the largest shape holds every possible batch.

    Args:
        sizes: number of atoms of each structure. widths: its largest number of neighbours.
        batch: number of structures per batch.
    """
    batch = min(batch, len(sizes))
    slots = int(widths.max())
    largest = int(np.sort(sizes)[-batch:].sum()) + 1
    rng = np.random.default_rng(seed)
    draws = (rng.choice(len(sizes), batch, replace=False) for _ in range(512))
    totals = np.sort([sizes[draw].sum() for draw in draws])
    cuts = {int(totals[511 * i // most]) + 1 for i in range(1, most)}
    rows = sorted({min(_rounded_rows(c), largest) for c in cuts} | {largest})
    return tuple(Shape(r, slots, batch) for r in rows)


def _rounded_rows(rows: int) -> int:
    """Round a number of rows up by at most about 3 %, so that similar sizes share a shape."""
    step = max(1, rows // 32)
    return -(-rows // step) * step


def fitting_shape(shapes: Sequence[Shape], needed: Shape) -> Shape:
    """Return the smallest of `shapes` that holds a batch of the shape `needed`."""
    for shape in sorted(shapes):
        if all(a >= b for a, b in zip(shape, needed, strict=True)):
            return shape
    raise InputError("no planned shape holds the batch", received=str(needed))


def waste(graph: Graph) -> Waste:
    """Count the padding slots and the edges of one batch."""
    mask = np.asarray(graph.edge_mask)
    return Waste(int(mask.size - mask.sum()), int(mask.sum()))
