"""Entries and structures of pymatgen, as its `as_dict` writes them, without pymatgen.

A file (.json, .json.gz) has one dict, a list of them, or {"entries": [...]}. A dict is an entry,
a Structure or a Molecule, or a document with one under `structure`, as the Materials Project has
them; only entries have energies. Of a ComputedStructureEntry:

    E = energy + Σ energy_adjustments            eV; `correction` where no adjustments are stated
    r_i = abc_i · matrix                         Å, rows of the lattice; xyz where there is no abc

`info` says id, functional, scheme and source, where they are known. Properties of sites (magnetic
moments), and charges and spins that decorate species, are left out.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kohn.errors import InputError, Place
from kohn.structures.elements import atomic_number, symbol
from kohn.structures.provenance import UNKNOWN, provenance_of
from kohn.structures.raw_frames import RawFrame
from kohn.typing import Document

SUFFIXES = (".json", ".json.gz")
WHOLE = 1e-8
"""Occupancies this near 1 are whole."""

SPECIES = re.compile(r"([A-Za-z]+)(?:[\d.]*[+-])?(?:,?\w+=.*)?")
"""An element, its charge, and other properties, as pymatgen writes them."""
ISOTOPES = {"D": "H", "T": "H"}
"""Deuterium and tritium."""

Entry = Document


def read_json(path: Path, name: str) -> Any:
    """What a JSON file has, also a gzipped one.

    Raises:
        InputError: it is not JSON.
    """
    try:
        opened = gzip.open if path.name.lower().endswith(".gz") else open
        with opened(path, "rt", encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            "the file is not JSON", where=name, received=str(error)[:120], fix="write it anew"
        ) from None


def listed(data: Any) -> list[Entry] | None:
    """The entries of what a JSON file has; None where it is no dict of pymatgen, nor a list."""
    if isinstance(data, dict) and has_geometry(data):
        return [data]
    entries = data.get("entries") if isinstance(data, dict) else data
    well = isinstance(entries, list) and all(isinstance(e, dict) for e in entries)
    return entries if well else None


def frames(entries: Sequence[Entry], name: str) -> Iterator[RawFrame]:
    """The structures of entries with their energies, and structures alone.

    Args:
        entries: dicts.
        name: what to call the file in errors.

    Raises:
        InputError: an entry without structure, composition or energy, or one that `geometry`
            refuses.
    """
    for k, entry in enumerate(entries):
        place, where = Place(name, k), place_of(name, k)
        if is_geometry(entry):
            yield geometry({"structure": entry}, None, place)
        elif has_structure(entry) and not _is_entry(entry):
            yield geometry(entry, None, place)
        else:
            required(entry, where)
            if not has_structure(entry):
                raise InputError(
                    "the entry has no structure",
                    where=where,
                    expected="a ComputedStructureEntry",
                    received=str(entry.get("@class") or ", ".join(map(str, entry)))[:120],
                    fix="write ComputedStructureEntry dicts; for hulls of energies alone, read it "
                    "with kohn.stability.read_entries",
                )
            yield geometry(entry, composition(entry["composition"], where), place)


def is_geometry(data: Document) -> bool:
    """Whether it is a Structure or a Molecule itself."""
    return isinstance(data.get("sites"), list) and ("lattice" in data or _is_molecule(data))


def has_geometry(data: Document) -> bool:
    """Whether it is a structure, or has one."""
    return is_geometry(data) or has_structure(data)


def _is_entry(data: Document) -> bool:
    """Whether an energy is to be expected: documents have structures without one."""
    return {"energy", "composition"} <= set(data) or str(data.get("@class")).endswith("Entry")


def _is_molecule(structure: Document) -> bool:
    return str(structure.get("@class")) in ("Molecule", "IMolecule")


def place_of(name: str, k: int) -> str:
    """Where an entry is, for messages."""
    return f"{name}, entry {k}"


def required(entry: Entry, where: str) -> None:
    """Raises InputError where composition or energy are missing."""
    missing = [key for key in ("composition", "energy") if entry.get(key) is None]
    if missing:
        raise InputError(
            f"the entry has no {' and no '.join(missing)}",
            where=where,
            expected="composition and energy, as in a ComputedEntry",
            received=", ".join(map(str, entry))[:120],
            fix="write the entries with pymatgen's as_dict, or use CSV",
        )


def identity(entry: Entry) -> str | None:
    """Its entry_id, or else its material_id."""
    name = entry.get("entry_id") or entry.get("material_id")
    name = name or (entry.get("data") or {}).get("material_id")
    return None if name is None else str(name)


def total_energy(entry: Entry, where: str) -> float:
    """The energy with its corrections, eV. Raises InputError, as `correction` does."""
    return number(entry["energy"], "energy", where) + correction(entry, where)


def correction(entry: Entry, where: str) -> float:
    """The sum of the energy adjustments, eV; or the correction where there are none.

    Raises:
        InputError: both are there, and disagree.
    """
    adjustments = entry.get("energy_adjustments") or ()
    said = entry.get("correction")
    values = [adjustment_value(a) for a in adjustments]
    if not adjustments or any(v is None for v in values):
        return 0.0 if said is None else number(said, "correction", where)
    total = sum(v for v in values if v is not None)
    if said is not None and abs(total - float(said)) > 1e-6 * max(1.0, abs(total)):
        raise InputError(
            "the correction is not the sum of the energy adjustments",
            where=where,
            expected=f"{total} eV, the sum",
            received=f"{said} eV",
            fix="process the entries anew with one version of the scheme",
        )
    return total


def adjustment_value(a: Document) -> float | None:
    """One adjustment, eV; None where its kind is not known."""
    if a.get("value") is not None:
        return float(a["value"])
    if a.get("adj_per_atom") is not None and a.get("n_atoms") is not None:
        return float(a["adj_per_atom"]) * float(a["n_atoms"])
    if {"adj_per_deg", "temp", "n_atoms"} <= set(a):
        return float(a["adj_per_deg"]) * float(a["temp"]) * float(a["n_atoms"])
    return None


def number(value: Any, name: str, where: str) -> float:
    """An energy as a number. Raises InputError."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(
            f"the {name} is not a number",
            where=where,
            expected="a number in eV",
            received=repr(value)[:80],
            fix="correct it, or remove the entry",
        ) from None


