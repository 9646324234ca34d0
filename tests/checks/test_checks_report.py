"""The report as tables and as JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from brute_force import structure
from rich.console import Console

from kohn.checks import check
from kohn.checks.composition import e0s_and_findings
from kohn.checks.neighbouring_frames import (
    curvature,
    energy_over_strain_work,
    energy_over_work,
    frame_pairs,
)
from kohn.checks.report import Finding, arrange
from kohn.checks.units import Evidence, _finding_of_evidence
from kohn.errors import InputError
from kohn.records import to_json
from kohn.structures import Dataset, read

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def report():
    data = read(DATA / "ethanol.extxyz")
    silicon = read(DATA / "silicon.extxyz")
    return check({"train": Dataset((*data, *silicon), (*data.sources, *silicon.sources))})


def test_tables(report):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report)
    text = console.export_text()
    for word in ("Structures", "shortest H-C", "REF_forces", "config_type Elastic", "warning"):
        assert word in text


def test_json_is_plain_and_in_full_words(report):
    document = json.loads(to_json(report.to_json()))
    (train,) = document["sets"]
    assert document["ok"] is True
    assert train["frames"] == 73
    assert train["labels"]["stress"] == {
        "frames": 13,
        "coverage": pytest.approx(13 / 73),
        "keys": {"REF_stress": 13},
    }
    assert train["elements"]["C"] == {"frames": 60, "atoms": 120}
    assert 0.9 < train["shortest_distances"]["H-C"]["distance"] < 1.1
    assert train["force_components"]["root_mean_square"] > 0.5
    assert document["reference_energies"]["source"] == "least squares"
    assert all({"kind", "severity", "message", "fix"} <= f.keys() for f in document["findings"])


def test_nothing_to_check():
    with pytest.raises(InputError, match="nothing to check"):
        check({})


def test_the_mapping_says_what_is_trained_on(crystals):
    report = check({"test": crystals(3, seed=5, number=30), "train": crystals(30)})
    assert [f.kind for f in report.findings if f.severity == "error"] == ["unseen-element"]


def test_neighbouring_frames_of_an_exact_crystal(crystals):
    pairs = frame_pairs(crystals(80).structures)
    strained = energy_over_strain_work(pairs)
    assert strained is not None
    assert strained.trusted
    assert strained.value == pytest.approx(1, abs=0.1)


def test_neighbouring_frames_of_a_real_molecule():
    pairs = frame_pairs(read(DATA / "ethanol.extxyz").structures)
    ratio, bent = energy_over_work(pairs), curvature(pairs)
    assert ratio is not None
    assert bent is not None
    assert ratio.trusted
    assert bent.trusted
    assert ratio.value == pytest.approx(1, abs=0.25)
    assert 3 < bent.value < 20


def test_neighbouring_frames_do_not_care_how_frames_are_placed():
    from dataclasses import replace

    from scipy.spatial.transform import Rotation

    data = read(DATA / "ethanol.extxyz")
    moved = []
    for k, s in enumerate(data):
        turn = Rotation.random(random_state=k).as_matrix()
        positions = s.positions @ turn + k
        turned = replace(s, positions=positions)
        moved.append(turned.with_labels(forces=s.labels["forces"] @ turn))
    first, second = frame_pairs(data.structures), frame_pairs(moved)
    np.testing.assert_allclose(first.work, second.work, atol=1e-9)
    np.testing.assert_allclose(first.curvature, second.curvature, atol=1e-9)


def test_findings_come_worst_first_and_then_as_they_were():
    severities = ["note", "warning", "error", "note", "warning"]
    found = [Finding("charge", s, str(k)) for k, s in enumerate(severities)]  # type: ignore[arg-type]
    ordered, _ = arrange(found, ())
    assert [f.message for f in ordered] == ["2", "1", "4", "0", "3"]


def test_two_sentences_about_one_observation_are_a_warning():
    one, same = Evidence("magnitude", "large"), Evidence("magnitude", "very large")
    other = Evidence("strain", "another factor")
    for evidence, severity in (([one, same], "warning"), ([one, other, same], "error")):
        finding = _finding_of_evidence("force-units", "forces", "eV/Å", evidence, "train")
        assert finding is not None
        assert finding.severity == severity


def test_lone_atoms_of_the_test_set_give_no_reference_energies():
    """Those of a validation set do."""
    pair = structure([[0, 0, 0], [2, 0, 0]]).with_labels(energy=np.array(-3.0))
    other = structure([[0, 0, 0], [0, 0, 2.5]]).with_labels(energy=np.array(-2.0))
    atom = structure([[0, 0, 0]]).with_labels(energy=np.array(-0.9))
    for name, expected in (("test", False), ("valid", True)):
        e0s, _ = e0s_and_findings(
            {"train": Dataset((pair, other)), name: Dataset((atom,))}, "train", None
        )
        assert e0s is not None
        assert (e0s.values[14] == -0.9) is expected
