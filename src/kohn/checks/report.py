"""Report the findings of a check as data, as JSON and as tables."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from io import StringIO
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from kohn.errors import CheckFailed, InputError, Place, nearest
from kohn.structures import E0s, Source, UnreadFile
from kohn.structures.elements import symbol
from kohn.typing import Document
from kohn.units import GPA

Severity = Literal["error", "warning", "note"]

KINDS: dict[str, str] = {
    "no-labels": "a set has no labels at all",
    "partial-labels": "energy, forces or stress in some frames only",
    "nonfinite-label": "a label is not a finite number",
    "nearly-right-key": "an unread key that nearly matches a known key",
    "unread-key": "a key that looks like a label was not read",
    "assumed-unit": "a label was read from a key that does not state its unit",
    "free-energy": "forces belong to the free energy, not to the energy that was read",
    "energy-units": "energies look as if they were not in eV",
    "force-units": "forces look as if they were not in eV/Å",
    "force-sign": "forces have the wrong sign: they point to higher energies",
    "zero-forces": "all forces are exactly zero",
    "energy-force-inconsistent": "energies do not change as the forces predict",
    "stress-units": "stresses look as if they were not in eV/Å³",
    "stress-sign": "stresses look as if they were positive in compression",
    "duplicate-within": "a structure occurs more than once in a set",
    "duplicate-between": "a structure occurs in two sets",
    "equivalent-between": "a rotated or mirrored copy of a structure is in another set",
    "contradictory-labels": "copies of one structure have different energies",
    "outlier-energy": "an energy far from all others",
    "outlier-force": "a force far larger than the others",
    "short-distance": "atoms too close to each other",
    "periodic-zero-cell": "periodic flags without a cell",
    "left-handed-cell": "cell vectors that are left-handed",
    "varying-charge": "charge or spin differ between frames",
    "single-composition-e0s": "one composition determines only one offset of the E0s",
    "fitted-e0s": "E0s were fitted",
    "inconsistent-e0s": "energies do not match the E0s",
    "reference-energies": "no usable E0s",
    "file-left-out": "a file of a folder cannot be read",
    "too-few-frames": "very few frames",
    "unseen-element": "an element that is not in the training set",
}
"""The kinds of findings and their meanings."""
NOT_FOR_TRAINING = frozenset({"no-labels", "unseen-element", "varying-charge"})
"""Kinds of findings that the user may allow in `check`, but not in training."""


@dataclass(frozen=True)
class Finding:
    """One observation of a check about the data.

    Attributes:
        kind: one of `KINDS`.
        severity: an error fails the check; a warning needs attention; a note is for the record.
        message: the observation, in one sentence.
        where: file, frame and line of the first few frames concerned.
        count: number of frames (or files) concerned.
        evidence: the independent observations from which the finding was inferred, if any.
        fix: what the user can do.
        overridden: whether the user turned this error into a warning.
    """

    kind: str
    severity: Severity
    message: str
    where: tuple[Place, ...] = ()
    count: int = 1
    evidence: tuple[str, ...] = ()
    fix: str = ""
    overridden: bool = False


@dataclass(frozen=True)
class Statistics:
    """Mean, standard deviation, extremes and root mean square of numbers."""

    mean: float
    standard_deviation: float
    minimum: float
    maximum: float
    root_mean_square: float


@dataclass(frozen=True)
class SetSummary:
    """A summary of one set of structures.

    Attributes:
        name: name of the set.
        sources: the files, with the keys that were read.
        frames, isolated_atoms: numbers of structures, and of isolated atoms among them.
        atoms: smallest and largest number of atoms in a frame.
        elements: symbol -> (number of frames, number of atoms).
        periodic: number of periodic directions -> number of frames.
        volume_per_atom: smallest and largest, Å³, of frames periodic in three directions.
        config_types: config_type -> (number of frames, smallest weight, largest weight).
        labels: property -> number of frames with this label.
        energy_per_atom: statistics of (E - sum of E0) / number of atoms, eV (E: total energy).
        forces: statistics of the force components, eV/Å.
        largest_force: length of the longest force vector, eV/Å.
        stress: statistics of the stress components, eV/Å³.
        shortest: pair of elements such as 'C-H' -> (shortest distance in Å, file and frame).
        duplicates: number of frames that repeat another frame.
        unread: files that were found in folders and not read.
    """

    name: str
    sources: tuple[Source, ...]
    frames: int
    isolated_atoms: int
    atoms: tuple[int, int]
    elements: dict[str, tuple[int, int]]
    periodic: dict[int, int]
    volume_per_atom: tuple[float, float] | None
    config_types: dict[str, tuple[int, float, float]]
    labels: dict[str, int]
    energy_per_atom: Statistics | None
    forces: Statistics | None
    largest_force: float | None
    stress: Statistics | None
    shortest: dict[str, tuple[float, Place]]
    duplicates: int
    unread: tuple[UnreadFile, ...] = ()


@dataclass(frozen=True, repr=False)
class Report:
    """The result of `check`.

    Attributes:
        findings: the findings, worst first.
        sets: a summary of each set.
        e0s: the reference energies that were used, or None.
        between: (set, set) -> number of structures of the second set that occur in the first.
        overrides: kinds of findings whose errors the user turned into warnings.
    """

    findings: tuple[Finding, ...]
    sets: tuple[SetSummary, ...]
    e0s: E0s | None = None
    between: dict[tuple[str, str], int] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not any(f.severity == "error" for f in self.findings)

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """Return the findings of one kind."""
        return tuple(f for f in self.findings if f.kind == kind)

    def raise_if_failed(self) -> None:
        """Raise CheckFailed, whose message has all errors, if any finding is an error."""
        errors = [f for f in self.findings if f.severity == "error"]
        if not errors:
            return
        first, kinds = errors[0], sorted({f.kind for f in errors})
        others = [f"also [{f.kind}]: {f.message}: {f.fix}" for f in errors[1:]]
        allowed = [kind for kind in kinds if kind not in NOT_FOR_TRAINING]
        advice = (
            f"if the data are right as they are, allow {', '.join(allowed)} (data.allow or "
            "--allow; allow=[…] of kohn.check)"
        )
        raise CheckFailed(
            f"the data cannot be trusted [{first.kind}]: {first.message}",
            where="; ".join(str(p) for p in first.where) or None,
            received="; ".join(first.evidence) or None,
            fix="; ".join([first.fix, *others, *([advice] if allowed else [])]),
        )

    def to_json(self) -> Document:
        """Return the report as plain data, keys in full words; units: eV, Å, or as in the key."""
        return {
            "ok": self.ok,
            "findings": [_finding_json(f) for f in self.findings],
            "sets": [_set_json(s) for s in self.sets],
            "reference_energies": None
            if self.e0s is None
            else {
                "values": {symbol(z): e for z, e in self.e0s.values.items()},
                "source": self.e0s.source,
                "warning": self.e0s.warning,
            },
            "shared_structures": [
                {"first": a, "second": b, "structures": n} for (a, b), n in self.between.items()
            ],
            "overrides": list(self.overrides),
        }

    def __rich_console__(self, console: Console, options: object) -> Iterator[RenderableType]:
        yield render(self)

    def __str__(self) -> str:
        text = Console(file=StringIO(), width=100, record=True)
        text.print(self)
        return text.export_text().rstrip()

    def __repr__(self) -> str:
        errors = sum(f.severity == "error" for f in self.findings)
        return f"Report({len(self.sets)} sets; {len(self.findings)} findings; {errors} errors)"


def arrange(
    findings: Iterable[Finding], allow: Collection[str]
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Sort findings, worst first, and turn errors of the kinds in `allow` into warnings.

    Returns:
        The sorted findings, and the sorted kinds that are allowed.

    Raises:
        InputError: an allowed kind is not a kind of finding.
    """
    for kind in allow:
        if kind not in KINDS:
            guess = nearest(kind, KINDS)
            raise InputError(
                f"{kind!r} is not a kind of finding, so it cannot be allowed",
                expected=f"some of {', '.join(KINDS)}",
                fix=f"did you mean {guess!r}?" if guess else None,
            )
    weakened = [
        replace(f, severity="warning", overridden=True)
        if f.severity == "error" and f.kind in allow
        else f
        for f in findings
    ]
    order = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(weakened, key=lambda f: order[f.severity])), tuple(sorted(set(allow)))


