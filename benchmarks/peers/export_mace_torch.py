"""Exports a mace-torch model to one safetensors file that needs neither torch nor e3nn to read.

Runs in the peers' environment (mace-torch 0.3.16, e3nn 0.4.4):

    python export_mace_torch.py MODEL.model -o WEIGHTS.safetensors [--no-u]

Tensors are those of `model.state_dict()` under their own names, dtypes unchanged. The metadata key
"mace_torch" holds sorted JSON with the configuration and with the conventions that e3nn decided on
when the model was built: instructions in order, their path weights, where each instruction's slice
of the flat weight lies. The layouts:

- `o3.Linear`, flat weight: for each instruction (i_in, i_out) a block [mul_in, mul_out], row-major;
  out[w] += path_weight * sum_u W[u, w] x[u].
- `conv_tp` (mode uvu, weights per edge from the radial network): for each instruction a slice of
  mul weights; message[u] += path_weight * w[u] * sum_ij wigner_3j[i, j, k] x[u, i] Y[j], where
  wigner_3j is e3nn's (unit Frobenius norm), and path_weight includes sqrt(2 l3 + 1).
- `skip_tp` (mode uvw with the one-hot of the elements): per instruction a block
  [mul_in, elements, mul_out]; wigner_3j(l, 0, l) = identity / sqrt(2 l + 1) and the path weight
  sqrt(2 l + 1) / sqrt(mul_in * elements): together W / sqrt(mul_in * elements).
- radial network: x @ (W / sqrt(fan_in)) then cst * silu, without activation on the last layer.
- products: `weights_max` belongs to the highest correlation nu, `weights.i` to nu - 1 - i; each
  [elements, paths, channels]; U_matrix_nu [(2L+1,) 16, ... 16, paths], without the first axis for
  L = 0. Its paths come from coupling one factor after another (mace/tools/cg.py, `_wigner_nj`):
  sqrt(2 L + 1) * wigner_3j(L, L_left, l), nothing filtered, stably sorted by (l, parity) after
  every coupling. It is not symmetric in its factors.
- node energy = E0 + scale * (ZBL + readouts) + shift: ScaleShiftMACE scales the ZBL energy too.
- vectors of an edge: r_receiver - r_sender + shift; harmonics in e3nn's order (y, z, x), normalised
  by component: sum_m Y_lm^2 = 2 l + 1.

It unpickles MODEL, so give it only files that you trust.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

INTERACTIONS = ("RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock")
SCHEMA = 1


class UnsupportedModel(ValueError):
    """The model has a part that the export does not describe."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UnsupportedModel(message)


def _floats(tensor: Any) -> list[float]:
    return [float(x) for x in tensor.detach().reshape(-1).tolist()]


def describe_linear(linear: Any) -> dict[str, Any]:
    """Irreps and instructions of an e3nn Linear, with each block's place in the flat weight."""
    _require(type(linear).__name__ == "Linear", f"expected e3nn Linear, got {type(linear)}")
    _require(linear.bias_numel == 0, "a Linear with biases is not supported")
    blocks, start = [], 0
    for ins in linear.instructions:
        size = ins.path_shape[0] * ins.path_shape[1]
        blocks.append(
            {
                "in": ins.i_in,
                "out": ins.i_out,
                "irrep": str(linear.irreps_in[ins.i_in].ir),
                "shape": list(ins.path_shape),
                "start": start,
                "path_weight": float(ins.path_weight),
            }
        )
        start += size
    _require(start == linear.weight.numel(), "flat weight of a Linear has an unexpected size")
    return {
        "irreps_in": str(linear.irreps_in),
        "irreps_out": str(linear.irreps_out),
        "instructions": blocks,
    }


