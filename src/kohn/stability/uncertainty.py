"""Compute the probability that a compound is stable, from uncertain energies of all compounds.

In sample s the entries (compositions X) have energies e_s, the candidates (X') ε_s, in eV/atom:

    e_s = e + σ ∘ z + X c           z, z' ~ N(0, 1)
    ε_s = ε + σ' ∘ z' + X' c'       c, c' ~ N(0, Σ),  E[c c'ᵀ] = ρ Σ
    d_s = ε_s − h_s(x')             h_s the hull of e_s, without the candidate itself
    P(stable) = share of the samples with d_s ≤ tolerance

σ are independent errors, c errors of the elements. An ensemble has e and ε of its member s instead.
The energies of a sample belong together: an error that all entries share must not be drawn for each
entry. An error that is linear in the composition shifts the hull as much, from h to h + x·c, so
only c' − c is drawn, with covariance 2(1 − ρ)Σ; an error shared by all cancels to the last digit.

Each sampled hull is exact. An entry i above a mixture of other entries cannot be on the hull, and
its decomposition λ_i at the given energies e is a good mixture to try:

    keep i if it is on the hull of e, or e_s,i < Σ_j λ_ij e_s,j

Many candidates are compared with the planes of the hull of the kept entries; for few candidates, or
many elements, the simplex method computes each mixture, starting from that at the given energies.

Source: the definition of the hull implies which errors must be sampled jointly; Brown, Cai and
DasGupta, Stat. Sci. 16, 101 (2001), for Jeffreys' interval.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from kohn.errors import InputError
from kohn.stability.facets import cheapest_mixtures, elemental_start, highest, lower_facets
from kohn.typing import Float, Int

MOST_ELEMENTS = 6
"""Up to this number of elements facets are computed; beyond it, mixtures one by one."""
SAMPLES = 1000
"""The default number of samples, unless the ensemble is the only source of errors."""
TOLERANCE = 1e-8
"""eV/atom: a phase within this distance of the hull is on it."""
KEYS = 1 << 20
"""Number of entries in sampled mixtures that are collected before they are counted."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of the energies of N entries and M candidates. Errors that are not given are zero.

    Attributes:
        hull: standard deviations of independent errors of entries, eV/atom, [N] or one number.
        candidates: standard deviations of independent errors of candidates, eV/atom, [M] or one.
        elements: covariance Σ of the errors c of the D elements, (eV/atom)², [D, D]; an entry of
            composition x has the error x·c.
        elements_of: which energies have the error x·c: "both", or only "hull" or "candidates".
        correlation: correlation ρ between c of the hull and c' of the candidates if both have such
            errors: 1 for equal errors, 0 for independent errors.
        ensemble_hull: energies of the entries by each of the S members of an ensemble, which
            replace the given energies, eV/atom, [S, N].
        ensemble_candidates: energies of the candidates by the same members, eV/atom, [S, M].
    """

    hull: Float[np.ndarray, " N"] | float = 0.0
    candidates: Float[np.ndarray, " M"] | float = 0.0
    elements: Float[np.ndarray, "D D"] | None = None
    elements_of: Literal["both", "hull", "candidates"] = "both"
    correlation: float = 1.0
    ensemble_hull: Float[np.ndarray, "S N"] | None = None
    ensemble_candidates: Float[np.ndarray, "S M"] | None = None

    @property
    def members(self) -> int | None:
        """S, the number of members of the ensemble; None if there is no ensemble."""
        given = [a for a in (self.ensemble_hull, self.ensemble_candidates) if a is not None]
        return len(given[0]) if given else None

    @property
    def continuous(self) -> bool:
        """Whether any error is drawn from a normal distribution."""
        drawn = np.any(np.asarray(self.hull) > 0) or np.any(np.asarray(self.candidates) > 0)
        return bool(drawn) or self.elements is not None

    def relative(self) -> Float[np.ndarray, "D D"]:
        """Return the covariance of c' − c, the difference of the elements' errors, (eV/atom)²."""
        assert self.elements is not None
        return self.elements * (2 * (1 - self.correlation) if self.elements_of == "both" else 1.0)


@dataclass(frozen=True, eq=False)
class StabilityPosterior:
    """The sampled posterior of the distances of M candidates to the hull, eV/atom (< 0: below it).

    Attributes:
        probability: probability P(stable) that each candidate is stable, [M].
        probability_error: standard deviation of P(stable) due to the finite number of samples, [M]:
            of Jeffreys' Beta(k + ½, n − k + ½), k of n samples stable, which is not zero for k = 0
            and k = n; n is the number of samples, or of members of an ensemble, if these are fewer.
        mean, std: mean and standard deviation of the distances, [M].
        levels: levels of the Q quantiles, [Q].
        quantiles: quantiles of the distances, [M, Q].
        competitors: indices of the entries that occur most often in the decompositions of a
            candidate; the most frequent first, −1 if there are fewer than K, [M, K].
        frequencies: the share of the samples in which each competitor occurs, [M, K].
        distances: the distances of all S samples, [S, M]; each row is one joint sample.
        seed: seed of the samples; sample s depends on the seed and on s alone.
    """

    probability: Float[np.ndarray, " M"]
    probability_error: Float[np.ndarray, " M"]
    mean: Float[np.ndarray, " M"]
    std: Float[np.ndarray, " M"]
    levels: Float[np.ndarray, " Q"]
    quantiles: Float[np.ndarray, "M Q"]
    competitors: Int[np.ndarray, "M K"]
    frequencies: Float[np.ndarray, "M K"]
    distances: Float[np.ndarray, "S M"]
    seed: int


def probability_stable(
    fractions: Float[np.ndarray, "N D"],
    energies: Float[np.ndarray, " N"],
    candidates: Float[np.ndarray, "M D"],
    candidate_energies: Float[np.ndarray, " M"],
    errors: Errors,
    *,
    entries: Int[np.ndarray, " M"] | None = None,
    samples: int | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
    competitors: int = 5,
) -> StabilityPosterior:
    """Sample the energies of hull and candidates jointly, and compute P(stable).

    The distances of all samples are kept: 8 bytes for each sample and candidate.

    Args:
        fractions: compositions x of the entries; rows add to 1, and pure elements are included.
        energies: energies e of the entries, eV/atom, relative to any reference.
        candidates: compositions x' of the candidates.
        candidate_energies: energies ε of the candidates, eV/atom, with the reference of `energies`.
        errors: errors of the energies of entries and candidates.
        entries: the entry that each candidate is, −1 for none. Such a candidate has the energy and
            the error of its entry, and its hull is that of the other entries; if it is the only
            entry of an element, its distance is 0.
        samples: number of samples; sample s uses member s modulo the number of members. Default:
            the number of members if an ensemble is the only error, else `SAMPLES`.
        seed: seed of the samples, not negative.
        tolerance: a candidate is stable if its distance is at most this, eV/atom.
        levels: levels of the quantiles to return, between 0 and 1.
        competitors: number of competitors to return for each candidate.

    Raises:
        InputError: shapes that do not fit, numbers that are not finite, fractions that do not add
            to 1, an element without an entry, a negative standard deviation, a matrix that is not a
            covariance, a candidate with another energy than its entry.
    """
    x, e, x_c, e_c = (
        np.asarray(a, float) for a in (fractions, energies, candidates, candidate_energies)
    )
    which = np.full(len(x_c), -1) if entries is None else np.asarray(entries, int)
    _check(x, e, x_c, e_c, which)
    _check_errors(errors, len(x), x.shape[1], len(x_c))
    if samples is None:
        alone = errors.members is not None and not errors.continuous
        samples = errors.members if alone else SAMPLES
    if samples is None or samples < 1 or seed < 0:
        raise InputError("no samples can be drawn", received=f"samples {samples}, seed {seed}")

    hull = _SampledHull(x, e, x_c, which)
    distances = np.empty((samples, len(x_c)))
    shape = (len(x_c), len(x))
    counts, listed = _counts([], shape), []
    for s, (e_s, e_cs) in enumerate(draws(x, e, x_c, e_c, which, errors, samples, seed)):
        heights, partners, shares = hull.mixtures(e_s)
        distances[s] = e_cs - heights
        listed.append((partners, shares))
        if len(listed) * partners.size >= KEYS or s == samples - 1:
            counts, listed = counts + _counts(listed, shape), []

    names, times = _most_often(counts, competitors)
    stable = (distances <= tolerance).mean(axis=0)
    independent = samples if errors.members is None else min(samples, errors.members)
    return StabilityPosterior(
        probability=stable,
        probability_error=_jeffreys_deviation(stable, independent),
        mean=distances.mean(axis=0),
        std=distances.std(axis=0),
        levels=np.asarray(levels, float),
        quantiles=np.quantile(distances, np.asarray(levels, float), axis=0).T,
        competitors=names,
        frequencies=times / samples,
        distances=distances,
        seed=seed,
    )


def draws(
    x: Float[np.ndarray, "N D"],
    e: Float[np.ndarray, " N"],
    x_c: Float[np.ndarray, "M D"],
    e_c: Float[np.ndarray, " M"],
    which: Int[np.ndarray, " M"],
    errors: Errors,
    samples: int,
    seed: int,
) -> Iterator[tuple[Float[np.ndarray, " N"], Float[np.ndarray, " M"]]]:
    """Yield the energies of entries and candidates of each sample, both minus the hull's error x·c.

    Each sample has its own random generator. The entries' energies do not depend on the candidates.
    """
    of_entry = which >= 0
    sigma, sigma_c = np.asarray(errors.hull, float), np.asarray(errors.candidates, float)
    root = None if errors.elements is None else _square_root(errors.relative())
    for s in range(samples):
        rng = np.random.default_rng([seed, s])
        e_s = (
            e
            if errors.ensemble_hull is None
            else errors.ensemble_hull[s % len(errors.ensemble_hull)]
        )
        if sigma.any():
            e_s = e_s + sigma * rng.standard_normal(len(x))
        e_cs = e_c
        if errors.ensemble_candidates is not None:
            e_cs = errors.ensemble_candidates[s % len(errors.ensemble_candidates)]
        if root is not None:
            e_cs = e_cs + x_c @ (root @ rng.standard_normal(len(root)))
        if sigma_c.any():
            e_cs = e_cs + sigma_c * rng.standard_normal(len(x_c))
        yield e_s, np.where(of_entry, e_s[which], e_cs)


class _SampledHull:
    """The hull of entries whose energies change from sample to sample, for fixed candidates.

    Attributes:
        x: fractions of the entries, [N, D].
        x_c: fractions of the candidates, [M, D].
        which: index of the entry that each candidate is, −1 for none, [M].
        by_facets: whether mixtures are computed from facets, not by the simplex method.
    """

    def __init__(
        self,
        x: Float[np.ndarray, "N D"],
        e: Float[np.ndarray, " N"],
        x_c: Float[np.ndarray, "M D"],
        which: Int[np.ndarray, " M"],
    ):
        self.x, self.x_c, self.which = x, x_c, which
        elements = x.shape[1]
        # Qhull takes about 4^D times as long as one mixture.
        self.by_facets = elements <= MOST_ELEMENTS and len(x_c) > 4**elements
        rows = np.flatnonzero(which >= 0) if self.by_facets else np.arange(len(x_c))
        self._start = np.zeros(x_c.shape, np.intp)
        first = elemental_start(x, e, which[rows])
        self._start[rows] = cheapest_mixtures(x, e, x_c[rows], first, which[rows])[1]
        if self.by_facets:
            vertices, planes, inverses = lower_facets(x, e)
            facets = highest(planes, x)[1]
            self._partners = vertices[facets]
            self._shares = np.einsum("nd,ndk->nk", x, inverses[facets])
            # Next to a tie, shares may be negative (no mixture). Such an entry is always kept.
            self._always = self._shares.min(axis=1) < -1e-9
            self._always[vertices] = True
        self._last: tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None

    def mixtures(
        self, e: Float[np.ndarray, " N"]
    ) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, "M D"], Float[np.ndarray, "M D"]]:
        """Return h(x), entries and shares of each mixture; the previous ones if e is unchanged."""
        if self._last is None or not np.array_equal(self._last[0], e):
            if self.by_facets:
                mixtures = self._by_facets(e)
            else:
                mixtures = cheapest_mixtures(self.x, e, self.x_c, self._start, self.which)
            self._last = e, mixtures
        return self._last[1]

    def _by_facets(
        self, e: Float[np.ndarray, " N"]
    ) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, "M D"], Float[np.ndarray, "M D"]]:
        mixed = np.einsum("nk,nk->n", self._shares, e[self._partners])
        kept = np.flatnonzero(self._always | (e < mixed))
        vertices, planes, inverses = lower_facets(self.x[kept], e[kept])
        heights, facets = highest(planes, self.x_c)
        entries = kept[vertices[facets]]
        shares = np.einsum("md,mdk->mk", self.x_c, inverses[facets])

        tied = np.flatnonzero(shares.min(axis=1) < -1e-9)  # wrong one of coplanar facets
        if len(tied):
            start = elemental_start(self.x, e, np.full(len(tied), -1))
            _, entries[tied], shares[tied] = cheapest_mixtures(self.x, e, self.x_c[tied], start)
        on = np.flatnonzero(self.which >= 0)
        on = on[e[self.which[on]] <= heights[on] + 1e-9]  # other entries do not change the hull
        heights[on], entries[on], shares[on] = cheapest_mixtures(
            self.x, e, self.x_c[on], self._start[on], self.which[on]
        )
        return heights, entries, np.where(shares > 1e-9, shares, 0.0)


def _counts(listed: Sequence[tuple[np.ndarray, np.ndarray]], shape: tuple[int, int]) -> csr_array:
    """Return the number of mixtures of each candidate that contain each entry, [M, N]."""
    if not listed:
        nothing = np.zeros(0, np.int64)
        return csr_array((nothing, (nothing, nothing)), shape=shape)
    takes_part = np.array([shares > 0 for _, shares in listed])
    rows = np.nonzero(takes_part)[1]
    columns = np.array([entries for entries, _ in listed])[takes_part]
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=shape)


def _most_often(
    counts: csr_array, most: int
) -> tuple[Int[np.ndarray, "M K"], Int[np.ndarray, "M K"]]:
    """Return for each candidate the `most` entries with the largest counts, and these counts."""
    rows = np.repeat(np.arange(len(counts.indptr) - 1), np.diff(counts.indptr))
    data = np.asarray(counts.data, np.int64)
    order = np.lexsort((counts.indices, -data, rows))
    rows, columns, data = rows[order], counts.indices[order], data[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    first = rank < most
    names = np.full((len(counts.indptr) - 1, most), -1)
    times = np.zeros(names.shape, int)
    names[rows[first], rank[first]] = columns[first]
    times[rows[first], rank[first]] = data[first]
    return names, times


def _jeffreys_deviation(share: Float[np.ndarray, " M"], n: int) -> Float[np.ndarray, " M"]:
    a, b = n * share + 0.5, n * (1 - share) + 0.5
    return np.sqrt(a * b / ((n + 1) ** 2 * (n + 2)))


def _square_root(covariance: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
    """Return a matrix R with R Rᵀ = covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _check(x: np.ndarray, e: np.ndarray, x_c: np.ndarray, e_c: np.ndarray, which: np.ndarray):
    shapes = [a.shape for a in (x, e, x_c, e_c, which)]
    n, m = len(x), len(x_c)
    d = x.shape[1] if x.ndim == 2 else 0
    if shapes != [(n, d), (n,), (m, d), (m,), (m,)] or d == 0:
        raise InputError(
            "arrays of entries and candidates do not fit",
            expected="shapes [N, D], [N], [M, D], [M] and [M]",
            received=", ".join(str(list(shape)) for shape in shapes),
        )
    for name, fractions, energies in (("entries", x, e), ("candidates", x_c, e_c)):
        if not (np.isfinite(fractions).all() and np.isfinite(energies).all()):
            raise InputError(f"a fraction or an energy of the {name} is not finite")
        wrong = (np.abs(fractions.sum(axis=1) - 1) > 1e-9) | (fractions < 0).any(axis=1)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise InputError(
                f"fractions of the {name} must add to 1",
                received=f"row {i}: {fractions[i].tolist()}",
            )
    missing = np.flatnonzero(~(x > 1 - 1e-9).any(axis=0))
    if len(missing):
        raise InputError(
            "an element has no entry",
            expected="an elemental reference for each element",
            received=f"none in column {', '.join(map(str, missing))}",
        )
    own = np.flatnonzero(which >= 0)
    if which.max(initial=-1) >= n or which.min(initial=-1) < -1:
        raise InputError("the entry of a candidate does not exist", expected=f"-1 to {n - 1}")
    apart = np.abs(x[which[own]] - x_c[own]).max(axis=1, initial=0) + np.abs(
        e[which[own]] - e_c[own]
    )
    if (apart > 1e-6).any():
        i = int(own[np.argmax(apart)])
        raise InputError(
            "a candidate differs from the entry that it is declared to be",
            expected=f"{e[which[i]]:.6f} eV/atom at {x[which[i]].tolist()}",
            received=f"candidate {i}: {e_c[i]:.6f} eV/atom at {x_c[i].tolist()}",
        )


