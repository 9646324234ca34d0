"""The bilinear layer: turns and reflects as it says, is all there is, and agrees with e3nn-jax."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import random_rotation

from kohn.models.bilinear import Bilinear, paths
from kohn.o3 import to_e3nn, wigner_d

pytestmark = pytest.mark.slow

E3NN = np.load(Path(__file__).parents[1] / "o3" / "data" / "e3nn.npz")
IRREPS = [(l, p) for l in range(4) for p in (1, -1)]
CHANNELS = 3


def tensors(rng, irreps=IRREPS):
    return {i: jnp.asarray(rng.normal(size=(2, 2 * i[0] + 1, CHANNELS))) for i in irreps}


def turned(x, q):
    """Rotation by D of the proper part; inversion by the parity."""
    sign = round(float(np.linalg.det(q)))
    d = {l: np.asarray(wigner_d(q * sign, l)) for l in range(9)}
    return {
        (l, p): jnp.einsum("mn,znc->zmc", d[l], v) * (p if sign < 0 else 1)
        for (l, p), v in x.items()
    }


def violation(layer, q) -> float:
    rng = np.random.default_rng(1)
    x, y = tensors(rng), tensors(rng)
    expected, found = turned(layer(x, y), q), layer(turned(x, q), turned(y, q))
    return max(float(jnp.abs(expected[i] - found[i]).max()) for i in expected)


@pytest.fixture(scope="module")
def layer():
    return Bilinear.init(jax.random.key(0), IRREPS, IRREPS, IRREPS, CHANNELS, np.float64)


@pytest.mark.parametrize("sign", [1, -1])
def test_equivariance(layer, sign):
    assert violation(layer, sign * random_rotation(np.random.default_rng(2))) < 1e-12


def test_a_weight_that_depends_on_m_is_seen(layer):
    def planted(x, y):
        found = layer(x, y)
        l = found[(2, 1)].shape[-2]
        return found | {(2, 1): found[(2, 1)] * (1 + 1e-6 * jnp.arange(float(l)))[:, None]}

    assert violation(planted, random_rotation(np.random.default_rng(3))) > 1e-7


def test_a_path_of_the_wrong_parity_is_seen_by_a_reflection(layer):
    def planted(x, y):
        found = layer(x, y)
        return found | {(1, 1): found[(1, 1)] + 1e-6 * found[(1, -1)]}

    q = random_rotation(np.random.default_rng(4))
    assert violation(planted, q) < 1e-12
    assert violation(planted, -q) > 1e-7


@pytest.mark.parametrize("degrees", [(0, 1, 1), (1, 1, 1), (1, 2, 2), (2, 3, 4), (3, 3, 4)])
def test_each_path_is_that_of_e3nn(degrees):
    """e3nn-jax's `tensor_product`, whose "component" coefficients are sqrt(2 l3 + 1) of ours."""
    l1, l2, l3 = degrees
    name = "{}_{}_{}".format(*degrees)
    x, y, theirs = (E3NN[f"{what}_{name}"] for what in ("left", "right", "product"))
    a, b, c = ((l, (-1) ** n) for l, n in ((l1, l1), (l2, l2), (l3, l1 + l2)))
    layer = Bilinear(((a, b, c),), (jnp.ones(1),))
    x, y = to_e3nn(l1).T @ x, to_e3nn(l2).T @ y
    (found,) = layer({a: jnp.asarray(x)[:, None]}, {b: jnp.asarray(y)[:, None]}).values()
    ours = to_e3nn(l3) @ np.asarray(found)[:, 0]
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-12)


def test_there_is_a_path_for_every_invariant():
    """The count of equivariant maps, from characters: ∫ χ_l1 χ_l2 χ_l3 over rotations."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    theta = np.pi * (nodes + 1) / 2
    measure = weights * np.sin(theta / 2) ** 2  # of rotations by θ, up to ∫ = 1
    measure /= measure.sum()

    def character(l):
        return np.sin((2 * l + 1) * theta / 2) / np.sin(theta / 2)

    count = len(paths(IRREPS, IRREPS, IRREPS))
    invariants = sum(
        (measure * character(a) * character(b) * character(c)).sum()
        for a, p in IRREPS
        for b, q in IRREPS
        for c, r in IRREPS
        if p * q == r
    )
    assert count == pytest.approx(invariants, abs=1e-8)
