"""Relaxation: to where an independent prediction sees no forces, to the byte, and never astray."""

from dataclasses import replace
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from brute_force import structure

import kohn
from kohn.descriptors import polynomial_cutoff
from kohn.errors import InputError, Place
from kohn.graphs import gather_neighbours
from kohn.models import SchNet, SchNetConfig
from kohn.models.network import where_neighbours
from kohn.potential import Potential, save
from kohn.simulation import Relaxer, relax, relaxation
from kohn.simulation.relaxation import _Limits, _Stopped
from kohn.structures import from_ase

pytestmark = pytest.mark.slow

FMAX = 0.01
NICKEL, COPPER = 28, 29


class Morse(eqx.Module):
    """Pairs bound by D (x² − 2x), x = exp(−a (r − R_i − R_j)), eV; or with a planted fault."""

    radii: jax.Array
    scale: jax.Array
    elements: tuple[int, ...] = eqx.field(static=True)
    fault: str = eqx.field(static=True, default="")
    cutoff: float = eqx.field(static=True, default=5.0)

    def __call__(self, graph):
        radius = self.radii[graph.species]
        other = gather_neighbours(radius[:, None], graph.index, graph.reverse)[..., 0]
        r = jnp.linalg.norm(graph.displacement, axis=-1)
        x = jnp.exp(-1.4 * (r - radius[:, None] - other))
        near = graph.edge_mask & (r < 2.3)
        pair = {
            "": x * x - 2.0 * x,
            "falls in": -x * x,
            "repels": x * x,
            "no number": x * x - 2.0 * x - 60.0 / r**4 + jnp.where(near, jnp.nan, 0.0),
        }[self.fault]
        cut = polynomial_cutoff(r, self.cutoff, 6) * graph.edge_mask.astype(r.dtype)
        return where_neighbours(0.5 * self.scale * (pair * cut).sum(1), graph)

    def restricted(self, elements):
        rows = np.array([self.elements.index(z) for z in elements])
        return replace(self, radii=self.radii[rows], elements=elements)


class Pushed(Morse):
    """It says that its forces are no derivative."""

    conservative: ClassVar[bool] = False


def morse(fault: str = "") -> Potential:
    """Of nickel and copper, float64."""
    model = Morse(jnp.array([1.27, 1.35]), jnp.array(0.35), (NICKEL, COPPER), fault)
    return Potential(model, {NICKEL: -1.0, COPPER: -2.0})


@pytest.fixture(scope="module")
def relaxer() -> Relaxer:
    return Relaxer(morse())


def crystal(factor: float = 1.0, rattle: float = 0.1, seed: int = 0):
    """Four atoms of both elements, lengths times `factor`."""
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[:2] = NICKEL
    atoms.set_cell(atoms.cell * factor, scale_atoms=True)
    atoms.rattle(rattle, seed=seed)
    return from_ase(atoms)


def cluster(size: float = 2.6):
    """A tetrahedron that is none yet."""
    corners = np.array([[0, 0, 0], [1, 0, 0.2], [0.4, 0.9, 0], [0.5, 0.3, 0.9]])
    return structure(size * corners, [COPPER] * 4)


def assert_relaxed(potential, before, relaxed, cell):
    """By a prediction that shares nothing with the calculator's lists."""
    assert relaxed.converged, relaxed.problem
    assert relaxed.problem == ""
    start, end = potential.predict([before, relaxed.structure])
    assert np.linalg.norm(end.forces, axis=1).max() < FMAX
    assert relaxed.max_force == pytest.approx(np.linalg.norm(end.forces, axis=1).max(), abs=1e-9)
    if cell:
        rows = end.stress * relaxed.structure.volume / len(before)
        assert np.linalg.norm(rows, axis=1).max() < FMAX
        assert relaxed.max_stress == pytest.approx(np.abs(end.stress).max(), abs=1e-9)
    else:
        np.testing.assert_array_equal(relaxed.structure.cell, before.cell)
    assert relaxed.energy == pytest.approx(end.energy, abs=1e-9)
    assert end.energy < start.energy


@pytest.mark.parametrize("factor", [0.92, 1.0, 1.1])
@pytest.mark.parametrize("cell", [True, False])
def test_a_crystal(relaxer, factor, cell):
    before = crystal(factor)
    assert_relaxed(morse(), before, relaxer(before, fmax=FMAX, cell=cell), cell)


