"""Every option of every command arrives where it acts: what is ignored is noticed.

Library functions are replaced by recorders, which keep their arguments and compute nothing, so that
these tests are quick; what the functions do with the arguments is tested where they live. Commands
on tables are quick as they are, and run whole.
"""

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from typer.main import get_command

import kohn
import kohn.cli.auditing
import kohn.cli.demo
import kohn.cli.hulls
import kohn.cli.screening
import kohn.interfaces.opening
import kohn.potential
import kohn.reports
import kohn.reports.screening
import kohn.stability.documents
import kohn.training
from kohn.cli.common import app
from kohn.descriptors import archives

CU = "cu.xyz"
BASE = {
    "": (),
    "check": (CU,),
    "template": ("train",),
    "train": (CU,),
    "audit": ("--calculator", "some:Calculator", CU),
    "eval": ("model", CU),
    "predict": ("model", CU, "-o", "out.xyz"),
    "describe": (CU, "-d", "soap", "-o", "out.npz", "--set", "r_cut=2"),
    "similarity": (CU, CU, "--set", "r_cut=2", "--set", "n_max=2", "--set", "l_max=1"),
    "hull": ("hull.csv",),
    "screen": ("new.csv", "--hull", "hull.csv", "-o", "out.csv"),
    "report": ("run",),
    "demo": (),
}
"""Command -> arguments without the option in question."""


@dataclass(frozen=True)
class Case:
    """An option that is given, where it is to be seen, and what is to be seen there.

    Attributes:
        given: what comes after the arguments of `BASE`.
        seen: a path through what was recorded, 'audit.seed', or what was printed, 'printed.json'.
        expected: what is there, and is not there without the option.
        base: arguments in the place of `BASE`.
    """

    given: tuple[object, ...]
    seen: str
    expected: Any
    base: tuple[str, ...] | None = None


JSON = Case(("--json",), "printed.json", True)
NOT_PERIODIC = Case(("--not-periodic",), "read.periodic", False)
KEY = ("--key", "energy=mine")
PARQUET = ("-o", "other.parquet")

