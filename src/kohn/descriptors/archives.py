"""Compute features and similarities of structures and write them to NumPy archives."""

import zipfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kohn.descriptors.kernels import KernelConfig, kernel_matrix
from kohn.descriptors.transformers import (
    CoulombMatrix,
    Soap,
    StructureFactor,
    StructureTransformer,
)
from kohn.errors import ConfigError, InputError, nearest
from kohn.progress import Progress
from kohn.records import refuse_output, replacing, to_json
from kohn.structures import Dataset, Readable, read
from kohn.structures.elements import symbol
from kohn.typing import Document
from kohn.version import __version__

DESCRIPTORS: dict[str, type[StructureTransformer]] = {
    "soap": Soap,
    "coulomb-matrix": CoulombMatrix,
    "structure-factor": StructureFactor,
}
KERNEL_SETTINGS = ("zeta", "gamma")
"""The settings of `similarity` that belong to the kernel; all other settings belong to SOAP."""


def describe(
    structures: Readable,
    descriptor: str = "soap",
    *,
    out: str | Path,
    settings: Document | None = None,
    periodic: bool | None = None,
    progress: Progress | None = None,
) -> Document:
    """Write the features of all structures to an npz file while computing them.

    Args:
        structures: any input of `kohn.read`; structures are numbered from 0 across all files.
        descriptor: a key of `DESCRIPTORS`.
        out: npz file, which must not exist.
        settings: arguments of the descriptor's transformer, by name.
        periodic: as in `kohn.read`.
        progress: shows the number of described structures.

    Returns:
        A document with the file, the numbers of rows and features, and the settings.

    Raises:
        ConfigError: an unknown descriptor, or a setting that is unknown or out of range.
        InputError: the structures cannot be read or described, or the output cannot be written.
    """
    out = Path(out)
    transformer = transformer_of(descriptor, settings or {})
    check_output(out)
    data = read(structures, periodic=periodic, labels="none")
    transformer.fit(data)
    names = transformer.get_feature_names_out().astype(str)
    used = transformer.get_params()
    by_atom = used.get("average") == "off"
    sizes = [len(s) for s in data] if by_atom else [1] * len(data)
    arrays = {
        "names": names,
        "structure": np.repeat(np.arange(len(data)), sizes),
        "elements": np.array(transformer.elements_),
        "settings": np.array(to_json({"descriptor": descriptor, **used, **_origin(data)})),
    }
    if by_atom:
        arrays["numbers"] = np.concatenate([s.numbers for s in data])
    shape = (sum(sizes), len(names))
    advance = (progress or Progress()).of("describing", len(data))
    write_npz(out, "features", shape, _counted(transformer.stream(data), advance), arrays)
    return {
        "file": str(out),
        "structures": len(data),
        "rows": shape[0],
        "features": shape[1],
        "elements": [symbol(z) for z in transformer.elements_],
        "descriptor": descriptor,
        "settings": used,
    }


