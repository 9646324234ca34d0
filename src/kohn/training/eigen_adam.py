"""Update weights by Adam in the eigenbases of the gradients of each matrix of weights.

For a matrix W of weights with the gradient G, decays β₁, β₂, β₃ and the learning rate η:

    L ← β₃ L + (1 − β₃) G Gᵀ        R ← β₃ R + (1 − β₃) Gᵀ G
    U, V: the eigenvectors of L and R, by one orthogonal iteration every few steps
    G' = Uᵀ G V
    M' ← β₁ M' + (1 − β₁) G'        S' ← β₂ S' + (1 − β₂) G'²
    W ← W − η U [M̂' / (√Ŝ' + ε)] Vᵀ

Hats divide by 1 − βᵗ, as in Adam. The basis turns slowly: at each iteration M' is turned with it,
and S' follows the order of the eigenvalues. Adam's steps are large along directions in which
gradients are small; in the eigenbases these directions are combinations of weights, which Adam
cannot tell apart weight by weight. Weights that are in no matrix are updated by Adam.

Source: Vyas, Morwani, Zhao, Shapira, Brandfonbrener, Janson, Kakade, ICLR 2025, arXiv:2409.11321.
There it is called SOAP, a name that in Kohn belongs to the descriptor.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kohn.training.matrices import Block, Matrices
from kohn.typing import Array, Float

EPSILON = 1e-8


class Moments(NamedTuple):
    """Moving averages of gradients: of weights in no matrix, and of stacks of blocks."""

    others: Float[Array, " n"]
    stacks: dict[Block, Float[Array, "B inputs outputs"]]


class Bases(NamedTuple):
    """For each stack of blocks, averages L or R of squared gradients, and their eigenvectors."""

    squares: dict[Block, Float[Array, "B m m"]]
    vectors: dict[Block, Float[Array, "B m m"]]


class EigenAdamState(NamedTuple):
    """The state of the optimiser.

    Attributes:
        step: number of steps taken, int32.
        first, second: M' and S'.
        left, right: L with U, and R with V.
    """

    step: Array
    first: Moments
    second: Moments
    left: Bases
    right: Bases


def eigen_adam(
    rate: optax.Schedule,
    matrices: Matrices,
    *,
    b1: float = 0.95,
    b2: float = 0.95,
    b3: float = 0.95,
    every: int = 10,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Return the update rule of the vector θ.

    Args:
        rate: learning rate η by step.
        matrices: where the matrices are in θ.
        b1, b2, b3: decays of M', of S', and of L and R.
        every: number of steps between two iterations for the eigenvectors.
        weight_decay: η times this share of θ is subtracted in each step.
    """

    def init(params: Any) -> EigenAdamState:  # the names of arguments are optax's
        others, stacks = matrices.stacks(jnp.zeros_like(params))
        zero = Moments(others, stacks)
        left, right = (
            Bases(
                {b: jnp.zeros((len(x), b[side], b[side]), x.dtype) for b, x in stacks.items()},
                {b: _ones(len(x), b[side], x.dtype) for b, x in stacks.items()},
            )
            for side in (0, 1)
        )
        return EigenAdamState(jnp.zeros((), jnp.int32), zero, zero, left, right)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Array, EigenAdamState]:
        gradient, theta = updates, params
        others, g = matrices.stacks(gradient.astype(theta.dtype))
        left = _squared(state.left, {b: x @ x.mT for b, x in g.items()}, b3)
        right = _squared(state.right, {b: x.mT @ x for b, x in g.items()}, b3)
        step, first, second, left, right = jax.lax.cond(
            state.step % every == 0,
            _turned,
            lambda s: s,
            EigenAdamState(state.step, state.first, state.second, left, right),
        )
        u, v = left.vectors, right.vectors
        turned = Moments(others, {b: u[b].mT @ x @ v[b] for b, x in g.items()})
        first = jax.tree.map(lambda m, x: b1 * m + (1 - b1) * x, first, turned)
        second = jax.tree.map(lambda s, x: b2 * s + (1 - b2) * x * x, second, turned)
        t = (step + 1).astype(theta.dtype)
        change = jax.tree.map(
            lambda m, s: m / (1 - b1**t) / (jnp.sqrt(s / (1 - b2**t)) + EPSILON), first, second
        )
        back = {b: u[b] @ x @ v[b].mT for b, x in change.stacks.items()}
        direction = matrices.vector(change.others, back) + weight_decay * theta
        eta = jnp.asarray(rate(step), theta.dtype)
        return -eta * direction, EigenAdamState(step + 1, first, second, left, right)

    return optax.GradientTransformation(init, update)


def _ones(count: int, size: int, dtype: Any) -> Float[Array, "B m m"]:
    """Return a stack of unit matrices."""
    return jnp.tile(jnp.eye(size, dtype=dtype), (count, 1, 1))


def _squared(bases: Bases, new: dict[Block, Array], decay: float) -> Bases:
    return bases._replace(
        squares={b: decay * bases.squares[b] + (1 - decay) * x for b, x in new.items()}
    )


def _turned(state: EigenAdamState) -> EigenAdamState:
    """Improve the eigenvectors by one orthogonal iteration, and turn the moments with them."""
    first, second = dict(state.first.stacks), dict(state.second.stacks)
    u, v = dict(state.left.vectors), dict(state.right.vectors)
    for b in first:
        m = u[b] @ first[b] @ v[b].mT
        u[b], order = _iterated(state.left.squares[b], u[b])
        s = jnp.take_along_axis(second[b], order[:, :, None], axis=1)
        v[b], order = _iterated(state.right.squares[b], v[b])
        second[b] = jnp.take_along_axis(s, order[:, None, :], axis=2)
        first[b] = u[b].mT @ m @ v[b]
    return EigenAdamState(
        state.step,
        state.first._replace(stacks=first),
        state.second._replace(stacks=second),
        state.left._replace(vectors=u),
        state.right._replace(vectors=v),
    )


def _iterated(
    squares: Float[Array, "B m m"], vectors: Float[Array, "B m m"]
) -> tuple[Float[Array, "B m m"], Array]:
    """Return orthonormal columns that span those of L U, largest first, and their order in U."""
    product = squares @ vectors
    order = jnp.argsort(-jnp.sum(vectors * product, axis=1), axis=-1)
    return jnp.linalg.qr(jnp.take_along_axis(product, order[:, None, :], axis=2))[0], order
