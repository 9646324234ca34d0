"""The structure factor: what it is, its laws, and that each law sees the fault planted for it.

All tolerances are relative to the largest feature: 1e-9, where no other reason is given.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import jax
import numpy as np
import pytest
from brute_force import random_rotation, structure
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from kohn.descriptors import structure_factor as module
from kohn.descriptors.structure_factor import (
    StructureFactorConfig,
    feature_names,
    reciprocal_box,
    species_pairs,
    structure_factor,
    structure_factors,
)
from kohn.errors import InputError, Place
from kohn.structures import Structure

TOLERANCE = 1e-9
CONFIG = StructureFactorConfig(k_max=4.0, bins=6)
ELEMENTS = (8, 14, 22)
Calculate = Callable[[Structure], np.ndarray]


def ours(s: Structure, config=CONFIG, elements=ELEMENTS) -> np.ndarray:
    return next(structure_factors([s], config, elements))[0]


def reference(s: Structure, config=CONFIG, elements=ELEMENTS, fault: str = "") -> np.ndarray:
    """The definition, vector by vector, in plain NumPy; or with one of the faults below."""
    cell = np.abs(s.cell) if fault == "absolute cell" else s.cell
    reciprocal = 2 * np.pi * np.linalg.inv(cell).T
    bound = config.k_max * np.linalg.norm(cell, axis=1) / (2 * np.pi)
    if fault == "bounds from lengths":
        bound = config.k_max / np.linalg.norm(reciprocal, axis=1)
    ranges = [np.arange(-int(m), int(m) + 1) for m in np.floor(bound)]
    h = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
    if fault != "origin too":
        h = h[h.any(axis=1)]
    k = h @ reciprocal
    length = np.linalg.norm(k, axis=1)
    k, length = k[length < config.k_max], length[length < config.k_max]
    positions = s.positions
    if fault == "wrapped in a box":
        positions = positions % np.linalg.norm(s.cell, axis=1)
    phase = np.exp(1j * k @ positions.T)
    sums = [phase[:, s.numbers == z].sum(1) / len(s) for z in sorted(elements)]
    x, p = length / config.k_max, config.window_power
    window = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1)
    window -= p * (p + 1) / 2 * x ** (p + 2)
    if fault == "sharp window":
        window = np.ones_like(x)
    if fault == "window with a kink":
        window = 1 - x
    if fault == "window with a bend":
        window = (1 - x) ** 2
    nodes, widths = np.polynomial.legendre.leggauss(200)
    end = config.centres[-1] + 9 * config.sigma
    fine, widths = (nodes + 1) * end / 2, widths * end / 2
    features = []
    for a, b in species_pairs(len(elements)):
        for q in config.centres:
            shell = np.exp(-0.5 * ((fine - q) / config.sigma) ** 2) * 4 * np.pi * fine**2
            g = np.exp(-0.5 * ((length - q) / config.sigma) ** 2) / (shell @ widths)
            terms = (sums[a] * sums[b].conj()).real * window * g
            total = terms.mean() if fault == "average" else terms.sum()
            if fault == "first component only":
                total = (sums[a].real * sums[b].real * window * g).sum()
            atoms = 1 if fault == "no density" else len(s)
            volume = np.linalg.det(cell) if fault == "signed volume" else s.volume
            features.append(total * (2 * np.pi) ** 3 * atoms / volume)
    return np.array(features)


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, relative to the largest feature."""
    return float(np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max()))


@st.composite
def crystals(draw) -> Structure:
    """Any cell: tiny or long, skewed, of either hand; several species; atoms anywhere."""
    lengths = np.array(draw(st.tuples(*[st.floats(2.0, 6.0)] * 3)))
    skews = draw(st.tuples(*[st.floats(-1.5, 1.5)] * 3))
    cell = np.diag(lengths)
    cell[1, 0], cell[2, 0], cell[2, 1] = np.array(skews) * lengths[[0, 0, 1]]
    cell = cell[list(draw(st.permutations(range(3))))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 5))
    positions = rng.uniform(-1.5, 1.5, (n, 3)) @ cell
    return structure(positions, rng.choice(ELEMENTS, n), cell @ random_rotation(rng), True)


def one_crystal() -> Structure:
    """A skewed cell of all species, low in symmetry, its atoms not wrapped."""
    rng = np.random.default_rng(3)
    cell = np.array([[4.1, 0.3, 0.0], [-2.0, 4.6, 0.5], [1.7, 2.2, 5.3]])
    positions = rng.uniform(-1.0, 2.0, (7, 3)) @ cell
    return structure(positions, [8, 8, 8, 8, 14, 14, 22], cell, True)


