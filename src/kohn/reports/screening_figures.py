"""Draw a screening: distances, σ, and the stable candidates among the first n of a ranking.

Let P_k be P(stable) at rank k. The expected number of stable candidates among the first n is

    Σ_{k≤n} P_k        in the order of the table
    n/M Σ_k P_k        of M candidates in a random order

Pages stay small: distances become a histogram, the sum is drawn at a few hundred values of n.
"""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from itertools import pairwise
from math import log10

import numpy as np

from kohn.reports.figures import Figure, axis, axis_title, base_layout
from kohn.reports.formulas import decomposition, subscripts
from kohn.reports.parity import FEW, Pairs, parity_figure
from kohn.reports.ranked import Ranked, cumulative_stable
from kohn.reports.text import fixed, number, plural
from kohn.typing import Document, Float, Int

BARS = 60
"""Approximate number of bars of a histogram."""
STEPS = 300
"""Approximate number of points of a curve."""
STRAIGHT = 1000
"""Largest number of candidates for which axes of ranks are linear."""
MEV = 1e3


def screening_figures(rows: Ranked, summary: Document) -> list[Figure]:
    """Return the figures for which the ranked table has the columns."""
    if not np.isfinite(rows.distance).any():
        return []
    metrics = summary["metrics"] or {}
    figures = [
        distances_figure(rows),
        yield_figure(rows, metrics),
        sigma_figure(rows),
        labels_figure(rows, metrics),
        reliability_figure(metrics),
    ]
    return [f for f in figures if f is not None]


def _hovers(rows: Ranked, chosen: Sequence[int]) -> list[str]:
    """Return the hover text of each of the chosen rows."""
    return [_hover(rows, row) for row in chosen]


def _hover(rows: Ranked, row: int) -> str:
    lines = []
    name, formula, parts = rows.words.get(row, ("", "", ""))
    d, p = MEV * float(rows.distance[row]), rows.numbers.get("probability_stable")
    sigma, label = rows.numbers.get("distance_std"), rows.numbers.get("distance_labelled")
    lines.append(f"<b>{subscripts(formula)}</b> {escape(name)}" if name else f"rank {row + 1:,}")
    spread = "" if sigma is None else f" ± {fixed(MEV * sigma[row], 1)}"
    lines.append(f"{fixed(d, 1)}{spread} meV/atom from the hull")
    if label is not None and np.isfinite(label[row]):
        lines.append(f"{fixed(MEV * label[row], 1)} meV/atom by label")
    if p is not None:
        lines.append(f"rank {row + 1:,}, P(stable) {p[row]:.3f}")
    if parts:
        lines.append("would fall into<br>" + str(decomposition(parts)).replace(" + ", "<br>+ "))
    return "<br>".join(lines)


def distances_figure(rows: Ranked) -> Figure:
    """Return a histogram of distances to the hull, with the candidates on or below the hull."""
    d, p = MEV * rows.distance, rows.numbers.get("probability_stable")
    low, high = window(np.append(d[np.isfinite(d)], 0.0))
    edges = _edges(low, high)
    chosen = np.isfinite(d) & (d >= edges[0]) & (d <= edges[-1])
    counts, stable = (np.histogram(d[k], edges)[0] for k in (chosen, chosen & rows.stable))
    data = [
        _bars(edges, counts, "above the hull", "@sparse"),
        _bars(edges, stable, "on the hull or below it", "@accent"),
    ]
    expected = None
    if p is not None:
        known = chosen & np.isfinite(p)
        expected = np.histogram(d[known], edges, weights=p[known])[0]
        data.append(_outline(edges, expected))
    texts = _bar_texts(edges, counts, stable, expected)
    for trace in data:
        trace["customdata"] = [*texts, texts[-1]][: len(trace["x"])]
    layout = _with_legend(360)
    layout |= {"barmode": "overlay", "bargap": 0, "shapes": [_vertical_line(0.0)]}
    layout["xaxis"] |= {"title": axis_title("distance to the hull, meV/atom")}
    layout["xaxis"] |= {"range": [float(edges[0]), float(edges[-1])]}
    layout["yaxis"] |= {"title": axis_title("candidates")}
    most = float(counts.max())
    layout["yaxis"] |= {"range": [0, 1.05 * most]} | ({"dtick": 1} if most < 6 else {})
    if most > 200 * max(1, stable.max()):  # bars that a linear axis would not show
        layout["yaxis"] |= _decades(0.5, 2.0 * most)
    beyond = int(np.isfinite(d).sum() - chosen.sum())
    note = f"{plural(int(rows.stable.sum()), 'candidate')} on the hull or below it"
    note += f"; {number(float(np.nansum(p)))} expected to be stable" if p is not None else ""
    note += f"; {beyond:,} beyond the axis" if beyond else ""
    alternative = f"Histogram of distances to the hull, {low:.0f} to {high:.0f} meV/atom. {note}."
    return Figure("distances", "Distance to the hull", note, data, layout, alternative)


