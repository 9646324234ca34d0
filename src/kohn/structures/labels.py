"""Turn the keys of a file into labels of the table `PROPERTIES`, without silent guesses.

Each property is read from the key that the user names, or else from the first of its `REF_` key and
its aliases that the frame has. Keys that were read are counted; nearly right keys are recorded.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from kohn.errors import InputError, nearest
from kohn.structures.properties import PREDICTED_BY, PROPERTIES, Property, known_keys
from kohn.structures.raw_frames import RawFrame
from kohn.structures.structure import Structure, Unusable
from kohn.units import factor

LabelPolicy: TypeAlias = Literal["all", "finite", "usable", "none"]
"""The treatment of labels that cannot be used: 'all' refuses them; 'finite' skips those that are
not finite and refuses the others; 'usable' skips all of them; 'none' reads no labels."""
ASYMMETRY = 0.05
"""The largest asymmetry taken as noise, as a fraction of a tensor's largest component."""

UNCERTAIN = frozenset({"mu", "alpha", "initial_charges"})
"""Aliases so short or general that they may mean something else: if the shape does not fit, they
stay in the other information and are not refused."""


@dataclass
class KeysUsed:
    """A count of the keys that were read from the frames of one file.

    Attributes:
        used: property name -> key -> number of frames.
        others: key that is not a label -> shape of its value, and whether it is per atom.
        notes: note -> number of frames.
        unusable: labels that were skipped because they cannot be used.
    """

    used: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    others: dict[str, tuple[tuple[int, ...], bool]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    unusable: list[Unusable] = field(default_factory=list)


class _NotFinite(InputError):
    """The error for a label that is not finite, as some programs write a missing label."""


@dataclass(frozen=True)
class KeysToRead:
    """The keys from which each property is read.

    Attributes:
        keys: property name -> its only key, named by the user.
        names: property name -> keys to try, in this order, for all properties.
    """

    keys: dict[str, str]
    names: dict[str, tuple[str, ...]]


def keys_to_read(keys: dict[str, str] | None = None, energy: str = "energy") -> KeysToRead:
    """Return the keys from which each property is read, if the user names some of them.

    Args:
        keys: property name -> key in the file.
        energy: 'free_energy' to read the free energy as the energy too.

    Raises:
        InputError: a property or the energy is unknown.
    """
    keys = dict(keys or {})
    for name in keys:
        if name not in PROPERTIES:
            guess = nearest(name, PROPERTIES)
            raise InputError(
                f"there is no property {name!r} to read a key for",
                expected=f"one of {', '.join(PROPERTIES)}",
                fix=f"did you mean {guess!r}?" if guess else None,
            )
    names = {}
    for p in PROPERTIES.values():
        free = [k for k in (p.key, *p.aliases) if k not in keys.values()]
        names[p.name] = (keys[p.name],) if p.name in keys else tuple(free)
    if energy == "free_energy":
        names["energy"] = names["free_energy"]
    elif energy != "energy":
        raise InputError(
            "this is not an energy to read",
            expected="'energy' or 'free_energy'",
            received=repr(energy),
        )
    return KeysToRead(keys, names)


def structure_of(
    raw: RawFrame,
    want: KeysToRead,
    weights: dict[str, float],
    tally: KeysUsed,
    policy: LabelPolicy = "all",
) -> Structure:
    """Return the structure of a raw frame, with its labels.

    Args:
        raw: the frame, already checked by `validated`.
        want: the keys from which each property is read.
        weights: config_type -> weight in losses.
        tally: the counts of keys, to which those of the frame are added.
        policy: the treatment of labels that cannot be used.

    Raises:
        InputError: a label has the wrong shape, is not a number, not finite or not symmetric;
            the frame states units that are not Kohn's.
    """
    _refuse_units(raw, policy)
    info, arrays = dict(raw.info), dict(raw.arrays)
    labels, used, dropped = _labels(raw, want, tally, policy)
    for key in dropped | set(used.values()):
        _ = arrays.pop(key, None) if key in arrays else info.pop(key, None)
    tally.notes.update(raw.notes)
    for name, key in used.items():
        tally.used[name][key] += 1
        for other in want.names[name]:
            if other in info or ("atoms" in PROPERTIES[name].shape and other in arrays):
                tally.notes[f"{key} was read as {name}; the frame also has {other}"] += 1
    config_type = str(info.pop("config_type", "")) or "Default"
    weight = info.pop("config_weight", 1.0)
    weight = _weight(weight, raw) if policy in ("all", "finite") else 1.0
    predictions = PROPERTIES.keys() if PREDICTED_BY in info else ()
    if predictions:
        predicted = ", ".join(name for name in predictions if name in info or name in arrays)
        tally.notes[f"{predicted}: predicted by {info[PREDICTED_BY]}, not labels"] += 1
    for key, value in {**info, **arrays}.items():
        if key in predictions or key.removesuffix("_std") in predictions:
            continue
        if key not in tally.others and not isinstance(value, (str, bool, dict)):
            tally.others[key] = (np.shape(value), key in arrays)
    return Structure(
        numbers=raw.numbers,
        positions=raw.positions,
        cell=raw.cell,
        periodic=raw.periodic,
        labels=labels,
        config_type=config_type,
        weight=weight * weights.get(config_type, 1.0),
        place=raw.place,
        info=info,
        arrays=arrays,
    )


def _labels(
    raw: RawFrame, want: KeysToRead, tally: KeysUsed, policy: LabelPolicy
) -> tuple[dict[str, np.ndarray], dict[str, str], set[str]]:
    """Return the labels of a frame, the key of each label, and the keys that were skipped."""
    labels: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    dropped: set[str] = set()
    if policy == "none":
        return labels, used, set(known_keys()) | set(want.keys.values())
    skipped = (InputError,) if policy == "usable" else _NotFinite if policy == "finite" else ()

    def leave_out(label: str, key: str, error: InputError) -> None:
        dropped.add(key)
        tally.unusable.append(Unusable(label, key, error.message, raw.place, error.where))

    for p in PROPERTIES.values():
        key = _key_for(p, _keys_to_try(p, want, raw), raw)
        if key is None:
            continue
        if p.name in ("stress", "virial") and not _has_volume(raw):
            dropped.add(key)
            tally.notes[f"{key} of a structure that is not periodic was left out"] += 1
            continue
        try:
            labels[p.name] = label_value(p, key, raw, tally)
            used[p.name] = key
        except skipped as error:
            leave_out(p.name, key, error)
    try:
        _virial_to_stress(labels, used, want.keys, raw, tally)
    except skipped as error:  # stress and virial contradict each other
        labels.pop("stress")
        leave_out("stress", used.pop("stress"), error)
    return labels, used, dropped


def _keys_to_try(p: Property, want: KeysToRead, raw: RawFrame) -> tuple[str, ...]:
    """Return the keys to try for a property, without those that hold predictions of a model."""
    if PREDICTED_BY not in raw.info or p.name in want.keys:
        return want.names[p.name]
    return tuple(key for key in want.names[p.name] if key.lower() not in PROPERTIES)


def _has_volume(raw: RawFrame) -> bool:
    """Return whether a frame can have a stress: it is periodic, and its cell has a volume."""
    return bool(raw.periodic.any()) and abs(np.linalg.det(raw.cell)) > 1e-6


def _refuse_units(raw: RawFrame, policy: LabelPolicy) -> None:
    """Refuse a frame that states units other than Kohn's."""
    for key, value in raw.info.items():
        if not isinstance(value, str) or not re.search(r"(^|_)units?$", key, re.IGNORECASE):
            continue
        of_lengths = re.search("length|dist|pos", key, re.IGNORECASE)
        size = factor(value)
        if size in (None, 1.0) or (policy in ("usable", "none") and not of_lengths):
            continue
        raise InputError(
            "the frame states a unit that is not Kohn's",
            where=raw.place_of(),
            expected="numbers in eV and Å",
            received=f"{key}={value}",
            fix="convert the numbers (kohn.units has the factors), and correct this key",
        )


def label_value(p: Property, key: str, raw: RawFrame, tally: KeysUsed) -> np.ndarray:
    """Return the value of a key as a label: a float64 array of the shape of the property.

    Tensors may come as 3×3 or 9 numbers, and a stress or virial as 6 in Voigt order
    xx yy zz yz xz xy. The symmetric part of a tensor is taken; if this
    changes it by more than rounding, a note is added to `tally`.
    """
    per_atom = "atoms" in p.shape
    value = raw.arrays[key] if per_atom and key in raw.arrays else raw.info.get(key)
    shape = p.expected_shape(len(raw.numbers))
    try:
        if np.asarray(value).dtype.kind == "b":  # T, or a key without a value
            raise ValueError
        array = np.array(value, dtype=np.float64)
    except (ValueError, TypeError):
        raise InputError(
            f"the label {key} is not a number",
            where=raw.place_of(),
            expected=f"{p.name} in {p.unit}, shape {shape}",
            received=repr(value)[:60],
            fix="correct it, or remove the key if the label is not known",
        ) from None
    array = _reshape(array, p)
    if array.shape != shape:
        raise _wrong_shape(p, key, array.shape, shape, raw)
    _refuse_not_finite(array, key, raw, per_atom and key in raw.arrays)
    return _symmetric(array, key, raw, tally) if p.shape == (3, 3) else array


def near_keys(tally: KeysUsed) -> dict[str, str]:
    """Return unknown keys that nearly match a known key of a property that was not read.

    Returns:
        key in the file -> the known key that it nearly matches.
    """
    properties = set(tally.used) | ({"virial"} if "stress" in tally.used else set())
    # Reversed, so that of two keys that differ only in case the one with REF_ is suggested.
    names = {key: name for key, name in reversed(known_keys().items()) if key not in UNCERTAIN}
    near = {}
    for key, (shape, per_atom) in tally.others.items():
        candidates = [k for k, name in names.items() if _could_be(shape, per_atom, name)]
        guess = nearest(key, candidates, cutoff=0.8)
        if guess is not None and names[guess] not in properties:
            near[key] = guess
    return near


def _key_for(p: Property, names: tuple[str, ...], raw: RawFrame) -> str | None:
    """Return the first of the keys under which this frame has the property, or None."""
    for key in names:
        if _has_key(p, key, raw) and not (key in UNCERTAIN and not _fits_shape(p, key, raw)):
            return key
    return None


def _has_key(p: Property, key: str, raw: RawFrame) -> bool:
    return key in raw.info or ("atoms" in p.shape and key in raw.arrays)


def _fits_shape(p: Property, key: str, raw: RawFrame) -> bool:
    value = raw.arrays.get(key, raw.info.get(key)) if "atoms" in p.shape else raw.info[key]
    try:
        array = _reshape(np.array(value, dtype=np.float64), p)
    except (ValueError, TypeError):
        return False
    return array.shape == p.expected_shape(len(raw.numbers))


def _could_be(shape: tuple[int, ...], per_atom: bool, name: str) -> bool:
    """Return whether a value of this shape could be the property called `name`."""
    p = PROPERTIES[name]
    if per_atom or "atoms" in p.shape:
        return per_atom and "atoms" in p.shape and shape[1:] == p.shape[1:]
    sizes = {(): (1,), (3,): (3,), (3, 3): (6, 9)}[p.shape]
    return int(np.prod(shape)) in sizes


def _reshape(array: np.ndarray, p: Property) -> np.ndarray:
    if p.shape == () and array.shape == (1,):
        return array.reshape(())
    if p.shape == (3, 3) and array.shape == (9,):
        return array.reshape(3, 3)
    if p.name in ("stress", "virial") and array.shape == (6,):
        return array[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    return array


def _wrong_shape(
    p: Property, key: str, received: tuple, expected: tuple, raw: RawFrame
) -> InputError:
    fix = f"correct the values, or rename the key if it is not {p.name}"
    for other in PROPERTIES.values():
        fits = other.name != p.name and other.expected_shape(len(raw.numbers)) == received
        if fits and nearest(key, [other.key, *other.aliases], cutoff=0.8):
            fix = f"did you mean {other.key}? It is nearly the same word, and has this shape"
    return InputError(
        f"the label {key} has the wrong shape",
        where=raw.place_of(),
        expected=f"{expected} for {p.name} of {len(raw.numbers)} atoms"
        + (" (or 6 or 9 numbers)" if p.name in ("stress", "virial") else ""),
        received=str(received),
        fix=fix,
    )


def _refuse_not_finite(array: np.ndarray, key: str, raw: RawFrame, in_rows: bool) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad) == 0:
        return
    first = bad[0]
    raise _NotFinite(
        f"the label {key} is not finite",
        where=raw.place_of(int(first[0]) if in_rows else None),
        expected="finite numbers",
        received=f"{array[tuple(first)]} ({len(bad)} of {array.size} numbers are not finite)",
        fix="compute this label again, or remove it",
    )


def _symmetric(array: np.ndarray, key: str, raw: RawFrame, tally: KeysUsed) -> np.ndarray:
    largest, difference = np.abs(array).max(), np.abs(array - array.T).max()
    if difference > ASYMMETRY * largest + 1e-8:
        raise InputError(
            f"the label {key} is not symmetric",
            where=raw.place_of(),
            expected="a symmetric 3×3 matrix",
            received=f"off-diagonal elements that differ by up to {difference:.3g}",
            fix="check the order of the components: 9 numbers are xx xy xz yx yy yz zx zy zz",
        )
    if difference > 1e-6 * largest + 1e-8:
        tally.notes[f"{key} is not quite symmetric: its symmetric part was taken"] += 1
    return (array + array.T) / 2


def _virial_to_stress(
    labels: dict[str, np.ndarray],
    used: dict[str, str],
    keys: dict[str, str],
    raw: RawFrame,
    tally: KeysUsed,
) -> None:
    """Set stress = -virial / V (V: cell volume), if the frame has a virial but no other stress."""
    if "virial" not in labels:
        return
    stress = -labels.pop("virial") / abs(np.linalg.det(raw.cell))
    key = used.pop("virial")
    if "stress" in labels and "virial" not in keys:
        _refuse_contradiction(labels["stress"], stress, used["stress"], key, "stress" in keys, raw)
        tally.notes[f"{key} was left out in favour of {used['stress']}"] += 1
        return
    labels["stress"], used["stress"] = stress, key
    tally.notes[f"{key} was converted: stress = -virial / volume"] += 1


def _refuse_contradiction(
    stress: np.ndarray, other: np.ndarray, key: str, virial: str, named: bool, raw: RawFrame
) -> None:
    same_level = key.startswith("REF_") == virial.startswith("REF_")
    if named or not same_level:
        return
    if np.abs(stress - other).max() > 0.01 * np.abs(stress).max() + 1e-5:
        raise InputError(
            f"{key} and {virial} contradict each other",
            where=raw.place_of(),
            expected="stress = -virial / volume",
            received=f"trace of stress {np.trace(stress):.6g} eV/Å³, of -virial / volume "
            f"{np.trace(other):.6g} eV/Å³",
            fix=f"find out which is right and name it: keys={{'stress': '{key}'}} or "
            f"keys={{'virial': '{virial}'}}",
        )


def _weight(value: Any, raw: RawFrame) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = np.nan
    if not np.isfinite(weight) or weight < 0:
        raise InputError(
            "config_weight is not a weight",
            where=raw.place_of(),
            expected="a finite number, 0 or more",
            received=str(value),
            fix="correct it",
        )
    return weight
