"""What strangers type: odd labels, wrong files, swapped arguments, other suffixes."""

import json
import pickle
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import kohn
from kohn.models import SchNet, SchNetConfig
from kohn.potential import Potential, save

CELL = 'Lattice="4 0 0 0 4 0 0 0 4"'
ROWS = "Cu 0 0 0\nCu 2 2 2\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    config = SchNetConfig(channels=4, layers=1, cutoff=3.0)
    network = SchNet.init(jax.random.key(0), config, (29,), neighbours=8.0, dtype=np.float32)
    path = tmp_path_factory.mktemp("model") / "toy.safetensors"
    save(Potential(network, {29: -3.0}), path)
    return path


@pytest.fixture
def given(tmp_path):
    def write(comment: str, rows: str = ROWS, name: str = "x.xyz") -> Path:
        (tmp_path / name).write_text(f"{len(rows.splitlines())}\n{comment}\n{rows}")
        return tmp_path / name

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    "comment",
    [
        'stress="nan nan nan nan nan nan nan nan nan"',
        "energy=None",
        'pbc="T T F" virial="1 2 3 4 5 6 7 8 9"',
        'REF_dipole="1 2"',
        "config_weight=high",
    ],
)
def test_predict_and_describe_need_no_labels(kohn_cli, model, given, comment):
    path = given(f"{CELL} {comment}")
    assert kohn_cli("predict", model, path, "-o", "o.xyz")[0] == 0
    assert not kohn.read("o.xyz")[0].labels
    settings = ["--set", "r_cut=4", "--set", "n_max=2", "--set", "l_max=1"]
    assert kohn_cli("describe", path, "-d", "soap", *settings, "-o", "o.npz")[0] == 0
    assert kohn_cli("similarity", path, path, *settings)[0] == 0


def test_what_was_left_out_is_said(kohn_cli, model, given):
    _, _, err = kohn_cli("predict", model, given(f"{CELL} energy=nan"), "-o", "o.xyz")
    assert "left out: the label energy is not finite" in err
    assert "line 2" in err


def test_predicted_twice_and_evaluated(kohn_cli, model, given):
    path = given(CELL)
    kohn_cli("predict", model, path, "-o", "a.xyz")
    kohn_cli("predict", model, "a.xyz", "-o", "b.xyz")
    assert "REF_" not in Path("b.xyz").read_text()
    code, _, err = kohn_cli("eval", model, "a.xyz")
    assert code == 2
    assert "predictions of a model, which are not references" in err
    code, out, _ = kohn_cli("eval", model, "a.xyz", "--key", "energy=energy", "--json")
    assert code == 0
    assert json.loads(out)["errors"]["energy_count"] == 1


def test_check_can_be_told_to_go_on(kohn_cli, given):
    path = given(f"{CELL} energy=nan forces_unknown=1")
    with path.open("a") as more:
        more.write(f"2\n{CELL} energy=-1\n{ROWS}")
    assert kohn_cli("check", path)[0] == 1
    assert kohn_cli("check", path, "--allow", "nonfinite-label")[0] == 0


@pytest.mark.parametrize("out", ["o.csv", "o.json", "o.traj", "o"])
def test_predict_writes_what_the_suffix_says_or_refuses(kohn_cli, model, given, out):
    code, _, err = kohn_cli("predict", model, given(CELL), "-o", out)
    assert code == 2
    assert ".extxyz or .xyz" in err
    assert not Path(out).exists()


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"")


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("m.model", write_zip, "this is a PyTorch or other zip file"),
        ("m.pkl", lambda p: p.write_bytes(pickle.dumps({})), "this is a pickle"),
        ("m.h5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n"), "this is an HDF5 file"),
        ("m.xyz", lambda p: p.write_text("1\n\nH 0 0 0\n"), "this is a file of structures"),
        ("m.yaml", lambda p: p.write_text("model: mace\n"), "this is a configuration"),
        ("m.db", lambda p: p.write_bytes(b"SQLite format 3\0"), "this is a file of structures"),
        ("m.safetensors", lambda p: p.write_bytes(bytes(range(200, 256))), "damaged"),
    ],
)
def test_other_files_in_the_place_of_a_model(kohn_cli, given, name, write, said):
    write(Path.cwd() / name)
    code, _, err = kohn_cli("predict", name, given(CELL), "-o", "o.xyz")
    assert code == 2
    assert said in err
    assert "fix" in err


def test_swapped_arguments(kohn_cli, model, given):
    _, _, err = kohn_cli("predict", given(CELL), model, "-o", "o.xyz")
    assert "name the model first, then the structures" in err


def test_version(kohn_cli):
    code, out, _ = kohn_cli("--version")
    assert code == 0
    assert out.startswith(f"kohn {kohn.__version__} ")


def test_what_is_unlike_the_training_data_is_said(kohn_cli, model, given):
    potential = kohn.load(model)
    seen = {"shortest": [[29, 29, 3.4]], "loneliest": [[29, 3.5]]}
    save(Potential(potential.model, potential.e0s, {"seen": seen}), "m.safetensors")
    code, out, err = kohn_cli(
        "predict", "m.safetensors", given("", "Cu 0 0 0\nCu 0 0 2\n"), "-o", "o.xyz", "--json"
    )
    assert code == 0
    assert "Cu–Cu at 2.00 Å, in the training data 3.40 Å or more" in err
    assert ".py" not in err
    assert json.loads(out)["outside"] == [0]


def test_public_names():
    assert dir(kohn) == sorted(kohn.__all__)
    for name in kohn.__all__:
        assert getattr(kohn, name) is not None
