"""Converted mace-torch models are the same function.

The reference was computed by mace-torch 0.3.16 with e3nn 0.4.4 and torch 2.13.0, see
tests/data/README.md.
"""

import json
import shutil
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from brute_force import structure

from kohn.errors import ModelFileError
from kohn.interfaces import mace_torch
from kohn.interfaces.mace_torch import _mace_torch_chains, _sign, from_mace_torch, projection
from kohn.o3 import (
    clebsch_gordan,
    degree_slice,
    evaluate_chain,
    symmetric_product,
    to_e3nn,
)
from kohn.potential import load, save

DATA = Path(__file__).parents[1] / "data"
FILE = DATA / "mace_torch_tiny.safetensors"


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "mace_torch_tiny_reference.npz") as arrays:
        return dict(arrays)


def frames(reference):
    for g in range(len(reference["num_atoms"])):
        here = slice(*reference["atom_start"][g : g + 2])
        yield (
            g,
            here,
            structure(
                reference["positions"][here],
                reference["numbers"][here],
                reference["cell"][g],
                reference["pbc"][g],
            ),
        )


def worst(predictions, reference) -> dict[str, float]:
    """Largest differences from mace-torch in float64; energies above E0 too."""
    errors = dict.fromkeys(("energy", "energies", "forces", "stress"), 0.0)
    for (g, here, s), p in zip(frames(reference), predictions, strict=True):
        found = {
            "energy": p.energy - reference["energy"][g],
            "energies": p.energies - reference["node_energy"][here],
            "forces": p.forces - reference["forces"][here],
        }
        if s.periodic.all():
            found["stress"] = p.stress - reference["stress"][g]
        for name, error in found.items():
            errors[name] = max(errors[name], float(np.abs(error).max()))
    return errors


@pytest.fixture(scope="module")
def converted(reference):
    potential = from_mace_torch(FILE)
    return potential, potential.predict([s for *_, s in frames(reference)])


@pytest.mark.slow
def test_the_same_function_in_float64(converted, reference):
    potential, predictions = converted
    assert potential.dtype == np.float64
    errors = worst(predictions, reference)
    assert max(errors.values()) < 1e-8, errors
    # Without the rounding of sums of E0s, 132,419 eV for the water, they agree further.
    assert max(errors["energies"], errors["forces"], errors["stress"]) < 1e-11, errors
    # And the reference is large enough to compare with.
    assert np.ptp(reference["interaction_energy"]) > 1.0
    assert np.abs(reference["forces"]).max() > 0.1
    assert np.abs(reference["stress"][reference["pbc"].all(1)]).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fault"),
    [("_OPPOSITE", frozenset()), ("_silu_ratio", lambda layer: 1.0), ("SILU_NORM", 1.6791768)],
)
def test_planted_faults_in_the_conversion_are_seen(reference, monkeypatch, name, fault):
    monkeypatch.setattr(mace_torch, name, fault)
    predictions = from_mace_torch(FILE).predict([s for *_, s in frames(reference)])
    errors = worst(predictions, reference)
    assert max(errors["energies"], errors["forces"]) > 1e-9


@pytest.mark.slow
def test_the_same_function_in_float32(reference):
    """Within 1e-5 eV and 1e-4 eV/Å; the energy of an atom for the box of 192."""
    potential = from_mace_torch(FILE, dtype=np.float32)
    assert potential.dtype == np.float32
    predictions = potential.predict([s for *_, s in frames(reference)])
    for (g, here, s), p in zip(frames(reference), predictions, strict=True):
        assert abs(p.energy - reference["energy"][g]) < 1e-5 * max(1.0, len(s) / 24)
        assert np.abs(p.energies - reference["node_energy"][here]).max() < 1e-5
        assert np.abs(p.forces - reference["forces"][here]).max() < 1e-4


@pytest.mark.slow
def test_a_converted_model_is_a_model_like_any_other(converted, reference, tmp_path):
    potential, predictions = converted
    save(potential, tmp_path / "converted.safetensors")
    again = load(tmp_path / "converted.safetensors")
    assert again.provenance["converted_from"] == "mace-torch"
    assert again.e0s == potential.e0s
    molecule = next(s for *_, s in frames(reference))
    (p,) = again.predict([molecule])
    assert p.energy == pytest.approx(predictions[0].energy, abs=1e-9)


