"""Check elements, charges, numbers of frames, and reference energies."""

from collections.abc import Mapping, Sequence

import numpy as np

from kohn.checks.labels import first_places
from kohn.checks.report import Finding
from kohn.checks.units import binding_energies
from kohn.errors import InputError
from kohn.structures import Dataset, E0s, Structure, is_isolated_atom, reference_energies
from kohn.structures.elements import symbol

FEW = 20
"""A training set with fewer frames than this, without isolated atoms, gives a warning."""

# The neutral values of each key: a frame without the key is taken to have one of them.
_NEUTRAL: dict[str, tuple[float, ...]] = {
    "charge": (0,),
    "totalcharge": (0,),
    "spin": (0, 1),
    "totalspin": (0, 1),
    "spinmultiplicity": (1,),
    "multiplicity": (1,),
}


def composition_findings(sets: Mapping[str, Dataset], train: str) -> list[Finding]:
    """Return the findings on too few training frames, unseen elements, and varying charges."""
    return [
        *_too_few(sets[train], train),
        *_unseen_elements(sets, train),
        *_charges([s for data in sets.values() for s in data]),
    ]


def e0s_and_findings(
    sets: Mapping[str, Dataset], train: str, given: Mapping[int | str, float] | E0s | None
) -> tuple[E0s | None, list[Finding]]:
    """Return the E0s of the training set, or None if it has none, and the findings on them."""
    data = sets[train]
    # Nothing is learned from a test set, not even the zero of energy.
    not_test = Dataset(tuple(s for name, part in sets.items() if name != "test" for s in part))
    if isinstance(given, E0s):
        e0s = given
    elif given is None and data.count("energy") == 0:
        return None, []
    else:
        try:
            e0s = reference_energies(data, given, isolated=not_test)
        except InputError as error:
            return None, [
                Finding(
                    kind="reference-energies",
                    severity="error",
                    message=error.message,
                    where=first_places(data.structures, 1),
                    evidence=(f"expected {error.expected}, received {error.received}",),
                    fix=error.fix or "",
                )
            ]
    findings = []
    if e0s.warning is not None:
        single = "one composition" in e0s.warning
        findings.append(
            Finding(
                kind="single-composition-e0s" if single else "fitted-e0s",
                severity="warning",
                message=e0s.warning,
                fix="add isolated atoms computed in the same way, or give the E0s",
            )
        )
    return e0s, [*findings, *_inconsistent_e0s(data, e0s)]


def refuse_varying_charge(data: Sequence[Structure]) -> None:
    """Refuse data whose charge or spin differs between frames: no model takes them as input.

    Raises:
        InputError: the charge or spin differs; the message names the first such frames.
    """
    for finding in _charges(data):
        raise InputError(
            finding.message,
            where="; ".join(str(p) for p in finding.where),
            expected="one charge and one spin for all frames",
            fix=finding.fix,
        )


def _too_few(data: Dataset, name: str) -> list[Finding]:
    frames = [s for s in data if not is_isolated_atom(s)]
    if len(frames) >= FEW:
        return []
    return [
        Finding(
            kind="too-few-frames",
            severity="warning",
            message=f"{name} has {len(frames)} frames of more than one atom",
            where=first_places(data.structures, 1),
            count=len(frames),
            fix=f"add frames: fewer than {FEW} are too few to learn or to check much",
        )
    ]


def _unseen_elements(sets: Mapping[str, Dataset], train: str) -> list[Finding]:
    known = set(sets[train].elements)
    findings = []
    for name, data in sets.items():
        new = sorted(set(data.elements) - known)
        if name == train or not new:
            continue
        frames = [s for s in data if not set(s.numbers.tolist()) <= known]
        findings.append(
            Finding(
                kind="unseen-element",
                severity="error",
                message=f"{name} has {', '.join(map(symbol, new))}, which {train} lacks",
                where=first_places(frames),
                count=len(frames),
                fix="add such frames to the training set, or remove them here",
            )
        )
    return findings


def _charges(structures: Sequence[Structure]) -> list[Finding]:
    findings = []
    frames = [s for s in structures if not is_isolated_atom(s)]
    keys = {k for s in frames for k in s.info if _without_separators(k) in _NEUTRAL}
    for key in sorted(keys):
        values: dict[object, Structure] = {}
        for s in frames:
            values.setdefault(_number_or_text(s.info[key]) if key in s.info else None, s)
        if None in values and any(v in _NEUTRAL[_without_separators(key)] for v in values):
            del values[None]  # a value that is not stated is neutral
        if len(values) < 2:
            continue
        shown = ", ".join("not stated" if v is None else f"{v}" for v in values)
        findings.append(
            Finding(
                kind="varying-charge",
                severity="error",
                message=f"{key} differs between frames: {shown}",
                where=first_places(list(values.values())),
                count=len(values),
                fix="train on frames of one charge and spin: no model here takes them as input, "
                "so equal structures would have different labels",
            )
        )
    return findings


def _without_separators(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


def _number_or_text(x: object) -> object:
    try:
        return float(np.asarray(x).item())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(x)


def _inconsistent_e0s(data: Dataset, e0s: E0s) -> list[Finding]:
    """Warn if no matter has the median binding energy; mace#581 and others noticed this late."""
    if "least squares" in e0s.source:
        return []
    frames = [s for s in data if not is_isolated_atom(s)]
    binding = binding_energies(frames, e0s)
    if len(binding) == 0 or -15 < np.median(binding) < 1:
        return []
    return [
        Finding(
            kind="inconsistent-e0s",
            severity="warning",
            message="energies do not match the E0s: relative to the E0s they are "
            f"{np.median(binding):.4g} eV per atom, but -9 to 0 is usual",
            evidence=(f"E0s are from: {e0s.source}",),
            fix="compute the isolated atoms with the same method, settings and unit as the data",
        )
    ]
