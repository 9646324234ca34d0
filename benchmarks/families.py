"""Every family beside a peer of the same shape: `python -m benchmarks.families`.

Energy and forces, float32, random weights, neighbour lists computed beforehand on all sides. Kohn
computes the stress too, and so does nequip; schnetpack and mlip do not. All sides of a family live
in processes of their own and are asked in turn, round after round, in one run on the same cores
with the same number of threads; medians and the ratios of medians are shown. Before a side is
timed on a case, it must have as many directed edges as the others, and forces that are not zero and
are minus the slope of its energy (`checked`).

Nominal operations are those of the dense algorithm (`nominal`), and the share is of the
matrix-product peak that JAX reached in the same run. `make peers` makes the environments;
KOHN_PEERS_SCHNETPACK, KOHN_PEERS_NEQUIP and KOHN_PEERS_MLIP name other pythons. A peer that is not
installed is left out. Give it an idle machine.
"""

import argparse
import os
import sys
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import Any

import numpy as np

from benchmarks import worker
from benchmarks.common import PEERS, installed, machine, parsed, parser_of, write_results
from benchmarks.peers.protocol import guard_stdout, serve
from benchmarks.sides import Side
from benchmarks.speed import Case, cases

ELEMENTS, NEIGHBOURS = (1, 6, 7, 8), 14.375
ASKED = {"molecule": 5.0, "batch": 5.0, "box": 3.0}
"""Times faster than the peer in its default mode."""
STEP, TOLERANCE = 0.01, 0.03
"""Å of the finite difference, and how far from it a force may be, as a share of itself."""


@dataclass(frozen=True)
class Lane:
    """What is timed of a peer."""

    side: str
    mode: str
    default: bool = True  # the mode that is asked to be beaten


WORKERS = {
    "schnetpack": ["benchmarks/peers/speed_schnetpack.py"],
    "nequip": ["benchmarks/peers/speed_nequip.py", "nequip"],
    "mlip": ["benchmarks/peers/speed_nequip.py", "mlip"],
}
FAMILIES = {
    "schnet": [Lane("schnetpack", "eager"), Lane("schnetpack", "compile", False)],
    "nequip": [Lane("nequip", "eager"), Lane("nequip", "aoti", False), Lane("mlip", "jit")],
    "dimenet": [],
}


# --- Kohn's side --------------------------------------------------------------------------


def configuration(family: str) -> Any:
    """The shape that is timed, written out where a peer must have the same."""
    from kohn.models import FAMILIES as MODELS

    shapes: dict[str, dict[str, Any]] = {
        "schnet": {"channels": 128, "layers": 3, "n_gaussians": 20, "cutoff": 5.0},
        "nequip": {
            "channels": 32,
            "l_max": 2,
            "layers": 4,
            "n_bessel": 8,
            "radial_widths": (64, 64),
            "cutoff": 5.0,
        },
        "dimenet": {},
    }
    return MODELS[family][0](**shapes[family])