def describe_tensor_product(product: Any) -> dict[str, Any]:
    """Irreps and instructions of an e3nn TensorProduct (conv_tp or skip_tp)."""
    blocks, start = [], 0
    slices = product.irreps_out.slices()
    for ins in product.instructions:
        ir1, ir2, ir3 = (
            product.irreps_in1[ins.i_in1].ir,
            product.irreps_in2[ins.i_in2].ir,
            product.irreps_out[ins.i_out].ir,
        )
        size = 1
        for n in ins.path_shape:
            size *= n
        blocks.append(
            {
                "in1": ins.i_in1,
                "in2": ins.i_in2,
                "out": ins.i_out,
                "l": [ir1.l, ir2.l, ir3.l],
                "irreps": [str(ir1), str(ir2), str(ir3)],
                "mode": ins.connection_mode,
                "shape": list(ins.path_shape),
                "start": start,
                "out_start": slices[ins.i_out].start,
                "path_weight": float(ins.path_weight),
            }
        )
        start += size
    _require(start == product.weight_numel, "flat weight of a tensor product: unexpected size")
    return {
        "irreps_in1": str(product.irreps_in1),
        "irreps_in2": str(product.irreps_in2),
        "irreps_out": str(product.irreps_out),
        "instructions": blocks,
    }


def describe_radial_network(network: Any) -> dict[str, Any]:
    """Widths of an e3nn FullyConnectedNet, and per layer the factor on W and on the activation."""
    _require(
        type(network).__name__ == "FullyConnectedNet",
        f"radial network {type(network).__name__} is not supported (only FullyConnectedNet)",
    )
    layers = []
    for i in range(len(network.hs) - 1):
        layer = getattr(network, f"layer{i}")
        _require(layer.var_in == 1 and layer.var_out == 1, "radial network with other variances")
        layers.append(
            {
                "weight_factor": float(layer.h_in) ** -0.5,
                "activation": None if layer.act is None else _activation(layer.act),
            }
        )
    return {"widths": [int(h) for h in network.hs], "layers": layers}


def _activation(act: Any) -> dict[str, Any]:
    """Name and constant of e3nn's normalize2mom; the constant is a Monte Carlo estimate there."""
    name = getattr(act.f, "__name__", type(act.f).__name__)
    identity = bool(act._is_id)
    return {"name": name, "factor": 1.0 if identity else float(act.cst)}


def describe_interaction(block: Any) -> dict[str, Any]:
    """One interaction block."""
    name = type(block).__name__
    _require(
        name in INTERACTIONS, f"interaction {name} is not supported; supported: {INTERACTIONS}"
    )
    for config in ("cueq_config", "oeq_config"):
        value = getattr(block, config, None)
        _require(value is None or not value.enabled, f"{config} is enabled: convert to e3nn first")
    _require(str(block.edge_irreps) == str(block.node_feats_irreps), "edge_irreps is not supported")
    modes = {ins.connection_mode for ins in block.conv_tp.instructions}
    _require(modes == {"uvu"}, f"conv_tp modes {modes} are not supported (only uvu)")
    return {
        "class": name,
        "avg_num_neighbors": float(block.avg_num_neighbors),
        "node_feats_irreps": str(block.node_feats_irreps),
        "target_irreps": str(block.target_irreps),
        "hidden_irreps": str(block.hidden_irreps),
        "irreps_mid": str(block.conv_tp.irreps_out),
        "linear_up": describe_linear(block.linear_up),
        "conv_tp": describe_tensor_product(block.conv_tp),
        "conv_tp_weights": describe_radial_network(block.conv_tp_weights),
        "linear": describe_linear(block.linear),
        "skip_tp": describe_tensor_product(block.skip_tp),
    }


def describe_product(block: Any) -> dict[str, Any]:
    """One product basis block: correlation and the number of paths per output irrep and order."""
    _require(
        not getattr(block, "use_agnostic_product", False), "use_agnostic_product is not supported"
    )
    wrapper = block.symmetric_contractions
    _require(
        type(wrapper).__name__ == "SymmetricContraction",
        f"product {type(wrapper).__name__} is not supported (only SymmetricContraction)",
    )
    contractions = []
    for mul_ir, contraction in zip(wrapper.irreps_out, wrapper.contractions, strict=True):
        nu_max = contraction.correlation
        tensors = {str(nu_max): "weights_max"}
        tensors |= {str(nu_max - 1 - i): f"weights.{i}" for i in range(nu_max - 1)}
        contractions.append(
            {
                "irrep": str(mul_ir.ir),
                "correlation": int(nu_max),
                "coupling_irreps": str(contraction.coupling_irreps),
                "paths": {
                    str(nu): int(contraction.U_tensors(nu).shape[-1]) for nu in range(1, nu_max + 1)
                },
                "weight_names": tensors,
            }
        )
    return {
        "irreps_in": str(wrapper.irreps_in),
        "irreps_out": str(wrapper.irreps_out),
        "use_self_connection": bool(block.use_sc),
        "contractions": contractions,
        "linear": describe_linear(block.linear),
    }


