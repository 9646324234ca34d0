"""Read files, or structures in memory, into a `Dataset` that records its sources."""

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
from kohn.structures.labels import (
    KeysToRead,
    KeysUsed,
    LabelPolicy,
    keys_to_read,
    near_keys,
    structure_of,
)
from kohn.structures.raw_frames import RawFrame, raw_of, validated
from kohn.structures.structure import Dataset, Source, Structure, UnreadFile

if TYPE_CHECKING:
    from ase import Atoms

Readable: TypeAlias = "str | Path | Atoms | Structure | Dataset | Sequence[Any]"
"""A file or a folder, ASE atoms, a structure, an object of pymatgen, or a list of these."""


def read(
    paths: "Readable",
    *,
    keys: dict[str, str] | None = None,
    config_weights: dict[str, float] | None = None,
    periodic: bool | None = None,
    energy: Literal["energy", "free_energy"] = "energy",
    labels: LabelPolicy = "all",
) -> Dataset:
    """Read structures with their labels.

    A label is read from its `REF_` key, or else from the first of its aliases that the frame has
    (`properties.PROPERTIES`), results of an ASE calculator included. `Dataset.sources` records this
    key. Forces are read without constraints applied; a virial becomes a stress (-virial / volume);
    energy and free energy are kept apart. Predictions of a Kohn model are not read as labels: see
    `kohn.write`.

    Args:
        paths: a file or several: extended XYZ, ASE databases, vasprun.xml, OUTCAR, pymatgen's
            structures and ComputedStructureEntry dicts (.json, .json.gz; energies with their
            corrections), and other formats that ASE reads; a folder, in which every file that has
            results is read, at any depth (`Dataset.unread` lists the others); or `ase.Atoms`,
            `Structure`, pymatgen's structures, or a list of them.
        keys: property name -> key in the file, to read the property from that key.
        config_weights: config_type -> weight in losses; multiplies `config_weight` of a frame.
        periodic: the periodic flags of all frames, which override those of the files.
        energy: 'free_energy' to learn the free energy as the energy: its derivatives are forces
            and stress, if electrons have a temperature.
        labels: 'all' refuses a file with a label that cannot be used; 'finite' skips labels that
            are not finite numbers, and 'usable' skips all labels that cannot be used
            (`Source.unusable` lists them); 'none' reads geometries without labels.

    Returns:
        The structures of all files, in order.

    Raises:
        InputError: a file cannot be read, a label cannot be used, a named key is missing,
            periodic flags lack a cell, or an entry has no ordered structure; the message has
            file, frame and line.
    """
    if isinstance(paths, Dataset):
        return paths
    want = keys_to_read(keys, energy)
    if labels not in get_args(LabelPolicy):
        raise InputError(
            "this treatment of labels is not known",
            expected=f"one of {', '.join(get_args(LabelPolicy))}",
            received=repr(labels),
        )
    reading = _Reading(want, dict(config_weights or {}), periodic, labels)
    parts = [part for item in _items(paths) for part in reading.parts(item)]
    data = Dataset(
        tuple(s for structures, *_ in parts for s in structures),
        tuple(source for _, source, _ in parts),
        tuple(reading.unread),
    )
    if labels != "none":
        _named_keys_exist(want, [tally for *_, tally in parts], data.sources)
    _weights_exist(reading.weights, data)
    return data


def structures_of(given: "Readable") -> Sequence[Structure]:
    """Return structures from anything that `read` takes, without reading their labels."""
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
    """Yield the structures of files one by one; except for JSON, only one is in memory at a time.

    Arguments and errors are those of `read`, but `paths` must be files or folders.
    """
    want, tally = keys_to_read(None, "energy"), KeysUsed()
    for file in files_of(_items(paths)):
        _checksum(file, str(file))
        for raw in _frames_and_notes(file, str(file))[0]:
            yield structure_of(validated(raw, periodic), want, {}, tally, labels)


