"""What the tests of screening share: made-up chemistry in files, tables read back, kills."""

import csv
from pathlib import Path

import numpy as np

ELEMENTS = ("Al", "Cu", "Fe", "Li", "O", "P")
MU = dict(zip(ELEMENTS, (-3.7, -3.9, -8.3, -1.9, -4.9, -5.4), strict=True))
TEXT = ("id", "formula", "decomposition", "problem", "warning")


class Killed(BaseException):
    """No exception that code would catch."""


def compounds(rng, n, most=4):
    """Symbol -> number of atoms, of up to `most` elements."""
    found = []
    for _ in range(n):
        chosen = rng.choice(ELEMENTS, rng.integers(1, most + 1), replace=False)
        found.append({str(e): int(rng.integers(1, 7)) for e in chosen})
    return found


def energy(rng, counts):
    """Near ideal mixing, eV."""
    n = sum(counts.values())
    x = np.array(list(counts.values())) / n
    mixing = float((x * np.log(x)).sum())
    return sum(MU[e] * k for e, k in counts.items()) + n * (mixing + 0.15 * float(rng.normal()))


def columns(rng, n, prefix, *, elements=False, **more):
    """id, formula and energy of compounds; of the elements before, where these are asked for."""
    counts = [{e: 1} for e in ELEMENTS] if elements else []
    counts += compounds(rng, n - len(counts))
    return {
        "id": [f"{prefix}{k}" for k in range(n)],
        "formula": ["".join(f"{e}{k}" for e, k in c.items()) for c in counts],
        "energy": [energy(rng, c) for c in counts],
        **more,
    }


def write(file: Path, table) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return file


def moved(table, by):
    """The same with c·n added to each energy."""
    from kohn.stability import parse_formula

    shift = [sum(by[e] * n for e, n in parse_formula(f).items()) for f in table["formula"]]
    return {**table, "energy": (np.array(table["energy"]) + shift).tolist()}


def rows(file: Path):
    """Of a result: dicts with numbers, NaN where there is nothing, in the order of the file."""
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(file).to_pylist()
    with file.open(newline="", encoding="utf-8") as stream:
        return [{k: _value(k, v) for k, v in r.items()} for r in csv.DictReader(stream)]


def by_id(file: Path):
    return {r["id"]: r for r in rows(file)}


def _value(name, text):
    if name in TEXT:
        return text
    if text in ("true", "false"):
        return text == "true"
    return float(text) if text else float("nan")
