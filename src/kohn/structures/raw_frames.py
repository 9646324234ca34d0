"""Define a raw frame: the geometry of a frame of a file, and keys not yet interpreted."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kohn.errors import InputError, Place
from kohn.structures.properties import PROPERTIES
from kohn.structures.structure import Structure

HEAVIEST = 118
"""The largest atomic number."""


@dataclass(frozen=True)
class RawFrame:
    """One frame of a file before its keys are interpreted.

    Attributes:
        numbers: atomic numbers, int32 [n].
        positions: Cartesian, Å, float64 [n, 3].
        cell: cell vectors as rows, Å, float64 [3, 3].
        periodic: whether the frame is periodic along each cell vector, bool [3].
        info: key -> value, of the keys with one value per frame.
        arrays: key -> array [n, ...], of the keys with one value per atom.
        place: file, frame, and the line with the number of atoms (if the file has lines).
        notes: remarks of the function that read the file.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    periodic: np.ndarray
    info: dict[str, Any]
    arrays: dict[str, np.ndarray]
    place: Place
    notes: tuple[str, ...] = ()

    def place_of(self, atom: int | None = None) -> Place:
        """Return file, frame and line of the comment line of this frame, or of one of its atoms."""
        if self.place.line is None:
            return self.place
        offset = 1 if atom is None else 2 + atom
        return Place(self.place.file, self.place.frame, self.place.line + offset)


def raw_of(structure: Structure) -> RawFrame:
    """Return a structure in memory as the frame that it would be in a file."""
    info, arrays = dict(structure.info), dict(structure.arrays)
    for name, value in structure.labels.items():
        per_atom = "atoms" in PROPERTIES[name].shape
        (arrays if per_atom else info)[PROPERTIES[name].key] = value
    if structure.config_type != "Default":
        info["config_type"] = structure.config_type
    if structure.weight != 1.0:
        info["config_weight"] = structure.weight
    return RawFrame(
        numbers=np.asarray(structure.numbers, np.int32),
        positions=np.asarray(structure.positions, np.float64),
        cell=np.asarray(structure.cell, np.float64),
        periodic=np.asarray(structure.periodic, bool),
        info=info,
        arrays=arrays,
        place=structure.place,
    )


def validated(raw: RawFrame, periodic: bool | None = None) -> RawFrame:
    """Return the frame, with the user's periodic flags if given, and refuse an invalid geometry.

    Raises:
        InputError: the frame has no atoms, an atom that is not an element, a position or cell
            that is not finite, or periodic cell vectors that are zero or linearly dependent.
    """
    if periodic is not None:
        raw = replace(raw, periodic=np.full(3, periodic))
    _refuse_strange_atoms(raw)
    _refuse_infinite(raw)
    _refuse_flat_cell(raw)
    return raw


def _refuse_strange_atoms(raw: RawFrame) -> None:
    if len(raw.numbers) == 0:
        raise InputError(
            "the frame has no atoms",
            where=raw.place,
            expected="at least one atom",
            fix="remove this frame; in an ASE database, it may be a row that was only reserved",
        )
    strange = np.flatnonzero((raw.numbers < 1) | (raw.numbers > HEAVIEST))
    if len(strange):
        first = int(strange[0])
        number = int(raw.numbers[first])
        name = " (X, a ghost or dummy atom)" if number == 0 else ""
        raise InputError(
            "an atom is not a chemical element",
            where=raw.place_of(first),
            expected=f"atomic numbers from 1 to {HEAVIEST}",
            received=f"{number}{name} of atom {first}; {len(strange)} such atoms",
            fix="remove these atoms, or write which elements they are",
        )


def _refuse_infinite(raw: RawFrame) -> None:
    if not np.isfinite(raw.cell).all():
        raise InputError("the cell is not finite", where=raw.place_of(), fix="correct Lattice")
    bad = np.flatnonzero(~np.isfinite(raw.positions).all(axis=1))
    if len(bad):
        raise InputError(
            "a position is not finite",
            where=raw.place_of(int(bad[0])),
            received=f"{len(bad)} of {len(raw.positions)} atoms have such positions",
            fix="remove this frame",
        )


def _refuse_flat_cell(raw: RawFrame) -> None:
    vectors = raw.cell[raw.periodic]
    if len(vectors) and np.linalg.matrix_rank(vectors, tol=1e-6) < len(vectors):
        zero = np.linalg.norm(vectors, axis=1).min() < 1e-6
        raise InputError(
            "the frame is periodic along a zero cell vector"
            if zero
            else "the frame is periodic along cell vectors that are not independent",
            where=raw.place_of(),
            expected='periodic flags only along cell vectors, or pbc="F F F"',
            received=f"pbc {raw.periodic.tolist()}, cell {raw.cell.tolist()}",
            fix="if these are molecules, read with periodic=False (--not-periodic); "
            "else add the cell",
        )
