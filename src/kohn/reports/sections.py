"""Build the tables of a report as text and bar lengths, which the template lays out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from kohn.reports.frames import worst_frames
from kohn.reports.quantities import FORCES, QUANTITIES, Quantity, present
from kohn.reports.run import Run
from kohn.reports.text import NONE, count, fixed, number, plural, times
from kohn.structures.elements import symbol
from kohn.structures.properties import PROPERTIES
from kohn.tables import shortened
from kohn.typing import Document
from kohn.units import GPA

MOST_ROWS = 40
"""Largest number of classes in one table."""
TALL = 15
"""Largest number of rows of a table that does not scroll."""
ID = 22
"""Largest number of characters of an id."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: text of the cell.
        bar: length of a bar under the text, 0 to 1.
        whole: the full text, if `text` is shortened.
        code: whether the text is a key, a path or a checksum.
        wraps: whether the text may wrap.
        formula: whether the text is a formula, whose numbers become subscripts.
        mixture: whether the text is a decomposition: formulas with their shares.
    """

    text: str
    bar: float | None = None
    whole: str = ""
    code: bool = False
    wraps: bool = False
    formula: bool = False
    mixture: bool = False


def identifier(name: str) -> Cell:
    """Return a cell with the id of an entry, shortened if the id is long."""
    short = shortened(name, ID)
    return Cell(short, code=True, whole="" if short == name else name)


@dataclass(frozen=True)
class Table:
    """A table, whose first column names the rows.

    Attributes:
        caption: title of the table.
        head: names of the columns, with units.
        rows: the cells of each row; numbers are aligned to the right.
        left: indices of columns of words, in addition to the first column.
        more: remark below the table, e.g. on rows that are not shown.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: frozenset[int] = field(default_factory=frozenset)
    more: str = ""

    @property
    def tall(self) -> bool:
        """Whether the table has so many rows that it scrolls."""
        return len(self.rows) > TALL

    @property
    def wide(self) -> bool:
        """Whether the table needs the full width of the page."""
        return len(self.head) > 4


def _row(*cells: Cell | str) -> tuple[Cell, ...]:
    return tuple(c if isinstance(c, Cell) else Cell(c) for c in cells)


def _title(name: str) -> str:
    return {"test": "test", "valid": "validation", "train": "training"}.get(name, name)


def structures_of(evaluation: Document) -> int:
    """Return the number of structures that were evaluated."""
    if "structures" in evaluation:
        return evaluation["structures"]
    frames = evaluation.get("frames")
    counts = (q.count(evaluation["errors"]) for q in QUANTITIES if q.name.startswith("energy"))
    return len(frames) if frames else next((c for c in counts if c), 0)


# --- errors -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """One error in large type, next to the error of predicting the mean.

    Attributes:
        title, value, unit: the quantity, its error and unit.
        baseline, comparison: the error of the mean baseline, and both errors compared in words.
        share: error of the model over that of the baseline, at most 1.
        bad: whether the model is no better than the baseline.
        rmse: root mean square error of the model, with its unit.
    """

    title: str
    value: str
    unit: str
    baseline: str
    comparison: str
    share: float | None
    bad: bool
    rmse: str


def tiles(evaluation: Document | None) -> list[Tile]:
    """Return a tile for each quantity of an evaluation, or none without an evaluation."""
    if evaluation is None:
        return []
    errors, baseline = evaluation["errors"], evaluation.get("mean_baseline", {})
    shown = []
    for q in present(errors):
        mae, mean = q.mae(errors), q.mae(baseline)
        share = min(1.0, mae / mean) if mae is not None and mean else None
        shown.append(
            Tile(
                title=q.title,
                value=number(mae),
                unit=q.unit,
                baseline=f"{number(mean)} {q.unit}" if mean is not None else NONE,
                comparison=times(mae, mean),
                share=share,
                bad=share == 1.0,
                rmse=f"{number(q.rmse(errors))} {q.unit}",
            )
        )
    return shown


def error_table(run: Run) -> Table | None:
    """Return a table of the errors in all evaluations of a run, with those of the mean baseline."""
    rows = []
    for name, evaluation in run.evaluations.items():
        errors, baseline = evaluation["errors"], evaluation.get("mean_baseline", {})
        for q in present(errors):
            rows.append(
                _row(
                    f"{_title(name)}: {q.title.lower()}",
                    number(q.mae(errors)),
                    number(q.rmse(errors)),
                    number(q.mae(baseline)),
                    number(q.rmse(baseline)),
                    q.unit,
                    count(q.count(errors)),
                )
            )
    head = ("", "MAE", "RMSE", "mean baseline MAE", "mean baseline RMSE", "unit", "values")
    caption = "Errors of all evaluated sets"
    return Table(caption, head, tuple(rows), frozenset({5})) if rows else None


def class_tables(evaluation: Document | None) -> list[Table]:
    """Return tables of force errors by element and size of force, and of errors by config_type."""
    if evaluation is None:
        return []
    tables = []
    for key, caption, head, unit in (
        ("forces_by_element", "Force error by element", "element", ""),
        ("forces_by_size", "Force error by size of the reference force", "|F|, eV/Å", ""),
    ):
        classes = evaluation.get(key) or {}
        if classes:
            tables.append(_class_table(classes, caption, head, (FORCES,), unit))
    kinds = evaluation.get("by_config_type") or {}
    if set(kinds) - {"Default"}:
        names = tuple(dict.fromkeys(q for e in kinds.values() for q in present(e)))
        ordered = dict(sorted(kinds.items(), key=lambda kv: -(names[0].mae(kv[1]) or 0.0)))
        caption = "Mean absolute error by config_type, worst first"
        tables.append(_class_table(ordered, caption, "config_type", names, "MAE"))
    return tables


def _class_table(
    classes: dict[str, Document],
    caption: str,
    head: str,
    quantities: Sequence[Quantity],
    only: str,
) -> Table:
    """Return a table with a row for each class; bars show shares of a column's largest error."""
    largest = {q.name: max((q.mae(e) or 0.0) for e in classes.values()) or 1.0 for q in quantities}
    rows = []
    for name, errors in list(classes.items())[:MOST_ROWS]:
        cells: list[Cell | str] = [name]
        for q in quantities:
            mae = q.mae(errors)
            cells.append(Cell(number(mae), bar=None if mae is None else mae / largest[q.name]))
            if not only:
                cells.append(number(q.rmse(errors)))
        cells.append(count(quantities[0].count(errors)))
        rows.append(_row(*cells))
    names = [
        f"{part}, {q.unit}" if not only else f"{q.title}, {q.unit}"
        for q in quantities
        for part in (("MAE", "RMSE") if not only else ("",))
    ]
    left_out = len(classes) - len(rows)
    more = f"and {left_out:,} more" if left_out > 0 else ""
    last = "force components" if quantities[0] is FORCES else "values"
    return Table(caption, (head, *names, last), tuple(rows), more=more)


