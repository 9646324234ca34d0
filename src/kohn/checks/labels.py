"""Check labels: which keys they were read from, and which are missing or not finite."""

from collections.abc import Sequence

import numpy as np

from kohn.checks.report import Finding
from kohn.errors import Place
from kohn.structures import PROPERTIES, Dataset, Structure, is_isolated_atom

LEARNED = ("energy", "forces", "stress")
WORDS = ("energy", "force", "stress", "virial", "dipole")


def label_findings(data: Dataset, name: str) -> list[Finding]:
    """Return the findings on labels of one set that are missing, unread or not finite."""
    return [
        *_missing(data, name),
        *_partial(data, name),
        *_near_keys(data, name),
        *_unread_keys(data, name),
        *_units_assumed(data, name),
        *_free_energy(data, name),
        *_not_finite(data, name),
        *_zero_forces(data, name),
        *_unread_files(data, name),
    ]


def first_places(structures: Sequence[Structure], n: int = 3) -> tuple[Place, ...]:
    """Return the file, frame and line of each of the first n structures."""
    return tuple(s.place for s in structures[:n])


def _missing(data: Dataset, name: str) -> list[Finding]:
    if any(s.labels for s in data):
        return []
    unread = [key for source in data.sources for key in source.other_keys]
    likely = [key for key in unread if any(word in key.lower() for word in WORDS)]
    fix = "label the frames, as REF_energy and REF_forces"
    if unread:
        fix = f"name the keys to read (energy=KEY); the keys are {', '.join(likely or unread)}"
    return [
        Finding(
            kind="no-labels",
            severity="error",
            message=f"{name} has no labels at all",
            where=first_places(data.structures, 1),
            count=len(data),
            fix=fix,
        )
    ]


def _partial(data: Dataset, name: str) -> list[Finding]:
    findings = []
    for label in LEARNED:
        # Reading left out labels that are not finite; they have a finding of their own.
        unusable = {u.place for source in data.sources for u in source.unusable if u.label == label}
        eligible = [s for s in data if _can_have(s, label) and s.place not in unusable]
        unlabelled = [s for s in eligible if label not in s.labels]
        if not unlabelled or len(unlabelled) == len(eligible):
            continue
        findings.append(
            Finding(
                kind="partial-labels",
                severity="error",
                message=f"{name}: {len(unlabelled)} of {len(eligible)} frames have no {label}",
                where=first_places(unlabelled),
                count=len(unlabelled),
                fix="remove these frames or add the label; if this is intended, allow "
                "partial-labels, and losses leave out missing labels",
            )
        )
    return findings


def _can_have(s: Structure, label: str) -> bool:
    if label == "stress":
        return bool(s.periodic.all()) and not is_isolated_atom(s)
    return label == "energy" or not is_isolated_atom(s)


def _near_keys(data: Dataset, name: str) -> list[Finding]:
    findings = []
    for source in data.sources:
        for key, known in source.near_keys.items():
            essential = any(word in known.lower() for word in ("energy", "force", "stress"))
            findings.append(
                Finding(
                    kind="nearly-right-key",
                    severity="error" if essential else "warning",
                    message=f"{name}: the key {key!r} was not read; it is nearly {known!r}",
                    where=(Place(source.file),),
                    fix=f"did you mean {known!r}? Rename it, or name the key to read",
                )
            )
    return findings


def _unread_keys(data: Dataset, name: str) -> list[Finding]:
    findings = []
    for source in data.sources:
        likely = [
            key
            for key in source.other_keys
            if any(word in key.lower() for word in WORDS) and key not in source.near_keys
        ]
        if likely:
            findings.append(
                Finding(
                    kind="unread-key",
                    severity="note",
                    message=f"{name}: keys that look like labels were not read: "
                    + ", ".join(likely),
                    where=(Place(source.file),),
                    fix="name them in keys if they are needed",
                )
            )
    return findings


def _units_assumed(data: Dataset, name: str) -> list[Finding]:
    findings = []
    for source in data.sources:
        for label, counts in source.keys.items():
            for key in set(counts) & {"mu", "alpha"}:
                unit = PROPERTIES[label].unit
                findings.append(
                    Finding(
                        kind="assumed-unit",
                        severity="warning",
                        message=f"{name}: {key} was read as {label} in {unit}, but the key "
                        "does not state the unit",
                        where=(Place(source.file),),
                        fix=f"make sure that it is in {unit}, and name it {PROPERTIES[label].key}",
                    )
                )
    return findings


def _free_energy(data: Dataset, name: str) -> list[Finding]:
    only = [s for s in data if "free_energy" in s.labels and "energy" not in s.labels]
    both = [
        s
        for s in data
        if {"energy", "free_energy", "forces"} <= s.labels.keys()
        and abs(float(s.labels["energy"] - s.labels["free_energy"])) > 1e-3 * len(s)
    ]
    frames = only or both
    if not frames:
        return []
    message = (
        "frames have a free energy but no energy"
        if only
        else "energy and free energy differ by more than 1 meV an atom, and forces are "
        "derivatives of the free energy"
    )
    return [
        Finding(
            kind="free-energy",
            severity="warning",
            message=f"{name}: {message}",
            where=first_places(frames),
            count=len(frames),
            fix="read with energy='free_energy' to learn the energy that belongs to the forces",
        )
    ]


def _not_finite(data: Dataset, name: str) -> list[Finding]:
    """Report labels that are not finite: labels that `read` skipped, and labels in memory."""
    frames = {s.place for s in data}
    skipped = [u for source in data.sources for u in source.unusable if u.place in frames]
    in_memory = [(k, s) for s in data for k, v in s.labels.items() if not np.isfinite(v).all()]
    labels = sorted({u.label for u in skipped} | {k for k, _ in in_memory})
    if not labels:
        return []
    exact = [u.where if isinstance(u.where, Place) else u.place for u in skipped]
    places = dict.fromkeys([*exact, *(s.place for _, s in in_memory)])
    return [
        Finding(
            kind="nonfinite-label",
            severity="error",
            message=f"{name}: labels that are not finite: {', '.join(labels)}",
            where=tuple(places)[:3],
            count=len({u.place for u in skipped} | {s.place for _, s in in_memory}),
            fix="compute these labels again, or remove them; if this is intended, allow "
            "nonfinite-label, and they are left out",
        )
    ]


def _unread_files(data: Dataset, name: str) -> list[Finding]:
    unread = [file for file in data.unread if file.broken]
    if not unread:
        return []
    return [
        Finding(
            kind="file-left-out",
            severity="warning",
            message=f"{name}: {len(unread)} files of the folder cannot be read",
            where=tuple(Place(file.file) for file in unread[:3]),
            count=len(unread),
            evidence=tuple(f"{file.file}: {file.reason}" for file in unread[:3]),
            fix="repair them, or move them out of the folder",
        )
    ]


def _zero_forces(data: Dataset, name: str) -> list[Finding]:
    frames = [s for s in data if "forces" in s.labels and len(s) > 1]
    if len(frames) < 2 or any(s.labels["forces"].any() for s in frames):
        return []
    return [
        Finding(
            kind="zero-forces",
            severity="warning",
            message=f"{name}: all forces are exactly zero",
            where=first_places(frames),
            count=len(frames),
            fix="check how they were written: constraints may have set them to zero",
        )
    ]
