"""Check structures and their labels with one call, before models are trained on them."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kohn.checks.composition import composition_findings, e0s_and_findings
from kohn.checks.geometry import geometry_findings, shortest_distances, unusable_cell
from kohn.checks.labels import label_findings
from kohn.checks.neighbouring_frames import frame_pairs
from kohn.checks.outliers import outlier_findings
from kohn.checks.repeats import not_compared, repeat_findings
from kohn.checks.report import Finding, Report, SetSummary, Statistics, arrange
from kohn.checks.units import binding_energies, energy_and_force_findings, stress_findings
from kohn.errors import InputError, Place
from kohn.structures import Dataset, E0s, Readable, duplicates, is_isolated_atom, read
from kohn.structures.elements import symbol


def check(
    data: "Readable | Mapping[str, Readable]",
    *,
    keys: dict[str, str] | None = None,
    e0s: Mapping[int | str, float] | E0s | None = None,
    allow: Collection[str] = (),
    geometry_only: Collection[str] = (),
    **reading: Any,
) -> Report:
    """Summarise the data, and report everything in them that cannot be trusted.

    Args:
        data: a `Dataset`, anything that `kohn.read` takes, or a dict {name of set: data}. The
            training set is the set named 'train', or else the first set.
        keys: property name -> key in the files.
        e0s: reference energies in eV by symbol or atomic number; None to read or fit them.
        allow: kinds of findings (`KINDS`) that do not fail the check; they are recorded.
        geometry_only: names of sets whose labels are not checked, as test data before training.
        reading: further arguments of `kohn.read`, such as periodic=False.

    Returns:
        The report. Its method `raise_if_failed` raises an exception if the report has errors.

    Raises:
        InputError: data cannot be read at all; the message has file, frame and line.
    """
    named = dict(data) if isinstance(data, Mapping) else {"data": data}
    sets = {
        str(name): item
        if isinstance(item, Dataset)
        else read(item, keys=keys, labels="finite", **reading)
        for name, item in named.items()
    }
    if not sets or not all(len(s) for s in sets.values()):
        raise InputError("there is nothing to check", expected="at least one structure")
    arrange((), allow)  # refuse an unknown kind before any work
    train = "train" if "train" in sets else next(iter(sets))
    references, findings = e0s_and_findings(sets, train, e0s)
    findings += composition_findings(sets, train)
    groups = _copy_numbers(sets)
    repeats, within, between = repeat_findings(sets, groups)
    summaries = []
    for name, part in sets.items():
        shortest, distances = shortest_distances(part.structures)
        findings += geometry_findings(part.structures, distances, name)
        if name not in geometry_only:
            findings += label_findings(part, name)
            files = tuple(Place(source.file) for source in part.sources[:3])
            value_findings = _value_findings(part, references, name)
            findings += [f if f.where else replace(f, where=files) for f in value_findings]
        summaries.append(_summary(name, part, references, shortest, within[name]))
    ordered, overrides = arrange([*findings, *repeats], allow)
    return Report(ordered, tuple(summaries), references, between, overrides)


def _value_findings(data: Dataset, e0s: E0s | None, name: str) -> list[Finding]:
    """Return the findings on the values of labels, in the frames whose labels are all finite."""
    usable = [
        s
        for s in data
        if not unusable_cell(s) and all(np.isfinite(v).all() for v in s.labels.values())
    ]
    pairs = frame_pairs(usable)
    return [
        *energy_and_force_findings(usable, e0s, pairs, name),
        *stress_findings(usable, pairs, name),
        *outlier_findings(usable, e0s, name),
    ]


def _copy_numbers(sets: Mapping[str, Dataset]) -> dict[str, np.ndarray]:
    """Return, for each set, one number per frame: the same for copies, -1 for skipped frames."""
    structures = [s for data in sets.values() for s in data]
    compared = [k for k, s in enumerate(structures) if not (not_compared(s) or unusable_cell(s))]
    numbers = np.full(len(structures), -1, dtype=np.int64)
    numbers[compared] = duplicates([structures[k] for k in compared])
    ends = np.cumsum([len(data) for data in sets.values()])[:-1]
    return dict(zip(sets, np.split(numbers, ends), strict=True))


def _summary(
    name: str,
    data: Dataset,
    e0s: E0s | None,
    shortest: dict[str, tuple[float, Place]],
    repeated: int,
) -> SetSummary:
    frames = [s for s in data if not is_isolated_atom(s)]
    sizes = [len(s) for s in data]
    volumes = [s.volume / len(s) for s in frames if s.periodic.all()]
    forces = [s.labels["forces"] for s in frames if "forces" in s.labels]
    stress = [s.labels["stress"].ravel() for s in frames if "stress" in s.labels]
    largest = max((float(np.linalg.norm(f, axis=1).max()) for f in forces), default=None)
    return SetSummary(
        name=name,
        sources=data.sources,
        frames=len(data),
        isolated_atoms=len(data) - len(frames),
        atoms=(min(sizes), max(sizes)),
        elements=_elements(data),
        periodic=_counts(int(s.periodic.sum()) for s in data),
        volume_per_atom=(min(volumes), max(volumes)) if volumes else None,
        config_types=_config_types(data),
        labels=_counts(label for s in data for label in s.labels),
        energy_per_atom=_statistics([binding_energies(frames, e0s)] if e0s is not None else []),
        forces=_statistics([f.ravel() for f in forces]),
        largest_force=largest,
        stress=_statistics(stress),
        shortest=shortest,
        duplicates=repeated,
        unread=data.unread,
    )


def _elements(data: Dataset) -> dict[str, tuple[int, int]]:
    frames: dict[int, int] = {}
    atoms: dict[int, int] = {}
    for s in data:
        for z, count in zip(*np.unique(s.numbers, return_counts=True), strict=True):
            frames[int(z)] = frames.get(int(z), 0) + 1
            atoms[int(z)] = atoms.get(int(z), 0) + int(count)
    return {symbol(z): (frames[z], atoms[z]) for z in sorted(frames)}


def _config_types(data: Dataset) -> dict[str, tuple[int, float, float]]:
    weights: dict[str, list[float]] = {}
    for s in data:
        weights.setdefault(s.config_type, []).append(s.weight)
    return {k: (len(w), min(w), max(w)) for k, w in sorted(weights.items())}


def _counts(items: Any) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return dict(sorted(counts.items()))


def _statistics(parts: list[np.ndarray]) -> Statistics | None:
    x = np.concatenate(parts) if parts else np.empty(0)
    x = x[np.isfinite(x)]
    if len(x) == 0:
        return None
    return Statistics(
        mean=float(x.mean()),
        standard_deviation=float(x.std()),
        minimum=float(x.min()),
        maximum=float(x.max()),
        root_mean_square=float(np.sqrt(np.mean(x**2))),
    )
