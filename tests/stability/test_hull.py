"""The lower hull: planes against linear programs, on systems made to be difficult."""

from dataclasses import replace

import numpy as np
import pytest
from systems import random_system

from kohn.errors import InputError
from kohn.stability.facets import cheapest_mixtures
from kohn.stability.hull import Facets, LowerHull

KINDS = ("small", "large", "slivers", "dilute")


def queries(x, seed):
    rng = np.random.default_rng(seed)
    return np.vstack([x[::4], rng.dirichlet(np.full(x.shape[1], 0.5), 6)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("elements", [2, 3, 4, 5, 6])
def test_planes_agree_with_programs(elements, kind):
    for seed in range(4):
        x, e = random_system(seed, elements, kind)
        hull, q = LowerHull(x, e), queries(x, seed)
        by_program = hull.height(q, "program")
        np.testing.assert_allclose(hull.height(q), by_program, rtol=0, atol=1e-10)
        found = hull.decompose(q)
        np.testing.assert_allclose(
            np.einsum("mk,mkd->md", found.shares, x[found.entries]), q, atol=1e-8
        )
        energy = np.einsum("mk,mk->m", found.shares, e[found.entries])
        np.testing.assert_allclose(energy, by_program, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_facets_fill_the_simplex(kind):
    """The volumes |det A_f| add to 1: no facet is missing and none is there twice."""
    for elements in (2, 3, 4, 6):
        facets = LowerHull(*random_system(1, elements, kind)).facets
        volumes = 1 / np.abs(np.linalg.det(facets.inverses))
        assert volumes.sum() == pytest.approx(1, abs=1e-10)


def test_a_hull_that_ignores_a_facet_is_found_out():
    """The checks above are sharp: without any one facet both fail."""
    x, e = random_system(0, 3, "small")
    hull = LowerHull(x, e)
    centres = x[hull.facets.entries].mean(axis=1)
    right = hull.height(centres, "program")
    for f in range(len(hull.facets.planes)):
        rest = np.arange(len(hull.facets.planes)) != f
        broken = LowerHull(x, e)
        kept = Facets(*(getattr(hull.facets, k)[rest] for k in ("entries", "planes", "inverses")))
        broken.__dict__["facets"] = kept
        assert np.abs(broken.height(centres) - right).max() > 1e-6
        assert (1 / np.abs(np.linalg.det(kept.inverses))).sum() < 1 - 1e-6


def test_seven_elements_by_programs():
    """The same answers as planes give, and those of the smaller system on its face."""
    x, e = random_system(0, 7, "small", 25)
    hull, q = LowerHull(x, e), queries(x, 0)
    assert hull.method == "program"
    np.testing.assert_allclose(hull.height(q), hull.height(q, "facets"), rtol=0, atol=1e-10)
    face = x[:, 6] == 0
    small = LowerHull(x[face][:, :6], e[face])
    np.testing.assert_allclose(hull.height(x[face]), small.height(x[face][:, :6]), atol=1e-10)
    found = hull.decompose(q)
    assert found.shares.shape == (len(q), 7)
    np.testing.assert_allclose(
        np.einsum("mk,mkd->md", found.shares, x[found.entries]), q, atol=1e-8
    )


def test_order_and_offsets_do_not_matter():
    x, e = random_system(3, 4, "small")
    q = queries(x, 3)
    height = LowerHull(x, e).height(q)
    order = np.random.default_rng(0).permutation(len(x))
    columns = [2, 0, 3, 1]
    other = LowerHull(x[order][:, columns], e[order]).height(q[:, columns])
    np.testing.assert_allclose(other, height, atol=1e-13)


def test_one_element():
    hull = LowerHull(np.ones((3, 1)), np.array([0.2, 0.0, 0.1]))
    np.testing.assert_allclose(hull.distance(hull.fractions, hull.energies), [0.2, 0, 0.1])
    assert hull.decompose(np.ones((1, 1))).entries.tolist() == [[1]]


def test_elements_alone():
    """Nothing below zero: the hull is flat."""
    hull = LowerHull(np.vstack([np.eye(3), [[0.5, 0.5, 0]]]), np.array([0, 0, 0, 0.3]))
    assert hull.height(np.array([[0.2, 0.3, 0.5]])) == pytest.approx(0, abs=1e-15)


def test_no_mixture():
    hull = LowerHull(np.array([[1.0, 0], [0, 1]]), np.zeros(2))
    with pytest.raises(InputError, match="no mixture"):
        hull.program(np.array([0.5, 0.5]), np.array([1]))
    assert replace(hull, energies=np.zeros(2)).elements == 2


@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_entry_that_is_left_out_takes_no_part(k):
    """Three entries of one compound, at −3, −2 and −1 eV/atom: without the lowest the next counts,
    whichever row it has."""
    energies = np.roll([-3.0, -2.0, -1.0], k)
    fractions = np.array([[0.5, 0.5]] * 3 + [[1.0, 0.0], [0.0, 1.0]])
    energies = np.append(energies, [0.0, 0.0])
    lowest = np.array([k, -1])
    heights = cheapest_mixtures(
        fractions, energies, fractions[[0, 0]], np.array([[3, 4], [3, 4]]), lowest
    )[0]
    np.testing.assert_allclose(heights, [-2.0, -3.0], rtol=0, atol=1e-12)
