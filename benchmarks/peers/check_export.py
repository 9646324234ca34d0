"""Checks an export against its reference: rebuilds the energy from the safetensors file alone.

Plain numpy with ASE's neighbour list; of e3nn it uses only the harmonics and wigner_3j. It is
the export's documentation as running code, and slow. Runs in the peers' environment:

    python check_export.py NAME.safetensors NAME_reference.npz
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np


def linear(spec: dict[str, Any], weight: np.ndarray, blocks: list[np.ndarray]) -> list[np.ndarray]:
    """Applies an e3nn Linear to [atoms, mul, 2l+1] blocks, one for each input irrep."""
    out: dict[int, np.ndarray] = {}
    for ins in spec["instructions"]:
        rows, columns = ins["shape"]
        w = weight[ins["start"] : ins["start"] + rows * columns].reshape(rows, columns)
        part = ins["path_weight"] * np.einsum("uw,nui->nwi", w, blocks[ins["in"]])
        out[ins["out"]] = out.get(ins["out"], 0.0) + part
    return [out[i] for i in sorted(out)]


def selector(
    spec: dict[str, Any], weight: np.ndarray, blocks: list[np.ndarray], element: np.ndarray
) -> list[np.ndarray]:
    """Applies skip_tp, a Linear whose matrix depends on the element of the atom."""
    out: dict[int, np.ndarray] = {}
    for ins in spec["instructions"]:
        rows, elements, columns = ins["shape"]
        size = rows * elements * columns
        w = weight[ins["start"] : ins["start"] + size].reshape(ins["shape"])
        factor = ins["path_weight"] / np.sqrt(2 * ins["l"][0] + 1)
        part = factor * np.einsum("unw,nui->nwi", w[:, element], blocks[ins["in1"]])
        out[ins["out"]] = out.get(ins["out"], 0.0) + part
    return [out[i] for i in sorted(out)]


def silu(x: np.ndarray) -> np.ndarray:
    """x / (1 + exp(-x))."""
    return x / (1.0 + np.exp(-x))


def polynomial_cutoff(r: np.ndarray, r_max: np.ndarray | float, p: int) -> np.ndarray:
    """MACE's envelope, zero from r_max on."""
    x = r / r_max
    value = (
        1
        - (p + 1) * (p + 2) / 2 * x**p
        + p * (p + 2) * x ** (p + 1)
        - p * (p + 1) / 2 * x ** (p + 2)
    )
    return value * (r < r_max)


