"""Relax structures: move atoms and the cell of a crystal until forces and stress vanish.

    relaxed = kohn.simulation.relax(potential, structure)
    relaxed.structure, relaxed.energy, relaxed.problem

A learned potential is unreliable for geometries unlike its data: its energy may fall without end
there, with atoms on top of each other or a cell that collapses. Every geometry is checked before
its energy is computed, and one that is not sane (beyond the limits below) stops the relaxation.

The same input gives the same bytes, whatever the relaxer did before: padding depends on the
structure alone, because more padding may change the rounding of sums.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.stress import voigt_6_to_full_3x3_stress
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from kohn.errors import InputError
from kohn.graphs import check_geometry, ladder_shape, species_index
from kohn.interfaces.ase_calculator import results_of
from kohn.models import NOT_CONSERVATIVE
from kohn.potential import MovingPotential, Potential, as_potential
from kohn.structures import Readable, Structure, from_ase, structures_of
from kohn.structures.elements import covalent_radii, symbol
from kohn.structures.neighbours import pairs

NEAREST = 0.5
"""Atoms nearer to each other than this share of the sum of their covalent radii are not sane."""
START = 0.95
"""The limit is this share of the nearest distance at the start, if that is below `NEAREST`."""
VOLUME = 2.0
"""The volume of a crystal may grow or shrink by at most this factor."""
REACH = 0.9
"""Share of the cutoff within which neighbours hold atoms together. Neighbours farther away hardly
hold atoms, and atoms that fly apart would come to rest there as if converged."""
ROUNDING = 1e-9
"""eV: energies closer than this are equal."""
SKIN = 0.2
"""Skin of the neighbour list, Å."""


@dataclass(frozen=True, eq=False)
class Relaxed:
    """The result of a relaxation.

    Attributes:
        structure: the relaxed structure, without labels; only positions and cell change. If not
            converged, it has the geometry of lowest energy among the sane ones.
        energy: the energy of `structure`, eV; apart from rounding never above that of the start.
        max_force: the length of the longest force on an atom, eV/Å.
        max_stress: the largest component of the stress, eV/Å³; None if stress is not defined.
        steps: the number of steps taken.
        converged: whether forces, and the stress if the cell moves, are below the threshold.
        problem: why the relaxation stopped, or why the result is no minimum; empty if converged.
    """

    structure: Structure
    energy: float
    max_force: float
    max_stress: float | None
    steps: int
    converged: bool
    problem: str


def relax(
    potential: Potential | str | Path,
    structure: Readable,
    *,
    fmax: float = 0.05,
    steps: int = 500,
    cell: bool | None = None,
) -> Relaxed:
    """Relax one structure; for many structures, a `Relaxer` compiles less often.

    Args:
        potential: a potential, its file or run folder. structure: anything `kohn.read` reads.

    The arguments `fmax`, `steps` and `cell`, and the errors, are those of `Relaxer.__call__`.
    """
    structures = structures_of(structure)
    if len(structures) != 1:
        raise InputError("give exactly one structure", received=f"{len(structures)} structures")
    opened = as_potential(potential)
    elements = np.unique(structures[0].numbers).tolist()
    return Relaxer(opened, elements=elements)(structures[0], fmax=fmax, steps=steps, cell=cell)


class Relaxer:
    """An object that relaxes many structures with one potential, in float64.

    Functions are compiled for a few sizes and for all elements at once, so that structures of
    similar size share the compiled functions, whatever their composition.

    Args:
        potential: a conservative potential: forces must be the derivative of the energy.
        elements: atomic numbers of the structures to come; by default all that the potential
            knows. Fewer elements make a step cheaper. A structure with other elements is relaxed
            too, but the functions compiled for it are not shared.

    Raises:
        InputError: the potential is not conservative, or has not seen one of the elements.
    """

    def __init__(self, potential: Potential, *, elements: Sequence[int] | None = None):
        if not potential.conservative:
            raise InputError(
                "structures cannot be relaxed with this potential",
                expected="forces that are the derivative of the energy: then both vanish together",
                received=NOT_CONSERVATIVE,
                fix="relax with a conservative potential",
            )
        known = potential.elements if elements is None else tuple(sorted(set(map(int, elements))))
        self._calculator = _CheckedCalculator(potential.astype(np.float64), known)
        self._calculator.potential.compiled(known)  # refuses elements that it has not seen

    @property
    def compilations(self) -> int:
        """Number of compilations so far: one for each set of elements and padded shape."""
        return self._calculator.moving.compilations

    def __call__(
        self,
        structure: Structure,
        *,
        fmax: float = 0.05,
        steps: int = 500,
        cell: bool | None = None,
    ) -> Relaxed:
        """Relax a structure: move atoms, and the cell of a crystal, until forces and stress vanish.

        The optimiser is ASE's BFGS, with ASE's `FrechetCellFilter` for the cell. BFGS uses absolute
        eigenvalues, so that it goes downhill whatever the curvature. All of 26 starts (silicon
        rattled by up to 0.4 Å, strained by 10 %, random; oxides; ethanol) converged, in 1,169
        evaluations; L-BFGS with a line search took 1,962, FIRE 1,634, FIRE2 1,225 and lost one.
        BFGS ended in a higher minimum than another optimiser once, the others two or three times.

        A structure whose forces vanish by symmetry does not move, whether it is a minimum or not:
        rattle it to find out. Constraints are not supported; a molecule keeps its cell, if any.

        Args:
            structure: the start; its labels are ignored.
            fmax: threshold, eV/Å, for the force on each atom and, if the cell moves, for the rows
                of stress · volume / atoms (at 20 Å³ an atom, 0.0025 eV/Å³ or 0.4 GPa).
            steps: the largest number of steps; with 0 nothing moves.
            cell: whether the cell moves; by default if the structure is periodic in all directions.

        Raises:
            InputError: an element that the potential has not seen; an invalid start: no atoms,
                not finite, two atoms at one point, a cell too small for its atoms; `cell=True` for
                a structure not periodic in all directions; an invalid `fmax` or `steps`.
        """
        cell_moves = _cell_moves(structure, cell)
        calculator = self._calculator
        check_geometry(structure, calculator.potential.cutoff)
        _check(structure, fmax, steps)
        calculator.begin(structure)
        atoms = Atoms(
            structure.numbers, structure.positions, cell=structure.cell, pbc=structure.periodic
        )
        atoms.calc = calculator
        try:
            calculator.calculate(atoms)
        except _Stopped as stopped:
            return calculator.result(structure, 0, False, str(stopped))
        target = FrechetCellFilter(atoms) if cell_moves else atoms
        return calculator.result(structure, *_optimise(target, fmax, steps))


def _optimise(target: Any, fmax: float, steps: int) -> tuple[int, bool, str]:
    """Optimise atoms or a cell filter; return the steps, whether converged, and any problem."""
    optimiser = BFGS(target, logfile=None)
    converged, problem = False, ""
    try:
        # Matrices of strain have three rows, those of their functions six: threads of BLAS only
        # wait for each other, and took 90 % of the time on a machine with other work.
        with threadpool_limits(1, "blas"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of matrix functions; the results are checked
            converged = bool(optimiser.run(fmax=fmax, steps=steps))
    except _Stopped as stopped:
        problem = str(stopped)
    except Exception as error:
        # A failure of one structure among thousands must not end the work on the others.
        problem = f"the optimiser failed: {type(error).__name__}: {error}".splitlines()[0]
    return optimiser.nsteps, converged, problem


def _cell_moves(structure: Structure, cell: bool | None) -> bool:
    """Return whether the cell moves; refuse to move a cell without three periodic directions."""
    crystal = bool(structure.periodic.all())
    if cell and not crystal:
        raise InputError(
            "this structure has no cell to relax",
            where=structure.place,
            expected="periodic in all three directions",
            received=f"periodic {structure.periodic.tolist()}",
            fix="leave `cell` out, or set it to False",
        )
    return crystal if cell is None else cell


def _check(structure: Structure, fmax: float, steps: int) -> None:
    """Refuse invalid arguments, and cells so small that an atom has too many neighbours."""
    if not (np.isfinite(fmax) and fmax > 0):
        raise InputError("fmax must be positive, in eV/Å", received=str(fmax))
    if steps < 0:
        raise InputError("steps must not be negative", received=str(steps))
    if len(structure) == 0:
        raise InputError("there are no atoms to relax", where=structure.place)
    # The atoms as spheres that must not overlap: if sane, they fit into the cell.
    filled = float((4 / 3 * np.pi * (NEAREST * covalent_radii(structure.numbers)) ** 3).sum())
    if structure.periodic.all() and structure.volume < filled:
        raise InputError(
            "the cell is too small for its atoms",
            where=structure.place,
            expected=f"at least {filled:.3g} Å³",
            received=f"{structure.volume:.3g} Å³",
            fix="check that cell and positions are in Å",
        )


class _Stopped(Exception):
    """The relaxation reached a geometry that is not sane; the message says why."""


@dataclass(frozen=True, eq=False)
class _Point:
    """A sane geometry, its energy, force and stress, in the units of `Relaxed`."""

    positions: np.ndarray
    cell: np.ndarray
    energy: float
    max_force: float
    max_stress: float | None


class _CheckedCalculator(Calculator):
    """An ASE calculator for successive relaxations, which checks each geometry before it computes.
    Of the sane geometries it keeps the first, the last and the one of lowest energy.

    Args:
        potential: a potential in float64. elements: those for which functions are compiled.
    """

    implemented_properties: ClassVar[Sequence[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, potential: Potential, elements: tuple[int, ...]):
        super().__init__()
        self.potential = potential
        self.moving = MovingPotential(
            potential, skin=SKIN, choose_shape=ladder_shape, elements=elements, checked=False
        )
        self.start: _Point | None = None
        self.last: _Point | None = None
        self.lowest: _Point | None = None

    def begin(self, structure: Structure) -> None:
        """Prepare for the relaxation of a new structure: forget all but the compiled functions.

        Raises:
            InputError: an element that the potential has not seen; an invalid geometry.
        """
        self.reset()
        species_index(structure, self.potential.elements)
        self.moving.forget()
        self._limits = _Limits.of(structure, self.potential.cutoff)
        self.start = self.last = self.lowest = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; raise `_Stopped` if the geometry or a result is not sane."""
        assert atoms is not None
        self._limits.check(atoms)
        super().calculate(atoms, properties, system_changes)
        self.results = results_of(self.moving(from_ase(atoms, labels="none")))
        point = _point(atoms, self.results)
        if self.lowest is None or point.energy < self.lowest.energy:
            self.lowest = point
        self.start, self.last = self.start or point, point

    def result(self, structure: Structure, steps: int, converged: bool, problem: str) -> Relaxed:
        """Return the result of the relaxation of `structure`."""
        if self.start is None or self.last is None or self.lowest is None:
            unchanged = replace(structure, labels={})
            return Relaxed(unchanged, np.nan, np.nan, None, steps, False, problem)
        rose = self.last.energy - self.start.energy
        if converged and rose > ROUNDING:
            converged, problem = False, f"it ended {rose:.3g} eV above the start"
        point = self.last if converged else self.lowest
        if not converged and not problem:
            stress = "" if point.max_stress is None else f", stress {point.max_stress:.2g} eV/Å³"
            problem = f"not converged in {steps} steps: largest force {point.max_force:.2g} eV/Å"
            problem += stress
        geometry = {"positions": point.positions, "cell": point.cell}
        relaxed = replace(structure, labels={}, **geometry)
        values = (point.energy, point.max_force, point.max_stress)
        return Relaxed(relaxed, *values, steps, converged, problem)


