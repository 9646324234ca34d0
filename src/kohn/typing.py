"""Array types used in signatures; shapes are written as in jaxtyping, 'atoms 3'."""

from typing import TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray

__all__ = ["Array", "ArrayLike", "Bool", "Float", "Int"]
