"""The interface of the task that a run learns: energies with forces, or other properties."""

from collections.abc import Sequence
from typing import Protocol

from kohn.graphs import Graph, Shape
from kohn.structures import Structure
from kohn.typing import Array, Tree


class Task(Protocol):
    """Labels of structures, predictions of a model for them, and the loss that compares both.

    Labels, predictions and weights are trees of arrays whose structure only the task uses.
    """

    def labels(self, structures: Sequence[Structure], shape: Shape) -> Tree:
        """Return labels, laid out as `graphs.collate` lays out the structures; NumPy arrays."""
        ...

    def weights(self, late: bool) -> Tree:
        """Return the weights of the loss, early or late; they change without a new compilation."""
        ...

    def charges(self, structures: Sequence[Structure]) -> Sequence[float] | None:
        """Return Q of each structure, e, if graphs must have positions and charges, else None."""
        ...

    def predict(self, model: Tree, graph: Graph) -> Tree:
        """Return the predictions of the model for a batch."""
        ...

    def loss(self, predicted: Tree, labels: Tree, weights: Tree) -> tuple[Array, dict[str, Array]]:
        """Return the loss, and its parts by the name of the label."""
        ...

    def errors(self, predicted: Tree, labels: Tree) -> dict[str, tuple[Array, Array]]:
        """Return by name: differences [M, ...], and which rows [M] are labelled."""
        ...
