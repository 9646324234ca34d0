"""Define the settings of a training run, which `kohn template train` prints with defaults."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union

import pydantic
import yaml
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError

from kohn.errors import ConfigError, Place, nearest
from kohn.models import FAMILIES, is_conservative
from kohn.models.bodies import BODIES
from kohn.models.heads.properties import degrees_of
from kohn.sections import Section, in_words
from kohn.structures import PROPERTIES

KeyPath: TypeAlias = tuple[str, ...]
"""The keys that lead to a setting, from the outermost."""


class _Section(Section):
    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """Refuse booleans for numbers: YAML reads yes, on, true alike, which would count as 1."""
        if isinstance(value, bool) and info.field_name not in (
            "periodic",
            "composition",
            "charges",
        ):
            raise ValueError("true or false has no meaning here")
        return value


class DataSettings(_Section):
    """The structures to learn from, and how files are read."""

    train: Annotated[
        list[str], Field(min_length=1, description="files to learn from, isolated atoms included")
    ]
    valid: Annotated[
        list[str], Field(description="files that select the best epoch; empty: a share of train")
    ] = []
    test: Annotated[list[str], Field(description="files evaluated once, after training")] = []
    valid_fraction: Annotated[
        float, Field(gt=0, lt=1, description="share of train for validation, if valid is empty")
    ] = 0.05
    keys: Annotated[
        dict[str, str], Field(description="label -> key in the files, e.g. energy: dft_energy")
    ] = {}
    energy: Annotated[
        Literal["energy", "free_energy"], Field(description="the energy to learn")
    ] = "energy"
    e0s: Annotated[
        dict[str, float] | None,
        Field(description="energies of lone atoms, eV, by symbol; default: from the data"),
    ] = None
    config_weights: Annotated[
        dict[str, pydantic.NonNegativeFloat],
        Field(description="config_type -> weight in the loss"),
    ] = {}
    functional: Annotated[
        str | None, Field(description="of the labels, e.g. PBE, if not in the files; recorded")
    ] = None
    scheme: Annotated[
        str | None, Field(description="correction scheme or none, if not in the files; recorded")
    ] = None
    source: Annotated[
        str | None, Field(description="code or model of the labels, if not in the files; recorded")
    ] = None
    periodic: Annotated[
        bool | None, Field(description="overrides the periodic flags of all frames")
    ] = None
    allow: Annotated[
        list[str],
        Field(description="findings of `kohn check` that training accepts; recorded in the model"),
    ] = []


class Weights(_Section):
    """Weights of energy, forces and stress in the loss."""

    energy: Annotated[float, Field(ge=0, description="of (eV/atom)²")] = 10.0
    forces: Annotated[float, Field(ge=0, description="of (eV/Å)²")] = 100.0
    stress: Annotated[
        float | None, Field(ge=0, description="default: 100000 if all frames have a stress, else 0")
    ] = None


class Penalties(_Section):
    """Soft constraints on forces that are not derivatives of an energy; 0 switches one off."""

    asymmetry: Annotated[float, Field(ge=0, description="λ of ‖J − Jᵀ‖²/3n, J = dF/dx")] = 0.0
    net_force: Annotated[float, Field(ge=0, description="λ of |Σ F|²/n")] = 0.0
    torque: Annotated[float, Field(ge=0, description="λ of |Σ x × F|²/n, of molecules")] = 0.0


class LossSettings(_Section):
    """The loss Σ weight · mean ℓ(error): energies in eV/atom, forces in eV/Å, stress in eV/Å³."""

    kind: Annotated[Literal["mse", "huber"], Field(description="ℓ: square, or Huber's")] = "mse"
    huber_delta: Annotated[
        float, Field(gt=0, description="force error, eV/Å, where Huber's ℓ turns linear")
    ] = 0.01
    weights: Annotated[Weights, Field(description="of energy, forces, stress")] = Weights()
    late_weights: Annotated[
        Weights | None, Field(description="weights for the last part of the run; null: no change")
    ] = Weights(energy=1000.0, forces=100.0)
    late_from: Annotated[
        float, Field(gt=0, le=1, description="share of the run after which late_weights apply")
    ] = 0.75
    penalties: Annotated[
        Penalties, Field(description="soft constraints, for models with direct forces")
    ] = Penalties()


class OptimiserSettings(_Section):
    """The algorithm that adjusts the weights of the network, and its learning rate."""

    kind: Annotated[Literal["eigen-adam", "amsgrad", "adamw"], Field(description="algorithm")] = (
        "amsgrad"
    )
    learning_rate: Annotated[float, Field(gt=0, description="highest learning rate")] = 0.01
    schedule: Annotated[
        Literal["cosine", "constant"],
        Field(description="of the learning rate after the warm-up"),
    ] = "cosine"
    final_fraction: Annotated[
        float, Field(ge=0, le=1, description="last rate of the cosine, as a share of the highest")
    ] = 0.01
    warmup_steps: Annotated[int, Field(ge=0, description="steps of linear rise at the start")] = 100
    weight_decay: Annotated[float, Field(ge=0, description="of eigen-adam and adamw")] = 1e-6
    clip: Annotated[float, Field(gt=0, description="largest norm of a gradient")] = 10.0
    ema: Annotated[
        float, Field(ge=0, lt=1, description="decay of the moving average of weights that is saved")
    ] = 0.999


class RunSettings(_Section):
    """Length, precision and device of the run."""

    steps: Annotated[
        int,
        Field(ge=1, description="length of the run, rounded to whole epochs"),
    ] = 40_000
    epochs: Annotated[
        int | None, Field(ge=1, description="passes through the training data, instead of steps")
    ] = None
    batch_size: Annotated[int, Field(ge=1, description="structures per step")] = 5
    evaluate_every: Annotated[int, Field(ge=1, description="epochs between validations")] = 1
    patience: Annotated[
        int | None, Field(ge=1, description="stop after this many validations without improvement")
    ] = None
    checkpoint_every: Annotated[int, Field(ge=1, description="epochs between checkpoints")] = 1
    dtype: Annotated[
        Literal["float32", "float64"], Field(description="number type of the network")
    ] = "float32"
    seed: Annotated[int, Field(ge=0, description="of weights, split and order")] = 0
    device: Annotated[Literal["cpu", "gpu"] | None, Field(description="default: the best")] = None
    threads: Annotated[int | None, Field(ge=1, description="CPU cores; default: all")] = None
    init_from: Annotated[
        str | None,
        Field(description="model file to start from: fine-tuning"),
    ] = None


def misfit(key: str, message: str) -> PydanticCustomError:
    """Return the error for settings that contradict each other; `key` names the one to change."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "key": key})


