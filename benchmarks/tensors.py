"""Dipoles and polarizabilities of water: `python -m benchmarks.tensors [dipole polarizability]`.

TENSOAP's 1000 Zundel cations (dipoles) and 1000 water molecules (polarizabilities) in
$KOHN_DATA/tensoap (default ../shared/data), atomic units. Split at random with seed 0: 760 to
learn from, 40 to validate, 200 to test. NequIP body of 32 channels, l_max 2, three layers, float32,
one core. Beside the errors stands a constant: the mean of the training labels by degree.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

import numpy as np

from benchmarks.speed import DATA, RESULTS, WORK

CASES = {
    "dipole": {"file": "water_zundel.xyz", "title": "dipole, Zundel cation"},
    "polarizability": {"file": "water_monomer.xyz", "title": "polarizability, water"},
}
KEYS = {"dipole": "mu", "polarizability": "alpha"}
ASKED = {"dipole": 0.5, "polarizability": 1.0}
"""Per cent: of the rms norm of the dipole; of the spread of each degree."""
STEPS = 40_000


def measure(target: str, steps: int) -> dict[str, Any]:
    """Train, and judge on the test set."""
    from kohn.models.nequip import NequipConfig
    from kohn.structures import read
    from kohn.training.tensors import errors_by_degree, fit_tensors, labels, predict_tensors

    data = list(read([DATA / "tensoap" / CASES[target]["file"]], keys=KEYS, periodic=False))
    order = np.random.default_rng(0).permutation(len(data))
    train, valid, test = ([data[i] for i in part] for part in np.split(order, [760, 800]))
    started, cpu = time.perf_counter(), time.process_time()

    def tell(step: int, loss: float, judged: float) -> None:
        seconds = time.perf_counter() - started
        print(f"{target} {step} {loss**0.5:.5f} {judged**0.5:.5f} {seconds:.0f} s", file=sys.stderr)

    model = fit_tensors(
        train,
        valid,
        (target,),
        NequipConfig(channels=32, l_max=2, layers=3),
        steps=steps,
        validate_every=2000,
        monitor=tell,
    )
    spent = time.process_time() - cpu
    found = predict_tensors(model, test)
    mean = {target: np.stack([np.stack([s.labels[target] for s in train]).mean(0)] * len(test))}
    rms = {
        l: float(np.sqrt((x**2).sum(1).mean())) for l, x in labels(test, (target,))[target].items()
    }
    errors, constant = (errors_by_degree(test, x)[target] for x in (found, mean))
    return {
        "target": target,
        "seconds": spent,
        "rows": [
            {"degree": l, "rmse": e, "spread": spread, "rms": rms[l], "constant": constant[l][0]}
            for l, (e, spread) in errors.items()
        ],
    }


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", choices=[*CASES, []])
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    WORK.mkdir(exist_ok=True)
    cases = []
    for target in CASES:
        record = WORK / f"tensors-{target}.json"
        if target in (arguments.targets or CASES):
            record.write_text(json.dumps(measure(target, arguments.steps)))
        if record.exists():
            cases.append(json.loads(record.read_text()))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tensors.md").write_text(table(cases))
    print(table(cases))


if __name__ == "__main__":
    main()
