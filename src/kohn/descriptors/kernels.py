r"""Compute kernels, the similarities of structures, from descriptors p of their atoms (SOAP).

    C_ij(A, B) = (p_i · p_j / |p_i| |p_j|)^ζ                    environments i of A and j of B

    average    K(A, B) = Σ_ij C_ij / nm                         n atoms in A, m in B
    rematch    K(A, B) = Σ_ij P_ij C_ij,
               P = argmax Σ_ij P_ij C_ij − γ Σ_ij P_ij ln P_ij  Σ_j P_ij = 1/n, Σ_i P_ij = 1/m

    k(A, B) = K(A, B) / √(K(A, A) K(B, B))

so that k(A, A) = 1. Kernels have no unit. They are invariant under every operation that leaves p
unchanged, under permutations of the atoms, and under supercells, because all atoms weigh the same.

C and the average kernel are positive semi-definite: their eigenvalues are above −1e-12 times the
largest. REMatch, the regularised-entropy match, in general is not: add jitter before you factorise
it. For γ → ∞ it is the average kernel; for γ → 0 and n = m it is the best assignment of atoms to
atoms.

P_ij = exp(C_ij/γ + f_i + g_j) is computed as in Sinkhorn's method, but with Newton steps in f: for
ethanol at γ = 0.1 and ζ = 4, alternating scalings need more than 5000 steps; Newton steps, eleven.

Sources: De, Bartók, Csányi, Ceriotti, Phys. Chem. Chem. Phys. 18, 13754 (2016); Cuturi, Adv. Neural
Inf. Process. Syst. 26 (2013). Length of the steps: Sun, Tran-Dinh, Math. Program. 178, 145 (2019).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

import numpy as np

from kohn.errors import ConfigError, InputError, nearest

Kind = Literal["average", "rematch"]
MAX_ENVIRONMENTS = 2048
"""The largest number of environments in a block, unless a single structure has more."""
MAX_FEATURES = 2**24
"""The largest number of features in a block, unless a single structure has more: 128 MiB."""
TOLERANCE = 1e-9
"""A match P has converged if Σ_i |Σ_j P_ij − 1/n| is at most this; k is then as accurate."""
STEPS = 1000
"""The largest number of Newton steps in which a match P must converge."""


@dataclass(frozen=True)
class KernelConfig:
    """Settings of a kernel between structures.

    Attributes:
        kind: "average" or "rematch".
        zeta: the power ζ, a whole number from 1; a larger ζ separates similar environments more.
        gamma: γ, entropy's weight in "rematch", from 1e-6; below, rounding exceeds `TOLERANCE`.

    Raises:
        ConfigError: an unknown kind, or ζ or γ out of range.
    """

    kind: Kind = "average"
    zeta: int = 4
    gamma: float = 0.1

    def __post_init__(self):
        if self.kind not in get_args(Kind):
            guess = nearest(str(self.kind), get_args(Kind))
            raise ConfigError(
                "the kernel is not known",
                expected=" or ".join(get_args(Kind)),
                received=repr(self.kind),
                fix=f"did you mean {guess!r}?" if guess else None,
            )
        if not isinstance(self.zeta, int) or isinstance(self.zeta, bool) or self.zeta < 1:
            raise ConfigError(
                "zeta is not valid", expected="a whole number from 1", received=repr(self.zeta)
            )
        number = isinstance(self.gamma, (int, float)) and not isinstance(self.gamma, bool)
        if not number or not isfinite(self.gamma) or self.gamma < 1e-6:
            raise ConfigError(
                "gamma is not valid", expected="a number from 1e-6", received=repr(self.gamma)
            )


# Between environments


def environment_kernel(
    p: np.ndarray,
    q: np.ndarray,
    zeta: int = 4,
    species: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """C_ij = (p_i · q_j / |p_i| |q_j|)^ζ, the kernel of the environments i and j, float64 [n, m].

    Args:
        p, q: descriptors of environments, [n, D] and [m, D]. No row may be zero.
        species: atomic numbers of the centres, [n] and [m]; C_ij = 0 if they differ. If None, all
            centres are compared; the densities of SOAP contain the species of the centre anyway.
    """
    lengths = np.linalg.norm(p, axis=1)[:, None] * np.linalg.norm(q, axis=1)
    c = (p @ q.T / lengths) ** zeta
    return c if species is None else c * (species[0][:, None] == species[1])


def match(c: np.ndarray, gamma: float) -> np.ndarray:
    """Compute the match P of the atoms of two structures; P_ij is the weight of the pair i, j.

    P = argmax Σ_ij P_ij C_ij − γ Σ_ij P_ij ln P_ij,  Σ_j P_ij = 1/n,  Σ_i P_ij = 1/m.
    P_ij = exp(C_ij/γ + f_i)/(m Σ_i' exp(C_i'j/γ + f_i')) has the right sums over i for any f,
    and f maximises the concave F(f) = Σ_i f_i/n − Σ_j ln Σ_i exp(C_ij/γ + f_i)/m:

        ∂F/∂f_i = 1/n − r_i,   −∂²F/∂f_i∂f_i' = r_i δ_ii' − m Σ_j P_ij P_i'j,   r_i = Σ_j P_ij

    The Newton step d is shortened to d ln(1 + R)/R with R = max d − min d, which always increases
    F, because |F'''| ≤ R |F''| along d. γ is lowered from 1 by factors of 4, and each γ starts from
    the f of the previous one.

    Args:
        c: environment kernels C of several pairs of structures, [..., n, m]. gamma: γ.

    Returns:
        P, float64 [..., n, m], with Σ_i |Σ_j P_ij − 1/n| of at most `TOLERANCE`.

    Raises:
        ConfigError: the match does not converge in `STEPS` steps.
    """
    if c.shape[-2] > c.shape[-1]:  # f belongs to the smaller side
        return np.swapaxes(match(np.swapaxes(c, -1, -2), gamma), -1, -2)
    f, previous, steps = np.zeros((*c.shape[:-1], 1)), 1.0, 0
    for current in _gammas(gamma):
        f, previous = f * (previous / current), current
        tolerance = TOLERANCE if current == gamma else 0.1
        while True:
            p = _columns_normalised(c / current + f)
            residual = 1 / c.shape[-2] - p.sum(axis=-1)
            error = float(np.abs(residual).sum(axis=-1).max())
            if error <= tolerance:
                break
            if (steps := steps + 1) > STEPS:
                raise ConfigError(
                    "the match of two structures does not converge",
                    expected=f"sums over atoms to {TOLERANCE:g} in {STEPS} steps",
                    received=f"an error of {error:.2g} with gamma {gamma:g}",
                    fix="raise gamma",
                )
            d = _newton_step(p, residual)
            spread = np.ptp(d, axis=-2, keepdims=True)
            f = f + d * np.log1p(spread) / np.maximum(spread, 1e-300)
    return p


def _gammas(gamma: float) -> list[float]:
    """Return the values of γ to solve for in turn: 1, 1/4 … and finally γ; only γ if γ ≥ 1."""
    steps = [1.0]
    while steps[-1] > gamma:
        steps.append(max(steps[-1] / 4, gamma))
    return steps if steps[-1] == gamma else [gamma]


def _columns_normalised(x: np.ndarray) -> np.ndarray:
    """Compute exp(x_ij)/(m Σ_i' exp(x_i'j)) without overflow; each column then sums to 1/m."""
    e = np.exp(x - x.max(axis=-2, keepdims=True))
    return e / (e.sum(axis=-2, keepdims=True) * x.shape[-1])


def _newton_step(p: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Solve (r_i δ_ii' − m Σ_j P_ij P_i'j) d = residual for d with Σ d = 0, where r_i = Σ_j P_ij.

    1e-13/n is added to the diagonal, because the matrix is singular if P has disconnected blocks.
    """
    n, m = p.shape[-2:]
    curvature = 1 / n**2 - m * (p @ np.swapaxes(p, -1, -2))
    diagonal = np.arange(n)
    curvature[..., diagonal, diagonal] += p.sum(axis=-1) + 1e-13 / n
    return np.linalg.solve(curvature, residual[..., None])


# Between structures


def kernel_matrix(
    a: Iterable[np.ndarray],
    b: Iterable[np.ndarray] | None = None,
    config: KernelConfig | None = None,
    *,
    species_a: Iterable[np.ndarray] | None = None,
    species_b: Iterable[np.ndarray] | None = None,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Compute k(A, B) = K(A, B)/√(K(A, A) K(B, B)) for all structures A and B, float64 [A, B].

    Structures are read in blocks of at most `MAX_ENVIRONMENTS` atoms and `MAX_FEATURES` numbers.
    Memory holds five blocks at a time, and the kernels C of two of them. b is read once for each
    block of a: if b computes its features on demand, it computes them again each time.

    Args:
        a, b: features of the atoms of each structure, [n, D]; a list, or another iterable that
            can be read several times. Without b, a is compared with itself; k is exactly symmetric.
        species_a, species_b: atomic numbers of the atoms [n]; if given, only centres of the same
            species are compared. species_b is needed if and only if species_a and b are given.
        advance: called with the number of pairs compared since the previous call.

    Raises:
        InputError: no structures; features that cannot be compared, because a structure has no
            atoms, or they are not finite, all zero, or differ in number; an iterator, which can be
            read only once; species that do not fit.
        ConfigError: a match does not converge.
    """
    config, done = config or KernelConfig(), advance or (lambda pairs: None)
    symmetric = b is None
    if (species_b is not None) != (not symmetric and species_a is not None):
        raise InputError("species are given for one side only", fix="give both or none")
    right = (a, species_a, "a") if symmetric else (b, species_b, "b")
    rows, own_a, own_b = [], [], []
    for block in _blocks(a, species_a, "a"):
        parts = []
        for other in _blocks(*right):
            _check_width(block, other)
            if not symmetric and not rows:
                own_b += _self_kernels(other, config)
            mirrored = symmetric and other.first < block.first
            zeros = np.zeros((len(block), len(other)))
            parts.append(zeros if mirrored else _block_kernels(block, other, config))
            done(len(block) * len(other))
        rows.append(np.concatenate(parts, axis=1))
        own_a += [] if symmetric else _self_kernels(block, config)
    k = np.concatenate(rows)
    if symmetric:
        k = np.triu(k) + np.triu(k, 1).T
        own_a = own_b = np.diagonal(k)
    return k / (_norms(own_a)[:, None] * _norms(own_b))


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of consecutive structures, whose atoms are the rows of one array of features.

    Attributes:
        first: index of the first structure of the block among all structures.
        features: features of all atoms [N, D]. species: atomic numbers [N], or None.
        starts: the row of the first atom of each structure, then N, [structures + 1].
    """

    first: int
    features: np.ndarray
    species: np.ndarray | None
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> np.ndarray:
        """The number of atoms of each structure."""
        return np.diff(self.starts)

    def rows(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the features and the species (or None) of the rows begin … end − 1."""
        return self.features[begin:end], None if self.species is None else self.species[begin:end]


def _kernels_of_rows(block: _Block, begin: int, end: int, other: _Block, zeta: int) -> np.ndarray:
    """Compute the kernels C of the rows begin … end − 1 of a block with all rows of another."""
    features, species = block.rows(begin, end)
    if species is None or other.species is None:
        return environment_kernel(features, other.features, zeta)
    return environment_kernel(features, other.features, zeta, (species, other.species))


def _block_kernels(block: _Block, other: _Block, config: KernelConfig) -> np.ndarray:
    """Compute K, not normalised, of each structure of a block with each structure of another."""
    if config.kind == "average":
        return _average_kernels(block, other, config.zeta)
    c = _kernels_of_rows(block, 0, block.starts[-1], other, config.zeta)
    return np.array(
        [
            _rematch_kernels(c[begin:end], other, config.gamma)
            for begin, end in zip(block.starts[:-1], block.starts[1:], strict=True)
        ]
    )


def _average_kernels(block: _Block, other: _Block, zeta: int) -> np.ndarray:
    """Compute Σ_ij C_ij / nm, in parts of `MAX_ENVIRONMENTS` rows so that C stays small."""
    structure = np.repeat(np.arange(len(block)), block.sizes)
    total = np.zeros((len(block), len(other)))
    for begin in range(0, len(structure), MAX_ENVIRONMENTS):
        c = _kernels_of_rows(block, begin, begin + MAX_ENVIRONMENTS, other, zeta)
        sums = np.add.reduceat(c, other.starts[:-1], axis=1)
        np.add.at(total, structure[begin : begin + MAX_ENVIRONMENTS], sums)
    return total / block.sizes[:, None] / other.sizes


def _rematch_kernels(c: np.ndarray, other: _Block, gamma: float) -> np.ndarray:
    """Compute Σ_ij P_ij C_ij of one structure with each of a block, equal sizes together."""
    values = np.zeros(len(other))
    for size in np.unique(other.sizes):
        selected = np.flatnonzero(other.sizes == size)
        columns = other.starts[selected][:, None] + np.arange(size)
        pairs = np.moveaxis(c[:, columns], 0, 1)
        values[selected] = (match(pairs, gamma) * pairs).sum(axis=(1, 2))
    return values


def _self_kernels(block: _Block, config: KernelConfig) -> list[float]:
    """Compute K(A, A), the kernel with itself, for each structure A of a block."""
    values = []
    for begin, end in zip(block.starts[:-1], block.starts[1:], strict=True):
        alone = _Block(0, *block.rows(begin, end), np.array([0, end - begin]))
        values.append(float(_block_kernels(alone, alone, config)[0, 0]))
    return values


def _norms(own: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return √K(A, A) of each A; at least 1/√n for n atoms if no dot product is negative."""
    if np.min(own) <= 0:
        raise InputError(
            "a structure has no similarity with itself: its environments cancel",
            expected="features whose dot products are not negative, as those of SOAP",
            fix="use other features, or an even zeta",
        )
    return np.sqrt(own)


# Input


def _blocks(
    structures: Iterable[np.ndarray], species: Iterable[np.ndarray] | None, name: str
) -> Iterator[_Block]:
    """Yield blocks of one structure, or of several up to `MAX_ENVIRONMENTS` and `MAX_FEATURES`."""
    if iter(structures) is structures or (species is not None and iter(species) is species):
        raise InputError(
            f"{name} can be read only once",
            expected="a list of arrays [atoms, features]",
            fix="pass list(…)",
        )
    waiting: list[tuple[np.ndarray, np.ndarray | None]] = []
    first = rows = 0
    for features, numbers in _checked_features(structures, species, name):
        rows += len(features)
        if waiting and (rows > MAX_ENVIRONMENTS or rows * features.shape[1] > MAX_FEATURES):
            block, waiting, rows = _joined(waiting, first), [], len(features)
            first += len(block)
            yield block  # the arrays that it joins are no longer held
        waiting.append((features, numbers))
    if not waiting:
        raise InputError(f"there are no structures in {name}", expected="at least one")
    yield _joined(waiting, first)


def _joined(waiting: list[tuple[np.ndarray, np.ndarray | None]], first: int) -> _Block:
    species = [numbers for _, numbers in waiting if numbers is not None]
    return _Block(
        first,
        np.concatenate([features for features, _ in waiting]),
        np.concatenate(species) if species else None,
        np.cumsum([0, *(len(features) for features, _ in waiting)]),
    )


def _checked_features(
    structures: Iterable[np.ndarray], species: Iterable[np.ndarray] | None, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield the checked features, as float64, and the species (or None) of each structure."""
    numbers, width = None if species is None else iter(species), None
    for index, given in enumerate(structures):
        where, features = f"{name}, structure {index}", np.asarray(given, np.float64)
        if (
            features.ndim != 2
            or 0 in features.shape
            or features.shape[1] != (width := width or features.shape[1])
        ):
            raise InputError(
                "the features of atoms have the wrong shape",
                expected=f"an array [atoms, {width or 'features'}]",
                received=f"shape {features.shape}",
                where=where,
            )
        _check_lengths(features, where)
        own = None if numbers is None else np.asarray(next(numbers, ()))
        if own is not None and own.shape != features.shape[:1]:
            raise InputError(
                "species do not fit the features",
                expected=f"one for each of {len(features)} atoms",
                received=f"shape {own.shape}",
                where=where,
            )
        yield features, own


def _check_lengths(features: np.ndarray, where: str) -> None:
    lengths = np.linalg.norm(features, axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise InputError(
            "an environment cannot be compared: its features are zero or not finite",
            expected="finite features that are not all zero",
            received=f"|p| = {lengths[bad[0]]} for atom {bad[0]}",
            where=where,
            fix="give the centre a weight, or correct the structure",
        )


def _check_width(block: _Block, other: _Block) -> None:
    expected, received = block.features.shape[1], other.features.shape[1]
    if expected != received:
        raise InputError(
            "a and b have different features",
            expected=f"{expected} for each atom",
            received=f"{received} in b",
            fix="describe both with the same fitted transformer, so that their elements agree",
        )
