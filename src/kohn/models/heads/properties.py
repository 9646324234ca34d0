"""Predict properties of structures: dipoles, polarizabilities and scalars.

Dipoles and polarizabilities rotate with the structure. h are features of natural parity, like the
harmonics, of n atoms; w weights, s scales, a_z the part of degree 0 that an element adds to t:

    t_00 = Σ_i (a_z(i) + s₀ w⁰ · h_i,00)         extensive; divided by n where intensive
    t_lm = s_l Σ_i w^l · h_i,lm                  degrees 1 (odd) and 2 (even)
    α    = α_00 1/√3 + Σ_m α_2m B_m              B_m the symmetric traceless basis, |B_m| = 1
    μ    = Σ_i [μ_i + q_i (r_i − R)]             μ_i from w¹ · h_i,1m
    q_i  = Q/n + Σ_j c(r_ij) (u_i − u_j)         u_i = s₁ w · h_i,00 / Å

Only molecules have charges q. Charge that flows to i from j is lost by j: the charges add exactly
to Q, the total charge, and neutral molecules far apart each stay neutral. R is the centre of mass:
the dipole of an ion depends on the origin, μ(R') = μ(R) + Q (R − R'), and files may use another
origin (`dipole_origin`). Periodic structures have only the atomic dipoles.

Sources: Veit et al., J. Chem. Phys. 153, 024113 (2020) (dipoles of atoms, and charges); Wilkins et
al., PNAS 116, 3401 (2019) (polarizabilities by degree).
"""

from collections.abc import Mapping
from math import sqrt
from typing import Annotated, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from pydantic import Field

from kohn.descriptors import polynomial_cutoff
from kohn.errors import ConfigError
from kohn.graphs import Graph, gather_neighbours
from kohn.models.bodies import AnyBody, body_of
from kohn.models.layers import Linear, one_hot
from kohn.models.nequip import NequipConfig
from kohn.o3 import clebsch_gordan
from kohn.sections import Section
from kohn.typing import Array, Float

DEGREES: dict[str, tuple[int, ...]] = {"dipole": (1,), "polarizability": (0, 2)}
"""The degrees of the components of tensors; all other properties are scalars, of degree 0."""
XYZ = np.array([2, 0, 1])
"""The positions of x, y and z among the components of degree 1, (y, z, x)."""


def degrees_of(target: str) -> tuple[int, ...]:
    """Return the degrees of the spherical components of a property; (0,) for a scalar."""
    return DEGREES.get(target, (0,))


def by_degree(
    target: str, values: Float[np.ndarray, "..."]
) -> dict[int, Float[np.ndarray, "... m"]]:
    """Split dipoles [..., 3], polarizabilities [..., 3, 3] or scalars into spherical components."""
    if target == "dipole":
        return {1: values[..., np.argsort(XYZ)]}
    if target == "polarizability":
        trace = np.trace(values, axis1=-2, axis2=-1) / sqrt(3)
        return {0: trace[..., None], 2: np.einsum("...ab,abm->...m", values, traceless_basis())}
    return {0: np.asarray(values)[..., None]}


def cartesian(target: str, parts: Mapping[int, Float[Array, "... m"]]) -> Float[Array, "..."]:
    """Return a property, in Cartesian components, from its spherical ones: inverts `by_degree`."""
    if target == "dipole":
        return parts[1][..., XYZ]
    if target == "polarizability":
        basis = jnp.asarray(traceless_basis(), parts[2].dtype)
        isotropic = parts[0][..., None] * jnp.eye(3, dtype=parts[0].dtype) / sqrt(3)
        return isotropic + jnp.einsum("...m,abm->...ab", parts[2], basis)
    return parts[0][..., 0]


def traceless_basis() -> Float[np.ndarray, "3 3 5"]:
    """Return five symmetric, traceless, orthonormal B_m, ordered as the harmonics of degree 2."""
    return clebsch_gordan(1, 1, 2)[XYZ][:, XYZ]


class PropertyConfig(Section):
    """Settings of a model of properties of structures."""

    family: Literal["properties"] = "properties"
    body: Annotated[AnyBody, Field(discriminator="family")] = NequipConfig()
    targets: Annotated[tuple[str, ...], Field(min_length=1, description="names of properties")]
    extensive: Annotated[
        tuple[str, ...], Field(description="properties that grow with the size of the system")
    ] = ("dipole", "polarizability")
    charges: Annotated[
        bool, Field(description="dipoles of molecules: add charges times positions")
    ] = False

    @property
    def cutoff(self) -> float:
        """The cutoff radius r_c, Å."""
        return self.body.cutoff

    @property
    def charged(self) -> bool:
        """Whether the model has atomic charges, and so needs graphs with positions and charges."""
        return self.charges and "dipole" in self.targets


