"""Descriptors as scikit-learn transformers of lists of structures.

    features = Soap(r_cut=5.0, average="outer").fit_transform(frames)
    model = make_pipeline(CoulombMatrix(), KernelRidge()).fit(frames, energies)

Frames are `ase.Atoms` or `kohn.structures.Structure`, in a list, a dataset or any iterable. One
structure is held at a time, beside the features asked for: `stream` yields those of each structure
in turn, so that the number of structures is not limited by memory; `transform` fills one array.

`fit` learns what gives features their places: the elements, or the largest molecule. Nothing is
learned of the numbers, and y is not looked at.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ValidationError
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from kohn.compilation import compiled
from kohn.descriptors import coulomb_matrix as coulomb
from kohn.descriptors import soap, soap_stream, structure_factor
from kohn.errors import ConfigError, InputError, Place
from kohn.graphs import pairs_within
from kohn.sections import in_words
from kohn.structures import Structure, from_ase, read
from kohn.structures.elements import atomic_number, symbol

Config = TypeVar("Config", bound=BaseModel)
BLOCK = 2**20
"""Numbers in the Coulomb matrices that are computed at once."""


class StructureTransformer(TransformerMixin, BaseEstimator):
    """What the transformers share. A subclass gives `_learn`, `_features` and `_names`.

    Attributes:
        elements_: atomic numbers that there are features for, ascending: those of the argument
            `elements` (symbols or numbers, or "H,C,O"), else those that `fit` has seen.
    """

    elements_: tuple[int, ...]

    def fit(self, X: Iterable[object], y: object = None) -> Self:
        """Learn the elements, and what else gives features their places.

        Args:
            X: structures: a list of them, one alone, or paths of files; an iterator is used up.
            y: not used.

        Raises:
            InputError: no structures, an empty one, or one that is not a structure.
            ConfigError: a setting out of range.
        """
        seen: set[int] = set()

        def noted() -> Iterator[Structure]:
            for structure in structures(X):
                seen.update(int(z) for z in structure.numbers)
                yield structure

        self._learn(noted())
        if not seen:
            raise InputError("there are no structures", expected="at least one")
        self.elements_ = tuple(sorted(self._asked_elements(seen)))
        return self

    def _asked_elements(self, seen: set[int]) -> set[int]:
        """Those that features are made for: `elements` where it is given, else those seen."""
        given: str | Sequence[int | str] | None = getattr(self, "elements", None)
        if given is None:
            return seen
        asked = {atomic_number(e) for e in (given.split(",") if isinstance(given, str) else given)}
        if seen - asked:
            raise InputError(
                f"there is {', '.join(map(symbol, sorted(seen - asked)))} in the structures",
                expected=f"only {', '.join(map(symbol, sorted(asked)))}, as `elements` says",
                fix="add it to elements, or leave elements out",
            )
        return asked

    def fit_transform(self, X: Iterable[object], y: object = None, **fit_params: Any) -> Any:
        """`fit` and `transform`. What an iterator gives is kept in a list between the two."""
        frames = _opened(X)
        frames = frames if isinstance(frames, Sized) else list(frames)
        return self.fit(frames, y).transform(frames)

    def transform(self, X: Iterable[object]) -> np.ndarray:
        """Features, float64 [rows, D]: a row for each structure, or with `average="off"` for
        each atom, those of one structure after those of the one before.

        Raises:
            InputError: see `stream`.
        """
        X = _opened(X)
        return gathered(self.stream(X), self._rows(X), len(self.get_feature_names_out()))

    def stream(self, X: Iterable[object]) -> Iterator[np.ndarray]:
        """Features of each structure in turn, float64 [1, D], or [atoms, D] with `average="off"`.

        Raises:
            InputError: an element that `fit` has not seen, no atoms, coincident atoms, positions
                that are not finite, a periodic direction without cell vector.
        """
        check_is_fitted(self)
        return self._features(structures(X))

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """What each feature is, object [D]."""
        check_is_fitted(self)
        return np.array(self._names(), dtype=object)

    def _rows(self, X: Iterable[object]) -> int | None:
        """How many rows X gives, where that can be known beforehand."""
        return len(X) if isinstance(X, Sized) else None

    def _learn(self, frames: Iterator[Structure]) -> None:
        raise NotImplementedError

    def _features(self, frames: Iterator[Structure]) -> Iterator[np.ndarray]:
        raise NotImplementedError

    def _names(self) -> list[str]:
        raise NotImplementedError

    def _known(self, frames: Iterable[Structure]) -> Iterator[Structure]:
        """The frames, as long as their elements are those of `fit`."""
        for structure in frames:
            unseen = sorted({int(z) for z in structure.numbers} - set(self.elements_))
            if unseen:
                raise InputError(
                    f"there are no features for {', '.join(map(symbol, unseen))}",
                    where=structure.place,
                    expected=f"only {', '.join(map(symbol, self.elements_))}, as fitted",
                    fix="fit on structures with all elements, or leave this one out",
                )
            yield structure


class CoulombMatrix(StructureTransformer):
    """Coulomb matrices of molecules, one row each; see `coulomb_matrix` for what each kind breaks.

    Args:
        kind: "sorted" by row norm, "raw", or the eigenvalues ("spectrum").
        size: rows of the padded matrix; None: atoms of the largest molecule of `fit`.
        unit: of distances, "bohr" or "angstrom" (DScribe's numbers).

    Features: size² (the matrix row by row), or size for the spectrum. Any element may come.
    Periodic structures are refused: images are not counted.

    Attributes:
        size_: rows of the padded matrix.
    """

    size_: int

    def __init__(
        self, kind: coulomb.Kind = "sorted", size: int | None = None, unit: coulomb.Unit = "bohr"
    ):
        self.kind = kind
        self.size = size
        self.unit = unit

    def _learn(self, frames: Iterator[Structure]) -> None:
        _choice("kind", self.kind, ("sorted", "raw", "spectrum"))
        _choice("unit", self.unit, tuple(coulomb.LENGTHS))
        largest = max((self._checked(s, self.size) for s in frames), default=0)
        self.size_ = largest if self.size is None else self.size

    def _features(self, frames: Iterator[Structure]) -> Iterator[np.ndarray]:
        size = self.size_
        of_block = _coulomb_function(self.kind, self.unit)
        while block := list(islice(frames, max(1, min(256, BLOCK // size**2)))):
            count = 1 << (len(block) - 1).bit_length()  # few shapes: each is compiled once
            positions, numbers = np.zeros((count, size, 3)), np.zeros((count, size), np.int32)
            for row, s in enumerate(block):
                n = self._checked(s, size)
                positions[row, :n], numbers[row, :n] = s.positions, s.numbers
            values = np.asarray(of_block(jnp.asarray(positions), jnp.asarray(numbers)))
            yield from values.reshape(count, 1, -1)[: len(block)]

    @staticmethod
    def _checked(s: Structure, size: int | None) -> int:
        """The number of atoms of a molecule that has a Coulomb matrix."""
        coulomb.check_molecule(s.positions, s.numbers, size, s.place)
        if s.periodic.any():
            raise InputError(
                "the Coulomb matrix does not know of periodic images",
                where=s.place,
                expected="a molecule",
                received=f"periodic along {s.periodic.tolist()}",
                fix="take Soap or StructureFactor; of a molecule in a box, remove the periodicity",
            )
        return len(s)

    def _names(self) -> list[str]:
        if self.kind == "spectrum":
            return [f"λ{i}" for i in range(self.size_)]
        return [f"M{i},{j}" for i in range(self.size_) for j in range(self.size_)]


@lru_cache(maxsize=16)
def _coulomb_function(kind: coulomb.Kind, unit: coulomb.Unit) -> Any:
    """positions [B, size, 3], numbers [B, size] -> features; atoms of charge 0 are padding."""
    return compiled(jax.vmap(partial(coulomb.features, kind=kind, size=None, unit=unit)))


class Soap(StructureTransformer):
    """SOAP power spectra: a row for each structure, or with `average="off"` for each atom.

    The arguments are those of `SoapConfig`, lengths in Å. Averages are of power spectra ("outer")
    or of coefficients ("inner").
    """

    def __init__(
        self,
        r_cut: float = 5.0,
        n_max: int = 8,
        l_max: int = 6,
        sigma: float = 0.5,
        radial: str = "gto",
        smoothing_width: float | None = None,
        scaling_radius: float | None = None,
        scaling_exponent: float = 4.0,
        centre_weight: float = 1.0,
        species_channels: int | None = None,
        average: str = "outer",
        convention: str = "kohn",
        elements: str | Sequence[int | str] | None = None,
    ):
        self.r_cut = r_cut
        self.n_max = n_max
        self.l_max = l_max
        self.sigma = sigma
        self.radial = radial
        self.smoothing_width = smoothing_width
        self.scaling_radius = scaling_radius
        self.scaling_exponent = scaling_exponent
        self.centre_weight = centre_weight
        self.species_channels = species_channels
        self.average = average
        self.convention = convention
        self.elements = elements

    @property
    def config(self) -> soap.SoapConfig:
        """The settings of the functions beneath."""
        return _config(soap.SoapConfig, self.get_params(deep=False))

    def _learn(self, frames: Iterator[Structure]) -> None:
        config = self.config
        found, neighbours = False, False
        for structure in frames:
            found = True
            neighbours = neighbours or len(pairs_within(structure, config.reach)[0]) > 0
        if found and not neighbours:
            raise InputError(
                "no atom has a neighbour: the features would hold nothing of the structures",
                expected="distances below r_cut in some structure",
                received=f"r_cut {config.r_cut} Å",
                fix="raise r_cut, and check that positions are in Å",
            )

    def _features(self, frames: Iterator[Structure]) -> Iterator[np.ndarray]:
        return soap_stream.describe(self._known(frames), self.config, self.elements_)

    def _names(self) -> list[str]:
        return soap.feature_names(self.config, self.elements_)

    def _rows(self, X: Iterable[object]) -> int | None:
        if self.average != "off" or not isinstance(X, Sized):
            return super()._rows(X)
        return sum(map(len, structures(X)))


class StructureFactor(StructureTransformer):
    """Structure factors of crystals, one row each; arguments as in `StructureFactorConfig`."""

    def __init__(
        self,
        k_max: float = 8.0,
        bins: int = 32,
        width: float | None = None,
        window_power: int = 6,
        elements: str | Sequence[int | str] | None = None,
    ):
        self.k_max = k_max
        self.bins = bins
        self.width = width
        self.window_power = window_power
        self.elements = elements

    @property
    def config(self) -> structure_factor.StructureFactorConfig:
        """The settings of the functions beneath."""
        return _config(structure_factor.StructureFactorConfig, self.get_params(deep=False))

    def _learn(self, frames: Iterator[Structure]) -> None:
        _ = self.config
        for _ in frames:
            pass

    def _features(self, frames: Iterator[Structure]) -> Iterator[np.ndarray]:
        return structure_factor.describe(self._known(frames), self.config, self.elements_)

    def _names(self) -> list[str]:
        return structure_factor.feature_names(self.config, self.elements_)


def structures(frames: Iterable[object]) -> Iterator[Structure]:
    """Each frame as a `Structure` without labels, placed by its index where it has no place.

    Raises:
        InputError: something that is no structure, or has no atoms.
    """
    return _structures(_opened(frames))


def _opened(frames: Any) -> Iterable[object]:
    """The structures of files where these are paths; one structure alone in a list."""
    if isinstance(frames, Structure) or _is_atoms(frames):
        return [frames]
    if isinstance(frames, (str, Path)) or (
        isinstance(frames, (list, tuple)) and frames and isinstance(frames[0], (str, Path))
    ):
        return read(frames, labels="none")
    return frames


def _structures(frames: Iterable[object]) -> Iterator[Structure]:
    for index, frame in enumerate(frames):
        structure = _structure(frame, Place(frame=index))
        if len(structure) == 0:
            raise InputError("the frame has no atoms", where=structure.place, fix="remove it")
        yield structure


def gathered(blocks: Iterable[np.ndarray], rows: int | None, width: int) -> np.ndarray:
    """The blocks [n, width] under each other in one array, allocated once where rows are known."""
    values, filled = np.empty((1024 if rows is None else rows, width)), 0
    for block in blocks:
        end = filled + len(block)
        if end > len(values):
            values.resize((max(end, 2 * filled), width), refcheck=False)
        values[filled:end] = block
        filled = end
    values.resize((filled, width), refcheck=False)
    return values


def _is_atoms(frame: Any) -> bool:
    return all(hasattr(frame, name) for name in ("numbers", "positions", "cell", "pbc"))


def _structure(frame: Any, place: Place) -> Structure:
    if isinstance(frame, Structure):
        return frame if frame.place != Place() else replace(frame, place=place)
    if not _is_atoms(frame):
        raise InputError(
            "this is not a structure",
            where=place,
            expected="ase.Atoms or kohn.structures.Structure",
            received=type(frame).__name__,
        )
    return from_ase(frame, place=place, labels="none")


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            f"{name} is not known", expected=f"one of {', '.join(choices)}", received=repr(value)
        )


def _config(of: type[Config], settings: dict[str, Any]) -> Config:
    """Settings that hold, or an error that names the first that does not."""
    try:
        return of(**{name: value for name, value in settings.items() if name != "elements"})
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError) -> NoReturn:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    raise ConfigError(f"{name}: {in_words(first)}", received=repr(first.get("input"))) from None
