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
    """Raise InputError if candidates have elements without an entry or a reference energy."""
    _refuse_elements(
        candidates,
        hulls.lacking(candidates.compositions.systems),
        "that the hull lacks",
        expected="an entry or a reference energy of each pure element",
        fix="add those elements and their compounds to the hull, or remove these candidates",
    )


def refuse_ids_of_other_systems(candidates: Candidates, entries: Entries) -> None:
    """Raise InputError if a candidate has the same id as an entry of another chemical system.
    (`ConvexHull.copies` compares the ids of candidates and entries within one system.)"""
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
    """Raise InputError if candidates have elements on which the models were not trained."""
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
    """Raise InputError that names candidates with any of `elements`, unless this is empty."""
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


def check_provenance(
    candidates: Candidates, entries: Entries, options: Options
) -> tuple[list[str], list[str]]:
    """Return sentences on conflicting and on unknown provenance of candidates and hull entries.

    Raises:
        InputError: the provenances conflict, and `options.allow_mixed` is not set.
    """
    both = {p: list(ids) for p, ids in groups(entries.ids, entries.provenance).items()}
    for p, ids in candidates.provenance.items():
        both[p] = [*both.get(p, ()), *ids]
    if not options.allow_mixed:
        refuse_mixed(both)
    return conflicts(both), notes(both)
