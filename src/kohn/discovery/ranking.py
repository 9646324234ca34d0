"""Assess and rank all candidates, in parts, so that a screening can be resumed after a kill."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kohn.calibration import calibration
from kohn.discovery.options import Options
from kohn.progress import Progress
from kohn.records import replacing
from kohn.stability.assessment import TEXT, Uncertainty, assess
from kohn.stability.candidates import Candidates
from kohn.stability.metrics import stability_metrics
from kohn.stability.phase_diagram import refuse_formation_energies_of_candidates
from kohn.stability.prior import prior_of
from kohn.stability.systems import SystemHulls
from kohn.tables import reorder_tables, write_table
from kohn.typing import Document, Float, Int

ROWS = 50_000
"""Number of candidates in a part of the table; each part is saved when it is complete."""
KEYS = {"distance", "distance_std", "probability_stable", "in_hull", "distance_labelled"}
"""Columns that each part also saves as arrays, for the ranking and the summary."""


@dataclass(frozen=True, eq=False)
class Screening:
    """The result of a screening.

    Attributes:
        file: the ranked table.
        structures: the file of relaxed structures; None if nothing was relaxed.
        ranked_by: the column that sorts the rows: distance, or probability_stable (ties: distance).
        candidates: number of candidates, one for each row of the table.
        systems: number of chemical systems.
        stable: number of candidates whose distance to the hull is at most the tolerance.
        expected_stable: expected number of stable candidates, Σ P(stable); None if unknown.
        in_hull: number of candidates that are also hull entries, compared with the other entries.
        failed: number of candidates whose energy could not be computed.
        remarks: remarks on the screening, shown to the user.
        metrics: errors of distances against those from labels; None if there are no labels.
        head: the first rows of the table.
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
    metrics: Document | None
    head: list[Document] = field(repr=False)


@dataclass(frozen=True, eq=False)
class EvaluatedCandidates:
    """M candidates with their energies, and the errors and labels of these energies.

    Attributes:
        candidates: the candidates, with energies.
        freedom: degrees of freedom ν of the distribution of the energies' errors.
        labelled: labelled energies, eV/atom, [M]; None if no candidate has a label.
        problems: why a candidate has no energy or no relaxed minimum, [M]; None for tables.
        remarks: remarks on the models, shown to the user.
    """

    candidates: Candidates
    freedom: float = np.inf
    labelled: Float[np.ndarray, " M"] | None = None
    problems: Sequence[str] | None = None
    remarks: tuple[str, ...] = ()


def assess_all(
    evaluated: EvaluatedCandidates,
    hulls: SystemHulls,
    options: Options,
    work: Path,
    suffix: str,
    warning: str,
    progress: Progress,
) -> list[Path]:
    """Assess all candidates, write their rows to files unless these exist, and return the files."""
    uncertainty = Uncertainty(
        evaluated.freedom,
        options.hull_error,
        options.samples,
        options.seed,
        prior_of(hulls) if options.prior else None,
    )
    parts = []
    for k, block in enumerate(_blocks(evaluated.candidates)):
        part = work / f"rows-{k:06d}{suffix}"
        rows = sum(len(r) for _, r in block)
        if not part.is_file():
            tables = [_table(evaluated, hulls, system, r, uncertainty) for system, r in block]
            columns = {n: _join([t[n] for t in tables]) for n in tables[0]}
            if k == 0:
                _refuse_formation_energies(evaluated.candidates, columns, block)
            if warning:  # each row that is based on mixed energies says so
                columns["warning"] = [f"mixed: {warning}"] * rows
            with replacing(part.with_suffix(".npz")) as stream:
                np.savez(
                    stream,
                    allow_pickle=False,
                    **{n: columns[n] for n in sorted(KEYS & set(columns))},
                )
            write_table(part, columns)
        parts.append(part)
        progress.work("assessing", rows, len(evaluated.candidates))
    return parts


