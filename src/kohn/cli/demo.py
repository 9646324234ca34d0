"""Run `kohn demo`: two short trainings on the data that come with Kohn."""

from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console

from kohn.cli.training import run_training
from kohn.sections import merged
from kohn.typing import Document

ETHANOL_ATOMS = {"H": -13.5684, "C": -1027.2635, "O": -2038.5320}
"""Energies of isolated atoms, eV: unrestricted PBE/def2-SVP by PySCF, like the labels."""
CRYSTAL_SILICON = {"Si": -5.0414}
"""Mean energy of an atom in the crystals of the training data, eV: no isolated atom was computed.
With one element, E0 is only an offset: no predicted energy of a crystal depends on its value."""

CASES: dict[str, Document] = {
    "ethanol": {
        "data": {"e0s": ETHANOL_ATOMS},
        "model": {"channels": 32, "hidden_l_max": 1},
        "run": {"steps": 2_500, "evaluate_every": 2, "checkpoint_every": 5},
    },
    "silicon": {
        "data": {"e0s": CRYSTAL_SILICON},
        "model": {"channels": 16, "hidden_l_max": 0, "radial_widths": [32, 32], "cutoff": 4.5},
        "run": {"steps": 900, "batch_size": 2, "evaluate_every": 2, "checkpoint_every": 10},
        # Crystals need energy weights from the start: in a short run, late weights come too late.
        "loss": {"weights": {"energy": 100.0, "forces": 100.0}, "late_from": 0.5},
    },
}
"""Name of a data folder -> settings that are not defaults, for small models and short runs."""
ORIGINS = {"ethanol": "molecular dynamics", "silicon": "strained, defective and hot crystals"}


def run_demo(folder: Path, console: Console) -> Document:
    """Train and evaluate a model on each of the data in `CASES`, and draw the reports.

    Returns:
        Name in `CASES` -> the document of `run_training`.
    """
    documents = {}
    with as_file(files("kohn.data")) as data:
        for name, sections in CASES.items():
            console.rule(f"{name}: from {ORIGINS[name]}")
            test = {"data": {"test": [str(data / name / "test.extxyz")]}}
            train = data / name / "train.extxyz"
            documents[name] = run_training(
                train, folder / name, False, merged(sections, test), console
            )
    for name, document in documents.items():
        console.print(f"{name}: open {document['report']}", style="bold")
    return documents
