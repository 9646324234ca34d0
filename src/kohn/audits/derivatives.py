"""Measure whether forces and stress are derivatives of the energy, and forces have no curl.

`kohn.numerics.derivatives` computes derivatives with their errors; a violation counts only if it
exceeds the error. The law of smoothness, not this module, measures jumps of the energy.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from kohn.audits.case import Case, Measurement, Noise, deformed, moved, needs_atoms
from kohn.audits.counted_calculator import CountedCalculator, periodic_directions
from kohn.numerics.derivatives import Slope, slope
from kohn.numerics.noise import NOISE_MULTIPLE, ROUNDING_STD, scatter
from kohn.structures import Structure

SIZE = 5.0
"""Å: a step h becomes the strain h / SIZE, which moves an atom 5 Å from the origin by h."""


def noise_of(ask: CountedCalculator, s: Structure) -> Noise:
    """Estimate the noise of energy, forces and stress near a structure, from fourth differences.

    The differences are taken over nine structures on a line, at steps of 1e-4 Å. If energies do not
    change from one step to the next, rounding hides the change, and steps 8 and 64 times longer
    are tried.
    """
    rng = np.random.default_rng(0)  # the noise must not depend on the seed of the audit
    v = rng.normal(size=s.positions.shape)

    def line(step: float) -> list[Structure]:
        return [moved(s, s.positions + step * k * v) for k in range(1, 10)]

    outcomes = [ask(x) for x in line(1e-4)]

    def sigma(name: str) -> float:
        values = [getattr(o, name) for o in outcomes]
        return 0.0 if any(x is None for x in values) else scatter(np.array(values))

    energies = np.array([o.energy for o in outcomes])
    energy = scatter(energies)
    may_change = any(o.forces is None or o.forces.any() for o in outcomes)
    for step in (8e-4, 64e-4):
        if not may_change or np.diff(energies).all():
            break
        energies = np.array([ask(x, forces=False, stress=False).energy for x in line(step)])
        changes = np.abs(np.diff(energies))
        energy = max(energy, ROUNDING_STD * min(changes[changes > 0], default=0.0))
    return Noise(energy, sigma("forces"), sigma("stress"))


def noise(case: Case) -> list[Measurement]:
    """Report the standard deviation σ of the energy's noise; the thresholds of laws rise with σ."""
    n = case.noise
    note = f"forces {n.forces:.1g} eV/Å, stress {n.stress:.1g} eV/Å³"
    return [Measurement("noise of the energy", n.energy, "eV", note=note)]


def energy_slope(case: Case, path: Callable[[float], Structure], expected: float) -> Slope:
    """Compare dE/dt at t = 0 with its expected value, along a path that begins at the structure."""

    def energy(t: float) -> float:
        if t == 0.0:
            return case.here.energy
        return case.ask(path(t), forces=False, stress=False).energy

    return slope(energy, expected, case.noise.energy)


def forces(case: Case) -> list[Measurement]:
    """Measure whether −F · v = dE/dt along x + t v: two random v move all atoms, a third moves one.

    The difference is divided by |v|, which gives the error of the forces F along v. Its root mean
    square over random v is that of the errors of components.
    """
    f, s = case.forces, case.s
    single = np.zeros_like(f)
    atom = int(case.rng.integers(len(s)))
    single[atom] = case.rng.normal(size=3)
    directions = case.rng.normal(size=(2, *f.shape))
    measurements = []
    for v, name in (*((v, "all atoms") for v in directions), (single, f"atom {atom}")):
        d = energy_slope(case, lambda t, v=v: moved(s, s.positions + t * v), -float(np.sum(f * v)))
        size, note = float(np.linalg.norm(v)), "; ".join(x for x in (name, d.note) if x)
        measurements.append(Measurement("force", abs(d.wrong) / size, "eV/Å", d.error / size, note))
    return measurements


