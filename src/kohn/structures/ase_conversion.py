"""Convert structures to and from `ase.Atoms`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kohn.errors import InputError, Place
from kohn.structures.labels import KeysUsed, LabelPolicy, keys_to_read, structure_of
from kohn.structures.properties import PREDICTED_BY, PREDICTOR, PROPERTIES
from kohn.structures.raw_frames import RawFrame, validated
from kohn.structures.structure import Structure

if TYPE_CHECKING:
    from ase import Atoms

PER_ATOM_RESULTS = frozenset({"forces", "stresses", "charges", "magmoms", "energies"})
RESULTS = ("energy", "free_energy", "forces", "stress", "energies", "dipole", "charges")


def from_ase(
    atoms: "Atoms",
    *,
    keys: dict[str, str] | None = None,
    place: Place | None = None,
    labels: LabelPolicy = "all",
) -> Structure:
    """Return the `Structure` of an `ase.Atoms`.

    Labels are taken from the stored results of the calculator (so forces without constraints
    applied), from `info` and from `arrays`. No calculation is started, and results of a Kohn
    model are not taken as labels.

    Args:
        atoms: the atoms. keys, labels: as in `read`. place: the file and frame named in errors.

    Raises:
        InputError: the geometry is not valid; a label cannot be used (see `labels`); the
            calculator's results are for other atoms, positions or cell.
    """
    raw = raw_from_ase(atoms, place or Place(), results=labels != "none")
    return structure_of(validated(raw), keys_to_read(keys), {}, KeysUsed(), labels)


def to_ase(structure: Structure) -> "Atoms":
    """Return an `ase.Atoms`, with the labels that ASE knows in a `SinglePointCalculator`.

    The other labels are in `info` (and `arrays`) under their `REF_` keys.
    """
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms(
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.periodic,
        info=dict(structure.info),
    )
    if structure.config_type != "Default":
        atoms.info["config_type"] = structure.config_type
    if structure.weight != 1.0:
        atoms.info["config_weight"] = structure.weight
    for key, array in structure.arrays.items():
        atoms.set_array(key, array)
    results: dict[str, Any] = {}
    for name, value in structure.labels.items():
        if name in RESULTS:
            results[name] = voigt(value) if name == "stress" else _float_or_array(value)
        elif "atoms" in PROPERTIES[name].shape:
            atoms.set_array(PROPERTIES[name].key, value)
        else:
            atoms.info[PROPERTIES[name].key] = _float_or_array(value)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def voigt(tensor: np.ndarray) -> np.ndarray:
    """Return the Voigt components xx yy zz yz xz xy, [6], of a symmetric tensor [3, 3]."""
    return tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def raw_from_ase(atoms: "Atoms", place: Place, *, results: bool = True) -> RawFrame:
    """Return an `ase.Atoms` as a raw frame, with the calculator's results if `results` is True."""
    info = {k: v for k, v in atoms.info.items() if k not in ("key_value_pairs", "data")}
    info.update(atoms.info.get("key_value_pairs", {}))
    arrays = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    _add_data(atoms.info.get("data", {}), len(atoms), info, arrays)
    for name, value in _results(atoms, place).items() if results else ():
        if value is not None:
            (arrays if name in PER_ATOM_RESULTS else info)[name] = value
    return RawFrame(
        numbers=np.asarray(atoms.numbers, dtype=np.int32),
        positions=np.array(atoms.positions, dtype=np.float64),
        cell=np.array(atoms.cell.array, dtype=np.float64),
        periodic=np.array(atoms.pbc, dtype=bool),
        info=info,
        arrays=arrays,
        place=place,
    )


def _results(atoms: "Atoms", place: Place) -> dict[str, Any]:
    """Return the stored results of the calculator; refuse them if the atoms changed since then."""
    calculator = atoms.calc
    results = getattr(calculator, "results", None)
    if not results:
        return {}
    if getattr(calculator, "name", None) == PREDICTOR:  # also if ASE read it from a file
        return {PREDICTED_BY: PREDICTOR, **results}
    changed = getattr(calculator, "check_state", lambda _: [])(atoms)
    if changed:
        raise InputError(
            "the results of the calculator are for other atoms",
            where=place,
            received=f"changed since they were computed: {', '.join(changed)}",
            fix="compute again, or set atoms.calc = None to have no labels",
        )
    return dict(results)


def _add_data(data: Any, n: int, info: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Add the `data` of a row of an ASE database to `info` and to the per-atom `arrays`."""
    for key, value in data.items() if isinstance(data, dict) else ():
        shape = np.shape(value) if isinstance(value, (list, np.ndarray)) else ()
        # With three atoms, three or nine numbers may also be a vector or a tensor.
        tensor = shape in ((3,), (3, 3)) and "forc" not in key.lower()
        if len(shape) > 0 and shape[0] == n and not tensor:
            arrays[key] = np.asarray(value)
        else:
            info[key] = value


def _float_or_array(value: np.ndarray) -> Any:
    return float(value) if value.ndim == 0 else value
