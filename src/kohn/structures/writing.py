"""Writing extended XYZ that reads back exactly."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kohn.errors import InputError
from kohn.records import write_atomically
from kohn.structures.elements import symbol
from kohn.structures.properties import PROPERTIES
from kohn.structures.structure import Structure


def write(
    structures: Structure | Iterable[Structure],
    path: str | Path,
    *,
    predictions: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write extended XYZ; numbers have as many digits as it takes to read them back exactly.

    Labels are written under their `REF_` keys. What a model predicts goes under the plain keys
    that ASE puts into a calculator: energy, forces, stress (9 numbers, eV/Å³); a standard
    deviation goes under the same key with `_std`.

    Args:
        structures: what to write.
        path: is replaced at once when all is written.
        predictions: property name -> value, for each structure.

    Raises:
        InputError: as many predictions as structures are needed, with the table's shapes.
        TrainingError: the disk refuses.
    """
    several = [structures] if isinstance(structures, Structure) else list(structures)
    if predictions is not None and len(predictions) != len(several):
        raise InputError(
            "there are not as many predictions as structures",
            expected=str(len(several)),
            received=str(len(predictions)),
        )
    extra = predictions if predictions is not None else [{}] * len(several)
    text = "".join(frame_text(s, p) for s, p in zip(several, extra, strict=True))
    write_atomically(path, text.encode())


def frame_text(structure: Structure, predictions: Mapping[str, Any] | None = None) -> str:
    """One frame of extended XYZ."""
    info: dict[str, Any] = dict(structure.info)
    arrays: dict[str, np.ndarray] = dict(structure.arrays)
    for name, value in structure.labels.items():
        per_atom = "atoms" in PROPERTIES[name].shape
        (arrays if per_atom else info)[PROPERTIES[name].key] = value
    for name, value in (predictions or {}).items():
        array = _prediction(name, value, structure)
        known = PROPERTIES.get(name.removesuffix("_std"))
        per_atom = known is not None and "atoms" in known.shape
        (arrays if per_atom else info)[name] = array
    if structure.config_type != "Default":
        info["config_type"] = structure.config_type
    if structure.weight != 1.0:
        info["config_weight"] = structure.weight
    symbols = [symbol(z) for z in structure.numbers]
    columns = [[f"{s:<2}" for s in symbols], *_columns(structure.positions)]
    properties = "species:S:1:pos:R:3"
    for key, array in arrays.items():
        columns += _columns(array)
        width = int(np.prod(array.shape[1:], dtype=int))
        properties += f":{key}:{_type(array)}:{width}"
    rows = "".join(" ".join(row) + "\n" for row in zip(*columns, strict=True))
    return f"{len(structure)}\n{_comment(structure, properties, info)}\n{rows}"


def _comment(structure: Structure, properties: str, info: dict[str, Any]) -> str:
    from ase.io.extxyz import key_val_dict_to_str

    parts = []
    if structure.cell.any():
        parts.append('Lattice="' + " ".join(map(_real, structure.cell.ravel())) + '"')
    parts.append(f"Properties={properties}")
    flags = " ".join("T" if p else "F" for p in structure.periodic)
    parts.append(f'pbc="{flags}"')
    plain: dict[str, Any] = {}
    for key, value in info.items():
        array = np.asarray(value)
        if array.dtype.kind == "f" and array.shape in ((), (3,), (6,), (9,), (3, 3)):
            text = " ".join(map(_real, array.ravel()))
            parts.append(f'{key}="{text}"' if array.ndim else f"{key}={text}")
        else:
            plain[key] = value
    if plain:
        parts.append(key_val_dict_to_str(plain).replace("\n", " "))
    return " ".join(parts)


def _prediction(name: str, value: Any, structure: Structure) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if name in PROPERTIES:
        expected = PROPERTIES[name].expected_shape(len(structure))
        if name == "stress" and array.shape == (6,):
            array = array[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
        if array.shape != expected:
            raise InputError(
                f"a predicted {name} has the wrong shape",
                where=structure.place,
                expected=str(expected),
                received=str(array.shape),
            )
    return array


def _columns(array: np.ndarray) -> list[list[str]]:
    table = array.reshape(len(array), -1)
    kind = table.dtype.kind
    show = {"f": _real, "b": lambda x: "T" if x else "F"}.get(kind, str)
    return [[show(x) for x in column] for column in table.T.tolist()]


def _type(array: np.ndarray) -> str:
    return {"f": "R", "i": "I", "u": "I", "b": "L"}.get(array.dtype.kind, "S")


def _real(x: float) -> str:
    """The shortest decimal that reads back as the same float64."""
    return repr(float(x))
