"""Tabulate functions of the distance in quintic pieces, and sum over neighbours with them.

    f_c(r) = Σ_p a_npc t^p,   n = ⌊r/w⌋,   t = r/w − n,   w = r_c/knots           (pieces)
    v_ic   = Σ_k m_ik f_c(r_ik) h_jc,   j the neighbour in slot k                  (sum)

A piece has the value, slope and curvature of f at both of its ends, so that f, f' and f'' are
continuous; its error is at most w⁶ max |f⁽⁶⁾|/46080. A trained network that depends only on the
distance is such a function: an edge then costs one row of the table, and five multiplications and
additions for each output, instead of the layers of the network.

Source: quintic Hermite interpolation; Birkhoff, Priver, J. Math. and Phys. 46, 440 (1967) (error).
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kohn.compilation import compiled
from kohn.models.layers import by_rows
from kohn.typing import Array, Float, Int

KNOTS = (64, 128, 256, 512, 1024, 2048)
"""The allowed numbers of pieces of a table; the smallest that is accurate enough is used."""

TOLERANCE = {np.dtype(np.float32): 6e-8, np.dtype(np.float64): 5e-11}
"""Largest error at the middle of a piece, as a fraction of the function's largest value: for
float32, the rounding; for float64, a value with which energies agree to 1e-11, forces to 1e-9."""

RadialFunction = Callable[[Float[Array, " R"]], Float[Array, "R C"]]
"""Maps each distance, Å, float64, to C values, with two continuous derivatives in [0, r_c]."""


class TablePosition(NamedTuple):
    """The positions of distances in a `RadialTable`: a piece, and t inside it."""

    piece: Int[Array, "N K"]
    t: Float[Array, "N K"]  # 0 … 1 from the start of the piece to its end


class RadialTable(eqx.Module):
    """A table of C functions of the distance; at r_c and beyond, f, f' and f'' are zero.

    Attributes:
        pieces: coefficients a_npc, [knots + 1, 6, C]; the last row is zero, for r beyond r_c.
        slopes: coefficients of the derivative by t, p a_npc, p = 1 … 5, [knots + 1, 5, C].
        cutoff: r_c, Å.
    """

    pieces: Float[Array, "rows 6 C"]
    slopes: Float[Array, "rows 5 C"]
    cutoff: float = eqx.field(static=True)

    @classmethod
    def of(cls, function: RadialFunction, cutoff: float, dtype: DTypeLike) -> "RadialTable | None":
        """Tabulate a function, with the smallest number of knots that is accurate enough.

        The table is computed in float64 and then cast. Value, slope and curvature at the last knot
        are set to zero, so that the table vanishes at r_c.

        Args:
            function: see `RadialFunction`. cutoff: r_c, Å. dtype: dtype of the table.

        Returns:
            The table; None if the function is not finite, or too rough for the finest table.
        """
        r = np.linspace(0.0, cutoff, 2 * KNOTS[-1] + 1)
        orders = np.array(_value_slope_curvature(function, jnp.asarray(r)))
        orders[:, -1] = 0.0
        for knots in KNOTS:
            step = 2 * KNOTS[-1] // knots
            pieces = quintic_pieces(*orders[:, ::step], width=cutoff / knots)
            middle = np.einsum("npc,p->nc", pieces, 0.5 ** np.arange(6))
            error = np.abs(middle - orders[0, step // 2 :: step]).max(axis=0)
            if (error <= TOLERANCE[np.dtype(dtype)] * np.abs(orders[0]).max(axis=0)).all():
                rows = np.concatenate([pieces, np.zeros_like(pieces[:1])])
                slopes = rows[:, 1:] * np.arange(1.0, 6.0)[:, None]
                return cls(jnp.asarray(rows, dtype), jnp.asarray(slopes, dtype), float(cutoff))
        return None

    def split(self, parts: int) -> tuple["RadialTable", ...]:
        """Split the table into `parts` tables with equal numbers of functions, in order."""
        shares = (jnp.split(x, parts, axis=-1) for x in (self.pieces, self.slopes))
        pairs = zip(*shares, strict=True)
        return tuple(RadialTable(pieces, slopes, self.cutoff) for pieces, slopes in pairs)

    def locate(self, r: Float[Array, "..."]) -> TablePosition:
        """Return the piece that contains each distance r, Å, and t in it, differentiable by r."""
        knots = self.pieces.shape[0] - 1
        x = r * (knots / self.cutoff)
        piece = jnp.clip(x.astype(jnp.int32), 0, knots)
        return TablePosition(piece, x - piece.astype(x.dtype))

    def __call__(self, r: Float[Array, "..."]) -> Float[Array, "... C"]:
        """Compute f(r) at distances r, Å, from the table."""
        return polynomial(self.pieces, *self.locate(r))


def _value_slope_curvature(function: RadialFunction, r: Array) -> tuple[Array, Array, Array]:
    """Compute f, f' and f'' at distances r [R], each [R, C]."""

    def derivative(f: RadialFunction) -> RadialFunction:
        return lambda r: jax.jvp(f, (r,), (jnp.ones_like(r),))[1]

    slope = derivative(function)
    return compiled(lambda r: (function(r), slope(r), derivative(slope)(r)))(r)


