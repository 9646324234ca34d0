"""Opening and saving potentials: one safetensors file each, see `kohn.modelfile`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pydantic

from kohn import modelfile
from kohn.errors import ModelFileError, Place
from kohn.models import FAMILIES
from kohn.potential.potential import Potential

UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³, positive in tension"}


def save(potential: Potential, path: str | Path) -> None:
    """Write a potential to one file, atomically; the same potential gives the same bytes."""
    modelfile.write(path, arrays_by_name(potential.model), metadata(potential))


def to_bytes(potential: Potential) -> bytes:
    """The bytes that `save` writes."""
    return modelfile.to_bytes(arrays_by_name(potential.model), metadata(potential))


def metadata(potential: Potential) -> dict[str, Any]:
    """What a model file says of its potential beside the weights."""
    model = potential.model
    return {
        "kind": "potential",
        "config": model.config.model_dump(mode="json"),
        "elements": list(model.elements),
        "neighbours": model.neighbours,
        "e0s": {str(z): e for z, e in sorted(potential.e0s.items())},
        "units": UNITS,
        "cutoff": model.cutoff,
        "dtype": np.dtype(potential.dtype).name,
        "conservative": True,
        "provenance": potential.provenance,
    }


def load(path: str | Path) -> Potential:
    """Open a potential.

    Raises:
        ModelFileError: no such file, damaged, or not a potential that this version knows.
    """
    if Path(path).is_dir():
        path = Path(path) / "model.safetensors"
    arrays, meta = modelfile.read(path)
    where = Place(file=path)
    if meta.get("kind") == "checkpoint":
        raise ModelFileError(
            "this is the checkpoint of a training run, not a model",
            where=where,
            fix="open model.safetensors beside it, or go on with `kohn train --resume`",
        )
    try:
        config_type, model_type = FAMILIES[meta["config"]["family"]]
        config = config_type.model_validate(meta["config"])
        skeleton = eqx.filter_eval_shape(
            model_type.random,
            jax.random.key(0),
            config,
            tuple(meta["elements"]),
            neighbours=meta["neighbours"],
            dtype=np.dtype(meta["dtype"]).type,
        )
        e0s = {int(z): float(e) for z, e in meta["e0s"].items()}
    except (KeyError, TypeError, pydantic.ValidationError) as error:
        raise ModelFileError(
            "the model file describes a model that this version does not know",
            where=where,
            received=str(error),
            fix=f"open it with Kohn {meta.get('kohn')}, which wrote it",
        ) from error
    return Potential(filled(skeleton, arrays, where), e0s, meta.get("provenance", {}))


def arrays_by_name(tree: Any) -> dict[str, np.ndarray]:
    """Arrays of a tree under names such as 'interactions.0.up.1.weight'."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def filled(skeleton: Any, arrays: Mapping[str, np.ndarray], where: Place) -> Any:
    """`skeleton`, a tree of shapes, with the arrays of these names.

    Raises:
        ModelFileError: an array is missing, superfluous, or of another shape.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(skeleton)
    names = [_name(path) for path, _ in leaves]
    if set(names) != set(arrays):
        raise ModelFileError(
            "the weights do not fit the configuration",
            where=where,
            expected=f"also {sorted(set(names) - set(arrays))}",
            received=f"also {sorted(set(arrays) - set(names))}",
        )
    for name, (_, leaf) in zip(names, leaves, strict=True):
        if arrays[name].shape != leaf.shape or arrays[name].dtype != leaf.dtype:
            raise ModelFileError(
                f"the array {name} has another shape or type than the configuration says",
                where=where,
                expected=f"{leaf.dtype} {leaf.shape}",
                received=f"{arrays[name].dtype} {arrays[name].shape}",
            )
    return jax.tree.unflatten(treedef, [jnp.asarray(arrays[name]) for name in names])


def _name(path: tuple) -> str:
    parts = (getattr(p, "name", getattr(p, "idx", getattr(p, "key", None))) for p in path)
    return ".".join(str(p) for p in parts)
