"""Open the models of a screening: a potential or an ensemble, with the provenance of its labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kohn.models import NOT_CONSERVATIVE
from kohn.potential import Potential, load_potential
from kohn.stability.provenance import UNSTATED, Provenance, reconciled
from kohn.structures import Predictive
from kohn.uncertainty import Ensemble


@dataclass(frozen=True, eq=False)
class Models:
    """The models of a screening, whose energies are combined.

    Attributes:
        predictive: the model that predicts energies: one potential, or an ensemble of several.
        first: the potential that relaxes structures, also for an ensemble.
        provenance: how the models' labels were computed, which also describes the predicted
            energies; several provenances if the labels were mixed.
        remarks: remarks on the models, shown to the user.
    """

    predictive: Predictive
    first: Potential
    provenance: tuple[Provenance, ...]
    remarks: tuple[str, ...]


def open_models(paths: Sequence[Path]) -> Models:
    """Open the potentials at `paths`; several of them form an ensemble.

    Raises:
        ModelFileError: a file that is not a potential.
    """
    potentials = [load_potential(path) for path in paths]
    kinds = {kind for potential in potentials for kind in label_provenance(potential)}
    remarks = [
        f"{path}: {NOT_CONSERVATIVE}"
        for path, p in zip(paths, potentials, strict=True)
        if not p.conservative
    ]
    if len(potentials) > 1 and any(p.confident for p in potentials):
        remarks.append("σ is the spread of the models; the posterior of each model is not used.")
    first = potentials[0]
    predictive = first if len(potentials) == 1 else Ensemble(tuple(potentials))
    return Models(predictive, first, tuple(sorted(kinds)), tuple(remarks))


def label_provenance(potential: Potential) -> list[Provenance]:
    """Return how a potential's labels were computed: one provenance if a scheme of corrections
    reconciles several, and `UNSTATED` if the model does not state any."""
    items = potential.provenance.get("labels") or [{}]
    kinds = [
        Provenance(**{k: r[k] for k in ("functional", "scheme", "source") if k in r}) for r in items
    ]
    return sorted(set(reconciled(kinds, [{}] * len(kinds)))) or [UNSTATED]
