"""Settings files: what is refused, with the line where it stands."""

import hashlib
from dataclasses import replace

import pytest

import kohn
from kohn.errors import CheckFailed, ConfigError, InputError
from kohn.jobs import FORMAT
from kohn.records import to_json
from kohn.training.preparation import prepare
from kohn.training.settings import parse, read_settings
from kohn.training.train import settings_from

START = "data: {train: [a.xyz]}\n"


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("run:\n  epochs: 2\n  epoch: 3\n", "did you mean 'epochs'", 4),
        ("run:\n  seed: yes\n", "true or false has no meaning here", 3),
        ("optimiser:\n  learning_rate: .inf\n", "finite", 3),
        ("run: {epochs: 2}\nrun: {epochs: 3}\n", "'run' occurs twice", 3),
        ("run:\n\tepochs: 2\n", "not valid YAML", 3),
        ("model: {radial_widths: 8}\n", r"write it as a list: \[8\]", 2),
        ("1: 2\n", "keys must be text", 2),
    ],
)
def test_errors_name_the_line(tmp_path, text, message, line):
    path = tmp_path / "train.yaml"
    path.write_text(START + text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_settings(path)
    assert caught.value.where.line == line
    assert caught.value.fix


def test_files_that_are_no_settings(tmp_path):
    (tmp_path / "train.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        read_settings(tmp_path / "train.yaml")
    with pytest.raises(ConfigError, match=r"did you mean 'train\.yaml'"):
        read_settings(tmp_path / "trian.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_settings(tmp_path)


def test_a_configuration_stands_alone(tmp_path):
    path = tmp_path / "TRAIN.YAML"
    path.write_text(START)
    assert settings_from(path, {}).data.train == ["a.xyz"]
    with pytest.raises(ConfigError, match="among files of structures"):
        settings_from([path, "b.xyz"], {})


@pytest.mark.parametrize(
    "data",
    [{"train": []}, {"train": ["a"], "config_weights": {"Default": -1}}],
)
def test_data_settings_out_of_range(data):
    with pytest.raises(ConfigError, match="data"):
        parse({"data": data})


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ({"model": {"cutoff": 0.5}}, ConfigError, "neighbour within the cutoff"),
        (
            {"loss": {"weights": {"energy": 0, "forces": 0}, "late_weights": None}},
            ConfigError,
            "teaches nothing",
        ),
        (
            {"data": {"config_weights": {"Default": 0}}},
            ConfigError,
            "all training structures are 0",
        ),
        ({"data": {"e0s": {"Xx": 1.0}}}, InputError, "in the given E0s"),
    ],
)
def test_settings_that_teach_nothing(ethanol, sections, error, message):
    data = {"train": [str(ethanol)], **sections.get("data", {})}
    with pytest.raises(error, match=message):
        prepare(parse({**sections, "data": data}))


def test_keys_that_are_nearly_right_are_named_before_e0s(ethanol, tmp_path):
    path = tmp_path / "near.xyz"
    path.write_text(ethanol.read_text().replace("REF_energy", "REF_enregy"))
    with pytest.raises(CheckFailed, match="did you mean 'REF_energy'"):
        prepare(parse({"data": {"train": [str(path)]}}))


def test_what_no_training_can_go_on_with(ethanol, tmp_path):
    """Charges that vary cannot be allowed, and are not offered to be."""
    path, lines = tmp_path / "charged.xyz", ethanol.read_text().splitlines()
    lines[1] += " charge=1"
    path.write_text("\n".join(lines) + "\n")
    document = {"data": {"train": [str(path)], "allow": ["varying-charge"]}}
    with pytest.raises(CheckFailed, match="charge differs") as caught:
        prepare(parse(document))
    assert "--allow" not in caught.value.fix


def test_only_isolated_atoms(tmp_path, ethanol):
    path = tmp_path / "atoms.xyz"
    path.write_text(
        "".join(
            f"1\nProperties=species:S:1:pos:R:3 REF_energy=-1 config_type=IsolatedAtom\n{z} 0 0 0\n"
            for z in "HCO"
        )
    )
    with pytest.raises(InputError, match="all training structures are isolated atoms"):
        prepare(parse({"data": {"train": [str(path)], "valid": [str(ethanol)]}}))


def test_labels_say_how_they_were_computed(ethanol, tmp_path, tiny):
    """What a frame says of itself goes before what the settings say of all."""
    said = {"functional": "r2SCAN", "source": "VASP"}
    frames = [replace(s, info=said) if k < 4 else s for k, s in enumerate(kohn.read(ethanol))]
    kohn.write(frames, tmp_path / "some.extxyz")
    data = {"train": [str(tmp_path / "some.extxyz")], "functional": "GGA", "scheme": "none"}
    potential = prepare(parse({"data": data, "model": tiny["model"]})).potential
    assert potential.provenance["labels"] == [
        {"functional": "PBE", "scheme": "none", "source": "unknown", "structures": 20},
        {"functional": "r2SCAN", "scheme": "none", "source": "VASP", "structures": 4},
    ]


def test_the_fingerprint_is_of_settings_and_bytes_and_not_of_places(ethanol, tiny):
    document = {"data": {"train": [str(ethanol)]}, "model": tiny["model"]}
    settings = parse(document)
    dump = settings.model_dump(mode="json")
    for name in ("train", "valid", "test"):
        del dump["data"][name]
    sha256 = kohn.read(ethanol).sources[0].sha256
    text = to_json([FORMAT, dump, [sha256] * 3, {"train": 23, "valid": 1}])
    assert prepare(settings).fingerprint == hashlib.sha256(text.encode()).hexdigest()
    document["data"]["source"] = "ORCA"
    assert prepare(parse(document)).fingerprint != prepare(settings).fingerprint
