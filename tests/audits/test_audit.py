"""Records, resuming, thresholds, and calculators that cannot do everything."""

import json
from dataclasses import replace

import numpy as np
import planted
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from brute_force import structure
from planted import CRYSTAL, MOLECULE, Planted

import kohn
from kohn.audits import NAMES, TABLE, smoothness
from kohn.audits.audit import verdict_of
from kohn.audits.case import Measurement, Noise
from kohn.audits.derivatives import noise_of
from kohn.errors import ConfigError, InputError
from kohn.numerics.derivatives import STEPS, extrapolated

FEW = ["translation", "forces", "smoothness", "net-force"]
BY_NAME = {law.name: law for law in TABLE}


def verdicts(audit) -> dict[str, str]:
    return {row["law"]: row["verdict"] for row in audit.rows}


# Real calculators


def copper(rattle: float = 0.05):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(rattle, seed=1)
    return atoms


@pytest.mark.slow
def test_emt_obeys_all_laws():
    audit = kohn.audit(EMT(), copper())
    assert audit.ok
    assert {k for k, v in verdicts(audit).items() if v == "not measured"} == {"net-torque"}
    assert sum(r["calls"] for r in audit.records) < 600


@pytest.mark.slow
def test_the_jump_of_lennard_jones_is_found():
    """ASE's default shifts the energy to zero at r_c, so that the force jumps there."""
    audit = kohn.audit(LennardJones(sigma=2.3, epsilon=0.1, rc=6.0), copper())
    assert audit.failed == ("smoothness",)
    (row,) = [r for r in audit.rows if r["law"] == "smoothness"]
    x = (2.3 / 6.0) ** 6
    jump = 24 * 0.1 * abs(2 * x * x - x) / 6.0
    assert f"F jumps by {jump:.2g} eV/Å at 6.000 Å, Cu–Cu alone" in row["note"]
    assert row["violation"] > 0.99 * jump


# Derivatives beside a jump

NEAR = [s * d for d in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2) for s in (-1, 1)]
"""Å between the length of a bond and the cutoff."""


def at_the_cutoff(apart: float):
    """A bond that is about as long as the cutoff, and one within."""
    along = np.array([2.0, 1.0, 2.0]) / 3
    return structure([[0, 0, 0], (planted.CUTOFF + apart) * along, [0, -2.2, 0.3]], [14, 8, 6])


