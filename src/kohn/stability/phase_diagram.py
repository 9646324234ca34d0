"""Phase diagrams: which of the entries are stable, by how much, and what the others fall into.

With x_i the fractions of elements, e_i the formation energy per atom counted from the lowest entry
of each element, and h the lower hull of a set R of entries (`kohn.stability.hull`):

    d(c) = e_c − h(x_c)                    distance of a candidate c, signed, from R without c
    e_above_hull = max(0, d)               of the entries of R themselves
    stable:  d ≤ tolerance                 never by being a corner: phases on a face are stable too
    ΔH_d = e_i − h'(x_i)                   h' of R without all entries of the composition of i

    φ_i = (E_i − Σ_k μ_k n_ik) / Σ_j≠k n_ij        open to elements k: a hull over the others

A hull does not change where c_j is added to the energy of each atom of j in all entries. Where it
is added to candidates alone, d is off by x · c; see `kohn.stability.references.element_bias`.

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
from kohn.stability.provenance import conflicts, groups, notes, refuse_mixed, settled
from kohn.stability.references import ElementalReferences, lowest_elemental
from kohn.structures.provenance import Provenance
from kohn.typing import Bool, Document, Float, Int

SAME = 1e-9
"""eV/atom, and fractions: entries this near in composition and energy are copies of each other."""
WRONG = 1.0
"""eV/atom: no batch of compounds lies as far above the hull."""


@dataclass(frozen=True)
class Distances:
    """How far candidates are from a hull, and what they fall into.

    Attributes:
        values: d, eV/atom, [M]; negative below the hull.
        known: those that are in the hull's own set, by id or as copies, and were left out of
            their own hull, [M].
        entries: rows of the hull's entries that each falls into, [M, D].
        shares: of the atoms, [M, D]; 0 where there are fewer entries.
    """

    values: Float[np.ndarray, " M"]
    known: Bool[np.ndarray, " M"]
    entries: Int[np.ndarray, "M D"]
    shares: Float[np.ndarray, "M D"]


class ConvexHull:
    """A phase diagram of entries.

    Attributes:
        entries: R; where references are given for elements without an entry, with these as
            entries 'reference:O'.
        references: what formation energies count from.
        tolerance: eV/atom.
    """

    def __init__(
        self,
        entries: Entries,
        references: ElementalReferences | None = None,
        *,
        tolerance: float = TOLERANCE,
        allow_mixed: bool = False,
    ):
        """The hull of entries.

        Args:
            entries: compounds and elements.
            references: energies of the elements; by default the lowest entries. Distances depend
                on them only where an element has no entry.
            tolerance: stable within this distance, eV/atom.
            allow_mixed: do not refuse energies that were computed in different ways.

        Raises:
            InputError: an element has neither entry nor reference; energies computed in different
                ways; references beside formation energies.
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
        # The hull counts from its own lowest elements, whatever formation energies count from.
        self._zero = lowest.energies
        self.hull = LowerHull(entries.fractions, self._energies(entries))
        self.distances = self.hull.distance(self.hull.fractions, self.hull.energies)

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols, [D]."""
        return self.entries.elements

    @property
    def conflicts(self) -> list[str]:
        """In what the entries disagree, where that is allowed."""
        return conflicts(self._groups)

    @property
    def notes(self) -> list[str]:
        """What is not known of some entries."""
        return notes(self._groups)

    @cached_property
    def _groups(self) -> dict[Provenance, list[str]]:
        return groups(self.entries.ids, self.entries.provenance)

    @property
    def formulas(self) -> tuple[str, ...]:
        """Reduced formulas of the entries."""
        return self.entries.formulas

    @property
    def formation_energies(self) -> Float[np.ndarray, " N"]:
        """From `references`, eV/atom, [N]."""
        return self.references.formation_energies(self.entries)

    @property
    def e_above_hull(self) -> Float[np.ndarray, " N"]:
        """max(0, d) of the entries, eV/atom, [N]."""
        return np.maximum(self.distances, 0.0)

    @property
    def stable(self) -> Bool[np.ndarray, " N"]:
        """d ≤ tolerance, [N]."""
        return self.distances <= self.tolerance

    def distance(self, candidates: Entries, *, method: Method | None = None) -> Distances:
        """Of candidates from the hull, each without itself.

        Args:
            candidates: any entries over the hull's elements. One that has the id of an entry, or
                the composition and the energy of one, is compared with the hull of the others;
                the only entry of an element is at distance 0.
            method: 'facets' or 'program' (a linear program each); chosen by the number of
                elements by default.

        Raises:
            InputError: an element that the hull lacks; an id that is of another composition here;
                energies computed in another way than the hull's, unless that was allowed; what
                looks like formation energies, and is not said to be.
        """
        candidates = self.comparable(candidates)
        if not self.allow_mixed:
            ids = [*self.entries.ids, *candidates.ids]
            refuse_mixed(groups(ids, [*self.entries.provenance, *candidates.provenance]))
        x, e = candidates.fractions, self._energies(candidates)
        found = self.distances_without(x, e, self.copies(candidates, e), method=method)
        if not candidates.formation and not found.known.any():
            refuse_formation_energies_of_candidates(
                found.values,
                candidates.energies_per_atom,
                e,
                candidates.atoms,
                candidates.places[0],
            )
        return found

    def distances_without(
        self,
        x: Float[np.ndarray, "M D"],
        e: Float[np.ndarray, " M"],
        own: Mapping[int, Int[np.ndarray, " k"]],
        *,
        method: Method | None = None,
    ) -> Distances:
        """The same of arrays that have been checked.

        Args:
            x: fractions over `elements`.
            e: formation energies from the hull's own lowest elements (`relative`), eV/atom.
            own: candidate -> the rows of the entries that it is (`copies`).
            method: see `distance`.
        """
        found = self.hull.decompose(x, method)
        values = e - found.heights
        known = np.zeros(len(x), bool)
        known[list(own)] = True
        for i, rows in own.items():
            if not self._corners.isdisjoint(rows.tolist()):
                try:
                    height, chosen, shares = self.hull.program(x[i], rows)
                except InputError:  # the only entry of an element has nothing else
                    height, chosen, shares = e[i], rows[:1], np.ones(1)
                values[i] = e[i] - height
                found.entries[i], found.shares[i] = rows[0], 0.0
                found.entries[i, : len(chosen)], found.shares[i, : len(chosen)] = chosen, shares
        return Distances(values, known, found.entries, found.shares)

    def relative(
        self, x: Float[np.ndarray, "M D"], energies: Float[np.ndarray, " M"]
    ) -> Float[np.ndarray, " M"]:
        """Energies per atom less those of the hull's own lowest elements, eV/atom, [M]."""
        return energies - x @ self._zero

    def decompose(self, candidates: Entries) -> list[dict[str, float]]:
        """What candidates fall into: id -> share of the atoms.

        Where several mixtures have the lowest energy, one of them. Provenance is not looked at:
        the energies of candidates play no role.

        Raises:
            InputError: an element that the hull lacks.
        """
        return self.shares(self.hull.decompose(candidates.over(self.elements).fractions))

    def shares(self, found: Decomposition | Distances) -> list[dict[str, float]]:
        """What was found, by id: id -> share of the atoms."""
        return [self._shares(found, i) for i in range(len(found.shares))]

    def decompositions(self) -> list[dict[str, float]]:
        """What each entry falls into: id -> share of the atoms; a stable one is itself."""
        found = self.hull.decompose(self.hull.fractions)
        return [
            {name: 1.0} if ok else self._shares(found, i)
            for i, (name, ok) in enumerate(zip(self.entries.ids, self.stable, strict=True))
        ]

    def decomposition(self, entry: str) -> dict[str, float]:
        """What the entry of this id falls into: id -> share of the atoms. Raises InputError."""
        row = self.row(entry)
        if self.stable[row]:
            return {entry: 1.0}
        return self._shares(self.hull.decompose(self.hull.fractions[[row]]), 0)

    def amounts(self, entry: str) -> dict[str, float]:
        """The same in formula units: id -> reduced formulas of it per reduced formula of the entry.

        In a hull open to elements, atoms of these are not counted.
        """
        size = {name: self._size(self.row(name)) for name in (entry, *self.decomposition(entry))}
        return {
            name: share * size[entry] / size[name]
            for name, share in self.decomposition(entry).items()
        }

    def decomposition_enthalpy(self, entries: Sequence[str] | None = None) -> np.ndarray:
        """ΔH_d, eV/atom: how far phases are below what they would be made of otherwise.

        All entries of a composition are left out where one of them is stable; elsewhere ΔH_d is d.
        Elements have d: there is nothing else that they could be made of.

        Args:
            entries: ids; all by default.

        Returns:
            [M], negative for stable compounds.

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
        """The hull in exchange with reservoirs of some elements.

        Args:
            open: symbol -> μ, eV/atom, on the scale of the entries' energies (for total energies
                μ of O is near half the energy of O2).
            temperature: for which μ was computed, K; only recorded.
            pressure: the same, bar; only recorded.

        Raises:
            InputError: an element that is not in the hull; none left closed; μ not finite.
        """
        return GrandPotentialHull(self, open, temperature=temperature, pressure=pressure)

    def row(self, entry: str) -> int:
        """The row of an id. Raises InputError."""
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
        """One record for each entry, in their order."""
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
        """All of it as JSON takes it: elements, references, provenance, and the rows."""
        of_kind = settled(self._groups)
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
        """Candidates over the hull's elements, as totals where the hull has totals.

        Raises:
            InputError: an element that the hull lacks; total energies beside formation energies.
        """
        candidates = candidates.over(self.elements)
        if candidates.formation and not self.entries.formation:
            mu = self.references.energies
            totals = candidates.energies + candidates.counts @ mu
            return replace(candidates, energies=totals)
        if self.entries.formation and not candidates.formation:
            raise InputError(
                "the hull has formation energies, but the candidates total energies",
                fix="give formation energies of the candidates (formation=True), or a hull of "
                "total energies",
            )
        return candidates

    def copies(
        self, candidates: Entries, e: Float[np.ndarray, " M"]
    ) -> dict[int, Int[np.ndarray, " k"]]:
        """Candidate -> rows of the hull's entries that it is: by id, or by composition and energy.

        Args:
            candidates: over the hull's elements.
            e: their energies (`relative`), eV/atom.

        Raises:
            InputError: an id that is of another composition here.
        """
        x, found = candidates.fractions, {}
        order = np.argsort(self.hull.energies)
        sorted_energies = self.hull.energies[order]
        first = np.searchsorted(sorted_energies, e - SAME)
        last = np.searchsorted(sorted_energies, e + SAME)
        for i in np.flatnonzero(last > first).tolist():
            rows = order[first[i] : last[i]]
            found[i] = set(rows[_same(self.hull.fractions[rows], x[i])].tolist())
        nameless = candidates.unnamed | self.entries.unnamed
        for i, name in enumerate(candidates.ids):
            j = self.entries.row.get(name)
            if j is None or name in nameless:
                continue
            if not _same(self.hull.fractions[j], x[i]):
                raise InputError(
                    "a candidate has the id of an entry of another composition",
                    where=candidates.places[i],
                    expected=f"{self.formulas[j]}, as in {self.entries.places[j]}",
                    received=f"{candidates.formulas[i]} as {name!r}",
                    fix="rename one of them",
                )
            found.setdefault(i, set()).add(j)
        return {i: np.array(sorted(rows), int) for i, rows in sorted(found.items()) if rows}

    @cached_property
    def _corners(self) -> set[int]:
        """Entries that the hull would change without; all in the hull where facets are too many."""
        if self.hull.method == "program":
            return set(np.flatnonzero(self.stable).tolist())
        return set(np.unique(self.hull.facets.entries).tolist())

    def _shares(self, found: Decomposition | Distances, row: int) -> dict[str, float]:
        shares: dict[str, float] = {}
        for j, share in zip(found.entries[row], found.shares[row], strict=True):
            if share > 0:
                name = self.entries.ids[j]
                shares[name] = shares.get(name, 0.0) + float(share)
        return shares

    def _size(self, row: int) -> float:
        """Atoms of the reduced formula."""
        return reduced(self.elements, self.entries.counts[row])[1]


class GrandPotentialHull(ConvexHull):
    """A hull over the elements that are not open, in φ per atom of these.

    Entries with open elements only are left out. Candidates are over all elements. Energies of
    `entries` are Σφ, and their counts those of closed elements; `formulas` are whole.

    Attributes:
        closed: the hull that it was made of.
        open: symbol -> μ, eV/atom.
        temperature: K, or None.
        pressure: bar, or None.
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
        # μ of formation energies are zeros, which φ does not have: its elements are any phases.
        phi = replace(_phi(closed.entries.select(rows), self.open), formation=False)
        super().__init__(phi, tolerance=closed.tolerance, allow_mixed=closed.allow_mixed)

    @property
    def formulas(self) -> tuple[str, ...]:
        """Reduced formulas with the atoms of open elements."""
        return self._formulas

    def decompose(self, candidates: Entries) -> list[dict[str, float]]:
        """Of candidates over all elements: id -> share of the closed atoms."""
        return super().decompose(self.comparable(candidates))

    def document(self) -> Document:
        """With chemical potentials, temperature (K) and pressure (bar)."""
        opened = {"mu": self.open, "temperature": self.temperature, "pressure": self.pressure}
        return {**super().document(), "open": opened}

    def comparable(self, candidates: Entries) -> Entries:
        """Candidates over all elements as φ of closed ones: distances are in eV per closed atom.

        Raises:
            InputError: see `ConvexHull.comparable`; candidates of open elements only.
        """
        candidates = self.closed.comparable(candidates)
        empty = np.flatnonzero(_closed_atoms(candidates, self.open) == 0)
        if len(empty):
            raise InputError(
                f"{len(empty)} candidates consist of open elements only",
                where=candidates.places[int(empty[0])],
                expected=f"some {' or '.join(self.elements)}",
                received=", ".join(candidates.ids[i] for i in empty[:3]),
                fix="leave them out",
            )
        return replace(_phi(candidates, self.open), formation=False)


