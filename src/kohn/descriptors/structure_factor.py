"""Compute structure factors of crystals, resolved by species and averaged over directions.

    S_a(k) = Σ_(j in a) exp(i k·r_j)                            k on the reciprocal lattice

    S_ab(q) = (2π)³ N/V  Σ_(k ≠ 0)  Re[S_a(k) S_b(k)*] / N²  w(k) g_q(k),      a ≤ b

    g_q(k) = exp(−(k − q)²/2σ²) / ∫₀^∞ exp(−(p − q)²/2σ²) 4πp² dp              k = |k|

for N atoms in the volume V, of which N_a belong to species a, in shells around q. The window w is 1
at k = 0 and 0 from k_max on, with two continuous derivatives, so that lattice vectors enter and
leave the sphere smoothly: S_ab is C² in positions and cell. S_ab has no unit. For atoms without any
order, S_aa is N_a/N times the window averaged over the shell, and S_ab is zero for a ≠ b.
S_aa + S_bb + 2 S_ab is the structure factor S(q) of a powder, multiplied by the window.

The sum over k is not an average: a supercell of m cells has m times as many vectors k, S is zero
at all the new ones, and S/N at the old ones is unchanged; N/V is the density. So the choice of the
cell does not matter. k = 0 is left out: there S_a S_b*/N² is N_a N_b/N² for every structure, which
would dominate the first shells. No other k reaches 0 while V is finite, so no value jumps; and |k|
has no derivative at 0.

Cost. The sphere |k| < k_max holds V k_max³/6π² vectors. A phase is a product of three factors, one
for each component of k on the lattice, so the box around the sphere needs a few matrix products:
about 4 n operations for each vector and species. The cell is first reduced, so that the box is
never much larger than the sphere. Time grows as n V k_max³; memory, one slice of the box at a
time, as n V^(1/3) k_max and V^(2/3) k_max² bins.

Source: Ashcroft, Langreth, Phys. Rev. 156, 685 (1967), without their N/√(N_a N_b), which is
infinite for an absent species.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import combinations_with_replacement, product
from math import floor, pi, sqrt
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, Field

from kohn.compilation import compiled
from kohn.descriptors.cutoffs import polynomial_cutoff
from kohn.errors import InputError
from kohn.graphs import pairs_within
from kohn.structures import Structure
from kohn.structures.elements import symbol
from kohn.typing import Array, ArrayLike, Float, Int


class StructureFactorConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Settings of structure factors: the range and the resolution in reciprocal space."""

    k_max: Annotated[float, Field(gt=0, description="end of the window, 1/Å")] = 8.0
    bins: Annotated[int, Field(ge=1, description="number of evenly spaced shells")] = 32
    width: Annotated[
        float | None, Field(gt=0, description="width σ of a shell, 1/Å; null: k_max/bins")
    ] = None
    window_power: Annotated[
        int, Field(ge=2, description="power of the window; larger: flatter, with a steeper end")
    ] = 6

    @property
    def sigma(self) -> float:
        """The width σ of a shell, 1/Å."""
        return self.k_max / self.bins if self.width is None else self.width

    @property
    def centres(self) -> np.ndarray:
        """The centres of the shells, q_n = (n − 1/2) k_max/bins, n = 1 …, 1/Å, float64 [bins]."""
        return (np.arange(self.bins) + 0.5) * (self.k_max / self.bins)


# Names


def species_pairs(n_species: int) -> list[tuple[int, int]]:
    """Return all pairs (a, b) of indices of species with a ≤ b, in the order of the features."""
    return list(combinations_with_replacement(range(n_species), 2))


def feature_names(config: StructureFactorConfig, elements: Sequence[int]) -> list[str]:
    """Return names such as 'O-Si q=2.125': for each pair of elements, ascending, all shells.

    Raises:
        InputError: no elements, or an element that is given twice.
    """
    names = [symbol(z) for z in _ascending(elements)]
    pairs = [f"{names[a]}-{names[b]}" for a, b in species_pairs(len(names))]
    return [f"{pair} q={q:.9g}" for pair in pairs for q in config.centres]


# On the device: plain functions of positions and cell


