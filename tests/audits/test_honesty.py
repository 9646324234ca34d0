"""The audit accuses nobody falsely, and passes nothing on half a measurement."""

import numpy as np
import planted
import pytest
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.stress import voigt_6_to_full_3x3_stress
from brute_force import structure
from planted import CRYSTAL, MOLECULE, Planted

import kohn
from kohn.audits import TABLE
from kohn.audits.audit import verdict_of
from kohn.audits.case import Measurement, not_measured
from kohn.audits.counted_calculator import CountedCalculator
from kohn.audits.derivatives import noise_of
from kohn.errors import InputError
from kohn.numerics.derivatives import slope
from kohn.numerics.noise import scatter

BY_NAME = {law.name: law for law in TABLE}
DENSE = structure(
    2.4 * np.argwhere(np.ones((3, 2, 2))) + np.random.default_rng(5).normal(size=(12, 3)) * 0.1,
    [14, 8, 6, 7] * 3,
    np.diag([7.2, 4.8, 4.8]),
    True,
)
"""Twelve atoms whose forces nearly cancel."""
AT_REST = structure([[0, 0, 0], [2.2, 0, 0.001], [1.1, 1.9, 0]], [14, 8, 6])
STRUCTURES = {"crystal": CRYSTAL, "molecule": MOLECULE, "dense": DENSE, "at rest": AT_REST}


def records(calculator, s, *laws: str, seed: int = 0) -> dict[str, dict]:
    found = kohn.audit(calculator, s, laws=laws or None, seed=seed)
    return {r["law"]: r for r in found.records}


# float32


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("per_atom", [0.0, -4209.0 / 12])
@pytest.mark.parametrize("rounding", [planted.float32, planted.scattered])
def test_rounding_to_float32_breaks_no_law(name, per_atom, rounding):
    """With a total of −4209 eV, float32 tells 0.0005 eV apart, more than small steps change."""
    calculator = Planted(rounding(planted.honest, per_atom))
    derivatives = ("forces", "stress", "jacobian", "loops")
    for seed in range(7):
        found = kohn.audit(calculator, STRUCTURES[name], laws=derivatives, seed=seed)
        assert found.ok, found


@pytest.mark.slow
@pytest.mark.parametrize("per_atom", [0.0, -300.0])
def test_rounding_breaks_none_of_the_other_laws(per_atom):
    calculator = Planted(planted.float32(planted.honest, per_atom))
    assert kohn.audit(calculator, [CRYSTAL, AT_REST]).ok


CAUGHT = {
    "axis": {"rotation", "reflection"},
    "scaled": {"forces"},
    "one_sided": {"forces", "loops", "net-force"},  # the noise hides its Jacobian
    "swirl": {"rotation", "reflection", "forces", "jacobian", "loops"},
    "stress_sign": {"stress"},
    "sorted_forces": {"permutation", "forces", "jacobian", "loops"},
}


@pytest.mark.parametrize("name", CAUGHT)
def test_lawless_calculators_are_caught_in_float32_too(name):
    calculator = Planted(planted.float32(getattr(planted, name)))
    laws = sorted(set().union(*CAUGHT.values()))
    failed = set(kohn.audit(calculator, CRYSTAL, laws=laws).failed)
    assert failed == CAUGHT[name]


def test_noise_of_energies_that_do_not_change():
    """Each of the nine is the same number, rounded to 0.0005 eV, and the noise is not nothing."""
    for fault in (
        planted.float32(planted.honest, -4209.0 / 3),
        # The same, in numbers that are not float32.
        lambda atoms: planted.plus(planted.float32(planted.honest, -1403.0)(atoms), np.pi),
    ):
        noise = noise_of(CountedCalculator(Planted(fault)), AT_REST)
        assert 1e-4 < noise.energy < 1e-3
    assert scatter(np.arange(9.0) + np.pi) < 1e-14
    assert noise_of(CountedCalculator(Planted(planted.honest)), AT_REST).energy < 1e-13


