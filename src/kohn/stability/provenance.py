"""Check which energies can be compared in one hull.

A hull compares differences of some meV/atom between energies of hundreds of eV. Two functionals,
two sets of corrections or two models differ by far more, and by another amount for each element.
So all entries of a hull must agree in functional, scheme of corrections, and source (the code or
model). A scheme may reconcile functionals, and then its entries can be compared:

    MaterialsProject2020Compatibility     PBE with PBE+U
    MaterialsProjectDFTMixingScheme       PBE and PBE+U with r2SCAN

A scheme does not change all entries. If some entries of a file carry a scheme, it was applied to
the uncorrected entries too; but entries of PBE+U and oxides of PBE are always corrected, so without
the scheme they conflict. The scheme of 2020 corrects by composition alone: the elements in
`CORRECTED` if they are anions, and metals computed with U in oxides and fluorides. So a pure
element, or a compound without these elements, has the same energy with and without the scheme. Its
scheme is 'none needed', which agrees with entries of the scheme and with uncorrected entries. (The
mixing scheme depends on the other entries, and an older scheme corrects gases.)
An unknown provenance is not a conflict, but is mentioned in a note.

Source: Wang et al., Sci. Rep. 11, 15496 (2021), for the scheme of 2020, with its elements as in
pymatgen's MP2020Compatibility.yaml; Kingsbury et al., npj Comput. Mater. 8, 195 (2022), for mixing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kohn.errors import InputError
from kohn.structures.provenance import NONE, RECONCILED, UNKNOWN, Provenance
from kohn.structures.provenance import UNSTATED as UNSTATED

MP2020 = "MaterialsProject2020Compatibility"
NOT_NEEDED = "none needed"
"""The scheme of uncorrected entries whose energies the scheme of 2020 would not change."""
CORRECTED = frozenset({"O", "S", "F", "Cl", "Br", "I", "N", "Se", "Si", "Sb", "Te", "H"})
"""Elements that the scheme of 2020 corrects as anions; O also in peroxides and superoxides."""
FIELDS = {
    "functional": "functionals",
    "scheme": "schemes of corrections",
    "source": "codes or models",
}


def mark_not_needed(p: Provenance, counts: Mapping[str, float]) -> Provenance:
    """Return the provenance of an entry, with 'none needed' for 'none' if no correction applies.

    Args:
        p: the provenance as it was read.
        counts: symbol -> number of atoms of the entry.
    """
    unchanged = len(counts) == 1 or CORRECTED.isdisjoint(counts)
    if p.functional == "PBE" and p.scheme == NONE and unchanged:
        return replace(p, scheme=NOT_NEEDED)
    return p


def reconciled(
    file: Sequence[Provenance], counts: Sequence[Mapping[str, float]]
) -> list[Provenance]:
    """Return the provenances of the entries of one file, extending schemes to uncorrected entries.

    Uncorrected entries of PBE+U, and oxides of PBE, are excepted: a scheme corrects all of these.

    Args:
        file: the provenance of each entry, as it was read.
        counts: for each entry, symbol -> number of atoms.
    """
    carried = sorted({p.scheme for p in file if _scheme_name(p) in RECONCILED})
    if not carried:
        return list(file)
    scheme = min(carried, key=lambda s: list(RECONCILED).index(s.split(" ")[0]))
    covers = RECONCILED[scheme.split(" ")[0]]
    same_scheme = [s for s in carried if s.split(" ")[0] == scheme.split(" ")[0]]

    def covered(p: Provenance, n: Mapping[str, float]) -> Provenance:
        functionals = ", ".join(covers)
        if p.scheme in same_scheme and p.functional in (*covers, UNKNOWN):
            return Provenance(functionals, p.scheme, p.source)
        if p.scheme in carried and p.functional in covers:  # a narrower scheme, applied first
            return Provenance(functionals, scheme, p.source)
        oxide = p.functional == "PBE" and "O" in n and len(n) > 1
        if p.scheme == NONE and p.functional in covers and p.functional != "PBE+U" and not oxide:
            return Provenance(functionals, scheme, p.source)
        return p

    return [covered(p, n) for p, n in zip(file, counts, strict=True)]


def _scheme_name(p: Provenance) -> str:
    """Return the name of the scheme of corrections, without its version."""
    return p.scheme.split(" ")[0]


Groups = Mapping[Provenance, Sequence[str]]
"""Provenance -> ids of the entries with this provenance."""


def groups(ids: Sequence[str], provenance: Sequence[Provenance]) -> dict[Provenance, list[str]]:
    """Return provenance -> ids of the entries with this provenance, in their order."""
    by_provenance: dict[Provenance, list[str]] = {}
    for name, p in zip(ids, provenance, strict=True):
        by_provenance.setdefault(p, []).append(name)
    return by_provenance


def merge_groups(groups: Groups) -> dict[Provenance, list[str]]:
    """Return groups in which entries that need no correction are merged with entries of the scheme
    of 2020; if no entry has this scheme, with uncorrected entries."""
    carrier = min((p for p in groups if _scheme_name(p) == MP2020), default=Provenance("PBE", NONE))
    joined: dict[Provenance, list[str]] = {}
    for p, ids in groups.items():
        if p.scheme == NOT_NEEDED:
            p = replace(p, functional=carrier.functional, scheme=carrier.scheme)
        joined.setdefault(p, []).extend(ids)
    return joined


def conflicts(groups: Groups) -> list[str]:
    """Return a sentence for each of functional, scheme and source in which entries differ."""
    sentences, groups = [], merge_groups(groups)
    for name, plural in FIELDS.items():
        by_value = _by_value(groups, name)
        by_value.pop(UNKNOWN, None)
        if len(by_value) > 1:
            parts = [_with_ids(value, ids) for value, ids in sorted(by_value.items())]
            sentences.append(f"{plural} differ: {'; '.join(parts)}")
    return sentences


def notes(groups: Groups) -> list[str]:
    """Return notes on functional, scheme and source if they are unknown for some entries only."""
    unknown: dict[tuple[str, ...], list[str]] = {}
    groups = merge_groups(groups)
    for name in FIELDS:
        by_value = _by_value(groups, name)
        ids = by_value.pop(UNKNOWN, [])
        if ids and by_value:
            unknown.setdefault(tuple(ids), []).append(name)
    return [_with_ids(f"{' and '.join(n)} unknown", ids) for ids, n in unknown.items()]


def _by_value(groups: Groups, name: str) -> dict[str, list[str]]:
    by_value: dict[str, list[str]] = {}
    for p, ids in groups.items():
        by_value.setdefault(getattr(p, name), []).extend(ids)
    return by_value


def _with_ids(value: str, ids: Sequence[str]) -> str:
    entries = "entry" if len(ids) == 1 else "entries"
    return f"{value} ({len(ids)} {entries}: {', '.join(ids[:3])}{' …' if len(ids) > 3 else ''})"


def refuse_mixed(groups: Groups, *, where: str | None = None) -> None:
    """Raise InputError, with all conflicts, if energies were computed in different ways."""
    sentences = conflicts(groups)
    if sentences:
        raise InputError(
            "the energies were not computed in the same way, so a hull of them has no meaning",
            where=where,
            expected="one functional, one scheme of corrections and one code or model",
            received="; ".join(sentences),
            fix="keep one kind, or correct all of them by one scheme; to continue although "
            "distances may be wrong by more than stated, set allow_mixed=True (--allow-mixed)",
        )
