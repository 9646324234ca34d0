"""Compute phase diagrams: which entries are stable, by how much, and how other entries decompose.

With x_i the fractions of the elements in entry i, e_i its formation energy per atom relative to the
lowest entry of each element, and h the lower hull of the set R of entries (`kohn.stability.hull`):

    d(c) = e_c − h(x_c)                    signed distance of candidate c to the hull of R without c
    e_above_hull = max(0, d)               of the entries of R themselves
    stable:  d ≤ tolerance                 not only corners: phases on a facet are stable too
    ΔH_d = e_i − h'(x_i)                   h' the hull of R without entries of i's composition

    φ_i = (E_i − Σ_k μ_k n_ik) / Σ_j≠k n_ij        elements k are open, at μ_k: a hull over j ≠ k

If an energy c_j is added to each atom of element j in all entries, d does not change. If it is
added to candidates alone, d is wrong by x · c; see `kohn.stability.references.element_bias`.

Source: Ong et al., Chem. Mater. 20, 1798 (2008), for grand potentials; Bartel et al., npj Comput.
Mater. 6, 97 (2020), for ΔH_d.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kohn.errors import InputError, nearest
from kohn.stability.entries import Entries
from kohn.stability.formulas import reduced
from kohn.stability.hull import TOLERANCE, Decomposition, LowerHull, Method
from kohn.stability.provenance import conflicts, groups, merge_groups, notes, refuse_mixed
from kohn.stability.references import ElementalReferences, lowest_elemental
from kohn.structures.provenance import Provenance
from kohn.typing import Bool, Document, Float, Int

SAME = 1e-9
"""Entries this close in energy (eV/atom) and in fractions of elements are copies of each other."""
WRONG = 1.0
"""eV/atom: candidates that all lie this far above the hull have energies of another quantity."""


@dataclass(frozen=True)
class Distances:
    """Distances of M candidates to a hull, and their decompositions into its entries.

    Attributes:
        values: distances d, eV/atom, [M]; negative below the hull.
        known: whether a candidate is an entry of the hull (has its id, or its composition and
            energy), so that the distance is to the hull of the other entries, [M].
        entries: indices of the hull's entries into which each candidate decomposes, [M, D].
        shares: fraction of the atoms in each of these entries, [M, D]; 0 for unused entries.
    """

    values: Float[np.ndarray, " M"]
    known: Bool[np.ndarray, " M"]
    entries: Int[np.ndarray, "M D"]
    shares: Float[np.ndarray, "M D"]


class ConvexHull:
    """The convex hull, or phase diagram, of N entries of D elements.

    Attributes:
        entries: the entries; for an element without an entry, its reference energy is added as an
            entry such as 'reference:O'.
        references: energies of the elements, relative to which formation energies are given.
        tolerance: an entry is stable if its distance to the hull is at most this, eV/atom.
    """

    def __init__(
        self,
        entries: Entries,
        references: ElementalReferences | None = None,
        *,
        tolerance: float = TOLERANCE,
        allow_mixed: bool = False,
    ):
        """Compute the hull of entries.

        Args:
            entries: compounds and elements.
            references: energies of the elements; by default those of the lowest entries.
                Distances depend on the references only if an element has no entry.
            tolerance: a compound is stable if its distance to the hull is at most this, eV/atom.
            allow_mixed: whether energies that were computed in different ways may be mixed.

        Raises:
            InputError: an element without entry and reference; energies computed in different
                ways; references given with formation energies.
        """
        if entries.formation:
            if references is not None:
                raise InputError(
                    "formation energies need no references",
                    fix="give total energies, or leave the references out",
                )
            zeros = dict.fromkeys(entries.elements, 0.0)
            references = ElementalReferences.given(zeros, entries.provenance[0])
        if references is not None:
            references = references.over(entries.elements)
            entries = _with_references(entries, references)
        self.allow_mixed = allow_mixed
        self.tolerance = tolerance
        self.entries = entries
        if not allow_mixed:
            refuse_mixed(self._groups)
        lowest = ElementalReferences.from_entries(entries)
        self.references = lowest if references is None else references
        # The hull's energies are relative to its own lowest elements, not to given references.
        self._zero = lowest.energies
        self.hull = LowerHull(entries.fractions, self._energies(entries))
        self.distances = self.hull.distance(self.hull.fractions, self.hull.energies)

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of the elements, in alphabetical order, [D]."""
        return self.entries.elements

    @property
    def conflicts(self) -> list[str]:
        """Sentences on energies that were computed in different ways, if this is allowed."""
        return conflicts(self._groups)

    @property
    def notes(self) -> list[str]:
        """Sentences on entries for which it is not known how their energies were computed."""
        return notes(self._groups)

    @cached_property
    def _groups(self) -> dict[Provenance, list[str]]:
        return groups(self.entries.ids, self.entries.provenance)

    @property
    def formulas(self) -> tuple[str, ...]:
        """Reduced formula of each entry, [N]."""
        return self.entries.formulas

    @property
    def formation_energies(self) -> Float[np.ndarray, " N"]:
        """Formation energies of the entries, relative to `references`, eV/atom, [N]."""
        return self.references.formation_energies(self.entries)

    @property
    def e_above_hull(self) -> Float[np.ndarray, " N"]:
        """Energy above the hull, max(0, d), of each entry, eV/atom, [N]."""
        return np.maximum(self.distances, 0.0)

    @property
    def stable(self) -> Bool[np.ndarray, " N"]:
        """Whether each entry is stable: its distance to the hull d ≤ tolerance, [N]."""
        return self.distances <= self.tolerance

    def distance(self, candidates: Entries, *, method: Method | None = None) -> Distances:
        """Compute the distances of candidates to the hull.

        Args:
            candidates: any entries over the hull's elements. A candidate with the id of an entry,
                or with its composition and energy, is compared with the hull of the other entries;
                the only entry of an element has distance 0.
            method: 'facets', or 'program' for a linear program for each candidate; the default
                depends on the number of elements.

        Raises:
            InputError: an element that the hull lacks; an id that in the hull has another
                composition; energies computed in another way than the hull's, unless allowed;
                energies that look like formation energies and are not declared as such.
        """
        candidates = self.comparable(candidates)
        if not self.allow_mixed:
            ids = [*self.entries.ids, *candidates.ids]
            refuse_mixed(groups(ids, [*self.entries.provenance, *candidates.provenance]))
        x, e = candidates.fractions, self._energies(candidates)
        distances = self.distances_without(x, e, self.copies(candidates, e), method=method)
        if not candidates.formation and not distances.known.any():
            refuse_formation_energies_of_candidates(
                distances.values,
                candidates.energies_per_atom,
                e,
                candidates.atoms,
                candidates.places[0],
            )
        return distances

    def distances_without(
        self,
        x: Float[np.ndarray, "M D"],
        e: Float[np.ndarray, " M"],
        own: Mapping[int, Int[np.ndarray, " k"]],
        *,
        method: Method | None = None,
    ) -> Distances:
        """Compute the distances of candidates from arrays that have been checked; see `distance`.

        Args:
            x: fractions of the candidates over `elements`.
            e: their energies relative to the hull's lowest elements (see `relative`), eV/atom.
            own: candidate -> the entries that are left out of its hull (see `copies`).
            method: 'facets', 'program' or None, as in `distance`.
        """
        mixture = self.hull.decompose(x, method)
        values = e - mixture.heights
        known = np.zeros(len(x), bool)
        known[list(own)] = True
        for i, rows in own.items():
            if not self._corners.isdisjoint(rows.tolist()):
                try:
                    height, chosen, shares = self.hull.program(x[i], rows)
                except InputError:  # without the only entry of an element there is no mixture
                    height, chosen, shares = e[i], rows[:1], np.ones(1)
                values[i] = e[i] - height
                mixture.entries[i], mixture.shares[i] = rows[0], 0.0
                mixture.entries[i, : len(chosen)], mixture.shares[i, : len(chosen)] = chosen, shares
        return Distances(values, known, mixture.entries, mixture.shares)

    def relative(
        self, x: Float[np.ndarray, "M D"], energies: Float[np.ndarray, " M"]
    ) -> Float[np.ndarray, " M"]:
        """Return energies per atom relative to the hull's own lowest elements, eV/atom, [M]."""
        return energies - x @ self._zero

    def decompose(self, candidates: Entries) -> list[dict[str, float]]:
        """Return the decomposition of each candidate, as id of an entry -> share of the atoms.

        If several mixtures have the lowest energy, one of them is returned. Provenance is not
        checked, because the energies of candidates play no role.

        Raises:
            InputError: an element that the hull lacks.
        """
        return self.shares(self.hull.decompose(candidates.over(self.elements).fractions))

    def shares(self, mixtures: Decomposition | Distances) -> list[dict[str, float]]:
        """Return each mixture as id of an entry -> share of the atoms."""
        return [self._shares(mixtures, i) for i in range(len(mixtures.shares))]

    def decompositions(self) -> list[dict[str, float]]:
        """Return for each entry id -> share of the atoms; a stable entry decomposes into itself."""
        mixtures = self.hull.decompose(self.hull.fractions)
        return [
            {name: 1.0} if stable else self._shares(mixtures, i)
            for i, (name, stable) in enumerate(zip(self.entries.ids, self.stable, strict=True))
        ]

    def decomposition(self, entry: str) -> dict[str, float]:
        """Return the decomposition of an entry, as id -> share of the atoms. Raises InputError."""
        row = self.row(entry)
        if self.stable[row]:
            return {entry: 1.0}
        return self._shares(self.hull.decompose(self.hull.fractions[[row]]), 0)

    def amounts(self, entry: str) -> dict[str, float]:
        """Return the number of reduced formulas of each product per reduced formula of the entry.

        Products are given by their ids. Atoms of open elements are not counted.
        """
        size = {name: self._size(self.row(name)) for name in (entry, *self.decomposition(entry))}
        return {
            name: share * size[entry] / size[name]
            for name, share in self.decomposition(entry).items()
        }

    def decomposition_enthalpy(self, entries: Sequence[str] | None = None) -> np.ndarray:
        """Compute the decomposition enthalpies ΔH_d of entries, eV/atom.

        ΔH_d is an entry's energy minus that of the lowest mixture without its composition, if an
        entry of this composition is stable; otherwise d, as for elements (no such mixture exists).

        Args:
            entries: ids of M entries; all entries by default.

        Returns:
            ΔH_d, [M]; negative for stable compounds.

        Raises:
            InputError: an unknown id.
        """
        rows = range(len(self.entries)) if entries is None else [self.row(i) for i in entries]
        members: dict[bytes, list[int]] = {}
        for i, key in enumerate(self.entries.compositions):
            members.setdefault(key, []).append(i)
        out = self.distances[list(rows)]
        heights: dict[bytes, float] = {}
        for k, i in enumerate(rows):
            key, x = self.entries.compositions[i], self.hull.fractions[i]
            if x.max() < 1 and self.stable[members[key]].any():
                if key not in heights:
                    heights[key] = self.hull.program(x, np.array(members[key]))[0]
                out[k] = self.hull.energies[i] - heights[key]
        return out

    def grand_potential(
        self,
        open: Mapping[str, float],
        *,
        temperature: float | None = None,
        pressure: float | None = None,
    ) -> "GrandPotentialHull":
        """Return the hull of compounds that exchange some elements with reservoirs at fixed μ.

        Args:
            open: symbol -> chemical potential μ, eV/atom, on the scale of the entries' energies
                (for total energies, μ of O is near half the energy of O2).
            temperature: temperature for which μ was computed, K; only recorded.
            pressure: pressure for which μ was computed, bar; only recorded.

        Raises:
            InputError: an element that the hull lacks; no closed element; μ not finite.
        """
        return GrandPotentialHull(self, open, temperature=temperature, pressure=pressure)

    def row(self, entry: str) -> int:
        """Return the index of the entry with this id. Raises InputError if there is none."""
        if entry in self.entries.row:
            return self.entries.row[entry]
        guess = nearest(entry, self.entries.ids)
        raise InputError(
            "no entry has this id",
            expected="an id of the hull's entries",
            received=repr(entry),
            fix=f"did you mean {guess!r}?" if guess else "look for it in `entries.ids`",
        )

    def to_rows(self) -> list[Document]:
        """Return a record for each entry, in the order of `entries`."""
        columns = zip(
            self.entries.ids,
            self.formulas,
            self.formation_energies.tolist(),
            self.e_above_hull.tolist(),
            self.stable.tolist(),
            self.decompositions(),
            strict=True,
        )
        names = (
            "id",
            "formula",
            "formation_energy_per_atom",
            "e_above_hull",
            "stable",
            "decomposition",
        )
        return [dict(zip(names, values, strict=True)) for values in columns]

    def document(self) -> Document:
        """Return a JSON document of the elements, references, provenance and a record per entry."""
        of_kind = merge_groups(self._groups)
        return {
            "elements": list(self.elements),
            "references": dict(
                zip(self.references.elements, self.references.energies.tolist(), strict=True)
            ),
            "tolerance": self.tolerance,
            "provenance": [{**vars(p), "entries": len(ids)} for p, ids in sorted(of_kind.items())],
            "conflicts": self.conflicts,
            "notes": self.notes,
            "entries": self.to_rows(),
        }

    def _energies(self, entries: Entries) -> Float[np.ndarray, " N"]:
        return self.relative(entries.fractions, entries.energies_per_atom)

    def comparable(self, candidates: Entries) -> Entries:
        """Return candidates over the hull's elements, with total energies if the hull has these.

        Raises:
            InputError: an element that the hull lacks; totals, if the hull has formation energies.
        """
        candidates = candidates.over(self.elements)
        if candidates.formation and not self.entries.formation:
            mu = self.references.energies
            totals = candidates.energies + candidates.counts @ mu
            return replace(candidates, energies=totals)
        if self.entries.formation and not candidates.formation:
            raise InputError(
                "the hull has formation energies, but the candidates have total energies",
                fix="give formation energies of the candidates (formation=True), or a hull of "
                "total energies",
            )
        return candidates

    def copies(
        self, candidates: Entries, e: Float[np.ndarray, " M"]
    ) -> dict[int, Int[np.ndarray, " k"]]:
        """Return candidate -> indices of entries with its id, or its composition and energy.

        Args:
            candidates: candidates over the hull's elements.
            e: energies of the candidates (see `relative`), eV/atom.

        Raises:
            InputError: an id that in the hull has another composition.
        """
        x, own = candidates.fractions, {}
        order = np.argsort(self.hull.energies)
        sorted_energies = self.hull.energies[order]
        first = np.searchsorted(sorted_energies, e - SAME)
        last = np.searchsorted(sorted_energies, e + SAME)
        for i in np.flatnonzero(last > first).tolist():
            rows = order[first[i] : last[i]]
            own[i] = set(rows[_same(self.hull.fractions[rows], x[i])].tolist())
        unnamed = candidates.unnamed | self.entries.unnamed
        for i, name in enumerate(candidates.ids):
            j = self.entries.row.get(name)
            if j is None or name in unnamed:
                continue
            if not _same(self.hull.fractions[j], x[i]):
                raise InputError(
                    "a candidate has the id of an entry of another composition",
                    where=candidates.places[i],
                    expected=f"{self.formulas[j]}, as in {self.entries.places[j]}",
                    received=f"{candidates.formulas[i]} as {name!r}",
                    fix="rename one of them",
                )
            own.setdefault(i, set()).add(j)
        return {i: np.array(sorted(rows), int) for i, rows in sorted(own.items()) if rows}

    @cached_property
    def _corners(self) -> set[int]:
        """Entries without which the hull can change: corners of facets, else all stable entries."""
        if self.hull.method == "program":
            return set(np.flatnonzero(self.stable).tolist())
        return set(np.unique(self.hull.facets.entries).tolist())

    def _shares(self, mixtures: Decomposition | Distances, row: int) -> dict[str, float]:
        shares: dict[str, float] = {}
        for j, share in zip(mixtures.entries[row], mixtures.shares[row], strict=True):
            if share > 0:
                name = self.entries.ids[j]
                shares[name] = shares.get(name, 0.0) + float(share)
        return shares

    def _size(self, row: int) -> float:
        """Return the number of atoms in the reduced formula of entry `row`."""
        return reduced(self.elements, self.entries.counts[row])[1]