def _finding_json(finding: Finding) -> Document:
    return {**asdict(finding), "where": [_place_json(p) for p in finding.where]}


def _place_json(place: Place) -> Document:
    file = None if place.file is None else str(place.file)
    return {"file": file, "frame": place.frame, "line": place.line}


def _set_json(s: SetSummary) -> Document:
    return {
        "name": s.name,
        "sources": [asdict(source) for source in s.sources],
        "frames": s.frames,
        "isolated_atoms": s.isolated_atoms,
        "atoms_per_frame": {"minimum": s.atoms[0], "maximum": s.atoms[1]},
        "elements": {k: {"frames": f, "atoms": a} for k, (f, a) in s.elements.items()},
        "frames_by_periodic_directions": {str(k): n for k, n in s.periodic.items()},
        "volume_per_atom": None
        if s.volume_per_atom is None
        else {"minimum": s.volume_per_atom[0], "maximum": s.volume_per_atom[1]},
        "config_types": {
            k: {"frames": n, "smallest_weight": a, "largest_weight": b}
            for k, (n, a, b) in s.config_types.items()
        },
        "labels": {
            k: {
                "frames": n,
                "coverage": n / max(s.frames, 1),
                "keys": _keys_of(s, k),
            }
            for k, n in s.labels.items()
        },
        "energy_above_reference_per_atom": _statistics_json(s.energy_per_atom),
        "force_components": _statistics_json(s.forces),
        "largest_force": s.largest_force,
        "stress_components": _statistics_json(s.stress),
        "shortest_distances": {
            k: {"distance": r, "where": _place_json(p)} for k, (r, p) in s.shortest.items()
        },
        "duplicates": s.duplicates,
        "left": [asdict(file) for file in s.unread],
    }


