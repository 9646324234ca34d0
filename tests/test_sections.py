"""Settings: partial sections keep their defaults everywhere, and errors are in plain words."""

import pydantic
import pytest
from pydantic import BaseModel

from kohn.errors import ConfigError
from kohn.models import FAMILIES
from kohn.sections import Section, in_words, merged
from kohn.training.settings import TrainSettings, parse
from kohn.training.train import settings_from

DATA = {"data": {"train": ["x.xyz"]}}


def sections_of(kind: type[BaseModel], path: tuple[str, ...] = ()):
    """Every section that has a default, with its path."""
    for name, info in kind.model_fields.items():
        if isinstance(info.default, BaseModel):
            yield (*path, name), info.default
            yield from sections_of(type(info.default), (*path, name))


def partial(path: tuple[str, ...], value):
    """{a: {b: value}}."""
    for name in reversed(path):
        value = {name: value}
    return value


def at(settings, path: tuple[str, ...]):
    for name in path:
        settings = getattr(settings, name)
    return settings


ALL = [
    (family, path, default)
    for family, (config, _) in FAMILIES.items()
    for path, default in [
        *(((("model", *p)), d) for p, d in sections_of(config)),
        *(x for x in sections_of(TrainSettings) if x[0][0] != "model"),
    ]
]


@pytest.mark.parametrize(
    ("family", "path", "default"), ALL, ids=lambda x: ".".join(x) if isinstance(x, tuple) else None
)
def test_one_given_value_changes_no_other(family, path, default):
    """For each section of each family: state one value as it is, and nothing else may move."""
    first = next(iter(type(default).model_fields))
    document = merged(
        {**DATA, "model": {"family": family}}, partial(path, {first: getattr(default, first)})
    )
    assert at(parse(document), path) == default


def test_soap_of_a_gaussian_process():
    model = parse({**DATA, "model": {"family": "gaussian-process", "soap": {"n_max": 6}}}).model
    assert (model.soap.n_max, model.soap.sigma, model.soap.scaling_radius) == (6, 0.4, 2.5)


def test_late_weights():
    late = parse({**DATA, "loss": {"late_weights": {"forces": 50.0}}}).loss.late_weights
    assert (late.energy, late.forces) == (1000.0, 50.0)
    assert parse({**DATA, "loss": {"late_weights": None}}).loss.late_weights is None


def test_settings_given_beside_a_configuration():
    """kohn.train(yaml, loss={"weights": {"energy": 5}}): the rest of the section stays."""
    base = parse({**DATA, "loss": {"weights": {"energy": 1.0, "forces": 7.0}}})
    found = settings_from(
        base, {"loss": {"weights": {"energy": 5.0}}, "data": {"keys": {"energy": "e"}}}
    )
    assert (found.loss.weights.energy, found.loss.weights.forces) == (5.0, 7.0)
    again = settings_from(found, {"data": {"keys": {"forces": "f"}}})
    assert again.data.keys == {"energy": "e", "forces": "f"}


def test_another_family_starts_from_its_own_defaults():
    found = settings_from(
        parse({**DATA, "model": {"channels": 8}}), {"model": {"family": "schnet"}}
    )
    assert found.model == FAMILIES["schnet"][0]()


class Everything(Section):
    whole: int = 1
    real: float = pydantic.Field(1.0, gt=0, le=5)
    text: str = "x"
    flag: bool = True
    words: list[str] = pydantic.Field(["a"], min_length=1)
    table: dict[str, int] = {}
    choice: str = pydantic.Field("a", pattern="a|b")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("whole", x) for x in ("x", 1.5, [1], None)),
        *(("real", x) for x in ("x", 0, 6, float("nan"), None)),
        *(("text", x) for x in (1, None)),
        *(("flag", x) for x in ("maybe", None)),
        *(("words", x) for x in ([], "x", 1, [1])),
        *(("table", x) for x in (1, {"a": "b"})),
        ("choice", "c"),
        ("unknown", 1),
    ],
)
def test_words_are_ours(name, value):
    with pytest.raises(pydantic.ValidationError) as caught:
        Everything(**{name: value})
    text = in_words(caught.value.errors()[0])
    for theirs in ("Input should", "input should", "valid", "pydantic", "type=", "Extra", "Field"):
        assert theirs not in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"run": {"steps": "many"}}, "run.steps: a whole number is needed"),
        ({"run": {"steps": 0}}, "run.steps: 1 or more is needed"),
        ({"optimiser": {"learning_rate": -1}}, "a number above 0 is needed"),
        ({"optimiser": {"kind": "adam"}}, "'eigen-adam', 'amsgrad' or 'adamw' is needed"),
        ({"loss": 5}, "loss: a section with names and values is needed"),
        ({"data": {"train": []}}, "data.train: at least 1 is needed"),
    ],
)
def test_a_run_says_what_is_wrong(document, message):
    with pytest.raises(ConfigError) as caught:
        parse(merged(DATA, document))
    assert message in caught.value.message
