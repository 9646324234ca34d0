"""Hulls beside pymatgen: `python -m benchmarks.hulls`.

Synthetic chemical systems of 2,000 entries and 3 to 6 elements (`make_system`). Both sides live in
processes of their own on one core and are asked in turn, round after round, in one run; medians of
wall and CPU time, and ratios of CPU times. Objects (pymatgen's entries, Kohn's arrays) are made
before.

    build      pymatgen: PhaseDiagram(entries); Kohn: energies to formation energies, facets
    distances  pymatgen: get_decomp_and_e_above_hull, a few hundred candidates, one by one; Kohn:
               100,000 at once, of which the first are the same; they are compared
    samples    Kohn alone: 1,000 joint samples of all energies, σ = 30 meV/atom
    million    Kohn alone: distances of one million candidates of four elements

The last two each in a process of its own, for peak memory. `make peers` makes the peer's
environment; KOHN_PEERS_HULL names another python; where it is not installed, Kohn is measured
alone. Give it an idle core.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import (
    FOLDERS,
    PEERS,
    ROOT,
    installed,
    machine,
    parsed,
    parser_of,
    write_results,
)
from benchmarks.peers.protocol import guard_stdout, serve
from benchmarks.sides import Side

ENTRIES = 2000
CANDIDATES = 100_000
PEER_CANDIDATES = {3: 500, 4: 300, 5: 100, 6: 100}
"""So many pymatgen is asked for, by elements."""
BUILD_ASKED = {3: 100.0, 4: 50.0, 5: 10.0, 6: 1.5}
DISTANCE_ASKED = {3: 500.0, 4: 150.0, 6: 100.0}
"""Times faster than pymatgen."""
SAMPLED = ((3, 2000, False), (3, 2000, True), (3, 50, False), (4, 200, False), (6, 200, False))
"""Elements and candidates of the joint samples, and whether the candidates are the entries."""
SAMPLES_ASKED, MILLION_ASKED = 3.0, 10.0
"""Seconds."""


def make_system(elements: int, entries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Atoms of each element, [N, D], and energies, eV/atom, [N].

    Two to four elements in each compound, one to six atoms of each; energies near those of ideal
    mixing, so that tens to hundreds of phases are stable, as in real systems. The first entries are
    the elements, with references that do not depend on the seed.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((entries, elements), int)
    for row in counts:
        present = rng.integers(2, min(elements, 4) + 1)
        row[rng.choice(elements, present, replace=False)] = rng.integers(1, 7, present)
    counts[:elements] = np.eye(elements, dtype=int)
    x = counts / counts.sum(axis=1, keepdims=True)
    mixing = -np.where(x > 0, x * np.log(np.where(x > 0, x, 1.0)), 0.0).sum(axis=1)
    formation = -1.2 * mixing * (1 + 0.15 * rng.standard_normal(entries))
    formation += 0.08 * np.abs(rng.standard_normal(entries))
    formation[:elements] = 0
    return counts, x @ np.random.default_rng(12345).uniform(-9, -2, elements) + formation


def fractions_of(counts: np.ndarray) -> np.ndarray:
    """x, [N, D]."""
    return counts / counts.sum(axis=1, keepdims=True)


def formation_energies(x: np.ndarray, e: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """eV/atom, [N]."""
    return e - x @ reference


def elemental(x: np.ndarray, e: np.ndarray) -> np.ndarray:
    """The lowest energy of each element, eV/atom, [D]."""
    return np.array([e[x[:, j] > 1 - 1e-9].min() for j in range(x.shape[1])])


# --- Kohn's side --------------------------------------------------------------------------


def timed(call: Callable[[], Any], repeats: int) -> tuple[dict[str, Any], Any]:
    """Wall and CPU seconds of each repeat, and what came of the last."""
    wall, cpu, found = [], [], None
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        found = call()
        wall.append(time.perf_counter() - started[0])
        cpu.append(time.process_time() - started[1])
    return {"wall": wall, "cpu": cpu}, found


class Worker:
    """Kohn's answers."""

    def __init__(self) -> None:
        self.cases: dict[str, tuple[np.ndarray, ...]] = {}
        self.hulls: dict[str, Any] = {}

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """Read the arrays."""
        data = np.load(command["file"])
        self.cases[command["case"]] = (
            fractions_of(data["counts"]),
            data["energies"],
            fractions_of(data["candidate_counts"]),
            data["candidate_energies"],
        )
        return {}

    def build(self, command: dict[str, Any]) -> dict[str, Any]:
        """From energies to facets."""
        from kohn.stability.hull import LowerHull

        x, e, _, _ = self.cases[command["case"]]

        def call() -> LowerHull:
            hull = LowerHull(x, formation_energies(x, e, elemental(x, e)))
            assert len(hull.facets.planes)  # found when first asked for
            return hull

        times, hull = timed(call, command["repeats"])
        self.hulls[command["case"]] = hull
        stable = len(np.unique(hull.facets.entries))
        return {**times, "facets": len(hull.facets.planes), "stable": stable}

    def distances(self, command: dict[str, Any]) -> dict[str, Any]:
        """To a hull that was built, of all candidates."""
        x, e, at, energies = self.cases[command["case"]]
        hull, reference = self.hulls[command["case"]], elemental(x, e)
        times, found = timed(
            lambda: hull.distance(at, formation_energies(at, energies, reference)),
            command["repeats"],
        )
        np.save(command["file"], found[: command["most"]])
        return {**times, "candidates": len(at)}


