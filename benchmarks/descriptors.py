"""SOAP beside DScribe and featomic, and its memory: `python -m benchmarks.descriptors`.

n_max 8, l_max 6, r_c 5 Å, σ 0.5 Å, Gaussian-type radial functions, float64, on rattled silicon, a
box of water and an oxide of five elements. All sides live in processes of their own on one core and
are asked in turn, round after round, in one run; medians of wall and CPU time, and ratios of CPU
times. First, Kohn's presets are compared with the numbers of both codes.

    values   all power spectra, neighbour search included
    forces   Kohn: energy, forces and stress of Σ_i Σ_m w_m (p̂_i·p̂_m)^4, 200 points p̂_m,
             neighbour search included; the peers: ∂p/∂r by itself, not contracted
    memory   peak resident memory of forces in a process of its own, on larger and larger silicon
    stream   features of many small molecules, one after another

Nominal operations of the values are those of the sum over neighbours as Kohn writes it
(`nominal`), and the share is of the matrix-product peak in the same run. `make peers` makes the
peers' environment; KOHN_PEERS_DESCRIPTORS names another python; where it is not installed, Kohn
is measured alone. Give it an idle core.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from itertools import chain, islice, repeat
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import (
    DATA,
    FOLDERS,
    PEERS,
    ROOT,
    installed,
    machine,
    need_data,
    parsed,
    parser_of,
    write_results,
)
from benchmarks.peers.protocol import guard_stdout, serve
from benchmarks.sides import Side

SETTINGS = {"r_cut": 5.0, "n_max": 8, "l_max": 6, "sigma": 0.5}
POINTS = 200
ASKED = {"values": 3.0, "forces": 20.0}
"""Times faster than the faster peer."""
TITLES = {"silicon512": "512 Si", "water648": "648 H2O", "oxide240": "240 (Ba,Sr)(Ti,Zr)O3"}
CELLS = (4, 6, 8, 11)
"""Cubic cells of silicon along each edge, for memory: 512 to 10,648 atoms."""
CODES = ("dscribe", "featomic")
"""The peers, in one environment."""


# --- Kohn's side --------------------------------------------------------------------------


def kernel_potential(structure: Any) -> Any:
    """A Gaussian process with random inducing environments and weights, for these elements."""
    from kohn.descriptors.soap import SoapConfig, expansion
    from kohn.models.gaussian_process import GaussianProcess, GaussianProcessConfig
    from kohn.potential import Potential

    elements = elements_of(structure)
    ends = np.linspace(0, POINTS, len(elements) + 1).round().astype(int)[1:-1]
    config = GaussianProcessConfig(soap=SoapConfig(**SETTINGS))
    rng = np.random.default_rng(0)
    points = rng.random((POINTS, expansion(config.soap, elements).size))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    model = GaussianProcess.at(np.split(points, ends), rng.normal(size=POINTS), config, elements)
    return Potential(model, dict.fromkeys(elements, 0.0))


def elements_of(structure: Any) -> tuple[int, ...]:
    """Atomic numbers, ascending."""
    return tuple(sorted(set(structure.numbers.tolist())))


class Worker:
    """Kohn's answers."""

    def __init__(self) -> None:
        self.cases: dict[str, Any] = {}
        self.calls: dict[tuple[str, str], Any] = {}

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """Read a structure."""
        import kohn
        from kohn.graphs import pairs_within

        structure = kohn.read(command["structures"])[0]
        self.cases[command["case"]] = structure
        edges = len(pairs_within(structure, SETTINGS["r_cut"])[0])
        species = len(elements_of(structure))
        return {"atoms": len(structure), "edges": edges, "species": species}

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Seconds of each repeat, compilation not included."""
        name = command["case"], command["what"]
        if name not in self.calls:
            self.calls[name] = getattr(self, command["what"])(self.cases[command["case"]])
            self.calls[name]()
        call = self.calls[name]
        wall, cpu = [], []
        for _ in range(command["repeats"]):
            started = time.perf_counter(), time.process_time()
            call()
            wall.append(time.perf_counter() - started[0])
            cpu.append(time.process_time() - started[1])
        return {"wall": wall, "cpu": cpu, "extrapolated": False}

    def values(self, structure: Any) -> Any:
        """What to time: everything from the structure on."""
        from kohn.descriptors.soap import SoapConfig
        from kohn.descriptors.soap_stream import soap_features

        config, elements = SoapConfig(**SETTINGS), elements_of(structure)
        return lambda: next(soap_features([structure], config, elements))

    def forces(self, structure: Any) -> Any:
        """What to time: energy, forces and stress, from the structure on."""
        potential = kernel_potential(structure)
        return lambda: potential.predict([structure])

    def features(self, command: dict[str, Any]) -> dict[str, Any]:
        """Write the features of a preset."""
        from kohn.descriptors.soap import SoapConfig
        from kohn.descriptors.soap_stream import soap_features

        structure = self.cases[command["case"]]
        config = getattr(SoapConfig, command["preset"])(**SETTINGS)
        np.save(command["file"], next(soap_features([structure], config, elements_of(structure))))
        return {}

    def matmul_peak(self, command: dict[str, Any]) -> dict[str, Any]:
        """GFLOP/s of a 1024 by 1024 matrix product in float64, the best of several."""
        import jax
        import jax.numpy as jnp

        n, best = 1024, float("inf")
        a = jnp.ones((n, n), jnp.float64)
        product = jax.jit(lambda x: x @ x)
        product(a).block_until_ready()
        for _ in range(12):
            started = time.process_time()
            product(a).block_until_ready()
            best = min(best, time.process_time() - started)
        return {"gflops": 2 * n**3 / best / 1e9}


def serve_kohn() -> int:
    """Serve until told to quit."""
    answers = guard_stdout()
    import kohn  # noqa: F401  (enables 64-bit numbers)

    worker = Worker()
    names = ("prepare", "time", "features", "matmul_peak")
    return serve(answers, {"side": "kohn"}, {name: getattr(worker, name) for name in names})


# --- memory, each in a process of its own -------------------------------------------------


def peak() -> int:
    """Peak resident memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def force_memory(cells: int) -> dict[str, Any]:
    """Forces of silicon, in this process."""
    import kohn  # noqa: F401
    from benchmarks.structures import make_rattled_silicon
    from kohn.structures.ase_conversion import from_ase

    structure = from_ase(make_rattled_silicon(cells))
    potential = kernel_potential(structure)
    potential.predict([structure])
    started = time.process_time()
    potential.predict([structure])
    seconds = time.process_time() - started
    return {"atoms": len(structure), "seconds": seconds, "peak_bytes": peak()}


