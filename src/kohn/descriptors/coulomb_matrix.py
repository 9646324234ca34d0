r"""Compute the Coulomb matrix of a molecule: its nuclear repulsion by pairs of atoms.

    M_ii = 0.5 Z_i^2.4           (a fit to energies of free atoms, hartree)
    M_ij = Z_i Z_j / |r_i − r_j|

Z_i are atomic numbers. M is padded with zeros (atoms of charge 0) to a fixed size. With distances
in bohr, the default, M is in hartree; with distances in Å, `unit="angstrom"`, the diagonal is the
same and M equals that of DScribe 2.1. All forms of M are invariant under translations, rotations
and reflections. Each form has a defect:

    raw       every entry is smooth in positions, but changes when atoms are relabelled.
    sorted    rows and columns by falling row norm: invariant under relabelling, but it jumps where
              two norms cross, and rounding decides the order of norms equal by symmetry.
    spectrum  eigenvalues λ_1 ≥ … ≥ λ_size of the padded matrix: invariant and continuous, by
              Weyl |λ_k(M) − λ_k(M')| ≤ ‖M − M'‖_2; but different geometries can share a spectrum:
              n numbers cannot distinguish 3n − 6 coordinates.

The zeros of the padding are sorted among the other eigenvalues. A spectrum sorted by magnitude (as
in DScribe and the first paper) jumps where λ_k = −λ_l.

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
"""The length of each unit of distance, Å."""
COINCIDENT = 1e-6
"""Atoms closer than this distance, Å, are in the same place."""


def coulomb_matrix(
    positions: Float[ArrayLike, "atoms 3"],
    numbers: Sequence[int] | Int[ArrayLike, " atoms"],
    size: int | None = None,
    unit: Unit = "bohr",
) -> Float[Array, "size size"]:
    """Return the Coulomb matrix M_ii = 0.5 Z_i^2.4, M_ij = Z_i Z_j / r_ij, atoms in given order.

    Args:
        positions: Cartesian, Å.
        numbers: atomic numbers.
        size: number of rows of the padded matrix; by default the number of atoms.
        unit: unit of the distances. With bohr, M is in hartree.

    Raises:
        InputError: no atoms, more atoms than `size`, coincident atoms, positions that are not
            finite, or shapes that do not fit. Inside `jax.jit` and similar transformations, values
            are not available and not checked.
        ConfigError: an unknown unit.
    """
    check_molecule(positions, numbers, size)
    return _compiled("raw", size, unit)(*_arrays(positions, numbers))


def sorted_coulomb_matrix(
    positions: Float[ArrayLike, "atoms 3"],
    numbers: Sequence[int] | Int[ArrayLike, " atoms"],
    size: int | None = None,
    unit: Unit = "bohr",
) -> Float[Array, "size size"]:
    """Return the Coulomb matrix with its rows and columns sorted by falling norm of the rows.

    Rows of equal norm keep their order. The result is differentiable if no two norms are equal, and
    jumps where two norms cross. Arguments and errors are as for `coulomb_matrix`.
    """
    check_molecule(positions, numbers, size)
    return _compiled("sorted", size, unit)(*_arrays(positions, numbers))


def coulomb_spectrum(
    positions: Float[ArrayLike, "atoms 3"],
    numbers: Sequence[int] | Int[ArrayLike, " atoms"],
    size: int | None = None,
    unit: Unit = "bohr",
) -> Float[Array, " size"]:
    """Return the eigenvalues λ_1 ≥ … ≥ λ_size of the padded Coulomb matrix.

    They are continuous everywhere, and differentiable if no two eigenvalues are equal. Arguments
    and errors are as for `coulomb_matrix`.
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
    """Compute the form `kind` of a Coulomb matrix, without checks and without compilation."""
    m = matrix(positions, numbers, unit)
    if kind == "spectrum":
        return spectrum(m, size)
    return padded(by_row_norm(m) if kind == "sorted" else m, size)


def matrix(
    positions: Float[Array, "atoms 3"], numbers: Int[Array, " atoms"], unit: Unit
) -> Float[Array, "atoms atoms"]:
    """Compute the Coulomb matrix without checks. Atoms of charge 0, anywhere, have rows of zero."""
    if unit not in LENGTHS:
        raise ConfigError(
            "unknown unit of distances", expected="'bohr' or 'angstrom'", received=repr(unit)
        )
    z = numbers.astype(positions.dtype)
    charges = z[:, None] * z
    distinct = (charges != 0) & ~jnp.eye(len(z), dtype=bool)
    d = (positions[:, None] - positions) / LENGTHS[unit]
    r2 = jnp.where(distinct, jnp.sum(d * d, axis=-1), 1.0)
    return jnp.where(distinct, charges / jnp.sqrt(r2), 0.0) + jnp.diag(0.5 * z**2.4)


def by_row_norm(m: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Sort the rows and columns of a matrix by falling norm of the rows."""
    order = jnp.argsort(-jnp.sum(m * m, axis=1), stable=True)
    return m[order][:, order]


def spectrum(m: Float[Array, "n n"], size: int | None = None) -> Float[Array, " size"]:
    """Return the n eigenvalues of a matrix and size − n zeros, all in falling order."""
    values = jnp.linalg.eigvalsh(m)
    missing = 0 if size is None else size - len(m)
    return jnp.sort(jnp.pad(values, (0, missing)))[::-1]


def padded(m: Float[Array, "n n"], size: int | None) -> Float[Array, "size size"]:
    """Append rows and columns of zeros to a matrix, up to `size` rows; None appends nothing."""
    return m if size is None else jnp.pad(m, (0, size - len(m)))


def check_molecule(
    positions: ArrayLike,
    numbers: Sequence[int] | ArrayLike,
    size: int | None = None,
    where: Place | str | None = None,
) -> None:
    """Refuse a molecule that has no Coulomb matrix, for the reasons listed in `coulomb_matrix`."""
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
            fix=f"set size to {n} or more, and compute all features again",
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
