"""What a run learns, as loader and loop see it: energies with forces, or other properties."""

from collections.abc import Sequence
from typing import Protocol

from kohn.graphs import Graph, Shape
from kohn.structures import Structure
from kohn.typing import Array, Tree


class Task(Protocol):
    """Labels of structures, what a model says of them, and how far the two are apart.

    Labels, predictions and weights are trees of arrays that only the task looks into.
    """

    def labels(self, structures: Sequence[Structure], shape: Shape) -> Tree:
        """Labels laid out as `graphs.collate` lays out the structures; NumPy arrays."""
        ...

    def weights(self, late: bool) -> Tree:
        """Weights of the loss, at first or towards the end: they change without compiling anew."""
        ...

    def charges(self, structures: Sequence[Structure]) -> Sequence[float] | None:
        """Q of each structure, e, where positions and charges must stand on the graph."""
        ...

    def predict(self, model: Tree, graph: Graph) -> Tree:
        """What the model says of a batch."""
        ...

    def loss(self, predicted: Tree, labels: Tree, weights: Tree) -> tuple[Array, dict[str, Array]]:
        """The loss, and its parts by the name of the label."""
        ...

    def errors(self, predicted: Tree, labels: Tree) -> dict[str, tuple[Array, Array]]:
        """By name: differences [M, ...], and which rows [M] are labelled."""
        ...
