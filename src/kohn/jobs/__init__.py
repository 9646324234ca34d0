"""Long computations that can be resumed after a kill; independent of atoms."""

from kohn.jobs.workfolder import FORMAT as FORMAT
from kohn.jobs.workfolder import RECORDS as RECORDS
from kohn.jobs.workfolder import WorkFolder as WorkFolder
