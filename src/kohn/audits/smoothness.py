"""Measure jumps in E, F and dF/dr at any distance and, as diagnostics, the energy of two atoms.

A path is sampled. At every other point the value is predicted from its neighbours: if a function
is smooth, the surprise is small, and falls with the sixth power of the step. Around the largest
surprises the step is refined; a surprise that falls like that of a smooth function is dropped.
The others are measured: cubic polynomials through points on either side are extrapolated to where
they should meet, and the smallest gap at any place between them is the jump. It is measured with
two steps: a real jump does not shrink with the step, and a part that shrinks is error.
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
    freed,
    moved,
    not_measured,
    take,
)
from kohn.audits.counted_calculator import Unmeasured, forces_of
from kohn.audits.totals import CUT
from kohn.interfaces.calculator_process import Raised
from kohn.numerics.noise import NOISE_MULTIPLE, scatter
from kohn.structures import Structure
from kohn.structures.elements import symbol

SCALES = (10.0, 1.0, 0.01)
"""Factors that turn jumps in E (eV), F (eV/Å) and dF/dr (eV/Å²) into eV/Å: as if E jumped over
0.1 Å, and as if the slope held for 0.01 Å."""
NAMES = (("E", "eV"), ("F", "eV/Å"), ("dF/dr", "eV/Å²"))
LEAST = 2e-5
"""eV/Å: smaller jumps, on that scale, are not searched. The threshold of the law is larger."""
SUSPECTS = 2
"""Number of places on a path at which the step is refined."""
HALVINGS = 5
"""Number of times that the step is halved there."""
SMOOTH = 16.0
"""Halving the step divides the surprise by 2⁶ = 64 if F is smooth, by 2 if its slope jumps and
by 1 if F jumps."""
FARTHEST = 12.0
"""Å: the largest distance of a scan."""


@dataclass
class Path:
    """Energy and force along a path, each place computed once.

    Attributes:
        ask: t in Å -> (E, −dE/dt).
        place: u -> t, smooth; the path is sampled at u = 0 … last.
        last: number of intervals.
        name: the name of the path.
        known: t -> E and F, as computed.
    """

    ask: Callable[[float], tuple[float, float]]
    place: Callable[[float], float]
    last: int
    name: str
    known: dict[float, np.ndarray] = field(default_factory=dict)

    def __call__(self, places: Iterable[float]) -> np.ndarray:
        """Return E and F at each t, [len, 2]."""
        values = []
        for t in map(float, places):
            if t not in self.known:
                self.known[t] = np.array(self.ask(t))
            values.append(self.known[t])
        return np.array(values)


@dataclass(frozen=True)
class Suspect:
    """A point that its neighbours do not predict.

    Attributes:
        u, step: its place, and the distance to the next points.
        surprise: its difference from their prediction, on the scale of `SCALES`.
        weight: the surprise relative to the forces there: a steep function is not suspicious.
    """

    u: float
    step: float
    surprise: float
    weight: float


def smoothness(case: Case) -> list[Measurement]:
    """Measure if lim E, lim F and lim dF/dr are the same from both sides of any distance.

    The paths are: two atoms drawn apart; an atom drawn out of a cluster, past its neighbours; in a
    crystal also an atom moved by 0.8 Å. The pair of elements changes with the structure. A path
    that is refused in vacuum is repeated in a large periodic box. Each path is a part of the law.
    """
    _ = case.forces
    measurements: list[Measurement] = []
    notes, refused = [], []
    for line in (dimer_line(case), pulling_line(case), displacement_line(case)):
        if line is None:
            continue

        def measure(s: Structure, line: Line = line) -> list[Measurement]:
            path = Path(_along(case, s, line.direction), line.place, line.last, line.name)
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
    """Return the jumps along a path, on the scale of `SCALES`; one jump of 0 if it has none."""
    measurements = []
    for suspect in _suspects(path, 0.0, 1.0, path.last + 1, noise)[:SUSPECTS]:
        refined = _refined(path, suspect, noise)
        if refined is not None:
            measurements += _gaps(path, refined, noise)
    rounding = NOISE_MULTIPLE * max(SCALES[0] * noise.energy, SCALES[1] * noise.forces)
    return measurements or [Measurement("largest jump", 0.0, "eV/Å", rounding)]


def _suspects(path: Path, start: float, step: float, count: int, noise: Noise) -> list[Suspect]:
    """Return odd points of u = start + k step that even ones do not predict, the worst first.

    The ends are left out: their neighbours lie on one side, and a jump elsewhere surprises more.
    """
    u = start + step * np.arange(count)
    t = np.array([path.place(x) for x in u])
    values = path(t)
    even = np.arange(0, count, 2)
    rounding = 3 * NOISE_MULTIPLE * np.array([noise.energy, noise.forces])
    suspects: list[Suspect] = []
    for k in range(3, count - 3, 2):
        near = np.sort(even[np.argsort(np.abs(even - k), kind="stable")[:6]])
        errors = np.abs(values[k] - _lagrange(near - k) @ values[near])
        # A slope that jumps by J between points at a distance h surprises by at least J h / 20.
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
    """Return the suspect with a step 2⁵ times smaller, or None if refinement clears it."""
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
    """Measure the jumps at a suspect, from steps w and w/2 outside of a bracket of width w.

    The noise is measured again next to it: rounding grows with the values that are rounded, and
    two atoms that repel each other have other energies and forces than the structure.
    """
    low, high = (path.place(suspect.u + side * suspect.step) for side in (-1, 1))
    width, inside = high - low, np.linspace(low, high, 41)
    nearby = path(high + 1e-4 * np.arange(1, 10))
    energy, force = (
        max(noise.energy, scatter(nearby[:, 0])),
        max(noise.forces, scatter(nearby[:, 1])),
    )
    gaps, place = [], low
    for step in (width, width / 2):
        left, right = low - step * np.arange(4), high + step * np.arange(4)
        between = _extrapolated(path, right, inside) - _extrapolated(path, left, inside)
        gaps.append([_smallest(g) for g in between])
        # F jumps where both sides agree in E, its slope where they agree in F; E in the bracket.
        agreeing = next((k for k in (0, 1) if gaps[-1][k + 1] * SCALES[k + 1] > LEAST), 1)
        place = inside[np.argmin(np.abs(between[agreeing]))]
    # Cubics extrapolated by w from steps of w/2 multiply noise by up to 70, slopes by 150 / w.
    amplified = (70 * energy, 70 * force, 150 * force / width)
    measurements = []
    for (name, unit), scale, a, b, rounding in zip(NAMES, SCALES, *gaps, amplified, strict=True):
        error = abs(a - b) + NOISE_MULTIPLE * rounding
        note = f"{name} jumps by {b:.2g} {unit} at {place:.3f} Å, {path.name}"
        measurements.append(Measurement(f"jump in {name}", scale * b, "eV/Å", scale * error, note))
    return measurements


def _extrapolated(path: Path, x: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return E, F and dF/dt in the bracket, [3, len], by cubics through four points next to it."""
    step = abs(x[1] - x[0])
    u, t = (x - x[0]) / step, (inside - x[0]) / step
    c = np.linalg.solve(np.vander(u, 4), path(x))
    slope = np.polyval(np.polyder(c[:, 1]), t) / step
    return np.array([np.polyval(c[:, 0], t), np.polyval(c[:, 1], t), slope])


