"""Networks use the power of their cutoff function, and λ, wherever they have messages.

At half of the cutoff c(½) is 5/16 for p = 2, 1/2 for p = 3, 99/128 for p = 5 (the default): by hand
from c(x) = 1 − (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) − p(p+1)/2 x^(p+2).
"""

from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.data import covalent_radii
from brute_force import structure

from kohn.graphs import collate, neighbourhood
from kohn.models import (
    DimeNet,
    DimeNetConfig,
    Direct,
    DirectConfig,
    Mace,
    MaceConfig,
    NequipConfig,
    SchNet,
    SchNetConfig,
)
from kohn.models.messages import basis_from_zero, edges_of

CUTOFF, ELEMENTS = 4.0, (8, 14)
HALF = {2: 5 / 16, 3: 1 / 2, 5: 99 / 128}
PAIR = structure([[0, 0, 0], [0.5 * CUTOFF, 0, 0]], [8, 14])
SMALL = {"cutoff": CUTOFF, "channels": 2}
BODY = {**SMALL, "l_max": 1, "layers": 1, "radial_widths": (2,)}


def graph_of(s):
    return collate([s], [neighbourhood(s, CUTOFF)], ELEMENTS, dtype=np.float64)


def model_of(family, config):
    return family.init(
        jax.random.key(0), config, ELEMENTS, neighbours=1.0, scale=1.0, dtype=np.float64
    )