def serve_kohn() -> int:
    """Serve until told to quit."""
    answers = guard_stdout()
    worker = Worker()
    names = ("prepare", "build", "distances")
    return serve(answers, {"side": "kohn"}, {name: getattr(worker, name) for name in names})


# --- Kohn alone, each in a process of its own ---------------------------------------------


def peak() -> int:
    """Peak resident memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def samples(elements: int, candidates: int, own: bool, count: int) -> dict[str, Any]:
    """Joint samples, in this process."""
    from kohn.stability.uncertainty import Errors, probability_stable

    counts, e = make_system(elements, ENTRIES, seed=0)
    x, entries = fractions_of(counts), None
    at, energies = x, e
    if own:
        entries = np.arange(ENTRIES)
    else:
        counts, energies = make_system(elements, candidates + elements, seed=1)
        at, energies = fractions_of(counts)[elements:], energies[elements:]
    errors, before = Errors(hull=0.03, candidates=0.03), peak()
    times, found = timed(
        lambda: probability_stable(x, e, at, energies, errors, entries=entries, samples=count), 1
    )
    return {
        "elements": elements,
        "candidates": len(at),
        "own": own,
        "samples": count,
        "wall": times["wall"][0],
        "cpu": times["cpu"][0],
        "spread": float(found.std.mean()),
        "before_bytes": before,
        "peak_bytes": peak(),
    }


def million(count: int) -> dict[str, Any]:
    """Distances of many quaternary candidates, in this process."""
    from kohn.stability.hull import LowerHull

    counts, e = make_system(4, ENTRIES, seed=0)
    x = fractions_of(counts)
    rng = np.random.default_rng(1)
    at = rng.dirichlet(np.ones(4), count)
    energies, before = rng.normal(size=count), peak()
    times, found = timed(lambda: LowerHull(x, e - x @ elemental(x, e)).distance(at, energies), 1)
    return {
        "candidates": len(found),
        "wall": times["wall"][0],
        "cpu": times["cpu"][0],
        "before_bytes": before,
        "peak_bytes": peak(),
    }


def alone(*arguments: str) -> dict[str, Any]:
    """What a process of its own measures."""
    command = [sys.executable, "-m", "benchmarks.hulls", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


# --- the comparison -----------------------------------------------------------------------


def write_cases(elements: Iterable[int]) -> dict[int, Path]:
    """Entries and candidates by elements, where both sides find them."""
    paths = {}
    for d in elements:
        counts, energies = make_system(d, ENTRIES, seed=0)
        more, candidate_energies = make_system(d, CANDIDATES + d, seed=1)
        paths[d] = FOLDERS.work / f"hull-{d}.npz"
        np.savez(
            paths[d],
            counts=counts,
            energies=energies,
            candidate_counts=more[d:],  # not the elements
            candidate_energies=candidate_energies[d:],
        )
    return paths


def compare(rounds: int, elements: Iterable[int], peer: bool) -> list[dict[str, Any]]:
    """Every case on both sides, in turn; on Kohn's alone where there is no peer."""
    sides = {"kohn": Side("kohn", [sys.executable, "-m", "benchmarks.hulls", "--serve"])}
    if peer:
        worker = [PEERS["hull"].python, "benchmarks/peers/hull_pymatgen.py"]
        sides["pymatgen"] = Side("pymatgen", worker)
    for side in sides.values():
        side.start()
    rows: list[dict[str, Any]] = []
    for d, path in write_cases(elements).items():
        for side in sides.values():
            side.get(cmd="prepare", case=str(d), file=str(path))
        row: dict[str, Any] = {"elements": d}
        for what in ("build", "distances"):
            times: dict[str, dict[str, list[float]]] = {n: {"wall": [], "cpu": []} for n in sides}
            for _round in range(rounds):
                for name, side in sides.items():
                    out = str(FOLDERS.work / f"hull-{name}.npy")
                    repeats = 3 if name == "kohn" else 1
                    answer = side.get(
                        cmd=what,
                        case=str(d),
                        repeats=repeats,
                        most=PEER_CANDIDATES[d],
                        file=out,
                    )
                    per = answer["candidates"] if what == "distances" else 1
                    for clock, seconds in times[name].items():
                        seconds += [s / per for s in answer[clock]]
                    if what == "build":
                        row[f"facets_{name}"], row["stable"] = answer["facets"], answer["stable"]
            row[what] = {n: {c: median(s) for c, s in t.items()} for n, t in times.items()}
        ours, *theirs = (np.load(FOLDERS.work / f"hull-{name}.npy") for name in sides)
        row["differ"] = max((float(np.abs(ours - other).max()) for other in theirs), default=0.0)
        if not row["differ"] < 1e-9:
            raise SystemExit(f"{d} elements: distances differ by {row['differ']:.1e} eV/atom")
        path.unlink()
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    for side in sides.values():
        side.quit()
    return rows