def stress(case: Case) -> list[Measurement]:
    """Measure whether V σ : ε = dE/dt along the strain 1 + t ε of cell and positions.

    σ is the stress, ε one of two random symmetric matrices, and V the volume of the cell as given,
    vacuum included, as in ASE. For slabs and wires ε lies along the periodic vectors: the other
    components of σ have no meaning and are not measured.
    """
    s, sigma = case.s, case.stress
    p = periodic_directions(s.periodic, s.cell)
    asymmetry, rounding = float(np.abs(sigma - sigma.T).max()), NOISE_MULTIPLE * case.noise.stress
    measurements = [Measurement("asymmetry of the stress", asymmetry, "eV/Å³", rounding)]
    for _ in range(2):
        e = case.rng.normal(size=(p.shape[1], p.shape[1]))
        e = p @ ((e + e.T) / np.linalg.norm(e + e.T)) @ p.T
        to_stress = SIZE / s.volume
        d = energy_slope(
            case,
            lambda t, e=e: deformed(s, np.eye(3) + t / SIZE * e),
            float(np.sum(sigma * e)) / to_stress,
        )
        measurements.append(
            Measurement("stress", abs(d.wrong) * to_stress, "eV/Å³", d.error * to_stress, d.note)
        )
    return measurements


def jacobian(case: Case) -> list[Measurement]:
    """Measure whether the Jacobian J = ∂F/∂x of the forces F is symmetric: u · J v = v · J u.

    If F is the derivative of an energy, v · F(x + t u) − u · F(x + t v) has the slope 0 at t = 0;
    u and v are three pairs of random directions. |u · (J − Jᵀ) v| / √(3 n), n atoms, estimates the
    root mean square norm of the rows of J − Jᵀ (Hutchinson's estimate).
    """
    needs_atoms(case.s)
    f, s = case.forces, case.s
    directions = case.rng.normal(size=(3, *f.shape))

    @cache
    def force(a: int, t: float) -> np.ndarray:
        if t == 0.0:
            return f
        return case.ask.forces(moved(s, s.positions + t * directions[a]))

    measurements = []
    for a, b in ((0, 1), (1, 2), (0, 2)):
        u, v = directions[a], directions[b]

        def curl(t: float, a: int = a, b: int = b, u=u, v=v) -> float:
            return float(np.sum(v * force(a, t)) - np.sum(u * force(b, t)))

        size = float(np.linalg.norm(u) ** 2 + np.linalg.norm(v) ** 2) ** 0.5
        d = slope(curl, 0.0, case.noise.forces * size)
        scale = f.size**0.5
        measurements.append(
            Measurement("asymmetry", abs(d.wrong) / scale, "eV/Å²", d.error / scale, d.note)
        )
    return measurements


def loops(case: Case) -> list[Measurement]:
    """Measure whether ∮ F · dx = 0 around a circle of 0.05 Å in the space of all coordinates x.

    The work is divided by ∮ |F · dx|. A sum over equidistant points is exact up to exponentially
    small terms if F is smooth; its error is three times the change if only every fourth point is
    used. Points are doubled until the work is below the threshold or well above the error.
    """
    needs_atoms(case.s)
    s, radius = case.s, 0.05
    u, v = case.rng.normal(size=(2, *case.forces.shape))
    computed: dict[float, float] = {}

    def power(turn: float) -> float:
        if turn not in computed:
            c, d = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
            f = case.ask.forces(moved(s, s.positions + radius * (c * u + d * v)))
            computed[turn] = float(np.sum(f * radius * (c * v - d * u)))
        return computed[turn]

    size = radius * float(np.linalg.norm(u) ** 2 + np.linalg.norm(v) ** 2) ** 0.5
    work, error, path = 0.0, 0.0, 1.0
    for points in (16, 32, 64):
        powers = np.array([power(k / points) for k in range(points)])
        work, path = abs(powers.mean()), max(np.abs(powers).mean(), 1e-300)
        quarters = np.abs(powers.reshape(-1, 4).mean(0) - powers.mean())
        error = 3 * quarters.max() + NOISE_MULTIPLE * case.noise.forces * size / points**0.5
        if (work < 1e-6 * path and error < 1e-3 * path) or work > 10 * error:
            break
    note = f"{work * 2 * np.pi * 1e3:.3g} meV"
    return [Measurement("work around a loop", work / path, "of the path's", error / path, note)]
