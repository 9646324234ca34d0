"""Measure jumps of the energy E, the force F and dF/dr along paths, and the energy of two atoms.

E and F are computed at points of a path. At every other point they are predicted from neighbouring
points: if they are smooth, the error of the prediction, the surprise, is small, and falls with the
sixth power of the step. Around the largest surprises the step is halved; a surprise that falls like
that of a smooth function is dropped. The other jumps are measured: cubic polynomials through the
points on either side are extrapolated to where they should meet, and the smallest gap between them
is the jump. Two steps are used: a real jump does not shrink with the step; what shrinks is error.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement

import numpy as np
from ase.data import covalent_radii

from kohn.audits.case import (
    Case,
    Measurement,
    Noise,
    alone,
    cluster,
    moved,
    not_measured,
    take,
    without_cell,
)
from kohn.audits.counted_calculator import Unmeasured, forces_of
from kohn.audits.totals import CUT
from kohn.interfaces.calculator_process import Raised
from kohn.numerics.noise import NOISE_MULTIPLE, scatter
from kohn.structures import Structure
from kohn.structures.elements import symbol

SCALES = (10.0, 1.0, 0.01)
"""Factors that turn jumps of E (eV), F (eV/Å) and dF/dr (eV/Å²) into eV/Å: as if E jumped within
0.1 Å, and as if dF/dr differed over 0.01 Å."""
NAMES = (("E", "eV"), ("F", "eV/Å"), ("dF/dr", "eV/Å²"))
LEAST = 2e-5
"""eV/Å: smaller jumps, converted by `SCALES`, are ignored. The law's threshold is larger."""
SUSPECTS = 2
"""Number of points of a path, those of largest surprise, around which the step is halved."""
HALVINGS = 5
"""Number of times that the step is halved around a suspect point of a path."""
SMOOTH = 16.0
"""A surprise is dropped if halving the step divides it by more than this: by 2⁶ = 64 if the force
F is smooth. It is divided by 2 if the slope of F jumps, and by 1 if F jumps."""
FARTHEST = 12.0
"""Å: the largest distance along the paths of two atoms and of an atom that leaves a cluster."""


@dataclass
class Path:
    """Energy E and force F = −dE/dt along a path, computed once at each position t.

    Attributes:
        ask: position t on the path, Å -> (E, F).
        position: coordinate u -> position t, smooth; the path is sampled at u = 0, 1, … last.
        last: the number of intervals.
        name: the name of the path, for notes.
        known: position t -> E and F, as far as computed.
    """

    ask: Callable[[float], tuple[float, float]]
    position: Callable[[float], float]
    last: int
    name: str
    known: dict[float, np.ndarray] = field(default_factory=dict)

    def __call__(self, positions: Iterable[float]) -> np.ndarray:
        """Return the energy, eV, and the force, eV/Å, at each position t, [positions, 2]."""
        values = []
        for t in map(float, positions):
            if t not in self.known:
                self.known[t] = np.array(self.ask(t))
            values.append(self.known[t])
        return np.array(values)


@dataclass(frozen=True)
class Suspect:
    """A point of a path at which neighbouring points do not predict energy and force.

    Attributes:
        u, step: the coordinate u of the point on the path, and the step in u to the next points.
        surprise: the error of the prediction, converted to eV/Å by `SCALES`.
        weight: the surprise over the forces nearby, because a steep function is not suspicious.
    """

    u: float
    step: float
    surprise: float
    weight: float


