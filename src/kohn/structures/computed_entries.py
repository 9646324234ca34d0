"""Read entries and structures that pymatgen's `as_dict` wrote, without pymatgen.

A file (.json, .json.gz) has one dict, a list of dicts, or {"entries": [...]}. A dict is an entry,
a Structure, a Molecule, or a document with one of these under the key `structure`, as in the
Materials Project; only entries have energies. Energies E and positions r_i of atoms i are

    E = energy + Σ energy_adjustments       eV; energy + correction if no adjustments are stated
    r_i = abc_i · matrix                    Å; rows of matrix: cell vectors; xyz if abc is missing

`info` of a structure has id, functional, scheme and source, if they are known. Properties of sites
(magnetic moments), and charges and spins that decorate species, are not read.
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
"""The tolerance for an occupancy of 1, and for numbers of atoms that must agree."""

SPECIES = re.compile(r"([A-Za-z]+)(?:[\d.]*[+-])?(?:,?\w+=.*)?")
"""A species as pymatgen writes it: an element, its charge, and other properties."""
ISOTOPES = {"D": "H", "T": "H"}
"""Symbols of deuterium and tritium -> symbol of hydrogen."""

Entry = Document


def read_json(path: Path, name: str) -> Any:
    """Return the content of a JSON file, which may be gzipped.

    Raises:
        InputError: the file is not JSON.
    """
    try:
        opener = gzip.open if path.name.lower().endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            "the file is not JSON", where=name, received=str(error)[:120], fix="write it again"
        ) from None


def listed(data: Any) -> list[Entry] | None:
    """Return the list of dicts in the content of a JSON file; None if it has another form."""
    if isinstance(data, dict) and has_geometry(data):
        return [data]
    entries = data.get("entries") if isinstance(data, dict) else data
    valid = isinstance(entries, list) and all(isinstance(e, dict) for e in entries)
    return entries if valid else None


def frames(entries: Sequence[Entry], name: str) -> Iterator[RawFrame]:
    """Yield a frame for each dict, with an energy if the dict is an entry.

    Args:
        entries: dicts of pymatgen: entries, structures, molecules, or documents with them.
        name: the name of the file, for error messages.

    Raises:
        InputError: an entry has no structure, composition or energy, or an invalid structure
            (see `geometry`).
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
    """Return whether a dict is itself a Structure or a Molecule."""
    return isinstance(data.get("sites"), list) and ("lattice" in data or _is_molecule(data))


def has_geometry(data: Document) -> bool:
    """Return whether a dict is a Structure or a Molecule, or has one under `structure`."""
    return is_geometry(data) or has_structure(data)


def _is_entry(data: Document) -> bool:
    """Return whether a dict is an entry, which must have an energy, and not a document."""
    return {"energy", "composition"} <= set(data) or str(data.get("@class")).endswith("Entry")


def _is_molecule(structure: Document) -> bool:
    return str(structure.get("@class")) in ("Molecule", "IMolecule")


def place_of(name: str, k: int) -> str:
    """Return the file and the number of an entry as text, for error messages."""
    return f"{name}, entry {k}"


def required(entry: Entry, where: str) -> None:
    """Refuse an entry without composition or energy. Raises InputError."""
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
    """Return the entry_id of an entry, or else its material_id, or else None."""
    name = entry.get("entry_id") or entry.get("material_id")
    name = name or (entry.get("data") or {}).get("material_id")
    return None if name is None else str(name)


def total_energy(entry: Entry, where: str) -> float:
    """Return the corrected energy of an entry, eV. Raises InputError, as `correction` does."""
    return number(entry["energy"], "energy", where) + correction(entry, where)


def correction(entry: Entry, where: str) -> float:
    """Return the sum of an entry's energy adjustments, eV; `correction` if it has no adjustments.

    Raises:
        InputError: the sum and the `correction` of the entry disagree.
    """
    adjustments = entry.get("energy_adjustments") or ()
    stated = entry.get("correction")
    values = [adjustment_value(a) for a in adjustments]
    if not adjustments or any(v is None for v in values):
        return 0.0 if stated is None else number(stated, "correction", where)
    total = sum(v for v in values if v is not None)
    if stated is not None and abs(total - float(stated)) > 1e-6 * max(1.0, abs(total)):
        raise InputError(
            "the correction is not the sum of the energy adjustments",
            where=where,
            expected=f"{total} eV, the sum",
            received=f"{stated} eV",
            fix="process the entries again with one version of the scheme",
        )
    return total


def adjustment_value(a: Document) -> float | None:
    """Return the value of one energy adjustment, eV; None if its kind is not known."""
    if a.get("value") is not None:
        return float(a["value"])
    if a.get("adj_per_atom") is not None and a.get("n_atoms") is not None:
        return float(a["adj_per_atom"]) * float(a["n_atoms"])
    if {"adj_per_deg", "temp", "n_atoms"} <= set(a):
        return float(a["adj_per_deg"]) * float(a["temp"]) * float(a["n_atoms"])
    return None


def number(value: Any, name: str, where: str) -> float:
    """Return an energy as a float. Raises InputError if it is not a number."""
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
    """Return a composition as symbol -> number of atoms. Raises InputError if this fails."""
    from ase.formula import Formula

    atoms: dict[str, float] = {}
    try:
        counts = Formula(given).count() if isinstance(given, str) else dict(given)
        for e, n in counts.items():
            atoms[bare(e)] = atoms.get(bare(e), 0.0) + float(n)
        return atoms
    except (ValueError, TypeError, AttributeError):
        raise InputError(
            "the composition cannot be read",
            where=where,
            expected="symbols with numbers of atoms, or a formula",
            received=repr(given)[:80],
            fix="correct it, or remove the entry",
        ) from None


