"""Candidates by the million: compositions once each, energies as columns.

    e_m = E_m / N_m, eV/atom, of candidate m;  x of its composition;  its chemical system the
    elements of x, so that only entries made of these can be what it falls into

A formula that occurs often is parsed once. Rows stay in the order of the files; `by_system` gives
those of each chemical system, with dense fractions over its elements alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from kohn.errors import InputError
from kohn.stability.entries import (
    Entries,
    composition_keys,
    distinct,
    refuse_energies_per_atom,
    refuse_formation_energies,
)
from kohn.stability.formulas import parse_formula
from kohn.stability.provenance import UNSTATED, Provenance, reconciled, unneeded
from kohn.stability.reading import csv_columns, read_entries
from kohn.stability.tables import blocks, columns_of, is_table
from kohn.structures.provenance import UNKNOWN, functional
from kohn.typing import Bool, Float, Int

SAMPLE = 2000
"""Rows, evenly spaced, that the rules against other quantities look at."""
DEVIATIONS = {"energy_std": "total", "energy_std_per_atom": "per atom"}
"""Columns of standard deviations."""


@dataclass(frozen=True, eq=False)
class Compositions:
    """Different compositions, one after the other.

    Attributes:
        formulas: as they were written, [U].
        systems: chemical systems that occur, each its symbols in alphabetical order.
        system: that of each composition, [U].
        start: where the amounts of each begin in `amounts`, [U].
        amounts: atoms of each element, in the order of the symbols of the system.
    """

    formulas: tuple[str, ...]
    systems: tuple[tuple[str, ...], ...]
    system: Int[np.ndarray, " U"]
    start: Int[np.ndarray, " U"]
    amounts: Float[np.ndarray, " n"]

    @cached_property
    def atoms(self) -> Float[np.ndarray, " U"]:
        """N of each."""
        return np.add.reduceat(self.amounts, self.start)

    def counts(self, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m D"]:
        """Atoms of the elements of compositions of one system."""
        elements = len(self.systems[self.system[rows[0]]])
        return self.amounts[self.start[rows][:, None] + np.arange(elements)]


class Parser:
    """Formulas to `Compositions`, each different one once."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._formulas: list[str] = []
        self._systems: dict[tuple[str, ...], int] = {}
        self._order: list[tuple[str, ...]] = []
        self._system: list[int] = []
        self._start: list[int] = []
        self._amounts: list[float] = []

    def index(self, formula: str) -> int:
        """Of a formula's composition. Raises InputError as `parse_formula`."""
        found = self._index.get(formula)
        return self._add(formula, formula, parse_formula(formula)) if found is None else found

    def of_cell(self, formula: str, counts: Mapping[str, float]) -> int:
        """Of the atoms of a cell, by its reduced formula. The numbers of atoms are those of the
        first cell: only energies per atom may go with it."""
        found = self._index.get(f"cell of {formula}")
        return self._add(f"cell of {formula}", formula, counts) if found is None else found

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
        """Symbols of a composition."""
        return self._order[self._system[index]]

    def compositions(self) -> Compositions:
        """All so far."""
        return Compositions(
            tuple(self._formulas),
            tuple(self._order),
            np.array(self._system, np.int32),
            np.array(self._start, np.int64),
            np.array(self._amounts),
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """Compounds to be judged.

    Attributes:
        ids: names, none twice, [M].
        compositions: the different ones.
        which: the composition of each, [M].
        energies: e, eV/atom, [M]; NaN where it is not known yet.
        deviations: σ of e, eV/atom, [M]; None where nothing is known of it.
        provenance: how the energies were computed -> ids.
        places: file and first row of each part, for messages.
        lines: where each stands in its file, from 1, [M].
        named: whether ids are the files'; others were made up, and identify nothing, [M].
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
        """File and line."""
        return place_of(self.places, row, int(self.lines[row]))

    def formula(self, row: int) -> str:
        """As it was written."""
        return self.compositions.formulas[self.which[row]]

    def by_system(self) -> list[tuple[tuple[str, ...], Int[np.ndarray, " m"]]]:
        """Chemical systems in alphabetical order, with their rows in the order of the files."""
        system = self.compositions.system[self.which]
        order = np.argsort(system, kind="stable")
        ends = np.cumsum(np.bincount(system, minlength=len(self.compositions.systems)))
        rows = np.split(order, ends[:-1])
        found = zip(self.compositions.systems, rows, strict=True)
        return sorted((s, r) for s, r in found if len(r))

    def entries(self, rows: Int[np.ndarray, " m"]) -> Entries:
        """Candidates of one chemical system as entries over its elements."""
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
        """A few candidates of any systems as entries over all their elements."""
        of = self.compositions
        which = self.which[rows].tolist()
        symbols = sorted({e for k in which for e in of.systems[of.system[k]]})
        column = {e: j for j, e in enumerate(symbols)}
        counts = np.zeros((len(rows), len(symbols)))
        for i, k in enumerate(which):
            elements = of.systems[of.system[k]]
            counts[i, [column[e] for e in elements]] = of.counts(np.array([k]))[0]
        return self._as_entries(rows, tuple(symbols), counts)

    def shared(self, entries: Entries) -> Int[np.ndarray, " m"]:
        """Rows with an energy and a composition that entries have too, `SAMPLE` at most."""
        theirs = set(entries.compositions)
        of, known = self.compositions, np.zeros(len(self.compositions.formulas), bool)
        order = np.argsort(of.system, kind="stable")
        for same in np.split(order, np.cumsum(np.bincount(of.system))[:-1]):
            elements = of.systems[of.system[same[0]]]
            if not set(elements) <= set(entries.elements):
                continue
            over = np.zeros((len(same), len(entries.elements)))
            counts = of.counts(same)
            columns = [entries.elements.index(e) for e in elements]
            over[:, columns] = counts / counts.sum(axis=1, keepdims=True)
            keys = composition_keys(over)
            known[same] = [key in theirs for key in keys]
        rows = np.flatnonzero(known[self.which] & np.isfinite(self.energies))
        return rows[:: max(1, -(-len(rows) // SAMPLE))]


@dataclass(frozen=True)
class Places(Sequence[str]):
    """Where rows stand, said when it is asked."""

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


def read_candidates(
    paths: str | Path | Sequence[str | Path],
    *,
    formation: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Candidates:
    """Candidates with energies from tables (CSV, Parquet), or from whatever `read_entries` reads.

    Tables have columns formula, energy (total, eV) or energy_per_atom or
    formation_energy_per_atom, and may have id, functional, scheme, source, and the energy's
    standard deviation as energy_std (eV) or energy_std_per_atom.

    Args:
        paths: files.
        formation: energies are formation energies, eV/atom.
        advance: called with the number of rows read since the last call.

    Raises:
        InputError: see `read_entries`; a standard deviation that is negative or not finite; a
            Parquet file without pyarrow.
    """
    reader = _Reader(formation)
    files = [Path(p) for p in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if not files:
        raise InputError("there are no files of candidates", fix="name at least one")
    for file in files:
        for n in reader.table(file) if is_table(file) else reader.entries(file):
            if advance is not None:
                advance(n)
    return reader.candidates()


class _Reader:
    """Columns as they grow from file to file."""

    def __init__(self, formation: bool):
        self.formation = formation
        self.parser = Parser()
        self.ids: list[str] = []
        self.which: list[np.ndarray] = []
        self.energies: list[np.ndarray] = []
        self.deviations: list[np.ndarray] = []
        self.totals: list[tuple[bool, bool]] = []  # energies, deviations: of the whole cell?
        self.provenance: dict[Provenance, list[str]] = {}
        self.said: dict[tuple[Provenance, tuple[str, ...]], list[str]] = {}
        self.places: list[tuple[str, int]] = []
        self.lines: list[np.ndarray] = []
        self.named: list[np.ndarray] = []

    def table(self, file: Path) -> Iterator[int]:
        """Read a table; numbers of rows read."""
        names = columns_of(file)
        columns = csv_columns(names, str(file), self.formation)
        energy = next(c for c in ("formation", "per atom", "total") if c in columns)
        spread = [n for n in names if n.strip().lower() in DEVIATIONS]
        if len(spread) > 1:
            raise InputError(
                "the file has two columns of standard deviations",
                where=str(file),
                received=", ".join(spread),
                fix="remove one",
            )
        self.places.append((str(file), len(self.ids)))
        for block, lines in blocks(file, [*columns.values(), *spread]):
            given = {what: block[name] for what, name in columns.items()}
            self.lines.append(lines)
            ids = self._names(given.get("id"), file, lines)
            deviations = np.full(len(lines), np.nan)
            for name in spread:
                deviations = self._numbers(block[name], name, lines, least=0.0)
            self.ids += ids
            self.which.append(self._compositions(given["formula"], lines))
            self.energies.append(self._numbers(given[energy], columns[energy], lines))
            self.deviations.append(deviations)
            of_cell = energy == "total" and not self.formation
            self.totals.append((of_cell, any(n.strip().lower() == "energy_std" for n in spread)))
            self._told(given, ids)
            yield len(lines)
        self._settle()
        if len(self.ids) == self.places[-1][1]:
            raise InputError(
                "the file has no rows", where=str(file), fix="check how it was written"
            )

    def entries(self, file: Path) -> Iterator[int]:
        """Read a file of another kind; its number of entries."""
        found = read_entries(file, formation=self.formation)
        self.places.append((str(file), len(self.ids)))
        self.ids += found.ids
        counts = [
            {e: n for e, n in zip(found.elements, row, strict=True) if n} for row in found.counts
        ]
        which = [self.parser.of_cell(f, c) for f, c in zip(found.formulas, counts, strict=True)]
        self.which.append(np.array(which, np.int32))
        self.energies.append(found.energies_per_atom)
        self.deviations.append(np.full(len(found), np.nan))
        self.totals.append((False, False))
        for name, p in zip(found.ids, found.provenance, strict=True):
            self.provenance.setdefault(p, []).append(name)
        self.lines.append(np.arange(1, len(found) + 1))
        self.named.append(np.array([name not in found.unnamed for name in found.ids], bool))
        yield len(found)

    def candidates(self) -> Candidates:
        """All that was read, checked."""
        compositions, which = self.parser.compositions(), np.concatenate(self.which)
        sizes = [len(part) for part in self.which]
        of_cell = np.repeat(np.array(self.totals), sizes, axis=0)
        atoms = compositions.atoms[which]
        deviations = np.concatenate(self.deviations) / np.where(of_cell[:, 1], atoms, 1.0)
        found = Candidates(
            ids=self.ids,
            compositions=compositions,
            which=which,
            energies=np.concatenate(self.energies) / np.where(of_cell[:, 0], atoms, 1.0),
            deviations=None if np.isnan(deviations).all() else deviations,
            provenance=self.provenance,
            places=tuple(self.places),
            lines=np.concatenate(self.lines),
            named=np.concatenate(self.named),
            formation=self.formation,
        )
        refuse_twice(found)
        refuse_some_deviations(found)
        if not self.formation:
            refuse_other_quantities(found, totals=bool(of_cell[:, 0].all()))
        return found

    def _names(
        self, given: Sequence[Any] | None, file: Path, lines: Int[np.ndarray, " m"]
    ) -> list[str]:
        """Ids of rows, made up where there is none."""
        told = [str(i).strip() if i is not None else "" for i in given or [None] * len(lines)]
        self.named.append(np.array([name != "" for name in told], bool))
        numbers = lines.tolist()
        return [name or f"{file}:{n}" for name, n in zip(told, numbers, strict=True)]

    def _compositions(self, formulas: Sequence[str], lines: np.ndarray) -> np.ndarray:
        try:
            return np.fromiter(map(self.parser.index, formulas), np.int32, len(formulas))
        except (InputError, TypeError):  # Parquet may have nothing where a formula should be
            for formula, line in zip(formulas, lines.tolist(), strict=True):
                parse_formula(formula or "", where=self._place(line))
            raise

    def _numbers(
        self, values: Sequence[Any], name: str, lines: np.ndarray, least: float = -np.inf
    ) -> np.ndarray:
        """Finite numbers, not below the least."""
        try:
            numbers = np.fromiter(map(float, values), float, len(values))
        except (TypeError, ValueError):
            numbers = np.array([_number(v) for v in values])
        bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= least)))
        if len(bad):
            raise InputError(
                f"{name} is no finite number{' that is not negative' if least == 0 else ''} "
                f"in {len(bad)} of the {len(values)} rows read together",
                where=self._place(int(lines[bad[0]])),
                expected="a number in eV",
                received=repr(values[bad[0]]),
                fix="correct these rows, or remove them",
            )
        return numbers

    def _told(self, given: Mapping[str, Sequence[Any]], ids: Sequence[str]) -> None:
        """What a table says of how its energies were computed, by that and by chemical system."""
        names = [c for c in ("functional", "scheme", "source") if c in given]
        if not names:
            self.said.setdefault((UNSTATED, ()), []).extend(ids)
            return
        groups: dict[tuple[Any, ...], list[str]] = {}
        systems = [self.parser.system(k) for k in self.which[-1].tolist()]
        told = zip(*(given[c] for c in names), strict=True)
        for name, texts, system in zip(ids, told, systems, strict=True):
            groups.setdefault((system, *texts), []).append(name)
        for (system, *texts), those in groups.items():
            said = {c: str(t or "").strip() or UNKNOWN for c, t in zip(names, texts, strict=True)}
            p = Provenance(functional(said.pop("functional", UNKNOWN)), **said)
            self.said.setdefault((p, system), []).extend(those)

    def _settle(self) -> None:
        """Provenance of what one file said, reconciled where a scheme does so."""
        counts = [dict.fromkeys(system, 1.0) for _, system in self.said]
        told = reconciled([p for p, _ in self.said], counts)
        for p, n, those in zip(told, counts, self.said.values(), strict=True):
            self.provenance.setdefault(unneeded(p, n), []).extend(those)
        self.said = {}

    def _place(self, line: int) -> str:
        return place_of(self.places, len(self.ids), line)


def place_of(places: Sequence[tuple[str, int]], row: int, line: int) -> str:
    """The file of a row, and its line there."""
    file = next(name for name, first in reversed(places) if first <= row)
    return f"{file}, {'line' if file.lower().endswith('.csv') else 'row'} {line}"


def refuse_some_deviations(candidates: Candidates) -> None:
    """Raises InputError where σ of some is known, and of others not."""
    if candidates.deviations is None:
        return
    without = np.flatnonzero(np.isnan(candidates.deviations))
    if len(without):
        raise InputError(
            f"{len(without)} of {len(candidates)} candidates have no standard deviation",
            where=candidates.place(int(without[0])),
            expected="energy_std or energy_std_per_atom of all, or of none",
            fix="add it; or screen these files by themselves",
        )


def refuse_twice(candidates: Candidates) -> None:
    """Raises InputError where an id is given twice, or has a line break."""
    broken = next((i for i, s in enumerate(candidates.ids) if "\n" in s or "\r" in s), None)
    if broken is not None:
        raise InputError(
            "an id has a line break",
            where=candidates.place(broken),
            received=repr(candidates.ids[broken]),
            fix="rename it",
        )
    if len(set(candidates.ids)) < len(candidates):
        places = Places(candidates, np.arange(len(candidates)))
        distinct(candidates.ids, places)


def refuse_other_quantities(candidates: Candidates, totals: bool) -> None:
    """Raises InputError where energies look like formation energies or energies per atom."""
    rows = np.unique(np.linspace(0, len(candidates) - 1, SAMPLE).astype(int))
    sample = candidates.sample(rows)
    refuse_formation_energies(sample)
    if totals:
        refuse_energies_per_atom(sample)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
