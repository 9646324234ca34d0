"""The first prediction of a cold process: `python -m benchmarks.cold_start [MODEL FILE]`.

    command      `kohn predict MODEL FILE`, from start to end of the process
    calculator   a script that makes kohn.Calculator(MODEL) and asks for the forces of the first
                 structure, by phases: Python's start, `import kohn`, reading the structures,
                 reading the model (with all imports that this takes), making the calculator, the
                 first call, the second

Each in processes of their own, with an empty folder for compiled functions (cold) and then with
what that left (warm), in turn, round after round; medians. JAX tells the seconds of tracing,
lowering, compiling and reading compiled functions; they are parts of the phases. What `python -X
importtime` tells of a warm `kohn predict` is summed by package, each module without what it
imports; tracing imports slows them.

By default MODEL is a MACE of default shape with random weights, made here, and FILE ten ethanol
molecules of the data that Kohn ships.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import FOLDERS, ROOT, machine, parsed, parser_of, write_results

PHASES = ("python", "import kohn", "read structures", "read model", "calculator", "first call")
PHASES += ("second call",)
JAX_EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling or reading compiled",
    "/jax/compilation_cache/cache_retrieval_time_sec": "of it reading compiled",
}
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|\s*(\S+)")
SHOWN = 14
"""Packages in the table."""


def make_case() -> tuple[Path, Path]:
    """A model and structures."""
    import jax

    import kohn
    import kohn.data
    from kohn.models import Mace, MaceConfig
    from kohn.potential import save

    model, file = FOLDERS.work / "cold-start.safetensors", FOLDERS.work / "cold-start.extxyz"
    elements = (1, 6, 8)
    mace = Mace.init(jax.random.key(0), MaceConfig(), elements, neighbours=8.0)
    save(kohn.Potential(mace, dict.fromkeys(elements, 0.0)), model)
    folder = next(iter(kohn.data.__path__))
    kohn.write(kohn.read(f"{folder}/ethanol/test.extxyz").select(range(10)), file)
    return model, file


# --- in a process of its own --------------------------------------------------------------


def phases(model: str, file: str, started: float) -> dict[str, Any]:
    """Wall and CPU seconds of each phase; `started`: when the process was, by time.time."""
    marks = [(started, 0.0)]

    def mark() -> None:
        marks.append((time.time(), time.process_time()))

    mark()
    import kohn

    mark()
    events: Counter = Counter()
    calls: Counter = Counter()
    _listen(events, calls)
    structures = kohn.read(file)
    mark()
    potential = kohn.load(model)
    mark()
    calculator = kohn.Calculator(potential)
    mark()
    from kohn.structures import to_ase

    atoms = to_ase(structures[0])
    for seed in range(2):
        atoms.rattle(0.001, seed=seed)
        atoms.calc = calculator
        atoms.get_forces()
        mark()
    wall, cpu = ([b[k] - a[k] for a, b in pairwise(marks)] for k in range(2))
    return {
        "phases": dict(zip(PHASES, wall, strict=True)),
        "phases_cpu": dict(zip(PHASES, cpu, strict=True)),
        "jax": {JAX_EVENTS[k]: v for k, v in events.items()},
        "calls": {JAX_EVENTS[k]: v for k, v in calls.items()},
        "total": marks[-2][0] - started,
        "cpu": marks[-2][1],
    }


def _listen(events: Counter, calls: Counter) -> None:
    """Add up what JAX tells of its own work."""
    from jax import monitoring

    def note(event: str, seconds: float, **_: Any) -> None:
        if event in JAX_EVENTS:
            events[event] += seconds
            calls[event] += 1

    monitoring.register_event_duration_secs_listener(note)


# --- from outside -------------------------------------------------------------------------


def environment(cache: Path) -> dict[str, str]:
    """Kohn keeps compiled functions below this folder."""
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    return {**kept, "XDG_CACHE_HOME": str(cache)}


def calculator(model: Path, file: Path, cache: Path) -> dict[str, Any]:
    """The phases of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.cold_start", "--phases", repr(time.time())]
    done = subprocess.run(
        [*command, str(model), str(file)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment(cache),
    )
    return json.loads(done.stdout.splitlines()[-1])


def predict_command(model: Path, file: Path) -> list[str]:
    """Arguments of `kohn predict`; the file that it writes is taken away."""
    out = FOLDERS.work / "cold-start-predicted.extxyz"
    out.unlink(missing_ok=True)
    return ["-m", "kohn.cli", "predict", str(model), str(file), "-o", str(out)]


def command(model: Path, file: Path, cache: Path) -> dict[str, float]:
    """Wall and CPU seconds of `kohn predict`."""
    arguments = predict_command(model, file)
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(cache),
    )
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"kohn predict failed: {told.decode()}")
    wall = time.perf_counter() - started
    return {"total": wall, "cpu": usage.ru_utime + usage.ru_stime}


