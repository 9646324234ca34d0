"""Open and save potentials and models of properties, each as one file; see `kohn.modelfile`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import equinox as eqx
import jax
import numpy as np
import pydantic

from kohn import modelfile
from kohn.errors import ModelFileError, Place
from kohn.models import FAMILIES, is_conservative
from kohn.models.heads.properties import PropertyConfig, PropertyNetwork
from kohn.potential.potential import Potential
from kohn.potential.properties import PropertyModel
from kohn.sections import in_words
from kohn.typing import Document, Tree

T = TypeVar("T")

UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³, positive in tension"}


def save(potential: Potential | PropertyModel, path: str | Path) -> None:
    """Write a potential or a model of properties atomically; equal ones give equal files."""
    modelfile.write(path, arrays_by_name(potential.model), metadata(potential))


def to_bytes(potential: Potential | PropertyModel) -> bytes:
    """Return the bytes that `save` writes."""
    return modelfile.to_bytes(arrays_by_name(potential.model), metadata(potential))


def metadata(potential: Potential | PropertyModel) -> Document:
    """Return the metadata that a model file stores in addition to the weights."""
    model = potential.model
    common = {
        "config": model.config.model_dump(mode="json"),
        "elements": list(model.elements),
        "neighbours": model.neighbours,
        "cutoff": model.cutoff,
        "dtype": np.dtype(potential.dtype).name,
        "provenance": potential.provenance,
    }
    if isinstance(potential, PropertyModel):
        return common | {
            "kind": "properties",
            "dipole_origin": potential.origin,
            "charge": potential.charge,
            "units": {"length": "Å", **potential.units},
        }
    return common | {
        "kind": "potential",
        "e0s": {str(z): e for z, e in sorted(potential.e0s.items())},
        "units": UNITS,
        "conservative": is_conservative(model),
    }


def load(path: str | Path) -> Potential | PropertyModel:
    """Open a potential or a model of properties from its file, or from the folder of its run.

    Raises:
        ModelFileError: the file is missing, damaged, or not a model that this version knows.
    """
    if Path(path).is_dir():
        path = Path(path) / "model.safetensors"
    arrays, meta = modelfile.read(path)
    where = Place(file=path)
    if meta.get("kind") == "checkpoint":
        raise ModelFileError(
            "this is the checkpoint of a training run, not a model",
            where=where,
            fix="open model.safetensors in its folder, or go on with `kohn train --resume`",
        )
    try:
        of_properties = meta.get("kind") == "properties"
        families = {"properties": (PropertyConfig, PropertyNetwork)} if of_properties else FAMILIES
        config_type, model_type = families[meta["config"]["family"]]
        skeleton = eqx.filter_eval_shape(
            model_type.init,
            jax.random.key(0),
            config_type.model_validate(_configuration(meta)),
            tuple(meta["elements"]),
            neighbours=meta["neighbours"],
            dtype=np.dtype(meta["dtype"]).type,
        )
        provenance = meta.get("provenance", {})
        if of_properties:
            units = {t: u for t, u in meta["units"].items() if t != "length"}
            ion_settings = meta["dipole_origin"], meta["charge"]
            return PropertyModel(filled(skeleton, arrays, where), *ion_settings, units, provenance)
        e0s = {int(z): float(e) for z, e in meta["e0s"].items()}
    except (KeyError, TypeError, pydantic.ValidationError) as error:
        raise ModelFileError(
            "the model file describes a model that this version does not know",
            where=where,
            received=_in_words(error),
            fix=f"open it with Kohn {meta.get('kohn')}, which wrote it",
        ) from error
    return Potential(filled(skeleton, arrays, where), e0s, provenance)


def _configuration(meta: Document) -> Document:
    """Return the configuration of the model; that of an earlier format is completed.

    Format 1: every MACE had linear maps of their own for each element.
    """
    config = meta["config"]
    if meta["format"] > 1:
        return config
    if "body" in config:  # of a model of properties
        return {**config, "body": _configuration({**meta, "config": config["body"]})}
    maps = {"element_maps": True} if config["family"] in ("mace", "mace-direct") else {}
    return {**maps, **config}


def _in_words(error: Exception) -> str:
    if isinstance(error, pydantic.ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {in_words(first)}"
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def load_potential(path: str | Path) -> Potential:
    """Open a potential from its file, or from the folder of its run.

    Raises:
        ModelFileError: see `load`; or the file is a model of properties.
    """
    model = load(path)
    if isinstance(model, PropertyModel):
        raise _not_of_energies(model, path)
    return model


def as_potential(model: T | str | Path) -> T | Potential:
    """Return a model that predicts energies: open it if it is named, else refuse other models.

    Raises:
        ModelFileError: see `load_potential`; or `model` is a model of properties.
    """
    if isinstance(model, (str, Path)):
        return load_potential(model)
    if isinstance(model, PropertyModel):
        raise _not_of_energies(model)
    return model


def _not_of_energies(model: PropertyModel, path: str | Path | None = None) -> ModelFileError:
    return ModelFileError(
        f"this is a model of {' and '.join(model.targets)}, not of energies",
        where=Place(file=path),
        fix="name a potential; `kohn predict` and `kohn eval` take models of properties",
    )


def arrays_by_name(tree: Tree) -> dict[str, np.ndarray]:
    """Return the arrays of a pytree by name, for example 'interactions.0.up.1.weight'."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def filled(skeleton: Tree, arrays: Mapping[str, np.ndarray], where: Place) -> Tree:
    """Return the pytree `skeleton`, whose leaves have only shape and dtype, with the named arrays.

    Raises:
        ModelFileError: an array is missing, superfluous, or has another shape or type.
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
    return jax.tree.unflatten(treedef, jax.device_put([arrays[name] for name in names]))


def _name(path: tuple) -> str:
    parts = (getattr(p, "name", getattr(p, "idx", getattr(p, "key", None))) for p in path)
    return ".".join(str(p) for p in parts)
