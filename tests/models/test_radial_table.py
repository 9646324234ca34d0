"""Tables of functions of the distance, and the families with and without them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import structure

from kohn.descriptors import bessel_basis, polynomial_cutoff
from kohn.graphs import collate, neighbourhood
from kohn.models import Mace, MaceConfig, Nequip, NequipConfig, SchNet, SchNetConfig
from kohn.models.messages import basis_from_zero
from kohn.models.network import for_inference
from kohn.models.radial_table import KNOTS, RadialTable, quintic_pieces
from kohn.models.schnet import SSP_NORM, shifted_softplus
from kohn.potential import Potential, evaluate

pytestmark = pytest.mark.slow

CUTOFF = 3.5
ELEMENTS = (1, 8, 14)
CELL = np.array([[3.1, 0.2, 0], [0.5, 2.9, 0.1], [-0.4, 0.3, 3.0]])
MOLECULE = structure(np.random.default_rng(0).normal(size=(4, 3)) * 1.3, [8, 1, 1, 14])
CRYSTAL = structure([[0, 0, 0], [1.4, 1.3, 1.2]], [14, 8], CELL, True)


def waves(r):
    """Three functions of the distance that end at r_c as the filters do."""
    shapes = jnp.stack([jnp.sin(4 * r), jnp.exp(-(r**2)), r / (1 + r**2)], axis=-1)
    return shapes * polynomial_cutoff(r, CUTOFF, 5)[:, None]


def derivatives(function, r):
    """f, f' and f'' at each distance."""

    def slope(r):
        return jax.jvp(function, (r,), (jnp.ones_like(r),))[1]

    def all_three(r):
        return function(r), slope(r), jax.jvp(slope, (r,), (jnp.ones_like(r),))[1]

    return jax.jit(all_three)(r)


