"""Decisions: which of many candidates are worth computing, or making."""

from kohn.discovery.screening import Screening, screen

__all__ = ["Screening", "screen"]
