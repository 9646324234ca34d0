"""Train models from labelled structures (`kohn.train`), and save them in a run folder."""

from pathlib import Path
from typing import Any

import jax

from kohn.errors import CheckFailed, ConfigError, InputError, Place
from kohn.evaluation import Evaluation, evaluate
from kohn.jobs import WorkFolder
from kohn.models import FAMILIES, is_solved
from kohn.potential import Potential, PropertyModel
from kohn.progress import Progress
from kohn.records import to_json, write_atomically
from kohn.sections import merged
from kohn.structures import Dataset, Readable, read, write
from kohn.structures.writing import frame_text
from kohn.training import checkpoints
from kohn.training.gaussian_process import run_fit
from kohn.training.loop import Trainer, run
from kohn.training.preparation import Prepared, prepare, use_devices
from kohn.training.settings import TrainSettings, parse, read_settings, to_yaml
from kohn.typing import Document

SETTINGS = "settings.yaml"
CHECK = "check.json"
STRUCTURES = "structures.extxyz"
"""Name of the file to which training structures given in memory are written."""


def train(
    source: "TrainSettings | Readable",
    *,
    out: str | Path,
    resume: bool = False,
    progress: Progress | None = None,
    **sections: Any,
) -> Any:
    """Train a potential, or with other `targets` a model of properties.

    Args:
        source: settings; or a YAML file of settings; or labelled structures: anything that
            `kohn.read` takes. Structures in memory are first written to a file in `out`.
        out: run folder, which is made. It will contain the settings, the records, the
            checkpoint, and `model.safetensors`.
        resume: continue from the checkpoint in `out`, with the result of an unbroken run.
        progress: functions to call at each step, and with the record of each validation.
        sections: settings that override those of `source`, by section:
            ``run={"steps": 1000}``, ``data={"test": ["test.extxyz"]}``.

    Returns:
        The `Potential`, or `PropertyModel`, with the lowest validation loss.

    Raises:
        ConfigError: settings are not valid; or the folder exists, without `resume`.
        InputError, CheckFailed: the data cannot be learned from; raised before any computation.
        TrainingError: training diverges; or the disk is full, and `resume` continues from there.
    """
    work = WorkFolder(Path(out), "training")
    if _in_memory(source):
        return _train_in_memory(source, work, resume, progress, sections)
    settings = settings_from(source, sections)
    use_devices(settings)
    _refuse_unusable_folder(work, resume)
    if resume:
        with work.held():
            return _run(settings, prepare(settings), work, progress or Progress(), resume=True)
    prepared = prepare(settings)  # before the folder is made: bad data leave none behind
    with work.held():
        _refuse_unusable_folder(work, resume, mine=True)  # another process may have come first
        write_atomically(work.path / SETTINGS, to_yaml(settings).encode())
        return _run(settings, prepared, work, progress or Progress(), resume=False)


def _in_memory(source: Any) -> bool:
    """Return whether the source is structures in memory, not settings or paths."""
    if isinstance(source, (TrainSettings, str, Path)):
        return False
    paths = isinstance(source, (list, tuple)) and all(isinstance(x, (str, Path)) for x in source)
    return not paths


def _train_in_memory(
    source: Any, work: WorkFolder, resume: bool, progress: Progress | None, sections: Document
) -> Any:
    """Write structures in memory to a file in the run folder, and train on it, so that the run can
    be resumed and documents its data."""
    folder, file = work.path, work.path / STRUCTURES
    if resume:
        if file.is_file() and file.read_text() != "".join(map(frame_text, read(source))):
            raise ConfigError(
                "the structures are not those that the run began with",
                where=Place(file=file),
                fix=f"resume with {file}, or choose another folder",
            )
        return train(file, out=folder, resume=True, progress=progress, **sections)
    _refuse_unusable_folder(work, resume)
    work.make()
    try:
        write(read(source), file)
        return train(file, out=folder, progress=progress, **sections)
    except (InputError, CheckFailed, ConfigError):
        if not (folder / SETTINGS).exists():  # bad data leave no folder behind
            file.unlink(missing_ok=True)
            folder.rmdir()
        raise