def _statistics_json(statistics: Statistics | None) -> dict[str, float] | None:
    return None if statistics is None else asdict(statistics)


def _keys_of(s: SetSummary, name: str) -> dict[str, int]:
    total: dict[str, int] = {}
    for source in s.sources:
        for key, count in source.keys.get(name, {}).items():
            total[key] = total.get(key, 0) + count
    return total


def render(report: Report) -> RenderableType:
    """Return the report as tables for a terminal (rich)."""
    parts: list[RenderableType] = [_sets_table(report), _labels_table(report)]
    if any(s.unread or len(s.sources) > 1 for s in report.sets):
        parts.append(_files_table(report))
    if report.e0s is not None:
        parts.append(_e0_line(report.e0s))
    notes = dict.fromkeys(n for s in report.sets for source in s.sources for n in _notes(source))
    parts += [Text(f"\nnote: {text}", style="dim") for text in notes]
    parts += [_finding_text(f) for f in report.findings]
    errors = sum(f.severity == "error" for f in report.findings)
    warnings = sum(f.severity == "warning" for f in report.findings)
    verdict = f"{errors} errors, {warnings} warnings" if errors or warnings else "no problems"
    style = "bold red" if errors else "bold yellow" if warnings else "bold green"
    overridden = f" (overridden: {', '.join(report.overrides)})" if report.overrides else ""
    parts.append(Text(f"\n{verdict}{overridden}", style=style))
    return Group(*parts)


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for k, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if k == 0 else "right", header_style="dim")
    return table


