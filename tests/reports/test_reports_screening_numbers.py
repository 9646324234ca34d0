"""The numbers of a screening's page, by hand: all in meV/atom, of tables in eV/atom."""

import numpy as np
import pytest

from kohn.reports.ranked import Ranked
from kohn.reports.screening import best_table, facts, sentence, yield_table
from kohn.reports.screening_figures import screening_figures

ROWS = Ranked(
    distance=np.array([-0.02, 0.01, 0.05]),
    stable=np.array([True, False, False]),
    numbers={
        "distance_std": np.array([0.0123, 0.02, 0.03]),
        "probability_stable": np.array([0.9, 0.4, 0.1]),
        "distance_labelled": np.array([-0.015, 0.03, np.nan]),
    },
    words={
        0: ("p", "Li2O", "0.5 Li (mp-1) + 0.5 LiO (mp-2)"),
        1: ("q", "LiO", ""),
        2: ("r", "Li", ""),
    },
)
METRICS = {
    "compared": 2,
    "mae": 0.0125,  # 5 and 20 meV/atom
    "precision": 1.0,
    "recall": 0.5,
    "true_positives": 1,
    "false_positives": 0,
    "false_negatives": 1,
}
HEAD = [
    {
        "rank": 1,
        "id": "p",
        "formula": "Li2O",
        "distance": -0.02,
        "distance_std": 0.0123,
        "probability_stable": 0.9,
        "distance_labelled": -0.015,
        "decomposition": "0.5 Li (mp-1) + 0.5 LiO (mp-2)",
        "problem": "",
    }
]
SUMMARY = {
    "candidates": 3,
    "systems": 2,
    "stable": 1,
    "expected_stable": 1.4,
    "in_hull": 0,
    "failed": 0,
    "ranked_by": "probability_stable",
    "structures": None,
    "remarks": [],
    "metrics": METRICS,
    "head": HEAD,
}


@pytest.fixture(scope="module")
def figures():
    return {f.key: f for f in screening_figures(ROWS, SUMMARY)}


def test_the_first_of_the_ranking_in_mev():
    table = best_table(SUMMARY)
    assert table.head[3:7] == (
        "from the hull, meV/atom",
        "± σ, meV/atom",
        "P(stable)",
        "by label, meV/atom",
    )
    (row,) = table.rows
    assert [cell.text for cell in row[:3]] == ["1", "Li2O", "p"]
    assert [cell.text for cell in row[3:7]] == ["−20.0", "12.3", "0.900", "−15.0"]
    assert row[5].bar == 0.9
    assert table.more == "and 2 more in the table"


def test_points_tell_of_themselves_in_mev(figures):
    told = figures["sigma"].data[0]["customdata"][0].split("<br>")
    assert told[1:4] == [
        "−20.0 ± 12.3 meV/atom from the hull",
        "−15.0 meV/atom by label",
        "rank 1, P(stable) 0.900",
    ]
    assert figures["sigma"].data[0]["x"] == pytest.approx([-20, 10, 50])
    assert figures["sigma"].data[0]["y"] == pytest.approx([12.3, 20, 30])


def test_notes_of_the_figures(figures):
    # Σ P = 1.4, and half of it is in the first, 0.9.
    assert figures["yield"].note == "half of the 1.40 expected are among the first 1 of 3"
    assert figures["distances"].note == (
        "1 candidate on the hull or below it; 1.40 expected to be stable"
    )
    assert figures["parity-distance"].note == (
        "MAE 12.5 meV/atom · precision 1.0, recall 0.50 · 2 labels"
    )
    assert figures["parity-distance"].data[1]["y"] == pytest.approx([-5, -20], abs=1e-9)


def test_words_count_what_is_stable_by_labels():
    assert sentence(SUMMARY) == (
        "1 of 3 candidates is on the hull or below it, and 1.40 are expected to be stable. "
        "By labels, 2 of 2 are stable, 1 of them among the 1 that is predicted to be stable."
    )
    assert facts(SUMMARY) == [
        ("Ranked by", "P(stable), then distance"),
        ("Chemical systems", "2"),
    ]


def test_a_ranking_is_so_many_times_better_than_chance():
    """Ten of P = 0.8 before thirty of 0.1: 8 of 11 in a quarter, 8/11 · 4 = 2.9 times."""
    p = np.array([0.8] * 10 + [0.1] * 30)
    rows = Ranked(np.zeros(40), np.zeros(40, bool), {"probability_stable": p}, {})
    table = yield_table(rows, {})
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["10", "8.00", "2.9"],
        ["30", "10.0", "1.2"],
        ["all 40", "11.0", "1.0"],
    ]
