"""Writes benchmarks/README.md from benchmarks/results: `python -m benchmarks.collect`."""

from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Benchmarks

Every table is written by the command above it; `python -m benchmarks.collect` puts them together.
The peers' environments come from `make peers`, the data from `$KOHN_DATA` (default
`../shared/data`).
"""
SECTIONS = {
    "speed": (
        "Speed beside mace-torch and mlip",
        "python -m benchmarks.speed --rounds 3 --repeats 10 --dynamics 300",
        "Two layers, l_max 3, correlation 3, 64 scalar channels, 8 Bessel functions, radial "
        "network 64-64-64, r_c 5 Å, float32, random weights. Kohn and mace-torch 0.3.16 evaluate "
        "the same function with the same weights; Kohn's parameters are fewer because mace-torch "
        "keeps linearly dependent products. mlip 0.2.5 has its own weights of the same shape. "
        "All sides in one run, asked in turn; medians. "
        "The machine was not quite idle: torch's threads spin while they wait, and mace-torch's "
        "32 ms on ethanol were 8 to 9 ms in quieter runs; read that row as 15 times. torch.compile "
        "(`--compiled`) is not in this run.",
    ),
    "memory": (
        "Large systems",
        "python -m benchmarks.memory",
        "The same network on rattled silicon, through the ASE calculator, neighbour search "
        "included.",
    ),
    "accuracy": (
        "Accuracy on real data",
        "python -m benchmarks.accuracy ethanol aspirin acac silicon; "
        "python -m benchmarks.accuracy --table",
        "rMD17: official split 01, 950 frames to learn from, 50 to validate, 1000 to test. "
        "float32, one core, shared with other work for part of the time. "
        "The aspirin run began before memory was kept in the heap: its first third at half the "
        "speed.",
    ),
}


def main() -> None:
    """Put the tables that exist into the README."""
    text = [HEAD]
    for name, (title, command, note) in SECTIONS.items():
        path = HERE / "results" / f"{name}.md"
        if path.exists():
            text.append(f"## {title}\n\n`{command}`\n\n{note}\n\n{path.read_text()}")
    (HERE / "README.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
