"""Entries that the tests of stability share: real ones, textbook ones, random ones."""

import gzip
import json
from pathlib import Path

import numpy as np

from kohn.stability import Entries

DATA = Path(__file__).parents[1] / "data" / "phase_diagrams"
FILES = {"Mn_O": DATA / "Mn_O_entries.json.gz", "Fe_Li_O_P": DATA / "Fe_Li_O_P_entries.csv"}


def of_pymatgen(name: str) -> dict:
    """What pymatgen says; written by benchmarks/peers/phase_diagram_reference.py."""
    return json.loads(gzip.decompress((DATA / f"{name}_pymatgen.json.gz").read_bytes()))


def textbook(**more: float) -> Entries:
    """A at -1 and B at -2 eV/atom; A2B and AB at -0.3 and -0.4 eV/atom of formation.

    A is Fe, B is O; more by formula, as energies of formation.
    """
    formation = {"Fe": 0.0, "O": 0.0, "Fe2O": -0.3, "FeO": -0.4, **more}
    return Entries.of(list(formation), totals(formation), ids=list(formation))


def totals(formation: dict[str, float]) -> list[float]:
    """Total energies, eV, from formation energies per atom of compounds of Fe and O."""
    from kohn.stability import parse_formula

    out = []
    for formula, e in formation.items():
        n = parse_formula(formula)
        mu = -1.0 * n.get("Fe", 0.0) - 2.0 * n.get("O", 0.0)
        out.append(mu + e * sum(n.values()))
    return out


def random_system(seed: int, elements: int, kind: str, entries: int = 50):
    """Fractions [N, D] and formation energies [N]; the elements first, at zero.

    Kinds: 'small' formulas, 'large' cells, 'slivers' (compositions 1e-4 beside each other),
    'dilute' (all near one element, so that facets have volumes of 1e-13).
    """
    rng = np.random.default_rng(seed)
    shape = (entries, elements)
    if kind == "small":
        counts = rng.integers(0, 5, shape).astype(float)
    elif kind == "large":
        counts = rng.integers(1, 200, shape).astype(float)
    elif kind == "slivers":
        counts = rng.integers(0, 4, shape) * 1000.0 + rng.integers(0, 3, shape)
    else:
        counts = rng.integers(0, 2, shape).astype(float)
        counts[:, 0] += 300
    counts = np.vstack([np.eye(elements), counts[counts.sum(axis=1) > 0]])
    x = counts / counts.sum(axis=1, keepdims=True)
    mixing = np.einsum("na,nb->n", x, x) - np.einsum("na,na->n", x, x)
    depth = 1 + 0.3 * rng.random(len(x))
    e = -depth * (1 - x[:, 0] if kind == "dilute" else mixing)
    e[:elements] = 0
    return x, e
