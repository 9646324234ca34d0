"""Screening: candidates from files to a ranked table, by pieces that outlive a kill.

    files ─ energies ─────────────────┬─ hulls by chemical system ─ rows ─ ranked table
            of tables, or by models    └─ d, P(stable), what each falls into

Beside the table OUT stands the folder OUT.work: `plan.json` says what is done with which files,
`predicted-…` and `relaxed-…` are energies by portion, `judged-…` rows of the table, ordered by
chemical system so that each hull is built once. Each is written whole or not at all, and none
depends on what else is there: a run that was stopped goes on with what it has, to the same bytes.
The folder goes when the table is there.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

import kohn
from kohn.discovery.judging import TEXT, Uncertainty, judged
from kohn.discovery.models import Models, opened
from kohn.discovery.plan import begin, checksum
from kohn.discovery.predicting import Predictor, Relaxation, listed, predicted
from kohn.discovery.prior import prior_of
from kohn.errors import ConfigError, InputError
from kohn.records import replacing
from kohn.stability import ElementalReferences, element_bias, read_entries
from kohn.stability.candidates import Candidates, read_candidates, refuse_twice
from kohn.stability.entries import Entries
from kohn.stability.metrics import calibration, stability_metrics
from kohn.stability.provenance import conflicts, groups, notes, refuse_mixed
from kohn.stability.systems import SystemHulls
from kohn.stability.tables import SUFFIXES, is_table, pyarrow, reorder_tables, write_table
from kohn.structures.elements import symbol
from kohn.typing import Float, Int

ROWS = 50_000
"""Candidates that are judged between two records."""
KEYS = {"distance", "distance_std", "probability_stable", "in_hull", "distance_labelled"}
"""Columns that are kept beside the rows, for ranking and summary."""
Monitor = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it more is done, and of how much."""


@dataclass(frozen=True)
class Options:
    """How candidates are judged.

    Attributes:
        formation: energies of tables are formation energies, eV/atom.
        allow_mixed: do not refuse energies that were computed in different ways.
        tolerance: stable within this distance, eV/atom.
        scale: factor on the σ that models or tables tell.
        error: σ to be added to that of all candidates, independent, eV/atom.
        hull_error: σ of each entry of the hull, independent, eV/atom.
        prior: P(stable) knows how often the hull's own compounds were stable.
        samples: joint samples where the hull is uncertain.
        seed: of these.
        by: what to rank by; P(stable) where there is one.
        relaxation: of structures before their energy is taken; None for as they are.
        periodic: flags of all structures, whatever the files say.
    """

    formation: bool = False
    allow_mixed: bool = False
    tolerance: float = 1e-8
    scale: float = 1.0
    error: float = 0.0
    hull_error: float = 0.0
    prior: bool = False
    samples: int = 1000
    seed: int = 0
    by: Literal["probability", "distance"] | None = None
    relaxation: Relaxation | None = None
    periodic: bool | None = None


