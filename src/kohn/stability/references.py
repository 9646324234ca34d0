"""Compute formation energies, and offsets of the energies of candidates for each element.

With n_ij the atoms of element j in entry i, N_i = Σ_j n_ij and x_ij = n_ij / N_i:

    e_i = (E_i − Σ_j n_ij μ_j) / N_i         μ_j the lowest energy per atom among entries of j

Energies of candidates from another source (a model, another code) are often wrong by c_j for each
atom of element j. Then each distance to the hull is wrong by x · c, while the candidates agree with
each other. The lowest candidate and the lowest hull entry of a composition that both have differ by

    y_i = E_i^cand/N_i − E_i^hull/N_i = x_i · c + r_i,      c by least squares
    F = ((|y|² − |r|²)/D) / (|r|²/(M − D)),                  M shared compositions, D elements

Source: the F test of a linear model; see Draper and Smith, Applied Regression Analysis (1998).
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import f as f_distribution

from kohn.errors import InputError
from kohn.stability.entries import Entries
from kohn.stability.formulas import checked_counts
from kohn.stability.provenance import mark_not_needed
from kohn.structures.provenance import UNSTATED, Provenance
from kohn.typing import Float


@dataclass(frozen=True, eq=False)
class ElementalReferences:
    """Energies μ of D elements, relative to which formation energies are computed.

    Attributes:
        elements: symbols of the elements, [D].
        energies: energies μ of the elements, eV/atom, [D].
        provenance: how each energy was computed, [D].
    """

    elements: tuple[str, ...]
    energies: Float[np.ndarray, " D"]
    provenance: tuple[Provenance, ...]

    @classmethod
    def from_entries(cls, entries: Entries) -> "ElementalReferences":
        """Take the lowest entry of each element. Raises InputError if an element has no entry."""
        rows = {e: lowest_elemental(entries, e) for e in entries.elements}
        missing = [e for e, row in rows.items() if row is None]
        if missing:
            raise missing_elements(missing, entries)
        chosen = [row for row in rows.values() if row is not None]
        return cls(
            entries.elements,
            entries.energies_per_atom[chosen],
            tuple(entries.provenance[row] for row in chosen),
        )

    @classmethod
    def given(
        cls,
        energies: Mapping[str, float] | str | Path,
        provenance: Provenance = UNSTATED,
    ) -> "ElementalReferences":
        """Take energies as symbol -> eV/atom, or from JSON, or CSV (columns element and energy).

        Raises:
            InputError: no such file; an unknown or repeated element; an energy that is not finite.
        """
        where = None if isinstance(energies, Mapping) else str(energies)
        named = energies if isinstance(energies, Mapping) else _table(Path(energies))
        table: dict[str, float] = {}
        for name, value in named.items():
            (symbol,) = checked_counts({name: 1.0}, name, where)
            if symbol in table:
                raise InputError(
                    f"there are two energies of {symbol}",
                    where=where,
                    received=", ".join(map(str, named))[:120],
                    fix="remove one",
                )
            if not np.isfinite(float(value)):
                raise InputError(
                    f"the energy of {symbol} is not finite", where=where, fix="correct it"
                )
            table[symbol] = float(value)
        known = sorted(table)
        values = np.array([table[e] for e in known])
        return cls(
            tuple(known), values, tuple(mark_not_needed(provenance, {e: 1.0}) for e in known)
        )

    def over(self, elements: tuple[str, ...]) -> "ElementalReferences":
        """Return the references of `elements`, in order. Raises InputError if one is missing."""
        missing = [e for e in elements if e not in self.elements]
        if missing:
            raise InputError(
                f"there is no reference energy of {', '.join(missing)}",
                expected=f"an energy in eV/atom for each of {', '.join(elements)}",
                received=", ".join(self.elements) or "none",
                fix="add it, or an entry of the element",
            )
        rows = [self.elements.index(e) for e in elements]
        return ElementalReferences(
            elements, self.energies[rows], tuple(self.provenance[r] for r in rows)
        )

    def formation_energies(self, entries: Entries) -> Float[np.ndarray, " N"]:
        """Return formation energies e of N entries, eV/atom, [N]; given ones are not changed.

        Raises:
            InputError: an element without a reference energy.
        """
        if entries.formation:
            return entries.energies_per_atom
        mu = self.over(entries.elements).energies
        return (entries.energies - entries.counts @ mu) / entries.atoms


def lowest_elemental(entries: Entries, element: str) -> int | None:
    """Return the index of the lowest entry of a pure element; None if the element has no entry."""
    x = entries.fractions[:, entries.elements.index(element)]
    rows = np.flatnonzero(x == 1)
    return int(rows[np.argmin(entries.energies_per_atom[rows])]) if len(rows) else None


def missing_elements(missing: list[str], entries: Entries) -> InputError:
    """Return the error for elements that have neither an entry nor a reference."""
    formulas = sorted(set(entries.formulas))
    listing = f"{', '.join(formulas[:4])}{' …' if len(formulas) > 4 else ''}"
    return InputError(
        f"a hull needs an entry of each element, and there is none of {', '.join(missing)}",
        where=entries.places[0],
        expected=f"entries of the pure elements {', '.join(entries.elements)}",
        received=f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} of {listing}"
        + (" (deuterium and tritium count as H)" if entries.isotopes else ""),
        fix=f"add {', '.join(missing)} computed in the same way, or give reference energies",
    )


def _table(file: Path) -> dict[str, float]:
    try:
        if file.suffix.lower() == ".json":
            return {str(k): float(v) for k, v in json.loads(file.read_text()).items()}
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return {r["element"].strip(): float(r["energy"]) for r in csv.DictReader(stream)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the reference energies cannot be read",
            where=str(file),
            expected='JSON {"Fe": -8.4, …} or CSV with columns element and energy, eV/atom',
            received=f"{type(error).__name__}: {error}"[:120],
            fix="correct the file",
        ) from None


@dataclass(frozen=True, eq=False)
class ElementBias:
    """Offsets c by which the energies of candidates differ from the hull's, for D elements.

    Attributes:
        elements: symbols of the elements, [D].
        offsets: offset c of each element, eV/atom, [D].
        errors: standard errors of c, eV/atom, [D].
        compositions: M, the number of compositions that candidates and hull share.
        before: root mean square difference y between candidates and hull, eV/atom.
        after: root mean square of the rest r = y − x · c, eV/atom, with M − D degrees of freedom.
        p: the probability that F is at least this large if there are no offsets (the p-value).
    """

    elements: tuple[str, ...]
    offsets: Float[np.ndarray, " D"]
    errors: Float[np.ndarray, " D"]
    compositions: int
    before: float
    after: float
    p: float

    @property
    def detected(self) -> bool:
        """Whether the offsets at least halve the differences, with a p-value below 0.001."""
        return self.p < 1e-3 and self.after < 0.5 * self.before

    def sentence(self) -> str:
        """Return a sentence for users that states the offsets."""
        offsets = ", ".join(
            f"{e} {o:+.3f} ± {s:.3f}"
            for e, o, s in zip(self.elements, self.offsets, self.errors, strict=True)
        )
        return (
            f"Candidates differ from the hull's entries by an offset for each element, eV/atom: "
            f"{offsets} (over {self.compositions} shared compositions; without the offsets, "
            f"{1e3 * self.before:.0f} meV/atom become {1e3 * self.after:.0f}). Another "
            "reference or correction was used: distances are off by as much."
        )


def element_bias(candidates: Entries, entries: Entries) -> ElementBias | None:
    """Fit offsets for each element to differences between energies of candidates and of a hull.

    Args:
        candidates: the candidates, as entries.
        entries: entries of the hull, with all elements of the candidates.

    Returns:
        The offsets of the D elements in the shared compositions; None if fewer than D + 3
        compositions are shared, or if these do not determine D offsets.
    """
    candidates = candidates.over(entries.elements)
    ours, theirs = _lowest(candidates), _lowest(entries)
    shared = [key for key in ours if key in theirs]
    rows = [ours[key] for key in shared]
    x = candidates.fractions[rows]
    present = np.flatnonzero(x.any(axis=0)) if len(rows) else np.zeros(0, int)
    m, d = len(rows), len(present)
    if m < d + 3 or np.linalg.matrix_rank(x[:, present]) < d:
        return None
    x = x[:, present]
    of_hull = entries.energies_per_atom[[theirs[key] for key in shared]]
    y = candidates.energies_per_atom[rows] - of_hull
    c = np.linalg.lstsq(x, y, rcond=None)[0]
    r = y - x @ c
    variance = float(r @ r) / (m - d)
    # Rounding leaves some 1e-28 eV² if offsets explain everything.
    f_value = max(float(y @ y - r @ r), 0.0) / d / max(variance, 1e-28)
    return ElementBias(
        elements=tuple(entries.elements[j] for j in present),
        offsets=c,
        errors=np.sqrt(variance * np.diag(np.linalg.inv(x.T @ x))),
        compositions=m,
        before=float(np.sqrt(y @ y / m)),
        after=float(np.sqrt(variance)),
        p=float(f_distribution.sf(f_value, d, m - d)),
    )


def _lowest(entries: Entries) -> dict[bytes, int]:
    """Return the index of the lowest entry of each composition, by the composition's key."""
    rows: dict[bytes, int] = {}
    for i in np.argsort(entries.energies_per_atom, kind="stable"):
        rows.setdefault(entries.compositions[i], int(i))
    return rows
