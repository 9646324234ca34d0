"""Products of tensors: against dense contractions, and counted by group theory."""

from itertools import permutations

import numpy as np
import pytest
from brute_force import random_rotation

from kohn.o3 import (
    clebsch_gordan,
    degree_slice,
    evaluate_chain,
    product,
    symmetric_product,
    wigner_d,
)


def tensors(rng, l_max, samples=(7,)):
    return {l: tuple(rng.normal(size=(2 * l + 1, *samples))) for l in range(l_max + 1)}


def turned(a, rotation):
    return {
        l: tuple(np.asarray(wigner_d(rotation, l)) @ np.stack(components))
        for l, components in a.items()
    }


def dense_chain(chain, l_max):
    """The chain as an array [out, (l_max+1)², …]: one axis a factor, no symmetry used."""
    size = (l_max + 1) ** 2
    value = np.zeros((2 * chain[0] + 1, size))
    value[:, degree_slice(chain[0])] = np.eye(2 * chain[0] + 1)
    left = chain[0]
    for l, out in zip(chain[1::2], chain[2::2], strict=True):
        coupling = np.zeros((2 * left + 1, size, 2 * out + 1))
        coupling[:, degree_slice(l)] = clebsch_gordan(left, l, out)
        value = np.moveaxis(np.tensordot(value, coupling, axes=(0, 0)), -1, 0)
        left = out
    return value


def symmetrised(u):
    axes = range(1, u.ndim)
    orders = list(permutations(axes))
    return sum(np.transpose(u, (0, *order)) for order in orders) / len(orders)


def dense_product(symmetric, a, weights):
    """Σ_ν Σ_η w_η U_η[m, i, j, …] A_i A_j … with symmetrised U: the definition, at full cost."""
    flat = np.concatenate([np.stack(a[l]) for l in range(symmetric.l_max + 1)])
    result = 0.0
    for chains, w in zip(symmetric.paths, weights, strict=True):
        for chain, weight in zip(chains, w, strict=True):
            u = symmetrised(dense_chain(chain, symmetric.l_max))
            value = u[..., None] * np.ones(flat.shape[1])
            for _ in range(u.ndim - 1):
                value = np.einsum("mi...s,is->m...s", value, flat)
            result = result + weight * value
    return result


def random_weights(rng, symmetric, samples=1):
    return [rng.normal(size=(len(p), samples)) for p in symmetric.paths]


def against_dense(evaluate, l_max, degree, order) -> float:
    rng = np.random.default_rng(0)
    symmetric = symmetric_product(l_max, degree, order)
    a, w = tensors(rng, l_max, (5,)), random_weights(rng, symmetric)
    expected = dense_product(symmetric, a, w)
    return float(
        np.abs(np.stack(evaluate(symmetric, a, w)) - expected).max() / np.abs(expected).max()
    )


def equivariance(evaluate, l_max, degree, order) -> float:
    rng = np.random.default_rng(1)
    symmetric = symmetric_product(l_max, degree, order)
    a, w = tensors(rng, l_max), random_weights(rng, symmetric)
    worst = 0.0
    for r in (random_rotation(rng), -random_rotation(rng)):
        left = np.stack(evaluate(symmetric, turned(a, r), w))
        right = np.asarray(wigner_d(r, degree)) @ np.stack(evaluate(symmetric, a, w))
        worst = max(worst, np.abs(left - right).max() / np.abs(right).max())
    return float(worst)


def call(symmetric, a, w):
    return symmetric(a, w)


CASES = [(3, 0, 3), (3, 1, 3), (3, 2, 3), (2, 0, 4), (2, 1, 4), (1, 1, 3), (3, 0, 1), (3, 1, 2)]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("check", [against_dense, equivariance])
def test_symmetric_product(check, case):
    assert check(call, *case) < 1e-12


def one_component_flipped(symmetric, a, w):
    a = {**a, 2: (-a[2][0], *a[2][1:])}
    return symmetric(a, w)


def weighted_by_m(symmetric, a, w):
    return tuple((1 + 1e-9 * m) * b for m, b in enumerate(symmetric(a, w)))


