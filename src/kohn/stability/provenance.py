"""Which energies may stand on one hull.

A hull compares differences of some meV/atom between energies of hundreds of eV. Two functionals,
two sets of corrections or two models differ by far more, and by another amount for each element.
So all entries of a hull must agree in functional, scheme of corrections, and source. A scheme may
reconcile functionals, and then its entries are of one kind:

    MaterialsProject2020Compatibility     PBE with PBE+U
    MaterialsProjectDFTMixingScheme       PBE and PBE+U with r2SCAN

Some entries the schemes leave as they are. In a file where others carry a scheme, uncorrected ones
have been through it too; but PBE+U and oxides of PBE are always corrected, and without it do not
belong there. The scheme of 2020 corrects by composition alone: the elements in `CORRECTED` where
they are anions, and metals computed with U in oxides and fluorides. So an element, or what has none
of these, is the same with and without it: 'none needed', and at home beside its entries and beside
uncorrected ones. (The mixing scheme depends on what else is there, and an older one corrects
gases.)

What is unknown cannot contradict: it is no conflict, but a note.

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
"""The scheme of uncorrected entries that the scheme of 2020 leaves as they are."""
CORRECTED = frozenset({"O", "S", "F", "Cl", "Br", "I", "N", "Se", "Si", "Sb", "Te", "H"})
"""Elements that the scheme of 2020 corrects as anions; O also in peroxides and superoxides."""
FIELDS = {
    "functional": "functionals",
    "scheme": "schemes of corrections",
    "source": "codes or models",
}


def unneeded(p: Provenance, counts: Mapping[str, float]) -> Provenance:
    """How an entry was computed, with 'none needed' for 'none' where this holds.

    Args:
        p: as it was found.
        counts: symbol -> number of atoms.
    """
    alone = len(counts) == 1 or CORRECTED.isdisjoint(counts)
    if p.functional == "PBE" and p.scheme == NONE and alone:
        return replace(p, scheme=NOT_NEEDED)
    return p


def reconciled(
    file: Sequence[Provenance], counts: Sequence[Mapping[str, float]]
) -> list[Provenance]:
    """Provenances of the entries of one file, where a scheme that is carried by some covers others.

    Uncorrected entries of PBE+U, and oxides of PBE, are not covered: the schemes correct each.

    Args:
        file: of each entry.
        counts: of each entry, symbol -> number of atoms.
    """
    carried = sorted({p.scheme for p in file if _name(p) in RECONCILED})
    if not carried:
        return list(file)
    scheme = min(carried, key=lambda s: list(RECONCILED).index(s.split(" ")[0]))
    covers = RECONCILED[scheme.split(" ")[0]]
    same_scheme = [s for s in carried if s.split(" ")[0] == scheme.split(" ")[0]]

    def covered(p: Provenance, n: Mapping[str, float]) -> Provenance:
        together = ", ".join(covers)
        if p.scheme in same_scheme and p.functional in (*covers, UNKNOWN):
            return Provenance(together, p.scheme, p.source)
        if p.scheme in carried and p.functional in covers:  # a narrower scheme goes before
            return Provenance(together, scheme, p.source)
        oxide = p.functional == "PBE" and "O" in n and len(n) > 1
        if p.scheme == NONE and p.functional in covers and p.functional != "PBE+U" and not oxide:
            return Provenance(together, scheme, p.source)
        return p

    return [covered(p, n) for p, n in zip(file, counts, strict=True)]


def _name(p: Provenance) -> str:
    """The scheme without its version."""
    return p.scheme.split(" ")[0]


Groups = Mapping[Provenance, Sequence[str]]
"""Ids of entries by provenance."""


def groups(ids: Sequence[str], provenance: Sequence[Provenance]) -> dict[Provenance, list[str]]:
    """Ids by provenance, in order."""
    found: dict[Provenance, list[str]] = {}
    for name, p in zip(ids, provenance, strict=True):
        found.setdefault(p, []).append(name)
    return found


def settled(groups: Groups) -> dict[Provenance, list[str]]:
    """Groups in which entries that need no scheme are of one kind with those that carry it; where
    none does, with uncorrected ones."""
    carrier = min((p for p in groups if _name(p) == MP2020), default=Provenance("PBE", NONE))
    found: dict[Provenance, list[str]] = {}
    for p, ids in groups.items():
        if p.scheme == NOT_NEEDED:
            p = replace(p, functional=carrier.functional, scheme=carrier.scheme)
        found.setdefault(p, []).extend(ids)
    return found


def conflicts(groups: Groups) -> list[str]:
    """What the entries disagree in, one sentence for each of functional, scheme and source."""
    found, groups = [], settled(groups)
    for name, plural in FIELDS.items():
        by_value = _by_value(groups, name)
        by_value.pop(UNKNOWN, None)
        if len(by_value) > 1:
            parts = [_counted(value, ids) for value, ids in sorted(by_value.items())]
            found.append(f"{plural} differ: {'; '.join(parts)}")
    return found


def notes(groups: Groups) -> list[str]:
    """What of the entries is unknown, where something else is known."""
    unknown: dict[tuple[str, ...], list[str]] = {}
    groups = settled(groups)
    for name in FIELDS:
        by_value = _by_value(groups, name)
        ids = by_value.pop(UNKNOWN, [])
        if ids and by_value:
            unknown.setdefault(tuple(ids), []).append(name)
    return [_counted(f"{' and '.join(n)} unknown", ids) for ids, n in unknown.items()]


def _by_value(groups: Groups, name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for p, ids in groups.items():
        found.setdefault(getattr(p, name), []).extend(ids)
    return found


def _counted(value: str, ids: Sequence[str]) -> str:
    entries = "entry" if len(ids) == 1 else "entries"
    return f"{value} ({len(ids)} {entries}: {', '.join(ids[:3])}{' …' if len(ids) > 3 else ''})"


def refuse_mixed(groups: Groups, *, where: str | None = None) -> None:
    """Raises InputError with all conflicts, where there are any."""
    found = conflicts(groups)
    if found:
        raise InputError(
            "the energies were not computed in one way, so a hull of them means nothing",
            where=where,
            expected="one functional, one scheme of corrections and one code or model",
            received="; ".join(found),
            fix="keep one kind, or correct all of them by one scheme; to go on although distances "
            "may be wrong by more than they say, allow_mixed=True (--allow-mixed)",
        )