def test_a_molecule(relaxer):
    before = cluster()
    found = relaxer(before, fmax=1e-4)
    assert found.max_stress is None
    assert_relaxed(morse(), before, found, cell=False)
    (i, j), x = np.triu_indices(4, 1), found.structure.positions
    edges = np.linalg.norm(x[i] - x[j], axis=1)
    np.testing.assert_allclose(edges, edges[0], atol=1e-3)
    assert 2.6 < edges[0] < 2.7  # the cutoff pulls a little


def test_all_else_is_kept(relaxer):
    before = replace(
        crystal().with_labels(energy=np.array(1.0)),
        info={"spin": 1},
        arrays={"site": np.arange(4)},
        config_type="bulk",
        weight=2.0,
        place=Place("some.extxyz", 3),
    )
    positions = before.positions.copy()
    after = relaxer(before).structure
    np.testing.assert_array_equal(before.positions, positions)
    assert after.labels == {}
    assert "energy" in before.labels
    for name in ("info", "config_type", "weight", "place", "arrays"):
        assert getattr(after, name) == getattr(before, name)
    np.testing.assert_array_equal(after.numbers, before.numbers)
    np.testing.assert_array_equal(after.periodic, before.periodic)


def test_the_same_volume_from_two_sides(relaxer):
    small, large = (relaxer(crystal(f, rattle=0.05), fmax=1e-4) for f in (0.93, 1.1))
    assert small.converged
    assert large.converged
    assert small.structure.volume == pytest.approx(large.structure.volume, rel=1e-4)
    assert small.energy == pytest.approx(large.energy, abs=1e-6)


def test_what_is_rattled_finds_its_symmetry_again(relaxer):
    still, rattled = (relaxer(crystal(1.0, rattle), fmax=1e-4) for rattle in (0.0, 0.2))
    assert still.energy == pytest.approx(rattled.energy, abs=1e-6)
    assert still.structure.volume == pytest.approx(rattled.structure.volume, rel=1e-4)


def test_a_potential_of_single_precision_relaxes_in_double():
    """To forces that float32 could not tell from zero, with the energy of float64."""
    single = morse().astype(np.float32)
    found = relax(single, cluster(), fmax=1e-7)
    assert found.converged, found.problem
    (end,) = single.astype(np.float64).predict([found.structure])
    assert found.energy == pytest.approx(end.energy, abs=1e-11)
    assert np.linalg.norm(end.forces, axis=1).max() < 1e-7


def test_one_atom(relaxer):
    """In a cell only that moves; alone nothing does."""
    one = from_ase(bulk("Cu", a=3.3))
    assert_relaxed(morse(), one, relaxer(one, fmax=FMAX), cell=True)
    lone = relaxer(structure([[0, 0, 0]], [COPPER]))
    assert (lone.converged, lone.steps, lone.max_force) == (True, 0, 0.0)
    assert lone.energy == pytest.approx(-2.0)


def test_a_slab_keeps_its_cell(relaxer):
    slab = fcc111("Cu", (1, 1, 3), a=3.5, vacuum=6.0)
    slab.rattle(0.05, seed=0)
    before = from_ase(slab)
    assert_relaxed(morse(), before, relaxer(before, fmax=FMAX), cell=False)


def test_atoms_that_start_too_near_come_apart(relaxer):
    before = cluster(1.1)
    assert_relaxed(morse(), before, relaxer(before, fmax=FMAX), cell=False)


def bytes_of(relaxed) -> bytes:
    s = relaxed.structure
    size = [relaxed.energy, relaxed.max_force, relaxed.steps]
    return s.positions.tobytes() + s.cell.tobytes() + np.array(size, float).tobytes()


def test_the_same_bytes_whatever_came_before():
    """Also after a structure of the same atoms, whose list of neighbours would still hold."""
    first = crystal(0.95)
    expected = bytes_of(Relaxer(morse())(first))
    used = Relaxer(morse())
    for other in (crystal(0.951, seed=1), from_ase(bulk("Cu").repeat(2)), cluster(), first):
        used(other)
    assert bytes_of(used(first)) == expected
    again = relax(morse(), first)
    assert bytes_of(again) == expected
    used(again.structure)
    assert bytes_of(used(first)) == expected


