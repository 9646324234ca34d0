"""Find the structures with the worst predictions: the model or their labels may be wrong."""

import numpy as np

from kohn.structures.elements import symbol
from kohn.typing import Document


def worst_frames(evaluation: Document, most: int = 10) -> list[Document]:
    """Return the `most` structures with the largest force errors, or energy errors without forces.

    Returns:
        For each structure: index, file, frame, config_type, atoms; energy_error (meV) and
        energy_error_per_atom; force_error (largest error |ΔF| of an atom, meV/Å) and that atom.
    """
    rows = [_frame_errors(f) for f in evaluation.get("frames") or []]
    rows = [r for r in rows if r["force_error"] is not None or r["energy_error"] is not None]
    by_force = any(r["force_error"] is not None for r in rows)

    def badness(row: Document) -> tuple[float, int]:
        value = row["force_error"] if by_force else abs(row["energy_error_per_atom"] or 0.0)
        return (-(value or 0.0), row["index"])

    return sorted(rows, key=badness)[:most]


def _frame_errors(frame: Document) -> Document:
    n = len(frame["numbers"])
    row: Document = {k: frame.get(k) for k in ("index", "file", "frame", "config_type")}
    row |= {"atoms": n, "energy_error": None, "energy_error_per_atom": None, "force_error": None}
    row["atom"] = ""
    if frame.get("energy_reference") is not None:
        row["energy_error"] = 1e3 * (frame["energy_predicted"] - frame["energy_reference"])
        row["energy_error_per_atom"] = row["energy_error"] / n
    if frame.get("forces_reference") is not None:
        difference = np.subtract(frame["forces_predicted"], frame["forces_reference"])
        size = np.linalg.norm(difference, axis=1)
        atom = int(size.argmax())
        row["force_error"] = 1e3 * float(size[atom])
        row["atom"] = f"{symbol(frame['numbers'][atom])} {atom}"  # counted from 0, as in ASE
    return row
