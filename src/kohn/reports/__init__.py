"""Reports: what a run recorded, drawn for people. Nothing is computed here but positions on paper.

`report` writes one HTML page that opens offline; `evaluation_table` and `training_table`
are the same numbers for a terminal.
"""

from kohn.reports.page import report
from kohn.reports.terminal import evaluation_table, training_table

__all__ = ["evaluation_table", "report", "training_table"]
