"""Read the records of a run folder, whether the run is finished, unfinished or just begun."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import yaml

from kohn.audits import Audit
from kohn.errors import InputError, Place
from kohn.jobs import RECORDS
from kohn.records import read_records
from kohn.typing import Document

State = Literal["finished", "stopped early", "not evaluated", "unfinished", "not started"]


@dataclass(frozen=True)
class Run:
    """The contents of a run folder; missing parts are empty.

    Attributes:
        name: name of the folder.
        settings_text: the text of `settings.yaml`.
        settings: the settings, parsed.
        start: the record written before the first step.
        epochs: the records of validations, in order.
        check: `check.json`: the check of the data.
        evaluations: name -> `evaluation-NAME.json`: test first, validation (valid) last.
        has_model: whether the final model file exists.
        audit: `Audit.to_json()` of the folder `audit` in the run folder, if it exists.
    """

    name: str
    settings_text: str = ""
    settings: Document = field(default_factory=dict)
    start: Document = field(default_factory=dict)
    epochs: tuple[Document, ...] = ()
    check: Document = field(default_factory=dict)
    evaluations: dict[str, Document] = field(default_factory=dict)
    has_model: bool = False
    audit: Document = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> "Run":
        """Read the records of a run folder.

        Raises:
            InputError: the folder does not exist, is not a run folder, or has a damaged record.
        """
        folder = Path(folder)
        _refuse_no_run(folder)
        text = _text(folder / "settings.yaml")
        records = _records(folder / RECORDS)
        start = next((r for r in reversed(records) if r.get("kind") == "start"), {})
        written = _settings(text, folder / "settings.yaml")
        return cls(
            name=folder.resolve().name,
            settings_text=text,
            settings=written or start.get("provenance", {}).get("settings", {}),
            start=start,
            epochs=tuple(r for r in records if r.get("kind") == "epoch"),
            check=_document(folder / "check.json", "sets"),
            evaluations=_evaluations(folder),
            has_model=(folder / "model.safetensors").is_file(),
            audit=_audit(folder / "audit"),
        )

    @property
    def is_training(self) -> bool:
        """Whether the folder holds a training run, not only evaluations."""
        return bool(self.settings_text or self.start or self.epochs or self.check)

    @property
    def targets(self) -> list[str]:
        """Names of the properties that the run learns; ['energy'] for a potential."""
        return self.settings.get("targets") or ["energy"]

    @property
    def of_energies(self) -> bool:
        """Whether the run learns a potential: energies, with forces and stress."""
        return self.targets == ["energy"]

    @property
    def planned_epochs(self) -> int | None:
        """The planned number of epochs, or None before the run has started."""
        return self.start.get("epochs")

    @property
    def last_epoch(self) -> int:
        """The number of the last recorded epoch, or 0 before the first record."""
        return self.epochs[-1]["epoch"] if self.epochs else 0

    @property
    def state(self) -> State:
        """The stage that the run has reached, one of `State`."""
        data = self.settings.get("data") or {}
        wanted = {"valid"} | ({"test"} if data.get("test") else set())
        if wanted <= self.evaluations.keys() or not self.is_training:
            planned = self.planned_epochs or self.last_epoch
            return "finished" if self.last_epoch >= planned else "stopped early"
        if not self.epochs:
            return "not started"
        done = self.planned_epochs is not None and self.last_epoch >= self.planned_epochs
        return "not evaluated" if done or self.has_model else "unfinished"

    @property
    def best(self) -> Document | None:
        """The record of the best validation so far, or None before the first validation."""
        if not self.epochs:
            return None
        epoch = self.epochs[-1].get("best_epoch")
        return next((r for r in self.epochs if r["epoch"] == epoch), None)

    @property
    def main(self) -> Document | None:
        """The first of `evaluations`: on the test files if they exist; None without evaluations."""
        return next(iter(self.evaluations.values()), None)

    @cached_property
    def seconds(self) -> float | None:
        """Total wall time of the epochs, s, without time lost by kills; None before the first."""
        return sum(record["seconds"] for record in self.epochs) if self.epochs else None

    @property
    def seconds_an_epoch(self) -> list[float]:
        """For each record, the mean wall time, s, of the epochs since the previous record."""
        ends = [0, *(record["epoch"] for record in self.epochs)]
        spans = [b - a for a, b in pairwise(ends)]
        return [r["seconds"] / max(n, 1) for r, n in zip(self.epochs, spans, strict=True)]

    @property
    def late_from(self) -> float | None:
        """The epoch from which the late weights of the loss apply, or None without late weights."""
        loss = self.settings.get("loss") or {}
        if not loss.get("late_weights") or not self.planned_epochs or not self.of_energies:
            return None
        share = loss.get("late_from", 1.0)
        return share * self.planned_epochs if share < 1 else None


def _refuse_no_run(folder: Path) -> None:
    if not folder.exists():
        raise InputError(
            "there is no such run folder",
            where=Place(file=folder),
            fix="name the folder that was given to `kohn train --out`",
        )
    if not folder.is_dir():
        raise InputError(
            "this is a file, not a run folder",
            where=Place(file=folder),
            fix=f"name its folder: {folder.parent}",
        )
    known = ("settings.yaml", RECORDS)
    if not any((folder / n).is_file() for n in known) and not any(folder.glob("evaluation-*.json")):
        inside = sorted(p.parent.name for p in folder.glob("*/settings.yaml"))
        raise InputError(
            "this folder is not a run folder",
            where=Place(file=folder),
            expected="settings.yaml and records.jsonl, or evaluation-NAME.json, in it",
            received=", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "an empty folder",
            fix=f"did you mean one of the runs in it: {', '.join(inside[:5])}?"
            if inside
            else "name the folder that was given to `kohn train --out`",
        )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _settings(text: str, path: Path) -> Document:
    try:
        settings = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        raise _damaged(path, str(error)) from error
    return settings if isinstance(settings, dict) else {}


def _records(path: Path) -> list[Document]:
    if not path.is_file():
        return []
    records = [r for r in read_records(path) if isinstance(r, dict)]
    needed = {"epoch", "seconds"}
    for record in records:
        if record.get("kind") == "epoch" and not needed <= record.keys():
            raise _damaged(path, f"a record without {', '.join(sorted(needed - record.keys()))}")
    return records


def _audit(folder: Path) -> Document:
    file = folder / RECORDS
    begun = file.is_file() and file.stat().st_size > 0
    return Audit.read(folder).to_json() if begun else {}


def _document(path: Path, needed: str) -> Document:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(document, dict) or needed not in document:
        raise _damaged(path, f"a document without {needed!r}")
    return document


def _damaged(path: Path, received: str) -> InputError:
    return InputError(
        f"{path.name} is damaged",
        where=Place(file=path),
        received=received,
        fix="restore the file from a copy, or remove it to draw the report without it",
    )


def _evaluations(folder: Path) -> dict[str, Document]:
    names = sorted(p.stem.removeprefix("evaluation-") for p in folder.glob("evaluation-*.json"))
    first = [n for n in ("test", "valid") if n in names]
    rest = [n for n in names if n not in first]
    # The user's own files come before the validation set, which chose the model.
    order = [*first[:1], *rest, *first[1:]] if "test" in first else [*rest, *first]
    return {n: _document(folder / f"evaluation-{n}.json", "errors") for n in order}
