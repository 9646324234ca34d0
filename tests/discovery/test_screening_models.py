"""Screening of structures: energies of models to the digit, ensembles, posteriors, relaxation."""

from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import screening_toys as toys
from ase.build import bulk
from brute_force import structure
from scipy.stats import t

import kohn.discovery.models
from kohn.descriptors import polynomial_cutoff
from kohn.descriptors.soap import SoapConfig
from kohn.discovery import screen
from kohn.discovery.candidate_energies import Predictor, Relaxation, read_contents
from kohn.discovery.options import Options
from kohn.errors import ConfigError, InputError, KohnError
from kohn.graphs import gather_neighbours, neighbourhood
from kohn.models import GaussianProcessConfig, SchNet, SchNetConfig
from kohn.models.network import where_neighbours
from kohn.models.posterior import Posterior
from kohn.potential import Potential, load, save
from kohn.structures import from_ase, read, write
from kohn.training.gaussian_process import fit

E0S = {1: -3.0, 8: -5.0, 14: -4.0}
MU = {"H": -3.1, "O": -5.1, "Si": -4.1}
CONFIG = SchNetConfig(cutoff=3.5, channels=8, layers=1, n_gaussians=6)
HULL = "id,formula,energy\nh,H,-3.1\no,O,-5.1\nsi,Si,-4.1\nw,H2O,-12.1\nq,SiO2,-15.8\n"


def network(seed, dtype=np.float64, provenance=None):
    model = SchNet.init(
        jax.random.key(seed), CONFIG, tuple(E0S), neighbours=4.0, scale=0.3, dtype=dtype
    )
    return Potential(model, E0S, provenance or {})


def apart(s, least=0.9):
    d = np.linalg.norm(s.positions[:, None] - s.positions[None], axis=-1)
    return (d + 9 * np.eye(len(s))).min() > least


def made():
    """Lone atoms, molecules with and without a cell, crystals, a slab, one with 216 atoms."""
    rng = np.random.default_rng(0)
    found = [structure([[0, 0, 0]], [z]) for z in E0S]
    while len(found) < 9:
        n = int(rng.integers(2, 7))
        s = structure(1.4 * rng.normal(size=(n, 3)), rng.choice(list(E0S), n))
        found += [s] if apart(s) else []
    for k in range(5):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.2, seed=k)
        atoms.numbers[: 2 * k] = 8
        found.append(from_ase(atoms[: 8 - k]))
    found.append(from_ase(bulk("Si")))
    slab = bulk("Si", cubic=True)
    slab.pbc = [True, True, False]
    found.append(from_ase(slab))
    large = bulk("Si", cubic=True).repeat(3)
    large.rattle(0.1, seed=9)
    found.insert(4, from_ase(large))
    rng.shuffle(found)
    return [replace(s, labels={}, info={"id": f"s{k}"}) for k, s in enumerate(found)]