def test_noise_beyond_what_was_measured_needs_a_witness():
    """Ten times the noise that was stated: in one of forty lines one set of steps agrees by chance
    on a wrong slope. What is wrong by seven times the noise is still seen."""
    rng = np.random.default_rng(0)

    def seen(noise: float, wrong: float) -> bool:
        a, b, c = rng.normal(size=3)

        def f(t: float) -> float:
            return np.sin(a + b * t) + c * t**3 + noise * rng.normal()

        found = slope(f, b * np.cos(a) + wrong, 1e-6)
        return abs(found.wrong) > max(found.error, 1e-5)

    assert not any(seen(1e-5, 0.0) for _ in range(600))
    assert np.mean([seen(1e-6, 3e-3) for _ in range(200)]) > 0.95


# Parts


def test_a_law_passes_when_all_its_parts_were_measured():
    law = BY_NAME["rotation"]
    good, gone = Measurement("energy", 1e-9, "eV/atom"), not_measured("forces", "there are none")
    noisy = Measurement("forces", 1e-9, "eV/Å", error=1.0)
    assert verdict_of(law, [good])["verdict"] == "passed"
    for missing in (gone, noisy):
        said = verdict_of(law, [good, missing])
        assert said["verdict"] == "not measured"
        assert said["note"].startswith("only in part (energy); not measured: forces: ")
        assert said["parts"]["energy"] == "measured"
        assert said["parts"]["forces"] != "measured"
        bad = verdict_of(law, [Measurement("energy", 1.0, "eV/atom"), missing])
        assert (bad["verdict"], bad["parts"]["energy"]) == ("failed", "measured")
        assert "not measured: forces" in bad["note"]


class NoPairs(Planted):
    """Of two atoms alone, or of clusters, it knows nothing."""

    def __init__(self, least: int):
        super().__init__(planted.honest)
        self.least = least

    def calculate(self, atoms=None, *others, **options):
        if len(atoms) < self.least:
            raise ValueError("too few atoms")
        super().calculate(atoms, *others, **options)


def test_smoothness_of_one_path_is_not_smoothness():
    r = records(NoPairs(9), DENSE, "smoothness")["smoothness"]
    assert r["verdict"] == "not measured"
    assert r["note"].startswith("only in part (atom ")
    assert "C–C alone: ValueError: too few atoms" in r["note"]
    assert sorted(r["parts"].values()) == ["ValueError: too few atoms"] * 2 + ["measured"]


def test_forces_of_one_of_two_structures_are_half_a_law():
    class Whole(Planted):
        def get_property(self, name, atoms=None, allow_calculation=True):
            if name == "forces" and len(atoms) > 4:
                raise PropertyNotImplementedError("forces")
            return super().get_property(name, atoms, allow_calculation)

    r = records(Whole(planted.honest), CRYSTAL, "supercell")["supercell"]
    assert r["verdict"] == "not measured"
    assert "forces: the calculator gives no forces" in r["note"]


# What is refused in vacuum


class Periodic(Planted):
    """Molecules are refused, in every way there is."""

    def __init__(self, fault=planted.honest):
        super().__init__(fault)

    def calculate(self, atoms=None, *others, **options):
        if not atoms.pbc.all():
            raise ValueError("periodic boundaries are needed")
        super().calculate(atoms, *others, **options)


@pytest.mark.slow
def test_what_refuses_molecules_is_asked_in_a_box():
    found = records(Periodic(), CRYSTAL)
    assert {law for law, r in found.items() if r["verdict"] == "not measured"} == {"net-torque"}
    for law in ("fragments", "smoothness", "short-range", "dissociation"):
        assert "in a periodic box of " in found[law]["note"], law
    assert "C–C alone in a periodic box" in found["smoothness"]["note"]


@pytest.mark.parametrize(
    ("fault", "law"), [(planted.cut(1), "smoothness"), (planted.constant, "fragments")]
)
def test_in_a_box_laws_fail_as_in_vacuum(fault, law):
    assert records(Periodic(fault), CRYSTAL, law)[law]["verdict"] == "failed"


# Orders


@pytest.mark.parametrize("names", [("stress",), ("forces",), ("energy",), ("energy", "forces")])
def test_what_is_kept_from_another_structure_fails(names):
    r = records(planted.Stale(*names), CRYSTAL, "determinism")["determinism"]
    assert r["verdict"] == "failed"
    if "stress" in names:
        assert r["quantity"] == "stress"


@pytest.mark.parametrize("names", [("forces",), ("energy",)])
def test_the_same_of_molecules(names):
    found = records(planted.Stale(*names), MOLECULE, "determinism")
    assert found["determinism"]["verdict"] == "failed"


