"""Forces and stress are derivatives of the energy, and forces have no curl.

Derivatives are those of `kohn.numerics.derivatives`: a violation counts only beyond their error.
Whether the energy may jump is the law of smoothness, not these.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from kohn.audits.case import Case, Measurement, Noise, deformed, moved, needs_atoms
from kohn.audits.counted_calculator import CountedCalculator, periodic_directions
from kohn.numerics.derivatives import Slope, slope
from kohn.numerics.noise import CERTAIN, ROUNDED, scatter
from kohn.structures import Structure

SIZE = 5.0
"""Å: a strain of h / 5 Å moves an atom 5 Å away by h."""


def noise_of(ask: CountedCalculator, s: Structure) -> Noise:
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


def noise(case: Case) -> list[Measurement]:
    """σ of the energy, by `noise_of`: what thresholds rise with."""
    n = case.noise
    note = f"forces {n.forces:.1g} eV/Å, stress {n.stress:.1g} eV/Å³"
    return [Measurement("noise of the energy", n.energy, "eV", note=note)]


def energy_slope(case: Case, path: Callable[[float], Structure], expected: float) -> Slope:
    """dE/dt at t = 0 along a path that starts at the structure, beside what it should be."""

    def energy(t: float) -> float:
        if t == 0.0:
            return case.here.energy
        return case.ask(path(t), forces=False, stress=False).energy

    return slope(energy, expected, case.noise.energy)


def forces(case: Case) -> list[Measurement]:
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
        found.append(Measurement("force", abs(d.wrong) / size, "eV/Å", d.error / size, note))
    return found


def stress(case: Case) -> list[Measurement]:
    """V σ : ε = dE/dt along (1 + t ε) of cell and positions, for two random symmetric ε.

    Of a slab ε is within its plane, of a wire along it, and V is the volume of the cell as given,
    vacuum included, as in ASE; other components of σ have no meaning and are not looked at.
    """
    s, sigma = case.s, case.stress
    p = periodic_directions(s.periodic, s.cell)
    off = float(np.abs(sigma - sigma.T).max())
    found = [Measurement("asymmetry of the stress", off, "eV/Å³", CERTAIN * case.noise.stress)]
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
            Measurement("stress", abs(d.wrong) * to_stress, "eV/Å³", d.error * to_stress, d.note)
        )
    return found


def jacobian(case: Case) -> list[Measurement]:
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
        found.append(
            Measurement("asymmetry", abs(d.wrong) / scale, "eV/Å²", d.error / scale, d.note)
        )
    return found


def loops(case: Case) -> list[Measurement]:
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
    return [Measurement("work around a loop", work / path, "of the path's", error / path, note)]
