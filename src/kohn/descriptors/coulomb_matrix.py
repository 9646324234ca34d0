r"""The Coulomb matrix of a molecule: nuclear repulsion laid out by pairs.

    M_ii = 0.5 Z_i^2.4           (a fit to energies of free atoms, hartree)
    M_ij = Z_i Z_j / |r_i − r_j|

padded with zeros (atoms of charge 0) to a fixed size. With distances in bohr, the default, M is in
hartree; with distances in Å, `unit="angstrom"`, the diagonal stays as it is and the numbers are
those of DScribe 2.1. All forms are invariant under translations, rotations and reflections. None
is free of faults:

    raw       every entry smooth in positions; changes when atoms are relabelled.
    sorted    rows and columns by falling row norm: invariant under relabelling, but it jumps where
              two norms cross, and is as ambiguous as rounding where they are equal by symmetry.
    spectrum  eigenvalues λ_1 ≥ … ≥ λ_size of the padded matrix: invariant and continuous, by
              Weyl |λ_k(M) − λ_k(M')| ≤ ‖M − M'‖_2; but different geometries share one spectrum:
              n numbers cannot tell 3n − 6 coordinates apart.

The spectrum is that of the padded matrix, zeros sorted among the rest. Sorted by magnitude (as in
DScribe and the first paper) it jumps where λ_k = −λ_l.

Sources: Rupp, Tkatchenko, Müller, von Lilienfeld, Phys. Rev. Lett. 108, 058301 (2012); Montavon et
al., Adv. Neural Inf. Process. Syst. 25 (2012).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from kohn.errors import ConfigError, InputError, Place
from kohn.typing import Array, ArrayLike, Float, Int
from kohn.units import BOHR

Kind = Literal["raw", "sorted", "spectrum"]
Unit = Literal["bohr", "angstrom"]
LENGTHS: dict[str, float] = {"bohr": BOHR, "angstrom": 1.0}
"""Unit of distances in Å."""
COINCIDENT = 1e-6
"""Atoms closer than this, Å, are in the same place."""


def coulomb_matrix(
    positions: Float[ArrayLike, "atoms 3"],
    numbers: Sequence[int] | Int[ArrayLike, " atoms"],
    size: int | None = None,
    unit: Unit = "bohr",
) -> Float[Array, "size size"]:
    """M_ii = 0.5 Z_i^2.4, M_ij = Z_i Z_j / r_ij, in the order of the atoms.

    Args:
        positions: Å.
        numbers: atomic numbers.
        size: rows to pad to; as many as atoms by default.
        unit: of the distances. In hartree with bohr.

    Raises:
        InputError: no atoms, more atoms than `size`, coincident atoms, positions that are not
            finite, shapes that do not fit. Values cannot be seen, and are not checked, inside
            `jax.jit` and its kin.
        ConfigError: another unit.
    """
    check_molecule(positions, numbers, size)
    return _compiled("raw", size, unit)(*_arrays(positions, numbers))


def sorted_coulomb_matrix(
    positions: Float[ArrayLike, "atoms 3"],
    numbers: Sequence[int] | Int[ArrayLike, " atoms"],
    size: int | None = None,
    unit: Unit = "bohr",
) -> Float[Array, "size size"]:
    """P M Pᵀ with the permutation P by which row norms fall; equal norms keep their order.

    Differentiable where no two norms are equal; jumps where they cross.

    Arguments and errors as for `coulomb_matrix`.
    """
    check_molecule(positions, numbers, size)
    return _compiled("sorted", size, unit)(*_arrays(positions, numbers))


def coulomb_spectrum(
    positions: Float[ArrayLike, "atoms 3"],
    numbers: Sequence[int] | Int[ArrayLike, " atoms"],
    size: int | None = None,
    unit: Unit = "bohr",
) -> Float[Array, " size"]:
    """λ_1 ≥ … ≥ λ_size: the eigenvalues of the padded matrix in falling order.

    Continuous everywhere; differentiable where no two eigenvalues are equal.

    Arguments and errors as for `coulomb_matrix`.
    """
    check_molecule(positions, numbers, size)
    return _compiled("spectrum", size, unit)(*_arrays(positions, numbers))


@lru_cache(maxsize=256)
def _compiled(kind: Kind, size: int | None, unit: Unit) -> Callable[[Array, Array], Array]:
    return jax.jit(partial(features, kind=kind, size=size, unit=unit))


def _arrays(positions: ArrayLike, numbers: Sequence[int] | ArrayLike) -> tuple[Array, Array]:
    return jnp.asarray(positions, jnp.float64), jnp.asarray(numbers, jnp.int32)


def features(
    positions: Float[Array, "atoms 3"],
    numbers: Int[Array, " atoms"],
    *,
    kind: Kind,
    size: int | None,
    unit: Unit,
) -> Array:
    """One of the three forms, nothing checked and not compiled."""
    m = matrix(positions, numbers, unit)
    if kind == "spectrum":
        return spectrum(m, size)
    return padded(by_row_norm(m) if kind == "sorted" else m, size)


def matrix(
    positions: Float[Array, "atoms 3"], numbers: Int[Array, " atoms"], unit: Unit
) -> Float[Array, "atoms atoms"]:
    """The Coulomb matrix, nothing checked. Atoms of charge 0 may be anywhere: their rows are 0."""
    if unit not in LENGTHS:
        raise ConfigError(
            "not a unit of distances", expected="'bohr' or 'angstrom'", received=repr(unit)
        )
    z = numbers.astype(positions.dtype)
    charges = z[:, None] * z
    apart = (charges != 0) & ~jnp.eye(len(z), dtype=bool)
    d = (positions[:, None] - positions) / LENGTHS[unit]
    r2 = jnp.where(apart, jnp.sum(d * d, axis=-1), 1.0)
    return jnp.where(apart, charges / jnp.sqrt(r2), 0.0) + jnp.diag(0.5 * z**2.4)


def by_row_norm(m: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Rows and columns in the order of falling row norm."""
    order = jnp.argsort(-jnp.sum(m * m, axis=1), stable=True)
    return m[order][:, order]


