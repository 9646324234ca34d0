"""Draw parity figures: prediction against reference above, error against reference below.

Few points are drawn one by one; many as the cells of a grid, shaded by the logarithm of their
number, so that the page stays small and fast for any number of atoms.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kohn.reports.figures import Figure, axis, axis_title, base_layout
from kohn.reports.run import Run
from kohn.reports.text import number, plural
from kohn.structures.properties import PROPERTIES
from kohn.typing import Document
from kohn.units import GPA

CELLS = 150
"""Cells of the grid along each axis."""
FEW = 2500
"""Largest number of points that are drawn one by one."""


@dataclass(frozen=True)
class Pairs:
    """Reference values and predictions of one quantity.

    Attributes:
        key, title: key and title of the quantity.
        unit: unit of references; error_unit: unit of errors.
        per_unit: factor from `unit` to `error_unit`.
        reference, predicted: one number for each point.
        frames: index of the structure of each point.
    """

    key: str
    title: str
    unit: str
    error_unit: str
    per_unit: float
    reference: np.ndarray
    predicted: np.ndarray
    frames: np.ndarray


def parity_figures(run: Run, evaluation: Document) -> list[Figure]:
    """Return a parity figure for each quantity in the frames of an evaluation."""
    frames = evaluation.get("frames") or []
    quantities = (_energies(run, frames), _forces(frames), _stresses(frames), *_properties(frames))
    return [parity_figure(p) for p in quantities if p is not None and len(p.reference)]


def _energies(run: Run, frames: list[Document]) -> Pairs | None:
    """Return energies per atom above the atoms' E0s, or above the mean if an E0 is unknown."""
    chosen = [f for f in frames if f.get("energy_reference") is not None]
    if not chosen:
        return None
    e0s = {int(z): float(e) for z, e in (run.start.get("e0s") or {}).items()}
    n = np.array([len(f["numbers"]) for f in chosen])
    reference = np.array([f["energy_reference"] for f in chosen]) / n
    predicted = np.array([f["energy_predicted"] for f in chosen]) / n
    if all(z in e0s for f in chosen for z in f["numbers"]):
        zero = np.array([sum(e0s[z] for z in f["numbers"]) for f in chosen]) / n
        unit = "eV/atom above the E0s"
    else:
        zero, unit = reference.mean(), "eV/atom above their mean"
    indices = np.array([f["index"] for f in chosen])
    values = reference - zero, predicted - zero
    return Pairs("energy", "Energy per atom", unit, "meV/atom", 1e3, *values, indices)


def _forces(frames: list[Document]) -> Pairs | None:
    chosen = [f for f in frames if f.get("forces_reference") is not None]
    if not chosen:
        return None
    reference = [np.ravel(f["forces_reference"]) for f in chosen]
    predicted = [np.ravel(f["forces_predicted"]) for f in chosen]
    indices = np.repeat([f["index"] for f in chosen], [len(r) for r in reference])
    joined = np.concatenate(reference), np.concatenate(predicted)
    return Pairs("forces", "Force components", "eV/Å", "meV/Å", 1e3, *joined, indices)


def _stresses(frames: list[Document]) -> Pairs | None:
    names = ("stress_reference", "stress_predicted")
    chosen = [f for f in frames if all(f.get(n) is not None for n in names)]
    if not chosen:
        return None
    reference, predicted = (np.concatenate([np.ravel(f[n]) for f in chosen]) / GPA for n in names)
    indices = np.repeat([f["index"] for f in chosen], 9)
    return Pairs("stress", "Stress components", "GPa", "GPa", 1.0, reference, predicted, indices)


def _properties(frames: list[Document]) -> list[Pairs]:
    """Return the components of each property other than energy, forces and stress."""
    end, known = "_reference", ("energy", "forces", "stress")
    keys = dict.fromkeys(k.removesuffix(end) for f in frames for k in f if k.endswith(end))
    properties = []
    for name in (k for k in keys if k not in known):
        chosen = [f for f in frames if f.get(name + end) is not None]
        reference = [np.ravel(f[name + end]) for f in chosen]
        predicted = [np.ravel(f[f"{name}_predicted"]) for f in chosen]
        if not chosen:
            continue
        indices = np.repeat([f["index"] for f in chosen], [len(r) for r in reference])
        unit = PROPERTIES[name].unit if name in PROPERTIES else ""
        title = name.replace("_", " ").capitalize() + (
            ", components" if len(reference[0]) > 1 else ""
        )
        joined = np.concatenate(reference), np.concatenate(predicted)
        properties.append(Pairs(name, title, unit, unit, 1.0, *joined, indices))
    return properties


