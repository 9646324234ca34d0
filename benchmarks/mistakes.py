"""Would the tests notice? Small human mistakes, planted one at a time.

`benchmarks/planted/ROOM.toml` lists the mistakes of each room of `src/kohn`: a file, the right
text, which stands in it once, and the wrong text in its place. Each one is planted in a copy of
the tree, and the tests of its room run until one fails: the fast ones first, then the slow ones,
then the fast ones of the rooms that `ALSO` names. A mistake that no test notices is a test that
is missing.

Example:
    python -m benchmarks.mistakes training structures
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from benchmarks.common import FOLDERS, HERE, ROOT, machine, parsed, parser_of, write_results

PLANTED = HERE / "planted"
ALSO = {
    "checks": ("cli",),
    "cli": ("training", "discovery"),
    "discovery": ("cli",),
    "evaluation": ("potential", "training", "reports", "cli"),
    "graphs": ("models",),
    "ground": ("cli",),
    "interfaces": ("models",),
    "models": ("training", "potential"),
    "potential": ("interfaces", "models"),
    "reports": ("cli",),
    "simulation": ("discovery",),
    "structures": ("cli", "checks"),
    "training": ("potential", "cli"),
}
"""Rooms whose tests run after the room's own."""

LIMIT = 1200
"""Seconds after which tests that hang count as a mistake that was noticed."""


@dataclass(frozen=True)
class Mistake:
    """One wrong text in the place of a right one."""

    room: str
    name: str
    file: str  # below src/kohn
    right: str
    wrong: str
    equal: str = ""  # why no test can notice it, where the two texts mean the same
    also: str = ""  # a file of tests of another room, where what is wrong is tested
    listed: bool = False  # one of those that the suite of November 2026 did not notice

    def planted(self, source: str) -> str:
        """The file's text with the mistake.

        Raises:
            ValueError: the right text does not stand there exactly once.
        """
        count = source.count(self.right)
        if count != 1:
            raise ValueError(f"{self.room}/{self.name}: {count} times in {self.file}, not once")
        return source.replace(self.right, self.wrong)


def mistakes(rooms: Iterable[str] = ()) -> list[Mistake]:
    """All mistakes of the named rooms; of every room where none is named."""
    files = sorted(PLANTED.glob("*.toml"))
    known = [file.stem for file in files]
    unknown = sorted(set(rooms) - set(known))
    if unknown:
        raise SystemExit(f"no mistakes for {', '.join(unknown)}; there are {', '.join(known)}")
    return [
        Mistake(room=file.stem, **entry)
        for file in files
        if not rooms or file.stem in rooms
        for entry in tomllib.loads(file.read_text())["mistake"]
    ]


FAST, SLOW = "not slow and not browser", "slow"
Suite = tuple[str, str]
"""A room whose tests run, and which of them."""


def suites(room: str) -> list[Suite]:
    """The order in which tests are tried."""
    return [(room, FAST), (room, SLOW), *((other, FAST) for other in ALSO.get(room, ()))]


def files(room: str, folder: Path = ROOT) -> list[str]:
    """What pytest is told of a room in this folder."""
    if room == "ground":  # files of src/kohn beside the rooms, and tests beside theirs
        return sorted(f"tests/{path.name}" for path in (folder / "tests").glob("test_*.py"))
    return [room if room.endswith(".py") else f"tests/{room}"]


