"""Jumps in E, in F and in dF/dr, wherever they are; and, as diagnostics, two atoms alone.

A path is sampled. At every other point the value is predicted from its neighbours: where a
function is smooth the surprise is small, and falls with the sixth power of the step. Around the
greatest surprises the step is refined; a surprise that falls as smooth ones do is dropped. What
is left is measured: cubic polynomials through points on either side are carried on to where they
should meet, and the least gap that any place between allows is the jump. It is taken from two
steps: a real jump does not shrink with the step, and what does shrink is error.
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
from kohn.numerics.noise import CERTAIN, scatter
from kohn.structures import Structure
from kohn.structures.elements import symbol

SCALES = (10.0, 1.0, 0.01)
"""What makes one number of jumps in E (eV), F (eV/Å) and dF/dr (eV/Å²): eV/Å, as if E jumped
over 0.1 Å, and as if the slope held for 0.01 Å."""
NAMES = (("E", "eV"), ("F", "eV/Å"), ("dF/dr", "eV/Å²"))
LEAST = 2e-5
"""eV/Å: jumps below, on that scale, are not looked for. The threshold of the law is larger."""
SUSPECTS = 2
"""Places on a path that are looked at more closely."""
HALVINGS = 5
"""Of the step there."""
SMOOTH = 16.0
"""Halving the step divides surprise by 2⁶ = 64 where F is smooth, by 2 where its slope jumps and
by 1 where F does."""
FARTHEST = 12.0
"""Å: where scans end."""


@dataclass
class Path:
    """Energy and force along a path, each place computed once.

    Attributes:
        ask: t in Å -> (E, −dE/dt).
        place: u -> t, smooth; the path is sampled at u = 0 … last.
        last: number of intervals.
        name: of the path.
        known: t -> what was computed.
    """

    ask: Callable[[float], tuple[float, float]]
    place: Callable[[float], float]
    last: int
    name: str
    known: dict[float, np.ndarray] = field(default_factory=dict)

    def __call__(self, places: Iterable[float]) -> np.ndarray:
        """E and F at t, [len, 2]."""
        found = []
        for t in map(float, places):
            if t not in self.known:
                self.known[t] = np.array(self.ask(t))
            found.append(self.known[t])
        return np.array(found)


@dataclass(frozen=True)
class Suspect:
    """A point that its neighbours do not predict.

    Attributes:
        u, step: its place, and the distance to the next points.
        surprise: by how much it is not what they predict, on the scale of `SCALES`.
        weight: the same beside the forces there: steep is not suspicious.
    """

    u: float
    step: float
    surprise: float
    weight: float


def smoothness(case: Case) -> list[Measurement]:
    """lim E, lim F and lim dF/dr are the same from both sides of any distance.

    Along: two atoms drawn apart; an atom drawn out of a cluster, past its neighbours; in a
    crystal also an atom moved by 0.8 Å. The pair of elements changes from frame to frame. What is
    refused in vacuum is asked for again in a large periodic box. The law has a part for each path.
    """
    _ = case.forces
    found: list[Measurement] = []
    notes, refused = [], []
    for line in (dimer_line(case), pulling_line(case), displacement_line(case)):
        if line is None:
            continue

        def along(s: Structure, line: Line = line) -> list[Measurement]:
            path = Path(_along(case, s, line.direction), line.place, line.last, line.name)
            return jumps(path, case.noise)

        try:
            lone = not line.start.periodic.any()
            here, box = alone(line.start, along, FARTHEST) if lone else (along(line.start), "")
        except (Unmeasured, Raised) as error:  # of clusters some calculators know nothing
            refused.append(error)
            found.append(not_measured(line.name, error))
            continue
        found += [replace(m, part=line.name) for m in here]
        real = [m for m in here if m.value > max(m.error, LEAST)]
        notes += [m.note for m in sorted(real, key=lambda m: -m.value)[:1]]
        notes += [f"{line.name} {box}"] if box else []
    if len(refused) == len(found):
        raise refused[0]
    said = "; ".join(notes)
    return [replace(m, note=said) if np.isfinite(m.error) else m for m in found]


def jumps(path: Path, noise: Noise) -> list[Measurement]:
    """Jumps along a path, on one scale (see `SCALES`); one of nothing where there is none."""
    found = []
    for suspect in _suspects(path, 0.0, 1.0, path.last + 1, noise)[:SUSPECTS]:
        closer = _refined(path, suspect, noise)
        if closer is not None:
            found += _gaps(path, closer, noise)
    rounding = CERTAIN * max(SCALES[0] * noise.energy, SCALES[1] * noise.forces)
    return found or [Measurement("largest jump", 0.0, "eV/Å", rounding)]


def _suspects(path: Path, start: float, step: float, count: int, noise: Noise) -> list[Suspect]:
    """Odd points of u = start + k step that even ones do not predict, the worst first.

    Not at the ends, where points lie to one side only and a jump elsewhere shows more.
    """
    u = start + step * np.arange(count)
    t = np.array([path.place(x) for x in u])
    values = path(t)
    even = np.arange(0, count, 2)
    rounding = 3 * CERTAIN * np.array([noise.energy, noise.forces])
    found: list[Suspect] = []
    for k in range(3, count - 3, 2):
        near = np.sort(even[np.argsort(np.abs(even - k), kind="stable")[:6]])
        wrong = np.abs(values[k] - _lagrange(near - k) @ values[near])
        # A slope that jumps by J between points that are h apart surprises by J h / 20 or more.
        slope = LEAST / SCALES[2] * (t[k + 1] - t[k - 1]) / 40
        least = np.array([LEAST / SCALES[0], min(LEAST, slope)])
        if (wrong > np.maximum(rounding, least)).any():
            surprise = float(max(SCALES[0] * wrong[0], SCALES[1] * wrong[1]))
            usual = float(np.abs(values[near, 1]).max())
            found.append(Suspect(u[k], step, surprise, surprise / (LEAST + 0.01 * usual)))
    found.sort(key=lambda s: -s.weight)
    apart: list[Suspect] = []
    for s in found:
        if all(abs(s.u - other.u) > 5 * step for other in apart):
            apart.append(s)
    return apart


def _refined(path: Path, suspect: Suspect, noise: Noise) -> Suspect | None:
    """The suspect with a step 2⁵ times smaller, or None where refinement clears it."""
    for _ in range(HALVINGS):
        # Twelve intervals of half the step: most of their even points are known already.
        start = min(max(suspect.u - 3 * suspect.step, 0.0), path.last - 6 * suspect.step)
        closer = _suspects(path, start, suspect.step / 2, 13, noise)
        if not closer:
            return None
        worst = max(closer, key=lambda s: s.surprise)
        if worst.surprise * SMOOTH < suspect.surprise:
            return None
        suspect = worst
    return suspect


def _gaps(path: Path, suspect: Suspect, noise: Noise) -> list[Measurement]:
    """The jumps at a suspect, from steps w and w/2 outside of a bracket of width w.

    The noise is measured anew beside it: that of rounding grows with what is rounded, and two
    atoms that repel each other have other energies and forces than the structure.
    """
    low, high = (path.place(suspect.u + side * suspect.step) for side in (-1, 1))
    width, inside = high - low, np.linspace(low, high, 41)
    beside = path(high + 1e-4 * np.arange(1, 10))
    energy, force = (
        max(noise.energy, scatter(beside[:, 0])),
        max(noise.forces, scatter(beside[:, 1])),
    )
    gaps, place = [], low
    for step in (width, width / 2):
        left, right = low - step * np.arange(4), high + step * np.arange(4)
        between = _continued(path, right, inside) - _continued(path, left, inside)
        gaps.append([_least(g) for g in between])
        # A jump of F is where E meets, one of its slope where F does; of E it is in the bracket.
        meets = next((k for k in (0, 1) if gaps[-1][k + 1] * SCALES[k + 1] > LEAST), 1)
        place = inside[np.argmin(np.abs(between[meets]))]
    # Cubics carried on by w from steps of w/2 multiply noise by up to 70, their slopes by 150 / w.
    amplified = (70 * energy, 70 * force, 150 * force / width)
    found = []
    for (name, unit), scale, a, b, rounding in zip(NAMES, SCALES, *gaps, amplified, strict=True):
        error = abs(a - b) + CERTAIN * rounding
        note = f"{name} jumps by {b:.2g} {unit} at {place:.3f} Å, {path.name}"
        found.append(Measurement(f"jump in {name}", scale * b, "eV/Å", scale * error, note))
    return found


def _continued(path: Path, x: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """E, F and dF/dt within the bracket, [3, len], by the cubics through four points beside it."""
    step = abs(x[1] - x[0])
    u, t = (x - x[0]) / step, (inside - x[0]) / step
    c = np.linalg.solve(np.vander(u, 4), path(x))
    slope = np.polyval(np.polyder(c[:, 1]), t) / step
    return np.array([np.polyval(c[:, 0], t), np.polyval(c[:, 1], t), slope])


def _least(gap: np.ndarray) -> float:
    """The smallest |gap|: none where it changes sign, because there the two sides meet."""
    return 0.0 if gap.min() <= 0 <= gap.max() else float(np.abs(gap).min())


def _lagrange(x: np.ndarray) -> np.ndarray:
    """Weights of values at x in the polynomial through them, at 0."""
    d = x[:, None] - x[None] + np.eye(len(x))
    e = np.where(np.eye(len(x), dtype=bool), 1.0, -x[None])
    return e.prod(1) / d.prod(1)


# Paths


@dataclass(frozen=True, eq=False)
class Line:
    """Where a path leads.

    Attributes:
        start: the structure at t = 0. direction: of its atoms, [n, 3].
        place, last, name: as of `Path`.
    """

    start: Structure
    direction: np.ndarray
    place: Callable[[float], float]
    last: int
    name: str


def elements_of_pair(case: Case) -> tuple[np.ndarray, float]:
    """Indices of two atoms of a pair of elements, and the sum of their covalent radii, Å."""
    present = np.unique(case.s.numbers)
    pairs = list(combinations_with_replacement(present.tolist(), 2))
    a, b = pairs[case.index % len(pairs)]
    which = np.array([np.flatnonzero(case.s.numbers == z)[0] for z in (a, b)])
    return which, float(covalent_radii[[a, b]].sum())


def dimer_line(case: Case) -> Line:
    """Two atoms in vacuum, r from 0.8 of the sum of covalent radii to 12 Å."""
    which, bond = elements_of_pair(case)
    apart = np.array([[0.0, 0, 0], [1, 0, 0]])
    nearest, last = 0.8 * bond, 40

    def place(u: float) -> float:
        return nearest * (FARTHEST / nearest) ** (u / last)

    return Line(dimer(case, which, 0.0), apart, place, last, f"{_pair(case, which)} alone")


def pulling_line(case: Case) -> Line | None:
    """The outermost atom of a cluster, drawn out of it by up to 12 Å."""
    if len(case.s) == 1 and not case.s.periodic.any():
        return None
    cut = cluster(case.s, CUT, int(case.rng.integers(len(case.s))))
    x = cut.positions - cut.positions.mean(0)
    atom = int(np.argmax(np.linalg.norm(x, axis=1)))
    # Not quite outwards, so that symmetric neighbours are passed one by one.
    v = x[atom] / np.linalg.norm(x[atom]) + 0.2 * case.rng.normal(size=3)
    direction = np.zeros_like(x)
    direction[atom] = v / np.linalg.norm(v)
    last = 40

    def place(u: float) -> float:
        return 1.5 * ((1.5 + FARTHEST) / 1.5) ** (u / last) - 1.5

    return Line(cut, direction, place, last, f"atom drawn out of {len(cut)}")


def displacement_line(case: Case) -> Line | None:
    """An atom of a crystal moved from −0.4 to 0.4 Å."""
    if len(case.s) == 1 or not case.s.periodic.any():
        return None
    direction = np.zeros_like(case.s.positions)
    atom = int(case.rng.integers(len(direction)))
    v = case.rng.normal(size=3)
    direction[atom] = v / np.linalg.norm(v)
    return Line(case.s, direction, lambda u: 0.04 * (u - 10), 20, f"atom {atom} moved")


def _along(case: Case, s: Structure, direction: np.ndarray) -> Callable:
    """(E, F · v) at x + t v."""

    def at(t: float) -> tuple[float, float]:
        o = case.ask(moved(s, s.positions + t * direction), stress=False)
        return o.energy, float(np.sum(forces_of(o) * direction))

    return at


# Diagnostics


def short_range(case: Case) -> list[Measurement]:
    """The lowest energy of two atoms nearer than 0.6 of a bond, above that of all farther.

    Negative: a hole, into which atoms that come too near fall. Two atoms, from 0.3 Å
    or 0.21 of a bond up: nearer ones have no sense.
    """
    which, bond = elements_of_pair(case)
    near = np.geomspace(max(0.3, 0.21 * bond), 0.6 * bond, 8)
    far = np.linspace(0.7 * bond, 2 * bond, 8)
    found, box = _energies(case, which, np.concatenate([near, far]))
    energies = np.split(found, [len(near)])
    depth = float(energies[0].min() - energies[1].min())
    where = float(near[np.argmin(energies[0])])
    said = f"hole at {where:.2g} Å" if depth < 0 else f"repulsive, lowest at {where:.2g} Å"
    note = " ".join(x for x in (f"{_pair(case, which)}: {said}", box) if x)
    return [Measurement("short range", depth, "eV", note=note)]


def dissociation(case: Case) -> list[Measurement]:
    """How much the energy of two atoms still changes beyond 8 Å."""
    which, _ = elements_of_pair(case)
    places = np.array([4.0, 5, 6, 7, 8, 9, 10, FARTHEST])
    energies, box = _energies(case, which, places)
    off = np.abs(energies - energies[-1])
    flat = places[np.flatnonzero(off > 1e-3)[-1] + 1] if (off > 1e-3).any() else places[0]
    note = " ".join(x for x in (f"{_pair(case, which)}: within 1 meV from {flat:g} Å", box) if x)
    return [Measurement("change beyond 8 Å", float(off[places >= 8].max()), "eV", note=note)]


def dimer(case: Case, which: np.ndarray, r: float) -> Structure:
    """Two atoms of the structure, r apart in vacuum."""
    return moved(freed(take(case.s, which)), np.array([[0.0, 0, 0], [r, 0, 0]]))


def _energies(case: Case, which: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, str]:
    """Energies of two atoms at these distances, and of the box that they needed."""
    apart = np.array([[0.0, 0, 0], [1, 0, 0]])

    def asked(s: Structure) -> np.ndarray:
        pairs = (moved(s, s.positions + r * apart) for r in places)
        return np.array([case.ask(x, forces=False, stress=False).energy for x in pairs])

    return alone(dimer(case, which, 0.0), asked, FARTHEST)


def _pair(case: Case, which: np.ndarray) -> str:
    return "–".join(symbol(z) for z in case.s.numbers[which].tolist())
