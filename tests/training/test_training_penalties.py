"""Penalties estimate what they say, are zero where they should be, and work."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brute_force import structure

from kohn.errors import ConfigError
from kohn.graphs import Shape, collate, needed_shape, neighbourhood
from kohn.models import Direct, DirectConfig, Nequip, NequipConfig
from kohn.structures import Dataset
from kohn.training.losses import targets
from kohn.training.optimiser import flatten, initial_state, make_step
from kohn.training.penalties import (
    PENALTIES,
    asymmetry,
    forces_of,
    moved,
    net_force,
    penalised,
    torque,
    twist,
)
from kohn.training.settings import Weights
from kohn.training.stress import predicts_stress, refuse_stress, without_stress

pytestmark = pytest.mark.slow

CUTOFF, ELEMENTS = 3.5, (1, 8)
SHAPE = {"cutoff": CUTOFF, "channels": 4, "l_max": 1, "layers": 2, "radial_widths": (8,)}


def random_model(family, config, dtype=np.float64, scale=300.0):
    return family.init(
        jax.random.key(1), config, ELEMENTS, neighbours=5.0, scale=scale, dtype=dtype
    )


@cache
def model(name):
    """Made when a test first asks for it, and never while JAX traces."""
    return {
        "direct": lambda: random_model(Direct, DirectConfig(**SHAPE)),
        "free": lambda: random_model(Direct, DirectConfig(**SHAPE, net_force="free")),
        "nequip": lambda: random_model(Nequip, NequipConfig(**SHAPE)),
    }[name]()


def cluster(seed=0, n=4):
    rng = np.random.default_rng(seed)
    return structure(rng.normal(size=(n, 3)) * 1.1, rng.choice(ELEMENTS, n))


def shape_of(structures, spare=0):
    """At least that of one cluster, so that all single clusters have the same."""
    needed = needed_shape([neighbourhood(s, CUTOFF) for s in structures])
    return Shape(*(max(a, b) + spare for a, b in zip(needed, (6, 4, 1), strict=True)))


def graph_of(*structures, spare=0, dtype=np.float64):
    rows, shape = [neighbourhood(s, CUTOFF) for s in structures], shape_of(structures, spare)
    zeros = [0.0] * len(structures)
    return jax.tree.map(
        jnp.asarray, collate(structures, rows, ELEMENTS, shape, dtype=dtype, charges=zeros)
    )


def labels_of(*structures, spare=0):
    return targets(structures, shape_of(structures, spare))


@eqx.filter_jit
def jacobian(model, graph):
    """J [N, 3, N, 3] of all atoms of a batch."""
    zeros = jnp.zeros((*graph.atom_mask.shape, 3))
    return jax.jacfwd(lambda x: forces_of(model)(moved(graph, x)))(zeros)


def dense(model, graph):
    """J of all atoms of a batch, from columns."""
    j = np.asarray(jacobian(model, graph))
    return j.reshape(3 * len(j), 3 * len(j))


def exact(model, *structures):
    """⟨‖J − Jᵀ‖² / 3n⟩ from dense Jacobians of one structure at a time."""
    found = []
    for s in structures:
        j = dense(model, graph_of(s))
        found.append(np.sum((j - j.T) ** 2) / (3 * len(s)))
    return np.mean(found)


# The Jacobian


def test_moving_the_graph_is_moving_the_atoms():
    """Of a crystal too, where images move along."""
    cell = np.array([[3.1, 0.2, 0], [0.5, 2.9, 0.1], [-0.4, 0.3, 3.0]])
    rng = np.random.default_rng(0)
    step = 1e-5 * rng.normal(size=(2, 3))
    places = np.array([[0, 0, 0], [1.4, 1.3, 1.2]])
    a, b = (structure(places + x, [8, 1], cell, True) for x in (0 * step, step))
    graph = graph_of(a)
    steps = np.zeros((*graph.atom_mask.shape, 3))
    steps[:2] = step
    found = moved(graph, jnp.asarray(steps))
    forces = jax.jit(forces_of(model("direct")))
    np.testing.assert_allclose(forces(found), forces(graph_of(b)), rtol=0, atol=1e-11)
    assert np.abs(np.asarray(forces(found) - forces(graph))).max() > 1e-6


@pytest.mark.parametrize("name", ["direct", "free"])
def test_all_unit_vectors_give_the_dense_asymmetry(name):
    s = cluster()
    graph, n = graph_of(s, spare=2), len(s)
    size = graph.atom_mask.shape[0]
    units = np.zeros((3 * n, size, 3))
    units.reshape(3 * n, -1)[:, : 3 * n] = np.eye(3 * n)
    forces = forces_of(model(name))
    each = jax.jit(lambda v: twist(forces, graph, v))
    columns = np.stack([np.asarray(each(jnp.asarray(v))) for v in units])
    j = dense(model(name), graph_of(s))[: 3 * n, : 3 * n]
    np.testing.assert_allclose(
        columns.reshape(3 * n, -1)[:, : 3 * n].T, j - j.T, rtol=0, atol=1e-9 * np.abs(j).max()
    )
    total = np.sum((j - j.T) ** 2)
    assert np.sum(columns**2) == pytest.approx(total, rel=1e-9)
    assert total > 1e-2 * np.sum(j**2)


def test_the_estimate_has_the_right_mean_over_a_padded_batch():
    """Two structures of different sizes: one vector of all atoms, and no cross terms."""
    batch = (cluster(1), cluster(2, 3))
    graph = graph_of(*batch, spare=3)
    forces = forces_of(model("direct"))
    estimate = jax.jit(lambda key: asymmetry(forces, graph, key))
    found = np.array([float(estimate(k)) for k in jax.random.split(jax.random.key(0), 400)])
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - exact(model("direct"), *batch)) < 4 * error
    assert error < 0.1 * found.mean()


def test_forces_with_an_energy_have_none():
    """1e-9 of ‖J‖, squared."""
    s = cluster(3)
    size = np.sum(dense(model("nequip"), graph_of(s)) ** 2) / (3 * len(s))
    graph, forces = graph_of(s), forces_of(model("nequip"))
    found = jax.jit(lambda key: asymmetry(forces, graph, key))(jax.random.key(0))
    assert size > 1.0
    assert float(found) < 1e-18 * size


def test_a_planted_asymmetry_is_seen():
    """F_z + ε Σ_j (x_j − x_i): the z of forces follows the x of positions, and not the reverse."""
    s, epsilon = cluster(4), 1e-4
    graph = graph_of(s)
    honest = forces_of(model("nequip"))

    def planted(g):
        edges = g.edge_mask[..., None].astype(g.displacement.dtype)
        x = jnp.sum(g.displacement * edges, axis=1)  # Σ_j x_j − x_i
        return honest(g) + epsilon * jnp.stack([0 * x[:, 0], 0 * x[:, 0], x[:, 0]], axis=1)

    found = jax.jit(lambda key: asymmetry(planted, graph, key))(jax.random.key(0))
    assert float(found) > 0.1 * epsilon**2


# Net force and torque


def test_net_force_and_torque_are_what_they_say():
    batch = (cluster(5), cluster(6, 3))
    graph = graph_of(*batch, spare=2)
    f = np.asarray(jax.jit(forces_of(model("free")))(graph))
    net, turn, start = [], [], 0
    for s in batch:
        here, start = f[start : start + len(s)], start + len(s)
        x = s.positions - s.positions.mean(0)
        net.append(np.sum(here.sum(0) ** 2) / len(s))
        turn.append(np.sum(np.cross(x, here).sum(0) ** 2) / len(s))
    forces = forces_of(model("free"))
    assert float(jax.jit(lambda g: net_force(forces, g))(graph)) == pytest.approx(np.mean(net))
    found = jax.jit(lambda g: torque(forces, g))(graph)
    assert float(found) == pytest.approx(np.mean(turn))
    assert min(net) > 1e-6
    assert min(turn) > 1e-6


def test_forces_with_an_energy_have_neither():
    s = cluster(7)
    graph = graph_of(s)
    forces = forces_of(model("nequip"))
    size = float(jnp.sum(jax.jit(forces)(graph) ** 2))
    assert float(jax.jit(lambda g: net_force(forces, g))(graph)) < 1e-24 * size
    found = jax.jit(lambda g: torque(forces, g))(graph)
    assert float(found) < 1e-24 * size


def test_crystals_have_no_torque():
    crystal = structure([[0, 0, 0], [1.4, 1.3, 1.2]], [8, 1], np.eye(3) * 3.1, True)
    graph = graph_of(crystal)
    assert float(torque(lambda g: jnp.ones((len(g.species), 3)), graph)) == 0.0


# In training


def sum_of_squares(unravel):
    """A stand-in for a task: forces near those of another model."""

    def objective(theta, graph, t, w, key):
        wrong = forces_of(unravel(theta))(graph) - t.forces.astype(theta.dtype)
        loss = jnp.mean((wrong * wrong).astype(jnp.float64))
        return loss, {"forces": loss}

    return objective


def fitted(weights, steps=60):
    """Asymmetry after some steps towards the forces of a NequIP."""
    batch = [cluster(seed) for seed in range(4)]
    graph, t = graph_of(*batch), labels_of(*batch)
    wanted = np.asarray(jax.jit(forces_of(model("nequip")))(graph))
    t = type(t)(**{**vars(t), "forces": wanted / np.abs(wanted).max()})
    theta, unravel = flatten(random_model(Direct, DirectConfig(**SHAPE), scale=30.0))
    objective = penalised(sum_of_squares(unravel), unravel, weights)
    rule = optax.adam(0.02)
    step, state = make_step(objective, rule, ema=0.0), initial_state(theta, rule)
    for _ in range(steps):
        state, report = step(state, graph, t, 0.0)
    return exact(unravel(state.theta), *batch), {k: float(x) for k, x in report.parts.items()}


def test_a_penalty_makes_the_jacobian_more_symmetric():
    alone, parts = fitted({})
    assert parts.keys() == {"forces"}
    held, parts = fitted({"asymmetry": 1.0, "torque": 0.0})
    assert parts.keys() == {"forces", "asymmetry"}
    assert held < 0.3 * alone


def test_penalties_add_up():
    batch = (cluster(8), cluster(9))
    graph, t = graph_of(*batch), labels_of(*batch)
    theta, unravel = flatten(model("free"))
    weights = {"asymmetry": 0.3, "net_force": 0.2, "torque": 0.1}
    objective = penalised(sum_of_squares(unravel), unravel, weights)
    total, parts = jax.jit(objective)(theta, graph, t, 0.0, jax.random.key(3))
    expected = parts["forces"] + sum(weights[name] * parts[name] for name in PENALTIES)
    assert float(total) == pytest.approx(float(expected))
    assert all(float(parts[name]) > 0 for name in PENALTIES)


# Stress, which direct models do not have


def test_a_weight_of_stress_is_refused():
    assert predicts_stress(NequipConfig())
    assert not predicts_stress(DirectConfig())
    refuse_stress(NequipConfig(), Weights(stress=1.0))
    refuse_stress(DirectConfig(), Weights(), None, Weights(stress=0.0))
    with pytest.raises(ConfigError, match="nequip-direct predicts no stress"):
        refuse_stress(DirectConfig(), Weights(), Weights(stress=10.0))


def test_labels_of_stress_are_left_out():
    crystal = structure([[0, 0, 0], [1.4, 1.3, 1.2]], [8, 1], np.eye(3) * 3.1, True)
    data = Dataset((crystal.with_labels(stress=np.eye(3), energy=np.array(1.0)),))
    bare = without_stress(data)
    assert bare.count("stress") == 0
    assert bare.count("energy") == 1