def worst(found, expected):
    """Largest difference, as a share of the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    return np.abs(found - expected).max() / np.abs(expected).max()


def random_model(dtype=np.float64, seed=1):
    config = SchNetConfig(cutoff=CUTOFF, channels=6, layers=2, n_gaussians=12)
    return SchNet.init(
        jax.random.key(seed), config, ELEMENTS, neighbours=5.0, scale=3.0, dtype=dtype
    )


def graph_of(*chosen, dtype=np.float64):
    return collate(chosen, [neighbourhood(s, CUTOFF) for s in chosen], ELEMENTS, dtype=dtype)


# The table


def test_the_table_is_the_function_and_so_are_its_derivatives():
    table = RadialTable.of(waves, CUTOFF, np.float64)
    r = jnp.asarray(np.random.default_rng(1).uniform(0.01, CUTOFF, 5000))
    errors = [
        worst(a, b) for a, b in zip(derivatives(table, r), derivatives(waves, r), strict=True)
    ]
    assert np.all(np.array(errors) < [5e-11, 1e-8, 2e-6]), errors


def test_the_error_falls_with_the_sixth_power_of_the_distance_of_the_knots():
    """Which also is how a wrong distance would be seen: it would not fall."""

    def error(knots, stretch=1.0):
        r = jnp.linspace(0, CUTOFF, 2 * knots + 1)
        f, df, ddf = (np.asarray(x) for x in derivatives(waves, r))
        width = stretch * CUTOFF / knots
        pieces = quintic_pieces(f[::2], df[::2], ddf[::2], width=width)
        return np.abs(np.einsum("npc,p->nc", pieces, 0.5 ** np.arange(6)) - f[1::2]).max()

    assert error(40) / error(80) == pytest.approx(64, rel=0.1)
    assert error(80, stretch=1.01) > 1e3 * error(80)


def test_value_slope_and_curvature_are_continuous_at_the_knots():
    table = RadialTable.of(waves, CUTOFF, np.float64)
    knots = table.pieces.shape[0] - 1
    a = np.asarray(table.pieces)
    p = np.arange(6)
    scales = np.array([1.0, knots / CUTOFF, (knots / CUTOFF) ** 2])
    ends = np.stack([np.einsum("npc,p->nc", a, factor) for factor in (p**0, p, p * (p - 1))])
    begins = np.stack([a[:, 0], a[:, 1], 2 * a[:, 2]])
    jump = np.abs(ends[:, :-1] - begins[:, 1:]).max(axis=(1, 2)) * scales
    largest = np.abs(begins).max(axis=(1, 2)) * scales
    assert np.all(jump < 1e-10 * largest)


def test_from_the_cutoff_on_all_is_exactly_zero():
    table = RadialTable.of(waves, CUTOFF, np.float64)
    beyond = jnp.asarray([CUTOFF, 1.0001 * CUTOFF, 10 * CUTOFF])
    assert not np.any(derivatives(table, beyond))
    before = derivatives(table, jnp.asarray([CUTOFF * (1 - 1e-7)]))
    assert np.abs(np.array(before)).max() < 1e-4  # curvature grows from zero
    assert np.abs(np.array(before[:2])).max() < 1e-10


def test_single_precision_takes_fewer_knots_and_is_right_to_rounding():
    double, single = (RadialTable.of(waves, CUTOFF, t) for t in (np.float64, np.float32))
    assert single.pieces.dtype == single.slopes.dtype == np.float32
    assert single.pieces.shape[0] < double.pieces.shape[0]
    r = np.linspace(0.01, CUTOFF, 999)
    assert worst(single(jnp.asarray(r, jnp.float32)), waves(jnp.asarray(r))) < 1e-6


def test_a_function_too_rough_for_the_finest_table_has_none():
    def rough(r):
        return jnp.sin(KNOTS[-1] * r)[:, None] * polynomial_cutoff(r, CUTOFF, 5)[:, None]

    assert RadialTable.of(rough, CUTOFF, np.float64) is None
    assert RadialTable.of(lambda r: waves(r) * jnp.nan, CUTOFF, np.float64) is None


# SchNet


DTYPES = pytest.mark.parametrize(
    ("dtype", "energy", "force"), [(np.float64, 1e-10, 1e-8), (np.float32, 5e-6, 1e-5)]
)


def assert_same(model, table, dtype, energy, force):
    """Energies, forces and stress of a molecule and of a crystal, each by its own largest."""
    graph = graph_of(MOLECULE, CRYSTAL, dtype=dtype)
    exact, found = (jax.device_get(evaluate(m, graph)) for m in (model, table))
    assert found.forces.dtype == dtype
    for g, atoms in enumerate((slice(0, 4), slice(4, 6))):
        # Of the total, as a share of the energies of atoms: they nearly cancel in some cases.
        size = np.abs(exact.atom_energies[atoms]).sum()
        assert np.abs(found.energy[g] - exact.energy[g]) < energy * size
        assert worst(found.atom_energies[atoms], exact.atom_energies[atoms]) < energy
        assert worst(found.forces[atoms], exact.forces[atoms]) < force
        assert worst(found.stress[g], exact.stress[g]) < force


@DTYPES
def test_a_tabulated_schnet_is_the_same_function(dtype, energy, force):
    model = random_model(dtype)
    assert_same(model, model.tabulated(), dtype, energy, force)


def test_a_table_of_a_wrong_cutoff_is_seen():
    """The planted fault: knots a thousandth further apart."""
    model, graph = random_model(), graph_of(CRYSTAL)
    right = model.tabulated()
    wrong = eqx.tree_at(
        lambda m: m.tables,
        right,
        tuple(RadialTable(t.pieces, t.slopes, 1.001 * CUTOFF) for t in right.tables),
    )
    assert worst(evaluate(wrong, graph).energy, evaluate(model, graph).energy) > 1e-5


def test_second_derivatives_by_positions_are_those_of_the_network():
    """Forward over reverse and reverse over reverse."""
    model, graph = random_model(), graph_of(MOLECULE)
    index, mask = np.asarray(graph.index), np.asarray(graph.edge_mask)[..., None]

    def energy(model, positions):
        d = jnp.where(mask, positions[index] - positions[:, None], graph.displacement)
        return model(eqx.tree_at(lambda g: g.displacement, graph, d)).sum()

    positions = jnp.asarray(np.vstack([MOLECULE.positions, np.zeros((1, 3))]))

    def hessian(jacobian, model):
        return jax.jit(jacobian(jax.grad(lambda x: energy(model, x))))(positions)

    expected, table = hessian(jax.jacrev, model), model.tabulated()
    assert np.abs(expected).max() > 0.1
    assert worst(hessian(jax.jacfwd, table), expected) < 1e-6
    assert worst(hessian(jax.jacrev, table), expected) < 1e-6


def test_only_inference_takes_the_table():
    """A potential evaluates with tables; its own model, which is trained, keeps its weights."""
    model = random_model()
    before = jax.tree.map(np.array, eqx.filter(model, eqx.is_array))
    potential = Potential(model, dict.fromkeys(ELEMENTS, 0.0))
    (found,) = potential.predict([CRYSTAL])
    assert type(potential.model) is SchNet
    after = eqx.filter(potential.model, eqx.is_array)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, before, after)))
    assert for_inference(model).tables
    assert worst(found.forces, evaluate(model, graph_of(CRYSTAL)).forces[:2]) < 1e-8


def test_the_activation_is_the_shifted_softplus():
    x = jnp.linspace(-40.0, 40.0, 801)
    expected = SSP_NORM * (np.logaddexp(x, 0.0) - np.log(2.0))
    np.testing.assert_allclose(shifted_softplus(x), expected, rtol=1e-14, atol=1e-15)
    slope = jax.vmap(jax.grad(shifted_softplus))(x)
    np.testing.assert_allclose(slope, SSP_NORM / (1 + np.exp(-np.asarray(x))), atol=1e-14)


# NequIP and MACE

SMALL = {"cutoff": CUTOFF, "channels": 4, "l_max": 2}  # products are not what is looked at here
SHAPES = {
    "nequip": (Nequip, NequipConfig(**SMALL, layers=3)),
    "mace": (Mace, MaceConfig(**SMALL, correlation=2)),
    "mace, scalars": (Mace, MaceConfig(**SMALL, correlation=2, hidden_l_max=0)),
}


def equivariant(name, dtype=np.float64):
    family, config = SHAPES[name]
    return family.init(jax.random.key(1), config, ELEMENTS, neighbours=5.0, scale=3.0, dtype=dtype)


def interactions(model):
    """The rounds of messages of either family."""
    if isinstance(model, Mace):
        return model.interactions
    return tuple(layer.interaction for layer in model.body.layers)


@pytest.mark.parametrize("name", SHAPES)
@DTYPES
def test_tabulated_messages_are_the_same_function(name, dtype, energy, force):
    model = equivariant(name, dtype)
    table = for_inference(model)
    assert all(x.table is not None for x in interactions(table))
    assert_same(model, table, dtype, energy, force)


@pytest.mark.parametrize("name", SHAPES)
def test_tables_of_hidden_layers_end_at_the_cutoff_with_two_derivatives(name):
    for x in interactions(for_inference(equivariant(name))):
        assert not np.any(derivatives(x.table, jnp.asarray([CUTOFF, 2 * CUTOFF])))


def test_the_basis_from_zero_is_that_of_the_edges():
    _, config = SHAPES["mace"]
    r = jnp.linspace(0.01, CUTOFF, 200)
    cut = polynomial_cutoff(r, CUTOFF, config.cutoff_power)[:, None]
    expected = bessel_basis(r, CUTOFF, config.n_bessel) * cut
    np.testing.assert_allclose(basis_from_zero(r, config), expected, atol=1e-13)
    assert np.isfinite(derivatives(lambda r: basis_from_zero(r, config), jnp.zeros(1))).all()