def composition(given: str | Mapping[str, float], where: str) -> dict[str, float]:
    """Symbol -> number of atoms. Raises InputError."""
    from ase.formula import Formula

    found: dict[str, float] = {}
    try:
        counts = Formula(given).count() if isinstance(given, str) else dict(given)
        for e, n in counts.items():
            found[bare(e)] = found.get(bare(e), 0.0) + float(n)
        return found
    except (ValueError, TypeError, AttributeError):
        raise InputError(
            "the composition cannot be read",
            where=where,
            expected="symbols with numbers of atoms, or a formula",
            received=repr(given)[:80],
            fix="correct it, or remove the entry",
        ) from None


def bare(species: str) -> str:
    """The symbol of the element of a species: 'Fe' of 'Fe3+', of 'Fe3+,spin=5' and of 'Fe,spin=5'.

    Isotopes of hydrogen are hydrogen: the energy of electrons does not depend on the nuclei's mass.
    """
    found = SPECIES.fullmatch(str(species))
    symbol = found[1] if found else str(species)
    return ISOTOPES.get(symbol, symbol)


def has_structure(entry: Entry) -> bool:
    """Whether there is a structure, ordered or not."""
    return isinstance(entry.get("structure"), Mapping) and bool(entry["structure"])


def is_whole(entry: Entry, counts: Mapping[str, float]) -> bool:
    """Whether it has an ordered structure of as many atoms as its composition.

    Normalised entries have the composition of a part of their cell.
    """
    sites = entry["structure"].get("sites") or () if has_structure(entry) else ()
    return len(sites) == sum(counts.values()) and all(_species(s) is not None for s in sites)


def geometry(entry: Entry, counts: Mapping[str, float] | None, place: Place) -> RawFrame:
    """The structure of an entry, with its energy as a label.

    Args:
        entry: the dict, with a structure.
        counts: symbol -> number of atoms, its composition; None of a structure without energy.
        place: file, and the entry's number as the frame.

    Raises:
        InputError: no lattice, or sites without coordinates, or numbers that are not finite; a
            site shared by several species, or not full; other atoms than the composition's.
    """
    where, structure = place_of(str(place.file), place.frame or 0), entry["structure"]
    cell, periodic = _lattice(structure, where)
    numbers = _numbers(structure, where)
    if counts is not None:
        _as_stated(numbers, counts, where)
    said = {k: v for k, v in asdict(provenance_of(entry)).items() if v != UNKNOWN}
    name = identity(entry)
    return RawFrame(
        numbers=numbers,
        positions=_positions(structure, cell, where),
        cell=cell,
        periodic=periodic,
        info={
            **({} if counts is None else {"energy": total_energy(entry, where)}),
            **({} if name is None else {"id": name}),
            **said,
            **({"charge": structure["charge"]} if structure.get("charge") else {}),
        },
        arrays={},
        place=place,
    )


