"""Stream SOAP descriptors of any number of structures in blocks of bounded memory.

A centre and its neighbours are one row, and rows do not depend on each other: rows of small
structures are joined, and rows of large structures divided, into blocks of one shape.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import jax.numpy as jnp
import numpy as np

from kohn.compilation import compiled
from kohn.descriptors.neighbour_blocks import in_blocks
from kohn.descriptors.soap import (
    Expansion,
    SoapConfig,
    coefficients,
    expansion,
    power_spectrum,
    soap,
)
from kohn.errors import ConfigError, InputError
from kohn.graphs import pairs_within, species_index
from kohn.structures import Structure

SLOTS = 16_384
"""The largest number of neighbours in a block."""


@dataclass(frozen=True, eq=False)
class Rows:
    """N centres with their neighbours in padded rows: the arguments of `soap` besides the table."""

    displacement: np.ndarray  # [N, K, 3]
    neighbour: np.ndarray  # [N, K]
    mask: np.ndarray  # [N, K]
    centre: np.ndarray  # [N]

    def __len__(self) -> int:
        return len(self.centre)


def soap_features(
    structures: Iterable[Structure], config: SoapConfig, elements: tuple[int, ...]
) -> Iterator[np.ndarray]:
    """Yield the SOAP features of each structure, float64: [atoms, D], or [1, D] if averaged.

    Args:
        structures: any iterable; it is read while the results are consumed.
        elements: atomic numbers, in any order.

    Raises:
        InputError: an element that is not among `elements`, an empty structure, or an invalid
            geometry.
        ConfigError: the cutoff is smaller than every distance; raised after the last structure.
    """
    elements = tuple(sorted(elements))
    table = expansion(config, elements)
    of_block, of_average = _functions(table, config.average)
    rows = _with_neighbours((rows_of(s, table) for s in structures), config)
    for values in _by_structure(rows, of_block):
        if config.average == "off":
            yield values
        elif config.average == "outer":
            yield values.mean(axis=0, keepdims=True)
        else:
            yield np.asarray(of_average(values.mean(axis=0, keepdims=True)))


@lru_cache(maxsize=32)
def _functions(table: Expansion, average: str):
    """Return two compiled functions: that of rows, and that of their mean if average is "inner"."""
    of_rows = coefficients if average == "inner" else soap
    return (
        compiled(
            lambda real, *rows: in_blocks(
                lambda *block: of_rows(table, *block), rows, table.size, real
            )
        ),
        compiled(lambda c: power_spectrum(table, c)),
    )


def rows_of(structure: Structure, table: Expansion) -> Rows:
    """Return the rows of a structure, with as many slots as its atoms have neighbours at most.

    Raises:
        InputError: see `soap_features`.
    """
    if len(structure) == 0:
        raise InputError("the structure has no atoms", where=structure.place, fix="remove it")
    species = species_index(structure, table.elements)
    i, j, _, d = pairs_within(structure, table.config.reach)
    n, counts = len(structure), np.bincount(i, minlength=len(structure))
    k = max(int(counts.max()), 1)
    slot = i.astype(np.int64) * k + np.arange(len(i)) - np.repeat(counts.cumsum() - counts, counts)
    displacement = np.ones((n * k, 3))  # padding: any vector except zero
    neighbour, mask = np.zeros(n * k, np.int32), np.zeros(n * k, bool)
    displacement[slot], neighbour[slot], mask[slot] = d, species[j], True
    return Rows(displacement.reshape(n, k, 3), neighbour.reshape(n, k), mask.reshape(n, k), species)


def _with_neighbours(all_rows: Iterable[Rows], config: SoapConfig) -> Iterator[Rows]:
    """Yield the rows of each structure; at the end, refuse if no atom has a neighbour."""
    any_neighbour, several = False, False
    for rows in all_rows:
        any_neighbour |= bool(rows.mask.any())
        several |= len(rows) > 1
        yield rows
    if several and not any_neighbour:
        raise ConfigError(
            "the cutoff is smaller than every distance: features would not depend on positions",
            received=f"r_cut {config.r_cut} Å",
            fix="raise r_cut, or check that the positions are in Å",
        )


def _by_structure(all_rows: Iterable[Rows], of_block) -> Iterator[np.ndarray]:
    """Yield the values of `of_block` for the rows of each structure, in order."""
    waiting: list[Rows] = []
    for rows in all_rows:
        k = max(r.mask.shape[1] for r in [*waiting, rows])
        if waiting and k * (sum(map(len, waiting)) + len(rows)) > SLOTS:
            yield from _compute(waiting, of_block)
            waiting = []
        waiting.append(rows)
    if waiting:
        yield from _compute(waiting, of_block)


def _compute(waiting: list[Rows], of_block) -> Iterator[np.ndarray]:
    """Yield the values of `of_block` for each structure; few shapes of blocks are compiled."""
    total, k = sum(map(len, waiting)), max(r.mask.shape[1] for r in waiting)
    if total * k < SLOTS // 4:  # little work: use a shape that other blocks will have
        k, size = -(-k // 16) * 16, max(16, 1 << (total - 1).bit_length())
    else:
        k = -(-k // 4) * 4
        size = _block_size(-(-total // -(-total * k // SLOTS)))
    padded = -(-total // size) * size
    displacement = np.ones((padded, k, 3))
    neighbour, mask = np.zeros((padded, k), np.int32), np.zeros((padded, k), bool)
    centre = np.zeros(padded, np.int32)
    ends = np.cumsum([len(r) for r in waiting])
    for r, end in zip(waiting, ends, strict=True):
        here, width = slice(end - len(r), end), r.mask.shape[1]
        displacement[here, :width], neighbour[here, :width] = r.displacement, r.neighbour
        mask[here, :width], centre[here] = r.mask, r.centre
    # Atoms without neighbours have features too: only padding is not computed.
    arrays = (np.arange(padded) < total, displacement, neighbour, mask, centre)
    values = [
        np.asarray(of_block(*(jnp.asarray(x[b : b + size]) for x in arrays)))
        for b in range(0, padded, size)
    ]
    joined = values[0] if len(values) == 1 else np.concatenate(values)
    yield from np.split(joined[:total], ends[:-1])


def _block_size(rows: int) -> int:
    """Round a number of rows up to one of eight sizes per factor of two: at most 12 % padding."""
    step = max(1, 2 ** max(0, int(rows - 1).bit_length() - 4))
    return -(-rows // step) * step