@pytest.mark.slow
@pytest.mark.parametrize("power", [0, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_forces_beside_a_jump_are_not_wrong(power, seed):
    """Steps that cross the cutoff see the jump and not the derivative; smoothness fails."""
    found = kohn.audit(
        Planted(planted.cut(power)),
        [at_the_cutoff(x) for x in NEAR],
        laws=["forces", "smoothness"],
        seed=seed,
    )
    assert found.failed == ("smoothness",)
    measured = [r for r in found.records if r["law"] == "forces" and r["verdict"] == "passed"]
    assert len(measured) >= len(NEAR) // 2
    assert any("it jumps within the longer steps" in r["note"] for r in found.records)


def test_wrong_forces_beside_a_jump_are_wrong():
    found = kohn.audit(
        Planted(planted.scaled_and_cut), [at_the_cutoff(x) for x in NEAR], laws=["forces"]
    )
    failed = [r["verdict"] == "failed" for r in found.records]
    assert sum(failed) > len(NEAR) // 2


# Slabs


def slab(tilt: float = 0.0):
    cell = planted.CELL.copy()
    cell[2] = [tilt, -0.4, 12.0]
    return structure(planted.INSIDE @ planted.CELL, [14, 8, 6], cell, [True, True, False])


@pytest.mark.parametrize("tilt", [0.0, 3.0])
def test_the_stress_of_a_slab_is_measured_in_its_plane(tilt):
    (row,) = kohn.audit(Planted(planted.slab_stress()), slab(tilt), laws=["stress"]).rows
    assert row["verdict"] == "passed"
    (row,) = kohn.audit(Planted(planted.slab_stress(-1.0)), slab(tilt), laws=["stress"]).rows
    assert row["verdict"] == "failed"


def test_a_calculator_without_stress_of_slabs_is_not_measured():
    (row,) = kohn.audit(Planted(planted.honest), slab(), laws=["stress"]).rows
    assert (row["verdict"], row["note"]) == (
        "not measured",
        "the calculator gives no stress of slabs",
    )


# Calculators that lack something


@pytest.mark.slow
def test_no_stress_is_not_measured_and_the_rest_is():
    found = verdicts(kohn.audit(Planted(planted.honest, ("energy", "forces")), CRYSTAL))
    assert found["stress"] == "not measured"
    assert [law for law, v in found.items() if v == "not measured"] == ["stress", "net-torque"]


def test_no_forces_are_not_measured():
    found = verdicts(kohn.audit(Planted(planted.honest, ("energy",)), MOLECULE))
    need = {"forces", "jacobian", "loops", "smoothness", "net-force", "net-torque", "energy-drift"}
    assert {law for law in need if found[law] != "not measured"} == set()
    assert found["rotation"] == found["fragments"] == "passed"


@pytest.mark.slow
def test_what_is_raised_is_named_and_counted():
    audit = kohn.audit(Planted(planted.raising), [CRYSTAL, MOLECULE, CRYSTAL])
    found = verdicts(audit)
    assert audit.ok
    assert found["supercell"] == "not measured"
    assert found["rotation"] == "passed"
    assert audit.raised == {"ValueError: more than five atoms": 3}
    (record,) = [r for r in audit.records if r["law"] == "supercell" and r["index"] == 0]
    assert record["note"] == "the calculator raised ValueError: more than five atoms"


def test_a_structure_that_raises_leaves_the_others():
    crowd = structure(np.arange(18).reshape(6, 3) * 2.0)
    audit = kohn.audit(Planted(planted.raising), [crowd, MOLECULE], laws=FEW)
    assert all(row["verdict"] == "passed" and row["measured"] == 1 for row in audit.rows)


def test_a_calculator_that_computes_nothing_is_an_error():
    crowd = structure(np.arange(18).reshape(6, 3) * 2.0)
    with pytest.raises(InputError, match="more than five atoms"):
        kohn.audit(Planted(planted.raising), crowd, laws=FEW)


def test_one_atom():
    found = verdicts(kohn.audit(EMT(), structure([[0, 0, 0]], [29])))
    lone = {"permutation", "jacobian", "loops", "energy-drift"}
    assert all(found[law] == "not measured" for law in lone)
    assert found["smoothness"] == found["fragments"] == "passed"


@pytest.mark.slow
def test_what_gives_forces_of_crystals_only():
    """What needs clusters is asked for in a box, and says so; the next structure is asked anew."""

    class Periodic(Planted):
        def get_property(self, name, atoms=None, allow_calculation=True):
            if name == "forces" and not atoms.pbc.any():
                raise NotImplementedError("periodic systems only")
            return super().get_property(name, atoms, allow_calculation)

    audit = kohn.audit(Periodic(planted.honest), [CRYSTAL, MOLECULE, CRYSTAL])
    by_index = [{r["law"]: r["verdict"] for r in audit.records if r["index"] == k} for k in (0, 2)]
    for found in by_index:
        assert found["forces"] == found["energy-drift"] == "passed"
    smooth = next(r for r in audit.records if r["law"] == "smoothness")
    assert smooth["verdict"] == "passed"
    assert "C–C alone in a periodic box of 74 Å" in smooth["note"]
    assert [r["verdict"] for r in audit.records if r["law"] == "forces"][1] == "not measured"


def test_no_energy_is_an_error_with_its_reason():
    def refuse(atoms):
        raise NotImplementedError("charges are not supported")

    with pytest.raises(InputError, match="charges are not supported"):
        kohn.audit(Planted(refuse), MOLECULE)


def test_atoms_on_top_of_each_other():
    """The structure is no structure; whoever can compute it is audited all the same."""
    both = structure([[0, 0, 0], [0, 0, 0], [0, 0, 2.0]], [6, 6, 6], np.eye(3) * 9, True)

    def blind(atoms):
        n = len(atoms)
        return planted.Result(0.0, np.zeros((n, 3)), np.zeros((3, 3)))

    found = verdicts(kohn.audit(Planted(blind), both))
    assert found["fragments"] == "not measured"
    assert found["rotation"] == "passed"


def test_charged_structures_are_not_multiplied():
    ion = replace(MOLECULE, info={"charge": 1})
    (row,) = kohn.audit(Planted(planted.honest), ion, laws=["fragments"]).rows
    assert row["verdict"] == "not measured"
    assert "charge" in row["note"]


def test_the_free_energy_is_what_forces_belong_to():
    """Electrons with a temperature: `energy` is another one, and forces are not its slope."""

    class Smeared(Calculator):
        implemented_properties = ["energy", "free_energy", "forces"]

        def calculate(self, atoms=None, properties=(), system_changes=()):
            super().calculate(atoms, properties, system_changes)
            r = planted.honest(atoms)
            self.results = {"energy": 0.9 * r.energy, "free_energy": r.energy, "forces": r.forces}

    assert kohn.audit(Smeared(), MOLECULE, laws=["forces", "energy-drift"]).ok


# Records


@pytest.mark.slow
def test_an_audit_that_was_killed_goes_on_and_writes_the_same_bytes(tmp_path):
    both = [CRYSTAL, MOLECULE]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = kohn.audit(Planted(planted.chiral), both, laws=FEW, out=whole)
    text = (whole / "records.jsonl").read_bytes()

    class Killed(Exception):
        pass

    seen = []

    def kill(n: int) -> None:
        seen.append(n)
        if sum(seen) == 3:
            raise Killed

    with pytest.raises(Killed):
        kohn.audit(Planted(planted.chiral), both, laws=FEW, out=cut, advance=kill)
    part = (cut / "records.jsonl").read_bytes()
    assert text.startswith(part)
    assert part.count(b"\n") == 4
    (cut / "records.jsonl").write_bytes(part + b'{"law": "smoo')
    again = kohn.audit(Planted(planted.chiral), both, laws=FEW, out=cut)
    assert (cut / "records.jsonl").read_bytes() == text
    assert again.to_json() == first.to_json()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        kohn.audit(Planted(planted.axis), MOLECULE, laws=FEW, seed=seed, out=tmp_path / name)
    a, b, c = ((tmp_path / n / "records.jsonl").read_bytes() for n in "abc")
    assert a == b != c


def test_a_law_measures_the_same_alone_and_among_others():
    alone = kohn.audit(Planted(planted.axis), MOLECULE, laws=["rotation"])
    among = kohn.audit(Planted(planted.axis), MOLECULE)
    assert alone.records[0] == next(r for r in among.records if r["law"] == "rotation")


def test_a_folder_with_another_audit_is_refused(tmp_path):
    kohn.audit(Planted(planted.honest), MOLECULE, laws=FEW, out=tmp_path)
    with pytest.raises(InputError, match="belongs to another audit"):
        kohn.audit(Planted(planted.honest), MOLECULE, laws=FEW, seed=1, out=tmp_path)


def test_other_structures_under_the_same_name_are_another_audit(tmp_path):
    kohn.audit(Planted(planted.honest), MOLECULE, laws=FEW, out=tmp_path)
    moved = replace(MOLECULE, positions=MOLECULE.positions * 1.01)
    with pytest.raises(InputError, match="belongs to another audit"):
        kohn.audit(Planted(planted.honest), moved, laws=FEW, out=tmp_path)


def test_frames_are_evenly_spaced():
    audit = kohn.audit(Planted(planted.honest), [MOLECULE] * 9, laws=["net-force"], frames=3)
    assert audit.header["structures"] == [0, 4, 8]
    assert audit.rows[0]["structures"] == 3


def test_calls_are_counted():
    calls = []

    def counting(atoms):
        calls.append(1)
        return planted.honest(atoms)

    audit = kohn.audit(Planted(counting), MOLECULE, laws=["translation", "loops"])
    before = 1 + 9  # the structure itself, and the noise around it
    assert sum(r["calls"] for r in audit.records) == len(calls) - before


# Thresholds


def test_a_threshold_of_the_user_decides():
    fault = Planted(planted.scaled)
    assert kohn.audit(fault, MOLECULE, laws=["forces"]).failed == ("forces",)
    assert kohn.audit(fault, MOLECULE, laws=["forces"], thresholds={"forces": 10.0}).ok


def test_a_threshold_of_the_user_does_not_rise_with_noise():
    (row,) = kohn.audit(
        Planted(planted.single), MOLECULE, laws=["forces"], thresholds={"forces": 1e-9}
    ).rows
    assert row["verdict"] == "not measured"
    assert "uncertain" in row["note"]


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (1e-7, 0.0, "passed"),
        (2e-6, 0.0, "failed"),
        (2e-6, 3e-6, "passed"),  # noise could be it
        (2e-6, 2e-3, "not measured"),  # noise beyond the ceiling
        (1.0, 2e-3, "failed"),  # beyond any noise
    ],
)
def test_verdicts(value, error, verdict):
    measured = [Measurement("energy", value, "eV/atom", error)]
    assert verdict_of(BY_NAME["rotation"], measured)["verdict"] == verdict


