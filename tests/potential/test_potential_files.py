"""Model files: exact, the same bytes again, and refused with a reason when they are not right."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from kohn import modelfile
from kohn.errors import ModelFileError
from kohn.models import Mace, MaceConfig
from kohn.potential import Potential, load, save
from kohn.potential.files import arrays_by_name, metadata, to_bytes

CONFIG = MaceConfig(
    cutoff=4.0, channels=2, l_max=1, correlation=2, radial_widths=(4,), readout_width=3
)


def potential(dtype=np.float32, seed: int = 0, **changes) -> Potential:
    model = Mace.init(
        jax.random.key(seed),
        CONFIG.model_copy(update=changes),
        (1, 8),
        neighbours=3.3,
        scale=0.7,
        dtype=dtype,
    )
    return Potential(model, {1: -13.587222780835477, 8: -2041.9816003861047}, {"note": "Å é"})


@cache
def some_bytes() -> bytes:
    return to_bytes(potential())


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    save(potential(), path)
    return path


def assert_equal(a: Potential, b: Potential):
    x, y = arrays_by_name(a.model), arrays_by_name(b.model)
    assert x.keys() == y.keys()
    for name in x:
        assert x[name].dtype == y[name].dtype
        np.testing.assert_array_equal(x[name], y[name])
    assert a.model.config == b.model.config
    assert (a.elements, a.cutoff, a.dtype) == (b.elements, b.cutoff, b.dtype)
    assert a.model.neighbours == b.model.neighbours
    assert a.e0s == b.e0s
    assert a.provenance == b.provenance
    assert jax.tree.structure(a.model) == jax.tree.structure(b.model)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "changes",
    [{}, {"hidden_l_max": 0, "zbl": True}, {"residual_first": True, "element_maps": True}],
    ids=str,
)
def test_round_trip_is_exact(tmp_path, dtype, changes):
    p = potential(dtype, **changes)
    save(p, tmp_path / "a.safetensors")
    assert_equal(load(tmp_path / "a.safetensors"), p)


def test_the_same_potential_gives_the_same_bytes(path, tmp_path):
    assert path.read_bytes() == some_bytes()
    save(load(path), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == some_bytes()
    assert to_bytes(potential(seed=1)) != some_bytes()


def test_a_run_folder_opens(path):
    assert_equal(load(path.parent), load(path))


def test_no_pickle_and_one_metadata_key(path):
    with safetensors.safe_open(str(path), framework="numpy") as file:
        assert list(file.metadata()) == ["kohn"]
        meta = json.loads(file.metadata()["kohn"])
    assert meta["kind"] == "potential"
    assert meta["conservative"] is True
    assert meta["dtype"] == "float32"
    assert meta["units"]["stress"] == "eV/Å³, positive in tension"
    assert meta["e0s"] == {"1": -13.587222780835477, "8": -2041.9816003861047}
    assert list(meta) == sorted(meta)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelFileError, match=r"(?s)damaged.*model\.safetensors"):
        load(path)


def test_longer_files_are_refused(path):
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ModelFileError):
        load(path)


def split(data: bytes) -> int:
    """Where the header ends and the weights begin."""
    return 8 + int.from_bytes(data[:8], "little")


def opens(path: Path, data: bytes) -> bool:
    """Whether damaged bytes open without a word; any other error than ours fails the test."""
    path.write_bytes(data)
    try:
        load(path)
    except ModelFileError:
        return False
    return True


def test_a_flipped_bit_in_the_weights_is_seen(tmp_path, rng):
    data = some_bytes()
    path = tmp_path / "flipped.safetensors"
    for place in rng.integers(split(data), len(data), 40):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        assert not opens(path, bytes(damaged))


def test_a_flipped_bit_in_names_and_offsets_is_seen(tmp_path, rng):
    data = some_bytes()
    start, end = data.index(b'"data_offsets"') - 60, split(data)
    path = tmp_path / "flipped.safetensors"
    for place in rng.integers(start, end, 60):
        damaged = bytearray(data)
        damaged[place] ^= 1
        if bytes([damaged[place]]).isspace() or data[place : place + 1].isspace():
            continue  # padding of the header
        assert not opens(path, bytes(damaged)), data[place - 20 : place + 20]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"-2041.98", b"-2041.18"), (b'cutoff\\": 4.0', b'cutoff\\": 3.0'), (b"3.3", b"3.2")],
    ids=["E0", "cutoff", "neighbours"],
)
def test_a_changed_digit_in_the_metadata_is_seen(tmp_path, old, new):
    data = some_bytes()
    assert old in data
    assert not opens(tmp_path / "changed.safetensors", data.replace(old, new))


def test_other_safetensors_files_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"weight": np.ones(3)}, path)
    with pytest.raises(ModelFileError, match="not one that Kohn wrote"):
        load(path)
    safetensors.numpy.save_file({"weight": np.ones(3)}, path, metadata={"kohn": "{not json"})
    with pytest.raises(ModelFileError, match="metadata of the model file is damaged"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04pickle", b"\xff" * 64])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"(?s)no such model file.*nowhere"):
        load(tmp_path / "nowhere.safetensors")
    with pytest.raises(ModelFileError, match="no such model file"):
        load(tmp_path)  # a folder without a model


def rewritten(path: Path, p: Potential, arrays=None, **changes) -> Path:
    """A file with sound checksum whose metadata or arrays are not what they should be."""
    meta = {**metadata(p), **changes}
    meta = {k: v for k, v in meta.items() if v is not None}
    modelfile.write(path, arrays or arrays_by_name(p.model), meta)
    return path


def test_a_later_format_says_which_version_opens_it(path):
    rewritten(path, potential(), format=modelfile.FORMAT + 1, kohn="9.1")
    with pytest.raises(ModelFileError, match=r"(?s)later format.*format 3.*kohn>=9\.1"):
        load(path)


def test_a_mace_of_the_first_format_has_a_map_for_each_element(path):
    """Its file does not say so, because there was nothing else."""
    old = potential(hidden_l_max=1, element_maps=True)
    config = {k: v for k, v in metadata(old)["config"].items() if k != "element_maps"}
    rewritten(path, old, format=1, config=config)
    assert_equal(load(path), old)
    rewritten(path, old, config=config | {"element_maps": False})
    with pytest.raises(ModelFileError, match="do not fit the configuration"):
        load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"family": "mice"}},
        {"config": {"family": "mace", "chanels": 3}},
        {"config": {"family": "mace", "channels": -3}},
        {"config": None},
        {"elements": None},
        {"e0s": None},
        {"dtype": "float12"},
    ],
    ids=str,
)
def test_unknown_descriptions_are_refused(path, changes):
    rewritten(path, potential(), **changes)
    with pytest.raises(ModelFileError, match="does not know"):
        load(path)


def test_weights_must_fit_the_configuration(path):
    p = potential()
    arrays = arrays_by_name(p.model)
    for wrong in (
        {k: v for k, v in arrays.items() if k != "scale"},
        {**arrays, "superfluous": np.ones(2, np.float32)},
        {**arrays, "embedding.weight": arrays["embedding.weight"][:1]},
        {**arrays, "scale": arrays["scale"].astype(np.float64)},
    ):
        rewritten(path, p, wrong)
        with pytest.raises(ModelFileError, match=r"weights do not fit|another shape or type"):
            load(path)


def test_checkpoints_are_not_potentials(path):
    modelfile.write(path, {"best": np.ones(3)}, {"kind": "checkpoint"})
    with pytest.raises(ModelFileError):
        load(path)


def test_writing_replaces_whole_files_only(path):
    before = path.read_bytes()
    bad = replace(potential(), provenance={"bad": object()})
    with pytest.raises(TypeError):
        save(bad, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
