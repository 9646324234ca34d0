"""Compute the Ziegler–Biersack–Littmark screened nuclear repulsion of atoms at short distances."""

import jax.numpy as jnp

from kohn.descriptors import polynomial_cutoff
from kohn.typing import Array, Float

_AMPLITUDES = (0.1818, 0.5099, 0.2802, 0.02817)
_EXPONENTS = (3.2, 0.9423, 0.4028, 0.2016)
_COULOMB = 14.3996  # e²/(4π ε0), eV Å
_LENGTH = 0.4543 * 0.529  # Å


def zbl_energies(
    r: Float[Array, "N K"],
    z_i: Float[Array, "N 1"],
    z_j: Float[Array, "N K"],
    radii: Float[Array, "N K"],
    p: int,
) -> Float[Array, " N"]:
    """Sum V(r)/2 over the neighbours of each atom, eV: V(r) = (e²/4πε0) Z_i Z_j φ(r/a)/r · c(r).

        a = 0.4543 · 0.529 Å / (Z_i^0.3 + Z_j^0.3),   φ(x) = Σ_k A_k exp(−α_k x)

    c is the polynomial cutoff of power p at the sum of the covalent radii, so V vanishes for bonded
    neighbours at equilibrium. The constants are those of mace-torch.

    Args:
        r: distances, Å, beyond `radii` in padding slots.
        z_i, z_j: atomic numbers. radii: sums of covalent radii, Å.
    """
    a = _LENGTH / (z_i**0.3 + z_j**0.3)
    x = r / a
    terms = [c * jnp.exp(-e * x) for c, e in zip(_AMPLITUDES, _EXPONENTS, strict=True)]
    phi = terms[0] + terms[1] + terms[2] + terms[3]
    envelope = polynomial_cutoff(r / radii, 1.0, p)
    return 0.5 * jnp.sum(_COULOMB * z_i * z_j / r * phi * envelope, axis=-1)
