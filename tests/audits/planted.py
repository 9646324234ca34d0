"""Planted calculators: a smooth pair potential in NumPy, each with one fault.

The reference is a Morse potential between two kinds of atoms that goes to zero at 3.6 Å with two
continuous derivatives; energy, forces and stress belong together. Each fault is a function of the
atoms, or a class where it has to remember something.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from brute_force import structure

from kohn.graphs import pairs_within
from kohn.structures import Structure

CUTOFF = 3.6

# The smallest structures that show every fault.
CELL = np.array([[3.1, 0.2, -0.3], [0.9, 3.4, 0.4], [-0.5, 0.7, 3.6]])
"""Shorter than the cutoff, and skewed."""
INSIDE = np.array([[0.1, 0.2, 0.05], [0.45, 0.6, 0.4], [0.8, 0.15, 0.7]])
CRYSTAL = structure(INSIDE @ CELL, [14, 8, 6], CELL, True)
MOLECULE = structure(
    [[0, 0, 0], [1.7, 0.1, -0.2], [-0.3, 1.8, 0.4], [0.5, -0.4, 2.0]], [14, 8, 6, 7]
)


@dataclass(frozen=True, eq=False)
class Result:
    """Energy, eV; forces [n, 3], eV/Å; stress [3, 3], eV/Å³, None without a volume."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


Fault = Callable[[Atoms], Result]


class Planted(Calculator):
    """A function of atoms as a calculator that gives only some properties."""

    def __init__(self, fault: Fault, gives: Sequence[str] = ("energy", "forces", "stress")):
        super().__init__()
        self.fault, self.implemented_properties = fault, list(gives)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        r = self.fault(atoms)
        self.results = {"energy": r.energy, "forces": r.forces}
        if r.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(r.stress)


# The reference


def pairs(atoms: Atoms):
    """i, j [E]; d [E, 3]; r [E] of all pairs within the cutoff, all images counted."""
    s = Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    i, j, _, d = pairs_within(s, CUTOFF)
    return i, j, d, np.linalg.norm(d, axis=1)


def switch(r, power=None):
    """1 at 0 and 0 at the cutoff: (1 − x)³ (1 + 3 x + 6 x²), or (1 − x)^power; and its slope."""
    x = r / CUTOFF
    if power is None:
        return (1 - x) ** 3 * (1 + 3 * x + 6 * x**2), -30 * x**2 * (1 - x) ** 2 / CUTOFF
    if power == 0:
        return np.ones_like(r), np.zeros_like(r)
    return (1 - x) ** power, -power * (1 - x) ** (power - 1) / CUTOFF


def morse(atoms: Atoms, i, j, r, power=None):
    """φ(r) and φ'(r) of pairs, eV and eV/Å."""
    z = atoms.numbers
    depth = 0.4 + 0.02 * (z[i] + z[j])
    e = np.exp(-1.5 * (r - 2.2))
    f, slope = depth * (e * e - 2 * e), depth * 3.0 * (e - e * e)
    c, dc = switch(r, power)
    return f * c, slope * c + f * dc


def summed(atoms: Atoms, i, j, d, e, g) -> Result:
    """E = Σ e over directed pairs, with g = ∂e/∂d [E, 3]."""
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, g)
    np.add.at(forces, j, -g)
    stress = None
    if atoms.pbc.all():
        virial = g.T @ d
        stress = 0.5 * (virial + virial.T) / atoms.get_volume()
    return Result(float(np.sum(e)), forces, stress)


def pair_sum(atoms: Atoms, i, j, d, r, weight=1.0, power=None) -> Result:
    e, slope = morse(atoms, i, j, r, power)
    return summed(atoms, i, j, d, 0.5 * weight * e, (0.5 * weight * slope / r)[:, None] * d)


def honest(atoms: Atoms) -> Result:
    """½ Σ φ(r)."""
    return pair_sum(atoms, *pairs(atoms))


def plus(a: Result, energy=0.0, forces=0.0, stress=0.0) -> Result:
    s = None if a.stress is None else a.stress + stress
    return Result(a.energy + energy, a.forces + forces, s)


