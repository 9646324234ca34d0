"""A run that is killed and resumed ends with the same bytes as one left alone: real processes.

Thirty and more kills at random moments are a benchmark: `python -m benchmarks.kills`.
"""

import json
import signal
import subprocess
import sys

import killing
import pytest
import yaml

import kohn
from kohn.records import read_records
from kohn.training.train import SETTINGS

EPOCHS = 6


@pytest.fixture(scope="module")
def alone(tmp_path_factory, ethanol, tiny):
    """Settings, and the folder of a run left alone."""
    folder = tmp_path_factory.mktemp("alone")
    document = {
        "data": {"train": [str(ethanol)]},
        "model": tiny["model"],
        "run": {"epochs": EPOCHS, "batch_size": 4, "seed": 3, "checkpoint_every": 1},
    }
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump(document))
    kohn.train(settings, out=folder / "run")
    return settings, folder / "run"


def epochs(folder):
    """Of the records; their times and compilations differ from run to run."""
    vary = ("seconds", "compilations")
    rows = [r for r in read_records(folder / "records.jsonl") if r["kind"] == "epoch"]
    return [{k: v for k, v in r.items() if k not in vary} for r in rows]


@pytest.fixture(scope="module")
def killed(alone, tmp_path_factory):
    """A folder with the run of each stage, and which signal ended it."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, killing.__file__, alone[0], folder]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr
    return folder, json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("stage", killing.STAGES)
def test_killed_and_resumed_is_the_same(alone, killed, stage):
    settings, expected = alone
    folder, signals = killed
    out = folder / str(list(killing.STAGES).index(stage))
    assert signals[stage] == signal.SIGKILL
    kohn.train(settings, out=out, resume=(out / SETTINGS).exists())
    for name in ("model.safetensors", "last.safetensors", "evaluation-valid.json"):
        assert (out / name).read_bytes() == (expected / name).read_bytes()
    assert epochs(out) == epochs(expected)
    assert [r["epoch"] for r in epochs(out)] == list(range(1, EPOCHS + 1))
    assert not list(out.glob(".*")), "a temporary file was left behind"


@pytest.mark.slow
def test_another_seed_is_another_model(alone, tmp_path):
    """The comparison above can fail."""
    settings, expected = alone
    kohn.train(settings, out=tmp_path / "run", run={"seed": 4, "epochs": EPOCHS})
    other = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert other != (expected / "model.safetensors").read_bytes()
