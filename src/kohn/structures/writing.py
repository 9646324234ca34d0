"""Write structures as extended XYZ, from which all numbers are read back exactly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kohn.errors import InputError
from kohn.records import write_atomically
from kohn.structures.comment_line import pair
from kohn.structures.elements import symbol
from kohn.structures.extxyz import PLAIN
from kohn.structures.predictive import Prediction
from kohn.structures.properties import PREDICTED_BY, PREDICTOR, PROPERTIES
from kohn.structures.raw_frames import raw_of
from kohn.structures.reading import Readable, read
from kohn.structures.structure import Structure
from kohn.typing import Document


def write(
    structures: Readable,
    path: str | Path,
    *,
    predictions: Sequence[Prediction | Document] | None = None,
    predicted_by: str = PREDICTOR,
) -> tuple[str, ...]:
    """Write structures as extended XYZ, with enough digits to read all numbers back exactly.

    Labels are written under their `REF_` keys. Predictions are written under the plain keys
    that ASE puts into a calculator: energy, forces, stress (9 numbers, eV/Å³); a standard
    deviation under the same key with `_std`. A frame with predictions has the key
    `predicted_by`: if it is read again, its plain keys are not labels.

    Args:
        structures: anything that `kohn.read` takes.
        path: the file; it is replaced at once when everything is written.
        predictions: for each structure the prediction of a model, or a dict property name -> value;
            predictions that the structure already has are not written.
        predicted_by: name of the model.

    Returns:
        Names of per-atom columns that extended XYZ cannot hold, which were not written.

    Raises:
        InputError: the number or a shape of the predictions is wrong.
        TrainingError: the file cannot be written.
    """
    items = _structures(structures)
    if predictions is not None and len(predictions) != len(items):
        raise InputError(
            "there are not as many predictions as structures",
            expected=str(len(items)),
            received=str(len(predictions)),
        )
    extra: list[Document | None] = [None] * len(items)
    if predictions is not None:
        extra = [p.as_labels() if isinstance(p, Prediction) else p for p in predictions]
    frames = (frame_text(s, p, predicted_by) for s, p in zip(items, extra, strict=True))
    write_atomically(path, "".join(frames).encode())
    return tuple(sorted({name for s in items for name in _unwritable(s)}))


def _structures(structures: Readable) -> Sequence[Structure]:
    if isinstance(structures, Structure):
        return [structures]
    if isinstance(structures, (list, tuple)) and all(isinstance(s, Structure) for s in structures):
        return structures
    return read(structures, labels="usable").structures


def frame_text(
    structure: Structure,
    predictions: Document | None = None,
    predicted_by: str = PREDICTOR,
) -> str:
    """Return a structure, with its predictions if given, as the text of a frame of extended XYZ."""
    raw = raw_of(structure)
    info = dict(raw.info)
    arrays = {k: v for k, v in raw.arrays.items() if k not in _unwritable(structure)}
    if predictions is not None:
        if PREDICTED_BY not in info:  # numbers of the frame that property models learn
            scalars = [name for name in predictions if name in info and name not in PROPERTIES]
            info |= {f"REF_{name}": info[name] for name in scalars}
        for old in (*PROPERTIES, *(f"{name}_std" for name in PROPERTIES)):
            _ = info.pop(old, None), arrays.pop(old, None)
        info[PREDICTED_BY] = predicted_by
    for name, value in (predictions or {}).items():
        array = _prediction(name, value, structure)
        known = PROPERTIES.get(name.removesuffix("_std"))
        per_atom = known is not None and "atoms" in known.shape
        (arrays if per_atom else info)[name] = array
    symbols = [symbol(z) for z in structure.numbers]
    columns = [[f"{s:<2}" for s in symbols], *_columns(structure.positions)]
    properties = PLAIN
    for key, array in arrays.items():
        columns += _columns(array)
        width = int(np.prod(array.shape[1:], dtype=int))
        properties += f":{key}:{_type(array)}:{width}"
    rows = "".join(" ".join(row) + "\n" for row in zip(*columns, strict=True))
    return f"{len(structure)}\n{_comment(structure, properties, info)}\n{rows}"


def _comment(structure: Structure, properties: str, info: Document) -> str:
    cell = [pair("Lattice", structure.cell)] if structure.cell.any() else []
    stated = [*cell, f"Properties={properties}", pair("pbc", np.asarray(structure.periodic))]
    return " ".join([*stated, *(pair(key, value) for key, value in info.items())])


def _unwritable(structure: Structure) -> list[str]:
    """Return the names of columns that extended XYZ cannot hold: columns without values, columns of
    objects, and columns whose name or texts are not single words."""
    names = []
    for name, array in structure.arrays.items():
        text = array.dtype.kind in "US"
        words = all(len(str(x).split()) == 1 for x in array.ravel().tolist()) if text else True
        known = text or array.dtype.kind in "fiub"
        if not (known and words and array.size and len(name.split()) == 1 and ":" not in name):
            names.append(name)
    return names


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
    """Return the shortest decimal that reads back as the same float64."""
    return repr(float(x))
