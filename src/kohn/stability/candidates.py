"""Store millions of candidates: each composition once, and the energies in one array.

    e_m = E_m / N_m, eV/atom         E_m the total energy of candidate m, N_m its number of atoms

The chemical system of a candidate is the set of its elements: it can only decompose into entries
made of these. Each distinct formula is parsed once. Rows keep the order of the files; `by_system`
returns the rows of each chemical system, and `entries` converts such rows to `Entries`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np

from kohn.stability.entries import Entries, composition_keys
from kohn.stability.formulas import parse_formula
from kohn.stability.provenance import UNSTATED, Provenance
from kohn.typing import Bool, Float, Int

SAMPLE = 2000
"""The largest number of evenly spaced candidates whose energies are checked or compared."""


@dataclass(frozen=True, eq=False)
class Compositions:
    """U distinct compositions, stored one after the other.

    Attributes:
        formulas: the formula of each composition as it was written, [U].
        systems: the distinct chemical systems, each as its symbols in alphabetical order.
        system: for each composition, the index of its chemical system in `systems`, [U].
        start: for each composition, the index of its first number of atoms in `amounts`, [U].
        amounts: numbers of atoms of all compositions, each in the order of its system's symbols.
    """

    formulas: tuple[str, ...]
    systems: tuple[tuple[str, ...], ...]
    system: Int[np.ndarray, " U"]
    start: Int[np.ndarray, " U"]
    amounts: Float[np.ndarray, " n"]

    @cached_property
    def atoms(self) -> Float[np.ndarray, " U"]:
        """N, the number of atoms of each composition, [U]."""
        return np.add.reduceat(self.amounts, self.start)

    def counts(self, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m D"]:
        """Return the numbers of atoms in compositions `rows`, which all have the same elements."""
        elements = len(self.systems[self.system[rows[0]]])
        return self.amounts[self.start[rows][:, None] + np.arange(elements)]


class Parser:
    """A parser of formulas into `Compositions`; each distinct formula is parsed once."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._formulas: list[str] = []
        self._systems: dict[tuple[str, ...], int] = {}
        self._order: list[tuple[str, ...]] = []
        self._system: list[int] = []
        self._start: list[int] = []
        self._amounts: list[float] = []

    def index(self, formula: str) -> int:
        """Return the index of the composition of a formula; see `parse_formula` for errors."""
        index = self._index.get(formula)
        return self._add(formula, formula, parse_formula(formula)) if index is None else index

    def cell_index(self, formula: str, counts: Mapping[str, float]) -> int:
        """Return the index of the composition of a cell with this reduced formula. Cells of one
        formula share the `counts` of the first one, so use only energies per atom with it."""
        index = self._index.get(f"cell of {formula}")
        return self._add(f"cell of {formula}", formula, counts) if index is None else index

    def _add(self, key: str, formula: str, counts: Mapping[str, float]) -> int:
        symbols = tuple(sorted(counts))
        if symbols not in self._systems:
            self._systems[symbols] = len(self._order)
            self._order.append(symbols)
        self._system.append(self._systems[symbols])
        self._start.append(len(self._amounts))
        self._amounts.extend(counts[s] for s in symbols)
        self._formulas.append(formula)
        self._index[key] = len(self._start) - 1
        return len(self._start) - 1

    def system(self, index: int) -> tuple[str, ...]:
        """Return the chemical system of composition `index`, as its symbols."""
        return self._order[self._system[index]]

    def compositions(self) -> Compositions:
        """Return the compositions of all formulas that were parsed so far."""
        return Compositions(
            tuple(self._formulas),
            tuple(self._order),
            np.array(self._system, np.int32),
            np.array(self._start, np.int64),
            np.array(self._amounts),
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """M compounds whose stability is to be assessed.

    Attributes:
        ids: names, all different, [M].
        compositions: the distinct compositions.
        which: for each candidate, the index of its composition in `compositions`, [M].
        energies: energies e, eV/atom, [M]; NaN for an energy that is not known yet.
        deviations: standard deviations σ of the energies, eV/atom, [M]; None if unknown.
        provenance: how the energies were computed -> ids of these candidates.
        places: name of each file, and the index of its first candidate; used in messages.
        lines: line or row of each candidate in its file, from 1, [M].
        named: whether an id is from the file; other ids were generated and are not compared, [M].
        formation: whether energies are formation energies, not total energies, per atom.
    """

    ids: Sequence[str]
    compositions: Compositions
    which: Int[np.ndarray, " M"]
    energies: Float[np.ndarray, " M"]
    deviations: Float[np.ndarray, " M"] | None
    provenance: Mapping[Provenance, Sequence[str]]
    places: tuple[tuple[str, int], ...]
    lines: Int[np.ndarray, " M"]
    named: Bool[np.ndarray, " M"]
    formation: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def place(self, row: int) -> str:
        """Return the file and the line of candidate `row`, as a text for messages."""
        return place_of(self.places, row, int(self.lines[row]))

    def formula(self, row: int) -> str:
        """Return the formula of candidate `row`, as it was written in the file."""
        return self.compositions.formulas[self.which[row]]

    def by_system(self) -> list[tuple[tuple[str, ...], Int[np.ndarray, " m"]]]:
        """Return pairs of a chemical system and its rows: sorted systems, rows in file order."""
        system = self.compositions.system[self.which]
        order = np.argsort(system, kind="stable")
        ends = np.cumsum(np.bincount(system, minlength=len(self.compositions.systems)))
        rows = np.split(order, ends[:-1])
        pairs = zip(self.compositions.systems, rows, strict=True)
        return sorted((s, r) for s, r in pairs if len(r))

    def entries(self, rows: Int[np.ndarray, " m"]) -> Entries:
        """Return candidates `rows`, all of one chemical system, as entries over its elements."""
        which = self.which[rows]
        elements = self.compositions.systems[self.compositions.system[which[0]]]
        return self._as_entries(rows, elements, self.compositions.counts(which))

    def _as_entries(
        self, rows: Int[np.ndarray, " m"], elements: tuple[str, ...], counts: np.ndarray
    ) -> Entries:
        ids = tuple(str(self.ids[i]) for i in rows.tolist())
        return Entries(
            ids=ids,
            elements=elements,
            counts=counts,
            energies=self.energies[rows] * counts.sum(axis=1),
            provenance=(UNSTATED,) * len(rows),
            places=Places(self, rows),
            unnamed=frozenset(ids[k] for k in np.flatnonzero(~self.named[rows])),
            formation=self.formation,
        )

    def sample(self, rows: Int[np.ndarray, " m"]) -> Entries:
        """Return the candidates `rows`, of any systems, as entries over all of their elements."""
        unique = self.compositions
        which = self.which[rows].tolist()
        symbols = sorted({e for k in which for e in unique.systems[unique.system[k]]})
        column = {e: j for j, e in enumerate(symbols)}
        counts = np.zeros((len(rows), len(symbols)))
        for i, k in enumerate(which):
            elements = unique.systems[unique.system[k]]
            counts[i, [column[e] for e in elements]] = unique.counts(np.array([k]))[0]
        return self._as_entries(rows, tuple(symbols), counts)

    def shared(self, entries: Entries) -> Int[np.ndarray, " m"]:
        """Return up to `SAMPLE` rows of candidates with an energy and an entry's composition."""
        entry_keys = set(entries.compositions)
        unique, known = self.compositions, np.zeros(len(self.compositions.formulas), bool)
        order = np.argsort(unique.system, kind="stable")
        for same in np.split(order, np.cumsum(np.bincount(unique.system))[:-1]):
            elements = unique.systems[unique.system[same[0]]]
            if not set(elements) <= set(entries.elements):
                continue
            fractions = np.zeros((len(same), len(entries.elements)))
            counts = unique.counts(same)
            columns = [entries.elements.index(e) for e in elements]
            fractions[:, columns] = counts / counts.sum(axis=1, keepdims=True)
            keys = composition_keys(fractions)
            known[same] = [key in entry_keys for key in keys]
        rows = np.flatnonzero(known[self.which] & np.isfinite(self.energies))
        return rows[:: max(1, -(-len(rows) // SAMPLE))]


@dataclass(frozen=True)
class Places(Sequence[str]):
    """The file and line of each row as texts, which are computed on access."""

    candidates: Candidates
    rows: Int[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Places": ...
    def __getitem__(self, index: int | slice) -> "str | Places":
        if isinstance(index, slice):
            return replace(self, rows=self.rows[index])
        return self.candidates.place(int(self.rows[index]))


def place_of(places: Sequence[tuple[str, int]], row: int, line: int) -> str:
    """Return the file of a row and its line there, as a text; see `Candidates.places`."""
    file = next(name for name, first in reversed(places) if first <= row)
    return f"{file}, {'line' if file.lower().endswith('.csv') else 'row'} {line}"
