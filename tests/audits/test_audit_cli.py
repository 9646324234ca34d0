"""`kohn audit` as its users meet it."""

import io
import json

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT as EMT_OF_ASE
from ase.io import write
from rich.console import Console

import kohn
from kohn.cli.common import console
from kohn.models import Mace, MaceConfig
from kohn.potential import Potential, save
from kohn.reports.audit import audit_page, audit_table
from kohn.reports.terminal import _table

pytestmark = pytest.mark.slow

EMT = ("--calculator", "ase.calculators.emt:EMT")
LJ = ("--calculator", "ase.calculators.lj:LennardJones", "--calculator-args")
FEW = ("--laws", "translation,smoothness,net-torque")


@pytest.fixture
def copper(tmp_path):
    frames = []
    for k in range(5):
        frames.append(bulk("Cu", cubic=True))
        frames[-1].rattle(0.03 * (k + 1), seed=k)
    write(tmp_path / "cu.xyz", frames)
    return tmp_path / "cu.xyz"


def test_laws_that_hold(kohn_cli, copper):
    code, out, err = kohn_cli("audit", *EMT, copper, *FEW)
    assert code == 0
    assert "no law fails, 2 passed, 1 not measured" in out
    assert "a torque has no meaning" in " ".join(out.split())
    assert "3 of 5 structures; --frames takes more" in err


def test_one_document_and_exit_code_1(kohn_cli, copper):
    arguments = '{"sigma": 2.3, "epsilon": 0.1, "rc": 6.0}'
    code, out, _ = kohn_cli("audit", *LJ, arguments, copper, *FEW, "--json", "--frames", 2)
    document = json.loads(out)
    assert code == 1
    assert not document["ok"]
    assert document["calculator"] == f"ase.calculators.lj:LennardJones {arguments}"
    (row,) = [r for r in document["rows"] if r["law"] == "smoothness"]
    assert (row["verdict"], row["unit"], row["file"]) == ("failed", "eV/Å", str(copper))
    assert row["frame"] in (0, 4)
    assert [r["calls"] > 0 for r in document["records"]] == [True, True, False] * 2


def test_thresholds(kohn_cli, copper):
    arguments = ("audit", *LJ, '{"sigma": 2.3, "epsilon": 0.1, "rc": 6.0}', copper, *FEW)
    assert kohn_cli(*arguments, "--threshold", "smoothness=0.1")[0] == 0
    code, _, err = kohn_cli(*arguments, "--threshold", "smoothness=low")
    assert code == 2
    assert "not a number" in err


def test_an_argument_that_ase_would_swallow(kohn_cli, copper):
    code, _, err = kohn_cli("audit", *LJ, '{"sigmma": 2.3}', copper, *FEW)
    assert code == 2
    assert "LennardJones does not know the argument 'sigmma'" in err
    assert "did you mean 'sigma'?" in err
    assert "does not" not in kohn_cli("audit", *LJ, '{"sigma": 2.3}', copper, *FEW)[2]


def test_an_argument_of_a_calculator_that_lists_none(kohn_cli, copper, tmp_path):
    """Nobody can tell whether it means something: a warning."""
    (tmp_path / "silent.py").write_text(
        "from ase.calculators.emt import EMT\n\n"
        "class Silent(EMT):\n"
        "    default_parameters = {}\n"
        "    def __init__(self, **kwargs):\n"
        "        super().__init__(**kwargs)\n"
        "        self.parameters.asap_cutoff = False\n"
    )
    arguments = ("--calculator", "silent:Silent", "--calculator-args", '{"methd": 1}')
    code, _, err = kohn_cli("audit", *arguments, copper, *FEW)
    assert code == 0
    assert "warning: Silent may ignore methd: not among its parameters" in err


def test_a_folder_and_its_page(kohn_cli, copper, tmp_path):
    out = tmp_path / "run" / "emt"
    document = json.loads(kohn_cli("audit", *EMT, copper, *FEW, "--out", out, "--json")[1])
    page = (out / "audit.html").read_text()
    records = (out / "records.jsonl").read_bytes()
    assert document["report"] == str(out / "audit.html")
    for said in ("ase.calculators.emt:EMT", "smoothness", "a torque has no meaning", "cu.xyz"):
        assert said in page
    assert "http" not in page.replace("http-equiv", "")
    assert kohn_cli("audit", EMT[1], copper, *FEW, "--out", out)[0] == 0  # named in its place
    assert (out / "records.jsonl").read_bytes() == records
    assert (out / "audit.html").read_text() == page
    (out / "records.jsonl").write_bytes(records[: records.rstrip().rfind(b"\n") + 1])
    assert "1 measurements are missing" in audit_page(out).read_text()


