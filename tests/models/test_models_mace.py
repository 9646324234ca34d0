"""MACE beside the laws: padding, transformations, variants, configurations."""

import re
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import laws
import numpy as np
import pydantic
import pytest
from brute_force import structure

from kohn.graphs import Shape, collate, needed_shape, neighbourhood
from kohn.models import FAMILIES, Mace, MaceConfig, energy_and_derivatives
from kohn.models.layers import silu
from kohn.models.messages import select_matmul
from kohn.potential import Reference, evaluate
from kohn.training.losses import EnergyTask, LossWeights
from kohn.training.optimiser import (
    flatten,
    initial_state,
    make_step,
    objective_of,
    optimiser,
)
from kohn.training.settings import OptimiserSettings

pytestmark = pytest.mark.slow

CUTOFF = 3.5
ELEMENTS = (1, 8, 14)
ZERO = Reference(dict.fromkeys(ELEMENTS, 0.0))
TINY = MaceConfig(
    cutoff=CUTOFF,
    channels=2,
    l_max=1,
    correlation=2,
    radial_widths=(4,),
    readout_width=4,
    zbl=True,
    element_maps=True,
)


def tiny(config=TINY, dtype=np.float64, elements=ELEMENTS) -> Mace:
    return Mace.init(jax.random.key(1), config, elements, neighbours=3.0, scale=10.0, dtype=dtype)


def some_structures():
    rng = np.random.default_rng(0)
    cell = np.array([[3.1, 0.2, 0], [0.5, 2.9, 0.1], [-0.4, 0.3, 3.0]])
    return [
        structure([[0, 0, 0], [1.4, 1.3, 1.2]], [14, 8], cell, True),
        structure(rng.normal(size=(3, 3)) * 1.2, [8, 1, 1]),
        structure([[0, 0, 0]], [1]),
    ]


STRUCTURES = some_structures()
ROWS = [neighbourhood(s, CUTOFF) for s in STRUCTURES]
ATOMS = sum(map(len, STRUCTURES))


def batch(shape=None, dtype=np.float64, elements=ELEMENTS):
    return collate(STRUCTURES, ROWS, elements, shape, dtype=dtype)


def parts(d, atoms=ATOMS, count=3):
    return (d.atom_energies[:atoms], d.energy[:count], d.forces[:atoms], d.stress[:count])


def assert_same(a, b, tolerance=1e-12):
    for x, y in zip(parts(a), parts(b), strict=True):
        assert np.isfinite(np.asarray(x)).all()
        np.testing.assert_allclose(x, y, atol=tolerance, rtol=0)


@pytest.fixture(scope="module")
def reference():
    return evaluate(tiny(), batch())


@pytest.mark.parametrize("extra", [(1, 0, 4), (13, 3, 2)])
def test_padding_of_any_size_changes_nothing(reference, extra):
    needed = needed_shape(ROWS)
    shape = Shape(*(a + b for a, b in zip(needed, extra, strict=True)))
    d = evaluate(tiny(), batch(shape))
    assert_same(d, reference)
    assert not np.asarray(d.forces[ATOMS:]).any()
    assert not np.asarray(d.atom_energies[ATOMS:]).any()
    assert not np.asarray(d.energy[3:]).any()
    assert not np.asarray(d.stress[3:]).any()


def test_a_batch_equals_its_structures_one_by_one(reference):
    shape = needed_shape(ROWS)
    start = 0
    for g, (s, h) in enumerate(zip(STRUCTURES, ROWS, strict=True)):
        alone = evaluate(tiny(), collate([s], [h], ELEMENTS, shape, dtype=np.float64))
        here = slice(start, start + len(s))
        start = here.stop
        np.testing.assert_allclose(alone.energy[0], reference.energy[g], atol=1e-12)
        np.testing.assert_allclose(alone.forces[: len(s)], reference.forces[here], atol=1e-12)
        np.testing.assert_allclose(alone.stress[0], reference.stress[g], atol=1e-12)


def with_padding(graph, displacement):
    d = np.where(graph.edge_mask[..., None], graph.displacement, displacement)
    return replace(graph, displacement=d)


PADDINGS = {
    "coincident": lambda rng, d: np.zeros_like(d),
    "far": lambda rng, d: np.full_like(d, 1e3),
    "close": lambda rng, d: np.full_like(d, 1e-3),
    "random": lambda rng, d: rng.normal(size=d.shape),
}


def shape_with_room():
    needed = needed_shape(ROWS)
    return Shape(needed.rows + 4, needed.slots + 3, needed.structures + 1)


