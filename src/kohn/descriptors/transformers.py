"""Provide descriptors as scikit-learn transformers of lists of structures.

    features = Soap(r_cut=5.0, average="outer").fit_transform(structures)
    model = make_pipeline(CoulombMatrix(), KernelRidge()).fit(structures, energies)

Structures are `ase.Atoms` or `kohn.structures.Structure`, in a list, a dataset or any iterable.
Memory holds one structure at a time: `stream` yields the features of each structure in turn, so
memory does not limit the number of structures; `transform` fills one array.

`fit` learns the layout of a row of features: the elements, or the size of the largest molecule. It
does not learn from the values of features, and it ignores y.
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
"""The largest number of matrix entries in Coulomb matrices that are computed at once."""


class StructureTransformer(TransformerMixin, BaseEstimator):
    """Base class of the transformers. Subclasses implement `_learn`, `_features` and `_names`.

    Attributes:
        elements_: atomic numbers of the described elements, ascending: the argument `elements`
            (symbols or numbers, or "H,C,O"), or the elements of the structures given to `fit`.
    """

    elements_: tuple[int, ...]

    def fit(self, X: Iterable[object], y: object = None) -> Self:
        """Learn the layout of a row of features: the elements, or the size of the largest molecule.

        Args:
            X: a list of structures, one structure, or paths of files; an iterator is consumed.
            y: not used.

        Raises:
            InputError: no structures, an empty structure, or an object that is not a structure.
            ConfigError: a setting is out of range.
        """
        occurring: set[int] = set()

        def recorded() -> Iterator[Structure]:
            for structure in structures(X):
                occurring.update(int(z) for z in structure.numbers)
                yield structure

        self._learn(recorded())
        if not occurring:
            raise InputError("there are no structures", expected="at least one")
        self.elements_ = tuple(sorted(self._chosen_elements(occurring)))
        return self

    def _chosen_elements(self, occurring: set[int]) -> set[int]:
        """Return the setting `elements` if it is given, else the occurring elements."""
        given: str | Sequence[int | str] | None = getattr(self, "elements", None)
        if given is None:
            return occurring
        chosen = {atomic_number(e) for e in (given.split(",") if isinstance(given, str) else given)}
        if occurring - chosen:
            raise InputError(
                f"the structures contain {', '.join(map(symbol, sorted(occurring - chosen)))}",
                expected=f"only {', '.join(map(symbol, sorted(chosen)))}, as given in `elements`",
                fix="add it to elements, or leave elements out",
            )
        return chosen

    def fit_transform(self, X: Iterable[object], y: object = None, **fit_params: Any) -> Any:
        """Apply `fit`, then `transform`; an iterator is first read into a list."""
        items = _iterable(X)
        items = items if isinstance(items, Sized) else list(items)
        return self.fit(items, y).transform(items)

    def transform(self, X: Iterable[object]) -> np.ndarray:
        """Return the features, float64 [rows, D]: one row for each structure, or, with
        `average="off"`, one row for each atom, structure after structure.

        Raises:
            InputError: see `stream`.
        """
        X = _iterable(X)
        return stack_blocks(self.stream(X), self._rows(X), len(self.get_feature_names_out()))

    def stream(self, X: Iterable[object]) -> Iterator[np.ndarray]:
        """Yield the features of each structure, float64 [1, D], or [atoms, D] with `average="off"`.

        Raises:
            InputError: an element that is not in `elements_`, no atoms, coincident atoms, positions
                that are not finite, or a periodic direction without a cell vector.
        """
        check_is_fitted(self)
        return self._features(structures(X))

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the features, object [D]."""
        check_is_fitted(self)
        return np.array(self._names(), dtype=object)

    def _rows(self, X: Iterable[object]) -> int | None:
        """Return the number of rows of features of X, or None if it is not known in advance."""
        return len(X) if isinstance(X, Sized) else None

    def _learn(self, structures: Iterator[Structure]) -> None:
        raise NotImplementedError

    def _features(self, structures: Iterator[Structure]) -> Iterator[np.ndarray]:
        raise NotImplementedError

    def _names(self) -> list[str]:
        raise NotImplementedError

    def _known(self, structures: Iterable[Structure]) -> Iterator[Structure]:
        """Yield the structures; refuse a structure with an element that is not in `elements_`."""
        for structure in structures:
            unknown = sorted({int(z) for z in structure.numbers} - set(self.elements_))
            if unknown:
                raise InputError(
                    f"there are no features for {', '.join(map(symbol, unknown))}",
                    where=structure.place,
                    expected=f"only {', '.join(map(symbol, self.elements_))}, as fitted",
                    fix="fit on structures with all elements, or leave this one out",
                )
            yield structure


