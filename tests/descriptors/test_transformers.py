"""Descriptors in scikit-learn: fit, transform, stream; names, pipelines, memory, bad input."""

import tracemalloc
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from brute_force import structure
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from kohn.descriptors.coulomb_matrix import (
    coulomb_matrix,
    coulomb_spectrum,
    sorted_coulomb_matrix,
)
from kohn.descriptors.soap_stream import soap_features as describe_soap
from kohn.descriptors.structure_factor import structure_factors as describe_structure_factor
from kohn.descriptors.transformers import (
    CoulombMatrix,
    Soap,
    StructureFactor,
    StructureTransformer,
)
from kohn.errors import ConfigError, InputError
from kohn.models.kernel_ridge import KernelRidge
from kohn.structures import read, to_ase, write

DATA = Path(__file__).parents[1] / "data"
ETHANOL = read(DATA / "ethanol.extxyz")
SILICON = read(DATA / "silicon.extxyz")[:4]
WATER = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
CASES: dict[str, tuple[StructureTransformer, Any]] = {
    "sorted": (CoulombMatrix(), ETHANOL[:6]),
    "raw": (CoulombMatrix(kind="raw"), ETHANOL[:6]),
    "spectrum": (CoulombMatrix(kind="spectrum", size=12, unit="angstrom"), ETHANOL[:6]),
    "soap outer": (Soap(n_max=3, l_max=2), ETHANOL[:6]),
    "soap inner": (Soap(n_max=3, l_max=2, average="inner"), ETHANOL[:6]),
    "soap atoms": (Soap(n_max=3, l_max=2, average="off"), ETHANOL[:6]),
    "structure factor": (StructureFactor(k_max=4.0, bins=8), SILICON),
}


def case_of(name: str) -> tuple[Any, Any]:
    """A transformer that is not fitted yet, and structures for it."""
    transformer, frames = CASES[name]
    return clone(transformer), frames


every_case = pytest.mark.parametrize("case", CASES)


# What they give


@pytest.mark.slow
@every_case
def test_rows_columns_and_names(case):
    """A row for each structure, or atom; a name for each column; the same from a list of Atoms,
    a dataset, an iterator, and one structure at a time."""
    transformer, frames = case_of(case)
    fitted = transformer.fit(frames)
    values = fitted.transform(frames)
    rows = sum(map(len, frames)) if case == "soap atoms" else len(frames)
    names = fitted.get_feature_names_out()
    assert values.dtype == np.float64
    assert values.shape == (rows, len(names))
    assert len(set(names)) == len(names)
    atoms = [to_ase(s) for s in frames]
    others = (
        fitted.transform(atoms),
        fitted.transform(iter(atoms)),
        case_of(case)[0].fit_transform(iter(frames)),
        np.concatenate(list(fitted.stream(frames))),
        np.concatenate([fitted.transform([s]) for s in frames]),
    )
    for other in others:
        assert np.abs(other - values).max() < 1e-10 * np.abs(values).max()


@every_case
def test_nothing_depends_on_the_rest(case):
    """A structure has the same features in any company."""
    transformer, frames = case_of(case)
    fitted = transformer.fit(frames)
    backwards = list(fitted.stream(frames[::-1]))
    for a, b in zip(fitted.stream(frames), reversed(backwards), strict=True):
        assert np.abs(a - b).max() < 1e-10 * np.abs(a).max()


@pytest.mark.slow
def test_the_functions_beneath_give_the_same():
    s = ETHANOL[0]
    for kind, function in (
        ("raw", coulomb_matrix),
        ("sorted", sorted_coulomb_matrix),
        ("spectrum", coulomb_spectrum),
    ):
        expected = np.asarray(function(s.positions, s.numbers, 11)).ravel()
        given = CoulombMatrix(kind=kind, size=11).fit_transform([s])[0]  # type: ignore[arg-type]
        assert np.abs(given - expected).max() < 1e-11
    for case, soap_features in (
        ("soap atoms", describe_soap),
        ("structure factor", describe_structure_factor),
    ):
        transformer, frames = case_of(case)
        transformer.fit(frames)
        (expected,) = soap_features(frames[:1], transformer.config, transformer.elements_)
        assert np.abs(transformer.transform(frames[:1]) - expected).max() < 1e-10