def stream_memory(molecules: int) -> dict[str, Any]:
    """Averaged features of molecules of QM7, over and over, in this process."""
    import kohn
    from kohn.descriptors.transformers import Soap

    data = kohn.read(DATA / "qm7" / "qm7.extxyz")
    soap = Soap(**SETTINGS).fit(data)
    frames = islice(chain.from_iterable(repeat(data)), molecules)
    at_first, done, atoms = 0, 0, 0
    started = time.process_time()
    for done, _row in enumerate(soap.stream(frames), 1):
        atoms += len(data[(done - 1) % len(data)])
        if done == min(len(data), molecules // 2):
            at_first = peak()
    seconds = time.process_time() - started
    return {
        "molecules": done,
        "atoms": atoms,
        "seconds": seconds,
        "first": min(len(data), molecules // 2),
        "first_bytes": at_first,
        "peak_bytes": peak(),
    }


def alone(*arguments: str) -> dict[str, Any]:
    """What a process of its own measures."""
    command = [sys.executable, "-m", "benchmarks.descriptors", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


# --- the comparison -----------------------------------------------------------------------


def write_cases() -> dict[str, Path]:
    """The structures, where all sides find them."""
    from ase.io import write

    from benchmarks.structures import make_oxide, make_rattled_silicon, make_water_box

    made = (make_rattled_silicon(4), make_water_box(molecules=216, density=1.0), make_oxide())
    paths = {atoms.info["name"]: FOLDERS.work / f"{atoms.info['name']}.extxyz" for atoms in made}
    for atoms in made:
        write(paths[atoms.info["name"]], atoms, format="extxyz")
    return paths


def agreement(sides: dict[str, Side], case: str) -> dict[str, float]:
    """Largest difference of a preset from its code, as a share of the largest feature."""
    found = {}
    for name in [n for n in CODES if n in sides]:
        ours, theirs = (FOLDERS.work / f"soap-{x}-{case}-{name}.npy" for x in ("kohn", name))
        sides["kohn"].get(cmd="features", case=case, preset=name, file=str(ours))
        sides[name].get(cmd="features", case=case, file=str(theirs))
        a, b = np.load(ours), np.load(theirs)
        found[name] = float(np.abs(a - b).max() / np.abs(b).max())
        ours.unlink()
        theirs.unlink()
        if not found[name] < 1e-8:
            raise SystemExit(f"{case}: {name} and its preset differ by {found[name]:.1e}")
    return found


def compare(rounds: int, repeats: int, peers: bool) -> dict[str, Any]:
    """Every case on every side, in turn."""
    python, script = PEERS["descriptors"].python, "benchmarks/peers/soap_peers.py"
    sides = {"kohn": Side("kohn", [sys.executable, "-m", "benchmarks.descriptors", "--serve"])}
    if peers:
        sides |= {name: Side(name, [python, script, name]) for name in CODES}
    rows: list[dict[str, Any]] = []
    for side in sides.values():
        side.start()
    gflops = sides["kohn"].get(cmd="matmul_peak")["gflops"]
    for case, path in write_cases().items():
        sizes = {
            name: side.get(cmd="prepare", case=case, structures=str(path))
            for name, side in sides.items()
        }
        agreed = agreement(sides, case)
        for what in ("values", "forces"):
            times: dict[str, dict[str, list[float]]] = {n: {"wall": [], "cpu": []} for n in sides}
            extrapolated = set()
            for _round in range(rounds):
                for side in sides.values():
                    n = repeats if what == "values" or side.name == "kohn" else 1
                    answer = side.get(cmd="time", case=case, what=what, repeats=n)
                    for clock, seconds in times[side.name].items():
                        seconds += answer[clock]
                    if answer["extrapolated"]:
                        extrapolated.add(side.name)
            rows.append(
                {
                    "case": case,
                    "what": what,
                    **{k: sizes["kohn"][k] for k in ("atoms", "edges", "species")},
                    "agreement": agreed,
                    "seconds": {n: {c: median(v) for c, v in t.items()} for n, t in times.items()},
                    "extrapolated": sorted(extrapolated),
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    for side in sides.values():
        side.quit()
    return {"gflops": gflops, "rows": rows}


def nominal(atoms: int, edges: int, species: int) -> float:
    """Operations of the values: per neighbour a Chebyshev series of 42 terms for each radial
    function and degree, the harmonics, their products; per atom each pair of channels once."""
    n_max, degrees = SETTINGS["n_max"], SETTINGS["l_max"] + 1
    harmonics, channels = degrees**2, species * n_max
    edge = 2 * 42 * n_max * degrees + 4 * harmonics + 2 * harmonics * n_max
    atom = 2 * harmonics * channels * (channels + 1) // 2
    return float(edges * edge + atoms * atom)


def table(document: dict[str, Any]) -> str:
    """The measurements in Markdown."""
    lines = []
    if "rows" in document:
        lines += [*_speed(document), ""]
    if "memory" in document:
        lines += [
            f"Energy, forces and stress of silicon with {POINTS} inducing environments, each size "
            "in a process of its own:",
            "",
            "| atoms | CPU seconds | µs an atom | peak memory, MiB |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| {r['atoms']:,} | {r['seconds']:.2f} | {1e6 * r['seconds'] / r['atoms']:.0f} | "
            f"{r['peak_bytes'] / 2**20:.0f} |"
            for r in document["memory"]
        ]
        lines.append("")
    if "stream" in document:
        s = document["stream"]
        lines += [
            f"{s['molecules']:,} molecules (QM7, {s['atoms']:,} atoms) through `Soap().stream`: "
            f"{s['seconds']:.0f} CPU seconds, {s['atoms'] / s['seconds']:,.0f} atoms/s; peak "
            f"memory {s['first_bytes'] / 2**20:.0f} MiB after {s['first']:,} molecules, "
            f"{s['peak_bytes'] / 2**20:.0f} MiB at the end.",
            "",
        ]
    return "\n".join(lines)


def _speed(document: dict[str, Any]) -> list[str]:
    differ = [d for row in document["rows"] for d in row["agreement"].values()]
    same = (
        " Kohn's presets give the numbers of DScribe and featomic (unsplined) within "
        f"{max(differ, default=0.0):.0e} of the largest. Featomic is timed with its spline."
    )
    lines = [
        f"One core, float64; matrix-product peak {document['gflops']:.0f} GFLOP/s. CPU time in "
        f"ms, wall time in brackets.{same if differ else ''}",
        "",
        "| what | structures | Kohn | DScribe | featomic | faster peer / Kohn | asked "
        "| atoms/s | share of peak |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in document["rows"]:
        times, what = row["seconds"], row["what"]
        ours = times["kohn"]["cpu"]
        cells = [
            _milliseconds(times[n], n in row["extrapolated"]) if n in times else "–"
            for n in ("kohn", *CODES)
        ]
        peers = [times[n]["cpu"] / ours for n in CODES if n in times]
        ratio = f"**{min(peers):.1f}**" if peers else "–"
        share = nominal(row["atoms"], row["edges"], row["species"]) / ours / document["gflops"]
        lines.append(
            f"| {what} | {TITLES[row['case']]} | "
            + " | ".join(cells)
            + f" | {ratio} | {ASKED[what]:g} | {row['atoms'] / ours:,.0f} | "
            + (f"{share / 1e7:.0f} % |" if what == "values" else "– |")
        )
    return [
        *lines,
        "",
        "Forces: Kohn's are energy, forces and stress of a kernel model, contracted; the peers' "
        "are the array ∂p/∂r alone. (*) Extrapolated from finite differences of two atoms: "
        "DScribe has no analytic derivatives of periodic structures.",
    ]


def _milliseconds(times: dict[str, float], extrapolated: bool) -> str:
    digits = 1 if times["cpu"] < 0.1 else 0
    text = f"{1e3 * times['cpu']:,.{digits}f} ({1e3 * times['wall']:,.{digits}f})"
    return text + "*" if extrapolated else text


def main() -> int:
    """Measure and write benchmarks/results/descriptors.md."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--molecules", type=int, default=100_000, help="to stream")
    parser.add_argument(
        "--without", nargs="*", default=[], choices=["speed", "memory", "stream"], help="leave out"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--force-memory", type=int, metavar="CELLS", help=argparse.SUPPRESS)
    parser.add_argument("--stream-memory", type=int, metavar="MOLECULES", help=argparse.SUPPRESS)
    arguments = parsed(parser)
    # one core and one thread for this process and all that it starts
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    if arguments.serve:
        return serve_kohn()
    if arguments.force_memory or arguments.stream_memory:
        of = force_memory if arguments.force_memory else stream_memory
        print(json.dumps(of(arguments.force_memory or arguments.stream_memory)))
        return 0
    cells = CELLS
    if arguments.quick:
        arguments.rounds, arguments.repeats, arguments.molecules, cells = 1, 1, 200, CELLS[:1]
    if "stream" not in arguments.without:
        need_data("qm7/qm7.extxyz")
    with_peers = [] if "speed" in arguments.without else ["descriptors"]
    peers = installed(*with_peers)
    m = machine(peers)
    document: dict[str, Any] = {}
    if "speed" not in arguments.without:
        document |= compare(arguments.rounds, arguments.repeats, bool(peers))
    if "memory" not in arguments.without:
        document["memory"] = [alone("--force-memory", str(n)) for n in cells]
    if "stream" not in arguments.without:
        document["stream"] = alone("--stream-memory", str(arguments.molecules))
    write_results("descriptors", m, document, table(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