class GrandPotentialHull(ConvexHull):
    """The hull of the grand potential φ per atom of the closed elements, those that are not open.

    Entries of open elements only are left out. Candidates are over all elements. The `entries` have
    counts of closed elements, and Σ φ as energies; `formulas` contain all elements.

    Attributes:
        closed: the hull without open elements, from which this one is made.
        open: symbol of each open element -> its chemical potential μ, eV/atom.
        temperature: temperature for which μ was computed, K; None if unknown.
        pressure: pressure for which μ was computed, bar; None if unknown.
    """

    def __init__(
        self,
        closed: ConvexHull,
        open: Mapping[str, float],
        *,
        temperature: float | None = None,
        pressure: float | None = None,
    ):
        bad = [e for e in open if e not in closed.elements or not np.isfinite(open[e])]
        if bad or not open or len(open) == len(closed.elements):
            raise InputError(
                "these elements cannot be open",
                expected=f"some but not all of {', '.join(closed.elements)}, each with μ in eV",
                received=", ".join(f"{e}: {mu}" for e, mu in open.items()) or "none",
                fix="name elements of the hull with finite chemical potentials",
            )
        self.closed, self.open = closed, dict(open)
        self.temperature, self.pressure = temperature, pressure
        rows = np.flatnonzero(_closed_atoms(closed.entries, self.open) > 0)
        self._formulas = tuple(closed.formulas[i] for i in rows)
        # References of formation energies are zero; those of φ are not, and can be any phases.
        phi = replace(_phi(closed.entries.select(rows), self.open), formation=False)
        super().__init__(phi, tolerance=closed.tolerance, allow_mixed=closed.allow_mixed)

    @property
    def formulas(self) -> tuple[str, ...]:
        """Reduced formula of each entry, including the atoms of open elements."""
        return self._formulas

    def decompose(self, candidates: Entries) -> list[dict[str, float]]:
        """Return the decomposition of each candidate, as id -> share of the closed atoms."""
        return super().decompose(self.comparable(candidates))

    def document(self) -> Document:
        """Return the document, with μ of open elements (eV), temperature (K) and pressure (bar)."""
        opened = {"mu": self.open, "temperature": self.temperature, "pressure": self.pressure}
        return {**super().document(), "open": opened}

    def comparable(self, candidates: Entries) -> Entries:
        """Return candidates with φ as energies, so that distances are in eV per closed atom.

        Raises:
            InputError: a candidate of open elements only; see also `ConvexHull.comparable`.
        """
        candidates = self.closed.comparable(candidates)
        empty = np.flatnonzero(_closed_atoms(candidates, self.open) == 0)
        if len(empty):
            raise InputError(
                f"{len(empty)} candidates consist of open elements only",
                where=candidates.places[int(empty[0])],
                expected=f"atoms of {' or '.join(self.elements)}",
                received=", ".join(candidates.ids[i] for i in empty[:3]),
                fix="remove them",
            )
        return replace(_phi(candidates, self.open), formation=False)