def test_a_model(kohn_cli, tmp_path):
    """Ours, with random weights, in both precisions: it obeys all laws."""
    config = MaceConfig(
        channels=4, hidden_l_max=0, l_max=1, correlation=2, radial_widths=(8,), cutoff=4.0
    )
    mace = Mace.init(jax.random.key(0), config, (1, 8), neighbours=8.0, dtype=np.float32)
    save(Potential(mace, {1: -13.6, 8: -2040.0}), tmp_path / "model.safetensors")
    write(tmp_path / "water.xyz", molecule("H2O"))
    for dtype in ("float64", "float32"):
        code, out, err = kohn_cli(
            *("audit", "model.safetensors", "water.xyz", "--dtype", dtype),
            *("--laws", "translation,rotation,reflection,permutation,forces,net-torque"),
        )
        assert code == 0, out + err
        assert "6 passed" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cu.xyz"], "and a file of structures are needed"),
        (["none.safetensors", "cu.xyz"], "no such model file"),
        ([*EMT, "none.xyz"], "none.xyz"),
        (["--calculator", "ase.calculators.emt", "cu.xyz"], "module:Class"),
        (["--calculator", "ase.calculators.emmt:EMT", "cu.xyz"], "could not be imported"),
        (["--calculator", "tbbbblite.ase:TBLite", "cu.xyz"], "install it where kohn is installed"),
        (
            ["--calculator", "ase.calculators.emt:EMTT", "cu.xyz"],
            "did you mean ase.calculators.emt:EMT?",
        ),
        (["ase.calculators.emt:EMTT", "cu.xyz"], "did you mean ase.calculators.emt:EMT?"),
        ([*EMT, "--calculator-args", "{rc: 3}", "cu.xyz"], "are not JSON"),
        ([*EMT, "--calculator-args", "[3]", "cu.xyz"], "not a JSON object"),
        (
            ["--calculator", "threading:Timer", "cu.xyz", "--calculator-args", '{"intervall": 3}'],
            "Timer(interval, function, args=None, kwargs=None)",
        ),
        (
            ["--calculator", "collections:Counter", "cu.xyz"],
            "this is not an ASE calculator",
        ),
        ([*EMT, "cu.xyz", "--laws", "rotations"], "did you mean 'rotation'?"),
        ([*EMT, "cu.xyz", "--threshold", "rotation"], "sets nothing"),
        (["m", "cu.xyz", "--calculator-args", "{}"], "a model file takes no arguments"),
        ([*EMT, "iron.xyz"], "the calculator computed none of the structures"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments, said, kohn_cli, copper):
    write("iron.xyz", Atoms("Pu2", positions=[[0, 0, 0], [0, 0, 2]]))
    code, out, err = kohn_cli("audit", *arguments)
    assert code == 2, out
    assert said in err
    assert out == ""


def test_help_has_an_example(kohn_cli):
    code, out, _ = kohn_cli("audit", "--help")
    assert code == 0
    assert "Example" in out


def test_what_calculators_print_stays_out_of_the_document(kohn_cli, tmp_path, monkeypatch):
    (tmp_path / "chatty.py").write_text(
        "import os\n"
        "from ase.calculators.lj import LennardJones\n\n"
        "class Chatty(LennardJones):\n"
        "    def calculate(self, *a, **k):\n"
        "        print('from Python')\n"
        "        os.write(1, b'from Fortran')\n"
        "        super().calculate(*a, **k)\n"
    )
    write("ar.xyz", Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 1.1]]))
    code, out, err = kohn_cli(
        "audit", "--calculator", "chatty:Chatty", "ar.xyz", "--laws", "translation", "--json"
    )
    assert code == 0
    assert json.loads(out)["ok"]
    assert "from Python" in err
    assert "from Fortran" in err
    assert kohn.__version__


# What users name


MARKED = "a:cat:[red]b[/]"
"""Rich would make a picture of the first and a colour of the second, or raise."""


def printed(renderable) -> str:
    """On a console as Python's users have it, which interprets what it is given as text."""
    shown = Console(width=200, file=io.StringIO())
    shown.print(renderable)
    return shown.file.getvalue()


def test_a_title_says_what_was_given(kohn_cli, copper, tmp_path):
    (tmp_path / "emtf.py").write_text("from ase.calculators.emt import EMT as factory\n")
    name = "emtf:factory"
    code, out, _ = kohn_cli("audit", "--calculator", name, copper, "--laws", "net-force")
    assert code == 0
    assert f"{name}: no law fails" in out


def test_tables_print_names_as_they_are(copper):
    found = kohn.audit(EMT_OF_ASE(), copper, laws=["net-force"], name=MARKED, frames=1)
    assert MARKED in printed(audit_table(found.to_json()))
    report = kohn.check({MARKED: copper})
    assert MARKED in printed(report)
    table = _table(MARKED)
    table.add_row("wide enough for the title")
    assert MARKED in printed(table)


def test_the_consoles_of_the_command_line_interpret_nothing(capfd):
    for shown in (console(), console(stderr=True)):
        shown.print(MARKED)
        shown.print(f"wrote {MARKED}", style="bold")
    said = capfd.readouterr()
    assert said.out == said.err == f"{MARKED}\nwrote {MARKED}\n"
