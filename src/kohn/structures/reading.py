"""Reading: from paths, or from Atoms in memory, to a `Dataset` that says where it came from."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from kohn.errors import InputError, Place, nearest
from kohn.structures import ase_conversion, computed_entries, extxyz
from kohn.structures.extxyz import RawFrame
from kohn.structures.labels import KeysUsed, Wanted, near_keys, structure_of, wanted
from kohn.structures.structure import Dataset, Source, Structure

if TYPE_CHECKING:
    from ase import Atoms

Readable: TypeAlias = "str | Path | Atoms | Structure | Dataset | Sequence[Any]"


def read(
    paths: "Readable",
    *,
    keys: dict[str, str] | None = None,
    config_weights: dict[str, float] | None = None,
    periodic: bool | None = None,
    energy: Literal["energy", "free_energy"] = "energy",
) -> Dataset:
    """Read labelled structures.

    A label is read from its `REF_` key, or else from the first of its aliases that the frame
    has (`properties.PROPERTIES`), results of an ASE calculator included. Which key that was is
    recorded in `Dataset.sources`. Forces are read without constraints applied; a virial becomes
    a stress (-virial / V); energy and free energy are kept apart.

    Args:
        paths: a file or several: extended XYZ, ASE databases, vasprun.xml, OUTCAR, lists of
            pymatgen's ComputedStructureEntry dicts (.json, .json.gz; energies with their
            corrections), and whatever else ASE reads; or `ase.Atoms` or a list of them.
        keys: property name -> key in the file, where it is to be read from another key.
        config_weights: config_type -> weight in losses; multiplies `config_weight` of a frame.
        periodic: sets the periodic flags of all frames, whatever the files say.
        energy: 'free_energy' to use the free energy as the energy to learn: it is the one that
            forces and stress are derivatives of, where electrons have a temperature.

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
    weights = dict(config_weights or {})
    parts = [_part(item, want, weights, periodic) for item in _items(paths)]
    data = Dataset(
        tuple(s for structures, *_ in parts for s in structures),
        tuple(source for _, source, _ in parts),
    )
    _named_keys_exist(want, [tally for *_, tally in parts], data.sources)
    _weights_exist(weights, data)
    return data


def scan(
    paths: "str | Path | Sequence[str | Path]", *, periodic: bool | None = None
) -> Iterator[Structure]:
    """Structures of files one after the other; only one is in memory at a time, but for JSON.

    Arguments and errors as of `read`, of files alone.
    """
    want, tally = wanted(None, "energy"), KeysUsed()
    for item in _items(paths):
        _checksum(Path(item), str(item))
        for raw in _opened(Path(item), str(item))[0]:
            yield structure_of(settle_cell(raw, periodic), want, {}, tally)


def settle_cell(raw: RawFrame, periodic: bool | None = None) -> RawFrame:
    """`raw` with the periodic flags that the user wants, checked against its cell.

    Raises:
        InputError: periodic along cell vectors that are zero or dependent; numbers not finite.
    """
    if periodic is not None:
        raw = replace(raw, periodic=np.full(3, periodic))
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
    return raw


def _items(paths: Any) -> list[Any]:
    """What to read one by one; Atoms and structures in memory are one item together."""
    if isinstance(paths, (str, Path)) or hasattr(paths, "get_positions"):
        return [paths] if isinstance(paths, (str, Path)) else [[paths]]
    if isinstance(paths, Structure):
        return [[paths]]
    items = list(paths) if isinstance(paths, Iterable) else []
    if items and all(isinstance(item, (str, Path)) for item in items):
        return items
    if items and all(hasattr(i, "get_positions") or isinstance(i, Structure) for i in items):
        return [items]
    raise InputError(
        "there is nothing here to read",
        expected="a path, paths, ase.Atoms, or a list of Atoms",
        received=repr(paths)[:80],
        fix="name at least one file",
    )


def _part(
    item: Any, want: Wanted, weights: dict[str, float], periodic: bool | None
) -> tuple[list[Structure], Source, KeysUsed]:
    """What one file, or one list in memory, gives."""
    tally, told = KeysUsed(), ()
    if isinstance(item, list):
        name, checksum = "(in memory)", None
        structures = [_in_memory(x, k, want, weights, periodic, tally) for k, x in enumerate(item)]
    else:
        path, name = Path(item), str(item)
        checksum = _checksum(path, name)
        stream, told = _opened(path, name)
        structures = [
            structure_of(settle_cell(raw, periodic), want, weights, tally) for raw in stream
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
        keys={name: dict(counts) for name, counts in tally.used.items()},
        notes=(*notes, *told),
        near_keys=near_keys(tally),
        other_keys=tuple(tally.others),
    )
    return structures, source, tally


def _opened(path: Path, name: str) -> tuple[Iterable[RawFrame], tuple[str, ...]]:
    """The frames of a file, and what is to be noted of its format."""
    if extxyz.looks_like_xyz(path) or path.suffix in (".xyz", ".extxyz"):
        return extxyz.frames(path, name), ()
    if path.name.lower().endswith(computed_entries.SUFFIXES):
        entries = computed_entries.listed(computed_entries.read_json(path, name))
        if entries is not None:
            note = "energy is that of the entries with their corrections"
            return computed_entries.frames(entries, name), (note,)
    return ase_conversion.frames_of_file(path, name), _notes_on_format(name)


def _in_memory(
    item: Any,
    frame: int,
    want: Wanted,
    weights: dict[str, float],
    periodic: bool | None,
    tally: KeysUsed,
) -> Structure:
    if isinstance(item, Structure):
        for name in item.labels:
            tally.used[name]["(in memory)"] += 1
        return item
    raw = ase_conversion.raw_from_ase(item, Place(None, frame))
    return structure_of(settle_cell(raw, periodic), want, weights, tally)


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
    if path.is_dir():
        raise InputError(
            "this is a folder", where=Place(name), expected="a file", fix="name the files in it"
        )
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=Place(name), fix="write or copy it again")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
