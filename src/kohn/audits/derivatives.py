"""Forces and stress are derivatives of the energy, and forces have no curl.

Derivatives are central differences of several steps, extrapolated to none as Ridders does
(Adv. Eng. Softw. 4, 75 (1982)): of all the estimates the one whose error is smallest is taken,
noise included, and a violation counts only beyond that error.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from kohn.audits.asking import Asking
from kohn.audits.case import CERTAIN, Case, Measured, Noise, deformed, moved, needs_atoms
from kohn.structures import Structure

STEPS = (0.032, 0.008, 0.002, 0.0005)
"""Å by which a coordinate moves: from what float32 can tell to what steep energies need."""
RATIO = 16.0
"""By how much the leading error falls from one step to the next: the square of their ratio."""
SIZE = 5.0
"""Å: a strain of h / 5 Å moves an atom 5 Å away by h."""


def noise_of(ask: Asking, s: Structure) -> Noise:
    """Noise of energy, forces and stress at a structure, from fourth differences.

    Along a line with steps of 1e-4 Å, what is smooth has fourth differences of nearly nothing
    and what is noise has σ √70 (Moré and Wild, SIAM J. Sci. Comput. 33, 1292 (2011)).
    """
    rng = np.random.default_rng(0)  # a property of the calculator, not of the audit's seed
    v = rng.normal(size=s.positions.shape)
    outcomes = [ask(moved(s, s.positions + 1e-4 * k * v)) for k in range(1, 10)]

    def sigma(name: str) -> float:
        values = [getattr(o, name) for o in outcomes]
        if any(x is None for x in values):
            return 0.0
        fourth = np.abs(np.diff(np.array(values, np.float64), n=4, axis=0))
        return float(np.max(np.median(fourth, axis=0)) / 0.6745 / 70**0.5)

    return Noise(sigma("energy"), sigma("forces"), sigma("stress"))


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
            candidates.append((value, 3 * (change + doubt) + rounding[k + levels]))
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


def kink(bends: Sequence[float], steps: Sequence[float]) -> float:
    """By how much slopes from the left and from the right differ at the place itself.

    A central difference converges there as well, to their mean. Twice, because the place may lie
    a little to one side.

    Args:
        bends: f(h) + f(−h) − 2 f(0), for steps that fall by 4; where f is smooth, over h, they
            fall with h.
    """
    jumps = [b / h for b, h in zip(bends, steps, strict=True)]
    return 2 * min(abs(4 * fine - coarse) / 3 for coarse, fine in pairwise(jumps))


def slope(
    case: Case, path: Callable[[float], Structure], steps: Sequence[float]
) -> tuple[float, float]:
    """dE/dt at t = 0 along a path, and its error; eV over the unit of t."""

    def energy(t: float) -> float:
        return case.ask(path(t), forces=False, stress=False).energy

    sides = [(energy(-h), energy(h)) for h in steps]
    differences = [(b - a) / (2 * h) for (a, b), h in zip(sides, steps, strict=True)]
    value, error = extrapolated(differences, steps, case.noise.energy)
    return value, error + kink([a + b - 2 * case.here.energy for a, b in sides], steps)


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
        derivative, error = slope(case, lambda t, v=v: moved(s, s.positions + t * v), STEPS)
        size = float(np.linalg.norm(v))
        wrong = abs(derivative + float(np.sum(f * v))) / size
        found.append(Measured("force", wrong, "eV/Å", error / size, name))
    return found


def stress(case: Case) -> list[Measured]:
    """V σ : ε = dE/dt along (1 + t ε) of cell and positions, for two random symmetric ε."""
    sigma, s = case.stress, case.s
    found = [Measured("asymmetry of the stress", float(np.abs(sigma - sigma.T).max()), "eV/Å³")]
    for _ in range(2):
        e = case.rng.normal(size=(3, 3))
        e = (e + e.T) / np.linalg.norm(e + e.T)

        def strained(t: float, e=e) -> Structure:
            return deformed(s, np.eye(3) + t / SIZE * e)

        derivative, error = slope(case, strained, STEPS)
        wrong = abs(derivative * SIZE / s.volume - float(np.sum(sigma * e)))
        found.append(Measured("stress", wrong, "eV/Å³", error * SIZE / s.volume))
    return found


def jacobian(case: Case) -> list[Measured]:
    """u · J v = v · J u with J = ∂F/∂x: forces of any energy have a symmetric Jacobian.

    For three pairs of random directions. |u · (J − Jᵀ) v| over √(3 n) is the root mean square,
    over coordinates, of a row of J − Jᵀ (Hutchinson's estimate).
    """
    needs_atoms(case.s)
    here, s = case.forces, case.s
    directions = case.rng.normal(size=(3, *here.shape))

    def force(v: np.ndarray) -> np.ndarray:
        return case.ask.forces(moved(s, s.positions + v))

    sides = [[(force(-h * v), force(h * v)) for h in STEPS] for v in directions]
    found = []
    for a, b in ((0, 1), (1, 2), (0, 2)):
        u, v = directions[a], directions[b]
        curls, bends = [], []
        for (u0, u1), (v0, v1), h in zip(sides[a], sides[b], STEPS, strict=True):
            curls.append(float(np.sum(v * (u1 - u0)) - np.sum(u * (v1 - v0))) / (2 * h))
            bend = np.sum(v * (u1 + u0 - 2 * here)) - np.sum(u * (v1 + v0 - 2 * here))
            bends.append(float(bend))
        size = float(np.linalg.norm(u) ** 2 + np.linalg.norm(v) ** 2) ** 0.5
        value, error = extrapolated(curls, STEPS, case.noise.forces * size)
        error, scale = error + kink(bends, STEPS), here.size**0.5
        found.append(Measured("asymmetry", abs(value) / scale, "eV/Å²", error / scale))
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
