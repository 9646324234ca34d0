"""Compare a model of any kind with labels: `kohn.evaluate`."""

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
    """Compare a model with labels.

    Args:
        model: a potential or anything else that is `Predictive`, a model of properties, or the
            file or run folder of one of these.
        data: labelled structures, or anything `kohn.read` reads; a structure without a label is
            left out for that label.
        name: name of the data in reports.
        advance: called with the number of structures done, for a progress bar.

    Raises:
        InputError: no structure is labelled; others as in the model's `predict`.
    """
    model = load(model) if isinstance(model, (str, Path)) else model
    data = read(data)
    if isinstance(model, PropertyModel):
        return evaluate_properties(model, data, name=name, advance=advance)
    return evaluate_potential(model, data, name=name, advance=advance)
