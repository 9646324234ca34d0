"""What the command line says to bad input; in one process, so that it is fast."""

import json
import os
from pathlib import Path

import pytest

import kohn
from kohn.cli import app

DATA = Path(kohn.__file__).parent / "data"


@pytest.fixture
def ethanol(tmp_path) -> Path:
    """Twenty frames."""
    lines = (DATA / "ethanol" / "train.extxyz").read_text().splitlines()
    path = tmp_path / "ethanol.extxyz"
    path.write_text("\n".join(lines[:220]) + "\n")
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "Missing argument 'files'."),
        (["chekc"], "No such command 'chekc'."),
        (["train", "x.yaml", "--steps", "0"], "--steps"),
        (["predict", "model", "x.xyz"], "--out"),
    ],
)
def test_usage_errors_are_documents_too(kohn_cli, arguments, message):
    code, out, err = kohn_cli(*arguments, "--json")
    error = json.loads(out)["error"]
    assert code == 2
    assert message in error["message"]
    assert "--help" in error["fix"]
    assert error["message"] in err


@pytest.mark.parametrize("key", ["energy", "energy=", "=total"])
def test_a_key_without_a_key(kohn_cli, ethanol, key):
    code, _, err = kohn_cli("check", ethanol, "--key", key)
    assert code == 2
    assert repr(key) in err


def test_a_label_named_twice(kohn_cli, ethanol):
    arguments = ["--key", "energy=REF_energy", "--key", "energy=total"]
    assert "named twice" in kohn_cli("check", ethanol, *arguments)[2]


def test_what_the_system_refuses(kohn_cli, monkeypatch, ethanol):
    def full(document):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(app, "emit", full)
    monkeypatch.setattr(app, "show_error", lambda error, json: print(error))
    code, out, _ = kohn_cli("check", ethanol, "--json")
    assert code == 2
    assert "No space left on device" in out


def test_interrupted(monkeypatch, capsys):
    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(app, "app", lambda standalone_mode: app.STOPPED)
    monkeypatch.setattr(os, "_exit", leave)
    for command, resumable in (("train", True), ("check", False)):
        monkeypatch.setattr("sys.argv", ["kohn", command])
        with pytest.raises(SystemExit) as end:
            app.main()
        assert end.value.code == 130
        said = capsys.readouterr().err
        assert "stopped" in said
        assert ("--resume" in said) == resumable


def test_predict_looks_at_the_output_folder_first(kohn_cli, ethanol):
    code, _, err = kohn_cli("predict", "no.model", ethanol, "-o", "missing/out.xyz")
    assert code == 2
    assert "folder of the output file does not exist" in err


def test_train_takes_keys_and_allowances(kohn_cli, monkeypatch, ethanol):
    """They come to the settings, where no configuration is written."""
    seen = {}

    def remember(source, folder, resume, sections, console):
        seen.update(sections)
        return {}

    monkeypatch.setattr("kohn.cli.training.run_training", remember)
    given = ["--key", "energy=total", "--allow", "outlier-force", "--not-periodic"]
    assert kohn_cli("train", ethanol, *given)[0] == 0
    assert seen["data"] == {
        "keys": {"energy": "total"},
        "allow": ["outlier-force"],
        "periodic": False,
    }


@pytest.mark.slow
def test_the_run_folder_cannot_be(kohn_cli, ethanol):
    for folder, message in (
        (ethanol, "the run folder is a file"),
        (ethanol / "run", "cannot make the folder"),
    ):
        code, out, err = kohn_cli("train", ethanol, "--out", folder, "--json")
        assert code == 2
        assert message in json.loads(out)["error"]["message"]
        assert message in err