def test_thresholds_are_ordered_and_explained():
    for law in TABLE:
        assert law.reason
        assert law.breaks
        assert law.threshold is None or law.threshold <= law.ceiling


# Numerics


def path_of(function) -> smoothness.Path:
    return smoothness.Path(function, lambda u: 1.0 + 0.1 * u, 60, "test")


@pytest.mark.parametrize("place", [2.0, 2.05, 3.333, 5.5])
@pytest.mark.parametrize(("power", "size"), [(0, 1e-4), (1, 1e-3), (2, 0.05)])
def test_jumps_are_found_anywhere(place, power, size):
    """On a smooth curve with values of 1, a jump of this size in a derivative."""

    def at(t):
        over = max(t - place, 0.0)
        step = float(t > place)
        energy = np.sin(t) + size * (step, over, over**2 / 2)[power]
        slope = np.cos(t) + size * (0.0, step, over)[power]
        return float(energy), float(-slope)

    found = smoothness.jumps(path_of(at), Noise(1e-15, 1e-15, 0.0))
    worst = max(found, key=lambda m: m.value)
    assert worst.quantity == f"jump in {('E', 'F', 'dF/dr')[power]}"
    assert worst.value == pytest.approx(size * smoothness.SCALES[power], rel=0.02)
    assert worst.error < 0.1 * worst.value


