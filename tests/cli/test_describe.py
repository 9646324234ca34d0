"""`kohn describe` and `kohn similarity`: files, numbers, settings, bad input; in one process."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from kohn.cli import describing
from kohn.descriptors import (
    CoulombMatrix,
    KernelConfig,
    Soap,
    StructureFactor,
    archives,
    kernel_matrix,
)
from kohn.errors import InputError
from kohn.structures import read

DATA = Path(__file__).parents[1] / "data"
SMALL = ["--set", "n_max=3", "--set", "l_max=2"]


@pytest.fixture
def ethanol(tmp_path) -> Path:
    """Four frames."""
    return first_frames(DATA / "ethanol.extxyz", 4, tmp_path / "ethanol.extxyz")


@pytest.fixture
def silicon() -> Path:
    return DATA / "silicon.extxyz"


@pytest.fixture
def water(tmp_path) -> Path:
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    return path


def first_frames(source: Path, count: int, path: Path) -> Path:
    """As many frames of nine atoms."""
    path.write_text("\n".join(source.read_text().splitlines()[: 11 * count]) + "\n")
    return path


def small_soap(frames) -> Soap:
    """What SMALL asks for, of each atom."""
    return Soap(n_max=3, l_max=2, average="off").fit(frames)


def written(path: str | Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


# --- describe -----------------------------------------------------------------------------


@pytest.mark.slow
def test_soap_of_each_atom(kohn_cli, ethanol, water):
    """Of two files with different elements."""
    code, out, err = kohn_cli(
        "describe", ethanol, water, "-d", "soap", *SMALL, "-o", "a.npz", "--json"
    )
    assert code == 0, err
    assert "wrote 39 rows" in err
    found, frames = written("a.npz"), [*read(ethanol), *read(water)]
    soap = small_soap(frames)
    assert np.abs(found["features"] - soap.transform(frames)).max() < 1e-10
    assert found["names"].tolist() == soap.get_feature_names_out().tolist()
    assert found["structure"].tolist() == np.repeat(range(5), [9, 9, 9, 9, 3]).tolist()
    assert found["numbers"].tolist() == [z for s in frames for z in s.numbers.tolist()]
    assert found["elements"].tolist() == [1, 6, 8]
    settings = json.loads(str(found["settings"]))
    assert settings["descriptor"] == "soap"
    assert settings["n_max"] == 3
    assert [f["frames"] for f in settings["files"]] == [4, 1]
    document = json.loads(out)
    assert document["elements"] == ["H", "C", "O"]
    assert (document["rows"], document["features"]) == found["features"].shape
    assert document["settings"] == soap.get_params()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("descriptor", "settings", "transformer"),
    [
        ("soap", ["average=outer", "n_max=2", "l_max=1"], Soap(n_max=2, l_max=1)),
        ("coulomb-matrix", [], CoulombMatrix()),
        ("coulomb-matrix", ["kind=spectrum", "size=12"], CoulombMatrix("spectrum", 12)),
        ("structure-factor", ["k_max=4", "bins=8"], StructureFactor(k_max=4.0, bins=8)),
    ],
)
def test_a_row_for_each_structure(kohn_cli, ethanol, silicon, descriptor, settings, transformer):
    file = silicon if descriptor == "structure-factor" else ethanol
    given = [part for setting in settings for part in ("--set", setting)]
    assert kohn_cli("describe", file, "-d", descriptor, *given, "-o", "a.npz")[:2] == (0, "")
    found = written("a.npz")
    expected = transformer.fit_transform(read(file))
    assert np.abs(found["features"] - expected).max() < 1e-10 * np.abs(expected).max()
    assert found["structure"].tolist() == list(range(len(expected)))
    assert "numbers" not in found


def test_periodic_flags_can_be_ignored(kohn_cli, silicon):
    arguments = ["describe", silicon, "-d", "coulomb-matrix", "-o", "a.npz"]
    assert "periodic images" in kohn_cli(*arguments)[2]
    assert kohn_cli(*arguments, "--not-periodic")[0] == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("null", None),
        ("off", "off"),
        ("true", "true"),
        ("[1, 2]", "[1, 2]"),
        ("a: b", "a: b"),
        ("[", "["),
        ("2020-01-01", "2020-01-01"),
    ],
)
def test_scalars(text, value):
    """YAML's, but that words are words."""
    assert describing.scalar(text) == value
    assert type(describing.scalar(text)) is type(value)


