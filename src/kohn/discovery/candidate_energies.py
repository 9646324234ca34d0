"""Compute energies of candidates with models, portion by portion, and save each portion.

Structures are read one after the other and not kept in memory. An energy that cannot be computed
(atoms on top of each other, a relaxation that diverges) is NaN with a reason; the run continues.
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
"""Number of structures in a portion without, and with, relaxation; a portion is one record."""


@dataclass(frozen=True)
class Relaxation:
    """Settings for the relaxation of structures before their energies are computed.

    Attributes:
        fmax: a relaxation has converged if the forces on all atoms are below this value, eV/Å.
        steps: the largest number of steps of one relaxation.
        cell: whether the cell is relaxed too; None relaxes the cells of crystals only.
    """

    fmax: float = 0.05
    steps: int = 500
    cell: bool | None = None


@dataclass(frozen=True, eq=False)
class FileContents:
    """The M candidates of the files and their labels, before any energy is computed.

    Attributes:
        candidates: the candidates, without energies.
        elements: atomic numbers of all elements that occur.
        labelled: labelled energies, eV/atom, [M]; NaN for a structure without a label.
    """

    candidates: Candidates
    elements: tuple[int, ...]
    labelled: Float[np.ndarray, " M"]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predicted energies of M candidates, per atom.

    Attributes:
        mean: predicted energies, eV/atom, [M]; NaN for an energy that could not be computed.
        std: standard deviations σ of `mean`, eV/atom, [M]; None if the model gives none.
        freedom: degrees of freedom ν of the errors' distribution; see `kohn.structures.Energies`.
        problems: why a candidate has no energy or no relaxed minimum, [M]; "" for no problem.
    """

    mean: Float[np.ndarray, " M"]
    std: Float[np.ndarray, " M"] | None
    freedom: float
    problems: Sequence[str]


def read_contents(files: Sequence[Path], *, periodic: bool | None = None) -> FileContents:
    """Read the ids, formulas, elements and labels of all structures in one pass over the files.

    Raises:
        InputError: a file that cannot be read; see `kohn.read`.
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
            # Energies and compositions are per atom, so cells of one formula are equivalent.
            which.append(parser.cell_index(formula, counts))
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
    return FileContents(candidates, tuple(sorted(elements)), np.array(labelled))


class Predictor:
    """A predictor of candidate energies, with or without a relaxation of the structures.

    Args:
        models: the models of the screening; see `kohn.discovery.models`.
        elements: atomic numbers of the elements in all structures that will be predicted.
        relaxation: settings of the relaxation; None to predict structures without relaxing them.

    Raises:
        InputError: an element on which a model was not trained.
    """

    def __init__(
        self,
        models: Models,
        elements: Sequence[int],
        relaxation: Relaxation | None = None,
    ):
        self.model, self.elements, self.relaxation = models.predictive, tuple(elements), relaxation
        self.model.energies([], elements=self.elements)  # refuses elements that are not known
        self._relaxer = None if relaxation is None else Relaxer(models.first, elements=elements)

    @property
    def portion(self) -> int:
        """Number of structures that are predicted together and saved in one record."""
        return PORTION if self._relaxer is None else RELAXED_PORTION

    def __call__(self, structures: Sequence[Structure]) -> tuple[Predicted, list[Structure]]:
        """Return the energies of the structures, and the structures, relaxed if requested."""
        relaxed, problems = list(structures), [""] * len(structures)
        usable = [i for i in range(len(structures)) if self._prepare(i, relaxed, problems)]
        try:
            energies = self._energies([relaxed[i] for i in usable])
        except InputError:  # the structure that causes it is searched for only now
            usable = [i for i in usable if self._has_neighbours(i, relaxed, problems)]
            energies = self._energies([relaxed[i] for i in usable])
        atoms = np.array([len(relaxed[i]) for i in usable], float)

        def per_atom(values: np.ndarray) -> np.ndarray:
            row = np.full(len(structures), np.nan)
            row[usable] = values / atoms
            return row

        std = None if energies.std is None else per_atom(energies.std)
        return Predicted(per_atom(energies.mean), std, energies.freedom, problems), relaxed

    def _prepare(self, i: int, relaxed: list[Structure], problems: list[str]) -> bool:
        """Relax structure i in place if requested; return whether its energy can be computed."""
        try:
            check_geometry(relaxed[i], self.model.cutoff)
            if self._relaxer is not None and self.relaxation is not None:
                minimum = self._relaxer(relaxed[i], **vars(self.relaxation))
                relaxed[i], problems[i] = minimum.structure, minimum.problem
        except InputError as error:
            problems[i] = error.message
            return False
        return True

    def _has_neighbours(self, i: int, relaxed: list[Structure], problems: list[str]) -> bool:
        try:
            neighbourhood(relaxed[i], self.model.cutoff)
        except InputError as error:
            problems[i] = error.message
            return False
        return True

    def _energies(self, structures: Sequence[Structure]) -> Energies:
        return self.model.energies(
            structures, elements=self.elements, deviations=self.model.confident
        )


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    work: Path,
    *,
    periodic: bool | None = None,
    advance: Callable[[int], None] | None = None,
) -> Predicted:
    """Return the energies of all structures in files; recorded portions are not computed again.

    Args:
        predictor: the predictor that is called with each portion of structures.
        files: the files that `read_contents` read, in the same order.
        work: the work folder, in which the energies of each portion are recorded.
        periodic: periodicity of all structures, as in `read_contents`; None: as in the files.
        advance: called after each portion with its number of structures.

    Raises:
        TrainingError: a record cannot be written to the disk.
    """
    parts = []
    for k, portion in enumerate(_portions(files, periodic, predictor.portion)):
        record = work / f"predicted-{k:06d}.npz"
        if not record.is_file():
            energies, structures = predictor(portion)
            if predictor.relaxation is not None:
                _write_relaxed(structures, energies, work / f"relaxed-{k:06d}.extxyz")
            _write(energies, record)
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


def _write(energies: Predicted, record: Path) -> None:
    arrays = {
        "mean": energies.mean,
        "freedom": np.array(energies.freedom),
        "problems": np.array(energies.problems, str),
    }
    if energies.std is not None:
        arrays["std"] = energies.std
    with replacing(record) as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _read(record: Path) -> Predicted:
    with np.load(record) as data:
        std, freedom = data.get("std"), float(data["freedom"])
        return Predicted(data["mean"], std, freedom, data["problems"].tolist())


def _write_relaxed(structures: Sequence[Structure], energies: Predicted, file: Path) -> None:
    """Write relaxed structures with their energies; the record of the portion comes later."""
    bare = [replace(s, labels={}) for s in structures]
    pairs = zip(structures, energies.mean.tolist(), strict=True)
    write(bare, file, predictions=[{"energy": e * len(s)} if e == e else {} for s, e in pairs])
