"""Refuse weights and remove labels of stress for models that predict no stress."""

from dataclasses import replace

from kohn.errors import ConfigError
from kohn.models import FAMILIES, is_conservative
from kohn.structures import Dataset
from kohn.training.settings import AnyModel, Weights


def predicts_stress(config: AnyModel) -> bool:
    """Return whether models of this configuration predict stress, as a derivative of the energy."""
    return is_conservative(FAMILIES[config.family][1])


def refuse_stress(config: AnyModel, *weights: Weights | None) -> None:
    """Refuse weights of stress for models that predict no stress.

    Args:
        config: configuration of the model. weights: weights in the loss; None stands for a default.

    Raises:
        ConfigError: a weight of stress is above 0.
    """
    requested = [w.stress for w in weights if w is not None and w.stress]
    if requested and not predicts_stress(config):
        raise ConfigError(
            f"a model of the family {config.family} predicts no stress",
            expected="stress: 0 in loss.weights and loss.late_weights, or nothing",
            received=f"stress: {requested[0]:g}",
            fix="leave it out, or train a family whose forces are derivatives of the energy",
        )


def without_stress(data: Dataset) -> Dataset:
    """Return training or validation data without labels of stress."""
    bare = tuple(s.with_labels(stress=None) for s in data)
    return replace(data, structures=bare)
