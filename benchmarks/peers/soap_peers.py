"""Timing worker for dscribe 2.1.2 or featomic 0.6.7 (protocol: see `protocol.py`).

    python soap_peers.py dscribe|featomic

Runs in the environment `.venv-peers-descriptors`. Both sides compute the SOAP of `SETTINGS` with
Gaussian-type radial functions. Commands:

- {"cmd": "prepare", "case": NAME, "structures": FILE.extxyz}: reads the first frame.
- {"cmd": "time", "case": NAME, "what": "values" | "forces", "repeats": r}: answers {"wall": [...],
  "cpu": [...]}, seconds, after one untimed call the first time. "forces" is the array of
  derivatives by positions, without contraction: featomic's own; of dscribe, which has none for
  periodic structures, finite differences of `DISPLACED` atoms, and its times are then multiplied
  by atoms / `DISPLACED` ("extrapolated": true).
- {"cmd": "features", "case": NAME, "file": OUT.npy}: values in the order pair of species a <= b, l,
  n, n', float64 [atoms, D]; featomic's without its spline.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

sys.path.insert(0, str(Path(__file__).resolve().parent))

from protocol import guard_stdout, serve

SETTINGS = {"r_cut": 5.0, "n_max": 8, "l_max": 6, "sigma": 0.5}
DISPLACED = 2


class DScribe:
    """dscribe's SOAP, gto, without weighting."""

    def calculator(self, atoms: Atoms) -> Any:
        """For the elements and the periodicity of a structure."""
        from dscribe.descriptors import SOAP

        periodic = bool(atoms.pbc.any())
        return SOAP(species=sorted(set(atoms.numbers.tolist())), periodic=periodic, **SETTINGS)

    def values(self, atoms: Atoms) -> tuple[Callable[[], Any], float]:
        """What to time, and how often it would have to be done."""
        calculator = self.calculator(atoms)
        return lambda: calculator.create(atoms), 1.0

    def forces(self, atoms: Atoms) -> tuple[Callable[[], Any], float]:
        """Finite differences of a few atoms, descriptors of all centres."""
        calculator, include = self.calculator(atoms), list(range(DISPLACED))

        def call() -> Any:
            return calculator.derivatives(atoms, include=include, method="numerical", attach=True)

        return call, len(atoms) / DISPLACED

    def features(self, atoms: Atoms) -> np.ndarray:
        """[atoms, D]; dscribe's order is the order asked for."""
        return self.calculator(atoms).create(atoms)


class Featomic:
    """featomic's SoapPowerSpectrum, Gto, shifted cosine over the last 0.5 Å."""

    def calculator(self, **basis: Any) -> Any:
        """Settings under featomic's names; `basis` for what is not default."""
        from featomic import SoapPowerSpectrum

        radial = {"type": "Gto", "max_radial": SETTINGS["n_max"] - 1}
        angular = {"type": "TensorProduct", "max_angular": SETTINGS["l_max"], "radial": radial}
        smoothing = {"type": "ShiftedCosine", "width": 0.5}
        return SoapPowerSpectrum(
            cutoff={"radius": SETTINGS["r_cut"], "smoothing": smoothing},
            density={"type": "Gaussian", "width": SETTINGS["sigma"]},
            basis=angular | basis,
        )

    def values(self, atoms: Atoms) -> tuple[Callable[[], Any], float]:
        """What to time, with the spline that is its default."""
        calculator = self.calculator()
        return lambda: calculator.compute(atoms, use_native_system=True), 1.0

    def forces(self, atoms: Atoms) -> tuple[Callable[[], Any], float]:
        """All derivatives by positions."""
        calculator = self.calculator()

        def call() -> Any:
            return calculator.compute(atoms, gradients=["positions"], use_native_system=True)

        return call, 1.0

    def features(self, atoms: Atoms) -> np.ndarray:
        """[atoms, D], of the blocks."""
        found = self.calculator(spline_accuracy=None).compute(atoms, use_native_system=True)
        elements = sorted(set(atoms.numbers.tolist()))
        pairs = list(combinations_with_replacement(elements, 2))
        width = (SETTINGS["l_max"] + 1) * SETTINGS["n_max"] ** 2
        out = np.zeros((len(atoms), len(pairs), width))
        for key, block in found.items():
            pair = pairs.index((int(key["neighbor_1_type"]), int(key["neighbor_2_type"])))
            out[block.samples["atom"], pair] = block.values
        return out.reshape(len(atoms), -1)


class Worker:
    """One code and its structures."""

    def __init__(self, code: DScribe | Featomic) -> None:
        self.code = code
        self.cases: dict[str, Atoms] = {}
        self.calls: dict[tuple[str, str], tuple[Callable[[], Any], float]] = {}

    def prepare(self, command: dict[str, Any]) -> dict[str, Any]:
        """Read a structure."""
        self.cases[command["case"]] = read(command["structures"], index=0)
        return {"atoms": len(self.cases[command["case"]])}

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Seconds of each repeat."""
        name = command["case"], command["what"]
        if name not in self.calls:
            self.calls[name] = getattr(self.code, command["what"])(self.cases[command["case"]])
            self.calls[name][0]()
        call, factor = self.calls[name]
        wall, cpu = [], []
        for _ in range(command["repeats"]):
            started = time.perf_counter(), time.process_time()
            call()
            wall.append(factor * (time.perf_counter() - started[0]))
            cpu.append(factor * (time.process_time() - started[1]))
        return {"wall": wall, "cpu": cpu, "extrapolated": factor != 1.0}

    def features(self, command: dict[str, Any]) -> dict[str, Any]:
        """Write the features."""
        np.save(command["file"], self.code.features(self.cases[command["case"]]))
        return {}


def main() -> int:
    """Serve until told to quit."""
    answers = guard_stdout()
    from importlib.metadata import version

    name = sys.argv[1]
    worker = Worker({"dscribe": DScribe, "featomic": Featomic}[name]())
    names = ("prepare", "time", "features")
    greeting = {"side": name, "version": version(name)}
    return serve(answers, greeting, {name: getattr(worker, name) for name in names})


if __name__ == "__main__":
    raise SystemExit(main())