@pytest.mark.parametrize("name", PADDINGS)
def test_whatever_is_in_padding_slots_changes_nothing(reference, name, rng):
    graph = batch(shape_with_room())
    graph = with_padding(graph, PADDINGS[name](rng, graph.displacement))
    assert_same(evaluate(tiny(), graph), reference)


def test_whatever_is_in_padding_rows_changes_nothing(reference, rng):
    graph = batch(shape_with_room())
    rows = ~graph.atom_mask
    species = np.where(rows, rng.integers(0, 3, len(rows)), graph.species).astype(np.int32)
    belongs = np.where(rows, rng.integers(0, 3, len(rows)), graph.structure).astype(np.int32)
    assert_same(evaluate(tiny(), replace(graph, species=species, structure=belongs)), reference)


def test_gradients_of_a_force_loss_are_finite_at_coincident_padding():
    """One derivative more than forces: what training takes."""
    model, clean = tiny(), batch(shape_with_room())
    theta, unravel = flatten(model)

    def force_loss(vector, graph):
        d = energy_and_derivatives(unravel(vector), graph)
        return jnp.sum(d.forces**2) + jnp.sum(d.stress**2) + jnp.sum(d.energy**2)

    gradient = jax.jit(jax.grad(force_loss))
    expected = gradient(theta, clean)
    coincident = with_padding(clean, np.zeros_like(clean.displacement))
    np.testing.assert_allclose(gradient(theta, coincident), expected, rtol=1e-9, atol=1e-9)


# No scatter


def scatters_in(jaxpr_text: str) -> list[str]:
    return re.findall(r"\bscatter[\w-]*", jaxpr_text)


def graph_for(dtype):
    return jax.tree.map(jnp.asarray, batch(shape_with_room(), dtype))


@pytest.mark.parametrize("hidden", [0, 1])
def test_energy_and_forces_have_no_scatter(hidden):
    model = tiny(TINY.model_copy(update={"hidden_l_max": hidden}))
    text = str(jax.make_jaxpr(energy_and_derivatives)(model, graph_for(np.float64)))
    assert scatters_in(text) == []
    if hidden:  # the lowered program, too
        lowered = eqx.filter_jit(energy_and_derivatives).lower(model, graph_for(np.float64))
        assert "stablehlo.scatter" not in lowered.as_text()