def describe_readout(block: Any) -> dict[str, Any]:
    """A linear or nonlinear scalar readout."""
    name = type(block).__name__
    if name == "LinearReadoutBlock":
        return {"class": name, "linear": describe_linear(block.linear)}
    _require(name == "NonLinearReadoutBlock", f"readout {name} is not supported")
    acts = block.non_linearity.acts
    _require(len(acts) == 1, "readout with several activations is not supported")
    return {
        "class": name,
        "linear_1": describe_linear(block.linear_1),
        "activation": _activation(acts[0]),
        "linear_2": describe_linear(block.linear_2),
    }


def describe_model(model: Any) -> dict[str, Any]:
    """Everything beside the tensors that is needed to rebuild the model.

    Raises:
        UnsupportedModel: a class, option or shape outside of what the export describes.
    """
    import torch
    from mace import __version__ as mace_version  # before e3nn 0.4.4, see load_model

    import e3nn  # isort: skip
    from e3nn import o3  # isort: skip

    name = type(model).__name__
    _require(
        name in ("MACE", "ScaleShiftMACE"),
        f"model class {name} is not supported (only MACE and ScaleShiftMACE; not TorchScript)",
    )
    heads = list(getattr(model, "heads", ["Default"]))
    _require(len(heads) == 1, f"several heads are not supported: {heads}")
    for attribute in ("joint_embedding", "embedding_readout"):
        _require(not hasattr(model, attribute), f"{attribute} is not supported")
    _require(not getattr(model, "use_so3", False), "use_so3 is not supported")
    _require(getattr(model, "apply_cutoff", True), "apply_cutoff=False is not supported")
    _require(not getattr(model, "use_last_readout_only", False), "use_last_readout_only")
    _require(
        len(model.readouts) == len(model.interactions),
        "expected one readout after every interaction",
    )
    radial = model.radial_embedding
    basis = type(radial.bessel_fn).__name__
    _require(basis == "BesselBasis", f"radial basis {basis} is not supported (only BesselBasis)")
    transform = "None"
    if hasattr(radial, "distance_transform"):
        transform = type(radial.distance_transform).__name__
        _require(transform == "AgnesiTransform", f"distance transform {transform}")
        transform = "Agnesi"

    hidden = o3.Irreps(str(model.interactions[0].hidden_irreps))
    allowed = [[(0, 1)], [(0, 1), (1, -1)]]
    _require(
        [(ir.l, ir.p) for _, ir in hidden] in allowed and len({mul for mul, _ in hidden}) == 1,
        f'hidden irreps {hidden} are not supported (only "Cx0e" and "Cx0e+Cx1o")',
    )
    harmonics = model.spherical_harmonics
    _require(
        harmonics.normalize and harmonics.normalization == "component",
        "spherical harmonics of another normalisation",
    )
    interactions = [describe_interaction(block) for block in model.interactions]
    products = [describe_product(block) for block in model.products]
    readouts = [describe_readout(block) for block in model.readouts]
    last = readouts[-1]
    _require(last["class"] == "NonLinearReadoutBlock", "expected a nonlinear last readout")
    correlation = [p["contractions"][0]["correlation"] for p in products]
    parameters = {k: v for k, v in model.named_parameters() if v.requires_grad or v.numel()}
    dtypes = {str(v.dtype).removeprefix("torch.") for v in parameters.values()}
    _require(len(dtypes) == 1, f"weights of several dtypes: {sorted(dtypes)}")

    zbl = None
    if hasattr(model, "pair_repulsion"):
        fn = model.pair_repulsion_fn
        zbl = {
            "p": int(fn.p),
            "c": _floats(fn.c),
            "a_exp": float(fn.a_exp),
            "a_prefactor": float(fn.a_prefactor),
            "coulomb_eV_A": 14.3996,
            "bohr_A": 0.529,
            "exponents": [3.2, 0.9423, 0.4028, 0.2016],
            "cutoff": "polynomial cutoff at the sum of ase.data.covalent_radii, half per direction",
        }
    scale, shift = [1.0], [0.0]
    if name == "ScaleShiftMACE":
        scale, shift = _floats(model.scale_shift.scale), _floats(model.scale_shift.shift)
    _require(len(scale) == 1 and len(shift) == 1, "several scales or shifts")
    return {
        "schema": SCHEMA,
        "model_class": name,
        "r_max": float(model.r_max),
        "num_bessel": int(radial.out_dim),
        "radial_type": "bessel",
        "num_polynomial_cutoff": int(radial.cutoff_fn.p),
        "distance_transform": transform,
        "max_ell": int(harmonics._lmax),
        "spherical_harmonics": {
            "irreps": str(harmonics.irreps_out),
            "normalization": harmonics.normalization,
            "normalize": bool(harmonics.normalize),
        },
        "num_interactions": len(interactions),
        "interaction_cls_first": interactions[0]["class"],
        "interaction_cls": interactions[-1]["class"],
        "hidden_irreps": str(hidden),
        "MLP_irreps": str(model.readouts[-1].hidden_irreps),
        "gate": last["activation"]["name"],
        "atomic_numbers": [int(z) for z in model.atomic_numbers.tolist()],
        "atomic_energies": _floats(model.atomic_energies_fn.atomic_energies),
        "avg_num_neighbors": [block["avg_num_neighbors"] for block in interactions],
        "correlation": correlation,
        "radial_MLP": interactions[0]["conv_tp_weights"]["widths"][1:-1],
        "scale": scale[0],
        "shift": shift[0],
        "pair_repulsion": zbl is not None,
        "zbl": zbl,
        "heads": heads,
        "dtype": dtypes.pop(),
        "silu_factor_radial": interactions[0]["conv_tp_weights"]["layers"][0]["activation"][
            "factor"
        ],
        "silu_factor_readout": last["activation"]["factor"],
        "node_embedding": describe_linear(model.node_embedding.linear),
        "interactions": interactions,
        "products": products,
        "readouts": readouts,
        "num_parameters": sum(v.numel() for v in model.parameters()),
        "versions": {
            "mace_torch": mace_version,
            "e3nn": e3nn.__version__,
            "torch": torch.__version__,
        },
    }


