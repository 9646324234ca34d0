"""Energies of candidates by models, portion by portion, each portion kept as it is done.

Structures are read one after the other and never kept. What cannot be computed (atoms on top of
each other, a relaxation that runs away) is NaN with its reason, and the others go on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from kohn.discovery.models import Models
from kohn.errors import InputError
from kohn.graphs import check_geometry, neighbourhood
from kohn.records import replacing
from kohn.simulation import Relaxer
from kohn.stability.candidates import Candidates, Parser
from kohn.stability.formulas import reduced
from kohn.stability.provenance import UNSTATED
from kohn.stability.reading import COLUMNS
from kohn.structures import Energies, Structure, scan, write
from kohn.structures.elements import symbol
from kohn.typing import Float

PORTION, RELAXED_PORTION = 1024, 32
"""Structures that are predicted, or relaxed, between two records."""


@dataclass(frozen=True)
class Relaxation:
    """How structures are relaxed before their energy is taken.

    Attributes:
        fmax: until forces are below, eV/Å.
        steps: at most.
        cell: whether cells relax; by default those of crystals.
    """

    fmax: float = 0.05
    steps: int = 500
    cell: bool | None = None


@dataclass(frozen=True, eq=False)
class Listed:
    """What is in the files, before anything is computed.

    Attributes:
        candidates: without energies.
        elements: atomic numbers that occur.
        labelled: energies that the files have, eV/atom, [M]; NaN where there are none.
    """

    candidates: Candidates
    elements: tuple[int, ...]
    labelled: Float[np.ndarray, " M"]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Energies of candidates by models.

    Attributes:
        mean: E, eV/atom, [M]; NaN where there is none.
        std: σ, eV/atom, [M]; None where the model does not tell.
        freedom: ν of the errors, see `kohn.structures.Energies`.
        problems: why there is no energy, or no minimum; empty where all is well, [M].
    """

    mean: Float[np.ndarray, " M"]
    std: Float[np.ndarray, " M"] | None
    freedom: float
    problems: Sequence[str]


def listed(files: Sequence[Path], *, periodic: bool | None = None) -> Listed:
    """Go through the files once: ids, formulas, elements, labels.

    Raises:
        InputError: see `kohn.read`.
    """
    parser, ids, which, labelled, places = Parser(), [], [], [], []
    elements: set[int] = set()
    named: list[bool] = []
    lines: list[int] = []
    for file in files:
        places.append((str(file), len(ids)))
        for k, s in enumerate(scan(file, periodic=periodic, labels="usable")):
            z, n = np.unique(s.numbers, return_counts=True)
            elements.update(z.tolist())
            symbols = tuple(symbol(int(i)) for i in z)
            formula = reduced(symbols, n.astype(float))[0]
            counts = dict(zip(symbols, n.astype(float).tolist(), strict=True))
            # Energies are per atom, and so are compositions: cells of one formula are the same.
            which.append(parser.of_cell(formula, counts))
            name = next((s.info[c] for c in (*COLUMNS["id"], "name") if c in s.info), None)
            named.append(name is not None)
            lines.append(k + 1)
            ids.append(f"{file}:{k}" if name is None else str(name))
            labelled.append(float(s.labels["energy"]) / len(s) if "energy" in s.labels else np.nan)
    candidates = Candidates(
        ids=ids,
        compositions=parser.compositions(),
        which=np.array(which, np.int32),
        energies=np.full(len(ids), np.nan),
        deviations=None,
        provenance={UNSTATED: ids},
        places=tuple(places),
        lines=np.array(lines),
        named=np.array(named, bool),
    )
    return Listed(candidates, tuple(sorted(elements)), np.array(labelled))