def test_e0s_are_theirs():
    potential = from_mace_torch(FILE)
    with safetensors.safe_open(str(FILE), framework="numpy") as file:
        settings = json.loads(file.metadata()["mace_torch"])
    expected = dict(zip(settings["atomic_numbers"], settings["atomic_energies"], strict=True))
    assert potential.e0s == {z: e + settings["shift"] for z, e in expected.items()}


# Projection of their products onto ours


def dense(chain, l_max, coupling):
    """A chain as [out, (l_max+1)², …], symmetrised over its factors."""
    size = (l_max + 1) ** 2
    value = np.zeros((2 * chain[0] + 1, size))
    value[:, degree_slice(chain[0])] = np.eye(2 * chain[0] + 1)
    left = chain[0]
    for l, out in zip(chain[1::2], chain[2::2], strict=True):
        c = np.zeros((2 * left + 1, size, 2 * out + 1))
        c[:, degree_slice(l)] = coupling(left, l, out)
        value = np.moveaxis(np.tensordot(value, c, axes=(0, 0)), -1, 0)
        left = out
    orders = list(permutations(range(1, value.ndim)))
    return sum(np.transpose(value, (0, *o)) for o in orders) / len(orders)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_projection_is_exact(l_max, degree, order):
    """Symmetrised, each of their products is the combination of ours that is claimed."""
    theirs = _mace_torch_chains(l_max, degree, order)
    ours = symmetric_product(l_max, degree, order).paths[order - 1]
    p = projection(l_max, degree, order)
    assert p.shape == (len(theirs), len(ours))
    basis = [dense(chain, l_max, clebsch_gordan) for chain in ours]
    for chain, row in zip(theirs, p, strict=True):
        expected = _sign(chain) * dense(chain, l_max, clebsch_gordan)
        combined = sum(x * u for x, u in zip(row, basis, strict=True))
        np.testing.assert_allclose(combined, expected, atol=1e-12)


def products_error(sign) -> float:
    """Products made of ours against theirs, contracted with e3nn 0.4.4's U matrices at one A."""
    worst_of_all = 0.0
    with np.load(DATA / "mace_torch_products.npz") as reference:
        there = reference["a"]  # degrees 0 … 3 in e3nn's axes
        a = {l: tuple((to_e3nn(l).T @ there[degree_slice(l)])[:, None]) for l in range(4)}
        for degree in (0, 1):
            for order in (1, 2, 3):
                ours = symmetric_product(3, degree, order).paths[order - 1]
                values = np.stack([np.stack(evaluate_chain(c, a))[:, 0] for c in ours], -1)
                signs = [sign(c) * _sign(c) for c in _mace_torch_chains(3, degree, order)]
                theirs = to_e3nn(degree) @ values @ (projection(3, degree, order).T * signs)
                error = np.abs(theirs - reference[f"values_{degree}_{order}"]).max()
                worst_of_all = max(worst_of_all, error)
    return float(worst_of_all)


@pytest.mark.slow
def test_products_are_those_of_their_u_matrices():
    assert products_error(_sign) < 1e-13
    assert products_error(lambda chain: 1) > 1e-2  # without e3nn 0.4.4's own signs


def test_their_numbers_of_products():
    assert [len(_mace_torch_chains(3, 0, n)) for n in (1, 2, 3)] == [1, 4, 23]
    assert [len(_mace_torch_chains(3, 1, n)) for n in (1, 2, 3)] == [1, 6, 51]


def test_the_published_weights_have_their_sizes():
    """The file has what the projection takes: 23 and 51 products of three."""
    with safetensors.safe_open(str(FILE), framework="numpy") as file:
        shapes = {name: file.get_tensor(name).shape for name in file.keys()}  # noqa: SIM118
    stem = "products.0.symmetric_contractions.contractions"
    assert shapes[f"{stem}.0.weights_max"][1] == 23
    assert shapes[f"{stem}.1.weights_max"][1] == 51


# Wrong files


