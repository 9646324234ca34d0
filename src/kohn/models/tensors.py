"""Dipoles and polarizabilities that turn with the molecule.

With h the features of a NequIP body up to degree 2, of natural parity like the harmonics:

    μ_m   = s₁ Σ_i w¹ · h_i,1m                                          (degree 1, odd)
    α_00  = Σ_i (a_z(i) + s₀ w⁰ · h_i,00),   α_2m = s₂ Σ_i w² · h_i,2m    (degrees 0 and 2, even)
    α     = α_00 1/√3 + Σ_m α_2m B_m,   B_m the symmetric traceless basis, |B_m| = 1

Dipoles are sums of atomic dipoles: periodic structures have them too, and they do not depend on the
origin. The dipole of an ion does: labels must then have one origin that moves with the molecule,
and the model learns them with respect to that.

Source: Veit et al., J. Chem. Phys. 153, 024113 (2020), for atomic dipoles; Wilkins et al., PNAS
116, 3401 (2019), for polarizabilities by degree.
"""

from collections.abc import Mapping
from math import sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kohn.graphs import Graph
from kohn.models.layers import Linear, one_hot
from kohn.models.nequip import Body, NequipConfig
from kohn.o3 import clebsch_gordan
from kohn.typing import Array, Float

DEGREES: dict[str, tuple[int, ...]] = {"dipole": (1,), "polarizability": (0, 2)}
"""Degrees of each target, as in the table of labels."""
XYZ = np.array([2, 0, 1])
"""Where x, y and z stand among the components of degree 1, (y, z, x)."""


def by_degree(
    target: str, values: Float[np.ndarray, "..."]
) -> dict[int, Float[np.ndarray, "... m"]]:
    """Cartesian dipoles [..., 3] or polarizabilities [..., 3, 3] as spherical components."""
    if target == "dipole":
        return {1: values[..., np.argsort(XYZ)]}
    trace = np.trace(values, axis1=-2, axis2=-1) / sqrt(3)
    return {0: trace[..., None], 2: np.einsum("...ab,abm->...m", values, traceless_basis())}


def cartesian(target: str, parts: Mapping[int, Float[Array, "... m"]]) -> Float[Array, "..."]:
    """The inverse of `by_degree`."""
    if target == "dipole":
        return parts[1][..., XYZ]
    basis = jnp.asarray(traceless_basis(), parts[2].dtype)
    isotropic = parts[0][..., None] * jnp.eye(3, dtype=parts[0].dtype) / sqrt(3)
    return isotropic + jnp.einsum("...m,abm->...ab", parts[2], basis)


def traceless_basis() -> Float[np.ndarray, "3 3 5"]:
    """B_m, symmetric, traceless and orthonormal, in the order of the harmonics of degree 2."""
    return clebsch_gordan(1, 1, 2)[XYZ][:, XYZ]


class TensorModel(eqx.Module):
    """Properties of structures from a graph.

    Attributes:
        config: of the body.
        elements: atomic numbers, in the order of `graph.species`.
        targets: keys of `DEGREES`.
        body: see `kohn.models.nequip`.
        heads: w of each degree of each target, [C, 1].
        scales: s of each degree of each target, in the unit of the label.
        atoms: a of each element for each target with a degree 0, in the unit of the label.
    """

    config: NequipConfig = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    targets: tuple[str, ...] = eqx.field(static=True)
    body: Body
    heads: dict[str, dict[int, Linear]]
    scales: dict[str, dict[int, Float[Array, ""]]]
    atoms: dict[str, Float[Array, " S"]]

    @classmethod
    def random(
        cls,
        key: Array,
        config: NequipConfig,
        elements: tuple[int, ...],
        targets: tuple[str, ...],
        *,
        neighbours: float,
        scales: Mapping[str, Mapping[int, float]] | None = None,
        atoms: Mapping[str, np.ndarray] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> "TensorModel":
        """Weights from N(0, 1).

        Args:
            scales: spread of the labels by target and degree; 1 by default.
            atoms: what each atom of an element adds to the part of degree 0; 0 by default.
        """
        highest = max(l for target in targets for l in DEGREES[target])
        pairs = [(target, l) for target in targets for l in DEGREES[target]]
        first, *rest = jax.random.split(key, 1 + len(pairs))
        heads: dict[str, dict[int, Linear]] = {target: {} for target in targets}
        for (target, l), k in zip(pairs, rest, strict=True):
            heads[target][l] = Linear.random(k, (config.channels, 1), dtype)
        scales = scales or {t: dict.fromkeys(DEGREES[t], 1.0) for t in targets}
        zeros = {t: np.zeros(len(elements)) for t in targets if 0 in DEGREES[t]}
        return cls(
            config=config,
            elements=tuple(elements),
            targets=tuple(targets),
            body=Body.random(first, config, len(elements), neighbours, dtype, highest),
            heads=heads,
            scales={t: {l: jnp.asarray(s, dtype) for l, s in scales[t].items()} for t in targets},
            atoms={t: jnp.asarray(a, dtype) for t, a in (atoms or zeros).items()},
        )

    @property
    def cutoff(self) -> float:
        """r_c, Å."""
        return self.config.cutoff

    def __call__(self, graph: Graph) -> dict[str, dict[int, Float[Array, "G m"]]]:
        """Spherical components by target and degree, float64; see `cartesian`."""
        dtype = self.body.embedding.weight.dtype
        h = self.body(graph, dtype)
        species = one_hot(graph.species, len(self.elements), dtype)
        found: dict[str, dict[int, Array]] = {}
        for target in self.targets:
            found[target] = {}
            for l, head in self.heads[target].items():
                atomic = head(h[l])[..., 0] * self.scales[target][l]
                if l == 0:
                    atomic = atomic + (species @ self.atoms[target])[:, None]
                found[target][l] = graph.sum_atoms(atomic)
        return found
