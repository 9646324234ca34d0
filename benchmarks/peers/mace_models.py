"""Random mace-torch models, their exports and reference outputs, for tests and speed runs.

Runs in the peers' environment:

    python mace_models.py OUT_FOLDER --names small_0e small_1o --structures FILE[@first:last] ...

For each named preset it writes NAME.model (pickled by torch), NAME.safetensors (see
`export_mace_torch.py`) and NAME_reference.npz: energy, forces, stress of every structure whose
elements the model knows, from mace's own neighbour list and autograd, in float64 and float32.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

E0S = {1: -13.587222780835477, 6: -1029.4889999855063, 7: -1484.9814568572233,
       8: -2041.9816003861047, 14: -7881.1234567890123}  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """Configuration of a random model; the defaults are mace-torch's."""

    hidden_irreps: str
    elements: tuple[int, ...]
    avg_num_neighbors: float = 14.375
    scale: float = 8.125
    shift: float = 0.0
    first_residual: bool = False
    pair_repulsion: bool = False
    radial_mlp: tuple[int, ...] = (64, 64, 64)
    mlp_irreps: str = "16x0e"
    r_max: float = 5.0
    num_bessel: int = 8
    num_polynomial_cutoff: int = 5
    max_ell: int = 3
    correlation: int = 3
    num_interactions: int = 2
    seed: int = 0
    include_u: bool = True
    node_features: bool = True  # keep the features after each layer in the reference


PRESETS = {
    "small_0e": Preset("16x0e", (1, 6, 8, 14), seed=1),
    "small_1o": Preset("16x0e+16x1o", (1, 6, 8, 14), seed=2),
    "residual_1o": Preset(
        "16x0e+16x1o",
        (1, 6, 8, 14),
        shift=-0.37109375,
        first_residual=True,
        pair_repulsion=True,
        seed=3,
    ),
    "speed_0e": Preset("64x0e", (1, 6, 7, 8), seed=4),
    "speed_1o": Preset("64x0e+64x1o", (1, 6, 7, 8), seed=5),
    "tiny_1o": Preset(
        "8x0e+8x1o",
        (1, 6, 8, 14),
        radial_mlp=(32, 32, 32),
        mlp_irreps="8x0e",
        seed=6,
        include_u=False,
        node_features=False,
    ),
}


def quiet() -> None:
    """Leaves out the warnings that torch and e3nn 0.4.4 give hundreds of times."""
    warnings.filterwarnings("ignore", message=".*TorchScript type system.*")
    warnings.filterwarnings("ignore", message=".*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.*")
    warnings.filterwarnings("ignore", message=".*torch.jit.*is deprecated.*")


def make_random_mace(
    preset: Preset, e0s: dict[int, float] | None = None, dtype: str = "float64"
) -> Any:
    """A ScaleShiftMACE with random weights, as mace-torch would initialise it before training.

    Args:
        e0s: energy of the free atoms in eV by atomic number; `E0S` when not given.
        dtype: "float64" or "float32"; the buffers (Bessel frequencies, Clebsch-Gordan) are made in
            this dtype too.
    """
    import torch
    from mace import modules  # before e3nn 0.4.4, whose constants torch >= 2.6 refuses otherwise

    from e3nn import o3  # isort: skip

    e0s = E0S if e0s is None else e0s
    first = "RealAgnosticResidualInteractionBlock"
    if not preset.first_residual:
        first = "RealAgnosticInteractionBlock"
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        torch.manual_seed(preset.seed)
        model = modules.ScaleShiftMACE(
            r_max=preset.r_max,
            num_bessel=preset.num_bessel,
            num_polynomial_cutoff=preset.num_polynomial_cutoff,
            max_ell=preset.max_ell,
            interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
            interaction_cls_first=modules.interaction_classes[first],
            num_interactions=preset.num_interactions,
            num_elements=len(preset.elements),
            hidden_irreps=o3.Irreps(preset.hidden_irreps),
            MLP_irreps=o3.Irreps(preset.mlp_irreps),
            atomic_energies=np.array([[e0s[z] for z in preset.elements]]),
            avg_num_neighbors=preset.avg_num_neighbors,
            atomic_numbers=list(preset.elements),
            correlation=preset.correlation,
            gate=modules.gate_dict["silu"],
            pair_repulsion=preset.pair_repulsion,
            use_reduced_cg=False,  # mace_run_train's default
            radial_MLP=list(preset.radial_mlp),
            radial_type="bessel",
            heads=["Default"],
            atomic_inter_scale=preset.scale,
            atomic_inter_shift=preset.shift,
        )
    finally:
        torch.set_default_dtype(before)
    return model


