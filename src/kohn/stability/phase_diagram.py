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
from typing import Any

import numpy as np

from kohn.errors import InputError, nearest
from kohn.stability.entries import Entries
from kohn.stability.formulas import reduced
from kohn.stability.hull import TOLERANCE, Decomposition, LowerHull, Method
from kohn.stability.provenance import conflicts, groups, notes, refuse_mixed
from kohn.stability.references import ElementalReferences, lowest_elemental
from kohn.typing import Bool, Float, Int

SAME = 1e-9
"""eV/atom: entries of one composition this near are copies of each other."""
WRONG = 1.0
"""eV/atom: no batch of compounds lies as far above the hull."""


@dataclass(frozen=True)
class Distances:
    """How far candidates are from a hull.

    Attributes:
        values: d, eV/atom, [M]; negative below the hull.
        known: those that are in the hull's own set, by id or as copies, and were left out of
            their own hull, [M].
    """

    values: Float[np.ndarray, " M"]
    known: Bool[np.ndarray, " M"]


class ConvexHull:
    """A phase diagram of entries.

    Attributes:
        entries: R; where references are given for elements without an entry, with these as
            entries 'reference:O'.
        references: what formation energies count from.
        tolerance: eV/atom.
        conflicts: in what the entries disagree, where that is allowed.
        notes: what is not known of some entries.
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
        of_kind = groups(entries.ids, entries.provenance)
        if not allow_mixed:
            refuse_mixed(of_kind)
        self.conflicts = conflicts(of_kind)
        self.notes = notes(of_kind)
        self.entries = entries
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
        candidates = self._comparable(candidates)
        if not self.allow_mixed:
            ids = [*self.entries.ids, *candidates.ids]
            refuse_mixed(groups(ids, [*self.entries.provenance, *candidates.provenance]))
        x, e = candidates.fractions, self._energies(candidates)
        values = self.hull.distance(x, e, method)
        copies = self._copies(candidates)
        corners = self._corners()
        for i, own in enumerate(copies):
            if len(own) and not corners.isdisjoint(own.tolist()):
                values[i] = e[i] - self._height_without(x[i], own, otherwise=e[i])
        known = np.array([len(own) > 0 for own in copies], bool)
        if not candidates.formation and not known.any():
            self._refuse_formation_energies(candidates, values)
        return Distances(values, known)

    def decompose(self, candidates: Entries) -> list[dict[str, float]]:
        """What candidates fall into: id -> share of the atoms.

        Where several mixtures have the lowest energy, one of them. Provenance is not looked at:
        the energies of candidates play no role.

        Raises:
            InputError: an element that the hull lacks.
        """
        found = self.hull.decompose(candidates.over(self.elements).fractions)
        return [self._shares(found, i) for i in range(len(candidates))]

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

    def to_rows(self) -> list[dict[str, Any]]:
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

    def document(self) -> dict[str, Any]:
        """All of it as JSON takes it: elements, references, provenance, and the rows."""
        of_kind = groups(self.entries.ids, self.entries.provenance)
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
        """e from the hull's own lowest elements, of entries over its elements, eV/atom."""
        return entries.energies_per_atom - entries.fractions @ self._zero

    def _comparable(self, candidates: Entries) -> Entries:
        """Candidates over the hull's elements, as totals where the hull has totals."""
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

    def _copies(self, candidates: Entries) -> list[Int[np.ndarray, " k"]]:
        """Rows of the hull's entries that each candidate is, by id or by composition and energy."""
        members: dict[bytes, list[int]] = {}
        for i, key in enumerate(self.entries.compositions):
            members.setdefault(key, []).append(i)
        e, found = self._energies(candidates), []
        for i, (name, key) in enumerate(zip(candidates.ids, candidates.compositions, strict=True)):
            own = {j for j in members.get(key, ()) if abs(self.hull.energies[j] - e[i]) < SAME}
            named = name in self.entries.row and name not in candidates.unnamed
            if named and name not in self.entries.unnamed:
                j = self.entries.row[name]
                if self.entries.compositions[j] != key:
                    raise InputError(
                        "a candidate has the id of an entry of another composition",
                        where=candidates.places[i],
                        expected=f"{self.formulas[j]}, as in {self.entries.places[j]}",
                        received=f"{candidates.formulas[i]} as {name!r}",
                        fix="rename one of them",
                    )
                own.add(j)
            found.append(np.array(sorted(own), int))
        return found

    def _corners(self) -> set[int]:
        """Entries that the hull would change without; all in the hull where facets are too many."""
        if self.hull.method == "program":
            return set(np.flatnonzero(self.stable).tolist())
        return set(np.unique(self.hull.facets.entries).tolist())

    def _height_without(self, x: np.ndarray, own: np.ndarray, otherwise: float) -> float:
        """h of the hull without some entries; the only entry of an element has nothing else."""
        try:
            return self.hull.program(x, own)[0]
        except InputError:
            return otherwise

    def _refuse_formation_energies(self, candidates: Entries, values: np.ndarray) -> None:
        """Raises InputError where candidates make sense as formation energies only.

        All lie more than `WRONG` above the hull as totals, and within 0.3 eV/atom of it (median) as
        formation energies; at least three.
        """
        height = self.hull.height(candidates.fractions)
        as_given = np.abs(candidates.energies_per_atom - height)
        if len(candidates) > 2 and values.min() > WRONG and np.median(as_given) < 0.3:
            raise InputError(
                "the candidates look like formation energies beside a hull of total energies",
                where=candidates.places[0],
                expected="total energies in eV",
                received=f"all of {len(candidates)} candidates at least {values.min():.2f} eV/atom "
                f"above the hull; as formation energies {np.median(as_given):.2f} from it (median)",
                fix="give total energies; or say that these are formation energies in eV/atom "
                "(formation=True)",
            )

    def _shares(self, found: Decomposition, row: int) -> dict[str, float]:
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

    Entries with other elements only are left out. Energies of `entries` are Σφ, and their counts
    those of closed elements; `formulas` are whole.

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

    def distance(self, candidates: Entries, *, method: Method | None = None) -> Distances:
        """Of candidates over all elements; see `ConvexHull.distance`. eV per closed atom.

        Raises:
            InputError: as there; candidates of open elements only.
        """
        return super().distance(self._opened(candidates), method=method)

    def decompose(self, candidates: Entries) -> list[dict[str, float]]:
        """Of candidates over all elements: id -> share of the closed atoms."""
        return super().decompose(self._opened(candidates))

    def document(self) -> dict[str, Any]:
        """With chemical potentials, temperature (K) and pressure (bar)."""
        opened = {"mu": self.open, "temperature": self.temperature, "pressure": self.pressure}
        return {**super().document(), "open": opened}

    def _opened(self, candidates: Entries) -> Entries:
        candidates = self.closed._comparable(candidates)
        empty = np.flatnonzero(_closed_atoms(candidates, self.open) == 0)
        if len(empty):
            raise InputError(
                f"{len(empty)} candidates consist of open elements only",
                where=candidates.places[empty[0]],
                expected=f"some {' or '.join(self.elements)}",
                received=", ".join(candidates.ids[i] for i in empty[:3]),
                fix="leave them out",
            )
        return replace(_phi(candidates, self.open), formation=False)


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
