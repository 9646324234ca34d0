"""Labels of stress and models that predict none."""

from dataclasses import replace

from kohn.errors import ConfigError
from kohn.models import FAMILIES, is_conservative
from kohn.structures import Dataset
from kohn.training.settings import AnyModel, Weights


def predicts_stress(config: AnyModel) -> bool:
    """Whether models of this configuration have a stress: where it is a derivative."""
    return is_conservative(FAMILIES[config.family][1])


def refuse_stress(config: AnyModel, *weights: Weights | None) -> None:
    """Weights of a stress must not be asked for where none is predicted.

    Args:
        config: of the model. weights: as the user gave them; None stands for a default.

    Raises:
        ConfigError: one of them has a weight above 0 for stress.
    """
    asked = [w.stress for w in weights if w is not None and w.stress]
    if asked and not predicts_stress(config):
        raise ConfigError(
            f"a model of the family {config.family} predicts no stress",
            expected="stress: 0 in loss.weights and loss.late_weights, or nothing",
            received=f"stress: {asked[0]:g}",
            fix="leave it out, or train a family whose forces are derivatives of the energy",
        )


def without_stress(data: Dataset) -> Dataset:
    """The structures without labels of stress: nothing is learned from or judged by them."""
    bare = tuple(s.with_labels(stress=None) for s in data)
    return replace(data, structures=bare)
