"""What the benchmarks share: folders, what they need, the machine, and how results are written.

A benchmark is one command in a fresh clone. It makes its folders, structures and models itself;
data that are not there end it with one message (`need_data`), peers that are not installed are
named and left out (`installed`). What it measured goes to results/NAME.json, the table of it to
results/NAME.md, both with the command and the machine (`write_results`).
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DATA = Path(os.environ.get("KOHN_DATA") or ROOT.parent / "shared" / "data")


@dataclass
class Folders:
    """Where a run keeps what it makes, and where its results go; `--quick` puts both elsewhere."""

    work: Path
    results: Path


FOLDERS = Folders(HERE / "scratch", HERE / "results")


@dataclass(frozen=True)
class Peer:
    """Another program's environment, made by `make FOLDER/.done`."""

    folder: str
    variable: str  # of the environment, names another python
    packages: tuple[str, ...]

    @property
    def python(self) -> str:
        """Its interpreter."""
        return os.environ.get(self.variable) or str(ROOT / self.folder / "bin" / "python")

    def versions(self) -> dict[str, str] | None:
        """Of its packages; None where it is not installed, or only in part."""
        script = (
            "import json, sys; from importlib.metadata import version; "
            "print(json.dumps({p: version(p) for p in sys.argv[1:]}))"
        )
        try:
            done = subprocess.run(
                [self.python, "-c", script, *self.packages],
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return json.loads(done.stdout)


PEERS = {
    "mace-torch": Peer(".venv-peers", "KOHN_PEERS", ("mace-torch", "torch")),
    "mlip": Peer(".venv-peers-mlip", "KOHN_PEERS_MLIP", ("mlip", "jax")),
    "descriptors": Peer(
        ".venv-peers-descriptors", "KOHN_PEERS_DESCRIPTORS", ("dscribe", "featomic", "quippy-ase")
    ),
    "schnetpack": Peer(".venv-peers-schnetpack", "KOHN_PEERS_SCHNETPACK", ("schnetpack", "torch")),
    "nequip": Peer(".venv-peers-nequip", "KOHN_PEERS_NEQUIP", ("nequip", "torch")),
    "tblite": Peer(".venv-peers-tblite", "KOHN_PEERS_TBLITE", ("tblite",)),
    "hull": Peer(".venv-peers-hull", "KOHN_PEERS_HULL", ("pymatgen",)),
}


# --- arguments and needs ------------------------------------------------------------------


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser that shows the module's docstring and knows `--quick`."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the smallest form, a minute or a few, which shows that everything works; its "
        "numbers mean nothing and go to benchmarks/scratch/quick",
    )
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; afterwards the folders are there."""
    arguments = parser.parse_args()
    if arguments.quick:
        FOLDERS.work = HERE / "scratch" / "quick"
        FOLDERS.results = FOLDERS.work / "results"
    for folder in (FOLDERS.work, FOLDERS.results):
        folder.mkdir(parents=True, exist_ok=True)
    return arguments


def need_data(*files: str) -> None:
    """End with one message if files of the data folder are not there.

    Raises:
        SystemExit: it names the files, the folder and what to do.
    """
    missing = sorted({file for file in files if not (DATA / file).exists()})
    if missing:
        raise SystemExit(
            f"{_module()} needs data that are not there:\n"
            + "".join(f"  {DATA / file}\n" for file in missing)
            + "Put them there, or name the folder that has them in $KOHN_DATA; "
            'benchmarks/README.md, "Data", says what they are.'
        )


def installed(*names: str) -> dict[str, dict[str, str]]:
    """Versions of the packages of those peers that are installed; the others are named."""
    found = {}
    for name in names:
        peer = PEERS[name]
        versions = peer.versions()
        if versions is None:
            print(
                f"{_module()}: without {name}: {peer.python} has no {' and '.join(peer.packages)}. "
                f"`make {peer.folder}/.done` installs it; ${peer.variable} names another python.",
                file=sys.stderr,
            )
        else:
            found[name] = versions
    return found


# --- the machine and the results ----------------------------------------------------------


def machine(peers: dict[str, dict[str, str]] | None = None) -> dict[str, Any]:
    """Processor, cores, load average and versions; to be asked before anything is measured."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "began": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "jax", "jaxlib")},
        "peers": peers or {},
    }


def _processor() -> str:
    """The name that Linux gives it, else Python's."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def machine_line(m: dict[str, Any]) -> str:
    """The machine in a sentence for the foot of a table."""
    versions = [f"{k} {v}" for k, v in m["versions"].items()]
    for name, found in m["peers"].items():
        versions.append(f"beside {name}: " + " ".join(f"{k} {v}" for k, v in found.items()))
    return (
        f"{m['processor']}, {m['cores']} cores; load average {m['load']:.1f} when it began, "
        f"{m['began']}; Python {m['python']}, {', '.join(versions)}."
    )


def command() -> str:
    """The command line of this process, as a user types it; of paths elsewhere the name alone."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", _module(), *words])


def _module() -> str:
    """benchmarks.NAME of what runs."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else "benchmarks"


def write_results(name: str, m: dict[str, Any], measured: dict[str, Any], table: str) -> None:
    """NAME.json and NAME.md, each whole or not at all; and the table on the terminal."""
    document = {"command": command(), "machine": m, **measured}
    text = f"{table.rstrip()}\n\n{machine_line(m)}\n"
    write_json(FOLDERS.results / f"{name}.json", document)
    write_text(FOLDERS.results / f"{name}.md", text)
    print(text)


def write_json(path: Path, document: Any) -> None:
    """A document in JSON, see `write_text`."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """A file that is there whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)
