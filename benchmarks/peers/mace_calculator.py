"""An untrained mace-torch model as a calculator, for audits:

    kohn audit --calculator benchmarks.peers.mace_calculator:untrained FILE

torch and mace-torch come from .venv-peers (`make peers`) where this Python has none; its packages
go behind this Python's own, so that what both have is this one's.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


def beside(environment: str, module: str) -> None:
    """Make a module of another environment importable.

    Raises:
        ImportError: neither this environment nor the other has it.
    """
    if importlib.util.find_spec(module) is None:
        sys.path += map(str, sorted((ROOT / environment).glob("lib/python*/site-packages")))
        importlib.invalidate_caches()
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"no {module} here and none in {environment}: `make {environment}/.done`")


def untrained(preset: str = "tiny_1o", dtype: str = "float64") -> Any:
    """mace-torch's own ASE calculator of a model with random weights, see `mace_models.PRESETS`."""
    beside(".venv-peers", "mace")
    import torch

    from benchmarks.peers.mace_models import PRESETS, make_random_mace, quiet

    quiet()
    torch.set_num_threads(1)
    model = make_random_mace(PRESETS[preset], dtype=dtype)
    from mace.calculators import MACECalculator

    return MACECalculator(models=[model], device="cpu", default_dtype=dtype)
