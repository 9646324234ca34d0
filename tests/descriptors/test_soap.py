"""SOAP against quadrature, DScribe and featomic, and against the laws."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadrature
from brute_force import pairs, random_rotation, structure
from hypothesis import given
from hypothesis import strategies as st

from kohn.descriptors.radial_integrals import bessel, gauss_legendre, gto, polynomial
from kohn.descriptors.soap import (
    SoapConfig,
    coefficients,
    cutoff_function,
    expansion,
    feature_names,
    soap,
    soap_jacobian,
)
from kohn.descriptors.soap_stream import rows_of, soap_features
from kohn.errors import ConfigError, InputError

PEERS = np.load(Path(__file__).parent / "data" / "soap_peers.npz")
HYPERS = {"r_cut": 5.0, "n_max": 8, "l_max": 6, "sigma": 0.5}
SMALL = SoapConfig(r_cut=3.5, n_max=3, l_max=3, sigma=0.4)
ELEMENTS = (1, 8, 14)


def peer_structure(name):
    parts = (PEERS[f"{name}_{x}"] for x in ("positions", "numbers", "cell", "periodic"))
    return structure(*parts)


def elements_of(s):
    return tuple(sorted(set(s.numbers.tolist())))


def of(s, config=SMALL, elements=ELEMENTS):
    return next(soap_features([s], config, elements))


def some(seed, n=4, periodic=True):
    rng = np.random.default_rng([seed, n])
    cell = np.eye(3) * (14 * n) ** (1 / 3) + 0.4 * rng.normal(size=(3, 3))
    positions = rng.uniform(-1, 2, (n, 3)) @ cell if periodic else rng.uniform(-1, 1, (n, 3))
    return structure(positions, rng.choice(ELEMENTS, n), cell if periodic else None, periodic)


def close(a, b, tolerance=1e-9):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


# --- numbers ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("radial", [gto, polynomial, bessel])
def test_coefficients_are_the_integrals(radial, rng):
    """Of a few neighbours, against a grid that knows neither addition theorem nor Bessel."""
    n_max, l_max, sigma, r_cut = 4, 4, 0.5, 4.0
    config = SoapConfig(r_cut=r_cut, n_max=n_max, l_max=l_max, sigma=sigma, radial=radial.__name__)
    d = rng.normal(size=(3, 3)) * 1.5
    r = jnp.linalg.norm(jnp.asarray(d), axis=1)
    table = expansion(config, (14,))
    zero = jnp.zeros((1, 3), jnp.int32)
    c = coefficients(table, jnp.asarray(d)[None], zero, zero == 0, zero[0, :1])[0]
    basis = radial(r_cut, n_max)
    weights = np.append(np.asarray(cutoff_function(config)(r)), 1.0)
    vectors = np.vstack([d, np.zeros(3)])
    end = min(basis.extent, 10.0)
    expected = quadrature.coefficients(vectors, weights, sigma, basis.functions, l_max, end)
    close(np.asarray(c).T, expected)


@pytest.mark.parametrize("radial", [gto, polynomial, bessel])
def test_radial_functions_are_orthonormal(radial):
    basis = radial(5.0, 8)
    r, w = gauss_legendre(basis.extent, 400)
    g = basis.functions(2, r)
    # the condition number of eight overlapping polynomials, 1e8 after the square root, shows
    tolerance = 1e-8 if radial is polynomial else 1e-12
    np.testing.assert_allclose((g * w * r**2) @ g.T, np.eye(8), atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ethanol", "skewed"])
@pytest.mark.parametrize(("radial", "n_max", "l_max"), [("gto", 8, 6), ("polynomial", 4, 3)])
def test_dscribe_preset(name, radial, n_max, l_max):
    s = peer_structure(name)
    config = SoapConfig.dscribe(**{**HYPERS, "n_max": n_max, "l_max": l_max}, radial=radial)
    found = of(s, config, elements_of(s))[PEERS[f"{name}_centres"]]
    close(found, PEERS[f"{name}_dscribe_{radial}"], 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ethanol", "skewed"])
@pytest.mark.parametrize("average", ["inner", "outer"])
def test_dscribe_averages(name, average):
    s = peer_structure(name)
    config = SoapConfig.dscribe(r_cut=4.0, n_max=4, l_max=3, sigma=0.5, average=average)
    close(of(s, config, elements_of(s))[0], PEERS[f"{name}_dscribe_{average}"], 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ethanol", "skewed"])
def test_featomic_preset(name):
    s = peer_structure(name)
    config = SoapConfig.featomic(**HYPERS, smoothing_width=0.5)
    found = of(s, config, elements_of(s))[PEERS[f"{name}_centres"]]
    close(found, PEERS[f"{name}_featomic"], 1e-8)


@pytest.mark.slow
def test_a_dot_product_is_the_textbook_kernel(rng):
    """Σ over all pairs of channels, with nothing left out, is what the factors stand for."""
    s = some(0)
    table = expansion(SMALL, ELEMENTS)
    rows = rows_of(s, table)
    c = np.asarray(coefficients(table, rows.displacement, rows.neighbour, rows.mask, rows.centre))
    whole = np.zeros((len(s), len(s)))
    for l in range(SMALL.l_max + 1):
        part = c[:, l * l : (l + 1) ** 2]
        p = np.einsum("nma,nmb->nab", part, part)
        whole += np.einsum("iab,jab->ij", p, p)
    p = of(s)
    close(p @ p.T, whole)


# --- laws ---------------------------------------------------------------------------------

seeds = given(seed=st.integers(0, 1000), n=st.integers(1, 5), periodic=st.booleans())
CONFIGS = {
    "plain": SMALL,
    "scaled": SMALL.model_copy(update={"scaling_radius": 2.0, "smoothing_width": 0.8}),
    "compressed": SMALL.model_copy(update={"species_channels": 2, "centre_weight": 0.5}),
    "inner": SMALL.model_copy(update={"average": "inner"}),
    "outer": SMALL.model_copy(update={"average": "outer"}),
    "bessel": SMALL.model_copy(update={"radial": "bessel"}),
    "dscribe": SoapConfig.dscribe(r_cut=3.0, n_max=3, l_max=2, sigma=0.3),
    "featomic": SoapConfig.featomic(r_cut=3.0, n_max=3, l_max=2, sigma=0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@seeds
def test_symmetries(name, seed, n, periodic):
    """Translation, rotation or reflection, permutation, images of atoms, in one."""
    s, rng, config = some(seed, n, periodic), np.random.default_rng(seed), CONFIGS[name]
    q = random_rotation(rng) * rng.choice([-1, 1])
    order = rng.permutation(n)
    positions = s.positions + (rng.integers(-2, 3, (n, 3)) * periodic) @ s.cell
    moved = replace(
        s,
        positions=(positions[order] @ q.T) + rng.normal(size=3),
        numbers=s.numbers[order],
        cell=s.cell @ q.T,
    )
    expected = of(s, config)
    close(of(moved, config), expected if config.average != "off" else expected[order])


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@given(seed=st.integers(0, 1000), n=st.integers(1, 3))
def test_lattices(name, seed, n):
    """Other vectors of one lattice, also left-handed, and supercells."""
    s, rng, config = some(seed, n), np.random.default_rng(seed), CONFIGS[name]
    a, b = rng.choice(3, 2, replace=False)
    shear = np.eye(3)
    shear[a, b] = rng.choice([-1, 1])
    other = replace(s, cell=(shear @ s.cell)[rng.permutation(3)])
    close(of(other, config), of(s, config))
    double = structure(
        np.concatenate([s.positions, s.positions + s.cell[a]]),
        np.tile(s.numbers, 2),
        s.cell * (1 + (np.arange(3) == a))[:, None],
        True,
    )
    close(of(double, config)[: len(of(s, config))], of(s, config))


def along_cutoff(config, x):
    s = structure([[0, 0, 0], [config.r_cut + x, 0, 0], [0, 1.2, 0.3]], [14, 8, 1])
    return of(s, config)[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_twice_continuous_at_the_cutoff(name):
    """First and second differences vanish with the step; presets keep their jumps, by name."""
    config = CONFIGS[name].model_copy(update={"average": "off"})
    h = 1e-4
    low, zero, high = (along_cutoff(config, x) for x in (-h, 0.0, h))
    far = along_cutoff(config, 1.0)
    second = np.abs(low - 2 * zero + high).max() / h**2 / np.abs(far).max()
    if config.convention == "kohn":
        assert second < 1e-2  # the third derivative times h
    else:
        assert second > 1e-2


def test_dscribe_jumps_where_its_density_ends():
    config = CONFIGS["dscribe"]
    end = config.reach - config.r_cut
    a, b = along_cutoff(config, end - 1e-9), along_cutoff(config, end + 1e-9)
    assert 1e-6 < np.abs(a - b).max() / np.abs(a).max() < 1e-2


# --- derivatives --------------------------------------------------------------------------


@pytest.mark.slow
def test_derivatives_by_positions_and_cell(rng):
    """Of a random projection, against central differences of the whole path."""
    s = some(3)
    table, w = expansion(SMALL, ELEMENTS), rng.normal(size=expansion(SMALL, ELEMENTS).size)
    rows = rows_of(s, table)
    i, j, _, d = pairs(s, SMALL.reach)

    def energy(x: np.ndarray, cell: np.ndarray) -> float:
        return float((of(replace(s, positions=x, cell=cell)) @ w).sum())

    def total(displacement):
        p = soap(table, displacement, rows.neighbour, rows.mask, rows.centre)
        return jnp.sum(p @ jnp.asarray(w))

    g = np.asarray(jax.grad(total)(jnp.asarray(rows.displacement)))
    edges = g[rows.mask]
    order = [
        int(np.argmin(np.linalg.norm(d - v, axis=1) + 100 * (i != a)))
        for a, v in zip(np.nonzero(rows.mask)[0], rows.displacement[rows.mask], strict=True)
    ]
    assert sorted(order) == list(range(len(d)))  # both searches found the same edges
    gradient = np.zeros((len(s), 3))
    np.add.at(gradient, j[order], edges)
    np.add.at(gradient, i[order], -edges)
    virial = np.einsum("ea,eb->ab", edges, d[order])

    step = 1e-5
    for a in range(len(s)):
        for axis in range(3):
            h = np.zeros_like(s.positions)
            h[a, axis] = step
            change = energy(s.positions + h, s.cell) - energy(s.positions - h, s.cell)
            assert gradient[a, axis] == pytest.approx(change / (2 * step), rel=1e-6, abs=1e-5)
    for a in range(3):
        for b in range(3):
            e = np.zeros((3, 3))
            e[a, b] = step
            plus, minus = np.eye(3) + e, np.eye(3) - e
            change = energy(s.positions @ plus, s.cell @ plus)
            change -= energy(s.positions @ minus, s.cell @ minus)
            # x' = x (1 + ε): component b moves with a
            assert virial[b, a] == pytest.approx(change / (2 * step), rel=1e-6, abs=1e-5)


@pytest.mark.slow
def test_the_sparse_jacobian_is_the_jacobian():
    config = SoapConfig(r_cut=3.0, n_max=2, l_max=2, sigma=0.5)
    s = some(5, 3)
    table = expansion(config, ELEMENTS)
    rows = rows_of(s, table)
    d, arguments = jnp.asarray(rows.displacement), (rows.neighbour, rows.mask, rows.centre)
    p, jacobian = jax.jit(lambda d: soap_jacobian(table, d, *arguments))(d)
    close(np.asarray(p), of(s, config))
    whole = np.asarray(jax.jit(jax.jacfwd(lambda d: soap(table, d, *arguments)))(d))
    for i in range(len(s)):
        close(np.asarray(jacobian)[i], np.moveaxis(whole[i, :, i], 0, -1))
    back = jax.jit(jax.jacrev(lambda d: soap(table, d, *arguments)))(d)
    close(np.asarray(back), whole)


# --- use ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_structures_stream_as_one_by_one():
    """Blocks join small structures and cut large ones; nobody can tell."""
    structures = [some(i, 1 + i % 5, bool(i % 2)) for i in range(40)]
    for config in (SMALL, CONFIGS["inner"]):
        together = list(soap_features(iter(structures), config, ELEMENTS))
        for s, found in zip(structures, together, strict=True):
            close(found, of(s, config), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("average", ["off", "inner"])
def test_many_atoms_without_neighbours_have_the_features_of_one(average):
    """More than a block of them: what an atom adds to its own density is there all the same."""
    far = 30.0 * np.arange(200)[:, None] * [1.0, 0, 0]
    pair, config = [[0, 50.0, 0], [0, 51.5, 0]], SMALL.model_copy(update={"average": average})
    gas = structure(np.vstack([far, pair]), [14] * 202)
    lone, close_pair = structure([[0, 0, 0]], [14]), structure(pair, [14, 14])
    expected = next(soap_features([lone], SMALL, (14,)))[0]
    assert np.abs(expected).max() > 0.1
    features, two = (next(soap_features([s], config, (14,))) for s in (gas, close_pair))
    if average == "off":
        close(features[:200], np.tile(expected, (200, 1)))
        close(features[200:], two)
    else:
        alone = next(soap_features([structure(far, [14] * 200), close_pair], config, (14,)))
        close(alone[0], expected)


def test_names_match_features():
    names = feature_names(SMALL, ELEMENTS)
    assert len(names) == len(set(names)) == expansion(SMALL, ELEMENTS).size
    assert names[0] == "H-H l=0 n=0 n'=0"
    assert feature_names(CONFIGS["compressed"], ELEMENTS)[-1] == "s1-s1 l=3 n=2 n'=2"


def test_a_tiny_cell_is_the_supercell():
    """r_c far beyond half the cell."""
    s = structure([[0.1, 0, 0]], [14], np.diag([1.5, 1.6, 9.0]), True)
    times = np.stack(np.meshgrid(range(6), range(6), [0], indexing="ij"), -1).reshape(-1, 3)
    many = structure(s.positions + times @ s.cell, [14] * 36, s.cell * [[6], [6], [1]], True)
    close(of(many), np.repeat(of(s), 36, axis=0))


@pytest.mark.parametrize(
    ("s", "message"),
    [
        (structure([[0, 0, 0], [1, 0, 0]], [14, 26]), "has not seen Fe"),
        (structure(np.zeros((0, 3)), []), "has no atoms"),
        (structure([[0, 0, 0], [0, 0, 0]]), "same place"),
        (structure([[0, 0, 0]], [14], np.zeros((3, 3)), True), "zero or parallel"),
        (structure([[0, 0, np.nan]], [14]), "not finite"),
    ],
)
def test_refused(s, message):
    with pytest.raises(InputError, match=message):
        of(s)


def test_a_cutoff_below_all_distances_is_said():
    far = structure([[0, 0, 0], [4, 0, 0]], [14, 14])
    with pytest.raises(ConfigError, match="smaller than every distance"):
        list(soap_features([far, far], SMALL, ELEMENTS))
    lone = structure([[0, 0, 0]], [14])
    assert len(list(soap_features([lone], SMALL, ELEMENTS))) == 1  # nothing to find


def test_narrow_gaussians_are_refused():
    with pytest.raises(ConfigError, match="too narrow"):
        expansion(SoapConfig(sigma=0.005), (14,))


def test_more_channels_than_elements_are_refused():
    with pytest.raises(ConfigError, match="more species channels"):
        expansion(SoapConfig(species_channels=3), (1, 8))


def test_the_smoothing_ends_at_the_cutoff_and_begins_its_width_before():
    """f = 1 up to r_c − w = 4.5 Å, then falls to 0."""
    config = SoapConfig(r_cut=5.0, sigma=0.4, smoothing_width=0.5)
    f = np.asarray(cutoff_function(config)(np.array([0.4, 0.6, 4.4, 4.49, 4.75, 4.9, 5.0])))
    np.testing.assert_allclose(f[[0, 1, 2, 3, 4, 6]], [1, 1, 1, 1, 0.5, 0], rtol=0, atol=1e-12)
    assert 0.0 < f[5] < 0.1


def test_far_neighbours_count_less_by_the_exponent_of_the_scaling():
    """1 / (1 + (r / r_0)^m) below the smoothing, with r_0 = 2 Å and m = 7."""
    more = {"scaling_radius": 2.0, "scaling_exponent": 7}
    config = SoapConfig(r_cut=5.0, sigma=0.4, smoothing_width=0.5, **more)
    f = np.asarray(cutoff_function(config)(np.array([1.0, 2.0, 4.0])))
    np.testing.assert_allclose(f, [1 / (1 + 2**-7), 0.5, 1 / (1 + 2**7)], rtol=0, atol=1e-12)
