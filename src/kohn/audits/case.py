"""What a law is given, what it gives back, and how two outcomes are compared."""

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
from kohn.numerics.noise import CERTAIN
from kohn.structures import Structure

VACUUM = 50.0
"""Å between atoms in a box and their images: farther than any cutoff in use."""
T = TypeVar("T")


@dataclass(frozen=True)
class Noise:
    """Standard deviations of what rounding and convergence add to single numbers.

    Attributes:
        energy: eV. forces: eV/Å, of the noisiest component. stress: eV/Å³, likewise.
    """

    energy: float
    forces: float
    stress: float


@dataclass(frozen=True)
class Measurement:
    """One violation.

    Attributes:
        quantity: what differs from what it should be.
        value: by how much.
        unit: of the value.
        error: how much of the value could be noise, or the error of a numerical derivative;
            infinite of what could not be measured.
        note: where, or how large, in words; why it was not measured.
        part: of the law, to which it belongs; the quantity unless a law says another. A law
            passes when all its parts were measured.
    """

    quantity: str
    value: float
    unit: str
    error: float = 0.0
    note: str = ""
    part: str = ""


def not_measured(part: str, why: object) -> Measurement:
    """A part of a law that could not be measured."""
    return Measurement(part, 0.0, "", np.inf, str(why), part)


@dataclass(frozen=True, eq=False)
class Case:
    """One structure, before a law.

    Attributes:
        ask: the calculator.
        s: the structure.
        here: what the calculator says of it.
        noise: of the calculator at this structure.
        rng: random numbers of this law and structure.
        index: which structure of the audit it is.
        temperature: of dynamics, K.
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
        """Forces of the structure."""
        return forces_of(self.here)

    @property
    def stress(self) -> np.ndarray:
        """Stress of the structure."""
        if not has_stress(self.s):
            raise Unmeasured("not periodic, or without a volume")
        if self.here.stress is None:
            of = "" if self.s.periodic.all() else " of slabs"
            raise Unmeasured(lacking("stress", self.here, of))
        return self.here.stress


def needs_lattice(s: Structure) -> None:
    """Refuse a structure that is not periodic along all three vectors."""
    if not (s.periodic.all() and s.volume > 0):
        raise Unmeasured("not periodic in three directions")


def needs_period(s: Structure) -> None:
    """Refuse a structure that is not periodic at all."""
    if not s.periodic.any():
        raise Unmeasured("not periodic")


def needs_atoms(s: Structure, least: int = 2) -> None:
    """Refuse a structure of fewer atoms."""
    if len(s) < least:
        raise Unmeasured("one atom" if len(s) == 1 else f"{len(s)} atoms")


def needs_no_charge(s: Structure) -> None:
    """Refuse a charged structure, of which a multiple has a charge that nobody stated."""
    if np.any(np.asarray(s.info.get("charge", 0)) != 0):
        raise Unmeasured("charged: the charge of two copies is not stated")


def compare(
    case: Case, expected: Outcome, got: Outcome, *, growth: float = 1.0
) -> list[Measurement]:
    """How differently two descriptions of the same thing come out.

    What the calculator gives of one and not of the other is not measured.

    Args:
        growth: by how much the rounding of positions has grown, see `growth`.
    """
    n = len(got.forces) if got.forces is not None else len(case.s)
    noise, scale = case.noise, CERTAIN * growth
    found = [
        Measurement(
            "energy", abs(got.energy - expected.energy) / n, "eV/atom", scale * noise.energy / n
        )
    ]
    for name, unit in (("forces", "eV/Å"), ("stress", "eV/Å³")):
        a, b = getattr(expected, name), getattr(got, name)
        if a is not None and b is not None:
            difference = float(np.abs(a - b).max())
            found.append(Measurement(name, difference, unit, scale * getattr(noise, name)))
        elif a is not None or b is not None:
            found.append(not_measured(name, lacking(name, got if b is None else expected)))
    return found


def growth(before: Structure, after: Structure) -> float:
    """How much farther from the origin atoms are: as a float, a position is as precise as it
    is near the origin, so in float32 noise grows with it."""
    far, now = (max(1.0, float(np.abs(s.positions).max())) for s in (before, after))
    return max(1.0, now / far)


def moved(s: Structure, positions: np.ndarray) -> Structure:
    """The structure with other positions."""
    return replace(s, positions=positions)


def take(s: Structure, which: np.ndarray) -> Structure:
    """These atoms, in this order, some perhaps repeatedly."""
    arrays = {k: np.asarray(v)[which] for k, v in s.arrays.items()}
    return replace(s, numbers=s.numbers[which], positions=s.positions[which], arrays=arrays)


def deformed(s: Structure, f: np.ndarray) -> Structure:
    """Positions and cell under the linear map x → F x."""
    return replace(s, positions=s.positions @ f.T, cell=s.cell @ f.T)


def freed(s: Structure) -> Structure:
    """The same atoms without a cell."""
    return replace(s, cell=np.zeros((3, 3)), periodic=np.zeros(3, bool))


def cluster(s: Structure, size: int, centre: int) -> Structure:
    """An atom with those nearest to it, images included, cut out of what surrounds them.

    Molecules that are small enough stay whole.
    """
    if not s.periodic.any() and len(s) <= size:
        return freed(s)
    needs_atoms(s, 1)
    radius, most = 3.0, 24.0
    while True:
        i, j, _, d = pairs_within(s, radius)
        mine = np.flatnonzero(i == centre)
        if len(mine) >= size - 1 or radius > most:
            break
        radius *= 1.5
    nearest = mine[np.argsort(np.linalg.norm(d[mine], axis=1), kind="stable")][: size - 1]
    which = np.concatenate([[centre], j[nearest]]).astype(int)
    cut = take(s, which)
    return freed(moved(cut, np.vstack([np.zeros(3), d[nearest]])))


def boxed(s: Structure, room: float) -> Structure:
    """The same atoms within a periodic cube, with so much room to move, Å, to each side."""
    side = float(np.ptp(s.positions, axis=0).max()) + 2 * room + VACUUM
    positions = s.positions - s.positions.min(0) + room
    return replace(
        s, positions=positions, cell=np.eye(3) * np.ceil(side), periodic=np.ones(3, bool)
    )


def alone(s: Structure, measure: Callable[[Structure], T], room: float = 0.0) -> tuple[T, str]:
    """What is measured of atoms in vacuum; where that is refused, in a large periodic box.

    Args:
        room: Å that atoms move by.

    Returns:
        The measurement, and what the record has to say of the box.

    Raises:
        Unmeasured: both are refused; what was said of the vacuum first.
    """
    try:
        return measure(s), ""
    except (Unmeasured, Raised) as error:
        first = error
    inside = boxed(s, room)
    box = f"in a periodic box of {inside.cell[0, 0]:.0f} Å"
    try:
        return measure(inside), box
    except (Unmeasured, Raised) as second:
        if str(second) == str(first):
            raise first from None
        raise type(first)(f"{first}; {box}: {second}") from None


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation drawn uniformly, [3, 3] (Mezzadri, Notices AMS 54, 592 (2007))."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)
