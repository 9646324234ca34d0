"""Assess candidates of one chemical system: distances to its hull, P(stable) and decompositions.

With e ± σ the formation energy of a candidate, x its composition and t the tolerance, in eV/atom:

    d = e − h(x)                       signed; the hull h excludes the candidate itself
    P(stable) = T_ν((t − d)/σ)         if the hull is certain
    P(stable) = its mean over samples of the hull, if the hull is uncertain
    P(stable) by `kohn.stability.prior`, if it is requested

T_ν is Student's distribution function with ν degrees of freedom. Errors of a posterior are normal,
ν = ∞. For S members of an ensemble, with standard deviation s, ν = S − 1 and σ = s √(1 + 1/S): S
draws predict one further draw in this way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from kohn.stability.entries import Entries
from kohn.stability.formulas import reduced
from kohn.stability.phase_diagram import ConvexHull, Distances
from kohn.stability.prior import Prior
from kohn.stability.uncertainty import Errors, probability_stable
from kohn.typing import Bool, Document, Float, Int

LOW, HIGH = 0.05, 0.95
"""Levels of the two quantiles of the distance to the hull that are reported."""
QUANTITIES = ("distance_std", "probability_stable", "distance_05", "distance_95")
"""Columns of the table that exist only if an uncertainty is known."""
DRAWN = 1 << 24
"""The largest number of distances sampled at a time, samples times candidates: 128 MiB."""
TEXT = ("id", "formula", "decomposition", "problem", "warning")
"""Columns that contain text, not numbers."""


@dataclass(frozen=True)
class Uncertainty:
    """The uncertainties from which the probability of being stable is computed.

    Attributes:
        freedom: degrees of freedom ν of the distribution of the candidates' errors.
        hull: standard deviation σ of the independent error of each hull entry, eV/atom; 0: certain.
        samples: number of joint samples of hull and candidates, if the hull is uncertain.
        seed: seed of the samples.
        prior: distances of known compounds; None if all distances are equally likely in advance.
    """

    freedom: float = np.inf
    hull: float = 0.0
    samples: int = 1000
    seed: int = 0
    prior: Prior | None = None


def assess(
    hull: ConvexHull,
    candidates: Entries,
    formulas: Sequence[str],
    deviations: Float[np.ndarray, " M"] | None,
    uncertainty: Uncertainty,
    labelled: Float[np.ndarray, " M"] | None = None,
) -> Document:
    """Return the columns of the table for M candidates of one chemical system.

    Args:
        hull: the hull of the elements of this system.
        candidates: candidates over the hull's elements; an unknown energy is NaN.
        formulas: the text of each formula in the table, [M].
        deviations: standard deviations σ of the candidates' energies, eV/atom; None if unknown.
        uncertainty: the uncertainty of the hull, and the distribution of the candidates' errors.
        labelled: labelled energies of the candidates, eV/atom; NaN for those without a label.

    Returns:
        Name of a column -> its M values.
    """
    x, mu = candidates.fractions, hull.references.energies
    if candidates.formation:
        formation, per_atom = candidates.energies_per_atom, candidates.energies_per_atom + x @ mu
    else:
        per_atom = candidates.energies_per_atom
        formation = per_atom - x @ mu
    e = hull.relative(x, per_atom)
    own = hull.copies(candidates, e)
    distances = hull.distances_without(x, e, own)
    columns: Document = {
        "id": candidates.ids,
        "formula": formulas,
        "energy_per_atom": per_atom,
        "formation_energy_per_atom": formation,
        "distance": distances.values,
        "e_above_hull": np.maximum(distances.values, 0.0),
        "stable": distances.values <= hull.tolerance,
        "in_hull": distances.known,
    }
    if deviations is not None or uncertainty.hull > 0:
        sigma = np.zeros(len(x)) if deviations is None else deviations
        # The only entry of an element is stable by definition, whatever its error.
        sigma = np.where(sole_entries_of_an_element(hull, own, len(x)), 0.0, sigma)
        if uncertainty.hull > 0:
            columns |= from_samples(hull, x, e, own, sigma, uncertainty)
        else:
            columns |= closed_form(distances.values, sigma, hull.tolerance, uncertainty)
    if labelled is not None:
        columns["distance_labelled"] = hull.distances_without(
            x, hull.relative(x, labelled), own
        ).values
    return columns | {"decomposition": decompositions(hull, distances)}


def closed_form(
    d: Float[np.ndarray, " M"],
    sigma: Float[np.ndarray, " M"],
    tolerance: float,
    uncertainty: Uncertainty,
) -> dict[str, np.ndarray]:
    """Return σ, P(stable) and quantiles of distances `d` ± `sigma` to a hull without errors."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (tolerance - d) / sigma
    freedom = uncertainty.freedom
    normal = np.isinf(freedom)
    p = np.asarray(ndtr(z) if normal else stdtr(freedom, z))
    if uncertainty.prior is not None:
        p = uncertainty.prior.probability(d, sigma, tolerance)
    high = quantile(freedom, HIGH)
    return {
        "distance_std": sigma,
        "probability_stable": np.where(np.isnan(d) | (sigma > 0), p, d <= tolerance),
        "distance_05": d - high * sigma,
        "distance_95": d + high * sigma,
    }


