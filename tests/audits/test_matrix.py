"""Faults against laws: which laws each planted fault breaks, and that it breaks no other.

The whole audit runs on every fault, on a crystal and on a molecule.
"""

from collections.abc import Callable

import planted
import pytest
from planted import CRYSTAL, MOLECULE, Planted

import kohn
from kohn.audits import NAMES, TABLE

pytestmark = pytest.mark.slow

LATTICE = {"lattice-shift", "unwrapped", "supercell", "cell-choice"}
SPACE = {"rotation", "reflection"}
CURL = {"forces", "jacobian", "loops", "energy-drift"}
JUDGED = {law.name for law in TABLE if law.threshold is not None}
FOR_CRYSTAL = JUDGED - {"net-torque"}
FOR_MOLECULE = JUDGED - LATTICE - {"stress"}
MIXED = {"translation", *SPACE, "permutation", "fragments", "smoothness", "determinism"} | {
    "energy-drift"
}

MATRIX: dict[str, tuple[Callable[[], planted.Fault], set[str], set[str]]] = {
    "nothing": (lambda: planted.honest, set(), set()),
    "float32": (lambda: planted.single, set(), set()),
    "a field along x": (
        lambda: planted.absolute_position,
        {"translation", *SPACE, "lattice-shift", "unwrapped", "supercell", "net-force"},
        {"translation", *SPACE, "net-force", "net-torque"},
    ),
    "the x axis": (lambda: planted.axis, SPACE, SPACE | {"net-torque"}),
    "a triple product": (lambda: planted.chiral, {"reflection"}, {"reflection"}),
    "the place in the list": (
        lambda: planted.order,
        {"permutation", "supercell", "fragments"},
        {"permutation", "fragments"},
    ),
    "forces sorted by element": (
        lambda: planted.sorted_forces,
        {"permutation", "supercell", "fragments", "forces", "jacobian", "loops"},
        {"permutation", "fragments", "forces", "jacobian", "loops", "net-torque"},
    ),
    "images of wrapped atoms only": (
        lambda: planted.wrapped_only,
        {"lattice-shift", "unwrapped"},
        set(),
    ),
    # Which image is the nearest changes as atoms move, and with it the force jumps.
    "minimum image": (lambda: planted.minimum_image, {"supercell", "energy-drift"}, set()),
    "a constant for each structure": (
        lambda: planted.constant,
        {"supercell", "fragments"},
        {"fragments"},
    ),
    "1/r without end": (lambda: planted.long_range, {"fragments"}, {"fragments"}),
    "forces 1 % too large": (
        lambda: planted.scaled,
        {"forces", "energy-drift"},
        {"forces", "energy-drift"},
    ),
    "a swirl": (lambda: planted.swirl, SPACE | CURL, SPACE | CURL | {"net-torque"}),
    "one-sided forces": (
        lambda: planted.one_sided,
        CURL | {"net-force"},
        CURL | {"net-force", "net-torque"},
    ),
    # A constant force has no curl, but it has a direction.
    "a push": (
        lambda: planted.net_force,
        {*SPACE, "forces", "net-force", "energy-drift"},
        {*SPACE, "forces", "net-force", "energy-drift"},
    ),
    # Of a crystal the fragments are clusters, which it turns.
    "a turn": (
        lambda: planted.net_torque,
        {"fragments"},
        SPACE | CURL | {"fragments", "net-torque"},
    ),
    "stress of the other sign": (lambda: planted.stress_sign, {"stress"}, set()),
    "yz and xz swapped": (lambda: planted.stress_order, {*SPACE, "stress"}, set()),
    # A mirror makes a cell left-handed too.
    "det cell for the volume": (
        lambda: planted.signed_volume,
        {"reflection", "cell-choice"},
        set(),
    ),
    "E jumps": (lambda: planted.cut(0), {"smoothness", "energy-drift"}, {"smoothness"}),
    "F jumps": (lambda: planted.cut(1), {"smoothness", "energy-drift"}, {"smoothness"}),
    "dF/dr jumps": (lambda: planted.cut(2), {"smoothness"}, {"smoothness"}),
    "noise": (planted.noisy, {"determinism"}, {"determinism"}),
    "memory": (planted.remembering, MIXED | LATTICE, MIXED),
    "atoms moved": (lambda: planted.mutating, {"mutation"}, {"mutation"}),
    "not a number": (lambda: planted.not_a_number, JUDGED, set()),
}
UNMEASURED = {
    # Noise of 0.1 meV and 0.1 meV/Å is beyond what these can see through: energies of symmetry
    # could be told, forces not.
    "noise": {"translation", *SPACE, "permutation", *LATTICE, "fragments"}
    | {"forces", "stress", "jacobian", "net-force", "net-torque"},
    # Energies of neighbouring places do not belong together.
    "memory": {"forces", "stress"},
    # Atoms fly apart.
    "forces sorted by element": {"energy-drift"},
    # A law that met a number that is none has failed.
    "not a number": set(),
}


def outcome(fault: planted.Fault, structure) -> tuple[set[str], set[str], set[str]]:
    """Laws that fail, that pass, and that are not measured."""
    rows = kohn.audit(Planted(fault), structure).rows
    by_verdict = [
        {r["law"] for r in rows if r["verdict"] == v} for v in ("failed", "passed", "not measured")
    ]
    assert {r["law"] for r in rows if r["verdict"] == "diagnostic"} == set(NAMES) - JUDGED
    return by_verdict[0], by_verdict[1], by_verdict[2]


@pytest.mark.parametrize("name", MATRIX)
def test_crystal(name):
    make, broken, _ = MATRIX[name]
    failed, passed, unmeasured = outcome(make(), CRYSTAL)
    assert failed == broken
    if name != "not a number":
        hidden = UNMEASURED.get(name, set()) & FOR_CRYSTAL
        assert unmeasured == {"net-torque"} | hidden
        assert passed == FOR_CRYSTAL - broken - hidden


@pytest.mark.parametrize("name", MATRIX)
def test_molecule(name):
    make, _, broken = MATRIX[name]
    failed, passed, unmeasured = outcome(make(), MOLECULE)
    assert failed == broken
    hidden = UNMEASURED.get(name, set()) & FOR_MOLECULE
    assert unmeasured == LATTICE | {"stress"} | hidden
    assert passed == FOR_MOLECULE - broken - hidden


def test_every_law_is_broken_by_something():
    broken = set().union(*(c | m for name, (_, c, m) in MATRIX.items() if name != "not a number"))
    assert broken == JUDGED


@pytest.mark.parametrize("power", [0, 1, 2])
def test_a_jump_is_found_where_it_is(power):
    (row,) = kohn.audit(Planted(planted.cut(power)), MOLECULE, laws=["smoothness"]).rows
    order = ("E", "F", "dF/dr")[power]
    assert f"{order} jumps" in row["note"]
    if power:  # of a jump in E nobody can say where in the last interval it is
        assert "at 3.600 Å, C–C alone" in row["note"]
