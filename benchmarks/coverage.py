"""Whether σ of a Gaussian process is right on structures it has not seen: `python -m
benchmarks.coverage [CASE …]`.

    silicon, ethanol   energies and forces of the test files of mlearn and rMD17 ($KOHN_DATA,
                       default ../shared/data), fitted with all by default but the number of
                       inducing environments (--points)
    Fe-Li-O-P          energies of formulas that were not learned, entries of the Materials
                       Project, split as in `benchmarks.screening`; five splits

With e the error and σ as `kohn predict --uncertainty` tells it, mean (e/σ)² is 1 where σ is right;
of normal errors 68 % are within σ and 95 % within 2σ. Nothing is fitted to the test frames. Each
case replaces its part of benchmarks/results/coverage.json, from which the table is made anew.
"""

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import accuracy, screening
from benchmarks.common import (
    DATA,
    FOLDERS,
    command,
    machine,
    machine_line,
    need_data,
    parsed,
    parser_of,
    write_text,
)

ENTRIES = "phase_diagrams/Fe_Li_O_P_entries.json.gz"


def fitted(name: str, settings: dict[str, Any]) -> Any:
    """A potential, fitted afresh."""
    import kohn

    folder = _folder()
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(settings))  # JSON is YAML
    return kohn.train(file, out=out)


def _folder() -> Path:
    """Where fits are kept."""
    folder = FOLDERS.work / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def covered(errors: np.ndarray, sigma: np.ndarray) -> dict[str, float]:
    """How errors are told by σ."""
    z = errors / sigma
    return {
        "count": z.size,
        "error": float(np.sqrt(np.mean(errors**2))),
        "sigma": float(np.sqrt(np.mean(sigma**2))),
        "mean_z2": float(np.mean(z**2)),
        "within_1": float(np.mean(np.abs(z) < 1)),
        "within_2": float(np.mean(np.abs(z) < 2)),
    }


def with_forces(case: str, points: int, frames: int) -> list[dict[str, Any]]:
    """Energies per atom and forces of the first test frames."""
    import kohn

    settings = accuracy.settings(f"{case}-gp")
    (test,) = settings["data"].pop("test")
    settings["model"]["inducing"] = points
    potential = fitted(case, settings)
    tests = kohn.read(test).structures[:frames]
    predictions = potential.predict(tests, uncertainty=True)
    n = np.array([len(s) for s in tests])
    energies = np.array(
        [p.energy - float(s.labels["energy"]) for p, s in zip(predictions, tests, strict=True)]
    )
    forces = [
        (p.forces - s.labels["forces"]).ravel() for p, s in zip(predictions, tests, strict=True)
    ]
    of_energies = np.array([p.energy_std for p in predictions])
    of_forces = [p.forces_std.ravel() for p in predictions]
    noises = potential.model.config
    return [
        {
            "case": case,
            "label": label,
            "structures": len(tests),
            "inducing": points,
            "noise": getattr(noises, f"noise_{label}"),
            "residual": noises.residuals[label],
            **covered(errors, sigma),
        }
        for label, errors, sigma in (
            ("energy", energies / n, of_energies / n),
            ("forces", np.concatenate(forces), np.concatenate(of_forces)),
        )
    ]


def of_formulas(points: int, splits: int) -> list[dict[str, Any]]:
    """Energies per atom of formulas of Fe-Li-O-P that were not learned."""
    import kohn
    from kohn.stability import Entries

    data = kohn.read(str(DATA / ENTRIES))
    counts = [Counter(s.symbols) for s in data]
    formulas = Entries.of(counts, [float(s.labels["energy"]) for s in data]).formulas
    rows = []
    for seed in range(splits):
        parts = screening.split(formulas, [len(c) for c in counts], seed)
        settings = of_entries(data.select(np.flatnonzero(parts == 0)), seed, points)
        potential = fitted(f"Fe-Li-O-P-{seed}", settings)
        frames = data.select(np.flatnonzero(parts > 0)).structures
        found = potential.energies(frames, deviations=True)
        energies, sigma = found.mean, found.std
        n = np.array([len(s) for s in frames])
        errors = energies - [float(s.labels["energy"]) for s in frames]
        noises = potential.model.config
        rows.append(
            {
                "case": f"Fe-Li-O-P, split {seed}",
                "label": "energy",
                "structures": len(frames),
                "inducing": points,
                "noise": noises.noise_energy,
                "residual": noises.residuals["energy"],
                **covered(errors / n, sigma / n),
            }
        )
    return rows


