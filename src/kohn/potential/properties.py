"""Predict dipoles, polarizabilities and scalars of structures with a trained network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import equinox as eqx
import jax
import numpy as np

from kohn.compilation import compiled
from kohn.errors import ConfigError, InputError
from kohn.graphs import check_geometry, species_index
from kohn.models.heads.properties import PropertyNetwork, cartesian
from kohn.potential.potential import batched, warn_of_extrapolation
from kohn.potential.trained_network import TrainedNetwork
from kohn.structures import Prediction, Readable, Structure, structures_of
from kohn.structures.properties import PREDICTED_BY
from kohn.typing import Document, Float

Origin = Literal["positions", "mass"] | None
"""Origin of the dipoles of ions: the origin of the coordinates, or the centre of mass."""

CHARGE_KEYS = ("charge", "total_charge", "totalcharge")


@dataclass(frozen=True, eq=False, repr=False)
class PropertyModel(TrainedNetwork):
    """A network that predicts properties, with their origin and units, and its provenance.

    Attributes:
        model: the network, see `kohn.models.heads.properties`.
        origin: origin of the dipoles of ions in files and predictions, see `Origin`.
        charge: total charge of molecules whose frames do not state it, e; None means neutral.
        units: name of a target -> its unit.
        provenance: how the network was made: data, checksums, settings, versions.
    """

    model: PropertyNetwork
    origin: Origin = None
    charge: float | None = None
    units: dict[str, str] = field(default_factory=dict)
    provenance: Document = field(default_factory=dict)

    @property
    def _description(self) -> str:
        return f"model of {', '.join(self.targets)}"

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the properties that the model predicts."""
        return self.model.config.targets

    @property
    def dtype(self) -> type:
        """The type in which the network computes: float32 or float64."""
        return self.model.dtype

    @cached_property
    def _evaluate(self) -> Callable:
        weights, rest = eqx.partition(self.model, eqx.is_array)
        function = compiled(lambda w, graph: eqx.combine(w, rest)(graph))
        return lambda graph: function(weights, graph)

    def predict(
        self,
        structures: Readable,
        *,
        slots: int = 65_536,
        uncertainty: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """Predict properties, float64, of structures in their order: dipoles [3],
        polarizabilities [3, 3], scalars [], in `units`.

        Args:
            structures: anything that `kohn.read` takes; computed in batches of similar size.
            slots: largest number of edges in a batch, padding included; it bounds memory.
            uncertainty: must be False, because models of properties have no uncertainty yet.
            advance: called with the number of structures done since the last call.

        Raises:
            InputError: an element that the model has not seen; an impossible geometry.
            ConfigError: `uncertainty` is True.
        """
        if uncertainty:
            raise ConfigError(
                "models of properties give no uncertainty", fix="leave the uncertainty out"
            )
        structures = structures_of(structures)
        for s in structures:  # before any computation
            species_index(s, self.elements)
            check_geometry(s, self.cutoff)
        properties: list[dict[str, np.ndarray]] = [{} for _ in structures]
        outside: list[tuple[str, ...]] = [()] * len(structures)
        charges = [charge_of(s, self.charge) or 0.0 for s in structures]
        batches = batched(
            structures,
            self.elements,
            self.domain.rows,
            self.dtype,
            slots,
            charges if self.model.config.charged else None,
        )
        for indices, neighbourhoods, graph in batches:
            for i, h in zip(indices, neighbourhoods, strict=True):
                outside[i] = self.domain.outside(structures[i], h)
            parts = jax.device_get(self._evaluate(graph))
            values = {t: np.asarray(cartesian(t, parts[t])) for t in self.targets}
            for g, i in enumerate(indices):
                properties[i] = {t: np.array(v[g], np.float64) for t, v in values.items()}
                if "dipole" in properties[i]:
                    mu, s = properties[i]["dipole"], structures[i]
                    properties[i]["dipole"] = from_centre_of_mass(mu, s, charges[i], self.origin)
            if advance is not None:
                advance(len(indices))
        warn_of_extrapolation(structures, outside)
        return [Prediction(v, o) for v, o in zip(properties, outside, strict=True)]


def label_of(structure: Structure, target: str) -> np.ndarray | None:
    """Return the label of a structure for a target: a label that `kohn.read` knows, else the number
    under the key REF_<target>, else under <target> if it is not a prediction; else None.

    Raises:
        InputError: the value under the key is not a finite number.
    """
    if target in structure.labels:
        return np.asarray(structure.labels[target])
    key = f"REF_{target}" if f"REF_{target}" in structure.info else target
    if key not in structure.info or (key == target and PREDICTED_BY in structure.info):
        return None
    try:
        value = np.asarray(structure.info[key], np.float64)
    except (TypeError, ValueError):
        value = np.array([np.nan, np.nan])
    if value.shape != () or not np.isfinite(value):
        raise InputError(
            f"{target} is not a finite number",
            where=structure.place,
            expected="one number for the structure",
            received=repr(structure.info[key])[:60],
            fix="correct it, or leave the structure out",
        )
    return value


def charge_of(structure: Structure, otherwise: float | None = None) -> float | None:
    """Return the total charge of a structure, e, as its frame states it, else `otherwise`.

    Raises:
        InputError: the charge is not a number.
    """
    for key, value in structure.info.items():
        if key.lower() in CHARGE_KEYS:
            try:
                return float(np.asarray(value).item())
            except (TypeError, ValueError):
                raise InputError(
                    f"{key} is not a number", where=structure.place, received=repr(value)[:60]
                ) from None
    return otherwise


def about_centre_of_mass(
    dipole: Float[np.ndarray, "3"], structure: Structure, charge: float, origin: Origin
) -> Float[np.ndarray, "3"]:
    """Return the dipole about the centre of mass R from that about `origin`, μ(0) − charge · R."""
    if origin != "positions" or structure.periodic.any():
        return dipole
    return dipole - charge * structure.centre_of_mass


def from_centre_of_mass(
    dipole: Float[np.ndarray, "3"], structure: Structure, charge: float, origin: Origin
) -> Float[np.ndarray, "3"]:
    """Return the dipole about `origin` from that about the centre of mass."""
    return dipole - about_centre_of_mass(np.zeros(3), structure, charge, origin)
