"""Errors of predictions, from numbers that can be checked by hand; no potential is compiled."""

from dataclasses import replace

import numpy as np
import pytest
from brute_force import structure

import kohn
from kohn.errors import InputError, Place
from kohn.evaluation.metrics import (
    Errors,
    Evaluation,
    errors_of,
    evaluate_potential,
    frame_record,
    in_units,
)
from kohn.evaluation.properties import errors_of as errors_of_properties
from kohn.evaluation.properties import evaluate_properties
from kohn.potential import Prediction, Reference
from kohn.structures import Dataset

WATER, OXYGEN = [8, 1, 1], [8, 8]
E0S = {1: -1.0, 8: -10.0}
E_CHARGE = 1.602176634e-19
"""C, exact in the SI: 1 eV/Å³ is 160.2176634 GPa. ASE's units are those of CODATA 2014, which
differ by 8e-9 of it."""


def labelled(numbers, kind="Default", **labels):
    """A structure of these elements, one atom each Å."""
    positions = np.arange(len(numbers))[:, None] * np.array([1.0, 0.0, 0.0])
    s = structure(positions, numbers).with_labels(**{k: np.array(v) for k, v in labels.items()})
    return replace(s, config_type=kind)


def predicted(numbers, energy=0.0, forces=0.0, stress=0.0):
    """A prediction with the same force component everywhere, unless arrays are given."""
    n = len(numbers)
    full = None if stress is None else np.broadcast_to(stress, (3, 3))
    return Prediction.of_energy(energy, np.zeros(n), np.broadcast_to(forces, (n, 3)), full)


class Fake:
    """Says what it was told to say."""

    def zero(self, s):
        return Reference(E0S).total(s)

    def __init__(self, predictions, mean=0.0):
        self.predictions, self.provenance = predictions, {"mean_energy_per_atom": mean}

    def predict(self, structures, *, advance=None):
        assert len(structures) == len(self.predictions)
        return self.predictions


def evaluated(pairs, mean=0.0, **options):
    structures, predictions = zip(*pairs, strict=True)
    return evaluate_potential(Fake(list(predictions), mean), Dataset(tuple(structures)), **options)


# Errors of numbers


def test_errors_are_a_mean_of_sizes_and_a_root_of_a_mean_of_squares():
    assert Errors.of([np.array([3.0, -4.0]), np.array([[0.0], [0.0]])]) == Errors(1.75, 2.5, 4)


def test_errors_of_nothing_are_no_numbers():
    for nothing in ([], [np.zeros((0, 3))]):
        found = Errors.of(nothing)
        assert found.count == 0
        assert np.isnan([found.mae, found.rmse]).all()


def test_units_are_those_that_the_keys_say():
    """1 eV is 1000 meV, and 1 eV/Å³ is 160.2 GPa: from the charge of the electron alone."""
    errors, gpa = Errors(0.5, 2.0, 7), E_CHARGE * 1e30 / 1e9
    assert in_units("stress", errors) == {
        "stress_mean_absolute_error_GPa": pytest.approx(0.5 * gpa, rel=1e-8),
        "stress_root_mean_square_error_GPa": pytest.approx(2.0 * gpa, rel=1e-8),
        "stress_count": 7,
    }
    assert in_units("energy_per_atom", errors) == {
        "energy_per_atom_mean_absolute_error_meV_per_atom": 500.0,
        "energy_per_atom_root_mean_square_error_meV_per_atom": 2000.0,
        "energy_per_atom_count": 7,
    }
    assert in_units("energy", errors)["energy_root_mean_square_error_meV"] == 2000.0
    of_forces = in_units("forces", errors)
    assert of_forces["forces_mean_absolute_error_meV_per_angstrom"] == 500.0
    assert in_units("gap", errors) == {
        "gap_mean_absolute_error": 0.5,
        "gap_root_mean_square_error": 2.0,
        "gap_count": 7,
    }


# Errors of labels


def test_each_label_has_its_errors():
    """ΔE of +0.6 of three atoms and −0.2 of two; ΔF of 0.3 in 9 and 0.5 in 6 components; Δσ."""
    pairs = [
        (
            labelled(WATER, energy=-12.0, forces=np.zeros((3, 3)), stress=np.zeros((3, 3))),
            predicted(WATER, -11.4, 0.3, 0.01),
        ),
        (
            labelled(OXYGEN, energy=-20.0, forces=np.ones((2, 3)), stress=np.zeros((3, 3))),
            predicted(OXYGEN, -20.2, 0.5, -0.03),
        ),
    ]
    found = errors_of(pairs)

    def told(mae, square, count):
        return Errors(pytest.approx(mae), pytest.approx(square**0.5), count)

    assert found == {
        "energy": told(0.4, (0.36 + 0.04) / 2, 2),
        "energy_per_atom": told(0.15, (0.04 + 0.01) / 2, 2),
        "forces": told((9 * 0.3 + 6 * 0.5) / 15, (9 * 0.09 + 6 * 0.25) / 15, 15),
        "stress": told(0.02, (0.0001 + 0.0009) / 2, 18),
    }


