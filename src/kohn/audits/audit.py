"""An audit: every law on every structure, one record each, and what comes of them."""

import inspect
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kohn.audits.case import Case, Measurement, Noise
from kohn.audits.counted_calculator import CountedCalculator, NotANumber, Outcome, Unmeasured
from kohn.audits.derivatives import noise_of
from kohn.audits.laws import NAMES, TABLE, Law
from kohn.errors import ConfigError, InputError, KohnError, Place, nearest
from kohn.interfaces.calculator_process import CalculatorProcess, Raised
from kohn.interfaces.worker import NO_CALCULATOR, not_a_calculator
from kohn.jobs import FORMAT, RECORDS, WorkFolder
from kohn.records import plain, read_records
from kohn.structures import Dataset, Readable, Structure, read
from kohn.typing import Document
from kohn.version import __version__

FAILED, PASSED, UNMEASURED, DIAGNOSTIC = "failed", "passed", "not measured", "diagnostic"
VERDICTS = (FAILED, PASSED, UNMEASURED, DIAGNOSTIC)


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        header: the calculator, the structures and the laws, as the first record has them.
        records: one for each law and structure.
    """

    header: Document
    records: tuple[Document, ...]

    @property
    def ok(self) -> bool:
        """Whether no law fails."""
        return not any(r["verdict"] == FAILED for r in self.records)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the laws that fail."""
        return tuple(r["law"] for r in self.rows if r["verdict"] == FAILED)

    @property
    def rows(self) -> list[Document]:
        """One row for each law: its worst record, and in how many structures it was measured."""
        return [_row([r for r in self.records if r["law"] == name]) for name in self._laws]

    @property
    def raised(self) -> dict[str, int]:
        """What the calculator raised -> in how many structures."""
        seen = {(r["raised"], r["index"]) for r in self.records if r.get("raised")}
        return dict(sorted(Counter(text for text, _ in seen).items()))

    @property
    def _laws(self) -> list[str]:
        present = {r["law"] for r in self.records}
        return [law["name"] for law in self.header["laws"] if law["name"] in present]

    @classmethod
    def read(cls, folder: str | Path) -> "Audit":
        """The audit that a folder holds, finished or not.

        Raises:
            InputError: there is none.
        """
        path = Path(folder) / RECORDS
        header, *records = (list(read_records(path)) if path.is_file() else []) or [{}]
        if header.get("kind") != "audit":
            raise InputError(
                "this folder holds no audit",
                where=str(folder),
                expected=f"a {RECORDS} of `kohn audit --out`",
            )
        return cls(header, tuple(records))

    def to_json(self) -> Document:
        """A document with all of it."""
        return {
            **self.header,
            "ok": self.ok,
            "rows": self.rows,
            "raised": self.raised,
            "calls": sum(r["calls"] for r in self.records),
            "records": list(self.records),
        }

    def __str__(self) -> str:
        return "\n".join(
            f"{row['law']:14} {row['verdict']:13} {row.get('note', '')}" for row in self.rows
        )


