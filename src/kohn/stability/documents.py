"""Compute a hull, and collect the results for its entries and for candidates in a document."""

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
    reference_energies: str | Path | None = None,
    formation: bool = False,
    allow_mixed: bool = False,
    tolerance: float = 1e-8,
    reservoirs: Mapping[str, float] | None = None,
    temperature: float | None = None,
    pressure: float | None = None,
) -> Document:
    """Compute the hull of the entries in files, and the distances of candidates to it.

    Args:
        files: files of entries.
        candidates: files of candidates to compare with the hull.
        reference_energies: file of the energies of elements, eV/atom; None to use the entries.
        formation: whether all energies are formation energies, eV/atom, not totals.
        allow_mixed: whether energies that were computed in different ways may be mixed.
        tolerance: a compound within this distance of the hull is stable, eV/atom.
        reservoirs: open elements -> chemical potential μ, eV/atom; None for a closed hull.
        temperature, pressure: temperature (K) and pressure (bar) of μ, which are only recorded.

    Returns:
        `ConvexHull.document`, to which fractions, candidates, tie_lines and remarks are added.

    Raises:
        InputError, ConfigError: bad files or energies; see `read_entries` and `ConvexHull`.
    """
    entries = read_entries(files, formation=formation)
    given = (
        None if reference_energies is None else ElementalReferences.given(Path(reference_energies))
    )
    phases = ConvexHull(entries, given, tolerance=tolerance, allow_mixed=allow_mixed)
    remarks = [f"Mixed, as allowed: {c}" for c in phases.conflicts] + phases.notes
    remarks += isotope_remarks(entries)
    if reservoirs:
        phases = phases.grand_potential(reservoirs, temperature=temperature, pressure=pressure)
    document = phases.document()
    for row, x in zip(document["entries"], phases.entries.fractions, strict=True):
        row["fractions"] = _by_element(phases.elements, x)
    document["tie_lines"] = tie_lines(phases)
    document["candidates"] = []
    if candidates:
        new = read_entries(candidates, formation=formation)
        both = groups((*entries.ids, *new.ids), (*entries.provenance, *new.provenance))
        if not allow_mixed:
            refuse_mixed(both)
        remarks += [f"Mixed, as allowed: {c}" for c in conflicts(both) if c not in phases.conflicts]
        bias = element_bias(new, entries) if not formation else None
        if bias is not None and bias.detected:
            remarks.append(bias.sentence())
        remarks += isotope_remarks(new)
        document["candidates"] = candidate_records(phases, new)
        known = sum(row["in_hull"] for row in document["candidates"])
        if known:
            remarks.append(
                f"{known} of {len(new)} candidates are entries of the hull too, and were left out "
                "of their own hull."
            )
    document["remarks"] = remarks
    return document


def isotope_remarks(entries: Entries) -> list[str]:
    """Return a remark on entries whose D or T was read as hydrogen; [] if there are none."""
    ids = sorted(entries.isotopes)
    if not ids:
        return []
    listing = f"{len(ids)}: {', '.join(ids[:3])}{' …' if len(ids) > 3 else ''}"
    return [f"Deuterium and tritium are read as hydrogen, whose energy is the same ({listing})"]


def candidate_records(hull: ConvexHull, candidates: Entries) -> list[Document]:
    """Return a record for each candidate, sorted by increasing distance to the hull."""
    distances = hull.distance(candidates)
    decompositions = hull.shares(distances)
    compared = hull.comparable(candidates)  # over the hull's elements, which may be fewer
    formation = hull.references.formation_energies(compared)
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
                "decomposition": decompositions[i],
                "fractions": _by_element(hull.elements, compared.fractions[i]),
            }
        )
    return rows


def tie_lines(hull: ConvexHull) -> list[list[int]]:
    """Return the pairs of entries, by row, that share a facet; [] if no facets are computed."""
    if hull.hull.method == "program":
        return []
    corners = hull.hull.facets.entries.tolist()
    return [list(p) for p in sorted({p for f in corners for p in combinations(sorted(f), 2)})]


def _by_element(elements: Sequence[str], x: np.ndarray) -> dict[str, float]:
    return {e: float(v) for e, v in zip(elements, x, strict=True) if v}