# Errors


def test_the_error_that_came_first_is_shown():
    """ASE keeps the atoms of a calculation that failed, and EMT then falls over itself."""
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[0] = 94
    with pytest.raises(InputError, match="received: NotImplementedError: No EMT-potential for Pu"):
        kohn.audit(EMT(), atoms)


def test_the_cause_of_an_error_is_shown_first():
    def failing(atoms):
        try:
            raise ValueError("no such element")
        except ValueError as error:
            raise RuntimeError("calculation failed") from error

    said = "ValueError: no such element; then RuntimeError: calculation failed"
    with pytest.raises(InputError, match=said):
        kohn.audit(Planted(failing), MOLECULE)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("stress", np.zeros(9), r"stress of the shape \(9,\), expected \(6,\), Voigt's xx yy zz"),
        ("stress", np.zeros((1, 3, 3)), r"stress of the shape \(1, 3, 3\)"),
        ("forces", np.zeros(9), r"forces of the shape \(9,\), expected \(3, 3\)"),
        ("energy", np.zeros(3), r"energy of the shape \(3,\), expected a number"),
    ],
)
def test_a_wrong_shape_is_named(name, value, said):
    class Other(Planted):
        def get_property(self, asked, atoms=None, allow_calculation=True):
            found = super().get_property(asked, atoms, allow_calculation)
            return value if asked == name else found

    with pytest.raises(InputError, match=said):
        kohn.audit(Other(planted.honest), CRYSTAL)


def test_a_calculator_that_leaves_is_an_error():
    def leaving(atoms):
        raise SystemExit(3)

    with pytest.raises(InputError, match="SystemExit: 3"):
        kohn.audit(Planted(leaving), MOLECULE)


# Slabs and wires


def slab(periodic):
    cell = np.array([[3.1, 0.2, -0.3], [0.9, 3.4, 0.4], [3.0, -0.4, 12.0]])
    if sum(periodic) == 1:
        cell[1] = [0.5, 14.0, 0.3]
    return structure(planted.INSIDE @ planted.CELL, [14, 8, 6], cell, periodic)


@pytest.mark.parametrize("periodic", [[True, True, False], [True, False, False]])
def test_stress_is_compared_along_what_is_periodic(periodic):
    """What a calculator says of the rest has no meaning: here it is that of the atoms' places."""

    def with_rest(change):
        def fault(atoms):
            r = planted.slab_stress(change, least=1)(atoms)
            if atoms.pbc.all() or r.stress is None:
                return r
            q = np.linalg.qr(atoms.cell.array[atoms.pbc].T)[0]
            p = np.eye(3) - q @ q.T
            rest = np.diag([atoms.positions[:, 0].sum(), 2.0, 3.0])
            return planted.plus(r, stress=rest - q @ q.T @ rest @ q @ q.T + 0 * p)

        return Planted(fault)

    laws = ("translation", "rotation", "lattice-shift", "supercell", "determinism", "stress")
    found = records(with_rest(1.0), slab(periodic), *laws)
    assert {r["verdict"] for r in found.values()} == {"passed"}
    assert "stress" in found["rotation"]["parts"]
    assert records(with_rest(-1.0), slab(periodic), "stress")["stress"]["verdict"] == "failed"


def test_a_slab_whose_stress_is_refused_is_audited_without():
    def refusing(atoms):
        return planted.honest(atoms)

    class NoSlabs(Planted):
        def get_stress(self, atoms=None):
            if not atoms.pbc.all():
                raise ValueError("no stress without a volume")
            return super().get_stress(atoms)

    found = records(NoSlabs(refusing), slab([True, True, False]), "rotation", "stress")
    assert found["rotation"]["verdict"] == "passed"
    assert found["stress"]["note"] == (
        "the calculator gives no stress of slabs: ValueError: no stress without a volume"
    )


def test_a_stress_that_is_not_symmetric_fails():
    """ASE's `get_stress` would average it away."""

    class Skewed(Planted):
        def get_stress(self, atoms=None):
            s = voigt_6_to_full_3x3_stress(super().get_stress(atoms))
            s[0, 1] += 1e-3
            return s

    r = records(Skewed(planted.honest), CRYSTAL, "stress")["stress"]
    assert (r["verdict"], r["quantity"]) == ("failed", "asymmetry of the stress")