def window(values: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """Return an axis range: percentiles 1 to 99 with a margin, so outliers do not stretch it."""
    low, high = np.percentile(values, [1, 99])
    room = (high - low) / 2
    return max(values.min(), low - room), min(values.max(), high + room)


def _edges(low: float, high: float) -> Float[np.ndarray, " B+1"]:
    """Return edges of histogram bars at round numbers, with 0 among the edges."""
    width = max((high - low) / BARS, 1e-3)
    power = 10.0 ** np.floor(np.log10(width))
    width = next(f * power for f in (1, 2, 5, 10) if f * power >= width * (1 - 1e-9))
    first, last = np.floor(low / width), np.floor(high / width) + 1
    return np.arange(int(first), int(last) + 1) * width


def _bars(edges: Float[np.ndarray, " B+1"], counts: np.ndarray, name: str, colour: str) -> Document:
    return {
        "type": "bar",
        "name": name,
        "x": _short((edges[1:] + edges[:-1]) / 2),
        "y": counts.tolist(),
        "width": float(f"{edges[1] - edges[0]:.6g}"),
        "marker": {"color": colour, "line": {"width": 0}},
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _outline(edges: Float[np.ndarray, " B+1"], expected: np.ndarray) -> Document:
    """Return the expected number of stable candidates in each bar, as a line with steps."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "expected stable",
        "x": _short(edges),
        "y": _short(np.append(expected, expected[-1])),
        "line": {"color": "@second", "width": 2, "shape": "hv"},
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _bar_texts(
    edges: Float[np.ndarray, " B+1"],
    counts: Int[np.ndarray, " B"],
    stable: Int[np.ndarray, " B"],
    expected: Float[np.ndarray, " B"] | None,
) -> list[str]:
    """Return the hover text of each bar of a histogram."""
    texts = []
    for k, (a, b) in enumerate(pairwise(edges.tolist())):
        text = f"{a:,.6g} to {b:,.6g} meV/atom".replace("-", "−")
        text += f"<br>{plural(int(counts[k]), 'candidate')}"
        text += f", {stable[k]:,} on the hull or below it" if stable[k] else ""
        text += "" if expected is None else f"<br>{number(float(expected[k]))} expected stable"
        texts.append(text)
    return texts


def yield_figure(rows: Ranked, metrics: Document) -> Figure | None:
    """Return the expected stable candidates among the first n against n; None without P(stable)."""
    sums = cumulative_stable(rows, metrics)
    if sums is None:
        return None
    expected, labelled = sums
    m, total = len(expected), float(expected[-1])
    n = _ranks(m)
    lines = [
        _line(n, expected[n - 1], "expected, by rank", "@accent"),
        _line(n, n * (total / m), "expected, in random order", "@muted", "dash"),
    ]
    if labelled is not None:
        lines.append(_line(n, labelled[n - 1], "found, by labels", "@second"))
    layout = _with_legend(360)
    layout["xaxis"] |= {"title": axis_title("first candidates that are computed")}
    layout["yaxis"] |= {"title": axis_title("stable among them")}
    highest = max(total, 0 if labelled is None else float(labelled[-1]), 1e-3)
    if m > STRAIGHT:
        for line in lines:
            line["y"] = [y or None for y in line["y"]]  # a logarithmic axis has no 0
        layout["xaxis"] |= _decades(1.0, 1.2 * m)
        layout["yaxis"] |= _decades(max(min(total / m, expected[0]), 1e-3), 2 * max(highest, 1.0))
    else:
        for line in lines:
            line["x"], line["y"] = [0, *line["x"]], [0.0, *line["y"]]
        layout["xaxis"] |= {"range": [0, 1.02 * m]}
        layout["yaxis"] |= {"range": [0, 1.05 * highest]}
    half = int(np.searchsorted(expected, total / 2)) + 1
    note = f"half of the {number(total)} expected are among the first {half:,} of {m:,}"
    alternative = f"Expected number of stable candidates among the first n of the ranking. {note}."
    return Figure("yield", "Stable among the first n", note, lines, layout, alternative)


def _ranks(m: int) -> Int[np.ndarray, " k"]:
    """Return the ranks 1 to m, or, if m is large, about `STEPS` ranks, densest at the start."""
    if m <= 2 * STEPS:
        return np.arange(1, m + 1)
    return np.unique(np.rint(np.geomspace(1, m, STEPS)).astype(int))


def _line(
    x: Int[np.ndarray, " k"], y: np.ndarray, name: str, colour: str, dash: str = "solid"
) -> Document:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x.tolist(),
        "y": _short(y),
        "line": {"color": colour, "width": 2, "dash": dash},
        "hovertemplate": f"first %{{x:,}}: %{{y:,.4~g}} {name}<extra></extra>",
    }


def sigma_figure(rows: Ranked) -> Figure | None:
    """Return σ against distance to the hull for the nearest candidates, or None without any σ."""
    sigma, p = (rows.numbers.get(n) for n in ("distance_std", "probability_stable"))
    if sigma is None or p is None:
        return None
    near = [row for row in rows.words if np.isfinite(sigma[row]) and np.isfinite(p[row])]
    if not near:
        return None
    x, y = MEV * rows.distance[near], MEV * sigma[near]
    low, high = window(np.append(x, 0.0))
    room, top = 0.04 * max(high - low, 1.0), 1.1 * max(window(y)[1], 0.1)
    marker = {"size": 6, "opacity": 0.85, "color": np.round(p[near], 4).tolist()}
    marker |= {"cmin": 0, "cmax": 1, "colorscale": [[0, "@sparse"], [1, "@dense"]]}
    marker |= {"showscale": True, "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.9}}
    points = {"type": "scatter", "mode": "markers", "x": _short(x), "y": _short(y)}
    points |= {"marker": marker, "customdata": _hovers(rows, near)}
    points |= {"hovertemplate": "%{customdata}<extra></extra>"}
    layout = base_layout(490)
    layout["xaxis"] |= {"title": axis_title("distance to the hull, meV/atom")}
    layout["xaxis"] |= {"range": [float(low - room), float(high + room)]}
    layout["yaxis"] |= {"title": axis_title("σ of the distance, meV/atom")}
    layout["yaxis"] |= {"range": [0, float(top)]}
    layout["shapes"], layout["annotations"] = _contours(rows, near, (low - room, high + room), top)
    rest = int(np.isfinite(rows.distance).sum()) - len(near)
    note = f"the {len(near):,} below the hull or nearest above" if rest else "all candidates"
    beyond = int(((x < low - room) | (x > high + room) | (y > top)).sum())
    note += ", shaded by P(stable)" + (f"; {beyond:,} beyond the axes" if beyond else "")
    alternative = f"Distances to the hull against their standard deviations: {note}."
    return Figure("sigma", "How sure the distances are", note, [points], layout, alternative)


def _contours(
    rows: Ranked, near: Sequence[int], across: tuple[float, float], top: float
) -> tuple[list[Document], list[Document]]:
    """Return lines of P(stable) = 50 % and, if distance_95 gives z, 5 and 95 %: distance ±z σ."""
    shapes, marks = [_vertical_line(0.0)], [_label(0.0, top, "50 %")]
    sigma, high = rows.numbers["distance_std"][near], rows.numbers.get("distance_95")
    wide = sigma > 1e-6
    if high is None or not wide.any():
        return shapes, marks
    z = ((high[near] - rows.distance[near])[wide]) / sigma[wide]
    if np.ptp(z) > 1e-6 * abs(z[0]):  # from samples: the lines are not straight
        return shapes, marks
    for sign, text in ((1, "P = 5 %"), (-1, "95 %")):
        x, y = sign * z[0] * top, top
        edge = across[1] if sign > 0 else across[0]  # 0 is between the edges
        if abs(x) > abs(edge):  # the line leaves at the side
            x, y = edge, abs(edge) / z[0]
        shapes.append(_segment(0.0, 0.0, float(x), float(y)))
        if abs(x) > 0.1 * (across[1] - across[0]):  # else it covers the mark of the hull
            marks.append(_label(float(x), float(y), text, "right" if sign > 0 else "left"))
    return shapes, marks


def labels_figure(rows: Ranked, metrics: Document) -> Figure | None:
    """Return predicted distances to the hull against distances by labels; None without labels."""
    truth = rows.numbers.get("distance_labelled")
    if truth is None:
        return None
    both = np.isfinite(truth) & np.isfinite(rows.distance)
    if not both.any():
        return None
    low, high = window(np.concatenate([truth[both], rows.distance[both]]))
    inside = both & (np.minimum(truth, rows.distance) >= low)
    shown = np.flatnonzero(inside & (np.maximum(truth, rows.distance) <= high))
    values = truth[shown], rows.distance[shown]
    pairs = Pairs(
        "distance", "Distances against labels", "eV/atom", "meV/atom", MEV, *values, shown
    )
    figure = parity_figure(pairs)
    layout = figure.layout
    layout["xaxis"] |= {"title": axis_title("distance by label, eV/atom")}
    layout["yaxis"] |= {"title": axis_title("predicted, eV/atom")}
    layout["shapes"] += [_vertical_line(0.0), _horizontal_line(0.0)]
    if len(shown) <= FEW:
        for trace in figure.data:
            trace |= {"customdata": _hovers(rows, shown.tolist())}
            trace |= {"hovertemplate": "%{customdata}<extra></extra>"}
    note = f"MAE {_in_mev(metrics['mae'])} meV/atom · precision {number(metrics['precision'], 2)}"
    note += f", recall {number(metrics['recall'], 2)} · {metrics['compared']:,} labels"
    beyond = int(both.sum()) - len(shown)
    note += f", {beyond:,} of them beyond the axes" if beyond else ""
    alternative = f"Predicted distances to the hull against those by labels, errors below. {note}."
    return replace(figure, note=note, alternative=alternative)


def _in_mev(value: float | None) -> str:
    return number(None if value is None else MEV * value)


def reliability_figure(metrics: Document) -> Figure | None:
    """Return the share that is stable against P(stable); None without labels or probabilities."""
    c = metrics.get("calibration")
    if c is None:
        return None
    edges, p, rate = (np.asarray(c[n], float) for n in ("edges", "predicted", "observed"))
    interval, counts = np.asarray(c["interval"], float), np.asarray(c["counts"], int)
    b = np.flatnonzero(counts)
    low, high = np.clip(interval[b], 0.0, 1.0).T
    reach = {"symmetric": False, "array": _short(high - rate[b])}
    reach |= {"arrayminus": _short(rate[b] - low), "color": "@accent", "thickness": 1.4, "width": 4}
    points = {"type": "scatter", "mode": "markers", "x": _short(p[b]), "y": _short(rate[b])}
    points |= {"marker": {"size": 9, "color": "@accent"}, "error_y": reach}
    points |= {"hovertemplate": "%{customdata}<extra></extra>"}
    points["customdata"] = [
        f"{counts[k]:,} with P {edges[k]:.2g} to {edges[k + 1]:.2g}, {p[k]:.3f} on average<br>"
        f"{rate[k]:.3f} are stable; 95 % interval {lo:.3f} to {hi:.3f}"
        for k, lo, hi in zip(b.tolist(), low, high, strict=True)
    ]
    bars = _bars(edges, counts, "candidates", "@sparse") | {"yaxis": "y2", "xaxis": "x"}
    bars["customdata"] = [
        f"{plural(int(counts[k]), 'candidate')} with P {lo:.2g} to {hi:.2g}"
        for k, (lo, hi) in enumerate(pairwise(edges.tolist()))
    ]
    note = f"Brier {number(c['brier'], 2)} · calibration error {number(c['expected_error'], 2)}"
    if (z2 := metrics.get("mean_z2")) is not None:
        note += f" · mean (error/σ)² {number(z2, 2)}; 1 is right"
    text = f"Share of stable candidates against P(stable), with 95 % intervals. {note}."
    layout = _reliability_layout(counts)
    return Figure("reliability", "Reliability of P(stable)", note, [points, bars], layout, text)


def _reliability_layout(counts: Int[np.ndarray, " B"]) -> Document:
    """Return a layout with shares above and numbers of candidates below."""
    layout = base_layout(490)
    layout["xaxis"] |= {"title": axis_title("P(stable)"), "range": [-0.02, 1.02], "anchor": "y2"}
    layout["yaxis"] |= {"title": axis_title("share that is stable, by labels")}
    layout["yaxis"] |= {"range": [-0.03, 1.03], "domain": [0.34, 1]}
    layout["yaxis2"] = axis() | {"title": axis_title("candidates"), "domain": [0, 0.24]}
    layout["yaxis2"] |= {"nticks": 4}
    if counts.max() > 50 * counts[counts > 0].min():
        layout["yaxis2"] |= _decades(0.5, 2.0 * float(counts.max()))
    layout["shapes"] = [_segment(0.0, 0.0, 1.0, 1.0)]
    return layout


def _with_legend(height: int) -> Document:
    layout = base_layout(height)
    layout["showlegend"] = True
    layout["legend"] = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    layout["margin"] |= {"t": 48}
    return layout


def _decades(low: float, high: float) -> Document:
    """Return a logarithmic axis whose ticks are powers of ten."""
    ticks = "~s" if low >= 0.5 else ",~r"  # 10k; 0.1
    return {"type": "log", "range": [log10(low), log10(high)], "dtick": 1, "tickformat": ticks}


def _segment(x0: float, y0: float, x1: float, y1: float) -> Document:
    ends = {"x0": x0, "y0": y0, "x1": x1, "y1": y1}
    return {"type": "line", "line": {"color": "@muted", "width": 1, "dash": "dot"}} | ends


def _vertical_line(x: float) -> Document:
    """Return a vertical line over the whole height at `x`, e.g. at the hull."""
    line = _segment(x, 0, x, 1) | {"yref": "y domain"}
    return line | {"line": {"color": "@ink", "width": 1, "dash": "dot"}}


def _horizontal_line(y: float) -> Document:
    line = _segment(0, y, 1, y) | {"xref": "x domain"}
    return line | {"line": {"color": "@ink", "width": 1, "dash": "dot"}}


def _label(x: float, y: float, text: str, side: str = "center") -> Document:
    """Return a label at the end of a line."""
    place = {"x": x, "y": y, "text": text, "xanchor": side, "yanchor": "bottom"}
    return place | {"showarrow": False, "font": {"size": 11, "color": "@muted"}}


def _short(values: np.ndarray) -> list[float]:
    """Round values to six digits: more digits cannot be seen."""
    return [float(f"{v:.6g}") for v in values]
