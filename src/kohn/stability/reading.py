"""Reading entries: pymatgen's JSON, tables, and structures with total energies."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kohn.errors import InputError, nearest
from kohn.stability.entries import Entries, Row, assemble, composition_of
from kohn.stability.formulas import parse_formula
from kohn.stability.provenance import UNKNOWN, Provenance, provenance_of, reconciled
from kohn.structures import read

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "entry_id", "material_id"),
    "formula": ("formula", "composition"),
    "total": ("energy", "total_energy"),
    "per atom": ("energy_per_atom",),
    "formation": ("formation_energy_per_atom",),
    "functional": ("functional",),
    "scheme": ("scheme",),
    "source": ("source",),
}
"""What a column of a CSV file may be called."""


def read_entries(
    paths: str | Path | Sequence[str | Path],
    *,
    provenance: Provenance | None = None,
    formation: bool = False,
) -> Entries:
    """Entries of one file or several.

    JSON (also .json.gz) has a list of ComputedEntry or ComputedStructureEntry dicts of pymatgen,
    or {"entries": [...]}; the energy is the raw one plus the corrections. CSV has columns formula,
    energy (total, eV) or energy_per_atom or formation_energy_per_atom, and may have id,
    functional, scheme and source. Everything else is read as structures with total energies.

    Args:
        paths: files.
        provenance: how all were computed, where the files do not say it.
        formation: the files have formation energies, eV/atom.

    Raises:
        InputError: a file that cannot be read; a formula that does not parse; no atoms, no
            energies, energies that are not finite or another quantity; an id twice; with file and
            row.
    """
    files = [paths] if isinstance(paths, (str, Path)) else list(paths)
    rows: list[Row] = []
    for file in map(Path, files):
        found = _rows(file, formation)
        told = reconciled([r.provenance for r in found])
        for r, p in zip(found, told, strict=True):
            known = p if provenance is None else _filled(p, provenance)
            rows.append(replace(r, provenance=known))
    return assemble(rows, formation)


def _rows(file: Path, formation: bool) -> list[Row]:
    if not file.is_file():
        raise InputError("there is no such file", where=str(file), fix="check the path")
    name = file.name.lower()
    if name.endswith((".json", ".json.gz")):
        rows = _json_rows(file, formation)
    elif name.endswith(".csv"):
        rows = _csv_rows(file, formation)
    else:
        rows = _structure_rows(file, formation)
    if not rows:
        raise InputError("the file has no entries", where=str(file), fix="check how it was written")
    return rows


def _filled(found: Provenance, given: Provenance) -> Provenance:
    """What the file does not say, as it was given."""
    return Provenance(
        *(g if f == UNKNOWN else f for f, g in zip(_fields(found), _fields(given), strict=True))
    )


def _fields(p: Provenance) -> tuple[str, str, str]:
    return p.functional, p.scheme, p.source


def _json_rows(file: Path, formation: bool) -> list[Row]:
    try:
        opened = gzip.open if file.name.lower().endswith(".gz") else open
        with opened(file, "rt", encoding="utf-8") as stream:
            data = json.load(stream)
    except (OSError, ValueError) as error:
        raise InputError(
            "the file is not JSON", where=str(file), received=str(error)[:120], fix="write it anew"
        ) from None
    entries = data.get("entries") if isinstance(data, dict) else data
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise InputError(
            "the file has no list of entries",
            where=str(file),
            expected='a list of ComputedEntry dicts, or {"entries": [...]}',
            received=type(data).__name__,
            fix="write the entries with pymatgen's as_dict, or use CSV",
        )
    return [_json_row(e, f"{file}, entry {k}", formation) for k, e in enumerate(entries)]


def _json_row(entry: Mapping[str, Any], place: str, formation: bool) -> Row:
    missing = [key for key in ("composition", "energy") if entry.get(key) is None]
    if missing:
        raise InputError(
            f"the entry has no {' and no '.join(missing)}",
            where=place,
            expected="composition and energy, as in a ComputedEntry",
            received=", ".join(map(str, entry))[:120],
            fix="write the entries with pymatgen's as_dict, or use CSV",
        )
    name = entry.get("entry_id") or (entry.get("data") or {}).get("material_id")
    return Row(
        counts=composition_of(entry["composition"], place),
        energy=_number(entry["energy"], "energy", place) + correction(entry, place),
        id=None if name is None else str(name),
        place=place,
        provenance=provenance_of(entry),
        per_atom=formation,
    )


def correction(entry: Mapping[str, Any], place: str) -> float:
    """The sum of the energy adjustments, eV; or the correction where there are none.

    Raises:
        InputError: both are there, and disagree.
    """
    adjustments = entry.get("energy_adjustments") or ()
    said = entry.get("correction")
    values = [adjustment_value(a) for a in adjustments]
    if not adjustments or any(v is None for v in values):
        return 0.0 if said is None else _number(said, "correction", place)
    total = sum(v for v in values if v is not None)
    if said is not None and abs(total - float(said)) > 1e-6 * max(1.0, abs(total)):
        raise InputError(
            "the correction is not the sum of the energy adjustments",
            where=place,
            expected=f"{total} eV, the sum",
            received=f"{said} eV",
            fix="process the entries anew with one version of the scheme",
        )
    return total


def adjustment_value(a: Mapping[str, Any]) -> float | None:
    """One adjustment, eV; None where its kind is not known."""
    if a.get("value") is not None:
        return float(a["value"])
    if a.get("adj_per_atom") is not None and a.get("n_atoms") is not None:
        return float(a["adj_per_atom"]) * float(a["n_atoms"])
    if {"adj_per_deg", "temp", "n_atoms"} <= set(a):
        return float(a["adj_per_deg"]) * float(a["temp"]) * float(a["n_atoms"])
    return None


def _number(value: Any, name: str, place: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(
            f"the {name} is not a number",
            where=place,
            expected="a number in eV",
            received=repr(value)[:80],
            fix="correct it, or remove the entry",
        ) from None


def _csv_rows(file: Path, formation: bool) -> list[Row]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = csv_columns(reader.fieldnames or (), str(file), formation)
        energy = next(c for c in ("formation", "per atom", "total") if c in columns)
        rows = []
        for record in reader:
            place = f"{file}, line {reader.line_num}"
            said = {c: (record.get(key) or "").strip() for c, key in columns.items()}
            rows.append(
                Row(
                    counts=parse_formula(said["formula"], where=place),
                    energy=_number(said[energy], columns[energy], place),
                    id=said.get("id") or None,
                    place=place,
                    provenance=Provenance(
                        *(said.get(c) or UNKNOWN for c in ("functional", "scheme", "source"))
                    ),
                    per_atom=formation or energy != "total",
                )
            )
    return rows


def csv_columns(names: Sequence[str], file: str, formation: bool) -> dict[str, str]:
    """What we need -> the column's name in the file.

    Raises:
        InputError: no formula, no energy, or two kinds of energy.
    """
    by_lower = {name.strip().lower(): name for name in names}
    found = {
        what: by_lower[alias]
        for what, aliases in COLUMNS.items()
        for alias in reversed(aliases)
        if alias in by_lower
    }
    kinds = ("formation",) if formation and "formation" in found else ("total", "per atom")
    for what in {"formation", "total", "per atom"} - set(kinds):
        found.pop(what, None)
    energies = [what for what in kinds if what in found]
    if "formula" in found and len(energies) == 1:
        return found
    lacking = "formula" if "formula" not in found else "energy"
    wanted = [a for what in (lacking, "total", "per atom") for a in COLUMNS.get(what, ())]
    guess = nearest(lacking, [n for n in by_lower if n not in wanted])
    if len(energies) > 1:
        problem, fix = "two columns of energies", f"remove {found['per atom']!r} or the other"
    elif lacking == "energy" and COLUMNS["formation"][0] in by_lower:
        problem = "only formation energies"
        fix = "give total energies, or say that these are meant (formation=True)"
    else:
        problem, fix = f"no column {lacking}", f"name it so{f'; is it {guess!r}?' if guess else ''}"
    raise InputError(
        f"the file has {problem}",
        where=file,
        expected="columns formula and energy (total, eV) or energy_per_atom; id where there are",
        received=", ".join(names) or "no header",
        fix=fix,
    )


def _structure_rows(file: Path, formation: bool) -> list[Row]:
    rows = []
    for k, s in enumerate(read(file)):
        place = str(s.place) or f"{file}, frame {k}"
        if "energy" not in s.labels:
            raise InputError(
                "the structure has no energy",
                where=place,
                expected="a total energy in eV",
                received=", ".join(s.labels) or "no labels",
                fix="compute it, or remove the structure",
            )
        name = next((s.info[c] for c in (*COLUMNS["id"], "name") if c in s.info), None)
        rows.append(
            Row(
                counts={e: float(n) for e, n in Counter(s.symbols).items()},
                energy=float(s.labels["energy"]),
                id=None if name is None else str(name),
                place=place,
                provenance=Provenance(
                    *(str(s.info.get(c, UNKNOWN)) for c in ("functional", "scheme", "source"))
                ),
                per_atom=formation,
                structure=s,
            )
        )
    return rows
