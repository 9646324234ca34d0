"""What potentials and models of properties share: a network, and what can be asked of any."""

from dataclasses import dataclass, replace
from typing import Any, Self

import equinox as eqx
import jax


@dataclass(frozen=True, eq=False)
class Trained:
    """A network that has been trained.

    Attributes:
        model: see `kohn.models`.
    """

    model: Any

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
