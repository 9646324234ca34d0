"""Memory and time of large systems: `python -m benchmarks.memory` writes results/memory.md.

Energies, forces and stress of rattled silicon crystals with the network of the speed benchmark
(random weights, 64 scalar channels, r_c 5 Å, float32), each in a process of its own, which
reports its peak resident memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

from benchmarks.common import ROOT, machine, parsed, parser_of, write_results

SIZES = (4, 6, 8, 11)
"""Cubic cells along each edge; 8 atoms a cell, so 512 to 10,648 atoms."""


def measure(cells: int) -> dict[str, float]:
    """One size, in this process."""
    import jax
    from ase.build import bulk

    import kohn
    from kohn.models import Mace, MaceConfig

    atoms = bulk("Si", cubic=True).repeat(cells)
    atoms.rattle(0.05, seed=0)
    config = MaceConfig(channels=64, hidden_l_max=0)
    mace = Mace.init(jax.random.key(0), config, (14,), neighbours=46.0)
    atoms.calc = kohn.Calculator(kohn.Potential(mace, {14: 0.0}))
    started = time.perf_counter()
    atoms.get_forces()
    first = time.perf_counter() - started
    atoms.rattle(0.001, seed=1)
    started = time.perf_counter()
    atoms.get_forces()
    return {
        "atoms": len(atoms),
        "first_call_seconds": first,
        "seconds": time.perf_counter() - started,
        "peak_gibibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    """Measure all sizes, each in a process of its own, and write benchmarks/results/memory.md."""
    parser = parser_of(__doc__)
    parser.add_argument("--cells", type=int, help=argparse.SUPPRESS)
    arguments = parsed(parser)
    if arguments.cells:
        print(json.dumps(measure(arguments.cells)))
        return
    m, rows = machine(), []
    for cells in SIZES[:1] if arguments.quick else SIZES:
        command = [sys.executable, "-m", "benchmarks.memory", "--cells", str(cells)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr)
    lines = ["| atoms | seconds | µs an atom | peak memory, GiB |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {r['atoms']:,} | {r['seconds']:.2f} | {1e6 * r['seconds'] / r['atoms']:.0f} | "
        f"{r['peak_gibibytes']:.2f} |"
        for r in rows
    ]
    write_results("memory", m, {"rows": rows}, "\n".join(lines))


if __name__ == "__main__":
    main()
