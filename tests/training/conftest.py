"""A small run that the training tests share."""

from pathlib import Path
from typing import Any

import pytest

import kohn

TINY: dict[str, Any] = {
    "model": {"family": "schnet", "cutoff": 4.0, "channels": 4, "layers": 1, "n_gaussians": 4},
    "run": {"epochs": 4, "batch_size": 4, "seed": 3},
}


@pytest.fixture(scope="session")
def ethanol(tmp_path_factory) -> Path:
    """24 frames of the ethanol data that come with Kohn."""
    folder = tmp_path_factory.mktemp("data")
    source = Path(kohn.__file__).parent / "data" / "ethanol" / "train.extxyz"
    path = folder / "ethanol.extxyz"
    path.write_text("\n".join(source.read_text().splitlines()[: 24 * 11]) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Sections of settings for a run of seconds."""
    return {name: dict(section) for name, section in TINY.items()}
