"""The sparse Gaussian process against dense formulas written out, with covariances by
differentiation of the model itself."""

import json
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import structure
from scipy.linalg import solve_triangular
from scipy.stats import multivariate_normal

import kohn.data
from kohn import modelfile
from kohn.descriptors.point_selection import cur_points, farthest_points
from kohn.descriptors.soap import SoapConfig, expansion, soap
from kohn.errors import ConfigError
from kohn.graphs import Shape, collate, neighbourhood
from kohn.interfaces.ase_calculator import Calculator
from kohn.models import (
    GaussianProcess,
    GaussianProcessConfig,
    Mace,
    MaceConfig,
    energy_and_derivatives,
)
from kohn.models.gaussian_process import lone_atoms, normalised
from kohn.models.label_covariances import KINDS, Inducing, centres, compiled_kernels, unit_features
from kohn.models.posterior import WIDTH_STEP, Posterior, prior_variances
from kohn.potential import Potential, load, save
from kohn.potential.files import arrays_by_name, metadata
from kohn.structures import read, to_ase, write
from kohn.training import train
from kohn.training.gaussian_process import (
    Scales,
    accumulate,
    choose_inducing,
    fit,
    negative_log_likelihood,
    solve,
)
from kohn.training.settings import parse, template

pytestmark = pytest.mark.slow

ELEMENTS = (1, 8)
CONFIG = GaussianProcessConfig(
    soap=SoapConfig(r_cut=3.0, n_max=3, l_max=2, sigma=0.5),
    zeta=2,
    inducing=8,
    signal=0.7,
    noise_energy=0.05,
    noise_forces=0.1,
    noise_stress=0.02,
    tune="none",
    config_noise={"rough": 3.0},
)


def some(seed, n=4):
    """A small crystal with made-up labels; the third has no stress, the fourth no forces."""
    rng = np.random.default_rng(seed)
    cell = 3.6 * np.eye(3) + 0.3 * rng.normal(size=(3, 3))
    s = structure(rng.uniform(0, 1, (n, 3)) @ cell, rng.choice(ELEMENTS, n), cell, True)
    stress = 0.02 * rng.normal(size=(3, 3))
    labels = {
        "energy": np.array(rng.normal()),
        "forces": rng.normal(size=(n, 3)),
        "stress": stress + stress.T,
    }
    if seed % 4 in (2, 3):
        labels.pop({2: "stress", 3: "forces"}[seed % 4])
    return replace(s.with_labels(**labels), config_type="rough" if seed == 1 else "Default")


STRUCTURES = [some(seed) for seed in range(5)]
HOODS = [neighbourhood(s, CONFIG.cutoff) for s in STRUCTURES]
SHAPE = Shape(8, 24, 1)
"""Of all graphs that are predicted one at a time: they are compiled once."""
E0 = [0.3 * i for i in range(5)]
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


def predicted(model, s):
    """Energy, forces and Voigt stress of a model, one vector."""
    graph = collate([s], [neighbourhood(s, model.cutoff)], ELEMENTS, SHAPE, dtype=np.float64)
    d = jax.device_get(jax.jit(energy_and_derivatives)(model, graph))
    return np.concatenate([d.energy, d.forces[: len(s)].ravel(), d.stress[0][VOIGT]])


def kinds_of_labels():
    """Index into KINDS of each label of STRUCTURES."""
    counts = [
        [1, 3 * len(s) * ("forces" in s.labels), 6 * ("stress" in s.labels)] for s in STRUCTURES
    ]
    return np.concatenate([np.repeat([0, 1, 2], c) for c in counts])


@pytest.fixture(scope="module")
def fitted():
    return fit(STRUCTURES, HOODS, E0, ELEMENTS, CONFIG)


