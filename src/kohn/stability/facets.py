"""Compute facets of a hull, heights of many compositions on it, and mixtures for a few.

With x_i the fractions and e_i the energies of entries, A_f the compositions of a facet's D entries:

    μ_f = A_f⁻¹ e_f,   h(x) = max_f μ_f · x            many compositions: one product, one argmax
    h(x) = min λ·e_b   λ = x A_b⁻¹ ≥ 0                 few: the simplex method, all x at once
           b ← b with i in the place of k              i = argmax (x_i · μ_b − e_i)
                                                       k = argmin λ_k / (x_i A_b⁻¹)_k over positive

The simplex method starts from any D entries b between which x lies. Which entries these can be does
not depend on the energies: the decomposition of x under other energies leaves few steps.

Source: Dantzig, Linear Programming and Extensions (1963); Bland, Math. Oper. Res. 2, 103 (1977),
for the order without cycles; Barber et al., ACM Trans. Math. Softw. 22, 469 (1996), for Qhull.
"""

from collections.abc import Iterator
from itertools import count

import numpy as np
from scipy.spatial import ConvexHull as Qhull

from kohn.typing import Float, Int

BLOCK = 1 << 17
"""Numbers in a block of candidates times facets: 1 MiB, which fits in the cache."""
LAYERED = 6
"""From this number of elements on, the hulls of fewer are computed first: most entries are above
these, and Qhull saves more time without such entries than the smaller hulls take."""
STEEPEST = 1e9
"""The largest number that A⁻¹ of a facet may contain."""
GAIN = 1e-12
"""eV/atom: the smallest gain for which an entry enters a mixture."""
GREEDY = 100
"""Steps that take the largest gain; later steps take the first entry that gains: this ends."""


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of the rows such that a block has at most `BLOCK` numbers."""
    size = max(1, BLOCK // max(columns, 1))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def highest(
    planes: Float[np.ndarray, "F D"], x: Float[np.ndarray, "M D"]
) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Return max_f μ_f · x and its f; of equal values the first.

    Args:
        planes: μ, eV.
        x: compositions.
    """
    heights, facets = np.empty(len(x)), np.empty(len(x), np.intp)
    columns = np.ascontiguousarray(planes.T)
    for part in blocks(len(x), len(planes)):
        # Candidates are the rows, because argmax is vectorised along a row, not down a column.
        values = x[part] @ columns
        np.argmax(values, axis=1, out=facets[part])
        heights[part] = np.take_along_axis(values, facets[part, None], axis=1)[:, 0]
    return heights, facets


def lower_facets(
    x: Float[np.ndarray, "n D"], e: Float[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, "F D"], Float[np.ndarray, "F D"], Float[np.ndarray, "F D D"]]:
    """Return the facets of the lower hull, by Qhull: entries, planes μ (eV) and inverses A⁻¹.

    Args:
        x: fractions; the elements are among them, and any composition may be repeated.
        e: energies, eV/atom, on any reference.
    """
    d = x.shape[1]
    pure = x.max(axis=1) > 1 - 1e-9
    reference = np.array([e[pure & (x[:, j] > 0.5)].min() for j in range(d)])
    e = e - x @ reference
    if d == 1:
        return np.array([[np.argmin(e)]]), reference[None], np.ones((1, 1, 1))
    chosen = np.flatnonzero((e < 0) | pure)  # the others are above a mixture of elements
    if d >= LAYERED:
        chosen = chosen[below_their_elements(x[chosen], e[chosen])]
    x, e = x[chosen], e[chosen]
    above = np.array([*[1 / d] * (d - 1), 1.0 + np.abs(e).max()])  # two elements alone are a line
    qhull = Qhull(np.vstack([np.column_stack([x[:, 1:], e]), above]), qhull_options="Qt i")
    lower = (qhull.equations[:, -2] < 0) & (qhull.simplices != len(x)).all(axis=1)
    vertices = qhull.simplices[lower]
    # Vertical facets are not part of the lower hull. Their volume is no criterion: between dilute
    # compositions proper facets are small.
    vertices = vertices[np.linalg.det(x[vertices]) != 0]
    inverses = np.linalg.inv(x[vertices])
    sound = np.abs(inverses).max(axis=(1, 2)) < STEEPEST
    vertices, inverses = vertices[sound], inverses[sound]
    planes = np.einsum("fij,fj->fi", inverses, e[vertices])
    # The plane of a sliver is ill-determined, and may cut through the hull next to it. A plane
    # below all corners of the hull is below everything above the hull.
    corners = np.unique(vertices)
    above_corners = (x[corners] @ planes.T - e[corners, None]).max(axis=0)
    below = above_corners <= 1e-10 + 1e-13 * np.abs(planes).max(axis=1)
    return chosen[vertices[below]], planes[below] + reference, inverses[below]


