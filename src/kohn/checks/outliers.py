"""Find frames whose energies or forces are far from those of all other frames."""

from collections.abc import Sequence

import numpy as np

from kohn.checks.labels import first_places
from kohn.checks.report import Finding
from kohn.structures import E0s, Structure, is_isolated_atom
from kohn.structures.elements import formula

RARE = 0.05
"""If a larger share of the values is far from the median, none of them is an outlier."""


def outlier_findings(structures: Sequence[Structure], e0s: E0s | None, name: str) -> list[Finding]:
    """Return the findings on outlying energies and forces of one set."""
    frames = [s for s in structures if not is_isolated_atom(s)]
    energies, forces = outlying_energies(frames, e0s), outlying_forces(frames)
    findings = []
    if energies:
        findings.append(
            Finding(
                kind="outlier-energy",
                severity="warning",
                message=f"{name}: the energies of {len(energies)} frames are far from all others",
                where=first_places(energies),
                count=len(energies),
                fix="check that these calculations converged; a few such frames spoil a fit",
            )
        )
    if forces:
        largest = max(float(np.abs(s.labels["forces"]).max()) for s in forces)
        findings.append(
            Finding(
                kind="outlier-force",
                severity="warning",
                message=f"{name}: forces of {len(forces)} frames are far larger than the others, "
                f"up to {largest:.3g} eV/Å",
                where=first_places(forces),
                count=len(forces),
                fix="check these frames, or give them a smaller weight",
            )
        )
    return findings


def outlying_energies(frames: Sequence[Structure], e0s: E0s | None) -> list[Structure]:
    """Return the frames whose energy per atom is far from the median of similar frames.

    Far is 12 robust standard deviations (from the median absolute deviation), and at least 0.3 eV
    per atom among 8 or more frames of one composition. Frames of rarer compositions are compared
    with each other, relative to E0; there far is at least 2 eV per atom.
    """
    groups: dict[str, list[Structure]] = {}
    for s in frames:
        if "energy" in s.labels:
            groups.setdefault(formula(s.numbers), []).append(s)
    outliers, rest = [], []
    for group in groups.values():
        if len(group) < 8:
            rest += group
            continue
        energies = np.array([float(s.labels["energy"]) / len(s) for s in group])
        outliers += [group[k] for k in _far_from_median(energies, 0.3)]
    if e0s is not None:
        rest = [s for s in rest if all(int(z) in e0s.values for z in s.numbers)]
        if len(rest) >= 8:
            energies = np.array([(float(s.labels["energy"]) - e0s.total(s)) / len(s) for s in rest])
            outliers += [rest[k] for k in _far_from_median(energies, 2.0)]
    return outliers


def outlying_forces(frames: Sequence[Structure]) -> list[Structure]:
    """Return the frames with a force above 20 eV/Å and above 20 times the median rms force."""
    labelled = [s for s in frames if "forces" in s.labels]
    if len(labelled) < 8:
        return []
    typical = np.median([np.sqrt(np.mean(s.labels["forces"] ** 2)) for s in labelled])
    limit = max(20.0, 20.0 * float(typical))
    return [s for s in labelled if np.linalg.norm(s.labels["forces"], axis=1).max() > limit]


def _far_from_median(x: np.ndarray, least: float) -> np.ndarray:
    """Return the indices of values far from the median, or none if such values are not rare."""
    distance = np.abs(x - np.median(x))
    limit = max(12 * 1.4826 * float(np.median(distance)), least)
    far = np.flatnonzero(distance > limit)
    return far if len(far) <= max(1, RARE * len(x)) else far[:0]