def spectrum(m: Float[Array, "n n"], size: int | None = None) -> Float[Array, " size"]:
    """Eigenvalues in falling order, together with size − n zeros."""
    values = jnp.linalg.eigvalsh(m)
    missing = 0 if size is None else size - len(m)
    return jnp.sort(jnp.pad(values, (0, missing)))[::-1]


def padded(m: Float[Array, "n n"], size: int | None) -> Float[Array, "size size"]:
    """With rows and columns of zeros after the others."""
    return m if size is None else jnp.pad(m, (0, size - len(m)))


def check_molecule(
    positions: ArrayLike,
    numbers: Sequence[int] | ArrayLike,
    size: int | None = None,
    where: Place | str | None = None,
) -> None:
    """Refuse what has no Coulomb matrix; see `coulomb_matrix`."""
    n = len(numbers)
    if n == 0:
        raise InputError("there are no atoms", expected="at least one", where=where)
    if np.shape(positions) != (n, 3):
        raise InputError(
            "positions do not fit the atoms",
            expected=f"shape {(n, 3)}",
            received=f"shape {np.shape(positions)}",
            where=where,
        )
    if size is not None and n > size:
        raise InputError(
            "more atoms than rows of the Coulomb matrix",
            expected=f"at most {size} atoms",
            received=f"{n} atoms",
            where=where,
            fix=f"set size to {n} or more, and compute all features anew",
        )
    if not isinstance(numbers, Tracer) and np.min(np.asarray(numbers)) < 1:
        raise InputError("atomic numbers start at 1", received=str(list(numbers)), where=where)
    if not isinstance(positions, Tracer):
        _check_distances(np.asarray(positions), where)


def _check_distances(positions: np.ndarray, where: Place | str | None) -> None:
    if not np.isfinite(positions).all():
        atom = int(np.argmax(~np.isfinite(positions).all(axis=1)))
        raise InputError(
            "positions are not finite numbers",
            received=f"atom {atom} at {positions[atom].tolist()} Å",
            where=where,
        )
    difference = positions[:, None] - positions
    r2 = np.einsum("ija,ija->ij", difference, difference) + np.diag(np.full(len(positions), np.inf))
    i, j = np.unravel_index(np.argmin(r2), r2.shape)
    if r2[i, j] < COINCIDENT**2:
        raise InputError(
            f"atoms {i} and {j} are in the same place", where=where, fix="remove one of them"
        )
