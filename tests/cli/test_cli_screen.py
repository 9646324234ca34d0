"""`kohn screen` as its users meet it, and as the operating system ends it."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from brute_force import structure

from kohn.models import SchNet, SchNetConfig
from kohn.models.heads.properties import PropertyConfig, PropertyNetwork
from kohn.models.nequip import NequipConfig
from kohn.potential import Potential, PropertyModel, save
from kohn.structures import write

HULL = "id,formula,energy\na,Li,-2\nb,O,-5\nx,Li2O,-15\ny,LiO,-10.5\nz,Li3O,-13\n"
NEW = "id,formula,energy,energy_std\np,Li2O2,-22,0.4\nq,Li4O,-16,0.5\nx,Li2O,-15,0.3\n"


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "hull.csv").write_text(HULL)
    (tmp_path / "new.csv").write_text(NEW)
    return tmp_path


@pytest.fixture
def models(tables):
    """Two potentials and structures of lithium and oxygen."""
    config = SchNetConfig(cutoff=3.0, channels=4, layers=1, n_gaussians=4)
    for k, name in enumerate("ab"):
        model = SchNet.init(
            jax.random.key(k), config, (3, 8), neighbours=3.0, scale=0.3, dtype=np.float64
        )
        save(Potential(model, {3: -2.0, 8: -5.0}), tables / f"{name}.safetensors")
    some = [structure([[0, 0, 0], [1.7, 0, 0.1 * k]], [3, 8]) for k in range(3)]
    write(some, tables / "new.extxyz")
    return tables


def test_a_table_and_a_file(tables, kohn_cli):
    code, out, said = kohn_cli("screen", "new.csv", "--hull", "hull.csv", "-o", "ranked.csv")
    assert code == 0
    assert "1 of 3 candidates on the hull or below it" not in out  # two: LiO is below, and Li2O
    assert "2 of 3 candidates on the hull or below it" in out
    assert "expected to be stable" in out
    assert "P(stable)" in out
    assert "left out of their own hull" in said
    assert "ranked.csv" in said
    lines = (tables / "ranked.csv").read_text().splitlines()
    assert lines[0].startswith("rank,id,formula,energy_per_atom,formation_energy_per_atom,distance")
    assert [line.split(",")[1] for line in lines[1:]] == ["x", "p", "q"]


def test_a_terminal_of_80_columns(tables, kohn_cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = [f":factory: of a candidate with a name that is much too long, {k}" for k in "pq"]
    (tables / "long.csv").write_text(
        f'id,formula,energy,energy_std\n"{names[0]}",Li222Co0O333,-1500,1\n"{names[1]}",Li4O,-16,0.5\n'
    )
    code, out, said = kohn_cli("screen", "long.csv", "--hull", "hull.csv", "-o", ":pig:.csv")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for text in ("P(stable)", "from hull", "would fall into", "Li222", "0.100", ":fa", "ng, q"):
        assert text in out
    # (−16 + 8 + 5)/5 = −0.6, above 3/5 of −2
    assert "0.6000" in out
    assert "table :pig:.csv" in said


@pytest.mark.slow
def test_of_nothing_that_is_predicted_stable_there_is_no_precision(models, kohn_cli):
    some = structure([[0, 0, 0], [1.7, 0, 0]], [3, 8]).with_labels(energy=-9.0)
    write([some], models / "labelled.extxyz")
    (models / "deep.csv").write_text("id,formula,energy\na,Li,-2\nb,O,-5\ny,LiO,-100\n")
    command = ("labelled.extxyz", "--model", "a.safetensors", "--hull", "deep.csv", "-o", "o.csv")
    code, _, said = kohn_cli("screen", *command)
    assert code == 0
    assert "precision –" in said
    assert "no candidate with a label is predicted to be stable" in said
    assert "nan" not in said


def test_one_document(tables, kohn_cli):
    code, out, _ = kohn_cli(
        "screen", "new.csv", "--hull", "hull.csv", "-o", "o.parquet", "--json", "--error", "0.01"
    )
    assert code == 0
    document = json.loads(out)
    assert (document["candidates"], document["systems"], document["in_hull"]) == (3, 1, 1)
    assert document["ranked_by"] == "probability_stable"
    rows = {r["id"]: r for r in document["head"]}
    # LiO at −11 instead of −10.5: 0.25 eV an atom below; σ = √(0.1² + 0.01²)
    assert rows["p"]["distance"] == pytest.approx(-0.25, abs=1e-12)
    assert rows["p"]["distance_std"] == pytest.approx(np.hypot(0.1, 0.01), abs=1e-12)
    assert document["expected_stable"] == pytest.approx(
        sum(r["probability_stable"] for r in rows.values()), abs=1e-12
    )
    assert (tables / "o.parquet").is_file()


def test_options_arrive(tables, kohn_cli):
    command = ("screen", "new.csv", "--hull", "hull.csv", "--json")
    more = ("--scale", "2", "--by", "distance", "--tolerance", "0.3")
    _, out, _ = kohn_cli(*command, "-o", "a.csv", *more)
    document = json.loads(out)
    assert document["ranked_by"] == "distance"
    rows = {r["id"]: r for r in document["head"]}
    assert rows["q"]["distance_std"] == pytest.approx(0.2, abs=1e-12)
    hull = ("--hull-error", "0.02", "--samples", "50", "--seed", "3")
    _, one, _ = kohn_cli(*command, "-o", "b.csv", *hull)
    _, two, _ = kohn_cli(*command, "-o", "c.csv", *hull)
    assert (tables / "b.csv").read_bytes() == (tables / "c.csv").read_bytes()
    assert json.loads(one)["head"] == json.loads(two)["head"]


def test_models_are_named_by_their_option(models, kohn_cli):
    command = ("screen", "new.extxyz", "--model", "a.safetensors", "--model", "b.safetensors")
    code, out, _ = kohn_cli(*command, "--hull", "hull.csv", "-o", "o.csv", "--json")
    assert code == 0
    assert json.loads(out)["expected_stable"] is not None
    command = ("screen", "new.extxyz", "a.safetensors", "--hull", "hull.csv", "-o", "q.csv")
    code, _, said = kohn_cli(*command)
    assert code == 2
    assert "a model is among the candidates" in said
    assert "--model a.safetensors" in said
    assert not list(models.glob("q.csv*"))


def test_the_folder_of_a_run_is_a_model(models, kohn_cli):
    (models / "run").mkdir()
    (models / "a.safetensors").rename(models / "run" / "model.safetensors")
    code, out, said = kohn_cli(
        "screen", "new.extxyz", "--model", "run", "--hull", "hull.csv", "-o", "o.csv", "--json"
    )
    assert code == 0
    assert json.loads(out)["ranked_by"] == "distance"
    assert "gives no uncertainty" in said


def test_a_model_of_properties_is_refused(models, kohn_cli):
    body = NequipConfig(cutoff=3.0, channels=2, l_max=1, layers=1, radial_widths=(4,))
    config = PropertyConfig(body=body, targets=("dipole",), extensive=("dipole",), charges=True)
    model = PropertyNetwork.init(
        jax.random.key(0), config, (3, 8), neighbours=2.0, atoms={}, dtype=np.float64
    )
    save(PropertyModel(model), models / "dipole.safetensors")
    code, _, said = kohn_cli(
        "screen",
        "new.extxyz",
        "--model",
        "dipole.safetensors",
        "--hull",
        "hull.csv",
        "-o",
        "o.csv",
    )
    assert code == 2
    assert "model of dipole, not of energies" in said
    assert not (models / "o.csv").exists()


@pytest.mark.parametrize(
    ("new", "arguments", "said"),
    [
        ("id,formula,energy\np,NaO,-9\n", (), "elements that the hull lacks: Na"),
        ("id,formula,energy\np,LiO,nan\n", (), "new.csv, line 2"),
        ("id,formula,energy\np,LiO,-9\np,LiO,-9\n", (), "given to several"),
        (NEW, ("--by", "age"), "cannot rank by this"),
        (NEW, ("--error", "-1"), "--error"),
        (NEW, ("--relax",), "only a model can relax"),
        (NEW, ("--reference-energies", "none.json"), "no such file"),
    ],
)
def test_bad_input_is_refused(new, arguments, said, tables, kohn_cli):
    (tables / "new.csv").write_text(new)
    code, _, error = kohn_cli("screen", "new.csv", "--hull", "hull.csv", "-o", "o.csv", *arguments)
    assert code == 2
    assert said in error
    assert not (tables / "o.csv").exists()


def test_what_is_there_is_not_written_over(tables, kohn_cli):
    command = ("screen", "new.csv", "--hull", "hull.csv", "-o")
    (tables / "o.csv").write_text("mine")
    code, _, said = kohn_cli(*command, "o.csv")
    assert code == 2
    assert "exists already" in said
    assert (tables / "o.csv").read_text() == "mine"
    code, _, said = kohn_cli(*command, "o.txt")
    assert code == 2
    assert "neither CSV nor Parquet" in said


# --- ended from outside -------------------------------------------------------------------

MANY = 30_000
SMALL = "from kohn.discovery import ranking; ranking.ROWS = 5000; from kohn.cli import main; main()"
"""The command with parts that are done soon."""


@pytest.fixture
def many(tmp_path):
    """So many candidates that they are judged in six parts."""
    rng = np.random.default_rng(0)
    elements = np.array(["Al", "Cu", "Fe", "Li", "O", "P"])
    hull = [f"{e},{e},{-3 - k}" for k, e in enumerate(elements)]
    for k in range(60):
        a, b = rng.choice(6, 2, replace=False)
        hull.append(f"h{k},{elements[a]}{elements[b]},{-7 - a - b - 0.5 * rng.random()}")
    (tmp_path / "hull.csv").write_text("id,formula,energy\n" + "\n".join(hull) + "\n")
    a, n = rng.integers(0, 6, (2, MANY)), rng.integers(1, 5, (2, MANY))
    a[1] = (a[0] + 1 + a[1] % 5) % 6
    energy = -((3 + a) * n).sum(axis=0) - n.sum(axis=0) * rng.random(MANY)
    lines = (
        f"c{k},{elements[i]}{p}{elements[j]}{q},{e!r},0.2"
        for k, (i, j, p, q, e) in enumerate(zip(*a, *n, energy.tolist(), strict=True))
    )
    (tmp_path / "new.csv").write_text("id,formula,energy,energy_std\n" + "\n".join(lines) + "\n")
    return tmp_path


def start(folder, out):
    """In a process group of its own."""
    command = [sys.executable, "-c", SMALL, "screen", "new.csv", "--hull", "hull.csv"]
    return subprocess.Popen(
        [*command, "-o", out],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.slow
def test_killed_and_resumed_is_the_same(many):
    """Killed as it reads, and then each time that some more parts are there."""
    alone = start(many, "alone.csv")
    _, errors = alone.communicate(timeout=120)
    assert alone.returncode == 0, errors.decode()
    killed, work = [], many / "o.csv.work"
    for parts in (0, 3):
        process = start(many, "o.csv")
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() - begun < 120:
            if (work / "records.jsonl").exists() and len(list(work.glob("rows-*.csv"))) >= parts:
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        process.communicate()
        killed.append(process.returncode)
        assert not (many / "o.csv").exists()
        assert len(list(work.glob("rows-*.csv"))) >= parts
    assert killed == [-signal.SIGKILL] * 2
    last = start(many, "o.csv")
    _, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors.decode()
    assert b"going on with o.csv.work" in errors
    whole = (many / "o.csv").read_bytes()
    assert whole == (many / "alone.csv").read_bytes()
    ids = [line.split(b",", 2)[1] for line in whole.splitlines()[1:]]
    assert len(ids) == MANY
    assert {int(i[1:]) for i in ids} == set(range(MANY))
    assert not work.exists()
    assert not list(many.glob(".*"))


# --- faults that were found ---------------------------------------------------------------


@pytest.mark.slow
def test_rows_without_energy_are_shown(models, kohn_cli):
    broken = structure([[0, 0, 0], [0, 0, 0]], [3, 8])
    write([structure([[0, 0, 0], [1.7, 0, 0]], [3, 8]), broken], models / "new.extxyz")
    command = (
        "screen",
        "new.extxyz",
        "--model",
        "a.safetensors",
        "--hull",
        "hull.csv",
        "-o",
        "o.csv",
    )
    code, out, _ = kohn_cli(*command, "--relax", "--relax-steps", "1", "--fmax", "99")
    assert code == 0
    assert "candidates on the hull" in out


def test_ids_with_brackets_are_shown(tables, kohn_cli):
    (tables / "new.csv").write_text("id,formula,energy\n[/b],LiO,-9\n[red]k,LiO,-8\n")
    code, out, _ = kohn_cli("screen", "new.csv", "--hull", "hull.csv", "-o", "o.csv")
    assert code == 0
    assert "[/b]" in out
    assert "[red]k" in out
