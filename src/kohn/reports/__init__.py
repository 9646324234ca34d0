"""Show the records of runs to people: nothing but positions on the page is computed here.

`report` writes one HTML page that opens offline; two tables show the same numbers in a terminal.
"""

from kohn.reports.page import report
from kohn.reports.terminal import evaluation_table, training_table

__all__ = ["evaluation_table", "report", "training_table"]
