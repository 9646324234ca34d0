"""Screened nuclear repulsion against a formula in plain Python."""

from math import exp

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.data import covalent_radii
from brute_force import structure

from kohn.graphs import Shape, collate, neighbourhood
from kohn.models import Mace, MaceConfig
from kohn.models.zbl import zbl_energies
from kohn.potential import evaluate


def plain(r: float, z1: int, z2: int, p: int = 5) -> float:
    """V(r) of a pair: Ziegler, Biersack, Littmark (1985), with the cutoff at the covalent radii."""
    reach = covalent_radii[z1] + covalent_radii[z2]
    if r >= reach:
        return 0.0
    a = 0.4543 * 0.529 / (z1**0.3 + z2**0.3)
    x = r / a
    phi = 0.1818 * exp(-3.2 * x) + 0.5099 * exp(-0.9423 * x)
    phi += 0.2802 * exp(-0.4028 * x) + 0.02817 * exp(-0.2016 * x)
    y = r / reach
    cut = (
        1
        - (p + 1) * (p + 2) / 2 * y**p
        + p * (p + 2) * y ** (p + 1)
        - p * (p + 1) / 2 * y ** (p + 2)
    )
    return 14.3996 * z1 * z2 / r * phi * cut


def ours(r, z1, z2, p=5):
    reach = float(covalent_radii[z1] + covalent_radii[z2])
    value = zbl_energies(
        jnp.reshape(jnp.asarray(r, jnp.float64), (1, 1)),
        jnp.full((1, 1), float(z1)),
        jnp.full((1, 1), float(z2)),
        jnp.full((1, 1), reach),
        p,
    )
    return 2 * value[0]  # each of the two atoms has half


PAIRS = [(1, 1), (14, 14), (1, 8), (8, 14), (79, 6)]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("p", [5, 6])
def test_value(pair, p):
    reach = covalent_radii[pair[0]] + covalent_radii[pair[1]]
    for r in np.linspace(0.05, 1.2 * reach, 25):
        assert float(ours(r, *pair, p)) == pytest.approx(plain(r, *pair, p), rel=1e-9, abs=1e-12)
        assert float(ours(r, *pair[::-1], p)) == pytest.approx(float(ours(r, *pair, p)), rel=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS[:3], ids=str)
def test_slope(pair):
    slope = jax.grad(lambda r: ours(r, *pair))
    for r in (0.2, 0.4, 0.6):
        h = 1e-4
        f = [plain(r + k * h, *pair) for k in (-2, -1, 1, 2)]
        expected = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)
        assert float(slope(r)) == pytest.approx(expected, rel=1e-7)
        assert expected < 0


@pytest.mark.slow
def test_nothing_beyond_the_covalent_radii():
    reach = float(2 * covalent_radii[14])
    slope = jax.grad(lambda r: ours(r, 14, 14))
    curvature = jax.grad(slope)
    for r in (reach, reach * (1 + 1e-12), reach + 0.1, 2 * reach):
        assert (float(ours(r, 14, 14)), float(slope(r)), float(curvature(r))) == (0.0, 0.0, 0.0)
    near = reach * (1 - 1e-4)
    assert 0 < float(ours(near, 14, 14)) < 1e-8
    assert abs(float(slope(near))) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_in_a_model(factor):
    """A model with ZBL is the one without, plus the pairs; not multiplied by the scale."""
    config = MaceConfig(
        cutoff=3.0, channels=2, l_max=1, hidden_l_max=0, correlation=1, radial_widths=(4,)
    )
    at = np.array([[0, 0, 0], [0.6, 0, 0], [0, 0.9, 0.3]])
    numbers = [1, 8, 14]
    s = structure(at, numbers)
    graph = collate([s], [neighbourhood(s, 3.0)], (1, 8, 14), Shape(6, 4, 2), dtype=np.float64)
    outcomes = []
    for zbl in (False, True):
        chosen = config.model_copy(update={"zbl": zbl, "zbl_factor": factor})
        model = Mace.init(
            jax.random.key(0), chosen, (1, 8, 14), neighbours=2.0, scale=7.0, dtype=np.float64
        )
        outcomes.append(evaluate(model, graph))
    added = float(outcomes[1].energy[0] - outcomes[0].energy[0])
    each = [
        factor * plain(np.linalg.norm(at[i] - at[j]), numbers[i], numbers[j])
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert added == pytest.approx(sum(each), rel=1e-10)
    halves = np.array(outcomes[1].atom_energies - outcomes[0].atom_energies)[:3]
    np.testing.assert_allclose(
        halves,
        [(each[0] + each[1]) / 2, (each[0] + each[2]) / 2, (each[1] + each[2]) / 2],
        rtol=1e-9,
    )