def structure_factor(
    positions: Float[ArrayLike, "n 3"],
    cell: Float[ArrayLike, "3 3"],
    species: Int[ArrayLike, " n"],
    basis: Float[ArrayLike, "3 3"],
    *,
    reach: tuple[int, int, int],
    n_species: int,
    config: StructureFactorConfig,
) -> Float[Array, "pairs bins"]:
    """S_ab(q) = (2π)³/(V N) Σ_(k ≠ 0) Re[S_a(k) S_b(k)*] w(k) g_q(k), without unit.

    Differentiable in positions and cell. A vector k of first index h_1 > 0 also counts for −k.

    Args:
        positions: Å, [n, 3], wrapped or not. cell: vectors as rows, Å, [3, 3], of either hand.
        species: index of the species, 0 … n_species − 1; −1 for a padding atom.
        basis, reach: from `reciprocal_box`, with a larger k_max if the cell is to be strained.
        n_species, config, reach: constants of the compiled function.

    Returns:
        S_ab, float64 [n_species (n_species + 1)/2, bins], rows in the order of `species_pairs`.
    """
    positions, cell = jnp.asarray(positions, jnp.float64), jnp.asarray(cell, jnp.float64)
    inverse = jnp.linalg.inv(jnp.asarray(basis, jnp.float64) @ cell)  # columns b_1, b_2, b_3
    fraction = positions @ inverse
    fraction = fraction - jax.lax.stop_gradient(jnp.round(fraction))  # gives the phase more digits
    members = jax.nn.one_hot(species, n_species, dtype=jnp.float64)
    a, b = np.array(species_pairs(n_species)).T

    h1, h2, h3 = (np.arange(float(m + 1)) for m in reach)
    h2, both = np.concatenate([-h2[:0:-1], h2]), np.stack([h3, -h3])
    counted = np.stack([h3 >= 0.0, h3 > 0.0])[:, None, :, None].astype(np.float64)  # h3 = 0 once
    second = _phases(h2, fraction[:, 1])
    third = members.T[:, None].astype(complex) * _phases(h3, fraction[:, 2])
    others = h2[:, None, None] * inverse[:, 1] + both[:, None, :, None] * inverse[:, 2]

    @jax.checkpoint  # gradients compute the block again, so that no block is kept
    def add(total: Array, h: Array) -> tuple[Array, None]:
        """Add the terms of all vectors k whose component h_1 is h."""
        s = _sums(_phases(h[None], fraction[:, 0]) * second, third)
        shells = counted * _shells(2.0 * pi * (h * inverse[:, 0] + others), config)
        block = jnp.einsum("pskl,sklq->pq", (s[a] * s[b].conj()).real, shells)
        return total + jnp.where(h > 0.0, 2.0, 1.0) * block, None

    total, _ = jax.lax.scan(add, jnp.zeros((len(a), config.bins)), jnp.asarray(h1))
    volume = jnp.abs(jnp.linalg.det(cell))
    return (2.0 * pi) ** 3 / (volume * jnp.sum(members)) * total


def _phases(h: ArrayLike, fraction: Float[Array, " n"]) -> Array:
    """Compute exp(2πi h f_j) for integers h and fractional coordinates f_j, complex128 [h, n]."""
    angle = 2.0 * pi * h[:, None] * fraction
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def _sums(u: Array, v: Array) -> Array:
    """Compute S_a at h_3, Σ_j u_kj v_alj, and at −h_3, Σ_j u_kj v*_alj, complex128 [a, 2, k, l].

    Both follow from one product of real matrices, which is three times as fast as a complex one.
    """
    parts = (jnp.stack([jnp.real(x), jnp.imag(x)]) for x in (u, v))
    ((rr, ri), (ir, ii)) = jnp.einsum("xkj,yalj->xyakl", *parts)
    return jnp.stack([jax.lax.complex(rr - ii, ri + ir), jax.lax.complex(rr + ii, ir - ri)], axis=1)


