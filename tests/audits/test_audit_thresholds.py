"""Every law passes just below its threshold and fails just above it.

Each calculator breaks its law by a violation that is known by hand. Directions that a law would
draw at random are ones here, where the violation depends on them.
"""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from ase import units
from brute_force import structure
from planted import Planted, Result

from kohn.audits import TABLE, audit, counted_calculator
from kohn.audits.audit import verdict_of
from kohn.audits.case import Case, Measurement, Noise, compare
from kohn.reports.audit import audit_page
from kohn.structures import Structure

LAWS = {law.name: law for law in TABLE}
CRYSTAL = structure([[0.5, 0.6, 0.7], [2.0, 2.2, 2.4]], [14, 6], 4.0 * np.eye(3), True)
PAIR = structure([[1.5, 0, 0], [-1.5, 0, 0]], [6, 6])
ZERO = Noise(0.0, 0.0, 0.0)
Fault = Callable[[object], Result]


def said(atoms, energy=0.0, forces=None, stress=None) -> Result:
    """A result; what is not given is zero."""
    n = len(atoms)
    forces = np.zeros((n, 3)) if forces is None else forces
    stress = np.zeros((3, 3)) if stress is None else stress
    return Result(energy, forces, stress if atoms.pbc.all() else None)


def case_of(s: Structure, fault: Fault, rng=None, noise: Noise = ZERO) -> Case:
    """A structure and a calculator before a law; without noise, unless it is given."""
    ask = counted_calculator.CountedCalculator(Planted(fault))
    return Case(ask, s, ask(s), noise, rng or np.random.default_rng(0))


def same(atoms, s: Structure) -> bool:
    """Whether these are the very atoms."""
    return (
        len(atoms) == len(s)
        and np.array_equal(atoms.numbers, s.numbers)
        and np.array_equal(atoms.positions, s.positions)
        and np.array_equal(atoms.cell.array, s.cell)
    )


def drawn(*arrays) -> SimpleNamespace:
    """What gives these arrays in turn, again and again, for normal numbers, and zero else."""
    count = iter(range(1000))

    def normal(size) -> np.ndarray:
        return np.broadcast_to(arrays[next(count) % len(arrays)], size).astype(float)

    return SimpleNamespace(normal=normal, integers=lambda n: 0)


# Faults of a known size


def elsewhere(s: Structure, quantity: str) -> Callable[[float], Case]:
    """Of all other structures something is larger by `a`: energy per atom, one component of the
    forces, or of the stress."""

    def case(a: float) -> Case:
        def fault(atoms) -> Result:
            off = 0.0 if same(atoms, s) else a
            forces = np.zeros((len(atoms), 3))
            forces[-1, 1] = off
            changes = {
                "energy": {"energy": off * len(atoms)},
                "forces": {"forces": forces},
                "stress": {"stress": np.diag([0.0, 0.0, off])},
            }
            return said(atoms, **changes[quantity])

        return case_of(s, fault)

    return case


def a_constant(a: float) -> Case:
    """c for every structure: |c − 2 c| over the four atoms of two pairs."""
    return case_of(PAIR, lambda atoms: said(atoms, 4 * a))


def wrong_forces(a: float) -> Case:
    """f on all components where E is constant: with v of ones, f · v / |v| = f √6."""
    f = a / 6**0.5
    return case_of(PAIR, lambda atoms: said(atoms, forces=np.full((2, 3), f)), drawn(1.0))


def wrong_stress(a: float) -> Case:
    """σ = a where E is constant: with ε of ones, over its norm, σ : ε = 3 a / 3."""
    return case_of(CRYSTAL, lambda atoms: said(atoms, stress=a * np.eye(3)), drawn(1.0))


def asymmetric_stress(a: float) -> Case:
    """σ_xy − σ_yx = a, of which no energy knows."""
    s = np.zeros((3, 3))
    s[0, 1], s[1, 0] = a / 2, -a / 2
    case = case_of(CRYSTAL, lambda atoms: said(atoms), drawn(1.0))
    object.__setattr__(case.here, "stress", s)  # ASE's six components cannot say it
    return case


def a_curl(a: float) -> Case:
    """F_x = c y, F_y = −c x of one atom: |u · (J − Jᵀ) v| / √(3 n) = 2 c / √6."""
    c = a * 6**0.5 / 2

    def fault(atoms) -> Result:
        forces = np.zeros((2, 3))
        forces[0, :2] = c * np.array([1, -1]) * atoms.positions[0, 1::-1]
        return said(atoms, forces=forces)

    directions = np.zeros((3, 2, 3))
    directions[0, 0, 0] = directions[1, 0, 1] = directions[2, 1, 2] = 1.0
    return case_of(PAIR, fault, drawn(directions))


