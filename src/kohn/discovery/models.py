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
    """Potentials whose energies are combined.

    Attributes:
        predictive: one potential, or an ensemble.
        first: the potential that relaxes structures.
        provenance: that of the labels, which is also that of the predicted energies; several kinds
            if the labels were mixed.
        remarks: remarks on the models for users.
    """

    predictive: Predictive
    first: Potential
    provenance: tuple[Provenance, ...]
    remarks: tuple[str, ...]


def open_models(paths: Sequence[Path]) -> Models:
    """Open the models at these paths.

    Raises:
        ModelFileError: a file is no potential.
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
    """Return how the labels of a potential were computed: one kind if a scheme reconciles several,
    and unknown if the model does not state it."""
    items = potential.provenance.get("labels") or [{}]
    kinds = [
        Provenance(**{k: r[k] for k in ("functional", "scheme", "source") if k in r}) for r in items
    ]
    return sorted(set(reconciled(kinds, [{}] * len(kinds)))) or [UNSTATED]
