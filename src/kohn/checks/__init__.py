"""Check structures and labels before they are used."""

from kohn.checks.check import check
from kohn.checks.composition import refuse_varying_charge
from kohn.checks.report import KINDS, NOT_FOR_TRAINING, Finding, Report, SetSummary

__all__ = [
    "KINDS",
    "NOT_FOR_TRAINING",
    "Finding",
    "Report",
    "SetSummary",
    "check",
    "refuse_varying_charge",
]