class PropertyNetwork(eqx.Module):
    """A model of properties ("targets") of structures.

    Attributes:
        config, elements, neighbours: as in `Network`.
        body: a network with `features`.
        heads: the weights w of each degree of each target, [C, 1].
        charge: the weights w of the charges, [C, 1]; None if the model has no charges.
        scales: the scale s of each degree of each target, in the unit of the label.
        atoms: a of each element for each target that has degree 0, in the unit of the label.
    """

    config: PropertyConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    neighbours: float = eqx.field(static=True)
    body: Any
    heads: dict[str, dict[int, Linear]]
    charge: Linear | None
    scales: dict[str, dict[int, Float[Array, ""]]]
    atoms: dict[str, Float[Array, " S"]]

    @classmethod
    def init(
        cls,
        key: Array,
        config: PropertyConfig,
        elements: tuple[int, ...],
        *,
        neighbours: float,
        scales: Mapping[str, Mapping[int, float]] | None = None,
        atoms: Mapping[str, np.ndarray] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> "PropertyNetwork":
        """Draw weights from N(0, 1).

        Args:
            scales: spread of the labels by target and degree; 1 by default.
            atoms: contribution of an atom of each element to degree 0, by target; 0 by default.
        """
        targets = config.targets
        pairs = [(target, l) for target in targets for l in degrees_of(target)]
        first, *rest = jax.random.split(key, 1 + len(pairs))
        body = body_of(
            first,
            config.body,
            tuple(elements),
            neighbours=neighbours,
            dtype=dtype,
            highest=max(l for _, l in pairs),
        )
        heads: dict[str, dict[int, Linear]] = {target: {} for target in targets}
        for (target, l), k in zip(pairs, rest, strict=True):
            heads[target][l] = Linear.init(k, (body.widths[l], 1), dtype)
        k = jax.random.fold_in(key, 1)
        scales = scales or {t: dict.fromkeys(degrees_of(t), 1.0) for t in targets}
        zeros = {t: np.zeros(len(elements)) for t in targets if 0 in degrees_of(t)}
        return cls(
            config=config,
            elements=tuple(elements),
            neighbours=float(neighbours),
            body=body,
            heads=heads,
            charge=Linear.init(k, (body.widths[0], 1), dtype) if config.charged else None,
            scales={t: {l: jnp.asarray(s, dtype) for l, s in scales[t].items()} for t in targets},
            atoms={t: jnp.asarray(a, dtype) for t, a in (atoms or zeros).items()},
        )

    @property
    def cutoff(self) -> float:
        """The cutoff radius r_c, Å."""
        return self.config.cutoff

    @property
    def dtype(self) -> type:
        """The precision of the network, float32 or float64."""
        scales = next(iter(self.scales.values()))
        return np.dtype(next(iter(scales.values())).dtype).type

    def __call__(self, graph: Graph) -> dict[str, dict[int, Float[Array, "G m"]]]:
        """Compute the properties as spherical components, by target and degree; see `cartesian`.

        Components are float64. Models with charges need a graph with positions and charges. The
        origin of the dipole of an ion is its centre of mass.
        """
        h = self.body.features(graph)
        species = one_hot(graph.species, len(self.elements), self.dtype)
        components: dict[str, dict[int, Array]] = {}
        for target in self.config.targets:
            components[target] = {}
            for l, head in self.heads[target].items():
                atomic = head(h.of_degree(l))[..., 0] * self.scales[target][l]
                if l == 0:
                    atomic = atomic + (species @ self.atoms[target])[:, None]
                total = graph.sum_atoms(atomic)
                if target not in self.config.extensive:
                    total = total / number_of_atoms(graph)[:, None]
                components[target][l] = total
        if self.charge is not None:
            u = self.charge(h.invariant)[:, 0] * self.scales["dipole"][1]
            q = charges(u, graph, self.cutoff)
            of_charges = graph.sum_atoms(q[:, None] * jnp.asarray(graph.positions))
            components["dipole"][1] = components["dipole"][1] + of_charges[:, np.argsort(XYZ)]
        return components


def number_of_atoms(graph: Graph) -> Float[Array, " G"]:
    """Return the number of atoms of each structure; 1 in padding."""
    return jnp.maximum(graph.sum_atoms(jnp.ones(graph.species.shape)), 1.0)


def charges(u: Float[Array, " N"], graph: Graph, cutoff: float) -> Float[Array, " N"]:
    """Compute the charges of atoms, e, float64, which add to that of the structure; 0 if periodic.

    Raises:
        ConfigError: the graph has no charges.
    """
    if graph.charge is None:
        raise ConfigError(
            "a model with charges needs a graph with positions and charges",
            fix="give the charges of the structures to `kohn.graphs.collate`",
        )
    u, d = u.astype(jnp.float64), graph.displacement.astype(jnp.float64)
    c = polynomial_cutoff(jnp.sqrt(jnp.sum(d * d, axis=-1)), cutoff, 5)
    c = c * graph.edge_mask.astype(jnp.float64)
    others = gather_neighbours(u[:, None], graph.index, graph.reverse)[..., 0]
    share = graph.charge / number_of_atoms(graph)
    q = share[graph.structure] + jnp.sum(c * (u[:, None] - others), axis=1)
    return q * jnp.asarray(graph.isolated).astype(jnp.float64)[graph.structure]
