"""Screen candidates from files into a ranked table, in parts that can be resumed after a kill.

    files ─ energies ─────────────────┬─ hulls by chemical system ─ rows ─ ranked table
            from tables or models      └─ distance d to the hull, P(stable), decomposition

The work folder OUT.work is next to the table OUT. Its plan records the files and the options,
`predicted-…` and `relaxed-…` hold energies and relaxed structures by portion, and `rows-…` holds
rows of the table, ordered by chemical system so that each hull is built once. Each file is written
whole or not at all, and its bytes do not depend on the other files: a screening that was stopped
continues and gives the same table. The work folder is removed when the table is complete.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from kohn.discovery.candidate_energies import Predictor, predict_files, read_contents
from kohn.discovery.compatibility import (
    check_provenance,
    refuse_ids_of_other_systems,
    refuse_missing_elements,
    refuse_unknown_elements,
)
from kohn.discovery.models import open_models
from kohn.discovery.options import Options, check_options, refuse_missing_uncertainty
from kohn.discovery.ranking import (
    EvaluatedCandidates,
    Screening,
    assess_all,
    relaxed_file,
    write_ranking,
)
from kohn.errors import InputError, KohnError
from kohn.jobs import FORMAT, WorkFolder
from kohn.progress import Progress
from kohn.records import checksum, refuse_output
from kohn.stability import ElementalReferences, element_bias, read_entries
from kohn.stability.candidates import Candidates
from kohn.stability.entries import Entries
from kohn.stability.reading_candidates import read_candidates, refuse_bad_ids
from kohn.stability.systems import SystemHulls
from kohn.structures import files_of
from kohn.version import __version__

DEFAULT = Options()


def screen(
    candidates: str | Path | Sequence[str | Path],
    hull: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    models: str | Path | Sequence[str | Path] = (),
    reference_energies: str | Path | None = None,
    options: Options = DEFAULT,
    progress: Progress | None = None,
) -> Screening:
    """Rank candidates by the probability of being stable if known, else by distance to the hull.

    Args:
        candidates: files or folders of structures if `models` are given, else files of tables or
            entries with energies.
        hull: files of entries, of any number of chemical systems.
        out: the table to write, .csv or .parquet. A screening that was stopped is resumed.
        models: model files, or folders of runs; several models form an ensemble.
        reference_energies: file of the energies of the elements, eV/atom; None to use the entries.
        options: options of the screening.
        progress: called to report how each kind of work proceeds.

    Raises:
        InputError: a file that cannot be read; elements that the hull lacks; energies computed in
            different ways; `out` exists already, or its work folder belongs to another run.
        ConfigError: options that cannot be combined.
        ModelFileError: a model that cannot be opened.
    """
    progress = progress or Progress()
    files, hull_files, model_files = map(_paths, (candidates, hull, models))
    files = files_of(files) if model_files else files
    target, work = Path(out), WorkFolder(Path(f"{out}.work"), "screening")
    check_options(files, model_files, target, options)
    plan = {
        "version": __version__,
        "format": FORMAT,
        **{
            key: [[str(p), checksum(_file_to_record(p))] for p in paths]
            for key, paths in (("candidates", files), ("hull", hull_files), ("models", model_files))
        },
        "references": None if reference_energies is None else checksum(Path(reference_energies)),
        "options": asdict(options),
    }
    refuse_output(target, *([relaxed_file(target)] if options.relaxation else []))
    work.refuse_held()
    if (work.path / "plan.json").exists():
        raise InputError(
            "the folder is of a screening by an older version of Kohn",
            where=str(work.path),
            fix="continue with that version, remove the folder, or choose another -o",
        )
    if not _can_resume(work):  # a plan without parts, or parts without a plan
        work.discard()
    with work.held():
        work.begin(plan)
        try:
            return _screen_files(
                files,
                hull_files,
                model_files,
                target,
                work.path,
                reference_energies,
                options,
                progress,
            )
        except KohnError:
            if not _can_resume(work):  # there is nothing to resume
                work.discard()
            raise


def _paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(p) for p in ([paths] if isinstance(paths, (str, Path)) else paths)]


def _can_resume(work: WorkFolder) -> bool:
    """Return whether the work folder has a plan and at least one part of the results."""
    return work.records.is_file() and any(work.path.glob("*-*"))


def _file_to_record(path: Path) -> Path:
    """Return the model file if `path` is the folder of a training run, else `path` itself."""
    return path / "model.safetensors" if path.is_dir() else path


def _screen_files(
    files: list[Path],
    hull_files: list[Path],
    model_files: list[Path],
    target: Path,
    work: Path,
    reference_energies: str | Path | None,
    options: Options,
    progress: Progress,
) -> Screening:
    """Read the files, assess the candidates and write the table; see `screen`."""
    progress.work("reading the hull", 0, None)
    entries = read_entries(hull_files, formation=options.formation)
    given = None if reference_energies is None else ElementalReferences.given(reference_energies)
    hulls = SystemHulls(entries, given, tolerance=options.tolerance)

    def compare(candidates: Candidates) -> tuple[list[str], list[str]]:
        refuse_missing_elements(candidates, hulls)
        refuse_ids_of_other_systems(candidates, entries)
        return check_provenance(candidates, entries, options)

    if model_files:
        evaluated, (mixed, unknown) = _predict_candidates(
            files, model_files, work, options, compare, progress
        )
    else:
        evaluated = EvaluatedCandidates(
            read_candidates(
                files, formation=options.formation, advance=progress.of("reading candidates")
            )
        )
        mixed, unknown = compare(evaluated.candidates)
    evaluated = _with_added_error(evaluated, options)
    refuse_missing_uncertainty(options, evaluated.candidates.deviations is not None)
    suffix, warning = target.suffix.lower(), "; ".join(mixed)
    parts = assess_all(evaluated, hulls, options, work, suffix, warning, progress)
    progress.work("ranking", 0, None)
    remarks = [f"Mixed, as allowed: {text}" for text in mixed]
    remarks += [*unknown, *evaluated.remarks, *_bias_remarks(evaluated.candidates, entries)]
    return write_ranking(evaluated, parts, target, work, options, remarks)


def _predict_candidates(
    files: list[Path],
    paths: list[Path],
    work: Path,
    options: Options,
    compare: Callable[[Candidates], tuple[list[str], list[str]]],
    progress: Progress,
) -> tuple[EvaluatedCandidates, tuple[list[str], list[str]]]:
    """Return candidates with predicted energies, and notes on mixed and unknown provenance."""
    models = open_models(paths)
    progress.work("reading structures", 0, None)
    contents = read_contents(files, periodic=options.periodic)
    refuse_bad_ids(contents.candidates)
    unpredicted = replace(
        contents.candidates, provenance=dict.fromkeys(models.provenance, contents.candidates.ids)
    )
    refuse_unknown_elements(unpredicted, models)
    mixed_and_unknown = compare(unpredicted)
    predictor = Predictor(models, contents.elements, options.relaxation)
    refuse_missing_uncertainty(options, models.predictive.confident)
    total = len(unpredicted)
    task = "predicting" if options.relaxation is None else "relaxing"
    result = predict_files(
        predictor,
        files,
        work,
        periodic=options.periodic,
        advance=progress.of(task, total),
    )
    candidates = replace(unpredicted, energies=result.mean, deviations=result.std)
    remarks = list(models.remarks)
    if result.std is None and not options.error:
        remarks.append(
            "The model gives no uncertainty, so P(stable) is not known. Use several models trained "
            "with different seeds, a gaussian-process, or --error for one σ of all candidates."
        )
    labelled = contents.labelled if np.isfinite(contents.labelled).any() else None
    evaluated = EvaluatedCandidates(
        candidates, result.freedom, labelled, result.problems, tuple(remarks)
    )
    return evaluated, mixed_and_unknown


def _with_added_error(evaluated: EvaluatedCandidates, options: Options) -> EvaluatedCandidates:
    """Replace σ of each candidate by √((scale · σ)² + error²), with the options scale and error."""
    sigma = evaluated.candidates.deviations
    if sigma is None and not options.error:
        return evaluated
    sigma = np.hypot(0.0 if sigma is None else options.scale * sigma, options.error)
    sigma = np.broadcast_to(sigma, len(evaluated.candidates))
    return replace(evaluated, candidates=replace(evaluated.candidates, deviations=sigma))


def _bias_remarks(candidates: Candidates, entries: Entries) -> list[str]:
    """Return a remark on offsets of the candidates' energies per element; [] if not detected."""
    rows = candidates.shared(entries)
    if candidates.formation or not len(rows):
        return []
    bias = element_bias(candidates.sample(rows), entries)
    return [] if bias is None or not bias.detected else [bias.sentence()]