# What it is


@pytest.mark.slow
@given(s=crystals())
def test_features_are_those_of_the_sum_over_all_vectors(s):
    assume(np.abs(reference(s)).max() > 1e-6)
    assert apart(ours(s), reference(s)) < TOLERANCE


def test_shell_volumes_are_the_integrals():
    from scipy.integrate import quad

    config = StructureFactorConfig(k_max=3.0, bins=5, width=0.8)

    def shell(k, q):
        return 4 * np.pi * k * k * np.exp(-0.5 * ((k - q) / 0.8) ** 2)

    exact = [quad(shell, 0, np.inf, args=(q,), epsabs=0, epsrel=1e-12)[0] for q in config.centres]
    assert apart(module.shell_volumes(config), np.array(exact)) < 1e-11


def shells(lengths, counts, config, density) -> np.ndarray:
    """(2π)³ N/V Σ counts w g, of vectors with known lengths and weights."""
    weights = module._shells(np.asarray(lengths)[:, None] * np.eye(3)[0], config)
    return (2 * np.pi) ** 3 * density * np.asarray(counts) @ np.asarray(weights)


@pytest.mark.slow
def test_lattices_of_one_atom_have_one_on_every_reciprocal_vector():
    """f.c.c., a = 4 Å: k² in (2π/a)² is 3, 4, 8, 11, 12, 16, 19, 20 on 8, 6, 12, … vectors."""
    a = 4.0
    config = StructureFactorConfig(k_max=2 * np.pi / a * np.sqrt(23.9), bins=9)
    primitive = structure(
        [[0.3, 0.2, 0.1]], cell=(np.ones((3, 3)) - np.eye(3)) * a / 2, periodic=True
    )
    squares, counts = [3, 4, 8, 11, 12, 16, 19, 20], [8, 6, 12, 24, 8, 6, 24, 24]
    expected = shells(2 * np.pi / a * np.sqrt(squares), counts, config, 4 / a**3)
    assert apart(ours(primitive, config, (14,)), expected) < TOLERANCE


@pytest.mark.slow
def test_rock_salt_has_sums_and_differences():
    """S_a S_b*/N² is 1/4 where h, k, l are even and −1/4 where they are odd."""
    a = 4.2
    config = StructureFactorConfig(k_max=2 * np.pi / a * np.sqrt(11.9), bins=5)
    s = structure(
        [[0, 0, 0], [a / 2] * 3], [8, 22], (np.ones((3, 3)) - np.eye(3)) * a / 2, periodic=True
    )
    length = 2 * np.pi / a * np.sqrt([3, 4, 8, 11])
    same = shells(length, np.array([8, 6, 12, 24]) / 4, config, 8 / a**3)
    other = shells(length, np.array([-8, 6, 12, -24]) / 4, config, 8 / a**3)
    assert apart(ours(s, config, (22, 8)), np.concatenate([same, other, same])) < TOLERANCE


@pytest.mark.slow
def test_it_is_the_structure_factor_of_a_gas(rng):
    """S_ab = δ_ab N_a/N, times the window averaged over the shell, up to noise: here that of the
    root of some thousand vectors."""
    config = StructureFactorConfig(k_max=5.0, bins=5)
    n, edge = 300, 15.0
    found = []
    for _ in range(12):
        places = rng.uniform(0, edge, (n, 3))
        gas = structure(places, [8] * 100 + [14] * 200, np.eye(3) * edge, True)
        found.append(ours(gas, config, (8, 14)).reshape(3, 5))
    oxygen, cross, silicon = np.mean(found, axis=0)[:, 1:]
    k = np.linspace(1e-3, 5.0, 5001)
    weights = np.asarray(module._shells(k[:, None] * np.eye(3)[0], config))
    window = (4 * np.pi * k**2 @ weights * (k[1] - k[0]))[1:]
    np.testing.assert_allclose(oxygen / window, 1 / 3, rtol=0.05)
    np.testing.assert_allclose(silicon / window, 2 / 3, rtol=0.05)
    np.testing.assert_allclose(cross / window, 0.0, atol=0.02)