@pytest.fixture(scope="module")
def dense(fitted):
    """K_MM, K_NM, y and noises, by differentiation of models with one weight."""
    m = len(fitted.weights)
    scale = float(fitted.scale) ** 2
    units = [replace(fitted, weights=jnp.eye(m)[i]) for i in range(m)]
    k_all = {i: np.stack([predicted(u, s) for u in units], 1) for i, s in enumerate(STRUCTURES)}
    points = np.concatenate(fitted.points)
    same = np.repeat(np.eye(2), fitted.counts, axis=0)
    k_mm = scale * (points @ points.T) ** CONFIG.zeta * (same @ same.T)
    k_mm[np.diag_indices(m)] *= 1 + 1e-10
    rows, y, noise = [], [], []
    for i, s in enumerate(STRUCTURES):
        n, factor = len(s), CONFIG.config_noise.get(s.config_type, 1.0)
        e, f, v = np.split(k_all[i], [1, 1 + 3 * n])
        rows.append(e)
        y.append([float(s.labels["energy"]) - E0[i]])
        noise.append([CONFIG.noise_energy * np.sqrt(n) * factor])
        if "forces" in s.labels:
            rows.append(f)
            y.append(s.labels["forces"].ravel())
            noise.append(np.full(3 * n, CONFIG.noise_forces * factor))
        if "stress" in s.labels:
            rows.append(v)
            y.append(s.labels["stress"][VOIGT])
            noise.append(np.full(6, CONFIG.noise_stress * factor))
    return k_mm, np.concatenate(rows), np.concatenate(y), np.concatenate(noise)


def test_the_mean_is_that_of_the_dense_formula(fitted, dense):
    """w = (K_MM + K_MN Σ⁻¹ K_NM)⁻¹ K_MN Σ⁻¹ y, by QR of the stacked rows."""
    k_mm, k_nm, y, noise = dense
    half = np.linalg.cholesky(k_mm).T
    stacked = np.vstack([k_nm / noise[:, None], half])
    target = np.concatenate([y / noise, np.zeros(len(half))])
    expected = np.linalg.lstsq(stacked, target, rcond=None)[0]
    np.testing.assert_allclose(np.asarray(fitted.weights), expected, rtol=1e-7, atol=1e-9)


def test_the_variances_are_those_of_the_dense_formula(fitted, dense):
    """With prior variances by differentiating the kernel twice."""
    k_mm, k_nm, _, noise = dense
    s = some(7)
    n = len(s)
    m = len(fitted.weights)
    units = [replace(fitted, weights=jnp.eye(m)[i]) for i in range(m)]
    k_star = np.stack([predicted(u, s) for u in units], 1)[: 1 + 3 * n]
    posterior = np.linalg.inv(k_mm + (k_nm.T / noise**2) @ k_nm)
    table = expansion(CONFIG.soap, ELEMENTS)
    h = neighbourhood(s, CONFIG.cutoff)
    graph = collate([s], [h], ELEMENTS, dtype=np.float64)
    species = np.asarray(graph.species)[:n]
    lone = jnp.asarray(lone_atoms(CONFIG.soap, ELEMENTS))[species]
    shift = jnp.asarray((h.shift @ s.cell) * h.mask[..., None])

    def unit(x):
        d = jnp.where(h.mask[..., None], x[h.index % n] + shift - x[:, None], 1.0)
        return normalised(soap(table, d, species[h.index % n], h.mask, species))

    def covariance(x, x2):
        a, b = unit(x), unit(x2)
        k = (a @ b.T) ** 2 - (a @ lone.T) ** 2 - (lone @ b.T) ** 2 + (lone @ lone.T) ** 2
        same = np.asarray(species[:, None] == species, np.float64)
        return CONFIG.signal**2 * jnp.sum(k * same)

    x = jnp.asarray(s.positions)
    cross = jax.jit(jax.jacfwd(jax.jacrev(covariance), argnums=1))(x, x)
    prior = np.append(covariance(x, x), np.einsum("iaia->ia", np.asarray(cross)).ravel())
    middle = np.linalg.inv(k_mm) - posterior
    expected = prior - np.einsum("rm,mn,rn->r", k_star, middle, k_star)
    expected += residual(fitted, s)
    found = Posterior(with_all_left(fitted)).variances(s)
    got = np.append(found.energy, found.forces.ravel())
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


def with_all_left(model):
    """What inducing environments leave of the prior is added whole, as if κ were not known."""
    return replace(model, config=model.config.model_copy(update={"unexplained": {}}))