def similarity(
    first: str | Path,
    second: str | Path,
    kernel: str = "average",
    *,
    out: str | Path | None = None,
    settings: Document | None = None,
    same_species: bool = False,
    periodic: bool | None = None,
    max_structures: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Document:
    """Compute SOAP similarities, 1 if equal, of the structures of one file with those of another.

    Args:
        first, second: files of structures.
        kernel: "average" or "rematch".
        out: npz file for the result, which must not exist; None: no file is written.
        settings: settings of SOAP and of the kernel, by name.
        same_species: compare only centres of the same species.
        periodic: as in `kohn.read`.
        max_structures: the largest allowed numbers of structures in `first` and in `second`.
        progress: shows the number of compared pairs.

    Returns:
        A document; its `similarity` is the matrix [structures of first, structures of second].

    Raises:
        ConfigError, InputError: as for `describe` and `kernel_matrix`, or too many structures.
    """
    first, second = Path(first), Path(second)
    known = Soap(average="off").get_params()
    names = [*(n for n in known if n != "average"), *KERNEL_SETTINGS]
    given = known_settings(settings or {}, names)
    config = KernelConfig(kernel, **{n: given.pop(n) for n in KERNEL_SETTINGS if n in given})  # type: ignore[arg-type]
    transformer = Soap(**{**known, **given})
    target = None if out is None else Path(out)
    if target is not None:
        check_output(target)
    same_file = first.resolve() == second.resolve()
    a = read(first, periodic=periodic, labels="none")
    b = a if same_file else read(second, periodic=periodic, labels="none")
    if max_structures is not None and (len(a) > max_structures[0] or len(b) > max_structures[1]):
        raise InputError(
            "the table of similarities would be too large",
            expected=f"at most {max_structures[0]} x {max_structures[1]} structures",
            received=f"{len(a)} x {len(b)}",
            fix="write them to a file with -o similarity.npz, or take --json",
        )
    transformer.fit([*a, *b])
    species_a, species_b = ([s.numbers for s in x] if same_species else None for x in (a, b))
    k = kernel_matrix(
        StreamedFeatures(transformer, a),
        None if same_file else StreamedFeatures(transformer, b),
        config,
        species_a=species_a,
        species_b=None if same_file else species_b,
        advance=(progress or Progress()).of("comparing", len(a) * len(b)),
    )
    used = {**vars(config), **transformer.get_params(), "same_species": same_species}
    document = {
        "files": [str(first), str(second)],
        "elements": [symbol(z) for z in transformer.elements_],
        "settings": used,
    }
    if target is not None:
        origin = {"a": _origin(a), "b": _origin(b)}
        arrays = {
            "elements": np.array(transformer.elements_),
            "settings": np.array(to_json({**used, **origin})),
        }
        write_npz(target, "similarity", k.shape, [k], arrays)
        document["file"] = str(target)
    return {**document, "similarity": k}


@dataclass(frozen=True)
class StreamedFeatures:
    """The features of each structure of a dataset, computed at each iteration and never stored."""

    transformer: StructureTransformer
    data: Dataset

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.transformer.stream(self.data)


def transformer_of(descriptor: str, settings: Document) -> StructureTransformer:
    """Return a transformer with the given settings; by default, SOAP describes each atom.

    Raises:
        ConfigError: an unknown descriptor or setting, or a size that is not a positive integer.
    """
    if descriptor not in DESCRIPTORS:
        guess = nearest(descriptor, DESCRIPTORS)
        raise ConfigError(
            "the descriptor is not known",
            expected=f"one of {', '.join(DESCRIPTORS)}",
            received=repr(descriptor),
            fix=f"did you mean {guess!r}?" if guess else None,
        )
    chosen = DESCRIPTORS[descriptor]
    defaults = {"average": "off"} if chosen is Soap else {}
    given = known_settings(settings, chosen().get_params())
    size = given.get("size")
    if size is not None and not (isinstance(size, int) and size > 0):
        raise ConfigError(
            "the size is not valid", expected="a whole number from 1, or null", received=repr(size)
        )
    return chosen(**{**defaults, **given})


def known_settings(settings: Document, known: Collection[str]) -> Document:
    """Return a copy of the settings. Raises ConfigError if a name is not in `known`."""
    for name, value in settings.items():
        if name not in known:
            guess = nearest(name, known)
            raise ConfigError(
                f"there is no setting {name!r}",
                expected=f"one of {', '.join(known)}",
                received=repr(f"{name}={value}"),
                fix=f"did you mean {guess!r}?" if guess else None,
            )
    return dict(settings)


def check_output(out: Path) -> None:
    """Refuse an output that exists, is not .npz or whose folder does not exist, before any work."""
    refuse_output(out)
    if out.suffix != ".npz":
        raise InputError(
            "the output must be a NumPy archive",
            expected="a name that ends in .npz",
            received=out.name,
            fix=f"take -o {out.with_suffix('.npz')}",
        )


def write_npz(
    out: Path,
    name: str,
    shape: tuple[int, ...],
    blocks: Iterable[np.ndarray],
    arrays: dict[str, np.ndarray],
) -> None:
    """Write an npz file, complete or not at all; one of its arrays may be larger than memory.

    Args:
        name, shape, blocks: the float64 array that may be larger than memory, in blocks of rows.
        arrays: all other arrays, by name.
    """
    with replacing(out) as stream, zipfile.ZipFile(stream, "w") as archive:
        _write_blocks(archive, name, shape, blocks)
        for other, array in arrays.items():
            with archive.open(f"{other}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_blocks(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], blocks: Iterable[np.ndarray]
) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for block in blocks:
            member.write(np.ascontiguousarray(block, "<f8").data)


def _counted(blocks: Iterable[np.ndarray], advance) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block
        advance(1)


def _origin(data: Dataset) -> Document:
    """Return the source files of a dataset and the version of Kohn, for the npz file."""
    return {
        "kohn": __version__,
        "files": [{"file": s.file, "sha256": s.sha256, "frames": s.frames} for s in data.sources],
    }