CASES: dict[tuple[str, str], Case] = {
    ("", "--version"): Case(
        ("--version",), "printed.out", f"kohn {kohn.__version__} (jax {jax.__version__})\n"
    ),
    ("check", "--test"): Case(
        ("--test", "a.xyz", "--test", "b.xyz"), "check.data.test", ["a.xyz", "b.xyz"]
    ),
    ("check", "--key"): Case(KEY, "check.keys", {"energy": "mine"}),
    ("check", "--not-periodic"): Case(("--not-periodic",), "check.reading.periodic", False),
    ("check", "--allow"): Case(
        ("--allow", "no-labels", "--allow", "force-sign"),
        "check.allow",
        ["no-labels", "force-sign"],
    ),
    ("check", "--json"): JSON,
    ("template", "--model"): Case(("--model", "schnet"), "printed.family", "schnet"),
    ("train", "--out"): Case(("--out", "there"), "train.out", Path("there")),
    ("train", "--test"): Case(
        ("--test", "a.xyz", "--test", "b.xyz"), "train.sections.data.test", ["a.xyz", "b.xyz"]
    ),
    ("train", "--key"): Case(KEY, "train.sections.data.keys", {"energy": "mine"}),
    ("train", "--not-periodic"): Case(("--not-periodic",), "train.sections.data.periodic", False),
    ("train", "--allow"): Case(
        ("--allow", "force-sign"), "train.sections.data.allow", ["force-sign"]
    ),
    ("train", "--target"): Case(
        ("--target", "dipole", "--target", "gap"), "train.sections.targets", ["dipole", "gap"]
    ),
    ("train", "--steps"): Case(("--steps", 7), "train.sections.run.steps", 7),
    ("train", "--seed"): Case(("--seed", 0), "train.sections.run.seed", 0),
    ("train", "--threads"): Case(("--threads", 2), "train.sections.run.threads", 2),
    ("train", "--resume"): Case(("--resume",), "train.resume", True),
    ("train", "--json"): JSON,
    ("audit", "--calculator"): Case(
        ("--calculator", "other:Calculator"), "CalculatorProcess.name", "other:Calculator"
    ),
    ("audit", "--calculator-args"): Case(
        ("--calculator-args", '{"rc": 3}'), "CalculatorProcess.arguments", {"rc": 3}
    ),
    ("audit", "--laws"): Case(("--laws", "rotation, forces"), "audit.laws", ["rotation", "forces"]),
    ("audit", "--threshold"): Case(
        ("--threshold", "rotation=1e-5", "--threshold", "forces=2"),
        "audit.thresholds",
        {"rotation": 1e-5, "forces": 2.0},
    ),
    ("audit", "--frames"): Case(("--frames", 5), "audit.frames", 5),
    ("audit", "--seed"): Case(("--seed", 4), "audit.seed", 4),
    ("audit", "--temperature"): Case(("--temperature", 77), "audit.temperature", 77.0),
    ("audit", "--dtype"): Case(
        ("--dtype", "float32"), "Calculator.dtype", "float32", base=("model", CU)
    ),
    ("audit", "--out"): Case(("--out", "there"), "audit.out", Path("there")),
    ("audit", "--json"): JSON,
    ("eval", "--key"): Case(KEY, "read.keys", {"energy": "mine"}),
    ("eval", "--not-periodic"): NOT_PERIODIC,
    ("eval", "--json"): JSON,
    ("predict", "--out"): Case(("--out", "there.xyz"), "write.path", Path("there.xyz")),
    ("predict", "--uncertainty"): Case(("--uncertainty",), "predict.uncertainty", True),
    ("predict", "--not-periodic"): NOT_PERIODIC,
    ("predict", "--json"): JSON,
    ("describe", "--descriptor"): Case(
        ("--descriptor", "coulomb-matrix"), "transformer_of.descriptor", "coulomb-matrix"
    ),
    ("describe", "--out"): Case(("-o", "there.npz"), "write_npz.out", Path("there.npz")),
    ("describe", "--set"): Case(
        ("--set", "n_max=3"), "transformer_of.settings", {"r_cut": 2, "n_max": 3}
    ),
    ("describe", "--not-periodic"): NOT_PERIODIC,
    ("describe", "--json"): JSON,
    ("similarity", "--kernel"): Case(
        ("--kernel", "rematch"), "kernel_matrix.config.kind", "rematch"
    ),
    ("similarity", "--set"): Case(("--set", "zeta=3"), "kernel_matrix.config.zeta", 3),
    ("similarity", "--same-species"): Case(
        ("--same-species",), "kernel_matrix.species_a", [[29, 29], [29, 29]]
    ),
    ("similarity", "--out"): Case(("-o", "there.npz"), "write_npz.out", Path("there.npz")),
    ("similarity", "--not-periodic"): NOT_PERIODIC,
    ("similarity", "--json"): JSON,
    # −10.5 eV of LiO are −1.75 eV an atom from −2 and −5; of a candidate, −11 eV are −2.
    ("hull", "--candidates"): Case(
        ("--candidates", "new.csv"),
        "hull.result.candidates.0.formation_energy_per_atom",
        -2.0,
    ),
    ("hull", "--reference-energies"): Case(
        ("--reference-energies", "refs.json"), "hull.result.references", {"Li": -2.5, "O": -6.0}
    ),
    ("hull", "--out"): Case(PARQUET, "files.other.parquet", True),
    ("hull", "--plot"): Case(("--plot", "there.html"), "files.there.html", True),
    ("hull", "--open"): Case(("--open", "O=-5.5"), "hull.result.open.mu", {"O": -5.5}),
    ("hull", "--temperature"): Case(
        ("--temperature", 900),
        "hull.result.open.temperature",
        900.0,
        base=("hull.csv", "--open", "O=-5.5"),
    ),
    ("hull", "--pressure"): Case(
        ("--pressure", 0.2),
        "hull.result.open.pressure",
        0.2,
        base=("hull.csv", "--open", "O=-5.5"),
    ),
    ("hull", "--formation"): Case(
        ("--formation",), "hull.result.references", {"Li": 0.0, "O": 0.0}, base=("formed.csv",)
    ),
    # Li3O is 1 eV an atom above the hull.
    ("hull", "--tolerance"): Case(("--tolerance", 1.1), "hull.result.entries.4.stable", True),
    ("hull", "--allow-mixed"): Case(
        ("--allow-mixed",),
        "printed.code",
        0,
        base=("mixed.csv",),
    ),
    ("hull", "--json"): JSON,
    ("screen", "--hull"): Case(
        ("--hull", "more.csv"), "screen.hull", [Path("hull.csv"), Path("more.csv")]
    ),
    ("screen", "--out"): Case(("--out", "there.csv"), "screen.out", Path("there.csv")),
    ("screen", "--model"): Case(
        ("--model", "m.safetensors"), "screen.models", [Path("m.safetensors")]
    ),
    ("screen", "--reference-energies"): Case(
        ("--reference-energies", "refs.json"), "screen.reference_energies", Path("refs.json")
    ),
    ("screen", "--plot"): Case(("--plot", "a.html"), "screening_page.out", Path("a.html")),
    ("screen", "--relax"): Case(("--relax",), "screen.options.relaxation.fmax", 0.05),
    ("screen", "--fmax"): Case(
        ("--fmax", 0.2),
        "screen.options.relaxation.fmax",
        0.2,
        base=(*BASE["screen"], "--relax"),
    ),
    ("screen", "--relax-steps"): Case(
        ("--relax-steps", 9),
        "screen.options.relaxation.steps",
        9,
        base=(*BASE["screen"], "--relax"),
    ),
    ("screen", "--fixed-cell"): Case(
        ("--fixed-cell",),
        "screen.options.relaxation.cell",
        False,
        base=(*BASE["screen"], "--relax"),
    ),
    ("screen", "--scale"): Case(("--scale", 2), "screen.options.scale", 2.0),
    ("screen", "--error"): Case(("--error", 0.03), "screen.options.error", 0.03),
    ("screen", "--hull-error"): Case(("--hull-error", 0.02), "screen.options.hull_error", 0.02),
    ("screen", "--prior"): Case(("--prior",), "screen.options.prior", True),
    ("screen", "--samples"): Case(("--samples", 50), "screen.options.samples", 50),
    ("screen", "--seed"): Case(("--seed", 3), "screen.options.seed", 3),
    ("screen", "--by"): Case(("--by", "distance"), "screen.options.by", "distance"),
    ("screen", "--formation"): Case(("--formation",), "screen.options.formation", True),
    ("screen", "--tolerance"): Case(("--tolerance", 0.3), "screen.options.tolerance", 0.3),
    ("screen", "--allow-mixed"): Case(("--allow-mixed",), "screen.options.allow_mixed", True),
    ("screen", "--not-periodic"): Case(("--not-periodic",), "screen.options.periodic", False),
    ("screen", "--json"): JSON,
    ("report", "--out"): Case(("--out", "a.html"), "report.out", Path("a.html")),
    ("report", "--json"): JSON,
    ("demo", "--out"): Case(("--out", "there"), "train.out", Path("there/silicon")),
    ("demo", "--json"): JSON,
}
"""(command, long name of the option) -> how it is noticed. A new option needs an entry."""