def _lattice(structure: Document, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Cell vectors as rows, Å, and periodic flags; all three where none are stated."""
    if _is_molecule(structure):
        return np.zeros((3, 3)), np.zeros(3, bool)
    lattice = structure.get("lattice") or {}
    matrix = _array(lattice.get("matrix"), (3, 3))
    flags = _array(lattice.get("pbc") or (1, 1, 1), (3,))
    if matrix is None or flags is None:
        raise InputError(
            "the lattice of the structure is missing, or not finite",
            where=where,
            expected="lattice.matrix: three rows of three numbers in Å; pbc, if any: three flags",
            received=repr({k: lattice.get(k) for k in ("matrix", "pbc")}) if lattice else "none",
            fix="correct it, or remove the entry; write molecules as extended XYZ",
        )
    return matrix, flags.astype(bool)


def _numbers(structure: Document, where: str) -> np.ndarray:
    """Atomic numbers; each site must have one species, wholly."""
    numbers, known = [], {}
    sites: list[Document] = structure.get("sites") or []
    for i, site in enumerate(sites):
        species = _species(site)
        if species is None:
            there = site.get("species") or []
            found = ", ".join(f"{s.get('element')} {s.get('occu')}" for s in there)
            raise InputError(
                "the structure is disordered: a site is shared, or not full",
                where=f"{where}, site {i}",
                expected="one species with occupancy 1 on each site",
                received=found or "no species",
                fix="choose an ordered structure of it, or remove the entry",
            )
        if species not in known:
            known[species] = _atomic_number(species, f"{where}, site {i}")
        numbers.append(known[species])
    return np.array(numbers, dtype=np.int32)


def _species(site: Document) -> str | None:
    """The one species that fills a site, or None."""
    species = site.get("species") or ()
    if len(species) != 1:
        return None
    occupancy = _array(species[0].get("occu", 1), ())
    if occupancy is None or abs(occupancy - 1) > WHOLE:
        return None
    return str(species[0].get("element"))


def _atomic_number(species: str, where: str) -> int:
    try:
        return atomic_number(bare(species))
    except InputError as error:
        raise InputError(
            error.message, expected=error.expected, received=species, where=where, fix=error.fix
        ) from None


def _positions(structure: Document, cell: np.ndarray, where: str) -> np.ndarray:
    """Cartesian coordinates of the sites, Å, [n, 3]."""
    out = np.zeros((len(structure["sites"]), 3))
    for i, site in enumerate(structure["sites"]):
        fractional = site.get("abc") is not None
        row = _array(site.get("abc" if fractional else "xyz"), (3,))
        if row is None:
            raise InputError(
                "the coordinates of a site are missing, or not finite",
                where=f"{where}, site {i}",
                expected="abc: three fractions of the cell vectors",
                received=repr(site.get("abc", site.get("xyz")))[:80],
                fix="correct them, or remove the entry",
            )
        out[i] = row @ cell if fractional else row
    return out


def _array(value: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Finite numbers of this shape, or None."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.shape == shape and np.isfinite(array).all() else None


def _as_stated(numbers: np.ndarray, counts: Mapping[str, float], where: str) -> None:
    """Raises InputError where the sites are not the atoms of the composition."""
    found = Counter(symbol(z) for z in numbers)
    elements = {*counts.keys(), *found.keys()}
    if any(abs(counts.get(e, 0) - found.get(e, 0)) > WHOLE for e in elements):
        raise InputError(
            "the sites of the structure are not the atoms of the composition",
            where=where,
            expected=_formula(counts),
            received=_formula(found) or "no sites",
            fix="write the entry anew for its whole cell: entries that were normalised have the "
            "energy of a part of it",
        )


def _formula(counts: Mapping[str, float]) -> str:
    return " ".join(f"{e}{n:g}" for e, n in sorted(counts.items()))
