"""Functions of the distance as tables of quintic pieces, and sums over neighbours with them.

    f_c(r) = Σ_p a_npc t^p,   n = ⌊r/w⌋,   t = r/w − n,   w = r_c/knots           (pieces)
    v_ic   = Σ_k m_ik f_c(r_ik) h_jc,   j the neighbour in slot k                  (sum)

A piece has the value, slope and curvature of f at both of its ends, so that f, f' and f'' are
continuous; its error is at most w⁶ max |f⁽⁶⁾|/46080. A network that depends on the distance alone
is, once trained, such a function: an edge then costs one row of the table, five multiplications
and additions for each output, instead of the layers of the network.

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
"""How many pieces a table may have; the fewest that are accurate enough are taken."""

TOLERANCE = {np.dtype(np.float32): 6e-8, np.dtype(np.float64): 5e-11}
"""Largest error of a function in the middle of a piece, as a share of its largest value. In float32
its rounding; in float64 what makes energies agree within 1e-11 and forces within 1e-9."""

RadialFunction = Callable[[Float[Array, " R"]], Float[Array, "R C"]]
"""Distances, Å, float64, to C values at each, with two continuous derivatives in [0, r_c]."""


class Place(NamedTuple):
    """Where distances stand in a table."""

    piece: Int[Array, "N K"]
    t: Float[Array, "N K"]  # 0 … 1 from the beginning of the piece to its end


class RadialTable(eqx.Module):
    """C functions of the distance; zero from r_c on, with zero slope and curvature there.

    Attributes:
        pieces: coefficients a_npc, [knots + 1, 6, C]; the last row is zero, for all beyond r_c.
        slopes: those of the derivative by t, p a_npc for p = 1 … 5, [knots + 1, 5, C].
        cutoff: r_c, Å.
    """

    pieces: Float[Array, "rows 6 C"]
    slopes: Float[Array, "rows 5 C"]
    cutoff: float = eqx.field(static=True)

    @classmethod
    def of(cls, function: RadialFunction, cutoff: float, dtype: DTypeLike) -> "RadialTable | None":
        """The table of a function, with as many knots as its accuracy asks for.

        It is made in float64 and then cast. What does not vanish at r_c is made to: value, slope
        and curvature at the last knot are set to zero.

        Args:
            function: see `RadialFunction`. cutoff: r_c, Å. dtype: of the table.

        Returns:
            None for a function too rough for the finest table, or not finite.
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
        """Tables of equal shares of the functions, in their order."""
        shares = (jnp.split(x, parts, axis=-1) for x in (self.pieces, self.slopes))
        pairs = zip(*shares, strict=True)
        return tuple(RadialTable(pieces, slopes, self.cutoff) for pieces, slopes in pairs)

    def place(self, r: Float[Array, "..."]) -> Place:
        """Piece of each distance, Å, and where in it; differentiable by r through t."""
        knots = self.pieces.shape[0] - 1
        x = r * (knots / self.cutoff)
        piece = jnp.clip(x.astype(jnp.int32), 0, knots)
        return Place(piece, x - piece.astype(x.dtype))

    def __call__(self, r: Float[Array, "..."]) -> Float[Array, "... C"]:
        """f(r), at distances in Å."""
        return polynomial(self.pieces, *self.place(r))


def _value_slope_curvature(function: RadialFunction, r: Array) -> tuple[Array, Array, Array]:
    """f, f' and f'' at distances r [R]: each [R, C]."""

    def derivative(f: RadialFunction) -> RadialFunction:
        return lambda r: jax.jvp(f, (r,), (jnp.ones_like(r),))[1]

    slope = derivative(function)
    return compiled(lambda r: (function(r), slope(r), derivative(slope)(r)))(r)