def test_smaller_molecules_are_padded():
    mixed = [to_ase(ETHANOL[0]), WATER]
    values = CoulombMatrix().fit_transform(mixed)
    expected = sorted_coulomb_matrix(WATER.positions, WATER.numbers, 9)
    assert values.shape == (2, 81)
    assert np.abs(values[1] - np.asarray(expected).ravel()).max() < 1e-11


# scikit-learn


@every_case
def test_cloning_keeps_the_settings_alone(case):
    transformer, frames = case_of(case)
    copy: Any = clone(transformer.fit(frames))
    assert copy.get_params() == transformer.get_params()
    with pytest.raises(NotFittedError):
        copy.transform(frames)
    with pytest.raises(NotFittedError):
        copy.get_feature_names_out()


def test_pipelines_and_grid_searches():
    frames = [to_ase(s) for s in ETHANOL[:30]]
    energies = np.array([s.labels["energy"] for s in ETHANOL[:30]], float)
    pipeline = make_pipeline(CoulombMatrix(), KernelRidge(length_scale=100.0, noise=0.01))
    grid = {
        "coulombmatrix__kind": ["sorted", "spectrum"],
        "kernelridge__length_scale": [10.0, 1000.0],
    }
    search = GridSearchCV(pipeline, grid, scoring="neg_mean_absolute_error", cv=3)
    search.fit(frames, energies)
    best: Any = search.best_estimator_
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.abs(best.predict(frames) - energies).mean() < 0.05
    assert len(best[:-1].get_feature_names_out()) == len(best[0].get_feature_names_out())


def test_tables_have_named_columns():
    pytest.importorskip("pandas")
    fitted = CoulombMatrix(kind="spectrum").set_output(transform="pandas").fit(ETHANOL[:3])
    table: Any = fitted.transform(ETHANOL[:3])
    assert list(table.columns) == [f"λ{i}" for i in range(9)]


