"""Fit a sparse Gaussian process to energies, forces and stresses.

The N labels y are linear in the atomic energies, so their covariances K_MN with the M inducing
environments are sums and derivatives of kernels. These are computed for a block of structures at a
time, whitened (L Lᵀ = δ² K_MM), and added up for each kind of label (energy, forces, stress):

    V = L⁻¹ K_MN,   G_kind = Σ_rows V Vᵀ,   g_kind = Σ_rows V y
    B = I + δ² Σ_kind G_kind/σ²_kind,   w = L⁻ᵀ B⁻¹ Σ_kind g_kind/σ²_kind

w are the weights of the model, δ² is its prior variance, σ_kind the noise of a label. Memory
depends on M² and the block only. The marginal likelihood of δ and σ_kind needs only these sums:

    2 log p = −log|B| − Σ N_kind log 2πσ²_kind − Σ y²/σ² + δ² bᵀ B⁻¹ b,   b = Σ_kind g_kind/σ²_kind
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from kohn.descriptors.point_selection import cur_points, farthest_points
from kohn.descriptors.soap import expansion
from kohn.errors import ConfigError
from kohn.graphs import Neighbourhood, species_index
from kohn.jobs import WorkFolder
from kohn.models.gaussian_process import GaussianProcess, GaussianProcessConfig, lone_atoms
from kohn.models.label_covariances import (
    KINDS,
    Inducing,
    centres,
    compiled_kernels,
    labels,
    padded,
    whitened_covariances,
)
from kohn.models.posterior import Posterior
from kohn.potential import Potential
from kohn.potential import save as save_potential
from kohn.progress import Progress
from kohn.structures import Structure
from kohn.structures.elements import symbol
from kohn.training.loop import MODEL
from kohn.training.losses import EnergyTask
from kohn.training.preparation import Prepared
from kohn.training.settings import TrainSettings

POOL = 6000
"""Inducing environments of an element are chosen among at most this many, drawn at random."""
BLOCK_BYTES = 3e8
"""Bytes of the Jacobians and kernel derivatives that are in memory at the same time."""
UNEXPLAINED = 30
"""Number of structures over which the unexplained part of the prior variance is averaged."""
TUNED_POINTS = 800
"""Number of inducing environments in the marginal likelihood: the first that were chosen."""


def choose_inducing(
    structures: Sequence[Structure],
    neighbourhoods: Sequence[Neighbourhood],
    elements: tuple[int, ...],
    config: GaussianProcessConfig,
    seed: int,
) -> Inducing:
    """Choose the inducing environments: the lone atom of each element, and atoms of the data.

    Energies are relative to lone atoms. If the value f(0) of the process at a lone atom were not
    inferred, its prior variance, times n², would remain in the variance of an energy of n atoms.

    Raises:
        ConfigError: more inducing environments are requested than the data have environments.
    """
    numbers = np.concatenate([s.numbers for s in structures])
    available = [int((numbers == z).sum()) for z in elements]
    counts = _inducing_counts(config, elements, available)
    rng = np.random.default_rng(seed)
    pools = _pools(structures, neighbourhoods, elements, config, rng)
    greedy = farthest_points if config.selection == "farthest-point" else cur_points
    points = []
    for lone, pool, count in zip(lone_atoms(config.soap, elements), pools, counts, strict=True):
        chosen = greedy((pool @ pool.T) ** config.zeta, min(count, len(pool)))
        points.append(np.vstack([lone, pool[chosen]]))
    return Inducing.at(points, config, elements)


def _inducing_counts(
    config: GaussianProcessConfig, elements: tuple[int, ...], available: list[int]
) -> list[int]:
    """Return the number of inducing environments for each element."""
    if config.inducing_by_element is not None:
        wanted = [config.inducing_by_element.get(symbol(z), 0) for z in elements]
        return [min(count, limit) for count, limit in zip(wanted, available, strict=True)]
    if config.inducing is not None and config.inducing > sum(available):
        raise ConfigError(
            "more inducing environments than there are in the training data",
            expected=f"at most {sum(available)}",
            received=f"model.inducing {config.inducing}",
            fix="lower model.inducing, leave it out, or give more structures",
        )
    remaining = min(config.inducing or 2000, sum(available))
    counts = np.zeros(len(elements), int)
    for k, a in enumerate(np.argsort(available)):  # common elements supply what rare ones lack
        root = np.sqrt([available[b] for b in np.argsort(available)[k:]])
        counts[a] = min(available[a], max(1, round(remaining * root[0] / root.sum())))
        remaining -= counts[a]
    return counts.tolist()


def _pools(
    structures: Sequence[Structure],
    neighbourhoods: Sequence[Neighbourhood],
    elements: tuple[int, ...],
    config: GaussianProcessConfig,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Return features p̂ of at most POOL environments of each element, drawn at random."""
    features, _ = compiled_kernels(expansion(config.soap, elements), config.zeta)
    species = [species_index(s, elements) for s in structures]
    everywhere = np.concatenate(species)
    drawn = np.zeros(len(everywhere), bool)
    for a in range(len(elements)):
        indices = np.flatnonzero(everywhere == a)
        drawn[rng.choice(indices, min(POOL, len(indices)), replace=False)] = True
    pools: list[list[np.ndarray]] = [[] for _ in elements]
    start = 0
    for chunk in _chunks(structures, neighbourhoods, 512):
        block = centres(
            *_selected(chunk, structures, neighbourhoods), elements, _width(neighbourhoods)
        )
        here = drawn[start : start + len(block.centre)]
        start += len(block.centre)
        for a in range(len(elements)):
            chosen = np.flatnonzero(here & (block.centre == a))
            if len(chosen):
                rows = block.rows(padded(chosen, 64))
                pools[a].append(np.asarray(features(*rows))[: len(chosen)])
    return [np.concatenate(p) for p in pools]


