"""Measure how strongly any ASE calculator violates the laws of physics.

audit = kohn.audit(EMT(), "copper.xyz")
print(audit)
assert audit.ok
"""

from kohn.audits.audit import Audit as Audit
from kohn.audits.audit import audit as audit
from kohn.audits.laws import NAMES as NAMES
from kohn.audits.laws import TABLE as TABLE
from kohn.audits.laws import Law as Law
from kohn.interfaces.calculator_process import CalculatorProcess as CalculatorProcess