def test_what_labels_leave_of_the_prior_is_not_counted_twice(fitted):
    """s of the learned labels has κ² in it: c² max(u − κ², 0), c = min(1, s/κ), is added."""
    config = fitted.config
    inducing = choose_inducing(STRUCTURES, HOODS, ELEMENTS, CONFIG, 0)
    sharp = np.zeros((sum(inducing.counts),) * 2)
    sharp[np.diag_indices_from(sharp)] = 1e8  # labels leave nothing of the inducing environments
    sharp = jnp.asarray(sharp[np.tril_indices_from(sharp)])

    def variances(s, unexplained, residuals=1e-9):
        update = {"unexplained": unexplained, "residuals": dict.fromkeys(KINDS, residuals)}
        model = replace(fitted, posterior=sharp, config=config.model_copy(update=update))
        v = Posterior(model).variances(s)
        return np.append(v.energy / len(s), v.forces.ravel())

    learned = np.array([variances(s, {}) for s in STRUCTURES])
    kappa = config.unexplained
    assert kappa["energy"] ** 2 == pytest.approx(learned[:, 0].mean(), rel=1e-6)
    assert kappa["forces"] ** 2 == pytest.approx(learned[:, 1:].mean(), rel=1e-6)
    s = some(7)
    squares = np.array([kappa["energy"] ** 2] + 3 * len(s) * [kappa["forces"] ** 2])
    excess = np.maximum(variances(s, {}) - squares, 0.0)
    assert excess.max() > 0
    assert excess.min() == 0
    for residuals in (0.1 * min(kappa.values()), 10 * max(kappa.values())):
        c2 = np.minimum(1.0, residuals**2 / squares)
        expected = residuals**2 + c2 * excess
        np.testing.assert_allclose(variances(s, kappa, residuals), expected, rtol=1e-6)


def residual(model, s):
    """n s_E² and s_F², as often as there are forces."""
    of_energy, of_force = (model.config.residuals[kind] ** 2 for kind in ("energy", "forces"))
    return np.append(len(s) * of_energy, np.full(3 * len(s), of_force))


def test_residuals_are_those_of_the_dense_formula(fitted, dense):
    """Of the mean, over the labels that the hat matrix leaves."""
    k_mm, k_nm, y, noise = dense
    posterior = np.linalg.inv(k_mm + (k_nm.T / noise**2) @ k_nm)
    hat = k_nm @ posterior @ k_nm.T / noise**2
    kind = kinds_of_labels()
    r = (y - hat @ y) / noise
    for i, (name, s) in enumerate(fitted.config.residuals.items()):
        here = kind == i
        left = here.sum() - np.trace(hat[np.ix_(here, here)])
        expected = getattr(CONFIG, f"noise_{name}") * np.sqrt(np.sum(r[here] ** 2) / left)
        assert name == KINDS[i]
        assert s == pytest.approx(expected, rel=1e-6)
        assert abs(s / getattr(CONFIG, f"noise_{name}") - 1) > 0.1


def test_variances_are_those_of_the_process_without_approximation():
    """With every environment among the inducing ones, and energies as labels, the formula of a
    Gaussian process of ε_i = f(i) − f(0) holds: k_** − k_*N (K_NN + Σ)⁻¹ k_N*, here with sums
    over environments written out. f(0) must be inferred, as f of all other environments is."""
    config = CONFIG.model_copy(update={"inducing": None, "config_noise": {}})
    some_noise = config.model_copy(update={"noise_energy": 0.01})
    model = fit(STRUCTURES, HOODS, E0, ELEMENTS, some_noise, kinds=("energy",))
    asked = [some(7), *molecules(1), STRUCTURES[0]]
    everything = [*STRUCTURES, *asked]
    lone = lone_atoms(config.soap, ELEMENTS)
    u, species = zip(*(environments(s) for s in everything), strict=True)

    def covariance(i, j):
        (a, b), (of_a, of_b) = (u[i], u[j]), (species[i], species[j])
        k = (a @ b.T) ** 2 - np.sum(a * lone[of_a], 1)[:, None] ** 2
        k += np.sum(lone[of_a] ** 2, 1)[:, None] ** 2 - np.sum(b * lone[of_b], 1) ** 2
        return config.signal**2 * np.sum(k * (of_a[:, None] == of_b))

    known = len(STRUCTURES)
    k = np.array(
        [[covariance(i, j) for j in range(len(everything))] for i in range(len(everything))]
    )
    noise = np.diag([0.01**2 * len(s) for s in STRUCTURES])
    k_star = k[known:, :known]
    expected = np.diagonal(k)[known:] - np.sum(
        k_star * np.linalg.solve(k[:known, :known] + noise, k_star.T).T, axis=1
    )
    found = Posterior(with_all_left(model)).energy_variances(asked)
    of_residuals = [len(s) * model.config.residuals["energy"] ** 2 for s in asked]
    np.testing.assert_allclose(found - of_residuals, expected, rtol=1e-6, atol=1e-8)
    assert expected[-1] < 1e-3 < expected[0]


