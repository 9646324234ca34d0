"""Define types for signatures; array shapes are written as in jaxtyping, e.g. 'atoms 3'."""

from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray
Document: TypeAlias = dict[str, Any]
"""A JSON object (settings, records, results); the function that makes it documents its keys."""
Tree: TypeAlias = Any
"""A pytree of arrays; only the code that makes the pytree depends on its layout."""

__all__ = ["Array", "ArrayLike", "Bool", "Document", "Float", "Int", "Tree"]