def bare(species: str) -> str:
    """Return the element of a species: 'Fe' for 'Fe3+', for 'Fe3+,spin=5' and for 'Fe,spin=5'.

    Isotopes of hydrogen are hydrogen: the energy of electrons does not depend on the nuclei's mass.
    """
    match = SPECIES.fullmatch(str(species))
    element = match[1] if match else str(species)
    return ISOTOPES.get(element, element)


def has_structure(entry: Entry) -> bool:
    """Return whether an entry has a structure, ordered or not."""
    return isinstance(entry.get("structure"), Mapping) and bool(entry["structure"])


def is_whole(entry: Entry, counts: Mapping[str, float]) -> bool:
    """Return whether an entry has an ordered structure of as many atoms as its composition.

    Normalised entries have the composition of a part of their cell.
    """
    sites = entry["structure"].get("sites") or () if has_structure(entry) else ()
    return len(sites) == sum(counts.values()) and all(_only_species(s) is not None for s in sites)


def geometry(entry: Entry, counts: Mapping[str, float] | None, place: Place) -> RawFrame:
    """Return the structure of an entry as a raw frame, with the energy in `info`.

    Args:
        entry: the dict, with a structure.
        counts: symbol -> number of atoms in the composition; None for a structure without energy.
        place: the file, and the number of the entry in it as the frame.

    Raises:
        InputError: the lattice or coordinates are missing, or not finite; a site is shared by
            several species or partly empty; the atoms are not those of the composition.
    """
    where, structure = place_of(str(place.file), place.frame or 0), entry["structure"]
    cell, periodic = _lattice(structure, where)
    numbers = _numbers(structure, where)
    if counts is not None:
        _refuse_other_atoms(numbers, counts, where)
    provenance = {k: v for k, v in asdict(provenance_of(entry)).items() if v != UNKNOWN}
    name = identity(entry)
    return RawFrame(
        numbers=numbers,
        positions=_positions(structure, cell, where),
        cell=cell,
        periodic=periodic,
        info={
            **({} if counts is None else {"energy": total_energy(entry, where)}),
            **({} if name is None else {"id": name}),
            **provenance,
            **({"charge": structure["charge"]} if structure.get("charge") else {}),
        },
        arrays={},
        place=place,
    )


def _lattice(structure: Document, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return cell vectors as rows, Å, and three periodic flags, which are True if not stated."""
    if _is_molecule(structure):
        return np.zeros((3, 3)), np.zeros(3, bool)
    lattice = structure.get("lattice") or {}
    matrix = _finite_array(lattice.get("matrix"), (3, 3))
    flags = _finite_array(lattice.get("pbc") or (1, 1, 1), (3,))
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
    """Return atomic numbers, and refuse sites that are not filled by one species."""
    numbers, known = [], {}
    sites: list[Document] = structure.get("sites") or []
    for i, site in enumerate(sites):
        species = _only_species(site)
        if species is None:
            occupants = site.get("species") or []
            occupancies = ", ".join(f"{s.get('element')} {s.get('occu')}" for s in occupants)
            raise InputError(
                "the structure is disordered: a site is shared, or not full",
                where=f"{where}, site {i}",
                expected="one species with occupancy 1 on each site",
                received=occupancies or "no species",
                fix="choose an ordered structure of it, or remove the entry",
            )
        if species not in known:
            known[species] = _atomic_number(species, f"{where}, site {i}")
        numbers.append(known[species])
    return np.array(numbers, dtype=np.int32)


def _only_species(site: Document) -> str | None:
    """Return the species that fills a site alone; None if no species does."""
    species = site.get("species") or ()
    if len(species) != 1:
        return None
    occupancy = _finite_array(species[0].get("occu", 1), ())
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
    """Return the Cartesian coordinates of the sites, Å, [n, 3]."""
    positions = np.zeros((len(structure["sites"]), 3))
    for i, site in enumerate(structure["sites"]):
        fractional = site.get("abc") is not None
        row = _finite_array(site.get("abc" if fractional else "xyz"), (3,))
        if row is None:
            raise InputError(
                "the coordinates of a site are missing, or not finite",
                where=f"{where}, site {i}",
                expected="abc: three fractions of the cell vectors",
                received=repr(site.get("abc", site.get("xyz")))[:80],
                fix="correct them, or remove the entry",
            )
        positions[i] = row @ cell if fractional else row
    return positions


def _finite_array(value: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return `value` as an array if it has this shape and finite numbers, else None."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.shape == shape and np.isfinite(array).all() else None


def _refuse_other_atoms(numbers: np.ndarray, counts: Mapping[str, float], where: str) -> None:
    """Refuse sites that are not the atoms of the composition. Raises InputError."""
    sites = Counter(symbol(z) for z in numbers)
    elements = {*counts.keys(), *sites.keys()}
    if any(abs(counts.get(e, 0) - sites.get(e, 0)) > WHOLE for e in elements):
        raise InputError(
            "the sites of the structure are not the atoms of the composition",
            where=where,
            expected=_formula(counts),
            received=_formula(sites) or "no sites",
            fix="write the entry again for its whole cell: normalised entries have the energy of "
            "a part of it",
        )


def _formula(counts: Mapping[str, float]) -> str:
    return " ".join(f"{e}{n:g}" for e, n in sorted(counts.items()))
