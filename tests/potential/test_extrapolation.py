"""Geometries without sense are refused, those unlike the training data are warned of."""

import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

import kohn
from kohn.errors import ConfigError, InputError
from kohn.graphs import neighbourhood
from kohn.models import SchNet, SchNetConfig
from kohn.potential import ExtrapolationWarning, Potential, TrainingDistances
from kohn.potential.extrapolation import NEAREST
from kohn.structures import from_ase
from kohn.structures.elements import covalent_radii

CUTOFF = 3.0


@pytest.fixture(scope="module")
def frames():
    """Water at a few temperatures, and in crystals of its own."""
    found = []
    for seed in range(20):
        atoms = molecule("H2O")
        atoms.rattle(0.03, seed=seed)
        found.append(from_ase(atoms))
    return found


@pytest.fixture(scope="module")
def seen(frames) -> TrainingDistances:
    return TrainingDistances.of(frames, [neighbourhood(s, CUTOFF) for s in frames])


@pytest.fixture(scope="module")
def potential(seen) -> Potential:
    import jax

    config = SchNetConfig(channels=4, layers=1, cutoff=CUTOFF)
    model = SchNet.init(
        jax.random.key(0), config, (1, 8, 29), neighbours=2.0, scale=0.1, dtype=np.float64
    )
    e0s = {1: -13.6, 8: -2040.0, 29: -3.0}
    return Potential(model, e0s, {"seen": seen.to_json()})


def pairs_of(atoms) -> dict[tuple[int, int], float]:
    """Shortest distances, the slow way."""
    found: dict[tuple[int, int], float] = {}
    for i, a in enumerate(atoms.positions):
        for j, b in enumerate(atoms.positions[:i]):
            pair = tuple(sorted((int(atoms.numbers[i]), int(atoms.numbers[j]))))
            r = float(np.linalg.norm(a - b))
            found[pair] = min(r, found.get(pair, np.inf))
    return found


def test_what_is_remembered(frames, seen):
    each = [pairs_of(s) for s in frames]
    assert seen.shortest.keys() == {(1, 1), (1, 8)}
    for pair, r in seen.shortest.items():
        assert r == pytest.approx(min(e[pair] for e in each), abs=1e-12)
    # of hydrogen the farthest from its oxygen, of oxygen the nearer of its two
    bonds = [np.linalg.norm(s.positions[1:] - s.positions[0], axis=1) for s in frames]
    assert seen.farthest_nearest[1] == pytest.approx(np.max(bonds), abs=1e-12)
    assert seen.farthest_nearest[8] == pytest.approx(np.min(bonds, axis=1).max(), abs=1e-12)
    assert TrainingDistances.from_json(seen.to_json()) == seen


def test_training_data_are_inside(frames, seen):
    assert not any(seen.outside(s, neighbourhood(s, CUTOFF)) for s in frames)


@pytest.mark.slow
def test_held_out_frames_are_inside_and_rattled_ones_outside():
    """A warning is a claim: on real frames that were not learned, and on ones that are unlike."""
    folder = Path(kohn.__file__).parent / "data" / "ethanol"
    train, test = (kohn.read(folder / f"{name}.extxyz") for name in ("train", "test"))
    seen = TrainingDistances.of(train.structures, [neighbourhood(s, 5.0) for s in train])
    rng = np.random.default_rng(0)

    def share(scale: float) -> float:
        moved = [
            replace(s, positions=s.positions + rng.normal(scale=scale, size=(len(s), 3)))
            for s in test
        ]
        return float(np.mean([bool(seen.outside(s, neighbourhood(s, 5.0))) for s in moved]))

    assert share(0.0) == 0.0
    assert share(0.2) > 0.9


def stretched(factor: float) -> Atoms:
    atoms = molecule("H2O")
    atoms.positions *= factor
    return atoms


@pytest.mark.slow
@pytest.mark.parametrize(
    ("atoms", "said"),
    [
        (stretched(1.0), None),
        (stretched(0.7), "H–O at 0.68 Å"),
        (stretched(1.6), "H without a neighbour within"),
        (Atoms("OO", [[0, 0, 0], [0, 0, 1.4]]), "O–O were never neighbours"),
        (Atoms("O", [[0, 0, 0]]), None),  # its energy is E0, exactly
    ],
)
def test_what_is_warned_of(potential, atoms, said):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (found,) = potential.predict(atoms)
        atoms.calc = kohn.Calculator(potential)
        atoms.get_potential_energy()
    assert len(caught) == (0 if said is None else 2)
    assert all(w.category is ExtrapolationWarning and said in str(w.message) for w in caught)
    assert bool(found.outside) == (said is not None)
    assert np.isfinite(found.energy)


