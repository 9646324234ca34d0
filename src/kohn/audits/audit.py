"""Measure each law of physics on each structure, record the results and summarise them."""

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
    """The result of an audit: how strongly a calculator violates the laws of physics.

    Attributes:
        header: the first record, which names the calculator, the structures and the laws.
        records: one record for each law and structure.
    """

    header: Document
    records: tuple[Document, ...]

    @property
    def ok(self) -> bool:
        """True if no law failed."""
        return not any(r["verdict"] == FAILED for r in self.records)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the laws that failed."""
        return tuple(r["law"] for r in self.rows if r["verdict"] == FAILED)

    @property
    def rows(self) -> list[Document]:
        """One row for each law: its worst record, and the number of structures measured."""
        return [_worst_record([r for r in self.records if r["law"] == name]) for name in self._laws]

    @property
    def raised(self) -> dict[str, int]:
        """The text of each exception of the calculator -> number of structures that caused it."""
        raised = {(r["raised"], r["index"]) for r in self.records if r.get("raised")}
        return dict(sorted(Counter(text for text, _ in raised).items()))

    @property
    def _laws(self) -> list[str]:
        present = {r["law"] for r in self.records}
        return [law["name"] for law in self.header["laws"] if law["name"] in present]

    @classmethod
    def read(cls, folder: str | Path) -> "Audit":
        """Read an audit, finished or not, from the folder that `audit` received as `out`.

        Raises:
            InputError: the folder contains no audit.
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
        """Return header, rows and records of the audit as one dictionary for JSON."""
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
    """Measure how strongly a calculator violates the laws of physics.

    Args:
        calculator: any ASE calculator, or a `CalculatorProcess`, which runs the calculator in a
            separate process without Kohn. Importing Kohn switches JAX to 64-bit numbers in this
            process, so a calculator of this process that is written with JAX gives a warning.
        structures: anything that `kohn.read` accepts: one file or several, ASE atoms, a list.
        laws: names from `kohn.audits.NAMES`; all laws by default.
        thresholds: law -> largest violation that passes, in the units of the law. It replaces the
            threshold in `kohn.audits.TABLE`, and numerical noise does not raise it.
        frames: number of structures to audit, evenly spaced among those given; all by default.
        seed: seed of random directions, rotations and velocities.
        temperature: temperature of the molecular dynamics, K.
        out: a folder for `records.jsonl`, from which a killed audit is resumed; the same seed
            gives the same bytes.
        name: name of the calculator in the records; by default "module:Class".
        advance: called with the number of records added since the last call, to show progress.

    Returns:
        The audit; `audit.ok` is True if no law fails.

    Raises:
        ConfigError: an unknown law; an invalid threshold, temperature or number of frames; another
            process works in the folder `out`.
        InputError: the structures cannot be read; the calculator computes none of them; `out`
            holds another audit.
    """
    chosen = _laws_of(laws, thresholds or {})
    if not (np.isfinite(temperature) and temperature > 0):
        raise ConfigError("this is not a temperature", received=f"{temperature} K")
    data = read(structures, labels="none")
    indices = _indices(len(data), frames)
    _check_calculator(calculator)
    header = _header(calculator, name, data, indices, chosen, seed, temperature)
    work = None if out is None else WorkFolder(Path(out), "audit")
    with nullcontext() if work is None else work.held():
        records = _all_records(calculator, data, indices, chosen, header, work, advance)
    result = Audit(plain(header), tuple(plain(records)))
    _refuse_nothing_computed(result)
    return result


def _all_records(
    calculator: Any,
    data: Dataset,
    indices: Sequence[int],
    laws: Sequence[Law],
    header: Document,
    work: WorkFolder | None,
    advance: Callable[[int], None] | None,
) -> list[Document]:
    """Compute the records that the work folder lacks; return its records and the new ones."""
    records = [] if work is None else work.begin(header)
    done = {(r["law"], r["index"]) for r in records}
    counted = CountedCalculator(calculator)
    seed, temperature = header["seed"], header["temperature"]
    advance = advance or (lambda _: None)
    advance(len(records))
    for index, k in enumerate(indices):
        missing = [law for law in laws if (law.name, index) not in done]
        for record in _records(counted, data[k], index, missing, seed, temperature):
            records.append(record)
            if work is not None:
                work.append(record)
            advance(1)
    return records


