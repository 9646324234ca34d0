"""Properties from the command line: train, report, predict, eval, and what is refused."""

import json

import numpy as np
import pytest
from brute_force import structure

from kohn.structures import read, write


@pytest.fixture
def waters(tmp_path):
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(12):
        x = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + 0.05 * rng.normal(size=(3, 3))
        dipole = 0.3 * (x[1] + x[2] - 2 * x[0])
        frames.append(structure(x, [8, 1, 1]).with_labels(dipole=dipole))
    write(frames, tmp_path / "waters.extxyz")
    (tmp_path / "small.yaml").write_text(
        "data: {train: [waters.extxyz]}\ntargets: [dipole]\n"
        "model: {channels: 4, layers: 1, radial_widths: [8]}\nrun: {epochs: 2}\n"
    )
    return tmp_path


@pytest.mark.slow
def test_train_predict_eval_and_what_is_refused(waters, kohn_cli):
    code, _, said = kohn_cli("train", "small.yaml", "--out", "run")
    assert code == 0
    assert "Dipole" in said  # the table at the end: lines on the way depend on the clock
    page = (waters / "run" / "report.html").read_text()
    assert "Dipole, components" in page
    assert "e·Å" in page

    code, out, _ = kohn_cli("predict", "run", "waters.extxyz", "-o", "out.extxyz", "--json")
    assert code == 0
    told = json.loads(out)["dipole"]
    written = read(waters / "out.extxyz", keys={"dipole": "dipole"})
    np.testing.assert_array_equal(told, [s.labels["dipole"] for s in written])

    code, out, _ = kohn_cli("eval", "run", "waters.extxyz", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["errors"]["dipole_count"] == 36
    assert document["structures"] == 12
    assert document["units"] == {"dipole": "e·Å"}
    errors = np.asarray(told) - [s.labels["dipole"] for s in read(waters / "waters.extxyz")]
    mae = document["errors"]["dipole_mean_absolute_error"]
    assert mae == pytest.approx(np.abs(errors).mean(), rel=1e-12)

    code, _, said = kohn_cli("audit", "run", "waters.extxyz")
    assert code == 2
    assert "model of dipole" in said
    code, _, said = kohn_cli("predict", "run", "waters.extxyz", "-o", "b.xyz", "--uncertainty")
    assert code == 2
    assert "no uncertainty" in said


def test_a_target_that_no_frame_has(waters, kohn_cli):
    code, _, said = kohn_cli("train", "waters.extxyz", "--target", "gap", "--out", "run")
    assert code == 2
    assert "a structure has no gap" in said
    assert "write gap=…" in said
