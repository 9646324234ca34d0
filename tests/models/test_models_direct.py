"""Direct forces turn with the structure, add to nothing where asked, and are marked everywhere."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from brute_force import random_rotation, structure
from pydantic import ValidationError

import kohn
from kohn import modelfile
from kohn.graphs import Shape, collate, needed_shape, neighbourhood
from kohn.models import (
    FAMILIES,
    NOT_CONSERVATIVE,
    Direct,
    DirectConfig,
    MaceDirectConfig,
    Nequip,
    energy_and_derivatives,
    is_conservative,
)
from kohn.models.heads.direct import without_net_force
from kohn.models.heads.properties import XYZ
from kohn.potential import Potential, evaluate, load, save
from kohn.structures import from_ase

pytestmark = pytest.mark.slow

CUTOFF = 3.5
ELEMENTS = (1, 8, 14)


def model_of(net_force="removed", elements=ELEMENTS, dtype=np.float64) -> Direct:
    config = DirectConfig(
        cutoff=CUTOFF, channels=4, l_max=2, layers=2, radial_widths=(8,), net_force=net_force
    )
    return Direct.init(
        jax.random.key(1), config, elements, neighbours=5.0, scale=100.0, dtype=dtype
    )


def mace_of(net_force="free") -> Direct:
    config = MaceDirectConfig(
        cutoff=CUTOFF, channels=4, hidden_l_max=0, l_max=2, radial_widths=(8,), net_force=net_force
    )
    return Direct.init(
        jax.random.key(1), config, ELEMENTS, neighbours=5.0, scale=100.0, dtype=np.float64
    )


MODELS = {"removed": model_of(), "free": mace_of()}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


def cluster(seed=0, n=5):
    rng = np.random.default_rng(seed)
    return structure(rng.normal(size=(n, 3)) * 1.1, rng.choice(ELEMENTS, n))


def graph_of(*structures, shape=None):
    rows = [neighbourhood(s, CUTOFF) for s in structures]
    return collate(structures, rows, ELEMENTS, shape, dtype=np.float64)


def forces(model, *structures):
    n = sum(map(len, structures))
    return np.asarray(evaluate(model, graph_of(*structures)).forces)[:n]


# The forces


@pytest.mark.parametrize("sign", [1, -1])
def test_forces_turn_and_reflect_with_the_structure(model, sign):
    s, q = cluster(), sign * random_rotation(np.random.default_rng(1))
    still, turned = forces(model, s), forces(model, structure(s.positions @ q.T, s.numbers))
    assert np.abs(still).max() > 0.1
    np.testing.assert_allclose(turned, still @ q.T, rtol=0, atol=1e-12)
    wrong = turned[:, np.argsort(XYZ)]  # components in the order of the harmonics
    assert np.abs(wrong - still @ q.T).max() > 1e-2


def test_the_net_force_is_removed_or_free():
    s, crystal = cluster(2), structure([[0, 0, 0], [1.4, 1.3, 1.2]], [14, 8], np.eye(3) * 3.1, True)
    for which in (s, crystal):
        assert np.abs(forces(MODELS["removed"], which).sum(0)).max() < 1e-13
    assert np.abs(forces(MODELS["free"], s).sum(0)).max() > 1e-2


def test_removing_the_net_force_twice_changes_nothing():
    """It is a projection: forces without net force stay as they are."""
    graph, rng = graph_of(cluster(0), cluster(1)), np.random.default_rng(0)
    mask = np.asarray(graph.atom_mask)
    f, shares = rng.normal(size=(len(mask), 3)) * mask[:, None], rng.uniform(size=len(mask)) * mask
    once = without_net_force(jnp.asarray(f), jnp.asarray(shares), graph)
    twice = without_net_force(once, jnp.asarray(shares), graph)
    np.testing.assert_allclose(twice, once, rtol=0, atol=1e-15)
    equal = without_net_force(jnp.asarray(f), jnp.asarray(mask.astype(float)), graph)
    expected = f[:5] - f[:5].mean(0)
    np.testing.assert_allclose(equal[:5], expected, rtol=0, atol=1e-15)


def test_an_atom_without_neighbours_has_no_force_and_its_coming_is_smooth(model):
    s = cluster(3)
    centre = s.positions[0]
    u = np.array([0.6, -0.64, 0.48])

    def with_one_at(r):
        return structure(np.vstack([s.positions, centre + r * u]), [*s.numbers, 8])

    far = forces(model, with_one_at(30.0))
    np.testing.assert_array_equal(far[-1], 0)
    np.testing.assert_allclose(far[:-1], forces(model, s), rtol=0, atol=1e-13)
    near = [r for r in np.linspace(2, 12, 2001) if _just_inside(s, centre + r * u)]
    inside = forces(model, with_one_at(near[-1]))
    np.testing.assert_allclose(inside[:-1], far[:-1], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(forces(model, structure([[0, 0, 0]], [8])), 0)


def _just_inside(s, place) -> bool:
    return np.linalg.norm(s.positions - place, axis=1).min() < CUTOFF


def test_padding_and_company_change_nothing(model):
    a, b = cluster(4), cluster(5, 3)
    rows, slots, _ = needed_shape([neighbourhood(s, CUTOFF) for s in (a, b)])
    wide = evaluate(model, graph_of(a, b, shape=Shape(rows + 7, slots + 3, 4)))
    expected = np.concatenate([forces(model, a), forces(model, b)])
    np.testing.assert_allclose(np.asarray(wide.forces)[:8], expected, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(np.asarray(wide.forces)[8:], 0)
    np.testing.assert_array_equal(wide.stress, 0)


def test_energies_are_those_of_the_call(model):
    graph = graph_of(cluster())
    d = jax.jit(lambda g: energy_and_derivatives(model, g))(graph)
    called = jax.jit(lambda g: model(g))(graph)
    np.testing.assert_allclose(called, d.atom_energies, rtol=0, atol=1e-13)
    assert float(jnp.abs(d.energy[0])) > 0.1


def test_other_elements_are_the_same_function(model):
    more = model.for_elements((1, 6, 8, 14), jax.random.key(9)).restricted(ELEMENTS)
    np.testing.assert_allclose(
        forces(more, cluster()), forces(model, cluster()), rtol=0, atol=1e-12
    )


def test_vectors_need_degree_one():
    with pytest.raises(ValidationError):
        DirectConfig(l_max=0)
    with pytest.raises(ValidationError):
        MaceDirectConfig(l_max=0, hidden_l_max=0)


@pytest.mark.parametrize("name", ["zbl", "residual_first"])
def test_energies_that_direct_forces_would_not_feel_are_refused(name):
    with pytest.raises(ValidationError, match=name):
        MaceDirectConfig(**{name: True})


# What it is called


def test_what_is_conservative():
    assert not is_conservative(Direct)
    assert not is_conservative(MODELS["removed"])
    assert is_conservative(Nequip)
    marked = [name for name, (_, family) in FAMILIES.items() if not is_conservative(family)]
    assert marked == ["nequip-direct", "mace-direct"]


@pytest.fixture(scope="module")
def potential() -> Potential:
    return Potential(MODELS["removed"], dict.fromkeys(ELEMENTS, -1.0))


def test_the_file_says_so_and_opens_as_it_was(potential, tmp_path):
    path = tmp_path / "model.safetensors"
    save(potential, path)
    _, meta = modelfile.read(path)
    assert meta["conservative"] is False
    again = load(path)
    assert not again.conservative
    assert again.model.config == potential.model.config
    s = cluster()
    np.testing.assert_array_equal(forces(again.model, s), forces(potential.model, s))


def test_no_stress_is_predicted(potential):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    (found,) = potential.predict([from_ase(atoms)])
    assert found.stress is None
    assert "stress" not in found.as_labels()
    assert np.abs(found.forces).max() > 1e-3


def test_the_calculator_warns_once_and_refuses_stress(potential):
    with pytest.warns(UserWarning, match="not conservative") as seen:
        calculator = kohn.Calculator(potential)
    assert len(seen) == 1
    assert NOT_CONSERVATIVE in str(seen[0].message)
    assert not calculator.conservative
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.calc = calculator
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = potential.predict([from_ase(atoms)])[0].forces
        np.testing.assert_allclose(atoms.get_forces(), expected, rtol=0, atol=1e-12)
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()
    assert "stress" not in calculator.results
    assert "stress" in kohn.Calculator.implemented_properties  # of the others, as before


def test_an_audit_finds_it_out(potential):
    s = cluster(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calculator = kohn.Calculator(potential)
    laws = ["forces", "jacobian", "loops", "net-force", "rotation"]
    found = kohn.audit(calculator, Atoms(s.numbers, s.positions), laws=laws)
    assert found.failed == ("forces", "jacobian", "loops")