def quintic_pieces(f: np.ndarray, df: np.ndarray, ddf: np.ndarray, *, width: float) -> np.ndarray:
    """Compute quintic polynomials in t = 0 … 1 from values, slopes and curvatures at both ends.

    Args:
        f, df, ddf: f and its derivatives by r at the knots, [n + 1, C]. width: w of a piece.

    Returns:
        a [n, 6, C]: Σ_p a_p t^p.
    """
    df, ddf = df * width, ddf * width**2
    a0, a1, a2 = f[:-1], df[:-1], 0.5 * ddf[:-1]
    # The differences at t = 1 between value, slope, curvature and those of the first three terms.
    value = f[1:] - (a0 + a1 + a2)
    slope = df[1:] - (a1 + 2 * a2)
    curvature = ddf[1:] - 2 * a2
    a3 = 10 * value - 4 * slope + 0.5 * curvature
    a4 = -15 * value + 7 * slope - curvature
    a5 = 6 * value - 3 * slope + 0.5 * curvature
    return np.stack([a0, a1, a2, a3, a4, a5], axis=1)


def polynomial(
    coefficients: Float[Array, "rows P C"], piece: Int[Array, "..."], t: Float[Array, "..."]
) -> Float[Array, "... C"]:
    """Compute Σ_p a_p t^p by Horner's rule, with the coefficients a_p of each given piece."""
    a, t = coefficients.at[piece].get(mode="promise_in_bounds"), t[..., None]
    degree = coefficients.shape[1] - 1
    y = a[..., degree, :]
    for p in reversed(range(degree)):
        y = y * t + a[..., p, :]
    return y


@jax.custom_vjp
def values(table: RadialTable, r: Float[Array, "..."]) -> Float[Array, "... C"]:
    """Compute `table(r)` with a faster gradient by r. The table is a constant."""
    # With barriers, XLA reads each row where it is used; otherwise it stores the rows of all edges.
    return jax.lax.optimization_barrier(table(r))


def _values_forward(table: RadialTable, r: Array) -> tuple[Array, tuple[RadialTable, Array]]:
    return values(table, r), (table, r)


def _values_backward(residuals: tuple[RadialTable, Array], f_bar: Array) -> tuple[None, Array]:
    table, (r, f_bar) = residuals[0], jax.lax.optimization_barrier((residuals[1], f_bar))
    position, knots = table.locate(r), table.pieces.shape[0] - 1
    # A product with ones is ten times faster than a sum.
    changes = polynomial(table.slopes, *position) * f_bar
    ones = jnp.full(changes.shape[-1], knots / table.cutoff, r.dtype)
    return None, changes @ ones


values.defvjp(_values_forward, _values_backward)


@jax.custom_vjp
def sum_over_neighbours(
    table: RadialTable,
    position: TablePosition,
    mask: Float[Array, "N K"],
    h: Float[Array, "N C"],
    index: Int[Array, "N K"],
) -> Float[Array, "N C"]:
    """Compute Σ_k m_ik f_c(r_ik) h_jc over the neighbours of each atom i, j in slot k.

    An edge and its reverse have the same distance, hence the same f and m, so the sum is its own
    transpose: the gradient by h is the same sum over the gradient by v, and only rows of atoms are
    gathered. Derivatives of any order by positions are correct, forward over reverse and reverse
    over reverse; a derivative by one r_ij at constant r_ji is not supported.

    The table is a constant: it has no gradient.

    Args:
        position: positions of the edges in the table. mask: m, 1 for edges and 0 in padding.
        h: features of atoms. index: the atom in each slot.
    """
    return _sum(table, position, mask, h, index)


def _sum(table: RadialTable, position: TablePosition, mask: Array, h: Array, index: Array) -> Array:
    """Compute `sum_over_neighbours` by plain operations, which can be derived twice."""

    def rows(piece: Array, t: Array, mask: Array, index: Array) -> tuple[Array]:
        # A matrix product instead of a sum: XLA then first writes the products in one vectorised
        # loop, which is twenty times faster than a loop that also sums.
        messages = polynomial(table.pieces, piece, t) * _of_senders(h, index)
        return (jnp.einsum("nk,nkc->nc", mask, messages),)

    return by_rows(rows, (*position, mask, index))[0]


def _forward(table, position, mask, h, index):
    return _sum(table, position, mask, h, index), (table, position, mask, h, index)


def _backward(residuals, v_bar: Array):
    # Looked up again: otherwise XLA stores the coefficients and the senders' features of every edge
    # from the forward pass, and it takes longer to write and read them than to compute them.
    table, position, mask, h, index = residuals
    position, h, v_bar = jax.lax.optimization_barrier((position, h, v_bar))

    def rows(piece: Array, t: Array, index: Array, v_bar: Array) -> tuple[Array]:
        changes = polynomial(table.slopes, piece, t) * _of_senders(h, index)
        return (jnp.einsum("nkc,nc->nk", changes, v_bar[:, 0]),)

    (t_bar,) = by_rows(rows, (*position, index, v_bar[:, None]))
    h_bar = _sum(table, position, mask, v_bar, index)
    return None, position._replace(piece=None, t=t_bar * mask), None, h_bar, None


sum_over_neighbours.defvjp(_forward, _backward)


def _of_senders(h: Array, index: Array) -> Array:
    return h.at[index].get(mode="promise_in_bounds")
