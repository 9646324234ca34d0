"""Candidates of one chemical system before its hull: distances, P(stable), and what they fall into.

    d = e − h(x)                       signed; the hull without the candidate itself
    P(stable) = T_ν((t − d)/σ)         the hull's energies certain: σ of e, t the tolerance
    P(stable) = share of samples       uncertain: hull and candidates are drawn together
    P(stable) by `kohn.discovery.prior` where it is asked for

T_ν is Student's distribution function. A posterior has ν = ∞, the normal distribution. S members of
an ensemble have ν = S − 1 and σ = s √(1 + 1/S), with s their standard deviation: what S draws tell
of one more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from kohn.discovery.prior import Prior
from kohn.stability import ConvexHull, Errors, probability_stable
from kohn.stability.entries import Entries
from kohn.stability.formulas import reduced
from kohn.stability.phase_diagram import Distances, refuse_formation_energies_of_candidates
from kohn.typing import Float, Int

LOW, HIGH = 0.05, 0.95
"""Quantiles of the distance that are told."""
QUANTITIES = ("distance_std", "probability_stable", "distance_05", "distance_95")
"""Columns of what is uncertain."""
DRAWN = 1 << 24
"""Numbers that are drawn at a time: samples times candidates, 128 MiB."""
TEXT = ("id", "formula", "decomposition", "problem", "warning")
"""Columns that are no numbers."""


@dataclass(frozen=True)
class Uncertainty:
    """How probabilities are found.

    Attributes:
        freedom: ν of the candidates' errors.
        hull: σ of the hull's entries, independent, eV/atom; 0 where they are certain.
        samples: joint samples, where the hull is uncertain.
        seed: of the samples.
        prior: how often compounds are stable at all; None for every distance alike.
    """

    freedom: float = np.inf
    hull: float = 0.0
    samples: int = 1000
    seed: int = 0
    prior: Prior | None = None


def judged(
    hull: ConvexHull,
    candidates: Entries,
    formulas: Sequence[str],
    deviations: Float[np.ndarray, " M"] | None,
    uncertainty: Uncertainty,
    labelled: Float[np.ndarray, " M"] | None = None,
) -> dict[str, Any]:
    """Columns of the candidates of one chemical system.

    Args:
        hull: of their elements.
        candidates: over the hull's elements; energies NaN where there is none.
        formulas: as they are to be written, [M].
        deviations: σ of their energies, eV/atom; None where nothing is known of them.
        uncertainty: of the hull, and of how σ is meant.
        labelled: energies that were computed for them, eV/atom, NaN where there are none.

    Returns:
        Name -> column of M values.
    """
    x, mu = candidates.fractions, hull.references.energies
    if candidates.formation:
        formation, per_atom = candidates.energies_per_atom, candidates.energies_per_atom + x @ mu
    else:
        per_atom = candidates.energies_per_atom
        formation = per_atom - x @ mu
    e = hull.relative(x, per_atom)
    own = hull.copies(candidates, e)
    found = hull.judge(x, e, own)
    if not candidates.formation and not own:
        refuse_formation_energies_of_candidates(found.values, x @ mu, candidates.places[0])
    columns: dict[str, Any] = {
        "id": candidates.ids,
        "formula": formulas,
        "energy_per_atom": per_atom,
        "formation_energy_per_atom": formation,
        "distance": found.values,
        "e_above_hull": np.maximum(found.values, 0.0),
        "stable": found.values <= hull.tolerance,
        "in_hull": found.known,
    }
    if deviations is not None or uncertainty.hull > 0:
        sigma = np.zeros(len(x)) if deviations is None else deviations
        if uncertainty.hull > 0:
            columns |= sampled(hull, x, e, own, sigma, uncertainty)
        else:
            columns |= closed_form(found.values, sigma, hull.tolerance, uncertainty)
    if labelled is not None:
        columns["distance_labelled"] = hull.judge(x, hull.relative(x, labelled), own).values
    return columns | {"decomposition": decompositions(hull, found)}


def closed_form(
    d: Float[np.ndarray, " M"],
    sigma: Float[np.ndarray, " M"],
    tolerance: float,
    uncertainty: Uncertainty,
) -> dict[str, np.ndarray]:
    """P(stable) and quantiles beside a hull that is certain."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (tolerance - d) / sigma
    freedom = uncertainty.freedom
    normal = np.isinf(freedom)
    p = np.asarray(ndtr(z) if normal else stdtr(freedom, z))
    if uncertainty.prior is not None:
        p = uncertainty.prior.probability(d, sigma, tolerance)
    high = ndtri(HIGH) if normal else stdtrit(freedom, HIGH)
    return {
        "distance_std": sigma,
        "probability_stable": np.where(sigma > 0, p, d <= tolerance),
        "distance_05": d - high * sigma,
        "distance_95": d + high * sigma,
    }


def sampled(
    hull: ConvexHull,
    x: Float[np.ndarray, "M D"],
    e: Float[np.ndarray, " M"],
    own: Mapping[int, Int[np.ndarray, " k"]],
    sigma: Float[np.ndarray, " M"],
    uncertainty: Uncertainty,
) -> dict[str, np.ndarray]:
    """The same by joint samples of hull and candidates.

    A candidate that is an entry, with another energy, is held against the others alone.
    """
    columns = {name: np.full(len(x), np.nan) for name in QUANTITIES}
    most = max(1, DRAWN // uncertainty.samples)
    others = np.setdiff1d(np.flatnonzero(np.isfinite(e)), list(own))
    alone = [np.array([i]) for i in own if np.isfinite(e[i])]
    for rows in [*np.split(others, range(most, len(others), most)), *alone]:
        kept = np.ones(len(hull.entries), bool)
        kept[own.get(int(rows[0]), np.zeros(0, int)) if len(rows) else []] = False
        if not (hull.hull.fractions[kept].max(axis=0, initial=0.0) > 1 - 1e-9).all():
            found = (0.0, 1.0, 0.0, 0.0)  # the only entry of an element is stable by definition
        elif len(rows):
            posterior = probability_stable(
                hull.hull.fractions[kept],
                hull.hull.energies[kept],
                x[rows],
                e[rows],
                Errors(hull=uncertainty.hull, candidates=sigma[rows]),
                samples=uncertainty.samples,
                seed=uncertainty.seed,
                tolerance=hull.tolerance,
                levels=(LOW, HIGH),
            )
            found = (posterior.std, posterior.probability, *posterior.quantiles.T)
        else:
            continue
        for name, value in zip(QUANTITIES, found, strict=True):
            columns[name][rows] = value
    return columns


def decompositions(hull: ConvexHull, found: Distances) -> list[str]:
    """'0.25 Li2O (mp-1960) + 0.75 FeO (mp-2)': shares of the atoms."""
    labels = {
        j: f"{reduced(hull.elements, hull.entries.counts[j])[0]} ({hull.entries.ids[j]})"
        for j in np.unique(found.entries).tolist()
    }
    # By columns: a million small lists would keep the garbage collector busy.
    parts = [
        [f"{s:.4g} {labels[j]}" if s > 0 else "" for j, s in zip(js, ss, strict=True)]
        for js, ss in zip(found.entries.T.tolist(), found.shares.T.tolist(), strict=True)
    ]
    return [" + ".join(filter(None, row)) for row in zip(*parts, strict=True)]
