"""List the families of models in an explicit dictionary; each family has its own file."""

from collections.abc import Callable
from typing import Any

from kohn.models.bodies import BODIES as BODIES
from kohn.models.confidence import Confidence as Confidence
from kohn.models.derivatives import NOT_CONSERVATIVE as NOT_CONSERVATIVE
from kohn.models.derivatives import Derived as Derived
from kohn.models.derivatives import EnergyModel as EnergyModel
from kohn.models.derivatives import energy_and_derivatives as energy_and_derivatives
from kohn.models.derivatives import is_conservative as is_conservative
from kohn.models.derivatives import is_solved as is_solved
from kohn.models.dimenet import DimeNet as DimeNet
from kohn.models.dimenet import DimeNetConfig as DimeNetConfig
from kohn.models.gaussian_process import GaussianProcess as GaussianProcess
from kohn.models.gaussian_process import GaussianProcessConfig as GaussianProcessConfig
from kohn.models.heads.direct import Direct as Direct
from kohn.models.heads.direct import DirectConfig as DirectConfig
from kohn.models.heads.direct import MaceDirectConfig as MaceDirectConfig
from kohn.models.mace import Mace as Mace
from kohn.models.mace import MaceConfig as MaceConfig
from kohn.models.nequip import Nequip as Nequip
from kohn.models.nequip import NequipConfig as NequipConfig
from kohn.models.schnet import SchNet as SchNet
from kohn.models.schnet import SchNetConfig as SchNetConfig

FAMILIES: dict[str, tuple[type[Any], type[Any]]] = {
    **BODIES,
    "nequip-direct": (DirectConfig, Direct),
    "mace-direct": (MaceDirectConfig, Direct),
    "gaussian-process": (GaussianProcessConfig, GaussianProcess),
}
"""The `family` of a configuration -> (class of the configuration, class of the model)."""


def _posterior(model: Any) -> Confidence:
    from kohn.models.posterior import Posterior  # imports SciPy, which networks do not need

    return Posterior(model)


CONFIDENCES: dict[type, Callable[[Any], Confidence]] = {GaussianProcess: _posterior}
"""Class of a model that predicts variances -> the function that returns its `Confidence`."""
