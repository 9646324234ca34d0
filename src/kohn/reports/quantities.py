"""Define the quantities whose errors are reported, with their keys in evaluations."""

from dataclasses import dataclass

from kohn.structures.properties import PROPERTIES
from kohn.typing import Document


@dataclass(frozen=True)
class Quantity:
    """One row of an error table.

    Attributes:
        name: key of `Evaluation.errors`.
        title: name in a report.
        unit: unit as shown.
        key_unit: unit in the keys of the document, or empty.
    """

    name: str
    title: str
    unit: str
    key_unit: str

    @property
    def _suffix(self) -> str:
        return f"_{self.key_unit}" if self.key_unit else ""

    def mae(self, table: Document) -> float | None:
        """Return the mean absolute error in an error table of a document."""
        return table.get(f"{self.name}_mean_absolute_error{self._suffix}")

    def rmse(self, table: Document) -> float | None:
        """Return the root mean square error in an error table of a document."""
        return table.get(f"{self.name}_root_mean_square_error{self._suffix}")

    def count(self, table: Document) -> int | None:
        """Return the number of values that were compared."""
        return table.get(f"{self.name}_count")


ENERGY = Quantity("energy", "Energy", "meV", "meV")
ENERGY_PER_ATOM = Quantity("energy_per_atom", "Energy per atom", "meV/atom", "meV_per_atom")
FORCES = Quantity("forces", "Forces", "meV/Å", "meV_per_angstrom")
STRESS = Quantity("stress", "Stress", "GPa", "GPa")

QUANTITIES = (FORCES, ENERGY, ENERGY_PER_ATOM, STRESS)


def present(table: Document) -> tuple[Quantity, ...]:
    """Return the quantities that an error table has: forces, energies and stress first."""
    known = tuple(q for q in QUANTITIES if q.mae(table) is not None)
    end = "_mean_absolute_error"
    others = sorted(k.removesuffix(end) for k in table if k.endswith(end))
    return known + tuple(_other(name) for name in others)


def _other(name: str) -> Quantity:
    """Return another property: a tensor of the label table or its part, or a scalar of the user."""
    target, _, degree = name.partition("_l")
    if target in PROPERTIES and degree.isdigit():
        title = f"{target.capitalize()}, l = {degree}"
        return Quantity(name, title, PROPERTIES[target].unit, "")
    unit = PROPERTIES[name].unit if name in PROPERTIES else ""
    return Quantity(name, name.replace("_", " ").capitalize(), unit, "")