def work_around(a: float) -> Case:
    """F = (g, 0) + c (−y, x) about the start, on a circle of radius R: ∮ F · dx is c R² in the
    mean and |F · dx| is g R |sin|, whose mean over 16 points is cot(π/16) / 8."""
    g, radius = 1.0, 0.05
    c = a * g * (1 / np.tan(np.pi / 16) / 8) / radius

    def fault(atoms) -> Result:
        x, y = (atoms.positions - PAIR.positions)[0, :2]
        forces = np.zeros((2, 3))
        forces[0, :2] = g - c * y, c * x
        return said(atoms, forces=forces)

    directions = np.zeros((2, 2, 3))
    directions[0, 0, 0] = directions[1, 0, 1] = 1.0
    return case_of(PAIR, fault, drawn(directions))


def a_jump(power: int, unit: float) -> Callable[[float], Case]:
    """E = (5 Å − r)^p J / p!, cut there: J is the jump in E, F or dF/dr."""

    def case(a: float) -> Case:
        size = a / unit / (2 if power == 2 else 1)

        def fault(atoms) -> Result:
            d = atoms.positions[0] - atoms.positions[1]
            r = float(np.linalg.norm(d))
            inside = r < 5
            slope = -power * size * (5 - r) ** max(power - 1, 0) * inside
            forces = -slope * d / max(r, 1e-9)
            return said(atoms, size * (5 - r) ** power * inside, np.array([forces, -forces]))

        return case_of(PAIR, fault)

    return case


def a_push(a: float) -> Case:
    return case_of(
        CRYSTAL, lambda atoms: said(atoms, forces=np.array([[0, a / 4, 0], [0, 3 * a / 4, 0]]))
    )


def a_turn(a: float) -> Case:
    """± f along y at ±1.5 Å along x: the torque is 3 Å f, the radius 1.5 Å."""
    return case_of(
        PAIR, lambda atoms: said(atoms, forces=np.array([[0, a / 2, 0], [0, -a / 2, 0]]))
    )


def a_memory(quantity: str) -> Callable[[float], Case]:
    """All calls but the first and those before it differ from them by `a`."""

    def case(a: float) -> Case:
        calls = []

        def fault(atoms) -> Result:
            calls.append(0)
            off = a if len(calls) > 2 else 0.0  # the case has asked once, and the law once
            return said(
                atoms,
                off * len(atoms) if quantity == "energy" else 0.0,
                np.full((2, 3), off) if quantity == "forces" else None,
            )

        return case_of(PAIR, fault)

    return case


def moved_atoms(a: float) -> Case:
    def fault(atoms) -> Result:
        atoms.positions[0, 1] = a
        return said(atoms)

    return case_of(PAIR, fault)


def a_leak(a: float) -> Case:
    """E = g (x₁ − x₂) without forces: atoms at ±v go on, and dE/dt is 2 g v; in meV for an atom
    and ps."""
    v = (units.kB * 300.0 / 12.011) ** 0.5
    g = a / (1e3 * 2 * v * 1e3 * units.fs / 2)
    along = np.array([[1.0, 0, 0], [-1.0, 0, 0]])

    def fault(atoms) -> Result:
        return said(atoms, g * float(atoms.positions[0, 0] - atoms.positions[1, 0]))

    return case_of(PAIR, fault, drawn(along))


SYMMETRIES = ("translation", "rotation", "reflection", "permutation")
LATTICE = ("lattice-shift", "unwrapped", "supercell", "cell-choice")
FAULTS: list[tuple[str, Callable[[float], Case], float]] = [
    *(
        (law, elsewhere(CRYSTAL, quantity), 1e-6)
        for law in SYMMETRIES + LATTICE
        for quantity in ("energy", "forces", "stress")
    ),
    ("fragments", a_constant, 1e-6),
    ("forces", wrong_forces, 1e-5),
    ("stress", wrong_stress, 1e-6),
    ("stress", asymmetric_stress, 1e-6),
    ("jacobian", a_curl, 1e-4),
    ("loops", work_around, 1e-6),
    ("smoothness", a_jump(0, 10.0), 1e-4),
    ("smoothness", a_jump(1, 1.0), 1e-4),
    ("smoothness", a_jump(2, 0.01), 1e-4),
    ("net-force", a_push, 1e-6),
    ("net-torque", a_turn, 1e-6),
    ("determinism", a_memory("energy"), 1e-6),
    ("determinism", a_memory("forces"), 1e-6),
    ("mutation", moved_atoms, 1e-12),
    ("energy-drift", a_leak, 0.1),
]
"""Law, what breaks it by a given violation, and the threshold: eV/atom, eV/Å, eV/Å³, eV/Å², of the
path's work, Å, meV/atom/ps."""
CEILINGS = {
    **dict.fromkeys((*SYMMETRIES, *LATTICE, "fragments"), 1e-3),
    **dict.fromkeys(("stress", "net-force", "net-torque", "determinism"), 1e-3),
    **{"forces": 1e-2, "jacobian": 1e-1, "loops": 1e-2, "smoothness": 1e-1},
    **{"mutation": 1e-12, "energy-drift": 10.0},
}