def also(a: Result, b: Result) -> Result:
    return plus(a, b.energy, b.forces, 0.0 if b.stress is None else b.stress)


# Symmetries


def absolute_position(atoms: Atoms) -> Result:
    """A field along x, sin(x), with the forces and the stress that it has."""
    x = atoms.positions
    g = np.zeros_like(x)
    g[:, 0] = 1e-2 * np.cos(x[:, 0])
    virial = g.T @ x
    volume = atoms.get_volume() if atoms.pbc.all() else 1.0
    stress = 0.5 * (virial + virial.T) / volume
    return plus(honest(atoms), 1e-2 * float(np.sin(x[:, 0]).sum()), -g, stress)


def axis(atoms: Atoms) -> Result:
    """Neighbours along x count more: Σ c(r) x²."""
    i, j, d, r = pairs(atoms)
    c, dc = switch(r)
    g = (dc * d[:, 0] ** 2 / r)[:, None] * d
    g[:, 0] += 2 * c * d[:, 0]
    return also(honest(atoms), summed(atoms, i, j, d, 1e-2 * c * d[:, 0] ** 2, 1e-2 * g))


def chiral(atoms: Atoms) -> Result:
    """Σ m0 · (m1 × m2), where m_k = Σ c(r) r^k Z^k d are moments of the neighbours."""
    i, j, d, r = pairs(atoms)
    c, dc = switch(r)
    z = atoms.numbers[j] / 10.0
    weights = [c * r**k * z**k for k in range(3)]
    slopes = [(dc * r**k + c * k * r ** (k - 1.0)) * z**k for k in range(3)]
    m = np.zeros((3, len(atoms), 3))
    for k in range(3):
        np.add.at(m[k], i, weights[k][:, None] * d)
    a = [np.cross(m[1], m[2])[i], np.cross(m[2], m[0])[i], np.cross(m[0], m[1])[i]]
    g = sum(
        w[:, None] * b + (s * (b * d).sum(1) / r)[:, None] * d
        for w, s, b in zip(weights, slopes, a, strict=True)
    )
    energies = (m[0] * np.cross(m[1], m[2])).sum(1)
    extra = summed(atoms, i, j, d, 0.0, 1e-2 * g)
    return also(honest(atoms), replace(extra, energy=1e-2 * float(energies.sum())))


def order(atoms: Atoms) -> Result:
    """Atoms count by their place in the list."""
    i, j, d, r = pairs(atoms)
    return pair_sum(atoms, i, j, d, r, weight=1 + 1e-2 * (np.minimum(i, 3) + np.minimum(j, 3)))


def sorted_forces(atoms: Atoms) -> Result:
    """Forces in the order of the elements."""
    r = honest(atoms)
    return replace(r, forces=r.forces[np.argsort(atoms.numbers, kind="stable")])


# Lattices


def brute(atoms: Atoms, ranges: Sequence[int], nearest: bool = False) -> Result:
    """Pairs by looking at this many cells to each side; of each atom perhaps the nearest only."""
    shifts = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in ranges), indexing="ij"), -1)
    shifts = shifts.reshape(-1, 3)
    x = atoms.positions
    d = (x[None] - x[:, None])[:, :, None] + (shifts @ atoms.cell.array)[None, None]
    r = np.linalg.norm(d, axis=-1)
    near = (r < CUTOFF) & (r > 1e-9)
    if nearest:
        r = np.where(r > 1e-9, r, np.inf)
        only = np.zeros_like(near)
        np.put_along_axis(only, np.argmin(r, axis=2)[:, :, None], True, axis=2)
        near &= only & ~np.eye(len(x), dtype=bool)[:, :, None]
    i, j, k = np.nonzero(near)
    return pair_sum(atoms, i, j, d[i, j, k], r[i, j, k])


def reach(atoms: Atoms) -> list[int]:
    """Cells to each side that atoms within the cell need."""
    if not atoms.pbc.any():
        return [0, 0, 0]
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    return [int(np.ceil(CUTOFF / h)) for h in heights]


