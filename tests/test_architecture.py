"""The house: floors, import time, what may be written in files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_floors_hold():
    """Rooms import only from lower floors (see pyproject.toml)."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_importing_kohn_loads_little():
    """ASE, plotting and optimisers are loaded when they are used, not by `import kohn`."""
    heavy = ("ase", "plotly", "optax", "typer")
    code = f"import sys, kohn; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_64_bit_numbers_are_on():
    import jax.numpy as jnp

    import kohn

    assert kohn.__version__
    assert jnp.zeros(1).dtype == "float64"


@pytest.mark.parametrize("pattern", [r"pickle\.(load|dump)", r"torch\.load", r"eval\("])
def test_nothing_executes_what_it_reads(pattern):
    """Model files are data."""
    for path in (ROOT / "src").rglob("*.py"):
        for line in path.read_text().splitlines():
            assert not re.search(rf"(?<![\w.]){pattern}", line), (path, line)
