"""What an invariant model cannot learn: a vector of a molecule in any orientation.

Its features are the same whichever way the molecule is turned, so that the best it can say is the
mean of the labels, which is zero but for chance: |mean|² is 1/n of the mean square for n turns.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import random_rotation, structure

from kohn.graphs import collate, neighbourhood
from kohn.models import NequipConfig, SchNet, SchNetConfig
from kohn.models.layers import Linear, one_hot
from kohn.models.schnet import gaussian_basis
from kohn.models.tensors import TensorModel, cartesian
from kohn.training.optimiser import flatten, initial_state, make_step, optimiser
from kohn.training.settings import OptimiserSettings

TURNS, STEPS = 64, 150
ELEMENTS = (1, 8)
WATER = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


class FromInvariants(eqx.Module):
    """Three numbers for each atom from a SchNet, summed."""

    net: SchNet
    head: Linear

    def __call__(self, graph):
        d = graph.displacement
        basis = gaussian_basis(jnp.sqrt(jnp.sum(d * d, axis=-1)), 3.0, 10)
        h = self.net.embedding(one_hot(graph.species, len(ELEMENTS), d.dtype))
        for layer in self.net.interactions:
            h = layer(h, basis, graph.edge_mask.astype(d.dtype), graph, 0.7)
        return graph.sum_atoms(self.head(h))


class Equivariant(eqx.Module):
    model: TensorModel

    def __call__(self, graph):
        return cartesian("dipole", self.model(graph)["dipole"])


def invariant():
    key = jax.random.key(0)
    config = SchNetConfig(cutoff=3.0, channels=16, layers=2, n_gaussians=10)
    net = SchNet.random(key, config, ELEMENTS, neighbours=2.0)
    return FromInvariants(net, Linear.random(key, (16, 3), np.float32))


def equivariant():
    config = NequipConfig(cutoff=3.0, channels=8, l_max=1, layers=2, radial_widths=(8,))
    return Equivariant(
        TensorModel.random(jax.random.key(0), config, ELEMENTS, ("dipole",), neighbours=2.0)
    )


def trained(model, graph, dipoles):
    """Predictions after training on all of them at once."""
    theta, unravel = flatten(model)

    def objective(theta, graph, t, weights):
        loss = jnp.mean(jnp.sum((unravel(theta)(graph) - t) ** 2, axis=1))
        return loss, loss

    rule = optimiser(OptimiserSettings(learning_rate=0.02, warmup_steps=5), STEPS)
    step, state = make_step(objective, rule, ema=0.9), initial_state(theta, rule)
    for _ in range(STEPS):
        state, _ = step(state, graph, dipoles, 0.0)
    return np.asarray(unravel(state.average)(graph))


@pytest.mark.slow
def test_an_invariant_model_ends_at_the_mean_and_an_equivariant_one_does_not():
    rng = np.random.default_rng(0)
    turns = [random_rotation(rng) for _ in range(TURNS)]
    waters = [structure(WATER @ q.T, [8, 1, 1]) for q in turns]
    dipoles = np.stack([q @ [0.6, 0.8, 0.0] for q in turns])
    rows = [neighbourhood(s, 3.0) for s in waters]
    graph = collate(waters, rows, ELEMENTS, dtype=np.float32)
    mean, rms = dipoles.mean(axis=0), 1.0

    blind = trained(invariant(), graph, dipoles)
    np.testing.assert_allclose(blind - blind[0], 0, atol=1e-5)  # whatever the orientation
    assert np.linalg.norm(blind[0] - mean) < 0.05 * rms
    assert np.sqrt(((blind - dipoles) ** 2).sum(axis=1).mean()) > 0.95 * rms

    seeing = trained(equivariant(), graph, dipoles)
    assert np.sqrt(((seeing - dipoles) ** 2).sum(axis=1).mean()) < 0.02 * rms
