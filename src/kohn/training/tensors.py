"""Training a model of dipoles and polarizabilities.

    L = Σ_targets Σ_l ⟨|t_l − t_l^label|²⟩_structures / s²,   s² = ⟨|t_l^label − offset|²⟩

by degree, so that targets and degrees count alike whatever their units. The offset of degree 0 is
a sum over atoms, fitted by least squares: what composition alone says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kohn.compilation import compiled
from kohn.errors import InputError
from kohn.graphs import Graph, Shape, collate, fitting_shape, needed_shape
from kohn.models.nequip import NequipConfig
from kohn.models.tensors import TensorModel, by_degree, cartesian
from kohn.structures import Structure
from kohn.training.loader import Loader
from kohn.training.optimiser import Objective, Unravel, flatten, initial_state, make_step, optimiser
from kohn.training.settings import OptimiserSettings
from kohn.typing import Array

Labels = dict[str, dict[int, np.ndarray]]
"""Spherical components [G, 2l+1] by target and degree."""


def labels(structures: Sequence[Structure], targets: Sequence[str]) -> Labels:
    """Labels of structures by degree, float64.

    Raises:
        InputError: a structure without a label, or with a polarizability that is not symmetric.
    """
    for s in structures:
        for target in targets:
            if target not in s.labels:
                raise InputError(
                    f"a structure has no {target}",
                    where=s.place,
                    fix=f"name its key (keys: {target}: …), or leave the structure out",
                )
    found: Labels = {}
    for target in targets:
        values = np.stack([s.labels[target] for s in structures])
        if target == "polarizability":
            skew = np.abs(values - np.swapaxes(values, 1, 2)).max(axis=(1, 2))
            if (skew > 1e-4 * np.abs(values).max()).any():
                worst = int(np.argmax(skew))
                raise InputError(
                    "a polarizability is not symmetric",
                    where=structures[worst].place,
                    received=f"components that differ by {skew[worst]:.3g}",
                    fix="check the order of its nine numbers",
                )
        found[target] = by_degree(target, values)
    return found


@dataclass(frozen=True, eq=False)
class Statistics:
    """Spread of the labels by target and degree, and what atoms add to degree 0."""

    scales: dict[str, dict[int, float]]
    atoms: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, structures: Sequence[Structure], elements: tuple[int, ...], targets: Sequence[str]
    ) -> "Statistics":
        """Of training structures."""
        known, scales, atoms = labels(structures, targets), {}, {}
        counts = np.array([[(s.numbers == z).sum() for z in elements] for s in structures], float)
        for target, parts in known.items():
            if 0 in parts:
                atoms[target] = np.linalg.lstsq(counts, parts[0][:, 0], rcond=None)[0]
                parts[0] = parts[0] - (counts @ atoms[target])[:, None]
            scales[target] = {
                l: float(np.sqrt((x**2).sum(axis=1).mean())) or 1.0 for l, x in parts.items()
            }
        return cls(scales, atoms)


def tensor_objective(unravel: Unravel, scales: dict[str, dict[int, float]]) -> Objective:
    """The loss of the module's head; `weights` holds 1 for structures and 0 in padding."""

    def objective(theta: Array, graph: Graph, t: Any, weights: Array) -> Any:
        found = unravel(theta)(graph)
        parts = {
            f"{target}_{l}": jnp.sum(weights[:, None] * (x - t[target][l]) ** 2)
            / jnp.sum(weights)
            / scales[target][l] ** 2
            for target, by_l in found.items()
            for l, x in by_l.items()
        }
        return sum(parts.values()), parts

    return objective


