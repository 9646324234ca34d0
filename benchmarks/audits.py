"""Audits of known calculators: `python -m benchmarks.audits [NAME …] [MODEL=FILE …]` writes
results/audits.md.

All cases, or those whose names contain one of the words given; and models on structures of a
file. Two structures each, seed 0.

    EMT, LennardJones     ASE's, on rattled copper
    GFN2-xTB              of tblite (`make .venv-peers-tblite/.done`), water
    mace-torch            untrained, float64 (`make .venv-peers/.done`), ethanol
    Kohn                  every family, trained here on rMD17 ethanol ($KOHN_DATA, default
                          ../shared/data) for a minute or two, in float64 and in float32

Models are kept in benchmarks/scratch/audits; remove the folder to train anew. What an environment
cannot run stays in the table as it was: results/audits.json holds every row.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import kohn
from benchmarks.common import (
    DATA,
    FOLDERS,
    PEERS,
    machine,
    machine_line,
    parsed,
    parser_of,
    write_json,
    write_text,
)
from kohn.audits import TABLE

STEPS = 1_000
FAMILIES: dict[str, dict[str, Any]] = {
    "schnet": {"channels": 64, "layers": 3},
    "dimenet": {"channels": 32, "angular_channels": 16, "layers": 2},
    "nequip": {"channels": 8, "layers": 3, "radial_widths": [32]},
    "mace": {"channels": 16, "l_max": 2, "radial_widths": [32]},
}


class Missing(Exception):
    """This environment lacks what a case needs."""


# Structures


def copper() -> list[Any]:
    """Two fcc cells of four atoms, rattled."""
    frames = [bulk("Cu", cubic=True) for _ in range(2)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed)
    return frames


def water() -> list[Any]:
    """A molecule and a pair of them, rattled."""
    one, other = molecule("H2O"), molecule("H2O")
    other.translate([0.3, 0.2, 2.9])
    frames = [one, one + other]
    for atoms in frames:
        atoms.rattle(0.03, seed=0)
    return frames


def ethanol() -> list[Any]:
    """Two ethanol molecules, rattled."""
    frames = [molecule("CH3CH2OH") for _ in range(2)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed)
    return frames


# Calculators


Case = tuple[Callable[[], Any], Callable[[], Any]]
"""What makes the calculator, and the structures."""


def lennard_jones(**more: Any) -> Any:
    return LennardJones(sigma=2.3, epsilon=0.1, rc=6.0, **more)


def xtb(accuracy: float) -> Any:
    """GFN2-xTB."""
    from benchmarks.peers.mace_calculator import beside

    try:
        beside(PEERS["tblite"].folder, "tblite")
        from tblite.ase import TBLite  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Missing(str(error)) from error
    return TBLite(method="GFN2-xTB", accuracy=accuracy, verbosity=0)


def mace_torch() -> Any:
    """Random weights."""
    from benchmarks.peers.mace_calculator import untrained

    try:
        return untrained()
    except ImportError as error:
        raise Missing(str(error)) from error


def model_of(family: str, dtype: str, steps: int = STEPS) -> Any:
    """A small model of a family, trained for this."""
    from kohn.training import train
    from kohn.training.settings import parse

    folder = FOLDERS.work / "audits" / family
    file = DATA / "rmd17" / "ethanol_train.extxyz"
    if not (folder / "model.safetensors").exists():
        if not file.exists():
            raise Missing(f"{file} is not there; $KOHN_DATA names the folder of the data")
        run = {"steps": steps, "evaluate_every": 4, "checkpoint_every": 4, "threads": 1}
        document = {
            "data": {"train": [str(file)]},
            "model": {"family": family, **FAMILIES[family]},
            "optimiser": {"ema": 0.99},
            "run": run,
        }
        folder.parent.mkdir(parents=True, exist_ok=True)
        train(parse(document), out=folder, resume=folder.exists())
    return kohn.Calculator(folder / "model.safetensors", dtype=dtype)


CASES: dict[str, Case] = {
    "ASE EMT, Cu": (EMT, copper),
    "ASE LennardJones, Cu": (lennard_jones, copper),
    "LennardJones, smooth=True": (lambda: lennard_jones(smooth=True), copper),
    "GFN2-xTB (tblite), H2O": (lambda: xtb(1.0), water),
    "GFN2-xTB, accuracy=0.001": (lambda: xtb(1e-3), water),
    "mace-torch, untrained, ethanol": (mace_torch, ethanol),
}
for _family in FAMILIES:
    for _dtype in ("float64", "float32"):
        CASES[f"Kohn {_family}, {_dtype}"] = (
            lambda family=_family, dtype=_dtype: model_of(family, dtype),
            ethanol,
        )


def chosen(words: list[str]) -> dict[str, Case]:
    """The cases that the words name; all where there are none."""
    names = [w for w in words if "=" not in w]
    found = {n: c for n, c in CASES.items() if not words or any(w in n for w in names)}
    for given in (w for w in words if "=" in w):
        model, _, file = given.partition("=")
        for dtype in ("float64", "float32"):
            found[f"Kohn, {Path(model).parent.name}, {dtype}"] = (
                lambda model=model, dtype=dtype: kohn.Calculator(model, dtype=dtype),
                lambda file=file: kohn.read(file),
            )
    return found


# The table


def quick_cases() -> dict[str, Case]:
    """One of each kind, with models that have hardly learned."""
    kept = {n: CASES[n] for n in ("ASE EMT, Cu", "GFN2-xTB (tblite), H2O") if n in CASES}
    kept["mace-torch, untrained, ethanol"] = CASES["mace-torch, untrained, ethanol"]
    for family in FAMILIES:
        kept[f"Kohn {family}, float32"] = (
            lambda family=family: model_of(family, "float32", 100),
            ethanol,
        )
    return kept


def table(rows: dict[str, Any]) -> str:
    """Calculators against laws: the largest violation, bold where it fails, and the cost."""
    audits = {name: rows[name] for name in [*CASES, *rows] if name in rows}
    lines = ["| law | unit | " + " | ".join(audits) + " |", "| --- " * (len(audits) + 2) + "|"]
    for law in TABLE:
        found = [next(r for r in a["rows"] if r["law"] == law.name) for a in audits.values()]
        unit = next((r["unit"] for r in found if r.get("unit")), "")
        cells = " | ".join(cell(r, unit) for r in found)
        lines.append(f"| {law.name} | {unit} | {cells} |")
    parts = [f"{a['calls']:,}, {a['seconds']:.0f} s" for a in audits.values()]
    lines.append("| calls, time | | " + " | ".join(parts) + " |")
    notes = [
        f"- {name}: {row['law']}: {row['note']}"
        for name, audit in audits.items()
        for row in audit["rows"]
        if row["verdict"] == "failed"
    ]
    machines: dict[str, list[str]] = {}
    for name, audit in audits.items():
        if "machine" in audit:
            machines.setdefault(machine_line(audit["machine"]), []).append(name)
    told = [f"{'; '.join(names)}: {line}\n" for line, names in machines.items()]
    return "\n".join([*lines, "", "What fails:", "", *notes, "", *told])


def cell(row: dict[str, Any], unit: str) -> str:
    """The violation; bold where it is beyond the threshold."""
    if row["verdict"] == "not measured":
        return "–"
    if row["violation"] is None:
        return "**no number**"
    text = f"{row['violation']:.1e}" + (f" {row['unit']}" if row["unit"] != unit else "")
    return f"**{text}**" if row["verdict"] == "failed" else text


def measured(name: str, case: Case) -> dict[str, Any]:
    """A case: rows of laws, calls and seconds.

    Raises:
        Missing: this environment cannot run it.
    """
    make, structures = case
    m = machine()
    calculator = make()
    started = time.perf_counter()
    found = kohn.audit(calculator, structures(), frames=2, name=name)
    kept = ("law", "verdict", "violation", "unit", "note")
    return {
        "rows": [{k: row[k] for k in kept if k in row} for row in found.rows],
        "calls": sum(r["calls"] for r in found.records),
        "seconds": time.perf_counter() - started,
        "machine": m,
    }


def recorded() -> dict[str, Any]:
    """What was measured before, here or elsewhere."""
    record = FOLDERS.results / "audits.json"
    return json.loads(record.read_text()) if record.exists() else {}


def main() -> None:
    """The audits that are asked for, and the table of all."""
    parser = parser_of(__doc__)
    parser.add_argument("words", nargs="*", metavar="NAME or MODEL=FILE", help="all by default")
    arguments = parsed(parser)
    cases = quick_cases() if arguments.quick else chosen(arguments.words)
    if not cases:
        raise SystemExit(f"no case has {arguments.words} in its name: {', '.join(CASES)}")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = recorded()
    for name, case in cases.items():
        try:
            found = measured(name, case)
        except Missing as error:
            print(f"{name}: left as it was: {error}", file=sys.stderr)
            continue
        rows = {**recorded(), name: found}  # another run may have added to it
        failed = [r["law"] for r in found["rows"] if r["verdict"] == "failed"]
        print(f"{name}: {', '.join(failed) or 'no law fails'}", file=sys.stderr, flush=True)
        write_json(FOLDERS.results / "audits.json", rows)
        write_text(FOLDERS.results / "audits.md", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