def paths_exchanged(symmetric, a, w):
    return symmetric(a, [*w[:-1], w[-1][::-1]])


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (against_dense, one_component_flipped),
        (against_dense, weighted_by_m),
        (against_dense, paths_exchanged),
        (equivariance, one_component_flipped),
        (equivariance, weighted_by_m),
    ],
)
def test_planted_faults_in_products_are_seen(check, fault):
    assert check(fault, 3, 1, 3) > 1e-10


def count_by_characters(l_max: int, degree: int, order: int) -> int:
    """How often degree L (natural parity) occurs in Sym^ν(⊕_l l), by averaging characters
    over O(3): no couplings, no random numbers."""
    n = 400
    theta = np.pi * (np.arange(n) + 0.5) / n
    measure = 2 * np.sin(theta / 2) ** 2 / n

    def chi(l, angle, sign):
        return sign**l * np.sin((2 * l + 1) * angle / 2) / np.sin(angle / 2)

    def power(k, sign):  # character of A at the k-th power of the element
        angle = np.where(np.abs(np.sin(k * theta / 2)) < 1e-12, k * theta + 1e-7, k * theta)
        return sum(chi(l, angle, sign**k) for l in range(l_max + 1))

    total = 0.0
    for sign in (1, -1):
        sums = [np.ones(n)]  # complete symmetric functions by Newton's identities
        for nu in range(1, order + 1):
            sums.append(sum(power(k, sign) * sums[nu - k] for k in range(1, nu + 1)) / nu)
        total += 0.5 * np.sum(measure * sums[order] * chi(degree, theta, sign))
    assert abs(total - round(total)) < 1e-6
    return round(total)


@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_the_paths_are_all_there_are(l_max, degree):
    order = 4 if l_max < 3 else 3
    counts = [len(p) for p in symmetric_product(l_max, degree, order).paths]
    assert counts == [count_by_characters(l_max, degree, nu) for nu in range(1, order + 1)]


def test_counts_of_the_published_model():
    assert [len(p) for p in symmetric_product(3, 0, 3).paths] == [1, 4, 8]
    assert [len(p) for p in symmetric_product(3, 1, 3).paths] == [1, 3, 12]


@pytest.mark.parametrize(("l_max", "degree"), [(3, 0), (3, 1), (3, 2), (2, 1)])
def test_paths_are_linearly_independent_polynomials(l_max, degree):
    rng = np.random.default_rng(3)
    a = tensors(rng, l_max, (60,))
    for chains in symmetric_product(l_max, degree, 3).paths:
        values = np.stack([np.concatenate(evaluate_chain(c, a)) for c in chains])
        values /= np.linalg.norm(values, axis=1)[:, None]
        assert np.linalg.svd(values, compute_uv=False)[-1] > 1e-3


def test_product_of_two_is_the_dense_contraction(rng):
    for l1, l2, l3 in [(1, 1, 0), (2, 1, 2), (2, 3, 3), (0, 2, 2)]:
        x, y = (tuple(rng.normal(size=(2 * l + 1, 4))) for l in (l1, l2))
        expected = np.einsum("abm,as,bs->ms", clebsch_gordan(l1, l2, l3), np.stack(x), np.stack(y))
        np.testing.assert_allclose(np.stack(product(x, y, l3)), expected, atol=1e-13)


def test_product_of_a_tensor_with_itself(rng):
    """The short cut for `x is y` changes nothing; odd couplings vanish with their shape kept."""
    for l, l3 in [(2, 2), (3, 4), (2, 0), (2, 1)]:
        x = tuple(rng.normal(size=(2 * l + 1, 4)))
        same, other = product(x, x, l3), product(x, tuple(c.copy() for c in x), l3)
        assert all(c.shape == (4,) for c in same)
        np.testing.assert_allclose(np.stack(same), np.stack(other), atol=1e-13)


def test_weights_broadcast_over_atoms_and_channels(rng):
    symmetric = symmetric_product(2, 1, 3)
    a = tensors(rng, 2, (4, 3))
    w = [rng.normal(size=(len(p), 4, 3)) for p in symmetric.paths]
    together = np.stack(symmetric(a, w))
    for i in range(4):
        alone = symmetric({l: tuple(c[i] for c in t) for l, t in a.items()}, [x[:, i] for x in w])
        np.testing.assert_allclose(together[:, i], np.stack(alone), atol=1e-12)
