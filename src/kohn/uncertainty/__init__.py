"""Estimate the errors of predictions from the spread of several models."""

from kohn.uncertainty.ensemble import Ensemble as Ensemble
