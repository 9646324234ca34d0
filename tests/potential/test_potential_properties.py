"""Labels of properties beside energies, and where they are read from."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from brute_force import structure

from kohn.errors import InputError
from kohn.graphs import neighbourhood
from kohn.models import NequipConfig
from kohn.models.heads.properties import PropertyConfig, PropertyNetwork
from kohn.potential import ExtrapolationWarning, PropertyModel, TrainingDistances
from kohn.potential.properties import about_centre_of_mass, charge_of, from_centre_of_mass, label_of
from kohn.structures.properties import PREDICTED_BY

ATOM = structure([[0, 0, 0]], [8])


def test_a_predicted_number_is_no_label_and_a_reference_is_one():
    assert label_of(replace(ATOM, info={"gap": 1.5}), "gap") == 1.5
    predicted = {"gap": 1.5, PREDICTED_BY: "a model"}
    assert label_of(replace(ATOM, info=predicted), "gap") is None
    assert label_of(replace(ATOM, info=predicted | {"REF_gap": 2.5}), "gap") == 2.5
    assert label_of(ATOM, "gap") is None


def test_what_is_no_number_is_refused():
    for value in ("wide", [1.0, 2.0], float("nan")):
        with pytest.raises(InputError, match="not a finite number"):
            label_of(replace(ATOM, info={"gap": value}), "gap")


def test_a_dipole_of_an_ion_goes_to_its_centre_of_mass_and_back():
    """μ(R) = μ(0) − Q R, with Q = 2 e and R = (1, 2, 3) Å."""
    ion = structure([[1.0, 2.0, 3.0]], [8])
    mu = np.array([0.5, 0.0, -0.5])
    about = about_centre_of_mass(mu, ion, 2.0, "positions")
    np.testing.assert_allclose(about, [-1.5, -4.0, -6.5], rtol=0, atol=1e-12)
    back = from_centre_of_mass(about, ion, 2.0, "positions")
    np.testing.assert_allclose(back, mu, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(from_centre_of_mass(mu, ion, 2.0, "centre_of_mass"), mu)


@pytest.mark.slow
def test_every_structure_is_asked_whether_it_is_like_the_training_data():
    """The second is not, and the warning is of one of two."""
    near, far = (structure([[0, 0, 0], [0, 0, r]], [8, 1]) for r in (0.97, 1.9))
    body = NequipConfig(cutoff=3.0, channels=2, l_max=1, layers=1, radial_widths=(4,))
    config = PropertyConfig(body=body, targets=("dipole",), extensive=("dipole",), charges=True)
    network = PropertyNetwork.init(
        jax.random.key(0), config, (1, 8), neighbours=1.0, atoms={}, dtype=np.float64
    )
    seen = TrainingDistances.of([near], [neighbourhood(near, 3.0)]).to_json()
    model = PropertyModel(network, provenance={"seen": seen})
    with pytest.warns(ExtrapolationWarning, match="1 of 2 structures are unlike"):
        model.predict([near, far])


def test_the_charge_that_a_frame_states_is_its_charge():
    assert charge_of(replace(ATOM, info={"charge": 1}), -1.0) == 1.0
    assert charge_of(replace(ATOM, info={"Charge": np.array([-2.0])})) == -2.0
    assert charge_of(ATOM, -1.0) == -1.0
    assert charge_of(ATOM) is None
