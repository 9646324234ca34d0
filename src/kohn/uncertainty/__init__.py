"""Predict with standard deviations: the spread of several models estimates their error."""

from kohn.uncertainty.ensemble import Ensemble as Ensemble