def table(document: dict[str, Any]) -> str:
    """The measurements in Markdown."""
    lines = []
    if "rows" in document:
        worst = max(row["differ"] for row in document["rows"])
        same = f" The distances are pymatgen's within {worst:.0e} eV/atom."
        lines += [
            f"One core, {ENTRIES:,} entries; CPU time, wall time in brackets."
            + (same if "pymatgen" in document["rows"][0]["build"] else ""),
            "",
            "| elements | facets | build: Kohn, ms | pymatgen, ms | ratio | asked | a candidate: "
            "Kohn, µs | pymatgen, µs | ratio | asked |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in document["rows"]:
            d = row["elements"]
            build, each = row["build"], row["distances"]
            cells = [str(d), str(row["facets_kohn"])]
            for times, unit, least in (
                (build, 1e3, BUILD_ASKED.get(d)),
                (each, 1e6, DISTANCE_ASKED.get(d)),
            ):
                cells += [_with_wall(times["kohn"], unit)]
                if "pymatgen" in times:
                    ratio = times["pymatgen"]["cpu"] / times["kohn"]["cpu"]
                    cells += [_with_wall(times["pymatgen"], unit)]
                    cells += [f"**{ratio:,.0f}**" if ratio > 10 else f"**{ratio:.1f}**"]
                else:
                    cells += ["–", "–"]
                cells += [f"{least:g}" if least else "–"]
            lines.append("| " + " | ".join(cells) + " |")
        lines += [
            "",
            f"Kohn's candidates are {CANDIDATES:,} at once; pymatgen's "
            f"{min(PEER_CANDIDATES.values())} to {max(PEER_CANDIDATES.values())}, one by one, "
            "without its check for equal entries.",
            "",
        ]
    if "samples" in document:
        lines += [
            "Joint samples of all energies, σ = 30 meV/atom for each, every hull exact; the aim is "
            f"{SAMPLES_ASKED:g} s for the first row:",
            "",
            "| elements | candidates | samples | CPU s | wall s | spread of the distance, meV/atom "
            "| memory added, MiB |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for r in document["samples"]:
            whose = f"the {r['candidates']:,} entries" if r["own"] else f"{r['candidates']:,}"
            lines.append(
                f"| {r['elements']} | {whose} | {r['samples']:,} | {r['cpu']:.2f} | "
                f"{r['wall']:.2f} | {1e3 * r['spread']:.0f} | {_added(r):.0f} |"
            )
        lines.append("")
    if "million" in document:
        r = document["million"]
        lines += [
            f"{r['candidates']:,} candidates of four elements, hull included: "
            f"{r['cpu']:.2f} CPU s, {r['wall']:.2f} s wall (aim: {MILLION_ASKED:g} s); "
            f"{_added(r):.0f} MiB beside the candidates, {r['peak_bytes'] / 2**20:.0f} MiB in all.",
            "",
        ]
    return "\n".join(lines)


def _with_wall(times: dict[str, float], unit: float) -> str:
    cpu, wall = unit * times["cpu"], unit * times["wall"]
    digits = 0 if cpu >= 100 else 1 if cpu >= 10 else 2
    return f"{cpu:,.{digits}f} ({wall:,.{digits}f})"


def _added(row: dict[str, Any]) -> float:
    return (row["peak_bytes"] - row["before_bytes"]) / 2**20


def main() -> int:
    """Measure and write benchmarks/results/hulls.md."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1_000_000, help="candidates of 'million'")
    parser.add_argument(
        "--without", nargs="*", default=[], choices=["peer", "samples", "million"], help="leave out"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--million", type=int, help=argparse.SUPPRESS)
    arguments = parsed(parser)
    if arguments.serve:
        return serve_kohn()
    if arguments.samples or arguments.million:
        if arguments.million:
            found = million(arguments.million)
        else:
            d, candidates, own, count = arguments.samples
            found = samples(d, candidates, bool(own), count)
        print(json.dumps(found))
        return 0
    # one core and one thread for all that this process starts
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    elements, sampled, count = list(BUILD_ASKED), SAMPLED, 1000
    if arguments.quick:
        arguments.rounds, arguments.count = 1, 10_000
        elements, sampled, count = elements[:1], SAMPLED[2:3], 50
    peers = installed(*([] if "peer" in arguments.without else ["hull"]))
    m = machine(peers)
    document: dict[str, Any] = {"rows": compare(arguments.rounds, elements, bool(peers))}
    if "samples" not in arguments.without:
        document["samples"] = []
        for d, candidates, own in sampled:
            asked_for = (str(d), str(candidates), str(int(own)), str(count))
            document["samples"].append(alone("--samples", *asked_for))
            print(json.dumps(document["samples"][-1]), file=sys.stderr, flush=True)
    if "million" not in arguments.without:
        document["million"] = alone("--million", str(arguments.count))
    write_results("hulls", m, document, table(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