def wrapped_only(atoms: Atoms) -> Result:
    """As many cells as wrapped atoms need."""
    return brute(atoms, reach(atoms))


def minimum_image(atoms: Atoms) -> Result:
    """Of each atom the nearest image, in cells that are too small for it."""
    away = reach(atoms)
    return brute(atoms, [n + 2 if n else 0 for n in away], nearest=True)


def constant(atoms: Atoms) -> Result:
    """Every structure has 10 meV more."""
    return plus(honest(atoms), 1e-2)


def long_range(atoms: Atoms) -> Result:
    """Between atoms in vacuum 0.1 eV Å / r, at any distance."""
    if atoms.pbc.any() or len(atoms) == 1:
        return honest(atoms)
    d = atoms.positions[:, None] - atoms.positions[None]
    r = np.linalg.norm(d, axis=-1) + np.eye(len(atoms))
    off = 1 - np.eye(len(atoms))
    forces = (0.1 * off / r**3)[:, :, None] * d
    return plus(honest(atoms), 0.05 * float((off / r).sum()), forces.sum(1))


# Derivatives


def scaled(atoms: Atoms) -> Result:
    """Forces are 1 % too large."""
    r = honest(atoms)
    return replace(r, forces=1.01 * r.forces)


def swirl(atoms: Atoms) -> Result:
    """Neighbours push each other around the z axis, which no energy does."""
    i, _, d, r = pairs(atoms)
    push = np.zeros((len(atoms), 3))
    np.add.at(push, i, 1e-2 * switch(r)[0][:, None] * np.cross([0, 0, 1], d))
    return plus(honest(atoms), forces=push)


def one_sided(atoms: Atoms) -> Result:
    """The heavier pulls the lighter and is not pulled: isotropic, and no energy."""
    i, j, d, r = pairs(atoms)
    push = np.zeros((len(atoms), 3))
    heavier = atoms.numbers[j] > atoms.numbers[i]
    np.add.at(push, i, (1e-2 * heavier * switch(r)[0])[:, None] * d)
    return plus(honest(atoms), forces=push)


def net_force(atoms: Atoms) -> Result:
    """All atoms are pushed along y."""
    return plus(honest(atoms), forces=np.array([0, 1e-3, 0]))


def net_torque(atoms: Atoms) -> Result:
    """Forces turn a molecule about z; in crystals nothing."""
    if atoms.pbc.any():
        return honest(atoms)
    x = atoms.positions - atoms.positions.mean(0)
    return plus(honest(atoms), forces=1e-3 * np.cross([0, 0, 1], x))


def changed_stress(change: Callable[[np.ndarray, Atoms], np.ndarray]) -> Fault:
    def fault(atoms: Atoms) -> Result:
        r = honest(atoms)
        return r if r.stress is None else replace(r, stress=change(r.stress, atoms))

    return fault


stress_sign = changed_stress(lambda s, _: -s)
stress_order = changed_stress(
    lambda s, _: (
        s[[1, 0, 2]][:, [1, 0, 2]] * [[0, 1, 1], [1, 0, 1], [1, 1, 0]] + np.diag(np.diag(s))
    )
)
signed_volume = changed_stress(lambda s, atoms: s * np.sign(np.linalg.det(atoms.cell.array)))

# Smoothness


def cut(power: int) -> Fault:
    """A pair term that ends as (1 − r/r_c)^power: 0 jumps in E, 1 in F, 2 in dF/dr."""
    return lambda atoms: pair_sum(atoms, *pairs(atoms), power=power)


def scaled_and_cut(atoms: Atoms) -> Result:
    """Forces are 1 % too large, and jump at the cutoff."""
    r = cut(1)(atoms)
    return replace(r, forces=1.01 * r.forces)


