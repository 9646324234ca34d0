"""Compute the facets of a hull, the hull's height h(x) at compositions x, and mixtures of entries.

With x_i the fractions and e_i the energies of entries, A_f the compositions of facet f's D entries:

    μ_f = A_f⁻¹ e_f,   h(x) = max_f μ_f · x            many compositions: one product, one argmax
    h(x) = min λ·e_b   λ = x A_b⁻¹ ≥ 0                 few: the simplex method, all x at once
           b ← b with i in the place of k              i = argmax (x_i · μ_b − e_i)
                                                       k = argmin λ_k / (x_i A_b⁻¹)_k over positive

The simplex method starts from any D entries b between which x lies. Which entries these can be does
not depend on the energies, so a start from the decomposition of x at other energies saves steps.

Source: Dantzig, Linear Programming and Extensions (1963); Bland, Math. Oper. Res. 2, 103 (1977),
for the order without cycles; Barber et al., ACM Trans. Math. Softw. 22, 469 (1996), for Qhull.
"""

from collections.abc import Iterator
from itertools import count

import numpy as np
from scipy.spatial import ConvexHull as Qhull

from kohn.typing import Float, Int

BLOCK = 1 << 17
"""The largest number of values in a block, candidates times facets: 1 MiB fits in the cache."""
LAYERED = 6
"""From this number of elements on, the hulls of subsets of the elements are computed first: most
entries are above these, and Qhull is so much faster without such entries that this pays off."""
STEEPEST = 1e9
"""Facets whose A_f⁻¹ has a value larger than this are nearly vertical, and are dropped."""
GAIN = 1e-12
"""eV/atom: an entry i enters a mixture b only if its gain x_i · μ_b − e_i is larger than this."""
GREEDY = 100
"""Number of steps that take the largest gain; later steps take the first, to end in any case."""


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of the rows, so that rows times columns of each is at most `BLOCK`."""
    size = max(1, BLOCK // max(columns, 1))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def highest(
    planes: Float[np.ndarray, "F D"], x: Float[np.ndarray, "M D"]
) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """For each composition x, return the maximum of μ_f · x over the facets f, and the index f of
    the first facet that has it.

    Args:
        planes: chemical potentials μ_f of the elements on each facet f, eV.
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
    """Return entries, planes μ_f (eV) and inverted compositions A_f⁻¹ of the facets, by Qhull.

    Args:
        x: fractions of the entries, pure elements among them; compositions may be repeated.
        e: energies of the entries, eV/atom, relative to any reference.
    """
    d = x.shape[1]
    pure = x.max(axis=1) > 1 - 1e-9
    reference = np.array([e[pure & (x[:, j] > 0.5)].min() for j in range(d)])
    e = e - x @ reference
    if d == 1:
        return np.array([[np.argmin(e)]]), reference[None], np.ones((1, 1, 1))
    chosen = np.flatnonzero((e < 0) | pure)  # other entries are above a mixture of elements
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
    """Return the entries that are on the hull of all entries made of the same elements or fewer;
    other entries cannot be on the hull of all elements.

    Args:
        x: fractions of the entries, pure elements among them.
        e: energies of the entries, eV/atom.
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
    """Return the mixture of entries that has the lowest energy, for each of M compositions x.

    Args:
        fractions, energies: compositions and energies (eV/atom, any reference) of the entries.
        x: compositions of the mixtures.
        start: for each x, D entries between which x lies, but not `without`; see `elemental_start`.
        without: for each x, an entry that must not take part in the mixture; −1 for none.

    Returns:
        Energies h(x), eV/atom; the D entries of each mixture; their shares λ, 0 for unused entries.
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
    """Return the shares λ of the cheapest mixtures; write their entries into `basis`."""
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


def elemental_start(
    fractions: Float[np.ndarray, "N D"],
    energies: Float[np.ndarray, " N"],
    without: Int[np.ndarray, " M"],
) -> Int[np.ndarray, "M D"]:
    """Return the lowest entry of each element except `without`, as a start of `cheapest_mixtures`.

    An element's only entry is kept: no mixture exists without it. Its distance to the hull is 0.
    """
    start = np.empty((len(without), fractions.shape[1]), np.intp)
    for j in range(fractions.shape[1]):
        pure = np.flatnonzero(fractions[:, j] > 1 - 1e-9)
        order = pure[np.argsort(energies[pure], kind="stable")]
        second = order[1] if len(order) > 1 else order[0]
        start[:, j] = np.where(without == order[0], second, order[0])
    return start