@dataclass(frozen=True, eq=False)
class Screening:
    """What came of it.

    Attributes:
        file: the ranked table.
        structures: the relaxed structures, if any.
        ranked_by: distance, or probability_stable and then distance.
        candidates: rows.
        systems: chemical systems.
        stable: candidates within the tolerance of the hull, or below it.
        expected_stable: Σ P(stable); None without uncertainty.
        in_hull: candidates that are entries of the hull, which were left out of their own hull.
        failed: candidates without energy.
        remarks: what users should know.
        metrics: of predicted distances against those by labels of the structures; None without.
        head: the first rows.
    """

    file: Path
    structures: Path | None
    ranked_by: str
    candidates: int
    systems: int
    stable: int
    expected_stable: float | None
    in_hull: int
    failed: int
    remarks: list[str]
    metrics: dict[str, Any] | None
    head: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Candidates with all that is known of their energies.

    Attributes:
        candidates: with energies.
        freedom: ν of their errors.
        labelled: energies by labels, eV/atom, [M]; None where there are none.
        problems: why there is no energy, [M]; None for tables.
        remarks: of models.
    """

    candidates: Candidates
    freedom: float = np.inf
    labelled: Float[np.ndarray, " M"] | None = None
    problems: Sequence[str] | None = None
    remarks: tuple[str, ...] = ()


def screen(
    candidates: Sequence[str | Path],
    hull: Sequence[str | Path],
    out: str | Path,
    *,
    models: Sequence[str | Path] = (),
    references: str | Path | None = None,
    options: Options = Options(),
    monitor: Monitor | None = None,
) -> Screening:
    """Rank candidates by their distance to the hull, and by the probability to lie on it.

    Args:
        candidates: structures, where there are models; else tables or entries with energies.
        hull: files of entries, of any number of chemical systems.
        out: the table to write, .csv or .parquet. A run that was stopped goes on.
        models: model files, or folders of runs; several are an ensemble.
        references: file of energies of elements, eV/atom.
        options: see `Options`.
        monitor: told of progress.

    Raises:
        InputError: a file that cannot be read; elements that the hull lacks; energies computed in
            different ways; `out` is there already, or its folder is of another run.
        ConfigError: options that do not go together.
        ModelFileError: a model that cannot be opened.
    """
    tell: Monitor = monitor or (lambda what, done, total: None)
    files, of_hull, of_models = ([Path(p) for p in ps] for ps in (candidates, hull, models))
    target, work = Path(out), Path(f"{out}.work")
    _check(files, of_models, target, options)
    plan = {
        "version": kohn.__version__,
        **{
            name: [[str(p), checksum(p)] for p in paths]
            for name, paths in (("candidates", files), ("hull", of_hull), ("models", of_models))
        },
        "references": None if references is None else checksum(Path(references)),
        "options": asdict(options),
    }
    begin(target, work, plan)

    tell("reading the hull", 0, None)
    entries = read_entries(of_hull, formation=options.formation)
    given = None if references is None else ElementalReferences.given(references)
    hulls = SystemHulls(entries, given, tolerance=options.tolerance)

    def comparable(asked: Candidates) -> tuple[list[str], list[str]]:
        _refuse_lacking(asked, hulls)
        return _mixed(asked, entries, options)

    if of_models:
        asked, (mixed, unknown) = _by_models(files, of_models, work, options, comparable, tell)
    else:
        asked = _Asked(read_candidates(files, formation=options.formation, advance=_rows(tell)))
        mixed, unknown = comparable(asked.candidates)
    asked = _with_error(asked, options)
    _refuse_probability_without_uncertainty(asked, options)
    parts = _judge(asked, hulls, options, work, target.suffix.lower(), "; ".join(mixed), tell)
    tell("ranking", 0, None)
    remarks = [f"Mixed, as allowed: {text}" for text in mixed]
    remarks += [*unknown, *asked.remarks, *_bias(asked.candidates, entries)]
    return _ranked(asked, parts, target, work, options, remarks)


# Before anything is computed


def _check(files: list[Path], models: list[Path], target: Path, options: Options) -> None:
    """Raises ConfigError or InputError for what does not go together."""
    if target.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            "the output is neither CSV nor Parquet",
            expected="a name that ends in .csv or .parquet",
            received=str(target),
        )
    if target.suffix.lower() == ".parquet":
        pyarrow("pyarrow.parquet")
    tables = [f for f in files if is_table(f)]
    if models and tables:
        raise ConfigError(
            "a model needs structures, and these have energies instead",
            expected="structures with a model, or tables without one",
            received=", ".join(map(str, tables[:3])),
        )
    if options.relaxation is not None and not models:
        raise ConfigError("only a model can relax structures", fix="name one, or leave --relax out")
    if models and options.formation:
        raise ConfigError(
            "a model predicts total energies, and a hull of formation energies has none",
            fix="give a hull of total energies",
        )
    bad = {
        k: v for k in ("error", "hull_error", "tolerance") if not (v := getattr(options, k)) >= 0
    }
    if bad or options.samples < 1 or options.seed < 0:
        raise ConfigError("errors, samples and seed must not be negative", received=str(bad))


def _refuse_lacking(candidates: Candidates, hulls: SystemHulls) -> None:
    """Raises InputError where candidates have elements that the hull lacks."""
    _refuse_elements(
        candidates,
        hulls.lacking(candidates.compositions.systems),
        "that the hull lacks",
        expected="an entry, or a reference energy, of each element by itself",
        fix="add entries of those elements and their compounds to the hull, or leave these out",
    )


def _refuse_unseen(candidates: Candidates, models: Models) -> None:
    """Raises InputError where candidates have elements that a model has not seen."""
    for potential in models.potentials:
        seen = {symbol(z) for z in potential.elements}
        _refuse_elements(
            candidates,
            sorted({e for s in candidates.compositions.systems for e in s} - seen),
            "that the model has not seen",
            expected=f"only {', '.join(sorted(seen))}",
            fix="leave these out, or train a model that knows the elements",
        )


def _refuse_elements(
    candidates: Candidates, elements: Sequence[str], which: str, *, expected: str, fix: str
) -> None:
    """Raises InputError naming candidates with these elements, if there are any."""
    if not elements:
        return
    system = candidates.compositions.system[candidates.which]
    bad = np.array([not set(s).isdisjoint(elements) for s in candidates.compositions.systems])
    rows = np.flatnonzero(bad[system])
    raise InputError(
        f"{len(rows)} of {len(candidates)} candidates have elements {which}: {', '.join(elements)}",
        where=candidates.place(int(rows[0])),
        expected=expected,
        received=", ".join(
            f"{candidates.ids[i]} ({candidates.formula(i)})" for i in rows[:3].tolist()
        ),
        fix=fix,
    )


def _mixed(
    candidates: Candidates, entries: Entries, options: Options
) -> tuple[list[str], list[str]]:
    """Conflicts between hull and candidates, where they are allowed, and what is unknown.

    Raises:
        InputError: conflicts that are not allowed.
    """
    both = {p: list(ids) for p, ids in groups(entries.ids, entries.provenance).items()}
    for p, ids in candidates.provenance.items():
        both[p] = [*both.get(p, ()), *ids]
    if not options.allow_mixed:
        refuse_mixed(both)
    return conflicts(both), notes(both)


# Energies


def _rows(tell: Monitor) -> Callable[[int], None]:
    return lambda n: tell("reading candidates", n, None)


def _by_models(
    files: list[Path],
    paths: list[Path],
    work: Path,
    options: Options,
    comparable: Callable[[Candidates], tuple[list[str], list[str]]],
    tell: Monitor,
) -> tuple[_Asked, tuple[list[str], list[str]]]:
    """Candidates with the energies of models; and what is mixed or unknown."""
    models = opened(paths)
    tell("reading structures", 0, None)
    found = listed(files, periodic=options.periodic)
    refuse_twice(found.candidates)
    unpredicted = replace(
        found.candidates, provenance=dict.fromkeys(models.provenance, found.candidates.ids)
    )
    _refuse_unseen(unpredicted, models)
    mixed = comparable(unpredicted)
    predictor = Predictor(models.potentials, found.elements, options.relaxation)
    total = len(unpredicted)
    what = "predicting" if options.relaxation is None else "relaxing"
    result = predicted(
        predictor,
        files,
        work,
        periodic=options.periodic,
        advance=lambda n: tell(what, n, total),
    )
    candidates = replace(unpredicted, energies=result.mean, deviations=result.std)
    remarks = list(models.remarks)
    if result.std is None and not options.error:
        remarks.append(
            "The model tells no uncertainty, so there is no P(stable): several models of different "
            "seeds do, a gaussian-process does, and --error gives all candidates one."
        )
    labelled = found.labelled if np.isfinite(found.labelled).any() else None
    asked = _Asked(candidates, result.freedom, labelled, result.problems, tuple(remarks))
    return asked, mixed


def _with_error(asked: _Asked, options: Options) -> _Asked:
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


def _refuse_probability_without_uncertainty(asked: _Asked, options: Options) -> None:
    """Raises ConfigError."""
    probable = asked.candidates.deviations is not None or options.hull_error > 0
    if options.by == "probability" and not probable:
        raise ConfigError(
            "there is no uncertainty, and so no probability to rank by",
            fix="give --error, several models, or energy_std in the table; or rank by distance",
        )


# Rows of the table


def _judge(
    asked: _Asked,
    hulls: SystemHulls,
    options: Options,
    work: Path,
    suffix: str,
    warning: str,
    tell: Monitor,
) -> list[Path]:
    """The rows of all candidates by chemical system, in files; those that are there stay."""
    uncertainty = Uncertainty(
        asked.freedom,
        options.hull_error,
        options.samples,
        options.seed,
        prior_of(hulls) if options.prior else None,
    )
    parts = []
    for k, block in enumerate(_blocks(asked.candidates)):
        part = work / f"judged-{k:06d}{suffix}"
        rows = sum(len(r) for _, r in block)
        if not part.is_file():
            tables = [_table(asked, hulls, system, r, uncertainty) for system, r in block]
            columns = {n: _joined([t[n] for t in tables]) for n in tables[0]}
            if warning:  # whatever comes of mixed energies says so itself
                columns["warning"] = [f"mixed: {warning}"] * rows
            with replacing(part.with_suffix(".npz")) as stream:
                np.savez(
                    stream,
                    allow_pickle=False,
                    **{n: columns[n] for n in sorted(KEYS & set(columns))},
                )
            write_table(part, columns)
        parts.append(part)
        tell("judging", rows, len(asked.candidates))
    return parts


def _table(
    asked: _Asked,
    hulls: SystemHulls,
    system: tuple[str, ...],
    rows: Int[np.ndarray, " m"],
    uncertainty: Uncertainty,
) -> dict[str, Any]:
    """Columns of some candidates of one chemical system."""
    candidates = asked.candidates
    formulas = [candidates.formula(i) for i in rows.tolist()]
    sigma = None if candidates.deviations is None else candidates.deviations[rows]
    entries = candidates.entries(rows)
    labelled = None if asked.labelled is None else asked.labelled[rows]
    columns = judged(hulls.of(system), entries, formulas, sigma, uncertainty, labelled)
    if asked.problems is not None:
        columns["problem"] = [asked.problems[i] for i in rows.tolist()]
    return columns


def _blocks(
    candidates: Candidates,
) -> Iterator[list[tuple[tuple[str, ...], Int[np.ndarray, " m"]]]]:
    """Rows by chemical system, `ROWS` at a time."""
    block, room = [], ROWS
    for system, rows in candidates.by_system():
        while len(rows):
            block.append((system, rows[:room]))
            rows, room = rows[room:], room - len(rows[:room])
            if room == 0:
                yield block
                block, room = [], ROWS
    if block:
        yield block


def _joined(columns: Sequence[Any]) -> Any:
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    return [value for column in columns for value in column]


# The result


def _ranked(
    asked: _Asked,
    parts: Sequence[Path],
    target: Path,
    work: Path,
    options: Options,
    remarks: list[str],
) -> Screening:
    """Sort the rows, write the table, and remove the records."""
    columns = _columns(parts)
    d, p = columns["distance"], columns.get("probability_stable")
    by_probability = p is not None and options.by != "distance"
    order = np.lexsort((d, -p) if by_probability and p is not None else (d,))  # NaN is last
    done = work / f"ranked{target.suffix.lower()}"
    head = reorder_tables(parts, order, done, text=TEXT)
    relaxed = _relaxed(work, target) if options.relaxation is not None else None
    done.replace(target)
    shutil.rmtree(work)
    in_hull, failed = int(columns["in_hull"].sum()), int(np.isnan(d).sum())
    if in_hull:
        remarks.append(
            f"{in_hull} of {len(d)} candidates are entries of the hull too, and were left out of "
            "their own hull."
        )
    if failed:
        remarks.append(f"{failed} of {len(d)} candidates have no energy; the table says why.")
    return Screening(
        file=target,
        structures=relaxed,
        ranked_by="probability_stable" if by_probability else "distance",
        candidates=len(d),
        systems=len(np.unique(asked.candidates.compositions.system[asked.candidates.which])),
        stable=int((d <= options.tolerance).sum()),
        expected_stable=None if p is None else float(np.nansum(p)),
        in_hull=in_hull,
        failed=failed,
        remarks=remarks,
        metrics=_metrics(columns, options.tolerance),
        head=head,
    )


def _relaxed(work: Path, target: Path) -> Path:
    """All relaxed structures in one file beside the table."""
    file = target.with_suffix(".relaxed.extxyz")
    with replacing(file) as stream:
        for part in sorted(work.glob("relaxed-*.extxyz")):
            stream.write(part.read_bytes())
    return file


def _columns(parts: Sequence[Path]) -> dict[str, np.ndarray]:
    """What was kept beside the rows, of all parts."""
    kept = [dict(np.load(part.with_suffix(".npz"))) for part in parts]
    return {name: np.concatenate([k[name] for k in kept]) for name in kept[0]}


def _metrics(columns: Mapping[str, np.ndarray], tolerance: float) -> dict[str, Any] | None:
    """Predicted distances against those by labels, and how far P(stable) can be trusted."""
    truth = columns.get("distance_labelled")
    if truth is None:
        return None
    known = np.isfinite(truth)
    d, p = columns["distance"], columns.get("probability_stable")
    metrics = asdict(stability_metrics(truth[known], d[known], threshold=tolerance))
    metrics["compared"] = int(known.sum())
    if p is not None and (told := known & np.isfinite(p)).any():
        z2 = ((truth - d)[told] / columns["distance_std"][told]) ** 2
        metrics["mean_z2"] = float(z2[np.isfinite(z2)].mean()) if np.isfinite(z2).any() else None
        metrics["calibration"] = asdict(calibration(p[told], truth[told] <= tolerance))
    return metrics
