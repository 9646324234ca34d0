"""Read entries from pymatgen's JSON, tables, and structures with total energies."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kohn.errors import InputError, Place, nearest
from kohn.stability.entries import Entries, Row, assemble, composition_of
from kohn.stability.formulas import has_isotopes, parse_formula
from kohn.stability.provenance import reconciled
from kohn.structures import Structure, computed_entries, read
from kohn.structures.computed_entries import number
from kohn.structures.labels import KeysUsed, keys_to_read, structure_of
from kohn.structures.properties import PREDICTED_BY
from kohn.structures.provenance import (
    UNKNOWN,
    Provenance,
    filled,
    functional,
    provenance_of,
    stated,
)
from kohn.structures.raw_frames import validated
from kohn.tables import blocks, columns_of, is_table
from kohn.typing import Document

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
"""For each quantity, the names that its column in a table may have."""


def read_entries(
    paths: str | Path | Sequence[str | Path] | Sequence[Any],
    *,
    provenance: Provenance | None = None,
    formation: bool = False,
) -> Entries:
    """Read entries from one file or several, or from pymatgen's objects.

    JSON (also .json.gz) has a list of ComputedEntry or ComputedStructureEntry dicts of pymatgen,
    or {"entries": [...]}; the energy includes the corrections, and structures are kept if all
    entries have ordered structures. CSV and Parquet have columns formula, energy (total, eV) or
    energy_per_atom or formation_energy_per_atom, and may have id, functional, scheme and source.
    Every other file is read as structures with total energies.

    Args:
        paths: files; or ComputedEntry objects of pymatgen.
        provenance: how the energies were computed, for entries whose files do not state it.
        formation: whether the files have formation energies, eV/atom, not total energies.

    Raises:
        InputError: a file that cannot be read; a bad formula; no energy; an energy that is not
            finite or another quantity; a repeated id. The message names the file and the row.
    """
    items: list[Any] = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files = [Path(item) for item in items if isinstance(item, (str, Path))]
    objects = [item.as_dict() for item in items if not isinstance(item, (str, Path))]
    groups = [_rows(file, formation) for file in files]
    if objects:
        memory = Path("(in memory)")
        groups.append([_json_row(e, memory, k, formation) for k, e in enumerate(objects)])
    rows: list[Row] = []
    for group in groups:
        provenances = reconciled([r.provenance for r in group], [r.counts for r in group])
        for r, p in zip(group, provenances, strict=True):
            known = p if provenance is None else filled(p, provenance)
            rows.append(replace(r, provenance=known))
    return assemble(rows, formation)


def _rows(file: Path, formation: bool) -> list[Row]:
    if not file.is_file():
        raise InputError("there is no such file", where=str(file), fix="check the path")
    name = file.name.lower()
    if name.endswith((".json", ".json.gz")):
        rows = _json_rows(file, formation)
    elif is_table(file):
        rows = _table_rows(file, formation)
    else:
        rows = _structure_rows(file, formation)
    if not rows:
        raise InputError("the file has no entries", where=str(file), fix="check how it was written")
    return rows


def _json_rows(file: Path, formation: bool) -> list[Row]:
    data = computed_entries.read_json(file, str(file))
    entries = computed_entries.listed(data)
    if entries is None:
        raise InputError(
            "the file has no list of entries",
            where=str(file),
            expected='a list of ComputedEntry dicts, or {"entries": [...]}',
            received=type(data).__name__,
            fix="write the entries with pymatgen's as_dict, or use CSV",
        )
    return [_json_row(e, file, k, formation) for k, e in enumerate(entries)]


def _json_row(entry: Document, file: Path, k: int, formation: bool) -> Row:
    where = computed_entries.place_of(str(file), k)
    computed_entries.required(entry, where)
    counts = composition_of(entry["composition"], where)
    return Row(
        counts=counts,
        energy=computed_entries.total_energy(entry, where),
        id=computed_entries.identity(entry),
        place=where,
        provenance=provenance_of(entry),
        per_atom=formation,
        structure=_structure(entry, counts, Place(str(file), k), formation),
        isotopes=has_isotopes(entry["composition"]),
    )


def _structure(
    entry: Document, counts: Mapping[str, float], place: Place, formation: bool
) -> Structure | None:
    """Return an entry's structure; None if absent or disordered (then the energy is used)."""
    if not computed_entries.is_whole(entry, counts):
        return None
    raw = computed_entries.geometry(entry, counts, place)
    structure = structure_of(validated(raw), keys_to_read(), {}, KeysUsed())
    return structure.with_labels(energy=None) if formation else structure


