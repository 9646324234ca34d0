"""Read files in any format that ASE reads, and correct errors of ASE's readers.

- LAMMPS dumps have no energy, and ASE sets it to 0; without a column of elements ASE takes atom
  types for atomic numbers; and it takes all numbers to be in LAMMPS's units `metal`.
- ASE keeps one species of a site that several species share, and fills sites that are partly empty.
- ASE ignores the units that an ASE database states (as those of schnetpack do).
- Ionic steps of VASP's machine-learned force field lack the electronic steps that ASE expects.
"""

import gzip
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kohn.errors import InputError, Place
from kohn.structures.ase_conversion import raw_from_ase
from kohn.structures.raw_frames import RawFrame
from kohn.units import factor

if TYPE_CHECKING:
    from ase import Atoms

FULL = 1e-3
"""A site is full if its occupancy differs from 1 by less than this."""
HEADER = 200
"""The number of lines at the start of a LAMMPS dump that are searched for column names."""
LAMMPS_UNITS = ("metal", "real", "electron", "si", "cgs")
"""Unit styles of LAMMPS that ASE can convert."""


def frames_of_file(path: Path, name: str) -> Iterator[RawFrame]:
    """Yield the frames of a file in any format that ASE reads.

    Args:
        path: the file.
        name: the name of the file in errors.

    Raises:
        InputError: ASE does not know the format, or cannot read the file; the file does not state
            its elements, or a site is shared by several species or partly empty.
    """
    from ase.io.formats import UnknownFileTypeError, filetype

    frame = 0
    try:
        file_format = filetype(str(path))
        for raw in _readers().get(file_format, _read_ase)(path, name, file_format):
            yield raw
            frame += 1
    except UnknownFileTypeError as error:
        raise InputError(
            "the format of this file is not known",
            where=Place(name),
            expected="extended XYZ, an ASE database, vasprun.xml, OUTCAR, or another format "
            "that ASE reads",
            fix="give it the file suffix of its format, or convert it to extended XYZ",
        ) from error
    except InputError:
        raise
    except Exception as error:  # readers of ASE raise any exception
        raise InputError(
            "ASE could not read this file",
            where=Place(name, frame),
            received=f"{type(error).__name__}: {error}",
            fix="check that the file is complete and that its suffix says its format",
        ) from error


Reader = Callable[[Path, str, str], Iterator[RawFrame]]


def _readers() -> dict[str, Reader]:
    """Return the readers of formats that need corrections: name of the format in ASE -> reader."""
    return {
        "db": _database,
        "json": _database,
        "lammps-dump-text": _lammps_dump,
        "lammps-dump-binary": _lammps_binary,
        "lammps-data": _lammps_data,
        "vasp-xml": _vasprun,
    }


def _read_ase(path: Path, name: str, file_format: str, **options: Any) -> Iterator[RawFrame]:
    import ase.io

    stream = ase.io.iread(str(path), index=":", format=file_format, **options)
    for frame, atoms in enumerate(stream):
        _refuse_shared_sites(atoms, Place(name, frame))
        yield raw_from_ase(atoms, Place(name, frame))


def _refuse_shared_sites(atoms: "Atoms", place: Place) -> None:
    """Refuse CIF sites and PDB atoms that are shared by several species or partly empty."""
    sites = atoms.info.get("occupancy")
    partial = []
    if isinstance(sites, dict):
        partial = [s for s in sites.values() if len(s) > 1 or min(s.values()) < 1 - FULL]
    shares = np.asarray(atoms.arrays.get("occupancy", ()))
    if shares.dtype.kind == "f":  # programs without occupancies write 0
        partial += [{"occupancy": x} for x in shares[(shares > 0) & (shares < 1 - FULL)]]
    if partial:
        first = ", ".join(f"{species} {share:g}" for species, share in partial[0].items())
        raise InputError(
            "the structure is disordered: a site is shared, or not full",
            where=place,
            expected="one species with occupancy 1 on each site",
            received=f"{first} (one of {len(partial)} such sites)",
            fix="choose an ordered structure of it, or remove the entry",
        )


def _vasprun(path: Path, name: str, file_format: str) -> Iterator[RawFrame]:
    frame = 0
    try:
        for raw in _read_ase(path, name, file_format):
            yield raw
            frame += 1
    except IndexError as error:
        raise InputError(
            "a step has no electronic steps: VASP's machine-learned force field computed it",
            where=Place(name, frame),
            expected="steps that were computed from first principles",
            received="a <calculation> without <scstep>, which ASE cannot read",
            fix="use steps from first principles: vasprun.xml of runs without ML_LMLFF, or "
            "ML_AB of the training run, converted to extended XYZ",
        ) from error


