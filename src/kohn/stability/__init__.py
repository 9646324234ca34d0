"""Thermodynamic stability: entries, their provenance, phase diagrams, and P(stable)."""

from kohn.stability.candidates import Candidates as Candidates
from kohn.stability.entries import Entries as Entries
from kohn.stability.formulas import parse_formula as parse_formula
from kohn.stability.metrics import stability_metrics as stability_metrics
from kohn.stability.phase_diagram import ConvexHull as ConvexHull
from kohn.stability.phase_diagram import Distances as Distances
from kohn.stability.phase_diagram import GrandPotentialHull as GrandPotentialHull
from kohn.stability.reading import read_entries as read_entries
from kohn.stability.reading_candidates import read_candidates as read_candidates
from kohn.stability.references import ElementalReferences as ElementalReferences
from kohn.stability.references import ElementBias as ElementBias
from kohn.stability.references import element_bias as element_bias
from kohn.stability.systems import SystemHulls as SystemHulls
from kohn.stability.uncertainty import Errors as Errors
from kohn.stability.uncertainty import StabilityPosterior as StabilityPosterior
from kohn.stability.uncertainty import probability_stable as probability_stable
from kohn.structures.provenance import Provenance as Provenance
