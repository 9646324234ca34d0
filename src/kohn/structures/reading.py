"""Reading: from paths, or from Atoms in memory, to a `Dataset` that says where it came from."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from kohn.errors import InputError, Place, nearest
from kohn.records import checksum
from kohn.structures import ase_conversion, ase_formats, computed_entries, extxyz
from kohn.structures.folders import calculations_below
from kohn.structures.labels import KeysUsed, LabelPolicy, Wanted, near_keys, structure_of, wanted
from kohn.structures.raw_frames import RawFrame, raw_of, settled
from kohn.structures.structure import Dataset, Left, Source, Structure

if TYPE_CHECKING:
    from ase import Atoms

Readable: TypeAlias = "str | Path | Atoms | Structure | Dataset | Sequence[Any]"
"""A file or a folder, ASE atoms, a structure, one of pymatgen's objects, or a list of them."""


def read(
    paths: "Readable",
    *,
    keys: dict[str, str] | None = None,
    config_weights: dict[str, float] | None = None,
    periodic: bool | None = None,
    energy: Literal["energy", "free_energy"] = "energy",
    labels: LabelPolicy = "all",
) -> Dataset:
    """Read labelled structures.

    A label is read from its `REF_` key, or else from the first of its aliases that the frame
    has (`properties.PROPERTIES`), results of an ASE calculator included. Which key that was is
    recorded in `Dataset.sources`. Forces are read without constraints applied; a virial becomes
    a stress (-virial / V); energy and free energy are kept apart. What a Kohn model predicted is
    no label: see `kohn.write`.

    Args:
        paths: a file or several: extended XYZ, ASE databases, vasprun.xml, OUTCAR, pymatgen's
            structures and ComputedStructureEntry dicts (.json, .json.gz; energies with their
            corrections), and whatever else ASE reads; a folder, of which every file below it that
            holds results is read (`Dataset.left` says which were not); or `ase.Atoms`,
            `Structure`, pymatgen's structures, or a list of them.
        keys: property name -> key in the file, where it is to be read from another key.
        config_weights: config_type -> weight in losses; multiplies `config_weight` of a frame.
        periodic: sets the periodic flags of all frames, whatever the files say.
        energy: 'free_energy' to use the free energy as the energy to learn: it is the one that
            forces and stress are derivatives of, where electrons have a temperature.
        labels: 'all' refuses a file with a label that cannot be used; 'finite' leaves out those
            that are not finite numbers, and 'usable' all others too (`Source.unusable` lists
            them); 'none' looks at geometries alone.

    Returns:
        The structures of all files, in order.

    Raises:
        InputError: a file that cannot be read, a label that cannot be used, a named key that is
            not there, periodic flags without a cell, an entry without an ordered structure; with
            file, frame and line.
    """
    if isinstance(paths, Dataset):
        return paths
    want = wanted(keys, energy)
    if labels not in get_args(LabelPolicy):
        raise InputError(
            "this is no way to treat labels",
            expected=f"one of {', '.join(get_args(LabelPolicy))}",
            received=repr(labels),
        )
    reading = _Reading(want, dict(config_weights or {}), periodic, labels)
    parts = [part for item in _items(paths) for part in reading.parts(item)]
    data = Dataset(
        tuple(s for structures, *_ in parts for s in structures),
        tuple(source for _, source, _ in parts),
        tuple(reading.left),
    )
    if labels != "none":
        _named_keys_exist(want, [tally for *_, tally in parts], data.sources)
    _weights_exist(reading.weights, data)
    return data


def structures_of(given: "Readable") -> Sequence[Structure]:
    """Structures from whatever `read` takes, without a look at their labels."""
    if isinstance(given, Dataset):
        return given.structures
    if isinstance(given, (list, tuple)) and all(isinstance(item, Structure) for item in given):
        return given
    return read(given, labels="none").structures