def test_names_stand_for_the_features():
    names = feature_names(CONFIG, (22, 8))
    assert names == feature_names(CONFIG, (8, 22))
    assert len(names) == len(set(names)) == 18
    assert names[0] == "O-O q=0.333333333"
    assert names[6].startswith("O-Ti ")
    pure = structure([[0, 0, 0]], [22], np.eye(3) * 3, True)
    seen = {
        name.split()[0] for name, x in zip(names, ours(pure, elements=(22, 8)), strict=True) if x
    }
    assert seen == {"Ti-Ti"}
    assert StructureFactorConfig(k_max=3, bins=2).centres.tolist() == [0.75, 2.25]


# Laws: law(calculate, structure, rng) -> violation


def translation(f: Calculate, s, rng) -> float:
    return apart(f(s), f(replace(s, positions=s.positions + rng.normal(size=3) * 5)))


def turned(s: Structure, q: np.ndarray) -> Structure:
    return replace(s, positions=s.positions @ q.T, cell=s.cell @ q.T)


def rotation(f: Calculate, s, rng) -> float:
    return apart(f(s), f(turned(s, random_rotation(rng))))


def reflection(f: Calculate, s, rng) -> float:
    return apart(f(s), f(turned(s, -random_rotation(rng))))


def permutation(f: Calculate, s, rng) -> float:
    p = rng.permutation(len(s))
    return apart(f(s), f(replace(s, numbers=s.numbers[p], positions=s.positions[p])))


def lattice_shift(f: Calculate, s, rng) -> float:
    positions = s.positions.copy()
    positions[rng.integers(len(s))] += rng.integers(-4, 5, 3) @ s.cell
    return apart(f(s), f(replace(s, positions=positions)))


def repeated(s: Structure, matrix: np.ndarray) -> Structure:
    """The supercell matrix · cell, with all the atoms in it."""
    m = round(abs(np.linalg.det(matrix)))
    reach = range(-int(np.abs(matrix).sum()), int(np.abs(matrix).sum()) + 1)
    shifts = np.array(list(product(reach, repeat=3)))
    inside = np.floor(shifts @ np.linalg.inv(matrix) + 1e-9) == 0
    shifts = shifts[inside.all(axis=1)]
    assert len(shifts) == m
    positions = (s.positions + (shifts @ s.cell)[:, None]).reshape(-1, 3)
    return structure(positions, np.tile(s.numbers, m), matrix @ s.cell, True)


def supercell(f: Calculate, s, rng) -> float:
    """Straight ones and crooked ones."""
    crooked = np.array([[1, 1, 0], [-1, 1, 0], [0, 1, 2]])
    others = [repeated(s, m) for m in (np.diag([2, 1, 1]), np.diag([1, 3, 2]), crooked)]
    return max(apart(f(s), f(other)) for other in others)


def other_lattice(f: Calculate, s, rng) -> float:
    """The same lattice spanned by other vectors, of either hand, some of them long."""
    m = np.eye(3, dtype=int)
    for _ in range(3):
        a, b = rng.choice(3, 2, replace=False)
        shear = np.eye(3, dtype=int)
        shear[a, b] = rng.choice([-2, -1, 1, 2])
        m = shear @ m
    m = m[rng.permutation(3)] * rng.choice([-1, 1], 3)[:, None]
    return apart(f(s), f(replace(s, cell=m @ s.cell)))


def left_handed(f: Calculate, s, rng) -> float:
    return max(
        apart(f(s), f(replace(s, cell=s.cell[[1, 0, 2]]))), apart(f(s), f(replace(s, cell=-s.cell)))
    )


