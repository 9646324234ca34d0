"""Two versions of JAX, or of Kohn, beside each other: `python -m benchmarks.versions`.

The cases that Kohn computes in `benchmarks.speed`, `families` and `descriptors`, by the same code
under two interpreters: this one and `--other` (`make .venv-jax-0.10.2/.done` makes the one that is
there by default: this environment with another JAX). Each interpreter's workers are processes of
their own with the threads that those benchmarks have, asked in turn, round after round; then all
of it again with new processes, the other interpreter first, because two processes of one program
can differ by some per cent. Compiled functions are kept in a folder for each interpreter.

Shown are medians over all rounds, their ratio, and the least and greatest ratio of one pair of
processes. An entry that is more than 3 % slower here is named; where that is within what pairs
differ by, it says so. Predictions are compared: the largest difference of a force or of a feature,
as a share of the largest. Give it an idle machine.

With `--before CHECKOUT` the other side is another checkout of Kohn (`git worktree add CHECKOUT
REV`) under this interpreter, each with its own benchmarks; results go to `before`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import descriptors, families, speed
from benchmarks.common import FOLDERS, ROOT, machine, parsed, parser_of, write_results
from benchmarks.sides import Side

OTHER = ROOT / ".venv-jax-0.10.2" / "bin" / "python"
SLOWER = 1.03
Pair = dict[str, Side]
"""By "here" and "other"."""


@dataclass(frozen=True)
class Entry:
    """What is timed: a function of one side to seconds, and of one side to numbers."""

    name: str
    seconds: Callable[[Side, int], list[float]]
    numbers: Callable[[Side], np.ndarray] | None = None


# --- the cases of the other benchmarks ----------------------------------------------------


def network_entries(pair: Pair, group: str, whats: tuple[str, ...], quick: bool) -> Iterator[Entry]:
    """Each case of `speed.cases`, the first alone if `quick`, prepared on both sides."""
    for case in speed.cases()[: 1 if quick else None]:
        for side in pair.values():
            prepare = {"structures": str(case.structures), "batch": case.batch}
            side.get(cmd="prepare", case=case.name, **prepare)
        fewer = 4 if case.kind == "box" else 1

        def seconds(side: Side, n: int, what: str, name: str = case.name, less: int = fewer) -> Any:
            return side.get(cmd="time", case=name, what=what, repeats=max(2, n // less))["seconds"]

        def forces(side: Side, name: str = case.name) -> np.ndarray:
            return np.array(side.get(cmd="predict", case=name)["forces"])

        for what in whats:
            yield Entry(
                f"{group}, {what.replace('_', ' ')}, {case.name}",
                lambda side, n, what=what, ask=seconds: ask(side, n, what),
                forces if what == "energy_forces" else None,
            )


def speed_entries(pair: Pair, threads: int, quick: bool) -> Iterator[Entry]:
    """`benchmarks.speed`: a MACE with random weights."""
    for side in pair.values():
        side.get(cmd="load", model=None, dtype="float32", threads=threads)
    yield from network_entries(pair, "speed", ("energy_forces", "train_step"), quick)


def family_entries(pair: Pair, threads: int, family: str, quick: bool) -> Iterator[Entry]:
    """`benchmarks.families`: one of them."""
    for side in pair.values():
        side.get(cmd="load", family=family, dtype="float32", threads=threads)
    yield from network_entries(pair, family, ("energy_forces",), quick)


def descriptor_entries(pair: Pair) -> Iterator[Entry]:
    """`benchmarks.descriptors`: CPU time of values and forces."""
    for case, path in descriptors.write_cases().items():
        for side in pair.values():
            side.get(cmd="prepare", case=case, structures=str(path))

        def features(side: Side, case: str = case) -> np.ndarray:
            file = FOLDERS.work / f"versions-{side.name}.npy"
            side.get(cmd="features", case=case, preset="dscribe", file=str(file))
            found = np.load(file)
            file.unlink()
            return found

        for what in ("values", "forces"):
            yield Entry(
                f"descriptors, {what}, {descriptors.TITLES[case]}",
                lambda side, n, case=case, what=what: side.get(
                    cmd="time", case=case, what=what, repeats=n
                )["cpu"],
                features if what == "values" else None,
            )


def groups(
    threads: int, quick: bool = False
) -> dict[str, tuple[list[str], Callable[[Pair], Iterator[Entry]]]]:
    """What can be asked for: arguments of the worker, and its entries."""
    found: dict[str, Any] = {
        "speed": (["benchmarks.worker"], lambda pair: speed_entries(pair, threads, quick))
    }
    for family in families.FAMILIES:
        found[family] = (
            ["benchmarks.families", "--serve"],
            lambda pair, family=family: family_entries(pair, threads, family, quick),
        )
    found["descriptors"] = (["benchmarks.descriptors", "--serve"], descriptor_entries)
    return found


# --- the comparison -----------------------------------------------------------------------


@dataclass(frozen=True)
class Code:
    """An interpreter, and the checkout of Kohn that it runs."""

    python: str
    tree: Path = ROOT


def environment(code: Code) -> dict[str, str]:
    """Of a worker: the checkout's code, and a folder for what this interpreter compiles of it."""
    kind = Path(code.python).absolute().parent.parent.name + f"-{code.tree.name}"
    cache = FOLDERS.work / "versions-compiled" / kind
    path = [str(code.tree / "src"), str(code.tree)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }


