"""The models of a screening: one potential, or an ensemble, and what their energies are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kohn.models import NOT_CONSERVATIVE
from kohn.potential import Potential, load
from kohn.stability.provenance import UNSTATED, Provenance, reconciled
from kohn.structures import Predictive
from kohn.uncertainty import Ensemble


@dataclass(frozen=True, eq=False)
class Models:
    """Potentials whose energies are taken together.

    Attributes:
        predictive: one potential, or an ensemble.
        first: the potential that relaxes.
        provenance: that of their labels, which is that of what they predict; several kinds where
            labels were mixed.
        remarks: what users should know of them.
    """

    predictive: Predictive
    first: Potential
    provenance: tuple[Provenance, ...]
    remarks: tuple[str, ...]


def opened(paths: Sequence[Path]) -> Models:
    """Open models.

    Raises:
        ModelFileError: a file that is no potential.
    """
    potentials = [load(path) for path in paths]
    kinds = {kind for potential in potentials for kind in label_provenance(potential)}
    remarks = [
        f"{path}: {NOT_CONSERVATIVE}"
        for path, p in zip(paths, potentials, strict=True)
        if not p.conservative
    ]
    if len(potentials) > 1 and any(p.confident for p in potentials):
        remarks.append("The spread of the models counts; the posterior of each does not.")
    first = potentials[0]
    predictive = first if len(potentials) == 1 else Ensemble(tuple(potentials))
    return Models(predictive, first, tuple(sorted(kinds)), tuple(remarks))


def label_provenance(potential: Potential) -> list[Provenance]:
    """How the labels that a potential learned were computed; one kind where a scheme reconciles
    several. Of models that do not say it, unknown."""
    told = potential.provenance.get("labels") or [{}]
    kinds = [
        Provenance(**{k: t[k] for k in ("functional", "scheme", "source") if k in t}) for t in told
    ]
    return sorted(set(reconciled(kinds, [{}] * len(kinds)))) or [UNSTATED]