class Worker(worker.Worker):
    """Kohn's answers; "mode" is of no meaning here."""

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """A model with random weights; threads through the affinity of the process."""
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: command["threads"]])
        import jax
        import jaxlib

        import kohn
        from kohn.models import FAMILIES as MODELS
        from kohn.potential import Potential

        model = MODELS[command["family"]][1].init(
            jax.random.key(0),
            configuration(command["family"]),
            ELEMENTS,
            neighbours=NEIGHBOURS,
            dtype=np.dtype(command["dtype"]).type,
        )
        self.potential = Potential(model, dict.fromkeys(ELEMENTS, 0.0))
        versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__}
        return {
            "parameters": self.potential.n_parameters,
            "versions": versions,
            "kohn": kohn.__file__,
        }

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Seconds of each repeat."""
        return super().time({**command, "what": "energy_forces"})

    def predict(self, command: dict[str, Any]) -> dict[str, Any]:
        """Total energy and forces of the batch, after a coordinate has moved if asked."""
        import jax

        from kohn.graphs import collate, neighbourhood

        graph, chosen = self.cases[command["case"]]
        if "move" in command:
            atom, axis, distance = command["move"]
            chosen = moved(chosen, atom, axis, distance)
            rows = [neighbourhood(s, self.potential.cutoff) for s in chosen]
            graph = jax.device_put(
                collate(chosen, rows, self.present.elements, dtype=self.potential.dtype)
            )
        found = self.present(graph)
        atoms = sum(map(len, chosen))
        return {
            "energy": float(np.asarray(found.atom_energies, np.float64).sum()),
            "forces": np.asarray(found.forces)[:atoms].tolist(),
        }


def moved(structures: list[Any], atom: int, axis: int, distance: float) -> list[Any]:
    """The structures with one coordinate changed; atoms are counted through all of them."""
    result = []
    for s in structures:
        if 0 <= atom < len(s):
            positions = s.positions.copy()
            positions[atom, axis] += distance
            s = replace(s, positions=positions)
        atom -= len(s)
        result.append(s)
    return result


def serve_kohn() -> int:
    """Serve until told to quit."""
    answers = guard_stdout()
    kohn_worker = Worker()
    names = ("load", "prepare", "time", "predict", "matmul_peak")
    return serve(answers, {"side": "kohn"}, {n: getattr(kohn_worker, n) for n in names})


# --- the comparison -----------------------------------------------------------------------


def checked(side: Side, case: str, mode: str) -> float:
    """The largest force beside minus the slope of the energy: its relative difference.

    Raises:
        SystemExit: forces that are zero, not finite, or not the derivative of the energy.
    """
    forces = np.array(side.get(cmd="predict", case=case, mode=mode)["forces"])
    atom, axis = np.unravel_index(np.abs(forces).argmax(), forces.shape)
    energies = [
        side.get(cmd="predict", case=case, mode=mode, move=[int(atom), int(axis), h])["energy"]
        for h in (STEP, -STEP)
    ]
    force = forces[atom, axis]
    error = abs(force + (energies[0] - energies[1]) / (2 * STEP)) / max(abs(force), 1e-30)
    if not (np.isfinite(forces).all() and abs(force) > 1e-6 and error < TOLERANCE):
        raise SystemExit(
            f"{side.name} {mode}, {case}: force {force} of atom {atom}, axis {axis}, but energies "
            f"{energies} at ±{STEP} Å"
        )
    return float(error)


def measure(
    family: str, case: Case, sides: dict[str, Side], rounds: int, repeats: int, slow: bool
) -> dict:
    """One case on every side, in turn; with the modes that take minutes to compile if `slow`."""
    prepare = {"case": case.name, "structures": str(case.structures), "batch": case.batch}
    sizes = {name: side.get(cmd="prepare", **prepare) for name, side in sides.items()}
    if len({(s["atoms"], s["edges"]) for s in sizes.values()}) != 1:
        raise SystemExit(f"{case.name}: the sides have different graphs: {sizes}")
    peers = [x for x in FAMILIES[family] if x.side in sides and (x.default or slow)]
    lanes = [Lane("kohn", "jit"), *peers]
    times: dict[Lane, list[float]] = {}
    failed = {}
    errors = {}
    for lane in lanes:
        try:
            errors[lane] = checked(sides[lane.side], case.name, lane.mode)
            times[lane] = []
        except SystemExit as error:
            if lane.default:
                raise
            why = str(error).splitlines()[0].rsplit("}: ", 1)[-1]
            failed[f"{lane.side} ({lane.mode})"] = why[:200]
            print(f"{lane} does not work: {error}", file=sys.stderr)
    n = max(2, repeats // (4 if case.kind == "box" else 1))
    for _ in range(rounds):
        for lane, seconds in times.items():
            answer = sides[lane.side].get(cmd="time", case=case.name, mode=lane.mode, repeats=n)
            seconds += answer["seconds"]
    row = {
        "family": family,
        "case": case.name,
        "kind": case.kind,
        **{k: sizes["kohn"][k] for k in ("atoms", "edges")},
        "lanes": [
            {"side": x.side, "mode": x.mode, "default": x.default, "ms": 1e3 * median(v)}
            for x, v in times.items()
        ],
        "failed": failed,
        "worst": max(errors.values()),
    }
    shown = {f"{x['side']} {x['mode']}": round(x["ms"], 3) for x in row["lanes"]}
    print(family, case.name, row["edges"], shown, f"{row['worst']:.1e}", file=sys.stderr)
    return row


def nominal(family: str, atoms: int, edges: int) -> float | None:
    """Operations of energy and forces by the dense algorithm; the gradient by the inputs takes
    as much again. None where nobody has counted.

    SchNet, per edge and layer: two layers of filters, the product with the neighbour and its sum;
    per atom and layer: three maps. NequIP, per edge and layer: the radial network and each path,
    harmonics and Clebsch-Gordan coefficients coupled first; per atom and layer: maps before and
    after the messages and of the element.
    """
    config = configuration(family)
    if family == "schnet":
        c = config.channels
        edge = 2 * (config.n_gaussians * c + c * c) + 3 * c
        return 2.0 * config.layers * (edges * edge + atoms * 6 * c * c)
    if family != "nequip":
        return None
    c, top, total = config.channels, config.l_max, 0
    widths = (config.n_bessel, *config.radial_widths)
    for layer in range(config.layers):
        last = layer == config.layers - 1
        senders = range(top + 1 if layer else 1)
        outputs = [c] if last else [c * (1 + top), *[c] * top]  # gates stand among the scalars
        paths = [
            (l1, l2, l3)
            for l1, l2, l3 in product(senders, range(top + 1), range(len(outputs)))
            if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
        ]
        network = sum(a * b for a, b in zip(widths, (*widths[1:], len(paths) * c), strict=True))
        couple = sum((2 * l1 + 1) * (1 + 2 * (2 * l3 + 1)) for l1, _, l3 in paths) * c
        before = sum(2 * l + 1 for l in senders) * c
        after = sum((2 * l3 + 1) * outputs[l3] for _, _, l3 in paths)
        skip = sum((2 * l + 1) * n for l, n in enumerate(outputs) if l in senders)
        total += edges * (2 * network + couple) + atoms * 2 * c * (before + after + skip)
    return 2.0 * total


def table(document: dict[str, Any]) -> str:
    """The measurements in Markdown."""
    peak = document["gflops"]
    lines = [
        f"{document['threads']} threads, float32; matrix-product peak {peak:.0f} GFLOP/s; "
        "parameters: "
        + "; ".join(
            f"{family}: " + ", ".join(f"{k} {v:,}" for k, v in sides.items())
            for family, sides in document["parameters"].items()
        )
        + "; versions: "
        + "; ".join(
            f"{side}: " + ", ".join(f"{k} {v}" for k, v in found.items())
            for side, found in document["versions"].items()
        )
        + ". The largest force of each side is minus the slope of its energy within "
        f"{max(row['worst'] for row in document['rows']):.0e}.",
        "",
        "| family | structures | atoms | edges | Kohn, ms | share of peak | peer (mode) | peer, ms "
        "| ratio | asked |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in document["rows"]:
        (ours,) = (lane["ms"] for lane in row["lanes"] if lane["side"] == "kohn")
        work = nominal(row["family"], row["atoms"], row["edges"])
        share = f"{work / ours / peak / 1e4:.0f} %" if work else "–"
        head = (
            f"| {row['family']} | {row['case']} | {row['atoms']} | {row['edges']:,} | "
            f"{ours:.2f} | {share} | "
        )
        peers = [lane for lane in row["lanes"] if lane["side"] != "kohn"]
        if not peers:
            lines.append(head + "– | – | – | – |")
        for lane in peers:
            ms = lane["ms"]
            ratio = f"**{ms / ours:.1f}**" if lane["default"] else f"{ms / ours:.1f}"
            asked_for = f"{ASKED[row['kind']]:g}" if lane["default"] else "beside"
            name = f"{lane['side']} ({lane['mode']})"
            lines.append(head + f"{name} | {ms:.1f} | {ratio} | {asked_for} |")
            head = "| | | | | | | "
    failures: dict[str, list[str]] = {}
    for row in document["rows"]:
        for lane, why in row["failed"].items():
            failures.setdefault(f"{lane}: {why}", []).append(row["case"])
    if failures:
        lines += ["", "Did not work:", ""]
        lines += [f"- {why} ({', '.join(names)})" for why, names in failures.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and write benchmarks/results/families.md."""
    parser = parser_of(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--without", nargs="*", default=[], help="peers to leave out")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parsed(parser)
    if arguments.serve:
        return serve_kohn()
    if arguments.quick:
        arguments.rounds, arguments.repeats = 1, 2
    every = cases()
    if arguments.quick:
        every = [every[0], every[-1]]
    wanted = dict.fromkeys(lane.side for f in arguments.families for lane in FAMILIES[f])
    peers = installed(*(name for name in wanted if name not in arguments.without))
    m = machine(peers)
    document: dict[str, Any] = {
        "threads": arguments.threads,
        "parameters": {},
        "versions": {},
        "rows": [],
    }
    for family in arguments.families:
        names = dict.fromkeys(lane.side for lane in FAMILIES[family])
        commands = {
            "kohn": [sys.executable, "-m", "benchmarks.families", "--serve"],
            **{n: [PEERS[n].python, *WORKERS[n]] for n in names if n in peers},
        }
        sides = {name: Side(f"{family}-{name}", command) for name, command in commands.items()}
        document["parameters"][family] = {}
        for name, side in sides.items():
            side.start()
            answer = side.get(cmd="load", family=family, dtype="float32", threads=arguments.threads)
            document["parameters"][family][name] = answer["parameters"]
            document["versions"] |= {name: answer["versions"]}
        gflops = sides["kohn"].get(cmd="matmul_peak")["gflops"]
        document["gflops"] = max(gflops, document.get("gflops", 0.0))
        document["rows"] += [
            measure(family, case, sides, arguments.rounds, arguments.repeats, not arguments.quick)
            for case in every
        ]
        for side in sides.values():
            side.quit()
    write_results("families", m, document, table(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