def imports(model: Path, file: Path, cache: Path) -> dict[str, Any]:
    """Seconds of the imports of `kohn predict` by package, and how many modules."""
    arguments = ["-X", "importtime", *predict_command(model, file)]
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment(cache),
    )
    seconds: Counter = Counter()
    modules: Counter = Counter()
    for own, _, name in IMPORT.findall(done.stderr):
        package = name.split(".")[0]
        seconds[package] += 1e-6 * int(own)
        modules[package] += 1
    found = {p: {"seconds": s, "modules": modules[p]} for p, s in seconds.most_common()}
    return {"packages": found, "total": sum(seconds.values()), "modules": sum(modules.values())}


def measured(model: Path, file: Path, rounds: int) -> dict[str, Any]:
    """All runs, cold and warm in turn."""
    runs: dict[str, list[dict[str, Any]]] = {}
    cache = FOLDERS.work / "cold-start-compiled"
    for _ in range(rounds):
        for what, run in (("command", command), ("calculator", calculator)):
            shutil.rmtree(cache, ignore_errors=True)
            for state in ("cold", "warm"):
                found = run(model, file, cache)
                runs.setdefault(f"{what}, {state}", []).append(found)
                print(f"{what}, {state}: {found['total']:.2f} s", file=sys.stderr, flush=True)
    return {"runs": runs, "imports": imports(model, file, cache)}


def table(document: dict[str, Any], model: str) -> str:
    """The measurements in Markdown."""
    runs = document["runs"]

    def middle(what: str, *keys: str) -> float:
        values: list[Any] = runs[what]
        for key in keys:
            values = [v.get(key, 0.0) for v in values]
        return median(values)

    lines = [
        f"{model}. Wall seconds, medians of {len(runs['command, cold'])}; CPU seconds in brackets:",
        "",
        "| compiled functions | `kohn predict` | calculator to the first forces | "
        + " | ".join(PHASES)
        + " |",
        "| --- " * (3 + len(PHASES)) + "|",
    ]
    for state in ("cold", "warm"):
        totals = [
            f"{middle(f'{what}, {state}', 'total'):.2f} ({middle(f'{what}, {state}', 'cpu'):.2f})"
            for what in ("command", "calculator")
        ]
        what = f"calculator, {state}"
        spent = [
            f"{middle(what, 'phases', p):.2f} ({middle(what, 'phases_cpu', p):.2f})" for p in PHASES
        ]
        lines.append(f"| {state} | " + " | ".join([*totals, *spent]) + " |")
    lines += ["", "What JAX tells of the calculator, seconds and how often:", ""]
    lines += [
        "| | " + " | ".join(JAX_EVENTS.values()) + " |",
        "| --- " * (1 + len(JAX_EVENTS)) + "|",
    ]
    for state in ("cold", "warm"):
        what = f"calculator, {state}"
        cells = [
            f"{middle(what, 'jax', e):.2f} ({middle(what, 'calls', e):.0f})"
            for e in JAX_EVENTS.values()
        ]
        lines.append(f"| {state} | " + " | ".join(cells) + " |")
    told = document["imports"]
    lines += [
        "",
        f"Imports of `kohn predict`, traced: {told['total']:.2f} s, {told['modules']:,} modules:",
        "",
        "| package | seconds | modules |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {p['seconds']:.2f} | {p['modules']} |"
        for name, p in list(told["packages"].items())[:SHOWN]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write benchmarks/results/cold_start.{json,md}."""
    parser = parser_of(__doc__)
    parser.add_argument("case", nargs="*", metavar="MODEL FILE", help="a model and structures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--phases", type=float, help=argparse.SUPPRESS)
    arguments = parsed(parser)
    if len(arguments.case) not in (0, 2):
        parser.error(f"expected a model and a file of structures, got {arguments.case}")
    if arguments.phases:
        model, file = arguments.case
        print(json.dumps(phases(model, file, arguments.phases)))
        return
    if arguments.quick:
        arguments.rounds = 1
    m = machine()
    given = [Path(name).resolve() for name in arguments.case]
    if missing := [str(path) for path in given if not path.exists()]:
        raise SystemExit(f"not there: {', '.join(missing)}")
    model, file = given or make_case()
    name = f"{given[0].name} on {given[1].name}" if given else "MACE of default shape, ethanol"
    document = measured(model, file, arguments.rounds)
    write_results("cold_start", m, document, table(document, name))


if __name__ == "__main__":
    main()
