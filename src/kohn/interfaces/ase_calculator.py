"""An ASE calculator of a potential: energy, free energy, energies, forces, stress."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from kohn.errors import ConfigError, nearest
from kohn.models import NOT_CONSERVATIVE
from kohn.potential import load
from kohn.structures import Prediction, Predictive, from_ase
from kohn.structures.properties import PREDICTOR

OF_ASE = ("restart", "ignore_bad_restart_file", "label", "atoms", "directory")
"""Arguments of every ASE calculator."""
DEVICES = {"cpu": "cpu", "gpu": "gpu", "cuda": "gpu"}
"""Names of devices -> JAX's."""


class Calculator(AseCalculator):
    """A potential as an ASE calculator.

        atoms.calc = kohn.Calculator("runs/first/model.safetensors")
        atoms.get_potential_energy()

    Labels and results that the atoms carry are not looked at. The neighbour list is kept with a
    skin and found again only when an atom has moved half of it; its padded size only grows, so
    that a long simulation compiles a few times at most (`compilations`).

    Geometries unlike the training data give one warning (`kohn.potential.ExtrapolationWarning`),
    where the model file says what they were; they are looked at whenever neighbours are found.

    Of a potential that is not conservative (`conservative`), forces are predicted directly: they
    are not the derivative of the energy, a simulation does not keep it, and there is no stress.
    A warning says so once. There is also none of structures that are periodic in no direction, or
    whose cell has no volume; of slabs and wires V is the volume of the cell as given.

    Args:
        potential: a `Potential`, or whatever else is `Predictive`; or a model file, or a run
            folder.
        dtype: 'float32' or 'float64'; by default that of the potential.
        skin: of the neighbour list, Å; 0 finds it anew for each geometry.
        device: 'cpu' or 'gpu'; must be the one that JAX runs on, which is the default.
        kwargs: of every ASE calculator.

    Raises:
        ModelFileError: the file cannot be opened.
        ConfigError: an argument that is not known; a device that JAX does not run on.
        InputError: on calculating, an element the model has not seen or a geometry without sense:
            no atoms, numbers that are not finite, a cell without extent, atoms nearer than
            `kohn.potential.extrapolation.NEAREST` of the sum of their covalent radii.
    """

    # ASE's files keep the name beside the results, which are then known for predictions.
    name = PREDICTOR  # type: ignore[assignment]

    implemented_properties: ClassVar[Sequence[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        potential: Predictive | str | Path,
        *,
        dtype: str | None = None,
        skin: float = 0.2,
        device: str | None = None,
        **kwargs: Any,
    ):
        _refuse_unknown(kwargs)
        _refuse_device(device)
        super().__init__(**kwargs)
        opened = load(potential) if isinstance(potential, (str, Path)) else potential
        self.potential = opened if dtype is None else opened.astype(_dtype(dtype))
        if not self.conservative:
            # ASE asks the instance; those of other potentials keep theirs.
            known = [name for name in self.implemented_properties if name != "stress"]
            self.implemented_properties = known  # type: ignore[misc]
            warnings.warn(
                f"{NOT_CONSERVATIVE}. Simulations do not keep their energy, and there is no stress",
                stacklevel=2,
            )
        self._skin = skin
        self._moving = self.potential.moving(skin=skin)

    def __getstate__(self) -> dict[str, Any]:
        """All but the neighbour lists, which are found again."""
        return {k: v for k, v in self.__dict__.items() if k != "_moving"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)  # type: ignore[attr-defined]
        self._moving = self.potential.moving(skin=self._skin)

    def __repr__(self) -> str:
        return f"Calculator({self.potential!r})"

    @property
    def conservative(self) -> bool:
        """Whether forces and stress are derivatives of the energy."""
        return self.potential.conservative

    @property
    def compilations(self) -> int:
        """Shapes that this calculator has needed, and so functions compiled for it."""
        return self._moving.compilations

    @property
    def searches(self) -> int:
        """How often the neighbours were found anew."""
        return self._moving.searches

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; everything is computed at once, as one gradient gives it all."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        found = self._moving(from_ase(self.atoms, labels="none"))
        self.results = results_of(found)


def results_of(prediction: Prediction) -> dict[str, Any]:
    """A prediction as ASE's calculators keep it."""
    found = {
        "energy": prediction.energy,
        "free_energy": prediction.energy,
        "energies": prediction.energies,
        "forces": prediction.forces,
    }
    for name in ("energy_std", "forces_std"):
        if getattr(prediction, name) is not None:
            found[name] = getattr(prediction, name)
    if prediction.stress is not None:
        found["stress"] = full_3x3_to_voigt_6_stress(prediction.stress)
    return found


def _refuse_unknown(arguments: dict[str, Any]) -> None:
    """ASE's base class would keep any argument, and nobody would look at it."""
    known = ("dtype", "skin", "device", *OF_ASE)
    for name in arguments:
        if name not in OF_ASE:
            guess = nearest(name.removeprefix("default_"), known)
            raise ConfigError(
                f"the calculator does not know the argument {name!r}",
                expected=f"one of {', '.join(known)}",
                fix=f"did you mean {guess!r}?" if guess else "remove it",
            )


def _refuse_device(device: str | None) -> None:
    if device is None:
        return
    wanted, there = DEVICES.get(str(device).split(":")[0]), jax.default_backend()
    if wanted != there:
        raise ConfigError(
            f"the calculator cannot run on the device {device!r}",
            expected=f"{there!r}, on which JAX runs here",
            fix="leave `device` out"
            if wanted is None
            else f"start Python with JAX_PLATFORMS={'cuda' if wanted == 'gpu' else wanted}, "
            "and with JAX installed for this device",
        )


def _dtype(name: Any) -> type:
    try:
        found = np.dtype(name).type
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise ConfigError(
            "there is no such precision",
            expected="'float32' or 'float64'",
            received=repr(name),
            fix="leave `dtype` out for that of the potential",
        )
    return found