STRUCTURES = made()
NAMES = [s.info["id"] for s in STRUCTURES]
SIZES = np.array([len(s) for s in STRUCTURES])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models a, b, c and structures in files."""
    folder = tmp_path_factory.mktemp("models")
    for k, name in enumerate("abc"):
        save(network(k), folder / f"{name}.safetensors")
    write(STRUCTURES, folder / "new.extxyz")
    (folder / "hull.csv").write_text(HULL)
    return folder


@pytest.fixture(scope="module")
def opened():
    return cache(load)


@pytest.fixture(autouse=True)
def opened_once(opened, monkeypatch):
    """What is compiled is kept from test to test."""
    monkeypatch.setattr(kohn.discovery.models, "load_potential", opened)


@pytest.fixture(scope="module")
def predictions(folder):
    """By each model, eV, [3, M]."""
    models = [load(folder / f"{name}.safetensors") for name in "abc"]
    return np.array([[p.energy for p in m.predict(STRUCTURES)] for m in models])


def run(folder, out, models="abc", new="new.extxyz", **options):
    found = screen(
        [folder / new],
        [folder / "hull.csv"],
        out,
        models=[folder / f"{name}.safetensors" for name in models],
        options=Options(**options),
    )
    return found, toys.by_id(out)


# --- energies -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "first"), [(65_536, 99), (2000, 99), (40, 6)])
def test_energies_alone_are_those_of_predictions(slots, first, opened, folder, predictions):
    """In one portion, of several batches, and of many that are too large for one."""
    model = opened(folder / "a.safetensors")
    found = model.energies(STRUCTURES[:first], slots=slots)
    np.testing.assert_allclose(found.mean, predictions[0, :first], rtol=0, atol=1e-9)
    assert found.std is None
    assert np.ptp(predictions[0] / SIZES) > 0.5


@pytest.mark.slow
def test_portions_and_further_elements_change_nothing(opened, folder, predictions):
    model = opened(folder / "a.safetensors")
    found = [model.energies([s], elements=tuple(E0S)).mean[0] for s in STRUCTURES]
    np.testing.assert_allclose(found, predictions[0], rtol=0, atol=1e-9)
    assert len(model.energies([]).mean) == 0


def test_one_model_tells_distances_alone(folder, predictions, tmp_path):
    found, rows = run(folder, tmp_path / "o.csv", "a")
    for i, name in enumerate(NAMES):
        e = predictions[0, i] / SIZES[i]
        assert rows[name]["energy_per_atom"] == pytest.approx(e, abs=1e-9)
        n = {x: STRUCTURES[i].symbols.count(x) for x in set(STRUCTURES[i].symbols)}
        formation = e - sum(MU[x] * k for x, k in n.items()) / SIZES[i]
        assert rows[name]["formation_energy_per_atom"] == pytest.approx(formation, abs=1e-9)
        assert rows[name]["problem"] == ""
    assert found.ranked_by == "distance"
    assert any("gives no uncertainty" in r for r in found.remarks)
    assert found.metrics is None
    assert found.structures is None


@pytest.mark.slow
def test_energies_are_of_structures_as_periodic_as_was_said(opened, folder, tmp_path):
    """All of them without their images, whatever the files say."""
    _, rows = run(folder, tmp_path / "o.csv", "a", periodic=False)
    alone = [replace(s, periodic=np.zeros(3, bool)) for s in STRUCTURES]
    expected = opened(folder / "a.safetensors").predict(alone)
    for name, size, p in zip(NAMES, SIZES, expected, strict=True):
        assert rows[name]["energy_per_atom"] == pytest.approx(p.energy / size, abs=1e-9)


@pytest.mark.slow
def test_an_ensemble_has_the_spread_of_its_members(folder, predictions, tmp_path):
    """σ = s √(1 + 1/S), P by Student's distribution with S − 1."""
    per_atom = predictions / SIZES
    for models in ("ab", "abc"):
        count = len(models)
        found, rows = run(folder, tmp_path / f"{models}.csv", models)
        mean = per_atom[:count].sum(axis=0) / count
        s2 = ((per_atom[:count] - mean) ** 2).sum(axis=0) / (count - 1)
        sigma = np.sqrt(s2 * (1 + 1 / count))
        for i, name in enumerate(NAMES):
            row = rows[name]
            assert row["energy_per_atom"] == pytest.approx(mean[i], abs=1e-9)
            assert row["distance_std"] == pytest.approx(sigma[i], abs=1e-9)
            if sigma[i] > 1e-6:
                p = t.cdf(1e-8, count - 1, row["distance"], row["distance_std"])
                assert row["probability_stable"] == pytest.approx(p, rel=1e-9)
        assert found.ranked_by == "probability_stable"
    assert sigma.max() > 0.01


def test_the_order_of_the_members_changes_nothing(folder, tmp_path):
    _, one = run(folder, tmp_path / "a.csv", "abc")
    _, two = run(folder, tmp_path / "b.csv", "cab")
    for name in NAMES:
        for column in ("distance", "distance_std", "probability_stable"):
            assert one[name][column] == pytest.approx(two[name][column], abs=1e-9)