def _check_errors(errors: Errors, n: int, d: int, m: int) -> None:
    for name, count in (("hull", n), ("candidates", m)):
        sigma = np.asarray(getattr(errors, name), float)
        if sigma.shape not in ((), (count,)) or not (np.isfinite(sigma) & (sigma >= 0)).all():
            raise InputError(
                f"standard deviations of the {name} cannot be used",
                expected=f"one number or {count}, none negative, eV/atom",
                received=f"shape {list(sigma.shape)}, least {sigma.min(initial=np.inf)}",
            )
    if errors.elements is not None:
        c = np.asarray(errors.elements, float)
        sound = c.shape == (d, d) and np.isfinite(c).all() and np.allclose(c, c.T)
        if not sound or np.linalg.eigvalsh(c).min() < -1e-9 * np.abs(c).max():
            raise InputError(
                "the covariance of the elements cannot be used",
                expected=f"a symmetric matrix [{d}, {d}] without negative eigenvalues",
                received=f"shape {list(c.shape)}",
            )
    if not -1 <= errors.correlation <= 1:
        raise InputError("the correlation must be within ±1", received=str(errors.correlation))
    if errors.elements_of not in ("both", "hull", "candidates"):
        raise InputError(
            "elements_of has an unknown value",
            expected="both, hull or candidates",
            received=str(errors.elements_of),
        )
    for name, count in (("hull", n), ("candidates", m)):
        given = getattr(errors, f"ensemble_{name}")
        if given is not None and (
            np.shape(given) != (errors.members, count) or not np.isfinite(given).all()
        ):
            raise InputError(
                f"the ensemble of the {name} cannot be used",
                expected=f"finite energies [{errors.members}, {count}]",
                received=f"shape {list(np.shape(given))}",
            )
