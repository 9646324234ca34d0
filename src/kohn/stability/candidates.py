"""Store millions of candidates: each composition once, and the energies as columns.

    e_m = E_m / N_m, eV/atom, of candidate m;  x of its composition;  its chemical system the
    elements of x: candidate m can only decompose into entries made of these

A formula that occurs often is parsed once. Rows keep the order of the files; `by_system` returns
the rows of each chemical system, and `entries` their dense fractions over its elements alone.
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
"""Number of evenly spaced rows that are checked for energies that are another quantity."""


@dataclass(frozen=True, eq=False)
class Compositions:
    """Different compositions, one after the other.

    Attributes:
        formulas: formulas as they were written, [U].
        systems: chemical systems that occur, each as its symbols in alphabetical order.
        system: index of the chemical system of each composition, [U].
        start: index at which the amounts of each composition begin in `amounts`, [U].
        amounts: atoms of each element, in the order of the symbols of the system.
    """

    formulas: tuple[str, ...]
    systems: tuple[tuple[str, ...], ...]
    system: Int[np.ndarray, " U"]
    start: Int[np.ndarray, " U"]
    amounts: Float[np.ndarray, " n"]

    @cached_property
    def atoms(self) -> Float[np.ndarray, " U"]:
        """N of each composition."""
        return np.add.reduceat(self.amounts, self.start)

    def counts(self, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m D"]:
        """Return the atoms of each element in these compositions, all of one system."""
        elements = len(self.systems[self.system[rows[0]]])
        return self.amounts[self.start[rows][:, None] + np.arange(elements)]


class Parser:
    """Parser of formulas into `Compositions`, each different formula once."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._formulas: list[str] = []
        self._systems: dict[tuple[str, ...], int] = {}
        self._order: list[tuple[str, ...]] = []
        self._system: list[int] = []
        self._start: list[int] = []
        self._amounts: list[float] = []

    def index(self, formula: str) -> int:
        """Return the index of a formula's composition. Raises InputError as `parse_formula`."""
        index = self._index.get(formula)
        return self._add(formula, formula, parse_formula(formula)) if index is None else index

    def of_cell(self, formula: str, counts: Mapping[str, float]) -> int:
        """Return the index of a cell's composition, by its reduced formula. The numbers of atoms
        are those of the first cell, so only energies per atom may be used with the index."""
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
        """Return the symbols of a composition."""
        return self._order[self._system[index]]

    def compositions(self) -> Compositions:
        """Return all compositions that have been added."""
        return Compositions(
            tuple(self._formulas),
            tuple(self._order),
            np.array(self._system, np.int32),
            np.array(self._start, np.int64),
            np.array(self._amounts),
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """Compounds whose stability is to be assessed.

    Attributes:
        ids: names, each different, [M].
        compositions: the different compositions.
        which: index of the composition of each candidate, [M].
        energies: e, eV/atom, [M]; NaN if it is not known yet.
        deviations: σ of e, eV/atom, [M]; None if it is not known.
        provenance: how the energies were computed -> ids.
        places: file and first row of each part, for messages.
        lines: line or row of each candidate in its file, from 1, [M].
        named: whether an id is from the file; other ids are made up and identify nothing, [M].
        formation: whether energies count from the elements at zero.
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
        """Return the file and the line of a candidate."""
        return place_of(self.places, row, int(self.lines[row]))

    def formula(self, row: int) -> str:
        """Return the formula of a candidate, as it was written."""
        return self.compositions.formulas[self.which[row]]

    def by_system(self) -> list[tuple[tuple[str, ...], Int[np.ndarray, " m"]]]:
        """Return the chemical systems in alphabetical order, each with its rows in file order."""
        system = self.compositions.system[self.which]
        order = np.argsort(system, kind="stable")
        ends = np.cumsum(np.bincount(system, minlength=len(self.compositions.systems)))
        rows = np.split(order, ends[:-1])
        pairs = zip(self.compositions.systems, rows, strict=True)
        return sorted((s, r) for s, r in pairs if len(r))

    def entries(self, rows: Int[np.ndarray, " m"]) -> Entries:
        """Return candidates of one chemical system as entries over its elements."""
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
        """Return a few candidates of any systems as entries over all their elements."""
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
        """Return rows that have an energy, and a composition of the entries; at most `SAMPLE`."""
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
    """The places of rows, each computed on access."""

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
    """Return the file of a row, and its line there."""
    file = next(name for name, first in reversed(places) if first <= row)
    return f"{file}, {'line' if file.lower().endswith('.csv') else 'row'} {line}"