def export(model: Any, path: Path, include_u: bool = True) -> dict[str, Any]:
    """Writes `model` to the safetensors file `path`; returns the metadata.

    Args:
        include_u: keep the U_matrix buffers (the generalised Clebsch-Gordan coefficients, which
            follow from max_ell and the correlation alone, and are most of a small file).
    """
    from safetensors.torch import save_file

    metadata = describe_model(model)
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in model.state_dict().items()
        if tensor.numel() and (include_u or ".U_matrix_" not in name)
    }
    metadata["u_matrices_included"] = include_u
    text = json.dumps(metadata, sort_keys=True, ensure_ascii=True)
    save_file(tensors, str(path), metadata={"mace_torch": text})
    return metadata


def load_model(path: Path) -> Any:
    """Unpickles a mace-torch .model file onto the CPU."""
    import mace  # noqa: F401  sets what lets e3nn 0.4.4 load its constants under torch >= 2.6
    import torch

    model = torch.load(path, map_location="cpu", weights_only=False)
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedModel(f"{path} is a compiled TorchScript model; give the .model file")
    return model


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 written, 2 not supported."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--no-u", action="store_true", help="leave the U_matrix buffers out")
    args = parser.parse_args(arguments)
    try:
        metadata = export(load_model(args.model), args.out, include_u=not args.no_u)
    except UnsupportedModel as error:
        print(f"{args.model}: not exported: {error}", file=sys.stderr)
        return 2
    print(
        f"{args.out}: {metadata['model_class']} {metadata['hidden_irreps']}, "
        f"{metadata['num_parameters']} parameters, {metadata['dtype']}",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
