"""Screening: `python -m benchmarks.screening [million] [systems] [real]`.

    million   a million candidates of four elements, from file to ranked rows, by `kohn screen`:
              wall time and peak memory of the whole command, CSV and Parquet; the aim is 30 s
              and 2 GiB on two cores
    systems   a million candidates over 10,000 chemical systems of 29 elements, 100,000 entries;
              once through, and once killed (SIGKILL) again and again and repeated until it is
              done: the table must be the same to the byte, with every candidate once
    real      943 entries of Fe-Li-O-P (Materials Project): a Gaussian process learns the energies
              of some and screens the others, whose formulas it has not seen, against the hull of
              what it learned from: errors, and how far P(stable) can be trusted with σ as it is
              told, with a scale of σ from other held-out formulas, and with the prior too. Five
              splits of formulas

Entries of the first two are synthetic (`benchmarks.hulls.make_system`). Each run replaces its part
of benchmarks/results/screening.json, and the table is made anew from all of them.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.common import (
    DATA,
    FOLDERS,
    ROOT,
    machine,
    machine_line,
    need_data,
    parsed,
    parser_of,
    write_json,
    write_text,
)
from benchmarks.hulls import make_system
from kohn.tables import write_table

KOHN = [sys.executable, "-m", "kohn.cli"]
DATA_FILE = "phase_diagrams/Fe_Li_O_P_entries.json.gz"


@dataclass(frozen=True)
class Sizes:
    """How much is screened."""

    candidates: int = 1_000_000
    systems: int = 10_000
    entries: int = 100_000
    kills: tuple[float, ...] = (4.0, 9.0, 15.0, 8.0, 20.0)
    """Seconds after which the runs are killed, one after the other."""
    splits: int = 5
    inducing: int = 3000


QUICK = Sizes(20_000, 100, 1_000, (4.0,), 1, 100)
ELEMENTS = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Al", "Si", "P", "S", "Cl", "Ti", "V", "Cr")
ELEMENTS += ("Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Zr", "Nb", "Mo", "Ag", "Sn", "O", "N", "F")


def run(*arguments: str | Path) -> dict[str, Any]:
    """A command with its wall time, CPU time and peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen([*KOHN, *map(str, arguments)], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, arguments))}: status {status}")
    return {
        "wall": time.perf_counter() - started,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * 1024,
        "document": json.loads(out),
    }


def formulas(counts: np.ndarray, elements: Sequence[str]) -> list[str]:
    """'Li2FeO4' of each row."""
    return [
        "".join(f"{e}{n}" for e, n in zip(elements, row, strict=True) if n)
        for row in counts.tolist()
    ]


def folder() -> Path:
    """Where files of this benchmark lie."""
    path = FOLDERS.work / "screening"
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_system(name: str, count: int, seed: int, suffix: str, shift: float = 0.0) -> Path:
    """A table of quaternary entries or candidates; total energies with σ of 30 meV/atom."""
    counts, energies = make_system(4, count, seed)
    atoms = counts.sum(axis=1)
    file = folder() / f"{name}{suffix}"
    columns = {
        "id": [f"{name}-{i}" for i in range(count)],
        "formula": formulas(counts, ("Li", "Fe", "P", "O")),
        "energy": (energies + shift) * atoms,
        "energy_std": 0.03 * atoms,
    }
    write_table(file, columns)
    return file


