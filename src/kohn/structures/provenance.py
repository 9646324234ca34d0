"""Read how labels were computed: with which functional, corrected by which scheme, by which code.

Files state this in different ways: dicts of pymatgen's entries in `parameters` and in the classes
of their energy adjustments, structures in `info` under the names of the fields of `Provenance`. A
field that is not stated is 'unknown'.
"""

from dataclasses import astuple, dataclass

from kohn.structures.properties import PREDICTED_BY
from kohn.typing import Document

UNKNOWN, NONE = "unknown", "none"
RECONCILED: dict[str, tuple[str, ...]] = {
    "MaterialsProjectDFTMixingScheme": ("PBE", "PBE+U", "r2SCAN"),
    "MaterialsProject2020Compatibility": ("PBE", "PBE+U"),
    "MaterialsProjectCompatibility": ("PBE", "PBE+U"),
}
"""Correction scheme -> functionals whose energies it makes comparable; the widest first."""
FUNCTIONALS = {
    "GGA": "PBE",
    "PBE": "PBE",
    "GGA+U": "PBE+U",
    "PBE+U": "PBE+U",
    "R2SCAN": "r2SCAN",
    "SCAN": "SCAN",
    "PBESOL": "PBEsol",
}
"""Run type of the Materials Project, in upper case -> name of the functional in Kohn."""


@dataclass(frozen=True, order=True)
class Provenance:
    """How an energy was computed.

    Attributes:
        functional: 'PBE', 'r2SCAN' …, or 'unknown'.
        scheme: name (and version if known) of its correction scheme; 'none' or 'unknown'.
            On entries for hulls also 'none needed', see `kohn.stability.provenance`.
        source: the code or the model, or 'unknown'.
    """

    functional: str = UNKNOWN
    scheme: str = UNKNOWN
    source: str = UNKNOWN


UNSTATED = Provenance()
"""The provenance of which nothing is known."""


def provenance_of(entry: Document) -> Provenance:
    """Return the provenance that a dict of pymatgen's ComputedEntry states."""
    parameters = entry.get("parameters") or {}
    schemes = {_scheme(a) for a in entry.get("energy_adjustments") or ()}
    if not schemes:
        schemes = {UNKNOWN if entry.get("correction") else NONE}
    named = ("model", "calculator", "software", "code")
    vasp = "VASP" if {"potcar_symbols", "pseudo_potential"} & set(parameters) else UNKNOWN
    source = next((str(parameters[k]) for k in named if parameters.get(k)), vasp)
    return Provenance(functional(parameters.get("run_type")), _widest(schemes), source)


def stated(info: Document) -> Provenance:
    """Return the provenance in the `info` of a structure: functional, scheme and source."""
    values = [str(info.get(c, UNKNOWN)) for c in ("functional", "scheme", "source")]
    values[2] = str(info.get("source", info.get(PREDICTED_BY, UNKNOWN)))
    return Provenance(functional(values[0]), *values[1:])


def filled(known: Provenance, given: Provenance) -> Provenance:
    """Return the provenance that a file states, with unknown fields filled from `given`."""
    pairs = zip(astuple(known), astuple(given), strict=True)
    return Provenance(*(g if f == UNKNOWN else f for f, g in pairs))


def functional(run_type: str | None) -> str:
    """Return Kohn's name of a functional: 'PBE+U' for 'GGA_U'; unknown names do not change."""
    text = str(run_type or UNKNOWN).strip()
    return FUNCTIONALS.get(text.upper().replace("_", "+"), text)


def _scheme(adjustment: Document) -> str:
    made_by = adjustment.get("cls") or {}
    name, version = made_by.get("@class"), made_by.get("@version")
    return f"{name} {version}" if name and version else str(name or UNKNOWN)


def _widest(schemes: set[str]) -> str:
    """Return the widest known scheme that corrected an entry, or else the names of all schemes."""
    for known in RECONCILED:
        names = sorted(s for s in schemes if s.split(" ")[0] == known)
        if names:
            return " and ".join(names)
    return " and ".join(sorted(schemes))
