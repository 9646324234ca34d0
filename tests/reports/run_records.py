"""A run folder made by hand: water and silicon, every record that a run can leave."""

import json
from pathlib import Path

import numpy as np
import yaml

from kohn.records import append_record, to_json

SETTINGS = {
    "data": {"train": ["train.extxyz"], "test": ["test.extxyz"]},
    "model": {"family": "mace", "cutoff": 5.0, "channels": 8, "layers": 2},
    "loss": {"kind": "mse", "late_from": 0.75, "late_weights": {"energy": 1000.0}},
    "run": {"dtype": "float32", "seed": 0, "batch_size": 2},
}
EPOCHS = 4


def start() -> dict:
    source = {
        "file": "data/train.extxyz",
        "sha256": "ab" * 32,
        "frames": 20,
        "keys": {"energy": {"REF_energy": 20}, "forces": {"dft_forces": 20}},
        "notes": ["virial converted to stress"],
        "near_keys": {"REF_forcess": "REF_forces"},
        "other_keys": ["tag"],
    }
    return {
        "kind": "start",
        "epochs": EPOCHS,
        "steps": 40,
        "parameters": 12345,
        "train_structures": 18,
        "valid_structures": 2,
        "shapes": [[12, 4, 2], [12, 4, 2]],
        "padding_per_edge": 0.25,
        "average_neighbours": 3.5,
        "device": "cpu:0",
        "e0s": {"1": -13.6, "8": -432.1, "14": -5.1},
        "provenance": {
            "e0_source": "isolated atoms",
            "e0_sources": {"H": "isolated atoms", "O": "isolated atoms", "Si": "least squares"},
            "e0_warning": "E0 of Si fitted",
            "sources": [source],
            "settings": SETTINGS,
            "versions": {"kohn": "0.1.0", "jax": "0.0.test"},
        },
    }


def epoch(number: int) -> dict:
    fall = 10.0 ** (-0.3 * number)
    return {
        "kind": "epoch",
        "epoch": number,
        "step": 10 * number,
        "learning_rate": 0.01 * fall,
        "train_loss": 5 * fall,
        "valid_loss": 6 * fall,
        "best_epoch": number,
        "seconds": 4.0 if number == 1 else 2.0,
        "compilations": 2,
        "valid_energy_per_atom_mae": 0.1 * fall,
        "valid_energy_per_atom_rmse": 0.12 * fall,
        "valid_forces_mae": fall,
        "valid_forces_rmse": 1.5 * fall,
        "valid_stress_mae": 0.01 * fall,
        "valid_stress_rmse": 0.02 * fall,
    }


def check() -> dict:
    statistics = dict.fromkeys(
        ("mean", "standard_deviation", "minimum", "maximum", "root_mean_square"), 0.5
    )
    provenance = start()["provenance"]

    def of(name: str, frames: int, labels: dict) -> dict:
        return {
            "name": name,
            "sources": provenance["sources"],
            "frames": frames,
            "isolated_atoms": 0,
            "atoms_per_frame": {"minimum": 2, "maximum": 3},
            "elements": {"H": {"frames": 9, "atoms": 18}, "Si": {"frames": 9, "atoms": 18}},
            "frames_by_periodic_directions": {"0": frames // 2, "3": frames - frames // 2},
            "labels": labels,
            "energy_above_reference_per_atom": statistics if labels else None,
            "force_components": statistics if labels else None,
            "stress_components": None,
            "shortest_distances": {"H-O": {"distance": 0.957, "where": {"file": "a.extxyz"}}},
            "duplicates": 1,
        }

    labels = {
        "energy": {"frames": 18, "coverage": 1.0, "keys": {"REF_energy": 20}},
        "forces": {"frames": 17, "coverage": 0.94, "keys": {"dft_forces": 20}},
    }
    finding = {
        "kind": "short-distance",
        "severity": "warning",
        "message": "atoms are close",
        "where": [{"file": "data/train.extxyz", "frame": 3, "line": 12}],
        "count": 4,
        "evidence": ["0.4 Å"],
        "fix": "look at them",
        "overridden": True,
    }
    return {
        "ok": True,
        "findings": [finding],
        "sets": [of("train", 18, labels), of("valid", 2, labels), of("test", 6, {})],
        "reference_energies": {"values": {"H": -13.6}, "source": "isolated atoms", "warning": None},
        "shared_structures": [],
        "overrides": ["short-distance"],
    }


def errors(*names: str, factor: float = 1.0) -> dict:
    units = {
        "energy": "meV",
        "energy_per_atom": "meV_per_atom",
        "forces": "meV_per_angstrom",
        "stress": "GPa",
    }
    found = {}
    for name in names or tuple(units):
        found[f"{name}_mean_absolute_error_{units[name]}"] = 10.0 * factor
        found[f"{name}_root_mean_square_error_{units[name]}"] = 14.0 * factor
        found[f"{name}_count"] = 6
    return found


def frame(index: int, config_type: str) -> dict:
    random = np.random.default_rng(index)
    numbers = [8, 1, 1] if index % 2 else [14, 14]
    n, stress = len(numbers), 0.01 * random.normal(size=(3, 3))
    energy = sum({1: -13.6, 8: -432.1, 14: -5.1}[z] for z in numbers) + random.normal()
    forces = random.normal(size=(n, 3))
    return {
        "index": index,
        "file": "data/test.extxyz",
        "frame": index,
        "config_type": config_type,
        "numbers": numbers,
        "energy_reference": energy,
        "energy_predicted": energy + 0.01,
        "forces_reference": forces.tolist(),
        "forces_predicted": (forces + 0.01 * (index + 1)).tolist(),
        "stress_reference": None if index % 2 else stress.tolist(),
        "stress_predicted": None if index % 2 else (stress + 1e-4).tolist(),
    }


def evaluation(name: str, config_type: str = "bulk") -> dict:
    return {
        "name": name,
        "errors": errors(),
        "mean_baseline": errors(factor=20.0),
        "forces_by_element": {"H": errors("forces"), "Si": errors("forces", factor=2.0)},
        "forces_by_size": {"0 to 0.5": errors("forces"), "above 4": errors("forces")},
        "by_config_type": {config_type: errors(), "quiet": errors("energy", "energy_per_atom")},
        "frames": [frame(i, config_type) for i in range(6)],
    }


def write_run(folder: Path, *, epochs: int = EPOCHS, config_type: str = "bulk") -> Path:
    """A finished run; or one that has come as far as `epochs`."""
    folder.mkdir(parents=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "check.json").write_text(to_json(check()))
    for record in (start(), *(epoch(i + 1) for i in range(epochs))):
        append_record(folder / "records.jsonl", record)
    if epochs == EPOCHS:
        for name in ("test", "valid"):
            write_evaluation(folder, evaluation(name, config_type))
        (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def write_evaluation(folder: Path, document: dict) -> None:
    (folder / f"evaluation-{document['name']}.json").write_text(json.dumps(document))