def _sets_table(report: Report) -> Table:
    table = _table("Structures", ["", *(s.name for s in report.sets)])

    def row(name: str, values: Iterable[str]) -> None:
        table.add_row(*map(Text, (name, *values)))

    sets = report.sets
    row("frames", (str(s.frames) for s in sets))
    if any(s.isolated_atoms for s in sets):
        row("isolated atoms", (str(s.isolated_atoms) for s in sets))
    row("atoms in a frame", (_range(*s.atoms) for s in sets))
    for element in dict.fromkeys(e for s in sets for e in s.elements):
        values = (s.elements.get(element, (0, 0)) for s in sets)
        row(f"{element}: frames, atoms", (f"{f}, {a}" for f, a in values))
    row("periodic", (_periodic(s) for s in sets))
    for name in dict.fromkeys(c for s in sets for c in s.config_types if c != "Default"):
        row(f"config_type {name}", (str(s.config_types.get(name, (0,))[0]) for s in sets))
    for bond in dict.fromkeys(b for s in sets for b in s.shortest):
        values = (s.shortest.get(bond) for s in sets)
        row(f"shortest {bond}, Å", (f"{v[0]:.3f}" if v else "" for v in values))
    row("repeated", (str(s.duplicates) for s in sets))
    return table


def _labels_table(report: Report) -> Table:
    columns = ["", "frames", "key", "mean", "std", "min", "max", "unit"]
    table = _table("\nLabels", columns)
    for s in report.sets:
        shown = {
            "energy": (s.energy_per_atom, 1.0, "eV/atom above E0"),
            "forces": (s.forces, 1.0, "eV/Å"),
            "stress": (s.stress, 1 / GPA, "GPa"),
        }
        for name, frames in s.labels.items():
            statistics, factor, unit = shown.get(name, (None, 1.0, ""))
            numbers = [""] * 4
            if statistics is not None:
                values = (
                    statistics.mean,
                    statistics.standard_deviation,
                    statistics.minimum,
                    statistics.maximum,
                )
                numbers = [f"{factor * v:.3f}" for v in values]
            keys = ", ".join(_keys_of(s, name))
            row = (f"{s.name} {name}", f"{frames} of {s.frames}", keys, *numbers, unit)
            table.add_row(*map(Text, row))
    return table


def _e0_line(e0s: E0s) -> Text:
    values = ", ".join(f"{symbol(z)} {e:.4f}" for z, e in e0s.values.items())
    return Text.assemble(("\nE0 ", "bold"), f"{values} eV (", e0s.source, ")")


_STYLE = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def _finding_text(finding: Finding) -> Text:
    mark = "overridden" if finding.overridden else finding.severity
    text = Text.assemble("\n", (mark, _STYLE[finding.severity]), f" [{finding.kind}] ")
    text.append(finding.message)
    if finding.count > 1:
        text.append(f" ({finding.count})")
    for evidence in finding.evidence:
        text.append(f"\n  because {evidence}", style="dim")
    if finding.where:
        places = "; ".join(str(p) for p in finding.where)
        text.append(f"\n  at {places}{' …' if finding.count > len(finding.where) else ''}")
    if finding.fix:
        text.append(f"\n  fix: {finding.fix}")
    return text


MOST_FILES = 20
"""The largest number of read, and of unread, files in the table; the JSON has all files."""


def _files_table(report: Report) -> Table:
    """Return a table of files with their numbers of frames, and of files that were not read."""
    table = _table("\nFiles", ["", "frames", ""])
    rows = [(source.file, str(source.frames), "") for s in report.sets for source in s.sources]
    unread = [(x.file, "", f"not read: {x.reason}") for s in report.sets for x in s.unread]
    for part in (rows, unread):
        for row in part[:MOST_FILES]:
            table.add_row(*map(Text, row))
        if len(part) > MOST_FILES:
            table.add_row(Text(f"and {len(part) - MOST_FILES} more"), "", "")
    table.columns[2].justify = "left"
    table.columns[2].overflow = "fold"
    return table


def _notes(source: Source) -> Iterator[str]:
    for note in source.notes:
        yield f"{source.file}: {note}"


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _periodic(s: SetSummary) -> str:
    names = {0: "no", 1: "in 1", 2: "in 2", 3: "in 3"}
    return ", ".join(
        names[k] if len(s.periodic) == 1 else f"{names[k]}: {n}" for k, n in s.periodic.items()
    )