def rewritten(tmp_path, change) -> Path:
    """The file with other settings and tensors."""
    with safetensors.safe_open(str(FILE), framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        settings = json.loads(file.metadata()["mace_torch"])
    change(tensors, settings)
    path = tmp_path / "changed.safetensors"
    safetensors.numpy.save_file(tensors, path, metadata={"mace_torch": json.dumps(settings)})
    return path


def test_shift_and_scale_are_theirs(tmp_path):
    """Theirs is E = Σ E0 + scale · ε + shift for each atom, a lone one too: the shift is in the
    E0s, the scale in the model. The shift of the file is 0, so that another one is written."""
    with safetensors.safe_open(str(FILE), framework="numpy") as file:
        e0s = json.loads(file.metadata()["mace_torch"])["atomic_energies"]

    def shifted(tensors, settings):
        tensors["scale_shift.shift"] = np.array(-0.375)
        tensors["scale_shift.scale"] = np.array(2.5)
        settings["pair_repulsion"] = True

    found = from_mace_torch(rewritten(tmp_path, shifted))
    np.testing.assert_allclose([*found.e0s.values()], np.array(e0s) - 0.375, rtol=0, atol=1e-9)
    assert float(found.model.scale) == 2.5
    assert found.model.config.zbl_factor == 2.5  # they scale the repulsion of nuclei too


def test_the_power_of_the_cutoff_is_theirs(tmp_path):
    path = rewritten(tmp_path, lambda tensors, settings: settings.update(num_polynomial_cutoff=7))
    assert from_mace_torch(path).model.config.cutoff_power == 7


def test_the_test_rewrites_faithfully(tmp_path):
    same = from_mace_torch(rewritten(tmp_path, lambda tensors, settings: None))
    original = from_mace_torch(FILE)
    np.testing.assert_array_equal(same.model.embedding.weight, original.model.embedding.weight)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("interaction_cls", "RealAgnosticDensityInteractionBlock", "interaction_cls"),
        ("distance_transform", "Agnesi", "distance_transform"),
        ("gate", "tanh", "gate"),
        ("heads", ["a", "b"], "heads"),
        ("correlation", [3, 2], "correlation"),
        ("correlation", [4, 4], "correlation"),
        ("hidden_irreps", "8x0e+8x1e", "hidden_irreps"),
        ("hidden_irreps", "8x0e+4x1o", "hidden_irreps"),
    ],
)
def test_variants_that_kohn_does_not_have_are_refused(tmp_path, key, value, said):
    path = rewritten(tmp_path, lambda tensors, settings: settings.update({key: value}))
    with pytest.raises(ModelFileError, match=rf"(?s){said}.*changed\.safetensors"):
        from_mace_torch(path)


def test_a_trained_radial_basis_is_refused(tmp_path):
    def stretch(tensors, settings):
        tensors["radial_embedding.bessel_fn.bessel_weights"] *= 1.01

    with pytest.raises(ModelFileError, match="radial basis"):
        from_mace_torch(rewritten(tmp_path, stretch))


def test_files_that_are_none(tmp_path):
    with pytest.raises(ModelFileError, match=r"(?s)cannot be opened.*nowhere"):
        from_mace_torch(tmp_path / "nowhere.safetensors")
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"junk")
    with pytest.raises(ModelFileError, match="cannot be opened"):
        from_mace_torch(junk)
    foreign = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"x": np.ones(2)}, foreign)
    with pytest.raises(ModelFileError, match=r"(?s)not an exported mace-torch.*export_mace_torch"):
        from_mace_torch(foreign)
    cut = tmp_path / "cut.safetensors"
    shutil.copy(FILE, cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="cannot be opened"):
        from_mace_torch(cut)


def test_missing_settings_and_tensors_are_named(tmp_path):
    def forget_setting(tensors, settings):
        del settings["r_max"]

    def forget_tensor(tensors, settings):
        del tensors["readouts.1.linear_1.weight"]

    for change, said in ((forget_setting, "r_max"), (forget_tensor, "readouts.1.linear_1")):
        with pytest.raises(ModelFileError, match=said):
            from_mace_torch(rewritten(tmp_path, change))
