"""Runs that learn dipoles, polarizabilities and scalars, and labels that are refused."""

from dataclasses import replace

import numpy as np
import pytest
from brute_force import random_rotation, structure

import kohn
from kohn.errors import ConfigError, InputError, KohnError, ModelFileError
from kohn.models.heads.properties import PropertyConfig
from kohn.progress import Progress
from kohn.structures import Dataset, read, write
from kohn.training import train
from kohn.training.loop import LAST
from kohn.training.properties import Ions, Statistics, refuse_unlearnable_labels
from kohn.training.settings import parse

TARGETS = ["dipole", "polarizability", "gap", "size"]
SMALL = {
    "targets": TARGETS,
    "model": {"cutoff": 3.0, "channels": 8, "layers": 2, "radial_widths": [16]},
    "heads": {"extensive": ["size"]},
    "optimiser": {"warmup_steps": 10, "ema": 0.9},
}


def water(i):
    """A bent molecule in any orientation: charges, a polarizability of its bonds, a gap that its
    angle decides, and a size that atoms add to."""
    rng = np.random.default_rng([7, i])
    r, angle = 1 + 0.1 * rng.normal(size=2), 1.8 + 0.2 * rng.normal()
    h = np.array([[1.0, 0, 0], [np.cos(angle), np.sin(angle), 0]]) * r[:, None]
    x = np.vstack([np.zeros(3), h]) @ random_rotation(rng).T
    bonds = x[1:]
    alpha = 3.0 * np.eye(3) + sum(np.outer(b, b) for b in bonds)
    s = structure(x + rng.normal(size=3), [8, 1, 1])
    s = s.with_labels(dipole=0.3 * bonds.sum(axis=0), polarizability=alpha)
    return replace(s, info={"gap": 5.0 + np.cos(angle), "size": 10.0 + r.sum()})


