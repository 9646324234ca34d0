"""The numbers of a check's report, by hand."""

import numpy as np
import pytest
from brute_force import structure
from rich.console import Console

from kohn.checks import check
from kohn.checks.neighbouring_frames import frame_pairs
from kohn.structures import Dataset, Structure


def crystal(energy: float, force: float, stress: float, side: float) -> Structure:
    s = structure([[0, 0, 0], [2.0, 0, 0]], [14, 8], side * np.eye(3), True)
    forces = np.outer([1, -1], [0.6 * force, 0.8 * force, 0])
    return s.with_labels(energy=np.array(energy), forces=forces, stress=stress * np.eye(3))


@pytest.fixture(scope="module")
def report():
    atom = structure([[0, 0, 0]], [8]).with_labels(energy=np.array(-430.0))
    data = Dataset((crystal(-436, 3.0, 0.01, 5.0), crystal(-438, -4.0, -0.03, 6.0), atom))
    return check(data, e0s={"Si": -5.0, "O": -430.0})


def test_a_summary_counts_and_measures(report):
    (s,) = report.sets
    assert (s.frames, s.isolated_atoms, s.atoms) == (3, 1, (1, 2))
    assert s.elements == {"O": (3, 3), "Si": (2, 2)}
    assert s.periodic == {0: 1, 3: 2}
    assert s.volume_per_atom == pytest.approx((62.5, 108.0), rel=1e-12)
    assert s.labels == {"energy": 3, "forces": 2, "stress": 2}
    assert s.largest_force == pytest.approx(4.0, abs=1e-12)
    assert s.shortest["O-Si"][0] == pytest.approx(2.0, abs=1e-12)


def test_statistics_are_of_frames_without_isolated_atoms(report):
    """−0.5 and −1.5 eV/atom; forces of 3 and 4 along (0.6, 0.8, 0); stresses of 3, −9 and zeros."""
    (s,) = report.sets
    e, f, p = s.energy_per_atom, s.forces, s.stress
    assert (e.mean, e.standard_deviation) == pytest.approx((-1.0, 0.5), abs=1e-12)
    assert (e.minimum, e.maximum) == pytest.approx((-1.5, -0.5), abs=1e-12)
    assert e.root_mean_square == pytest.approx(1.25**0.5, abs=1e-12)
    assert (f.mean, f.minimum, f.maximum) == pytest.approx((0, -3.2, 3.2), abs=1e-12)
    assert f.root_mean_square == pytest.approx((50 / 12) ** 0.5, abs=1e-12)
    assert p.mean == pytest.approx(3 * (0.01 - 0.03) / 18, abs=1e-12)
    assert (p.minimum, p.maximum) == (-0.03, 0.01)


def test_the_table_has_stresses_in_gpa(report):
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report)
    rows = [line.split() for line in console.export_text().splitlines()]
    energy, forces, stress = (
        next(r for r in rows if r[:2] == ["data", name]) for name in ("energy", "forces", "stress")
    )
    assert energy[2:5] == ["3", "of", "3"]
    assert energy[-7:] == ["-1.000", "0.500", "-1.500", "-0.500", "eV/atom", "above", "E0"]
    assert forces[-4:] == ["2.041", "-3.200", "3.200", "eV/Å"]  # √(50/12)
    # −0.02/6 eV/Å³; √((3 · 10⁻⁴ + 27 · 10⁻⁴)/18 − mean²) = 0.01247; times 160.22
    assert stress[-5:] == ["-0.534", "1.998", "-4.807", "1.602", "GPa"]


# Pairs of frames


def spring(r: float) -> Structure:
    """E = ½ k (r − 1)² with k = 5 eV/Å²."""
    s = structure([[0, 0, 0], [r, 0, 0]], [14, 8])
    f = 5.0 * (r - 1.0)
    forces = np.array([[f, 0, 0], [-f, 0, 0]])
    return s.with_labels(energy=np.array(2.5 * (r - 1.0) ** 2), forces=forces)


def test_pairs_of_a_spring():
    """From 1.0 to 1.1 Å both atoms move by 0.05 Å: ΔE = 25 meV, and −ΔF · dx / dx² = 2 k."""
    found = frame_pairs([spring(1.0), spring(1.1), spring(1.3)])
    order = np.argsort(found.distance)
    np.testing.assert_allclose(found.distance[order], [0.05, 0.1], atol=1e-12)
    np.testing.assert_allclose(np.abs(found.energy[order]), [0.025, 0.2], atol=1e-12)
    np.testing.assert_allclose(found.work, found.energy, atol=1e-12)  # exact of springs
    np.testing.assert_allclose(found.curvature, 10.0, atol=1e-9)
    np.testing.assert_array_equal(found.strain_work, 0.0)


def elastic(e: float) -> Structure:
    """E = ½ · 27 Å³ · 9 K e² with K = 0.4 eV/Å³ under an isotropic strain e of 27 Å³."""
    side = 3.0 * (1 + e)
    s = structure([[0, 0, 0], [side / 2] * 3], [14, 8], side * np.eye(3), True)
    stress = 27.0 * 3 * 0.4 * e / side**3 * (1 + e) * np.eye(3)
    energy = 0.5 * 27.0 * 9 * 0.4 * e**2
    return s.with_labels(energy=np.array(energy), forces=np.zeros((2, 3)), stress=stress)


def test_pairs_of_a_strained_crystal():
    """V σ : ε is dE, up to the strain of 1 % in it; nothing moves within the cell."""
    found = frame_pairs([elastic(0.0), elastic(0.01), elastic(0.03)])
    order = np.argsort(found.strain)
    np.testing.assert_allclose(found.strain[order], [0.01 / 1.005, 0.02 / 1.02], rtol=1e-9)
    np.testing.assert_allclose(np.abs(found.energy[order]), [0.00486, 0.03888], rtol=1e-9)
    np.testing.assert_allclose(found.strain_work, found.energy, rtol=0.0101)
    np.testing.assert_allclose(found.distance, 0.0, atol=1e-12)
