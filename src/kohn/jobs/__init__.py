"""Make long computations of any kind resumable after a kill."""

from kohn.jobs.workfolder import FORMAT as FORMAT
from kohn.jobs.workfolder import RECORDS as RECORDS
from kohn.jobs.workfolder import WorkFolder as WorkFolder
