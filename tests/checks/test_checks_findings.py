"""Every kind of finding has a planted file that it catches, and a clean one that it passes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kohn.checks import KINDS, check, refuse_varying_charge
from kohn.errors import CheckFailed, InputError
from kohn.structures import Dataset, Structure, UnreadFile, read, write
from kohn.units import BOHR, GPA, HARTREE, KBAR, KCAL_PER_MOL

DATA = Path(__file__).parents[1] / "data"
ETHANOL = read(DATA / "ethanol.extxyz")
E0S = {"H": -13.58, "C": -1029.5, "O": -2042.0}


def scaled(data: Dataset, **factors: float) -> Dataset:
    """The data with labels multiplied."""
    return changed(
        data, lambda s: s.with_labels(**{k: s.labels[k] * f for k, f in factors.items()})
    )


def changed(data: Dataset, change, only=None) -> Dataset:
    """The data with all frames changed, or those with the indices in `only`."""
    frames = [change(s) if only is None or k in only else s for k, s in enumerate(data.structures)]
    return replace(data, structures=tuple(frames))


def squeezed(s: Structure) -> Structure:
    positions = s.positions.copy()
    positions[1] = positions[0] + [0.1, 0.0, 0.0]
    return replace(s, positions=positions)


def turned(s: Structure) -> Structure:
    forces = s.labels["forces"][:, [1, 2, 0]]
    return replace(s, positions=s.positions[:, [1, 2, 0]]).with_labels(forces=forces)


def shortened(s: Structure) -> Structure:
    positions = s.positions.copy()
    positions[1] = positions[0] + 0.5 * (positions[1] - positions[0])
    return replace(s, positions=positions)


def flipped(s: Structure) -> Structure:
    return replace(s, cell=s.cell[[1, 0, 2]])


def shuffled(data: Dataset) -> Dataset:
    """Each frame has the forces of another one."""
    forces = [s.labels["forces"] for s in data]
    frames = [s.with_labels(forces=forces[k - 7]) for k, s in enumerate(data)]
    return replace(data, structures=tuple(frames))


def renamed(old: str, new: str) -> str:
    return (DATA / "ethanol.extxyz").read_text().replace(old, new)


def atom(number: int, energy: float) -> Structure:
    return Structure(
        np.array([number], np.int32),
        np.zeros((1, 3)),
        np.zeros((3, 3)),
        np.zeros(3, dtype=bool),
        {"energy": np.array(energy)},
    )


ATOMS = tuple(atom(z, e) for z, e in ((1, -13.58), (6, -1029.5), (8, -2042.0)))

# kind -> (severity, what it is planted in); text is read from a file.
MOLECULES = {
    "no-labels": ("error", renamed("REF_", "my_")),
    "partial-labels": (
        "error",
        changed(ETHANOL, lambda s: s.with_labels(forces=None), range(10, 15)),
    ),
    "nonfinite-label": (
        "error",
        changed(ETHANOL, lambda s: s.with_labels(energy=np.array(np.nan)), [7]),
    ),
    "nearly-right-key": ("error", renamed("REF_energy", "REF_enery")),
    "unread-key": ("note", renamed("REF_energy", "MD17_energy=1 REF_energy")),
    "assumed-unit": ("warning", renamed("REF_energy", 'mu="1 2 3" REF_energy')),
    "free-energy": (
        "warning",
        changed(ETHANOL, lambda s: s.with_labels(free_energy=s.labels["energy"] - 0.1)),
    ),
    "energy-units": ("error", scaled(ETHANOL, energy=1 / KCAL_PER_MOL)),
    "force-units": ("error", scaled(ETHANOL, forces=1 / KCAL_PER_MOL)),
    "force-sign": ("error", scaled(ETHANOL, forces=-1)),
    "zero-forces": ("warning", scaled(ETHANOL, forces=0)),
    "energy-force-inconsistent": ("warning", shuffled(ETHANOL)),
    "duplicate-within": ("warning", ETHANOL.select([*range(60), 3])),
    "duplicate-between": ("error", {"train": ETHANOL[:40], "test": ETHANOL[39:]}),
    "equivalent-between": (
        "warning",
        {"train": ETHANOL[:40], "test": changed(ETHANOL[39:], turned, [0])},
    ),
    "contradictory-labels": (
        "error",
        Dataset((*ETHANOL, ETHANOL[3].with_labels(energy=ETHANOL[3].labels["energy"] + 1))),
    ),
    "outlier-energy": (
        "warning",
        changed(ETHANOL, lambda s: s.with_labels(energy=s.labels["energy"] + 9), [5]),
    ),
    "outlier-force": (
        "warning",
        changed(ETHANOL, lambda s: s.with_labels(forces=s.labels["forces"] * 80), [5]),
    ),
    "short-distance": ("error", changed(ETHANOL, squeezed, [5])),
    "periodic-zero-cell": (
        "error",
        changed(ETHANOL, lambda s: replace(s, periodic=np.ones(3, dtype=bool)), [2]),
    ),
    "varying-charge": (
        "error",
        changed(ETHANOL, lambda s: replace(s, info={"charge": 1}), [2]),
    ),
    "single-composition-e0s": ("warning", ETHANOL),
    "fitted-e0s": ("warning", Dataset((*ETHANOL, *ATOMS[:1]))),
    "inconsistent-e0s": (
        "warning",
        Dataset((*ETHANOL, *(a.with_labels(energy=a.labels["energy"] / 27.2) for a in ATOMS))),
    ),
    "reference-energies": ("error", Dataset((*ETHANOL, ATOMS[0], atom(1, -12.0)))),
    "too-few-frames": ("warning", ETHANOL[:5]),
    "file-left-out": (
        "warning",
        replace(ETHANOL, unread=(UnreadFile("x.xyz", "broken", broken=True),)),
    ),
    "unseen-element": (
        "error",
        {
            "train": ETHANOL[:40],
            "test": changed(ETHANOL[40:], lambda s: replace(s, numbers=s.numbers + 1)),
        },
    ),
}
CRYSTALS = {
    "stress-units": ("error", lambda data: scaled(data, stress=1 / KBAR)),
    "stress-sign": ("error", lambda data: scaled(data, stress=-1)),
    "left-handed-cell": ("note", lambda data: changed(data, flipped, [1])),
}


@pytest.fixture(scope="module")
def clean(crystals):
    """Reports of clean data: molecules in two sets with isolated atoms, and crystals."""
    sets = {"train": Dataset((*ETHANOL[:40], *ATOMS)), "test": ETHANOL[40:]}
    return [check(sets), check(crystals(), e0s={"Cu": 0.0})]


def planted(kind, crystals, tmp_path):
    if kind in CRYSTALS:
        severity, plant = CRYSTALS[kind]
        return severity, check(plant(crystals()), e0s={"Cu": 0.0})
    severity, data = MOLECULES[kind]
    if isinstance(data, str):
        path = tmp_path / "planted.extxyz"
        path.write_text(data)
        data = path
    return severity, check(data)


def test_every_kind_is_in_the_table():
    assert set(MOLECULES) | set(CRYSTALS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_planted_is_caught_and_clean_passes(kind, clean, crystals, tmp_path):
    severity, report = planted(kind, crystals, tmp_path)
    found = report.of_kind(kind)
    assert found
    assert found[0].severity == severity
    assert found[0].fix
    assert report.ok == (not any(f.severity == "error" for f in report.findings))
    for other in clean:
        assert not other.of_kind(kind)


def test_clean_data_have_no_findings(clean):
    for report in clean:
        assert [f for f in report.findings] == []
        assert report.ok
        report.raise_if_failed()


@pytest.mark.parametrize("kind", ["energy-units", "short-distance", "duplicate-between"])
def test_overrides_are_recorded(kind):
    data = MOLECULES[kind][1]
    report = check(data, allow=(kind,))
    (found,) = report.of_kind(kind)
    assert (found.severity, found.overridden) == ("warning", True)
    assert report.overrides == (kind,)
    assert report.ok
    with pytest.raises(InputError, match="did you mean 'energy-units'"):
        check(data, allow=("energy-unit",))


def test_failed_check_says_everything():
    with pytest.raises(CheckFailed) as caught:
        check(scaled(ETHANOL, energy=1 / KCAL_PER_MOL)).raise_if_failed()
    text = str(caught.value)
    for word in ("energy-units", "kcal/mol", "convert", "allow"):
        assert word in text
    assert caught.value.exit_code == 1


def test_short_but_possible_distances_warn():
    (found,) = check(changed(ETHANOL, shortened, [5])).of_kind("short-distance")
    assert found.severity == "warning"
    assert found.where[0].frame == 5


def test_charge_is_refused_by_a_function_too():
    refuse_varying_charge(ETHANOL.structures)
    neutral = changed(ETHANOL, lambda s: replace(s, info={"charge": 0}), [2])
    refuse_varying_charge(neutral.structures)
    charged = changed(ETHANOL, lambda s: replace(s, info={"total_charge": 1}))
    refuse_varying_charge(charged.structures)
    for info in ({"charge": 1}, {"spin_multiplicity": 3}, {"total_spin": 2}):
        varying = changed(ETHANOL, lambda s, info=info: replace(s, info=info), [2])
        with pytest.raises(InputError, match="differs between frames"):
            refuse_varying_charge(varying.structures)


KCAL, HA = 1 / KCAL_PER_MOL, 1 / HARTREE


@pytest.mark.parametrize(
    ("factors", "kinds"),
    [
        ({"energy": KCAL}, {"energy-units"}),
        ({"energy": KCAL, "forces": KCAL}, {"energy-units", "force-units"}),
        ({"forces": KCAL}, {"force-units"}),
        ({"energy": HA}, {"energy-units"}),
        ({"energy": HA, "forces": HA * BOHR}, {"energy-units", "force-units"}),
        ({"forces": HA * BOHR}, {"force-units"}),
        ({"forces": -1}, {"force-sign"}),
    ],
)
def test_units_of_molecules_rest_on_two_observations(factors, kinds):
    report = check(scaled(ETHANOL, **factors))
    errors = {f.kind: f for f in report.findings if f.severity == "error"}
    assert set(errors) == kinds
    assert all(len(f.evidence) >= 2 for f in errors.values())


@pytest.mark.parametrize(
    ("factors", "kinds"),
    [
        ({"stress": 1 / GPA}, {"stress-units"}),
        ({"stress": 1 / KBAR}, {"stress-units"}),
        ({"stress": -1 / KBAR}, {"stress-units", "stress-sign"}),
        ({"stress": -1}, {"stress-sign"}),
        ({"energy": KCAL}, {"energy-units"}),
        ({"energy": HA}, {"energy-units"}),
    ],
)
def test_units_of_crystals_rest_on_two_observations(factors, kinds, crystals):
    report = check(scaled(crystals(80), **factors), e0s={"Cu": 0.0})
    errors = {f.kind: f for f in report.findings if f.severity == "error"}
    assert set(errors) == kinds
    assert all(len(f.evidence) >= 2 for f in errors.values())


def test_one_observation_only_warns():
    """Energies alone, on the all-electron scale of hartree, are one observation."""
    data = changed(scaled(ETHANOL, energy=HA), lambda s: s.with_labels(forces=None))
    (found,) = check(data).of_kind("energy-units")
    assert found.severity == "warning"
    assert len(found.evidence) == 1


def test_a_factor_that_no_unit_has_is_not_called_a_unit():
    report = check(scaled(ETHANOL, forces=6.0))
    (found,) = report.of_kind("energy-force-inconsistent")
    assert found.severity == "warning"
    assert report.ok
    assert not report.of_kind("force-units") + report.of_kind("energy-units")


def test_real_silicon_passes():
    report = check(DATA / "silicon.extxyz")
    assert report.ok
    assert {f.kind for f in report.findings} <= {
        "fitted-e0s",
        "too-few-frames",
        "duplicate-within",
    }


def test_written_and_checked_again(tmp_path):
    write(ETHANOL, tmp_path / "x.extxyz")
    assert check(tmp_path / "x.extxyz").ok


def test_two_files_with_different_keys_are_both_checked(tmp_path):
    path = tmp_path / "other.extxyz"
    path.write_text(renamed("REF_energy", "REF_enery"))
    report = check({"train": DATA / "ethanol.extxyz", "valid": path})
    assert report.of_kind("nearly-right-key")[0].where[0].file == str(path)


def test_copies_say_nothing_of_energies_and_forces():
    twice = replace(ETHANOL, structures=ETHANOL.structures[:12] * 2)
    assert check(twice, e0s=E0S).of_kind("energy-force-inconsistent") == ()


def test_findings_on_numbers_name_the_file():
    (found,) = check(scaled(ETHANOL, energy=1 / KCAL_PER_MOL)).of_kind("energy-units")
    assert str(found.where[0]) == str(DATA / "ethanol.extxyz")


def test_unread_keys_are_named_where_there_are_no_labels(tmp_path):
    path = tmp_path / "data.xyz"
    text = (DATA / "ethanol.extxyz").read_text()
    path.write_text(text.replace("REF_energy", "my_e").replace("REF_forces", "my_f"))
    (found,) = check(path).of_kind("no-labels")
    assert "my_e, my_f" in found.fix
