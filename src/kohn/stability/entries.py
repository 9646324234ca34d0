"""Store computed entries as arrays: n_ij atoms of element j and the total energy E_i of entry i.

    N_i = Σ_j n_ij        x_ij = n_ij / N_i        E_i/N_i, eV/atom

Energies are totals of the cell that the formula states. Formation energies, for which elements are
at zero, are accepted in eV/atom if they are declared (`formation=True`). Energies that look like
another quantity are refused, by these rules:

- total energies declared as formation energies: an element is below −`BELOW` eV/atom;
- formation energies: two or more elements have an entry, and the lowest of each is 0 within
  `ZERO` eV/atom;
- energies per atom: entries of one composition with different numbers of atoms agree twice as well
  as given than if divided by N (for totals |ΔE| is some eV for each further atom, for energies per
  atom it is the difference between phases); or, over at least `ENOUGH` entries, the slope of ln|E|
  on ln N, which is 1 for totals and 0 for energies per atom, is below 1/2 by two standard errors.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kohn.errors import InputError
from kohn.stability.formulas import checked_counts, has_isotopes, parse_formula, reduced
from kohn.stability.provenance import mark_not_needed
from kohn.structures import Structure
from kohn.structures.provenance import UNSTATED, Provenance
from kohn.typing import Float

ZERO = 1e-6
"""eV/atom: energies are formation energies if the lowest of every element is this near zero."""
BELOW = 0.01
"""eV/atom: no element has a formation energy this far below zero."""
ENOUGH = 10
"""The smallest number of entries from which the slope of ln|E| on ln N is computed."""


@dataclass(frozen=True, eq=False)
class Entries:
    """N compositions of D elements with energies.

    Attributes:
        ids: names, all different, [N].
        elements: symbols in alphabetical order, [D].
        counts: numbers of atoms n_ij of element j in entry i, [N, D].
        energies: total energies E, eV, [N]; if `formation`, formation energies of all atoms.
        provenance: how each energy was computed, [N].
        places: the file and row of each entry, for messages, [N].
        structures: the structure of each entry, [N]; None if any entry has none.
        unnamed: ids that were generated, because the entry has none; they are not compared.
        formation: whether energies are formation energies, for which elements are at zero.
        isotopes: ids of entries whose deuterium or tritium was read as hydrogen.
    """

    ids: tuple[str, ...]
    elements: tuple[str, ...]
    counts: Float[np.ndarray, "N D"]
    energies: Float[np.ndarray, " N"]
    provenance: tuple[Provenance, ...]
    places: Sequence[str]
    structures: tuple[Structure, ...] | None = None
    unnamed: frozenset[str] = frozenset()
    formation: bool = False
    isotopes: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        compositions: Sequence[str | Mapping[str, float]],
        energies: Sequence[float] | Float[np.ndarray, " N"],
        ids: Sequence[str] | None = None,
        *,
        provenance: Provenance | Sequence[Provenance] = UNSTATED,
        formation: bool = False,
    ) -> "Entries":
        """Create entries from values in memory.

        Args:
            compositions: formulas, or symbol -> number of atoms.
            energies: total energies, eV; if `formation`, formation energies, eV/atom.
            ids: names of the entries; by default names are generated.
            provenance: how the energies were computed: one provenance, or one for each entry.
            formation: whether the energies are formation energies.

        Raises:
            InputError: no entries; lengths that differ; bad values, as in `read_entries`.
        """
        if not len(compositions) == len(energies) == len(ids if ids is not None else energies):
            raise InputError(
                "compositions, energies and ids differ in number",
                received=f"{len(compositions)} compositions, {len(energies)} energies, "
                f"{'no' if ids is None else len(ids)} ids",
                fix="give one of each for every entry",
            )
        kinds = [provenance] * len(energies) if isinstance(provenance, Provenance) else provenance
        rows = [
            Row(
                counts=composition_of(compositions[i], f"entry {i}"),
                energy=float(energies[i]),
                id=None if ids is None else str(ids[i]),
                place=f"entry {i}",
                provenance=kinds[i],
                per_atom=formation,
                isotopes=has_isotopes(compositions[i]),
            )
            for i in range(len(energies))
        ]
        return assemble(rows, formation)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def atoms(self) -> Float[np.ndarray, " N"]:
        """N, the number of atoms of each entry."""
        return self.counts.sum(axis=1)

    @cached_property
    def fractions(self) -> Float[np.ndarray, "N D"]:
        """Atomic fractions x of the elements in each entry, [N, D]; each row adds to 1."""
        return self.counts / self.atoms[:, None]

    @cached_property
    def energies_per_atom(self) -> Float[np.ndarray, " N"]:
        """Energy per atom E/N of each entry, eV/atom, [N]."""
        return self.energies / self.atoms

    @cached_property
    def formulas(self) -> tuple[str, ...]:
        """Reduced formula of each entry, with symbols in order of electronegativity."""
        return tuple(reduced(self.elements, row)[0] for row in self.counts)

    @cached_property
    def systems(self) -> tuple[str, ...]:
        """Chemical system of each entry as a text such as 'Fe-Li-O'."""
        return tuple("-".join(self.elements[j] for j in np.flatnonzero(n)) for n in self.counts)

    @cached_property
    def compositions(self) -> tuple[bytes, ...]:
        """Key of the fractions of each entry, to find entries of equal composition."""
        return tuple(composition_keys(self.fractions))

    @cached_property
    def row(self) -> dict[str, int]:
        """The index of each entry, by its id."""
        return {name: i for i, name in enumerate(self.ids)}

    def select(self, rows: Sequence[int] | np.ndarray) -> "Entries":
        """Return the entries with indices `rows`, in this order, over the same elements."""
        rows = np.asarray(rows, int)
        indices = rows.tolist()

        def of(column: Sequence[Any]) -> tuple[Any, ...]:
            return tuple([column[i] for i in indices])

        return replace(
            self,
            ids=of(self.ids),
            counts=self.counts[rows],
            energies=self.energies[rows],
            provenance=of(self.provenance),
            places=of(self.places),
            structures=self.structures and of(self.structures),
        )

    def over(self, elements: Sequence[str]) -> "Entries":
        """Return the same entries, with the columns of `counts` for `elements`, in this order.

        Raises:
            InputError: an entry contains an element that is not in `elements`.
        """
        outside = [j for j, e in enumerate(self.elements) if e not in elements]
        bad = np.flatnonzero(self.counts[:, outside].sum(axis=1) > 0)
        if len(bad):
            missing = [self.elements[j] for j in outside if self.counts[:, j].any()]
            raise InputError(
                f"{len(bad)} of {len(self)} entries have elements that the hull lacks: "
                f"{', '.join(missing)}",
                where=self.places[int(bad[0])],
                expected=f"compounds of {', '.join(elements)}",
                received=", ".join(f"{self.ids[i]} ({self.formulas[i]})" for i in bad[:3]),
                fix="add those elements and their compounds to the hull, or remove these entries",
            )
        counts = np.zeros((len(self), len(elements)))
        for j, e in enumerate(self.elements):
            if e in elements:
                counts[:, list(elements).index(e)] = self.counts[:, j]
        return replace(self, elements=tuple(elements), counts=counts)

    def joined(self, other: "Entries") -> "Entries":
        """Return these entries followed by those of `other`, over the elements of both.

        Raises:
            InputError: an id that occurs in both; total energies with formation energies.
        """
        if self.formation != other.formation:
            raise InputError(
                "some energies are totals and some are formation energies",
                received=f"{len(self)} and {len(other)} entries",
                fix="give totals for all",
            )
        elements = sorted({*self.elements, *other.elements})
        a, b = self.over(elements), other.over(elements)
        refuse_repeated_ids([*a.ids, *b.ids], [*a.places, *b.places])
        with_structures = a.structures is not None and b.structures is not None
        return Entries(
            ids=a.ids + b.ids,
            elements=tuple(elements),
            counts=np.vstack([a.counts, b.counts]),
            energies=np.concatenate([a.energies, b.energies]),
            provenance=a.provenance + b.provenance,
            places=(*a.places, *b.places),
            structures=(*a.structures, *b.structures) if with_structures else None,  # type: ignore
            unnamed=a.unnamed | b.unnamed,
            formation=a.formation,
            isotopes=a.isotopes | b.isotopes,
        )


@dataclass(frozen=True)
class Row:
    """One entry as it was read.

    Attributes:
        counts: symbol -> number of atoms.
        energy: total energy, eV; energy per atom, eV/atom, if `per_atom`.
        id: name of the entry; None if it has none.
        place: the file and row of the entry, for messages.
        provenance: how the energy was computed.
        per_atom: whether the energy must be multiplied by the number of atoms.
        structure: structure of the entry; None if unknown.
        isotopes: whether deuterium or tritium was read as hydrogen.
    """

    counts: dict[str, float]
    energy: float
    id: str | None
    place: str
    provenance: Provenance = UNSTATED
    per_atom: bool = False
    structure: Structure | None = None
    isotopes: bool = False


def composition_keys(fractions: Float[np.ndarray, "N D"]) -> list[bytes]:
    """Return a key for each row of fractions; equal rows over the same elements have equal keys."""
    rounded = np.round(fractions, 9) + 0.0  # no negative zeros
    return [row.tobytes() for row in rounded]


def composition_of(given: str | Mapping[str, float], where: str) -> dict[str, float]:
    """Return symbol -> number of atoms of a formula or mapping. Raises InputError if it is bad."""
    if isinstance(given, Mapping):
        return checked_counts(given, dict(given), where)
    return parse_formula(given, where=where)


def assemble(rows: Sequence[Row], formation: bool = False) -> Entries:
    """Check rows, and assemble them into entries.

    Raises:
        InputError: no rows; a repeated id; an energy that is not finite; energies of another
            quantity than declared.
    """
    if not rows:
        raise InputError("there are no entries", fix="give at least one for each element")
    bad = [r for r in rows if not np.isfinite(r.energy)]
    if bad:
        raise InputError(
            f"{len(bad)} of {len(rows)} entries have an energy that is not finite",
            where=bad[0].place,
            expected="an energy in eV",
            received=f"{bad[0].energy} of {bad[0].id or bad[0].counts}",
            fix="remove them, or compute them again",
        )
    ids = [r.place if r.id is None else r.id for r in rows]
    refuse_repeated_ids(ids, [r.place for r in rows])
    elements = tuple(sorted({e for r in rows for e in r.counts}))
    column = {e: j for j, e in enumerate(elements)}
    counts = np.zeros((len(rows), len(elements)))
    for i, r in enumerate(rows):
        for e, n in r.counts.items():
            counts[i, column[e]] = n
    times = np.where([r.per_atom for r in rows], counts.sum(axis=1), 1.0)
    structures = [r.structure for r in rows if r.structure is not None]
    entries = Entries(
        ids=tuple(ids),
        elements=elements,
        counts=counts,
        energies=np.array([r.energy for r in rows]) * times,
        provenance=tuple(mark_not_needed(r.provenance, r.counts) for r in rows),
        places=tuple(r.place for r in rows),
        structures=tuple(structures) if len(structures) == len(rows) else None,
        unnamed=frozenset(name for name, r in zip(ids, rows, strict=True) if r.id is None),
        formation=formation,
        isotopes=frozenset(name for name, r in zip(ids, rows, strict=True) if r.isotopes),
    )
    if formation:
        refuse_total_energies(entries)
    else:
        refuse_formation_energies(entries)
        if not any(r.per_atom for r in rows):
            refuse_energies_per_atom(entries)
    return entries


def refuse_repeated_ids(ids: Sequence[str], places: Sequence[str]) -> None:
    """Raise InputError if ids are repeated, because a hull could take one phase for another."""
    twice = [name for name, n in Counter(ids).items() if n > 1]
    if twice:
        where = [p for name, p in zip(ids, places, strict=True) if name == twice[0]]
        raise InputError(
            f"{len(twice)} {'id is' if len(twice) == 1 else 'ids are'} given to several entries",
            where=" and ".join(where[:2]),
            expected="an id of its own for each entry",
            received=", ".join(twice[:5]) + (" …" if len(twice) > 5 else ""),
            fix="remove the copies, or rename them",
        )


def refuse_formation_energies(entries: Entries) -> None:
    """Raise InputError if all elements have zero energy: their total energies are never zero."""
    elemental = entries.fractions.max(axis=1) == 1
    of = entries.fractions.argmax(axis=1)
    energies = [entries.energies_per_atom[elemental & (of == j)] for j in np.unique(of[elemental])]
    lowest = [e.min() for e in energies]
    if len(lowest) > 1 and np.abs(lowest).max() < ZERO:
        raise InputError(
            "these look like formation energies: the lowest entry of every element is at zero",
            where=entries.places[int(np.flatnonzero(elemental)[0])],
            expected="total energies in eV",
            received=f"{len(lowest)} elements, all at 0 eV/atom",
            fix="give total energies, or declare these as formation energies in eV/atom "
            "(formation=True)",
        )


def refuse_total_energies(entries: Entries) -> None:
    """Raise InputError if an element has a negative energy, which is no formation energy."""
    below = (entries.fractions.max(axis=1) == 1) & (entries.energies_per_atom < -BELOW)
    if below.any():
        i = int(np.flatnonzero(below)[0])
        raise InputError(
            "these look like total energies: an element has a negative formation energy",
            where=entries.places[i],
            expected="elements at zero, or above it",
            received=f"{entries.energies_per_atom[i]:.4g} eV/atom of {entries.formulas[i]}",
            fix="leave formation=True (--formation) out, or subtract the elements' energies",
        )


def refuse_energies_per_atom(entries: Entries) -> None:
    """Raise InputError if energies do not grow with the number of atoms N, as total energies do."""
    as_given, per_atom = polymorphs(entries)
    slope, error = slope_with_size(entries)
    if len(as_given) and np.median(as_given) < 0.5 * np.median(per_atom):
        evidence = (
            f"{len(as_given)} pairs of entries of one composition and different numbers of atoms "
            f"differ by {np.median(as_given):.3g} as given, but by {np.median(per_atom):.3g} "
            "eV/atom if divided by N (medians)"
        )
    elif slope + 2 * error < 0.5:
        evidence = f"|E| grows as N^{slope:.2f} ± {error:.2f}, where totals grow as N"
    else:
        return
    raise InputError(
        "these look like energies per atom",
        where=entries.places[0],
        expected="total energies in eV, of as many atoms as the formula states",
        received=evidence,
        fix="name the column energy_per_atom, or multiply by the number of atoms",
    )


def polymorphs(entries: Entries) -> tuple[np.ndarray, np.ndarray]:
    """Return |ΔE| and |ΔE/N| for pairs of entries of one composition: the entry with the fewest
    atoms N, and an entry with at least 1.5 times as many."""
    smallest: dict[bytes, int] = {}
    for i in np.argsort(entries.atoms, kind="stable"):
        smallest.setdefault(entries.compositions[i], int(i))
    first = np.array([smallest[key] for key in entries.compositions])
    larger = entries.atoms > 1.49 * entries.atoms[first]
    e, per_atom = entries.energies, entries.energies_per_atom
    return np.abs(e - e[first])[larger], np.abs(per_atom - per_atom[first])[larger]


def slope_with_size(entries: Entries) -> tuple[float, float]:
    """Return the slope of ln|E| on ln N and its standard error; 1 and 0 if entries are too few."""
    used = entries.energies != 0
    n, e = np.log(entries.atoms[used]), np.log(np.abs(entries.energies[used]))
    if used.sum() < ENOUGH or np.ptp(n) < np.log(2):
        return 1.0, 0.0
    n, e = n - n.mean(), e - e.mean()
    slope = float(n @ e / (n @ n))
    residuals = e - slope * n
    return slope, float(np.sqrt(residuals @ residuals / (len(n) - 2) / (n @ n)))