def environments(s):
    """p̂ of the centres of a structure, and their elements."""
    features, _ = compiled_kernels(expansion(CONFIG.soap, ELEMENTS), CONFIG.zeta)
    block = centres([s], [neighbourhood(s, CONFIG.cutoff)], ELEMENTS, 2 * WIDTH_STEP)
    return unit_features(block, np.arange(len(s)), features), block.centre


def molecules(copies):
    """A molecule of water, and the same with its copies 50 Å apart."""
    one = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    x = np.concatenate([one + np.array([50.0 * i, 0.0, 0.0]) for i in range(copies)])
    return [structure(one, [8, 1, 1]), structure(x, [8, 1, 1] * copies)]


def test_copies_far_apart_are_wrong_together(fitted):
    """What is not known of a molecule is the same of each copy, n² times in the variance; what
    the model cannot describe is independent, n times."""
    copies = 4
    one, many = molecules(copies)
    posterior = Posterior(with_all_left(fitted))
    alone, together = (posterior.variances(s) for s in (one, many))
    of_model = alone.energy - residual(fitted, one)[0]
    expected = copies**2 * of_model + copies * residual(fitted, one)[0]
    assert together.energy == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(together.forces, np.tile(alone.forces, (copies, 1)), rtol=1e-9)
    np.testing.assert_allclose(
        posterior.energy_variances([one, many]), [alone.energy, together.energy], rtol=1e-9
    )


def test_lone_atoms_are_known(fitted):
    """E0 is exact: nothing but the residual of one atom is left of the variance."""
    for z in ELEMENTS:
        found = Posterior(fitted).variances(structure([[0, 0, 0]], [z]))
        assert found.energy == pytest.approx(fitted.config.residuals["energy"] ** 2, rel=1e-9)


@pytest.fixture(scope="module")
def before(fitted, tmp_path_factory):
    """A model, and its file, as they were before lone atoms were inducing environments."""
    inducing = choose_inducing(STRUCTURES, HOODS, ELEMENTS, CONFIG, 0)
    inducing = Inducing.at([p[1:] for p in inducing.points], CONFIG, ELEMENTS)
    sums = accumulate(STRUCTURES, HOODS, E0, ELEMENTS, CONFIG, inducing, KINDS)
    noise = {k: getattr(CONFIG, f"noise_{k}") for k in KINDS}
    weights, r = solve(sums, Scales(CONFIG.signal, noise), inducing)
    packed = r[np.tril_indices(len(r))]
    model = GaussianProcess.at(inducing.points, weights, CONFIG, ELEMENTS, posterior=packed)
    potential = Potential(model, {1: -1.0, 8: -2.0})
    described = metadata(potential)
    del described["config"]["residuals"], described["config"]["unexplained"]
    path = tmp_path_factory.mktemp("before") / "model.safetensors"
    modelfile.write(path, arrays_by_name(model), described)
    return model, path, inducing, sums


def test_files_without_lone_atoms_open_as_they_were(before):
    model, path, _, _ = before
    again = load(path)
    for s in STRUCTURES:
        assert np.array_equal(predicted(again.model, s), predicted(model, s))


