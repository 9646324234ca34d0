"""Define the input and the result of a law; change structures, and compare their results."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from kohn.audits.counted_calculator import (
    CountedCalculator,
    Outcome,
    Unmeasured,
    forces_of,
    has_stress,
    lacking,
)
from kohn.graphs import pairs_within
from kohn.interfaces.calculator_process import Raised
from kohn.numerics.noise import NOISE_MULTIPLE
from kohn.structures import Structure

VACUUM = 50.0
"""Å between atoms in a box and their periodic images: more than any cutoff in use."""
T = TypeVar("T")


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the numerical noise that rounding and convergence cause.

    Attributes:
        energy: of the total energy, eV. forces, stress: of the noisiest component, eV/Å, eV/Å³.
    """

    energy: float
    forces: float
    stress: float


@dataclass(frozen=True)
class Measurement:
    """One measurement of how much a calculator violates a law.

    Attributes:
        quantity: the name of the quantity that is compared with its expected value.
        value: the violation: the difference of the quantity from its expected value.
        unit: the unit of `value` and `error`.
        error: the part of `value` that noise or a numerical derivative may have caused; infinite
            if the quantity could not be measured.
        note: where or how large the violation is, in words; or why there is no measurement.
        part: the part of the law that is measured; '' if the quantity itself is the part. A law
            passes only if all its parts were measured.
    """

    quantity: str
    value: float
    unit: str
    error: float = 0.0
    note: str = ""
    part: str = ""


def not_measured(part: str, why: object) -> Measurement:
    """Return a `Measurement` that states why a part of a law could not be measured."""
    return Measurement(part, 0.0, "", np.inf, str(why), part)


@dataclass(frozen=True, eq=False)
class Case:
    """The input of a law: one structure, its calculator and random numbers.

    Attributes:
        ask: the calculator, a function of a structure.
        s: the structure.
        here: energy, forces and stress of the structure, as the calculator gives them.
        noise: the numerical noise of the calculator at the structure.
        rng: the generator of random numbers for this law and structure.
        index: the index of the structure in the audit.
        temperature: the temperature of the dynamics, K.
    """

    ask: CountedCalculator
    s: Structure
    here: Outcome
    noise: Noise
    rng: np.random.Generator
    index: int = 0
    temperature: float = 300.0

    @property
    def forces(self) -> np.ndarray:
        """The forces on the atoms, eV/Å, [n, 3]; raises Unmeasured if the calculator gives none."""
        return forces_of(self.here)

    @property
    def stress(self) -> np.ndarray:
        """The stress, eV/Å³, [3, 3]; raises Unmeasured if structure or calculator have none."""
        if not has_stress(self.s):
            raise Unmeasured("not periodic, or without a volume")
        if self.here.stress is None:
            kind = "" if self.s.periodic.all() else " of slabs"
            raise Unmeasured(lacking("stress", self.here, kind))
        return self.here.stress


def needs_lattice(s: Structure) -> None:
    """Raise Unmeasured unless the structure is periodic along all three cell vectors."""
    if not (s.periodic.all() and s.volume > 0):
        raise Unmeasured("not periodic in three directions")


def needs_period(s: Structure) -> None:
    """Raise Unmeasured unless the structure is periodic along at least one cell vector."""
    if not s.periodic.any():
        raise Unmeasured("not periodic")


def needs_atoms(s: Structure, least: int = 2) -> None:
    """Raise Unmeasured if the structure has fewer than `least` atoms."""
    if len(s) < least:
        raise Unmeasured("one atom" if len(s) == 1 else f"{len(s)} atoms")


def needs_no_charge(s: Structure) -> None:
    """Raise Unmeasured if the structure is charged: the charge of two copies is not known."""
    if np.any(np.asarray(s.info.get("charge", 0)) != 0):
        raise Unmeasured("charged: the charge of two copies is not stated")