class CoulombMatrix(StructureTransformer):
    """Coulomb matrices of molecules, one row each; module `coulomb_matrix` lists their defects.

    Args:
        kind: "sorted" by row norm, "raw", or the eigenvalues ("spectrum").
        size: rows of the padded matrix; None: number of atoms of the largest molecule in `fit`.
        unit: unit of distances, "bohr" or "angstrom" (as DScribe).

    The number of features is size² (the matrix row by row), or size for the spectrum. All elements
    are allowed. Periodic structures are refused, because the matrix does not include images.

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

    def _learn(self, structures: Iterator[Structure]) -> None:
        _choice("kind", self.kind, ("sorted", "raw", "spectrum"))
        _choice("unit", self.unit, tuple(coulomb.LENGTHS))
        largest = max((self._checked_size(s, self.size) for s in structures), default=0)
        self.size_ = largest if self.size is None else self.size

    def _features(self, structures: Iterator[Structure]) -> Iterator[np.ndarray]:
        size = self.size_
        of_block = _coulomb_function(self.kind, self.unit)
        while block := list(islice(structures, max(1, min(256, BLOCK // size**2)))):
            count = 1 << (len(block) - 1).bit_length()  # few shapes: each is compiled once
            positions, numbers = np.zeros((count, size, 3)), np.zeros((count, size), np.int32)
            for row, s in enumerate(block):
                n = self._checked_size(s, size)
                positions[row, :n], numbers[row, :n] = s.positions, s.numbers
            values = np.asarray(of_block(jnp.asarray(positions), jnp.asarray(numbers)))
            yield from values.reshape(count, 1, -1)[: len(block)]

    @staticmethod
    def _checked_size(s: Structure, size: int | None) -> int:
        """Return the number of atoms of a structure; refuse one that has no Coulomb matrix."""
        coulomb.check_molecule(s.positions, s.numbers, size, s.place)
        if s.periodic.any():
            raise InputError(
                "the Coulomb matrix does not include periodic images",
                where=s.place,
                expected="a molecule",
                received=f"periodic along {s.periodic.tolist()}",
                fix="take Soap or StructureFactor; for a molecule in a box, remove the periodicity",
            )
        return len(s)

    def _names(self) -> list[str]:
        if self.kind == "spectrum":
            return [f"λ{i}" for i in range(self.size_)]
        return [f"M{i},{j}" for i in range(self.size_) for j in range(self.size_)]


@lru_cache(maxsize=16)
def _coulomb_function(kind: coulomb.Kind, unit: coulomb.Unit) -> Any:
    """Return (positions [B, size, 3], numbers [B, size]) -> features; charge 0 is padding."""
    return compiled(jax.vmap(partial(coulomb.features, kind=kind, size=None, unit=unit)))


class Soap(StructureTransformer):
    """SOAP power spectra: one row for each structure, or, with `average="off"`, for each atom.

    The arguments are the settings of `SoapConfig`, lengths in Å, and `elements`. A structure has
    the average of the power spectra ("outer") or of the coefficients ("inner") of its atoms.
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
        """The settings as a valid `SoapConfig`."""
        return _config(soap.SoapConfig, self.get_params(deep=False))

    def _learn(self, structures: Iterator[Structure]) -> None:
        config = self.config
        any_structure, any_neighbour = False, False
        for structure in structures:
            any_structure = True
            any_neighbour = any_neighbour or len(pairs_within(structure, config.reach)[0]) > 0
        if any_structure and not any_neighbour:
            raise InputError(
                "no atom has a neighbour: the features would not depend on the positions",
                expected="distances below r_cut in some structure",
                received=f"r_cut {config.r_cut} Å",
                fix="raise r_cut, and check that positions are in Å",
            )

    def _features(self, structures: Iterator[Structure]) -> Iterator[np.ndarray]:
        return soap_stream.soap_features(self._known(structures), self.config, self.elements_)

    def _names(self) -> list[str]:
        return soap.feature_names(self.config, self.elements_)

    def _rows(self, X: Iterable[object]) -> int | None:
        if self.average != "off" or not isinstance(X, Sized):
            return super()._rows(X)
        return sum(map(len, structures(X)))


