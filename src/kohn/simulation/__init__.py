"""Relax structures: find minima of the energy that a potential predicts."""

from kohn.simulation.relaxation import Relaxed as Relaxed
from kohn.simulation.relaxation import Relaxer as Relaxer
from kohn.simulation.relaxation import relax as relax