def compare(
    case: Case, expected: Outcome, got: Outcome, *, growth: float = 1.0
) -> list[Measurement]:
    """Compare energy, forces and stress of two equivalent descriptions of one structure.

    A quantity that the calculator gives for only one of the two counts as not measured.

    Args:
        growth: the factor by which rounding errors have grown, from the function `growth`.
    """
    n = len(got.forces) if got.forces is not None else len(case.s)
    noise, scale = case.noise, NOISE_MULTIPLE * growth
    measurements = [
        Measurement(
            "energy", abs(got.energy - expected.energy) / n, "eV/atom", scale * noise.energy / n
        )
    ]
    for name, unit in (("forces", "eV/Å"), ("stress", "eV/Å³")):
        a, b = getattr(expected, name), getattr(got, name)
        if a is not None and b is not None:
            difference = float(np.abs(a - b).max())
            measurements.append(Measurement(name, difference, unit, scale * getattr(noise, name)))
        elif a is not None or b is not None:
            measurements.append(not_measured(name, lacking(name, got if b is None else expected)))
    return measurements


def growth(before: Structure, after: Structure) -> float:
    """Return the factor, at least 1, by which the largest coordinate grows from before to after.
    Rounding errors of positions, and with them noise in float32, grow with the coordinates."""
    old, new = (max(1.0, float(np.abs(s.positions).max())) for s in (before, after))
    return max(1.0, new / old)


def moved(s: Structure, positions: np.ndarray) -> Structure:
    """Return the structure s with its atoms at the given positions, Å."""
    return replace(s, positions=positions)


def take(s: Structure, which: np.ndarray) -> Structure:
    """Return the structure of the atoms with indices `which`, in this order; atoms may repeat."""
    arrays = {k: np.asarray(v)[which] for k, v in s.arrays.items()}
    return replace(s, numbers=s.numbers[which], positions=s.positions[which], arrays=arrays)


def deformed(s: Structure, f: np.ndarray) -> Structure:
    """Return the structure after the linear map x → F x of its positions and cell vectors."""
    return replace(s, positions=s.positions @ f.T, cell=s.cell @ f.T)


def without_cell(s: Structure) -> Structure:
    """Return the atoms of s at the same positions, without a cell."""
    return replace(s, cell=np.zeros((3, 3)), periodic=np.zeros(3, bool))


def cluster(s: Structure, size: int, centre: int) -> Structure:
    """Cut out the atom `centre` and the atoms nearest to it, at most `size` atoms, without a cell.

    Periodic images count as atoms. A molecule of at most `size` atoms stays whole.
    """
    if not s.periodic.any() and len(s) <= size:
        return without_cell(s)
    needs_atoms(s, 1)
    radius, largest = 3.0, 24.0
    while True:
        i, j, _, d = pairs_within(s, radius)
        edges = np.flatnonzero(i == centre)
        if len(edges) >= size - 1 or radius > largest:
            break
        radius *= 1.5
    nearest = edges[np.argsort(np.linalg.norm(d[edges], axis=1), kind="stable")][: size - 1]
    atoms = np.concatenate([[centre], j[nearest]]).astype(int)
    return without_cell(moved(take(s, atoms), np.vstack([np.zeros(3), d[nearest]])))


def boxed(s: Structure, room: float) -> Structure:
    """Return the atoms of s in a periodic cube, large enough for moves by `room`, Å."""
    side = float(np.ptp(s.positions, axis=0).max()) + 2 * room + VACUUM
    positions = s.positions - s.positions.min(0) + room
    return replace(
        s, positions=positions, cell=np.eye(3) * np.ceil(side), periodic=np.ones(3, bool)
    )


def alone(s: Structure, measure: Callable[[Structure], T], room: float = 0.0) -> tuple[T, str]:
    """Measure atoms in vacuum or, if the calculator refuses vacuum, in a large periodic box.

    Args:
        room: the distance by which `measure` moves atoms at most, Å.

    Returns:
        The result of `measure`, and a note on the box for the record, '' in vacuum.

    Raises:
        Unmeasured, Raised: the calculator refuses both; the message has both reasons.
    """
    try:
        return measure(s), ""
    except (Unmeasured, Raised) as error:
        in_vacuum = error
    in_box = boxed(s, room)
    box = f"in a periodic box of {in_box.cell[0, 0]:.0f} Å"
    try:
        return measure(in_box), box
    except (Unmeasured, Raised) as error:
        if str(error) == str(in_vacuum):
            raise in_vacuum from None
        raise type(in_vacuum)(f"{in_vacuum}; {box}: {error}") from None


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Return a uniformly random rotation matrix, [3, 3] (Mezzadri, Notices AMS 54, 592 (2007))."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)