class Predictor:
    """A model, and how its energies are taken.

    Args:
        models: see `kohn.discovery.models`.
        elements: atomic numbers of all structures to come.
        relaxation: None for the structures as they are.

    Raises:
        InputError: an element that a model has not seen.
    """

    def __init__(
        self,
        models: Models,
        elements: Sequence[int],
        relaxation: Relaxation | None = None,
    ):
        self.model, self.elements, self.relaxation = models.predictive, tuple(elements), relaxation
        self.model.energies([], elements=self.elements)  # refuses elements that it has not seen
        self._relaxer = None if relaxation is None else Relaxer(models.first, elements=elements)

    @property
    def portion(self) -> int:
        """Structures between two records."""
        return PORTION if self._relaxer is None else RELAXED_PORTION

    def __call__(self, structures: Sequence[Structure]) -> tuple[Predicted, list[Structure]]:
        """Energies of one portion, and the structures as they are after relaxation."""
        kept, problems = list(structures), [""] * len(structures)
        sound = [i for i in range(len(structures)) if self._prepare(i, kept, problems)]
        try:
            found = self._energies([kept[i] for i in sound])
        except InputError:  # of one of them: which is only looked for now
            sound = [i for i in sound if self._has_neighbours(i, kept, problems)]
            found = self._energies([kept[i] for i in sound])
        atoms = np.array([len(kept[i]) for i in sound], float)

        def whole(values: np.ndarray) -> np.ndarray:
            row = np.full(len(structures), np.nan)
            row[sound] = values / atoms
            return row

        std = None if found.std is None else whole(found.std)
        return Predicted(whole(found.mean), std, found.freedom, problems), kept

    def _prepare(self, i: int, kept: list[Structure], problems: list[str]) -> bool:
        """Relax one, if that is wanted; whether it has an energy."""
        try:
            check_geometry(kept[i], self.model.cutoff)
            if self._relaxer is not None and self.relaxation is not None:
                found = self._relaxer(kept[i], **vars(self.relaxation))
                kept[i], problems[i] = found.structure, found.problem
        except InputError as error:
            problems[i] = error.message
            return False
        return True

    def _has_neighbours(self, i: int, kept: list[Structure], problems: list[str]) -> bool:
        try:
            neighbourhood(kept[i], self.model.cutoff)
        except InputError as error:
            problems[i] = error.message
            return False
        return True

    def _energies(self, structures: Sequence[Structure]) -> Energies:
        return self.model.energies(
            structures, elements=self.elements, deviations=self.model.confident
        )


def predicted(
    predictor: Predictor,
    files: Sequence[Path],
    work: Path,
    *,
    periodic: bool | None = None,
    advance: Callable[[int], None] | None = None,
) -> Predicted:
    """Energies of all structures of files; portions that are in the folder are not done again.

    Args:
        predictor: models.
        files: as `listed` went through them.
        work: folder of the records.
        periodic: as there.
        advance: called with the number of structures done since the last call.

    Raises:
        TrainingError: the disk refuses.
    """
    parts = []
    for k, portion in enumerate(_portions(files, periodic, predictor.portion)):
        record = work / f"predicted-{k:06d}.npz"
        if not record.is_file():
            found, structures = predictor(portion)
            if predictor.relaxation is not None:
                _write_relaxed(structures, found, work / f"relaxed-{k:06d}.extxyz")
            _write(found, record)
        parts.append(_read(record))
        if advance is not None:
            advance(len(portion))
    stds = [p.std for p in parts if p.std is not None]
    return Predicted(
        np.concatenate([p.mean for p in parts]),
        np.concatenate(stds) if stds else None,
        parts[0].freedom,
        [text for p in parts for text in p.problems],
    )


def _portions(files: Sequence[Path], periodic: bool | None, size: int) -> Iterator[list[Structure]]:
    structures = (s for file in files for s in scan(file, periodic=periodic, labels="none"))
    while portion := list(islice(structures, size)):
        yield portion


def _write(found: Predicted, record: Path) -> None:
    arrays = {
        "mean": found.mean,
        "freedom": np.array(found.freedom),
        "problems": np.array(found.problems, str),
    }
    if found.std is not None:
        arrays["std"] = found.std
    with replacing(record) as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _read(record: Path) -> Predicted:
    with np.load(record) as data:
        std, freedom = data.get("std"), float(data["freedom"])
        return Predicted(data["mean"], std, freedom, data["problems"].tolist())


def _write_relaxed(structures: Sequence[Structure], found: Predicted, file: Path) -> None:
    """The relaxed structures with their energy; written before the record that they are there."""
    bare = [replace(s, labels={}) for s in structures]
    told = zip(structures, found.mean.tolist(), strict=True)
    write(bare, file, predictions=[{"energy": e * len(s)} if e == e else {} for s, e in told])
