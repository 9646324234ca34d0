"""Screening: rank many candidates, to decide which of them are worth computing or making."""

from kohn.discovery.candidate_energies import Relaxation
from kohn.discovery.options import Options
from kohn.discovery.ranking import Screening
from kohn.discovery.screening import screen

__all__ = ["Options", "Relaxation", "Screening", "screen"]
