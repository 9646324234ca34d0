"""Define the table of labels: name, shape, unit, sign and symmetry of each quantity.

Reading, heads, losses, metrics, audits and reports all use this one table. Missing labels are
never filled in silently: a structure without a label does not have it.

Sources of the conventions: ASE (units, Voigt order, stress positive in tension); VASP prints
kbar with the opposite sign, and readers convert.
"""

from dataclasses import dataclass
from typing import Literal

Shape = tuple[int | Literal["atoms"], ...]

PREDICTED_BY = "predicted_by"
"""A frame with this key has predictions of a model, not labels, under keys without `REF_`."""
PREDICTOR = "kohn"
"""Name of Kohn's calculator, under which ASE's trajectories and databases keep its results."""


@dataclass(frozen=True)
class Property:
    """One physical quantity, which can be a label and a prediction.

    Attributes:
        name: the name used everywhere in Kohn.
        key: its key in extended XYZ files that Kohn writes.
        aliases: its keys in other files; tried in this order, after `key`.
        shape: shape per structure, where 'atoms' stands for the number of atoms.
        unit: the unit in Kohn, and of the values in files.
        sign: the sign convention, if there is one.
        degrees: the degrees l of the irreducible parts under rotation.
        parity: +1 or -1 under inversion.
        extensive: whether it grows with the size of the system.
    """

    name: str
    key: str
    aliases: tuple[str, ...]
    shape: Shape
    unit: str
    degrees: tuple[int, ...]
    parity: int
    extensive: bool
    sign: str = ""

    def expected_shape(self, n_atoms: int) -> tuple[int, ...]:
        """Return the shape of this label for a structure of `n_atoms` atoms."""
        return tuple(n_atoms if d == "atoms" else d for d in self.shape)


PROPERTIES: dict[str, Property] = {
    p.name: p
    for p in (
        Property(
            name="energy",
            key="REF_energy",
            aliases=("ref_energy", "dft_energy", "energy", "Energy"),
            shape=(),
            unit="eV",
            degrees=(0,),
            parity=1,
            extensive=True,
            sign="total energy, E(sigma -> 0) if electrons have a temperature",
        ),
        Property(
            name="free_energy",
            key="REF_free_energy",
            aliases=("free_energy",),
            shape=(),
            unit="eV",
            degrees=(0,),
            parity=1,
            extensive=True,
            sign="electronic free energy, whose derivatives are forces and stress",
        ),
        Property(
            name="forces",
            key="REF_forces",
            aliases=("ref_forces", "dft_forces", "forces", "force", "Forces"),
            shape=("atoms", 3),
            unit="eV/Å",
            degrees=(1,),
            parity=-1,
            extensive=False,
            sign="minus the gradient of the (free) energy; constraints not applied",
        ),
        Property(
            name="stress",
            key="REF_stress",
            aliases=("ref_stress", "dft_stress", "stress"),
            shape=(3, 3),
            unit="eV/Å³",
            degrees=(0, 2),
            parity=1,
            extensive=False,
            sign="(1/V) dE/d(strain), positive in tension; in files also Voigt xx yy zz yz xz xy",
        ),
        Property(
            name="virial",
            key="REF_virial",
            aliases=("REF_virials", "virial", "virials", "dft_virial"),
            shape=(3, 3),
            unit="eV",
            degrees=(0, 2),
            parity=1,
            extensive=True,
            sign="-V times stress; converted to stress when read",
        ),
        Property(
            name="energies",
            key="REF_energies",
            aliases=("energies", "local_energy"),
            shape=("atoms",),
            unit="eV",
            degrees=(0,),
            parity=1,
            extensive=False,
            sign="energy per atom, as far as a method defines one",
        ),
        Property(
            name="dipole",
            key="REF_dipole",
            aliases=("dipole", "mu"),
            shape=(3,),
            unit="e·Å",
            degrees=(1,),
            parity=-1,
            extensive=True,
            sign="from negative to positive charge",
        ),
        Property(
            name="polarizability",
            key="REF_polarizability",
            aliases=("polarizability", "alpha"),
            shape=(3, 3),
            unit="Å³",
            degrees=(0, 2),
            parity=1,
            extensive=True,
        ),
        Property(
            name="charges",
            key="REF_charges",
            aliases=("charges", "initial_charges"),
            shape=("atoms",),
            unit="e",
            degrees=(0,),
            parity=1,
            extensive=False,
        ),
    )
}


def known_keys() -> dict[str, str]:
    """Return each known key of files -> name of its property; first all `key`s, then aliases."""
    keys = {p.key: p.name for p in PROPERTIES.values()}
    for p in PROPERTIES.values():
        for alias in p.aliases:
            keys.setdefault(alias, p.name)
    return keys
