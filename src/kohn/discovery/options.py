"""Define the options of a screening, and refuse those that cannot be combined."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kohn.discovery.candidate_energies import Relaxation
from kohn.errors import ConfigError
from kohn.tables import is_table, refuse_non_table


@dataclass(frozen=True)
class Options:
    """How candidates are ranked.

    Attributes:
        formation: energies of tables are formation energies, eV/atom.
        allow_mixed: do not refuse energies that were computed in different ways.
        tolerance: a compound within this distance of the hull is stable, eV/atom.
        scale: factor on the σ that models or tables give.
        error: σ that is added (in quadrature) to that of all candidates, independent, eV/atom.
        hull_error: σ of each entry of the hull, independent, eV/atom.
        prior: P(stable) takes into account how often the hull's own compounds were stable.
        samples: number of joint samples if the hull is uncertain.
        seed: of these samples.
        by: the quantity to rank by; by default P(stable) if it is known, else the distance.
        relaxation: relaxation of structures before their energy is computed; None for none.
        periodic: periodicity of all structures; None to take it from the files.
    """

    formation: bool = False
    allow_mixed: bool = False
    tolerance: float = 1e-8
    scale: float = 1.0
    error: float = 0.0
    hull_error: float = 0.0
    prior: bool = False
    samples: int = 1000
    seed: int = 0
    by: Literal["probability", "distance"] | None = None
    relaxation: Relaxation | None = None
    periodic: bool | None = None


def check(files: list[Path], models: list[Path], target: Path, options: Options) -> None:
    """Raise ConfigError or InputError for options and files that do not go together."""
    refuse_non_table(target)
    tables = [f for f in files if is_table(f)]
    if models and tables:
        raise ConfigError(
            "a model needs structures, but these files are tables of energies",
            expected="structures with a model, or tables without one",
            received=", ".join(map(str, tables[:3])),
        )
    if options.relaxation is not None and not models:
        raise ConfigError("only a model can relax structures", fix="name a model, or drop --relax")
    if models and options.formation:
        raise ConfigError(
            "a model predicts total energies, but the hull has formation energies",
            fix="give a hull of total energies",
        )
    if not files:
        raise ConfigError("there are no candidates", fix="name at least one file")
    if options.by not in (None, "probability", "distance"):
        raise ConfigError(
            "cannot rank by this", expected="probability or distance", received=options.by
        )
    if options.prior and options.hull_error:
        raise ConfigError(
            "the prior needs a hull without errors", fix="leave out --prior or --hull-error"
        )
    numbers = ("scale", "error", "hull_error", "tolerance", "seed", "samples")
    bad = [f"{k} {v}" for k in numbers if not 0 <= (v := getattr(options, k)) < np.inf]
    if bad or options.samples < 1:
        raise ConfigError(
            "numeric options must be finite and not negative, with at least one sample",
            received=", ".join(bad) or "no samples",
        )


def refuse_probability(options: Options, sure: bool) -> None:
    """Raise ConfigError if P(stable) is to be ranked by, and there is no uncertainty."""
    if options.by == "probability" and not (sure or options.error or options.hull_error):
        raise ConfigError(
            "there is no uncertainty, and so no probability to rank by",
            fix="give --error, several models, or energy_std in the table; or rank by distance",
        )