def _lammps_dump(path: Path, name: str, file_format: str) -> Iterator[RawFrame]:
    """Yield the frames of a LAMMPS dump, with forces if the dump has them, and without energy."""
    head = list(islice(_lines(path), HEADER))
    columns = next((line.split()[2:] for line in head if line.startswith("ITEM: ATOMS")), [])
    if "element" not in columns and "mass" not in columns:
        raise InputError(
            "the dump does not say which elements its types are",
            where=Place(name, 0),
            expected="a column `element`",
            received=f"the columns {' '.join(columns)}",
            fix="dump again with `dump … custom … element …` and `dump_modify … element Cu Al`, or "
            "write the elements into the file",
        )
    stated = next((b.strip() for a, b in pairwise(head) if "UNITS" in a), None)
    notes = ("a LAMMPS dump has no energy, and the 0 that ASE reads was left out",)
    if stated is None:
        notes += ("the dump states no units: those of LAMMPS's style metal (Å, eV/Å) were assumed",)
    for raw in _read_ase(path, name, file_format, units=_lammps_units(stated, name)):
        yield replace(raw, info={k: v for k, v in raw.info.items() if k != "energy"}, notes=notes)


def _lammps_binary(path: Path, name: str, file_format: str) -> Iterator[RawFrame]:
    raise InputError(
        "binary dumps do not say which columns they have, nor which elements",
        where=Place(name),
        expected="a dump in text with a column `element`",
        fix="convert it with LAMMPS's binary2txt, or dump again as text",
    )


def _lammps_data(path: Path, name: str, file_format: str) -> Iterator[RawFrame]:
    text = "\n".join(_lines(path))
    if not re.search(r"^\s*(Masses|Atom Type Labels)\b", text, re.MULTILINE):
        raise InputError(
            "the file does not say which elements its types are",
            where=Place(name, 0),
            expected="a section Masses",
            fix="add the masses, which determine the elements, or convert the file",
        )
    stated = re.search(r"units\s*=\s*(\w+)", text.split("\n", 1)[0])
    notes = ("elements were determined from the masses of LAMMPS's types",)
    if stated is None:
        notes += ("the file states no units: those of LAMMPS's style metal (Å) were assumed",)
    for raw in _read_ase(path, name, file_format, units=_lammps_units(stated and stated[1], name)):
        yield replace(raw, notes=notes)


def _lammps_units(stated: str | None, name: str) -> str:
    if stated is None or stated in LAMMPS_UNITS:
        return stated or "metal"
    raise InputError(
        "units of this style cannot be converted",
        where=Place(name),
        expected=f"one of {', '.join(LAMMPS_UNITS)}",
        received=f"units {stated}",
        fix="convert the file to Å and eV",
    )


def _lines(path: Path) -> Iterator[str]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", errors="replace") as stream:
        for line in stream:
            yield line.rstrip("\n")


def _database(path: Path, name: str, file_format: str) -> Iterator[RawFrame]:
    """Yield the rows of an ASE database, with their key-value pairs and data, in Kohn's units."""
    import ase.db

    database = ase.db.connect(str(path))
    units = dict(database.metadata.get("_property_unit_dict") or {})
    length = database.metadata.get("_distance_unit")
    factors = {key: _factor(unit, key, name) for key, unit in units.items()}
    scale = 1.0 if length is None else _factor(length, "distances", name)
    converted = {key: unit for key, unit in units.items() if factors[key] != 1.0}
    converted |= {"distances": length} if scale != 1.0 else {}
    notes = tuple(
        f"{key}: converted from {unit}, which the file states" for key, unit in converted.items()
    )
    for frame, row in enumerate(database.select()):
        atoms = row.toatoms(add_additional_information=True)
        if converted:
            _scale(atoms, factors, scale)
        yield replace(raw_from_ase(atoms, Place(name, frame)), notes=notes)


def _factor(unit: str | None, key: str, name: str) -> float:
    """Return the size of a unit in Kohn's units, and refuse an unknown unit."""
    size = factor(str(unit or ""))
    if size is None:
        raise InputError(
            f"the unit that the file states for {key} is not known",
            where=Place(name),
            expected="eV, Hartree, kcal/mol, Å, Bohr …, and products and quotients of them",
            received=repr(unit),
            fix="convert the file to eV and Å, and correct its metadata",
        )
    return size


def _scale(atoms: "Atoms", factors: dict[str, float], length: float) -> None:
    """Multiply positions and cell by `length`, and values by their `factors`, in place."""
    results = getattr(atoms.calc, "results", {})
    parts = (atoms.info.get("key_value_pairs", {}), atoms.info.get("data", {}), results)
    scaled = [
        {k: np.asarray(v) * factors[k] if k in factors else v for k, v in dict(p).items()}
        for p in parts
    ]
    atoms.calc = None
    atoms.set_cell(atoms.cell.array * length)
    atoms.positions *= length
    atoms.info["key_value_pairs"], atoms.info["data"] = scaled[0], scaled[1]
    if results:
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results.update(scaled[2])
