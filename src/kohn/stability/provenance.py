"""Check which energies can be compared in one hull.

A hull compares differences of some meV/atom between energies of hundreds of eV. Two functionals,
two sets of corrections or two models differ by far more, and by another amount for each element.
So all entries of a hull must agree in functional, scheme of corrections, and source. A scheme may
reconcile functionals, and then its entries are of one kind:

    MaterialsProject2020Compatibility     PBE with PBE+U
    MaterialsProjectDFTMixingScheme       PBE and PBE+U with r2SCAN

The schemes do not change all entries. If some entries of a file carry a scheme, it was applied to
the uncorrected ones too; but PBE+U and oxides of PBE are always corrected, and without the scheme
they do not belong there. The scheme of 2020 corrects by composition alone: the elements in
`CORRECTED` if they are anions, and metals computed with U in oxides and fluorides. So a pure
element, or a compound without these elements, has the same energy with and without it: its scheme
is 'none needed', which agrees with entries of the scheme and with uncorrected ones. (The mixing
scheme depends on the other entries, and an older one corrects gases.)

Unknown provenance cannot contradict: it is no conflict, but a note.

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
"""The scheme of uncorrected entries that the scheme of 2020 does not change."""
CORRECTED = frozenset({"O", "S", "F", "Cl", "Br", "I", "N", "Se", "Si", "Sb", "Te", "H"})
"""Elements that the scheme of 2020 corrects as anions; O also in peroxides and superoxides."""
FIELDS = {
    "functional": "functionals",
    "scheme": "schemes of corrections",
    "source": "codes or models",
}


def mark_not_needed(p: Provenance, counts: Mapping[str, float]) -> Provenance:
    """Return the provenance of an entry, with 'none needed' in place of 'none' if this holds.

    Args:
        p: the provenance as it was read.
        counts: symbol -> number of atoms.
    """
    unchanged = len(counts) == 1 or CORRECTED.isdisjoint(counts)
    if p.functional == "PBE" and p.scheme == NONE and unchanged:
        return replace(p, scheme=NOT_NEEDED)
    return p


def reconciled(
    file: Sequence[Provenance], counts: Sequence[Mapping[str, float]]
) -> list[Provenance]:
    """Return the provenances of the entries of one file; a scheme of some can cover others.

    Uncorrected entries of PBE+U, and oxides of PBE, are not covered: the schemes correct each.

    Args:
        file: the provenance of each entry, as it was read.
        counts: symbol -> number of atoms, of each entry.
    """
    carried = sorted({p.scheme for p in file if _name(p) in RECONCILED})
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


def _name(p: Provenance) -> str:
    """Return the scheme without its version."""
    return p.scheme.split(" ")[0]


Groups = Mapping[Provenance, Sequence[str]]
"""Ids of entries by provenance."""


def groups(ids: Sequence[str], provenance: Sequence[Provenance]) -> dict[Provenance, list[str]]:
    """Return ids by provenance, in order."""
    by_provenance: dict[Provenance, list[str]] = {}
    for name, p in zip(ids, provenance, strict=True):
        by_provenance.setdefault(p, []).append(name)
    return by_provenance


def merge_groups(groups: Groups) -> dict[Provenance, list[str]]:
    """Return groups in which entries that need no scheme are joined with those that carry it; if
    none carries it, with uncorrected ones."""
    carrier = min((p for p in groups if _name(p) == MP2020), default=Provenance("PBE", NONE))
    joined: dict[Provenance, list[str]] = {}
    for p, ids in groups.items():
        if p.scheme == NOT_NEEDED:
            p = replace(p, functional=carrier.functional, scheme=carrier.scheme)
        joined.setdefault(p, []).extend(ids)
    return joined


def conflicts(groups: Groups) -> list[str]:
    """Return the conflicts of entries: a sentence for each of functional, scheme and source."""
    sentences, groups = [], merge_groups(groups)
    for name, plural in FIELDS.items():
        by_value = _by_value(groups, name)
        by_value.pop(UNKNOWN, None)
        if len(by_value) > 1:
            parts = [_counted(value, ids) for value, ids in sorted(by_value.items())]
            sentences.append(f"{plural} differ: {'; '.join(parts)}")
    return sentences


def notes(groups: Groups) -> list[str]:
    """Return notes on what is unknown of some entries and known of others."""
    unknown: dict[tuple[str, ...], list[str]] = {}
    groups = merge_groups(groups)
    for name in FIELDS:
        by_value = _by_value(groups, name)
        ids = by_value.pop(UNKNOWN, [])
        if ids and by_value:
            unknown.setdefault(tuple(ids), []).append(name)
    return [_counted(f"{' and '.join(n)} unknown", ids) for ids, n in unknown.items()]


def _by_value(groups: Groups, name: str) -> dict[str, list[str]]:
    by_value: dict[str, list[str]] = {}
    for p, ids in groups.items():
        by_value.setdefault(getattr(p, name), []).extend(ids)
    return by_value


def _counted(value: str, ids: Sequence[str]) -> str:
    entries = "entry" if len(ids) == 1 else "entries"
    return f"{value} ({len(ids)} {entries}: {', '.join(ids[:3])}{' …' if len(ids) > 3 else ''})"


def refuse_mixed(groups: Groups, *, where: str | None = None) -> None:
    """Raise InputError with all conflicts, if there are any."""
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
