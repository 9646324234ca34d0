"""SIGKILL at random moments of `kohn train` and `kohn screen`: are the resumed bytes the same?

Each command runs alone first, which tells its bytes and its wall time. Then it is killed at moments
drawn evenly from that time, and resumed. The suite has kills at named stages; these are the others.

Example:
    python -m benchmarks.kills --kills 100
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import FOLDERS, machine, parsed, parser_of, write_results

CANDIDATES = 30_000
SMALL_PARTS = "from kohn.discovery import ranking; ranking.ROWS = 5000; "
KOHN = "from kohn.cli import main; main()"


@dataclass(frozen=True)
class Work:
    """A command that makes `out`, told whether to resume; what it leaves there, and its stages."""

    name: str
    command: Callable[[Path, bool], list[str]]
    compared: Callable[[Path], bytes]
    stage: Callable[[Path], str]


def train(folder: Path) -> Work:
    """Twelve epochs on frames that come with Kohn, with a checkpoint after each."""
    import kohn

    source = Path(kohn.__file__).parent / "data" / "ethanol" / "train.extxyz"
    data = folder / "ethanol.extxyz"
    data.write_text("\n".join(source.read_text().splitlines()[: 24 * 11]) + "\n")
    settings = folder / "settings.yaml"
    settings.write_text(
        f"data: {{train: [{data}]}}\n"
        "model: {family: schnet, cutoff: 4.0, channels: 4, layers: 1, n_gaussians: 4}\n"
        "run: {epochs: 12, batch_size: 4, seed: 3, checkpoint_every: 1}\n"
    )

    def command(out: Path, resume: bool) -> list[str]:
        again = ["--resume"] if resume and (out / "settings.yaml").exists() else []
        return ["-c", KOHN, "train", str(settings), "--out", str(out), *again]

    def stage(out: Path) -> str:
        if not (out / "settings.yaml").exists():
            return "before the settings"
        if not (out / "checkpoint.safetensors").exists():
            return "before the first checkpoint"
        return "after it" if not (out / "last.safetensors").exists() else "after training"

    return Work("train", command, lambda out: (out / "model.safetensors").read_bytes(), stage)


def screen(folder: Path) -> Work:
    """Six parts of candidates of six elements."""
    rng = np.random.default_rng(0)
    elements = ["Al", "Cu", "Fe", "Li", "O", "P"]
    hull = [f"{e},{e},{-3 - k}" for k, e in enumerate(elements)]
    for k in range(60):
        a, b = rng.choice(6, 2, replace=False)
        hull.append(f"h{k},{elements[a]}{elements[b]},{-7 - a - b - 0.5 * rng.random()}")
    (folder / "hull.csv").write_text("id,formula,energy\n" + "\n".join(hull) + "\n")
    lines = []
    for k in range(CANDIDATES):
        a, b = rng.choice(6, 2, replace=False)
        p, q = rng.integers(1, 5, 2)
        energy = float(-(3 + a) * p - (3 + b) * q - (p + q) * rng.random())
        lines.append(f"c{k},{elements[a]}{p}{elements[b]}{q},{energy!r},0.2")
    (folder / "new.csv").write_text("id,formula,energy,energy_std\n" + "\n".join(lines) + "\n")

    def command(out: Path, resume: bool) -> list[str]:
        files = [str(folder / "new.csv"), "--hull", str(folder / "hull.csv")]
        return ["-c", SMALL_PARTS + KOHN, "screen", *files, "-o", str(out)]

    def stage(out: Path) -> str:
        work = out.with_name(f"{out.name}.work")
        if not (work / "records.jsonl").exists():
            return "before the plan" if not out.exists() else "after all"
        parts = len(list(work.glob("rows-*")))
        return f"{parts} of 6 parts" if parts else "before the first part"

    return Work("screen", command, lambda out: out.read_bytes(), stage)


def run(command: list[str], seconds: float | None = None) -> float | None:
    """Wall seconds of the command; None where it was killed after `seconds`.

    Raises:
        SystemExit: it failed by itself.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    if process.returncode:
        raise SystemExit(f"{' '.join(command[2:])} failed: {errors.decode()}")
    return time.monotonic() - started


def measure(work: Work, folder: Path, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    """Kill and resume; count what was the same."""
    alone = folder / "alone.csv"
    run(work.command(folder / "first.csv", False))  # compiles
    wall = run(work.command(alone, False))
    assert wall is not None
    expected = work.compared(alone)
    row: dict[str, Any] = {"work": work.name, "wall": wall, "kills": 0, "same": 0, "left": 0}
    row["stages"] = {}
    while row["kills"] < kills:
        out = folder / f"{work.name}-{row['kills']}.csv"
        if run(work.command(out, False), wall * rng.random()) is not None:
            _remove(out)  # it was done before its moment came
            continue
        stage = work.stage(out)
        row["stages"][stage] = row["stages"].get(stage, 0) + 1
        if stage != "after all":
            run(work.command(out, True))
        row["kills"] += 1
        row["same"] += work.compared(out) == expected
        row["left"] += bool(list(folder.glob(".*"))) or (
            out.is_dir() and bool(list(out.glob(".*")))
        )
        print(f"{work.name} {row['kills']}/{kills}: killed {stage}, same {row['same']}", flush=True)
        _remove(out)
    return row


def _remove(out: Path) -> None:
    shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Kills, by command."""
    lines = [
        "| command | kills | resumed to the same bytes | temporary files left | killed |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        stages = ", ".join(f"{n} {stage}" for stage, n in sorted(row["stages"].items()))
        lines.append(
            f"| `kohn {row['work']}` | {row['kills']} | {row['same']} | {row['left']} | {stages} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write benchmarks/results/kills.{json,md}."""
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=30, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parsed(parser)
    if arguments.quick:
        arguments.kills = 2
    m, rows = machine(), []
    for make in (train, screen):
        folder = FOLDERS.work / f"kills-{make.__name__}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rng = np.random.default_rng(arguments.seed)
        rows.append(measure(make(folder), folder, arguments.kills, rng))
    write_results("kills", m, {"rows": rows}, table(rows))


if __name__ == "__main__":
    main()