def _smallest(gap: np.ndarray) -> float:
    """Return the smallest |gap|, which is 0 if the gap changes sign: there the two sides meet."""
    return 0.0 if gap.min() <= 0 <= gap.max() else float(np.abs(gap).min())


def _lagrange(x: np.ndarray) -> np.ndarray:
    """Return the weights of values at x in the polynomial through them, evaluated at 0."""
    d = x[:, None] - x[None] + np.eye(len(x))
    e = np.where(np.eye(len(x), dtype=bool), 1.0, -x[None])
    return e.prod(1) / d.prod(1)


# Paths


@dataclass(frozen=True, eq=False)
class Line:
    """The geometry of a path.

    Attributes:
        start: the structure at t = 0. direction: the direction of its atoms, [n, 3].
        place, last, name: as in `Path`.
    """

    start: Structure
    direction: np.ndarray
    place: Callable[[float], float]
    last: int
    name: str


def elements_of_pair(case: Case) -> tuple[np.ndarray, float]:
    """Return two atoms of a pair of elements, as indices, and the sum of covalent radii, Å."""
    present = np.unique(case.s.numbers)
    pairs = list(combinations_with_replacement(present.tolist(), 2))
    a, b = pairs[case.index % len(pairs)]
    atoms = np.array([np.flatnonzero(case.s.numbers == z)[0] for z in (a, b)])
    return atoms, float(covalent_radii[[a, b]].sum())


