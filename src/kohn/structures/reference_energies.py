"""Determine E0, the reference energy of each element.

    total energy = sum over the atoms i of E0(Z_i) + learned energy

E0s are given, or are the energies of isolated atoms in the data, or are fitted by least squares.
Only with energies of isolated atoms is the energy of a dissociated molecule right.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from kohn.errors import InputError
from kohn.structures.elements import atomic_number, formula, symbol
from kohn.structures.structure import Dataset, Structure

GIVEN, ISOLATED, FITTED = "given", "isolated atoms", "least squares"
BOX = 10.0
"""A single atom in a periodic cell counts as isolated if its images are this far away, Å."""


@dataclass(frozen=True)
class E0s:
    """The reference energies E0 of the elements.

    Attributes:
        values: atomic number -> E0, eV.
        source: 'given', 'isolated atoms', 'least squares', or two joined by ' and '.
        warning: the limits of the E0s, in words, or None.
        sources: atomic number -> source of its E0.
    """

    values: dict[int, float]
    source: str
    warning: str | None = None
    sources: dict[int, str] = field(default_factory=dict)

    def total(self, structure: Structure) -> float:
        """Return the sum of E0 over the atoms, eV. Raises KeyError for an element without E0."""
        numbers, counts = np.unique(structure.numbers, return_counts=True)
        energies = np.array([self.values[int(z)] for z in numbers], dtype=np.float64)
        return float(np.dot(counts.astype(np.float64), energies))


def is_isolated_atom(structure: Structure) -> bool:
    """Return whether a structure is one atom without neighbours.

    It is a single atom that is not periodic, or whose images are at least `BOX` away, or whose
    config_type is isolated atom in any spelling.
    """
    if len(structure) != 1:
        return False
    return _nearest_image(structure) >= BOX or config_type_is_isolated_atom(structure)


def _nearest_image(atom: Structure) -> float:
    """Return the distance from an atom to its nearest image, Å; infinite if it is not periodic.

    It is the length of the shortest lattice vector: in a skewed cell a vector of the reduced cell,
    not of the cell. It is 0 for linearly dependent cell vectors.
    """
    from ase.geometry import minkowski_reduce

    vectors = atom.cell[atom.periodic]
    if len(vectors) == 0:
        return np.inf
    if np.linalg.matrix_rank(vectors, tol=1e-6) < len(vectors):
        return 0.0
    reduced = np.asarray(minkowski_reduce(atom.cell, atom.periodic)[0])  # type: ignore[arg-type]
    return float(np.linalg.norm(reduced[atom.periodic], axis=1).min())


def config_type_is_isolated_atom(structure: Structure) -> bool:
    """Return whether the config_type is isolated atom, IsolatedAtom, isolated_atoms …"""
    letters = "".join(c for c in structure.config_type.lower() if c.isalpha())
    return letters in ("isolatedatom", "isolatedatoms")


def reference_energies(
    data: Dataset,
    given: Mapping[int | str, float] | None = None,
    *,
    isolated: Dataset | None = None,
) -> E0s:
    """Return the reference energy E0 of each element of the data.

    Given values are used without change. Otherwise energies of isolated atoms are used, and the
    E0s of the other elements are fitted by least squares of energies per atom, with a warning. If
    the compositions do not determine all E0s (data of one composition determine only one
    number), the solution nearest to the same energy for every atom is taken, which the warning
    states.

    Args:
        data: the training data.
        given: symbol or atomic number -> eV; must have all elements of the data.
        isolated: further structures in which to look for isolated atoms.

    Raises:
        InputError: an element is missing from `given`; two isolated atoms of one element have
            different energies; no frame has an energy to fit to.
    """
    elements = data.elements
    if given is not None:
        return _given(elements, given)
    atoms = isolated_energies([*data, *(isolated or ())])
    known = {z: atoms[z] for z in elements if z in atoms}
    missing = [z for z in elements if z not in known]
    if not missing:
        return E0s(known, ISOLATED, None, dict.fromkeys(known, ISOLATED))
    fitted, rank = _fit(data, missing, known)
    values = dict(sorted({**known, **fitted}.items()))
    sources = {z: ISOLATED if z in known else FITTED for z in values}
    source = f"{ISOLATED} and {FITTED}" if known else FITTED
    return E0s(values, source, _warning(data, missing, known, rank), sources)


def isolated_energies(structures: list[Structure]) -> dict[int, float]:
    """Return the energies of the isolated atoms among the structures: atomic number -> eV.

    Raises:
        InputError: the energies of two atoms of one element differ by more than 1e-4 eV; a frame
            with the config_type isolated atom has several atoms.
    """
    atoms: dict[int, Structure] = {}
    for s in structures:
        if config_type_is_isolated_atom(s) and len(s) != 1:
            raise InputError(
                "a frame with the config_type isolated atom has several atoms",
                where=s.place,
                expected="one atom if config_type is isolated atom",
                received=formula(s.numbers),
                fix="correct its config_type",
            )
        if not is_isolated_atom(s) or "energy" not in s.labels:
            continue
        z = int(s.numbers[0])
        first = atoms.setdefault(z, s)
        if abs(float(first.labels["energy"] - s.labels["energy"])) > 1e-4:
            raise InputError(
                f"two isolated atoms of {symbol(z)} have different energies",
                where=s.place,
                expected=f"{float(first.labels['energy'])} eV, as in {first.place}",
                received=f"{float(s.labels['energy'])} eV",
                fix="keep the one in its ground state, or give the E0s",
            )
    return {z: float(s.labels["energy"]) for z, s in sorted(atoms.items())}


def _given(elements: tuple[int, ...], given: Mapping[int | str, float]) -> E0s:
    try:
        values = {atomic_number(k): float(v) for k, v in given.items()}
    except InputError as error:
        raise InputError(
            f"{error.message}, in the given E0s",
            expected=error.expected,
            received=error.received,
            fix=error.fix,
        ) from None
    missing = [symbol(z) for z in elements if z not in values]
    if missing:
        raise InputError(
            f"the given E0s lack {', '.join(missing)}",
            expected=f"an energy in eV for each of {', '.join(map(symbol, elements))}",
            received=", ".join(f"{symbol(z)} {e}" for z, e in values.items()) or "none",
            fix="add them, or give no E0s to have them read or fitted",
        )
    bad = [symbol(z) for z, e in values.items() if not np.isfinite(e)]
    if bad:
        raise InputError(f"the E0 of {', '.join(bad)} is not finite", fix="correct the given E0s")
    return E0s(dict(sorted(values.items())), GIVEN, None, dict.fromkeys(values, GIVEN))


def _fit(
    data: Dataset, missing: list[int], known: dict[int, float]
) -> tuple[dict[int, float], int]:
    """Return missing E0s, fitted by least squares of energies per atom, and the problem's rank."""
    frames = [s for s in data if "energy" in s.labels]
    if not frames:
        raise InputError(
            "no frame has an energy, so there is nothing to fit E0s to",
            where=", ".join(source.file for source in data.sources) or None,
            fix="name the key of the energy with keys={'energy': …}, or give the E0s",
        )
    counts = np.array([[np.sum(s.numbers == z) for z in missing] for s in frames], np.float64)
    known_parts = [sum(known.get(int(z), 0.0) for z in s.numbers) for s in frames]
    energies = np.array([float(s.labels["energy"]) for s in frames]) - np.array(known_parts)
    used = counts.sum(axis=1) > 0
    sizes = np.array([len(s) for s in frames], dtype=np.float64)[used]
    matrix, target = counts[used] / sizes[:, None], energies[used] / sizes
    if not used.any():  # an element occurs only in frames without energy
        return dict.fromkeys(missing, 0.0), 0
    # Start from the same energy for every atom; the minimum-norm correction stays near it.
    mean = float(np.sum(target) / np.sum(matrix))
    offsets, _, rank, _ = np.linalg.lstsq(matrix, target - matrix @ np.full(len(missing), mean))
    return {z: mean + float(e) for z, e in zip(missing, offsets, strict=True)}, int(rank)


def _warning(data: Dataset, missing: list[int], known: dict[int, float], rank: int) -> str:
    names = ", ".join(symbol(z) for z in missing)
    text = (
        f"E0 of {names} fitted by least squares: energies of other compositions, and of "
        "dissociated molecules, cannot be trusted; add isolated atoms to correct them"
    )
    if rank >= len(missing):
        return text
    compositions = {formula(s.numbers) for s in data if len(s) > 1}
    if len(compositions) == 1 and not known:
        return (
            f"all data have one composition ({compositions.pop()}), which determines only one "
            "offset: every atom was given the same energy; " + text
        )
    return (
        f"the compositions determine only {rank} of {len(missing)} E0s: the others are chosen "
        "nearest to the same energy for every atom; " + text
    )
