"""Multiply two spherical tensors, or ν copies of one spherical tensor.

A spherical tensor of degree l is a tuple of its 2l+1 components, which are arrays of equal
shape; products use the nonzero Clebsch–Gordan coefficients only. XLA fuses a product that is
written out in this way into a few loops over atoms and channels, about ten times faster than a
dense contraction with the coefficients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import combinations_with_replacement
from typing import TypeAlias, TypeVar

import numpy as np

from kohn.o3.clebsch_gordan import clebsch_gordan
from kohn.typing import Array

A = TypeVar("A", Array, np.ndarray)
Tensor: TypeAlias = tuple[A, ...]
Path: TypeAlias = tuple[int, ...]
"""A chain of couplings (l1, l2, L12, l3, L123, …): l1 with l2 to L12, this with l3 to L123, …"""


@lru_cache
def nonzero_coefficients(l1: int, l2: int, l3: int) -> tuple[tuple[int, int, int, float], ...]:
    """Return nonzero Clebsch–Gordan coefficients as (m3, m1, m2, C), sorted, m counted from 0."""
    c = clebsch_gordan(l1, l2, l3)
    return tuple(sorted((int(k), int(i), int(j), float(c[i, j, k])) for i, j, k in np.argwhere(c)))


def product(x: Tensor[A], y: Tensor[A], l3: int) -> Tensor[A]:
    """Compute (x ⊗ y)_m3 = Σ C[m1, m2, m3] x_m1 y_m2, the part of x ⊗ y of degree l3.

    If `x is y`, x_m1 x_m2 is computed only once for both orders of m1 and m2.
    """
    l1, l2 = len(x) // 2, len(y) // 2
    pairs: list[dict[tuple[int, int], float]] = [{} for _ in range(2 * l3 + 1)]
    for m3, m1, m2, c in nonzero_coefficients(l1, l2, l3):
        pair = (min(m1, m2), max(m1, m2)) if x is y else (m1, m2)
        pairs[m3][pair] = pairs[m3].get(pair, 0.0) + c

    def component(coefficients: dict[tuple[int, int], float]) -> A:
        terms: list[A] = [c * (x[i] * y[j]) for (i, j), c in coefficients.items() if abs(c) > 1e-14]
        return reduce(lambda a, b: a + b, terms) if terms else 0.0 * x[0]

    return tuple(component(coefficients) for coefficients in pairs)


@dataclass(frozen=True)
class SymmetricProduct:
    """The weighted sum of all products of ν = 1, 2, … factors A that have the degree `degree`.

        B_c = Σ_ν Σ_η w^ν_ηc · [A_c ⊗ … ⊗ A_c]_η        (MACE, eq. 10 and 11)

    for channels c and paths η. Because all factors are the same tensor A, many couplings are equal
    or linearly dependent: for l ≤ 3 and ν = 3 there are 8 invariants, not the 23 of distinct
    factors. `paths` holds one independent set, determined by rank, the cheapest chains first.

    Attributes:
        l_max: highest degree of A.
        degree: degree of the result, of natural parity (-1)^degree.
        paths: for each number of factors ν = 1, 2, …, its independent chains.

    Source: Batatia, Kovács, Simm, Ortner, Csányi, NeurIPS 2022, arXiv:2206.07697.
    """

    l_max: int
    degree: int
    paths: tuple[tuple[Path, ...], ...]

    def __call__(self, a: Mapping[int, Tensor[A]], weights: Sequence[Sequence[A]]) -> Tensor[A]:
        """Compute the sum of products B from the tensor A.

        Args:
            a: degree -> components of A, each [...].
            weights: w for each ν and each of its paths, broadcast against the components.
        """
        pairs: dict[tuple[Path, int, int], Tensor[A]] = {}

        def coupled(stem: Path) -> Tensor[A]:
            if len(stem) == 1:
                return a[stem[0]]
            *before, l, out = stem
            key = (tuple(before), l, out)
            if key not in pairs:
                left = coupled(tuple(before)) if len(before) > 1 else a[before[0]]
                pairs[key] = product(left, a[l], out)
            return pairs[key]

        # The last factor is taken out of each sum: Σ_η w_η (T_η ⊗ A_l) = (Σ_η w_η T_η) ⊗ A_l.
        sums: dict[tuple[int, int], Tensor[A]] = {}
        result: Tensor[A] | None = None
        for order, (chains, w) in enumerate(zip(self.paths, weights, strict=True), start=1):
            for i, chain in enumerate(chains):
                if order <= 2:
                    term = _times(w[i], coupled(chain))
                    result = term if result is None else _sum(result, term)
                else:
                    *stem, l, _ = chain
                    term = _times(w[i], coupled(tuple(stem)))
                    tail = (stem[-1], l)
                    sums[tail] = _sum(sums[tail], term) if tail in sums else term
        for (_, l), stem_sum in sums.items():
            term = product(stem_sum, a[l], self.degree)
            result = term if result is None else _sum(result, term)
        assert result is not None
        return result


def _times(w: A, x: Tensor[A]) -> Tensor[A]:
    return tuple(w * t for t in x)


def _sum(x: Tensor[A], y: Tensor[A]) -> Tensor[A]:
    return tuple(a + b for a, b in zip(x, y, strict=True))


@lru_cache
def symmetric_product(l_max: int, degree: int, order: int) -> SymmetricProduct:
    """Return the products of up to `order` equal tensors of degrees 0 … l_max, natural parity."""
    return SymmetricProduct(
        l_max, degree, tuple(_independent_chains(l_max, degree, nu) for nu in range(1, order + 1))
    )


def _independent_chains(l_max: int, degree: int, order: int) -> tuple[Path, ...]:
    """Return linearly independent chains, chosen by the rank of their values at random tensors.

    Only chains of the same degrees l1, l2, … in any order can depend on one another.
    """
    rng = np.random.default_rng(0)
    chosen: list[Path] = []
    for degrees in combinations_with_replacement(range(l_max + 1), order):
        if (sum(degrees) + degree) % 2:
            continue  # parity
        chains = sorted(_chains(degrees, degree), key=_cost)
        if not chains:
            continue
        samples = 4 * len(chains)
        a = {l: tuple(rng.normal(size=(2 * l + 1, samples))) for l in set(degrees)}
        basis = np.zeros((0, samples * (2 * degree + 1)))
        for chain in chains:
            value = np.concatenate(evaluate_chain(chain, a))
            norm = np.linalg.norm(value)
            if norm < 1e-10:
                continue
            value = value / norm
            rest = value - basis.T @ (basis @ value)
            rest = rest - basis.T @ (basis @ rest)
            if np.linalg.norm(rest) > 1e-6:
                basis = np.vstack([basis, rest / np.linalg.norm(rest)])
                chosen.append(chain)
    return tuple(chosen)


def evaluate_chain(chain: Path, a: Mapping[int, Tensor[A]]) -> Tensor[A]:
    """Compute [[A_l1 ⊗ A_l2]_L12 ⊗ A_l3]… along a chain (l1, l2, L12, l3, …)."""
    value = a[chain[0]]
    for l, out in zip(chain[1::2], chain[2::2], strict=True):
        value = product(value, a[l], out)
    return value


def _chains(degrees: tuple[int, ...], degree: int) -> set[Path]:
    """Return every chain that couples all of `degrees`, in any order, to `degree`."""
    if len(degrees) == 1:
        return {(degrees[0],)} if degrees[0] == degree else set()
    chains: set[Path] = set()
    for i, last in enumerate(degrees):
        rest = degrees[:i] + degrees[i + 1 :]
        for stem_degree in range(abs(last - degree), last + degree + 1):
            for stem in _chains(rest, stem_degree):
                if len(stem) == 1 and stem[0] > last:
                    continue  # the first two commute
                chains.add((*stem, last, degree))
    return chains


def _cost(chain: Path) -> tuple:
    """Return a sort key: fewest intermediates of parity −(−1)^l, then fewest products."""
    left = chain[0]
    nonzero, unnatural = 0, 0
    for l, out in zip(chain[1::2], chain[2::2], strict=True):
        nonzero += len(nonzero_coefficients(left, l, out))
        unnatural += (left + l + out) % 2
        left = out
    return (unnatural, nonzero, chain)
