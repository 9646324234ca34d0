"""Compute errors of predicted properties over Cartesian components, and by spherical degree."""

from collections.abc import Callable

import numpy as np

from kohn.errors import InputError
from kohn.evaluation.metrics import Errors, Evaluation
from kohn.models.heads.properties import by_degree, degrees_of
from kohn.potential import PropertyModel
from kohn.potential.properties import label_of
from kohn.records import plain
from kohn.structures import Dataset, Structure
from kohn.typing import Document

Pair = tuple[Structure, dict[str, np.ndarray]]
"""A structure, and label -> value to compare with the label."""


def evaluate_properties(
    model: PropertyModel,
    data: Dataset,
    *,
    name: str = "test",
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Compare the predictions of a model of properties with the labels of structures.

    Args:
        model: the model that predicts.
        data: labelled structures. A structure without a label does not count for that label.
        name: name of the data in reports.
        advance: called with the number of structures done since the last call, to show progress.

    Returns:
        Errors of Cartesian components; for polarizabilities also those of spherical components by
        degree (`polarizability_l0`, `_l2`). The baseline is the mean label of the training data.

    Raises:
        InputError: no structure is labelled; or an error that `PropertyModel.predict` raises.
    """
    if not any(label_of(s, t) is not None for s in data for t in model.targets):
        raise InputError(
            f"nothing to compare with: no structure has a {' or '.join(model.targets)}",
            where=data.sources[0].file if data.sources else None,
            fix="name the keys of the labels, or use `kohn predict`",
        )
    predictions = model.predict(data.structures, advance=advance)
    pairs = [(s, p.values) for s, p in zip(data.structures, predictions, strict=True)]
    means = {t: np.asarray(x) for t, x in model.provenance.get("means", {}).items()}
    kinds = sorted({s.config_type for s in data})
    return Evaluation(
        name=name,
        errors=errors_of(pairs),
        baseline=errors_of([(s, means) for s, _ in pairs]),
        by_config_type={k: errors_of([p for p in pairs if p[0].config_type == k]) for k in kinds},
        frames=tuple(_record(i, *pair) for i, pair in enumerate(pairs)),
        units=model.units,
    )


def errors_of(pairs: list[Pair]) -> dict[str, Errors]:
    """Return label -> errors, for each label that a structure of the pairs has."""
    errors = {}
    for target in dict.fromkeys(t for _, values in pairs for t in values):
        both = [(label_of(s, target), values[target]) for s, values in pairs if target in values]
        labelled = [(reference, value) for reference, value in both if reference is not None]
        if not labelled:
            continue
        differences = np.stack([value - reference for reference, value in labelled])
        errors[target] = Errors.of(differences)
        if len(degrees_of(target)) > 1:
            parts = by_degree(target, differences)
            errors |= {f"{target}_l{l}": Errors.of(x) for l, x in parts.items()}
    return errors


def _record(index: int, structure: Structure, values: dict[str, np.ndarray]) -> Document:
    """Return the labels and the predictions of one structure as a record for reports."""
    record: Document = {
        "index": index,
        "file": structure.place.file,
        "frame": structure.place.frame,
        "config_type": structure.config_type,
        "numbers": structure.numbers,
    }
    for target, value in values.items():
        record[f"{target}_predicted"] = value
        record[f"{target}_reference"] = label_of(structure, target)
    return plain(record)
