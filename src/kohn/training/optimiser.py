"""Compile the steps of a training run: gradient, update of the weights, moving average.

All weights of a model form one vector θ. Gradient clipping, the moments of the optimiser and the
moving average are then a few loops over θ instead of hundreds of small loops, which for small
molecules would take as long as the model itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from kohn.compilation import compiled
from kohn.graphs import Graph
from kohn.training.eigen_adam import eigen_adam
from kohn.training.matrices import Matrices
from kohn.training.settings import OptimiserSettings
from kohn.training.task import Task
from kohn.typing import Array, Float, Tree


class State(NamedTuple):
    """The state of a training run that each step changes; P is the number of weights.

    Attributes:
        theta: weights, [P]. average: moving average of theta, [P]. moments: optimiser's own state.
        step: number of steps taken, int32.
    """

    theta: Float[Array, " P"]
    average: Float[Array, " P"]
    moments: Any
    step: Array


class StepReport(NamedTuple):
    """Results of a step: the loss, its part for each label, and the norm of the gradient before
    clipping."""

    loss: Array
    parts: dict[str, Array]
    gradient_norm: Array


Unravel = Callable[[Array], Any]


def flatten(model: Tree) -> tuple[Array, Unravel]:
    """Return the weights of a model as one vector θ, and the function that makes a model of θ."""
    weights, rest = eqx.partition(model, eqx.is_inexact_array)
    theta, unravel = ravel_pytree(weights)
    return theta, lambda vector: eqx.combine(unravel(vector), rest)


def learning_rate(settings: OptimiserSettings, steps: int) -> optax.Schedule:
    """Return the learning rate by step: linear rise, then constant or half a cosine to its end."""
    warmup = min(settings.warmup_steps, max(steps - 1, 0))
    top = settings.learning_rate
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else top,
            top,
            warmup_steps=warmup,
            decay_steps=max(steps, warmup + 1),
            end_value=top * settings.final_fraction,
        )
    return optax.linear_schedule(0.0 if warmup else top, top, max(warmup, 1))


def optimiser(settings: OptimiserSettings, steps: int, model: Tree) -> optax.GradientTransformation:
    """Return the update rule: clip the gradient, then `eigen_adam`, AMSGrad or AdamW.

    Args:
        steps: length of the run, which determines the `learning_rate` by step.
        model: whose weights form θ.
    """
    rate = learning_rate(settings, steps)
    if settings.kind == "eigen-adam":
        rule = eigen_adam(rate, Matrices.of(model), weight_decay=settings.weight_decay)
    elif settings.kind == "amsgrad":
        rule = optax.amsgrad(rate)
    else:
        rule = optax.adamw(rate, weight_decay=settings.weight_decay)
    return optax.chain(optax.clip_by_global_norm(settings.clip), rule)


def initial_state(theta: Array, transformation: optax.GradientTransformation) -> State:
    """Return the state of a run before its first step."""
    return State(theta, theta, transformation.init(theta), jnp.zeros((), jnp.int32))


Objective = Callable[[Array, Graph, Any, Any, Array], tuple[Array, dict[str, Array]]]
"""(θ, graph, labels, weights of the loss, key) -> the loss, and its part for each label. The key,
which differs in each step, is the source of all random numbers."""


def objective_of(task: Task, unravel: Unravel) -> Objective:
    """Return the loss of a task as a function of the weights θ."""

    def objective(
        theta: Array, graph: Graph, t: Any, w: Any, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        del key  # this loss is not random
        return task.loss(task.predict(unravel(theta), graph), t, w)

    return objective


def make_step(
    objective: Objective, transformation: optax.GradientTransformation, *, ema: float, seed: int = 0
) -> Callable[[State, Graph, Tree, Tree], tuple[State, StepReport]]:
    """Return the function of one training step, compiled once for each shape of batch.

    Args:
        ema: decay of the moving average of the weights.
        seed: determines, with the number of the step, the random key of the objective, so that a
            resumed run draws the same random numbers.
    """

    def step(state: State, graph: Graph, t: Any, w: Any) -> tuple[State, StepReport]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        (total, parts), gradient = jax.value_and_grad(objective, has_aux=True)(
            state.theta, graph, t, w, key
        )
        norm = jnp.sqrt(jnp.sum(jnp.square(gradient.astype(jnp.float64))))
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its step counter with floats
            updates, moments = transformation.update(gradient, state.moments, state.theta)
        theta = state.theta + cast(Array, updates).astype(state.theta.dtype)
        count = state.step + 1
        # At first the average follows closely; otherwise it would remember the random start.
        t_ = count.astype(theta.dtype)
        decay = jnp.minimum(jnp.asarray(ema, theta.dtype), (1.0 + t_) / (10.0 + t_))
        average = decay * state.average + (1.0 - decay) * theta
        return State(theta, average, moments, count), StepReport(total, parts, norm)

    return compiled(step)


class ValidationSums(NamedTuple):
    """Loss and parts of a validation batch, and for each label Σ|Δ|, ΣΔ² and number of errors Δ.

    `loss_of_zero` is the loss of a model that predicts zero for everything.
    """

    loss: Array
    loss_of_zero: Array
    parts: dict[str, Array]
    sums: dict[str, tuple[Array, Array, Array]]


def make_validation(
    task: Task, unravel: Unravel
) -> Callable[[Array, Graph, Tree, Tree], ValidationSums]:
    """Return the function that computes loss and errors of a batch; compiled for each shape."""

    def validate(theta: Array, graph: Graph, t: Any, w: Any) -> ValidationSums:
        predicted = task.predict(unravel(theta), graph)
        total, parts = task.loss(predicted, t, w)
        zero, _ = task.loss(jax.tree.map(jnp.zeros_like, predicted), t, w)
        sums = {}
        for name, (error, labelled) in task.errors(predicted, t).items():
            rows = labelled.astype(jnp.float64)
            error = error * rows.reshape(-1, *[1] * (error.ndim - 1))
            count = jnp.sum(rows) * float(np.prod(error.shape[1:], dtype=int))
            sums[name] = (jnp.sum(jnp.abs(error)), jnp.sum(error * error), count)
        return ValidationSums(total, zero, parts, sums)

    return compiled(validate)