def _same(x: np.ndarray, of: Float[np.ndarray, " D"]) -> Any:
    """Return whether each of the compositions x, [..., D], equals the composition `of`, [...]."""
    return np.abs(x - of).max(axis=-1) < SAME


def refuse_formation_energies_of_candidates(
    d: Float[np.ndarray, " M"],
    per_atom: Float[np.ndarray, " M"],
    e: Float[np.ndarray, " M"],
    atoms: Float[np.ndarray, " M"],
    where: str,
) -> None:
    """Raise InputError if candidates seem to have formation energies instead of total energies.

    This is so if at least three candidates all lie more than `WRONG` above the hull, but within
    0.3 eV/atom (median) if their energies are formation energies, of the cell or per atom.

    Args:
        d: distances to the hull if the energies are totals, eV/atom.
        per_atom: energies per atom E/N, eV/atom.
        e: energies per atom relative to the hull's elements, eV/atom.
        atoms: numbers of atoms N.
        where: file and row of the first candidate.
    """
    if len(d) < 3 or not d.min() > WRONG:
        return
    height = e - d
    as_formation = min(
        float(np.median(np.abs(energies - height))) for energies in (per_atom, per_atom * atoms)
    )
    if as_formation < 0.3:
        raise InputError(
            "the candidates look like formation energies, but the hull has total energies",
            where=where,
            expected="total energies in eV",
            received=f"all of {len(d)} candidates at least {d.min():.2f} eV/atom above the hull; "
            f"as formation energies {as_formation:.2f} from it (median)",
            fix="give total energies, or declare these as formation energies in eV/atom "
            "(formation=True)",
        )


