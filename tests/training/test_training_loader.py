"""Batches: every structure once an epoch, in an order of its own, beside its own labels."""

import numpy as np
import pytest
from brute_force import structure

from kohn.potential import Reference
from kohn.training.loader import Loader
from kohn.training.losses import EnergyTask, LossWeights

COUNT = 11


def numbered(k):
    """A chain of 2 to 4 atoms, 1 Å apart, with its own number for an energy."""
    chain = structure(np.arange(2 + k % 3)[:, None] * np.array([1.0, 0.0, 0.0]))
    return chain.with_labels(energy=np.array(float(k)))


@pytest.fixture(scope="module")
def loader():
    ones = LossWeights(1.0, 1.0, 1.0)
    task = EnergyTask(Reference({14: 0.0}), ones, ones)
    return Loader.of([numbered(k) for k in range(COUNT)], task, (14,), 1.5, 3, np.float64)


def order(loader, seed, epoch):
    return [i for batch in loader.epoch(seed, epoch) for i in batch.indices]


def test_every_epoch_has_every_structure_once(loader):
    for epoch in range(3):
        assert sorted(order(loader, 5, epoch)) == list(range(COUNT))
    assert [len(b.indices) for b in loader.epoch(5, 0)] == [3, 3, 3, 2]
    assert loader.steps == 4
    assert [i for b in loader.batches() for i in b.indices] == list(range(COUNT))


def test_the_order_is_decided_by_seed_and_epoch(loader):
    """No two alike, and the same again, so that a resumed run sees the same batches."""
    cases = [(seed, epoch) for seed in range(3) for epoch in range(3)]
    orders = [tuple(order(loader, *case)) for case in cases]
    assert len(set(orders)) == len(cases)
    assert orders == [tuple(order(loader, *case)) for case in cases]
    assert tuple(range(COUNT)) not in orders


def test_labels_and_atoms_are_those_of_the_structures_of_the_batch(loader):
    for batch in loader.epoch(1, 2):
        n = len(batch.indices)
        np.testing.assert_array_equal(batch.targets.energy[:n], batch.indices)
        np.testing.assert_array_equal(batch.targets.energy_weight, np.arange(3) < n)
        sizes = [2 + i % 3 for i in batch.indices]
        np.testing.assert_array_equal(batch.targets.atoms[:n], sizes)
        of = batch.graph.structure[batch.graph.atom_mask]
        np.testing.assert_array_equal(of, np.repeat(np.arange(n), sizes))
        # A chain of m atoms has 2 (m − 1) directed pairs of neighbours.
        edges = batch.graph.edge_mask.sum(axis=1)
        assert [edges[batch.graph.atom_mask][of == g].sum() for g in range(n)] == [
            2 * (m - 1) for m in sizes
        ]


def test_few_shapes_hold_all_batches(loader):
    seen = {b.graph.edge_mask.shape for epoch in range(6) for b in loader.epoch(0, epoch)}
    assert seen <= {(s.rows, s.slots) for s in loader.shapes}
    assert len(loader.shapes) <= 4


def test_neighbours_are_counted_by_atom(loader):
    """Four chains of 2 and of 3 atoms, three of 4: 32 atoms and 2 (4 · 1 + 4 · 2 + 3 · 3) edges."""
    assert loader.average_neighbours == pytest.approx(42 / 32)
    waste = loader.waste()
    assert waste.real_slots == 42
    shapes = [b.graph.edge_mask.size for b in loader.batches()]
    assert waste.padded_slots == sum(shapes) - 42