def audit(
    calculator: Any,
    structures: Readable,
    *,
    laws: Sequence[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    frames: int | None = None,
    seed: int = 0,
    temperature: float = 300.0,
    out: str | Path | None = None,
    name: str | None = None,
    advance: Callable[[int], None] | None = None,
) -> Audit:
    """Measure how far a calculator breaks the laws of physics.

    Args:
        calculator: any ASE calculator, or a `CalculatorProcess`: one in a process of its own, in
            which nothing of Kohn is imported. Importing Kohn switches JAX to 64-bit numbers; of
            calculators written with JAX in this process a warning says so.
        structures: what `kohn.read` reads: a file, files, `ase.Atoms`, a list of them.
        laws: names from `kohn.audits.NAMES`; all of them by default.
        thresholds: law -> largest violation that passes, in its units; replaces the table's, and
            does not rise with noise.
        frames: take this many, evenly spaced; all by default.
        seed: of directions, rotations and velocities.
        temperature: of dynamics, K.
        out: a folder for `records.jsonl`. An audit that was killed goes on where it was; the
            same seed gives the same bytes.
        name: what the calculator is called in records.
        advance: called with the number of laws done since the last call, each for one structure.

    Returns:
        The audit; `audit.ok` says whether no law fails.

    Raises:
        ConfigError: an unknown law, a threshold or a temperature that is none.
        InputError: structures that cannot be read; a calculator that computes none of them; a
            folder that holds another audit, or another process at work.
    """
    chosen = _chosen(laws, thresholds or {})
    if not (np.isfinite(temperature) and temperature > 0):
        raise ConfigError("this is not a temperature", received=f"{temperature} K")
    data = read(structures, labels="none")
    picked = _picked(len(data), frames)
    _is_calculator(calculator)
    header = _header(calculator, name, data, picked, chosen, seed, temperature)
    work = None if out is None else WorkFolder(Path(out), "audit")
    with nullcontext() if work is None else work.held():
        records = _all_records(calculator, data, picked, chosen, header, work, advance)
    found = Audit(plain(header), tuple(plain(records)))
    _something_was_computed(found)
    return found


def _all_records(
    calculator: Any,
    data: Dataset,
    picked: Sequence[int],
    chosen: Sequence[Law],
    header: Document,
    work: WorkFolder | None,
    advance: Callable[[int], None] | None,
) -> list[Document]:
    """The records that are there, and those that are left to make."""
    records = [] if work is None else work.begin(header)
    done = {(r["law"], r["index"]) for r in records}
    ask = CountedCalculator(calculator)
    seed, temperature = header["seed"], header["temperature"]
    advance = advance or (lambda _: None)
    advance(len(records))
    for index, frame in enumerate(picked):
        left = [law for law in chosen if (law.name, index) not in done]
        for record in _records(ask, data[frame], index, left, seed, temperature):
            records.append(record)
            if work is not None:
                work.append(record)
            advance(1)
    return records


# One law, one structure


def _records(
    ask: CountedCalculator,
    s: Structure,
    index: int,
    laws: Sequence[Law],
    seed: int,
    temperature: float,
) -> Iterator[Document]:
    """The records of these laws on one structure."""
    if not laws:
        return
    try:
        here, noise = ask(s), noise_of(ask, s)
        broken = None
    except (Unmeasured, Raised, NotANumber) as error:
        here, noise, broken = Outcome(0.0), Noise(0.0, 0.0, 0.0), error
    for law in laws:
        rng = np.random.default_rng([seed, index, zlib.crc32(law.name.encode())])
        case = Case(ask, s, here, noise, rng, index, temperature)
        before = ask.calls
        verdict = _verdict(law, case, broken)
        where = {"file": s.place.file, "frame": s.place.frame, "index": index, "atoms": len(s)}
        calls = ask.calls - before
        yield {"law": law.name, **where, **verdict, "calls": calls}


def _verdict(law: Law, case: Case, broken: Exception | None) -> Document:
    """What a law says of a structure, whatever happens."""
    try:
        if broken is not None:
            raise broken
        return verdict_of(law, law.measure(case))
    except NotANumber as error:
        verdict = DIAGNOSTIC if law.threshold is None else FAILED
        return {"verdict": verdict, "violation": None, "note": f"the {error} is not a number"}
    except Raised as error:
        said = {"verdict": UNMEASURED, "note": f"the calculator raised {error}"}
        return {**said, "raised": str(error)}
    except Unmeasured as error:
        return {"verdict": UNMEASURED, "note": str(error)}
    except KohnError as error:  # of the structure: atoms on top of each other
        return {"verdict": UNMEASURED, "note": error.message}


def verdict_of(law: Law, measured: Sequence[Measurement]) -> Document:
    """The verdict of a law on what was measured, by the worst of it.

    A violation fails if it is beyond both the threshold and what could be noise. Where that
    noise is beyond the law's ceiling, and the violation is not, nothing was measured. A law that
    does not fail passes when all its parts were measured; what was and was not is recorded.
    """
    if law.threshold is None:
        (m,) = measured
        return {"verdict": DIAGNOSTIC, "violation": m.value, "unit": m.unit, "note": m.note}
    limits = [max(law.threshold, m.error) for m in measured]
    shares = [m.value / limit for m, limit in zip(measured, limits, strict=True)]
    known = [k for k, m in enumerate(measured) if m.error <= law.ceiling or shares[k] > 1]
    parts = _parts(measured, known)
    unknown = {part: why for part, why in parts.items() if why}
    if not known:
        return {"verdict": UNMEASURED, "note": next(iter(unknown.values()))}
    worst = max(known, key=lambda k: shares[k])
    m = measured[worst]
    failed, said = shares[worst] > 1, ": ".join(x for x in (m.quantity, m.note) if x)
    if unknown:
        seen = ", ".join(part for part, why in parts.items() if not why)
        missing = "; ".join(f"{part}: {why}" for part, why in unknown.items())
        half = f"not measured: {missing}"
        said = f"{said}; {half}" if failed else f"only in part ({seen}); {half}"
    return {
        "verdict": FAILED if failed else UNMEASURED if unknown else PASSED,
        "violation": m.value,
        "unit": m.unit,
        "quantity": m.quantity,
        "threshold": limits[worst],
        "note": said,
        "parts": {part: why or "measured" for part, why in parts.items()},
    }


def _parts(measured: Sequence[Measurement], known: Sequence[int]) -> dict[str, str]:
    """The parts of a law, and of each that was not measured, why."""
    found: dict[str, str] = {}
    for part in dict.fromkeys(m.part or m.quantity for m in measured):
        own = [k for k, m in enumerate(measured) if (m.part or m.quantity) == part]
        least = min((measured[k] for k in own), key=lambda m: m.error)
        found[part] = "" if set(own) & set(known) else _uncertain(least)
    return found


def _uncertain(m: Measurement) -> str:
    """Why nothing is known of a part."""
    if not np.isfinite(m.error):
        return m.note
    why = m.note if "jump" in m.note else "noise, or jumps nearby"
    return f"{m.quantity} uncertain by {m.error:.2g} {m.unit}: {why}"


def _row(records: Sequence[Document]) -> Document:
    """The worst of the records of one law: failures first, then by share of the threshold."""

    def badness(r: Document) -> tuple[int, float]:
        violation, limit = r.get("violation"), r.get("threshold") or 1.0
        share = np.inf if violation is None else violation / limit
        # Of holes the deepest, of other diagnostics the largest: both are what to look at.
        if r["verdict"] == DIAGNOSTIC and violation is not None and violation < 0:
            share = 1e300 * -violation
        return -VERDICTS.index(r["verdict"]), share

    worst = max(records, key=badness)
    measured = sum(r["verdict"] != UNMEASURED for r in records)
    calls = sum(r["calls"] for r in records)
    return {**worst, "measured": measured, "structures": len(records), "calls": calls}


# Before the work


def _chosen(laws: Sequence[str] | None, thresholds: Mapping[str, float]) -> list[Law]:
    """The laws that are wanted, in the order of the table, with their thresholds."""
    for name in (*(laws or ()), *thresholds):
        if name not in NAMES:
            guess = nearest(name, NAMES)
            raise ConfigError(
                f"there is no law {name!r}",
                expected=f"one of {', '.join(NAMES)}",
                fix=f"did you mean {guess!r}?" if guess else None,
            )
    if laws is not None and not laws:
        raise ConfigError("no law is named", expected=f"one of {', '.join(NAMES)}")
    found = [law for law in TABLE if laws is None or law.name in laws]
    return [_with_threshold(law, thresholds.get(law.name)) for law in found]


def _with_threshold(law: Law, value: float | None) -> Law:
    if value is None:
        return law
    if law.threshold is None:
        raise ConfigError(f"{law.name} is a diagnostic and has no threshold")
    if not (np.isfinite(value) and value > 0):
        raise ConfigError(
            f"this is not a threshold of {law.name}",
            expected="a positive number",
            received=repr(value),
        )
    own = "given by the user"
    return Law(law.name, law.measure, law.says, value, value, own, law.breaks)


def _picked(n: int, frames: int | None) -> list[int]:
    """Indices of the structures that are taken: the first, the last and some evenly between."""
    if n == 0:
        raise InputError("there are no structures to audit", expected="one at least")
    if frames is not None and frames < 1:
        raise ConfigError("too few frames", expected="1 at least", received=str(frames))
    if frames is None or frames >= n:
        return list(range(n))
    return np.unique(np.linspace(0, n - 1, frames).round().astype(int)).tolist()


def _is_calculator(calculator: Any) -> None:
    if isinstance(calculator, CalculatorProcess):
        return
    if isinstance(calculator, type) or not hasattr(calculator, "get_potential_energy"):
        raise InputError(NO_CALCULATOR, **not_a_calculator(calculator))
    if _is_written_with_jax(type(calculator)):
        warnings.warn(
            f"{type(calculator).__name__} is written with JAX, and importing Kohn switched JAX to "
            "64-bit numbers: it may compute in another precision than it ships with. "
            "kohn.audits.CalculatorProcess('module:Class'), or kohn audit module:Class, gives it a "
            "process of its own",
            stacklevel=3,
        )


def _is_written_with_jax(kind: type) -> bool:
    """Whether modules of its classes have imported something of JAX; ours know what they do."""
    for base in kind.__mro__:
        package = base.__module__.split(".")[0]
        if package in ("ase", "builtins", "kohn"):
            continue
        for value in vars(sys.modules.get(base.__module__, object)).values():
            name = getattr(value, "__name__" if inspect.ismodule(value) else "__module__", None)
            if str(name).split(".")[0] in ("jax", "jaxlib", "flax", "equinox", "haiku"):
                return True
    return False


def _header(calculator, name, data, picked, laws, seed, temperature) -> Document:
    """The first record: all that the others depend on."""
    kind = type(calculator)
    own = isinstance(calculator, CalculatorProcess) and calculator.name
    table = [{k: v for k, v in vars(law).items() if k != "measure"} for law in laws]
    return {
        "kind": "audit",
        "kohn": __version__,
        "format": FORMAT,
        "calculator": name or own or f"{kind.__module__}:{kind.__qualname__}",
        "files": [{"file": s.file, "sha256": s.sha256, "frames": s.frames} for s in data.sources],
        "structures": picked,
        "structures_given": len(data),
        "laws": table,
        "seed": seed,
        "temperature": temperature,
    }


def _something_was_computed(found: Audit) -> None:
    """Refuse an audit of nothing: a calculator that raises on every structure."""
    whole = all(r.get("raised") and r["calls"] == 0 for r in found.records)
    if found.records and whole:
        first = found.records[0]
        raise InputError(
            "the calculator computed none of the structures",
            where=Place(first["file"], first["frame"]),
            received=first["raised"],
            fix="try it on one structure in Python; check its elements, cell and arguments",
        )
