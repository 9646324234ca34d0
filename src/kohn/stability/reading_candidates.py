"""Read candidates from files; tables of millions of rows are read as columns, in blocks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kohn.errors import InputError
from kohn.stability.candidates import SAMPLE, Candidates, Parser, Places, place_of
from kohn.stability.entries import (
    refuse_energies_per_atom,
    refuse_formation_energies,
    refuse_repeated_ids,
    refuse_total_energies,
)
from kohn.stability.formulas import parse_formula
from kohn.stability.provenance import UNSTATED, Provenance, mark_not_needed, reconciled
from kohn.stability.reading import csv_columns, read_entries
from kohn.structures.provenance import UNKNOWN, functional
from kohn.tables import blocks, columns_of, is_table
from kohn.typing import Int

DEVIATIONS = ("energy_std", "energy_std_per_atom")
"""Names that the column of the standard deviations of energies may have."""


def read_candidates(
    paths: str | Path | Sequence[str | Path],
    *,
    formation: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Candidates:
    """Read candidates with energies from tables (CSV, Parquet) or files that `read_entries` reads.

    Tables have columns formula, energy (total, eV) or energy_per_atom or
    formation_energy_per_atom, and may have id, functional, scheme, source, and the energy's
    standard deviation as energy_std (eV) or energy_std_per_atom.

    Args:
        paths: files of candidates.
        formation: whether energies are formation energies, eV/atom, not total energies.
        advance: called with the number of rows that were read since the last call.

    Raises:
        InputError: bad values, as in `read_entries`; a standard deviation that is negative or not
            finite; a Parquet file if pyarrow is missing.
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
    """A reader of candidates, which collects the columns of one file after the other."""

    def __init__(self, formation: bool):
        self.formation = formation
        self.parser = Parser()
        self.ids: list[str] = []
        self.which: list[np.ndarray] = []
        self.energies: list[np.ndarray] = []
        self.deviations: list[np.ndarray] = []
        self.totals: list[tuple[bool, bool]] = []  # are energies, deviations of the whole cell?
        self.provenance: dict[Provenance, list[str]] = {}
        self.stated: dict[tuple[Provenance, tuple[str, ...]], list[str]] = {}
        self.places: list[tuple[str, int]] = []
        self.lines: list[np.ndarray] = []
        self.named: list[np.ndarray] = []

    def table(self, file: Path) -> Iterator[int]:
        """Read a table, and yield the number of rows of each block."""
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
            given = {quantity: block[name] for quantity, name in columns.items()}
            self.lines.append(lines)
            ids = self._ids(given.get("id"), file, lines)
            deviations = np.full(len(lines), np.nan)
            for name in spread:
                deviations = self._numbers(block[name], name, lines, least=0.0)
            self.ids += ids
            self.which.append(self._compositions(given["formula"], lines))
            self.energies.append(self._numbers(given[energy], columns[energy], lines))
            self.deviations.append(deviations)
            of_cell = energy == "total" and not self.formation
            self.totals.append((of_cell, any(n.strip().lower() == "energy_std" for n in spread)))
            self._add_provenance(given, ids)
            yield len(lines)
        self._reconcile()
        if len(self.ids) == self.places[-1][1]:
            raise InputError(
                "the file has no rows", where=str(file), fix="check how it was written"
            )

    def entries(self, file: Path) -> Iterator[int]:
        """Read a file that is not a table, and yield its number of entries."""
        batch = read_entries(file, formation=self.formation)
        self.places.append((str(file), len(self.ids)))
        self.ids += batch.ids
        counts = [
            {e: n for e, n in zip(batch.elements, row, strict=True) if n} for row in batch.counts
        ]
        which = [self.parser.cell_index(f, c) for f, c in zip(batch.formulas, counts, strict=True)]
        self.which.append(np.array(which, np.int32))
        self.energies.append(batch.energies_per_atom)
        self.deviations.append(np.full(len(batch), np.nan))
        self.totals.append((False, False))
        for name, p in zip(batch.ids, batch.provenance, strict=True):
            self.provenance.setdefault(p, []).append(name)
        self.lines.append(np.arange(1, len(batch) + 1))
        self.named.append(np.array([name not in batch.unnamed for name in batch.ids], bool))
        yield len(batch)

    def candidates(self) -> Candidates:
        """Check all candidates that were read, and return them."""
        compositions, which = self.parser.compositions(), np.concatenate(self.which)
        sizes = [len(part) for part in self.which]
        of_cell = np.repeat(np.array(self.totals), sizes, axis=0)
        atoms = compositions.atoms[which]
        deviations = np.concatenate(self.deviations) / np.where(of_cell[:, 1], atoms, 1.0)
        candidates = Candidates(
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
        refuse_bad_ids(candidates)
        refuse_some_deviations(candidates)
        refuse_other_quantities(candidates, totals=bool(of_cell[:, 0].all()))
        return candidates

    def _ids(
        self, given: Sequence[Any] | None, file: Path, lines: Int[np.ndarray, " m"]
    ) -> list[str]:
        """Return the ids of rows; a missing id becomes a generated one, 'FILE:LINE'."""
        names = [str(i).strip() if i is not None else "" for i in given or [None] * len(lines)]
        self.named.append(np.array([name != "" for name in names], bool))
        numbers = lines.tolist()
        return [name or f"{file}:{n}" for name, n in zip(names, numbers, strict=True)]

    def _compositions(self, formulas: Sequence[str], lines: np.ndarray) -> np.ndarray:
        try:
            return np.fromiter(map(self.parser.index, formulas), np.int32, len(formulas))
        except (InputError, TypeError):  # a formula may be missing in Parquet
            for formula, line in zip(formulas, lines.tolist(), strict=True):
                parse_formula(formula or "", where=self._place(line))
            raise

    def _numbers(
        self, values: Sequence[Any], name: str, lines: np.ndarray, least: float = -np.inf
    ) -> np.ndarray:
        """Return the values as floats. Raises InputError unless all are finite and ≥ `least`."""
        try:
            numbers = np.fromiter(map(float, values), float, len(values))
        except (TypeError, ValueError):
            numbers = np.array([_number(v) for v in values])
        bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= least)))
        if len(bad):
            raise InputError(
                f"{name} is not a finite number{' ≥ 0' if least == 0 else ''} "
                f"in {len(bad)} of the {len(values)} rows read together",
                where=self._place(int(lines[bad[0]])),
                expected="a number in eV",
                received=repr(values[bad[0]]),
                fix="correct these rows, or remove them",
            )
        return numbers

    def _add_provenance(self, given: Mapping[str, Sequence[Any]], ids: Sequence[str]) -> None:
        """Add the ids of one block to `stated`, by the provenance in the table and the system."""
        names = [c for c in ("functional", "scheme", "source") if c in given]
        if not names:
            self.stated.setdefault((UNSTATED, ()), []).extend(ids)
            return
        groups: dict[tuple[Any, ...], list[str]] = {}
        systems = [self.parser.system(k) for k in self.which[-1].tolist()]
        columns = zip(*(given[c] for c in names), strict=True)
        for name, texts, system in zip(ids, columns, systems, strict=True):
            groups.setdefault((system, *texts), []).append(name)
        for (system, *texts), members in groups.items():
            fields = {c: str(t or "").strip() or UNKNOWN for c, t in zip(names, texts, strict=True)}
            p = Provenance(functional(fields.pop("functional", UNKNOWN)), **fields)
            self.stated.setdefault((p, system), []).extend(members)

    def _reconcile(self) -> None:
        """Move ids from `stated` to `provenance`, which is reconciled among entries of one file."""
        counts = [dict.fromkeys(system, 1.0) for _, system in self.stated]
        provenances = reconciled([p for p, _ in self.stated], counts)
        for p, n, ids in zip(provenances, counts, self.stated.values(), strict=True):
            self.provenance.setdefault(mark_not_needed(p, n), []).extend(ids)
        self.stated = {}

    def _place(self, line: int) -> str:
        return place_of(self.places, len(self.ids), line)


def refuse_some_deviations(candidates: Candidates) -> None:
    """Raise InputError if only some candidates have a standard deviation of the energy."""
    if candidates.deviations is None:
        return
    without = np.flatnonzero(np.isnan(candidates.deviations))
    if len(without):
        raise InputError(
            f"{len(without)} of {len(candidates)} candidates have no standard deviation",
            where=candidates.place(int(without[0])),
            expected="energy_std or energy_std_per_atom of all, or of none",
            fix="add it, or screen these files separately",
        )


def refuse_bad_ids(candidates: Candidates) -> None:
    """Raise InputError if an id is repeated, or contains a line break."""
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
        refuse_repeated_ids(candidates.ids, places)


def refuse_other_quantities(candidates: Candidates, totals: bool) -> None:
    """Raise InputError if energies of a sample look like another quantity than declared."""
    rows = np.unique(np.linspace(0, len(candidates) - 1, SAMPLE).astype(int))
    sample = candidates.sample(rows)
    if candidates.formation:
        refuse_total_energies(sample)
        return
    refuse_formation_energies(sample)
    if totals:
        refuse_energies_per_atom(sample)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
