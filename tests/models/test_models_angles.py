"""What angles and dihedral angles change where no distance between neighbours does.

Chains H–O–…–O–H of unit steps along the axes, so that bonds are 1 Å to the last digit and nothing
else is within the cutoff. A model that reads only distances of neighbours says the same of all of
them, however many layers it has.
"""

import jax
import numpy as np
import pytest
from brute_force import structure

from kohn.graphs import collate, neighbourhood
from kohn.models import FAMILIES, DimeNetConfig, MaceConfig, NequipConfig, SchNetConfig
from kohn.potential import evaluate

pytestmark = pytest.mark.slow

CUTOFF = 1.3
ELEMENTS = (1, 8)
CONFIGS = {
    "schnet": SchNetConfig(cutoff=CUTOFF, channels=8, layers=6, n_gaussians=8),
    "dimenet": DimeNetConfig(cutoff=CUTOFF, channels=8, angular_channels=4, l_max=2, layers=3),
    "nequip": NequipConfig(cutoff=CUTOFF, channels=4, l_max=1, layers=3, radial_widths=(8,)),
    "mace": MaceConfig(
        cutoff=CUTOFF, channels=4, hidden_l_max=1, l_max=1, correlation=2, radial_widths=(8,)
    ),
}
STRAIGHT, BENT = "xx", "xy"
PLANAR, TWISTED = "xyx", "xyz"
"""Dihedral angles of 180° and 90°; bends of 90° in both."""


def chain(steps: str):
    x = np.vstack([np.zeros(3), np.cumsum([np.eye(3)["xyz".index(s)] for s in steps], axis=0)])
    return structure(x, [1, *[8] * (len(steps) - 1), 1])


def energies(family: str, chains: list[str]) -> np.ndarray:
    """Energies by random weights in float64, eV."""
    model = FAMILIES[family][1].init(
        jax.random.key(0), CONFIGS[family], ELEMENTS, neighbours=2.0, dtype=np.float64
    )
    structures = [chain(steps) for steps in chains]
    rows = [neighbourhood(s, CUTOFF) for s in structures]
    assert [row.edges for row in rows] == [2 * len(steps) for steps in chains]  # bonds alone
    found = evaluate(model, collate(structures, rows, ELEMENTS, dtype=np.float64))
    return np.asarray(found.energy[: len(chains)])


@pytest.mark.parametrize(("family", "sees"), [(f, f != "schnet") for f in CONFIGS])
def test_an_angle_without_its_distance_is_seen_by_all_but_schnet(family, sees):
    straight, bent = energies(family, [STRAIGHT, BENT])
    assert abs(straight) > 1e-3
    if sees:
        assert abs(straight - bent) > 1e-3 * abs(straight)
    else:
        assert straight == bent


@pytest.mark.parametrize(("family", "sees"), [(f, f in ("nequip", "mace")) for f in CONFIGS])
def test_a_dihedral_angle_without_its_distance_is_seen_by_equivariant_messages(family, sees):
    """DimeNet's messages know angles between edges, and no more."""
    planar, twisted = energies(family, [PLANAR, TWISTED])
    difference = abs(planar - twisted) / abs(planar)
    assert difference > 1e-6 if sees else difference < 1e-12
