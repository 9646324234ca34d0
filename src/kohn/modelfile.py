"""Read and write model files: safetensors with named arrays and one JSON document of metadata.

No pickle is ever written or read. The metadata is stored under one key as sorted JSON, because
safetensors writes several keys in no fixed order; so a model always gives the same bytes.

Format 2 (`FORMAT`):
    arrays     name -> array; dots separate the levels of the model's tree
    metadata   {"format": 2, "kohn": version, "sha256": hash of arrays and other metadata, ...}
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from kohn.errors import ModelFileError, Place
from kohn.records import to_json, write_atomically
from kohn.typing import Document
from kohn.version import __version__

FORMAT = 2
_KEY = "kohn"


def checksum(arrays: dict[str, np.ndarray], metadata: Document) -> str:
    """Return the SHA-256 of metadata and arrays: of the name, shape, dtype and bytes of each array,
    sorted by name. A key 'sha256' of the metadata is not included."""
    document = {key: value for key, value in metadata.items() if key != "sha256"}
    digest = hashlib.sha256(to_json(document).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def to_bytes(arrays: dict[str, np.ndarray], metadata: Document) -> bytes:
    """Return the bytes of a model file; equal arrays and metadata always give equal bytes."""
    arrays = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    document = {
        "format": FORMAT,
        "kohn": __version__,
        **metadata,
    }
    document["sha256"] = checksum(arrays, document)
    return safetensors.numpy.save(arrays, metadata={_KEY: to_json(document)})


def write(path: str | Path, arrays: dict[str, np.ndarray], metadata: Document) -> None:
    """Write a model file atomically."""
    write_atomically(path, to_bytes(arrays, metadata))


def read(path: str | Path) -> tuple[dict[str, np.ndarray], Document]:
    """Read a model file.

    Returns:
        The arrays by name, and the metadata.

    Raises:
        ModelFileError: the file is missing, damaged, not from Kohn, or of a later format.
    """
    where = Place(file=path)
    if not Path(path).is_file():
        raise ModelFileError("no such model file", where=where, fix="check the path")
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            names = file.keys()
            arrays = {name: file.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        kind, fix = _other_kind(Path(path))
        raise ModelFileError(
            f"this is {kind}, not a model file"
            if kind
            else "the model file is damaged or is not a model file",
            where=where,
            expected="a safetensors file written by Kohn",
            received=None if kind else str(error),
            fix=fix or "copy it again from its source, or use the run's other checkpoint",
        ) from error
    if text is None:
        raise ModelFileError(
            "a safetensors file, but not one that Kohn wrote",
            where=where,
            expected=f"metadata under the key {_KEY!r}",
            fix="convert it first, see kohn.interfaces",
        )
    return arrays, _checked_metadata(text, arrays, where)


def _other_kind(path: Path) -> tuple[str, str]:
    """Return which kind of file was given instead of a model, and a fix; empty texts if unknown."""
    start = path.read_bytes()[:4096]
    swapped = "name the model first, then the structures"
    if start[8:9] == b"{":  # follows the length of the header: safetensors, but damaged
        return "", ""
    if start.startswith(b"PK\x03\x04"):
        return (
            "a PyTorch or other zip file",
            "models of mace-torch can be converted: docs/howto/mace-torch.md",
        )
    if start.startswith(b"\x80"):
        return "a pickle", "Kohn reads no pickles: convert the model, see docs/howto/mace-torch.md"
    if start.startswith(b"\x89HDF"):
        return "an HDF5 file", "name a model that Kohn trained"
    if start.startswith((b"SQLite", b"- of Ulm")):
        return "a file of structures", swapped
    if not start or b"\0" in start:
        return "", ""
    try:
        text = start.decode(errors="strict" if len(start) < 4096 else "ignore")
    except UnicodeDecodeError:
        return "", ""
    words = text.split(None, 1)
    if (words and words[0].isdigit()) or path.suffix in (".xyz", ".extxyz", ".cif"):
        return "a file of structures", swapped
    if path.suffix in (".yaml", ".yml"):
        return "a configuration", "train with it first: `kohn train`"
    return ("a text file", swapped) if text.isprintable() or "\n" in text else ("", "")


def _checked_metadata(text: str, arrays: dict[str, np.ndarray], where: Place) -> Document:
    try:
        metadata = json.loads(text)
        file_format = int(metadata["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            "the metadata of the model file is damaged", where=where, received=repr(error)
        ) from error
    if file_format > FORMAT:
        raise ModelFileError(
            "the model file is of a later format",
            where=where,
            expected=f"format {FORMAT} or earlier",
            received=f"format {file_format}, written by Kohn {metadata.get('kohn')}",
            fix=f"pip install 'kohn>={metadata.get('kohn')}'",
        )
    if metadata.get("sha256") != checksum(arrays, metadata):
        raise ModelFileError(
            "the content of the model file does not match its checksum",
            where=where,
            fix="copy it again from its source, or use the run's other checkpoint",
        )
    return metadata