def parity_figure(pairs: Pairs) -> Figure:
    error = (pairs.predicted - pairs.reference) * pairs.per_unit
    span = _range(np.concatenate([pairs.reference, pairs.predicted]))
    reach = 1.08 * max(float(np.abs(error).max()), 1e-9)
    layout = base_layout(490)
    layout["margin"] |= {"t": 10, "r": 14}
    layout["xaxis"] |= {"title": axis_title(f"reference, {pairs.unit}"), "range": span}
    layout["xaxis"] |= {"anchor": "y2"}
    layout["yaxis"] |= {"title": axis_title("predicted"), "range": span, "domain": [0.4, 1]}
    layout["yaxis2"] = axis() | {"title": axis_title(f"error, {pairs.error_unit}")}
    layout["yaxis2"] |= {"range": [-reach, reach], "domain": [0, 0.32], "nticks": 5}
    line = {"color": "@muted", "width": 1}
    whole = {"type": "line", "layer": "above", "line": line, "x0": span[0], "x1": span[1]}
    layout["shapes"] = [
        whole | {"y0": span[0], "y1": span[1]},
        whole | {"y0": 0, "y1": 0, "yref": "y2"},
    ]
    draw = _points if len(error) <= FEW else _density
    data = [
        draw(pairs, pairs.predicted, (span, span), "y"),
        draw(pairs, error, (span, [-reach, reach]), "y2"),
    ]
    rms = float(np.sqrt(np.mean(error**2)))
    note = f"RMSE {number(rms)} {pairs.error_unit} · {plural(len(error), 'point')}"
    worst = float(np.abs(error).max())
    alternative = (
        f"{pairs.title}: predictions against references, and their errors below. {note}; "
        f"largest error {number(worst)} {pairs.error_unit}."
    )
    return Figure(f"parity-{pairs.key}", pairs.title, note, data, layout, alternative)


def _range(values: np.ndarray) -> list[float]:
    low, high = float(values.min()), float(values.max())
    room = 0.03 * (high - low) or 0.5
    return [low - room, high + room]


def _points(pairs: Pairs, values: np.ndarray, _: Any, axis_name: str) -> Document:
    unit = pairs.unit.split(" ")[0] if axis_name == "y" else pairs.error_unit
    text = "predicted" if axis_name == "y" else "error"
    return {
        "type": "scatter",
        "mode": "markers",
        "x": np.round(pairs.reference, 5).tolist(),
        "y": np.round(values, 5 if axis_name == "y" else 3).tolist(),
        "yaxis": axis_name,
        "customdata": pairs.frames.tolist(),
        "marker": {"size": 4, "color": "@accent", "opacity": 0.5},
        "hovertemplate": f"structure %{{customdata}}<br>reference %{{x}}<br>{text} %{{y}} {unit}"
        "<extra></extra>",
    }


def _density(
    pairs: Pairs, values: np.ndarray, ranges: tuple[list[float], list[float]], axis_name: str
) -> Document:
    """Return a trace: the mean of each grid cell, shaded by the logarithm of its number of points.

    The fullest cells come last, so that they are drawn on top.
    """
    cell = [
        np.minimum(((v - low) / (high - low) * CELLS).astype(int), CELLS - 1)
        for v, (low, high) in zip((pairs.reference, values), ranges, strict=True)
    ]
    _, at, number_in = np.unique(cell[0] * CELLS + cell[1], return_inverse=True, return_counts=True)
    order = np.argsort(number_in, kind="stable")
    x, y = ((np.bincount(at, v) / number_in)[order] for v in (pairs.reference, values))
    number_in = number_in[order]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": _short(x),
        "y": _short(y),
        "yaxis": axis_name,
        "customdata": number_in.tolist(),
        "marker": {
            "size": 3.6,
            "color": np.round(np.log(number_in), 2).tolist(),
            "cmin": 0,
            "cmax": round(float(np.log(number_in[-1])) or 1.0, 2),
            "colorscale": [[0, "@sparse"], [1, "@dense"]],
        },
        "hovertemplate": "about %{x:.3~f}, %{y:.3~f}: %{customdata} points<extra></extra>",
    }


def _short(values: np.ndarray) -> list[float]:
    """Round values to five digits: more digits cannot be seen."""
    return [float(f"{v:.5g}") for v in values]