def _chunks(
    structures: Sequence[Structure], neighbourhoods: Sequence[Neighbourhood], most: int
) -> Iterator[range]:
    """Yield ranges of structures: at most `most` atoms in each, but at least one structure."""
    start, total = 0, 0
    for i, s in enumerate(structures):
        if i > start and total + len(s) > most:
            yield range(start, i)
            start, total = i, 0
        total += len(s)
    yield range(start, len(structures))


def _selected(chunk: range, structures: Sequence, neighbourhoods: Sequence) -> tuple[list, list]:
    return [structures[i] for i in chunk], [neighbourhoods[i] for i in chunk]


def _width(neighbourhoods: Sequence[Neighbourhood]) -> int:
    return max(max(h.width for h in neighbourhoods), 1)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the N labels y of one kind: G = Σ V Vᵀ [M, M], g = Σ V y [M], Σ y² and N."""

    gram: np.ndarray
    projection: np.ndarray
    squares: float
    count: int


def accumulate(
    structures: Sequence[Structure],
    neighbourhoods: Sequence[Neighbourhood],
    e0: Sequence[float],
    elements: tuple[int, ...],
    config: GaussianProcessConfig,
    inducing: Inducing,
    kinds: Sequence[str],
    advance: Callable[[int], None] = lambda n: None,
) -> dict[str, Sums]:
    """Compute for each kind of label the sums over all labels, block by block."""
    m = sum(inducing.counts)
    grams = {kind: np.zeros((m, m)) for kind in kinds}
    projections = {kind: np.zeros(m) for kind in kinds}
    squares, counts = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0)
    size = expansion(config.soap, elements).size
    width = _width(neighbourhoods)
    most = max(int(BLOCK_BYTES / (24 * width * (size + max(inducing.counts)))), 1)
    for chunk in _chunks(structures, neighbourhoods, most):
        part, rows = _selected(chunk, structures, neighbourhoods)
        block = centres(part, rows, elements, width)
        y = labels(part, [e0[i] for i in chunk], block, config, kinds)
        v = whitened_covariances(block, y, elements, config, inducing)
        for kind in kinds:
            here = y.kind == KINDS.index(kind)
            if here.any():
                v_kind, y_kind = v[:, here], y.values[here]
                grams[kind] += v_kind @ v_kind.T
                projections[kind] += v_kind @ y_kind
                squares[kind] += float(y_kind @ y_kind)
                counts[kind] += len(y_kind)
        advance(len(chunk))
    return {k: Sums(grams[k], projections[k], squares[k], counts[k]) for k in kinds if counts[k]}


@dataclass(frozen=True)
class Scales:
    """The prior standard deviation δ, eV, and the noise σ of each kind of label."""

    signal: float
    noise: dict[str, float]


def negative_log_likelihood(
    log_scales: np.ndarray, sums: dict[str, Sums]
) -> tuple[float, np.ndarray]:
    """Return −log p(y) and its gradient in `log_scales`: log δ², log σ² of kinds as in `sums`."""
    s, precision = np.exp(log_scales[0]), np.exp(-log_scales[1:])
    parts = list(sums.values())
    m = len(parts[0].projection)
    b_matrix = np.eye(m)
    for a, part in zip(precision, parts, strict=True):
        b_matrix += s * a * part.gram
    b = sum(a * part.projection for a, part in zip(precision, parts, strict=True))
    factor = cho_factor(b_matrix, lower=True)
    inverse = cho_solve(factor, np.eye(m))
    x = inverse @ b
    log_det = 2 * np.log(np.diagonal(factor[0])).sum()
    counts = np.array([part.count for part in parts])
    squares = np.array([part.squares for part in parts])
    value = log_det + counts @ np.log(2 * np.pi / precision) + precision @ squares - s * (b @ x)
    gradient = np.empty(len(log_scales))
    gradient[0] = (m - np.trace(inverse)) - s * (b @ x) + s * (x @ (b_matrix @ x) - x @ x)
    for i, (a, part) in enumerate(zip(precision, parts, strict=True)):
        slope = s * np.sum(inverse * part.gram) - part.count / a + part.squares
        slope += -2 * s * (x @ part.projection) + s * s * (x @ part.gram @ x)
        gradient[1 + i] = -a * slope
    return 0.5 * float(value), 0.5 * gradient


def tune_scales(start: Scales, sums: dict[str, Sums], leading: np.ndarray) -> Scales:
    """Return the signal δ and the noises with the largest marginal likelihood.

    `leading` are indices of the inducing environments in the likelihood. The signal stays within a
    factor of 1000 of its start, and so does the noise if all labels are of one kind. Noises of
    several kinds stay within a factor of 10: the likelihood treats errors of the model as noise
    that is independent in every label; because forces are many, it would fit forces and neglect
    energies (silicon: noise 0.1 eV per √atom, and 15 instead of 2.5 meV/atom on test frames).
    """
    less = {
        kind: Sums(
            part.gram[np.ix_(leading, leading)], part.projection[leading], part.squares, part.count
        )
        for kind, part in sums.items()
    }
    first = 2 * np.log([start.signal, *(start.noise[kind] for kind in sums)])
    reach = 2 * np.log([1000.0, *(1000.0 if len(sums) == 1 else 10.0 for _ in sums)])
    optimum = minimize(
        negative_log_likelihood,
        first,
        args=(less,),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(first - reach, first + reach, strict=True)),
        options={"maxiter": 50},
    )
    best = np.exp(0.5 * optimum.x)
    return Scales(float(best[0]), dict(zip(sums, map(float, best[1:]), strict=True)))


def solve(
    sums: dict[str, Sums], scales: Scales, inducing: Inducing
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weights w [M], and R, lower triangular [M, M], with R Rᵀ = B of the module."""
    m = sum(inducing.counts)
    b_matrix, b = np.eye(m), np.zeros(m)
    for kind, part in sums.items():
        precision = 1.0 / scales.noise[kind] ** 2
        b_matrix += scales.signal**2 * precision * part.gram
        b += precision * part.projection
    r = cholesky(b_matrix, lower=True)
    x = cho_solve((r, True), b)
    ends = np.cumsum(inducing.counts)[:-1]
    weights = [
        solve_triangular(factor, part, lower=True, trans=1)
        for factor, part in zip(inducing.factors, np.split(x, ends), strict=True)
    ]
    return np.concatenate(weights), r