def training_step(dtype, config=TINY):
    model = tiny(config, dtype)
    theta, unravel = flatten(model)
    rule = optimiser(OptimiserSettings(), 100, model)
    weights = LossWeights(1.0, 1.0, 1.0)
    task = EnergyTask(ZERO, weights, weights, huber_delta=0.01)
    step = make_step(objective_of(task, unravel), rule, ema=0.99)
    shape = shape_with_room()
    labelled = [
        s.with_labels(energy=np.array(1.0), forces=np.ones((len(s), 3)), stress=np.eye(3))
        for s in STRUCTURES
    ]
    t = jax.tree.map(jnp.asarray, task.labels(labelled, shape))
    return step, (initial_state(theta, rule), graph_for(dtype), t, task.weights(False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_training_step_has_no_scatter_and_no_stray_dtype(dtype):
    step, arguments = training_step(dtype)
    text = str(jax.make_jaxpr(step.__wrapped__)(*arguments))
    assert scatters_in(text) == []
    assert "stablehlo.scatter" not in step.lower(*arguments).as_text()
    if dtype is np.float32:  # no float64 array enters the network: none has edges and features
        n, k = arguments[1].index.shape
        assert re.findall(rf"f64\[{n},{k},\d+", text) == []


def test_energies_alone_cost_no_forces_and_teach_the_same():
    model = tiny(TINY, np.float64)
    theta, unravel = flatten(model)
    graph, shape = graph_for(np.float64), shape_with_room()
    alone, all_of_it = LossWeights(1.0, 0.0, 0.0), LossWeights(1.0, 1.0, 1.0)

    def gradient(late):
        task = EnergyTask(ZERO, alone, late)
        labelled = [s.with_labels(energy=np.array(1.0)) for s in STRUCTURES]
        t = jax.tree.map(jnp.asarray, task.labels(labelled, shape))

        def total(theta):
            found = task.predict(unravel(theta), graph)
            return task.loss(found, t, task.weights(False))[0]

        compiled = jax.jit(jax.grad(total)).lower(theta).compile()
        return compiled(theta), compiled.cost_analysis()["flops"]

    without, fewer = gradient(alone)
    with_forces, operations = gradient(all_of_it)  # forces of weight zero, at first
    np.testing.assert_allclose(without, with_forces, rtol=1e-12, atol=1e-14)
    assert np.abs(without).max() > 1e-3
    assert fewer < 0.7 * operations


def test_a_count_of_scatters_counts():
    text = str(jax.make_jaxpr(jax.grad(lambda x: x[jnp.array([0, 0])].sum()))(jnp.ones(3)))
    assert scatters_in(text) != []


def test_a_training_step_runs_and_keeps_dtypes():
    step, arguments = training_step(np.float32)
    state, report = step(*arguments)
    assert state.theta.dtype == state.average.dtype == np.float32
    assert report.loss.dtype == np.float64
    assert np.isfinite(float(report.loss))
    assert np.isfinite(np.asarray(state.theta)).all()
    assert int(state.step) == 1


# Precision


def test_float32_agrees_with_float64_and_stays_float32(reference):
    model = tiny(TINY, np.float64)
    single = jax.tree.map(lambda x: x.astype(np.float32) if eqx.is_inexact_array(x) else x, model)
    d = evaluate(single, batch(dtype=np.float32))
    assert d.atom_energies.dtype == d.forces.dtype == np.float32
    assert d.energy.dtype == d.stress.dtype == np.float64
    scale = float(np.abs(reference.forces).max())
    np.testing.assert_allclose(d.forces[:ATOMS], reference.forces[:ATOMS], atol=1e-5 * scale)
    np.testing.assert_allclose(d.energy[:3], reference.energy[:3], rtol=1e-5)


# Ensembles: one graph, many models


def test_an_ensemble_is_a_vmap(reference):
    models = [tiny(), jax.tree.map(lambda x: 1.1 * x, tiny())]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *models)
    static = eqx.filter(models[0], eqx.is_array, inverse=True)
    graph = batch()

    @jax.jit
    def both(arrays):
        return jax.vmap(lambda a: energy_and_derivatives(eqx.combine(a, static), graph).forces)(
            arrays
        )

    found = both(eqx.filter(stacked, eqx.is_array))
    np.testing.assert_allclose(found[0][:ATOMS], reference.forces[:ATOMS], atol=1e-11)
    second = evaluate(models[1], graph).forces
    np.testing.assert_allclose(found[1][:ATOMS], second[:ATOMS], atol=1e-10)


# Variants: each obeys rotation and reflection, force = −dE/dr, and has zero for a lone atom

VARIANTS = {
    "one layer": {"layers": 1},
    "three layers": {"layers": 3},
    "correlation 1": {"correlation": 1},
    "correlation 4": {"correlation": 4},
    "hidden degree 2": {"hidden_l_max": 2, "l_max": 2},
    "harmonics beyond features": {"hidden_l_max": 0, "l_max": 4, "correlation": 2},
    "residual first": {"residual_first": True},
    "maps shared by elements": {"element_maps": False},
    "two radial layers": {"radial_widths": (5, 3)},
    "l_max 0": {"hidden_l_max": 0, "l_max": 0},
}


def as_calculate(model, elements=ELEMENTS):
    def calculate(structures):
        found = []
        shape = Shape(8, 48, 1)
        for s in structures:
            graph = collate([s], [neighbourhood(s, CUTOFF)], elements, shape, dtype=np.float64)
            d = jax.device_get(evaluate(model, graph))
            n = len(s)
            stress = d.stress[0] if s.periodic.all() else np.zeros((3, 3))
            found.append(
                laws.Outcome(float(d.energy[0]), d.atom_energies[:n], d.forces[:n], stress)
            )
        return found

    return calculate


def test_each_layer_is_read_out():
    """Energies are linear in the readouts: those of one layer alone add to those of all."""
    model, graph = tiny(TINY.model_copy(update={"layers": 3, "zbl": False})), batch()

    def weights(m):
        return (*(w.weight for w in m.readouts), m.last_readout[1].weight)

    def energies(kept):
        chosen = [w * float(k in kept) for k, w in enumerate(weights(model))]
        return np.asarray(evaluate(eqx.tree_at(weights, model, tuple(chosen)), graph).energy[:2])

    alone = [energies({k}) for k in range(3)]
    assert min(np.abs(e).max() for e in alone) > 1e-3
    np.testing.assert_allclose(sum(alone), energies({0, 1, 2}), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name, rng):
    config = MaceConfig.model_validate({**TINY.model_dump(), **VARIANTS[name]})
    calculate = as_calculate(tiny(config))
    for s in STRUCTURES[:2]:
        for law in (laws.rotation, laws.reflection, laws.permutation, laws.forces_are_derivatives):
            assert law(calculate, s, rng) < 1e-9
    lone = [o.energy for o in calculate([structure([[1, 2, 3]], [z]) for z in ELEMENTS])]
    if name == "residual first":
        assert min(map(abs, lone)) > 1e-6
    else:
        assert lone == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("elements", [(14,), tuple(range(1, 12))], ids=["one", "eleven"])
def test_few_and_many_elements(elements, rng):
    config = TINY.model_copy(update={"hidden_l_max": 1})
    numbers = [elements[0], elements[-1]]
    s = structure(STRUCTURES[0].positions, numbers, STRUCTURES[0].cell, True)
    calculate = as_calculate(tiny(config, elements=elements), elements)
    for law in (
        laws.rotation,
        laws.permutation,
        laws.forces_are_derivatives,
        laws.stress_is_strain,
    ):
        assert law(calculate, s, rng) < 1e-9


@pytest.mark.parametrize("count", [1, 2, 8, 9, 30])
def test_each_atom_gets_the_matrix_of_its_element(count, rng):
    x, m = rng.normal(size=(7, 3, 4)), rng.normal(size=(count, 4, 5))
    z = rng.integers(0, count, 7)
    found = select_matmul(jnp.asarray(x), jnp.asarray(m), jnp.asarray(np.eye(count)[z]))
    np.testing.assert_allclose(found, np.einsum("nmc,ncd->nmd", x, m[z]), atol=1e-13)


def test_elements_differ():
    """The same geometry of other elements has another energy: nothing is mixed up."""
    calculate = as_calculate(tiny())
    at = [[0, 0, 0], [1.3, 0.2, 0], [0.1, 1.5, 0.4]]
    energies = [
        calculate([structure(at, numbers)])[0].energy
        for numbers in ([1, 8, 14], [8, 1, 14], [14, 8, 1], [1, 1, 14], [14, 14, 14])
    ]
    assert len({round(e, 9) for e in energies}) == 5


def test_silu_is_of_unit_second_moment():
    z, w = np.polynomial.hermite_e.hermegauss(100)
    x = np.linspace(-30, 30, 11)
    np.testing.assert_allclose(
        silu(jnp.asarray(x)) / silu(jnp.asarray(30.0)) * 30, x / (1 + np.exp(-x)), atol=1e-12
    )
    moment = np.sum(w * np.asarray(silu(jnp.asarray(z))) ** 2) / np.sqrt(2 * np.pi)
    assert moment == pytest.approx(1.0, abs=1e-9)


# Configuration


@pytest.mark.parametrize(
    "wrong",
    [
        {"cutoff": 0.0},
        {"channels": 0},
        {"hidden_l_max": 3},
        {"correlation": 5},
        {"layers": 0},
        {"radial_widths": ()},
        {"radial_widths": (0,)},
        {"cutoff_power": 1},
        {"chanels": 8},
        {"hidden_l_max": 1, "l_max": 0},
    ],
    ids=str,
)
def test_configurations_that_cannot_be(wrong):
    with pytest.raises(pydantic.ValidationError):
        MaceConfig.model_validate(wrong)


def test_the_same_key_gives_the_same_weights():
    a, b = jax.tree.leaves(tiny()), jax.tree.leaves(tiny())
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_families_are_explicit():
    for name, (config, model) in FAMILIES.items():
        assert config().family == name
        assert callable(model.init)


def test_isolated_atoms_in_the_default_architecture():
    """The published size: exactly zero above E0, in the default dtype."""
    model = Mace.init(jax.random.key(0), MaceConfig(), ELEMENTS, neighbours=10.0)
    alone = [structure([[0.1, 0.2, 0.3]], [z]) for z in ELEMENTS]
    d = evaluate(model, collate(alone, [neighbourhood(s, 5.0) for s in alone], ELEMENTS))
    assert d.atom_energies.dtype == np.float32
    np.testing.assert_array_equal(d.energy, 0.0)
    np.testing.assert_array_equal(d.forces, 0.0)


@pytest.mark.parametrize("channels", [2, 3], ids=["2 channels", "as many channels as elements"])
def test_more_elements_change_nothing_for_those_known(channels):
    model = tiny(TINY.model_copy(update={"channels": channels}))
    wider = (1, 6, 8, 14, 79)
    wide = model.for_elements(wider, jax.random.key(5))
    assert wide.elements == wider
    assert_same(evaluate(wide, batch(elements=wider)), evaluate(model, batch()), 1e-11)
    back = wide.for_elements(ELEMENTS, jax.random.key(6))
    for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(model), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13)