def _run(
    settings: TrainSettings, prepared: Prepared, work: WorkFolder, meter: Progress, *, resume: bool
) -> Any:
    """Train the prepared model, and evaluate the result."""
    if is_solved(FAMILIES[settings.model.family][1]):
        _write_start(work, prepared)
        potential = run_fit(settings, prepared, work, meter)
    else:
        trainer = Trainer(settings, prepared, work, meter)
        if not (resume and checkpoints.exists(work.path)):
            length = {"epochs": trainer.epochs, "steps": trainer.steps}
            _write_start(work, prepared, **length)
        potential = run(trainer, resume=resume)
    _evaluate(settings, prepared, work.path, potential)
    return potential


def settings_from(source: Any, sections: Document) -> TrainSettings:
    """Return settings from a source that `train` accepts, with values replaced by `sections`."""
    if isinstance(source, TrainSettings):
        document = source.model_dump(mode="json")
    elif isinstance(source, (str, Path)) and _is_yaml(source):
        document = read_settings(source).model_dump(mode="json")
    else:
        files = [source] if isinstance(source, (str, Path)) else list(source)
        for file in filter(_is_yaml, files):
            raise ConfigError(
                "a configuration is among files of structures",
                where=Place(file=file),
                expected="one YAML file alone, or structures alone",
                fix="name the structures in the configuration, under data.train",
            )
        document = {"data": {"train": [str(f) for f in files]}}
    return parse(merged(document, sections))


def _is_yaml(path: str | Path) -> bool:
    return Path(path).suffix.lower() in (".yaml", ".yml")


def _refuse_unusable_folder(work: WorkFolder, resume: bool, *, mine: bool = False) -> None:
    """Raise ConfigError if the run cannot use the folder.

    Args:
        mine: whether this process has locked the folder.
    """
    folder = work.path
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            "the run folder is a file", where=Place(file=folder), fix="choose another --out"
        )
    if not mine:
        work.refuse_held()
    if resume:
        if not (folder / SETTINGS).is_file():
            raise ConfigError(
                "there is no run to resume", where=Place(file=folder), fix="leave out --resume"
            )
        return
    if work.has_other_files(STRUCTURES):
        raise ConfigError(
            "the run folder exists already",
            where=Place(file=folder),
            fix="choose another --out, add --resume to go on with it, or remove it",
        )


def _write_start(work: WorkFolder, prepared: Prepared, **length: int) -> None:
    write_atomically(work.path / CHECK, to_json(prepared.report.to_json(), indent=1).encode())
    loader = prepared.train
    waste = loader.waste()
    work.records.unlink(missing_ok=True)  # from a run killed before its first checkpoint
    work.append(
        {
            "kind": "start",
            **length,
            "parameters": prepared.potential.n_parameters,
            "train_structures": len(loader.structures),
            "valid_structures": len(prepared.valid.structures),
            "shapes": [list(s) for s in (*loader.shapes, *prepared.valid.shapes)],
            "padding_per_edge": waste.ratio,
            "average_neighbours": loader.average_neighbours,
            "device": str(jax.devices()[0]),
            "provenance": prepared.potential.provenance,
            "e0s": getattr(prepared.potential, "e0s", {}),
        },
    )


def _evaluate(
    run: TrainSettings, prepared: Prepared, folder: Path, potential: Potential | PropertyModel
) -> None:
    """Evaluate the final potential on the validation set, and once on the test files."""
    settings = run.data
    sets = {"valid": Dataset(tuple(prepared.valid.structures))}
    if settings.test:
        sets["test"] = read(
            settings.test,
            keys=settings.keys or None,
            periodic=settings.periodic,
            energy=settings.energy,
            labels="finite",
        )
    for name, data in sets.items():
        write_evaluation(folder, evaluate(potential, data, name=name))


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write an evaluation to the run folder, for the report."""
    path = folder / f"evaluation-{evaluation.name}.json"
    write_atomically(path, (to_json(evaluation.to_json(frames=True)) + "\n").encode())
