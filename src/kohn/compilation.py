"""How functions are compiled."""

from collections.abc import Callable
from typing import Any

import jax


def compiled(function: Callable) -> Any:
    """`jax.jit`, with XLA's older loop fusion on CPU.

    Its newer fusion emitters (jaxlib 0.10) take twice as long to compile a training step
    (17 s against 9 s for a two-layer MACE) and the code is no faster.
    """
    options = {"xla_cpu_use_fusion_emitters": False} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=options)
