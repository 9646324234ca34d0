"""How labels were computed: with which functional, corrected by which scheme, by which code.

Files say it in their own ways: dicts of pymatgen's entries in `parameters` and in the classes of
their energy adjustments, structures in `info` under the names of the fields below. What they do
not say is unknown.
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


@dataclass(frozen=True, order=True)
class Provenance:
    """How an energy was computed.

    Attributes:
        functional: 'PBE', 'r2SCAN' …, or 'unknown'.
        scheme: name, and version where it is known, of what corrected it; 'none' or 'unknown'.
            On entries for hulls also 'none needed', see `kohn.stability.provenance`.
        source: the code or the model, or 'unknown'.
    """

    functional: str = UNKNOWN
    scheme: str = UNKNOWN
    source: str = UNKNOWN


UNSTATED = Provenance()
"""Nothing is known."""


def provenance_of(entry: Document) -> Provenance:
    """What a dict of pymatgen's ComputedEntry says of itself."""
    parameters = entry.get("parameters") or {}
    schemes = {_scheme(a) for a in entry.get("energy_adjustments") or ()}
    if not schemes:
        schemes = {UNKNOWN if entry.get("correction") else NONE}
    named = ("model", "calculator", "software", "code")
    vasp = "VASP" if {"potcar_symbols", "pseudo_potential"} & set(parameters) else UNKNOWN
    source = next((str(parameters[k]) for k in named if parameters.get(k)), vasp)
    return Provenance(functional(parameters.get("run_type")), _widest(schemes), source)


def stated(info: Document) -> Provenance:
    """What the `info` of a structure says under functional, scheme and source."""
    said = [str(info.get(c, UNKNOWN)) for c in ("functional", "scheme", "source")]
    said[2] = str(info.get("source", info.get(PREDICTED_BY, UNKNOWN)))
    return Provenance(functional(said[0]), *said[1:])


def filled(found: Provenance, given: Provenance) -> Provenance:
    """What a file says, and what it does not say as it was given."""
    pairs = zip(astuple(found), astuple(given), strict=True)
    return Provenance(*(g if f == UNKNOWN else f for f, g in pairs))


def functional(run_type: str | None) -> str:
    """Our name of a functional: 'GGA_U' is 'PBE+U'; names that we do not know stay."""
    text = str(run_type or UNKNOWN).strip()
    return FUNCTIONALS.get(text.upper().replace("_", "+"), text)


def _scheme(adjustment: Document) -> str:
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
