"""How often compounds are stable at all, before anything is predicted of them.

P(stable) from d̂ ± σ alone takes every true distance d for equally likely. But few compounds are
stable, and most lie some tens of meV/atom above the hull: of many candidates predicted near it,
most are above. With what is known of compounds like them,

    p(d) = Σ_k w_k N(d; d_k, h²)                                    d_k of known compounds
    p(d | d̂) = Σ_k v_k N(d; m_k, s²)     v_k ∝ w_k N(d̂; d_k, σ² + h²)
                                          m_k = (σ² d_k + h² d̂)/(σ² + h²),  s = σ h/√(σ² + h²)
    P(stable) = Σ_k v_k Φ((t − m_k)/s)

d_k are the distances of the hull's own compounds, each from the hull without its composition: what
they were before they were known.

Errors are taken for normal, those of ensembles too.

Source: Bayes' theorem for a mixture of normal distributions.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from kohn.errors import InputError
from kohn.stability.systems import SystemHulls
from kohn.typing import Float

MOST = 2000
"""Known compounds that are looked at, evenly spaced."""
STEP = 0.002
"""eV/atom: distances are counted in bins of this width, and h is twice as wide."""
LIMITS = (-1.0, 2.0)
"""eV/atom: what lies beyond is counted at the end."""
ENOUGH = 30
"""Known compounds that tell anything."""
BLOCK = 1 << 22
"""Numbers at a time."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Distances of known compounds.

    Attributes:
        distances: d_k, eV/atom, [K].
        weights: w_k, [K]; they add to 1.
        compounds: how many were counted.
    """

    distances: Float[np.ndarray, " K"]
    weights: Float[np.ndarray, " K"]
    compounds: int

    @classmethod
    def of(cls, distances: Float[np.ndarray, " n"]) -> "Prior":
        """Of known distances, eV/atom. Raises InputError where there are too few."""
        if len(distances) < ENOUGH:
            raise InputError(
                "the hull has too few compounds to tell how often compounds are stable",
                expected=f"at least {ENOUGH} entries of several elements",
                received=str(len(distances)),
                fix="leave --prior out",
            )
        bins = np.round(np.clip(distances, *LIMITS) / STEP)
        found, counts = np.unique(bins, return_counts=True)
        return cls(found * STEP, counts / len(distances), len(distances))

    @property
    def stable(self) -> float:
        """The share of known compounds that were stable."""
        return float(self.weights[self.distances <= 0].sum())

    def probability(
        self, d: Float[np.ndarray, " M"], sigma: Float[np.ndarray, " M"], tolerance: float
    ) -> Float[np.ndarray, " M"]:
        """P(stable) of predicted distances with their σ, eV/atom; NaN where they are."""
        out = np.empty(len(d))
        size = max(1, BLOCK // len(self.distances))
        for start in range(0, len(d), size):
            rows = slice(start, start + size)
            out[rows] = self._probability(d[rows, None], sigma[rows, None], tolerance)
        return out

    def _probability(self, d: np.ndarray, sigma: np.ndarray, tolerance: float) -> np.ndarray:
        h2, s2 = (2 * STEP) ** 2, sigma**2
        both = s2 + h2
        log_v = np.log(self.weights) - 0.5 * (d - self.distances) ** 2 / both
        v = np.exp(log_v - log_v.max(axis=1, keepdims=True))
        m = (s2 * self.distances + h2 * d) / both
        with np.errstate(divide="ignore", invalid="ignore"):
            below = ndtr((tolerance - m) / np.sqrt(s2 * h2 / both))
        p = (v * below).sum(axis=1) / v.sum(axis=1)
        known = np.where(np.isnan(d[:, 0]), np.nan, (d[:, 0] <= tolerance).astype(float))
        return np.where(sigma[:, 0] > 0, p, known)


def prior_of(hulls: SystemHulls) -> Prior:
    """What the compounds of the hull tell."""
    entries = hulls.entries
    compounds = np.flatnonzero((entries.counts > 0).sum(axis=1) > 1)
    rows = compounds[:: max(1, -(-len(compounds) // MOST))]
    by_system: dict[str, list[str]] = {}
    for i in rows.tolist():
        by_system.setdefault(entries.systems[i], []).append(entries.ids[i])
    found = [
        hulls.of(system.split("-")).decomposition_enthalpy(ids)
        for system, ids in sorted(by_system.items())
    ]
    return Prior.of(np.concatenate(found) if found else np.zeros(0))
