"""The quantities that errors are reported for, with the keys that evaluations give them."""

from dataclasses import dataclass

from kohn.structures.properties import PROPERTIES
from kohn.typing import Document


@dataclass(frozen=True)
class Quantity:
    """One row of an error table.

    Attributes:
        name: key of `Evaluation.errors`.
        title: what it is called in a report.
        unit: as shown.
        key_unit: as it stands in the keys of the document, if it does.
    """

    name: str
    title: str
    unit: str
    key_unit: str

    @property
    def _suffix(self) -> str:
        return f"_{self.key_unit}" if self.key_unit else ""

    def mae(self, table: Document) -> float | None:
        """Mean absolute error in an error table of a document."""
        return table.get(f"{self.name}_mean_absolute_error{self._suffix}")

    def rmse(self, table: Document) -> float | None:
        """Root mean square error in an error table of a document."""
        return table.get(f"{self.name}_root_mean_square_error{self._suffix}")

    def count(self, table: Document) -> int | None:
        """How many values were compared."""
        return table.get(f"{self.name}_count")


ENERGY = Quantity("energy", "Energy", "meV", "meV")
ENERGY_PER_ATOM = Quantity("energy_per_atom", "Energy per atom", "meV/atom", "meV_per_atom")
FORCES = Quantity("forces", "Forces", "meV/Å", "meV_per_angstrom")
STRESS = Quantity("stress", "Stress", "GPa", "GPa")

QUANTITIES = (FORCES, ENERGY, ENERGY_PER_ATOM, STRESS)


def present(table: Document) -> tuple[Quantity, ...]:
    """The quantities that an error table has: energies, forces and stress first."""
    found = tuple(q for q in QUANTITIES if q.mae(table) is not None)
    end = "_mean_absolute_error"
    others = sorted(k.removesuffix(end) for k in table if k.endswith(end))
    return found + tuple(_other(name) for name in others)


def _other(name: str) -> Quantity:
    """Another property: a tensor of the label table or a part of it, or a scalar of the user's."""
    target, _, degree = name.partition("_l")
    if target in PROPERTIES and degree.isdigit():
        title = f"{target.capitalize()}, l = {degree}"
        return Quantity(name, title, PROPERTIES[target].unit, "")
    unit = PROPERTIES[name].unit if name in PROPERTIES else ""
    return Quantity(name, name.replace("_", " ").capitalize(), unit, "")
