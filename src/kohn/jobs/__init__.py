"""Long work that can be killed and gone on with; it knows no atoms."""

from kohn.jobs.workfolder import FORMAT as FORMAT
from kohn.jobs.workfolder import RECORDS as RECORDS
from kohn.jobs.workfolder import WorkFolder as WorkFolder
