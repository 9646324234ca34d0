"""What all tests share: compiled functions, strict dtypes, and Hypothesis runs that repeat."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Most of the time goes into compiling. LLVM's costly passes take half of it and change rounding
# alone; `as_users_compile` turns them on. XLA's newer loop fusion, which the package does without
# (`kohn.compilation.compiled`), takes a quarter of the rest. Workers, child processes and later
# runs compile the same functions: they are kept in .cache (`make clean` empties it).
COMPILING = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false",
    # Where each operation stands in the source: a quarter of tracing and lowering.
    "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    # Two workers share the cores: threads of BLAS, which wait for each other even over matrices of
    # six rows, took three quarters of the time of relaxations.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
for name, value in COMPILING.items():  # read on import, here and in children
    os.environ.setdefault(name, value)

# Tracing makes many objects and little garbage: collecting as often as by default takes a tenth.
gc.set_threshold(100_000, 50, 50)

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

import kohn  # noqa: E402, F401  (enables 64-bit numbers)

# A float64 array that meets a float32 one is an error, not a silent promotion.
jax.config.update("jax_numpy_dtype_promotion", "strict")

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("hunt", deadline=None, max_examples=200, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests run after the fast ones."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled() -> Iterator[None]:
    """All compiled functions together take more than 4 GB; few of them serve two files."""
    yield
    if resident() > 1.5e9:
        jax.clear_caches()


def resident() -> float:
    """Bytes of memory of this process; where nothing tells them, infinitely many."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return float("inf")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def as_users_compile() -> Iterator[None]:
    """With all of LLVM's passes, for tests of what the compiler does, and for the laws."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
