"""The numbers that commands print, by hand."""

import pytest
from rich.console import Console

from kohn.cli.hulls import hull_table
from kohn.cli.screening import print_summary, print_table
from kohn.cli.training import epoch_line
from kohn.discovery.ranking import Screening


def test_a_line_of_progress_is_in_mev_and_gpa():
    record = {
        "epoch": 12,
        "train_loss": 0.0345,
        "valid_energy_per_atom_mae": 0.0123,
        "valid_forces_mae": 0.0456,
        "valid_stress_mae": 0.5 / 160.2176634,
        "valid_dipole_mae": 0.0789,
        "valid_forces_rmse": 9.0,
    }
    assert epoch_line(record) == (
        "epoch    12  loss 0.0345  12.3 meV/atom  45.6 meV/Å  0.5 GPa  dipole 0.0789 e·Å"
    )


def printed(*renderables) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for r in renderables:
        r(console) if callable(r) else console.print(r)
    return console.export_text()


def entry(name: str, formula: str, energy: float, above: float, **more) -> dict:
    return {
        "id": name,
        "formula": formula,
        "formation_energy_per_atom": energy,
        "e_above_hull": above,
        "stable": above == 0,
        "decomposition": {"x": 0.75, "a": 0.25},
    } | more


def test_a_hull_is_printed_in_electronvolts_nearest_first():
    entries = [
        entry("z", "Li3O", -0.5, 1.0),
        entry("a", "Li", 0.0, 0.0),
        entry("x", "Li2O", -2.0, 0.0),
    ]
    document = {"elements": ["Li", "O"], "entries": entries, "candidates": []}
    lines = [line.split() for line in printed(hull_table(document, 120)).splitlines()]
    assert " ".join(lines[0]) == "Li–O: 2 of 3 entries stable"
    assert [line[0] for line in lines if line and line[0].startswith("Li")][1:] == [
        "Li",
        "Li2O",
        "Li3O",
    ]
    assert lines[-1] == ["Li3O", "z", "-0.5000", "1.0000", "0.750", "Li2O", "+", "0.250", "Li"]
    new = [entry("p", "LiO", -2.0, 0.0, distance=-0.25)]
    row = printed(hull_table(document | {"candidates": new}, 120)).splitlines()[-1].split()
    assert row[:4] == ["LiO", "p", "-2.0000", "-0.2500"]


@pytest.fixture
def screened():
    metrics = {
        "compared": 1234,
        "mae": 0.0456,
        "precision": 0.8,
        "recall": 0.6,
        "f1": 0.686,
        "daf": 2.5,
        "true_positives": 4,
        "false_positives": 1,
        "false_negatives": 2,
        "calibration": {"brier": 0.123, "expected_error": 0.045},
        "mean_z2": 2.25,
    }
    head = [
        {
            "rank": 1,
            "id": "p",
            "formula": "LiO",
            "distance": -0.02345,
            "distance_std": 0.0123,
            "probability_stable": 0.972,
            "decomposition": "0.5 Li (mp-1) + 0.5 LiO2 (mp-2)",
            "stable": True,
        }
    ]
    return Screening(
        file="ranked.csv",
        structures=None,
        candidates=2345,
        systems=3,
        stable=12,
        expected_stable=10.26,
        in_hull=0,
        failed=0,
        ranked_by="probability_stable",
        head=head,
        remarks=[],
        metrics=metrics,
    )


def test_a_screening_says_its_errors_in_mev_and_the_scale_that_suits(screened):
    said = " ".join(printed(lambda console: print_summary(screened, console)).split())
    assert (
        "by 1,234 labels: MAE 46 meV/atom, precision 0.80, recall 0.60, F1 0.69, DAF 2.50; "
        "P(stable): Brier 0.123, calibration error 0.045; mean (error/σ)² 2.25, so --scale 1.5 "
        "would suit σ"
    ) in said


def test_a_screening_shows_distances_in_electronvolts(screened):
    text = printed(lambda console: print_table(screened, console))
    counted = "12 of 2,345 candidates on the hull or below it; 10.3 expected to be stable"
    assert counted in " ".join(text.split())
    lines = text.splitlines()
    row = lines[-1].split()
    assert row == ["1", "LiO", "p", "-0.0234", "0.012", "0.972", "0.5", "Li", "+", "0.5", "LiO2"]