def _table_rows(file: Path, formation: bool) -> list[Row]:
    columns = csv_columns(columns_of(file), str(file), formation)
    energy = next(c for c in ("formation", "per atom", "total") if c in columns)
    unit = "line" if file.suffix.lower() == ".csv" else "row"
    rows = []
    for block, lines in blocks(file, list(columns.values())):
        records = zip(*(block[name] for name in columns.values()), strict=True)
        for values, line in zip(records, lines.tolist(), strict=True):
            place = f"{file}, {unit} {line}"
            texts = {
                c: "" if value is None else str(value).strip()
                for c, value in zip(columns, values, strict=True)
            }
            rows.append(
                Row(
                    counts=parse_formula(texts["formula"], where=place),
                    energy=number(texts[energy], columns[energy], place),
                    id=texts.get("id") or None,
                    place=place,
                    provenance=Provenance(
                        functional(texts.get("functional") or None),
                        *(texts.get(c) or UNKNOWN for c in ("scheme", "source")),
                    ),
                    per_atom=formation or energy != "total",
                    isotopes=has_isotopes(texts["formula"]),
                )
            )
    return rows


def csv_columns(names: Sequence[str], file: str, formation: bool) -> dict[str, str]:
    """Return quantity -> name of its column in a table; see `COLUMNS`.

    Raises:
        InputError: no column of formulas, or not exactly one column of energies.
    """
    by_lower = {name.strip().lower(): name for name in names}
    columns = {
        quantity: by_lower[alias]
        for quantity, aliases in COLUMNS.items()
        for alias in reversed(aliases)
        if alias in by_lower
    }
    kinds = ("formation",) if formation and "formation" in columns else ("total", "per atom")
    for quantity in {"formation", "total", "per atom"} - set(kinds):
        columns.pop(quantity, None)
    energies = [quantity for quantity in kinds if quantity in columns]
    if "formula" in columns and len(energies) == 1:
        return columns
    missing = "formula" if "formula" not in columns else "energy"
    accepted = [a for quantity in (missing, "total", "per atom") for a in COLUMNS.get(quantity, ())]
    guess = nearest(missing, [n for n in by_lower if n not in accepted])
    if len(energies) > 1:
        problem, fix = "two columns of energies", f"remove {columns['per atom']!r} or the other"
    elif missing == "energy" and COLUMNS["formation"][0] in by_lower:
        problem = "only formation energies"
        fix = "give total energies, or declare these as formation energies (formation=True)"
    else:
        problem, fix = f"no column {missing}", f"add it{f', or rename {guess!r}' if guess else ''}"
    raise InputError(
        f"the file has {problem}",
        where=file,
        expected="columns formula and energy (total, eV) or energy_per_atom; id is optional",
        received=", ".join(names) or "no header",
        fix=fix,
    )


def _structure_rows(file: Path, formation: bool) -> list[Row]:
    rows = []
    for k, s in enumerate(read(file)):
        place = str(s.place) or f"{file}, frame {k}"
        predicted = PREDICTED_BY in s.info and isinstance(s.info.get("energy"), float)
        if "energy" not in s.labels and not predicted:
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
                energy=float(s.info["energy"] if predicted else s.labels["energy"]),
                id=None if name is None else str(name),
                place=place,
                provenance=stated(s.info),
                per_atom=formation,
                structure=s,
            )
        )
    return rows
