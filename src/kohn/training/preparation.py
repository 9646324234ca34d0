"""Prepare a run from its settings: check the data, and make reference energies, loaders, model."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from kohn.checks import NOT_FOR_TRAINING, Report, check, refuse_varying_charge
from kohn.compilation import jax_has_started
from kohn.errors import ConfigError, InputError
from kohn.jobs import FORMAT
from kohn.models import FAMILIES
from kohn.models.heads.properties import PropertyConfig, PropertyNetwork
from kohn.potential import Potential, PropertyModel, Reference, TrainingDistances, load_potential
from kohn.records import to_json
from kohn.structures import (
    PROPERTIES,
    Dataset,
    E0s,
    is_isolated_atom,
    read,
    reference_energies,
    split,
)
from kohn.structures.elements import symbol
from kohn.structures.provenance import UNKNOWN, Provenance, filled, functional, stated
from kohn.training.loader import Loader
from kohn.training.losses import EnergyTask, LossWeights
from kohn.training.properties import (
    Ions,
    PropertyTask,
    Statistics,
    mean_labels,
    refuse_unlearnable_labels,
)
from kohn.training.settings import DataSettings, TrainSettings, Weights
from kohn.training.stress import predicts_stress, refuse_stress, without_stress
from kohn.training.task import Task
from kohn.typing import Document
from kohn.version import __version__

STRESS_WEIGHT = 1e5
"""Default weight of stress if every frame has one: (1 meV/Å³)² then counts as much as
(32 meV/Å)² of forces with their default weight."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """The inputs of a run before its first step.

    Attributes:
        potential: an untrained `Potential` or `PropertyModel`, or the potential to fine-tune.
        train, valid: loaders of the training and the validation structures.
        task: the labels to learn, with the weights of the loss.
        report: findings of the checks of the data.
        fingerprint: SHA-256 of settings and data, which a checkpoint must match.
    """

    potential: Any
    train: Loader
    valid: Loader
    task: Task
    report: Report
    fingerprint: str


def prepare(settings: TrainSettings) -> Prepared:
    """Read and check the data, and make the model and the loaders; nothing is learned yet.

    Test files are opened for their geometries only, to check that none of them is in the
    training data; their labels are read after training.

    Raises:
        InputError, CheckFailed: the data cannot be learned from.
        ConfigError: settings contradict each other or the data.
    """
    data = settings.data
    everything = _read(data, data.train)
    parts = _parts(settings, everything)
    tests = {"test": _geometries(_read(data, data.test))} if data.test else {}
    allowed = [kind for kind in data.allow if kind not in NOT_FOR_TRAINING]
    check_sets = partial(check, {**parts, **tests}, allow=allowed, geometry_only=tests)
    prepare_task = _energies if settings.of_energies else _properties
    potential, task, report, loaders = prepare_task(settings, everything, parts, check_sets)
    fingerprint = _fingerprint(settings, everything, parts)
    return Prepared(potential, *loaders, task, report, fingerprint)


CheckSets = Callable[..., Report]
Ready = tuple[Any, Task, Report, tuple[Loader, Loader]]
"""Potential, task, report of the checks, and loaders of training and validation."""


def _energies(
    settings: TrainSettings, everything: Dataset, parts: dict[str, Dataset], check_sets: CheckSets
) -> Ready:
    """Prepare a run that learns energies with forces and stress."""
    try:
        e0s = reference_energies(everything, _given_e0s(settings.data))
    except InputError:
        check_sets().raise_if_failed()  # the check says more, for example which keys are similar
        raise
    report = check_sets(e0s=e0s)
    report.raise_if_failed()
    refuse_varying_charge(everything)
    train, valid = (_without_atoms(parts[name]) for name in ("train", "valid"))
    _refuse_lone_atoms(train, valid)
    refuse_stress(settings.model, settings.loss.weights, settings.loss.late_weights)
    if not predicts_stress(settings.model):
        train, valid = without_stress(train), without_stress(valid)
    weights = resolved(settings.loss.weights, train)
    late = resolved(settings.loss.late_weights or settings.loss.weights, train)
    _refuse_missing_labels(train, valid, weights, late)
    torques = settings.loss.penalties.torque > 0
    zero, delta = Reference(e0s.values), _huber_delta(settings)
    task = EnergyTask(zero, _loss_weights(weights), _loss_weights(late), delta, torques)
    start = None if settings.run.init_from is None else load_potential(settings.run.init_from)
    loaders = _loaders(settings, task, train, valid, start)
    potential = Potential(
        _model(settings, loaders[0], start),
        {z: e for z, e in e0s.values.items() if z in loaders[0].elements}
        | ({} if start is None else {z: e for z, e in start.e0s.items() if z not in e0s.values}),
        _provenance(settings, everything, report)
        | _provenance_of_energies(train, e0s)
        | _distances(loaders[0], start),
    )
    return potential, task, report, loaders


def _properties(
    settings: TrainSettings, everything: Dataset, parts: dict[str, Dataset], check_sets: CheckSets
) -> Ready:
    """Prepare a run that learns dipoles, polarizabilities or scalars of structures."""
    if settings.run.init_from is not None:
        raise ConfigError(
            "models of properties cannot be fine-tuned yet",
            received=f"run.init_from {settings.run.init_from}",
            fix="leave it out",
        )
    report = check_sets()
    report.raise_if_failed()
    refuse_varying_charge(everything)
    train, valid = (_without_atoms(parts[name]) for name in ("train", "valid"))
    _refuse_lone_atoms(train, valid)
    for part in (train, valid):
        refuse_unlearnable_labels(part, settings)
    heads, body = settings.heads, settings.model
    known = [t for t in settings.targets if t in PROPERTIES and PROPERTIES[t].extensive]
    config = PropertyConfig(
        body=body,
        targets=settings.targets,
        extensive=(*known, *heads.extensive),
        charges=heads.charges and "dipole" in settings.targets,
    )
    elements, ions = _elements(train, valid), Ions(heads.dipole_origin, heads.charge)
    statistics = Statistics.of(train, elements, config, ions, composition=heads.composition)
    task = PropertyTask(config, statistics.scales, ions, _huber_delta(settings))
    loaders = _loaders(settings, task, train, valid, None)
    network = PropertyNetwork.init(
        jax.random.key(settings.run.seed),
        config,
        elements,
        neighbours=loaders[0].average_neighbours,
        scales=statistics.scales,
        atoms=statistics.atoms,
        dtype=loaders[0].dtype,
    )
    model = PropertyModel(
        network,
        heads.dipole_origin,
        heads.charge,
        {t: PROPERTIES[t].unit if t in PROPERTIES else "" for t in settings.targets},
        _provenance(settings, everything, report)
        | {"means": mean_labels(train, settings.targets)}
        | _distances(loaders[0], None),
    )
    return model, task, report, loaders


def _elements(*parts: Dataset) -> tuple[int, ...]:
    return tuple(sorted({int(z) for part in parts for z in part.elements}))


def _loaders(
    settings: TrainSettings, task: Task, train: Dataset, valid: Dataset, start: Potential | None
) -> tuple[Loader, Loader]:
    """Return the loaders of training and validation; their elements include those of `start`."""
    run, elements, cutoff = settings.run, _elements(train, valid), settings.model.cutoff
    if start is not None:
        elements, cutoff = tuple(sorted({*elements, *start.elements})), start.cutoff
    dtype = np.dtype(run.dtype).type
    training, validation = (
        Loader.of(part, task, elements, cutoff, run.batch_size, dtype, most)
        for part, most in ((train, 3), (valid, 1))
    )
    if not any(h.edges for h in training.neighbourhoods):
        raise ConfigError(
            "no atom of the training structures has a neighbour within the cutoff",
            received=f"model.cutoff {cutoff} Å",
            fix="raise model.cutoff, or check that the positions are in Å",
        )
    return training, validation


def _huber_delta(settings: TrainSettings) -> float | None:
    return settings.loss.huber_delta if settings.loss.kind == "huber" else None


def _loss_weights(weights: Weights) -> LossWeights:
    return LossWeights(weights.energy, weights.forces, weights.stress or 0.0)


def _read(data: DataSettings, files: Sequence[str]) -> Dataset:
    return read(
        list(files),
        keys=data.keys or None,
        config_weights=data.config_weights or None,
        periodic=data.periodic,
        energy=data.energy,
        labels="finite",
    )


def _geometries(data: Dataset) -> Dataset:
    """Return the data with structures that have no labels."""
    bare = tuple(s.with_labels(**dict.fromkeys(s.labels)) for s in data)
    return replace(data, structures=bare)


def _parts(settings: TrainSettings, everything: Dataset) -> dict[str, Dataset]:
    if settings.data.valid:
        return {"train": everything, "valid": _read(settings.data, settings.data.valid)}
    atoms = [i for i, s in enumerate(everything) if is_isolated_atom(s)]
    rest = everything.select([i for i in range(len(everything)) if i not in set(atoms)])
    share = settings.data.valid_fraction
    if len(rest) < 2:
        raise InputError(
            "too few structures to learn from",
            expected="at least two that are not isolated atoms",
            received=str(len(rest)),
            where=everything.sources[0].file if everything.sources else None,
            fix="add frames: at least one to learn from and one to validate on are needed",
        )
    count = min(max(1, round(share * len(rest))), len(rest) - 1)
    parts = split(rest, {"train": len(rest) - count, "valid": count}, settings.run.seed)
    isolated = tuple(everything[i] for i in atoms)
    train = replace(everything, structures=isolated + parts["train"].structures)
    return {"train": train, "valid": replace(parts["valid"], unread=())}


def _without_atoms(data: Dataset) -> Dataset:
    """Return the data without isolated atoms, which give the E0s and nothing more to learn."""
    return data.select([i for i, s in enumerate(data) if not is_isolated_atom(s)])


def _given_e0s(data: DataSettings) -> dict[int | str, float] | None:
    return None if data.e0s is None else {**data.e0s}


def resolved(weights: Weights, train: Dataset) -> Weights:
    """Return the weights; stress has by default STRESS_WEIGHT, or 0 if a frame lacks stress."""
    if weights.stress is not None:
        return weights
    complete = train.count("stress") == len(train)
    return weights.model_copy(update={"stress": STRESS_WEIGHT if complete else 0.0})


def _refuse_lone_atoms(train: Dataset, valid: Dataset) -> None:
    """Refuse data in which all structures are isolated atoms, or all have the weight 0."""
    for name, part in (("training", train), ("validation", valid)):
        if len(part) == 0:
            raise InputError(
                f"all {name} structures are isolated atoms",
                where=", ".join(source.file for source in part.sources) or None,
                expected="at least one structure of several atoms",
                fix=f"add {name} structures",
            )
    if not any(s.weight for s in train):
        raise ConfigError(
            "the weights of all training structures are 0",
            fix="give some config_type a weight above 0 in data.config_weights",
        )


def _refuse_missing_labels(train: Dataset, valid: Dataset, *weights: Weights) -> None:
    """Refuse training or validation data that lack a label with a weight in the loss."""
    for w in weights:
        if not (w.energy or w.forces or w.stress):
            raise ConfigError(
                "a loss whose weights are all 0 teaches nothing",
                expected="a weight above 0 for energy, forces or stress",
                received=to_json(w.model_dump()),
                fix="correct loss.weights and loss.late_weights",
            )
    for label in ("energy", "forces", "stress"):
        if not any(getattr(w, label) for w in weights):
            continue
        for name, part in (("training", train), ("validation", valid)):
            if part.count(label) == 0:
                raise InputError(
                    f"the loss wants {label}, and no {name} structure has it",
                    where=part.sources[0].file if part.sources else None,
                    fix=f"name its key under data.keys; to train without it, set {label}: 0 in "
                    "loss.weights and in loss.late_weights",
                )


def _model(settings: TrainSettings, loader: Loader, start: Potential | None) -> Any:
    """Return an untrained network, or the network of `start`, for the elements of the data."""
    elements, dtype = loader.elements, loader.dtype
    key = jax.random.key(settings.run.seed)
    if start is not None:
        if settings.model not in (start.model.config, type(settings.model)()):
            raise ConfigError(
                "the model settings differ from those of the model to start from",
                expected=to_json(start.model.config.model_dump()),
                received=to_json(settings.model.model_dump()),
                fix="leave the section `model` out",
            )
        return start.astype(dtype).model.for_elements(elements, key)
    _, family = FAMILIES[settings.model.family]
    forces = [s.labels["forces"] for s in loader.structures if "forces" in s.labels]
    rms = float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else 1.0
    return family.init(
        key,
        settings.model,
        elements,
        neighbours=loader.average_neighbours,
        scale=max(rms, 1e-3),
        dtype=dtype,
    )


def _provenance(settings: TrainSettings, data: Dataset, report: Report) -> Document:
    """Return how the model was made, without times, and without paths other than those given."""
    return {
        "settings": settings.model_dump(mode="json"),
        "sources": [{**asdict(s), "unusable": len(s.unusable)} for s in data.sources],
        "labels": _labels(settings.data, data),
        "overridden_findings": list(report.overrides),
        "versions": {"kohn": __version__, "jax": jax.__version__},
    }


def _labels(data: DataSettings, structures: Dataset) -> list[Document]:
    """Return each way in which labels were computed, with its number of structures.

    Facts that a frame states have precedence over those in the settings for all frames.
    """
    given = Provenance(functional(data.functional), data.scheme or UNKNOWN, data.source or UNKNOWN)
    kinds = Counter(filled(stated(s.info), given) for s in structures)
    return [{**asdict(p), "structures": n} for p, n in sorted(kinds.items())]


def _provenance_of_energies(train: Dataset, e0s: E0s) -> Document:
    """Return the sources of the E0s, and the mean energy per atom above the E0s."""
    labelled = [s for s in train if "energy" in s.labels]
    above = sum(float(s.labels["energy"]) - e0s.total(s) for s in labelled)
    return {
        "e0_source": e0s.source,
        "e0_warning": e0s.warning,
        "e0_sources": {symbol(z): s for z, s in e0s.sources.items()},
        "mean_energy_per_atom": above / max(sum(len(s) for s in labelled), 1),
    }


def _distances(loader: Loader, start: Potential | None) -> Document:
    """Return the distances in the training data, including those of the potential `start`."""
    seen = TrainingDistances.of(loader.structures, loader.neighbourhoods)
    earlier = None if start is None else start.domain.distances
    return {"seen": (seen if earlier is None else seen.joined(earlier)).to_json()}


def _fingerprint(settings: TrainSettings, data: Dataset, parts: dict[str, Dataset]) -> str:
    """Return a hash of the settings, file contents and sizes of data sets, but not of paths."""
    sources = [s.sha256 for part in (data, *parts.values()) for s in part.sources]
    sizes = {name: len(part) for name, part in parts.items()}
    left_out = {"data": {"train", "valid", "test"}}
    text = to_json([FORMAT, settings.model_dump(mode="json", exclude=left_out), sources, sizes])
    return hashlib.sha256(text.encode()).hexdigest()


def use_devices(settings: TrainSettings) -> None:
    """Choose the device and the CPU cores; call this before JAX computes anything.

    Raises:
        ConfigError: JAX has started already with another choice, or has no such device.
    """
    run = settings.run
    started = jax_has_started()
    if run.threads is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if run.threads != len(cores):
            if started:
                raise ConfigError(
                    "the number of threads cannot change once JAX has started",
                    expected=f"{len(cores)} threads, as now",
                    received=str(run.threads),
                    fix="train in a fresh process, or leave run.threads out",
                )
            if run.threads > len(cores):
                raise ConfigError(
                    "more threads than cores",
                    expected=f"at most {len(cores)}",
                    received=str(run.threads),
                    fix="lower run.threads (--threads), or leave it out",
                )
            os.sched_setaffinity(0, cores[: run.threads])
    if run.device is not None:
        if not started:
            jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[run.device])
        try:
            backend = jax.default_backend()
        except (RuntimeError, AssertionError) as error:  # JAX asserts that a device exists
            raise ConfigError(
                f"JAX cannot use the device {run.device!r}",
                received=str(error) or None,
                fix="leave run.device out, or install JAX for this device",
            ) from error
        if backend != run.device:
            raise ConfigError(
                "JAX runs on another device",
                expected=run.device,
                received=backend,
                fix="train in a fresh process",
            )