WATERS = [water(i) for i in range(60)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("waters")
    write(WATERS[:45], folder / "train.extxyz")
    write(WATERS[45:], folder / "test.extxyz")
    return folder


@pytest.fixture(scope="module")
def run(files):
    out = files / "run"
    train(
        files / "train.extxyz",
        out=out,
        data={"test": [str(files / "test.extxyz")]},
        run={"steps": 300, "evaluate_every": 10, "checkpoint_every": 10},
        **SMALL,
    )
    return out


@pytest.mark.slow
def test_a_run_learns_all_and_beats_a_constant(run, files):
    model = kohn.load(run)
    assert model.targets == tuple(TARGETS)
    found = kohn.evaluate(model, read(files / "test.extxyz"))
    for name in (*TARGETS, "polarizability_l0", "polarizability_l2"):
        base = found.baseline[name].rmse
        assert found.errors[name].rmse < 0.4 * base, name
        assert base > 1e-3


@pytest.mark.slow
def test_the_saved_model_is_the_trained_one_and_says_what_it_is(run, files):
    model = kohn.load(run)
    assert model.units == {"dipole": "e·Å", "polarizability": "Å³", "gap": "", "size": ""}
    copy = run / "copy.safetensors"
    from kohn.potential import load_potential, save
    from kohn.uncertainty import Ensemble

    save(model, copy)
    assert copy.read_bytes() == (run / "model.safetensors").read_bytes()
    again = kohn.load(copy).predict(WATERS[:3])
    for a, b in zip(model.predict(WATERS[:3]), again, strict=True):
        for name in TARGETS:
            np.testing.assert_array_equal(a[name], b[name])
    with pytest.raises(ModelFileError, match="model of dipole"):
        load_potential(run)
    with pytest.raises(KohnError, match="model of dipole"):
        kohn.Calculator(run / "model.safetensors")
    # kohn.load opens any model: an opened one is refused where energies are needed, as its file is.
    for use in (kohn.Calculator, lambda m: Ensemble((m, m)), lambda m: kohn.relax(m, WATERS[0])):
        with pytest.raises(ModelFileError, match="model of dipole"):
            use(model)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bytes(files, tmp_path):
    def go(out, resume=False, stop=None):
        def epoch(record):
            if record["epoch"] == stop:
                raise KeyboardInterrupt

        length = {"epochs": 4}
        source = files / "train.extxyz"
        train(source, out=out, resume=resume, progress=Progress(record=epoch), run=length, **SMALL)

    go(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "broken", stop=3)
    go(tmp_path / "broken", resume=True)
    for name in ("model.safetensors", LAST, "evaluation-valid.json"):
        whole, broken = (tmp_path / k / name for k in ("whole", "broken"))
        assert whole.read_bytes() == broken.read_bytes()


def test_statistics_are_of_what_composition_does_not_say():
    config = PropertyConfig(targets=TARGETS, extensive=("dipole", "polarizability", "size"))
    found = Statistics.of(WATERS, (1, 8), config, Ions())
    traces = np.array([np.trace(s.labels["polarizability"]) / 3**0.5 for s in WATERS])
    gaps, sizes = (np.array([s.info[k] for s in WATERS]) for k in ("gap", "size"))
    counts = np.array([2.0, 1.0])
    assert counts @ found.atoms["polarizability"] == pytest.approx(traces.mean(), rel=1e-12)
    assert counts @ found.atoms["size"] == pytest.approx(sizes.mean(), rel=1e-12)
    assert counts @ found.atoms["gap"] / 3 == pytest.approx(gaps.mean(), rel=1e-12)
    assert found.scales["gap"][0] == pytest.approx(gaps.std(), rel=1e-10)
    dipoles = np.stack([s.labels["dipole"] for s in WATERS])
    rms = np.sqrt((dipoles**2).sum(axis=1).mean())
    assert found.scales["dipole"][1] == pytest.approx(rms, rel=1e-12)
    assert "dipole" not in found.atoms
    alone = Statistics.of(WATERS, (1, 8), config, Ions(), composition=False)
    np.testing.assert_allclose(alone.atoms["gap"], gaps.mean(), rtol=1e-12)
    np.testing.assert_allclose(alone.atoms["size"], sizes.mean() / 3, rtol=1e-12)


def settings(**sections):
    document = {"data": {"train": ["x"]}, "targets": ["dipole"]}
    return parse({**document, **sections})


def charged(charge):
    return replace(WATERS[0], info={"charge": charge})


def test_labels_that_cannot_be_learned_from():
    bare = WATERS[0].with_labels(dipole=None)
    with pytest.raises(InputError, match="no dipole"):
        refuse_unlearnable_labels([WATERS[1], bare], settings())
    with pytest.raises(InputError, match="finite number"):
        refuse_unlearnable_labels([replace(bare, info={"gap": "wide"})], settings(targets=["gap"]))
    radical = structure([[0, 0, 0], [1.0, 0, 0]], [8, 1]).with_labels(dipole=np.ones(3))
    with pytest.raises(InputError, match="odd number of electrons"):
        refuse_unlearnable_labels([radical], settings())
    refuse_unlearnable_labels([radical], settings(heads={"charges": False}))
    refuse_unlearnable_labels([replace(radical, info={"charge": 0})], settings())
    refuse_unlearnable_labels([radical], settings(heads={"charge": -1.0, "dipole_origin": "mass"}))
    with pytest.raises(ConfigError, match="depends on the origin"):
        refuse_unlearnable_labels([charged(1)], settings())
    refuse_unlearnable_labels([charged(1)], settings(heads={"dipole_origin": "positions"}))
    with pytest.raises(InputError, match="charge is not a number"):
        refuse_unlearnable_labels([charged("plus")], settings())


@pytest.mark.parametrize(
    ("value", "key", "match"),
    [
        ("1.0", "REF_polarizability", "wrong shape"),
        ('"1 2 3 4 5 6"', "REF_polarizability", "wrong shape"),
        ('"1 2 3 4 5 6 7 8 9"', "REF_polarizability", "not symmetric"),
        ("1.0", "REF_dipole", "wrong shape"),
        ('"1 2 3 4 5 6"', "REF_dipole", "wrong shape"),
    ],
)
def test_tensors_of_a_wrong_shape_or_convention(tmp_path, value, key, match):
    """Nine numbers that are no symmetric matrix, six whose order nobody knows, a scalar."""
    file = tmp_path / "a.extxyz"
    header = f'Properties=species:S:1:pos:R:3 {key}={value} pbc="F F F"'
    file.write_text(f"2\n{header}\nO 0 0 0\nH 0 0 1\n")
    with pytest.raises(InputError, match=match) as error:
        read(file)
    assert key in str(error.value)
    assert "a.extxyz" in str(error.value)


@pytest.mark.parametrize(
    ("sections", "match"),
    [
        ({"model": "gaussian-process"}, "learned by model: .*nequip.*, not gaussian-process"),
        ({"model": "schnet"}, "schnet is invariant; choose model: nequip or mace"),
        ({"model": {"family": "mace", "zbl": True}}, "properties have no use for it"),
        ({"targets": ["energy", "dipole"]}, "energy"),
        ({"targets": ["forces"]}, "energy"),
        ({"targets": ["dipole", "dipole"]}, "twice"),
        ({"targets": ["charges"]}, "whole structure"),
        ({"targets": []}, "targets"),
        ({"heads": {"extensive": ["gap"]}}, "not a target"),
        ({"heads": {"origin": "mass"}}, "unknown key 'heads.origin'"),
    ],
)
def test_settings_that_cannot_be(sections, match):
    with pytest.raises(ConfigError, match=match):
        settings(**sections)


def test_a_model_that_stays_as_it_was_for_energies():
    assert parse({"data": {"train": ["x"]}}).model.family == "mace"
    assert settings().model.family == "nequip"


@pytest.mark.slow
def test_dipoles_of_ions_have_the_origin_of_their_files(tmp_path):
    """The same ions with labels about two origins: the same model, up to Q R in its predictions."""
    ions = [replace(s, info={"charge": 2.0}).with_labels(polarizability=None) for s in WATERS[:12]]
    moved = [s.with_labels(dipole=s.labels["dipole"] + 2.0 * s.centre_of_mass) for s in ions]
    found = {}
    for origin, data in (("mass", ions), ("positions", moved)):
        file = tmp_path / f"{origin}.extxyz"
        write(data, file)
        heads = {"dipole_origin": origin}
        sections = {**SMALL, "targets": ["dipole"], "heads": heads}
        train(file, out=tmp_path / origin, run={"epochs": 2}, **sections)
        model = kohn.load(tmp_path / origin)
        found[origin] = np.stack([p["dipole"] for p in model.predict(ions)])
    centres = np.stack([s.centre_of_mass for s in ions])
    np.testing.assert_allclose(found["positions"] - found["mass"], 2.0 * centres, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_dataset_without_the_labels_is_not_evaluated(run):
    model = kohn.load(run)
    bare = structure([[0, 0, 0], [1.0, 0, 0]], [8, 1])
    with pytest.raises(InputError, match="nothing to compare"):
        kohn.evaluate(model, Dataset((bare,)))
