"""Check structures and labels before they are used."""

from kohn.checks.check import check
from kohn.checks.composition import refuse_varying_charge
from kohn.checks.report import FIRM, KINDS, Finding, Report, SetSummary

__all__ = ["FIRM", "KINDS", "Finding", "Report", "SetSummary", "check", "refuse_varying_charge"]
