"""Learning curves of kernel models on QM7: `python -m benchmarks.qm7`, some five minutes.

Atomization energies of 7101 molecules (PBE0, in $KOHN_DATA, default ../shared/data), learned
directly and as the difference to DFTB3, from

    coulomb matrix   sorted, bohr; Laplacian kernel exp(−|x − x'|_1/ℓ); energy of the molecule
    soap             average kernel (p̂·p̂')^ζ of mean power spectra; energy per atom

For each of several random splits, hyper-parameters come from five-fold cross-validation within
(at most the first 1000 of) the training molecules; errors are mean absolute errors over all
molecules that were not trained on, kcal/mol. On one core; writes benchmarks/results/qm7.md.
"""

import os
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import kohn
from benchmarks.common import DATA, machine, need_data, parsed, parser_of, write_results
from kohn.descriptors.transformers import CoulombMatrix, Soap
from kohn.errors import ConfigError
from kohn.models.kernel_ridge import KernelRidge, distances, kernel_values, solve
from kohn.structures import Dataset
from kohn.units import KCAL_PER_MOL

SIZES = (100, 250, 500, 1000, 2000, 4000)
LIKELIHOOD = 1000
QUICK = 1500, (100, 1000)
"""Molecules and sizes of the quick form."""
SPLITS = 5
FOLDS = 5
LENGTHS = (1000.0, 3000.0, 10000.0, 30000.0)
POWERS = (2.0, 4.0, 8.0)
RATIOS = (1e-4, 1e-3, 1e-2, 3e-2)