def _point(atoms: Atoms, results: dict[str, Any]) -> _Point:
    """Return a geometry with its results; raise `_Stopped` if a result is not finite."""
    energy, forces, stress = results["energy"], results["forces"], results.get("stress")
    for name, value in (("energy", energy), ("forces", forces), ("stress", stress)):
        if value is not None and not np.isfinite(value).all():
            raise _Stopped(f"{name} {'are' if name == 'forces' else 'is'} not finite")
    return _Point(
        atoms.positions.copy(),
        atoms.cell.array.copy(),
        energy,
        float(np.linalg.norm(forces, axis=1).max()),
        None if stress is None else float(np.abs(voigt_6_to_full_3x3_stress(stress)).max()),
    )


@dataclass(frozen=True, eq=False)
class _Limits:
    """The limits within which a geometry is sane, taken from the start of the relaxation.

    Attributes:
        numbers: atomic numbers, [n].
        nearest: the smallest sane distance of atoms, as a share of the sum of covalent radii.
        volume: the volume of the start, Å³; 0 unless periodic in all directions.
        groups: the number of groups at the start: atoms of a group are linked within `REACH`.
        cutoff: the cutoff of the potential, Å.
    """

    numbers: np.ndarray
    nearest: float
    volume: float
    groups: int
    cutoff: float

    @classmethod
    def of(cls, structure: Structure, cutoff: float) -> "_Limits":
        """Return the limits of a relaxation that starts from a structure."""
        share, _, groups = _nearest_and_groups(structure, cutoff)
        volume = structure.volume if structure.periodic.all() else 0.0
        return cls(structure.numbers, min(NEAREST, START * share), volume, groups, cutoff)

    def check(self, atoms: Atoms) -> None:
        """Raise `_Stopped` if the atoms are beyond one of the limits."""
        s = Structure(self.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
        if not (np.isfinite(s.positions).all() and np.isfinite(s.cell).all()):
            raise _Stopped("positions or cell are not finite")
        # The volume comes first: in a collapsed cell an atom has too many neighbours.
        if self.volume and not self.volume / VOLUME <= s.volume <= self.volume * VOLUME:
            raise _Stopped(f"the volume changed by a factor {s.volume / self.volume:.3g}")
        share, pair, groups = _nearest_and_groups(s, self.cutoff)
        if share < self.nearest:
            raise _Stopped(
                f"atoms came nearer than {self.nearest:.2g} of the sum of their covalent radii: "
                f"{pair}"
            )
        if groups > self.groups:
            raise _Stopped(
                f"the atoms fell apart: {groups} groups, {self.groups} at the start, farther from "
                f"each other than {REACH:g} of the cutoff, {REACH * self.cutoff:.3g} Å"
            )


def _nearest_and_groups(s: Structure, cutoff: float) -> tuple[float, str, int]:
    """Return the smallest distance / sum of covalent radii, its pair, and the number of groups."""
    radii = covalent_radii(s.numbers)
    i, j, r = pairs(s, max(cutoff, 2 * NEAREST * float(radii.max())))
    shares = r / (radii[i] + radii[j])
    near = r < REACH * cutoff
    linked = csr_array((np.ones(near.sum()), (i[near], j[near])), shape=(len(s), len(s)))
    groups = int(connected_components(linked, directed=False, return_labels=False))
    if len(r) == 0:
        return np.inf, "", groups
    p = int(np.argmin(shares))
    a, b = (f"{symbol(s.numbers[k])} {k}" for k in (int(i[p]), int(j[p])))
    return float(shares[p]), f"{a} and {b}, {r[p]:.2g} Å", groups