def smoothness(case: Case) -> list[Measurement]:
    """Measure whether lim E, lim F and lim dF/dr agree from both sides of any point of a path.

    The paths are: two atoms drawn apart; an atom drawn out of a cluster, past its neighbours; in a
    crystal also an atom moved by 0.8 Å. The pair of elements changes with the structure. If the
    calculator refuses vacuum, a large periodic box replaces it. Each path is a part of the law.
    """
    _ = case.forces
    measurements: list[Measurement] = []
    notes, refused = [], []
    for line in (dimer_line(case), pulling_line(case), displacement_line(case)):
        if line is None:
            continue

        def measure(s: Structure, line: Line = line) -> list[Measurement]:
            path = Path(_force_along(case, s, line.direction), line.position, line.last, line.name)
            return jumps(path, case.noise)

        try:
            lone = not line.start.periodic.any()
            gaps, box = alone(line.start, measure, FARTHEST) if lone else (measure(line.start), "")
        except (Unmeasured, Raised) as error:  # some calculators refuse clusters
            refused.append(error)
            measurements.append(not_measured(line.name, error))
            continue
        measurements += [replace(m, part=line.name) for m in gaps]
        real = [m for m in gaps if m.value > max(m.error, LEAST)]
        notes += [m.note for m in sorted(real, key=lambda m: -m.value)[:1]]
        notes += [f"{line.name} {box}"] if box else []
    if len(refused) == len(measurements):
        raise refused[0]
    note = "; ".join(notes)
    return [replace(m, note=note) if np.isfinite(m.error) else m for m in measurements]


def jumps(path: Path, noise: Noise) -> list[Measurement]:
    """Return the jumps along a path, in eV/Å by `SCALES`; one jump of 0 if the path has none."""
    measurements = []
    for suspect in _suspects(path, 0.0, 1.0, path.last + 1, noise)[:SUSPECTS]:
        refined = _refined(path, suspect, noise)
        if refined is not None:
            measurements += _gaps(path, refined, noise)
    rounding = NOISE_MULTIPLE * max(SCALES[0] * noise.energy, SCALES[1] * noise.forces)
    return measurements or [Measurement("largest jump", 0.0, "eV/Å", rounding)]


def _suspects(path: Path, start: float, step: float, count: int, noise: Noise) -> list[Suspect]:
    """Return points u = start + k step of odd k that points of even k do not predict, worst first.

    The ends are skipped: with neighbours on one side only, jumps elsewhere give larger surprises.
    """
    u = start + step * np.arange(count)
    t = np.array([path.position(x) for x in u])
    values = path(t)
    even = np.arange(0, count, 2)
    rounding = 3 * NOISE_MULTIPLE * np.array([noise.energy, noise.forces])
    suspects: list[Suspect] = []
    for k in range(3, count - 3, 2):
        near = np.sort(even[np.argsort(np.abs(even - k), kind="stable")[:6]])
        errors = np.abs(values[k] - _lagrange(near - k) @ values[near])
        # A slope that jumps by J between points at a distance h gives a surprise ≥ J h / 20.
        slope = LEAST / SCALES[2] * (t[k + 1] - t[k - 1]) / 40
        least = np.array([LEAST / SCALES[0], min(LEAST, slope)])
        if (errors > np.maximum(rounding, least)).any():
            surprise = float(max(SCALES[0] * errors[0], SCALES[1] * errors[1]))
            force = float(np.abs(values[near, 1]).max())
            suspects.append(Suspect(u[k], step, surprise, surprise / (LEAST + 0.01 * force)))
    suspects.sort(key=lambda s: -s.weight)
    separate: list[Suspect] = []
    for s in suspects:
        if all(abs(s.u - other.u) > 5 * step for other in separate):
            separate.append(s)
    return separate


def _refined(path: Path, suspect: Suspect, noise: Noise) -> Suspect | None:
    """Return the suspect with a step 2⁵ times smaller; None if smaller steps show no jump."""
    for _ in range(HALVINGS):
        # Twelve intervals of half the step: most of their even points are known already.
        start = min(max(suspect.u - 3 * suspect.step, 0.0), path.last - 6 * suspect.step)
        suspects = _suspects(path, start, suspect.step / 2, 13, noise)
        if not suspects:
            return None
        worst = max(suspects, key=lambda s: s.surprise)
        if worst.surprise * SMOOTH < suspect.surprise:
            return None
        suspect = worst
    return suspect