class HeadSettings(_Section):
    """How properties other than energies are computed from contributions of atoms."""

    composition: Annotated[
        bool, Field(description="scalars start from a value per element, not from one mean")
    ] = True
    extensive: Annotated[
        list[str], Field(description="scalar targets that grow with the system size")
    ] = []
    charges: Annotated[
        bool, Field(description="dipoles of molecules: add charges times positions")
    ] = True
    charge: Annotated[
        float | None, Field(description="of molecules that do not state it, e; null: neutral")
    ] = None
    dipole_origin: Annotated[
        Literal["positions", "mass"] | None,
        Field(description="origin of the dipoles of ions; needed only for ions"),
    ] = None


if TYPE_CHECKING:
    AnyModel = Any
else:
    AnyModel = Union[tuple(config for config, _ in FAMILIES.values())]  # noqa: UP007
"""The configuration of a model of any family."""


class TrainSettings(_Section):
    """All settings of a training run."""

    data: DataSettings
    targets: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="[energy], with forces and stress; or dipole, polarizability, and keys of "
            f"numbers in the files, e.g. band_gap (for model {', '.join(BODIES)})",
        ),
    ] = ("energy",)
    model: Annotated[
        AnyModel, Field(discriminator="family", description=f"family: {', '.join(FAMILIES)}")
    ] = FAMILIES["mace"][0]()
    heads: HeadSettings = HeadSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    run: RunSettings = RunSettings()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _family_alone(cls, document: Any) -> Any:
        """Accept the name of a family, as in `model: gaussian-process`, for its defaults. Without a
        name the family is mace, or nequip for properties other than energies."""
        model = document.get("model", {})
        if isinstance(model, str):
            model = {"family": model}
        if isinstance(model, dict):
            of_energies = document.get("targets", ["energy"]) in (["energy"], ("energy",))
            model = {"family": "mace" if of_energies else "nequip", **model}
        return {**document, "model": model}

    @pydantic.field_validator("targets")
    @classmethod
    def _known_targets(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if targets == ("energy",):
            return targets
        if len(set(targets)) < len(targets):
            raise ValueError("a target occurs twice")
        for name in targets:
            if name in ("energy", "forces", "stress"):
                raise ValueError(
                    "energies are learned, with forces and stress, by a separate model: "
                    "targets: [energy] alone"
                )
            if name in PROPERTIES and PROPERTIES[name].shape not in ((), (3,), (3, 3)):
                raise ValueError(f"{name} is not a property of a whole structure")
        return targets

    @pydantic.model_validator(mode="after")
    def _family_of_targets(self) -> "TrainSettings":
        direct = [name for name, (_, family) in FAMILIES.items() if not is_conservative(family)]
        if any(self.loss.penalties.model_dump().values()) and self.model.family not in direct:
            raise misfit(
                "loss.penalties",
                f"forces of a {self.model.family} obey these laws by construction, or do not "
                f"exist: penalties are for model: {' or '.join(direct)}",
            )
        if self.of_energies:
            return self
        if getattr(self.model, "zbl", False):
            raise misfit("model.zbl", "zbl adds to energies: properties have no use for it")
        if self.model.family not in BODIES:
            raise misfit(
                "model",
                f"{', '.join(self.targets)}: learned by model: {', '.join(BODIES)}, "
                f"not {self.model.family}",
            )
        turning = [t for t in self.targets if max(degrees_of(t)) > 0]
        if turning and not BODIES[self.model.family][1].equivariant:
            able = " or ".join(name for name, (_, body) in BODIES.items() if body.equivariant)
            raise misfit(
                "model",
                f"{', '.join(turning)}: needs an equivariant model, and {self.model.family} is "
                f"invariant; choose model: {able}",
            )
        if stray := set(self.heads.extensive) - set(self.targets):
            raise misfit("heads.extensive", f"{', '.join(sorted(stray))} is not a target")
        return self

    @property
    def of_energies(self) -> bool:
        """Whether energies are learned, with forces and stress."""
        return self.targets == ("energy",)


def parse(
    document: Any, *, where: str | Path | None = None, lines: dict[KeyPath, int] | None = None
) -> TrainSettings:
    """Check a nested dictionary, as read from YAML, and return it as settings.

    Args:
        document: the dictionary.
        where: file from which it was read. lines: keys that lead to a setting -> line in this file.

    Raises:
        ConfigError: an unknown key (the nearest known key is suggested), a value out of range,
            a missing key.
    """
    if not isinstance(document, dict):
        raise ConfigError(
            "not a configuration",
            where=Place(file=where),
            expected="a mapping with the sections data, model, loss, optimiser, run",
            received=type(document).__name__,
            fix="start from `kohn template train`",
        )
    try:
        return TrainSettings.model_validate(document)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path: KeyPath = tuple(str(part) for part in first["loc"])
        family = "mace"
        if first["type"] == "misfit":
            path = tuple(first.get("ctx", {})["key"].split("."))
            first = {**first, "input": _value_at(document, path)}
        if path[:1] == ("model",) and path[1:2] and path[1] in FAMILIES:
            path, family = ("model", *path[2:]), path[1]  # pydantic names the member of the union
        if first["type"] == "union_tag_invalid":
            path = ("model", "family")
        lines = lines or {}
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        place = Place(file=where, line=line)
        if first["type"] == "extra_forbidden":
            known = _fields_at(path[:-1], family)
            guess = nearest(path[-1], known, cutoff=0.4)
            raise ConfigError(
                f"unknown key {'.'.join(path)!r}",
                where=place,
                expected=f"one of {', '.join(known)}",
                fix=f"did you mean {guess!r}?" if guess else "remove it",
            ) from None
        raise ConfigError(
            f"{'.'.join(path)}: {in_words(first)}",
            where=place,
            received=repr(first.get("input")),
            expected=f"family: {', '.join(FAMILIES)}" if path == ("model", "family") else None,
            fix=_fix_for(first["type"], first.get("input")),
        ) from None


def _value_at(document: Any, path: KeyPath) -> Any:
    for key in path:
        document = document.get(key, {}) if isinstance(document, dict) else document
    return document


def _fix_for(kind: str, value: Any) -> str:
    if kind in ("list_type", "tuple_type") and isinstance(value, (str, int, float)):
        return f"write it as a list: [{value}]"
    return "see `kohn template train` for the allowed values"


def _fields_at(path: tuple[str, ...], family: str) -> list[str]:
    section: Any = TrainSettings
    for part in path:
        if section is TrainSettings and part == "model":
            section = FAMILIES[family][0]
            continue
        if isinstance(section, type) and issubclass(section, BaseModel):
            annotation = section.model_fields[part].annotation
            options = getattr(annotation, "__args__", (annotation,))
            section = next((o for o in options if isinstance(o, type)), annotation)
    return list(section.model_fields) if hasattr(section, "model_fields") else []


def read_settings(path: str | Path) -> TrainSettings:
    """Read settings from a YAML file; see `parse`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_lines(root, (), path))
        document = yaml.safe_load(text)
    except OSError as error:
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        guess = None if path.exists() else nearest(path.name, names)
        raise ConfigError(
            f"cannot read the configuration: {error.strerror}",
            where=Place(file=path),
            fix=f"did you mean {guess!r}?" if guess else "check the path",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            "the configuration is not text in UTF-8",
            where=Place(file=path),
            received=str(error),
            fix="save it as UTF-8, or start from `kohn template train`",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(
            f"not valid YAML: {getattr(error, 'problem', error)}",
            where=Place(file=path, line=mark.line + 1 if mark else None),
            fix="correct this line or the one before: brackets, colons, spaces (no tabs)",
        ) from error
    return parse(document, where=path, lines=lines)


def _lines(node: yaml.Node | None, keys: KeyPath, file: Path) -> Iterator[tuple[KeyPath, int]]:
    """Yield (keys that lead to a setting, line) for all settings of a node; refuse double keys."""
    if not isinstance(node, yaml.MappingNode):
        return
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in first_lines:
            raise ConfigError(
                f"the key {'.'.join((*keys, name))!r} occurs twice",
                where=Place(file=file, line=line),
                received=f"the first is in line {first_lines[name]}",
                fix="keep one of them, with all that belongs under it",
            )
        first_lines[name] = line
        yield (*keys, name), line
        yield from _lines(value, (*keys, name), file)


def to_yaml(settings: TrainSettings) -> str:
    """Return all settings as YAML."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def template(family: str = "mace") -> str:
    """Return a commented YAML file with every setting of a family of models and its default.

    Raises:
        ConfigError: there is no such family.
    """
    if family not in FAMILIES:
        guess = nearest(family, list(FAMILIES))
        raise ConfigError(
            f"there is no family of models {family!r}",
            expected=", ".join(FAMILIES),
            fix=f"did you mean {guess!r}?" if guess else None,
        )
    data = DataSettings(train=["train.extxyz"], test=["test.extxyz"])
    example = TrainSettings(data=data, model=FAMILIES[family][0]())
    lines = ["# Settings of `kohn train`. Only data.train is needed; the rest are defaults."]
    if family == "gaussian-process":
        lines.append(
            "# It has no steps: of the other sections, loss.weights of 0 leave labels out,"
        )
        lines.append("# and run.seed and run.threads have their usual meaning.")
        return "\n".join([*lines, *_commented(example, 0, {"data", "model"})]) + "\n"
    return "\n".join([*lines, *_commented(example, 0)]) + "\n"


def _commented(section: BaseModel, depth: int, only: set[str] | None = None) -> list[str]:
    lines = []
    for name, info in type(section).model_fields.items():
        if only is not None and name not in only:
            continue
        value, indent = getattr(section, name), "  " * depth
        if isinstance(value, BaseModel):
            note = info.description or (type(value).__doc__ or "").split("\n")[0]
            lines += [f"{indent}{name}:  # {note}", *_commented(value, depth + 1)]
        else:
            plain = value if not isinstance(value, tuple) else list(value)
            text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True)
            text = text.removesuffix("...\n").strip()
            comment = f"  # {info.description}" if info.description else ""
            lines.append(f"{indent}{name}: {text}{comment}")
    return lines