def worst_table(evaluation: Document | None) -> Table | None:
    """Return a table of the structures with the largest errors, or None without frames."""
    worst = worst_frames(evaluation) if evaluation is not None else []
    if not worst:
        return None
    rows = [
        _row(
            str(r["index"]),
            path(r["file"]),
            count(r["frame"]),
            str(r["config_type"] or ""),
            str(r["atoms"]),
            number(r["force_error"]),
            r["atom"],
            number(r["energy_error"]),
            number(r["energy_error_per_atom"]),
        )
        for r in worst
    ]
    head = ("index", "file", "frame", "config_type", "atoms")
    units = ("largest force error, meV/Å", "on atom", "energy error, meV", "meV/atom")
    by = "force" if worst[0]["force_error"] is not None else "energy"
    caption = f"The {plural(len(rows), 'structure')} with the largest {by} errors"
    return Table(caption, (*head, *units), tuple(rows), frozenset({1, 3, 6}))


def path(file: object) -> Cell:
    """Return a cell with the file name of a path, or 'in memory' if there is no file."""
    if file is None:
        return Cell("in memory")
    return Cell(PurePath(str(file)).name, whole=str(file), code=True)


# --- data ---------------------------------------------------------------------------------


def sets_table(run: Run) -> Table | None:
    """Return a table of the structures in each data set, or None without a check."""
    sets = run.check.get("sets") or []
    if not sets:
        return None
    rows = []
    for s in sets:
        elements = ", ".join(s["elements"])
        atoms = s["atoms_per_frame"]
        low, high = atoms["minimum"], atoms["maximum"]
        shortest = sorted((d["distance"], pair) for pair, d in s["shortest_distances"].items())
        rows.append(
            _row(
                _title(s["name"]),
                count(s["frames"]),
                str(low) if low == high else f"{low}–{high}",
                Cell(elements, wraps=True),
                _periodic(s["frames_by_periodic_directions"]),
                f"{shortest[0][0]:.3f} ({shortest[0][1]})" if shortest else NONE,
                count(s["isolated_atoms"]),
                count(s["duplicates"]),
            )
        )
    head = ("set", "structures", "atoms in each", "elements", "periodic", "shortest distance, Å")
    last = ("isolated atoms", "repeated")
    return Table("Structures", (*head, *last), tuple(rows), frozenset({3, 4}))


def _periodic(directions: dict[str, int]) -> str:
    names = {"0": "no", "1": "in one", "2": "in two", "3": "in three"}
    if len(directions) == 1:
        return names.get(next(iter(directions)), "")
    return ", ".join(f"{names.get(k, k)}: {n:,}" for k, n in sorted(directions.items()))


_STATISTICS = {
    "energy": ("energy_above_reference_per_atom", 1.0, "eV/atom above E0"),
    "forces": ("force_components", 1.0, "eV/Å"),
    "stress": ("stress_components", 1 / GPA, "GPa"),
}


