"""The command line: documents on stdout, messages on stderr, exit codes.

A process of its own where that is what is tested; it takes seconds to start.
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import kohn
from kohn.models import Mace, MaceConfig
from kohn.potential import Potential, save

DATA = Path(kohn.__file__).parent / "data"


def cli(*arguments, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run `kohn` and look at its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "kohn.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A random model of hydrogen, carbon and oxygen."""
    config = MaceConfig(
        channels=4, hidden_l_max=0, l_max=1, correlation=2, radial_widths=(8,), cutoff=4.0
    )
    mace = Mace.init(jax.random.key(0), config, (1, 6, 8), neighbours=8.0, dtype=np.float32)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(Potential(mace, {1: -13.6, 6: -1030.0, 8: -2040.0}), path)
    return path


@pytest.fixture(scope="module")
def ethanol(tmp_path_factory) -> Path:
    """Ten frames."""
    lines = (DATA / "ethanol" / "test.extxyz").read_text().splitlines()
    path = tmp_path_factory.mktemp("ethanol") / "ethanol.extxyz"
    path.write_text("\n".join(lines[:110]) + "\n")
    return path


@pytest.mark.slow
def test_check_gives_one_document(ethanol):
    document = json.loads(cli("check", ethanol, "--json").stdout)
    assert document["sets"]
    assert "findings" in document
    assert "ethanol" not in cli("check", ethanol).stderr


@pytest.mark.slow
def test_check_fails_with_one(ethanol, kohn_cli):
    """A test file that is the training file."""
    code, said, _ = kohn_cli("check", ethanol, "--test", ethanol, "--json")
    assert code == 1
    assert any(f["severity"] == "error" for f in json.loads(said)["findings"])


@pytest.mark.slow
def test_eval_predict_and_read_back(model, ethanol, tmp_path, kohn_cli):
    code, said, _ = kohn_cli("eval", model, ethanol, "--json")
    assert code == 0
    assert json.loads(said)["errors"]["forces_count"] == 10 * 9 * 3
    out = tmp_path / "out.extxyz"
    said = json.loads(cli("predict", model, ethanol, "-o", out, "--json").stdout)
    from ase.io import read

    frames = read(out, index=":")
    assert len(frames) == said["structures"] == 10
    predicted = kohn.load(model).predict(kohn.read(ethanol).structures)
    for atoms, p in zip(frames, predicted, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(p.energy, abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), p.forces, atol=1e-6)
    assert kohn_cli("predict", model, ethanol, "-o", out)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eval", "none.safetensors", DATA / "ethanol" / "test.extxyz"], "no such model file"),
        (["check", "none.xyz"], "none.xyz"),
        (["template", "trian"], "did you mean 'train'"),
        (["train", "none.yaml"], "cannot read the configuration"),
        (["report", "."], "fix"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments, said, kohn_cli):
    code, out, err = kohn_cli(*arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.slow
def test_errors_are_documents_too(tmp_path):
    done = cli("check", "none.xyz", "--json", code=2, cwd=tmp_path)
    assert json.loads(done.stdout)["error"]["message"]
    assert "Traceback" not in done.stderr


def test_the_template_can_be_used(kohn_cli):
    import yaml

    assert yaml.safe_load(kohn_cli("template", "train")[1])["model"]["family"] == "mace"


@pytest.mark.parametrize(
    "command", ["check", "template", "train", "eval", "predict", "report", "demo"]
)
def test_help_has_an_example(command, kohn_cli):
    code, said, _ = kohn_cli(command, "--help")
    assert code == 0
    assert "Example" in said
