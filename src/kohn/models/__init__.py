"""Families of models, one file each, in an explicit dictionary."""

from kohn.models.derivatives import Derived as Derived
from kohn.models.derivatives import energy_and_derivatives as energy_and_derivatives
from kohn.models.mace import Mace as Mace
from kohn.models.mace import MaceConfig as MaceConfig

FAMILIES = {"mace": (MaceConfig, Mace)}
"""Name in configurations -> (its configuration, its model)."""
