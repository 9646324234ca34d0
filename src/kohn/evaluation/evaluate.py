"""`kohn.evaluate`: a model of any kind against labels."""

from collections.abc import Callable
from pathlib import Path

from kohn.evaluation.metrics import Evaluation, evaluate_potential
from kohn.evaluation.properties import evaluate_properties
from kohn.potential import PropertyModel, open_model
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
        model: a potential or whatever else is `Predictive`, or a model of properties, or the file
            or run folder of one.
        data: labelled structures, or whatever `kohn.read` takes; those without a label are left
            out for that label.
        name: what the data are called in reports.
        advance: called with the number of structures done, for a progress bar.

    Raises:
        InputError: nothing in the data is labelled; or see the model's `predict`.
    """
    model = open_model(model) if isinstance(model, (str, Path)) else model
    data = read(data)
    if isinstance(model, PropertyModel):
        return evaluate_properties(model, data, name=name, advance=advance)
    return evaluate_potential(model, data, name=name, advance=advance)
