"""What an invariant model cannot learn: `python -m benchmarks.invariance`.

Dipoles of ethanol molecules from point charges that depend on the bonds, each molecule turned at
random. Four networks of about the same size learn them from more and more molecules:

    invariant      SchNet, three numbers read from invariant features
    laboratory     SchNet that also sees the x, y and z of each edge as plain numbers: no symmetry
    … augmented    the same, each molecule turned anew whenever it is seen
    equivariant    NequIP with a dipole head

The error is that of 200 other molecules, as a share of the rms dipole: 1 is what zero would give.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import machine, parsed, parser_of, write_results

SIZES = (25, 100, 400)
STEPS, BATCH, CHANNELS = 2000, 10, 32
KINDS = ("invariant", "laboratory", "laboratory, augmented", "equivariant")


class FromInvariants(eqx.Module):
    """Three numbers for each atom from a SchNet, summed over the atoms."""

    net: Any
    head: Any
    laboratory: bool = eqx.field(static=True)

    def __call__(self, graph: Any) -> Any:
        from kohn.descriptors import polynomial_cutoff
        from kohn.models.layers import one_hot
        from kohn.models.schnet import gaussian_basis

        net, d = self.net, graph.displacement
        r = jnp.sqrt(jnp.sum(d * d, axis=-1))
        cut = polynomial_cutoff(r, net.config.cutoff, net.config.cutoff_power)
        basis = gaussian_basis(r, net.config.cutoff, net.config.n_gaussians)
        if self.laboratory:
            u = d / r[..., None]
            parts = [basis, *(basis * u[..., a : a + 1] for a in range(3))]
            basis = jnp.concatenate(parts, axis=-1)
        h = net.embedding(one_hot(graph.species, len(net.elements), d.dtype))
        cut = cut * graph.edge_mask.astype(d.dtype)
        for layer in net.interactions:
            messages = partial(layer.messages, basis=basis, cut=cut, graph=graph)
            h = layer(h, messages, net.neighbours**-0.5)
        return graph.sum_atoms(self.head(h))


def molecules(count: int, seed: int) -> list[Any]:
    """Ethanol molecules with dipoles, each turned at random."""
    import kohn.data
    from kohn.structures import read

    folder = next(iter(kohn.data.__path__))
    frames = list(read([f"{folder}/ethanol/train.extxyz", f"{folder}/ethanol/test.extxyz"]))
    rng, found = np.random.default_rng(seed), []
    for i in rng.permutation(len(frames))[:count]:
        found.append(turned(frames[i].with_labels(dipole=dipole(frames[i])), rng))
    return found


def dipole(s: Any) -> np.ndarray:
    """Σ_bonds q_ab (|r| − r_0) r̂ and the like: charges that flow along bonds, e·Å."""
    electronegativity = {1: 2.2, 6: 2.55, 8: 3.44}
    chi = np.array([electronegativity[int(z)] for z in s.numbers])
    d = s.positions[None] - s.positions[:, None]
    r = np.linalg.norm(d, axis=-1) + np.eye(len(s))
    flow = 0.2 * (chi[:, None] - chi[None]) * np.exp(-2.0 * (r - 1.0)) * (1 - np.eye(len(s)))
    return 0.5 * np.einsum("ij,ija->a", flow, d)


def turned(s: Any, rng: np.random.Generator) -> Any:
    """The molecule in another orientation, its dipole with it."""
    from dataclasses import replace

    from scipy.spatial.transform import Rotation

    q = Rotation.random(random_state=rng).as_matrix()
    moved = replace(s, positions=s.positions @ q.T)
    return moved.with_labels(dipole=q @ s.labels["dipole"])


def network(kind: str, elements: tuple[int, ...], scale: float) -> Callable[[Any], Any]:
    """A model of graphs to dipoles [G, 3]."""
    from kohn.models import NequipConfig, SchNet, SchNetConfig
    from kohn.models.heads.properties import PropertyConfig, PropertyNetwork, cartesian
    from kohn.models.layers import Linear

    key = jax.random.key(0)
    if kind == "equivariant":
        body = NequipConfig(channels=CHANNELS // 2, l_max=1, layers=2, radial_widths=(32,))
        model = PropertyNetwork.init(
            key,
            PropertyConfig(body=body, targets=("dipole",)),
            elements,
            neighbours=8.0,
            scales={"dipole": {1: scale}},
        )
        return _Cartesian(model, cartesian)
    laboratory = kind.startswith("laboratory")
    config = SchNetConfig(channels=CHANNELS, layers=2, n_gaussians=20)
    net = SchNet.init(key, config, elements, neighbours=8.0)
    if laboratory:
        wide = Linear.init(key, (4 * config.n_gaussians, CHANNELS), np.float32)
        net = eqx.tree_at(
            lambda n: [layer.filters[0] for layer in n.interactions],
            net,
            [wide] * config.layers,
        )
    head = Linear.init(jax.random.key(1), (CHANNELS, 3), np.float32)
    return FromInvariants(net, head, laboratory)


class _Cartesian(eqx.Module):
    model: Any
    convert: Callable = eqx.field(static=True)

    def __call__(self, graph: Any) -> Any:
        return self.convert("dipole", self.model(graph)["dipole"])


def batch_of(structures: Sequence[Any], elements: tuple[int, ...]) -> tuple[Any, np.ndarray]:
    """A graph and its dipoles."""
    from kohn.graphs import collate, neighbourhood

    graph = collate(
        structures, [neighbourhood(s, 5.0, width=8) for s in structures], elements, dtype=np.float32
    )
    return graph, np.stack([s.labels["dipole"] for s in structures])


def error(kind: str, train: Sequence[Any], test: Sequence[Any], steps: int) -> float:
    """Root mean square error on other molecules, as a share of the rms dipole."""
    from kohn.training.optimiser import flatten, initial_state, make_step, optimiser
    from kohn.training.settings import OptimiserSettings

    elements = (1, 6, 8)
    scale = float(np.sqrt(np.mean([(s.labels["dipole"] ** 2).sum() for s in train])))
    model = network(kind, elements, scale)
    theta, unravel = flatten(model)

    def objective(theta: Any, graph: Any, t: Any, weights: Any, key: Any) -> Any:
        del weights, key
        loss = jnp.mean(jnp.sum((unravel(theta)(graph) - t) ** 2, axis=1)) / scale**2
        return loss, loss

    rule = optimiser(OptimiserSettings(learning_rate=0.005), steps, model)
    step, state = make_step(objective, rule, ema=0.99), initial_state(theta, rule)
    rng = np.random.default_rng(0)
    kept = [batch_of(train[i : i + BATCH], elements) for i in range(0, len(train), BATCH)]
    for i in range(steps):
        graph, t = kept[i % len(kept)]
        if kind.endswith("augmented"):
            start = BATCH * (i % len(kept))
            graph, t = batch_of([turned(s, rng) for s in train[start : start + BATCH]], elements)
        state, _ = step(state, graph, t, 0.0)
    graph, t = batch_of(test, elements)
    found = np.asarray(jax.jit(lambda x: unravel(x)(graph))(state.average))
    return float(np.sqrt(((found - t) ** 2).sum(1).mean() / (t**2).sum(1).mean()))


def main() -> None:
    """Measure and write benchmarks/results/invariance.md."""
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parsed(parser)
    if arguments.quick:
        arguments.steps = 20
    m, rows = machine(), {}
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    everything = molecules(SIZES[-1] + 200, seed=0)
    test = everything[SIZES[-1] :]
    lines = [
        "| molecules | " + " | ".join(KINDS) + " |",
        "| --- " * (1 + len(KINDS)) + "|",
    ]
    for n in SIZES[:1] if arguments.quick else SIZES:
        found = [error(kind, everything[:n], test, arguments.steps) for kind in KINDS]
        rows[n] = dict(zip(KINDS, found, strict=True))
        lines.append(f"| {n} | " + " | ".join(f"{x:.3f}" for x in found) + " |")
        print(lines[-1], flush=True)
    write_results("invariance", m, {"errors": rows}, "\n".join(lines))


if __name__ == "__main__":
    main()
