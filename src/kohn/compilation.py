"""Compile functions with JAX, and keep the compiled code on disk."""

import hashlib
import os
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jaxlib import version as jaxlib

FAULTY_JAXLIB = {
    "0.10.2": "computes wrong numbers on CPU (jax-ml/jax#39103)",
    "0.11.0": "crashes on CPU and computes wrong numbers on GPU (jax-ml/jax#39257, #40633)",
    "0.11.1": "computes wrong numbers on GPU (jax-ml/jax#40633)",
}
"""Versions of jaxlib with known faults; `pyproject.toml` excludes the same versions."""


def warn_of_faulty_jaxlib(version: str = jaxlib.__version__) -> None:
    """Warn if this version of jaxlib is known to compute wrong numbers or to crash."""
    if version in FAULTY_JAXLIB:
        warnings.warn(
            f"jaxlib {version} {FAULTY_JAXLIB[version]}: install another version, "
            "for example pip install 'jax==0.10.1'",
            stacklevel=3,
        )


def compiled(function: Callable, *, newer_fusion: bool = False) -> Any:
    """Return `jax.jit(function)`; on CPU with XLA's older loop fusion unless `newer_fusion`.

    The newer fusion emitters (jaxlib 0.10) take twice as long to compile a training step (17 s
    against 9 s for a two-layer MACE), and the code is no faster. In prediction they make the tables
    of a SchNet 9 to 21 % faster, and large batches of NequIP and MACE about 6 % slower.
    """
    on_cpu = jax.default_backend() == "cpu"
    options = {"xla_cpu_use_fusion_emitters": newer_fusion} if on_cpu else None
    return jax.jit(function, compiler_options=options)


def jax_has_started() -> bool:
    """Return whether JAX has initialised its devices; its number of CPU cores is then fixed."""
    from jax._src import xla_bridge  # no public function reports it

    return xla_bridge.backends_are_initialized()


def keep_compiled() -> None:
    """Keep compiled functions on disk, so that the next process need not compile them again.

    They are stored in $XDG_CACHE_HOME/kohn (by default ~/.cache/kohn), in one folder for each kind
    of processor, because computers with different processors may share a home directory. A folder
    set before (JAX_COMPILATION_CACHE_DIR) is used; without write permission nothing is stored.
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
    """Return a name for this kind of processor, derived from its features if Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = {x for x in lines if x.startswith(("flags", "Features", "model name"))}
        text = "".join(sorted(features))
    except OSError:
        text = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
