"""`kohn.evaluate`: a model of any kind against labels."""

from collections.abc import Callable

from kohn.evaluation.metrics import Evaluation, evaluate_potential
from kohn.evaluation.properties import evaluate_properties
from kohn.potential import Potential, PropertyModel
from kohn.structures import Dataset


def evaluate(
    model: Potential | PropertyModel,
    data: Dataset,
    *,
    name: str = "test",
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Compare a model with labels.

    Args:
        model: a potential, or a model of properties.
        data: labelled structures; those without a label are left out for that label.
        name: what the data are called in reports.
        advance: called with the number of structures done, for a progress bar.

    Raises:
        InputError: nothing in the data is labelled; or see the model's `predict`.
    """
    if isinstance(model, PropertyModel):
        return evaluate_properties(model, data, name=name, advance=advance)
    return evaluate_potential(model, data, name=name, advance=advance)
