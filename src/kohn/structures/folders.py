"""Choose which files below a folder of calculations are read, and say why others are not."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from kohn.errors import InputError, Place
from kohn.structures import computed_entries, extxyz
from kohn.structures.structure import UnreadFile

WITH_RESULTS = frozenset(
    {
        *("vasp-out", "vasp-xml", "extxyz", "db", "traj", "aims-output", "espresso-out", "gpw"),
        *("castep-castep", "castep-geom", "castep-md", "abinit-out", "gpaw-out", "exciting"),
        *("gaussian-out", "orca-output", "nwchem-out", "gamess-us-out", "turbomole-gradient"),
        *("onetep-out", "elk", "qbox", "dmol-arc", "lammps-dump-text"),
    }
)
"""ASE's names of formats that hold energies or forces."""
GEOMETRIES = frozenset(
    {"aims", "cfg", "cif", "gen", "mol", "proteindatabank", "sdf", "vasp", "xsf", "xyz"}
)
"""ASE's names of formats that hold structures alone, read if a folder has nothing else."""


def calculations_below(folder: Path, name: str) -> tuple[list[Path], list[UnreadFile]]:
    """Return the files below a folder that hold structures with results, or else structures alone.

    Of a VASP calculation, vasprun.xml is read and OUTCAR is not. Hidden files are ignored.

    Args:
        folder: the folder to search, with all folders in it.
        name: the name of the folder in errors.

    Returns:
        Paths in the order of their names, and the files that are not read.

    Raises:
        InputError: no file can be read.
    """
    kinds = {path: _kind(path) for path in _files(folder)}
    for known in (WITH_RESULTS, GEOMETRIES):
        taken = [path for path, kind in kinds.items() if kind in known]
        if taken:
            left = {path: "no format of structures with results" for path in kinds}
            for path in taken:
                del left[path]
            for path in _repeats(taken):
                left[path] = "the same calculation as vasprun.xml next to it"
            read = [path for path in taken if path not in left]
            return read, [UnreadFile(str(path), reason) for path, reason in left.items()]
    examples = ", ".join(str(path.relative_to(folder)) for path in list(kinds)[:5])
    raise InputError(
        "the folder has nothing that can be read",
        where=Place(name),
        expected="vasprun.xml, OUTCAR, extended XYZ, ASE databases or trajectories …, at any depth",
        received=examples or "no files",
        fix="name the files, or give them the suffix of their format",
    )


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder that are not hidden or empty, in the order of their names."""
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            path = Path(directory) / file
            if not file.startswith(".") and path.is_file() and path.stat().st_size:
                yield path


def _kind(path: Path) -> str | None:
    """Return ASE's name of the format of a file; None if it is not known."""
    from ase.io.formats import UnknownFileTypeError, filetype

    if path.suffix in (".xyz", ".extxyz") or path.name.endswith((".xyz.gz", ".extxyz.gz")):
        return "extxyz" if extxyz.looks_like_xyz(path) else None
    if path.name.lower().endswith(computed_entries.SUFFIXES):
        return "db" if _has_entries(path) else None
    try:
        return filetype(str(path))
    except (UnknownFileTypeError, OSError, ValueError, EOFError):
        return None


def _has_entries(path: Path) -> bool:
    """Return whether a JSON file has entries or structures of pymatgen, or is an ASE database."""
    try:
        data = computed_entries.read_json(path, str(path))
    except InputError:
        return False
    entries = computed_entries.listed(data)
    if entries:
        return any(map(computed_entries.has_geometry, entries))
    return isinstance(data, dict) and "ids" in data


def _repeats(taken: list[Path]) -> list[Path]:
    """Return OUTCARs next to a vasprun.xml, and second copies of either."""
    repeats = []
    for path in taken:
        stem = re.sub(r"\.(gz|bz2|xz)$", "", path.name)
        siblings = {p.name for p in taken if p.parent == path.parent and p != path}
        if stem.startswith("OUTCAR"):
            tail = stem.removeprefix("OUTCAR")
            same = {f"vasprun.xml{tail}", f"vasprun{tail}.xml"}
            if any(b.startswith(tuple(same)) for b in siblings):
                repeats.append(path)
        elif stem != path.name and stem in siblings:
            repeats.append(path)
    return repeats
