"""Measure the energy drift of molecular dynamics, apart from the error of the integrator."""

import numpy as np
from ase.data import atomic_masses

from kohn.audits.case import Case, Measurement, moved, needs_atoms
from kohn.audits.counted_calculator import Unmeasured, forces_of
from kohn.numerics.noise import NOISE_MULTIPLE
from kohn.units import FEMTOSECOND

BOLTZMANN = 8.617330337217213e-05
"""eV/K, CODATA 2014 as in `ase.units`."""
STEPS = 50
"""Number of time steps of the first run; each further run halves the step, doubles the number."""
LONGEST = 4.0
"""fs: the time step if no atom is lighter than copper; otherwise shorter, as √(smallest mass)."""


def drift(case: Case) -> list[Measurement]:
    """Measure whether d(E + K)/dt = 0 in molecular dynamics, in meV/atom/ps; K is kinetic energy.

    The error of the integrator (velocity Verlet) falls by a factor of 4, from 4 I to I, as the time
    step Δt is halved; the drift D of the model does not. The slopes of E + K are s(Δt) = 4 I + D
    and s(Δt/2) = I + D, so D = (4 s(Δt/2) − s(Δt)) / 3; a fifth of I is counted as error. While D
    exceeds that error and the threshold, the step is halved again, at most twice: the terms of Δt⁴
    that stiff bonds have become small, and the drift of the model stays.
    """
    needs_atoms(case.s)
    n, masses = len(case.s), atomic_masses[case.s.numbers][:, None]
    if not (masses > 0).all():
        raise Unmeasured("atoms without mass")
    step = min(LONGEST, LONGEST * float(masses.min() / 63.5) ** 0.5)
    time = np.arange(STEPS + 1) * step * 1e-3
    v = _thermal_velocities(case, masses)
    # The slope of a line through k points of noise σ over a time T has σ √(12 / k) / T.
    rounding = NOISE_MULTIPLE * case.noise.energy * 1e3 / n * (12 / STEPS) ** 0.5 / time[-1]
    slopes: list[float] = []
    drift, error = np.inf, 0.0
    while len(slopes) < 2 or (len(slopes) < 4 and drift > max(0.1, error)):
        finer = 2 ** len(slopes)
        energies = _total_energies(case, v, masses, step / finer, STEPS * finer)[::finer]
        slopes.append(float(np.polyfit(time, energies, 1)[0]) * 1e3 / n)
        if len(slopes) > 1:
            integrator = (slopes[-2] - slopes[-1]) / 3
            drift, error = abs(slopes[-1] - integrator), 0.2 * abs(integrator) + rounding
    note = (
        f"{STEPS * step:.3g} fs at {case.temperature:g} K; with steps of {step:.2g} fs and "
        f"halves of it {', '.join(f'{x:.2g}' for x in slopes)}"
    )
    return [Measurement("drift", drift, "meV/atom/ps", error, note)]


def _thermal_velocities(case: Case, masses: np.ndarray) -> np.ndarray:
    """Return random velocities at the temperature, without total momentum, in ASE's units."""
    v = (
        case.rng.normal(size=case.s.positions.shape)
        * (BOLTZMANN * case.temperature / masses) ** 0.5
    )
    return v - (masses * v).sum(0) / masses.sum()


def _total_energies(
    case: Case, v: np.ndarray, masses: np.ndarray, femtoseconds: float, steps: int
) -> np.ndarray:
    """Return the total energy (potential + kinetic) at each time step, eV, [steps + 1]."""
    dt, x, f = femtoseconds * FEMTOSECOND, case.s.positions, case.forces
    start = case.here.energy + 0.5 * float((masses * v**2).sum())
    energies = [start]
    for _ in range(steps):
        v = v + 0.5 * dt * f / masses
        x = x + dt * v
        outcome = case.ask(moved(case.s, x), stress=False)
        f = forces_of(outcome)
        v = v + 0.5 * dt * f / masses
        energies.append(outcome.energy + 0.5 * float((masses * v**2).sum()))
        if abs(energies[-1] - start) > 10.0 * len(masses):
            raise Unmeasured(f"atoms fly apart: +{energies[-1] - start:.3g} eV")
    return np.array(energies)
