"""The quantities that errors are reported for, with the keys that evaluations give them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Quantity:
    """One row of an error table.

    Attributes:
        name: key of `Evaluation.errors`.
        title: what it is called in a report.
        unit: as shown.
        key_unit: as it stands in the keys of the document.
    """

    name: str
    title: str
    unit: str
    key_unit: str

    def mae(self, table: dict[str, Any]) -> float | None:
        """Mean absolute error in an error table of a document."""
        return table.get(f"{self.name}_mean_absolute_error_{self.key_unit}")

    def rmse(self, table: dict[str, Any]) -> float | None:
        """Root mean square error in an error table of a document."""
        return table.get(f"{self.name}_root_mean_square_error_{self.key_unit}")

    def count(self, table: dict[str, Any]) -> int | None:
        """How many values were compared."""
        return table.get(f"{self.name}_count")


ENERGY = Quantity("energy", "Energy", "meV", "meV")
ENERGY_PER_ATOM = Quantity("energy_per_atom", "Energy per atom", "meV/atom", "meV_per_atom")
FORCES = Quantity("forces", "Forces", "meV/Å", "meV_per_angstrom")
STRESS = Quantity("stress", "Stress", "GPa", "GPa")

QUANTITIES = (FORCES, ENERGY, ENERGY_PER_ATOM, STRESS)


def present(table: dict[str, Any]) -> tuple[Quantity, ...]:
    """The quantities that an error table has."""
    return tuple(q for q in QUANTITIES if q.mae(table) is not None)
