"""A run that is killed and resumed ends with the same bytes as one left alone: real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

MOMENTS = 20
EPOCHS = 12


def start(settings: Path, out: Path, *, resume: bool) -> subprocess.Popen:
    """`kohn train` in a process group of its own."""
    command = [sys.executable, "-m", "kohn.cli", "train", str(settings), "--out", str(out)]
    return subprocess.Popen(
        [*command, *(["--resume"] if resume else [])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


@pytest.fixture(scope="module")
def alone(tmp_path_factory, ethanol, tiny):
    """Settings, the bytes of the model of a run left alone, and its wall time."""
    folder = tmp_path_factory.mktemp("alone")
    document = {
        "data": {"train": [str(ethanol)]},
        "model": tiny["model"],
        # The checkpoint is written after every epoch, so that many kills fall into a write.
        "run": {**tiny["run"], "epochs": EPOCHS, "checkpoint_every": 1},
    }
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump(document))
    finish(start(settings, folder / "first", resume=False))  # compiles; the next one is timed
    started = time.monotonic()
    finish(start(settings, folder / "run", resume=False))
    wall = time.monotonic() - started
    model = (folder / "run" / "model.safetensors").read_bytes()
    assert model == (folder / "first" / "model.safetensors").read_bytes()
    return settings, model, wall


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_and_resumed_is_the_same(alone, tmp_path, moment):
    settings, model, wall = alone
    out = tmp_path / "run"
    process = start(settings, out, resume=False)
    try:
        process.wait(timeout=wall * (moment + 0.5) / MOMENTS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finish(start(settings, out, resume=(out / "settings.yaml").exists()))
    assert (out / "model.safetensors").read_bytes() == model
    assert not list(out.glob(".*")), "a temporary file was left behind"


@pytest.mark.slow
def test_another_seed_is_another_model(alone, tmp_path):
    """The comparison above can fail."""
    settings, model, _ = alone
    document = yaml.safe_load(settings.read_text())
    document["run"]["seed"] += 1
    other = tmp_path / "settings.yaml"
    other.write_text(yaml.safe_dump(document))
    finish(start(other, tmp_path / "run", resume=False))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != model