@pytest.mark.parametrize("steepness", [0.5, 2.0, 8.0])
def test_curvature_is_no_jump(steepness):
    def at(t):
        x = np.tanh(steepness * (t - 3.3))
        return float(x + t**-6), float(-steepness * (1 - x * x) + 6 * t**-7)

    path = path_of(at)
    found = smoothness.jumps(path, Noise(1e-15, 1e-15, 0.0))
    assert all(m.value <= max(m.error, 2e-5) for m in found)
    assert len(path.known) < 130


def test_noise_is_measured():
    rng = np.random.default_rng(1)

    def rough(atoms):
        return planted.plus(planted.honest(atoms), 1e-5 * rng.normal())

    from kohn.audits.counted_calculator import CountedCalculator

    found = [noise_of(CountedCalculator(Planted(rough)), MOLECULE).energy for _ in range(20)]
    assert np.median(found) == pytest.approx(1e-5, rel=0.5)
    assert noise_of(CountedCalculator(Planted(planted.honest)), MOLECULE).energy < 1e-13


def test_differences_say_how_wrong_they_are():
    rng = np.random.default_rng(0)
    for noise in (0.0, 1e-12, 1e-8, 1e-6):
        for _ in range(50):
            a, b = rng.normal(size=2) * 2

            def f(x, a=a, b=b, noise=noise):
                return np.sin(a + b * x) + 0.3 * np.exp(a * x) + noise * rng.normal()

            d = [(f(h) - f(-h)) / (2 * h) for h in STEPS]
            value, error = extrapolated(d, STEPS, noise)
            assert abs(value - b * np.cos(a) - 0.3 * a) < error + 1e-11


# Bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"laws": ["rotatoin"]}, "did you mean 'rotation'"),
        ({"laws": []}, "no law is named"),
        ({"thresholds": {"spin": 1.0}}, "there is no law 'spin'"),
        ({"thresholds": {"rotation": -1.0}}, "not a threshold"),
        ({"thresholds": {"short-range": 1.0}}, "diagnostic"),
        ({"frames": 0}, "too few frames"),
        ({"temperature": 0.0}, "not a temperature"),
    ],
)
def test_bad_settings(options, said):
    with pytest.raises(ConfigError, match=said):
        kohn.audit(Planted(planted.honest), MOLECULE, **options)


def test_what_is_no_calculator():
    with pytest.raises(InputError, match="make an instance of the class"):
        kohn.audit(EMT, MOLECULE)
    with pytest.raises(InputError, match="not an ASE calculator"):
        kohn.audit("EMT", MOLECULE)


def test_the_room_and_the_function_have_one_name():
    import kohn.audits.laws

    assert kohn.audit(Planted(planted.honest), MOLECULE, laws=["net-force"]).ok
    assert json.dumps(kohn.audits.NAMES) == json.dumps(NAMES)
