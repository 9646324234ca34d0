"""Phase diagrams by pymatgen, as numbers to compare ours with.

Reads a list of ComputedStructureEntry dicts and writes, into a folder,

    NAME_entries.json.gz or NAME_entries.csv   the entries without structures
    NAME_pymatgen.json.gz    by id: formation energy, distance, decomposition {id: share of atoms},
                             distance in a hull open to oxygen; and decomposition enthalpies of
                             what is stable, where asked for (slow: SLSQP)

    python phase_diagram_reference.py Mn_O_entries.json.gz tests/data --json --enthalpies

Runs in an environment with pymatgen. Times of building and of all distances go to stdout.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from pathlib import Path

import numpy as np
import pymatgen
from pymatgen.analysis.phase_diagram import GrandPotentialPhaseDiagram, PhaseDiagram
from pymatgen.core import Element
from pymatgen.entries.computed_entries import ComputedEntry

OPEN = {"O": -5.5}
"""μ_O, eV/atom: some 0.5 eV below half of O2 with the corrections of 2020."""


def numbers(entries: list[ComputedEntry], enthalpies: bool) -> dict:
    """What pymatgen says of all entries."""
    started = time.perf_counter()
    diagram = PhaseDiagram(entries)
    built = time.perf_counter() - started
    started = time.perf_counter()
    above = {e.entry_id: float(diagram.get_e_above_hull(e)) for e in entries}
    print(f"{len(entries)} entries: built in {built:.3f} s, ", end="")
    print(f"distances in {time.perf_counter() - started:.3f} s")
    grand = GrandPotentialPhaseDiagram(entries, {Element(e): mu for e, mu in OPEN.items()})
    rows = {}
    for e in entries:
        products = diagram.get_decomposition(e.composition)
        rows[e.entry_id] = {
            "formula": e.reduced_formula,
            "formation": float(diagram.get_form_energy_per_atom(e)),
            "above": above[e.entry_id],
            "products": {p.entry_id: round(float(s), 12) for p, s in products.items()},
        }
    for e in grand.all_entries:
        rows[e.original_entry.entry_id]["open"] = float(grand.get_e_above_hull(e))
    stable = sorted(e.entry_id for e in diagram.stable_entries)
    out = {"pymatgen": pymatgen.core.__version__, "open": OPEN, "stable": stable, "rows": rows}
    if enthalpies:
        found = {e.entry_id: diagram.get_phase_separation_energy(e) for e in diagram.stable_entries}
        out["enthalpies"] = {k: float(v) for k, v in sorted(found.items())}
    return out


def main() -> None:
    """One file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true", help="entries as dicts, not as CSV")
    parser.add_argument("--enthalpies", action="store_true")
    chosen = parser.parse_args()
    with gzip.open(chosen.file, "rt") as stream:
        dicts = json.load(stream)
    name = chosen.file.name.removesuffix("_entries.json.gz")
    for d in dicts:
        d.pop("structure", None)
        d["@class"] = "ComputedEntry"
    entries = [ComputedEntry.from_dict(d) for d in dicts]
    result = numbers(entries, chosen.enthalpies)
    if chosen.json:
        write(chosen.folder / f"{name}_entries.json.gz", dicts)
    else:
        with (chosen.folder / f"{name}_entries.csv").open("w", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(["id", "formula", "energy"])
            for e in entries:
                formula = e.formula.replace(" ", "")
                table.writerow([e.entry_id, formula, repr(float(np.float64(e.energy)))])
    write(chosen.folder / f"{name}_pymatgen.json.gz", result)


def write(path: Path, document: object) -> None:
    """JSON, packed in the same way each time."""
    text = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    path.write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    main()
