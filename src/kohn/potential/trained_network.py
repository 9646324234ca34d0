"""What potentials and models of properties share: a network, and what can be asked of any."""

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
        model: see `kohn.models`.
    """

    model: Any

    def __repr__(self) -> str:
        elements = " ".join(map(symbol, self.elements))
        return (
            f"{type(self).__name__}({self._said}; elements {elements}; cutoff {self.cutoff:g} Å; "
            f"{self.n_parameters:,} parameters)"
        )

    @property
    def _said(self) -> str:
        """What it is, for `repr`."""
        return str(getattr(self.model.config, "family", type(self.model).__name__))

    def __getstate__(self) -> dict[str, Any]:
        """Its fields. What was compiled for it is made again where it is unpickled."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def domain(self) -> ApplicabilityDomain:
        """What is refused and warned of before the model is asked."""
        return self._domain

    @cached_property
    def _domain(self) -> ApplicabilityDomain:
        return domain_of(self.cutoff, getattr(self, "provenance", {}))

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the model knows."""
        return self.model.elements

    @property
    def cutoff(self) -> float:
        """r_c, Å."""
        return self.model.cutoff

    @property
    def n_parameters(self) -> int:
        """Numbers that training adjusts."""
        return sum(x.size for x in jax.tree.leaves(eqx.filter(self.model, eqx.is_array)))

    def astype(self, dtype: type) -> Self:
        """The same computing in float32 or float64."""

        def cast(x):
            return x.astype(dtype) if eqx.is_inexact_array(x) else x

        return replace(self, model=jax.tree.map(cast, self.model))
