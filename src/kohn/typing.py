"""Types used in signatures; shapes of arrays are written as in jaxtyping, 'atoms 3'."""

from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray
Document: TypeAlias = dict[str, Any]
"""What a JSON object holds: settings, records, results. Whoever makes one says what is in it."""
Tree: TypeAlias = Any
"""A tree of arrays that only its maker looks into."""

__all__ = ["Array", "ArrayLike", "Bool", "Document", "Float", "Int", "Tree"]