def fit_tensors(
    train: Sequence[Structure],
    valid: Sequence[Structure],
    targets: Sequence[str],
    config: NequipConfig | None = None,
    *,
    steps: int = 20_000,
    batch_size: int = 8,
    validate_every: int = 500,
    optimise: OptimiserSettings | None = None,
    seed: int = 0,
    dtype: type = np.float32,
    monitor: Callable[[int, float, float], None] = lambda step, train, valid: None,
) -> TensorModel:
    """A model with the lowest validation loss of a run.

    Args:
        train, valid: structures with all `targets` among their labels.
        targets: keys of `kohn.models.tensors.DEGREES`.
        config: of the body; NequIP's default.
        monitor: told steps, training and validation loss at each validation.

    Raises:
        InputError: see `labels`.
    """
    config, optimise = config or NequipConfig(), optimise or OptimiserSettings()
    elements = tuple(sorted({int(z) for s in (*train, *valid) for z in s.numbers}))
    loader = Loader.of(train, [0.0] * len(train), elements, config.cutoff, batch_size, dtype)
    judged = Loader.of(valid, [0.0] * len(valid), elements, config.cutoff, 4 * batch_size, dtype, 1)
    statistics = Statistics.of(train, elements, targets)
    model = TensorModel.random(
        jax.random.key(seed),
        config,
        elements,
        tuple(targets),
        neighbours=loader.average_neighbours,
        scales=statistics.scales,
        atoms=statistics.atoms,
        dtype=dtype,
    )
    theta, unravel = flatten(model)
    objective = tensor_objective(unravel, statistics.scales)
    rule = optimiser(optimise, steps)
    step, judge = make_step(objective, rule, ema=optimise.ema), compiled(objective)
    state, best, best_loss, total = initial_state(theta, rule), theta, np.inf, 0.0
    for number, chosen in enumerate(_endless(len(train), loader.batch_size, seed, steps), start=1):
        state, report = step(state, *_batch(loader, chosen, targets))
        total += float(sum(report.loss.values()))
        if number % validate_every == 0 or number == steps:
            parts = [
                float(judge(state.average, *_batch(judged, part, targets))[0]) * len(part)
                for part in _cut(np.arange(len(valid)), judged.batch_size)
            ]
            loss = sum(parts) / len(valid)
            monitor(number, total / validate_every, loss)
            total = 0.0
            if loss < best_loss:
                best, best_loss = state.average, loss
    return unravel(best)


def _endless(count: int, size: int, seed: int, steps: int):
    """Indices of `steps` batches, epoch after epoch in orders of seed and epoch."""
    done, epoch = 0, 0
    while done < steps:
        order = np.random.default_rng([seed, epoch]).permutation(count)
        for part in _cut(order, size)[: steps - done]:
            yield part
            done += 1
        epoch += 1


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[i : i + size] for i in range(0, len(order), size)]


def _batch(loader: Loader, chosen: np.ndarray, targets: Sequence[str]):
    """Graph, labels and weights of some structures, padded."""
    structures = [loader.structures[i] for i in chosen]
    rows = [loader.neighbourhoods[i] for i in chosen]
    shape: Shape = fitting_shape(loader.shapes, needed_shape(rows))
    extra = shape.structures - len(chosen)
    padded = {
        target: {l: np.pad(x, ((0, extra), (0, 0))) for l, x in parts.items()}
        for target, parts in labels(structures, targets).items()
    }
    weights = np.pad(np.ones(len(chosen)), (0, extra))
    graph = collate(structures, rows, loader.elements, shape, dtype=loader.dtype)
    return graph, padded, weights


def predict_tensors(
    model: TensorModel, structures: Sequence[Structure], batch_size: int = 32
) -> dict[str, np.ndarray]:
    """Cartesian targets, float64: dipoles [G, 3], polarizabilities [G, 3, 3], in their units."""
    loader = Loader.of(
        structures,
        [0.0] * len(structures),
        model.elements,
        model.cutoff,
        batch_size,
        np.dtype(model.body.embedding.weight.dtype).type,
        1,
    )
    weights, rest = eqx.partition(model, eqx.is_array)
    evaluate = compiled(lambda weights, graph: eqx.combine(weights, rest)(graph))
    found: dict[str, list[np.ndarray]] = {target: [] for target in model.targets}
    for batch in loader.batches():
        parts = jax.device_get(evaluate(weights, batch.graph))
        for target in model.targets:
            values = np.asarray(cartesian(target, parts[target]))
            found[target].append(values[: len(batch.indices)])
    return {target: np.concatenate(values) for target, values in found.items()}


def errors_by_degree(
    structures: Sequence[Structure], predicted: dict[str, np.ndarray]
) -> dict[str, dict[int, tuple[float, float]]]:
    """Root mean square of |t_l − t_l^label|, and of |t_l^label − ⟨t_l^label⟩|, by degree."""
    known = labels(structures, tuple(predicted))
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for target, values in predicted.items():
        ours = by_degree(target, values)
        found[target] = {
            l: (
                float(np.sqrt(((ours[l] - x) ** 2).sum(axis=1).mean())),
                float(np.sqrt(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())),
            )
            for l, x in known[target].items()
        }
    return found