def below_their_elements(
    x: Float[np.ndarray, "n D"], e: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " k"]:
    """Return the entries that are on the hull of the entries made of their own elements; no other
    entry can be on the hull of all.

    Args:
        x: fractions, the elements among them.
        e: energies, eV/atom.
    """
    present, on_hull = x > 0, np.ones(len(x), bool)
    sets = np.unique(present[present.sum(axis=1) < x.shape[1]], axis=0)
    within = (sets[:, None] <= sets).all(axis=2)  # within[s, t]: s is a subset of t
    for s in sets[within.sum(axis=1) == 1]:  # the largest sets; the smaller ones are their faces
        inside = np.flatnonzero(~present[:, ~s].any(axis=1))
        part = np.ascontiguousarray(x[inside][:, s])
        heights = highest(lower_facets(part, e[inside])[1], part)[0]
        on_hull[inside[e[inside] > heights + 1e-9]] = False
    return np.flatnonzero(on_hull)


def cheapest_mixtures(
    fractions: Float[np.ndarray, "N D"],
    energies: Float[np.ndarray, " N"],
    x: Float[np.ndarray, "M D"],
    start: Int[np.ndarray, "M D"],
    without: Int[np.ndarray, " M"] | None = None,
) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, "M D"], Float[np.ndarray, "M D"]]:
    """Return heights h(x), eV/atom, and the entries and shares of the mixtures at these heights.

    Args:
        fractions, energies: those of the entries; energies in eV/atom, on any reference.
        x: compositions.
        start: D entries between which each composition lies, except `without`; see `elements_of`.
        without: an entry that may not take part, for each composition; −1 for none.

    Returns:
        Heights; D entries for each composition; their shares λ, 0 if an entry takes no part.
    """
    heights, basis, shares = np.empty(len(x)), start.copy(), np.empty(x.shape)
    for part in blocks(len(x), len(fractions)):
        excluded = None if without is None else without[part]
        shares[part] = _simplex(fractions, energies, x[part], basis[part], excluded)
        heights[part] = np.einsum("mk,mk->m", shares[part], energies[basis[part]])
    return heights, basis, np.where(shares > 1e-9, shares, 0.0)


def _simplex(
    fractions: Float[np.ndarray, "N D"],
    energies: Float[np.ndarray, " N"],
    x: Float[np.ndarray, "M D"],
    basis: Int[np.ndarray, "M D"],
    without: Int[np.ndarray, " M"] | None,
) -> Float[np.ndarray, "M D"]:
    """Return the shares; `basis` is changed in place."""
    shares, open_ = np.empty(x.shape), np.arange(len(x))
    for step in count():
        b = basis[open_]
        inverses = np.linalg.inv(fractions[b])
        shares[open_] = np.einsum("md,mdk->mk", x[open_], inverses)
        gain = np.einsum("mij,mj->mi", inverses, energies[b]) @ fractions.T - energies
        if without is not None:
            left_out = np.flatnonzero(without[open_] >= 0)
            gain[left_out, without[open_][left_out]] = -np.inf
        least = GAIN * (1 + np.abs(energies[b]).max(axis=1))
        enter = np.argmax(gain if step < GREEDY else gain > least[:, None], axis=1)
        on = gain[np.arange(len(b)), enter] > least
        if not on.any():
            break
        open_, b, enter, inverses = open_[on], b[on], enter[on], inverses[on]
        moved = np.einsum("md,mdk->mk", fractions[enter], inverses)
        ratio = np.divide(
            np.maximum(shares[open_], 0.0), moved, out=np.full(b.shape, np.inf), where=moved > 1e-9
        )
        tied = ratio <= ratio.min(axis=1, keepdims=True) + 1e-12
        leave = np.argmin(np.where(tied, b, len(energies)), axis=1)
        basis[open_, leave] = enter
    return shares


def elements_of(
    fractions: Float[np.ndarray, "N D"],
    energies: Float[np.ndarray, " N"],
    without: Int[np.ndarray, " M"],
) -> Int[np.ndarray, "M D"]:
    """Return the lowest entry of each element except `without`: a start for any composition.

    The only entry of an element starts from itself: no mixture exists without it, and its distance
    is 0.
    """
    start = np.empty((len(without), fractions.shape[1]), np.intp)
    for j in range(fractions.shape[1]):
        pure = np.flatnonzero(fractions[:, j] > 1 - 1e-9)
        order = pure[np.argsort(energies[pure], kind="stable")]
        second = order[1] if len(order) > 1 else order[0]
        start[:, j] = np.where(without == order[0], second, order[0])
    return start
