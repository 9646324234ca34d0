"""Define the quantities whose errors are reported, with their keys in evaluations."""

from dataclasses import dataclass

from kohn.structures.properties import PROPERTIES
from kohn.typing import Document


@dataclass(frozen=True)
class Quantity:
    """A quantity whose errors are one row of an error table.

    Attributes:
        name: key of the quantity in `Evaluation.errors`.
        title: name of the quantity in a report.
        unit: unit in a report.
        key_unit: unit at the end of the keys in JSON documents, or empty.
    """

    name: str
    title: str
    unit: str
    key_unit: str

    @property
    def _suffix(self) -> str:
        return f"_{self.key_unit}" if self.key_unit else ""

    def mae(self, table: Document) -> float | None:
        """Return the mean absolute error in an error table, or None if the table lacks it."""
        return table.get(f"{self.name}_mean_absolute_error{self._suffix}")

    def rmse(self, table: Document) -> float | None:
        """Return the root mean square error in an error table, or None if the table lacks it."""
        return table.get(f"{self.name}_root_mean_square_error{self._suffix}")

    def count(self, table: Document) -> int | None:
        """Return the number of compared values in an error table, or None if the table lacks it."""
        return table.get(f"{self.name}_count")


ENERGY = Quantity("energy", "Energy", "meV", "meV")
ENERGY_PER_ATOM = Quantity("energy_per_atom", "Energy per atom", "meV/atom", "meV_per_atom")
FORCES = Quantity("forces", "Forces", "meV/Å", "meV_per_angstrom")
STRESS = Quantity("stress", "Stress", "GPa", "GPa")

QUANTITIES = (FORCES, ENERGY, ENERGY_PER_ATOM, STRESS)


def present(table: Document) -> tuple[Quantity, ...]:
    """Return the quantities of an error table: forces, energies and stress, then others by name."""
    known = tuple(q for q in QUANTITIES if q.mae(table) is not None)
    end = "_mean_absolute_error"
    others = sorted(k.removesuffix(end) for k in table if k.endswith(end))
    return known + tuple(_property_quantity(name) for name in others)


def _property_quantity(name: str) -> Quantity:
    """Return the quantity of a property: a label, its part of degree l, or a scalar of the user."""
    target, _, degree = name.partition("_l")
    if target in PROPERTIES and degree.isdigit():
        title = f"{target.capitalize()}, l = {degree}"
        return Quantity(name, title, PROPERTIES[target].unit, "")
    unit = PROPERTIES[name].unit if name in PROPERTIES else ""
    return Quantity(name, name.replace("_", " ").capitalize(), unit, "")
