"""What a model predicted is never read as a reference, whichever way it was written."""

import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from kohn.errors import InputError
from kohn.structures import from_ase, read, write
from kohn.structures.provenance import stated


@pytest.fixture
def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    return atoms


PREDICTION = {
    "energy": np.array(-1.0),
    "energies": np.full(4, -0.25),
    "forces": np.ones((4, 3)),
    "stress": np.eye(3),
    "energy_std": np.array(0.5),
}


@pytest.fixture
def predicted(copper, tmp_path):
    path = tmp_path / "predicted.xyz"
    write(from_ase(copper), path, predictions=[PREDICTION], predicted_by="kohn 1: toy")
    return path


def test_written_and_read_again(predicted):
    data = read(predicted)
    assert not data[0].labels
    assert data[0].info["energy"] == -1.0
    assert data[0].info["predicted_by"] == "kohn 1: toy"
    assert "predicted by kohn 1: toy, not labels" in data.sources[0].notes[0]
    assert not data.sources[0].near_keys


def test_predicted_twice(predicted, tmp_path):
    """Of the first prediction nothing is left, neither as a label nor as a deviation."""
    write(read(predicted), tmp_path / "again.xyz", predictions=[{"energy": np.array(-2.0)}])
    text = (tmp_path / "again.xyz").read_text()
    assert "REF_" not in text
    assert "energy_std" not in text
    assert "forces" not in text
    assert read(tmp_path / "again.xyz")[0].info["energy"] == -2.0


def test_references_stay(copper, tmp_path):
    copper.info["REF_energy"] = -3.0
    write(from_ase(copper), tmp_path / "x.xyz", predictions=[PREDICTION])
    assert float(read(tmp_path / "x.xyz")[0].labels["energy"]) == -3.0


def test_named_keys_are_taken(predicted):
    data = read(predicted, keys={"energy": "energy", "forces": "forces"})
    assert float(data[0].labels["energy"]) == -1.0
    assert "stress" not in data[0].labels


@pytest.mark.parametrize("name", ["x.traj", "x.xyz"])
def test_through_files_of_ase(predicted, name, tmp_path):
    """ASE keeps `info`, and with it what the frame says of itself."""
    ase.io.write(tmp_path / name, ase.io.read(predicted))
    assert not read(tmp_path / name)[0].labels


@pytest.mark.parametrize("name", ["x.traj", "x.db"])
def test_results_of_our_calculator_in_files_of_ase(copper, name, tmp_path):
    """Trajectories and databases say which calculator the results are of."""
    results = {"energy": -1.0, "forces": np.ones((4, 3))}
    copper.calc = SinglePointCalculator(copper, **results)
    copper.calc.name = "kohn"
    ase.io.write(tmp_path / name, copper)
    assert not read(tmp_path / name)[0].labels
    copper.calc.name = "emt"
    ase.io.write(tmp_path / f"emt-{name}", copper)
    assert set(read(tmp_path / f"emt-{name}")[0].labels) == {"energy", "forces"}


def test_results_in_memory(copper):
    copper.calc = EMT()
    copper.get_forces()
    assert "forces" in read(copper)[0].labels
    copper.calc = SinglePointCalculator(copper, **copper.calc.results)
    copper.calc.name = "kohn"
    assert not read(copper)[0].labels
    copper.positions += 0.1  # results are for other atoms, and nobody asks for them
    assert not read(copper)[0].labels


def test_the_model_is_the_source(predicted):
    assert stated(read(predicted)[0].info).source == "kohn 1: toy"


def test_text_that_rows_cannot_hold(copper, tmp_path):
    copper.set_array("names", np.array(["", "a b", "c", "d"]))
    copper.set_array("kinds", np.array(["a", "b", "c", "d"]))
    assert write(from_ase(copper), tmp_path / "x.xyz") == ("names",)
    (s,) = read(tmp_path / "x.xyz")
    assert set(s.arrays) == {"kinds"}
    assert len(ase.io.read(tmp_path / "x.xyz")) == 4


def test_other_things_can_be_written(copper, tmp_path):
    write([copper, copper], tmp_path / "x.xyz")
    assert len(read(tmp_path / "x.xyz")) == 2
    write(copper, tmp_path / "y.xyz")
    write(tmp_path / "x.xyz", tmp_path / "z.xyz")
    assert (tmp_path / "z.xyz").read_bytes() == (tmp_path / "x.xyz").read_bytes()
    with pytest.raises(InputError, match="as many predictions"):
        write(copper, tmp_path / "x.xyz", predictions=[])