def _shells(k: Float[Array, "... 3"], config: StructureFactorConfig) -> Float[Array, "... bins"]:
    """Compute w(k) g_q(k), the weight of each vector k in each shell, Å³; zero at k = 0."""
    kk = jnp.sum(k * k, axis=-1)
    length = jnp.sqrt(jnp.where(kk > 0.0, kk, config.k_max**2))  # k_max: the window is zero there
    window = polynomial_cutoff(length, config.k_max, config.window_power)
    x = (length[..., None] - config.centres) / config.sigma
    return window[..., None] * jnp.exp(-0.5 * x * x) / shell_volumes(config)


def shell_volumes(config: StructureFactorConfig) -> np.ndarray:
    """Compute the volume of each shell, 1/Å³, float64 [bins]: ∫₀^∞ exp(−(k − q)²/2σ²) 4πk² dk
    = 4πσ [√(π/2) (q² + σ²) (1 + erf(q/√2σ)) + q σ exp(−q²/2σ²)]."""
    s, q = config.sigma, config.centres
    x = q / (sqrt(2.0) * s)
    from scipy.special import erf  # imported late: it takes as long as the rest of Kohn

    inner = sqrt(pi / 2) * (q * q + s * s) * (1.0 + erf(x)) + q * s * np.exp(-x * x)
    return 4.0 * pi * s * inner


# On the host: the box of vectors k


def reciprocal_box(cell: np.ndarray, k_max: float) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return a reduced basis of the lattice, and the largest |h_a| of vectors with |k| < k_max.

    For k = 2π Σ_a h_a b_a, h_a = k·a_a/2π, so |k| < k_max requires |h_a| ≤ k_max |a_a|/2π: the
    reciprocal cell has the height 2π/|a_a| over the plane of the other two vectors.

    Args:
        cell: vectors as rows, Å, [3, 3], independent. k_max: 1/Å.

    Returns:
        M, integers as float64 [3, 3], det ±1: a = M · cell has short vectors, ordered by
        ascending length; and the largest |h_a|.
    """
    basis = _reduced(np.asarray(cell, np.float64))
    lengths = np.linalg.norm(basis @ cell, axis=1)
    first, second, third = (floor(k_max * length / (2 * pi)) for length in lengths)
    return basis, (first, second, third)


def _reduced(cell: np.ndarray) -> np.ndarray:
    """Return the integer matrix M for which M · cell is Minkowski-reduced, by the greedy method.

    Each vector in turn is made as short as possible by subtracting integer multiples of the shorter
    ones. Then |a_1| |a_2| |a_3| ≤ 2 V, so the box of `reciprocal_box` fits the sphere in any cell.

    Source: Semaev, CaLC 2001, LNCS 2146, 181.
    """
    m = np.eye(3)
    while True:
        m = m[np.argsort(np.linalg.norm(m @ cell, axis=1), kind="stable")]
        for i in (1, 2):
            shorter = m[i] - _nearest_integers(m[:i] @ cell, m[i] @ cell) @ m[:i]
            if np.linalg.norm(shorter @ cell) < (1 - 1e-9) * np.linalg.norm(m[i] @ cell):
                m[i] = shorter
                break
        else:
            return m


def _nearest_integers(vectors: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return integers c with c · vectors nearest to `target`, for one vector or a reduced pair."""
    x = np.linalg.lstsq(vectors.T, target, rcond=None)[0]
    candidates = [np.round(x) + step for step in product((-1, 0, 1), repeat=len(x))]
    return min(candidates, key=lambda c: float(np.linalg.norm(target - c @ vectors)))


# On the host: structures


def structure_factors(
    structures: Iterable[Structure], config: StructureFactorConfig, elements: Sequence[int]
) -> Iterator[np.ndarray]:
    """Yield the structure factors S_ab(q) of each structure, float64 [1, D], as in `feature_names`.

    Memory holds one structure at a time. Pairs with an element that a structure lacks are zero.

    Args:
        structures: periodic in three directions; atoms need not be inside the cell.
        elements: atomic numbers that may occur, in any order.

    Raises:
        InputError: no elements, or one given twice; a structure that has no atoms, another element,
            a direction that is not periodic, numbers that are not finite, a cell without volume,
            two atoms at the same position, or no reflection below k_max.
    """
    elements = _ascending(elements)
    for structure in structures:
        yield _features(structure, config, elements).reshape(1, -1)