def _gaps(path: Path, suspect: Suspect, noise: Noise) -> list[Measurement]:
    """Measure the jumps at a suspect, by steps w and w/2 on both sides of a bracket of width w.

    The noise is measured again next to the bracket: rounding grows with the rounded values, and
    two atoms that repel each other have other energies and forces than the structure.
    """
    low, high = (path.position(suspect.u + side * suspect.step) for side in (-1, 1))
    width, inside = high - low, np.linspace(low, high, 41)
    nearby = path(high + 1e-4 * np.arange(1, 10))
    energy, force = (
        max(noise.energy, scatter(nearby[:, 0])),
        max(noise.forces, scatter(nearby[:, 1])),
    )
    gaps, position = [], low
    for step in (width, width / 2):
        left, right = low - step * np.arange(4), high + step * np.arange(4)
        between = _extrapolated(path, right, inside) - _extrapolated(path, left, inside)
        gaps.append([_smallest(g) for g in between])
        # F jumps where E is equal on both sides, its slope where F is equal; E in the bracket.
        agreeing = next((k for k in (0, 1) if gaps[-1][k + 1] * SCALES[k + 1] > LEAST), 1)
        position = inside[np.argmin(np.abs(between[agreeing]))]
    # Cubics extrapolated by w from steps of w/2 multiply noise by up to 70, slopes by 150 / w.
    amplified = (70 * energy, 70 * force, 150 * force / width)
    measurements = []
    for (name, unit), scale, a, b, rounding in zip(NAMES, SCALES, *gaps, amplified, strict=True):
        error = abs(a - b) + NOISE_MULTIPLE * rounding
        note = f"{name} jumps by {b:.2g} {unit} at {position:.3f} Å, {path.name}"
        measurements.append(Measurement(f"jump in {name}", scale * b, "eV/Å", scale * error, note))
    return measurements