@pytest.mark.parametrize(
    ("config", "p"), [(MaceConfig, 2), (NequipConfig, 3), (DirectConfig, 3)], ids=str
)
def test_messages_of_tensors_end_with_it(config, p):
    """√(2/r_c) sin(nπ/2)/r · c(½): every second function has a node there."""
    chosen = config(cutoff=CUTOFF, cutoff_power=p, l_max=1, n_bessel=4)
    _, edges = jax.jit(lambda: edges_of(graph_of(PAIR), chosen, 2, np.float64))()
    height = (2 / CUTOFF) ** 0.5 / (0.5 * CUTOFF) * HALF[p]
    expected = [height, 0.0, -height, 0.0]
    np.testing.assert_allclose(edges.radial[0, 0], expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(edges.radial[1, 0], expected, rtol=0, atol=1e-15)
    assert not np.any(edges.radial[2])  # padding
    at = jax.jit(lambda r: basis_from_zero(r, chosen))(jnp.asarray([0.5 * CUTOFF]))
    np.testing.assert_allclose(at[0], expected, rtol=0, atol=1e-15)


def with_power(model, p):
    return replace(model, config=model.config.model_copy(update={"cutoff_power": p}))


@pytest.fixture(scope="module")
def schnet():
    return model_of(SchNet, SchNetConfig(**SMALL, layers=1, n_gaussians=4))


@pytest.mark.parametrize("tabulated", [False, True], ids=["network", "table"])
def test_filters_of_schnet_end_with_it(schnet, tabulated):
    """A message across half of the cutoff is h W(r) c(½): of two powers, as 1/2 to 99/128."""
    graph, h = graph_of(PAIR), np.ones((3, 2))
    r = np.linalg.norm(graph.displacement, axis=-1)

    def sums(p):
        model = with_power(schnet, p)
        model = model.tabulated() if tabulated else model
        return np.asarray(jax.jit(lambda: model.messages(jnp.asarray(r), graph)[0](h))())[:2]

    one, other = sums(3), sums(5)
    assert np.abs(other).min() > 1e-3
    np.testing.assert_allclose(one / other, HALF[3] / HALF[5], rtol=1e-7 if tabulated else 1e-13)


def test_messages_of_schnet_are_divided_by_the_root_of_the_neighbours(schnet):
    """λ = 4 is λ = 1 with half of what flows in."""
    graph = graph_of(PAIR)

    def incoming(m):
        return m.interactions[0].incoming.weight

    halves = eqx.tree_at(incoming, schnet, 0.5 * incoming(schnet))
    energies = jax.jit(lambda m: m(graph))
    found = np.asarray(energies(replace(schnet, neighbours=4.0)))
    np.testing.assert_allclose(found, energies(halves), rtol=1e-12)
    assert np.abs(found - energies(schnet)).max() > 1e-4


@pytest.fixture(scope="module")
def dimenet():
    config = DimeNetConfig(**SMALL, angular_channels=2, l_max=1, layers=1, n_bessel=3)
    return model_of(DimeNet, config)


def of_dimenet(model):
    """Energies of the pair as a function of factors of what multiplies e(r) in messages and at the
    end, and of what comes of angles."""
    where = (
        lambda m: (
            [m.first.weight] + [w for i in m.interactions for w in (i.gate.weight, i.radial.weight)]
        ),
        lambda m: [x.radial.weight for x in m.outputs],
        lambda m: [i.up.weight for i in m.interactions],
    )

    @jax.jit
    def energies(*factors):
        scaled = model
        for of, factor in zip(where, factors, strict=True):
            scaled = eqx.tree_at(of, scaled, [w * factor for w in of(model)])
        return scaled(graph_of(PAIR))

    return energies


@pytest.mark.slow
def test_the_basis_and_the_sums_of_dimenet_are_scaled(dimenet):
    """Of a pair at half of the cutoff, p = 3 is p = 5 with all that multiplies e(r) times 64/99,
    and λ = 4 is λ = 1 with half of what is summed."""
    ratio, reference = HALF[3] / HALF[5], of_dimenet(dimenet)
    plain = np.asarray(reference(1.0, 1.0, 1.0))
    for other, factors in (
        (with_power(dimenet, 3), (ratio, ratio, 1.0)),
        (replace(dimenet, neighbours=4.0), (1.0, 0.5, 0.5)),
    ):
        found = np.asarray(of_dimenet(other)(1.0, 1.0, 1.0))
        np.testing.assert_allclose(found, reference(*factors), rtol=1e-12)
        assert np.abs(found - plain).max() > 1e-4


@pytest.fixture(scope="module")
def direct():
    return model_of(Direct, DirectConfig(**BODY, cutoff_power=3, net_force="free"))


@pytest.mark.slow
def test_messages_of_nequip_are_divided_by_the_root_of_the_neighbours(direct):
    """λ = 4 is λ = 1 with half of what is mixed into messages."""
    body = direct.body

    def of_mix(b):
        return [mix.weight for layer in b.layers for mix in layer.interaction.mix]

    features = jax.jit(lambda b: b(graph_of(PAIR), np.float64))
    halves = eqx.tree_at(of_mix, body, [0.5 * w for w in of_mix(body)])
    found = features(replace(body, neighbours=4.0))
    for a, b, c in zip(found, features(halves), features(body), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
        assert np.abs(np.asarray(a - c)).max() > 1e-3


def test_shares_of_the_net_force_are_counted_with_it(direct):
    """A chain with bonds of r_c/2 and r_c/4. With p = 3, c is 512/1024 at 1/2, 918/1024 at 1/4 and
    106/1024 at 3/4: the atoms have 618, 1430 and 1024 parts of 3072 in what is taken away."""
    chain = structure(CUTOFF * np.array([[0, 0, 0], [0.5, 0, 0], [0.75, 0, 0]]), [8, 14, 8])
    removed = replace(direct, config=direct.config.model_copy(update={"net_force": "removed"}))
    f, g = (
        np.asarray(jax.jit(lambda m: m.derived(graph_of(chain)).forces)(m))[:3]
        for m in (direct, removed)
    )
    net = f.sum(axis=0)
    assert np.abs(net).max() > 1e-3
    shares = np.array([618, 1430, 1024]) / 3072
    np.testing.assert_allclose(g, f - shares[:, None] * net, rtol=0, atol=1e-12)


def test_the_repulsion_of_nuclei_in_mace_ends_with_it():
    """At half of the sum of the covalent radii, p = 3 against p = 5, as 1/2 to 99/128."""
    half = 0.5 * float(covalent_radii[8] + covalent_radii[14])
    graph = graph_of(structure([[0, 0, 0], [half, 0, 0]], [8, 14]))

    def energies(p):
        config = MaceConfig(**SMALL, l_max=0, hidden_l_max=0, zbl=True, cutoff_power=p)
        mace = SimpleNamespace(config=config, elements=ELEMENTS, scale=np.ones(()))
        return np.asarray(jax.jit(lambda: Mace._zbl(mace, graph))())[:2]

    assert energies(5).min() > 1.0
    np.testing.assert_allclose(energies(3) / energies(5), HALF[3] / HALF[5], rtol=1e-12)