def _refuse_formation_energies(
    candidates: Candidates, columns: Document, block: Sequence[tuple[Any, np.ndarray]]
) -> None:
    """Raise InputError if the first candidates seem to have formation energies, not totals."""
    if candidates.formation or columns["in_hull"].any():
        return
    rows = np.concatenate([rows for _, rows in block])
    d = columns["distance"]
    sound = np.isfinite(d)
    refuse_formation_energies_of_candidates(
        d[sound],
        columns["energy_per_atom"][sound],
        columns["formation_energy_per_atom"][sound],
        candidates.compositions.atoms[candidates.which[rows]][sound],
        candidates.place(int(rows[0])),
    )


def _table(
    evaluated: EvaluatedCandidates,
    hulls: SystemHulls,
    system: tuple[str, ...],
    rows: Int[np.ndarray, " m"],
    uncertainty: Uncertainty,
) -> Document:
    """Return the table's columns for the candidates `rows`, all of one chemical system."""
    candidates = evaluated.candidates
    formulas = [candidates.formula(i) for i in rows.tolist()]
    sigma = None if candidates.deviations is None else candidates.deviations[rows]
    entries = candidates.entries(rows)
    labelled = None if evaluated.labelled is None else evaluated.labelled[rows]
    columns = assess(hulls.of(system), entries, formulas, sigma, uncertainty, labelled)
    if evaluated.problems is not None:
        columns["problem"] = [evaluated.problems[i] for i in rows.tolist()]
    return columns


def _blocks(
    candidates: Candidates,
) -> Iterator[list[tuple[tuple[str, ...], Int[np.ndarray, " m"]]]]:
    """Yield blocks of at most `ROWS` candidates, as lists of chemical systems and their rows."""
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


def _join(columns: Sequence[Any]) -> Any:
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    return [value for column in columns for value in column]


def write_ranking(
    evaluated: EvaluatedCandidates,
    parts: Sequence[Path],
    target: Path,
    work: Path,
    options: Options,
    remarks: list[str],
) -> Screening:
    """Write the rows of all parts, ranked, to `target`; remove `work`; return the summary."""
    columns = _saved_columns(parts)
    d, p = columns["distance"], columns.get("probability_stable")
    by_probability = p is not None and options.by != "distance"
    order = np.lexsort((d, -p) if by_probability and p is not None else (d,))  # NaN is last
    table = work / f"ranked{target.suffix.lower()}"
    head = reorder_tables(parts, order, table, text=TEXT)
    relaxed = _join_relaxed(work, target) if options.relaxation is not None else None
    table.replace(target)
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
        systems=len(
            np.unique(evaluated.candidates.compositions.system[evaluated.candidates.which])
        ),
        stable=int((d <= options.tolerance).sum()),
        expected_stable=None if p is None else float(np.nansum(p)),
        in_hull=in_hull,
        failed=failed,
        remarks=remarks,
        metrics=_metrics(columns, options.tolerance),
        head=head,
    )


def relaxed_file(target: Path) -> Path:
    return target.with_suffix(".relaxed.extxyz")


def _join_relaxed(work: Path, target: Path) -> Path:
    """Write all relaxed structures to one file next to the table, and return this file."""
    file = relaxed_file(target)
    with replacing(file) as stream:
        for part in sorted(work.glob("relaxed-*.extxyz")):
            stream.write(part.read_bytes())
    return file


def _saved_columns(parts: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the columns `KEYS` of all rows, joined from the arrays that each part saved."""
    saved = [dict(np.load(part.with_suffix(".npz"))) for part in parts]
    return {name: np.concatenate([part[name] for part in saved]) for name in saved[0]}


def _metrics(columns: Mapping[str, np.ndarray], tolerance: float) -> Document | None:
    """Return errors of the distances and the calibration of P(stable); None without labels."""
    truth = columns.get("distance_labelled")
    if truth is None:
        return None
    known = np.isfinite(truth)
    d, p = columns["distance"], columns.get("probability_stable")
    metrics = asdict(stability_metrics(truth[known], d[known], threshold=tolerance))
    metrics["compared"] = int(known.sum())
    if p is not None and (with_p := known & np.isfinite(p)).any():
        sigma = columns["distance_std"]
        with_sigma = with_p & (sigma > 0)
        z2 = ((truth - d)[with_sigma] / sigma[with_sigma]) ** 2
        metrics["mean_z2"] = float(z2.mean()) if len(z2) else None
        metrics["calibration"] = asdict(calibration(p[with_p], truth[with_p] <= tolerance))
    return metrics
