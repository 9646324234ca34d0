"""Dipoles and polarizabilities of water: `python -m benchmarks.tensors [dipole polarizability]`.

TENSOAP's 1000 Zundel cations (dipoles) and 1000 water molecules (polarizabilities) in
$KOHN_DATA/tensoap (default ../shared/data), atomic units. Split at random with seed 0: 760 to
learn from, 40 to validate, 200 to test; copies stay together, for 100 of the Zundel cations repeat
others. NequIP body of 32 channels, l_max 2, three layers, float32, one core; atomic dipoles alone.
Beside the errors stands a constant: the mean of the training labels by degree.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

from benchmarks.common import (
    DATA,
    FOLDERS,
    machine,
    need_data,
    parsed,
    parser_of,
    write_json,
    write_results,
)

CASES = {
    "dipole": {"file": "water_zundel.xyz", "title": "dipole, Zundel cation"},
    "polarizability": {"file": "water_monomer.xyz", "title": "polarizability, water"},
}
KEYS = {"dipole": "mu", "polarizability": "alpha"}
ASKED = {"dipole": 0.5, "polarizability": 1.0}
"""Per cent: of the rms norm of the dipole; of the spread of each degree."""
STEPS = 40_000


def measure(target: str, steps: int) -> dict[str, Any]:
    """Train, or go on where it stopped, and judge on the test set."""
    import kohn
    from kohn.models.heads.properties import by_degree
    from kohn.progress import Progress
    from kohn.structures import read, split, write
    from kohn.training import train
    from kohn.training.settings import parse

    data = read([DATA / "tensoap" / CASES[target]["file"]], keys=KEYS, periodic=False)
    parts = split(data, {"train": 760, "valid": 40, "test": 200}, 0)
    folder = FOLDERS.work / "tensors" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        write(part, folder / f"{name}.extxyz")
    settings = {
        "data": {name: [str(folder / f"{name}.extxyz")] for name in ("train", "valid")},
        "targets": [target],
        "model": {"channels": 32, "l_max": 2, "layers": 3},
        "heads": {"charges": False},
        "run": {"steps": steps, "batch_size": 8, "evaluate_every": 20, "checkpoint_every": 20},
    }
    cpu, run = time.process_time(), folder / "run"
    told = Progress(record=lambda r: print(target, r["step"], r["valid_loss"], file=sys.stderr))
    train(parse(settings), out=run, resume=run.exists(), progress=told)
    spent = time.process_time() - cpu
    model, test = kohn.load(run), parts["test"]
    found = np.stack([p[target] for p in model.predict(test.structures)])
    known = np.stack([s.labels[target] for s in test])
    mean = np.stack([s.labels[target] for s in parts["train"]]).mean(axis=0)
    rows = []
    for l, x in by_degree(target, known).items():
        rows.append(
            {
                "degree": l,
                "rmse": norm(by_degree(target, found)[l] - x),
                "spread": norm(x - x.mean(axis=0)),
                "rms": norm(x),
                "constant": norm(by_degree(target, mean[None])[l] - x),
            }
        )
    return {"target": target, "seconds": spent, "rows": rows}


def norm(x: np.ndarray) -> float:
    """√⟨|x|²⟩."""
    return float(np.sqrt((x**2).sum(axis=1).mean()))


def table(cases: list[dict[str, Any]]) -> str:
    """The measurements in Markdown."""
    lines = [
        "| | degree | RMSE, a.u. | of the rms norm, % | of the spread, % | asked, % "
        "| a constant, of the spread, % | CPU min |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in cases:
        for row in case["rows"]:
            of = "rms norm" if case["target"] == "dipole" else "spread"
            lines.append(
                f"| {CASES[case['target']]['title']} | {row['degree']} | {row['rmse']:.5f} | "
                f"{100 * row['rmse'] / row['rms']:.2f} | {100 * row['rmse'] / row['spread']:.2f} | "
                f"{ASKED[case['target']]:g} of the {of} | "
                f"{100 * row['constant'] / row['spread']:.0f} | {case['seconds'] / 60:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write benchmarks/results/tensors.md."""
    parser = parser_of(__doc__)
    parser.add_argument("targets", nargs="*", choices=[*CASES, []])
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parsed(parser)
    if arguments.quick:
        arguments.steps = 100
    wanted = arguments.targets or list(CASES)
    need_data(*(f"tensoap/{CASES[target]['file']}" for target in wanted))
    m = machine()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cases = []
    for target in CASES:
        record = FOLDERS.work / f"tensors-{target}.json"
        if target in wanted:
            write_json(record, measure(target, arguments.steps))
        if record.exists():
            cases.append(json.loads(record.read_text()))
    write_results("tensors", m, {"cases": cases}, table(cases))


if __name__ == "__main__":
    main()