def compared(pair: Pair, entry: Entry, rounds: int, repeats: int) -> dict[str, Any]:
    """Seconds of both sides, asked in turn, and how far their numbers differ."""
    times: dict[str, list[float]] = {name: [] for name in pair}
    for _ in range(rounds):
        for name, side in pair.items():
            times[name] += entry.seconds(side, repeats)
    found: dict[str, Any] = {"name": entry.name, "seconds": times}
    if entry.numbers:
        a, b = (entry.numbers(pair[name]) for name in ("here", "other"))
        found["differ"] = float(np.abs(a - b).max() / np.abs(b).max())
    return found


def measured(codes: dict[str, Code], wanted: list[str], arguments: Any) -> Iterator[dict[str, Any]]:
    """Every entry of every group, for each pair of processes."""
    every = groups(arguments.threads, arguments.quick)
    for number in range(arguments.processes):
        order = list(codes) if number % 2 == 0 else list(codes)[::-1]
        for group in wanted:
            command, entries = every[group]
            pair = {
                name: Side(
                    f"{group}-{name}",
                    [codes[name].python, "-m", *command],
                    environment(codes[name]),
                    codes[name].tree,
                )
                for name in order
            }
            for side in pair.values():
                side.start()
            for entry in entries(pair):
                found = compared(pair, entry, arguments.rounds, arguments.repeats)
                ms = {n: round(1e3 * median(s), 3) for n, s in found["seconds"].items()}
                print(f"pair {number}:", found["name"], ms, file=sys.stderr, flush=True)
                yield found
            for side in pair.values():
                side.quit()


def rows_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row an entry: medians in ms, their ratio, the ratios of the pairs of processes."""
    rows = []
    for name in dict.fromkeys(f["name"] for f in found):
        pairs = [f for f in found if f["name"] == name]
        ms = {
            side: 1e3 * median(s for f in pairs for s in f["seconds"][side])
            for side in ("here", "other")
        }
        ratios = [median(f["seconds"]["here"]) / median(f["seconds"]["other"]) for f in pairs]
        differ = [f["differ"] for f in pairs if "differ" in f]
        rows.append(
            {
                "name": name,
                **ms,
                "ratio": ms["here"] / ms["other"],
                "pairs": ratios,
                "differ": max(differ) if differ else None,
            }
        )
    return rows


def table(here: str, other: str, rows: list[dict[str, Any]]) -> str:
    """The measurements in Markdown, under the names of both sides."""
    lines = [
        f"| what | {here}, ms | {other}, ms | ratio | of pairs of processes | differ by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        ratio = f"**{r['ratio']:.3f}**" if r["ratio"] > SLOWER else f"{r['ratio']:.3f}"
        differ = "" if r["differ"] is None else f"{r['differ']:.0e}"
        lines.append(
            f"| {r['name']} | {r['here']:.3f} | {r['other']:.3f} | {ratio} | "
            f"{min(r['pairs']):.3f} to {max(r['pairs']):.3f} | {differ} |"
        )
    slower = [r for r in rows if r["ratio"] > SLOWER]
    middle = float(np.exp(np.mean([np.log(r["ratio"]) for r in rows])))
    lines += ["", f"Geometric mean of the ratios {middle:.3f}. More than 3 % slower:", ""]
    for r in slower:
        sure = "" if min(r["pairs"]) > SLOWER else ", but not in every pair of processes"
        lines.append(f"- {r['name']}: {100 * (r['ratio'] - 1):.0f} %{sure}")
    return "\n".join(lines if slower else [*lines, "- none"]) + "\n"


def looked_up(code: Code) -> dict[str, str]:
    """Versions of an interpreter and the file of the package that it measures.

    Raises:
        SystemExit: it is not there or does not import Kohn.
    """
    script = (
        "import json, jax, jaxlib, kohn; print(json.dumps("
        '{"jax": jax.__version__, "jaxlib": jaxlib.__version__, "kohn": kohn.__file__}))'
    )
    try:
        done = subprocess.run(
            [code.python, "-W", "ignore", "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=environment(code),
            cwd=code.tree,
        )
    except OSError:
        raise SystemExit(
            f"no {code.python}: `make .venv-jax-0.10.2/.done` makes the other interpreter; "
            "--other names one that is there"
        ) from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{code.python} does not import Kohn: {error.stderr}") from None
    found = json.loads(done.stdout)
    # Of this checkout as seen from its top: a record tells nothing of whose machine it was.
    return found | {"kohn": os.path.relpath(found["kohn"], code.tree)}


def main() -> None:
    """Measure and write benchmarks/results/versions.{json,md}."""
    parser = parser_of(__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(groups(2))}")
    parser.add_argument("--other", default=str(OTHER), metavar="PYTHON")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another one of Kohn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=4, help="pairs of them, one after another")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parsed(parser)
    if arguments.quick:
        arguments.processes, arguments.rounds, arguments.repeats = 1, 1, 2
    wanted = arguments.groups or list(groups(2))
    if unknown := [g for g in wanted if g not in groups(2)]:
        parser.error(f"unknown groups {unknown}; known: {', '.join(groups(2))}")
    speed.cases()  # says what data are missing
    other = Code(arguments.other)
    if arguments.before:
        other = Code(sys.executable, arguments.before.absolute())
    codes = {"here": Code(sys.executable), "other": other}
    versions = {name: looked_up(code) for name, code in codes.items()}
    here, there = (versions[name]["jaxlib"] for name in codes)
    if not arguments.before and here == there:
        raise SystemExit(f"both interpreters have jaxlib {here}")
    m = machine({"the other": {k: versions["other"][k] for k in ("jax", "jaxlib")}})
    rows = rows_of(list(measured(codes, wanted, arguments)))
    name, heads = "versions", [f"jax {versions[side]['jax']}" for side in codes]
    if arguments.before:
        name, heads = "before", ["now", "before"]
    write_results(name, m, {"versions": versions, "rows": rows}, table(*heads, rows))


if __name__ == "__main__":
    main()