def interaction_energy(
    tensors: dict[str, np.ndarray],
    meta: dict[str, Any],
    numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
) -> float:
    """Sum over atoms of scale * (ZBL + readouts) + shift, in eV."""
    import mace  # noqa: F401  before e3nn 0.4.4
    import torch
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    from e3nn import o3  # isort: skip

    atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=pbc)
    sender, receiver, vectors = neighbor_list("ijD", atoms, meta["r_max"])
    r = np.linalg.norm(vectors, axis=1)
    element = np.array([meta["atomic_numbers"].index(int(z)) for z in numbers])
    n = len(numbers)
    harmonics = o3.spherical_harmonics(
        list(range(meta["max_ell"] + 1)), torch.tensor(vectors), True, "component"
    ).numpy()
    frequency = tensors["radial_embedding.bessel_fn.bessel_weights"]
    bessel = np.sqrt(2.0 / meta["r_max"]) * np.sin(r[:, None] * frequency) / r[:, None]
    cutoff = polynomial_cutoff(r, meta["r_max"], meta["num_polynomial_cutoff"])
    edge_features = bessel * cutoff[:, None]

    one_hot = np.eye(len(meta["atomic_numbers"]))[element][:, :, None]
    weight = tensors["node_embedding.linear.weight"]
    features = linear(meta["node_embedding"], weight, [one_hot])
    node_energy = np.zeros(n)
    if meta["pair_repulsion"]:
        z = meta["zbl"]
        radii = tensors["pair_repulsion_fn.covalent_radii"]
        zi, zj = numbers[sender], numbers[receiver]
        a = z["a_prefactor"] * z["bohr_A"] / (zi ** z["a_exp"] + zj ** z["a_exp"])
        phi = sum(c * np.exp(-b * r / a) for c, b in zip(z["c"], z["exponents"], strict=True))
        envelope = polynomial_cutoff(r, radii[zi] + radii[zj], z["p"])
        np.add.at(node_energy, receiver, 0.5 * z["coulomb_eV_A"] * zi * zj / r * phi * envelope)

    for t, (block, product) in enumerate(zip(meta["interactions"], meta["products"], strict=True)):
        name = f"interactions.{t}"
        residual = block["class"] == "RealAgnosticResidualInteractionBlock"
        skip = tensors[f"{name}.skip_tp.weight"]
        sc = selector(block["skip_tp"], skip, features, element) if residual else None
        up = linear(block["linear_up"], tensors[f"{name}.linear_up.weight"], features)
        w = edge_features
        for i, layer in enumerate(block["conv_tp_weights"]["layers"]):
            w = w @ (tensors[f"{name}.conv_tp_weights.layer{i}.weight"] * layer["weight_factor"])
            if layer["activation"]:
                w = layer["activation"]["factor"] * silu(w)
        messages = []
        for ins in block["conv_tp"]["instructions"]:
            l1, l2, l3 = ins["l"]
            coupling = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()
            mul = ins["shape"][0]
            edge = np.einsum(
                "eu,eui,ej,ijk->euk",
                w[:, ins["start"] : ins["start"] + mul],
                up[ins["in1"]][sender],
                harmonics[:, l2 * l2 : (l2 + 1) ** 2],
                coupling,
                optimize=True,
            )
            message = np.zeros((n, mul, 2 * l3 + 1))
            np.add.at(message, receiver, ins["path_weight"] * edge)
            messages.append(message)
        blocks = linear(block["linear"], tensors[f"{name}.linear.weight"], messages)
        blocks = [b / block["avg_num_neighbors"] for b in blocks]
        if not residual:
            blocks = selector(block["skip_tp"], skip, blocks, element)
        a_basis = np.concatenate(blocks, axis=2)
        outputs = []
        for c, contraction in enumerate(product["contractions"]):
            prefix = f"products.{t}.symmetric_contractions.contractions.{c}"
            total = 0.0
            for nu, weight_name in contraction["weight_names"].items():
                u = tensors[f"{prefix}.U_matrix_{nu}"]
                u = u if contraction["irrep"] != "0e" else u[None]
                weight = tensors[f"{prefix}.{weight_name}"][element]
                powers = ["nca", "ncb", "ncd"][: int(nu)]
                total = total + np.einsum(
                    f"m{''.join(s[2] for s in powers)}k,nkc,{','.join(powers)}->ncm",
                    u,
                    weight,
                    *[a_basis] * int(nu),
                    optimize=True,
                )
            outputs.append(total)
        features = linear(product["linear"], tensors[f"products.{t}.linear.weight"], outputs)
        if sc is not None:
            # a first block's self-connection is scalar only: its vectors are zero
            features = [f + s for f, s in zip(features, sc, strict=False)] + features[len(sc) :]
        readout = meta["readouts"][t]
        if readout["class"] == "LinearReadoutBlock":
            weight = tensors[f"readouts.{t}.linear.weight"]
            node_energy += linear(readout["linear"], weight, features)[0][:, 0, 0]
        else:
            weight = tensors[f"readouts.{t}.linear_1.weight"]
            h = linear(readout["linear_1"], weight, features)[0]
            h = readout["activation"]["factor"] * silu(h)
            weight = tensors[f"readouts.{t}.linear_2.weight"]
            node_energy += linear(readout["linear_2"], weight, [h])[0][:, 0, 0]
    return float(np.sum(meta["scale"] * node_energy + meta["shift"]))


def main(arguments: list[str] | None = None) -> int:
    """Command line; 1 when an energy differs by more than the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export")
    parser.add_argument("reference")
    parser.add_argument("--tolerance", type=float, default=1e-9, help="eV")
    args = parser.parse_args(arguments)
    from mace_models import quiet
    from safetensors import safe_open

    quiet()
    with safe_open(args.export, "np") as file:
        meta = json.loads(file.metadata()["mace_torch"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if not meta["u_matrices_included"]:
        print(f"{args.export}: exported without U matrices, nothing checked", file=sys.stderr)
        return 0
    reference, worst = np.load(args.reference), 0.0
    for i, name in enumerate(reference["names"]):
        part = slice(reference["atom_start"][i], reference["atom_start"][i + 1])
        energy = interaction_energy(
            tensors,
            meta,
            reference["numbers"][part],
            reference["positions"][part],
            reference["cell"][i],
            reference["pbc"][i],
        )
        error = abs(energy - float(reference["interaction_energy"][i]))
        worst = max(worst, error)
        print(f"{name}: {energy:.9f} eV, off by {error:.1e}")
    return int(not worst <= args.tolerance)


if __name__ == "__main__":
    raise SystemExit(main())
