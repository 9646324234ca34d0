"""Find structures that occur more than once, within a set or in two sets."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from kohn.checks.labels import first_places
from kohn.checks.report import Finding
from kohn.structures import Dataset, Structure, is_isolated_atom, orientation
from kohn.structures.fingerprints import ORIENTATION_TOLERANCE

CONTRADICTION = 0.005
"""The largest allowed difference between the energies of copies, eV per atom."""


def repeat_findings(
    sets: Mapping[str, Dataset], groups: Mapping[str, np.ndarray]
) -> tuple[list[Finding], dict[str, int], dict[tuple[str, str], int]]:
    """Return the findings on duplicates, and the numbers of duplicates.

    Args:
        sets: name of the set -> its structures.
        groups: name of the set -> the number of each structure by `structures.duplicates` of all
            sets together; -1 for structures that are not compared.

    Returns:
        The findings; set -> the number of frames that repeat another frame; (set, set) -> the
        number of frames of the second set that are also in the first.
    """
    findings, within, between = [], {}, {}
    for name, data in sets.items():
        set_findings, within[name] = _repeats_within(data, groups[name], name)
        findings += set_findings
    for a, b in combinations(sets, 2):
        pair_findings, between[a, b] = _repeats_between(sets, groups, a, b)
        findings += pair_findings
    return [*findings, *_contradictory(sets, groups)], within, between


def not_compared(s: Structure) -> bool:
    """Return whether a structure is not compared: isolated atoms may be in several files."""
    return is_isolated_atom(s)


def _repeats_within(data: Dataset, groups: np.ndarray, name: str) -> tuple[list[Finding], int]:
    _, first = np.unique(groups, return_index=True)
    repeated = np.setdiff1d(np.flatnonzero(groups >= 0), first)
    if len(repeated) == 0:
        return [], 0
    finding = Finding(
        kind="duplicate-within",
        severity="warning",
        message=f"{name}: {len(repeated)} frames repeat others, up to rotation and the order "
        "of atoms",
        where=first_places([data[int(k)] for k in repeated]),
        count=len(repeated),
        fix="nothing, if their extra weight is intended; splits keep copies together",
    )
    return [finding], len(repeated)


def _repeats_between(
    sets: Mapping[str, Dataset], groups: Mapping[str, np.ndarray], a: str, b: str
) -> tuple[list[Finding], int]:
    shared = np.intersect1d(groups[a], groups[b])
    shared = shared[shared >= 0]
    identical, rotated = [], []
    for group in shared:
        first = [sets[a][int(k)] for k in np.flatnonzero(groups[a] == group)]
        orientations = np.stack([orientation(s) for s in first])
        for k in np.flatnonzero(groups[b] == group):
            s = sets[b][int(k)]
            same = np.abs(orientations - orientation(s)).max(axis=1) < ORIENTATION_TOLERANCE
            (identical if same.any() else rotated).append(s)
    findings = []
    if identical:
        strict = {a, b} == {"train", "test"}
        findings.append(
            Finding(
                kind="duplicate-between",
                severity="error" if strict else "warning",
                message=f"{len(identical)} frames of {b} occur in {a}",
                where=first_places(identical),
                count=len(identical),
                fix=f"remove them from {b}: errors on them do not measure how good a model is",
            )
        )
    if rotated:
        findings.append(
            Finding(
                kind="equivalent-between",
                severity="warning",
                message=f"{len(rotated)} frames of {b} are rotated or mirrored copies of frames "
                f"of {a}",
                where=first_places(rotated),
                count=len(rotated),
                fix=f"remove them from {b}: a model with built-in symmetry has seen them",
            )
        )
    return findings, len(identical) + len(rotated)


def _contradictory(sets: Mapping[str, Dataset], groups: Mapping[str, np.ndarray]) -> list[Finding]:
    """Report copies of one structure, in any of the sets, that have different energies."""
    members: dict[int, list[Structure]] = {}
    for name, data in sets.items():
        for s, group in zip(data, groups[name], strict=True):
            if group >= 0 and "energy" in s.labels:
                members.setdefault(int(group), []).append(s)
    differing, largest = [], 0.0
    for copies in members.values():
        energies = [float(s.labels["energy"]) for s in copies]
        gap = (max(energies) - min(energies)) / len(copies[0])
        if gap > CONTRADICTION:
            pair = (copies[int(np.argmin(energies))], copies[int(np.argmax(energies))])
            differing.append(pair)
            largest = max(largest, gap)
    if not differing:
        return []
    return [
        Finding(
            kind="contradictory-labels",
            severity="error",
            message=f"copies of one structure have energies that differ by up to {largest:.3g} "
            "eV per atom",
            where=first_places([s for pair in differing for s in pair], 4),
            count=len(differing),
            fix="keep the frames of one method; or find what else differs (charge, spin, unit)",
        )
    ]
