"""Choose the files below a folder that are read, and give the reason for each other file."""

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
"""File formats, as named by ASE, that have energies or forces."""
GEOMETRIES = frozenset(
    {"aims", "cfg", "cif", "gen", "mol", "proteindatabank", "sdf", "vasp", "xsf", "xyz"}
)
"""File formats, as named by ASE, of structures alone; read if a folder has no results."""


def calculations_below(folder: Path, name: str) -> tuple[list[Path], list[UnreadFile]]:
    """Return the files below a folder that have energies or forces, or else those with structures.

    OUTCAR is not read if vasprun.xml is next to it. Hidden files are ignored.

    Args:
        folder: the folder to search, with all folders in it.
        name: the name of the folder in errors.

    Returns:
        The paths to read, in the order of their names, and the files that are not read.

    Raises:
        InputError: no file can be read.
    """
    formats = {path: _file_format(path) for path in _files(folder)}
    for readable in (WITH_RESULTS, GEOMETRIES):
        paths = [path for path, file_format in formats.items() if file_format in readable]
        if paths:
            unread = {path: "no format of structures with results" for path in formats}
            for path in paths:
                del unread[path]
            for path in _repeats(paths):
                unread[path] = "the same calculation as vasprun.xml next to it"
            read = [path for path in paths if path not in unread]
            return read, [UnreadFile(str(path), reason) for path, reason in unread.items()]
    examples = ", ".join(str(path.relative_to(folder)) for path in list(formats)[:5])
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


def _file_format(path: Path) -> str | None:
    """Return the file format as named by ASE; None if it is not known."""
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
    """Return whether a JSON file is an ASE database, or has structures of pymatgen."""
    try:
        data = computed_entries.read_json(path, str(path))
    except InputError:
        return False
    entries = computed_entries.listed(data)
    if entries:
        return any(map(computed_entries.has_geometry, entries))
    return isinstance(data, dict) and "ids" in data


def _repeats(paths: list[Path]) -> list[Path]:
    """Return OUTCARs next to a vasprun.xml, and compressed copies of a file next to it."""
    repeats = []
    for path in paths:
        stem = re.sub(r"\.(gz|bz2|xz)$", "", path.name)
        siblings = {p.name for p in paths if p.parent == path.parent and p != path}
        if stem.startswith("OUTCAR"):
            tail = stem.removeprefix("OUTCAR")
            same = {f"vasprun.xml{tail}", f"vasprun{tail}.xml"}
            if any(b.startswith(tuple(same)) for b in siblings):
                repeats.append(path)
        elif stem != path.name and stem in siblings:
            repeats.append(path)
    return repeats
