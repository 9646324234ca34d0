"""Tables of compounds in a terminal: whatever the names, numbers can be read."""

from io import StringIO

import pytest
from rich.console import Console

from kohn.cli.compounds import Compound, compound_table, lines
from kohn.tables import shortened

HEADS = ("from hull\neV/atom", "± σ\neV/atom", "P(stable)")


def shown(rows, width, heads=HEADS) -> str:
    stream = StringIO()
    table = compound_table("title :pig: [red]", heads, rows, width, caption="[b]more[/b]")
    Console(file=stream, width=width, highlight=False).print(table)
    return stream.getvalue()


@pytest.mark.parametrize("width", [64, 80, 100, 200])
def test_numbers_and_formulas_are_whole_and_ids_give_way(width):
    numbers = [f"{k}.{k}234" for k in range(9)]
    rows = [
        Compound(
            formula="Li333Co1000O2000",
            id=f":car:-an-identifier-[red]-of-{'very-' * 12}long-{k}",
            numbers=(numbers[k], "0.050", "0.123"),
            falls_into=["0.571 LiCoO2", "0.286 CoO", "0.143 Li2Fe3P5O18"],
            stable=False,
            rank=str(k + 1),
        )
        for k in range(9)
    ]
    text = shown(rows, width)
    assert all(n in text for n in numbers)
    assert all(h in text for head in HEADS for h in head.split("\n"))
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert text.count("0.143 Li2Fe3P5O18") == 9
        assert text.count("0.571 LiCoO2") == 9
    assert all(f"-{k} " in text for k in range(9))  # the ends of ids, where they differ
    assert "title :pig: [red]" in text
    assert "[b]more[/b]" in text
    if width == 200:
        assert text.count("Li333Co1000O2000") == 9
        assert text.count(rows[0].id[:-1]) == 9
    else:
        assert text.count("…") == 9


def test_what_fits_is_left_as_it_is():
    rows = [Compound("Li2O", "mp-1960", ("0.0000", "0.010", "1.000"), ["stable"], True)]
    assert "Li2O     mp-1960     0.0000    0.010      1.000  stable" in shown(rows, 80)


def test_lines_break_between_words():
    parts = ["0.5 LiO", " + 0.25 Li2O", " + 0.25 O"]
    assert lines(parts, 80) == "0.5 LiO + 0.25 Li2O + 0.25 O"
    assert lines(parts, 20) == "0.5 LiO + 0.25 Li2O\n+ 0.25 O"
    assert lines(parts, 12) == "0.5 LiO\n+ 0.25 Li2O\n+ 0.25 O"
    assert lines([], 10) == ""


def test_ids_keep_their_ends():
    assert shortened("mp-1279742", 10) == "mp-1279742"
    assert shortened("data_batch1_candidates.csv, line 13", 12) == "data…line 13"
    assert shortened("a\nb", 12) == "a b"
    assert len(shortened("x" * 50, 7)) == 7
