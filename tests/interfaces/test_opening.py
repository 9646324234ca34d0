"""What a user names is opened as a calculator, whichever way it is named."""

import pytest

from kohn.errors import ConfigError, ModelFileError
from kohn.interfaces import opening
from kohn.interfaces.opening import is_class, open_calculator


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ase.calculators.emt:EMT", True),
        ("module:Class", True),
        ("model.safetensors", False),
        ("runs/first", False),
        ("runs/a:b", False),
        (":EMT", False),
        ("ase:", False),
        ("emt", False),
    ],
)
def test_a_class_is_told_from_a_file(name, expected):
    assert is_class(name) is expected


def test_a_file_that_is_there_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").write_text("")
    assert not is_class("a:b")


def test_a_class_has_its_arguments_and_a_model_its_precision(monkeypatch):
    asked = []
    monkeypatch.setattr(opening, "CalculatorProcess", lambda *given: asked.append(given))
    monkeypatch.setattr(opening, "Calculator", lambda *given, **more: asked.append((given, more)))
    open_calculator("ase.calculators.lj:LennardJones", {"rc": 3.0})
    open_calculator("runs/first", dtype="float32")
    assert asked == [
        ("ase.calculators.lj:LennardJones", {"rc": 3.0}),
        (("runs/first",), {"dtype": "float32"}),
    ]


def test_what_cannot_be_opened():
    with pytest.raises(ConfigError, match="takes no arguments"):
        open_calculator("model.safetensors", {"rc": 3.0})
    with pytest.raises(ModelFileError, match="no such model file"):
        open_calculator("none.safetensors")