# One law, one structure


def _records(
    calculator: CountedCalculator,
    s: Structure,
    index: int,
    laws: Sequence[Law],
    seed: int,
    temperature: float,
) -> Iterator[Document]:
    """Yield the record of each law for the structure s."""
    if not laws:
        return
    try:
        outcome, noise = calculator(s), noise_of(calculator, s)
        failure = None
    except (Unmeasured, Raised, NotANumber) as error:
        outcome, noise, failure = Outcome(0.0), Noise(0.0, 0.0, 0.0), error
    for law in laws:
        rng = np.random.default_rng([seed, index, zlib.crc32(law.name.encode())])
        case = Case(calculator, s, outcome, noise, rng, index, temperature)
        calls_before = calculator.calls
        verdict = _verdict(law, case, failure)
        source = {"file": s.place.file, "frame": s.place.frame, "index": index, "atoms": len(s)}
        calls = calculator.calls - calls_before
        yield {"law": law.name, **source, **verdict, "calls": calls}


def _verdict(law: Law, case: Case, failure: Exception | None) -> Document:
    """Measure a law on one structure and return the verdict, also if the calculator fails."""
    try:
        if failure is not None:
            raise failure
        return verdict_of(law, law.measure(case))
    except NotANumber as error:
        verdict = DIAGNOSTIC if law.threshold is None else FAILED
        return {"verdict": verdict, "violation": None, "note": f"the {error} is not a number"}
    except Raised as error:
        note = f"the calculator raised {error}"
        return {"verdict": UNMEASURED, "note": note, "raised": str(error)}
    except Unmeasured as error:
        return {"verdict": UNMEASURED, "note": str(error)}
    except KohnError as error:  # about the structure, e.g. atoms on top of each other
        return {"verdict": UNMEASURED, "note": error.message}


def verdict_of(law: Law, measured: Sequence[Measurement]) -> Document:
    """Return the verdict of a law from its measurements on one structure.

    The law fails if one violation exceeds both the threshold and its own error. A measurement does
    not count if its error exceeds both the ceiling of the law and the violation. A law that does
    not fail passes if each of its parts has a measurement that counts; the verdict lists the parts.
    """
    if law.threshold is None:
        (m,) = measured
        return {"verdict": DIAGNOSTIC, "violation": m.value, "unit": m.unit, "note": m.note}
    limits = [max(law.threshold, m.error) for m in measured]
    shares = [m.value / limit for m, limit in zip(measured, limits, strict=True)]
    certain = [k for k, m in enumerate(measured) if m.error <= law.ceiling or shares[k] > 1]
    reasons = _reasons(measured, certain)
    missing = {part: reason for part, reason in reasons.items() if reason}
    if not certain:
        return {"verdict": UNMEASURED, "note": next(iter(missing.values()))}
    worst = max(certain, key=lambda k: shares[k])
    m = measured[worst]
    failed, note = shares[worst] > 1, ": ".join(x for x in (m.quantity, m.note) if x)
    if missing:
        complete = ", ".join(part for part, reason in reasons.items() if not reason)
        gaps = "; ".join(f"{part}: {reason}" for part, reason in missing.items())
        gaps = f"not measured: {gaps}"
        note = f"{note}; {gaps}" if failed else f"only in part ({complete}); {gaps}"
    return {
        "verdict": FAILED if failed else UNMEASURED if missing else PASSED,
        "violation": m.value,
        "unit": m.unit,
        "quantity": m.quantity,
        "threshold": limits[worst],
        "note": note,
        "parts": {part: reason or "measured" for part, reason in reasons.items()},
    }


def _reasons(measurements: Sequence[Measurement], certain: Sequence[int]) -> dict[str, str]:
    """Return a dictionary: part of a law -> why the part was not measured, '' if it was."""
    reasons: dict[str, str] = {}
    for part in dict.fromkeys(m.part or m.quantity for m in measurements):
        indices = [k for k, m in enumerate(measurements) if (m.part or m.quantity) == part]
        best = min((measurements[k] for k in indices), key=lambda m: m.error)
        reasons[part] = "" if set(indices) & set(certain) else _reason(best)
    return reasons