def slab_stress(change: float = 1.0, least: int = 2) -> Fault:
    """Of what is periodic in so many directions at least the stress too, times a number."""

    def fault(atoms: Atoms) -> Result:
        i, j, d, r = pairs(atoms)
        e, slope = morse(atoms, i, j, r)
        g = (0.5 * slope / r)[:, None] * d
        plain = summed(atoms, i, j, d, 0.5 * e, g)
        return (
            plain
            if atoms.pbc.sum() < least
            else replace(plain, stress=change * g.T @ d / atoms.get_volume())
        )

    return fault


# Numbers


def single(atoms: Atoms) -> Result:
    """Everything in float32."""
    i, j, d, _ = pairs(atoms)
    x = atoms.positions.astype(np.float32)
    s = Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    shift = pairs_within(s, CUTOFF)[2].astype(np.float32)
    d = x[j] + shift @ atoms.cell.array.astype(np.float32) - x[i]
    r = np.linalg.norm(d, axis=1)
    e, slope = (v.astype(np.float32) for v in morse(atoms, i, j, r))
    result = summed(atoms, i, j, d, np.float32(0.5) * e, (0.5 * slope / r)[:, None] * d)
    return Result(
        float(np.float32(result.energy)),
        result.forces.astype(np.float32).astype(float),
        None if result.stress is None else result.stress.astype(np.float32).astype(float),
    )


def noisy() -> Fault:
    """Every call differs by 0.1 meV and 0.1 meV/Å."""
    rng = np.random.default_rng(0)
    return lambda atoms: plus(
        honest(atoms), 1e-4 * rng.normal(), 1e-4 * rng.normal(size=(len(atoms), 3))
    )


def remembering() -> Fault:
    """The energy of the structure before has a part in that of this one."""
    before = [0.0]

    def fault(atoms: Atoms) -> Result:
        r = honest(atoms)
        mixed = plus(r, 1e-3 * before[0])
        before[0] = r.energy
        return mixed

    return fault


class Stale(Planted):
    """What is kept is one dict for all structures; some of it is new only where it is asked for.

    Args:
        names: what is stale.
    """

    def __init__(self, *names: str):
        super().__init__(honest)
        self.names, self.kept = names, {}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        old = {k: self.kept[k] for k in self.names if k in self.kept and k not in properties}
        self.kept = self.results = {**self.results, **old}


def float32(fault: Fault, per_atom: float = 0.0) -> Fault:
    """A fault whose energy, with a large constant for each atom, forces and stress are float32."""

    def rounded(atoms: Atoms) -> Result:
        r = fault(atoms)
        return Result(
            float(np.float32(r.energy + per_atom * len(atoms))),
            r.forces.astype(np.float32).astype(float),
            None if r.stress is None else r.stress.astype(np.float32).astype(float),
        )

    return rounded


def scattered(fault: Fault, per_atom: float = 0.0) -> Fault:
    """The same with the errors of sums: a few units in the last place, the same at each call."""

    def rounded(atoms: Atoms) -> Result:
        r = fault(atoms)
        where = (atoms.positions, atoms.cell.array, atoms.numbers)
        seed = b"".join(np.ascontiguousarray(x).tobytes() for x in where)
        rng = np.random.default_rng(np.frombuffer(seed, np.uint32))
        unit = float(np.spacing(np.float32(abs(r.energy + per_atom * len(atoms)))))
        more = 3e-7 * max(1.0, float(np.abs(r.forces).max())) * rng.normal(size=r.forces.shape)
        stress = 0.0 if r.stress is None else 1e-8 * rng.normal() * np.eye(3)
        return plus(r, 1.5 * unit * rng.normal(), more, stress)

    return float32(rounded, per_atom)


def mutating(atoms: Atoms) -> Result:
    """The atoms are moved by 0.01 Å, after all was computed."""
    r = honest(atoms)
    atoms.positions += 0.01
    return r


def not_a_number(atoms: Atoms) -> Result:
    """Forces of crystals are not numbers."""
    r = honest(atoms)
    return replace(r, forces=r.forces * np.nan) if atoms.pbc.any() else r


def raising(atoms: Atoms) -> Result:
    """More than five atoms are too many."""
    if len(atoms) > 5:
        raise ValueError("more than five atoms")
    return honest(atoms)