def labels_table(run: Run) -> Table | None:
    """Return a table of the labels, their keys in the files, and statistics of their values."""
    rows = []
    for s in run.check.get("sets") or []:
        for name, label in s["labels"].items():
            statistics, factor, unit = _STATISTICS.get(name, ("", 1.0, ""))
            numbers = s.get(statistics) or {}
            keys = ("mean", "standard_deviation", "minimum", "maximum")
            shown = (None if numbers.get(k) is None else factor * numbers[k] for k in keys)
            known = PROPERTIES.get(name)
            rows.append(
                _row(
                    f"{_title(s['name'])}: {name.replace('_', ' ')}",
                    f"{label['frames']:,} of {s['frames']:,}",
                    Cell(", ".join(label["keys"]), code=True),
                    *(fixed(v, 3) for v in shown),
                    unit or (known.unit if known else ""),
                    Cell(known.sign if known else "", wraps=True),
                )
            )
    head = ("label", "structures", "key in the files", "mean", "standard deviation")
    rest = ("smallest", "largest", "unit", "convention")
    unread = any(s["name"] == "test" and not s["labels"] for s in run.check.get("sets") or [])
    more = "Labels of test files are not read before training has ended." if unread else ""
    columns = (*head, *rest)
    return Table("Labels", columns, tuple(rows), frozenset({2, 7, 8}), more) if rows else None


def sources_table(run: Run) -> Table | None:
    """Return a table of the files that a run read, with their checksums."""
    files: dict[tuple[str, str], Document] = {}
    roles: dict[tuple[str, str], list[str]] = {}
    for s in run.check.get("sets") or []:
        for source in s["sources"]:
            key = (source["file"], source["sha256"])
            files.setdefault(key, source)
            roles.setdefault(key, []).append(_title(s["name"]))
    if not files:
        for source in run.start.get("provenance", {}).get("sources") or []:
            files.setdefault((source["file"], source["sha256"]), source)
    rows = [
        _row(
            path(source["file"]),
            ", ".join(dict.fromkeys(roles.get(key, ["training"]))),
            count(source["frames"]),
            Cell("; ".join(_key_use(k, v) for k, v in source["keys"].items()) or NONE, wraps=True),
            Cell("; ".join(_remarks(source)) or NONE, wraps=True),
            Cell(source["sha256"], code=True, wraps=True),
        )
        for key, source in files.items()
    ]
    head = ("file", "used for", "structures", "read from", "remarks", "SHA-256")
    return Table("Files", head, tuple(rows), frozenset({1, 3, 4, 5})) if rows else None


def _key_use(name: str, keys: dict[str, int]) -> str:
    return f"{name} from {', '.join(keys)}"


def _remarks(source: Document) -> Iterable[str]:
    yield from source.get("notes") or ()
    for key, known in (source.get("near_keys") or {}).items():
        yield f"{key} is nearly {known}, and was not read"
    if source.get("other_keys"):
        yield f"not read: {', '.join(source['other_keys'])}"


def e0_table(run: Run) -> Table | None:
    """Return a table of the reference energies E0 of the elements, and their sources."""
    provenance = run.start.get("provenance", {})
    checked = run.check.get("reference_energies") or {}
    values = {symbol(int(z)): e for z, e in (run.start.get("e0s") or {}).items()}
    values = values or checked.get("values") or {}
    sources = provenance.get("e0_sources") or {}
    default = provenance.get("e0_source") or checked.get("source") or ""
    rows = tuple(_row(k, fixed(e, 4), sources.get(k, default)) for k, e in values.items())
    head = ("element", "E0, eV", "source")
    return Table("Reference energies", head, rows, frozenset({2})) if rows else None


@dataclass(frozen=True)
class Notice:
    """A finding of the data check, or a warning; severity: error, warning, note or overridden."""

    severity: str
    kind: str
    message: str
    details: tuple[str, ...] = ()


def findings(run: Run) -> list[Notice]:
    """Return findings of the data check, worst first, an E0 warning they lack, and suspicions."""
    notices = []
    for f in run.check.get("findings") or []:
        places = [_place(p) for p in f["where"]]
        more = " …" if f["count"] > len(places) else ""
        details = [f"because {e}" for e in f["evidence"]]
        details += [f"at {'; '.join(places)}{more}"] if places else []
        details += [f"fix: {f['fix']}"] if f["fix"] else []
        severity = "overridden" if f["overridden"] else f["severity"]
        notices.append(Notice(severity, f["kind"], f["message"], tuple(details)))
    provenance = run.start.get("provenance", {})
    warning = provenance.get("e0_warning")
    if warning and not any(warning in f.message for f in notices):
        notices.insert(0, Notice("warning", "reference energies", warning))
    for name, evaluation in run.evaluations.items():
        for text in evaluation.get("suspicions") or ():
            notices.append(Notice("warning", f"{_title(name)} errors", text))
    return notices


def _place(place: Document) -> str:
    file = PurePath(place["file"]).name if place.get("file") else ""
    parts = [file, *(f"{k} {place[k]}" for k in ("frame", "line") if place.get(k) is not None)]
    return ", ".join(p for p in parts if p)