def _features(
    structure: Structure, config: StructureFactorConfig, elements: tuple[int, ...]
) -> np.ndarray:
    """Compute S_ab(q) of a structure, [pairs of elements, bins], zero for absent elements."""
    _check_crystal(structure)
    present, species = np.unique(_species(structure, elements), return_inverse=True)
    basis, reach = reciprocal_box(structure.cell, config.k_max)
    first, second, third = (_padded(m, 4) for m in reach)
    padding = _padded(len(structure), 16) - len(structure)
    computed = _compiled(config, len(present), (first, second, third))(
        np.concatenate([structure.positions, np.zeros((padding, 3))]),
        structure.cell,
        np.pad(species.astype(np.int32), (0, padding), constant_values=-1),
        basis,
    )
    _check_peak(structure, np.asarray(computed), config)
    rows = {pair: row for row, pair in enumerate(species_pairs(len(elements)))}
    features = np.zeros((len(rows), config.bins))
    features[[rows[present[a], present[b]] for a, b in species_pairs(len(present))]] = computed
    return features


@lru_cache(maxsize=256)
def _compiled(
    config: StructureFactorConfig, n_species: int, reach: tuple[int, int, int]
) -> Callable[..., Array]:
    return compiled(partial(structure_factor, reach=reach, n_species=n_species, config=config))


def _padded(size: int, least: int) -> int:
    """Round a size up to a multiple of `least`, or of an eighth to a sixteenth of the size if that
    is larger: few shapes are then compiled, and large sizes have little padding."""
    step = max(least, 2 ** max(size.bit_length() - 4, 0))
    return -(-size // step) * step


# Refusals


def _ascending(elements: Sequence[int]) -> tuple[int, ...]:
    if len(elements) == 0 or len(set(elements)) < len(elements):
        raise InputError(
            "the elements of a structure factor must be given, each once",
            expected="atomic numbers such as (8, 14)",
            received=str(tuple(elements)),
            fix="give every element that may occur, once",
        )
    return tuple(sorted(int(z) for z in elements))


def _species(structure: Structure, elements: tuple[int, ...]) -> np.ndarray:
    """Return the index of each atom's element in `elements`, int [n]; refuse other elements."""
    unknown = sorted({int(z) for z in structure.numbers} - set(elements))
    if unknown:
        raise InputError(
            f"the structure factor was set up without {', '.join(map(symbol, unknown))}",
            where=structure.place,
            expected=f"only {', '.join(map(symbol, elements))}",
            received=f"atoms of {', '.join(map(symbol, unknown))}",
            fix="add the element, or remove the structure",
        )
    return np.array([elements.index(int(z)) for z in structure.numbers], dtype=np.int64)


def _check_crystal(structure: Structure) -> None:
    if len(structure) == 0:
        raise InputError(
            "a structure without atoms has no structure factor",
            where=structure.place,
            expected="at least one atom",
            received="none",
            fix="remove the structure",
        )
    if not np.all(structure.periodic):
        raise InputError(
            "a structure factor needs a crystal: reciprocal lattice vectors in three directions",
            where=structure.place,
            expected="pbc [True, True, True]",
            received=f"pbc {np.asarray(structure.periodic).tolist()}",
            fix="give the cell and pbc of a crystal (a slab with its vacuum), "
            "or describe molecules by SOAP or the Coulomb matrix",
        )
    if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()):
        raise InputError(
            "positions or cell are not finite numbers",
            where=structure.place,
            fix="correct or remove the structure",
        )
    # The search for pairs refuses flat cells and coincident atoms. It is slow for skewed cells,
    # hence the reduced one, and for very small cutoffs.
    reduced = _reduced(structure.cell) @ structure.cell
    pairs_within(replace(structure, cell=reduced), 2.0)


def _check_peak(structure: Structure, features: np.ndarray, config: StructureFactorConfig) -> None:
    """Refuse features that are all zero up to rounding."""
    if features.max() < 1e-24:
        raise InputError(
            "every reciprocal lattice vector below k_max is extinct, or there is none: "
            "all features would be zero",
            where=structure.place,
            expected=f"a diffraction peak below k_max = {config.k_max:g} 1/Å",
            received=f"cell {structure.cell.tolist()}",
            fix="raise k_max, or correct the cell",
        )
