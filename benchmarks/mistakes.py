"""Would the tests notice? Small human mistakes, planted one at a time.

`benchmarks/planted/ROOM.toml` lists the mistakes of each room of `src/kohn`: a file, the right
text, which stands in it once, and the wrong text in its place. Each one is planted in a copy of
the tree, and the tests of its room run until one fails: the fast ones first, then the slow ones,
then those of the rooms that `ALSO` names. A mistake that no test notices is a test that is missing.

Example:
    python -m benchmarks.mistakes training structures
"""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

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
    "structures": ("cli", "checks"),
    "training": ("potential", "cli"),
}
"""Rooms whose tests run after the room's own."""

NONE = "(no mistake)"
"""The tests of a room have to pass before anything is planted in it."""

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


def suites(room: str) -> list[list[str]]:
    """Arguments of pytest, in the order in which they are tried."""
    own = [f"tests/{room}"]
    if room == "ground":  # files of src/kohn beside the rooms, and tests beside theirs
        own = sorted(f"tests/{path.name}" for path in (ROOT / "tests").glob("test_*.py"))
    also = [f"tests/{other}" for other in ALSO.get(room, ())]
    return [
        [*folders, "-m", marks]
        for folders in (own, also)
        if folders
        for marks in ("not slow and not browser", "slow")
    ]


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


def noticed_by(mistake: Mistake, folder: Path) -> tuple[str | None, float]:
    """The first test that fails, None where all pass; and the seconds it took."""
    file = folder / "src" / "kohn" / mistake.file
    source = file.read_text() if mistake.file else ""
    if source:
        file.write_text(mistake.planted(source))
    started = time.perf_counter()
    try:
        for arguments in suites(mistake.room):
            failed = first_failure(arguments, folder)
            if failed:
                return failed, time.perf_counter() - started
        return None, time.perf_counter() - started
    finally:
        if source:
            file.write_text(source)


def first_failure(arguments: list[str], folder: Path) -> str | None:
    """The first test that fails under these arguments of pytest, None where all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--durations=0", *arguments]
    command += ["-p", "no:cacheprovider"]
    environment = os.environ | {
        "PYTHONPATH": str(folder / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    }
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return "the tests hang"
    if done.returncode in (0, 5):  # 5: no test was selected
        return None
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" ", 1)[1].split(" - ")[0]
    return f"pytest ended with {done.returncode}: {done.stdout[-200:]}{done.stderr[-200:]}"


def table(rows: list[dict]) -> str:
    """Mistakes planted and noticed, by room, and those that were not noticed."""
    lines = [
        "| room | planted | equal in effect | noticed | share |",
        "| --- | --- | --- | --- | --- |",
    ]
    groups = {room: [r for r in rows if r["room"] == room] for room in {r["room"] for r in rows}}
    groups = dict(sorted(groups.items())) | {
        "**all**": rows,
        "of these, those that the suite of November 2026 did not notice": [
            row for row in rows if row["listed"]
        ],
    }
    for name, group in groups.items():
        real = [row for row in group if not row["equal"]]
        seen = sum(row["by"] is not None for row in real)
        share = f"{100 * seen / len(real):.0f} %" if real else ""
        counts = f"{len(group)} | {len(group) - len(real)} | {seen}"
        lines.append(f"| {name} | {counts} | {share} |")
    missed = [row for row in rows if row["by"] is None]
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
    parser.add_argument("--missed", action="store_true", help="only those that were not noticed")
    arguments = parsed(parser)
    chosen = mistakes(arguments.rooms)
    if arguments.quick:
        chosen = chosen[:2]
    kept = FOLDERS.work / "mistakes.jsonl"
    if arguments.again:
        kept.unlink(missing_ok=True)
    done = recorded(kept)
    if arguments.missed:
        done = {key: row for key, row in done.items() if row["by"] is not None}
    waiting = [m for m in chosen if (m.room, m.name) not in done]
    untouched = {m.room: Mistake(m.room, NONE, "", "", "") for m in waiting}
    plan = [m for m in untouched.values() if (m.room, NONE) not in done] + waiting
    folders: Queue[Path] = Queue()
    for k in range(arguments.workers):
        tree(FOLDERS.work / f"mistakes-{k}")
        folders.put(FOLDERS.work / f"mistakes-{k}")

    def tried(m: Mistake) -> dict:
        folder = folders.get()
        by, seconds = noticed_by(m, folder)
        folders.put(folder)
        return {"room": m.room, "name": m.name, "by": by, "seconds": round(seconds, 1)}

    with ThreadPoolExecutor(arguments.workers) as pool, kept.open("a") as stream:
        for row in pool.map(tried, plan):
            print("{room}: {name}: {by} ({seconds} s)".format(**row), flush=True)
            if row["name"] == NONE and row["by"]:
                pool.shutdown(cancel_futures=True)
                raise SystemExit(f"tests of {row['room']} fail without any mistake: {row['by']}")
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            done[row["room"], row["name"]] = row
    rows = [done[m.room, m.name] | {"equal": m.equal, "listed": m.listed} for m in chosen]
    write_results("mistakes", machine({}), {"rows": rows}, table(rows))


def recorded(kept: Path) -> dict[tuple[str, str], dict]:
    """What earlier runs found, by room and name."""
    lines = kept.read_text().splitlines() if kept.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["room"], row["name"]): row for row in rows}


if __name__ == "__main__":
    main()
