"""Predict energies, forces and stresses with a model and the energies E0 of lone atoms.

E = Σ_i E0(z_i) + Σ_i model_i over atoms i of elements z_i, the first sum in float64, never cast.
Forces and stress are derivatives of E, unless the model predicts forces directly (`conservative`).
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import jax
import numpy as np

from kohn.errors import ConfigError, InputError
from kohn.graphs import (
    Graph,
    Neighbourhood,
    Shape,
    check_geometry,
    collate,
    needed_shape,
    species_index,
)
from kohn.models import CONFIDENCES, Confidence, Derived, is_conservative
from kohn.models.network import for_inference
from kohn.potential.compiled_model import CompiledModel
from kohn.potential.extrapolation import ExtrapolationWarning
from kohn.potential.moving import MovingPotential
from kohn.potential.reference import Reference
from kohn.potential.trained_network import TrainedNetwork
from kohn.structures import Energies, Prediction, Readable, Structure, structures_of
from kohn.structures.elements import symbol
from kohn.typing import Document


@dataclass(frozen=True, eq=False, repr=False)
class Potential(TrainedNetwork):
    """A model of energies, with the energies of lone atoms and its provenance.

    Attributes:
        model: computes energies of atoms from a graph, see `kohn.models`.
        e0s: atomic number -> energy of the lone atom, eV.
        provenance: how the model was made: data, checksums, settings, versions.
    """

    e0s: dict[int, float]
    provenance: Document = field(default_factory=dict)

    @property
    def dtype(self) -> type:
        """The type in which the network computes: float32 or float64."""
        return np.dtype(self.model.scale.dtype).type

    @property
    def conservative(self) -> bool:
        """Whether forces and stress are derivatives of the energy. Otherwise the model predicts
        forces directly, and no stress."""
        return is_conservative(self.model)

    def compiled(self, elements: tuple[int, ...]) -> CompiledModel:
        """Return the compiled model for structures of these elements only: if the model knows many
        elements and few are needed, this saves most of the work per element.

        Raises:
            InputError: an element that the model has not seen.
        """
        if elements not in self._compiled_models:
            unseen = [z for z in elements if z not in self.elements]
            if unseen:
                raise InputError(
                    f"the model has not seen {', '.join(map(symbol, unseen))}",
                    expected=f"only {', '.join(map(symbol, self.elements))}",
                )
            self._compiled_models[elements] = CompiledModel(
                for_inference(self.model.restricted(elements))
            )
        return self._compiled_models[elements]

    @property
    def confident(self) -> bool:
        """Whether the model predicts standard deviations of its errors."""
        return type(self.model) in CONFIDENCES

    @cached_property
    def _confidence(self) -> Confidence:
        if not self.confident:
            raise ConfigError(
                "this model has no posterior, so its uncertainty is unknown",
                expected="a model of the family gaussian-process, or several models",
                received=self.model.config.family,
                fix="leave the uncertainty out",
            )
        return CONFIDENCES[type(self.model)](self.model)

    @cached_property
    def _compiled_models(self) -> dict[tuple[int, ...], CompiledModel]:
        return {}

    @cached_property
    def reference(self) -> Reference:
        """The zero of the energies: the E0s, to which results of the model are added."""
        return Reference(self.e0s)

    def zero(self, structure: Structure) -> float:
        """Return the part of the energy that is not learned: E0s and baseline, eV."""
        return self.reference.total(structure)

    def moving(self, *, skin: float = 0.2) -> MovingPotential:
        """Return a `MovingPotential` of this potential (its class has more arguments)."""
        return MovingPotential(self, skin=skin)

    def complete(self, structure: Structure, d: Derived, g: int, rows: slice) -> Prediction:
        """Compute energy, forces and stress of a structure from the model's results for its batch;
        see `Reference.complete`."""
        return self.reference.complete(structure, d, g, rows, stress=self.conservative)

    def predict(
        self,
        structures: Readable,
        *,
        slots: int = 65_536,
        uncertainty: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """Predict energies, forces and stresses of structures, in their order, always as a list.

        Structures unlike the training data are predicted with a warning
        (`ExtrapolationWarning`; `Prediction.outside` names the differences).

        Args:
            structures: anything that `kohn.read` takes; computed in batches of similar size.
            slots: largest number of edges in a batch, padding included; it bounds memory.
            uncertainty: also compute standard deviations of errors, one structure at a time.
            advance: called with the number of structures done since the last call.

        Raises:
            InputError: an element that the model has not seen; an impossible geometry.
            ConfigError: `uncertainty` is requested, and the model has no posterior.
        """
        confidence = self._confidence if uncertainty else None
        structures = structures_of(structures)
        for s in structures:  # before any computation
            species_index(s, self.elements)
            check_geometry(s, self.cutoff)
        results: list[Prediction | None] = [None] * len(structures)
        present = {int(z) for s in structures for z in np.unique(s.numbers)}
        evaluate = self.compiled(tuple(sorted(present)))
        batches = batched(structures, evaluate.elements, self.domain.rows, self.dtype, slots)
        for indices, neighbourhoods, graph in batches:
            derived = jax.device_get(evaluate(graph))
            start = 0
            for g, (i, h) in enumerate(zip(indices, neighbourhoods, strict=True)):
                rows = slice(start, start + len(structures[i]))
                values = self.complete(structures[i], derived, g, rows).values
                if confidence is not None:
                    v = confidence.variances(structures[i])
                    values |= {
                        "energy_std": np.asarray(np.sqrt(v.energy)),
                        "forces_std": np.sqrt(v.forces),
                    }
                results[i] = Prediction(values, self.domain.outside(structures[i], h))
                start = rows.stop
            if advance is not None:
                advance(len(indices))
        predictions = [r for r in results if r is not None]
        warn_of_extrapolation(structures, [r.outside for r in predictions])
        return predictions

    def energies(
        self,
        structures: Sequence[Structure],
        *,
        elements: Sequence[int] | None = None,
        slots: int = 65_536,
        deviations: bool = False,
    ) -> Energies:
        """Predict energies only, without forces, for very many structures that come in portions.

        Batches are padded to a few shapes, so that later portions compile nothing new.

        Args:
            structures: the structures of one portion.
            elements: atomic numbers in all portions, so that the same functions serve them all.
            slots: largest number of edges in a batch, padding included; it bounds memory.
            deviations: also compute standard deviations of the errors.

        Raises:
            InputError, ConfigError: see `predict`.
        """
        for s in structures:
            species_index(s, self.elements)
            check_geometry(s, self.cutoff)
        present = {int(z) for s in structures for z in np.unique(s.numbers)}
        evaluate = self.compiled(tuple(sorted(present | set(elements or ()))))
        totals = np.empty(len(structures))
        batches = filled_batches(structures, evaluate.elements, self.domain.rows, self.dtype, slots)
        for indices, graph in batches:
            energies = np.asarray(jax.device_get(evaluate.energies(graph)), np.float64)
            zero = [self.reference.total(structures[i]) for i in indices]
            totals[indices] = np.array(zero) + energies[: len(indices)]
        if not deviations:
            return Energies(totals)
        return Energies(totals, np.sqrt(self._confidence.energy_variances(structures)))


def warn_of_extrapolation(
    structures: Sequence[Structure], outside: Sequence[tuple[str, ...]]
) -> None:
    """Warn of structures that are unlike the training data, if any."""
    unlike = [(s, texts) for s, texts in zip(structures, outside, strict=True) if texts]
    if unlike:
        first, texts = unlike[0]
        where = f" ({first.place})" if str(first.place) else ""
        warnings.warn(
            f"{len(unlike)} of {len(structures)} structures are unlike the training data, so "
            f"their predictions may be wrong; the first{where}: {'; '.join(texts)}",
            ExtrapolationWarning,
            stacklevel=3,
        )


def batched(
    structures: Sequence[Structure],
    elements: tuple[int, ...],
    rows_of: Callable[[Structure], Neighbourhood],
    dtype: type,
    slots: int,
    charges: Sequence[float] | None = None,
) -> Iterator[tuple[list[int], list[Neighbourhood], Graph]]:
    """Yield batches of structures of similar size, with the indices of their structures.

    Args:
        elements: atomic numbers in the order of the model. dtype: number type of the network.
        rows_of: returns the neighbours of a structure.
        slots: largest number of edges in a batch of several structures, padding included.
        charges: total charges of the structures, e, if the model needs them, else None.
    """
    order = sorted(range(len(structures)), key=lambda i: len(structures[i]))
    batch: list[int] = []
    rows: list[Neighbourhood] = []

    def graph() -> Graph:
        chosen = [structures[i] for i in batch]
        q = None if charges is None else [charges[i] for i in batch]
        shape = roomy(needed_shape(rows))
        return collate(chosen, rows, elements, shape, dtype=dtype, charges=q)

    for i in order:
        h = rows_of(structures[i])
        n, k, _ = roomy(needed_shape([*rows, h]))
        if rows and n * k > slots:
            yield batch, rows, graph()
            batch, rows = [], []
        batch.append(i)
        rows.append(h)
    if batch:
        yield batch, rows, graph()


WIDTHS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512)
"""Numbers of slots per row among which `filled_batches` chooses."""
FILLED = 512
"""Largest number of structures in a batch of `filled_batches`."""


def filled_batches(
    structures: Sequence[Structure],
    elements: tuple[int, ...],
    rows_of: Callable[[Structure], Neighbourhood],
    dtype: type,
    slots: int,
) -> Iterator[tuple[list[int], Graph]]:
    """Yield batches of few shapes, so that little is compiled, with the indices of structures.

    Structures that need the same number of slots per row (`WIDTHS`) share batches of one shape; the
    last of these is padded to it. A structure too large for this shape gets a shape of its own.
    """
    waiting: dict[int, tuple[list[int], list[Neighbourhood]]] = {}

    def graph(batch: list[int], rows: list[Neighbourhood], shape: Shape) -> Graph:
        return collate([structures[i] for i in batch], rows, elements, shape, dtype=dtype)

    def full(width: int) -> Shape:
        return Shape(max(slots // width, 2), width, FILLED)

    for i, s in enumerate(structures):
        h = rows_of(s)
        width = next((w for w in WIDTHS if w >= h.width), 0)
        if not width or len(s) >= full(width).rows:
            yield [i], graph([i], [h], roomy(needed_shape([h])))
            continue
        batch, rows = waiting.setdefault(width, ([], []))
        if len(batch) == FILLED or needed_shape([*rows, h]).rows > full(width).rows:
            yield batch, graph(batch, rows, full(width))
            batch, rows = waiting[width] = ([], [])
        batch.append(i)
        rows.append(h)
    for width, (batch, rows) in sorted(waiting.items()):
        yield batch, graph(batch, rows, full(width))


def roomy(shape: Shape) -> Shape:
    """Round a shape up, so that similar batches share a compiled function.

    Rows and structures are rounded up to the next of four steps between powers of two (at most 25 %
    more), slots to the next multiple of four.
    """

    def up(n: int) -> int:
        step = max(1, 2 ** max(0, int(n - 1).bit_length() - 3))
        return -(-n // step) * step

    return Shape(up(shape.rows), -(-shape.slots // 4) * 4, up(shape.structures))
