"""Structures with labels: the label table, reading, writing, splits and reference energies."""

from kohn.structures.ase_conversion import from_ase, to_ase
from kohn.structures.fingerprints import duplicates, fingerprint, orientation
from kohn.structures.predictive import Energies, MovingModel, Prediction, Predictive
from kohn.structures.properties import PROPERTIES, Property
from kohn.structures.reading import Readable, files_of, read, scan, structures_of
from kohn.structures.reference_energies import E0s, is_isolated_atom, reference_energies
from kohn.structures.splits import split
from kohn.structures.structure import Dataset, Source, Structure, UnreadFile, Unusable
from kohn.structures.writing import write

__all__ = [
    "PROPERTIES",
    "Dataset",
    "E0s",
    "Energies",
    "MovingModel",
    "Prediction",
    "Predictive",
    "Property",
    "Readable",
    "Source",
    "Structure",
    "UnreadFile",
    "Unusable",
    "duplicates",
    "files_of",
    "fingerprint",
    "from_ase",
    "is_isolated_atom",
    "orientation",
    "read",
    "reference_energies",
    "scan",
    "split",
    "structures_of",
    "to_ase",
    "write",
]