def test_files_without_lone_atoms_take_them_for_certain(before):
    """k_** − |a|² with the lone atoms among the inducing ones, |R⁻¹ a|² without."""
    model, path, inducing, sums = before
    s = some(7)
    u, of = environments(s)
    lone = lone_atoms(CONFIG.soap, ELEMENTS)
    prior, left = 0.0, []
    for a, points in enumerate(inducing.points):
        own = u[of == a]
        of_points = ((own @ points.T) ** 2 - (lone[a] @ points.T) ** 2).sum(axis=0)
        of_lone = ((own @ lone[a]) ** 2 - (lone[a] @ lone[a]) ** 2).sum()
        k = (own @ own.T) ** 2 - 2 * ((own @ lone[a]) ** 2)[:, None] + (lone[a] @ lone[a]) ** 2
        both, k_star = np.vstack([points, lone[a]]), np.append(of_points, of_lone)
        prior += k.sum() - k_star @ np.linalg.solve((both @ both.T) ** 2, k_star)
        left.append(solve_triangular(inducing.factors[a], of_points, lower=True))
    b = np.eye(sum(inducing.counts))
    for kind, part in sums.items():
        b += (CONFIG.signal / getattr(CONFIG, f"noise_{kind}")) ** 2 * part.gram
    left = np.concatenate(left)
    expected = CONFIG.signal**2 * (prior + left @ np.linalg.solve(b, left))
    expected += len(s) * CONFIG.noise_energy**2
    (found,) = load(path).predict([s], uncertainty=True)
    assert found.energy_std**2 == pytest.approx(expected, rel=1e-6)
    std = load(path).energies([s], deviations=True).std
    assert std[0] == pytest.approx(found.energy_std, rel=1e-9)
    lone_variance = Posterior(model).variances(structure([[0, 0, 0]], [8])).energy
    assert lone_variance == pytest.approx(CONFIG.noise_energy**2, rel=1e-9)


def test_more_labels_leave_less_variance(fitted):
    """With the same inducing environments, of anything, and never more than the prior."""
    inducing = choose_inducing(STRUCTURES, HOODS, ELEMENTS, CONFIG, 0)
    scales = Scales(CONFIG.signal, {k: getattr(CONFIG, f"noise_{k}") for k in KINDS})
    for asked in (some(20), STRUCTURES[0]):
        h = neighbourhood(asked, CONFIG.cutoff)
        energy, forces = prior_variances(centres([asked], [h], ELEMENTS, h.width), ELEMENTS, fitted)
        before = CONFIG.signal**2 * np.append(energy, forces.ravel()) + residual(fitted, asked)
        for count in (1, 3, 5):
            rows = STRUCTURES[:count], HOODS[:count], E0[:count]
            sums = accumulate(*rows, ELEMENTS, CONFIG, inducing, KINDS)
            _, r = solve(sums, scales, inducing)
            model = replace(fitted, posterior=jnp.asarray(r[np.tril_indices(len(r))]))
            v = Posterior(model).variances(asked)
            now = np.append(v.energy, v.forces.ravel())
            assert (now < before).all()
            before = now


def test_the_likelihood_is_that_of_a_multivariate_normal(dense):
    k_mm, k_nm, y, noise = dense
    inducing = choose_inducing(STRUCTURES, HOODS, ELEMENTS, CONFIG, 0)
    kinds = KINDS
    sums = accumulate(STRUCTURES, HOODS, E0, ELEMENTS, CONFIG, inducing, kinds)
    scales = Scales(CONFIG.signal, {k: getattr(CONFIG, f"noise_{k}") for k in kinds})
    x = 2 * np.log([scales.signal, *(scales.noise[k] for k in sums)])
    value, gradient = negative_log_likelihood(x, sums)
    q = k_nm @ np.linalg.solve(k_mm, k_nm.T) + np.diag(noise**2)
    expected = -multivariate_normal(cov=q, allow_singular=False).logpdf(y)
    base = np.array([scales.noise[k] for k in kinds])
    expected -= np.log(
        noise / base[kinds_of_labels()]
    ).sum()  # labels are divided by their factors first
    assert value == pytest.approx(expected, rel=1e-8)
    for i in range(len(x)):
        h = np.zeros(len(x))
        h[i] = 1e-5
        up, down = (negative_log_likelihood(x + e, sums)[0] for e in (h, -h))
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-6)


def test_tuning_raises_the_likelihood(fitted):
    tuned = fit(
        STRUCTURES, HOODS, E0, ELEMENTS, CONFIG.model_copy(update={"tune": "marginal-likelihood"})
    )
    assert tuned.config.signal != fitted.config.signal
    assert tuned.config.tune == "none"  # the numbers that were found are what the file says


def test_residuals_are_the_noise_where_the_likelihood_found_it():
    """MacKay's condition of a maximum, from far away: energies alone have no bound to hold them."""
    for start in (1e-4, 1.0):
        update = {"tune": "marginal-likelihood", "noise_energy": start, "signal": 1.0}
        config = CONFIG.model_copy(update=update)
        model = fit(STRUCTURES, HOODS, E0, ELEMENTS, config, kinds=("energy",))
        found = model.config
        assert found.residuals["energy"] == pytest.approx(found.noise_energy, rel=1e-2)


