"""The numbers that people read in reports, by hand: units, factors, axes, counts and columns."""

from dataclasses import replace

import numpy as np
import pytest
from run_records import check, epoch, errors, evaluation, start

from kohn.evaluation.metrics import Errors, in_units
from kohn.reports.audit import line
from kohn.reports.figures import learning_curves
from kohn.reports.frames import worst_frames
from kohn.reports.hull import tables as hull_tables
from kohn.reports.hull_figures import hull_figures
from kohn.reports.parity import FEW, parity_figures
from kohn.reports.quantities import present
from kohn.reports.run import Run
from kohn.reports.sections import (
    class_tables,
    e0_table,
    error_table,
    labels_table,
    sets_table,
    tiles,
    worst_table,
)
from kohn.reports.summary import facts, timings, verdict

EV_PER_A3 = 160.2176634
"""GPa."""


def water(**changed) -> dict:
    """−1 eV/atom above the E0s of −13.6 and −432.1 eV; predicted 10 meV/atom higher."""
    return {
        "index": 7,
        "file": "data/a.extxyz",
        "frame": 3,
        "config_type": "bulk",
        "numbers": [8, 1, 1],
        "energy_reference": -462.3,
        "energy_predicted": -462.27,
        "forces_reference": [[1.0, 0, 0], [0, -2.0, 0], [0, 0, 0.5]],
        "forces_predicted": [[1.005, 0, 0], [0, -2.0, 0.003], [0, 0.004, 0.5]],
        "stress_reference": None,
        "stress_predicted": None,
    } | changed


def silicon(**changed) -> dict:
    """0.2 eV/atom above the E0 of −5.1 eV; predicted 20 meV/atom lower."""
    return {
        "index": 2,
        "file": "data/b.extxyz",
        "frame": 0,
        "config_type": "bulk",
        "numbers": [14, 14],
        "energy_reference": -9.8,
        "energy_predicted": -9.84,
        "forces_reference": [[0, 0, 0.1], [0, 0, -0.1]],
        "forces_predicted": [[0, 0, 0.1], [0, 0, -0.112]],
        "stress_reference": np.diag([0.01, 0.02, 0.0]).tolist(),
        "stress_predicted": np.diag([0.012, 0.02, 0.0]).tolist(),
    } | changed


RUN = Run("first", start=start(), check=check(), epochs=tuple(epoch(k) for k in (1, 2, 3, 4)))


def parity(*frames: dict) -> dict:
    return {f.key: f for f in parity_figures(RUN, {"frames": list(frames)})}


def axes(figure) -> tuple[str, str]:
    """Titles of the axis of references and of the axis of errors."""
    layout = figure.layout
    return layout["xaxis"]["title"]["text"], layout["yaxis2"]["title"]["text"]


# Parity


def test_energies_of_parity_are_per_atom_above_the_e0s_with_errors_in_mev():
    figure = parity(water(), silicon())["parity-energy"]
    above, below = figure.data
    assert above["x"] == below["x"] == [-1.0, 0.2]
    assert above["y"] == pytest.approx([-0.99, 0.18], abs=1e-9)
    assert below["y"] == pytest.approx([10.0, -20.0], abs=1e-9)
    assert above["customdata"] == [7, 2]
    assert axes(figure) == ("reference, eV/atom above the E0s", "error, meV/atom")
    # √((10² + 20²) / 2) = 15.8
    assert figure.note == "RMSE 15.8 meV/atom · 2 points"
    assert "largest error 20.0 meV/atom" in figure.alternative


def test_energies_of_parity_without_e0s_are_above_their_mean():
    figure = parity(water(), silicon(numbers=[13, 13]))["parity-energy"]
    # −154.1 and −4.9 eV/atom: ± 74.6
    assert figure.data[0]["x"] == pytest.approx([-74.6, 74.6], abs=1e-9)
    assert figure.data[1]["y"] == pytest.approx([10.0, -20.0], abs=1e-9)
    assert axes(figure)[0] == "reference, eV/atom above their mean"


def test_forces_of_parity_are_components_with_errors_in_mev():
    figure = parity(water(), silicon())["parity-forces"]
    above, below = figure.data
    assert above["x"] == [1, 0, 0, 0, -2, 0, 0, 0, 0.5, 0, 0, 0.1, 0, 0, -0.1]
    assert above["y"][0] == 1.005
    assert below["y"] == pytest.approx([5, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, -12], abs=1e-6)
    assert above["customdata"] == [7] * 9 + [2] * 6
    assert axes(figure) == ("reference, eV/Å", "error, meV/Å")
    # √((25 + 9 + 16 + 144) / 15) = 3.60
    assert figure.note == "RMSE 3.60 meV/Å · 15 points"