Kernel = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(rows, columns, ℓ or ζ) -> kernel values between these molecules."""


def coulomb_kernel(data: Dataset) -> Kernel:
    """exp(−|x − x'|_1/ℓ) of sorted Coulomb matrices."""
    x = CoulombMatrix().fit_transform(data)
    d = distances(x, x, "laplacian")
    return lambda rows, columns, length: kernel_values(
        d[np.ix_(rows, columns)], "laplacian", length
    )


def average_kernel(features: np.ndarray) -> Kernel:
    """(p̂·p̂')^ζ of averaged SOAP vectors, one row for each molecule."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    products = unit @ unit.T
    return lambda rows, columns, power: products[np.ix_(rows, columns)] ** power


def predicted(
    kernel: Kernel, y: np.ndarray, train: np.ndarray, test: np.ndarray, scale: float, ratio: float
) -> np.ndarray:
    """Kernel ridge regression of y, centred."""
    mean = y[train].mean()
    posterior = solve(kernel(train, train, scale), y[train] - mean, ratio)
    return mean + kernel(test, train, scale) @ posterior.alpha


def chosen(
    kernel: Kernel, y: np.ndarray, weight: np.ndarray, train: np.ndarray, scales: tuple[float, ...]
) -> tuple[float, float]:
    """The scale and σ/s with the least cross-validated error."""
    folds = np.arange(len(train)) % FOLDS

    def error(scale: float, ratio: float) -> float:
        total = 0.0
        for fold in range(FOLDS):
            fit, held = train[folds != fold], train[folds == fold]
            try:
                off = predicted(kernel, y, fit, held, scale, ratio) - y[held]
            except ConfigError:  # σ/s below what Cholesky bears for this kernel
                return np.inf
            total += float(np.abs(off * weight[held]).sum())
        return total

    return min(product(scales, RATIOS), key=lambda pair: error(*pair))


def learning_curve(
    kernel: Kernel,
    y: np.ndarray,
    weight: np.ndarray,
    scales: tuple[float, ...],
    sizes: tuple[int, ...],
) -> np.ndarray:
    """Mean absolute errors of weight · y, [splits, sizes]."""
    errors = np.empty((SPLITS, len(sizes)))
    for split, order in enumerate(splits(len(y))):
        for column, size in enumerate(sizes):
            train, test = order[:size], order[size:]
            if size <= 1000:
                scale, ratio = chosen(kernel, y, weight, train, scales)
            off = predicted(kernel, y, train, test, scale, ratio) - y[test]
            errors[split, column] = np.abs(off * weight[test]).mean()
        print(
            f"split {split}: ℓ or ζ {scale:g}, σ/s {ratio:g};", errors[split].round(2), flush=True
        )
    return errors


def by_likelihood(data: Dataset, y: np.ndarray) -> np.ndarray:
    """Errors at LIKELIHOOD molecules with hyper-parameters by marginal likelihood, [splits, 1]."""
    x, errors = CoulombMatrix().fit_transform(data), []
    for order in splits(len(y)):
        train, test = order[:LIKELIHOOD], order[LIKELIHOOD:]
        model = KernelRidge(length_scale=1e4, noise=0.1, signal=100, tune="marginal-likelihood")
        model.fit(x[train], y[train])
        errors.append([np.abs(model.predict(x[test]) - y[test]).mean()])
        print(f"likelihood: ℓ {model.length_scale_:.0f}, {errors[-1][0]:.2f}", flush=True)
    return np.array(errors)


def splits(count: int) -> Iterator[np.ndarray]:
    """Random orders of the molecules."""
    for seed in range(SPLITS):
        yield np.random.default_rng(seed).permutation(count)


def energies(data: Dataset) -> dict[str, np.ndarray]:
    """What is learned, kcal/mol."""

    def of(method: str) -> np.ndarray:
        found = [s.info[f"{method}_atomization_energy"] for s in data]
        return np.array(found, np.float64) / KCAL_PER_MOL

    return {"PBE0": of("PBE0"), "PBE0 − DFTB3": of("PBE0") - of("DFTB3")}


def row(name: str, target: str, errors: np.ndarray, sizes: tuple[int, ...]) -> dict[str, Any]:
    """One line of the table: mean and spread of the splits for each size."""
    pairs = zip(errors.mean(axis=0).tolist(), errors.std(axis=0, ddof=1).tolist(), strict=True)
    return {"name": name, "target": target, "errors": dict(zip(sizes, pairs, strict=True))}


def main() -> None:
    """Measure everything, on one core, and write benchmarks/results/qm7.md."""
    arguments = parsed(parser_of(__doc__))
    need_data("qm7/qm7.extxyz")
    m = machine()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with threadpool_limits(1):
        document = measured(*(QUICK if arguments.quick else (None, SIZES)))
    write_results("qm7", m, document, table(document))


def measured(molecules: int | None, sizes: tuple[int, ...]) -> dict[str, Any]:
    """All methods, on so many molecules."""
    started = time.perf_counter()
    data = kohn.read(DATA / "qm7" / "qm7.extxyz")
    if molecules:
        data = data.select(range(molecules))
    targets = energies(data)
    atoms = np.array([len(s) for s in data], np.float64)
    rows = []
    kernel = coulomb_kernel(data)
    for target, y in targets.items():
        curve = learning_curve(kernel, y, np.ones(len(y)), LENGTHS, sizes)
        rows.append(row("sorted Coulomb matrix, Laplacian", target, curve, sizes))
    del kernel
    for target, y in targets.items():
        errors = by_likelihood(data, y)
        rows.append(row("the same, by likelihood", target, errors, (LIKELIHOOD,)))
    soap = Soap(r_cut=3.5, n_max=6, l_max=4, sigma=0.3, average="outer")
    kernel = average_kernel(soap.fit_transform(data))
    for target, y in targets.items():
        curve = learning_curve(kernel, y / atoms, atoms, POWERS, sizes)
        rows.append(row("SOAP, average kernel", target, curve, sizes))
    minutes = (time.perf_counter() - started) / 60
    return {"rows": rows, "molecules": len(data), "minutes": minutes, "sizes": sizes}


def line(row: dict[str, Any], sizes: tuple[int, ...]) -> str:
    """A row in Markdown."""
    pairs = [row["errors"].get(n) for n in sizes]
    cells = [f"{pair[0]:.2f} ± {pair[1]:.2f}" if pair else "" for pair in pairs]
    return f"| {row['name']} | {row['target']} | " + " | ".join(cells) + " |"


def table(document: dict[str, Any]) -> str:
    """Everything in Markdown."""
    sizes = document["sizes"]
    return "\n".join(
        [
            f"QM7, {document['molecules']} molecules: mean absolute error of atomization energies "
            f"over all molecules not trained on, kcal/mol; mean ± spread of {SPLITS} random "
            f"splits. {document['minutes']:.1f} minutes on one core.",
            "",
            "| features, kernel | learned | " + " | ".join(f"{n:,}" for n in sizes) + " |",
            "| --- | --- |" + " --- |" * len(sizes),
            *(line(row, sizes) for row in document["rows"]),
            "",
            "Coulomb matrices sorted by row norm, distances in bohr, all entries; SOAP with r_cut "
            "3.5 Å, n_max 6, l_max 4, σ 0.3 Å, averaged over atoms. Hyper-parameters by five-fold "
            "cross-validation within (at most 1000 of) the training molecules, or by marginal "
            "likelihood where so named.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
