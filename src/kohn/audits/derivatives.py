"""Forces and stress are derivatives of the energy, and forces have no curl.

    f'(0) = lim (f(h) − f(−h)) / 2h

Derivatives are central differences of several steps, extrapolated to none as Ridders does
(Adv. Eng. Softw. 4, 75 (1982)): of all the estimates the one whose error is smallest is taken,
noise included, and a violation counts only beyond that error.

Where f jumps by J, or its slope does, at a distance d from the place, steps beyond d see J / 2h or
J (h − d) / 2h and steps within see nothing of it. So a violation has to be there with shorter
steps too, as long as noise lets them say anything: forces that are wrong are wrong with all.
Whether f may jump is the law of smoothness, not this one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np

from kohn.audits.asking import Asking, periodic_directions
from kohn.audits.case import CERTAIN, Case, Measured, Noise, deformed, moved, needs_atoms
from kohn.structures import Structure

STEPS = (0.032, 0.032 / 4, 0.032 / 16, 0.032 / 64)
"""Å by which a coordinate moves: from what float32 can tell to what steep energies need."""
SHORTER = (1.0, 1 / 16, 1 / 256, 1 / 4096)
"""Of the steps, where longer ones show a violation, or no derivative at all."""
BESIDE = 1.4
"""Of the steps, where a violation was seen with one length of them and needs a witness."""
ROUNDED = 12**-0.5
"""Of what can be told apart, the standard deviation that rounding to it has."""
DOUBT = 20.0
"""Of what does not converge, the error: near a jump, estimates agree by chance now and then."""
JUMP = "it jumps within the longer steps"
ENOUGH = 1e-6
"""eV/Å, eV/Å² for Jacobians: errors below need no shorter steps; thresholds are larger."""
RATIO = 16.0
"""By how much the leading error falls from one step to the next: the square of their ratio."""
SIZE = 5.0
"""Å: a strain of h / 5 Å moves an atom 5 Å away by h."""


def noise_of(ask: Asking, s: Structure) -> Noise:
    """Noise of energy, forces and stress at a structure, from fourth differences.

    Along a line with steps of 1e-4 Å. Energies that do not change from one step to the next are
    rounded to more than they change by: there the steps are 8 and 64 times longer.
    """
    rng = np.random.default_rng(0)  # a property of the calculator, not of the audit's seed
    v = rng.normal(size=s.positions.shape)

    def places(step: float) -> list[Structure]:
        return [moved(s, s.positions + step * k * v) for k in range(1, 10)]

    outcomes = [ask(x) for x in places(1e-4)]

    def sigma(name: str) -> float:
        values = [getattr(o, name) for o in outcomes]
        return 0.0 if any(x is None for x in values) else scatter(np.array(values))

    energies = np.array([o.energy for o in outcomes])
    energy, still = scatter(energies), any(o.forces is None or o.forces.any() for o in outcomes)
    for step in (8e-4, 64e-4):
        if not still or np.diff(energies).all():
            break
        energies = np.array([ask(x, forces=False, stress=False).energy for x in places(step)])
        steps = np.abs(np.diff(energies))
        energy = max(energy, ROUNDED * min(steps[steps > 0], default=0.0))
    return Noise(energy, sigma("forces"), sigma("stress"))


def scatter(values: np.ndarray) -> float:
    """Standard deviation of the noise in nine values or more at equal steps, [9, …]; the largest.

    What is smooth has fourth differences of nearly nothing and what is noise has σ √70 (Moré and
    Wild, SIAM J. Sci. Comput. 33, 1292 (2011)). Rounding may hide from them, where each step
    changes the value by the same: what float32 can tell apart is the least.
    """
    fourth = np.abs(np.diff(values, n=4, axis=0))
    sigma = float(np.max(np.median(fourth, axis=0)) / 0.6745 / 70**0.5)
    single = values.astype(np.float32)
    if (single != values).any():
        return sigma
    return max(sigma, ROUNDED * float(np.spacing(np.abs(single)).max()))


def noise(case: Case) -> list[Measured]:
    """σ of the energy, by `noise_of`: what thresholds rise with."""
    n = case.noise
    note = f"forces {n.forces:.1g} eV/Å, stress {n.stress:.1g} eV/Å³"
    return [Measured("noise of the energy", n.energy, "eV", note=note)]


def extrapolated(
    differences: Sequence[float], steps: Sequence[float], noise: float
) -> tuple[float, float]:
    """The derivative at step zero and its estimated error.

    Args:
        differences: central differences (f(h) − f(−h)) / 2h, for steps that fall by 4.
        noise: standard deviation of f.
    """
    rounding = [CERTAIN * noise / (2**0.5 * h) for h in steps]
    doubts = _doubts(differences, rounding)
    candidates: list[tuple[float, float]] = []
    row, factor = list(differences), RATIO
    while len(row) > 1:
        finer = [(factor * b - a) / (factor - 1) for a, b in pairwise(row)]
        levels = len(differences) - len(finer)
        for k, value in enumerate(finer):
            # Whatever the order, errors are trusted to fall by 16 a step and no faster.
            change = max(abs(value - row[k]) / RATIO, abs(value - row[k + 1]))
            doubt = max(doubts[k : k + levels])
            candidates.append((value, 3 * change + DOUBT * doubt + rounding[k + levels]))
        row, factor = finer, factor * RATIO
    return min(candidates, key=lambda x: x[1])


def _doubts(differences: Sequence[float], rounding: Sequence[float]) -> list[float]:
    """By how much each pair of steps disagrees, where steps do not converge; otherwise 0.

    Where f is smooth the disagreement falls by 16 from one pair to the next. Where it jumps
    nearby, differences go as jump / h until the step is too short to meet it.
    """
    d = [abs(a - b) for a, b in pairwise(differences)]
    slack = [a + b for a, b in pairwise(rounding)]
    falls = [fine <= coarse / 4 + s for coarse, fine, s in zip(d, d[1:], slack[1:], strict=False)]
    good = [all(falls[max(0, k - 1) : k + 1]) for k in range(len(d))]
    return [0.0 if ok else x for ok, x in zip(good, d, strict=True)]


def kink(bends: Sequence[float], steps: Sequence[float], noise: float = 0.0) -> float:
    """By how much slopes from the left and from the right differ at the place itself.

    A central difference converges there as well, to their mean. Of the estimates the second: a
    place about as far away as one of the steps makes one of them vanish.

    Args:
        bends: f(h) + f(−h) − 2 f(0), for steps that fall by 4; where f is smooth, over h, they
            fall with h.
        noise: standard deviation of f, which over h is (4 · 4 + 1) √6 σ / 12 h for the finer h.
    """
    jumps = [b / h for b, h in zip(bends, steps, strict=True)]
    found = [
        max(abs(4 * fine - coarse) / 3 - CERTAIN * 3.5 * noise / h, 0.0)
        for (coarse, fine), h in zip(pairwise(jumps), steps[1:], strict=True)
    ]
    return sorted(found)[1]


@dataclass(frozen=True)
class Slope:
    """A derivative beside what it should be.

    Attributes:
        wrong: by how much they differ, with its sign.
        error: of the derivative, noise included.
        noise: what of it noise is, at least.
        note: whether a jump nearby disturbs it.
    """

    wrong: float
    error: float
    noise: float = 0.0
    note: str = ""


def _agree(a: Slope, b: Slope) -> bool:
    """Whether both see the same violation, noise and a tenth aside."""
    seen = abs(a.wrong) > a.error and abs(b.wrong) > b.error
    return seen and abs(a.wrong - b.wrong) <= 0.1 * abs(a.wrong) + a.noise + b.noise


def slope(f: Callable[[float], float], expected: float, noise: float) -> Slope:
    """df/dt at t = 0 beside what it should be, by steps as long as jumps nearby allow.

    Args:
        f: a function of t in Å. Each place is asked for once.
        expected: its derivative there.
        noise: standard deviation of f.
    """
    f = cache(f)

    def by(share: float) -> Slope:
        steps = [share * h for h in STEPS]
        value, error = _central(f, steps, noise)
        return Slope(value - expected, error, CERTAIN * noise / (2**0.5 * steps[0]))

    found: list[Slope] = []
    for share in SHORTER:
        rounding = CERTAIN * noise / (2**0.5 * share * STEPS[0])
        if any(rounding > max(abs(x.wrong), x.error) for x in found):
            break  # noise: shorter steps say nothing more
        found.append(by(share))
        if abs(found[-1].wrong) <= found[-1].error <= ENOUGH:
            break
    best = _confirmed(found, lambda: by(BESIDE))
    noises = found[0].noise + best.noise
    jumps = abs(found[0].wrong - best.wrong) > 10 * (ENOUGH + noises)
    return replace(best, note=JUMP) if jumps else best


def _confirmed(found: Sequence[Slope], more: Callable[[], Slope]) -> Slope:
    """The one of least error; a violation only if steps of another length see the same.

    If none does, these steps crossed a jump, or met noise that is larger than it was said to be:
    then one that sees no violation, or that much more error.

    Args:
        more: takes other steps, where shorter ones say neither the one nor the other.
    """
    best = min(found, key=lambda x: x.error)
    others = [x for x in found if x is not best]
    if abs(best.wrong) <= best.error or any(_agree(best, x) for x in others):
        return best
    if all(abs(x.wrong - best.wrong) <= x.error + best.error for x in others):
        witness = more()
        others.append(witness)
        if _agree(best, witness):
            apart = abs(best.wrong - witness.wrong)
            return replace(best, error=max(best.error, witness.error) + 3 * apart)
    unseen = [x for x in others if abs(x.wrong) <= x.error]
    if unseen:
        return min(unseen, key=lambda x: x.error)
    return replace(best, error=best.error + min(abs(x.wrong - best.wrong) for x in others))


def _central(
    f: Callable[[float], float], steps: Sequence[float], noise: float
) -> tuple[float, float]:
    """df/dt at 0 and its error, from steps that fall by 4."""
    sides = [(f(-h), f(h)) for h in steps]
    differences = [(b - a) / (2 * h) for (a, b), h in zip(sides, steps, strict=True)]
    value, error = extrapolated(differences, steps, noise)
    return value, error + DOUBT * kink([a + b - 2 * f(0.0) for a, b in sides], steps, noise)


def energy_slope(case: Case, path: Callable[[float], Structure], expected: float) -> Slope:
    """dE/dt at t = 0 along a path that starts at the structure, beside what it should be."""

    def energy(t: float) -> float:
        if t == 0.0:
            return case.here.energy
        return case.ask(path(t), forces=False, stress=False).energy

    return slope(energy, expected, case.noise.energy)


def forces(case: Case) -> list[Measured]:
    """−F · v = dE/dt along x + t v, for two random v of all atoms and one of a single atom.

    Divided by |v|, so that it is the root mean square of the error of a component times the
    share of v in it.
    """
    f, s = case.forces, case.s
    single = np.zeros_like(f)
    atom = int(case.rng.integers(len(s)))
    single[atom] = case.rng.normal(size=3)
    everything = case.rng.normal(size=(2, *f.shape))
    found = []
    for v, name in (*((v, "all atoms") for v in everything), (single, f"atom {atom}")):
        d = energy_slope(case, lambda t, v=v: moved(s, s.positions + t * v), -float(np.sum(f * v)))
        size, note = float(np.linalg.norm(v)), "; ".join(x for x in (name, d.note) if x)
        found.append(Measured("force", abs(d.wrong) / size, "eV/Å", d.error / size, note))
    return found


def stress(case: Case) -> list[Measured]:
    """V σ : ε = dE/dt along (1 + t ε) of cell and positions, for two random symmetric ε.

    Of a slab ε is within its plane, of a wire along it, and V is the volume of the cell as given,
    vacuum included, as in ASE; other components of σ have no meaning and are not looked at.
    """
    s, sigma = case.s, case.stress
    p = periodic_directions(s.periodic, s.cell)
    off = float(np.abs(sigma - sigma.T).max())
    found = [Measured("asymmetry of the stress", off, "eV/Å³", CERTAIN * case.noise.stress)]
    for _ in range(2):
        e = case.rng.normal(size=(p.shape[1], p.shape[1]))
        e = p @ ((e + e.T) / np.linalg.norm(e + e.T)) @ p.T
        to_stress = SIZE / s.volume
        d = energy_slope(
            case,
            lambda t, e=e: deformed(s, np.eye(3) + t / SIZE * e),
            float(np.sum(sigma * e)) / to_stress,
        )
        found.append(
            Measured("stress", abs(d.wrong) * to_stress, "eV/Å³", d.error * to_stress, d.note)
        )
    return found


def jacobian(case: Case) -> list[Measured]:
    """u · J v = v · J u with J = ∂F/∂x: forces of any energy have a symmetric Jacobian.

    So v · F(x + t u) − u · F(x + t v) has no slope at t = 0. For three pairs of random
    directions. |u · (J − Jᵀ) v| over √(3 n) is the root mean square, over coordinates, of a row
    of J − Jᵀ (Hutchinson's estimate).
    """
    needs_atoms(case.s)
    here, s = case.forces, case.s
    directions = case.rng.normal(size=(3, *here.shape))

    @cache
    def force(a: int, t: float) -> np.ndarray:
        if t == 0.0:
            return here
        return case.ask.forces(moved(s, s.positions + t * directions[a]))

    found = []
    for a, b in ((0, 1), (1, 2), (0, 2)):
        u, v = directions[a], directions[b]

        def curl(t: float, a: int = a, b: int = b, u=u, v=v) -> float:
            return float(np.sum(v * force(a, t)) - np.sum(u * force(b, t)))

        size = float(np.linalg.norm(u) ** 2 + np.linalg.norm(v) ** 2) ** 0.5
        d = slope(curl, 0.0, case.noise.forces * size)
        scale = here.size**0.5
        found.append(Measured("asymmetry", abs(d.wrong) / scale, "eV/Å²", d.error / scale, d.note))
    return found


def loops(case: Case) -> list[Measured]:
    """∮ F · dx = 0 around a circle of 0.05 Å in the space of all coordinates.

    As a share of ∮ |F · dx|. The rule of equidistant points is exact up to exponentially small
    terms where F is smooth; the error is three times what quarters of the points differ by. Points
    are doubled until the work is below the threshold or clearly beyond the error.
    """
    needs_atoms(case.s)
    s, radius = case.s, 0.05
    u, v = case.rng.normal(size=(2, *case.forces.shape))
    known: dict[float, float] = {}

    def power(turn: float) -> float:
        if turn not in known:
            c, d = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
            f = case.ask.forces(moved(s, s.positions + radius * (c * u + d * v)))
            known[turn] = float(np.sum(f * radius * (c * v - d * u)))
        return known[turn]

    size = radius * float(np.linalg.norm(u) ** 2 + np.linalg.norm(v) ** 2) ** 0.5
    work, error, path = 0.0, 0.0, 1.0
    for points in (16, 32, 64):
        powers = np.array([power(k / points) for k in range(points)])
        work, path = abs(powers.mean()), max(np.abs(powers).mean(), 1e-300)
        quarters = np.abs(powers.reshape(-1, 4).mean(0) - powers.mean())
        error = 3 * quarters.max() + CERTAIN * case.noise.forces * size / points**0.5
        if (work < 1e-6 * path and error < 1e-3 * path) or work > 10 * error:
            break
    note = f"{work * 2 * np.pi * 1e3:.3g} meV"
    return [Measured("work around a loop", work / path, "of the path's", error / path, note)]
