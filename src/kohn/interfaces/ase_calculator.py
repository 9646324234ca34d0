"""Provide a potential as an ASE calculator of energy, energies of atoms, forces and stress."""

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
from kohn.potential import as_potential
from kohn.structures import Prediction, Predictive, from_ase
from kohn.structures.properties import PREDICTOR

ASE_ARGUMENTS = ("restart", "ignore_bad_restart_file", "label", "atoms", "directory")
"""Arguments that every ASE calculator accepts."""
DEVICES = {"cpu": "cpu", "gpu": "gpu", "cuda": "gpu"}
"""Name of a device, as users write it -> the name of this device in JAX."""


class Calculator(AseCalculator):
    """A potential as an ASE calculator.

        atoms.calc = kohn.Calculator("runs/first/model.safetensors")
        atoms.get_potential_energy()

    Labels and results of the atoms are ignored. The neighbour list has a skin, and is built again
    only when an atom has moved by half the skin. The padded size of the list only grows, so that a
    long simulation compiles a few times at most (`compilations`).

    Each new neighbour list is checked: the first geometry unlike the training data gives a warning
    (`kohn.potential.ExtrapolationWarning`), if the model file describes these data.

    A potential that is not conservative (`conservative`) predicts forces directly: the forces are
    not the derivative of the energy, a simulation does not conserve the energy, and there is no
    stress; a warning says so. Structures that are periodic in no direction, or whose cell has no
    volume, have no stress either; that of slabs and wires refers to the cell's volume as given.

    Args:
        potential: a `Potential` or any other `Predictive`; or the path of a model file or run
            folder.
        dtype: 'float32' or 'float64'; the precision of the potential by default.
        skin: the skin of the neighbour list, Å; with 0 each geometry gets a new list.
        device: 'cpu' or 'gpu'; only the device on which JAX runs, the default, is accepted.
        kwargs: arguments that every ASE calculator accepts.

    Raises:
        ModelFileError: the file cannot be opened.
        ConfigError: an unknown argument; a device on which JAX does not run.
        InputError: in a calculation, an element that the model has not seen or an invalid geometry:
            no atoms, numbers that are not finite, a cell without extent, atoms nearer than
            `kohn.potential.extrapolation.NEAREST` of the sum of their covalent radii.
    """

    # ASE's files store this name with the results, which marks them as predictions.
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
        opened = as_potential(potential)
        self.potential = opened if dtype is None else opened.astype(_dtype(dtype))
        if not self.conservative:
            # ASE reads the list of the instance; other potentials keep the list of the class.
            properties = [name for name in self.implemented_properties if name != "stress"]
            self.implemented_properties = properties  # type: ignore[misc]
            warnings.warn(
                f"{NOT_CONSERVATIVE}. Simulations do not conserve energy, and there is no stress",
                stacklevel=2,
            )
        self._skin = skin
        self._moving = self.potential.moving(skin=skin)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle, without the neighbour lists, which are built again."""
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
        """Number of compilations so far: one for each set of elements and padded shape."""
        return self._moving.compilations

    @property
    def searches(self) -> int:
        """Number of searches for neighbours so far."""
        return self._moving.searches

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results` with all properties, requested or not: one gradient gives all of them."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        prediction = self._moving(from_ase(self.atoms, labels="none"))
        self.results = results_of(prediction)


def results_of(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as the dictionary `results` of an ASE calculator."""
    results = {
        "energy": prediction.energy,
        "free_energy": prediction.energy,
        "energies": prediction.energies,
        "forces": prediction.forces,
    }
    for name in ("energy_std", "forces_std"):
        if getattr(prediction, name) is not None:
            results[name] = getattr(prediction, name)
    if prediction.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress)
    return results


def _refuse_unknown(arguments: dict[str, Any]) -> None:
    """Refuse unknown arguments, which ASE's base class would keep and ignore."""
    known = ("dtype", "skin", "device", *ASE_ARGUMENTS)
    for name in arguments:
        if name not in ASE_ARGUMENTS:
            guess = nearest(name.removeprefix("default_"), known)
            raise ConfigError(
                f"the calculator does not know the argument {name!r}",
                expected=f"one of {', '.join(known)}",
                fix=f"did you mean {guess!r}?" if guess else "remove it",
            )


def _refuse_device(device: str | None) -> None:
    if device is None:
        return
    wanted, available = DEVICES.get(str(device).split(":")[0]), jax.default_backend()
    if wanted != available:
        raise ConfigError(
            f"the calculator cannot run on the device {device!r}",
            expected=f"{available!r}, on which JAX runs here",
            fix="leave `device` out"
            if wanted is None
            else f"start Python with JAX_PLATFORMS={'cuda' if wanted == 'gpu' else wanted}, "
            "and with JAX installed for this device",
        )


def _dtype(name: Any) -> type:
    try:
        dtype = np.dtype(name).type
    except TypeError:
        dtype = None
    if dtype not in (np.float32, np.float64):
        raise ConfigError(
            "there is no such precision",
            expected="'float32' or 'float64'",
            received=repr(name),
            fix="leave `dtype` out for that of the potential",
        )
    return dtype
