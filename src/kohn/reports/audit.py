"""Show the result of an audit in a terminal and as one HTML page, from its records alone."""

import math
from dataclasses import dataclass
from pathlib import Path

import rich.table
from rich.console import Group
from rich.text import Text

from kohn.audits import Audit
from kohn.reports.templates import write_page
from kohn.reports.text import NONE, plural
from kohn.typing import Document

NAME = "audit.html"
STYLES = {"failed": "bold red", "passed": "green", "not measured": "yellow", "diagnostic": "cyan"}
DECADES = (-10.0, 3.0)
"""Range of log10(violation / threshold) that the bars span: 1e-10 to 1e3 thresholds."""


@dataclass(frozen=True)
class Line:
    """The result of one law, on all structures or on one structure, as texts of a table row.

    Attributes:
        law, verdict, violation, unit, threshold, note, where, measured, calls: texts of columns.
        partly: whether the law was not measured on some structures.
        share: position of violation / threshold on a logarithmic bar, 0 to 1; None without them.
        kind: CSS class of the verdict.
    """

    law: str
    verdict: str
    violation: str
    unit: str
    threshold: str
    note: str
    where: str
    measured: str
    partly: bool
    calls: str
    share: float | None
    kind: str


def line(row: Document) -> Line:
    """Return the texts of a row (a law on all structures) or a record (on one) of an audit."""
    violation, limit = row.get("violation"), row.get("threshold")
    share = None
    if violation is not None and limit:
        low, high = DECADES
        decade = math.log10(violation / limit) if violation > 0 else low
        share = min(max((decade - low) / (high - low), 0.0), 1.0)
    measured = row["verdict"] in ("passed", "failed")
    return Line(
        law=row["law"],
        verdict=row["verdict"],
        violation=scientific(violation) if "violation" in row else NONE,
        unit=row.get("unit", ""),
        threshold=scientific(limit) if limit and measured else NONE,
        note=row.get("note", ""),
        where=structure_name(row),
        measured=f"{row['measured']} of {row['structures']}" if "structures" in row else "",
        partly=row.get("measured", 1) < row.get("structures", 1),
        calls=f"{row['calls']:,}",
        share=share,
        kind={"failed": "error", "not measured": "warning", "passed": "ok"}.get(row["verdict"], ""),
    )


def scientific(value: float | None) -> str:
    """Return a value with two digits and an exponent, 1.2e-5; None, for NaN, as 'no number'."""
    if value is None:
        return "no number"
    return "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def structure_name(row: Document) -> str:
    """Return the file name and frame of the structure of a row, or else the structure's index."""
    file = Path(row["file"]).name if row.get("file") else ""
    frame = row.get("frame")
    return " ".join(x for x in (file, f"frame {frame}" if frame is not None else "") if x) or (
        f"structure {row['index']}"
    )


def audit_table(document: Document) -> Group:
    """Return a table of laws, verdicts, violations and thresholds for a terminal, and notes.

    Args:
        document: `Audit.to_json()`.
    """
    table = rich.table.Table(
        title=Text(f"{document['calculator']}: {sentence(document)}", "bold"),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("law", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for name in ("violation", "threshold"):
        table.add_column(name, justify="right", no_wrap=True, header_style="dim")
    table.add_column("unit", no_wrap=True, header_style="dim")
    table.add_column("worst at", header_style="dim", overflow="fold")
    one_file = len(document["files"]) == 1
    lines = [line(row) for row in document["rows"]]
    for x in lines:
        where = x.where.rsplit(" frame ", 1)[-1] if one_file else x.where
        where = f"frame {where}" if where.isdigit() else where
        where += f", in {x.measured}" if x.partly else ""
        where = x.note if x.verdict == "not measured" else where
        verdict = Text(x.verdict, STYLES[x.verdict])
        table.add_row(x.law, verdict, x.violation, x.threshold, x.unit, Text(where))
    notes = [
        Text.assemble((f"{x.law}: ", STYLES[x.verdict]), x.note)
        for x in lines
        if x.verdict in ("failed", "diagnostic") and x.note
    ]
    return Group(table, "", *notes, *(Text(r, "dim") for r in remarks(document)))


def sentence(document: Document) -> str:
    """Return the numbers of laws that failed, passed and were not measured, in words."""
    verdicts = [row["verdict"] for row in document["rows"]]
    count = {v: verdicts.count(v) for v in STYLES}
    parts = [f"{count['failed']} failed" if count["failed"] else "no law fails"]
    parts += [f"{count['passed']} passed"] if count["passed"] else []
    parts += [f"{count['not measured']} not measured"] if count["not measured"] else []
    return ", ".join(parts)


def remarks(document: Document) -> list[str]:
    """Return the numbers of structures and of calls, and the errors that the calculator raised."""
    taken, given = len(document["structures"]), document["structures_given"]
    of = f" of {given:,}" if given != taken else ""
    texts = [
        f"{plural(taken, 'structure')}{of}, {plural(document['calls'], 'call')} of the calculator"
    ]
    texts += [
        f"raised in {plural(n, 'structure')}: {text}" for text, n in document["raised"].items()
    ]
    return texts


def verdict_sentences(document: Document) -> list[str]:
    """Return sentences: the verdict, the calculator and structures, and missing measurements."""
    missing = unfinished(document)
    result = sentence(document)
    sentences = [result[0].upper() + result[1:]]
    sentences += [f"{document['calculator']}: {'; '.join(remarks(document))}"]
    return sentences + ([f"{plural(missing, 'measurement')} missing"] if missing else [])


def unfinished(document: Document) -> int:
    """Return the number of pairs of a law and a structure that have no record yet."""
    return len(document["laws"]) * len(document["structures"]) - len(document["records"])


def audit_page(folder: str | Path) -> Path:
    """Draw `audit.html` in the folder of an audit; the same records give the same bytes.

    Raises:
        InputError: the folder holds no audit.
        TrainingError: the page cannot be written.
    """
    document = Audit.read(folder).to_json()
    laws = {law["name"]: law for law in document["laws"]}
    several = len(document["structures"]) > 1
    return write_page(
        "audit.html",
        folder,
        NAME,
        document=document,
        verdict=sentence(document),
        remarks=remarks(document),
        unfinished=unfinished(document),
        laws=laws,
        rows=[line(row) for row in document["rows"]],
        records=[line(r) for r in document["records"]] if several else [],
        scientific=scientific,
    )
