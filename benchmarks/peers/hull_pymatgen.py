"""Timing worker for pymatgen's PhaseDiagram (protocol: see `protocol.py`).

    python hull_pymatgen.py

Runs in the environment `.venv-peers-hull`. Commands:

- {"cmd": "prepare", "case": NAME, "file": IN.npz}: entries and candidates, see `hulls.py`; objects
  are made here, untimed.
- {"cmd": "build", "case": NAME, "repeats": r}: answers {"wall": [...], "cpu": [...], "facets": n}.
- {"cmd": "distances", "case": NAME, "repeats": r, "most": m, "file": OUT.npy}: of the first m
  candidates, without the check whether each is an entry of the hull; seconds for all m.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

sys.path.insert(0, str(Path(__file__).resolve().parent))

from protocol import guard_stdout, serve

SYMBOLS = ("Li", "Fe", "P", "O", "Mn", "Co")


def entries_of(counts: np.ndarray, energies: np.ndarray) -> list[PDEntry]:
    """From atoms of each element and energies per atom."""
    return [
        PDEntry(
            Composition({s: int(n) for s, n in zip(SYMBOLS, row, strict=False) if n}),
            float(e * row.sum()),
        )
        for row, e in zip(counts, energies, strict=True)
    ]


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
    """pymatgen's answers."""

    def __init__(self) -> None:
        self.cases: dict[str, tuple[list[PDEntry], list[PDEntry], list[Element]]] = {}
        self.diagrams: dict[str, PhaseDiagram] = {}

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """Make the objects."""
        data = np.load(command["file"])
        elements = [Element(s) for s in SYMBOLS[: data["counts"].shape[1]]]
        few = slice(command.get("most", 1000))
        candidates = entries_of(data["candidate_counts"][few], data["candidate_energies"][few])
        self.cases[command["case"]] = (
            entries_of(data["counts"], data["energies"]),
            candidates,
            elements,
        )
        return {}

    def build(self, command: dict[str, Any]) -> dict[str, Any]:
        """From a list of entries to a diagram."""
        entries, _, elements = self.cases[command["case"]]
        times, diagram = timed(lambda: PhaseDiagram(entries, elements=elements), command["repeats"])
        self.diagrams[command["case"]] = diagram
        return {**times, "facets": len(diagram.facets), "stable": len(diagram.stable_entries)}

    def distances(self, command: dict[str, Any]) -> dict[str, Any]:
        """To a diagram that was built."""
        diagram = self.diagrams[command["case"]]
        candidates = self.cases[command["case"]][1][: command["most"]]
        times, found = timed(
            lambda: [
                diagram.get_decomp_and_e_above_hull(c, allow_negative=True, check_stable=False)[1]
                for c in candidates
            ],
            command["repeats"],
        )
        np.save(command["file"], np.array(found, float))
        return {**times, "candidates": len(candidates)}


def main() -> int:
    """Serve until told to quit."""
    answers = guard_stdout()
    worker = Worker()
    names = ("prepare", "build", "distances")
    return serve(answers, {"side": "pymatgen"}, {name: getattr(worker, name) for name in names})


if __name__ == "__main__":
    raise SystemExit(main())