def test_features_are_written_as_they_come(tmp_path):
    """80 MB, of which 0.8 MB are in memory."""
    blocks = (np.full((10, 10_000), float(i)) for i in range(100))
    tracemalloc.start()
    archives.write_npz(tmp_path / "a.npz", "features", (1000, 10_000), blocks, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6
    found = written(tmp_path / "a.npz")["features"]
    assert np.array_equal(found, np.repeat(np.arange(100.0), 10)[:, None] + np.zeros(10_000))


def test_a_failed_file_leaves_nothing(tmp_path):
    def blocks():
        yield np.ones((1, 2))
        raise InputError("no more")

    with pytest.raises(InputError):
        archives.write_npz(tmp_path / "a.npz", "features", (2, 2), blocks(), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "soup"], "did you mean 'soap'?"),
        (["-d", "soap", "--set", "rcut=4"], "there is no setting 'rcut'"),
        (["-d", "soap", "--set", "rcut=4"], "did you mean 'r_cut'?"),
        (["-d", "soap", "--set", "zeta=4"], "there is no setting 'zeta'"),
        (["-d", "soap", "--set", "r_cut"], "--set sets nothing"),
        (["-d", "soap", "--set", "=4"], "--set sets nothing"),
        (["-d", "soap", "--set", "l_max=2", "--set", "l_max=3"], "given twice"),
        (["-d", "soap", "--set", "r_cut=far"], "r_cut: a number is needed"),
        (["-d", "soap", "--set", "r_cut=true"], "r_cut: a number is needed"),
        (["-d", "soap", "--set", "r_cut=-1"], "r_cut: a number above 0 is needed"),
        (["-d", "soap", "--set", "r_cut=inf"], "r_cut: a finite number is needed"),
        (["-d", "soap", "--set", "n_max=2.5"], "n_max: a whole number is needed"),
        (["-d", "soap", "--set", "average=median"], "average: one of 'off', 'inner' or 'outer'"),
        (["-d", "soap", "--set", "r_cut=0.5"], "no atom has a neighbour"),
        (["-d", "structure-factor"], "a structure factor needs a crystal"),
        (["-d", "coulomb-matrix", "--set", "size=few"], "size is not valid"),
        (["-d", "coulomb-matrix", "--set", "size=0"], "size is not valid"),
        (["-d", "coulomb-matrix", "--set", "size=8"], "more atoms than rows"),
        (["-d", "coulomb-matrix", "--set", "kind=random"], "kind is not known"),
        (["-d", "soap", "-o", "folder/a.npz"], "folder of the output file does not exist"),
        (["-d", "soap", "-o", "a.csv"], "take -o a.npz"),
        (["-d", "soap", "-o", "there.npz"], "exists already"),
    ],
)
def test_describe_refuses(kohn_cli, ethanol, arguments, message):
    Path("there.npz").write_text("precious")
    before = sorted(Path().iterdir())
    code, out, err = kohn_cli("describe", ethanol, "-o", "a.npz", *arguments)
    assert code == 2
    assert message in err
    assert out == ""
    assert sorted(Path().iterdir()) == before
    assert Path("there.npz").read_text() == "precious"


def test_files_without_structures(kohn_cli):
    Path("empty.xyz").touch()
    for command in (["describe", "-d", "soap", "-o", "a.npz"], ["similarity", "empty.xyz"]):
        code, out, err = kohn_cli(*command, "empty.xyz", "--json")
        assert code == 2
        assert "the file is empty" in err
        assert json.loads(out)["error"]["where"] == "empty.xyz"
    assert "no such file" in kohn_cli("describe", "none.xyz", "-d", "soap", "-o", "a.npz")[2]


# --- similarity ---------------------------------------------------------------------------


