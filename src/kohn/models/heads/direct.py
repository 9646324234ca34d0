"""Predict forces directly with an equivariant network: fast, but not conservative.

With h the features of a NequIP or a MACE whose last layer keeps degree 1:

    E_i = s W₂ W₁ h_i,0
    f_i = s w · h_i,1
    F_i = f_i − (c_i / Σ_j c_j) Σ_j f_j,    c_i = Σ_k c(r_ik)          net_force: removed
    F_i = f_i                                                          net_force: free

One pass through the network gives the forces, while a derivative takes two more. The forces rotate
with the structure, but they are not the derivative of any energy, nor of E: a closed path does
work, and a simulation does not conserve energy. Stress is not predicted.

The sum over j runs over the atoms of a structure, c is the cutoff function. Shares c_i/Σ_j c_j are
1/n if all atoms have the same surroundings. They differ from 1/n so that an atom without neighbours
has no force, and no force jumps when the last neighbour leaves. Distant fragments still share one
net force: they are independent only if it is left free.

Sources: Kolluru et al., arXiv:2203.09697 (direct forces); Bigi, Langer, Ceriotti, arXiv:2412.11569
(consequences for simulations).
"""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from pydantic import Field, model_validator

from kohn.descriptors import polynomial_cutoff
from kohn.graphs import Graph
from kohn.models.bodies import body_of
from kohn.models.derivatives import Derived
from kohn.models.heads.properties import XYZ
from kohn.models.layers import Linear, one_hot
from kohn.models.mace import BodyConfig as MaceBodyConfig
from kohn.models.mace import MaceConfig
from kohn.models.nequip import BodyConfig, NequipConfig
from kohn.models.network import Features, Network, where_neighbours
from kohn.typing import Array, Float

NetForce: TypeAlias = Annotated[
    Literal["removed", "free"], Field(description="Σ F of a structure: exactly 0, or learned")
]


class DirectConfig(BodyConfig):
    """Settings of a NequIP model with direct forces: not conservative, and without stress."""

    family: Literal["nequip-direct"] = "nequip-direct"
    l_max: Annotated[int, Field(ge=1, le=4, description="degree of features and harmonics")] = 2
    net_force: NetForce = "removed"

    @property
    def body(self) -> NequipConfig:
        """The configuration of the network whose features are read."""
        return NequipConfig(**self.model_dump(exclude={"family", "net_force"}))


class MaceDirectConfig(MaceBodyConfig):
    """Settings of a MACE model with direct forces: not conservative, and without stress."""

    family: Literal["mace-direct"] = "mace-direct"
    l_max: Annotated[int, Field(ge=1, le=6, description="degree of the harmonics")] = 3
    net_force: NetForce = "removed"

    @property
    def body(self) -> MaceConfig:
        """The configuration of the network whose features are read."""
        return MaceConfig(**self.model_dump(exclude={"family", "net_force"}))

    @model_validator(mode="after")
    def _energies_alone(self) -> "MaceDirectConfig":
        if self.zbl:
            raise ValueError("zbl adds to an energy, but direct forces are not its derivative")
        if self.residual_first:
            raise ValueError("residual_first gives lone atoms an energy, but here it must be E0")
        return self


class Direct(Network):
    """A model of energies and, independently, of forces; attributes as in `Network`.

    Attributes:
        conservative: False. See `kohn.models.derivatives.is_conservative`.
        body: a network with `features`.
        head: the weights w of the forces, [C, 1].
        scale: learned factor s of all energies, eV, and forces, eV/Å.
    """

    conservative: ClassVar[bool] = False

    config: DirectConfig | MaceDirectConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)
    body: Any
    readout: tuple[Linear, Linear]
    head: Linear
    scale: Float[Array, ""]

    @classmethod
    def init(
        cls,
        key: Array,
        config: DirectConfig | MaceDirectConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        scale: float = 1.0,
        dtype: DTypeLike = np.float32,
    ) -> "Direct":
        """Return an untrained model; arguments as for `Mace.init`."""
        keys = jax.random.split(key, 4)
        body = body_of(
            keys[0],
            config.body,
            tuple(elements),
            neighbours=neighbours,
            dtype=dtype,
            highest=1,
        )
        scalars, vectors = body.widths
        hidden = max(1, scalars // 2)
        return cls(
            config=config,
            elements=tuple(elements),
            neighbours=float(neighbours),
            body=body,
            readout=(
                Linear.init(keys[1], (scalars, hidden), dtype),
                Linear.init(keys[2], (hidden, 1), dtype),
            ),
            head=Linear.init(keys[3], (vectors, 1), dtype),
            scale=jnp.asarray(scale, dtype),
        )

    def features(self, graph: Graph) -> Features:
        """Compute the features of atoms by the body."""
        return self.body.features(graph)

    def read(self, x: Float[Array, "N C"]) -> Float[Array, " N"]:
        """Compute energies of atoms from invariant features by two linear maps."""
        first, second = self.readout
        return second(first(x))[:, 0]

    def derived(self, graph: Graph) -> Derived:
        """Compute energies, and forces that are not their derivatives; the stress is zero and
        has no meaning. An atom without neighbours has no force."""
        h = self.features(graph)
        energies = where_neighbours(self.read(h.invariant) * self.scale, graph)
        forces = self.head(h.of_degree(1))[:, XYZ, 0] * self.scale
        if self.config.net_force == "removed":
            shares = coordination(graph, self.config.cutoff, self.config.cutoff_power)
            forces = without_net_force(forces, shares, graph)
        stress = jnp.zeros((graph.n_structures, 3, 3), jnp.float64)
        return Derived(energies, graph.sum_atoms(energies), forces, stress)


def coordination(graph: Graph, cutoff: float, power: int) -> Float[Array, " N"]:
    """Compute c_i, the sum of the cutoff function over the neighbours of each atom i."""
    d = graph.displacement
    near = polynomial_cutoff(jnp.sqrt(jnp.sum(d * d, axis=-1)), cutoff, power)
    return jnp.sum(near * graph.edge_mask.astype(d.dtype), axis=1)


def without_net_force(
    f: Float[Array, "N 3"], shares: Float[Array, " N"], graph: Graph
) -> Float[Array, "N 3"]:
    """Return forces f_i − (c_i / Σ_j c_j) Σ_j f_j, which add to zero in each structure.

    Args:
        f: forces, eV/Å. shares: c_i, not negative; if all are zero, nothing is subtracted.
    """
    whole = graph.sum_atoms(shares)
    net = graph.sum_atoms(f) / jnp.where(whole > 0, whole, 1.0)[:, None]
    each = one_hot(graph.structure, graph.n_structures, jnp.float64) @ net
    return (f.astype(jnp.float64) - shares.astype(jnp.float64)[:, None] * each).astype(f.dtype)