def options() -> set[tuple[str, str]]:
    """Every option of every command, of the application itself as of ''."""
    root = get_command(app)
    commands = {"": root, **root.commands}  # type: ignore[attr-defined]
    return {
        (name, option.opts[0])
        for name, command in commands.items()
        for option in command.params
        if option.param_type_name == "option"
    }


def test_every_option_of_every_command_has_a_case():
    assert set(CASES) == options()


class Recorder:
    """Library functions that keep what they are given, by the names of their arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.monkeypatch = monkeypatch
        self.calls: dict[str, Any] = {}

    def replace(self, place: Any, name: str, result: Any = None, *, call: bool = False) -> None:
        """Replace `place.name` by what records it; with `call`, what it gives is recorded too."""
        original = getattr(place, name)
        signature = inspect.signature(original)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            self.calls[name] = dict(given)
            if not call:
                return result
            given["result"] = original(*args, **kwargs)
            self.calls[name] = dict(given)
            return given["result"]

        self.monkeypatch.setattr(place, name, recorded)


def reach(found: Any, path: str) -> Any:
    """What is at the end of a path of keys, indices and attributes; None where it breaks off."""
    for part in path.split("."):
        if isinstance(found, dict):
            found = found.get(part)
        elif isinstance(found, list) and part.isdecimal():
            found = found[int(part)] if int(part) < len(found) else None
        else:
            found = getattr(found, part, None)
    return found


class Model:
    """What predicts nothing."""

    e0s: dict[int, float] = {}

    def predict(self, structures, *, uncertainty=False, advance=None):
        prediction = SimpleNamespace(
            energy=-1.0, energy_std=0.1 if uncertainty else None, outside=False, as_labels=dict
        )
        return [prediction] * len(structures)


SCREENED = SimpleNamespace(
    remarks=[], metrics=None, file="out.csv", structures=None, stable=0, candidates=0, head=[],
    expected_stable=None,
)  # fmt: skip


@pytest.fixture
def recorder(monkeypatch, tmp_path):
    """Recorders in the place of all that takes time, in a folder with small files."""
    two = [Atoms("Cu2", [[0, 0, 0], [0, 0, r]], cell=[4] * 3, pbc=True) for r in (1.5, 1.6)]
    for atoms in two:
        atoms.info["mine"] = -1.0
    write(tmp_path / CU, two)
    (tmp_path / "hull.csv").write_text(
        "id,formula,energy\na,Li,-2\nb,O,-5\nx,Li2O,-15\ny,LiO,-10.5\nz,Li3O,-13\n"
    )
    (tmp_path / "new.csv").write_text("id,formula,energy\np,LiO,-11\n")
    (tmp_path / "refs.json").write_text('{"Li": -2.5, "O": -6.0}')
    (tmp_path / "formed.csv").write_text("id,formula,energy\na,Li,0.1\nb,O,0.2\nx,Li2O,-1.4\n")
    (tmp_path / "mixed.csv").write_text(
        "id,formula,energy,functional\na,Li,-2,PBE\nb,O,-5,PBE\nx,Li2O,-15,R2SCAN\n"
    )
    audited = SimpleNamespace(to_json=lambda: {"ok": True, "rows": [], "calculator": "one"})
    evaluated = {"name": "cu", "errors": {}, "suspicions": []}
    read_back = SimpleNamespace(ok=True, findings=(), to_json=lambda: {"ok": True})
    process = SimpleNamespace(warnings=(), __enter__=None)
    made = Recorder(monkeypatch)
    made.replace(kohn, "check", read_back)
    made.replace(kohn, "evaluate", SimpleNamespace(to_json=lambda: evaluated))
    made.replace(kohn, "read", call=True)
    made.replace(kohn, "write")
    made.replace(kohn.interfaces.opening, "Calculator", "a calculator")
    made.replace(kohn.potential, "load", Model())
    made.replace(Model, "predict", call=True)
    made.replace(kohn.training, "train", Model())
    made.replace(kohn.reports, "report", Path("report.html"))
    made.replace(kohn.reports.terminal, "evaluation_table", "a table")
    made.replace(kohn.reports.audit, "audit_table", "a table")
    made.replace(kohn.cli.auditing, "CalculatorProcess", Process(process))
    made.replace(kohn.cli.auditing, "audit", audited)
    made.replace(kohn.cli.auditing, "audit_page", Path("audit.html"))
    made.replace(archives, "read", call=True)
    made.replace(archives, "transformer_of", Transformer())
    made.replace(archives, "write_npz")
    made.replace(archives, "kernel_matrix", np.ones((2, 2)))
    made.replace(kohn.stability.documents, "hull", call=True)
    made.replace(kohn.cli.screening, "screen", SCREENED)
    made.replace(kohn.reports.screening, "screening_page", Path("a.html"))
    return made


class Transformer:
    """What describes nothing."""

    elements_ = (29,)

    def fit(self, data): ...

    def get_feature_names_out(self):
        return np.array(["one"])

    def get_params(self):
        return {}

    def stream(self, data):
        return iter(())


class Process:
    """A calculator that is given no process."""

    def __init__(self, said: Any):
        self.warnings = said.warnings

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None: ...


def run(kohn_cli, recorder, command: str, arguments) -> dict[str, Any]:
    """What was recorded, printed and written by one command."""
    recorder.calls.clear()
    code, out, said = kohn_cli(*([command] if command else ()), *arguments)
    try:
        document = json.loads(out)
    except ValueError:
        document = None
    family = [line.split()[1] for line in out.splitlines() if line.strip().startswith("family:")]
    files = {str(p.relative_to(Path.cwd())): True for p in Path.cwd().rglob("*") if p.is_file()}
    printed = {"out": out, "code": code, "json": document is not None, "said": said}
    printed["family"] = family[0] if family else None
    return {**recorder.calls, "printed": printed, "files": files}


@pytest.mark.parametrize(("command", "option"), CASES)
def test_an_option_arrives(command, option, kohn_cli, recorder):
    case = CASES[command, option]
    base = BASE[command] if case.base is None else case.base
    assert option in case.given or case.given[0] in ("-o", "-d")
    without = seen(run(kohn_cli, recorder, command, base), case.seen)
    assert without != case.expected
    found = run(kohn_cli, recorder, command, (*base, *case.given))
    assert found["printed"]["code"] == 0, found["printed"]["said"]
    assert seen(found, case.seen) == case.expected


def seen(found: dict[str, Any], path: str) -> Any:
    """The value at a path, in a form that can be compared."""
    if path.startswith("files."):
        return path.removeprefix("files.") in found["files"]
    value = reach(found, path)
    if isinstance(value, (tuple, list)):
        value = [v.tolist() if isinstance(v, np.ndarray) else v for v in value]
    return value