def test_stresses_of_parity_are_in_gpa():
    figure = parity(water(), silicon())["parity-stress"]
    above, below = figure.data
    one = EV_PER_A3 / 100
    assert above["x"] == pytest.approx([one, 0, 0, 0, 2 * one, 0, 0, 0, 0], abs=1e-5)
    assert above["y"][0] == pytest.approx(1.2 * one, abs=1e-5)
    assert below["y"] == pytest.approx([0.2 * one, *[0.0] * 8], abs=1e-3)
    assert above["customdata"] == [2] * 9
    assert axes(figure) == ("reference, GPa", "error, GPa")
    assert figure.note == "RMSE 0.107 GPa · 9 points"  # 0.32044 / 3


def test_other_properties_of_parity_are_in_their_own_unit():
    frame = {"index": 1, "numbers": [8, 1, 1], "dipole_reference": [0.1, 0.2, 0.3]}
    figure = parity(frame | {"dipole_predicted": [0.1, 0.25, 0.3]})["parity-dipole"]
    assert figure.title == "Dipole, components"
    assert figure.data[1]["y"] == pytest.approx([0, 0.05, 0], abs=1e-9)
    assert axes(figure) == ("reference, e·Å", "error, e·Å")


def test_a_density_keeps_counts_and_means():
    """Many points at two places, three to one."""
    high, low = silicon(energy_reference=-9.2, energy_predicted=-9.2), silicon()
    figure = parity(*[low] * (3 * FEW), *[high] * FEW)["parity-energy"]
    above, below = figure.data
    assert above["customdata"] == [FEW, 3 * FEW]  # the fullest on top
    assert above["x"] == pytest.approx([0.5, 0.2], abs=1e-4)
    assert below["y"] == pytest.approx([0.0, -20.0], abs=1e-2)
    assert above["marker"]["color"] == pytest.approx(np.log([FEW, 3 * FEW]), abs=0.01)


# Curves


def test_curves_are_in_the_units_of_their_axes():
    figures = {f.key: f for f in learning_curves(RUN)}
    fall = 10.0 ** (-0.3 * np.arange(1, 5))
    for key, rmse, mae, unit in (
        ("valid-forces", 1500 * fall, 1000 * fall, "meV/Å"),
        ("valid-energy_per_atom", 120 * fall, 100 * fall, "meV/atom"),
        ("valid-stress", 0.02 * EV_PER_A3 * fall, 0.01 * EV_PER_A3 * fall, "GPa"),
        ("loss", 5 * fall, 6 * fall, "loss"),
    ):
        figure = figures[f"curve-{key}"]
        first, second = figure.data
        assert first["x"] == second["x"] == [1, 2, 3, 4]
        assert first["y"] == pytest.approx(rmse, rel=1e-6)
        assert second["y"] == pytest.approx(mae, rel=1e-6)
        assert (first["name"], second["name"]) == (
            ("train", "valid") if key == "loss" else ("RMSE", "MAE")
        )
        assert figure.layout["yaxis"]["title"]["text"] == unit
        assert figure.layout["xaxis"]["title"]["text"] == "epoch"
    (rate,) = figures["curve-rate"].data
    assert rate["y"] == pytest.approx(0.01 * fall, rel=1e-9)
    # 1500 and 1000 meV/Å times 10^−1.2
    assert figures["curve-valid-forces"].note == "last: RMSE 94.6, MAE 63.1 meV/Å"


def test_the_best_epoch_and_the_late_weights_are_marked():
    epochs = tuple(epoch(k) | {"best_epoch": 2} for k in (1, 2, 3, 4))
    loss = {"late_from": 0.75, "late_weights": {"energy": 1.0}}
    run = replace(RUN, epochs=epochs, settings={"loss": loss})
    figure = learning_curves(run)[0]
    assert [s["x0"] for s in figure.layout["shapes"]] == [2, 3.0]
    assert [a["text"] for a in figure.layout["annotations"][:2]] == ["best", "late weights"]
    # After three epochs of four, they are still at three quarters of all.
    figure = learning_curves(replace(run, epochs=epochs[:3]))[0]
    assert [s["x0"] for s in figure.layout["shapes"]] == [2, 3.0]


# Words