def files_of(paths: "Iterable[str | Path]") -> list[Path]:
    """Return files as given, and for each folder the files that `calculations_below` chooses.

    Raises:
        InputError: a folder has no file that can be read.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += calculations_below(path, str(path))[0] if path.is_dir() else [path]
    return files


def _items(paths: Any) -> list[Any]:
    """Return what is read in turn: each path, or one list of all structures in memory."""
    if isinstance(paths, (str, Path)) or _in_memory(paths):
        return [paths] if isinstance(paths, (str, Path)) else [[paths]]
    items = list(paths) if isinstance(paths, Iterable) else []
    if items and all(isinstance(item, (str, Path)) for item in items):
        return items
    if items and all(_in_memory(item) for item in items):
        return [items]
    unreadable = next((i for i in items if not (_in_memory(i) or isinstance(i, (str, Path)))), None)
    raise InputError(
        "there is nothing here to read"
        if not items or unreadable is not None
        else "paths and structures in memory are in one list",
        expected="a path, paths, ase.Atoms, or a list of Atoms",
        received=repr(paths if unreadable is None else unreadable)[:80],
        fix="name at least one file" if not items else "read them one kind at a time",
    )


def _in_memory(item: Any) -> bool:
    """Return whether an item is a structure, ASE atoms, or an object of pymatgen."""
    return isinstance(item, Structure) or any(
        callable(getattr(item, name, None)) for name in ("get_positions", "as_dict")
    )


Part: TypeAlias = tuple[list[Structure], Source, KeysUsed]
"""The structures of one file, the record of the file, and the counts of its keys."""


@dataclass
class _Reading:
    """The options of `read`, and the files of folders that were not read."""

    want: KeysToRead
    weights: dict[str, float]
    periodic: bool | None
    labels: LabelPolicy
    unread: list[UnreadFile] = field(default_factory=list)

    def parts(self, item: Any) -> list[Part]:
        """Return a `Part` for each file of a path that is read, or one for a list in memory."""
        if isinstance(item, list):
            return [self._of_memory(item)]
        if not Path(item).is_dir():
            return [self._of_file(Path(item), str(item))]
        files, unread = calculations_below(Path(item), str(item))
        parts: list[Part] = []
        for file in files:
            try:
                parts.append(self._of_file(file, str(file)))
            except InputError as error:
                if len(files) == 1:
                    raise
                place = f" ({error.where})" if str(error.where or "") != str(file) else ""
                unread.append(UnreadFile(str(file), f"{error.message}{place}", broken=True))
        if not parts:
            raise InputError(
                "no file of the folder can be read",
                where=Place(str(item)),
                received=f"{unread[-1].file}: {unread[-1].reason}",
                fix="read one of them alone, to see its error",
            )
        self.unread += unread
        return parts

    def _of_file(self, path: Path, name: str) -> Part:
        checksum = _checksum(path, name)
        stream, format_notes = _frames_and_notes(path, name)
        return self._part(stream, name, checksum, format_notes)

    def _of_memory(self, items: list[Any]) -> Part:
        raws = (_raw_frame(item, Place(None, k), self.labels) for k, item in enumerate(items))
        return self._part(raws, "(in memory)", None, ())

    def _part(
        self, stream: Iterable[RawFrame], name: str, checksum: str | None, remarks: tuple[str, ...]
    ) -> Part:
        tally = KeysUsed()
        structures = [
            structure_of(validated(raw, self.periodic), self.want, self.weights, tally, self.labels)
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
            notes=(*notes, *remarks),
            near_keys=near_keys(tally) if self.labels != "none" else {},
            other_keys=tuple(tally.others),
            unusable=tuple(tally.unusable),
        )
        return structures, source, tally


def _raw_frame(item: Any, place: Place, labels: LabelPolicy) -> RawFrame:
    """Return one structure in memory as a raw frame."""
    if isinstance(item, Structure):
        return raw_of(item)
    if hasattr(item, "get_positions"):
        return ase_conversion.raw_from_ase(item, place, results=labels != "none")
    return next(computed_entries.frames([item.as_dict()], "(in memory)"))


def _frames_and_notes(path: Path, name: str) -> tuple[Iterable[RawFrame], tuple[str, ...]]:
    """Return an iterable of the frames of a file, and notes on its format."""
    if extxyz.looks_like_xyz(path) or path.suffix in (".xyz", ".extxyz"):
        return extxyz.frames(path, name), ()
    if path.name.lower().endswith(computed_entries.SUFFIXES):
        entries = computed_entries.listed(computed_entries.read_json(path, name))
        if entries is not None:
            note = "energies are those of the entries with their corrections"
            return computed_entries.frames(entries, name), (note,)
    return ase_formats.frames_of_file(path, name), _notes_on_format(name)


def _checksum(path: Path, name: str) -> str:
    """Return the SHA-256 of a file, and refuse a file that is missing or empty."""
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
            "energy is E(sigma -> 0); the forces belong to free_energy",
        )
    return ()


def _named_keys_exist(want: KeysToRead, tallies: list[KeysUsed], sources: Sequence[Source]) -> None:
    for name, key in want.keys.items():
        if any(tally.used.get(name) for tally in tallies):
            continue
        if name == "virial" and any(key in t.used.get("stress", {}) for t in tallies):
            continue
        present = {k for tally in tallies for k in tally.others}
        present |= {k for tally in tallies for counts in tally.used.values() for k in counts}
        guess = nearest(key, present - {key})
        per_atom = any(tally.others.get(key, ((), False))[1] for tally in tallies)
        raise InputError(
            f"the key {key!r} that was named for {name} has a value for each atom"
            if per_atom
            else f"no frame has the key {key!r} that was named for {name}",
            where=", ".join(source.file for source in sources),
            expected=f"one of the keys in the files: {', '.join(sorted(present)) or 'none'}",
            received=repr(key),
            fix=f"did you mean {guess!r}?" if guess else "name a key that the file has",
        )


def _weights_exist(weights: dict[str, float], data: Dataset) -> None:
    present = {s.config_type for s in data}
    for name in weights:
        if name not in present and name != "Default":
            guess = nearest(name, present)
            raise InputError(
                f"no frame has the config_type {name!r} that a weight was given for",
                expected=f"one of {', '.join(sorted(present))}",
                fix=f"did you mean {guess!r}?" if guess else "remove it from the weights",
            )