def test_what_is_missing_counts_nowhere():
    """Neither a label nor a stress that the model does not predict is taken for a zero."""
    bare, none = labelled(WATER), labelled(OXYGEN, stress=np.ones((3, 3)))
    pairs = [
        (bare, predicted(WATER, 5.0, 7.0, 9.0)),
        (none, predicted(OXYGEN, 5.0, 7.0, None)),
        (labelled(OXYGEN, energy=-20.0), predicted(OXYGEN, -19.0, 7.0, 9.0)),
    ]
    assert errors_of(pairs) == {
        "energy": Errors(1.0, 1.0, 1),
        "energy_per_atom": Errors(0.5, 0.5, 1),
    }
    assert errors_of([(bare, predicted(WATER))]) == {}
    found = evaluated(pairs)
    assert (found.forces_by_element, found.forces_by_size) == ({}, {})


def test_the_baseline_is_the_mean_energy_per_atom_above_the_e0s():
    """E0s: −12 of water, −20 of oxygen. With −0.5 an atom the baseline says −13.5 and −21."""
    force, stress = np.full((3, 3), 0.2), np.full((3, 3), -0.04)
    pairs = [
        (labelled(WATER, energy=-14.0, forces=force, stress=stress), predicted(WATER)),
        (labelled(OXYGEN, energy=-20.0), predicted(OXYGEN)),
    ]
    found = evaluated(pairs, mean=-0.5).baseline
    assert found["energy"] == Errors(pytest.approx(0.75), pytest.approx(0.625**0.5), 2)
    per_atom = (0.5 / 3 + 1.0 / 2) / 2
    assert found["energy_per_atom"].mae == pytest.approx(per_atom)
    assert found["forces"] == Errors(pytest.approx(0.2), pytest.approx(0.2), 9)
    assert found["stress"] == Errors(pytest.approx(0.04), pytest.approx(0.04), 9)


def test_a_potential_that_does_not_know_the_mean_is_held_against_the_e0s():
    fake = Fake([predicted(OXYGEN, -20.0)])
    fake.provenance = {}
    found = evaluate_potential(fake, Dataset((labelled(OXYGEN, energy=-20.5),)))
    assert found.baseline["energy"].mae == pytest.approx(0.5)


def test_forces_are_told_by_element():
    """Oxygen is off by 0.1 in each component, hydrogen by 0.4; a structure without labels by 9."""
    forces = np.array([[0.1] * 3, [-0.4] * 3, [0.4] * 3])
    pairs = [
        (labelled(WATER, forces=np.zeros((3, 3))), predicted(WATER, forces=forces)),
        (labelled(OXYGEN, forces=np.zeros((2, 3))), predicted(OXYGEN, forces=0.1)),
        (labelled(OXYGEN, energy=0.0), predicted(OXYGEN, forces=9.0)),
    ]
    found = evaluated(pairs).forces_by_element
    assert found == {
        "H": Errors(pytest.approx(0.4), pytest.approx(0.4), 6),
        "O": Errors(pytest.approx(0.1), pytest.approx(0.1), 9),
    }


def test_forces_are_classed_by_the_length_of_the_reference():
    """References of 0.3, 0.5, 3 and 4 eV/Å, predictions of 5, 0, 0.1 and 4 along the same axis."""
    axis = np.array([0.6, 0.0, 0.8])
    reference, said = (np.outer(x, axis) for x in ([0.3, 0.5, 3.0, 4.0], [5.0, 0.0, 0.1, 4.0]))
    four = [8, 8, 8, 8]
    pair = labelled(four, forces=reference), predicted(four, forces=said)
    found = evaluated([pair]).forces_by_size
    assert list(found) == ["0 to 0.5", "0.5 to 1", "2 to 4", "above 4"]
    per_component = 1.4 / 3  # of |axis|₁, in MAE
    for name, off in (("0 to 0.5", 4.7), ("0.5 to 1", 0.5), ("2 to 4", 2.9), ("above 4", 0.0)):
        assert found[name].count == 3
        assert found[name].mae == pytest.approx(off * per_component)
        assert found[name].rmse == pytest.approx(off / 3**0.5)


def test_kinds_of_configurations_have_their_own_errors():
    pairs = [
        (labelled(OXYGEN, "bulk", energy=-20.0), predicted(OXYGEN, -19.0)),
        (labelled(OXYGEN, "slab", energy=1.5), predicted(OXYGEN, -0.5)),
        (labelled(OXYGEN, "bulk", energy=-20.0), predicted(OXYGEN, -23.0)),
    ]
    found = evaluated(pairs).by_config_type
    assert {k: (e["energy"].mae, e["energy"].count) for k, e in found.items()} == {
        "bulk": (2.0, 2),
        "slab": (2.0, 1),
    }
    assert found["bulk"]["energy"].rmse == pytest.approx(5**0.5)


