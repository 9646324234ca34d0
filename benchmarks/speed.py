"""Speed beside mace-torch and mlip: `python -m benchmarks.speed`.

All sides live in processes of their own and are asked in turn, round after round, in one run on
the same cores with the same number of threads; medians and the ratios of medians are shown.
mace-torch and Kohn evaluate the same function with the same weights: mace-torch's, random, made
and exported by it (`make_model`), and forces are compared first. Where mace-torch is not
installed, Kohn makes random weights of that shape. mlip has its own weights of the same shape.
Nominal operations are those of the dense algorithm (`nominal`), and the share is of the
matrix-product peak that JAX reached in the same run.

`make peers` makes the environments; KOHN_PEERS and KOHN_PEERS_MLIP name other pythons. A peer
that is not installed is left out. Give it an idle machine.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import (
    DATA,
    FOLDERS,
    HERE,
    PEERS,
    ROOT,
    installed,
    machine,
    need_data,
    parsed,
    parser_of,
    write_results,
)
from benchmarks.sides import Side
from benchmarks.structures import write_structures

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
    """A small and a larger molecule, ten of the larger one, a box of water that is made here."""
    molecules = ["rmd17/ethanol_test.extxyz", "rmd17/aspirin_test.extxyz"]
    need_data(*molecules)
    ethanol, aspirin = (DATA / file for file in molecules)
    water, _ = write_structures(FOLDERS.work)
    return [
        Case("ethanol", "molecule", ethanol, 1),
        Case("aspirin", "molecule", aspirin, 1),
        Case("aspirin x 10", "batch", aspirin, 10),
        Case("64 water", "box", water, 1),
    ]


def make_model(water: Path) -> Path:
    """mace-torch's random model and its export; made once, in the peer's environment.

    Returns:
        The safetensors file, beside the .model file of the same name.
    """
    folder = FOLDERS.work / "speed-model"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        script = str(HERE / "peers" / "mace_models.py")
        command = [PEERS["mace-torch"].python, script, str(part), "--names", "speed_0e"]
        done = subprocess.run(
            [*command, "--structures", str(water)], capture_output=True, text=True, cwd=ROOT
        )
        if done.returncode:
            raise SystemExit(f"mace-torch made no model: {done.stderr}")
        part.rename(folder)
    return folder / "speed_0e.safetensors"


def agreement(sides: dict[str, Side], case: str) -> float | None:
    """Largest difference of a force from mace-torch's, as a share of the largest.

    Raises:
        SystemExit: they evaluate different functions.
    """
    if "mace-torch" not in sides:
        return None
    ours, theirs = (
        np.array(sides[name].get(cmd="predict", case=case)["forces"])
        for name in ("kohn", "mace-torch")
    )
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if not difference < 1e-3:
        raise SystemExit(f"{case}: forces differ from mace-torch's by {difference:.1e} of them")
    return difference


def measure(
    sides: dict[str, Side], every: list[Case], rounds: int, repeats: int, modes: list[str]
) -> list[dict[str, Any]]:
    """Every case on every side, in turn."""
    rows = []
    for case in every:
        prepare = {"case": case.name, "structures": str(case.structures), "batch": case.batch}
        sizes = {name: side.get(cmd="prepare", **prepare) for name, side in sides.items()}
        differ = agreement(sides, case.name)
        for what in ("energy_forces", "train_step"):
            times: dict[str, list[float]] = {name: [] for name in sides}
            mode = None
            n = max(2, repeats // (4 if case.kind == "box" else 1))
            for _ in range(rounds):
                for name, side in sides.items():
                    has_modes = name == "mace-torch" and what == "energy_forces"
                    extra = {"modes": modes} if has_modes else {}
                    answer = side.get(cmd="time", case=case.name, what=what, repeats=n, **extra)
                    times[name] += answer["seconds"]
                    if name == "mace-torch":
                        mode = answer.get("mode")
                    if answer.get("modes_seconds"):
                        side.notes[f"{case.name} {what}"] = answer["modes_seconds"]
            rows.append(
                {
                    "case": case.name,
                    "kind": case.kind,
                    "what": what,
                    **{k: sizes["kohn"][k] for k in ("atoms", "edges", "slots")},
                    "milliseconds": {k: 1e3 * median(v) for k, v in times.items()},
                    "mode": mode,
                    "differ": differ,
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def table(document: dict[str, Any]) -> str:
    """The measurements in Markdown."""
    rows, peak, elements = document["rows"], document["matmul_gflops"], document["elements"]
    differ = [row["differ"] for row in rows if row["differ"] is not None]
    same = f" Forces are mace-torch's within {max(differ):.0e} of the largest." if differ else ""
    lines = [
        f"{document['threads']} threads, float32; matrix-product peak {peak:.0f} GFLOP/s; "
        + "parameters: "
        + ", ".join(f"{k} {v:,}" for k, v in document["parameters"].items())
        + "."
        + same,
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
    parser = parser_of(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument(
        "--compiled", action="store_true", help="also torch.compile, a minute a case"
    )
    parser.add_argument(
        "--without", nargs="*", default=[], choices=["mace-torch", "mlip"], help="leave out"
    )
    parser.add_argument("--dynamics", type=int, default=1000, help="steps of molecular dynamics")
    arguments = parsed(parser)
    if arguments.quick:
        arguments.rounds, arguments.repeats, arguments.dynamics = 1, 2, 20
    every = cases()
    if arguments.quick:
        every = [every[0], every[-1]]
    peers = installed(*(p for p in ("mace-torch", "mlip") if p not in arguments.without))
    m = machine(peers)
    sides = started(peers, every[-1].structures, arguments.threads)
    document: dict[str, Any] = {"threads": arguments.threads, "elements": 4}
    document["parameters"] = {name: side.notes.pop("parameters") for name, side in sides.items()}
    document["matmul_gflops"] = sides["kohn"].get(cmd="matmul_peak")["gflops"]
    modes = ["eager", "script", *(["compile", "compile_threads"] if arguments.compiled else [])]
    document["rows"] = measure(sides, every, arguments.rounds, arguments.repeats, modes)
    if arguments.dynamics:
        document["dynamics"] = {
            case.name: sides["kohn"].get(
                cmd="dynamics", structures=str(case.structures), steps=arguments.dynamics
            )
            for case in every
            if case.batch == 1
        }
    document["memory"] = {name: side.get(cmd="rss") for name, side in sides.items()}
    document["notes"] = {name: side.notes for name, side in sides.items() if side.notes}
    write_results("speed", m, document, table(document))
    for side in sides.values():
        side.quit()


def started(peers: dict[str, Any], water: Path, threads: int) -> dict[str, Side]:
    """The sides with their models loaded; the numbers of parameters are among their notes."""
    exported = str(make_model(water)) if "mace-torch" in peers else None
    commands = {
        "kohn": [sys.executable, "-m", "benchmarks.worker"],
        "mace-torch": [PEERS["mace-torch"].python, "benchmarks/peers/speed_mace_torch.py"],
        "mlip": [PEERS["mlip"].python, "benchmarks/peers/speed_mlip.py"],
    }
    models = {"kohn": exported, "mlip": exported or {}}
    if exported:
        models["mace-torch"] = str(Path(exported).with_suffix(".model"))
    sides = {name: Side(name, commands[name]) for name in ("kohn", *peers)}
    for name, side in sides.items():
        side.start()
        answer = side.get(cmd="load", model=models[name], dtype="float32", threads=threads)
        side.notes["parameters"] = answer["parameters"]
    return sides


if __name__ == "__main__":
    main()