@pytest.mark.slow
def test_portions_are_the_same_table_and_are_not_done_again(folder, tmp_path, monkeypatch):
    _, expected = run(folder, tmp_path / "whole.csv")
    monkeypatch.setattr("kohn.discovery.candidate_energies.PORTION", 4)
    run(folder, tmp_path / "parts.csv")
    bytes_of = (tmp_path / "parts.csv").read_bytes()
    for name, row in toys.by_id(tmp_path / "parts.csv").items():
        assert row["distance"] == pytest.approx(expected[name]["distance"], abs=1e-9)
    call, done = Predictor.__call__, []
    for n in range(1, 6):

        def count(self, structures, n=n):
            done.append(len(structures))
            if len(done) == 2:
                raise toys.Killed
            return call(self, structures)

        done.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Predictor, "__call__", count)
            try:
                run(folder, tmp_path / "killed.csv")
            except toys.Killed:
                assert len(list((tmp_path / "killed.csv.work").glob("predicted-*"))) == n
            else:
                break
    assert n == 5 - (len(NAMES) <= 16)
    assert (tmp_path / "killed.csv").read_bytes() == bytes_of


@pytest.mark.slow
def test_float32_models_keep_large_energies(folder, tmp_path):
    model = network(0, np.float32)
    big = Potential(model.model, {1: -13.6, 8: -2041.98, 14: -7881.12})
    some = [s for s in STRUCTURES if len(s) < 9]
    exact = big.astype(np.float64).energies(some).mean
    np.testing.assert_allclose(big.energies(some).mean, exact, rtol=0, atol=3e-5)


# --- labels -------------------------------------------------------------------------------


