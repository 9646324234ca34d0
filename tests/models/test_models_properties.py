"""Properties turn with the molecule; files and bases are what they say."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import random_rotation, structure

from kohn.errors import ConfigError
from kohn.graphs import Shape, collate, neighbourhood
from kohn.models.heads.properties import (
    PropertyConfig,
    PropertyNetwork,
    by_degree,
    cartesian,
    traceless_basis,
)
from kohn.models.nequip import NequipConfig

BODY = NequipConfig(cutoff=3.5, channels=4, l_max=2, layers=2, radial_widths=(8,))
ELEMENTS = (1, 8)
TARGETS = ("dipole", "polarizability", "volume", "gap")
CONFIG = PropertyConfig(
    body=BODY, targets=TARGETS, extensive=("dipole", "polarizability", "volume"), charges=True
)


@pytest.fixture(scope="module")
def model():
    atoms = dict.fromkeys(TARGETS[1:], np.array([0.3, 0.7]))
    return PropertyNetwork.init(
        jax.random.key(0), CONFIG, ELEMENTS, neighbours=4.0, atoms=atoms, dtype=np.float64
    )


SHAPE = Shape(12, 12, 2)
predicted = eqx.filter_jit(lambda model, *x: model(*x))


def graph_of(s, charge=0.0, dtype=np.float64):
    """A molecule as a graph."""
    rows = [neighbourhood(s, CONFIG.cutoff)]
    return collate([s], rows, ELEMENTS, SHAPE, dtype=dtype, charges=[charge])


def values(model, s, charge=0.0):
    found = predicted(model, graph_of(s, charge))
    return {t: np.asarray(cartesian(t, parts))[0] for t, parts in found.items()}


def cluster(seed=0):
    rng = np.random.default_rng(seed)
    return structure(rng.normal(size=(5, 3)) * 1.1, [8, 1, 1, 8, 1])


def violation(of, q) -> float:
    s = cluster()
    still, turned = of(s), of(structure(s.positions @ q.T + 1.7, s.numbers))
    return max(
        np.abs(turned["dipole"] - q @ still["dipole"]).max(),
        np.abs(turned["polarizability"] - q @ still["polarizability"] @ q.T).max(),
        abs(turned["volume"] - still["volume"]),
        abs(turned["gap"] - still["gap"]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1, -1])
def test_properties_turn_and_reflect_with_the_molecule(model, sign):
    q = sign * random_rotation(np.random.default_rng(1))
    assert violation(lambda s: values(model, s), q) < 1e-12


def test_planted_faults_are_seen(model):
    """An axis of the laboratory; a polarizability that changes sign; components in wrong order."""
    q = -random_rotation(np.random.default_rng(2))
    faults = [
        lambda v: {**v, "dipole": v["dipole"] + [0, 0, 1e-6]},
        lambda v: {**v, "dipole": v["dipole"][[1, 2, 0]]},
        lambda v: {**v, "polarizability": v["polarizability"] * [[1, 1 + 1e-6, 1]] * 1.0},
    ]
    for fault in faults:
        assert violation(lambda s, fault=fault: fault(values(model, s)), q) > 1e-8


def test_order_of_atoms_and_separate_molecules(model):
    a, b = cluster(3), cluster(4)
    both = structure(np.concatenate([a.positions, b.positions + 50]), [*a.numbers, *b.numbers])
    one, other = values(model, a), values(model, b)
    sums = {t: one[t] + other[t] for t in TARGETS} | {"gap": (one["gap"] + other["gap"]) / 2}
    p = np.random.default_rng(5).permutation(len(both))
    mixed = values(model, structure(both.positions[p], both.numbers[p]))
    for t in TARGETS:
        np.testing.assert_allclose(mixed[t], sums[t], rtol=0, atol=1e-12)


def test_a_lone_atom_has_its_polarizability_and_no_dipole(model):
    found = values(model, structure([[0.3, 0.1, 0.0]], [8]))
    np.testing.assert_allclose(found["dipole"], 0, atol=1e-15)
    np.testing.assert_allclose(found["polarizability"], 0.7 / 3**0.5 * np.eye(3), atol=1e-12)
    assert found["gap"] == pytest.approx(0.7, abs=1e-12)


def test_a_symmetric_molecule_has_the_properties_of_its_symmetry(model):
    """A square of hydrogens: no dipole, and α with two equal axes."""
    square = structure([[1.2, 0, 0], [0, 1.2, 0], [-1.2, 0, 0], [0, -1.2, 0]], [1] * 4)
    found = values(model, square)
    np.testing.assert_allclose(found["dipole"], 0, atol=1e-12)
    alpha = found["polarizability"]
    np.testing.assert_allclose(alpha - np.diag(np.diag(alpha)), 0, atol=1e-12)
    assert alpha[0, 0] == pytest.approx(alpha[1, 1], abs=1e-12)
    assert abs(alpha[0, 0] - alpha[2, 2]) > 1e-3


def test_spherical_components_are_those_of_cartesian_tensors():
    rng = np.random.default_rng(6)
    a = rng.normal(size=(4, 3, 3))
    a = a + np.swapaxes(a, 1, 2)
    mu = rng.normal(size=(4, 3))
    for target, value in (("dipole", mu), ("polarizability", a), ("gap", mu[:, 0])):
        parts = {l: jnp.asarray(x) for l, x in by_degree(target, value).items()}
        np.testing.assert_allclose(cartesian(target, parts), value, rtol=0, atol=1e-14)
        norm = sum(float(jnp.sum(x**2)) for x in parts.values())
        assert norm == pytest.approx(float((value**2).sum()), rel=1e-12)
    basis = traceless_basis()
    np.testing.assert_allclose(np.trace(basis, axis1=0, axis2=1), 0, atol=1e-15)


@pytest.mark.slow
def test_charges_add_to_the_charge_and_move_the_dipole_of_an_ion(model):
    """μ of a cation about another origin differs by Q times the way; exactly, also in float32."""
    s = cluster(6)
    neutral, cation = values(model, s), values(model, s, charge=1.0)
    # The charge is spread evenly: Q/n at every atom, about the centre of mass.
    middle = s.positions.mean(axis=0) - s.centre_of_mass
    np.testing.assert_allclose(cation["dipole"] - neutral["dipole"], middle, rtol=0, atol=1e-12)
    for network in (model, jax.tree.map(lambda x: x.astype(np.float32), model)):
        graph = graph_of(s, 1.0, network.dtype)
        moved = replace(graph, positions=graph.positions + np.array([0.0, 0.0, 2.0]))
        here = cartesian("dipole", predicted(network, graph)["dipole"])
        there = cartesian("dipole", predicted(network, moved)["dipole"])
        np.testing.assert_allclose(there[0] - here[0], [0, 0, 2.0], rtol=0, atol=1e-12)


def test_charges_need_a_graph_that_tells_them(model):
    s = cluster(6)
    bare = collate([s], [neighbourhood(s, CONFIG.cutoff)], ELEMENTS, SHAPE, dtype=np.float64)
    with pytest.raises(ConfigError, match="positions and charges"):
        model(bare)


def test_periodic_structures_have_atomic_dipoles_alone(model):
    """A cell cannot tell where a charge is: wrapping atoms must not change its dipole."""
    s = cluster(7)
    box = structure(s.positions, s.numbers, cell=9.0 * np.eye(3), periodic=True)
    shifted = structure(
        s.positions + np.outer(np.arange(len(s)) % 2, [9.0, 0, 0]),
        s.numbers,
        cell=9.0 * np.eye(3),
        periodic=True,
    )
    np.testing.assert_allclose(
        values(model, box)["dipole"], values(model, shifted)["dipole"], rtol=0, atol=1e-12
    )
    assert np.abs(values(model, box)["dipole"] - values(model, s)["dipole"]).max() > 1e-3
