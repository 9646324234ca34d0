"""Read the weights of mace-torch models.

A mace-torch model is a pickle that opens only in its own environment; there,
``benchmarks/peers/export_mace_torch.py`` writes it as a safetensors file with its settings,
and `from_mace_torch` turns that file into a Kohn model that computes the same function.

This module accounts for the differences between mace-torch and Kohn:
    - e3nn's SiLU factor is a Monte Carlo estimate (1.67918, exact 1.67653): the next layer's
      weights are multiplied by the ratio;
    - mace-torch keeps linearly dependent products (23 cubic invariants for l ≤ 3, of which 8
      are independent): the weights are projected onto Kohn's, which changes no value;
    - weights of paths and mixing layers are flat in mace-torch, arrays by degree in Kohn;
    - e3nn's axes are Kohn's renamed, and mace-torch's edges point the other way: a rotation and
      a reflection of everything, under which energies are invariant.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from kohn.errors import ModelFileError, Place
from kohn.models import Mace, MaceConfig
from kohn.models.layers import SILU_NORM, Linear, RadialNetwork
from kohn.models.mace import Product
from kohn.models.messages import ElementLinear, Interaction
from kohn.o3 import evaluate_chain, symmetric_product
from kohn.potential import Potential

Tensors = dict[str, np.ndarray]
_OPPOSITE = {
    *((1, l, l) for l in range(2, 9)),
    *((3, 4, 6), (3, 5, 7), (3, 6, 8), (4, 4, 5), (4, 5, 6), (4, 6, 7), (4, 7, 8)),
}
"""Couplings of degrees, in any order, whose sign in e3nn 0.4.4 differs from Kohn and e3nn-jax."""
_BLOCKS = ("RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock")


def from_mace_torch(path: str | Path, *, dtype: type | None = None) -> Potential:
    """Read a potential from a file that ``export_mace_torch.py`` wrote.

    Args:
        path: the exported safetensors file.
        dtype: float32 or float64; the precision of the file by default.

    Raises:
        ModelFileError: the file is not such an export, or Kohn does not have this variant of MACE.
    """
    tensors, settings = _read(path)
    try:
        return _potential(tensors, settings, Place(file=path), dtype)
    except KeyError as error:
        raise ModelFileError(
            "the exported model lacks a part", where=Place(file=path), expected=str(error)
        ) from error


def _potential(
    tensors: Tensors, settings: dict[str, Any], where: Place, dtype: type | None
) -> Potential:
    config = _configuration(settings, tensors, where)
    dtype = np.dtype(settings["dtype"]).type if dtype is None else dtype
    elements = tuple(int(z) for z in settings["atomic_numbers"])
    mace = Mace(
        config=config,
        elements=elements,
        neighbours=float(settings["avg_num_neighbors"][0]),
        embedding=_linear(_matrix(tensors["node_embedding.linear.weight"], len(elements))),
        select=_select(tensors, config, len(elements)),
        interactions=tuple(
            _interaction(tensors, settings, config, t) for t in range(config.layers)
        ),
        products=tuple(_product(tensors, config, t, len(elements)) for t in range(config.layers)),
        readouts=tuple(
            _linear(tensors[f"readouts.{t}.linear.weight"].reshape(config.channels, 1))
            for t in range(config.layers - 1)
        ),
        last_readout=_last_readout(tensors, settings, config),
        scale=jnp.asarray(tensors["scale_shift.scale"].reshape(())),
    )
    mace = _cast(mace, dtype)
    shift = float(tensors["scale_shift.shift"].reshape(()))
    e0 = np.asarray(settings["atomic_energies"], np.float64).reshape(-1) + shift
    return Potential(
        model=mace,
        e0s=dict(zip(elements, e0.tolist(), strict=True)),
        provenance={"converted_from": "mace-torch", "settings": settings},
    )


def _read(path: str | Path) -> tuple[Tensors, dict[str, Any]]:
    where = Place(file=path)
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            text = (file.metadata() or {}).get("mace_torch")
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelFileError("cannot be opened", where=where, received=str(error)) from error
    if text is None:
        raise ModelFileError(
            "not an exported mace-torch model",
            where=where,
            expected="metadata under the key 'mace_torch'",
            fix="export it with benchmarks/peers/export_mace_torch.py in mace-torch's environment",
        )
    return tensors, json.loads(text)


def _configuration(settings: dict[str, Any], tensors: Tensors, where: Place) -> MaceConfig:
    def refuse(setting: str, received: Any) -> ModelFileError:
        return ModelFileError(f"{setting} is not supported", where=where, received=str(received))

    for key in ("interaction_cls", "interaction_cls_first"):
        if settings[key] not in _BLOCKS:
            raise refuse(key, settings[key])
    if settings["distance_transform"] not in (None, "None"):
        raise refuse("distance_transform", settings["distance_transform"])
    if settings["gate"] != "silu" or len(settings["heads"]) != 1:
        raise refuse("gate or heads", (settings["gate"], settings["heads"]))
    if len(set(settings["correlation"])) != 1 or settings["correlation"][0] > 3:
        raise refuse("correlation", settings["correlation"])
    cutoff, n_bessel = float(settings["r_max"]), int(settings["num_bessel"])
    frequencies = tensors["radial_embedding.bessel_fn.bessel_weights"]
    if not np.allclose(frequencies, np.arange(1, n_bessel + 1) * np.pi / cutoff, rtol=1e-6):
        raise refuse("a trained radial basis", frequencies)
    parts = settings["hidden_irreps"].split("+")
    names = tuple(part.split("x")[1] for part in parts)
    channels = {int(part.split("x")[0]) for part in parts}
    if names != ("0e", "1o", "2e")[: len(names)] or len(channels) != 1:
        raise refuse("hidden_irreps", settings["hidden_irreps"])
    return MaceConfig(
        cutoff=cutoff,
        channels=channels.pop(),
        hidden_l_max=len(names) - 1,
        l_max=int(settings["max_ell"]),
        correlation=int(settings["correlation"][0]),
        layers=int(settings["num_interactions"]),
        n_bessel=n_bessel,
        radial_widths=tuple(settings["radial_MLP"]),
        cutoff_power=int(settings["num_polynomial_cutoff"]),
        readout_width=int(settings["MLP_irreps"].split("x")[0]),
        zbl=bool(settings["pair_repulsion"]),
        zbl_factor=float(tensors["scale_shift.scale"].reshape(())),
        element_maps=True,
        residual_first=settings["interaction_cls_first"] == _BLOCKS[1],
    )


def _linear(weight: np.ndarray) -> Linear:
    return Linear(jnp.asarray(weight))


def _matrix(flat: np.ndarray, rows: int) -> np.ndarray:
    return flat.reshape(rows, -1)


def _select(tensors: Tensors, config: MaceConfig, n_species: int) -> tuple[ElementLinear, ...]:
    """Return the layers, one per degree, that mix channels by element after the first messages,
    from [channels, elements, channels] by degree in mace-torch; () if the model has none."""
    if config.residual_first:
        return ()
    return _element_linears(
        tensors["interactions.0.skip_tp.weight"], config.channels, n_species, config.l_max + 1
    )


def _element_linears(flat: np.ndarray, c: int, s: int, count: int) -> tuple[ElementLinear, ...]:
    blocks = flat.reshape(count, c, s, c)
    return tuple(ElementLinear(jnp.asarray(np.swapaxes(block, 0, 1))) for block in blocks)


def _interaction(
    tensors: Tensors, settings: dict[str, Any], config: MaceConfig, layer: int
) -> Interaction:
    name, c = f"interactions.{layer}", config.channels
    paths = config.paths(layer)
    theirs = [tuple(i["l"]) for i in settings["interactions"][layer]["conv_tp"]["instructions"]]
    if theirs != list(paths):
        raise ModelFileError("paths in another order", expected=str(paths), received=str(theirs))
    up = tensors[f"{name}.linear_up.weight"].reshape(-1, c, c)
    depth = len(config.radial_widths)
    layers = [tensors[f"{name}.conv_tp_weights.layer{i}.weight"] for i in range(depth + 1)]
    ratio = _silu_ratio(settings["interactions"][layer]["conv_tp_weights"]["layers"][0])
    layers = [layers[0], *(w * ratio for w in layers[1:])]
    flat, mix, start = tensors[f"{name}.linear.weight"], [], 0
    for l in range(config.l_max + 1):
        n_in = c * sum(p[2] == l for p in paths)
        mix.append(_linear(flat[start : start + n_in * c].reshape(n_in, c)))
        start += n_in * c
    return Interaction(
        tuple(_linear(w) for w in up),
        RadialNetwork(tuple(_linear(w) for w in layers[:-1])),
        _linear(layers[-1]),
        tuple(mix),
    )


def _silu_ratio(layer: dict[str, Any]) -> float:
    return float(layer["activation"]["factor"]) / SILU_NORM


def _product(tensors: Tensors, config: MaceConfig, layer: int, n_species: int) -> Product:
    name, c = f"products.{layer}", config.channels
    degrees = config.result_degrees(layer)
    weights = []
    for i, degree in enumerate(degrees):
        prefix = f"{name}.symmetric_contractions.contractions.{i}"
        n = config.correlation
        theirs = [tensors[f"{prefix}.weights.{n - 1 - nu}"] for nu in range(1, n)]
        theirs.append(tensors[f"{prefix}.weights_max"])
        weights.append(
            tuple(
                np.einsum("spc,pq->sqc", w, projection(config.l_max, degree, nu))
                for nu, w in enumerate(theirs, start=1)
            )
        )
    linear = tensors[f"{name}.linear.weight"].reshape(len(degrees), c, c)
    skip: tuple[ElementLinear, ...] = ()
    if layer > 0 or config.residual_first:
        flat = tensors[f"interactions.{layer}.skip_tp.weight"]
        skip = _element_linears(flat, c, n_species, flat.size // (c * c * n_species))
    return Product(tuple(weights), tuple(_linear(w) for w in linear), skip)


def projection(l_max: int, degree: int, order: int) -> np.ndarray:
    """Return the matrix P that turns mace-torch's weights into Kohn's: w_Kohn = w_mace_torch P.

    The weights belong to products of tensors. Products of both codes are evaluated at random
    tensors, and the linear relation between their values is solved for; the relation is exact.

    Returns:
        float64 [paths of mace-torch, paths of Kohn].
    """
    rng = np.random.default_rng(0)
    theirs = list(_mace_torch_chains(l_max, degree, order))
    ours = symmetric_product(l_max, degree, order).paths[order - 1]
    a = {l: tuple(rng.normal(size=(2 * l + 1, 4 * len(theirs)))) for l in range(l_max + 1)}

    def values(chains: Iterable[tuple[int, ...]]) -> np.ndarray:
        return np.stack([np.concatenate(evaluate_chain(chain, a)) for chain in chains], axis=1)

    v_ours, v_theirs = values(ours), values(theirs) * [_sign(chain) for chain in theirs]
    solution = np.linalg.lstsq(v_ours, v_theirs, rcond=None)[0]
    assert np.abs(v_ours @ solution - v_theirs).max() < 1e-9 * np.abs(v_theirs).max()
    return solution.T


def _sign(chain: tuple[int, ...]) -> int:
    """Return the product of the signs of e3nn's couplings along a chain, relative to Kohn's."""
    sign, left = 1, chain[0]
    for l, out in zip(chain[1::2], chain[2::2], strict=True):
        sign *= -1 if tuple(sorted((left, l, out))) in _OPPOSITE else 1
        left = out
    return sign


def _mace_torch_chains(l_max: int, degree: int, order: int) -> list[tuple[int, ...]]:
    """Return mace-torch's chains of couplings in the order of its U matrices (its `_wigner_nj`)."""
    chains: list[tuple[tuple[int, int], tuple[int, ...]]] = [
        ((l, (-1) ** l), (l,)) for l in range(l_max + 1)
    ]
    for _ in range(order - 1):
        longer = []
        for (left, parity), chain in chains:
            for l in range(l_max + 1):
                for out in range(abs(left - l), left + l + 1):
                    longer.append(((out, parity * (-1) ** l), (*chain, l, out)))
        chains = sorted(longer, key=lambda item: item[0])
    return [chain for key, chain in chains if key == (degree, (-1) ** degree)]


def _last_readout(
    tensors: Tensors, settings: dict[str, Any], config: MaceConfig
) -> tuple[Linear, Linear]:
    name = f"readouts.{config.layers - 1}"
    ratio = float(settings["silu_factor_readout"]) / SILU_NORM
    first = tensors[f"{name}.linear_1.weight"].reshape(config.channels, -1)
    second = tensors[f"{name}.linear_2.weight"].reshape(-1, 1)
    return _linear(first), _linear(second * ratio)


def _cast(mace: Mace, dtype: type) -> Mace:
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x), dtype), mace)
