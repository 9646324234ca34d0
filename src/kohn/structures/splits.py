"""Split data reproducibly, and keep duplicates in one part."""

import hashlib
from collections.abc import Mapping

import numpy as np

from kohn.errors import InputError
from kohn.structures.fingerprints import duplicates
from kohn.structures.structure import Dataset


def split(data: Dataset, sizes: Mapping[str, float | int], seed: int = 0) -> dict[str, Dataset]:
    """Split the structures into named parts, at random but reproducibly.

    Structures that are the same (`fingerprints.duplicates`) go to one part together. The order
    comes from SHA-256 of seed and index, so it is the same on every platform and in every
    version of NumPy. Each part keeps the order of the data.

    Args:
        data: the structures.
        sizes: name -> a whole number of frames, or a fraction of all (a float above 0, up to 1).
            The parts need not use all structures. With duplicates, a part may differ from its
            size by less than the largest group of duplicates.
        seed: seed of the random order.

    Returns:
        The parts, by name. No part is empty.

    Raises:
        InputError: more frames are wanted than the data have, a part would be empty, or a size
            is neither a fraction nor a number of frames.
    """
    counts = _counts(len(data), sizes)
    groups = duplicates(data.structures)
    members: dict[int, list[int]] = {}
    for index in _shuffled(len(data), seed):
        members.setdefault(int(groups[index]), []).append(index)
    # Groups of duplicates come first, while parts have room; single frames fill parts exactly.
    order = sorted(members.values(), key=lambda group: -len(group))
    chosen: dict[str, list[int]] = {name: [] for name in counts}
    whole = sum(counts.values()) == len(data)
    for position, group in enumerate(order):
        name = max(counts, key=lambda n: counts[n] - len(chosen[n]))
        empty = [n for n in counts if not chosen[n]]
        if empty and len(order) - position <= len(empty):  # the last groups, to fill them
            name = empty[0]
        if len(group) == 1:
            name = next((n for n in counts if len(chosen[n]) < counts[n]), name)
        room = counts[name] - len(chosen[name])
        if room >= len(group) or (whole and room > 0):
            chosen[name] += group
    for name, indices in chosen.items():
        if not indices:
            raise InputError(
                f"too few frames to split: the part {name!r} would be empty",
                expected=f"{counts[name]} frames in it",
                received=f"{len(data)} frames, {len(members)} of them different",
                fix="add frames, or make the other parts smaller",
            )
    return {name: data.select(sorted(indices)) for name, indices in chosen.items()}


def _shuffled(n: int, seed: int) -> list[int]:
    """Return the numbers 0 … n-1 in the order of the SHA-256 hashes of the texts seed:number."""
    return sorted(range(n), key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())


def _counts(n: int, sizes: Mapping[str, float | int]) -> dict[str, int]:
    """Return the number of frames of each part; fractions are rounded by the largest remainder."""
    fractions = {k: v for k, v in sizes.items() if isinstance(v, float)}
    counts: dict[str, int] = {}
    for name, size in sizes.items():
        valid = size > 0 and (size <= 1 if isinstance(size, float) else isinstance(size, int))
        if isinstance(size, bool) or not valid:
            raise InputError(
                f"the size of the part {name!r} is not valid",
                expected="a whole number of frames, or a fraction above 0 and up to 1 (e.g. 0.1)",
                received=repr(size),
            )
        counts[name] = int(size) if name not in fractions else int(np.floor(size * n + 1e-9))
    remainder = min(round(sum(fractions.values()) * n), n) - sum(counts[k] for k in fractions)
    by_remainder = sorted(fractions, key=lambda k: -(fractions[k] * n - counts[k]))
    for name in by_remainder[: max(remainder, 0)]:
        counts[name] += 1
    if not counts or sum(counts.values()) > n or min(counts.values()) < 1:
        wanted = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(
            "too few frames to split" if counts else "no parts to split into",
            expected="at least one frame in each part",
            received=f"{n} frames for the parts {wanted}",
            fix="add frames, or ask for smaller parts",
        )
    return counts