def test_times_are_sums_medians_and_rates():
    """4 s with compilation, then 1, 1 and 7: the median of the others is 1 and their mean 3."""
    epochs = tuple(epoch(k + 1) | {"seconds": s} for k, s in enumerate((4.0, 1.0, 1.0, 7.0)))
    found = dict(timings(replace(RUN, epochs=epochs)))
    assert found["time in training, validation included"] == "13 s"
    assert found["first epoch, with compilation"] == "4 s"
    assert found["median of the other epochs"] == "1 s"
    assert found["training structures a second"] == "18.0"
    assert found["steps"] == "40"
    assert found["padding slots for each real edge"] == "0.250"
    assert found["neighbours of an atom, on average"] == "3.50"
    assert found["padded shapes: atoms × neighbours × structures"] == "12 × 4 × 2"


def test_facts_are_those_of_the_records():
    assert facts(RUN) == [
        ("parameters", "12,345"),
        ("training structures", "18"),
        ("validation structures", "2"),
        ("epochs", "4"),
        ("time in training", "10 s"),
    ]


def test_the_verdict_has_mean_absolute_errors_and_not_others():
    document = {
        "errors": {
            **in_units("energy", Errors(0.012, 0.5, 3)),
            **in_units("energy_per_atom", Errors(0.004, 0.5, 3)),
            **in_units("forces", Errors(0.0345, 0.5, 27)),
            **in_units("stress", Errors(0.1 / EV_PER_A3, 0.5, 9)),
        },
        "structures": 3,
    }
    said = verdict(replace(RUN, evaluations={"test": document})).sentence
    assert said == (
        "Mean absolute errors on 3 test structures: forces 34.5 meV/Å, "
        "energy 12.0 meV (4.00 meV/atom), stress 0.100 GPa."
    )
    without = verdict(RUN).sentence  # 1 eV/Å times 10^−1.2
    assert without == ("Best so far: force MAE on validation 63.1 meV/Å, loss 0.379, at epoch 4.")


# Tables