def quintic_pieces(f: np.ndarray, df: np.ndarray, ddf: np.ndarray, *, width: float) -> np.ndarray:
    """The polynomials in t = 0 … 1 with given values, slopes and curvatures at both ends.

    Args:
        f, df, ddf: at the knots, [n + 1, C]; derivatives by r. width: distance of the knots w.

    Returns:
        a [n, 6, C]: Σ_p a_p t^p.
    """
    df, ddf = df * width, ddf * width**2
    a0, a1, a2 = f[:-1], df[:-1], 0.5 * ddf[:-1]
    # What the first three terms lack of the value, slope and curvature at t = 1.
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
    """Σ_p a_p t^p by Horner's rule, with the coefficients of each piece."""
    a, t = coefficients.at[piece].get(mode="promise_in_bounds"), t[..., None]
    degree = coefficients.shape[1] - 1
    y = a[..., degree, :]
    for p in reversed(range(degree)):
        y = y * t + a[..., p, :]
    return y


@jax.custom_vjp
def values(table: RadialTable, r: Float[Array, "..."]) -> Float[Array, "... C"]:
    """`table(r)`, faster where its gradient is needed. The table is a constant."""
    # With barriers, XLA reads each row where it is used: it would keep the rows of all edges.
    return jax.lax.optimization_barrier(table(r))


def _values_forward(table: RadialTable, r: Array) -> tuple[Array, tuple[RadialTable, Array]]:
    return values(table, r), (table, r)


def _values_backward(kept: tuple[RadialTable, Array], f_bar: Array) -> tuple[None, Array]:
    table, (r, f_bar) = kept[0], jax.lax.optimization_barrier((kept[1], f_bar))
    place, knots = table.place(r), table.pieces.shape[0] - 1
    # A product with ones: ten times faster than a sum.
    changes = polynomial(table.slopes, *place) * f_bar
    ones = jnp.full(changes.shape[-1], knots / table.cutoff, r.dtype)
    return None, changes @ ones


values.defvjp(_values_forward, _values_backward)


@jax.custom_vjp
def sum_over_neighbours(
    table: RadialTable,
    place: Place,
    mask: Float[Array, "N K"],
    h: Float[Array, "N C"],
    index: Int[Array, "N K"],
) -> Float[Array, "N C"]:
    """Σ_k m_ik f_c(r_ik) h_jc for the atom i of each row.

    An edge and its reverse have one distance, hence one f and one m, and the sum is its own
    transpose: what flows back to h is the same sum of what flows back from v, and the only gather
    is of rows of atoms. So derivatives of any order by positions are right, forward over reverse
    and reverse over reverse, while a single r_ij that moves without r_ji is never meant.

    The table is a constant: nothing flows back to it.

    Args:
        place: of the edges in the table. mask: m, 1 for edges and 0 in padding.
        h: features of atoms. index: the atom in each slot.
    """
    return _sum(table, place, mask, h, index)


def _sum(table: RadialTable, place: Place, mask: Array, h: Array, index: Array) -> Array:
    """The sum as plain operations, which the second derivatives go through."""

    def rows(piece: Array, t: Array, mask: Array, index: Array) -> tuple[Array]:
        # As a matrix product and not as a sum: XLA then writes the products in one vectorised
        # loop first, which is twenty times faster than a loop that also sums.
        messages = polynomial(table.pieces, piece, t) * _of_senders(h, index)
        return (jnp.einsum("nk,nkc->nc", mask, messages),)

    return by_rows(rows, (*place, mask, index))[0]


def _forward(table, place, mask, h, index):
    return _sum(table, place, mask, h, index), (table, place, mask, h, index)


def _backward(kept, v_bar: Array):
    # Looked up anew: otherwise XLA keeps the coefficients and the senders' features of every edge
    # from the way forward, which takes longer to write and read than to compute.
    table, place, mask, h, index = kept
    place, h, v_bar = jax.lax.optimization_barrier((place, h, v_bar))

    def rows(piece: Array, t: Array, index: Array, v_bar: Array) -> tuple[Array]:
        changes = polynomial(table.slopes, piece, t) * _of_senders(h, index)
        return (jnp.einsum("nkc,nc->nk", changes, v_bar[:, 0]),)

    (t_bar,) = by_rows(rows, (*place, index, v_bar[:, None]))
    h_bar = _sum(table, place, mask, v_bar, index)
    return None, place._replace(piece=None, t=t_bar * mask), None, h_bar, None


sum_over_neighbours.defvjp(_forward, _backward)


def _of_senders(h: Array, index: Array) -> Array:
    return h.at[index].get(mode="promise_in_bounds")
