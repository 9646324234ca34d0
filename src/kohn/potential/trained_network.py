"""The base of potentials and models of properties: a trained network and its attributes."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import equinox as eqx
import jax

from kohn.potential.extrapolation import ApplicabilityDomain, domain_of
from kohn.structures.elements import symbol


@dataclass(frozen=True, eq=False, repr=False)
class TrainedNetwork:
    """A network that has been trained.

    Attributes:
        model: the network, see `kohn.models`.
    """

    model: Any

    def __repr__(self) -> str:
        elements = " ".join(map(symbol, self.elements))
        return (
            f"{type(self).__name__}({self._description}; elements {elements}; "
            f"cutoff {self.cutoff:g} Å; {self.n_parameters:,} parameters)"
        )

    @property
    def _description(self) -> str:
        """A short description of the network, for `repr`."""
        return str(getattr(self.model.config, "family", type(self.model).__name__))

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields to pickle; functions are compiled again after unpickling."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def domain(self) -> ApplicabilityDomain:
        """The geometries that the model accepts; others are refused, or cause a warning."""
        return self._domain

    @cached_property
    def _domain(self) -> ApplicabilityDomain:
        return domain_of(self.cutoff, getattr(self, "provenance", {}))

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of the elements that the model knows."""
        return self.model.elements

    @property
    def cutoff(self) -> float:
        """The cutoff r_c within which atoms are neighbours, Å."""
        return self.model.cutoff

    @property
    def n_parameters(self) -> int:
        """Number of parameters that training adjusts."""
        return sum(x.size for x in jax.tree.leaves(eqx.filter(self.model, eqx.is_array)))

    def astype(self, dtype: type) -> Self:
        """Return the same network with weights in float32 or float64, the type it computes in."""

        def cast(x):
            return x.astype(dtype) if eqx.is_inexact_array(x) else x

        return replace(self, model=jax.tree.map(cast, self.model))
