"""Types for signatures; shapes of arrays are written as in jaxtyping, 'atoms 3'."""

from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray
Document: TypeAlias = dict[str, Any]
"""The content of a JSON object: settings, records, results. Its maker documents its keys."""
Tree: TypeAlias = Any
"""A tree of arrays whose structure only its maker uses."""

__all__ = ["Array", "ArrayLike", "Bool", "Document", "Float", "Int", "Tree"]
