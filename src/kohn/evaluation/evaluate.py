"""Compare the predictions of a model of any kind with labels: `kohn.evaluate`."""

from collections.abc import Callable
from pathlib import Path

from kohn.evaluation.metrics import Evaluation, evaluate_potential
from kohn.evaluation.properties import evaluate_properties
from kohn.potential import PropertyModel, load
from kohn.structures import Predictive, Readable, read


def evaluate(
    model: Predictive | PropertyModel | str | Path,
    data: Readable,
    *,
    name: str = "test",
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Compare the predictions of a model with the labels of structures.

    Args:
        model: a potential or any other `Predictive`, a model of properties, or the model file or
            run folder of such a model.
        data: labelled structures, in any form that `kohn.read` accepts. A structure without a
            label does not count for that label.
        name: name of the data in reports.
        advance: called with the number of structures done since the last call, to show progress.

    Raises:
        InputError: no structure is labelled; or an error that the model's `predict` raises.
    """
    model = load(model) if isinstance(model, (str, Path)) else model
    data = read(data)
    if isinstance(model, PropertyModel):
        return evaluate_properties(model, data, name=name, advance=advance)
    return evaluate_potential(model, data, name=name, advance=advance)