def _reason(m: Measurement) -> str:
    """Return why a part of a law counts as not measured; m is its most accurate measurement."""
    if not np.isfinite(m.error):
        return m.note
    cause = m.note if "jump" in m.note else "noise, or jumps nearby"
    return f"{m.quantity} uncertain by {m.error:.2g} {m.unit}: {cause}"


def _worst_record(records: Sequence[Document]) -> Document:
    """Return the worst record of a law, by verdict and then violation / threshold, with totals."""

    def badness(r: Document) -> tuple[int, float]:
        violation, limit = r.get("violation"), r.get("threshold") or 1.0
        share = np.inf if violation is None else violation / limit
        # Among diagnostics the deepest hole (a negative energy) is worst, else the largest value.
        if r["verdict"] == DIAGNOSTIC and violation is not None and violation < 0:
            share = 1e300 * -violation
        return -VERDICTS.index(r["verdict"]), share

    worst = max(records, key=badness)
    measured = sum(r["verdict"] != UNMEASURED for r in records)
    calls = sum(r["calls"] for r in records)
    return {**worst, "measured": measured, "structures": len(records), "calls": calls}


# Preparation


def _laws_of(names: Sequence[str] | None, thresholds: Mapping[str, float]) -> list[Law]:
    """Return the named laws (all if None) in the order of `TABLE`, with the given thresholds."""
    for name in (*(names or ()), *thresholds):
        if name not in NAMES:
            guess = nearest(name, NAMES)
            raise ConfigError(
                f"there is no law {name!r}",
                expected=f"one of {', '.join(NAMES)}",
                fix=f"did you mean {guess!r}?" if guess else None,
            )
    if names is not None and not names:
        raise ConfigError("no law is named", expected=f"one of {', '.join(NAMES)}")
    laws = [law for law in TABLE if names is None or law.name in names]
    return [_with_threshold(law, thresholds.get(law.name)) for law in laws]


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
    reason = "given by the user"
    return Law(law.name, law.measure, law.says, value, value, reason, law.breaks)


def _indices(n: int, frames: int | None) -> list[int]:
    """Return at most `frames` indices of n structures, evenly spaced from first to last."""
    if n == 0:
        raise InputError("there are no structures to audit", expected="at least one")
    if frames is not None and frames < 1:
        raise ConfigError("too few frames", expected="at least 1", received=str(frames))
    if frames is None or frames >= n:
        return list(range(n))
    return np.unique(np.linspace(0, n - 1, frames).round().astype(int)).tolist()


def _check_calculator(calculator: Any) -> None:
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
    """Return whether a module of the class or its bases, other than Kohn's, has imported JAX."""
    for base in kind.__mro__:
        package = base.__module__.split(".")[0]
        if package in ("ase", "builtins", "kohn"):
            continue
        for value in vars(sys.modules.get(base.__module__, object)).values():
            name = getattr(value, "__name__" if inspect.ismodule(value) else "__module__", None)
            if str(name).split(".")[0] in ("jax", "jaxlib", "flax", "equinox", "haiku"):
                return True
    return False


def _header(calculator, name, data, indices, laws, seed, temperature) -> Document:
    """Return the first record of an audit: everything on which the other records depend."""
    kind = type(calculator)
    process_name = isinstance(calculator, CalculatorProcess) and calculator.name
    table = [{k: v for k, v in vars(law).items() if k != "measure"} for law in laws]
    return {
        "kind": "audit",
        "kohn": __version__,
        "format": FORMAT,
        "calculator": name or process_name or f"{kind.__module__}:{kind.__qualname__}",
        "files": [{"file": s.file, "sha256": s.sha256, "frames": s.frames} for s in data.sources],
        "structures": indices,
        "structures_given": len(data),
        "laws": table,
        "seed": seed,
        "temperature": temperature,
    }


def _refuse_nothing_computed(result: Audit) -> None:
    """Raise InputError if the calculator raised an exception on every structure."""
    all_raised = all(r.get("raised") and r["calls"] == 0 for r in result.records)
    if result.records and all_raised:
        first = result.records[0]
        raise InputError(
            "the calculator computed none of the structures",
            where=Place(first["file"], first["frame"]),
            received=first["raised"],
            fix="try it on one structure in Python; check its elements, cell and arguments",
        )
