"""Predicting with confidence: several models whose spread tells how sure they are."""

from kohn.uncertainty.ensemble import Ensemble as Ensemble