def of_entries(learned: Any, seed: int, points: int) -> dict[str, Any]:
    """Settings that learn the energies of entries, counted from the stable elements."""
    import kohn

    file = _folder() / f"Fe-Li-O-P-{seed}.extxyz"
    kohn.write(learned, file)
    e0s: dict[str, float] = {}
    for s in learned:
        if len(set(s.symbols)) == 1:
            energy = float(s.labels["energy"]) / len(s)
            e0s[s.symbols[0]] = min(energy, e0s.get(s.symbols[0], np.inf))
    return {
        "data": {"train": [str(file)], "valid_fraction": 0.02, "e0s": e0s},
        "model": {
            "family": "gaussian-process",
            "soap": {"r_cut": 6.0, "n_max": 6, "l_max": 4, "sigma": 0.5, "scaling_radius": 3.0},
            "zeta": 2,
            "inducing": points,
        },
        "loss": {"weights": {"energy": 1, "forces": 0}, "late_weights": None},
    }


UNITS = {"energy": "meV/atom", "forces": "meV/Å"}


def table(found: dict[str, Any]) -> str:
    """The measurements in Markdown."""
    lines = [
        "| data | inducing | label | structures | rms error | rms σ | mean (error/σ)² | within σ "
        "| within 2σ | noise of the fit | residual |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r['case']} | {r['inducing']} | {r['label']}, {UNITS[r['label']]} | "
        f"{r['structures']} | {1e3 * r['error']:.1f} | {1e3 * r['sigma']:.1f} | "
        f"**{r['mean_z2']:.2f}** | {100 * r['within_1']:.0f} % | {100 * r['within_2']:.0f} % | "
        f"{1e3 * r['noise']:.1f} | {1e3 * r['residual']:.1f} |"
        for case in CASES
        for r in found.get(case, [])
    ]
    return "\n".join([*lines, ""])


CASES = ("silicon", "ethanol", "Fe-Li-O-P")


def measure(asked: argparse.Namespace, record: Path) -> dict[str, Any]:
    """Each case in turn, kept as soon as it is there."""
    found: dict[str, Any] = {}
    for case in asked.cases or CASES:
        began = machine()
        if case == "Fe-Li-O-P":
            rows = of_formulas(asked.points, asked.splits)
        else:
            rows = with_forces(case, asked.points, asked.frames)
        found = json.loads(record.read_text()) if record.is_file() else {}
        found |= {case: rows, "machine": began, "command": command()}
        write_text(record, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return found


def main() -> None:
    """Measure what is named, all by default, and write the table."""
    parser = parser_of(__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=[])
    parser.add_argument("--points", type=int, default=1000, help="inducing environments")
    parser.add_argument("--frames", type=int, default=100, help="test frames of a case, at most")
    parser.add_argument("--splits", type=int, default=5, help="of Fe-Li-O-P")
    asked = parsed(parser)
    if asked.quick:
        asked.points, asked.frames, asked.splits = 100, 5, 1
    needed = {"Fe-Li-O-P": [ENTRIES], "silicon": ["mlearn"], "ethanol": ["rmd17"]}
    need_data(*(file for case in asked.cases or CASES for file in needed[case]))
    found = measure(asked, FOLDERS.results / "coverage.json")
    text = f"{table(found)}\n{machine_line(found['machine'])}\n"
    write_text(FOLDERS.results / "coverage.md", text)
    print(text)


if __name__ == "__main__":
    main()
