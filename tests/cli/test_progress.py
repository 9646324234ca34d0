"""Bars: one for each kind of work; those without an end give way."""

import io

from rich.console import Console

from kohn.cli.progress import bar, progress_bars


def drawn(told) -> str:
    """What stands on a terminal as the work goes on."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    told(console)
    return console.file.getvalue()


def test_a_kind_of_work_without_an_end_goes_when_the_next_begins():
    def told(console):
        with progress_bars(console) as progress:
            progress.work("reading", 0, None)
            progress.work("training", 3, 10)
            progress.work("validating", 1, 2)

    last = drawn(told).rsplit("\x1b[2K", 3)
    assert "3/10" in "".join(last)
    assert "1/2" in "".join(last)
    assert "reading" not in last[-1]


def test_a_bar_of_one_kind_of_work():
    def told(console):
        with bar(console, "auditing", 4) as advance:
            advance(1)
            advance(2)

    assert "3/4" in drawn(told)
