"""SchNet, DimeNet and NequIP beside the laws: their equations, padding, elements, files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import structure
from scipy.special import eval_legendre

from kohn.graphs import Shape, collate, needed_shape, neighbourhood, pairs_within
from kohn.models import FAMILIES, DimeNetConfig, DirectConfig, NequipConfig, SchNetConfig
from kohn.models.dimenet import Interaction
from kohn.models.nequip import gated
from kohn.models.schnet import SSP_NORM, gaussian_basis
from kohn.o3 import spherical_harmonics, wigner_d
from kohn.potential import Potential, evaluate, load, save

CUTOFF = 3.5
ELEMENTS = (1, 8, 14)
CONFIGS = {
    "schnet": SchNetConfig(cutoff=CUTOFF, channels=6, layers=2, n_gaussians=8),
    "dimenet": DimeNetConfig(cutoff=CUTOFF, channels=6, angular_channels=4, l_max=3, layers=2),
    "nequip": NequipConfig(cutoff=CUTOFF, channels=4, l_max=2, layers=3, radial_widths=(8,)),
    "nequip-direct": DirectConfig(cutoff=CUTOFF, channels=4, l_max=2, layers=3, radial_widths=(8,)),
}
RNG = np.random.default_rng(0)
CELL = np.array([[3.1, 0.2, 0], [0.5, 2.9, 0.1], [-0.4, 0.3, 3.0]])
STRUCTURES = [
    structure([[0, 0, 0], [1.4, 1.3, 1.2]], [14, 8], CELL, True),
    structure(RNG.normal(size=(4, 3)) * 1.3, [8, 1, 1, 14]),
]
ROWS = [neighbourhood(s, CUTOFF) for s in STRUCTURES]


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return random_model(CONFIGS[request.param])


def random_model(config, elements=ELEMENTS, dtype=np.float64):
    family = FAMILIES[config.family][1]
    return family.init(jax.random.key(1), config, elements, neighbours=5.0, scale=3.0, dtype=dtype)


def energies_and_forces(model, elements=ELEMENTS, shape=None):
    graph = collate(STRUCTURES, ROWS, elements, shape, dtype=model.scale.dtype)
    found = evaluate(model, graph)
    return np.append(np.asarray(found.energy[:2]), np.asarray(found.forces[:6]).ravel())


@pytest.mark.slow
def test_padding_changes_nothing(model):
    rows, slots, _ = needed_shape(ROWS)
    wide = energies_and_forces(model, shape=Shape(rows + 7, slots + 5, 4))
    np.testing.assert_allclose(wide, energies_and_forces(model), rtol=0, atol=1e-11)
    assert np.abs(wide).min() > 1e-6


@pytest.mark.slow
def test_single_precision_is_close(model):
    single = jax.tree.map(
        lambda x: x.astype(np.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, model
    )
    np.testing.assert_allclose(
        energies_and_forces(single), energies_and_forces(model), rtol=0, atol=1e-4
    )


@pytest.mark.slow
def test_other_elements_are_the_same_function(model):
    """With more elements, and with no more than there are."""
    more = model.for_elements((1, 6, 8, 14, 26), jax.random.key(9))
    expected = energies_and_forces(model)
    np.testing.assert_allclose(
        energies_and_forces(more, more.elements), expected, rtol=0, atol=1e-10
    )
    fewer = more.restricted(ELEMENTS)
    np.testing.assert_allclose(energies_and_forces(fewer), expected, rtol=0, atol=1e-10)


def test_the_file_opens_as_it_was(model, tmp_path):
    potential = Potential(model, dict.fromkeys(ELEMENTS, -1.0))
    save(potential, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.model.config == model.config
    np.testing.assert_array_equal(energies_and_forces(again.model), energies_and_forces(model))


# DimeNet


def three_body(rng, n: int, k: int, l_max: int):
    config = DimeNetConfig(channels=5, angular_channels=3, l_max=l_max)
    layer = Interaction.init(jax.random.key(2), config, np.float64)
    u = rng.normal(size=(n, k, 3))
    u /= np.linalg.norm(u, axis=-1, keepdims=True)
    m, basis = rng.normal(size=(n, k, 5)), rng.normal(size=(n, k, config.n_bessel))
    return layer, m, basis, u


@pytest.mark.slow
@pytest.mark.parametrize("l_max", [0, 1, 4])
def test_sums_over_edges_are_sums_over_pairs_of_edges(l_max):
    """The addition theorem, against Σ_(k≠j) Σ_l P_l(cos ∠kij) R_l(r_ik) x_ik term by term."""
    layer, m, basis, u = three_body(np.random.default_rng(3), 3, 5, l_max)
    y = spherical_harmonics(u, l_max)
    (found,) = layer.angles(jnp.asarray(m), jnp.asarray(basis), y)
    hidden = m @ np.asarray(layer.down.matrix)
    silu = 1.6765324703310907 * hidden / (1 + np.exp(-hidden))
    x = silu * (basis @ np.asarray(layer.gate.matrix))
    radial = (basis @ np.asarray(layer.radial.matrix)).reshape(3, 5, l_max + 1, -1)
    cosine = np.einsum("nja,nka->njk", u, u)
    expected = np.zeros_like(x)
    for l in range(l_max + 1):
        p = eval_legendre(l, cosine) * (1 - np.eye(5))
        expected += np.einsum("njk,nkc->njc", p, radial[:, :, l] * x)
    np.testing.assert_allclose(found, expected / (l_max + 1) ** 0.5, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_dimenet_sees_an_angle_that_one_layer_of_distances_does_not():
    """Water, bent and straight, with hydrogens further apart than r_c."""
    found = {}
    for family, config in CONFIGS.items():
        model = random_model(config.model_copy(update={"cutoff": 1.3}))
        energies = []
        for angle in (1.8, 2.4):
            bent = [[0.0, 0, 0], [1, 0, 0], [np.cos(angle), np.sin(angle), 0]]
            s = structure(bent, [8, 1, 1])
            graph = collate([s], [neighbourhood(s, 1.3)], ELEMENTS, dtype=np.float64)
            energies.append(float(evaluate(model, graph).energy[0]))
        found[family] = abs(energies[1] - energies[0])
    assert found["schnet"] < 1e-12
    assert found["dimenet"] > 1e-4
    assert found["nequip"] > 1e-4


# SchNet


@pytest.mark.slow
def test_schnet_is_its_equations():
    """The forward pass written out pair by pair in NumPy."""
    model, s = random_model(CONFIGS["schnet"]), STRUCTURES[1]
    matrix = lambda layer: np.asarray(layer.matrix)  # noqa: E731
    ssp = lambda x: SSP_NORM * np.log(0.5 * np.exp(x) + 0.5)  # noqa: E731
    i, j, _, d = pairs_within(s, CUTOFF)
    r = np.linalg.norm(d, axis=1)
    x = r / CUTOFF
    cut = 1 - 21 * x**5 + 35 * x**6 - 15 * x**7
    basis = np.asarray(gaussian_basis(jnp.asarray(r), CUTOFF, 8))
    h = alone = matrix(model.embedding)[[ELEMENTS.index(z) for z in s.numbers]]
    for layer in model.interactions:
        filters = ssp(basis @ matrix(layer.filters[0])) @ matrix(layer.filters[1])
        v = np.zeros_like(h)
        np.add.at(v, i, (h @ matrix(layer.incoming))[j] * filters * cut[:, None])
        v /= 5.0**0.5
        h = h + ssp(v @ matrix(layer.update[0])) @ matrix(layer.update[1])
    hidden, out = map(matrix, model.readout)
    expected = 3.0 * ((ssp(h @ hidden) - ssp(alone @ hidden)) @ out)[:, 0]
    graph = collate([s], [neighbourhood(s, CUTOFF)], ELEMENTS, dtype=np.float64)
    np.testing.assert_allclose(evaluate(model, graph).atom_energies[:4], expected, atol=1e-12)


# NequIP


@pytest.mark.slow
def test_gates_are_equivariant_and_a_gate_for_each_component_is_not():
    """σ of an invariant turns with nothing; σ of each component by itself would."""
    rng = np.random.default_rng(4)
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    x = [jnp.asarray(rng.normal(size=(2, 2 * l + 1, n))) for l, n in ((0, 9), (1, 3), (2, 3))]
    turned = [jnp.einsum("ab,nbc->nac", jnp.asarray(wigner_d(q, l)), y) for l, y in enumerate(x)]
    for l, (a, b) in enumerate(zip(gated(x), gated(turned), strict=True)):
        np.testing.assert_allclose(b, jnp.einsum("ab,nbc->nac", wigner_d(q, l), a), atol=1e-12)
    planted = [jax.nn.sigmoid(y) * y for y in x]
    again = [jax.nn.sigmoid(y) * y for y in turned]
    expected = jnp.einsum("ab,nbc->nac", wigner_d(q, 1), planted[1])
    assert float(jnp.abs(again[1] - expected).max()) > 1e-2


def test_the_suite_knows_every_family():
    import test_models_laws

    assert {c.family for c in test_models_laws.FAMILIES.values()} == set(FAMILIES)