def scan(
    paths: "str | Path | Sequence[str | Path]",
    *,
    periodic: bool | None = None,
    labels: LabelPolicy = "all",
) -> Iterator[Structure]:
    """Structures of files one after the other; only one is in memory at a time, but for JSON.

    Arguments and errors as of `read`, of files alone.
    """
    want, tally = wanted(None, "energy"), KeysUsed()
    for file in files_of(_items(paths)):
        _checksum(file, str(file))
        for raw in _opened(file, str(file))[0]:
            yield structure_of(settled(raw, periodic), want, {}, tally, labels)


def files_of(paths: "Iterable[str | Path]") -> list[Path]:
    """The files that paths name: those of folders, see `calculations_below`.

    Raises:
        InputError: a folder without anything that can be read.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += calculations_below(path, str(path))[0] if path.is_dir() else [path]
    return files


def _items(paths: Any) -> list[Any]:
    """What to read one by one; what is in memory is one item together."""
    if isinstance(paths, (str, Path)) or _in_memory(paths):
        return [paths] if isinstance(paths, (str, Path)) else [[paths]]
    items = list(paths) if isinstance(paths, Iterable) else []
    if items and all(isinstance(item, (str, Path)) for item in items):
        return items
    if items and all(_in_memory(item) for item in items):
        return [items]
    strange = next((i for i in items if not (_in_memory(i) or isinstance(i, (str, Path)))), None)
    raise InputError(
        "there is nothing here to read"
        if not items or strange is not None
        else "paths and structures in memory are in one list",
        expected="a path, paths, ase.Atoms, or a list of Atoms",
        received=repr(paths if strange is None else strange)[:80],
        fix="name at least one file" if not items else "read them one kind at a time",
    )


def _in_memory(item: Any) -> bool:
    """Whether it is a structure, ASE atoms, or one of pymatgen's objects."""
    return isinstance(item, Structure) or any(
        callable(getattr(item, name, None)) for name in ("get_positions", "as_dict")
    )


Part: TypeAlias = tuple[list[Structure], Source, KeysUsed]
"""What one file gives."""


@dataclass
class _Reading:
    """How files are read, and which files of folders were left."""

    want: Wanted
    weights: dict[str, float]
    periodic: bool | None
    labels: LabelPolicy
    left: list[Left] = field(default_factory=list)

    def parts(self, item: Any) -> list[Part]:
        """What a file, a folder, or a list in memory gives."""
        if isinstance(item, list):
            return [self._of_memory(item)]
        if not Path(item).is_dir():
            return [self._of_file(Path(item), str(item))]
        files, left = calculations_below(Path(item), str(item))
        found: list[Part] = []
        for file in files:
            try:
                found.append(self._of_file(file, str(file)))
            except InputError as error:
                if len(files) == 1:
                    raise
                place = f" ({error.where})" if str(error.where or "") != str(file) else ""
                left.append(Left(str(file), f"{error.message}{place}", broken=True))
        if not found:
            raise InputError(
                "no file of the folder can be read",
                where=Place(str(item)),
                received=f"{left[-1].file}: {left[-1].reason}",
                fix="read one of them by itself, to see what is wrong with it",
            )
        self.left += left
        return found

    def _of_file(self, path: Path, name: str) -> Part:
        checksum = _checksum(path, name)
        stream, told = _opened(path, name)
        return self._part(stream, name, checksum, told)

    def _of_memory(self, items: list[Any]) -> Part:
        raws = (_raw(item, Place(None, k), self.labels) for k, item in enumerate(items))
        return self._part(raws, "(in memory)", None, ())

    def _part(
        self, stream: Iterable[RawFrame], name: str, checksum: str | None, told: tuple[str, ...]
    ) -> Part:
        tally = KeysUsed()
        structures = [
            structure_of(settled(raw, self.periodic), self.want, self.weights, tally, self.labels)
            for raw in stream
        ]
        if not structures:
            raise InputError(
                "the file has no frames", where=Place(name), fix="check how it was written"
            )
        notes = [f"{text} ({count} frames)" for text, count in tally.notes.items()]
        source = Source(
            file=name,
            sha256=checksum or _checksum_of(structures),
            frames=len(structures),
            keys={label: dict(counts) for label, counts in tally.used.items()},
            notes=(*notes, *told),
            near_keys=near_keys(tally) if self.labels != "none" else {},
            other_keys=tuple(tally.others),
            unusable=tuple(tally.unusable),
        )
        return structures, source, tally