def _same(x: np.ndarray, of: Float[np.ndarray, " D"]) -> Any:
    """Whether compositions are one, [...] of [..., D]."""
    return np.abs(x - of).max(axis=-1) < SAME


def refuse_formation_energies_of_candidates(
    d: Float[np.ndarray, " M"],
    per_atom: Float[np.ndarray, " M"],
    e: Float[np.ndarray, " M"],
    atoms: Float[np.ndarray, " M"],
    where: str,
) -> None:
    """Raises InputError where candidates make sense as formation energies only.

    All lie more than `WRONG` above the hull as totals, and within 0.3 eV/atom of it (median) as
    formation energies, of the cell or of an atom; at least three.

    Args:
        d: distances as totals, eV/atom.
        per_atom: E/N, eV/atom.
        e: the same from the hull's elements, eV/atom.
        atoms: N.
        where: place of the first.
    """
    if len(d) < 3 or not d.min() > WRONG:
        return
    height = e - d
    otherwise = min(
        float(np.median(np.abs(energies - height))) for energies in (per_atom, per_atom * atoms)
    )
    if otherwise < 0.3:
        raise InputError(
            "the candidates look like formation energies beside a hull of total energies",
            where=where,
            expected="total energies in eV",
            received=f"all of {len(d)} candidates at least {d.min():.2f} eV/atom above the hull; "
            f"as formation energies {otherwise:.2f} from it (median)",
            fix="give total energies; or say that these are formation energies in eV/atom "
            "(formation=True)",
        )


def _closed_atoms(entries: Entries, open: Mapping[str, float]) -> Float[np.ndarray, " N"]:
    closed = [e not in open for e in entries.elements]
    return entries.counts[:, closed].sum(axis=1)


def _phi(entries: Entries, open: Mapping[str, float]) -> Entries:
    """E − Σ μ_k n_k over the closed elements."""
    mu = np.array([open.get(e, 0.0) for e in entries.elements])
    closed = [j for j, e in enumerate(entries.elements) if e not in open]
    return replace(
        entries,
        elements=tuple(entries.elements[j] for j in closed),
        counts=entries.counts[:, closed],
        energies=entries.energies - entries.counts @ mu,
    )


def _with_references(entries: Entries, references: ElementalReferences) -> Entries:
    """Entries with the references of those elements that have none."""
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
