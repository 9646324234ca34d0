"""Build the learning curves, and the parts that all figures share, as data for plotly.js.

A colour is written '@name' and stands for the CSS variable --name of the page, so that
figures follow the reader's light or dark scheme; a script in the page inserts the value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kohn.reports.run import Run
from kohn.reports.text import number
from kohn.structures.properties import PROPERTIES
from kohn.typing import Document
from kohn.units import GPA


@dataclass(frozen=True)
class Figure:
    """A figure and the text around the figure.

    Attributes:
        key: id of the figure in the page.
        title: text above the figure.
        note: the main numbers of the figure, next to the title.
        data, layout: traces and layout of plotly.js.
        alternative: description for readers who cannot see the figure.
    """

    key: str
    title: str
    note: str
    data: list[Document]
    layout: Document
    alternative: str


@dataclass(frozen=True)
class Line:
    """A curve: the key of its values in records, a name, a colour, and a factor on the values."""

    key: str
    name: str
    colour: str
    factor: float = 1.0


VALIDATION = (
    ("forces", "Forces, validation", "meV/Å", 1e3),
    ("energy_per_atom", "Energy per atom, validation", "meV/atom", 1e3),
    ("stress", "Stress, validation", "GPa", 1 / GPA),
)


def learning_curves(run: Run) -> list[Figure]:
    """Return figures of losses, validation errors and the learning rate against the epoch."""
    if not run.epochs:
        return []
    lines = (Line("train_loss", "train", "@second"), Line("valid_loss", "valid", "@accent"))
    shown = any(_values(run, line) for line in lines)
    figures = [_curves(run, "loss", "Loss", "", lines)] if shown else []
    for name, title, unit, factor in (*VALIDATION, *_other_properties(run)):
        pair = (
            Line(f"valid_{name}_rmse", "RMSE", "@second", factor),
            Line(f"valid_{name}_mae", "MAE", "@accent", factor),
        )
        if any(_values(run, line) for line in pair):
            figures.append(_curves(run, f"valid-{name}", title, unit, pair))
    rate = (Line("learning_rate", "", "@accent"),)
    if _values(run, rate[0]):
        figures.append(_curves(run, "rate", "Learning rate", "", rate))
    return figures


def _other_properties(run: Run) -> list[tuple[str, str, str, float]]:
    """Return (name, title, unit, factor) of validated properties that `VALIDATION` lacks."""
    known = {name for name, *_ in VALIDATION}
    keys = {k for r in run.epochs for k in r if k.startswith("valid_") and k.endswith("_mae")}
    names = sorted({k.removeprefix("valid_").removesuffix("_mae") for k in keys} - known)
    units = {n: PROPERTIES[n].unit if n in PROPERTIES else "" for n in names}
    return [(n, f"{n.replace('_', ' ').capitalize()}, validation", units[n], 1.0) for n in names]


def _values(run: Run, line: Line) -> list[float]:
    values = (r.get(line.key) for r in run.epochs)
    return [v * line.factor for v in values if v is not None and v > 0]


def _curves(run: Run, key: str, title: str, unit: str, lines: Sequence[Line]) -> Figure:
    lines = [line for line in lines if _values(run, line)]
    everything = [v for line in lines for v in _values(run, line)]
    low, high = _decades(everything)
    end = max(run.last_epoch, (run.planned_epochs or 0) if run.state == "unfinished" else 0)
    layout = base_layout(260)
    layout["xaxis"] |= {"title": axis_title("epoch"), "range": [0, end * 1.01 or 1]}
    layout["yaxis"] |= {"type": "log", "range": [low, high]}
    layout["yaxis"] |= {"title": axis_title(unit or title.lower()), **_ticks(low, high)}
    layout["margin"]["r"] = 52 if lines[-1].name else 20
    layout["shapes"], marks = _epoch_marks(run, end)
    layout["annotations"] = [*marks, *_end_labels(run, lines, high - low)]
    ends = ", ".join(f"{line.name} {number(_values(run, line)[-1])}".strip() for line in lines)
    note = f"last: {ends} {unit}".strip()
    alternative = f"{title} against epochs on a logarithmic axis. {note}."
    return Figure(f"curve-{key}", title, note, _traces(run, lines, unit), layout, alternative)


def _traces(run: Run, lines: Sequence[Line], unit: str) -> list[Document]:
    traces = []
    for line in lines:
        pairs = [(r["epoch"], r.get(line.key)) for r in run.epochs]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(pairs) <= 30 else "lines",
                "name": line.name,
                "x": [e for e, _ in pairs],
                "y": [v * line.factor if v is not None and v > 0 else None for _, v in pairs],
                "line": {"color": line.colour, "width": 2},
                "marker": {"size": 5, "color": line.colour},
                "hovertemplate": f"epoch %{{x}}: {line.name} %{{y:.4~g}} {unit}<extra></extra>",
            }
        )
    return traces


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Return log10 of the limits of an axis: the values with a margin, at least 0.35 decades."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.04 * (high - low), (0.35 - (high - low)) / 2, 0.02)
    return low - room, high + room


_MANTISSAS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))
"""Mantissas of the ticks in each decade, from coarse to fine."""


def _ticks(low: float, high: float) -> Document:
    """Return ticks from 10**low to 10**high: the coarsest mantissas that give three or more."""
    ticks: list[float] = []
    for mantissas in _MANTISSAS:
        decades = range(math.floor(low), math.ceil(high) + 1)
        ticks = [float(f"{m}e{d}") for d in decades for m in mantissas]
        ticks = [t for t in ticks if low <= math.log10(t) <= high]
        if len(ticks) >= 3:
            break
    ticks = ticks[:: math.ceil(len(ticks) / 7) or 1]
    return {"tickvals": ticks, "ticktext": [_tick(t) for t in ticks]}


def _tick(value: float) -> str:
    if 1e-5 <= value < 1e5:
        return f"{value:,.10g}" if value >= 1 else f"{value:.10f}".rstrip("0")
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = round(value / 10**exponent, 1)
    power = f"10<sup>{exponent}</sup>".replace("-", "−")
    return power if mantissa == 1 else f"{mantissa:g}·{power}"


def _epoch_marks(run: Run, end: float) -> tuple[list[Document], list[Document]]:
    """Return vertical lines where the loss weights change and at the best epoch, and labels."""
    best = run.best["epoch"] if run.best else None
    late = run.late_from if run.late_from is not None and run.late_from <= end else None
    marks = [] if late is None else [(late, "late weights", "dash")]
    marks += [] if best in (None, run.last_epoch) else [(best, "best", "dot")]
    shapes, labels = [], []
    for k, (x, text, dash) in enumerate(sorted(marks)):
        line = {"color": "@muted", "width": 1, "dash": dash}
        shapes.append(
            {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1}
            | {"line": line}
        )
        right = k == 0 if len(marks) == 2 else x > end / 2  # two labels point away from each other
        labels.append(
            {"text": text, "x": x, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False}
            | {"xanchor": "right" if right else "left", "font": {"size": 11, "color": "@muted"}}
        )
    return shapes, labels


def _end_labels(run: Run, lines: Sequence[Line], decades: float) -> list[Document]:
    """Return labels with the names of curves at their ends, moved apart if they would touch."""
    named = [line for line in lines if line.name]
    ends = [(math.log10(_values(run, line)[-1]), line) for line in named]
    ends.sort(key=lambda pair: pair[0])
    shift = [0.0] * len(ends)
    if len(ends) == 2:
        apart = (ends[1][0] - ends[0][0]) / decades * 190
        push = max(0.0, 15 - apart) / 2
        shift = [-push, push]
    return [
        {"text": line.name, "x": run.last_epoch, "y": y, "xanchor": "left", "xshift": 6}
        | {"yshift": s, "showarrow": False, "font": {"color": line.colour, "size": 12}}
        for (y, line), s in zip(ends, shift, strict=True)
    ]


def axis_title(text: str) -> Document:
    """Return the title of an axis as plotly.js takes titles."""
    return {"text": text, "standoff": 6, "font": {"size": 12}}


def axis() -> Document:
    """Return the settings that all axes share."""
    return {
        "gridcolor": "@grid",
        "linecolor": "@line",
        "zeroline": False,
        "ticks": "",
        "automargin": True,
        "fixedrange": False,
    }


def base_layout(height: int) -> Document:
    """Return the layout that all figures share."""
    return {
        "height": height,
        "margin": {"l": 48, "r": 16, "t": 22, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "@muted"},
        "showlegend": False,
        "hoverlabel": {
            "bgcolor": "@surface",
            "bordercolor": "@line",
            "font": {"color": "@ink", "family": "system-ui, sans-serif"},
        },
        "xaxis": axis(),
        "yaxis": axis(),
    }
