"""An ASE calculator of a potential: energy, free energy, energies, forces, stress."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from kohn.graphs import Verlet
from kohn.models import NOT_CONSERVATIVE
from kohn.potential import Potential, load
from kohn.structures import from_ase


class Calculator(AseCalculator):
    """A potential as an ASE calculator.

        atoms.calc = kohn.Calculator("runs/first/model.safetensors")
        atoms.get_potential_energy()

    The neighbour list is kept with a skin and found again only when an atom has moved half of
    it; its padded size only grows, so that a long simulation compiles a few times at most
    (`compilations`).

    Of a potential that is not conservative (`conservative`), forces are predicted directly: they
    are not the derivative of the energy, a simulation does not keep it, and there is no stress.
    A warning says so once.

    Args:
        potential: a `Potential`, or a model file, or a run folder.
        dtype: 'float32' or 'float64'; by default that of the potential.
        skin: of the neighbour list, Å; 0 finds it anew for each geometry.

    Raises:
        ModelFileError: the file cannot be opened.
        InputError: on calculating, an element the model has not seen or a senseless geometry.
    """

    implemented_properties: ClassVar[Sequence[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        potential: Potential | str | Path,
        *,
        dtype: str | None = None,
        skin: float = 0.2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        opened = potential if isinstance(potential, Potential) else load(potential)
        self.potential = opened if dtype is None else opened.astype(np.dtype(dtype).type)
        if not self.conservative:
            # ASE asks the instance; those of other potentials keep theirs.
            known = [name for name in self.implemented_properties if name != "stress"]
            self.implemented_properties = known  # type: ignore[misc]
            warnings.warn(
                f"{NOT_CONSERVATIVE}. Simulations do not keep their energy, and there is no stress",
                stacklevel=2,
            )
        self._skin = skin
        self._lists: dict[tuple[int, ...], Verlet] = {}

    @property
    def conservative(self) -> bool:
        """Whether forces and stress are derivatives of the energy."""
        return self.potential.conservative

    @property
    def compilations(self) -> int:
        """Shapes that this calculator has needed, and so functions compiled for it."""
        return sum(len(verlet.shapes) for verlet in self._lists.values())

    @property
    def searches(self) -> int:
        """How often the neighbours were found anew."""
        return sum(verlet.builds for verlet in self._lists.values())

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; everything is computed at once, as one gradient gives it all."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        structure = from_ase(self.atoms)
        p, n = self.potential, len(structure)
        evaluator = p.evaluator(tuple(np.unique(structure.numbers).tolist()))
        verlet = self._lists.setdefault(
            evaluator.elements, Verlet(p.cutoff, self._skin, evaluator.elements)
        )
        topology = verlet.update(structure)
        positions = np.zeros((topology.species.shape[0], 3))
        positions[:n] = structure.positions
        derived = jax.device_get(
            evaluator.move(topology, jnp.asarray(positions), jnp.asarray(structure.cell))
        )
        e0 = p.e0(structure)
        energy = float(e0.sum() + derived.energy[0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": e0 + np.asarray(derived.atom_energies[:n], np.float64),
            "forces": np.asarray(derived.forces[:n], np.float64),
        }
        if self.conservative and structure.volume > 0 and structure.periodic.all():
            stress = np.asarray(derived.stress[0], np.float64)
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
