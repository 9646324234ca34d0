"""Tables for a terminal, and numbers in words."""

import pytest
from rich.console import Console
from run_records import evaluation, write_run

from kohn.reports import evaluation_table, training_table
from kohn.reports.text import duration, fixed, number, times


def shown(renderable) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text()


def test_errors_stand_beside_the_baseline():
    lines = shown(evaluation_table(evaluation("test"))).splitlines()
    forces = next(line for line in lines if line.startswith("Forces")).split()
    assert lines[0].startswith("test: 6 structures")
    assert forces[:4] == ["Forces", "10.0", "14.0", "200"]
    assert "meV/Å" in forces
    assert "20 times below it" in " ".join(forces)


def test_the_summary_of_a_run_and_of_half_a_run(tmp_path):
    text = shown(training_table(write_run(tmp_path / "first")))
    assert "12,345" in text
    assert "finished" in text
    assert "unfinished" in shown(training_table(write_run(tmp_path / "half", epochs=2)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0"),
        (58.68, "58.7"),
        (9.996, "10.0"),
        (0.09999, "0.100"),
        (999.7, "1,000"),
        (1234.5, "1,234"),
        (-0.01234, "−0.0123"),
        (1.5e-6, "1.50e−06"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_words():
    assert fixed(-0.0001, 3) == "0.000"
    shown = [duration(s) for s in (0.66, 42, 312, 7500)]
    assert shown == ["0.66 s", "42 s", "5 min 12 s", "2 h 05 min"]
    assert times(2.0, 30.0) == "15 times below"
    assert times(3.0, 2.0) == "not below"
    assert times(None, 2.0) == ""