def make_batch(model: Any, structures: Sequence[ase.Atoms], dtype: str) -> Any:
    """One torch_geometric batch of `structures`, from mace's own data pipeline.

    Labels are read from REF_energy, REF_forces and REF_stress where they are.
    """
    import torch
    from mace import data
    from mace.tools import AtomicNumberTable, torch_geometric

    table = AtomicNumberTable([int(z) for z in model.atomic_numbers])
    keys = data.KeySpecification(
        info_keys={"energy": "REF_energy", "stress": "REF_stress"},
        arrays_keys={"forces": "REF_forces"},
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        graphs = [
            data.AtomicData.from_config(
                data.config_from_atoms(atoms, key_specification=keys),
                z_table=table,
                cutoff=float(model.r_max),
            )
            for atoms in structures
        ]
        loader = torch_geometric.dataloader.DataLoader(
            graphs, batch_size=len(graphs), shuffle=False, drop_last=False
        )
        return next(iter(loader))
    finally:
        torch.set_default_dtype(before)


def evaluate(model: Any, atoms: ase.Atoms, dtype: str) -> dict[str, Any]:
    """Energy, forces and stress of one structure as mace-torch computes them, as numpy arrays.

    Stress is NaN unless all three directions are periodic (mace-torch itself divides by the volume
    of a vacuum box that it makes up).
    """
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        batch = make_batch(model, [atoms], dtype)
        out = model(batch.to_dict(), training=False, compute_force=True, compute_stress=True)
    finally:
        torch.set_default_dtype(before)
    as_numpy = {k: v.detach().numpy() for k, v in out.items() if v is not None}
    stress = as_numpy["stress"][0] if all(atoms.pbc) else np.full((3, 3), np.nan)
    return {
        "energy": as_numpy["energy"][0],
        "interaction_energy": as_numpy["interaction_energy"][0],
        "node_energy": as_numpy["node_energy"],
        "node_features": as_numpy["node_feats"],
        "forces": as_numpy["forces"],
        "stress": stress,
        "edges": batch.edge_index.shape[1],
    }


def reference(
    model: Any, structures: Sequence[ase.Atoms], node_features: bool = True
) -> dict[str, np.ndarray]:
    """Arrays of NAME_reference.npz; atoms of all structures concatenated, see `atom_start`."""
    import copy

    counts = [len(atoms) for atoms in structures]
    arrays = {
        "names": np.array([structure_name(atoms) for atoms in structures]),
        "num_atoms": np.array(counts, dtype=np.int64),
        "atom_start": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "numbers": np.concatenate([atoms.numbers for atoms in structures]).astype(np.int64),
        "positions": np.concatenate([atoms.positions for atoms in structures]),
        "cell": np.stack([np.asarray(atoms.cell.array) for atoms in structures]),
        "pbc": np.stack([atoms.pbc for atoms in structures]),
    }
    double = [evaluate(model, atoms, "float64") for atoms in structures]
    single_model = copy.deepcopy(model).float()
    single = [evaluate(single_model, atoms, "float32") for atoms in structures]
    arrays["num_edges"] = np.array([out["edges"] for out in double], dtype=np.int64)
    for suffix, outputs in (("", double), ("_float32", single)):
        for key in ("energy", "interaction_energy", "stress"):
            arrays[key + suffix] = np.stack([out[key] for out in outputs])
        arrays["forces" + suffix] = np.concatenate([out["forces"] for out in outputs])
    arrays["node_energy"] = np.concatenate([out["node_energy"] for out in double])
    if node_features:
        arrays["node_features"] = np.concatenate([out["node_features"] for out in double])
    return arrays


def structure_name(atoms: ase.Atoms) -> str:
    """The name in `info`, or the chemical formula."""
    return str(atoms.info.get("name", atoms.get_chemical_formula()))


def read_structures(specifications: Sequence[str]) -> list[ase.Atoms]:
    """Reads FILE or FILE@first:last for each specification."""
    structures: list[ase.Atoms] = []
    for text in specifications:
        file, _, index = text.partition("@")
        for i, atoms in enumerate(ase.io.read(file, index=index or ":")):
            atoms.info.setdefault("name", f"{Path(file).stem}_{i}")
            structures.append(atoms)
    return structures


def write_preset(name: str, structures: Sequence[ase.Atoms], folder: Path) -> None:
    """Writes NAME.model, NAME.safetensors and NAME_reference.npz to `folder`."""
    import torch
    from export_mace_torch import export

    preset = PRESETS[name]
    model = make_random_mace(preset)
    known = [atoms for atoms in structures if set(atoms.numbers) <= set(preset.elements)]
    for atoms in structures:
        if not set(atoms.numbers) <= set(preset.elements):
            print(f"{name}: {structure_name(atoms)} left out (element)", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model, folder / f"{name}.model")
    export(model, folder / f"{name}.safetensors", include_u=preset.include_u)
    arrays = reference(model, known, preset.node_features)
    np.savez_compressed(folder / f"{name}_reference.npz", **arrays)
    print(f"{name}: {asdict(preset)}", file=sys.stderr)
    for i, structure in enumerate(arrays["names"]):
        print(
            f"  {structure}: interaction energy {arrays['interaction_energy'][i]:.6f} eV, "
            f"edges {arrays['num_edges'][i]}",
            file=sys.stderr,
        )


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", choices=sorted(PRESETS), default=sorted(PRESETS))
    parser.add_argument("--structures", nargs="+", required=True, metavar="FILE[@first:last]")
    args = parser.parse_args(arguments)
    import torch

    quiet()
    torch.set_num_threads(1)
    structures = read_structures(args.structures)
    for name in args.names:
        write_preset(name, structures, args.folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