def test_functions_are_shared(relaxer):
    """By structures of like size, of any composition."""
    used = Relaxer(morse())
    several = [crystal(1.0, seed=seed) for seed in range(4)]
    several += [replace(s, numbers=np.full(4, z, np.int32)) for s in several for z in (28, 29)]
    for s in several:
        used(s, steps=3)
    assert used.compilations <= 2
    narrow = Relaxer(morse(), elements=[COPPER])
    assert narrow(crystal()).converged  # others are relaxed too


def test_not_converged_is_said(relaxer):
    before = crystal(0.92)
    found = relaxer(before, steps=2)
    assert not found.converged
    assert found.steps == 2
    assert "not converged in 2 steps: largest force" in found.problem
    start, end = morse().predict([before, found.structure])
    assert found.energy == pytest.approx(end.energy, abs=1e-9)
    assert end.energy < start.energy
    same = relaxer(before, steps=0)
    np.testing.assert_array_equal(same.structure.positions, before.positions)
    assert same.energy == pytest.approx(start.energy, abs=1e-9)


@pytest.mark.parametrize(
    ("fault", "before", "cell", "said"),
    [
        ("falls in", cluster(), None, "nearer than 0.5 of the sum of their covalent radii"),
        ("falls in", crystal(), False, "nearer than 0.5"),
        ("falls in", crystal(1.1, 0.0), True, "the volume changed by a factor 0.4"),
        ("repels", crystal(0.9, 0.0), True, "the volume changed by a factor 2"),
        ("repels", cluster(1.8), None, "fell apart"),
        ("no number", cluster(2.7), None, "not finite"),
    ],
)
def test_geometries_that_explode_are_stopped(fault, before, cell, said):
    potential = morse(fault)
    found = relax(potential, before, fmax=1e-5, steps=1000, cell=cell)
    assert not found.converged
    assert said in found.problem
    assert found.steps > 0
    start, end = potential.predict([before, found.structure])
    assert found.energy == pytest.approx(end.energy, abs=1e-9)
    assert end.energy < start.energy
    assert np.isfinite(found.max_force)
    if cell:
        assert 0.5 <= found.structure.volume / before.volume <= 2.0


def test_a_start_without_energy():
    before = cluster(2.0)
    found = relax(morse("no number"), before)
    assert found.problem == "energy is not finite"
    assert np.isnan(found.energy)
    assert not found.converged
    np.testing.assert_array_equal(found.structure.positions, before.positions)


def dimer_energy(r):
    """Of two coppers, by hand: D (x² − 2x) c(r) above −4 eV, D 0.35 eV and r_e 2.7 Å."""
    x, y = np.exp(-1.4 * (r - 2.7)), r / 5.0
    return 0.35 * (x * x - 2 * x) * (1 - 28 * y**6 + 48 * y**7 - 21 * y**8) - 4.0


def test_the_lowest_geometry_is_returned_and_not_the_last(relaxer, monkeypatch):
    """A dimer that is led from 3.2 through 2.45 to 3.0 Å and stopped there: of these the second
    has the lowest energy, and the largest force."""
    lengths = iter((2.45, 3.0))

    def led(self, *_):
        self.optimizable.set_x(np.array([0.0, 0, 0, next(lengths), 0, 0]))

    monkeypatch.setattr(relaxation.BFGS, "step", led)
    found = relaxer(structure([[0, 0, 0], [3.2, 0, 0]], [COPPER] * 2), fmax=1e-6, steps=2)
    assert (found.converged, found.steps) == (False, 2)
    assert found.structure.positions[1, 0] == 2.45
    assert found.energy == pytest.approx(dimer_energy(2.45), abs=1e-12)
    assert found.energy < dimer_energy(3.0) < dimer_energy(3.2)


def test_an_optimiser_that_fails(relaxer, monkeypatch):
    def fail(*_):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(relaxation.BFGS, "step", fail)
    found = relaxer(crystal())
    assert not found.converged
    assert "Eigenvalues did not converge" in found.problem
    assert found.energy == pytest.approx(morse().predict([crystal()])[0].energy)