def residuals(sums: dict[str, Sums], scales: Scales, r: np.ndarray) -> dict[str, float]:
    """Compute for each kind of label the rms residual s = √(Σ r²/(N − γ)) of the fit, in the units
    of the noise σ; s is σ itself if the fit has used up all labels.

        r = y − δ² Vᵀ x,   x = B⁻¹ Σ_kind g_kind/σ²_kind,   γ = δ² tr(B⁻¹ G)/σ²

    γ is the number of labels that the fit has used up. At a maximum of the marginal likelihood s
    is σ; if σ was given, or is at a bound, it is only the weight of a label, and s measures
    what the model cannot describe. Source: MacKay, Neural Comput. 4, 415 (1992).
    """
    delta2 = scales.signal**2
    b = sum(part.projection / scales.noise[kind] ** 2 for kind, part in sums.items())
    inverse = cho_solve((r, True), np.eye(len(r)))
    x = inverse @ b
    deviations = {}
    for kind, part in sums.items():
        freedom = part.count - delta2 * np.sum(inverse * part.gram) / scales.noise[kind] ** 2
        squares = part.squares - 2 * delta2 * (x @ part.projection)
        squares += delta2**2 * (x @ part.gram @ x)
        known = freedom > 1e-6 * part.count and squares > 0
        deviations[kind] = float(np.sqrt(squares / freedom)) if known else scales.noise[kind]
    return deviations