# Memory


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_structures():
    """5,000 molecules of 100 rows pass one by one: their features would take 400 MB."""
    fitted = CoulombMatrix(kind="raw", size=100).fit(ETHANOL[:1])
    list(fitted.stream(repeat(ETHANOL[0], 300)))  # compiled
    tracemalloc.start()
    count = sum(len(block) for block in fitted.stream(repeat(ETHANOL[0], 5000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    assert peak < 20e6


def test_an_array_is_filled_from_an_iterator_of_any_length():
    """Longer than the first guess of its rows."""
    fitted = CoulombMatrix(kind="spectrum").fit(ETHANOL)
    values = fitted.transform(iter([ETHANOL[i % 60] for i in range(2500)]))
    assert values.shape == (2500, 9)
    assert np.array_equal(values[:60], values[2400:2460])


# Bad input


@every_case
def test_no_structures(case):
    transformer, frames = case_of(case)
    with pytest.raises(InputError, match="there are no structures"):
        transformer.fit([])
    names = transformer.fit(frames).get_feature_names_out()
    assert transformer.transform([]).shape == (0, len(names))


@every_case
@pytest.mark.parametrize("step", ["fit", "transform"])
def test_structures_without_sense_are_refused(case, step):
    """Each error says which one: the second, or the frame of a file."""
    transformer, frames = case_of(case)
    act = getattr(transformer.fit(frames), step)
    with pytest.raises(InputError, match=r"no atoms(.|\n)*frame 1"):
        act([to_ase(frames[0]), Atoms()])
    with pytest.raises(InputError, match=r"not a structure(.|\n)*frame 1(.|\n)*str"):
        act([to_ase(frames[0]), "CCO"])
    with pytest.raises(InputError, match=r"not a structure(.|\n)*frame 0(.|\n)*int"):
        act([7])


@every_case
@pytest.mark.parametrize("fault", ["nan", "coincident"])
def test_geometries_without_sense_are_refused(case, fault):
    transformer, frames = case_of(case)
    positions = frames[1].positions.copy()
    positions[2] = np.nan if fault == "nan" else positions[1]
    broken = replace(frames[1], positions=positions)
    message = "finite" if fault == "nan" else "same place"
    with pytest.raises(InputError, match=message) as caught:
        transformer.fit(frames).transform([frames[0], broken])
    assert "frame 1" in str(caught.value)


@pytest.mark.parametrize("case", ["soap outer", "soap atoms", "structure factor"])
def test_unknown_elements_are_named(case):
    transformer, frames = case_of(case)
    numbers = frames[1].numbers.copy()
    numbers[0] = 79
    with pytest.raises(InputError, match=r"no features for Au(.|\n)*frame 1"):
        transformer.fit(frames).transform([frames[0], replace(frames[1], numbers=numbers)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Soap, StructureFactor])
def test_elements_can_be_said(kind):
    """Files with different elements get the same columns; one that was not said is refused."""
    given = kind(elements="O, Si,H").fit(SILICON)
    assert given.elements_ == kind(elements=[14, "H", 8]).fit(SILICON).elements_ == (1, 8, 14)
    alone = kind().fit(SILICON)
    names, few = given.get_feature_names_out(), alone.get_feature_names_out()
    here = [list(names).index(name) for name in few]
    values = given.transform(SILICON)
    np.testing.assert_allclose(values[:, here], alone.transform(SILICON), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match=r"contain Si(.|\n)*only H, O"):
        kind(elements="H,O").fit(SILICON)
    with pytest.raises(InputError, match="not a chemical element"):
        kind(elements="Q").fit(SILICON)


def test_coulomb_matrices_are_of_molecules_that_fit():
    fitted = CoulombMatrix().fit([WATER])
    with pytest.raises(InputError, match=r"more atoms(.|\n)*frame 0(.|\n)*at most 3 atoms"):
        fitted.transform(ETHANOL[:1])
    with pytest.raises(InputError, match="more atoms"):
        CoulombMatrix(size=8).fit(ETHANOL)
    with pytest.raises(InputError, match="periodic images"):
        CoulombMatrix().fit(SILICON)
    with pytest.raises(InputError, match="periodic images"):
        CoulombMatrix(size=99).fit(ETHANOL).transform(SILICON)
    slab = Atoms(WATER, cell=[5, 5, 5], pbc=[True, True, False])
    with pytest.raises(InputError, match="periodic images"):
        CoulombMatrix().fit([slab])


@pytest.mark.parametrize("average", ["outer", "off"])
def test_a_cutoff_below_all_distances_is_refused(average):
    """0.5 Å is less than any bond; atoms a long way apart have no neighbours either."""
    with pytest.raises(InputError, match="no atom has a neighbour"):
        Soap(r_cut=0.5, average=average).fit(ETHANOL)
    apart = structure([[0, 0, 0], [0, 0, 40]], [1, 1])
    with pytest.raises(InputError, match="no atom has a neighbour"):
        Soap(average=average).fit([apart])


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (CoulombMatrix(kind="random"), "kind is not known"),  # type: ignore[arg-type]
        (CoulombMatrix(unit="hartree"), "unit is not known"),  # type: ignore[arg-type]
        (Soap(r_cut=-1.0), "r_cut: a number above 0 is needed"),
        (Soap(average="median"), "average: one of 'off', 'inner' or 'outer'"),
        (StructureFactor(bins=0), "bins: 1 or more is needed"),
    ],
)
def test_settings_without_sense_are_refused(transformer, message):
    frames = SILICON if isinstance(transformer, StructureFactor) else ETHANOL[:2]
    with pytest.raises(ConfigError, match=message):
        transformer.fit(frames)


@pytest.mark.slow
def test_paths_and_single_structures(tmp_path):
    """Files are opened, and one structure is a list of one."""
    frames = [molecule("H2O"), molecule("CH4")]
    write(frames, tmp_path / "x.xyz")
    soap = Soap(r_cut=3.0, n_max=2, l_max=1).fit(tmp_path / "x.xyz")
    expected = soap.transform(frames)
    for given in (tmp_path / "x.xyz", str(tmp_path / "x.xyz"), [tmp_path / "x.xyz"]):
        np.testing.assert_array_equal(soap.transform(given), expected)
    np.testing.assert_array_equal(soap.transform(frames[0]), expected[:1])


def test_labels_are_not_looked_at():
    atoms = molecule("H2O")
    atoms.info["stress"] = "nothing"
    assert Soap(r_cut=3.0, n_max=2, l_max=1).fit_transform([atoms]).shape[0] == 1


def test_ghosts_have_no_features():
    with pytest.raises(InputError, match="not a chemical element"):
        Soap().fit([Atoms("OX", [[0, 0, 0], [0, 0, 1]])])
