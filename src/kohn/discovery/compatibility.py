"""Refuse candidates that cannot be compared with the hull, before anything is computed."""

from collections.abc import Sequence

import numpy as np

from kohn.discovery.models import Models
from kohn.discovery.options import Options
from kohn.errors import InputError
from kohn.stability.candidates import Candidates
from kohn.stability.entries import Entries
from kohn.stability.provenance import conflicts, groups, notes, refuse_mixed
from kohn.stability.systems import SystemHulls
from kohn.structures.elements import symbol


def refuse_missing_elements(candidates: Candidates, hulls: SystemHulls) -> None:
    """Raise InputError if candidates have elements that the hull lacks."""
    _refuse_elements(
        candidates,
        hulls.lacking(candidates.compositions.systems),
        "that the hull lacks",
        expected="an entry or a reference energy of each pure element",
        fix="add those elements and their compounds to the hull, or remove these candidates",
    )


def refuse_other_compositions(candidates: Candidates, entries: Entries) -> None:
    """Raise InputError if a candidate has the id of an entry of another chemical system. (Within
    one system, `ConvexHull.copies` checks ids.)"""
    for i, name in enumerate(candidates.ids):
        j = entries.row.get(name)
        if j is None or not candidates.named[i] or name in entries.unnamed:
            continue
        system = candidates.compositions.systems[
            candidates.compositions.system[candidates.which[i]]
        ]
        if "-".join(system) != entries.systems[j]:
            raise InputError(
                "a candidate has the id of an entry of another composition",
                where=candidates.place(i),
                expected=f"{entries.formulas[j]}, as in {entries.places[j]}",
                received=f"{candidates.formula(i)} as {name!r}",
                fix="rename one of them",
            )


def refuse_unknown_elements(candidates: Candidates, models: Models) -> None:
    """Raise InputError if candidates have elements that a model has not seen."""
    seen = {symbol(z) for z in models.predictive.elements}
    _refuse_elements(
        candidates,
        sorted({e for s in candidates.compositions.systems for e in s} - seen),
        "that the model has not seen",
        expected=f"only {', '.join(sorted(seen))}",
        fix="remove these candidates, or train a model that knows the elements",
    )


def _refuse_elements(
    candidates: Candidates, elements: Sequence[str], cause: str, *, expected: str, fix: str
) -> None:
    """Raise InputError naming candidates with these elements, unless `elements` is empty."""
    if not elements:
        return
    system = candidates.compositions.system[candidates.which]
    bad = np.array([not set(s).isdisjoint(elements) for s in candidates.compositions.systems])
    rows = np.flatnonzero(bad[system])
    raise InputError(
        f"{len(rows)} of {len(candidates)} candidates have elements {cause}: {', '.join(elements)}",
        where=candidates.place(int(rows[0])),
        expected=expected,
        received=", ".join(
            f"{candidates.ids[i]} ({candidates.formula(i)})" for i in rows[:3].tolist()
        ),
        fix=fix,
    )


def refuse_mixture(
    candidates: Candidates, entries: Entries, options: Options
) -> tuple[list[str], list[str]]:
    """Return the allowed conflicts between hull and candidates, and notes on what is unknown.

    Raises:
        InputError: there are conflicts, and they are not allowed.
    """
    both = {p: list(ids) for p, ids in groups(entries.ids, entries.provenance).items()}
    for p, ids in candidates.provenance.items():
        both[p] = [*both.get(p, ()), *ids]
    if not options.allow_mixed:
        refuse_mixed(both)
    return conflicts(both), notes(both)
