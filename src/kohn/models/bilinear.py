"""Multiply two spherical tensors by the most general learnable product that obeys O(3).

    z^(L,P)_M = Σ_paths w_path Σ_m1m2 C^{LM}_{l1m1 l2m2} x^(l1,p1)_m1 y^(l2,p2)_m2,   p1 p2 = P

for degrees l and parities p; the sum is over all paths (l1, p1), (l2, p2) → (L, P) with
|l1 − l2| ≤ L ≤ l1 + l2. By Schur's lemma no other product obeys O(3): a weight w may depend on the
path, but never on an m. Y_l has parity (−1)^l ("natural"); the cross product of vectors is (1, +1).
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp

from kohn.models.layers import normal
from kohn.o3 import clebsch_gordan
from kohn.typing import Array, Float

Irrep: TypeAlias = tuple[int, int]
"""The kind of a spherical tensor: (degree, parity ±1)."""
Path: TypeAlias = tuple[Irrep, Irrep, Irrep]


def paths(left: Sequence[Irrep], right: Sequence[Irrep], out: Sequence[Irrep]) -> tuple[Path, ...]:
    """Return every path (a, b, c) by which a of `left` and b of `right` couple to c of `out`."""
    return tuple(
        (a, b, c)
        for c in out
        for a in left
        for b in right
        if abs(a[0] - b[0]) <= c[0] <= a[0] + b[0] and a[1] * b[1] == c[1]
    )


class Bilinear(eqx.Module):
    """The learnable product z of two spherical tensors x and y, channel by channel.

    Attributes:
        paths: the couplings that are summed, from the function `paths`.
        weights: the weights w of each path, [C], drawn from N(0, 1); each component of z is
            divided by the square root of the number of paths that lead to it.
    """

    paths: tuple[Path, ...] = eqx.field(static=True)
    weights: tuple[Float[Array, " C"], ...]

    @classmethod
    def init(
        cls,
        key: Array,
        left: Sequence[Irrep],
        right: Sequence[Irrep],
        out: Sequence[Irrep],
        channels: int,
        dtype,
    ) -> "Bilinear":
        """Draw the weights of all paths from `left` and `right` to `out`."""
        chosen = paths(left, right, out)
        keys = jax.random.split(key, max(1, len(chosen)))
        weights = (normal(k, (channels,), dtype) for k in keys[: len(chosen)])
        return cls(chosen, tuple(weights))

    def __call__(
        self,
        x: Mapping[Irrep, Float[Array, "... m1 C"]],
        y: Mapping[Irrep, Float[Array, "... m2 C"]],
    ) -> dict[Irrep, Float[Array, "... m3 C"]]:
        """Compute z as (degree, parity) -> components, for each irrep that a path leads to."""
        results: dict[Irrep, Array] = {}
        for (a, b, c), w in zip(self.paths, self.weights, strict=True):
            cg = jnp.asarray(clebsch_gordan(a[0], b[0], c[0]), w.dtype)
            share = 1.0 / sqrt(sum(path[2] == c for path in self.paths))
            term = jnp.einsum("abm,...ac,...bc->...mc", cg, x[a], y[b] * (w * share))
            results[c] = results[c] + term if c in results else term
        return results
