"""Training in process: what is refused, what is recorded, what comes out."""

import json

import jax
import numpy as np
import pytest
from ase import Atoms

import kohn
from kohn.errors import CheckFailed, ConfigError, InputError, ModelFileError, TrainingError
from kohn.progress import Progress
from kohn.records import read_records
from kohn.training import TrainSettings, template, train
from kohn.training.losses import LossWeights, penalty
from kohn.training.settings import parse, to_yaml


@pytest.fixture(scope="module")
def tiny(tiny):
    """The family that is trained by default."""
    small = {"channels": 4, "hidden_l_max": 0, "l_max": 1, "correlation": 2, "n_bessel": 4}
    return {**tiny, "model": {**small, "radial_widths": [8], "cutoff": 4.0}}


@pytest.fixture(scope="module")
def run(tmp_path_factory, ethanol, tiny):
    """A finished tiny run with a test file."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    data = kohn.read(ethanol)
    kohn.write(data[20:], folder.parent / "test.extxyz")
    kohn.write(data[:20], folder.parent / "train.extxyz")
    train(
        folder.parent / "train.extxyz",
        out=folder,
        data={"test": [str(folder.parent / "test.extxyz")]},
        **tiny,
    )
    return folder


@pytest.mark.slow
def test_a_run_leaves_what_it_says(run):
    records = list(read_records(run / "records.jsonl"))
    assert [r["kind"] for r in records] == ["start", *["epoch"] * 4]
    assert records[0]["train_structures"] + records[0]["valid_structures"] == 20
    assert max(r["compilations"] for r in records[1:]) <= 4 + 1
    evaluation = json.loads((run / "evaluation-test.json").read_text())
    assert evaluation["errors"]["forces_count"] == 4 * 9 * 3
    potential = kohn.load(run)
    assert potential.provenance["sources"][0]["keys"]["energy"] == {"REF_energy": 20}
    unknown = dict.fromkeys(("functional", "scheme", "source"), "unknown")
    assert potential.provenance["labels"] == [{**unknown, "structures": 20}]
    assert "seconds" not in json.dumps(potential.provenance)


@pytest.mark.slow
def test_the_saved_model_is_the_trained_one(run, ethanol):
    """Evaluation from the file gives what the run recorded."""
    found = kohn.evaluate(kohn.load(run), kohn.read(run.parent / "test.extxyz")).to_json()
    recorded = json.loads((run / "evaluation-test.json").read_text())
    assert found["errors"] == recorded["errors"]


@pytest.mark.slow
def test_fine_tuning_keeps_shared_elements(run, tmp_path, tiny):
    """Elements are remapped: with no step taken, old elements predict as before."""
    start = kohn.load(run)
    model = start.model.for_elements((1, 6, 7, 8), jax.random.key(0))
    bigger = kohn.Potential(model, {**start.e0s, 7: -1.0})
    data = kohn.read(run.parent / "test.extxyz")
    before, after = (p.predict(data.structures) for p in (start, bigger))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a.forces, b.forces, atol=2e-5)


@pytest.mark.slow
def test_init_from_starts_there(run, tmp_path, tiny):
    tuned = train(
        run.parent / "train.extxyz",
        out=tmp_path / "tuned",
        run={**tiny["run"], "init_from": str(run / "model.safetensors"), "epochs": 1},
        optimiser={"learning_rate": 1e-9},
    )
    data = kohn.read(run.parent / "test.extxyz")
    for a, b in zip(
        kohn.load(run).predict(data.structures), tuned.predict(data.structures), strict=True
    ):
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-3)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_the_frame(run, tmp_path, tiny):
    with pytest.raises(TrainingError, match="diverged") as caught:
        train(
            run.parent / "train.extxyz",
            out=tmp_path / "run",
            optimiser={"learning_rate": 1e30, "warmup_steps": 0},
            **tiny,
        )
    assert "train.extxyz" in str(caught.value)
    assert "frame" in str(caught.value)


@pytest.mark.slow
def test_a_rate_that_is_far_too_high_stops_the_run_with_advice(run, tmp_path, tiny):
    """The loss stays finite, and no frame is to blame."""
    with pytest.raises(TrainingError, match="made the model worse") as caught:
        train(
            run.parent / "train.extxyz",
            out=tmp_path / "run",
            optimiser={"learning_rate": 1.0, "warmup_steps": 0, "schedule": "constant"},
            **tiny,
        )
    assert "0.33 instead of 1" in str(caught.value)
    assert (tmp_path / "run" / "records.jsonl").exists()


@pytest.mark.slow
def test_a_full_disk_loses_nothing(run, tmp_path, tiny, monkeypatch):
    """A checkpoint that cannot be written stops the run; the one before is intact."""
    import errno
    import os

    from kohn.training import checkpoints

    whole = checkpoints.save
    calls = []

    def sometimes(folder, *arguments):
        calls.append(folder)
        if len(calls) == 3:
            full = OSError(errno.ENOSPC, "No space left on device")
            monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(full))
        whole(folder, *arguments)

    monkeypatch.setattr(checkpoints, "save", sometimes)
    folder = tmp_path / "run"
    source = run.parent / "train.extxyz"
    test = {"data": {"test": [str(run.parent / "test.extxyz")]}}
    with pytest.raises(TrainingError, match="No space left"):
        train(source, out=folder, **test, **tiny)
    monkeypatch.undo()
    train(source, out=folder, resume=True, **test, **tiny)
    assert (folder / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_checkpoint_of_other_settings_is_refused(run, tiny):
    other = {**tiny, "run": {**tiny["run"], "seed": 99}}
    with pytest.raises(ModelFileError, match="other settings"):
        train(run.parent / "train.extxyz", out=run, resume=True, **other)


def refused(error, source, tmp_path, match, **sections):
    """`train` refuses, before any step, and says why."""
    steps = []
    told = Progress(work=lambda *a: steps.append(a))
    with pytest.raises(error, match=match):
        train(source, out=tmp_path / "out", progress=told, **sections)
    assert not steps


def test_no_labels(tmp_path, ethanol):
    bare = [kohn.structures.to_ase(s) for s in kohn.read(ethanol)]
    for atoms in bare:
        atoms.calc = None
    refused((InputError, CheckFailed), bare_file(tmp_path, bare), tmp_path, "label|no structure")


def bare_file(folder, atoms):
    """Structures without labels."""
    path = folder / "bare.xyz"
    from ase.io import write

    write(path, [Atoms(a.numbers, a.positions) for a in atoms], format="extxyz")
    return path


def test_stress_wanted_where_there_is_none(tmp_path, ethanol):
    refused(
        InputError,
        ethanol,
        tmp_path,
        "the loss wants stress",
        loss={"weights": {"stress": 1.0}},
    )


def test_test_frames_that_occur_in_train(tmp_path, ethanol):
    refused(CheckFailed, ethanol, tmp_path, "occur", data={"test": [str(ethanol)]})


def test_too_few_frames(tmp_path, ethanol):
    one = tmp_path / "one.extxyz"
    kohn.write(kohn.read(ethanol)[:1], one)
    refused((InputError, CheckFailed), one, tmp_path, "few")


def test_the_run_folder_exists(tmp_path, ethanol):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    refused(ConfigError, ethanol, tmp_path, "exists already")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_nothing_to_resume(tmp_path, ethanol):
    with pytest.raises(ConfigError, match="no run to resume"):
        train(ethanol, out=tmp_path / "none", resume=True)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"data": {"train": ["a"]}, "modle": {}}, "did you mean 'model'"),
        ({"data": {"train": ["a"]}, "model": {"chanels": 3}}, "did you mean 'channels'"),
        ({"data": {"train": ["a"]}, "run": {"steps": -1}}, "run.steps"),
        ({"data": {}}, "data.train"),
        ([1], "mapping"),
    ],
)
def test_bad_settings(document, message):
    with pytest.raises(ConfigError, match=message):
        parse(document)


def test_the_template_is_its_own_defaults():
    import yaml

    assert parse(yaml.safe_load(template())) == parse(
        {"data": {"train": ["train.extxyz"], "test": ["test.extxyz"]}}
    )
    settings = TrainSettings.model_validate({"data": {"train": ["a"]}})
    assert parse(yaml.safe_load(to_yaml(settings))) == settings


def test_huber_agrees_with_the_square_inside_and_is_linear_outside():
    x = np.linspace(-3, 3, 61)
    found = np.asarray(penalty(x, 1.0))
    inside = np.abs(x) <= 1
    np.testing.assert_allclose(found[inside], x[inside] ** 2)
    np.testing.assert_allclose(found[~inside], 2 * np.abs(x[~inside]) - 1)
    assert LossWeights(1, 2, 3).forces == 2


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bytes_in_eigenbases(run, tmp_path, tiny):
    """The state has bases of every matrix; stopped after the second of four epochs."""

    def stop(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    source, chosen = run.parent / "train.extxyz", {"optimiser": {"kind": "eigen-adam"}, **tiny}
    train(source, out=tmp_path / "whole", **chosen)
    with pytest.raises(KeyboardInterrupt):
        train(source, out=tmp_path / "broken", progress=Progress(record=stop), **chosen)
    train(source, out=tmp_path / "broken", resume=True, **chosen)
    whole, broken = (tmp_path / name / "last.safetensors" for name in ("whole", "broken"))
    assert whole.read_bytes() == broken.read_bytes()
