"""How functions are compiled, and where the results are kept."""

import hashlib
import os
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jaxlib import version as jaxlib

WRONG = {
    "0.10.2": "computes wrong numbers on CPU (jax-ml/jax#39103)",
    "0.11.0": "crashes on CPU and computes wrong numbers on GPU (jax-ml/jax#39257, #40633)",
    "0.11.1": "computes wrong numbers on GPU (jax-ml/jax#40633)",
}
"""Versions of jaxlib that are known to be wrong; `pyproject.toml` excludes the same ones."""


def warn_of_wrong(version: str = jaxlib.__version__) -> None:
    """Warn of a jaxlib that is known to compute wrong numbers."""
    if version in WRONG:
        warnings.warn(
            f"jaxlib {version} {WRONG[version]}: install another version, "
            "for example pip install 'jax==0.10.1'",
            stacklevel=3,
        )


def compiled(function: Callable, *, newer_fusion: bool = False) -> Any:
    """`jax.jit`, with XLA's older loop fusion on CPU unless the newer one is asked for.

    The newer fusion emitters (jaxlib 0.10) take twice as long to compile a training step (17 s
    against 9 s for a two-layer MACE), and the code is no faster. For prediction the tables of a
    SchNet gain 9 to 21 %; large batches of NequIP and MACE lose some 6 %.
    """
    on_cpu = jax.default_backend() == "cpu"
    options = {"xla_cpu_use_fusion_emitters": newer_fusion} if on_cpu else None
    return jax.jit(function, compiler_options=options)


def jax_has_started() -> bool:
    """Whether JAX has taken its devices, and with them the cores that it runs on."""
    from jax._src import xla_bridge  # the only place that tells

    return xla_bridge.backends_are_initialized()


def keep_compiled() -> None:
    """Keep compiled functions on disk, so that the next process need not compile them.

    In $XDG_CACHE_HOME/kohn, one folder for each kind of processor: code compiled for one may
    not run on another that shares the home directory. A folder that JAX was told already
    (JAX_COMPILATION_CACHE_DIR) is left as it is; a home that cannot be written is no error.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "kohn" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _processor() -> str:
    """Name of this kind of processor, from its features where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = {x for x in lines if x.startswith(("flags", "Features", "model name"))}
        text = "".join(sorted(features))
    except OSError:
        text = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