def test_enough_points_and_little_noise_reproduce_the_labels():
    quiet = {"noise_energy": 1e-5, "noise_forces": 1e-5, "inducing": 16, "config_noise": {}}
    few = [some(0), some(4)]
    soap_config = SoapConfig(r_cut=3.0, n_max=5, l_max=4, sigma=0.4)
    config = CONFIG.model_copy(update={**quiet, "inducing": 8, "soap": soap_config})
    hoods = [neighbourhood(s, config.cutoff) for s in few]
    model = fit(few, hoods, [0.0, 0.0], ELEMENTS, config, kinds=("energy",))
    for s in few:
        assert predicted(model, s)[0] == pytest.approx(float(s.labels["energy"]), abs=1e-4)


def test_the_file_opens_as_it_was(tmp_path, fitted):
    potential = Potential(fitted, {1: -1.0, 8: -2.0})
    save(potential, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    one, two = (p.predict(STRUCTURES[:2], uncertainty=True) for p in (potential, again))
    for a, b in zip(one, two, strict=True):
        assert a.energy == b.energy
        assert a.energy_std == b.energy_std > 0
        assert np.array_equal(a.forces, b.forces)
        assert np.array_equal(a.forces_std, b.forces_std)
        assert a.forces_std.shape == a.forces.shape


def test_absent_elements_are_left_out_exactly(fitted):
    """What the evaluator computes for oxygen alone is what the whole model says."""
    s = structure(STRUCTURES[0].positions, [8] * 4, STRUCTURES[0].cell, True)
    only = fitted.restricted((8,))
    assert only.points[0].shape[1] < fitted.points[1].shape[1]
    graph = collate([s], [neighbourhood(s, only.cutoff)], (8,), dtype=np.float64)
    found = jax.device_get(jax.jit(energy_and_derivatives)(only, graph))
    np.testing.assert_allclose(
        np.append(found.energy, found.forces[:4].ravel()), predicted(fitted, s)[:13], atol=1e-10
    )


def test_greedy_choices_are_nested_and_spread(rng):
    x = rng.normal(size=(40, 3))
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(-1) / 2)
    for greedy in (farthest_points, cur_points):
        many, few = greedy(kernel, 20), greedy(kernel, 5)
        assert np.array_equal(many[:5], few)
        assert len(set(many.tolist())) == 20
    d2 = 2 - 2 * kernel[farthest_points(kernel, 6)]
    assert d2.min(axis=0).max() <= (2 - 2 * kernel[:6]).min(axis=0).max()
    low_rank = np.outer(x[:, 0], x[:, 0])
    assert len(cur_points(low_rank, 5)) == 1  # one column explains the rest
    with pytest.raises(ConfigError, match="so many points"):
        farthest_points(kernel, 41)


# --- in use -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run from files, through `train`."""
    folder = tmp_path_factory.mktemp("gp")
    shipped = Path(kohn.data.__file__).parent / "ethanol" / "train.extxyz"
    write(read(shipped).structures[:12], folder / "data.extxyz")
    settings = {
        "data": {"train": [str(folder / "data.extxyz")], "valid_fraction": 0.3},
        "model": {
            "family": "gaussian-process",
            "soap": {"r_cut": 3.0, "n_max": 3, "l_max": 2},
            "zeta": 2,
            "inducing": 30,
            "tune": "none",
        },
    }
    train(parse(settings), out=folder / "run")
    return folder


def test_a_run_writes_what_any_run_writes(run):
    names = {p.name for p in (run / "run").iterdir()}
    assert {"model.safetensors", "records.jsonl", "settings.yaml", "evaluation-valid.json"} <= names
    records = [json.loads(x) for x in (run / "run" / "records.jsonl").read_text().splitlines()]
    assert [r["kind"] for r in records] == ["start", "fit"]
    assert records[1]["noise_forces"] > 0


def test_calculator_and_prediction_agree(run, tmp_path):
    potential = load(run / "run")
    s = read(run / "data.extxyz")[0]
    (p,) = potential.predict([s], uncertainty=True)
    atoms = to_ase(s)
    atoms.calc = Calculator(potential)
    assert atoms.get_potential_energy() == pytest.approx(p.energy, abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), p.forces, atol=1e-9)
    write([s], tmp_path / "out.extxyz", predictions=[p.as_labels()])
    text = (tmp_path / "out.extxyz").read_text()
    assert "energy_std=" in text
    assert "forces_std:R:3" in text


