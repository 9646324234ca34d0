"""Define a structure with its labels, and a dataset of structures with its provenance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from kohn.errors import Place
from kohn.structures.elements import formula, symbol


@dataclass(frozen=True, eq=False, repr=False)
class Structure:
    """Atoms in space with their known labels.

    Attributes:
        numbers: atomic numbers, int32 [n].
        positions: Cartesian, Å, float64 [n, 3]; need not be wrapped into the cell.
        cell: cell vectors as rows, Å, float64 [3, 3]; may be left-handed.
        periodic: whether the structure repeats along each cell vector, bool [3].
        labels: property name (see `properties`) -> float64 array, in Kohn's units; a
            missing label has no entry.
        config_type: the kind of configuration, as stated in the file.
        weight: the weight of the structure in losses.
        place: the file and frame from which the structure was read.
        info: key in the file -> other data of the structure (charge, spin …).
        arrays: key in the file -> other data of the atoms, arrays [n, ...].
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    periodic: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    config_type: str = "Default"
    weight: float = 1.0
    place: Place = field(default_factory=Place)
    info: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        along = "not periodic" if not self.periodic.any() else f"{self.periodic.sum()}D periodic"
        parts = [formula(self.numbers), f"{len(self)} atoms", along]
        parts += [f"labels {', '.join(self.labels)}"] if self.labels else []
        parts += [f"from {self.place}"] if str(self.place) else []
        return f"Structure({'; '.join(parts)})"

    @property
    def volume(self) -> float:
        """The volume of the cell, |det cell|, Å³; 0 if there is no cell."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def has_volume(self) -> bool:
        """Whether the structure can have a stress: it is periodic, and its cell has a volume."""
        return bool(self.periodic.any()) and self.volume > 1e-6

    @property
    def symbols(self) -> list[str]:
        """Chemical symbols of the atoms."""
        from ase.data import chemical_symbols

        return [chemical_symbols[z] for z in self.numbers]

    @property
    def centre_of_mass(self) -> np.ndarray:
        """The centre of mass, Σ m r / Σ m with the masses m of ASE and positions r, Å, [3]."""
        from ase.data import atomic_masses

        masses = atomic_masses[self.numbers]
        return masses @ self.positions / masses.sum()

    def with_labels(self, **labels: np.ndarray | None) -> "Structure":
        """Return a copy with these labels set; labels given as None are removed."""
        merged = {**self.labels, **labels}
        return replace(self, labels={k: v for k, v in merged.items() if v is not None})


@dataclass(frozen=True)
class Unusable:
    """A label that was skipped because it cannot be used.

    Attributes:
        label: property name.
        key: key of the label in the file.
        reason: why the label cannot be used, in words.
        place: the file and frame of the label.
        where: the file, frame and line of the label, if known.
    """

    label: str
    key: str
    reason: str
    place: Place
    where: Place | str | None = None


@dataclass(frozen=True)
class Source:
    """The record of one file, from which a model can state where its labels come from.

    Attributes:
        file: path as given.
        sha256: SHA-256 of the bytes of the file.
        frames: number of structures read.
        keys: property name -> {key in the file: number of frames}.
        notes: conversions made (virial to stress, kbar to eV/Å³ …), in words.
        near_keys: unknown key -> nearly matching key of a property that was not read.
        other_keys: keys that were kept but are not labels.
        unusable: labels that were skipped because they cannot be used.
    """

    file: str
    sha256: str
    frames: int
    keys: dict[str, dict[str, int]]
    notes: tuple[str, ...] = ()
    near_keys: dict[str, str] = field(default_factory=dict)
    other_keys: tuple[str, ...] = ()
    unusable: tuple[Unusable, ...] = ()


@dataclass(frozen=True)
class UnreadFile:
    """A file of a folder that was not read.

    Attributes:
        file: path of the file.
        reason: why the file was not read, in words.
        broken: whether the file should have been read, but has an error.
    """

    file: str
    reason: str
    broken: bool = False


@dataclass(frozen=True, repr=False)
class Dataset(Sequence[Structure]):
    """Structures in a fixed order, with their sources.

    Attributes:
        structures: the structures, in the order of their files.
        sources: the record of each file.
        unread: files that were found in folders and not read.
    """

    structures: tuple[Structure, ...]
    sources: tuple[Source, ...] = ()
    unread: tuple[UnreadFile, ...] = ()

    def __len__(self) -> int:
        return len(self.structures)

    def __repr__(self) -> str:
        labels = {name: self.count(name) for s in self for name in s.labels}
        parts = [f"{len(self)} structures", f"elements {' '.join(map(symbol, self.elements))}"]
        parts += (
            [f"labels {', '.join(f'{name} {n}' for name, n in labels.items())}"] if labels else []
        )
        files = [source.file for source in self.sources]
        more = f" and {len(files) - 3} more files" if len(files) > 3 else ""
        parts += [f"from {', '.join(files[:3])}{more}"] if files else []
        return f"Dataset({'; '.join(parts)})"

    def __iter__(self) -> Iterator[Structure]:
        return iter(self.structures)

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...
    def __getitem__(self, index: int | slice) -> "Structure | Dataset":
        if isinstance(index, slice):
            return replace(self, structures=self.structures[index])
        return self.structures[index]

    def select(self, indices: Sequence[int] | np.ndarray) -> "Dataset":
        """Return the structures with these indices, in the order given."""
        return replace(self, structures=tuple(self.structures[int(i)] for i in indices))

    @property
    def elements(self) -> tuple[int, ...]:
        """The atomic numbers that occur in the structures, ascending."""
        return tuple(sorted({int(z) for s in self.structures for z in np.unique(s.numbers)}))

    def count(self, name: str) -> int:
        """Return the number of structures that have the label `name`."""
        return sum(name in s.labels for s in self.structures)
