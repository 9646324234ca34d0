"""Find the matrices of a model in the vector θ of all its weights, as stacks of equal blocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import equinox as eqx
import jax
import jax.numpy as jnp

from kohn.typing import Array, Float, Tree

LARGEST_SIDE = 64
SMALLEST_SIDE = 2

Block = tuple[int, int]
"""The shape of a block."""


@dataclass(frozen=True)
class Matrices:
    """The division of θ into blocks of matrices, and other weights.

    The last two axes of an array are the inputs and the outputs of a matrix; axes before them count
    matrices, one for each element or path. A side above `LARGEST_SIDE` is divided into equal parts.
    Arrays with a side below `SMALLEST_SIDE` do not count as matrices.

    Attributes:
        shapes: the shape of each array of weights, in the order of θ.
    """

    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, model: Tree) -> "Matrices":
        """Return the division for a model, whose weights `flatten` has joined to θ."""
        weights = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
        return cls(tuple(w.shape for w in weights))

    @cached_property
    def of_block(self) -> dict[Block, list[int]]:
        """The numbers of the arrays with blocks of each shape."""
        found: dict[Block, list[int]] = {}
        for i, shape in enumerate(self.shapes):
            if _is_matrix(shape):
                found.setdefault(_block(shape), []).append(i)
        return found

    def stacks(self, theta: Float[Array, " P"]) -> tuple[Array, dict[Block, Array]]:
        """Divide θ: return all weights that are in no matrix, [n], and for each shape of blocks
        the stack of its blocks, [B, inputs, outputs]."""
        parts = jax.lax.split(theta, [prod(s) for s in self.shapes])
        others = [p for p, s in zip(parts, self.shapes, strict=True) if not _is_matrix(s)]
        stacks = {
            block: jnp.concatenate([_to_blocks(parts[i], self.shapes[i]) for i in numbers])
            for block, numbers in self.of_block.items()
        }
        return jnp.concatenate([theta[:0], *others]), stacks

    def vector(self, others: Array, stacks: Mapping[Block, Array]) -> Float[Array, " P"]:
        """Join what `stacks` returned to a vector with the order of θ."""
        parts: dict[int, Array] = {}
        rest = [i for i, s in enumerate(self.shapes) if not _is_matrix(s)]
        sizes = [prod(self.shapes[i]) for i in rest]
        parts.update(zip(rest, jax.lax.split(others, sizes) if rest else [], strict=True))
        for block, numbers in self.of_block.items():
            counts = [prod(self.shapes[i]) // prod(block) for i in numbers]
            for i, part in zip(numbers, jax.lax.split(stacks[block], counts), strict=True):
                parts[i] = _from_blocks(part, self.shapes[i])
        return jnp.concatenate([parts[i] for i in range(len(self.shapes))])


def _is_matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 2 and min(shape[-2:]) >= SMALLEST_SIDE


def _block(shape: tuple[int, ...]) -> Block:
    """Return the shape of the blocks of a matrix: the fewest equal parts of each side."""
    inputs, outputs = (
        next(n // parts for parts in range(-(-n // LARGEST_SIDE), n + 1) if n % parts == 0)
        for n in shape[-2:]
    )
    return inputs, outputs


def _to_blocks(x: Array, shape: tuple[int, ...]) -> Float[Array, "B inputs outputs"]:
    a, b = _block(shape)
    x = x.reshape(-1, shape[-2] // a, a, shape[-1] // b, b)
    return jnp.swapaxes(x, 2, 3).reshape(-1, a, b)


def _from_blocks(x: Float[Array, "B inputs outputs"], shape: tuple[int, ...]) -> Array:
    a, b = _block(shape)
    x = x.reshape(-1, shape[-2] // a, shape[-1] // b, a, b)
    return jnp.swapaxes(x, 2, 3).reshape(-1)