def texts(table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def table_of(**values: Errors) -> dict:
    """Errors as a document has them."""
    return {k: v for name, e in values.items() for k, v in in_units(name, e).items()}


def test_quantities_are_read_under_the_keys_that_evaluations_write():
    document = table_of(
        forces=Errors(0.01, 0.02, 9),
        energy=Errors(0.03, 0.04, 3),
        energy_per_atom=Errors(0.005, 0.006, 3),
        stress=Errors(0.7 / EV_PER_A3, 0.8 / EV_PER_A3, 18),
    )
    found = [(q.title, q.mae(document), q.rmse(document), q.unit) for q in present(document)]
    assert [(title, unit) for title, _, _, unit in found] == [
        ("Forces", "meV/Å"),
        ("Energy", "meV"),
        ("Energy per atom", "meV/atom"),
        ("Stress", "GPa"),
    ]
    assert [x for _, mae, rmse, _ in found for x in (mae, rmse)] == pytest.approx(
        [10, 20, 30, 40, 5, 6, 0.7, 0.8], rel=1e-7
    )
    assert [q.count(document) for q in present(document)] == [9, 3, 3, 18]


def test_a_tile_is_an_error_beside_that_of_the_mean():
    document = {
        "errors": table_of(forces=Errors(0.01, 0.02, 9), energy=Errors(0.3, 0.4, 3)),
        "mean_baseline": table_of(forces=Errors(0.04, 0.05, 9), energy=Errors(0.2, 0.3, 3)),
    }
    forces, energy = tiles(document)
    assert (forces.value, forces.unit, forces.baseline) == ("10.0", "meV/Å", "40.0 meV/Å")
    assert (forces.comparison, forces.rmse) == ("4.0 times below", "20.0 meV/Å")
    assert (forces.share, forces.bad) == (0.25, False)
    assert (energy.share, energy.bad, energy.comparison) == (1.0, True, "not below")


def test_columns_of_the_table_of_errors():
    document = {
        "errors": table_of(forces=Errors(0.01, 0.02, 9)),
        "mean_baseline": table_of(forces=Errors(0.04, 0.05, 9)),
    }
    table = error_table(replace(RUN, evaluations={"valid": document}))
    assert table.head[1:5] == ("MAE", "RMSE", "mean baseline MAE", "mean baseline RMSE")
    assert texts(table) == [["validation: forces", "10.0", "20.0", "40.0", "50.0", "meV/Å", "9"]]


def test_bars_of_classes_are_shares_of_the_largest():
    document = evaluation("test") | {
        "forces_by_element": {
            "H": errors("forces"),
            "Si": errors("forces", factor=4.0),
        },
        "by_config_type": {"quiet": errors("forces", factor=0.5), "bulk": errors("forces")},
    }
    element, _, kind = class_tables(document)
    assert element.head == ("element", "MAE, meV/Å", "RMSE, meV/Å", "force components")
    assert texts(element) == [["H", "10.0", "14.0", "6"], ["Si", "40.0", "56.0", "6"]]
    assert [row[1].bar for row in element.rows] == [0.25, 1.0]
    assert [row[0] for row in texts(kind)] == ["bulk", "quiet"]  # the worst first


def test_the_worst_structures_have_the_longest_difference_of_a_force():
    """5 meV/Å at O 0, and √(3² + 0²), 4 at the hydrogens; 12 at Si 1."""
    rows = worst_frames({"frames": [water(), silicon()]})
    assert [(r["index"], r["atom"], r["atoms"]) for r in rows] == [(2, "Si 1", 2), (7, "O 0", 3)]
    assert [r["force_error"] for r in rows] == pytest.approx([12.0, 5.0], abs=1e-9)
    assert [r["energy_error"] for r in rows] == pytest.approx([-40.0, 30.0], abs=1e-9)
    assert [r["energy_error_per_atom"] for r in rows] == pytest.approx([-20.0, 10.0], abs=1e-9)
    table = worst_table({"frames": [water(), silicon()]})
    assert table.head[5:] == (
        "largest force error, meV/Å",
        "on atom",
        "energy error, meV",
        "meV/atom",
    )
    assert texts(table)[0] == ["2", "b.extxyz", "0", "bulk", "2", "12.0", "Si 1", "−40.0", "−20.0"]
    both = water(forces_predicted=[[1.003, 0.004, 0], [0, -2.0, 0], [0, 0, 0.5]])
    assert worst_frames({"frames": [both]})[0]["force_error"] == pytest.approx(5.0, abs=1e-9)


def test_without_forces_the_worst_structures_are_those_of_energies_per_atom():
    no = {"forces_reference": None}
    rows = worst_frames({"frames": [water(**no), silicon(**no)]})
    assert [r["index"] for r in rows] == [2, 7]  # −20 and 10 meV/atom


def test_columns_of_the_tables_of_the_data():
    numbers = {"mean": 0.01, "standard_deviation": 0.02, "minimum": -0.03, "maximum": 0.04}
    (one, *_), checked = check()["sets"], check()
    labels = {name: {"frames": 5, "keys": {"k": 5}} for name in ("energy", "forces", "stress")}
    one |= {"labels": labels, "stress_components": numbers, "force_components": numbers}
    one |= {"energy_above_reference_per_atom": numbers, "duplicates": 3, "isolated_atoms": 1}
    run = replace(RUN, check=checked | {"sets": [one]})
    energy, forces, stress = texts(labels_table(run))
    assert energy[:2] == ["training: energy", "5 of 18"]
    assert energy[3:8] == ["0.010", "0.020", "−0.030", "0.040", "eV/atom above E0"]
    assert forces[3:8] == ["0.010", "0.020", "−0.030", "0.040", "eV/Å"]
    assert stress[3:8] == ["1.602", "3.204", "−4.807", "6.409", "GPa"]
    assert labels_table(run).head[3:7] == ("mean", "standard deviation", "smallest", "largest")
    assert texts(sets_table(run)) == [
        ["training", "18", "2–3", "H, Si", "no: 9, in three: 9", "0.957 (H-O)", "1", "3"]
    ]
    assert texts(e0_table(run))[1] == ["O", "−432.1000", "isolated atoms"]


# Audits


@pytest.mark.parametrize(
    ("violation", "threshold", "share"),
    [
        (1e-7, 1e-6, 9 / 13),  # from 1e-10 to 1e3 of the threshold
        (1e-6, 1e-6, 10 / 13),
        (1e-3, 1e-6, 1.0),
        (1e-2, 1e-6, 1.0),
        (1e-5, 1e-5, 10 / 13),
        (0.0, 1e-6, 0.0),
        (1e-20, 1e-6, 0.0),
        (None, 1e-6, None),
        (1e-6, None, None),
    ],
)
def test_the_bar_of_an_audit_is_the_share_of_the_threshold(violation, threshold, share):
    row = {"law": "forces", "verdict": "passed", "calls": 1234, "index": 0, "unit": "eV/Å"}
    row |= {"violation": violation, "threshold": threshold, "measured": 2, "structures": 3}
    found = line(row)
    assert found.share == (None if share is None else pytest.approx(share, abs=1e-12))
    assert (found.measured, found.partly, found.calls) == ("2 of 3", True, "1,234")
    if violation == 1e-7:
        assert (found.violation, found.threshold) == ("1.0e-7", "1.0e-6")


def test_a_law_that_was_measured_everywhere_is_not_partly_measured():
    row = {"law": "forces", "verdict": "passed", "calls": 1, "index": 0, "threshold": 1e-6}
    row |= {"violation": 0.0, "measured": 3, "structures": 3}
    assert (line(row).measured, line(row).partly) == ("3 of 3", False)


# Hulls


def compound(formula: str, fractions: dict, energy: float, height: float = 0.0, **more) -> dict:
    return {
        "id": formula.lower(),
        "formula": formula,
        "fractions": fractions,
        "formation_energy_per_atom": energy,
        "e_above_hull": height,
        "stable": height == 0,
        "decomposition": {"A": 0.25, "AB": 0.75},
    } | more


def test_a_binary_hull_is_energy_against_the_fraction_of_the_second_element():
    entries = [
        compound("A", {"A": 1.0}, 0.0),
        compound("B", {"B": 1.0}, 0.0),
        compound("AB", {"A": 0.5, "B": 0.5}, -1.0),
        compound("A3B", {"A": 0.75, "B": 0.25}, -0.45, 0.05),
        compound("A4B", {"A": 0.8, "B": 0.2}, 0.3, 0.7),
    ]
    document = {"elements": ["A", "B"], "entries": entries, "tie_lines": [[0, 2], [1, 2]]}
    (figure,) = hull_figures(document)
    by_name = {t.get("name"): t for t in figure.data}
    stable, above = by_name["stable (3)"], by_name["above the hull (2)"]
    assert (stable["x"], stable["y"]) == ([0.0, 1.0, 0.5], [0.0, 0.0, -1.0])
    assert (above["x"], above["y"]) == ([0.25, 0.2], [-0.45, 0.3])
    assert above["marker"]["color"] == [0.05, 0.2]  # palest from 0.2 eV/atom on
    assert figure.data[0]["x"] == [0.0, 0.5, None, 1.0, 0.5, None]
    assert figure.data[0]["y"] == [0.0, -1.0, None, 0.0, -1.0, None]
    assert figure.layout["xaxis"]["title"]["text"] == "fraction of B"
    assert figure.layout["yaxis"]["title"]["text"] == "formation energy, eV/atom"
    told = above["customdata"][0]
    assert "formation energy −0.4500 eV/atom" in told
    assert "0.0500 eV/atom above the hull" in told
    assert "falls into 0.250 A<br>+ 0.750 AB" in told


def test_a_ternary_hull_is_a_triangle_with_the_third_element_on_top():
    entries = [compound(e, {e: 1.0}, 0.0) for e in "ABC"]
    entries.append(compound("AC", {"A": 0.5, "C": 0.5}, -1.0))
    document = {"elements": ["A", "B", "C"], "entries": entries, "tie_lines": [[0, 3]]}
    (figure,) = hull_figures(document)
    (stable,) = (t for t in figure.data if t.get("name", "").startswith("stable"))
    assert stable["x"] == pytest.approx([0, 1, 0.5, 0.25], abs=1e-6)
    assert stable["y"] == pytest.approx([0, 0, 0.866025, 0.433013], abs=1e-6)


def test_tables_of_a_hull_are_in_electronvolts_nearest_first():
    entries = [
        compound("A", {"A": 1.0}, 0.0),
        compound("A4B", {"A": 0.8, "B": 0.2}, 0.3, 0.7),
        compound("A3B", {"A": 0.75, "B": 0.25}, -0.45, 0.05),
        compound("AB2", {}, -1.25, candidate=True, distance=-0.125),
    ]
    candidates, stable, above = hull_tables({"elements": ["A", "B"], "entries": entries})
    assert texts(candidates) == [["AB2", "ab2", "−1.2500", "−0.1250", "stable"]]
    assert texts(stable) == [["A", "a", "0.0000"]]
    assert texts(above) == [
        ["A3B", "a3b", "−0.4500", "0.0500", "0.250 A + 0.750 AB"],
        ["A4B", "a4b", "0.3000", "0.7000", "0.250 A + 0.750 AB"],
    ]
    assert above.head[2:4] == ("formation energy, eV/atom", "above the hull, eV/atom")
