"""How energies were computed, and which of them may stand on one hull.

A hull compares differences of some meV/atom between energies of hundreds of eV. Two functionals,
two sets of corrections or two models differ by far more, and by another amount for each element.
So all entries of a hull must agree in functional, scheme of corrections, and source. A scheme may
reconcile functionals, and then its entries are of one kind, those that it leaves as they are
(elements, intermetallics) among them:

    MaterialsProject2020Compatibility     PBE with PBE+U
    MaterialsProjectDFTMixingScheme       PBE and PBE+U with r2SCAN

What is unknown cannot contradict: it is no conflict, but a note.

Source: Wang et al., Sci. Rep. 11, 15496 (2021), for the first; Kingsbury et al., npj Comput. Mater.
8, 195 (2022), for the second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kohn.errors import InputError

UNKNOWN, NONE = "unknown", "none"
RECONCILED: dict[str, tuple[str, ...]] = {
    "MaterialsProjectDFTMixingScheme": ("PBE", "PBE+U", "r2SCAN"),
    "MaterialsProject2020Compatibility": ("PBE", "PBE+U"),
    "MaterialsProjectCompatibility": ("PBE", "PBE+U"),
}
"""Functionals that each scheme puts on one scale; the widest scheme first."""
FUNCTIONALS = {
    "GGA": "PBE",
    "PBE": "PBE",
    "GGA+U": "PBE+U",
    "PBE+U": "PBE+U",
    "R2SCAN": "r2SCAN",
    "SCAN": "SCAN",
    "PBESOL": "PBEsol",
}
"""Names of run types of the Materials Project, in upper case -> ours."""
FIELDS = {
    "functional": "functionals",
    "scheme": "schemes of corrections",
    "source": "codes or models",
}


@dataclass(frozen=True, order=True)
class Provenance:
    """How an energy was computed.

    Attributes:
        functional: 'PBE', 'r2SCAN' …, or 'unknown'.
        scheme: name, and version where it is known, of what corrected it; 'none' or 'unknown'.
        source: the code or the model, or 'unknown'.
    """

    functional: str = UNKNOWN
    scheme: str = UNKNOWN
    source: str = UNKNOWN


UNSTATED = Provenance()
"""Nothing is known."""


def provenance_of(entry: Mapping[str, Any]) -> Provenance:
    """What a dict of pymatgen's ComputedEntry says of itself."""
    parameters = entry.get("parameters") or {}
    schemes = {_scheme(a) for a in entry.get("energy_adjustments") or ()}
    if not schemes:
        schemes = {UNKNOWN if entry.get("correction") else NONE}
    named = ("model", "calculator", "software", "code")
    vasp = "VASP" if {"potcar_symbols", "pseudo_potential"} & set(parameters) else UNKNOWN
    source = next((str(parameters[k]) for k in named if parameters.get(k)), vasp)
    return Provenance(functional(parameters.get("run_type")), _widest(schemes), source)


def functional(run_type: str | None) -> str:
    """Our name of a functional: 'GGA_U' is 'PBE+U'; names that we do not know stay."""
    text = str(run_type or UNKNOWN).strip()
    return FUNCTIONALS.get(text.upper().replace("_", "+"), text)


def _scheme(adjustment: Mapping[str, Any]) -> str:
    made_by = adjustment.get("cls") or {}
    name, version = made_by.get("@class"), made_by.get("@version")
    return f"{name} {version}" if name and version else str(name or UNKNOWN)


def _widest(schemes: set[str]) -> str:
    """One name for what corrected an entry: of known schemes the widest, else all."""
    for known in RECONCILED:
        found = sorted(s for s in schemes if s.split(" ")[0] == known)
        if found:
            return " and ".join(found)
    return " and ".join(sorted(schemes))


def reconciled(file: Sequence[Provenance]) -> list[Provenance]:
    """Provenances of the entries of one file, where a scheme that is carried by some covers others.

    An uncorrected PBE+U entry is not covered: the schemes correct every such entry.
    """
    carried = sorted({p.scheme for p in file if p.scheme.split(" ")[0] in RECONCILED})
    if not carried:
        return list(file)
    scheme = min(carried, key=lambda s: list(RECONCILED).index(s.split(" ")[0]))
    covers = RECONCILED[scheme.split(" ")[0]]
    same_scheme = [s for s in carried if s.split(" ")[0] == scheme.split(" ")[0]]

    def covered(p: Provenance) -> Provenance:
        together = ", ".join(covers)
        if p.scheme in same_scheme and p.functional in (*covers, UNKNOWN):
            return Provenance(together, p.scheme, p.source)
        if p.scheme in carried and p.functional in covers:  # a narrower scheme goes before
            return Provenance(together, scheme, p.source)
        if p.scheme == NONE and p.functional in covers and p.functional != "PBE+U":
            return Provenance(together, scheme, p.source)
        return p

    return [covered(p) for p in file]


Groups = Mapping[Provenance, Sequence[str]]
"""Ids of entries by provenance."""


def groups(ids: Sequence[str], provenance: Sequence[Provenance]) -> dict[Provenance, list[str]]:
    """Ids by provenance, in order."""
    found: dict[Provenance, list[str]] = {}
    for name, p in zip(ids, provenance, strict=True):
        found.setdefault(p, []).append(name)
    return found


def conflicts(groups: Groups) -> list[str]:
    """What the entries disagree in, one sentence for each of functional, scheme and source."""
    found = []
    for name, plural in FIELDS.items():
        by_value = _by_value(groups, name)
        by_value.pop(UNKNOWN, None)
        if len(by_value) > 1:
            parts = [_counted(value, ids) for value, ids in sorted(by_value.items())]
            found.append(f"{plural} differ: {'; '.join(parts)}")
    return found


def notes(groups: Groups) -> list[str]:
    """What of the entries is unknown, where something else is known."""
    found = []
    for name in FIELDS:
        by_value = _by_value(groups, name)
        ids = by_value.pop(UNKNOWN, [])
        if ids and by_value:
            found.append(f"the {name} of {_counted('these is unknown', ids)}")
    return found


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
