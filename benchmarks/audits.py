"""Audits of known calculators: `python -m benchmarks.audits [MODEL=FILE ...]` writes
results/audits.md.

ASE's EMT and LennardJones on rattled copper, GFN2-xTB on water where tblite is installed
(`pip install kohn[tblite]`), and Kohn models on files of structures, each given as
MODEL=FILE. Two structures each, seed 0; models in float64 and in float32.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import kohn
from kohn.audits import TABLE, Audit

HERE = Path(__file__).parent


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


def cases(models: list[str]) -> Iterator[tuple[str, Any, Any]]:
    """Name, calculator and structures."""
    lj = {"sigma": 2.3, "epsilon": 0.1, "rc": 6.0}
    yield "ASE EMT, Cu", EMT(), copper()
    yield "ASE LennardJones, Cu", LennardJones(**lj), copper()
    yield "LennardJones, smooth=True", LennardJones(**lj, smooth=True), copper()
    try:
        from tblite.ase import TBLite  # type: ignore[import-not-found]
    except ImportError:
        print("tblite is not installed: no GFN2-xTB", file=sys.stderr)
    else:
        for name, accuracy in (("GFN2-xTB (tblite), H2O", 1.0), ("GFN2-xTB, accuracy=0.001", 1e-3)):
            xtb = TBLite(method="GFN2-xTB", accuracy=accuracy, verbosity=0)
            yield name, xtb, water()
    for given in models:
        model, _, file = given.partition("=")
        for dtype in ("float64", "float32"):
            name = f"Kohn, {Path(model).parent.name}, {dtype}"
            yield name, kohn.Calculator(model, dtype=dtype), kohn.read(file)


def table(audits: dict[str, tuple[Audit, float]]) -> str:
    """Calculators against laws: the largest violation, bold where it fails, and the cost."""
    lines = ["| law | unit | " + " | ".join(audits) + " |", "| --- " * (len(audits) + 2) + "|"]
    for law in TABLE:
        rows = [next(r for r in audit.rows if r["law"] == law.name) for audit, _ in audits.values()]
        unit = next((r["unit"] for r in rows if r.get("unit")), "")
        lines.append(f"| {law.name} | {unit} | " + " | ".join(cell(r, unit) for r in rows) + " |")
    parts = [f"{sum(r['calls'] for r in a.records):,}, {s:.0f} s" for a, s in audits.values()]
    lines.append("| calls, time | | " + " | ".join(parts) + " |")
    notes = [
        f"- {name}: {row['law']}: {row['note']}"
        for name, (audit, _) in audits.items()
        for row in audit.rows
        if row["verdict"] == "failed"
    ]
    return "\n".join([*lines, "", "What fails:", "", *notes]) + "\n"


def cell(row: dict[str, Any], unit: str) -> str:
    """The violation; bold where it is beyond the threshold."""
    if row["verdict"] == "not measured":
        return "–"
    if row["violation"] is None:
        return "**no number**"
    text = f"{row['violation']:.1e}" + (f" {row['unit']}" if row["unit"] != unit else "")
    return f"**{text}**" if row["verdict"] == "failed" else text


def main() -> None:
    """All audits, and the table."""
    audits: dict[str, tuple[Audit, float]] = {}
    for name, calculator, structures in cases(sys.argv[1:]):
        started = time.perf_counter()
        found = kohn.audit(calculator, structures, frames=2, name=name)
        audits[name] = found, time.perf_counter() - started
        print(f"{name}: {', '.join(found.failed) or 'no law fails'}", file=sys.stderr)
    text = table(audits)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "audits.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