@pytest.mark.slow
def test_one_number(kohn_cli, water, tmp_path):
    """Of two molecules with different elements: those of both count."""
    other = first_frames(DATA / "ethanol.extxyz", 1, tmp_path / "one.xyz")
    code, out, _ = kohn_cli("similarity", water, other, *SMALL)
    soap = small_soap([*read(water), *read(other)])
    a, b = (list(soap.stream(read(f))) for f in (water, other))
    assert code == 0
    assert float(out) == pytest.approx(kernel_matrix(a, b)[0, 0], abs=1e-6)
    assert kohn_cli("similarity", other, water, *SMALL)[1] == out
    assert kohn_cli("similarity", water, water, *SMALL)[1] == "1.000000\n"


def test_a_table(kohn_cli, ethanol, water):
    _, out, _ = kohn_cli("similarity", ethanol, water, *SMALL)
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["0"]
    assert [line[0] for line in lines[1:]] == ["0", "1", "2", "3"]
    document = json.loads(kohn_cli("similarity", ethanol, water, *SMALL, "--json")[1])
    printed = np.array([float(line[1]) for line in lines[1:]])
    assert np.abs(printed - np.ravel(document["similarity"])).max() < 1e-6
    assert document["elements"] == ["H", "C", "O"]


def test_a_file_of_similarities(kohn_cli, ethanol):
    """With the settings of both SOAP and kernel."""
    given = ["--kernel", "rematch", *SMALL, "--set", "zeta=2", "--set", "gamma=1e-2"]
    code, out, err = kohn_cli(
        "similarity", ethanol, ethanol, *given, "--same-species", "-o", "k.npz", "--json"
    )
    assert code == 0, err
    assert "wrote 4 x 4" in err
    assert json.loads(out)["file"] == "k.npz"
    assert "similarity" not in json.loads(out)
    found, frames = written("k.npz"), read(ethanol)
    features = list(small_soap(frames).stream(frames))
    config = KernelConfig("rematch", zeta=2, gamma=0.01)
    expected = kernel_matrix(features, None, config, species_a=[s.numbers for s in frames])
    assert np.abs(found["similarity"] - expected).max() < 1e-9
    assert json.loads(str(found["settings"]))["gamma"] == 0.01
    copy = Path("copy.extxyz")
    copy.write_bytes(ethanol.read_bytes())
    assert kohn_cli("similarity", ethanol, copy, *given, "--same-species", "-o", "c.npz")[0] == 0
    assert np.abs(written("c.npz")["similarity"] - expected).max() < 1e-9


@pytest.mark.slow
def test_different_flags_of_one_molecule(kohn_cli, silicon):
    """Without its images, silicon is another thing."""
    given = [silicon, silicon, *SMALL, "-o"]
    assert kohn_cli("similarity", *given, "periodic.npz")[0] == 0
    assert kohn_cli("similarity", *given, "clusters.npz", "--not-periodic")[0] == 0
    periodic, clusters = (written(f"{x}.npz")["similarity"] for x in ("periodic", "clusters"))
    assert np.abs(periodic - clusters).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel", "avarage"], "did you mean 'average'?"),
        (["--set", "average=outer"], "there is no setting 'average'"),
        (["--set", "gama=1"], "did you mean 'gamma'?"),
        (["--set", "gamma=0"], "a number from 1e-6"),
        (["--set", "gamma=small"], "a number from 1e-6"),
        (["--set", "zeta=1.5"], "a whole number from 1"),
        (["--set", "l_max=-1"], "l_max: 0 or more is needed"),
        (["--set", "r_cut=0.5"], "no atom has a neighbour"),
        (["-o", "ethanol.extxyz"], "exists already"),
    ],
)
def test_similarity_refuses(kohn_cli, ethanol, arguments, message):
    code, out, err = kohn_cli("similarity", ethanol, ethanol, *arguments)
    assert code == 2
    assert message in err
    assert out == ""


def test_large_tables_are_refused_before_the_work(kohn_cli, ethanol, monkeypatch):
    monkeypatch.setattr(archives, "kernel_matrix", None)
    many = DATA / "ethanol.extxyz"
    code, _, err = kohn_cli("similarity", ethanol, many)
    assert code == 2
    assert "at most 40 x 6 structures" in err


@pytest.mark.parametrize("command", ["describe", "similarity"])
def test_help_has_an_example(kohn_cli, command):
    assert "Example" in kohn_cli(command, "--help")[1]