def _extrapolated(path: Path, x: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return E, F and dF/dt at positions `inside`, [3, positions], by cubics through those at x."""
    step = abs(x[1] - x[0])
    u, t = (x - x[0]) / step, (inside - x[0]) / step
    c = np.linalg.solve(np.vander(u, 4), path(x))
    slope = np.polyval(np.polyder(c[:, 1]), t) / step
    return np.array([np.polyval(c[:, 0], t), np.polyval(c[:, 1], t), slope])


def _smallest(gap: np.ndarray) -> float:
    """Return the smallest |gap|; 0 if the gap changes sign, because the two sides meet there."""
    return 0.0 if gap.min() <= 0 <= gap.max() else float(np.abs(gap).min())


def _lagrange(x: np.ndarray) -> np.ndarray:
    """Return Lagrange weights w such that Σ_i w_i f(x_i) is the value at 0 of the polynomial
    through the points (x_i, f(x_i))."""
    d = x[:, None] - x[None] + np.eye(len(x))
    e = np.where(np.eye(len(x), dtype=bool), 1.0, -x[None])
    return e.prod(1) / d.prod(1)


# Paths


@dataclass(frozen=True, eq=False)
class Line:
    """The geometry of a path: how the atoms of a structure move.

    Attributes:
        start: the structure at t = 0. direction: the move of each atom per unit of t, [n, 3].
        position, last, name: as in `Path`.
    """

    start: Structure
    direction: np.ndarray
    position: Callable[[float], float]
    last: int
    name: str


def pair_of_atoms(case: Case) -> tuple[np.ndarray, float]:
    """Choose two elements; return the index of an atom of each, and the sum of their radii, Å."""
    present = np.unique(case.s.numbers)
    pairs = list(combinations_with_replacement(present.tolist(), 2))
    a, b = pairs[case.index % len(pairs)]
    atoms = np.array([np.flatnonzero(case.s.numbers == z)[0] for z in (a, b)])
    return atoms, float(covalent_radii[[a, b]].sum())


def dimer_line(case: Case) -> Line:
    """Return the path of two atoms in vacuum, from 0.8 of the sum of covalent radii to 12 Å."""
    atoms, bond = pair_of_atoms(case)
    direction = np.array([[0.0, 0, 0], [1, 0, 0]])
    nearest, last = 0.8 * bond, 40

    def position(u: float) -> float:
        return nearest * (FARTHEST / nearest) ** (u / last)

    return Line(dimer(case, atoms, 0.0), direction, position, last, f"{_pair(case, atoms)} alone")


def pulling_line(case: Case) -> Line | None:
    """Return the path of an outermost atom drawn 12 Å out of a cluster; None for a lone atom."""
    if len(case.s) == 1 and not case.s.periodic.any():
        return None
    cut = cluster(case.s, CUT, int(case.rng.integers(len(case.s))))
    x = cut.positions - cut.positions.mean(0)
    atom = int(np.argmax(np.linalg.norm(x, axis=1)))
    # The direction is not quite outwards, so that symmetric neighbours are passed one by one.
    v = x[atom] / np.linalg.norm(x[atom]) + 0.2 * case.rng.normal(size=3)
    direction = np.zeros_like(x)
    direction[atom] = v / np.linalg.norm(v)
    last = 40

    def position(u: float) -> float:
        return 1.5 * ((1.5 + FARTHEST) / 1.5) ** (u / last) - 1.5

    return Line(cut, direction, position, last, f"atom drawn out of {len(cut)}")


def displacement_line(case: Case) -> Line | None:
    """Return the path of an atom moved by −0.4 to 0.4 Å; None for a molecule or a single atom."""
    if len(case.s) == 1 or not case.s.periodic.any():
        return None
    direction = np.zeros_like(case.s.positions)
    atom = int(case.rng.integers(len(direction)))
    v = case.rng.normal(size=3)
    direction[atom] = v / np.linalg.norm(v)
    return Line(case.s, direction, lambda u: 0.04 * (u - 10), 20, f"atom {atom} moved")


def _force_along(case: Case, s: Structure, direction: np.ndarray) -> Callable:
    """Return a function t -> (E, F · v) for atoms at x + t v, where v is the direction."""

    def energy_and_force(t: float) -> tuple[float, float]:
        outcome = case.ask(moved(s, s.positions + t * direction), stress=False)
        return outcome.energy, float(np.sum(forces_of(outcome) * direction))

    return energy_and_force


# Diagnostics


def short_range(case: Case) -> list[Measurement]:
    """Compare the lowest energy of two atoms nearer than 0.6 bonds with that beyond 0.7 bonds.

    A bond is the sum of the covalent radii. A negative difference is a hole, into which atoms fall.
    Distances below the larger of 0.3 Å and 0.21 bonds have no meaning and are not computed.
    """
    atoms, bond = pair_of_atoms(case)
    near = np.geomspace(max(0.3, 0.21 * bond), 0.6 * bond, 8)
    far = np.linspace(0.7 * bond, 2 * bond, 8)
    energies, box = _energies(case, atoms, np.concatenate([near, far]))
    near_energies, far_energies = np.split(energies, [len(near)])
    depth = float(near_energies.min() - far_energies.min())
    r = float(near[np.argmin(near_energies)])
    kind = f"hole at {r:.2g} Å" if depth < 0 else f"repulsive, lowest at {r:.2g} Å"
    note = " ".join(x for x in (f"{_pair(case, atoms)}: {kind}", box) if x)
    return [Measurement("short range", depth, "eV", note=note)]


def dissociation(case: Case) -> list[Measurement]:
    """Measure how much the energy of two atoms still changes beyond 8 Å."""
    atoms, _ = pair_of_atoms(case)
    r = np.array([4.0, 5, 6, 7, 8, 9, 10, FARTHEST])
    energies, box = _energies(case, atoms, r)
    changes = np.abs(energies - energies[-1])
    flat = r[np.flatnonzero(changes > 1e-3)[-1] + 1] if (changes > 1e-3).any() else r[0]
    note = " ".join(x for x in (f"{_pair(case, atoms)}: within 1 meV from {flat:g} Å", box) if x)
    return [Measurement("change beyond 8 Å", float(changes[r >= 8].max()), "eV", note=note)]


def dimer(case: Case, which: np.ndarray, r: float) -> Structure:
    """Return a dimer in vacuum: the two atoms with the indices `which`, r apart, Å."""
    return moved(without_cell(take(case.s, which)), np.array([[0.0, 0, 0], [r, 0, 0]]))


def _energies(case: Case, atoms: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the energies of two atoms at the given distances, and a note on the box, if used."""
    direction = np.array([[0.0, 0, 0], [1, 0, 0]])

    def measure(s: Structure) -> np.ndarray:
        pairs = (moved(s, s.positions + r * direction) for r in distances)
        return np.array([case.ask(x, forces=False, stress=False).energy for x in pairs])

    return alone(dimer(case, atoms, 0.0), measure, FARTHEST)


def _pair(case: Case, atoms: np.ndarray) -> str:
    return "–".join(symbol(z) for z in case.s.numbers[atoms].tolist())
