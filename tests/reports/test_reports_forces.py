"""Reports say of direct forces that they are not conservative, and of others nothing."""

from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from run_records import SETTINGS

from kohn.reports import report
from kohn.reports.terminal import training_table


@pytest.mark.parametrize(("family", "marked"), [("nequip-direct", True), ("mace", False)])
def test_direct_forces_are_marked(run, family, marked):
    settings = {**SETTINGS, "model": {**SETTINGS["model"], "family": family}}
    (run / "settings.yaml").write_text(yaml.safe_dump(settings))
    page = Path(report(run)).read_text(encoding="utf-8")
    assert (page.count("not the derivative of an energy: not conservative") >= 2) is marked
    console = Console(width=200, record=True, file=StringIO())
    console.print(training_table(run))
    assert ("not conservative" in console.export_text()) is marked
