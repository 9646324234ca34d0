"""Families of models, one file each, in an explicit dictionary."""

from kohn.models.derivatives import Derived as Derived
from kohn.models.derivatives import energy_and_derivatives as energy_and_derivatives
from kohn.models.gaussian_process import GaussianProcess as GaussianProcess
from kohn.models.gaussian_process import GaussianProcessConfig as GaussianProcessConfig
from kohn.models.mace import Mace as Mace
from kohn.models.mace import MaceConfig as MaceConfig

FAMILIES = {
    "mace": (MaceConfig, Mace),
    "gaussian-process": (GaussianProcessConfig, GaussianProcess),
}
"""Name in configurations -> (its configuration, its model)."""
