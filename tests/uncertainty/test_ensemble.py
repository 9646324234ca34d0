"""Several potentials as one: means, spreads, and what they promise together."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from brute_force import structure

import kohn
from kohn.errors import ConfigError, InputError
from kohn.models import SchNet, SchNetConfig
from kohn.potential import Potential
from kohn.structures import Prediction, to_ase
from kohn.uncertainty import Ensemble
from kohn.uncertainty.ensemble import mean, spread

CONFIG = SchNetConfig(cutoff=3.5, channels=4, layers=1, n_gaussians=4)
WATER = structure([[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]], [8, 1, 1])
CRYSTAL = structure([[0, 0, 0], [1.4, 1.3, 1.2]], [1, 8], 3.1 * np.eye(3), True)


def potential(seed, elements=(1, 8)):
    model = SchNet.init(
        jax.random.key(seed), CONFIG, elements, neighbours=4.0, scale=3.0, dtype=np.float64
    )
    return Potential(model, dict.fromkeys(elements, -1.0 * seed), {"seed": seed})


@pytest.fixture(scope="module")
def members():
    return tuple(potential(seed) for seed in range(3))


def said(energy, force, stress):
    """Of two atoms, by one model."""
    return Prediction.of_energy(
        energy,
        np.full(2, energy / 2),
        np.full((2, 3), force),
        np.full((3, 3), stress),
        outside=("x",),
    )


def test_the_spread_is_that_of_one_more_draw():
    """Of 1, 2 and 6 the mean is 3, s² = (4 + 1 + 9)/2 = 7, and σ² = 7 · 4/3."""
    assert spread(np.array([1.0, 2.0, 6.0])) == pytest.approx((28 / 3) ** 0.5, rel=1e-15)
    found = mean([said(1.0, 0.1, 4.0), said(2.0, 0.2, 5.0), said(6.0, 0.6, 9.0)], True)
    assert found.energy == 3.0
    assert found.energy_std == pytest.approx((28 / 3) ** 0.5, rel=1e-15)
    np.testing.assert_allclose(found.energies, 1.5)
    np.testing.assert_allclose(found.forces, 0.3)
    np.testing.assert_allclose(found.forces_std, 0.1 * (28 / 3) ** 0.5)
    np.testing.assert_allclose(found.stress, 6.0)
    assert found.outside == ("x",)
    assert mean([said(1.0, 0.1, 4.0), said(2.0, 0.2, 5.0)], False).energy_std is None


def test_predictions_and_energies_are_means_of_the_members(members):
    ensemble = Ensemble(members)
    done = []
    found = ensemble.predict([WATER, CRYSTAL], uncertainty=True, advance=done.append)
    each = np.array([[p.energy for p in m.predict([WATER, CRYSTAL])] for m in members])
    np.testing.assert_allclose([p.energy for p in found], each.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose([p.energy_std for p in found], spread(each), rtol=1e-12)
    assert sum(done) == 2
    alone = ensemble.energies([WATER, CRYSTAL], deviations=True)
    np.testing.assert_allclose(alone.mean, each.mean(axis=0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(alone.std, spread(each), rtol=0, atol=1e-9)
    assert alone.freedom == 2.0
    assert ensemble.energies([WATER]).std is None
    assert ensemble.zero(WATER) == pytest.approx(-3.0)


def test_a_calculator_of_an_ensemble(members):
    atoms = to_ase(CRYSTAL)
    atoms.calc = kohn.Calculator(Ensemble(members))
    (expected,) = Ensemble(members).predict([CRYSTAL])
    assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-9)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), expected.stress, atol=1e-9)
    assert atoms.calc.searches == 3


def test_it_knows_what_all_of_its_members_know(members):
    ensemble = Ensemble((members[0], potential(4, (1, 8, 14)).astype(np.float32)))
    assert ensemble.elements == (1, 8)
    assert (ensemble.cutoff, ensemble.conservative, ensemble.confident) == (3.5, True, True)
    assert ensemble.provenance == {"members": [{"seed": 0}, {"seed": 4}]}
    assert {m.dtype for m in ensemble.astype(np.float64).members} == {np.float64}
    with pytest.raises(InputError, match="not seen Si"):
        ensemble.predict([structure([[0, 0, 0]], [14])])
    with pytest.raises(ConfigError, match="at least two"):
        Ensemble(members[:1])


def test_the_calculator_shows_the_spread(members):
    atoms = to_ase(CRYSTAL)
    atoms.calc = kohn.Calculator(Ensemble(members))
    atoms.get_potential_energy()
    (expected,) = Ensemble(members).predict([CRYSTAL], uncertainty=True)
    assert atoms.calc.results["energy_std"] == pytest.approx(expected.energy_std, abs=1e-9)
    np.testing.assert_allclose(atoms.calc.results["forces_std"], expected.forces_std, atol=1e-9)
    atoms.calc = kohn.Calculator(members[0])
    atoms.get_potential_energy()
    assert "energy_std" not in atoms.calc.results


def test_the_mean_energy_of_the_training_data_is_that_of_the_members(members):
    """Evaluation compares with it."""
    told = [
        replace(m, provenance={"mean_energy_per_atom": e})
        for m, e in zip(members, (1, 2, 6), strict=True)
    ]
    assert Ensemble(tuple(told)).provenance["mean_energy_per_atom"] == 3.0
    assert "mean_energy_per_atom" not in Ensemble(members).provenance