def million(sizes: Sizes, rounds: int) -> list[dict[str, Any]]:
    """From file to ranked rows."""
    rows = []
    hull = write_system("hull", 2000, 0, ".csv")
    for suffix in (".csv", ".parquet"):
        new = write_system("new", sizes.candidates, 1, suffix, shift=0.02)
        out = folder() / f"ranked{suffix}"
        runs = []
        for _ in range(rounds):
            out.unlink(missing_ok=True)
            runs.append(run("screen", new, "--hull", hull, "-o", out, "--json"))
        best = sorted(runs, key=lambda r: r["wall"])[len(runs) // 2]
        best.pop("document")
        told = {"candidates": sizes.candidates, "bytes": out.stat().st_size, "runs": rounds}
        rows.append({"format": suffix[1:], **told, **best})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        out.unlink()
        new.unlink()
    return rows


def write_many(sizes: Sizes) -> tuple[Path, Path]:
    """Entries and candidates of many chemical systems."""
    rng = np.random.default_rng(0)
    mu = rng.uniform(-9, -2, len(ELEMENTS))
    every = [c for d in (3, 4) for c in combinations(range(len(ELEMENTS)), d)]
    systems = [every[i] for i in rng.permutation(len(every))[: sizes.systems]]

    def table(name: str, count: int, shift: float, binaries: bool) -> Path:
        ids, texts, energies = [], [], []
        for i, k in enumerate(rng.integers(0, sizes.systems, count).tolist()):
            present = np.array(systems[k])
            if binaries and rng.random() < 0.5:
                present = rng.choice(present, 2, replace=False)
            n = rng.integers(1, 7, len(present))
            x = n / n.sum()
            mixing = 1.2 * (x * np.log(x)).sum() * (1 + 0.15 * rng.standard_normal())
            e = x @ mu[present] + mixing + 0.08 * abs(rng.standard_normal()) + shift
            ids.append(f"{name}-{i}")
            texts.append("".join(f"{ELEMENTS[j]}{m}" for j, m in zip(present, n, strict=True)))
            energies.append(e * n.sum())
        if binaries:  # the elements
            ids += [f"{name}-{e}" for e in ELEMENTS]
            texts += ELEMENTS
            energies += mu.tolist()
        file = folder() / f"{name}.csv"
        write_table(file, {"id": ids, "formula": texts, "energy": np.array(energies)})
        return file

    entries = table("entries", sizes.entries, 0.0, True)
    return entries, table("candidates", sizes.candidates, 0.02, False)


def systems(sizes: Sizes) -> dict[str, Any]:
    """Once through, and once killed again and again."""
    hull, new = write_many(sizes)
    once, again = folder() / "once.csv", folder() / "again.csv"
    for file in (once, again):
        file.unlink(missing_ok=True)
    through = run("screen", new, "--hull", hull, "-o", once, "--json")
    through.pop("document")
    killed = 0
    for seconds in sizes.kills:
        command = [*KOHN, "screen", str(new), "--hull", str(hull), "-o", str(again)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            process.wait(seconds)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    if not again.exists():
        run("screen", new, "--hull", hull, "-o", again, "--json")
    same = _sha(once) == _sha(again)
    with again.open() as stream:
        next(stream)
        ids = [line.split(",", 2)[1] for line in stream]
    count = sizes.candidates
    if not same or len(ids) != count or len(set(ids)) != count:
        raise SystemExit("the resumed table is another one")
    told = {"candidates": count, "systems": sizes.systems, "entries": sizes.entries}
    return {**told, "killed": killed, "same": same, **through}


def _sha(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- real entries -------------------------------------------------------------------------


def split(names: Sequence[str], elements: Sequence[int], seed: int) -> np.ndarray:
    """0 learns, 1 sets the scale of σ, 2 is screened; whole formulas, those of elements and binary
    compounds always learn, so that the hull has what compounds fall into."""
    rng = np.random.default_rng(seed)
    found = np.zeros(len(names), int)
    large = sorted({n for n, d in zip(names, elements, strict=True) if d > 2})
    wanted = {1: 0.15 * len(names), 2: 0.2 * len(names)}
    for name in rng.permutation(large).tolist():
        part = next((k for k, n in wanted.items() if (found == k).sum() < n), 0)
        found[[n == name for n in names]] = part
    return found


def real(sizes: Sizes, seed: int) -> dict[str, Any]:
    """One split: train, set the scale, screen."""
    import kohn
    from kohn.stability import Entries

    place = folder() / f"real-{seed}"
    place.mkdir(exist_ok=True)
    data = kohn.read(str(DATA / DATA_FILE))
    counts = [dict(zip(*np.unique(s.symbols, return_counts=True), strict=True)) for s in data]
    energies = [float(s.labels["energy"]) for s in data]
    entries = Entries.of([{e: float(n) for e, n in c.items()} for c in counts], energies)
    parts = split(entries.formulas, [len(c) for c in counts], seed)
    files = {}
    for k, name in enumerate(("learn", "scale", "screen")):
        files[name] = place / f"{name}.extxyz"
        kohn.write(data.select(np.flatnonzero(parts == k)), files[name])
    learned = entries.select(np.flatnonzero(parts == 0))
    alone = learned.fractions.max(axis=1) == 1
    e0s = {
        e: float(learned.energies_per_atom[alone & (learned.fractions[:, j] == 1)].min())
        for j, e in enumerate(learned.elements)
    }
    settings = {
        "data": {"train": [str(files["learn"])], "valid_fraction": 0.02, "e0s": e0s},
        "model": {
            "family": "gaussian-process",
            "soap": {"r_cut": 6.0, "n_max": 6, "l_max": 4, "sigma": 0.5, "scaling_radius": 3.0},
            "zeta": 2,
            "inducing": sizes.inducing,
            "signal": 1.0,
            "noise_energy": 0.3,
            "tune": "none",
        },
        "loss": {"weights": {"energy": 1, "forces": 0}, "late_weights": None},
    }
    write_text(place / "train.yaml", json.dumps(settings))  # JSON is YAML
    model = place / "gp"
    started = time.perf_counter()
    if not (model / "model.safetensors").is_file():
        shutil.rmtree(model, ignore_errors=True)
        trained = [*KOHN, "train", str(place / "train.yaml"), "--out", str(model)]
        subprocess.run(trained, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started

    def screened(name: str, *options: str) -> dict[str, Any]:
        out = place / f"{name}.csv"
        out.unlink(missing_ok=True)
        arguments = ("--hull", files["learn"], "-o", out, *options, "--json")
        return run("screen", files[name], "--model", model, *arguments)

    factor = screened("scale")["document"]["metrics"]["mean_z2"] ** 0.5
    scale = ("--scale", f"{factor}")
    told, scaled, prior = (screened("screen", *o) for o in ((), scale, (*scale, "--prior")))
    return {
        "seed": seed,
        "sizes": np.bincount(parts).tolist(),
        "train": seconds,
        "wall": told["wall"],
        "factor": factor,
        **{
            name: r["document"]["metrics"] | {"expected": r["document"]["expected_stable"]}
            for name, r in (("told", told), ("scaled", scaled), ("prior", prior))
        },
    }


# --- the table ----------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    """The measurements in Markdown."""
    lines: list[str] = []
    if "million" in found:
        lines += [
            f"{found['million'][0]['candidates']:,} candidates of four elements with σ, 2,000 "
            "entries, by `kohn screen` from file to ranked rows; the aims are 30 s and 2 GiB on "
            "two cores:",
            "",
            "| files | wall, s | CPU, s | peak memory, GiB | table, MB |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {r['format']} | {r['wall']:.1f} | {r['cpu']:.1f} | {r['peak'] / 2**30:.2f} | "
            f"{r['bytes'] / 1e6:.0f} |"
            for r in found["million"]
        ]
    if "systems" in found:
        r = found["systems"]
        lines += [
            "",
            f"{r['candidates']:,} candidates over {r['systems']:,} chemical systems, "
            f"{r['entries']:,} entries: {r['wall']:.0f} s wall, {r['cpu']:.0f} s CPU, "
            f"{r['peak'] / 2**30:.2f} GiB. Killed {r['killed']} times and repeated: the same table "
            "to the byte, every candidate once.",
        ]
    if "real" in found:
        lines += ["", *real_table(found["real"])]
    told: dict[str, list[str]] = {}
    for what, m in found.get("machines", {}).items():
        told.setdefault(machine_line(m), []).append(what)
    for line, names in told.items():
        lines += ["", f"{', '.join(names)}: {line}"]
    return "\n".join([*lines, ""])


def real_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Splits of the real entries, and their mean."""
    lines = [
        "Fe-Li-O-P, splits by formula; distances to the hull of what was learned, meV/atom. Of "
        "three numbers, the first is with σ as the Gaussian process tells it, the second with σ "
        "scaled, the third with the prior too:",
        "",
        "| split | learned, screened | MAE | RMSE | F1 | DAF | mean (error/σ)² | stable | expected "
        "| Brier score | of the share of stable ones for all | calibration error | train, s "
        "| screen, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        ways = [r[name] for name in ("told", "scaled", "prior")]
        m = ways[0]
        cells = [
            str(r["seed"]),
            f"{r['sizes'][0]}, {r['sizes'][2]}",
            f"{1e3 * m['mae']:.0f}",
            f"{1e3 * m['rmse']:.0f}",
            f"{m['f1'] or 0:.2f}",
            f"{m['daf'] or 0:.1f}",
            ", ".join(f"{w['mean_z2']:.2f}" for w in ways[:2]),
            str(m["true_positives"] + m["false_negatives"]),
            ", ".join(f"{w['expected']:.0f}" for w in ways),
            ", ".join(f"{w['calibration']['brier']:.3f}" for w in ways),
            f"{m['prevalence'] * (1 - m['prevalence']):.3f}",
            ", ".join(f"{w['calibration']['expected_error']:.2f}" for w in ways),
            f"{r['train']:.0f}",
            f"{r['wall']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    maes = [1e3 * r["told"]["mae"] for r in rows]
    brier, error = (
        [mean(r[w]["calibration"][k] for r in rows) for w in ("told", "scaled", "prior")]
        for k in ("brier", "expected_error")
    )
    share = mean(r["told"]["prevalence"] * (1 - r["told"]["prevalence"]) for r in rows)
    lines += [
        "",
        f"MAE {mean(maes):.0f} meV/atom on average, {min(maes):.0f} to {max(maes):.0f}. Brier "
        f"score {', '.join(f'{x:.3f}' for x in brier)} on average, {share:.3f} for the share; "
        f"calibration error {', '.join(f'{x:.2f}' for x in error)}.",
    ]
    return lines


def main() -> int:
    """Measure what is named, all by default, and write benchmarks/results/screening.md."""
    parser = parser_of(__doc__)
    parser.add_argument("what", nargs="*", choices=["million", "systems", "real", []], default=[])
    parser.add_argument("--rounds", type=int, default=3, help="of 'million'; the median counts")
    arguments = parsed(parser)
    sizes = Sizes()
    if arguments.quick:
        sizes, arguments.rounds = QUICK, 1
    wanted = arguments.what or ["million", "systems", "real"]
    if "real" in wanted:
        need_data(DATA_FILE)
    record = FOLDERS.results / "screening.json"
    found = json.loads(record.read_text()) if record.is_file() else {}
    for what in wanted:
        found.setdefault("machines", {})[what] = machine()
        if what == "million":
            found[what] = million(sizes, arguments.rounds)
        elif what == "systems":
            found[what] = systems(sizes)
        else:
            found[what] = [real(sizes, seed) for seed in range(sizes.splits)]
        write_json(record, found)
    text = table(found)
    write_text(FOLDERS.results / "screening.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
