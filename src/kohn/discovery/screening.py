"""Screening: candidates from files to a ranked table, by pieces that outlive a kill.

    files ─ energies ─────────────────┬─ hulls by chemical system ─ rows ─ ranked table
            of tables, or by models    └─ d, P(stable), what each falls into

Beside the table OUT stands the folder OUT.work: its plan says what is done with which files,
`predicted-…` and `relaxed-…` are energies by portion, `rows-…` rows of the table, ordered by
chemical system so that each hull is built once. Each is written whole or not at all, and none
depends on what else is there: a run that was stopped goes on with what it has, to the same bytes.
The folder goes when the table is there.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from kohn.discovery.candidate_energies import Predictor, listed, predicted
from kohn.discovery.compatibility import (
    refuse_lacking,
    refuse_mixture,
    refuse_other_compositions,
    refuse_unseen,
)
from kohn.discovery.models import opened
from kohn.discovery.options import Options, check, refuse_probability
from kohn.discovery.ranking import Asked, Screening, assess_all, ranked, relaxed_file
from kohn.errors import InputError, KohnError
from kohn.jobs import FORMAT, WorkFolder
from kohn.progress import Progress
from kohn.records import checksum, refuse_output
from kohn.stability import ElementalReferences, element_bias, read_entries
from kohn.stability.candidates import Candidates
from kohn.stability.entries import Entries
from kohn.stability.reading_candidates import read_candidates, refuse_twice
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
    references: str | Path | None = None,
    options: Options = DEFAULT,
    progress: Progress | None = None,
) -> Screening:
    """Rank candidates by their distance to the hull, and by the probability to lie on it.

    Args:
        candidates: structures (files, or folders of them), where there are models; else tables
            or entries with energies.
        hull: files of entries, of any number of chemical systems.
        out: the table to write, .csv or .parquet. A run that was stopped goes on.
        models: model files, or folders of runs; several are an ensemble.
        references: file of energies of elements, eV/atom.
        options: see `Options`.
        progress: told of each kind of work.

    Raises:
        InputError: a file that cannot be read; elements that the hull lacks; energies computed in
            different ways; `out` is there already, or its folder is of another run.
        ConfigError: options that do not go together.
        ModelFileError: a model that cannot be opened.
    """
    told = progress or Progress()
    files, of_hull, of_models = map(_paths, (candidates, hull, models))
    files = files_of(files) if of_models else files
    target, work = Path(out), WorkFolder(Path(f"{out}.work"), "screening")
    check(files, of_models, target, options)
    plan = {
        "version": __version__,
        "format": FORMAT,
        **{
            name: [[str(p), checksum(_file_of(p))] for p in paths]
            for name, paths in (("candidates", files), ("hull", of_hull), ("models", of_models))
        },
        "references": None if references is None else checksum(Path(references)),
        "options": asdict(options),
    }
    refuse_output(target, *([relaxed_file(target)] if options.relaxation else []))
    work.refuse_held()
    if (work.path / "plan.json").exists():
        raise InputError(
            "the folder is of a screening by an older Kohn",
            where=str(work.path),
            fix="go on with that version, remove the folder, or choose another -o",
        )
    if not _begun(work):  # a plan alone, or pieces of none
        work.discard()
    with work.held():
        work.begin(plan)
        try:
            return _screened(
                files, of_hull, of_models, target, work.path, references, options, told
            )
        except KohnError:
            if not _begun(work):  # nothing was done that could be gone on with
                work.discard()
            raise


def _paths(given: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(p) for p in ([given] if isinstance(given, (str, Path)) else given)]


def _begun(work: WorkFolder) -> bool:
    """Whether the folder has pieces of a plan."""
    return work.records.is_file() and any(work.path.glob("*-*"))


def _file_of(path: Path) -> Path:
    """The file itself, or the model of a run's folder."""
    return path / "model.safetensors" if path.is_dir() else path


def _screened(
    files: list[Path],
    of_hull: list[Path],
    of_models: list[Path],
    target: Path,
    work: Path,
    references: str | Path | None,
    options: Options,
    told: Progress,
) -> Screening:
    """From files to the table; see `screen`."""
    told.work("reading the hull", 0, None)
    entries = read_entries(of_hull, formation=options.formation)
    given = None if references is None else ElementalReferences.given(references)
    hulls = SystemHulls(entries, given, tolerance=options.tolerance)

    def comparable(asked: Candidates) -> tuple[list[str], list[str]]:
        refuse_lacking(asked, hulls)
        refuse_other_compositions(asked, entries)
        return refuse_mixture(asked, entries, options)

    if of_models:
        asked, (mixed, unknown) = _by_models(files, of_models, work, options, comparable, told)
    else:
        asked = Asked(
            read_candidates(
                files, formation=options.formation, advance=told.of("reading candidates")
            )
        )
        mixed, unknown = comparable(asked.candidates)
    asked = _with_error(asked, options)
    refuse_probability(options, asked.candidates.deviations is not None)
    parts = assess_all(asked, hulls, options, work, target.suffix.lower(), "; ".join(mixed), told)
    told.work("ranking", 0, None)
    remarks = [f"Mixed, as allowed: {text}" for text in mixed]
    remarks += [*unknown, *asked.remarks, *_bias(asked.candidates, entries)]
    return ranked(asked, parts, target, work, options, remarks)


def _by_models(
    files: list[Path],
    paths: list[Path],
    work: Path,
    options: Options,
    comparable: Callable[[Candidates], tuple[list[str], list[str]]],
    told: Progress,
) -> tuple[Asked, tuple[list[str], list[str]]]:
    """Candidates with the energies of models; and what is mixed or unknown."""
    models = opened(paths)
    told.work("reading structures", 0, None)
    found = listed(files, periodic=options.periodic)
    refuse_twice(found.candidates)
    unpredicted = replace(
        found.candidates, provenance=dict.fromkeys(models.provenance, found.candidates.ids)
    )
    refuse_unseen(unpredicted, models)
    mixed = comparable(unpredicted)
    predictor = Predictor(models, found.elements, options.relaxation)
    refuse_probability(options, models.predictive.confident)
    total = len(unpredicted)
    what = "predicting" if options.relaxation is None else "relaxing"
    result = predicted(
        predictor,
        files,
        work,
        periodic=options.periodic,
        advance=told.of(what, total),
    )
    candidates = replace(unpredicted, energies=result.mean, deviations=result.std)
    remarks = list(models.remarks)
    if result.std is None and not options.error:
        remarks.append(
            "The model tells no uncertainty, so there is no P(stable): several models of different "
            "seeds do, a gaussian-process does, and --error gives all candidates one."
        )
    labelled = found.labelled if np.isfinite(found.labelled).any() else None
    asked = Asked(candidates, result.freedom, labelled, result.problems, tuple(remarks))
    return asked, mixed


def _with_error(asked: Asked, options: Options) -> Asked:
    """√((scale · σ)² + error²) in the place of σ."""
    told = asked.candidates.deviations
    if told is None and not options.error:
        return asked
    sigma = np.hypot(0.0 if told is None else options.scale * told, options.error)
    deviations = np.broadcast_to(sigma, len(asked.candidates))
    return replace(asked, candidates=replace(asked.candidates, deviations=deviations))


def _bias(candidates: Candidates, entries: Entries) -> list[str]:
    """What candidates are off by for each element, where that can be told."""
    rows = candidates.shared(entries)
    if candidates.formation or not len(rows):
        return []
    bias = element_bias(candidates.sample(rows), entries)
    return [] if bias is None or not bias.detected else [bias.sentence()]
