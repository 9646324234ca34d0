"""Speed beside mace-torch and mlip: `python -m benchmarks.speed`.

All sides live in processes of their own and are asked in turn, round after round, in one run on
the same cores with the same number of threads; medians and the ratios of medians are shown.
mace-torch and Kohn evaluate the same function with the same weights (converted; energies and
forces are compared first). mlip has its own weights of the same shape. Nominal operations are
those of the dense algorithm (`nominal`), and the share is of the matrix-product peak that JAX
reached in the same run. `make peers` makes the environments. Give it an idle machine.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
DATA = Path(os.environ.get("KOHN_DATA", ROOT.parent / "shared" / "data"))
WORK = HERE / "scratch"
RESULTS = HERE / "results"

CHANNELS, HARMONICS, BESSEL, WIDTH = 64, 16, 8, 64
TARGETS = {
    ("energy_forces", "molecule"): (7.0, 10.0),
    ("energy_forces", "batch"): (5.0, 8.0),
    ("energy_forces", "box"): (3.5, 5.0),
    ("train_step", "molecule"): (4.0, 8.0),
    ("train_step", "batch"): (4.0, 8.0),
    ("train_step", "box"): (2.5, 4.0),
}
"""What is timed, on what: (asked for, aimed at) times faster than mace-torch."""


@dataclass
class Case:
    """Structures to time on."""

    name: str
    kind: str
    structures: Path
    batch: int


@dataclass
class Side:
    """One worker process."""

    name: str
    command: list[str]
    process: subprocess.Popen | None = None
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        """Start the worker and wait until it is ready."""
        with open(WORK / f"speed-{self.name}.log", "w") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
        self._answer()

    def ask(self, **command: Any) -> dict[str, Any]:
        """One command, one answer."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} died; see {WORK / f'speed-{self.name}.log'}")
        return json.loads(line)


def nominal(atoms: int, edges: int, elements: int) -> float:
    """Operations of energy and forces by the dense algorithm, two layers, scalar features.

    Per edge and layer: the radial network and the outer product with the harmonics; per atom
    and layer: mixing and per-element maps of 16 components. The gradient by the inputs takes
    as much again.
    """
    c, w = CHANNELS, WIDTH
    edge = 2 * (BESSEL * w + 2 * w * w + w * 4 * c) + 2 * HARMONICS * c
    atom = 2 * HARMONICS * c * c * 2
    return 2.0 * 2.0 * (edges * edge + atoms * atom)


def cases() -> list[Case]:
    """A small and a larger molecule, ten of the larger one, a box of water."""
    rmd17 = DATA / "rmd17"
    return [
        Case("ethanol", "molecule", rmd17 / "ethanol_test.extxyz", 1),
        Case("aspirin", "molecule", rmd17 / "aspirin_test.extxyz", 1),
        Case("aspirin x 10", "batch", rmd17 / "aspirin_test.extxyz", 10),
        Case("64 water", "box", WORK / "water192.extxyz", 1),
    ]