def fit(
    structures: Sequence[Structure],
    neighbourhoods: Sequence[Neighbourhood],
    e0: Sequence[float],
    elements: tuple[int, ...],
    config: GaussianProcessConfig,
    *,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    advance: Callable[[int], None] = lambda n: None,
) -> GaussianProcess:
    """Compute the posterior of atomic energies given the labels of structures.

    Args:
        structures: labelled structures. neighbourhoods: their neighbours within `config.cutoff`.
        e0: sum of E0 over the atoms of each structure, eV.
        elements: atomic numbers, ascending.
        kinds: kinds of labels to learn from.
        seed: seed of the random choice of environments from many (`POOL`).
        advance: called with the number of structures done since the last call.

    Raises:
        ConfigError: more inducing environments than the data have environments.
    """
    inducing = choose_inducing(structures, neighbourhoods, elements, config, seed)
    sums = accumulate(structures, neighbourhoods, e0, elements, config, inducing, kinds, advance)
    noise = {kind: getattr(config, f"noise_{kind}") for kind in KINDS}
    scales = Scales(config.signal, noise)
    if config.tune == "marginal-likelihood":
        scales = tune_scales(scales, sums, _leading(inducing.counts))
    weights, r = solve(sums, scales, inducing)
    chosen = {f"noise_{kind}": scales.noise[kind] for kind in sums}
    update = {"signal": scales.signal, "tune": "none", **chosen}
    update["residuals"] = residuals(sums, scales, r)
    model = GaussianProcess.at(
        inducing.points,
        weights,
        config.model_copy(update=update),
        elements,
        posterior=r[np.tril_indices(len(r))],
    )
    sample = np.unique(np.linspace(0, len(structures) - 1, UNEXPLAINED).round().astype(int))
    posterior, drawn = Posterior(model), [structures[i] for i in sample]
    update["unexplained"] = {
        kind: posterior.unexplained(drawn, kind) for kind in ("energy", "forces") if kind in sums
    }
    return replace(model, config=model.config.model_copy(update=update))


def _leading(counts: Sequence[int]) -> np.ndarray:
    """Return indices of the first inducing environments of each element, TUNED_POINTS in all."""
    share = min(1.0, TUNED_POINTS / sum(counts))
    starts = np.cumsum([0, *counts[:-1]])
    return np.concatenate(
        [
            start + np.arange(int(np.ceil(share * count)))
            for start, count in zip(starts, counts, strict=True)
        ]
    )


def run_fit(
    settings: TrainSettings, prepared: Prepared, work: WorkFolder, meter: Progress
) -> Potential:
    """Fit a Gaussian process to the prepared data, and write the model file. This takes minutes; a
    killed fit starts again from the beginning.

    Labels (energy, forces or stress) whose weight in the loss is 0 are not used; all other weights
    are replaced by the noises.
    """
    started = time.perf_counter()
    config, train = settings.model, prepared.train
    assert isinstance(config, GaussianProcessConfig)
    task = prepared.task
    assert isinstance(task, EnergyTask)
    kinds = [kind for kind in KINDS if getattr(task.early, kind)]
    advance = meter.of("training", len(train.structures))
    advance(0)
    model = fit(
        [task.reference.above(s) for s in train.structures],
        train.neighbourhoods,
        [0.0] * len(train.structures),
        train.elements,
        config,
        kinds=kinds,
        seed=settings.run.seed,
        advance=advance,
    )
    potential = replace(prepared.potential, model=model)
    save_potential(potential, work.path / MODEL)
    work.append(
        {
            "kind": "fit",
            "seconds": time.perf_counter() - started,
            "inducing": model.config.inducing_by_element,
            "signal": model.config.signal,
            **{f"noise_{kind}": getattr(model.config, f"noise_{kind}") for kind in kinds},
            **{f"residual_{kind}": s for kind, s in model.config.residuals.items()},
        },
    )
    return potential
