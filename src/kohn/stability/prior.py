"""Estimate P(stable) with a prior: how often compounds are stable, before any prediction.

P(stable) from a predicted distance d̂ ± σ to the hull alone assumes that all true distances d are
equally likely. But few compounds are stable, and most lie some tens of meV/atom above the hull: of
candidates that are predicted near it, most are above. With the distances d_k of known compounds,

    p(d) = Σ_k w_k N(d; d_k, h²)
    p(d | d̂) = Σ_k v_k N(d; m_k, s²)     v_k ∝ w_k N(d̂; d_k, σ² + h²)
                                          m_k = (σ² d_k + h² d̂)/(σ² + h²),  s = σ h/√(σ² + h²)
    P(stable) = Σ_k v_k Φ((t − m_k)/s)

d_k is the distance of a compound of the hull to the hull without its composition, which is the
distance before the compound was known. Errors are assumed to be normal, also those of ensembles.

Source: Bayes' theorem for a mixture of normal distributions.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from kohn.errors import InputError
from kohn.stability.systems import SystemHulls
from kohn.typing import Float

MOST = 2000
"""The largest number of known compounds that are used; they are evenly spaced."""
STEP = 0.002
"""eV/atom: distances are counted in bins of this width; the width h of p(d) is two bins."""
LIMITS = (-1.0, 2.0)
"""eV/atom: distances beyond these limits are counted at the limits."""
ENOUGH = 30
"""The smallest number of known compounds from which a prior is computed."""
BLOCK = 1 << 22
"""The largest number of values in a block of candidates times bins."""


@dataclass(frozen=True, eq=False)
class Prior:
    """The distribution of the distances of known compounds to the hull, in K bins.

    Attributes:
        distances: distance d_k of each bin, eV/atom, [K].
        weights: weight w_k of each bin, [K]; the weights add to 1.
        compounds: number of compounds that were counted.
    """

    distances: Float[np.ndarray, " K"]
    weights: Float[np.ndarray, " K"]
    compounds: int

    @classmethod
    def of(cls, distances: Float[np.ndarray, " n"]) -> "Prior":
        """Create a prior from known distances, eV/atom. Raises InputError if they are too few."""
        if len(distances) < ENOUGH:
            raise InputError(
                "the hull has too few compounds to estimate how often compounds are stable",
                expected=f"at least {ENOUGH} entries of several elements",
                received=str(len(distances)),
                fix="leave --prior out",
            )
        bins = np.round(np.clip(distances, *LIMITS) / STEP)
        bins, counts = np.unique(bins, return_counts=True)
        return cls(bins * STEP, counts / len(distances), len(distances))

    @property
    def stable(self) -> float:
        """The share of known compounds that are stable, with a distance of at most 0."""
        return float(self.weights[self.distances <= 0].sum())

    def probability(
        self, d: Float[np.ndarray, " M"], sigma: Float[np.ndarray, " M"], tolerance: float
    ) -> Float[np.ndarray, " M"]:
        """Return P(stable) of predicted distances d with their σ, eV/atom; NaN if d is NaN."""
        out = np.empty(len(d))
        size = max(1, BLOCK // len(self.distances))
        for start in range(0, len(d), size):
            rows = slice(start, start + size)
            out[rows] = self._probability(d[rows, None], sigma[rows, None], tolerance)
        return out

    def _probability(self, d: np.ndarray, sigma: np.ndarray, tolerance: float) -> np.ndarray:
        h2, s2 = (2 * STEP) ** 2, sigma**2
        variance = s2 + h2
        log_v = np.log(self.weights) - 0.5 * (d - self.distances) ** 2 / variance
        v = np.exp(log_v - log_v.max(axis=1, keepdims=True))
        m = (s2 * self.distances + h2 * d) / variance
        with np.errstate(divide="ignore", invalid="ignore"):
            below = ndtr((tolerance - m) / np.sqrt(s2 * h2 / variance))
        p = (v * below).sum(axis=1) / v.sum(axis=1)
        certain = np.where(np.isnan(d[:, 0]), np.nan, (d[:, 0] <= tolerance).astype(float))
        return np.where(sigma[:, 0] > 0, p, certain)


def prior_of(hulls: SystemHulls) -> Prior:
    """Return the prior from the distances of the compounds among the hulls' entries."""
    entries = hulls.entries
    compounds = np.flatnonzero((entries.counts > 0).sum(axis=1) > 1)
    rows = compounds[:: max(1, -(-len(compounds) // MOST))]
    by_system: dict[str, list[str]] = {}
    for i in rows.tolist():
        by_system.setdefault(entries.systems[i], []).append(entries.ids[i])
    distances = [
        hulls.of(system.split("-")).decomposition_enthalpy(ids)
        for system, ids in sorted(by_system.items())
    ]
    return Prior.of(np.concatenate(distances) if distances else np.zeros(0))