def test_what_the_fit_learns_from_is_what_has_a_weight_at_first(run, tmp_path, monkeypatch):
    """Late weights are of steps, of which a fit has none."""
    asked = []

    def fit_that_ends(*_, kinds, **__):
        asked.append(list(kinds))
        raise KeyboardInterrupt

    monkeypatch.setattr("kohn.training.gaussian_process.fit", fit_that_ends)
    weights = {"energy": 1.0, "forces": 0.0}, {"energy": 0.0, "forces": 1.0}
    loss = {"weights": weights[0], "late_weights": weights[1]}
    with pytest.raises(KeyboardInterrupt):
        train(run / "run" / "settings.yaml", out=tmp_path / "fit", loss=loss)
    assert asked == [["energy"]]


def test_the_same_run_gives_the_same_bytes(run):
    settings = (run / "run" / "settings.yaml").read_text()
    assert "gaussian-process" in settings
    train(run / "run" / "settings.yaml", out=run / "again")
    one, two = ((run / x / "model.safetensors").read_bytes() for x in ("run", "again"))
    assert one == two


def test_the_family_can_be_named_alone():
    data = {"train": ["a.extxyz"]}
    assert parse({"data": data, "model": "gaussian-process"}).model == GaussianProcessConfig()
    assert parse({"data": data, "model": {"channels": 8}}).model == MaceConfig(channels=8)
    assert "noise_forces" in template("gaussian-process")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gausian-process", "model.family"),
        ({"family": "gaussian-process", "inducin": 5}, "unknown key 'model.inducin'"),
        ({"family": "gaussian-process", "soap": {"rcut": 5}}, "unknown key 'model.soap.rcut'"),
        ({"family": "gaussian-process", "noise_forces": 0.0}, "model.noise_forces"),
        ({"family": "gaussian-process", "channels": 3}, "unknown key 'model.channels'"),
        ({"family": "gaussian-process", "soap": {"average": "inner"}}, "environments of atoms"),
        ({"family": "gaussian-process", "soap": {"convention": "dscribe"}}, "would jump"),
    ],
)
def test_wrong_settings_are_refused(model, message):
    with pytest.raises(ConfigError) as error:
        parse({"data": {"train": ["a.extxyz"]}, "model": model})
    assert message in str(error.value)
    assert error.value.fix


def test_more_inducing_points_than_environments_are_refused():
    many = CONFIG.model_copy(update={"inducing": 100})
    with pytest.raises(ConfigError, match="more inducing environments"):
        fit(STRUCTURES, HOODS, E0, ELEMENTS, many)


def test_a_network_has_no_posterior():
    model = Mace.init(
        jax.random.key(0), MaceConfig(channels=2, radial_widths=(4,)), (1, 8), neighbours=1.0
    )
    with pytest.raises(ConfigError, match="no posterior"):
        Potential(model, {1: 0.0, 8: 0.0}).predict(STRUCTURES[:1], uncertainty=True)


def test_second_derivatives_pass_through_the_rule_for_slopes(fitted):
    """Force constants by differentiation are those by differences of gradients."""
    s = STRUCTURES[0]
    graph = collate([s], [neighbourhood(s, fitted.cutoff)], ELEMENTS, dtype=np.float64)
    graph = jax.tree.map(jnp.asarray, graph)

    def slopes(d):
        def total(d):
            return jnp.sum(fitted(eqx.tree_at(lambda g: g.displacement, graph, d)))

        return jax.grad(total)(d)

    d = graph.displacement
    along = jax.random.normal(jax.random.key(0), d.shape) * graph.edge_mask[..., None].astype(float)
    by_rule = jax.jit(lambda: jax.jvp(slopes, (d,), (along,))[1])()
    h, step = 1e-4, jax.jit(slopes)
    by_difference = (step(d + h * along) - step(d - h * along)) / (2 * h)
    scale = float(jnp.abs(by_difference).max())
    np.testing.assert_allclose(by_rule, by_difference, rtol=0, atol=1e-6 * scale)
    assert scale > 1e-3
