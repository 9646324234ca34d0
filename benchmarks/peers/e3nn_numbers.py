"""What e3nn-jax 0.21.0 says of harmonics and their couplings, frozen for the tests.

    python benchmarks/peers/e3nn_numbers.py        # needs: pip install e3nn-jax==0.21.0 jax==0.10.1

writes `tests/o3/data/e3nn.npz`, in e3nn's axes and float64:

- `vectors` [40, 3]; `harmonics` [40, 81], degrees 0 to 8, normalization "component";
- `rotation` [3, 3]; `wigner_L` [2L + 1, 2L + 1] of it, L from 0 to 4;
- `coupling_L1_L2_L3` [2L1 + 1, 2L2 + 1, 2L3 + 1], L1 and L2 up to 4, L3 up to 5;
- `product_L1_L2_L3` of `left_…` [2L1 + 1] and `right_…` [2L2 + 1], normalization "component".
"""

from pathlib import Path

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

FILE = Path(__file__).resolve().parents[2] / "tests" / "o3" / "data" / "e3nn.npz"
COUPLED = [
    (l1, l2, l3)
    for l1 in range(5)
    for l2 in range(5)
    for l3 in range(abs(l1 - l2), min(l1 + l2, 5) + 1)
]
MULTIPLIED = [(0, 1, 1), (1, 1, 1), (1, 2, 2), (2, 3, 4), (3, 3, 4)]


def natural(l: int) -> e3nn.Irrep:
    """The parity of harmonics of degree l."""
    return e3nn.Irrep(l, (-1) ** l)


def harmonics(u: np.ndarray) -> np.ndarray:
    irreps = [e3nn.Irreps([(1, natural(l))]) for l in range(9)]
    parts = [e3nn.spherical_harmonics(i, jnp.asarray(u), True, "component").array for i in irreps]
    return np.concatenate(parts, axis=1)


def product(l1: int, l2: int, l3: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    of = e3nn.Irrep(l3, (-1) ** (l1 + l2))
    a, b = (
        e3nn.IrrepsArray(e3nn.Irreps([(1, natural(l))]), jnp.asarray(v))
        for l, v in ((l1, x), (l2, y))
    )
    return np.asarray(
        e3nn.tensor_product(a, b, filter_ir_out=[of], irrep_normalization="component").array
    )


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(2)
    u = rng.normal(size=(40, 3))
    u /= np.linalg.norm(u, axis=1)[:, None]
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    rotation = q * np.linalg.det(q)
    numbers = {"vectors": u, "harmonics": harmonics(u), "rotation": rotation}
    for l in range(5):  # e3nn-jax is slow beyond
        numbers[f"wigner_{l}"] = np.asarray(e3nn.Irrep(l, 1).D_from_matrix(jnp.asarray(rotation)))
    for l1, l2, l3 in COUPLED:
        numbers[f"coupling_{l1}_{l2}_{l3}"] = np.asarray(e3nn.clebsch_gordan(l1, l2, l3))
    for l1, l2, l3 in MULTIPLIED:
        x, y = rng.normal(size=2 * l1 + 1), rng.normal(size=2 * l2 + 1)
        name = f"{l1}_{l2}_{l3}"
        numbers |= {f"left_{name}": x, f"right_{name}": y}
        numbers[f"product_{name}"] = product(l1, l2, l3, x, y)
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **numbers)


if __name__ == "__main__":
    main()
