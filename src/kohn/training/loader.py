"""Make batches of training structures, in an order that depends only on seed and epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kohn.graphs import (
    Graph,
    Neighbourhood,
    Shape,
    Waste,
    collate,
    fitting_shape,
    needed_shape,
    neighbourhood,
    plan_shapes,
)
from kohn.structures import Structure
from kohn.training.task import Task


@dataclass(frozen=True)
class Batch:
    """The data of one step: padded graph, labels, and indices of the structures."""

    graph: Graph
    targets: Any
    indices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Loader:
    """Structures with their neighbourhoods, computed once, and the shapes of their batches.

    Attributes:
        structures: all structures, in the order of the data.
        neighbourhoods: neighbours of each structure.
        task: provides the labels of batches.
        elements: atomic numbers in the order of the model.
        shapes: padded shapes of the batches; at most four.
        batch_size: number of structures in a batch.
        dtype: number type of the network.
    """

    structures: Sequence[Structure]
    neighbourhoods: Sequence[Neighbourhood]
    task: Task
    elements: tuple[int, ...]
    shapes: tuple[Shape, ...]
    batch_size: int
    dtype: type

    @classmethod
    def of(
        cls,
        structures: Sequence[Structure],
        task: Task,
        elements: tuple[int, ...],
        cutoff: float,
        batch_size: int,
        dtype: type,
        most_shapes: int = 4,
    ) -> "Loader":
        """Return a loader: search the neighbours of structures, and plan the shapes of batches."""
        rows = [neighbourhood(s, cutoff) for s in structures]
        sizes = np.array([len(s) for s in structures])
        widths = np.array([h.width for h in rows])
        batch_size = min(batch_size, len(structures))
        shapes = plan_shapes(sizes, widths, batch_size, most=most_shapes)
        return cls(structures, rows, task, elements, shapes, batch_size, dtype)

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self.structures) // self.batch_size)

    @property
    def average_neighbours(self) -> float:
        """Mean number of neighbours of an atom."""
        edges = sum(h.edges for h in self.neighbourhoods)
        return max(edges / sum(len(s) for s in self.structures), 1e-3)

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield batches of all structures in a random order that depends only on seed and epoch, so
        that a resumed run gets the same batches."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self.structures))
        yield from self.batches(order)

    def batches(self, order: Sequence[int] | np.ndarray | None = None) -> Iterator[Batch]:
        """Yield batches of the structures in this order, by default in the order of the data."""
        order = np.arange(len(self.structures)) if order is None else np.asarray(order)
        for start in range(0, len(order), self.batch_size):
            yield self.batch(tuple(int(i) for i in order[start : start + self.batch_size]))

    def batch(self, indices: tuple[int, ...]) -> Batch:
        """Return the batch of the structures with these indices."""
        chosen = [self.structures[i] for i in indices]
        rows = [self.neighbourhoods[i] for i in indices]
        shape = fitting_shape(self.shapes, needed_shape(rows))
        charges = self.task.charges(chosen)
        graph = collate(chosen, rows, self.elements, shape, dtype=self.dtype, charges=charges)
        return Batch(graph, self.task.labels(chosen, shape), indices)

    def waste(self) -> Waste:
        """Count padding slots and edges over one pass through the data."""
        padded = real = 0
        for start in range(0, len(self.structures), self.batch_size):
            rows = self.neighbourhoods[start : start + self.batch_size]
            shape = fitting_shape(self.shapes, needed_shape(rows))
            edges = sum(h.edges for h in rows)
            padded, real = padded + shape.rows * shape.slots - edges, real + edges
        return Waste(padded, real)
