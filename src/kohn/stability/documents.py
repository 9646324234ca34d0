"""What a hull says of its entries and of candidates, as one document."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from kohn.stability.entries import Entries
from kohn.stability.phase_diagram import ConvexHull
from kohn.stability.provenance import conflicts, groups, refuse_mixed
from kohn.stability.reading import read_entries
from kohn.stability.references import ElementalReferences, element_bias
from kohn.typing import Document


def hull(
    files: Sequence[str | Path],
    candidates: Sequence[str | Path] = (),
    *,
    references: str | Path | None = None,
    formation: bool = False,
    allow_mixed: bool = False,
    tolerance: float = 1e-8,
    reservoirs: Mapping[str, float] | None = None,
    temperature: float | None = None,
    pressure: float | None = None,
) -> Document:
    """The hull of some files, and what it says of candidates.

    Args:
        files: of entries.
        candidates: files of entries to judge by the hull.
        references: file of the energies of elements, eV/atom.
        formation: energies are formation energies, eV/atom.
        allow_mixed: do not refuse energies that were computed in different ways.
        tolerance: stable within this distance, eV/atom.
        reservoirs: open elements -> μ, eV/atom.
        temperature, pressure: for which these hold, K and bar; recorded.

    Returns:
        A document: `ConvexHull.document` with `fractions`, `candidates`, `tie_lines` and `remarks`.

    Raises:
        InputError, ConfigError: see `read_entries` and `ConvexHull`.
    """
    entries = read_entries(files, formation=formation)
    given = None if references is None else ElementalReferences.given(Path(references))
    found = ConvexHull(entries, given, tolerance=tolerance, allow_mixed=allow_mixed)
    remarks = [f"Mixed, as allowed: {c}" for c in found.conflicts] + found.notes
    remarks += isotopes(entries)
    if reservoirs:
        found = found.grand_potential(reservoirs, temperature=temperature, pressure=pressure)
    document = found.document()
    for row, x in zip(document["entries"], found.entries.fractions, strict=True):
        row["fractions"] = _by_element(found.elements, x)
    document["tie_lines"] = tie_lines(found)
    document["candidates"] = []
    if candidates:
        new = read_entries(candidates, formation=formation)
        both = groups((*entries.ids, *new.ids), (*entries.provenance, *new.provenance))
        if not allow_mixed:
            refuse_mixed(both)
        remarks += [f"Mixed, as allowed: {c}" for c in conflicts(both) if c not in found.conflicts]
        bias = element_bias(new, entries) if not formation else None
        if bias is not None and bias.detected:
            remarks.append(bias.sentence())
        remarks += isotopes(new)
        document["candidates"] = candidate_records(found, new)
        known = sum(row["in_hull"] for row in document["candidates"])
        if known:
            remarks.append(
                f"{known} of {len(new)} candidates are entries of the hull too, and were left out "
                "of their own hull."
            )
    document["remarks"] = remarks
    return document


def isotopes(entries: Entries) -> list[str]:
    """What was read as hydrogen, if anything was."""
    some = sorted(entries.isotopes)
    if not some:
        return []
    named = f"{len(some)}: {', '.join(some[:3])}{' …' if len(some) > 3 else ''}"
    return [f"Deuterium and tritium are read as hydrogen, whose energy is the same ({named})"]


def candidate_records(hull: ConvexHull, candidates: Entries) -> list[Document]:
    """A record for each candidate, nearest first."""
    distances = hull.distance(candidates)
    falls = hull.shares(distances)
    own = hull.comparable(candidates)  # over the hull's elements, which may be fewer
    formation = hull.references.formation_energies(own)
    rows = []
    for i in np.argsort(distances.values, kind="stable"):
        d = float(distances.values[i])
        rows.append(
            {
                "id": candidates.ids[i],
                "formula": candidates.formulas[i],
                "formation_energy_per_atom": float(formation[i]),
                "distance": d,
                "e_above_hull": max(0.0, d),
                "stable": d <= hull.tolerance,
                "in_hull": bool(distances.known[i]),
                "decomposition": falls[i],
                "fractions": _by_element(hull.elements, own.fractions[i]),
            }
        )
    return rows


def tie_lines(hull: ConvexHull) -> list[list[int]]:
    """Pairs of rows of entries that are corners of one facet; none where there are no facets."""
    if hull.hull.method == "program":
        return []
    corners = hull.hull.facets.entries.tolist()
    return [list(p) for p in sorted({p for f in corners for p in combinations(sorted(f), 2)})]


def _by_element(elements: Sequence[str], x: np.ndarray) -> dict[str, float]:
    return {e: float(v) for e, v in zip(elements, x, strict=True) if v}