@pytest.mark.parametrize(
    ("name", "fault", "threshold"),
    FAULTS,
    ids=[f"{name}-{k}" for k, (name, _, _) in enumerate(FAULTS)],
)
def test_a_law_passes_just_below_its_threshold_and_fails_just_above(name, fault, threshold):
    law = LAWS[name]
    for share, verdict in ((0.9, "passed"), (1.1, "failed")):
        judged = verdict_of(law, law.measure(fault(share * threshold)))
        assert judged["verdict"] == verdict, judged
        assert judged["threshold"] == threshold
        assert judged["violation"] == pytest.approx(share * threshold, rel=1e-3)


def test_every_law_with_a_threshold_is_pinned():
    judged = {law.name for law in TABLE if law.threshold is not None}
    assert {name for name, _, _ in FAULTS} == set(CEILINGS) == judged


@pytest.mark.parametrize("name", CEILINGS)
def test_noise_beyond_the_ceiling_leaves_a_law_unmeasured(name):
    for share, verdict in ((1.0, "passed"), (1.01, "not measured")):
        error = share * CEILINGS[name]
        judged = verdict_of(LAWS[name], [Measurement("it", 0.5 * error, "", error)])
        assert judged["verdict"] == verdict, (name, judged)


def test_a_violation_fails_beyond_its_error_where_that_is_beyond_the_threshold():
    for share, verdict in ((0.9, "passed"), (1.1, "failed")):
        measured = [Measurement("energy", share * 1e-4, "eV/atom", 1e-4)]
        assert verdict_of(LAWS["rotation"], measured)["verdict"] == verdict


def test_twenty_standard_deviations_are_taken_for_noise():
    """σ of 1e-6 eV in two atoms, 2e-6 eV/Å and 3e-6 eV/Å³."""
    case = case_of(CRYSTAL, lambda atoms: said(atoms), noise=Noise(1e-6, 2e-6, 3e-6))
    found = compare(case, case.here, case.here)
    assert {m.quantity: m.error for m in found} == pytest.approx(
        {"energy": 1e-5, "forces": 4e-5, "stress": 6e-5}, rel=1e-12
    )
    twice = compare(case, case.here, case.here, growth=2.0)
    assert [m.error for m in twice] == pytest.approx([2e-5, 8e-5, 12e-5], rel=1e-12)


@pytest.mark.parametrize("s", [PAIR, CRYSTAL])
def test_fragments_are_fifty_angstrom_apart(s):
    """The nearest atoms of the two, whichever way they lie."""
    apart = []

    def fault(atoms) -> Result:
        a, b = np.split(atoms.positions, 2) if len(atoms) in (4, 16) else (np.zeros((1, 3)),) * 2
        apart.append(np.linalg.norm(a[:, None] - b[None], axis=-1).min())
        return said(atoms)

    for seed in range(4):
        LAWS["fragments"].measure(case_of(s, fault, np.random.default_rng(seed)))
        assert 50 < max(apart) < 75
        apart.clear()


def test_another_seed_draws_other_directions():
    """Forces that are wrong along x alone: by how much is a matter of the direction."""

    def fault(atoms) -> Result:
        return said(atoms, forces=np.array([[1e-3, 0, 0], [0, 0, 0]]))

    one, same_, other = (
        audit(Planted(fault), PAIR, laws=["forces"], seed=seed).records[0]["violation"]
        for seed in (3, 3, 4)
    )
    assert one == same_
    assert abs(one - other) > 1e-5


def test_the_bars_of_a_page_are_shares_of_the_threshold(tmp_path):
    """A push of 1e-7 eV/Å is a tenth of the threshold: 9 of the 13 decades that a bar has."""

    def fault(atoms) -> Result:
        return said(atoms, forces=np.array([[1e-7, 0, 0], [0, 0, 0]]))

    audit(Planted(fault), PAIR, laws=["net-force"], out=tmp_path)
    page = audit_page(tmp_path).read_text()
    assert "calc(100% * 10 / 13)" in page  # where the threshold is
    assert "--share:0.6923" in page


def test_dynamics_are_of_the_temperature():
    """Of v ~ √T, E = g x without forces gains √(1200 / 300) = 2 times as much."""

    def fault(atoms) -> Result:
        return said(atoms, 1e-5 * float(atoms.positions[0, 0] - atoms.positions[1, 0]))

    slow, fast = (
        audit(Planted(fault), PAIR, laws=["energy-drift"], temperature=t).records[0]["violation"]
        for t in (300.0, 1200.0)
    )
    assert fast == pytest.approx(2 * slow, rel=1e-3)