def dimer_line(case: Case) -> Line:
    """Return the path of two atoms in vacuum, r from 0.8 of the sum of covalent radii to 12 Å."""
    atoms, bond = elements_of_pair(case)
    direction = np.array([[0.0, 0, 0], [1, 0, 0]])
    nearest, last = 0.8 * bond, 40

    def place(u: float) -> float:
        return nearest * (FARTHEST / nearest) ** (u / last)

    return Line(dimer(case, atoms, 0.0), direction, place, last, f"{_pair(case, atoms)} alone")


def pulling_line(case: Case) -> Line | None:
    """Return the path of the outermost atom of a cluster, drawn out of it by up to 12 Å."""
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

    def place(u: float) -> float:
        return 1.5 * ((1.5 + FARTHEST) / 1.5) ** (u / last) - 1.5

    return Line(cut, direction, place, last, f"atom drawn out of {len(cut)}")


def displacement_line(case: Case) -> Line | None:
    """Return the path of an atom of a crystal, moved from −0.4 to 0.4 Å."""
    if len(case.s) == 1 or not case.s.periodic.any():
        return None
    direction = np.zeros_like(case.s.positions)
    atom = int(case.rng.integers(len(direction)))
    v = case.rng.normal(size=3)
    direction[atom] = v / np.linalg.norm(v)
    return Line(case.s, direction, lambda u: 0.04 * (u - 10), 20, f"atom {atom} moved")


def _along(case: Case, s: Structure, direction: np.ndarray) -> Callable:
    """Return the function of t that computes (E, F · v) at x + t v."""

    def energy_and_force(t: float) -> tuple[float, float]:
        outcome = case.ask(moved(s, s.positions + t * direction), stress=False)
        return outcome.energy, float(np.sum(forces_of(outcome) * direction))

    return energy_and_force


# Diagnostics


def short_range(case: Case) -> list[Measurement]:
    """Compare the lowest energy of two atoms nearer than 0.6 of a bond with that of farther ones.

    A negative difference is a hole, into which atoms that are too near fall. Distances start at
    the larger of 0.3 Å and 0.21 of a bond: shorter ones have no meaning.
    """
    atoms, bond = elements_of_pair(case)
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
    atoms, _ = elements_of_pair(case)
    r = np.array([4.0, 5, 6, 7, 8, 9, 10, FARTHEST])
    energies, box = _energies(case, atoms, r)
    changes = np.abs(energies - energies[-1])
    flat = r[np.flatnonzero(changes > 1e-3)[-1] + 1] if (changes > 1e-3).any() else r[0]
    note = " ".join(x for x in (f"{_pair(case, atoms)}: within 1 meV from {flat:g} Å", box) if x)
    return [Measurement("change beyond 8 Å", float(changes[r >= 8].max()), "eV", note=note)]


def dimer(case: Case, which: np.ndarray, r: float) -> Structure:
    """Return two atoms of the structure in vacuum, at the distance r."""
    return moved(freed(take(case.s, which)), np.array([[0.0, 0, 0], [r, 0, 0]]))


def _energies(case: Case, atoms: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the energies of two atoms at these distances, and a note on the box, if used."""
    direction = np.array([[0.0, 0, 0], [1, 0, 0]])

    def measure(s: Structure) -> np.ndarray:
        pairs = (moved(s, s.positions + r * direction) for r in distances)
        return np.array([case.ask(x, forces=False, stress=False).energy for x in pairs])

    return alone(dimer(case, atoms, 0.0), measure, FARTHEST)


def _pair(case: Case, atoms: np.ndarray) -> str:
    return "–".join(symbol(z) for z in case.s.numbers[atoms].tolist())
