"""Memory and time of large systems: `python -m benchmarks.memory` writes results/memory.md.

Energies, forces and stress of rattled silicon crystals with the network of the speed benchmark
(random weights, 64 scalar channels, r_c 5 Å, float32), each in a process of its own, which
reports its peak resident memory.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

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
    mace = Mace.random(jax.random.key(0), config, (14,), neighbours=46.0)
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
    """All sizes, each in its own process."""
    rows = []
    for cells in SIZES:
        command = [sys.executable, "-m", "benchmarks.memory", str(cells)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr)
    lines = ["| atoms | seconds | µs an atom | peak memory, GiB |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {r['atoms']:,} | {r['seconds']:.2f} | {1e6 * r['seconds'] / r['atoms']:.0f} | "
        f"{r['peak_gibibytes']:.2f} |"
        for r in rows
    ]
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "results").mkdir(exist_ok=True)
    (Path(__file__).parent / "results" / "memory.md").write_text(text)
    print(text)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        main()
