"""The ASE calculator: the same numbers as the potential, and few compilations in a simulation."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.nptberendsen import NPTBerendsen
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

import kohn
from kohn.errors import InputError, ModelFileError
from kohn.graphs import gather_neighbours
from kohn.potential import TrainingDistances, save
from kohn.structures import from_ase

TOLERANCE = 1e-9


def silicon(repeat: int = 2, seed: int = 0):
    """A rattled crystal."""
    atoms = bulk("Si", cubic=True).repeat(repeat)
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), silicon(1), silicon(2)])
@pytest.mark.slow
def test_as_the_potential_says(potential, atoms):
    atoms = atoms.copy()
    atoms.calc = kohn.Calculator(potential)
    (expected,) = potential.predict([from_ase(atoms)])
    assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=TOLERANCE)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=TOLERANCE)
    np.testing.assert_allclose(atoms.get_potential_energies(), expected.energies, atol=TOLERANCE)
    if atoms.pbc.all():
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose(stress, expected.stress, atol=TOLERANCE)
    else:
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()


@pytest.mark.slow
def test_a_skin_changes_nothing(potential):
    """Along a trajectory with a moving cell, the kept list gives what a new one gives."""
    atoms = silicon(1)
    kept, fresh = kohn.Calculator(potential, skin=0.6), kohn.Calculator(potential, skin=0.0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        strain = np.eye(3) + rng.normal(scale=2e-3, size=(3, 3))
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
        results = []
        for calculator in (kept, fresh):
            calculator.calculate(atoms)
            results.append(calculator.results)
        a, b = results
        assert a["energy"] == pytest.approx(b["energy"], abs=TOLERANCE)
        np.testing.assert_allclose(a["forces"], b["forces"], atol=TOLERANCE)
        np.testing.assert_allclose(a["stress"], b["stress"], atol=TOLERANCE)
    assert kept.searches < 40 <= fresh.searches


@pytest.mark.slow
def test_few_compilations_at_constant_pressure(potential):
    """300 steps in which the cell shrinks and grows: at most three."""
    atoms = silicon(1)
    # Random weights let atoms collide, which nobody would refuse who had trained on that.
    seen = TrainingDistances({(14, 14): 0.01}, {14: 10.0})
    calculator = kohn.Calculator(replace(potential, provenance={"seen": seen.to_json()}))
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=900, rng=np.random.default_rng(0))
    dynamics = NPTBerendsen(
        atoms,
        units.fs,
        temperature_K=900,
        pressure_au=5 * units.GPa,
        compressibility_au=0.03 / units.GPa,
        taut=50 * units.fs,
        taup=50 * units.fs,
    )
    volume = atoms.get_volume()
    dynamics.run(300)
    assert abs(atoms.get_volume() / volume - 1) > 0.01, "the test wants a cell that moves"
    assert calculator.compilations <= 3


@pytest.mark.slow
def test_energy_is_conserved(potential):
    """Forces are the gradient: the drift falls with the square of the time step."""
    drifts = []
    for step in (2.0, 1.0):
        atoms = silicon(1)
        atoms.calc = kohn.Calculator(potential)
        MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
        dynamics = VelocityVerlet(atoms, step * units.fs)
        energies = []
        dynamics.attach(lambda a=atoms, e=energies: e.append(a.get_total_energy()))
        dynamics.run(int(100 / step))
        drifts.append(np.ptp(energies))
    assert drifts[1] < 0.4 * drifts[0]


@pytest.mark.slow
def test_the_precision_is_that_which_is_asked_for(potential):
    """float32 is near float64 and not the same; by default it is the potential's."""
    energies = {}
    for dtype, expected in ((None, np.float64), ("float64", np.float64), ("float32", np.float32)):
        atoms = molecule("H2O")
        atoms.calc = kohn.Calculator(potential, dtype=dtype)
        assert atoms.calc.potential.dtype is expected
        energies[dtype] = atoms.get_potential_energy()
    assert energies[None] == energies["float64"] != energies["float32"]
    assert energies["float32"] == pytest.approx(energies["float64"], abs=1e-4)


def test_an_element_it_has_not_seen(potential):
    atoms = molecule("NH3")
    atoms.calc = kohn.Calculator(potential)
    with pytest.raises(InputError, match="not seen N"):
        atoms.get_potential_energy()


@pytest.mark.slow
def test_atoms_near_an_image_of_another_are_refused_in_a_skewed_cell(potential):
    cell = np.array([[4.0, 0.0, 0.0], [1.5, 4.0, 0.0], [0.0, 0.7, 5.0]])
    for away, near in ((0.3, True), (1.5, False)):
        places = np.array([[0.3, 0.3, 0.3], cell[1] + [0.3 + away, 0.3, 0.3]])
        atoms = Atoms("Si2", places, cell=cell, pbc=True, calculator=kohn.Calculator(potential))
        if near:
            with pytest.raises(InputError, match="too near each other"):
                atoms.get_potential_energy()
        else:
            atoms.get_potential_energy()