def test_frames_keep_reference_and_prediction_apart():
    s = labelled(OXYGEN, "bulk", energy=-20.0, forces=np.full((2, 3), 0.25))
    s = replace(s, place=Place("oxygen.extxyz", frame=12))
    record = frame_record(4, s, predicted(OXYGEN, -19.0, 0.5, 0.125))
    assert (record["index"], record["file"], record["frame"]) == (4, "oxygen.extxyz", 12)
    assert (record["energy_reference"], record["energy_predicted"]) == (-20.0, -19.0)
    assert np.array_equal(record["forces_reference"], np.full((2, 3), 0.25))
    assert np.array_equal(record["forces_predicted"], np.full((2, 3), 0.5))
    assert record["stress_reference"] is None
    assert np.array_equal(record["stress_predicted"], np.full((3, 3), 0.125))
    assert (record["config_type"], list(record["numbers"])) == ("bulk", OXYGEN)
    (first, second) = evaluated([(s, predicted(OXYGEN))] * 2).frames
    assert (first["index"], second["index"]) == (0, 1)


def test_the_document_says_units_and_counts():
    pairs = [(labelled(OXYGEN, "bulk", energy=-20.0), predicted(OXYGEN, -19.0))] * 3
    found = evaluated(pairs, mean=0.25, name="valid").to_json()
    assert (found["name"], found["structures"]) == ("valid", 3)
    assert found["errors"]["energy_mean_absolute_error_meV"] == 1000.0
    assert found["errors"]["energy_per_atom_mean_absolute_error_meV_per_atom"] == 500.0
    assert found["mean_baseline"]["energy_mean_absolute_error_meV"] == 500.0
    assert found["by_config_type"]["bulk"]["energy_count"] == 3
    assert "frames" not in found
    assert "units" not in found
    assert len(evaluated(pairs).to_json(frames=True)["frames"]) == 3
    classes = {"H": Errors(0.1, 0.2, 3)}
    document = Evaluation("x", {}, {}, forces_by_element=classes, forces_by_size=classes).to_json()
    for name in ("forces_by_element", "forces_by_size"):
        of_h = document[name]["H"]
        assert of_h["forces_mean_absolute_error_meV_per_angstrom"] == pytest.approx(100.0)


def test_the_public_function_passes_the_name_and_the_progress_on(monkeypatch):
    told = []
    fake = Fake([predicted(OXYGEN)])

    def predict(self, structures, *, advance=None):
        told.append(advance)
        return self.predictions

    monkeypatch.setattr(Fake, "predict", predict)
    data = Dataset((labelled(OXYGEN, energy=-20.0),))
    assert kohn.evaluate(fake, data, name="valid", advance=print).name == "valid"
    assert kohn.evaluate(fake, data).name == "test"
    assert told == [print, None]


def test_nothing_to_compare_with_is_refused():
    with pytest.raises(InputError, match="nothing to compare with"):
        evaluated([(labelled(OXYGEN), predicted(OXYGEN))])


# Properties


class FakeProperties:
    """Says a dipole and a polarizability."""

    targets = ("dipole", "polarizability")
    units = {"dipole": "e·Å", "polarizability": "Å³"}
    provenance = {"means": {"dipole": [1.0, 0.0, 0.0], "polarizability": np.eye(3).tolist()}}

    def predict(self, structures, *, advance=None):
        values = {"dipole": np.array([0.3, 0.0, -0.4]), "polarizability": np.diag([2.0, 2.0, 5.0])}
        return [Prediction(values) for _ in structures]


def test_errors_of_properties_are_of_components_and_of_degrees():
    """Δα = diag(1, 1, 4): degree 0 is 6/√3, degree 2 the length √6 of diag(−1, −1, 2) in five
    components."""
    s = labelled(WATER, dipole=np.zeros(3), polarizability=np.diag([1.0, 1.0, 1.0]))
    (prediction,) = FakeProperties().predict([s])
    pairs = [(s, prediction.values), (labelled(WATER), prediction.values)]
    found = errors_of_properties(pairs)
    assert found["dipole"] == Errors(pytest.approx(0.7 / 3), pytest.approx((0.25 / 3) ** 0.5), 3)
    assert found["polarizability"].count == 9
    assert found["polarizability"].mae == pytest.approx(6 / 9)
    assert found["polarizability_l0"] == Errors(pytest.approx(12**0.5), pytest.approx(12**0.5), 1)
    assert found["polarizability_l2"].count == 5
    assert found["polarizability_l2"].rmse == pytest.approx((6 / 5) ** 0.5)


def test_the_baseline_of_properties_is_their_mean_in_training():
    s = labelled(WATER, dipole=np.zeros(3))
    found = evaluate_properties(FakeProperties(), Dataset((s, replace(s, config_type="b"))))
    assert found.baseline["dipole"] == Errors(pytest.approx(1 / 3), pytest.approx(3**-0.5), 6)
    assert found.errors["dipole"].count == 6
    assert {k: e["dipole"].count for k, e in found.by_config_type.items()} == {"Default": 3, "b": 3}
    assert found.units["dipole"] == "e·Å"
    assert found.frames[0]["dipole_reference"] == [0.0, 0.0, 0.0]
    assert found.frames[0]["dipole_predicted"] == [0.3, 0.0, -0.4]
    with pytest.raises(InputError, match="nothing to compare"):
        evaluate_properties(FakeProperties(), Dataset((labelled(WATER),)))