LAWS = {
    law.__name__: law
    for law in (
        translation,
        rotation,
        reflection,
        permutation,
        lattice_shift,
        supercell,
        other_lattice,
        left_handed,
    )
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
@given(s=crystals(), seed=st.integers(0, 2**32 - 1))
def test_law(name, s, seed):
    config = StructureFactorConfig(k_max=3.5, bins=6, width=0.7)
    assume(np.abs(ours(s, config)).max() > 1e-6)
    rng = np.random.default_rng(seed)
    assert LAWS[name](lambda x: ours(x, config), s, rng) < TOLERANCE


@pytest.mark.parametrize("name", LAWS)
def test_law_holds_for_the_reference(name, rng):
    assert LAWS[name](reference, one_crystal(), rng) < TOLERANCE


@pytest.mark.parametrize(
    ("law", "fault"),
    [
        (translation, "first component only"),
        (rotation, "absolute cell"),
        (rotation, "wrapped in a box"),
        (reflection, "absolute cell"),
        (lattice_shift, "wrapped in a box"),
        (supercell, "average"),
        (supercell, "no density"),
        (other_lattice, "bounds from lengths"),
        (left_handed, "signed volume"),
    ],
)
def test_laws_see_faults(law, fault, rng):
    assert law(lambda s: reference(s, fault=fault), one_crystal(), rng) > 1e-3


def test_permutation_sees_an_order(rng):
    def by_row(s):  # takes the first atoms for oxygen, whatever they are
        return reference(replace(s, numbers=np.sort(s.numbers)))

    assert permutation(by_row, one_crystal(), rng) > 1e-3


def test_leaving_out_the_origin_is_seen():
    assert apart(ours(one_crystal()), reference(one_crystal(), fault="origin too")) > 1e-2


@given(m=st.lists(st.integers(-40, 40), min_size=3, max_size=3), s=crystals())
def test_very_skewed_cells_are_as_good(m, s):
    """Shears of up to 1600 cells. On a grid of 2⁻²⁰ Å the long vectors are exact numbers; else it
    is they that have lost digits."""
    s = replace(s, cell=np.round(s.cell * 2**20) / 2**20)
    assume(np.abs(ours(s)).max() > 1e-6)
    lower = np.array([[1, 0, 0], [m[0], 1, 0], [m[1], m[2], 1]])
    upper = np.array([[1, m[2], 0], [0, 1, 0], [0, 0, 1]])
    assert apart(ours(s), ours(replace(s, cell=upper @ lower @ s.cell))) < TOLERANCE


# Which vectors there are


@given(s=crystals(), k_max=st.floats(1.0, 6.0))
def test_no_vector_is_missed(s, k_max):
    basis, reach = reciprocal_box(s.cell, k_max)
    assert abs(round(np.linalg.det(basis))) == 1
    assert (basis == np.round(basis)).all()
    wider = [range(-m - 2, m + 3) for m in reach]
    h = np.array(list(product(*wider)))
    k = np.linalg.norm(2 * np.pi * h @ np.linalg.inv(basis @ s.cell).T, axis=1)
    assert (np.abs(h[k < k_max]) <= reach).all()


@given(s=crystals(), seed=st.integers(0, 2**32 - 1))
def test_the_box_fits_the_sphere(s, seed):
    """|a_1| |a_2| |a_3| ≤ 2 V of a reduced basis, and it is as short as any other."""
    basis, _ = reciprocal_box(s.cell, 1.0)
    reduced = basis @ s.cell
    lengths = np.linalg.norm(reduced, axis=1)
    assert np.prod(lengths) <= 2 * s.volume * (1 + 1e-9)
    h = np.array([x for x in product(range(-2, 3), repeat=3) if any(x)])
    shortest = np.linalg.norm(h @ reduced, axis=1)
    for i in range(3):  # Minkowski: none that may stand in its place is shorter
        usable = np.gcd.reduce(h[:, i:], axis=1) == 1
        assert shortest[usable].min() >= lengths[i] * (1 - 1e-8)


def test_bounds_from_lengths_miss_vectors():
    s = one_crystal()
    assert apart(reference(s), reference(s, fault="bounds from lengths")) > 1e-5


# Continuity, while the cell strains and a reciprocal vector enters at k_max


def strained(t: float) -> Structure:
    """A cubic cell, stretched along x so that (4 0 0) is at k_max where t = 0."""
    edge = 4 * 2 * np.pi / CONFIG.k_max
    base = structure([[0, 0, 0], [1.1, 0.3, 0.4]], [8, 22], np.diag([edge, 5.1, 5.3]), True)
    return turned(base, np.diag([1 + t, 1, 1]))


def jumps(f: Calculate, h: float) -> tuple[float, float, float]:
    """Jumps of value, first and second derivative at t = 0, from polynomials through six points
    on either side, continued to it; relative to the features."""
    steps = np.arange(1, 7)
    extrapolate = np.linalg.inv(np.vander(steps, 6, increasing=True).astype(float))[:3]
    before, after = (
        extrapolate @ np.array([f(strained(side * k * h)) for k in steps]) for side in (-1, 1)
    )
    largest = np.abs(f(strained(0.0))).max()
    value, first, second = np.abs(before - after * [[1], [-1], [1]]).max(axis=1) / largest
    return value, first / h, 2 * second / h**2


def test_an_entering_vector_makes_no_jump():
    """Derivatives by differences lose digits: 1e-13/h and 1e-13/h², and h⁵ and h⁴ times a sixth
    derivative, are the errors of the first and second."""
    value, first, second = jumps(ours, 1e-3)
    assert value < TOLERANCE
    assert first < 1e-8
    assert second < 1e-5


@pytest.mark.parametrize(
    ("fault", "order"), [("sharp window", 0), ("window with a kink", 1), ("window with a bend", 2)]
)
def test_continuity_sees_other_windows(fault, order):
    assert jumps(lambda s: reference(s, fault=fault), 1e-3)[order] > 5e-3


def test_continuity_sees_a_sharp_window_in_the_code_itself(monkeypatch):
    def sharp(r, cutoff, p):
        return jax.numpy.where(r < cutoff, 1.0, 0.0)

    monkeypatch.setattr(module, "polynomial_cutoff", sharp)
    module._compiled.cache_clear()
    try:
        assert jumps(ours, 1e-3)[0] > 1e-3
    finally:
        module._compiled.cache_clear()


# Derivatives


STENCIL = ((-3, -1 / 60), (-2, 3 / 20), (-1, -3 / 4), (1, 3 / 4), (2, -3 / 20), (3, 1 / 60))


def as_function(s: Structure, k_max: float = CONFIG.k_max):
    """S_ab of positions and cell, the vectors fixed."""
    basis, reach = reciprocal_box(s.cell, k_max)
    species = np.searchsorted(ELEMENTS, s.numbers).astype(np.int32)
    return jax.jit(
        lambda r, c: structure_factor(r, c, species, basis, reach=reach, n_species=3, config=CONFIG)
    )


@pytest.mark.slow
def test_derivatives_are_those_of_the_features(rng):
    """Against differences of features described anew, each with its own vectors."""
    s = one_crystal()
    f = as_function(s)
    weights = rng.normal(size=(6, CONFIG.bins))
    gradient = jax.grad(lambda r, c: (f(r, c) * weights).sum(), argnums=(0, 1))
    by_position, by_cell = gradient(s.positions, s.cell)
    for _ in range(4):
        u, v = rng.normal(size=(len(s), 3)), rng.normal(size=(3, 3))
        u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
        for dr, dc in ((u, 0 * v), (0 * u, v), (u, v)):
            slope = sum(
                w
                * ours(
                    replace(s, positions=s.positions + k * 1e-3 * dr, cell=s.cell + k * 1e-3 * dc)
                )
                for k, w in STENCIL
            )
            expected = (slope * weights.ravel()).sum() / 1e-3
            exact = (by_position * dr).sum() + (by_cell * dc).sum()
            # Digits lost in a difference: 1e-16/1e-3 of the features, and the sixth order.
            assert abs(exact - expected) < 1e-9 * max(abs(exact), np.abs(ours(s)).max() * 10)


@pytest.mark.slow
def test_a_frozen_choice_of_vectors_holds_with_room_to_spare():
    """Vectors chosen for a larger k_max serve cells strained by as much."""
    s = one_crystal()
    larger = turned(s, np.eye(3) * 1.5)

    def frozen(k_max):
        return np.asarray(as_function(s, k_max)(larger.positions, larger.cell)).ravel()

    assert apart(frozen(CONFIG.k_max * 1.5), ours(larger)) < TOLERANCE
    assert apart(frozen(CONFIG.k_max), ours(larger)) > 1e-6


@pytest.mark.slow
def test_turning_the_crystal_is_no_derivative(rng):
    """Σ over positions and cell of the gradient times an infinitesimal rotation is zero, and so is
    the net gradient in positions."""
    s = one_crystal()
    f, weights = as_function(s), rng.normal(size=(6, CONFIG.bins))
    by_position, by_cell = jax.grad(lambda r, c: (f(r, c) * weights).sum(), (0, 1))(
        s.positions, s.cell
    )
    virial = s.positions.T @ by_position + s.cell.T @ by_cell
    size = np.abs(virial).max()
    assert np.abs(by_position.sum(0)).max() < TOLERANCE * np.abs(by_position).max()
    assert np.abs(virial - virial.T).max() < TOLERANCE * size


@pytest.mark.slow
def test_second_derivatives_are_those_of_the_first(rng):
    """As learning from forces needs them; the vectors are fixed, so differences are accurate."""
    s = one_crystal()
    f, weights = as_function(s), rng.normal(size=(6, CONFIG.bins))
    gradient = jax.jit(jax.grad(lambda r, c: (f(r, c) * weights).sum(), argnums=(0, 1)))
    u, v = rng.normal(size=(len(s), 3)), rng.normal(size=(3, 3))
    _, exact = jax.jit(lambda r, c: jax.jvp(gradient, (r, c), (u, v)))(s.positions, s.cell)
    for part in (0, 1):
        slope = sum(
            w * gradient(s.positions + k * 1e-4 * u, s.cell + k * 1e-4 * v)[part]
            for k, w in STENCIL
        )
        assert apart(np.asarray(exact[part]), np.asarray(slope) / 1e-4) < 1e-8  # 1e-16/1e-4 · |k|²


# Shapes and streaming


@pytest.mark.slow
def test_padding_changes_nothing():
    s = one_crystal()
    basis, reach = reciprocal_box(s.cell, CONFIG.k_max)
    species = np.searchsorted(ELEMENTS, s.numbers).astype(np.int32)
    plain = as_function(s)(s.positions, s.cell)
    padded = structure_factor(
        np.pad(s.positions, ((0, 5), (0, 0)), constant_values=0.7),
        s.cell,
        np.pad(species, (0, 5), constant_values=-1),
        basis,
        reach=(reach[0] + 1, reach[1] + 3, reach[2] + 2),
        n_species=3,
        config=CONFIG,
    )
    assert apart(np.asarray(plain), np.asarray(padded)) < TOLERANCE


def test_few_shapes_are_compiled(rng):
    """Crystals of 1 to 16 atoms and similar cells share their compiled functions."""
    module._compiled.cache_clear()
    crystals = [
        structure(rng.uniform(0, 4, (n, 3)), [14] * n, np.eye(3) * (4 + 0.05 * n), True)
        for n in range(1, 17)
    ]
    found = list(structure_factors(crystals, CONFIG, (14,)))
    assert module._compiled.cache_info().misses == 1
    assert all(x.shape == (1, CONFIG.bins) and x.dtype == np.float64 for x in found)


def test_structures_are_read_as_features_are_taken():
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield one_crystal()

    features = structure_factors(endless(), CONFIG, ELEMENTS)
    for _ in range(3):
        assert next(features).shape == (1, len(feature_names(CONFIG, ELEMENTS)))
    assert len(taken) == 3


# Refusals


CRYSTAL = replace(one_crystal(), place=Place("crystals.extxyz", 4))
BAD = {
    "species": (replace(CRYSTAL, numbers=np.full(7, 9, np.int32)), "without F"),
    "empty": (
        replace(CRYSTAL, numbers=CRYSTAL.numbers[:0], positions=CRYSTAL.positions[:0]),
        "without atoms",
    ),
    "molecule": (replace(CRYSTAL, periodic=np.zeros(3, bool)), "needs a crystal"),
    "slab": (replace(CRYSTAL, periodic=np.array([True, True, False])), "True, True, False"),
    "nan": (replace(CRYSTAL, positions=CRYSTAL.positions * np.nan), "not finite"),
    "infinite cell": (replace(CRYSTAL, cell=CRYSTAL.cell + np.inf), "not finite"),
    "no cell": (replace(CRYSTAL, cell=np.zeros((3, 3))), "zero or parallel"),
    "flat cell": (replace(CRYSTAL, cell=CRYSTAL.cell[[0, 1, 1]]), "zero or parallel"),
    "twice": (
        replace(CRYSTAL, positions=CRYSTAL.positions[[0, 1, 2, 3, 4, 5, 5]]),
        "in the same place",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    s, words = BAD[case]
    with pytest.raises(InputError, match=words) as refusal:
        ours(s)
    assert "crystals.extxyz, frame 4" in str(refusal.value)
    assert refusal.value.fix


def test_features_that_would_all_be_zero_are_refused():
    """By the primitive cell, where no vector is short enough, and by the cubic one, where those
    that are have S = 0."""
    config = StructureFactorConfig(k_max=2.5)
    primitive = structure([[0, 0, 0]], cell=(np.ones((3, 3)) - np.eye(3)) * 2.0, periodic=True)
    cubic = repeated(primitive, np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]))
    for s in (primitive, cubic):
        with pytest.raises(InputError, match="raise k_max"):
            ours(s, config, (14,))


@pytest.mark.parametrize("elements", [(), (8, 8)])
def test_elements_are_given_once(elements):
    with pytest.raises(InputError, match="each once"):
        feature_names(CONFIG, elements)
    with pytest.raises(InputError, match="each once"):
        next(structure_factors([one_crystal()], CONFIG, elements))


@pytest.mark.parametrize(
    "settings", [{"k_max": 0}, {"bins": 0}, {"width": -1}, {"k_max": np.nan}, {"kmax": 3}]
)
def test_settings_are_checked(settings):
    with pytest.raises(ValidationError):
        StructureFactorConfig(**settings)
