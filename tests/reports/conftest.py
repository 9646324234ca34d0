from pathlib import Path

import pytest
from run_records import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run."""
    return write_run(tmp_path / "first")