def test_ending_above_the_start_is_said(relaxer, monkeypatch):
    def uphill(self, *_):
        self.optimizable.set_x(self.optimizable.get_x() * 1.01)

    before = cluster(2.6)
    monkeypatch.setattr(relaxation.BFGS, "step", uphill)
    low = relaxer(relaxer(before, fmax=10.0).structure, fmax=100.0)
    assert low.converged
    monkeypatch.setattr(relaxation.BFGS, "gradient_converged", lambda self, _: self.nsteps > 30)
    found = relaxer(before)
    assert not found.converged
    assert "above the start" in found.problem


def test_refusals(relaxer):
    molecule, solid = cluster(), crystal()
    slab = replace(solid, periodic=np.array([True, True, False]))
    for s in (molecule, slab):
        with pytest.raises(InputError, match="no cell to relax"):
            relaxer(s, cell=True)
    with pytest.raises(InputError, match="not seen Si"):
        relaxer(structure([[0, 0, 0]]))
    with pytest.raises(InputError, match="not seen Si"):
        Relaxer(morse(), elements=[14])
    with pytest.raises(InputError, match="fmax"):
        relaxer(solid, fmax=0.0)
    with pytest.raises(InputError, match="steps"):
        relaxer(solid, steps=-1)
    with pytest.raises(InputError, match="no atoms"):
        relaxer(structure(np.zeros((0, 3))))
    with pytest.raises(InputError, match="not finite"):
        relaxer(replace(solid, positions=solid.positions * np.nan))
    with pytest.raises(InputError, match="same place"):
        relaxer(structure(np.zeros((2, 3)), [COPPER] * 2))
    with pytest.raises(InputError, match="too small for its atoms"):
        relaxer(replace(solid, cell=solid.cell * 0.1, positions=solid.positions * 0.1))
    with pytest.raises(InputError, match="parallel"):
        relaxer(replace(solid, cell=np.zeros((3, 3))))


def test_forces_that_are_no_derivative_are_refused():
    model = Pushed(jnp.array([1.35]), jnp.array(0.35), (COPPER,))
    with pytest.raises(InputError, match="cannot be relaxed") as caught:
        relax(Potential(model, {COPPER: 0.0}), crystal())
    assert "not conservative" in str(caught.value)


def test_a_network_of_many_elements():
    """Random weights: wherever it goes, it says so."""
    config = SchNetConfig(cutoff=4.0, channels=4, layers=1, n_gaussians=6)
    model = SchNet.init(
        jax.random.key(0), config, (1, 6, 8, 14), neighbours=8.0, scale=0.3, dtype=np.float64
    )
    potential = Potential(model, {1: -13.6, 6: -1030.0, 8: -2040.0, 14: -5.0})
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    before = from_ase(atoms)
    found = relax(potential, before, fmax=FMAX, steps=30)
    start, end = potential.predict([before, found.structure])
    assert found.converged == (found.problem == "")
    assert found.energy == pytest.approx(end.energy, abs=1e-9)
    assert end.energy <= start.energy


def test_atoms_that_come_together_have_not_fallen_apart():
    near, far = (Atoms("H2", [[0, 0, 0], [0, 0, r]]) for r in (0.8, 20.0))
    _Limits.of(from_ase(far), 5.0).check(near)
    with pytest.raises(_Stopped, match="fell apart: 2 groups, 1 at the start"):
        _Limits.of(from_ase(near), 5.0).check(far)


def test_a_file_and_atoms_can_be_named(tmp_path):
    """As everything beside it in `kohn` takes them."""
    config = SchNetConfig(cutoff=3.5, channels=4, layers=1, n_gaussians=4)
    model = SchNet.init(
        jax.random.key(0), config, (1, 8), neighbours=2.0, scale=0.1, dtype=np.float64
    )
    save(Potential(model, {1: -13.6, 8: -2040.0}), tmp_path / "model.safetensors")
    found = kohn.relax(tmp_path / "model.safetensors", molecule("H2O"), steps=0)
    (alone,) = kohn.load(tmp_path / "model.safetensors").predict(molecule("H2O"))
    assert found.energy == pytest.approx(alone.energy, abs=1e-9)
    with pytest.raises(InputError, match="give exactly one structure"):
        kohn.relax(tmp_path / "model.safetensors", [molecule("H2O")] * 2)