def measure(sides: list[Side], rounds: int, repeats: int, modes: list[str]) -> list[dict[str, Any]]:
    """Every case on every side, in turn."""
    rows = []
    for case in cases():
        sizes = {}
        for side in sides:
            sizes[side.name] = side.ask(
                cmd="prepare", case=case.name, structures=str(case.structures), batch=case.batch
            )
        for what in ("energy_forces", "train_step"):
            times: dict[str, list[float]] = {side.name: [] for side in sides}
            chosen = {}
            for _ in range(rounds):
                for side in sides:
                    has_modes = side.name == "mace-torch" and what == "energy_forces"
                    extra = {"modes": modes} if has_modes else {}
                    n = max(2, repeats // (4 if case.kind == "box" else 1))
                    answer = side.ask(cmd="time", case=case.name, what=what, repeats=n, **extra)
                    if not answer["ok"]:
                        print(side.name, case.name, what, answer["error"], file=sys.stderr)
                        continue
                    times[side.name] += answer["seconds"]
                    chosen[side.name] = answer.get("mode")
                    if answer.get("modes_seconds"):
                        side.notes[f"{case.name} {what}"] = answer["modes_seconds"]
            rows.append(
                {
                    "case": case.name,
                    "kind": case.kind,
                    "what": what,
                    **{k: sizes["kohn"][k] for k in ("atoms", "edges", "slots")},
                    "milliseconds": {k: 1e3 * median(v) for k, v in times.items() if v},
                    "mode": chosen.get("mace-torch"),
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]], document: dict[str, Any]) -> str:
    """The measurements in Markdown."""
    peak, elements = document["matmul_gflops"], document["elements"]
    lines = [
        f"{document['threads']} threads, float32; matrix-product peak {peak:.0f} GFLOP/s; "
        + "parameters: "
        + ", ".join(f"{k} {v:,}" for k, v in document["parameters"].items())
        + ".",
        "",
        "| what | structures | Kohn, ms | mace-torch, ms | mode | ratio | not compiled, ms | ratio "
        "| asked (aim) | mlip, ms | ratio | share of peak |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    every_mode = document.get("notes", {}).get("mace-torch", {})
    for row in rows:
        ms = row["milliseconds"]
        ours, theirs, mlip = ms["kohn"], ms.get("mace-torch"), ms.get("mlip")
        factor = 3 if row["what"] == "train_step" else 1
        work = factor * nominal(row["atoms"], row["edges"], elements)
        mode = row["mode"] or "eager"
        asked, aim = TARGETS[row["what"], row["kind"]]
        lines.append(
            f"| {row['what'].replace('_', ' ')} | {row['case']} | {ours:.2f} | "
            + (f"{theirs:.1f} | {mode} | **{theirs / ours:.1f}** | " if theirs else "– | – | – | ")
            + _uncompiled(every_mode.get(f"{row['case']} {row['what']}"), ours)
            + f"{asked:g} ({aim:g}) | "
            + (f"{mlip:.1f} | {mlip / ours:.1f} | " if mlip else "– | – | ")
            + f"{100 * work / (ours * 1e-3) / (peak * 1e9):.0f} % |"
        )
    if "dynamics" in document:
        lines += [
            "",
            "Molecular dynamics with ASE, end to end (calculator, neighbour list, integrator):",
            "",
        ]
        lines += ["| structures | ms a step | compilations |", "| --- | --- | --- |"]
        lines += [
            f"| {name} | {1e3 * d['seconds_a_step']:.2f} | {d['compilations']} |"
            for name, d in document["dynamics"].items()
        ]
    memory = {k: v["peak_rss_bytes"] / 2**30 for k, v in document.get("memory", {}).items()}
    if memory:
        lines += [
            "",
            "Peak memory, GiB: " + ", ".join(f"{k} {v:.1f}" for k, v in memory.items()) + ".",
        ]
    return "\n".join(lines) + "\n"


def _uncompiled(seconds: dict[str, float] | None, ours: float) -> str:
    """The faster of eager and scripted, in the trial that chose the mode."""
    if not seconds:
        return "| | "
    best = 1e3 * min(seconds[mode] for mode in ("eager", "script"))
    return f"{best:.1f} | {best / ours:.1f} | "


def main() -> None:
    """Measure and write benchmarks/results/speed.{json,md}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(WORK / "speed_0e.safetensors"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument(
        "--compiled", action="store_true", help="also torch.compile, a minute a case"
    )
    parser.add_argument("--without", nargs="*", default=[], help="sides to leave out")
    parser.add_argument("--dynamics", type=int, default=1000, help="steps of molecular dynamics")
    arguments = parser.parse_args()
    every = [
        Side("kohn", [sys.executable, "-m", "benchmarks.worker"]),
        Side("mace-torch", [".venv-peers/bin/python", "benchmarks/peers/speed_mace_torch.py"]),
        Side("mlip", [".venv-peers-mlip/bin/python", "benchmarks/peers/speed_mlip.py"]),
    ]
    sides = [s for s in every if s.name not in arguments.without]
    model = Path(arguments.model)
    document: dict[str, Any] = {"threads": arguments.threads, "parameters": {}, "elements": 4}
    for side in sides:
        side.start()
        path = model.with_suffix(".model") if side.name == "mace-torch" else model
        answer = side.ask(cmd="load", model=str(path), dtype="float32", threads=arguments.threads)
        document["parameters"][side.name] = answer.get("parameters")
    document["matmul_gflops"] = sides[0].ask(cmd="matmul_peak")["gflops"]
    modes = ["eager", "script", *(["compile", "compile_threads"] if arguments.compiled else [])]
    rows = measure(sides, arguments.rounds, arguments.repeats, modes)
    if arguments.dynamics:
        document["dynamics"] = {
            case.name: sides[0].ask(
                cmd="dynamics", structures=str(case.structures), steps=arguments.dynamics
            )
            for case in cases()
            if case.batch == 1
        }
    document |= {"rows": rows, "memory": {s.name: s.ask(cmd="rss") for s in sides}}
    document["notes"] = {s.name: s.notes for s in sides if s.notes}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "speed.json").write_text(json.dumps(document, indent=1) + "\n")
    text = table(rows, document)
    (RESULTS / "speed.md").write_text(text)
    print(text)
    for side in sides:
        side.ask(cmd="quit")


if __name__ == "__main__":
    main()