def test_a_damaged_file(potential, tmp_path):
    path = tmp_path / "model.safetensors"
    save(potential, path)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelFileError, match="checksum"):
        kohn.Calculator(path)
    path.write_bytes(bytes(data[:1000]))
    with pytest.raises(ModelFileError, match="damaged"):
        kohn.Calculator(path)
    with pytest.raises(ModelFileError, match="no such"):
        kohn.Calculator(tmp_path / "none.safetensors")


@pytest.mark.slow
def test_a_file_gives_the_same_calculator(potential, tmp_path):
    path = tmp_path / "model.safetensors"
    save(potential, path)
    atoms = molecule("CH4")
    energies = []
    for calculator in (kohn.Calculator(potential), kohn.Calculator(path)):
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1]


class Charges(eqx.Module):
    """Pairs of neighbours: q_i q_j (1 − r/r_c)², eV, with a q of each element."""

    q: jax.Array
    scale: jax.Array
    elements: tuple[int, ...] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True, default=3.0)

    def __call__(self, graph):
        own = self.q[graph.species]
        other = gather_neighbours(own[:, None], graph.index, graph.reverse)[..., 0]
        r = jnp.linalg.norm(graph.displacement, axis=-1)
        pair = own[:, None] * other * (1 - r / self.cutoff) ** 2 * graph.edge_mask.astype(r.dtype)
        return 0.5 * self.scale * pair.sum(1)

    def restricted(self, elements):
        rows = np.array([self.elements.index(z) for z in elements])
        return replace(self, q=self.q[rows], elements=elements)


CHARGES = {1: 2.0, 6: 3.0, 8: 5.0}


@pytest.fixture(scope="module")
def charged() -> kohn.Potential:
    """E0s of −1, −6 and −8 eV."""
    model = Charges(jnp.array([*CHARGES.values()]), jnp.array(1.0), tuple(CHARGES))
    return kohn.Potential(model, {z: -float(z) for z in CHARGES})


@pytest.mark.slow
def test_each_composition_has_its_own_neighbours(charged):
    """One after the other, the same atoms in the same places but of other elements; at 1.5 Å
    a pair has q_i q_j / 4."""
    calculator = kohn.Calculator(charged)
    for pair in ("CO", "OH", "OC", "HO"):
        atoms = Atoms(pair, [[0, 0, 0], [1.5, 0, 0]], calculator=calculator)
        first, second = (CHARGES[z] for z in atoms.numbers)
        expected = first * second / 4 - atoms.numbers.sum()
        assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-12)


def test_all_quantities_of_a_pair_by_hand(charged):
    """CO with r = (0.2, 1.1, 1.0), |r| = 1.5 Å: E = 15/4 eV and dE/dr = −2 · 15 · ½/3 = −5 eV/Å,
    which pushes them apart; σ = dE/dr r ⊗ r / (|r| V) with V = 1000 Å³."""
    r = np.array([0.2, 1.1, 1.0])
    atoms = Atoms("CO", [[4, 4, 4], 4 + r], cell=10 * np.eye(3), pbc=True)
    atoms.calc = kohn.Calculator(charged)
    assert atoms.get_potential_energy() == pytest.approx(3.75 - 14.0, abs=1e-12)
    assert atoms.calc.results["free_energy"] == atoms.get_potential_energy()
    energies = [1.875 - 6.0, 1.875 - 8.0]
    np.testing.assert_allclose(atoms.get_potential_energies(), energies, rtol=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), np.outer([-1, 1], 5 / 1.5 * r), rtol=1e-12)
    xx, yy, zz, yz, xz, xy = 0.04, 1.21, 1.0, 1.1, 0.2, 0.22
    expected = -5 / 1.5 / 1000 * np.array([xx, yy, zz, yz, xz, xy])
    np.testing.assert_allclose(atoms.get_stress(), expected, rtol=1e-12)


@pytest.mark.parametrize(("skin", "searches"), [(0.2, 1), (0.09, 2), (0.0, 2)])
def test_neighbours_are_kept_while_no_atom_moves_more_than_half_the_skin(charged, skin, searches):
    atoms = Atoms("CO", [[0, 0, 0], [1.5, 0, 0]], calculator=kohn.Calculator(charged, skin=skin))
    atoms.get_potential_energy()
    atoms.positions[1, 0] = 1.55
    distance = atoms.get_distance(0, 1)
    expected = 15 * (1 - distance / 3) ** 2 - 14.0
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-12)
    assert atoms.calc.searches == searches


@pytest.mark.slow
def test_a_molecule_in_a_box_has_no_stress(potential):
    atoms = molecule("H2O", cell=[12.0] * 3)
    assert atoms.cell.volume > 0
    assert not atoms.pbc.any()
    atoms.calc = kohn.Calculator(potential)
    atoms.get_forces()
    assert "stress" not in atoms.calc.results
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