def _raw(item: Any, place: Place, labels: LabelPolicy) -> RawFrame:
    """One frame of what is in memory."""
    if isinstance(item, Structure):
        return raw_of(item)
    if hasattr(item, "get_positions"):
        return ase_conversion.raw_from_ase(item, place, results=labels != "none")
    return next(computed_entries.frames([item.as_dict()], "(in memory)"))


def _opened(path: Path, name: str) -> tuple[Iterable[RawFrame], tuple[str, ...]]:
    """The frames of a file, and what is to be noted of its format."""
    if extxyz.looks_like_xyz(path) or path.suffix in (".xyz", ".extxyz"):
        return extxyz.frames(path, name), ()
    if path.name.lower().endswith(computed_entries.SUFFIXES):
        entries = computed_entries.listed(computed_entries.read_json(path, name))
        if entries is not None:
            note = "energy is that of the entries with their corrections"
            return computed_entries.frames(entries, name), (note,)
    return ase_formats.frames_of_file(path, name), _notes_on_format(name)


def _checksum(path: Path, name: str) -> str:
    """SHA-256 of a file that is there and not empty."""
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        guess = nearest(path.name, siblings)
        raise InputError(
            "there is no such file",
            where=Place(name),
            fix=f"did you mean {guess!r}?" if guess else "check the path",
        )
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=Place(name), fix="write or copy it again")
    return checksum(path)


def _checksum_of(structures: Sequence[Structure]) -> str:
    digest = hashlib.sha256()
    for s in structures:
        for array in (s.numbers, s.positions, s.cell, s.periodic):
            digest.update(np.ascontiguousarray(array).tobytes())
        for name in sorted(s.labels):
            digest.update(name.encode() + s.labels[name].tobytes())
    return digest.hexdigest()


def _notes_on_format(name: str) -> tuple[str, ...]:
    upper = Path(name).name.upper()
    if "OUTCAR" in upper or "VASPRUN" in upper:
        return (
            "stress was converted from VASP's kbar and sign to eV/Å³, positive in tension (ASE)",
            "energy is E(sigma -> 0); free_energy is the one that the forces belong to",
        )
    return ()


def _named_keys_exist(want: Wanted, tallies: list[KeysUsed], sources: Sequence[Source]) -> None:
    for name, key in want.keys.items():
        if any(tally.used.get(name) for tally in tallies):
            continue
        if name == "virial" and any(key in t.used.get("stress", {}) for t in tallies):
            continue
        there = {k for tally in tallies for k in tally.others}
        there |= {k for tally in tallies for counts in tally.used.values() for k in counts}
        guess = nearest(key, there - {key})
        per_atom = any(tally.others.get(key, ((), False))[1] for tally in tallies)
        raise InputError(
            f"the key {key!r} that was named for {name} has a value for each atom"
            if per_atom
            else f"no frame has the key {key!r} that was named for {name}",
            where=", ".join(source.file for source in sources),
            expected=f"one of the keys there: {', '.join(sorted(there)) or 'there are none'}",
            received=repr(key),
            fix=f"did you mean {guess!r}?" if guess else "name a key that the file has",
        )


def _weights_exist(weights: dict[str, float], data: Dataset) -> None:
    there = {s.config_type for s in data}
    for name in weights:
        if name not in there and name != "Default":
            guess = nearest(name, there)
            raise InputError(
                f"no frame has the config_type {name!r} that a weight was given for",
                expected=f"one of {', '.join(sorted(there))}",
                fix=f"did you mean {guess!r}?" if guess else "remove it from the weights",
            )