def quantile(freedom: float, level: float | np.ndarray) -> np.ndarray:
    """Return the quantile T_ν⁻¹(level) of Student's distribution with ν = `freedom` (∞: normal)."""
    return ndtri(level) if np.isinf(freedom) else stdtrit(freedom, level)


def sole_entries_of_an_element(
    hull: ConvexHull, own: Mapping[int, Int[np.ndarray, " k"]], count: int
) -> Bool[np.ndarray, " M"]:
    """Return for each of `count` candidates whether it is the hull's only entry of an element."""
    only = np.zeros(count, bool)
    for i, rows in own.items():
        others = np.ones(len(hull.entries), bool)
        others[rows] = False
        only[i] = hull.hull.fractions[others].max(axis=0, initial=0.0).min() < 1 - 1e-9
    return only


def from_samples(
    hull: ConvexHull,
    x: Float[np.ndarray, "M D"],
    e: Float[np.ndarray, " M"],
    own: Mapping[int, Int[np.ndarray, " k"]],
    sigma: Float[np.ndarray, " M"],
    uncertainty: Uncertainty,
) -> dict[str, np.ndarray]:
    """Return σ, P(stable) and quantiles of distances d_s, from S joint samples s of the hull:

        P = Σ_s T_ν((t − d_s)/σ)/S           quantiles of d_s + σ T_ν⁻¹(u_s), u_s = (s' + ½)/S

    with T_ν Student's distribution function, t the tolerance, σ a candidate's own error (integrated
    exactly) and s' a permutation of the sample numbers. A candidate that is an entry of the hull is
    compared with the other entries alone.
    """
    columns = {name: np.full(len(x), np.nan) for name in QUANTITIES}
    size = max(1, DRAWN // uncertainty.samples)
    only = sole_entries_of_an_element(hull, own, len(x))
    others = np.setdiff1d(np.flatnonzero(np.isfinite(e)), list(own))
    alone = [np.array([i]) for i in own if np.isfinite(e[i])]
    for rows in [*np.split(others, range(size, len(others), size)), *alone]:
        if not len(rows):
            continue
        used = np.ones(len(hull.entries), bool)
        used[own.get(int(rows[0]), np.zeros(0, int))] = False
        if only[rows[0]]:
            values = (0.0, 1.0, 0.0, 0.0)
        else:
            posterior = probability_stable(
                hull.hull.fractions[used],
                hull.hull.energies[used],
                x[rows],
                e[rows],
                Errors(hull=uncertainty.hull),
                samples=uncertainty.samples,
                seed=uncertainty.seed,
            )
            values = with_own_error(posterior.distances, sigma[rows], hull.tolerance, uncertainty)
        for name, value in zip(QUANTITIES, values, strict=True):
            columns[name][rows] = value
    return columns


def with_own_error(
    d: Float[np.ndarray, "S M"],
    sigma: Float[np.ndarray, " M"],
    tolerance: float,
    uncertainty: Uncertainty,
) -> tuple[np.ndarray, ...]:
    """Return the standard deviation of each candidate's distance to the hull, P(stable) and two
    quantiles, from S samples `d` of the distances and the candidates' own errors `sigma`."""
    samples = len(d)
    shuffled = np.random.default_rng([uncertainty.seed, samples]).permutation(samples)
    draws = quantile(uncertainty.freedom, (shuffled + 0.5) / samples)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (tolerance - d) / sigma
    p = ndtr(z) if np.isinf(uncertainty.freedom) else stdtr(uncertainty.freedom, z)
    p = np.where(sigma > 0, p, d <= tolerance).mean(axis=0)
    low, high = np.quantile(d + sigma * draws[:, None], (LOW, HIGH), axis=0)
    return np.sqrt(d.var(axis=0) + sigma**2), p, low, high


def decompositions(hull: ConvexHull, distances: Distances) -> list[str]:
    """Return texts such as '0.25 Li2O (mp-1960) + 0.75 FeO (mp-2)'; numbers are shares of atoms."""
    labels = {
        j: f"{reduced(hull.elements, hull.entries.counts[j])[0]} ({hull.entries.ids[j]})"
        for j in np.unique(distances.entries).tolist()
    }
    # Column by column, because a million small lists would keep the garbage collector busy.
    parts = [
        [f"{s:.4g} {labels[j]}" if s > 0 else "" for j, s in zip(js, ss, strict=True)]
        for js, ss in zip(distances.entries.T.tolist(), distances.shares.T.tolist(), strict=True)
    ]
    return [" + ".join(filter(None, row)) for row in zip(*parts, strict=True)]