class StructureFactor(StructureTransformer):
    """Structure factors of crystals, one row each; settings as in `StructureFactorConfig`."""

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
        """The settings as a valid `StructureFactorConfig`."""
        return _config(structure_factor.StructureFactorConfig, self.get_params(deep=False))

    def _learn(self, structures: Iterator[Structure]) -> None:
        _ = self.config
        for _ in structures:
            pass

    def _features(self, structures: Iterator[Structure]) -> Iterator[np.ndarray]:
        return structure_factor.structure_factors(
            self._known(structures), self.config, self.elements_
        )

    def _names(self) -> list[str]:
        return structure_factor.feature_names(self.config, self.elements_)


def structures(items: Iterable[object]) -> Iterator[Structure]:
    """Yield each item as a `Structure`; labels of `ase.Atoms` are not read.

    If the source of an item is not known, error messages name its index as the frame.

    Raises:
        InputError: an item that is not a structure, or has no atoms.
    """
    return _structures(_iterable(items))


def _iterable(items: Any) -> Iterable[object]:
    """Read structures from paths, put one structure into a list, or return an iterable as given."""
    if isinstance(items, Structure) or _is_atoms(items):
        return [items]
    if isinstance(items, (str, Path)) or (
        isinstance(items, (list, tuple)) and items and isinstance(items[0], (str, Path))
    ):
        return read(items, labels="none")
    return items


def _structures(items: Iterable[object]) -> Iterator[Structure]:
    for index, item in enumerate(items):
        structure = _structure(item, Place(frame=index))
        if len(structure) == 0:
            raise InputError("the structure has no atoms", where=structure.place, fix="remove it")
        yield structure


def stack_blocks(blocks: Iterable[np.ndarray], rows: int | None, width: int) -> np.ndarray:
    """Stack blocks [n, width] into one array, allocated once if the number of rows is known."""
    values, filled = np.empty((1024 if rows is None else rows, width)), 0
    for block in blocks:
        end = filled + len(block)
        if end > len(values):
            values.resize((max(end, 2 * filled), width), refcheck=False)
        values[filled:end] = block
        filled = end
    values.resize((filled, width), refcheck=False)
    return values


def _is_atoms(item: Any) -> bool:
    return all(hasattr(item, name) for name in ("numbers", "positions", "cell", "pbc"))


def _structure(item: Any, place: Place) -> Structure:
    if isinstance(item, Structure):
        return item if item.place != Place() else replace(item, place=place)
    if not _is_atoms(item):
        raise InputError(
            "this is not a structure",
            where=place,
            expected="ase.Atoms or kohn.structures.Structure",
            received=type(item).__name__,
        )
    return from_ase(item, place=place, labels="none")


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            f"{name} is not known", expected=f"one of {', '.join(choices)}", received=repr(value)
        )


def _config(of: type[Config], settings: dict[str, Any]) -> Config:
    """Return the settings as a configuration; refuse the first setting that is not valid."""
    try:
        return of(**{name: value for name, value in settings.items() if name != "elements"})
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError) -> NoReturn:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    raise ConfigError(f"{name}: {in_words(first)}", received=repr(first.get("input"))) from None
