"""What is compiled computes what it says, and a compiler that is known to be wrong is named."""

import tomllib
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from packaging.requirements import Requirement

from kohn.compilation import FAULTY_JAXLIB, compiled, warn_of_faulty_jaxlib

pytestmark = pytest.mark.usefixtures("as_users_compile")

# `compiled` is what Kohn uses, `jax.jit` what users of Kohn write beside it.
COMPILERS = {"jit": jax.jit, "compiled": compiled}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("dtype", "rows"), [(np.float64, 16_385), (np.float32, 32_769)])
def test_a_reduced_product_of_many_rows_is_right(compiler, dtype, rows):
    """jax-ml/jax#39103: |M r|² of each row, where jaxlib 0.10.2 has the last element wrong."""
    x = np.zeros((rows, 3), dtype)
    x[:, 0] = np.arange(rows)
    matrix = jnp.eye(3, dtype=dtype)
    found = COMPILERS[compiler](lambda x: jax.vmap(lambda r: jnp.sum((matrix @ r) ** 2))(x))(x)
    np.testing.assert_allclose(found, (x**2).sum(1), rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("version", FAULTY_JAXLIB)
def test_a_wrong_version_is_named(version):
    with pytest.warns(UserWarning, match=f"jaxlib {version} .*jax-ml/jax#"):
        warn_of_faulty_jaxlib(version)


def test_the_installed_version_is_right():
    assert jaxlib.__version__ not in FAULTY_JAXLIB
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_faulty_jaxlib()


def test_wrong_versions_cannot_be_installed_with_kohn():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    needed = map(Requirement, tomllib.loads(text)["project"]["dependencies"])
    excluding = next(r.specifier for r in needed if r.name == "jax")
    assert not any(excluding.contains(version) for version in FAULTY_JAXLIB)
