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
    """Options of a screening. σ is the standard deviation of the error of an energy.

    Attributes:
        formation: whether hull and candidates have formation energies, eV/atom, not totals.
        allow_mixed: whether energies that were computed in different ways may be mixed.
        tolerance: a compound is stable if its distance to the hull is at most this, eV/atom.
        scale: factor by which the σ of each candidate from models or tables is multiplied.
        error: σ of a further independent error of each candidate, eV/atom, added in quadrature.
        hull_error: σ of an independent error of each entry of the hull, eV/atom.
        prior: whether P(stable) takes into account how often the hull's compounds were stable.
        samples: number of joint samples of hull and candidates, used if `hull_error` > 0.
        seed: seed of the joint samples.
        by: rank by "probability" or "distance"; None: by P(stable) if known, else by distance.
        relaxation: settings of a relaxation before energies are predicted; None: no relaxation.
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


def check_options(files: list[Path], models: list[Path], target: Path, options: Options) -> None:
    """Raise ConfigError if options and files cannot be combined, InputError without pyarrow."""
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


def refuse_missing_uncertainty(options: Options, known: bool) -> None:
    """Raise ConfigError if candidates are to be ranked by P(stable) without any uncertainty."""
    if options.by == "probability" and not (known or options.error or options.hull_error):
        raise ConfigError(
            "there is no uncertainty, and so no probability to rank by",
            fix="give --error, several models, or energy_std in the table; or rank by distance",
        )