def _closed_atoms(entries: Entries, open: Mapping[str, float]) -> Float[np.ndarray, " N"]:
    closed = [e not in open for e in entries.elements]
    return entries.counts[:, closed].sum(axis=1)


def _phi(entries: Entries, open: Mapping[str, float]) -> Entries:
    """Return entries over closed elements, with energies E − Σ_k μ_k n_k, k the open elements."""
    mu = np.array([open.get(e, 0.0) for e in entries.elements])
    closed = [j for j, e in enumerate(entries.elements) if e not in open]
    return replace(
        entries,
        elements=tuple(entries.elements[j] for j in closed),
        counts=entries.counts[:, closed],
        energies=entries.energies - entries.counts @ mu,
    )


def _with_references(entries: Entries, references: ElementalReferences) -> Entries:
    """Return entries, and one entry more for each element that has a reference energy only."""
    rows = [i for i, e in enumerate(entries.elements) if lowest_elemental(entries, e) is None]
    if not rows:
        return entries
    elements = [entries.elements[i] for i in rows]
    added = Entries(
        ids=tuple(f"reference:{e}" for e in elements),
        elements=tuple(elements),
        counts=np.eye(len(rows)),
        energies=references.energies[rows],
        provenance=tuple(references.provenance[i] for i in rows),
        places=("the reference energies",) * len(rows),
        formation=entries.formation,
    )
    return entries.joined(added)