def test_labels_tell_how_good_it_was(folder, predictions, tmp_path):
    """Errors of distances are those of energies per atom."""
    rng = np.random.default_rng(3)
    energies = predictions.mean(axis=0) + 0.1 * SIZES * rng.normal(size=len(SIZES))
    labelled = [
        s.with_labels(energy=np.array(e)) if k % 3 else s
        for k, (s, e) in enumerate(zip(STRUCTURES, energies, strict=True))
    ]
    write(labelled, tmp_path / "new.extxyz")
    for name in ("hull.csv", "a.safetensors", "b.safetensors", "c.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found, rows = run(tmp_path, tmp_path / "o.csv")
    used = np.arange(len(SIZES)) % 3 > 0
    error = (predictions.mean(axis=0) - energies)[used] / SIZES[used]
    assert found.metrics["compared"] == used.sum()
    assert found.metrics["mae"] == pytest.approx(np.abs(error).mean(), abs=1e-9)
    assert found.metrics["rmse"] == pytest.approx(np.sqrt((error**2).mean()), abs=1e-9)
    for i, name in enumerate(NAMES):
        off = rows[name]["distance"] - rows[name]["distance_labelled"]
        if used[i]:
            e = predictions[:, i].mean() - energies[i]
            assert off == pytest.approx(e / SIZES[i], abs=1e-9)
        else:
            assert np.isnan(off)
    truth = np.array([rows[NAMES[i]]["distance_labelled"] for i in np.flatnonzero(used)])
    p = np.array([rows[NAMES[i]]["probability_stable"] for i in np.flatnonzero(used)])
    brier = ((p - (truth <= 1e-8)) ** 2).mean()
    assert found.metrics["calibration"]["brier"] == pytest.approx(brier, abs=1e-12)


def test_names_of_structures(folder, tmp_path):
    given = [{"id": "x"}, {"name": "y"}, {"material_id": "mp-1"}, {"id": "z", "name": "no"}]
    some = [replace(s, info=i) for s, i in zip(STRUCTURES, given, strict=False)]
    write(some, tmp_path / "a.extxyz")
    assert read_contents([tmp_path / "a.extxyz"]).candidates.ids == ["x", "y", "mp-1", "z"]
    write([replace(s, info={}) for s in some], tmp_path / "b.extxyz")
    found = read_contents([tmp_path / "b.extxyz", tmp_path / "b.extxyz"]).candidates
    assert not found.named.any()
    assert found.ids[:4] == [f"{tmp_path / 'b.extxyz'}:{k}" for k in range(4)]


# --- refused before anything is computed --------------------------------------------------


@pytest.fixture
def nothing_computed(monkeypatch):
    monkeypatch.setattr(Predictor, "__call__", None)


def test_one_name_of_two_structures_is_refused(folder, tmp_path, nothing_computed):
    """In two files, and with the same formula: nobody could tell which of them a row means."""
    write(STRUCTURES[:3], tmp_path / "a.extxyz")
    write([STRUCTURES[5], STRUCTURES[1]], tmp_path / "b.extxyz")
    with pytest.raises(InputError, match="1 id is given") as error:
        screen(
            [tmp_path / "a.extxyz", tmp_path / "b.extxyz"],
            [folder / "hull.csv"],
            tmp_path / "o.csv",
            models=[folder / "a.safetensors"],
        )
    assert error.value.received == NAMES[1]
    assert "b.extxyz" in str(error.value.where)


def test_an_element_that_the_model_has_not_seen(folder, tmp_path, nothing_computed):
    write([*STRUCTURES[:2], structure([[0, 0, 0], [2, 0, 0]], [14, 79])], tmp_path / "gold.extxyz")
    (tmp_path / "hull.csv").write_text(HULL + "au,Au,-3\n")
    with pytest.raises(InputError, match=r"not seen.* Au") as error:
        screen(
            [tmp_path / "gold.extxyz"],
            [tmp_path / "hull.csv"],
            tmp_path / "o.csv",
            models=[folder / "a.safetensors"],
        )
    assert "H, O, Si" in error.value.expected
    assert not (tmp_path / "o.csv").exists()


def test_an_element_that_the_hull_lacks(folder, tmp_path, nothing_computed):
    (tmp_path / "hull.csv").write_text("id,formula,energy\nh,H,-3\nsi,Si,-4\n")
    with pytest.raises(InputError, match="elements that the hull lacks: O") as error:
        screen(
            [folder / "new.extxyz"],
            [tmp_path / "hull.csv"],
            tmp_path / "o.csv",
            models=[folder / "a.safetensors"],
        )
    assert "new.extxyz, row" in str(error.value.where)


@pytest.mark.parametrize("models", ["r", "pr"])
def test_labels_of_another_functional_than_the_hull_s(models, tmp_path, folder, nothing_computed):
    """Of the only model, or of the second one."""
    for name, functional in (("p", "PBE"), ("r", "r2SCAN")):
        told = [{"functional": functional, "scheme": "none", "source": "VASP"}]
        save(network(0, provenance={"labels": told}), tmp_path / f"{name}.safetensors")
    lines = HULL.replace("energy\n", "energy,functional\n").splitlines()
    (tmp_path / "hull.csv").write_text("\n".join([lines[0], *(f"{x},PBE" for x in lines[1:])]))
    with pytest.raises(InputError, match="not computed in the same way") as error:
        screen(
            [folder / "new.extxyz"],
            [tmp_path / "hull.csv"],
            tmp_path / "o.csv",
            models=[tmp_path / f"{name}.safetensors" for name in models],
        )
    assert "r2SCAN" in error.value.received


def test_what_does_not_go_together(folder, tmp_path, nothing_computed):
    (tmp_path / "new.csv").write_text("id,formula,energy\np,H2O,-12\n")
    hull, model = [folder / "hull.csv"], [folder / "a.safetensors"]
    for candidates, models, options, said in (
        ([tmp_path / "new.csv"], model, {}, "needs structures"),
        ([folder / "new.extxyz", tmp_path / "new.csv"], model, {}, "needs structures"),
        ([tmp_path / "new.csv"], [], {"relaxation": Relaxation()}, "only a model can relax"),
        ([folder / "new.extxyz"], model, {"formation": True}, "predicts total energies"),
    ):
        with pytest.raises(ConfigError, match=said):
            screen(candidates, hull, tmp_path / "o.csv", models=models, options=Options(**options))
    with pytest.raises(KohnError):
        screen([folder / "new.extxyz"], hull, tmp_path / "o.csv", models=[tmp_path / "new.csv"])
    with pytest.raises(InputError, match="no energy"):  # no model: labels are what they have
        screen([folder / "new.extxyz"], hull, tmp_path / "p.csv")


def test_a_frame_that_is_none_is_named(folder, tmp_path, nothing_computed):
    text = (folder / "new.extxyz").read_text().splitlines()
    (tmp_path / "cut.extxyz").write_text("\n".join(text[:-1]) + "\n")
    with pytest.raises(InputError) as error:
        screen(
            [tmp_path / "cut.extxyz"],
            [folder / "hull.csv"],
            tmp_path / "o.csv",
            models=[folder / "a.safetensors"],
        )
    assert "cut.extxyz" in str(error.value.where)


# --- a Gaussian process -------------------------------------------------------------------


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """Of five small crystals, in a file."""
    config = GaussianProcessConfig(
        soap=SoapConfig(r_cut=3.0, n_max=3, l_max=2, sigma=0.5),
        zeta=2,
        inducing=8,
        signal=0.7,
        noise_energy=0.05,
        noise_forces=0.1,
        tune="none",
    )
    rng = np.random.default_rng(0)
    some = []
    for _ in range(5):
        cell = 3.6 * np.eye(3) + 0.3 * rng.normal(size=(3, 3))
        s = structure(rng.uniform(0, 1, (4, 3)) @ cell, [1, 8, 1, 8], cell, True)
        some.append(s.with_labels(energy=np.array(rng.normal()), forces=rng.normal(size=(4, 3))))
    hoods = [neighbourhood(s, config.cutoff) for s in some]
    model = fit(some, hoods, [0.0] * 5, (1, 8), config)
    path = tmp_path_factory.mktemp("process") / "gp.safetensors"
    save(Potential(model, {1: -3.0, 8: -5.0}), path)
    asked = [structure([[0, 0, 0]], [8]), structure([[0, 0, 0], [1.0, 0.2, 0]], [8, 1])]
    asked += [replace(some[0], positions=some[0].positions + 0.2 * rng.normal(size=(4, 3)))]
    asked += some[:3]
    return path, [replace(s, labels={}, info={"id": f"g{k}"}) for k, s in enumerate(asked)]


@pytest.mark.slow
def test_variances_of_energies_are_those_with_forces(process, opened, monkeypatch):
    """One by one, a few together, all together."""
    path, asked = process
    posterior = Posterior(opened(path).model)
    expected = np.array([posterior.variances(s).energy for s in asked])
    for atoms in (1, 9, 1024):
        monkeypatch.setattr("kohn.models.posterior.BATCH_ATOMS", atoms)
        found = posterior.energy_variances(asked)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    sizes = np.array([len(s) for s in asked])
    assert np.ptp(expected / sizes) > 1e-3  # beside the residual, which is the same of each atom


@pytest.mark.slow
def test_the_posterior_is_the_deviation_of_distances(process, opened, folder, tmp_path):
    path, asked = process
    write(asked, tmp_path / "asked.extxyz")
    asked = read(tmp_path / "asked.extxyz").structures
    found = screen(
        [tmp_path / "asked.extxyz"], [folder / "hull.csv"], tmp_path / "o.csv", models=[path]
    )
    rows = toys.by_id(found.file)
    model = opened(path)
    std = np.sqrt(Posterior(model.model).energy_variances(asked))
    for s, p, sigma in zip(asked, model.predict(asked), std, strict=True):
        row = rows[s.info["id"]]
        assert row["energy_per_atom"] == pytest.approx(p.energy / len(s), abs=1e-9)
        assert row["distance_std"] == pytest.approx(sigma / len(s), rel=1e-9, abs=1e-12)
    assert std.max() > 0.1
    assert found.ranked_by == "probability_stable"
    both = screen(
        [tmp_path / "asked.extxyz"],
        [folder / "hull.csv"],
        tmp_path / "p.csv",
        models=[path, folder / "a.safetensors"],
    )
    assert any("the posterior of each model is not used" in r for r in both.remarks)


# --- relaxation ---------------------------------------------------------------------------


class Morse(eqx.Module):
    """Pairs bound by D (x² − 2x), x = exp(−a (r − r₀)), eV."""

    scale: jax.Array
    elements: tuple[int, ...] = eqx.field(static=True, default=(28, 29))
    cutoff: float = eqx.field(static=True, default=5.0)

    def __call__(self, graph):
        radius = jnp.array([1.27, 1.35])[graph.species + 2 - len(self.elements)]
        other = gather_neighbours(radius[:, None], graph.index, graph.reverse)[..., 0]
        r = jnp.linalg.norm(graph.displacement, axis=-1)
        x = jnp.exp(-1.4 * (r - radius[:, None] - other))
        cut = polynomial_cutoff(r, self.cutoff, 6) * graph.edge_mask.astype(r.dtype)
        return where_neighbours(0.5 * self.scale * ((x * x - 2.0 * x) * cut).sum(1), graph)

    def restricted(self, elements):
        assert elements == self.elements
        return self


def copper(k):
    """Rattled, of another volume; broken if k is 3."""
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[: 1 + k % 3] = 28
    atoms.set_cell(atoms.cell * (0.95 + 0.02 * k), scale_atoms=True)
    atoms.rattle(0.1, seed=k)
    if k == 3:
        atoms.positions[1] = atoms.positions[0]
    return replace(
        from_ase(atoms), info={"id": f"m{k}", "note": "kept"}, labels={"energy": np.array(-10.0)}
    )


@pytest.fixture
def metals(tmp_path, opened, monkeypatch):
    """A Morse potential that a made-up file stands for."""
    potential = Potential(Morse(jnp.array(0.35)), {28: -1.0, 29: -2.0})
    monkeypatch.setattr(kohn.discovery.models, "load_potential", lambda path: potential)
    (tmp_path / "morse.safetensors").write_bytes(b"stands for a potential")
    write([copper(k) for k in range(6)], tmp_path / "metals.extxyz")
    (tmp_path / "hull.csv").write_text("id,formula,energy\nn,Ni,-3\nc,Cu,-4\nx,NiCu,-7.1\n")
    return tmp_path, potential


def relaxed(metals, name="o.csv", **more):
    folder, _ = metals
    options = {"relaxation": Relaxation(fmax=0.02, steps=200)} | more
    return run(folder, folder / name, ["morse"], "metals.extxyz", **options)


@pytest.mark.slow
def test_energies_are_those_of_the_relaxed_structures(metals, monkeypatch):
    """In order, the broken one as it was; also in portions, after a kill, and with their bytes."""
    folder, potential = metals
    found, rows = relaxed(metals)
    assert found.structures == folder / "o.relaxed.extxyz"
    after = read(found.structures).structures
    before = read(folder / "metals.extxyz").structures
    assert [s.info["id"] for s in after] == [f"m{k}" for k in range(6)]
    for k, (s, old) in enumerate(zip(after, before, strict=True)):
        row = rows[f"m{k}"]
        assert s.info["note"] == "kept"
        np.testing.assert_array_equal(s.numbers, old.numbers)
        if k == 3:
            assert np.isnan(row["distance"])
            assert "same place" in row["problem"]
            assert "energy" not in s.labels
            np.testing.assert_allclose(s.positions, old.positions, atol=1e-8)
            continue
        start, end = potential.predict([old, s])
        assert row["energy_per_atom"] == pytest.approx(end.energy / 4, abs=1e-6)  # digits in files
        assert not s.labels  # the model's energy is no reference
        assert s.info["energy"] / 4 == pytest.approx(row["energy_per_atom"], abs=1e-9)
        assert end.energy < start.energy - 1e-3
        assert np.linalg.norm(end.forces, axis=1).max() < 0.021
        assert row["problem"] == ""
        assert s.volume != pytest.approx(old.volume, rel=1e-4)
    assert rows["m3"]["rank"] == 6
    assert found.failed == 1
    assert any("1 of 6 candidates have no energy" in r for r in found.remarks)
    assert found.metrics["compared"] == 6
    assert found.metrics["missing"] == 1

    monkeypatch.setattr("kohn.discovery.candidate_energies.RELAXED_PORTION", 2)
    call, done = Predictor.__call__, []

    def twice(self, structures):
        done.append(structures)
        if len(done) == 2:
            raise toys.Killed
        return call(self, structures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "__call__", twice)
        with pytest.raises(toys.Killed):
            relaxed(metals, "killed.csv")
    resumed, parts = relaxed(metals, "killed.csv")
    assert resumed.structures.read_bytes() == found.structures.read_bytes()
    for name, row in parts.items():
        np.testing.assert_allclose(row["distance"], rows[name]["distance"], rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="exists already"):
        relaxed(metals, "killed.csv")


@pytest.mark.slow
def test_a_portion_is_recorded_after_its_relaxed_structures_are_there(metals):
    """A record without them would be gone on with, and they never written."""
    folder, _ = metals

    def killed(*_):
        raise toys.Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kohn.discovery.candidate_energies._write_relaxed", killed)
        with pytest.raises(toys.Killed):
            relaxed(metals, relaxation=Relaxation(fmax=0.1, steps=1))
    assert not list((folder / "o.csv.work").glob("predicted-*"))


@pytest.mark.slow
def test_few_steps_and_a_fixed_cell(metals):
    folder, _ = metals
    _, rows = relaxed(metals, relaxation=Relaxation(fmax=1e-4, steps=1))
    assert all("not converged in 1 steps" in rows[f"m{k}"]["problem"] for k in (0, 1, 2, 4, 5))
    assert all(np.isfinite(rows[f"m{k}"]["distance"]) for k in (0, 1, 2, 4, 5))
    found, _ = relaxed(metals, "f.csv", relaxation=Relaxation(fmax=0.1, cell=False))
    before = read(folder / "metals.extxyz").structures
    for s, old in zip(read(found.structures).structures, before, strict=True):
        np.testing.assert_allclose(s.cell, old.cell, rtol=0, atol=1e-8)


@pytest.mark.slow
def test_what_has_no_energy_is_last_with_an_error_for_all_too(metals):
    found, rows = relaxed(metals, error=0.05)
    assert found.ranked_by == "probability_stable"
    assert rows["m3"]["rank"] == 6
    assert np.isnan(rows["m3"]["distance_05"])
    assert np.isfinite(found.expected_stable)


# --- faults that were found ---------------------------------------------------------------


def test_a_broken_structure_stops_nobody(metals):
    found, rows = relaxed(metals, relaxation=None)
    assert found.failed == 1
    assert "same place" in rows["m3"]["problem"]
    assert sum(np.isfinite(r["distance"]) for r in rows.values()) == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("error::RuntimeWarning:kohn")
def test_lone_atoms_with_labels_divide_by_nothing(folder, tmp_path):
    """All members give E0 to a lone atom."""
    one = structure([[0, 0, 0]], [8]).with_labels(energy=np.array(-4.9))
    write([one, replace(one, labels={"energy": np.array(-5.0)})], tmp_path / "new.extxyz")
    for name in ("hull.csv", "a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    run(tmp_path, tmp_path / "o.csv", "ab")


@pytest.mark.slow
def test_relaxed_structures_that_are_there_are_kept(metals):
    folder, _ = metals
    (folder / "o.relaxed.extxyz").write_text("of o.parquet")
    with pytest.raises(InputError, match="exists already"):
        relaxed(metals, relaxation=Relaxation(steps=1))
    assert (folder / "o.relaxed.extxyz").read_text() == "of o.parquet"


def test_ranking_by_no_probability_is_refused_at_once(folder, tmp_path, nothing_computed):
    with pytest.raises(ConfigError, match="no probability"):
        run(folder, tmp_path / "o.csv", "a", by="probability")
