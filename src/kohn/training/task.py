"""Define the interface of learning tasks: energies with forces, or other properties."""

from collections.abc import Sequence
from typing import Protocol

from kohn.graphs import Graph, Shape
from kohn.structures import Structure
from kohn.typing import Array, Tree


class Task(Protocol):
    """A task that a model learns: labels of structures, predictions, and the loss between both.

    Labels, predictions and weights of the loss are pytrees, whose layout only the task knows.
    """

    def labels(self, structures: Sequence[Structure], shape: Shape) -> Tree:
        """Return the labels as NumPy arrays, padded as `graphs.collate` pads the structures."""
        ...

    def weights(self, late: bool) -> Tree:
        """Return the weights of the loss, early or late; a change causes no new compilation."""
        ...

    def charges(self, structures: Sequence[Structure]) -> Sequence[float] | None:
        """Return total charges, e, if graphs must have positions and charges, else None."""
        ...

    def predict(self, model: Tree, graph: Graph) -> Tree:
        """Return the predictions of the model for a batch."""
        ...

    def loss(self, predicted: Tree, labels: Tree, weights: Tree) -> tuple[Array, dict[str, Array]]:
        """Return the loss, and its part for each label by name."""
        ...

    def errors(self, predicted: Tree, labels: Tree) -> dict[str, tuple[Array, Array]]:
        """Return by name of the label: errors [M, ...], and which of M rows have the label, [M]."""
        ...