def tree(folder: Path) -> None:
    """A copy of what the tests need."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("src", "tests", "benchmarks", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "scratch")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)


def noticed_by(mistake: Mistake, folder: Path) -> str | None:
    """The first test that fails, None where all pass."""
    file = folder / "src" / "kohn" / mistake.file
    source = file.read_text()
    file.write_text(mistake.planted(source))
    try:
        tried = [*suites(mistake.room), *([(mistake.also, "not browser")] if mistake.also else [])]
        return next(filter(None, (first_failure(x, folder) for x in tried)), None)
    finally:
        file.write_text(source)


def first_failure(suite: Suite, folder: Path) -> str | None:
    """The first test that fails, None where all pass."""
    room, marks = suite
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider"]
    environment = os.environ | {
        "PYTHONPATH": str(folder / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    }
    try:
        done = subprocess.run(
            [*command, *files(room, folder), "-m", marks],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return "the tests hang"
    if done.returncode in (0, 5):  # 5: no test was selected
        return None
    if done.returncode == 4:
        raise SystemExit(f"pytest cannot be asked for {room}: {done.stdout}{done.stderr}")
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" ", 1)[1].split(" - ")[0]
    return f"pytest ended with {done.returncode}: {done.stdout[-200:]}{done.stderr[-200:]}"


def table(rows: list[dict]) -> str:
    """Mistakes planted, tried and noticed, by room, and those that were not noticed.

    Tests were written for what was not noticed at first, which is therefore told beside. Those of
    the list had theirs before they were planted: only the others tell of mistakes to come.
    """
    lines = [
        "| room | planted | tried | equal in effect | noticed at first | noticed now | share |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups = {room: [r for r in rows if r["room"] == room] for room in {r["room"] for r in rows}}
    groups = dict(sorted(groups.items())) | {
        "**all**": rows,
        "of these, those that the suite of November 2026 did not notice": [
            row for row in rows if row["listed"]
        ],
        "of these, the others": [row for row in rows if not row["listed"]],
    }
    for name, group in groups.items():
        tried = [row for row in group if row["tried"]]
        real = [row for row in tried if not row["equal"]]
        at_first, seen = (sum(row[when] is not None for row in real) for when in ("first", "by"))
        share = f"{100 * seen / len(real):.0f} %" if real else ""
        counts = f"{len(group)} | {len(tried)} | {len(tried) - len(real)} | {at_first} | {seen}"
        lines.append(f"| {name} | {counts} | {share} |")
    missed = [row for row in rows if row["tried"] and row["by"] is None]
    if missed:
        lines += ["", "Not noticed:", ""]
    for row in missed:
        why = f" (equal in effect: {row['equal']})" if row["equal"] else ""
        lines.append(f"- {row['room']}: {row['name']}{why}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Plant, run, write benchmarks/results/mistakes.{json,md}; a killed run goes on."""
    parser = parser_of(__doc__)
    parser.add_argument("rooms", nargs="*", help="rooms; all where none is named")
    parser.add_argument("--workers", type=int, default=2, help="mistakes tried at a time")
    parser.add_argument("--again", action="store_true", help="forget what earlier runs found")
    parser.add_argument("--missed", action="store_true", help="also those that were not noticed")
    parser.add_argument("--most", type=int, help="try no more than so many now")
    arguments = parsed(parser)
    chosen = mistakes(arguments.rooms)
    if arguments.quick:
        chosen = chosen[:2]
    kept = FOLDERS.work / "mistakes.jsonl"
    if arguments.again:
        kept.unlink(missing_ok=True)
    earlier = recorded(kept)
    equal = {(m.room, m.name) for m in chosen if m.equal}
    again = {k for k, r in earlier.items() if arguments.missed and r["by"] is None} - equal
    done = {k: r for k, r in earlier.items() if k not in again}
    waiting = [m for m in chosen if (m.room, m.name) not in done]
    random.Random(0).shuffle(waiting)  # what a killed run has tried is a fair sample
    # After those missed, and those that are known to be missed easily.
    waiting.sort(key=lambda m: ((m.room, m.name) not in again, not m.listed))
    waiting = waiting[: arguments.most]
    with Trees(arguments.workers) as trees, kept.open("a") as stream:
        check_untouched(trees, [m.room for m in waiting])
        for m, by, seconds in trees.map(noticed_by, waiting):
            row = {"room": m.room, "name": m.name, "by": by, "seconds": round(seconds, 1)}
            print("{room}: {name}: {by} ({seconds} s)".format(**row), flush=True)
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            done[m.room, m.name] = row
    first = {(row["room"], row["name"]): row["by"] for row in reversed(lines_of(kept))}
    rows = [
        {"room": m.room, "name": m.name, "by": None, "tried": (m.room, m.name) in done}
        | done.get((m.room, m.name), {})
        | {"equal": m.equal, "listed": m.listed, "first": first.get((m.room, m.name))}
        for m in chosen
    ]
    write_results("mistakes", machine({}), {"rows": rows}, table(rows))


class Trees:
    """Copies of the tree, one a worker, and functions that are called with one of them."""

    def __init__(self, count: int) -> None:
        self.free: Queue[Path] = Queue()
        self.pool = ThreadPoolExecutor(count)
        for k in range(count):
            tree(FOLDERS.work / f"mistakes-{k}")
            self.free.put(FOLDERS.work / f"mistakes-{k}")

    def __enter__(self) -> "Trees":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def map(self, function: Callable, items: Iterable) -> Iterator[tuple[Any, Any, float]]:
        """Each item, what the function gives for it, and the seconds that it took."""

        def call(item: Any) -> tuple[Any, Any, float]:
            folder, started = self.free.get(), time.perf_counter()
            try:
                return item, function(item, folder), time.perf_counter() - started
            finally:
                self.free.put(folder)

        return self.pool.map(call, items)


def check_untouched(trees: Trees, rooms: Iterable[str]) -> None:
    """See that all tests pass before anything is planted; those that did are not run again.

    Raises:
        SystemExit: one does not.
    """
    kept = FOLDERS.work / "mistakes-untouched.json"
    passed = json.loads(kept.read_text()) if kept.exists() else {}
    every = dict.fromkeys(suite for room in rooms for suite in suites(room))
    waiting = [suite for suite in every if passed.get(", ".join(suite)) != digest(suite[0])]
    for (room, marks), failed, seconds in trees.map(first_failure, waiting):
        if failed:
            raise SystemExit(f"tests of {room} fail without any mistake: {failed}")
        print(f"{room}, {marks}: pass without mistakes ({seconds:.0f} s)", flush=True)
        passed[f"{room}, {marks}"] = digest(room)
        kept.write_text(json.dumps(passed, indent=1))


def digest(room: str) -> str:
    """Of all that the tests of a room depend on: the package, their files and what they share."""
    folders = [ROOT / "src", *(ROOT / name for name in files(room))]
    found = sorted({path for folder in folders for path in [folder, *folder.rglob("*.py")]})
    found += sorted((ROOT / "tests").glob("*.py"))
    whole = hashlib.sha256()
    for path in found:
        if path.is_file():
            whole.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return whole.hexdigest()


def lines_of(kept: Path) -> list[dict]:
    """All that was found, in the order of time."""
    lines = kept.read_text().splitlines() if kept.exists() else []
    return [json.loads(line) for line in lines]


def recorded(kept: Path) -> dict[tuple[str, str], dict]:
    """What earlier runs found at last, by room and name."""
    return {(row["room"], row["name"]): row for row in lines_of(kept)}


if __name__ == "__main__":
    main()
