"""Gather values of neighbours by a linear map whose transpose is again a gather.

Atom i has a row of slots (i, k), one for each edge i → j to a neighbour; the reverse edge j → i is
in a slot of row j. Values h of atoms give values g in slots, and gradients ḡ give gradients h̄:

    gather      g[i, k] = h[index[i, k]]
    transpose   h̄[i]    = Σ_k ḡ[reverse[i, k]]

Therefore energy, forces and training steps need no scatter. Both maps are JAX primitives, linear in
their first argument, and each is the transpose of the other: they can be differentiated any number
of times in either mode, batched and compiled.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kohn.typing import Array, Float, Int


def gather_neighbours(
    h: Float[Array, " atoms *features"],
    index: Int[Array, "atoms K"],
    reverse: Int[Array, "atoms K"],
) -> Float[Array, "atoms K *features"]:
    """Return for each slot the value h of the neighbour in it.

    Args:
        h: one value per atom, [N, ...].
        index: row of the neighbour in each slot, [N, K]; padding slots point to a dummy atom.
        reverse: number of the slot with the reverse edge, counted through all N·K slots, [N, K];
            padding slots point to a padding slot.

    Returns:
        [N, K, ...]. Values in padding slots are arbitrary; the caller must mask them and their
        gradients (multiply by a mask before summing over slots).
    """
    return _gather.bind(h, index, reverse)


def sum_over_reverse(
    g: Float[Array, "atoms K *features"],
    index: Int[Array, "atoms K"],
    reverse: Int[Array, "atoms K"],
) -> Float[Array, " atoms *features"]:
    """Return for each atom i the sum of the values g of all edges j → i, which end at this atom."""
    return _sum.bind(g, index, reverse)


def take_reverse(
    e: Float[Array, "atoms K *features"], reverse: Int[Array, "atoms K"]
) -> Float[Array, "atoms K *features"]:
    """Return for each edge i → j the value e of its reverse edge; the map is its own transpose.

    Values in padding slots are arbitrary; mask these values and their gradients.
    """
    return _reversed.bind(e, reverse, reverse)


def select_columns(
    x: Float[Array, "*rows columns"], columns: Int[Array, " D"], inverse: Int[Array, " columns"]
) -> Float[Array, "*rows D"]:
    """Return x[..., columns]; no column may be selected twice.

    Args:
        x: array with C columns, [..., C].
        columns: indices of the selected columns, in the order of the result, [D].
        inverse: position of each column of x in the result, [C]; D if it is not selected.
    """
    return _select.bind(x, columns, inverse)


def _select_impl(x, columns, inverse):
    del inverse
    return x.at[..., columns].get(mode="promise_in_bounds")


def _spread_impl(g, columns, inverse):
    del columns
    with_zero = jnp.concatenate([g, jnp.zeros((*g.shape[:-1], 1), g.dtype)], axis=-1)
    return with_zero.at[..., inverse].get(mode="promise_in_bounds")


def _gather_impl(h, index, reverse):
    del reverse
    return h.at[index].get(mode="promise_in_bounds")


def _sum_impl(g, index, reverse):
    del index
    n, k = g.shape[:2]
    flat = g.reshape((n * k, *g.shape[2:]))
    return jnp.sum(flat.at[reverse].get(mode="promise_in_bounds"), axis=1)


def _reversed_impl(e, reverse, _):
    flat = e.reshape((-1, *e.shape[2:]))
    return flat.at[reverse].get(mode="promise_in_bounds")


def _linear_primitive(name: str, implementation, transposed, axis: int = -1) -> Primitive:
    """Return a linear primitive; under vmap the new axis goes to `axis`, which it leaves alone."""

    primitive = Primitive(name)
    primitive.def_impl(jax.jit(implementation))
    primitive.def_abstract_eval(
        lambda x, index, reverse: ShapedArray(
            jax.eval_shape(implementation, x, index, reverse).shape, x.dtype
        )
    )
    mlir.register_lowering(primitive, mlir.lower_fun(implementation, multiple_results=False))

    def jvp(primals, tangents):
        out = primitive.bind(*primals)
        if type(tangents[0]) is ad.Zero:
            return out, ad.Zero(jax.typeof(out).to_tangent_aval())
        return out, primitive.bind(tangents[0], *primals[1:])

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = lambda ct, x, index, reverse: (
        ad.Zero(x.aval) if type(ct) is ad.Zero else transposed().bind(ct, index, reverse),
        None,
        None,
    )

    def batch(arguments, axes):
        x, index, reverse = arguments
        if axes[1] is None and axes[2] is None:  # one table for the whole batch
            out = primitive.bind(jnp.moveaxis(x, axes[0], axis), index, reverse)
            return out, axis % out.ndim
        return jax.vmap(implementation, in_axes=axes)(x, index, reverse), 0

    batching.primitive_batchers[primitive] = batch
    return primitive


_gather = _linear_primitive("gather", _gather_impl, lambda: _sum)
_sum = _linear_primitive("sum", _sum_impl, lambda: _gather)
_reversed = _linear_primitive("reversed", _reversed_impl, lambda: _reversed)
_select = _linear_primitive("select", _select_impl, lambda: _spread, axis=0)
_spread = _linear_primitive("spread", _spread_impl, lambda: _select, axis=0)


def reverse_slots(index: np.ndarray, shift: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return for every edge the slot of its reverse; edges may be in any slots of their rows.

    An edge goes from atom i to the image of atom j in the cell S; its reverse, from j to i in −S.

    Args:
        index: row of j, [N, K]. shift: S, [N, K, 3]. mask: whether a slot holds an edge, [N, K].

    Returns:
        Slots, counted through all N·K slots, int32 [N, K]; −1 in padding slots.
    """
    n, k = index.shape
    i = np.repeat(np.arange(n), k).reshape(n, k)[mask]
    j, s = index[mask].astype(np.int64), shift[mask].astype(np.int64)
    slots = np.flatnonzero(mask.ravel())
    forward, backward = _order(i, j, s, n), _order(j, i, -s, n)
    reverse = np.full(n * k, -1, dtype=np.int32)
    reverse[slots[forward]] = slots[backward]
    return reverse.reshape(n, k)


def _order(i: np.ndarray, j: np.ndarray, s: np.ndarray, n: int) -> np.ndarray:
    """Return the indices that sort edges (i, j, S), by one integer per edge if 64 bits suffice."""
    m = int(np.abs(s).max(initial=0))
    base, pair = 2 * m + 1, i.astype(np.int64) * n + j
    shift = ((s[:, 0] + m) * base + s[:, 1] + m) * base + s[:, 2] + m
    if n**2 * base**3 < 2**62:
        return np.argsort(pair * base**3 + shift)
    return np.lexsort((shift, pair))  # atoms are very many cells apart