def test_a_calculator_warns_once(potential):
    atoms = stretched(0.7)
    atoms.calc = kohn.Calculator(potential, skin=0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(3):
            atoms.rattle(0.01, seed=seed)
            atoms.get_potential_energy()
    assert [w.category for w in caught] == [ExtrapolationWarning]


def test_old_files_say_nothing(potential):
    old = Potential(potential.model, potential.e0s)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert old.predict(stretched(0.7))[0].outside == ()


def test_joined(seen):
    other = TrainingDistances({(1, 8): 0.5, (8, 8): 2.0}, {8: 3.0})
    both = seen.joined(other)
    assert both.shortest == {**seen.shortest, (1, 8): 0.5, (8, 8): 2.0}
    assert both.farthest_nearest == {1: seen.farthest_nearest[1], 8: 3.0}


def limit(a: str, b: str) -> float:
    return NEAREST * float(covalent_radii(Atoms(a + b).numbers).sum())


@pytest.mark.slow
@pytest.mark.parametrize("pair", ["HH", "OH", "OO"])
@pytest.mark.parametrize(("share", "refused"), [(0.99, True), (1.01, False), (0.0, True)])
@pytest.mark.filterwarnings("ignore::kohn.potential.ExtrapolationWarning")
def test_atoms_that_are_too_near(potential, pair, share, refused):
    atoms = Atoms(pair, [[0, 0, 0], [0, 0, share * limit(*pair)]])
    atoms.calc = kohn.Calculator(potential)
    for ask in (lambda: potential.predict(atoms), atoms.get_potential_energy):
        if refused:
            with pytest.raises(InputError, match=r"too near|same place"):
                ask()
        else:
            ask()
    if refused:
        with pytest.raises(InputError):
            potential.energies([from_ase(atoms)])


@pytest.mark.filterwarnings("ignore::kohn.potential.ExtrapolationWarning")
def test_images_that_are_too_near(potential):
    with pytest.raises(InputError, match="too near") as caught:
        potential.predict(bulk("Cu", "sc", a=0.4))
    assert "image" in str(caught.value.received)


@pytest.mark.filterwarnings("ignore::kohn.potential.ExtrapolationWarning")
def test_atoms_that_come_too_near_between_two_lists(potential):
    """The same geometry is refused whether the neighbours were found there or before."""
    least = limit("O", "O")
    atoms = Atoms("OO", [[0, 0, 0], [0, 0, least + 0.06]], cell=[9, 9, 9], pbc=True)
    atoms.calc = kohn.Calculator(potential, skin=0.5)
    atoms.get_potential_energy()
    atoms.positions[1, 2] -= 0.05
    atoms.get_potential_energy()
    atoms.positions[1, 2] -= 0.02
    with pytest.raises(InputError, match="too near"):
        atoms.get_potential_energy()
    assert atoms.calc.searches == 1


def test_what_was_learned_as_near_is_not_refused(potential):
    """Who trains on collisions may predict them."""
    seen = TrainingDistances({(8, 8): 0.1}, {8: 0.1})
    collided = Potential(potential.model, potential.e0s, {"seen": seen.to_json()})
    atoms = Atoms("OO", [[0, 0, 0], [0, 0, 0.1]])
    energy = collided.predict(atoms)[0].energy
    atoms.calc = kohn.Calculator(collided)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    with pytest.raises(InputError, match="too near"):
        collided.predict(Atoms("OO", [[0, 0, 0], [0, 0, 0.09]]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::kohn.potential.ExtrapolationWarning")
def test_slabs_and_wires_have_a_stress(potential):
    """σ = (1/V) ∂E/∂ε within the plane, by differences; V of the cell as given."""
    slab = fcc111("Cu", (1, 1, 2), vacuum=4)
    slab.rattle(0.05, seed=0)
    for flags in ((1, 1, 0), (1, 0, 0)):
        slab.pbc = flags
        slab.calc = kohn.Calculator(potential)
        found = slab.get_stress(voigt=False)

        def energy(strain: float, slab=slab) -> float:
            moved = slab.copy()
            moved.set_cell(slab.cell.array * [1 + strain, 1, 1], scale_atoms=True)
            return potential.predict(moved)[0].energy

        expected = (energy(1e-4) - energy(-1e-4)) / 2e-4 / slab.get_volume()
        assert found[0, 0] == pytest.approx(expected, abs=1e-8)
        np.testing.assert_allclose(potential.predict(slab)[0].stress, found, atol=1e-12)
    slab.pbc = False
    assert potential.predict(slab)[0].stress is None


@pytest.mark.filterwarnings("ignore::kohn.potential.ExtrapolationWarning")
def test_labels_do_not_matter(potential):
    bad = {
        "virial": np.zeros((3, 3)),
        "stress": np.full(6, np.nan),
        "REF_energy": float("nan"),
        "dipole": 1.2,
        "polarizability": 1.3,
        "config_weight": "high",
        "energy": "done",
    }
    plain = potential.predict(molecule("H2O"))[0].energy
    for key, value in bad.items():
        atoms = molecule("H2O")
        atoms.info[key] = value
        atoms.calc = kohn.Calculator(potential)
        assert atoms.get_potential_energy() == pytest.approx(plain, abs=1e-12)
        assert potential.predict([atoms])[0].energy == pytest.approx(plain, abs=1e-12)


@pytest.mark.filterwarnings("ignore::kohn.potential.ExtrapolationWarning")
@pytest.mark.parametrize(
    "atoms", [Atoms(cell=[5, 5, 5], pbc=True), Atoms("OX", [[0] * 3, [1] * 3])]
)
def test_what_has_no_atoms_or_ghosts(potential, atoms):
    atoms.calc = kohn.Calculator(potential)
    for ask in (lambda: potential.predict(atoms), atoms.get_potential_energy):
        with pytest.raises(InputError):
            ask()


def test_a_used_calculator_can_be_pickled(potential):
    atoms = molecule("H2O")
    atoms.calc = kohn.Calculator(potential)
    energy = atoms.get_potential_energy()
    copy = pickle.loads(pickle.dumps(atoms))
    assert copy.get_potential_energy() == energy
    copy.positions += 0.01
    assert copy.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    again = pickle.loads(pickle.dumps(potential))
    assert again.predict(atoms)[0].energy == energy


@pytest.mark.parametrize(
    "arguments",
    [{"devise": "cpu"}, {"default_dtype": "float64"}, {"dtype": "float16"}, {"device": "tpu"}],
)
def test_arguments_that_are_not_known(potential, arguments):
    with pytest.raises(ConfigError) as caught:
        kohn.Calculator(potential, **arguments)
    assert caught.value.fix


def test_devices(potential):
    assert kohn.Calculator(potential, device="cpu")
    with pytest.raises(ConfigError, match="JAX_PLATFORMS=cuda"):
        kohn.Calculator(potential, device="cuda")


def test_what_is_shown(potential):
    shown = [potential, potential.predict(molecule("H2O"))[0], kohn.Calculator(potential)]
    for thing in (*shown, from_ase(molecule("H2O")), kohn.read(molecule("H2O"))):
        assert 0 < len(repr(thing)) < 300
        assert len(repr(thing).splitlines()) <= 10


def test_what_models_take(potential, tmp_path):
    atoms = molecule("H2O")
    kohn.write(atoms, tmp_path / "x.xyz")
    energies = {
        potential.predict(given)[-1].energy
        for given in (atoms, [atoms], kohn.read(atoms), from_ase(atoms), tmp_path / "x.xyz")
    }
    assert len(energies) == 1


def test_of_two_sets_the_extremes_of_both_count():
    """Whichever comes first."""
    one = TrainingDistances({(1, 8): 0.9, (1, 1): 1.5}, {1: 1.1, 8: 0.9})
    two = TrainingDistances({(1, 8): 0.95, (8, 8): 2.5}, {1: 0.8, 29: 2.6})
    both = TrainingDistances({(1, 8): 0.9, (1, 1): 1.5, (8, 8): 2.5}, {1: 1.1, 8: 0.9, 29: 2.6})
    assert one.joined(two) == two.joined(one) == both
