"""A screening as one HTML page: how far candidates are from the hull, and how sure that is.

With P_k the probability that the candidate at rank k is stable, whoever computes the first n finds

    Σ_{k≤n} P_k        in the order of the table
    n/M Σ_k P_k        of M in a random order

A million rows are read block by block. Distances become the bars of a histogram, the sum above some
hundred points; ids and decompositions are kept of the rows nearest to the hull alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from math import log10
from pathlib import Path
from typing import Any

import numpy as np

import kohn
from kohn.errors import InputError
from kohn.records import write_atomically
from kohn.reports.figures import Figure, axis, axis_title, base_layout
from kohn.reports.page import _environment, _file, _plotly, script_json
from kohn.reports.parity import FEW, Pairs
from kohn.reports.parity import _figure as parity_figure
from kohn.reports.sections import Cell, Table
from kohn.reports.text import NONE, fixed, number, plural
from kohn.stability.tables import blocks, columns_of
from kohn.typing import Float, Int

WORDS = ("id", "formula", "decomposition")
NUMBERS = ("distance_std", "probability_stable", "distance_95", "distance_labelled")
"""Columns that a table may lack."""
BARS = 60
"""Bars of a histogram, about."""
STEPS = 300
"""Points of a curve, about."""
STRAIGHT = 1000
"""Up to so many candidates, axes of ranks are linear."""
MEV = 1e3


@dataclass(frozen=True, eq=False)
class Ranked:
    """What figures need of a ranked table; row k has rank k + 1.

    Attributes:
        distance: d, eV/atom, NaN where there is no energy, [M].
        stable: whether a row is on the hull or below it, [M].
        numbers: other columns, of those that the table has, [M] each.
        words: row -> id, formula and decomposition, nearest to the hull first, `FEW` at most.
    """

    distance: Float[np.ndarray, " M"]
    stable: np.ndarray
    numbers: Mapping[str, np.ndarray]
    words: Mapping[int, Sequence[str]]


def screening_page(table: str | Path, summary: Mapping[str, Any], out: str | Path) -> Path:
    """Draw the page of a screening.

    Args:
        table: the ranked table, CSV or Parquet.
        summary: what `kohn screen --json` prints.
        out: file to write, or a folder to write `screening.html` in.

    Returns:
        The path of the page.

    Raises:
        InputError: a table that cannot be read, or that is none of a screening.
        TrainingError: the disk refuses.
    """
    target = Path(out)
    if target.is_dir():
        target = target / "screening.html"
    rows = read_ranked(table)
    figures = screening_figures(rows, summary)
    text = (
        _environment()
        .get_template("screening.html")
        .render(
            title=Path(table).name,
            verdict=sentence(summary),
            mixed=[r for r in summary["remarks"] if _is_mixed(r)],
            remarks=[r for r in summary["remarks"] if not _is_mixed(r)],
            facts=facts(summary),
            figures=figures,
            first=yield_table(rows, summary["metrics"] or {}),
            best=best_table(summary),
            figures_json=script_json(figures),
            plotly=_plotly() if figures else "",
            css=_file("page.css"),
            drawn_by=f"Kohn {kohn.__version__}",
        )
    )
    write_atomically(target, text.encode())
    return target


def screening_figures(rows: Ranked, summary: Mapping[str, Any]) -> list[Figure]:
    """The figures that the table has the columns for."""
    if not np.isfinite(rows.distance).any():
        return []
    metrics = summary["metrics"] or {}
    found = [
        distances_figure(rows),
        yield_figure(rows, metrics),
        sigma_figure(rows),
        labels_figure(rows, metrics),
        reliability_figure(metrics),
    ]
    return [f for f in found if f is not None]


# Reading


def read_ranked(table: str | Path) -> Ranked:
    """Numbers of all rows, and words of those nearest to the hull.

    Raises:
        InputError: a file that cannot be read, or that lacks columns.
    """
    file = Path(table)
    there = columns_of(file)
    missing = [n for n in ("distance", "stable", *WORDS) if n not in there]
    if missing:
        raise InputError(
            "the table is none of a screening",
            where=str(file),
            expected=f"columns {', '.join(missing)}",
            received=", ".join(there)[:120],
            fix="give the table that `kohn screen` wrote",
        )
    names = ["distance", *(n for n in NUMBERS if n in there)]
    numbers: dict[str, list[np.ndarray]] = {n: [] for n in names}
    stable, near, read = [np.zeros(0, bool)], [], 0
    for block, _ in blocks(file, [*names, "stable", *WORDS]):
        for n in names:
            numbers[n].append(_numbers(block[n]))
        stable.append(np.array([v in (True, "true") for v in block["stable"]], bool))
        above = np.maximum(numbers["distance"][-1], 0.0)
        words = [block[w] for w in WORDS]
        near += [(above[i], read + i, [w[i] for w in words]) for i in _lowest(above)]
        near = sorted(near, key=lambda kept: kept[:2])[:FEW]
        read += len(above)
    joined = {n: np.concatenate([np.zeros(0), *parts]) for n, parts in numbers.items()}
    words = {row: text for _, row, text in near}
    return Ranked(joined.pop("distance"), np.concatenate(stable), joined, words)


def _numbers(column: Sequence[Any]) -> Float[np.ndarray, " m"]:
    """A column as numbers; an empty field is NaN."""
    return np.array([np.nan if v is None or v == "" else float(v) for v in column])


def _lowest(above: Float[np.ndarray, " m"]) -> list[int]:
    """The `FEW` rows of the lowest value, earlier ones first; none that are NaN."""
    order = np.argsort(above, kind="stable")[:FEW]
    return order[np.isfinite(above[order])].tolist()


# Words


def sentence(summary: Mapping[str, Any]) -> str:
    """What came out."""
    stable, of = summary["stable"], summary["candidates"]
    verb = _is(1 if of == 1 else stable)
    text = f"{stable:,} of {plural(of, 'candidate')} {verb} on the hull or below it"
    if summary["expected_stable"] is not None:
        text += f", and {number(summary['expected_stable'])} are expected to be stable"
    metrics = summary["metrics"]
    if metrics is None:
        return f"{text}."
    true, hits = metrics["true_positives"] + metrics["false_negatives"], metrics["true_positives"]
    chosen = hits + metrics["false_positives"]
    return (
        f"{text}. By labels, {true:,} of {metrics['compared']:,} {_is(true)}; {hits:,} of these "
        f"{_is(hits)} among the {chosen:,} predicted on it or below it."
    )


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _is_mixed(remark: str) -> bool:
    return remark.lower().startswith("mixed")


def facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What else there is to know, in numbers."""
    by = {"probability_stable": "P(stable), then distance"}.get(summary["ranked_by"], "distance")
    found = [("Ranked by", by), ("Chemical systems", f"{summary['systems']:,}")]
    if summary["failed"]:
        found.append(("Without energy", f"{summary['failed']:,}"))
    if summary["in_hull"]:
        found.append(("Entries of the hull too", f"{summary['in_hull']:,}"))
    if summary["structures"] is not None:
        found.append(("Relaxed structures", Path(summary["structures"]).name))
    return found


def yield_table(rows: Ranked, metrics: Mapping[str, Any]) -> Table | None:
    """How many stable ones are expected among the first 10, 30 …; None of few, or without P."""
    found = _sums(rows, metrics)
    if found is None:
        return None
    expected, labelled = found
    m, total = len(expected), float(expected[-1])
    steps = [n for k in range(1, 10) for n in (10**k, 3 * 10**k) if n < m]
    if not steps:
        return None
    lines = []
    for n in [*steps, m]:
        value = float(expected[n - 1])
        better = number(value / total * m / n, 2) if total else NONE
        cells = [f"{n:,}" if n < m else f"all {m:,}", number(value), better]
        cells += [] if labelled is None else [f"{labelled[n - 1]:,}"]
        lines.append(tuple(map(Cell, cells)))
    head = ("first", "expected stable", "times a random choice")
    if labelled is not None:
        head += ("stable by labels",)
    return Table("If you compute the first", head, tuple(lines))


def best_table(summary: Mapping[str, Any]) -> Table:
    """The first rows of the ranked table."""
    shown = summary["head"]
    sure, labelled, failed = (
        any(row.get(name) not in (None, "") for row in shown)
        for name in ("probability_stable", "distance_labelled", "problem")
    )
    head = ["rank", "formula", "id", "from the hull, meV/atom"]
    head += ["± σ, meV/atom", "P(stable)"] if sure else []
    head += ["by label, meV/atom"] if labelled else []
    left = {1, 2, len(head)}
    head += ["would fall into, by share of atoms"]
    if failed:
        left.add(len(head))
        head += ["problem"]
    lines = []
    for row in shown:
        cells = [Cell(f"{int(row['rank']):,}"), Cell(row["formula"]), Cell(row["id"], code=True)]
        cells.append(_mev(row["distance"]))
        if sure:
            p = _known(row["probability_stable"])
            cells += [_mev(row["distance_std"]), Cell(fixed(p, 3), bar=p)]
        cells += [_mev(row["distance_labelled"])] if labelled else []
        cells.append(Cell(row["decomposition"] or NONE, wraps=True))
        cells += [Cell(row["problem"] or "", wraps=True)] if failed else []
        lines.append(tuple(cells))
    rest = summary["candidates"] - len(shown)
    more = f"and {rest:,} more in the table" if rest > 0 else ""
    return Table("First in the ranking", tuple(head), tuple(lines), frozenset(left), more)


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value


def _mev(value: float | None) -> Cell:
    known = _known(value)
    return Cell(fixed(None if known is None else MEV * known, 1))


def _hovers(rows: Ranked, chosen: Sequence[int]) -> list[str]:
    """What is told of points."""
    return [_hover(rows, row) for row in chosen]


def _hover(rows: Ranked, row: int) -> str:
    lines = []
    name, formula, parts = rows.words.get(row, ("", "", ""))
    d, p = MEV * float(rows.distance[row]), rows.numbers.get("probability_stable")
    sigma, label = rows.numbers.get("distance_std"), rows.numbers.get("distance_labelled")
    lines.append(f"<b>{escape(formula)}</b> {escape(name)}" if name else f"rank {row + 1:,}")
    spread = "" if sigma is None else f" ± {fixed(MEV * sigma[row], 1)}"
    lines.append(f"{fixed(d, 1)}{spread} meV/atom from the hull")
    if label is not None and np.isfinite(label[row]):
        lines.append(f"{fixed(MEV * label[row], 1)} meV/atom by label")
    if p is not None:
        lines.append(f"rank {row + 1:,}, P(stable) {p[row]:.3f}")
    if parts:
        lines.append("would fall into<br>" + escape(parts).replace(" + ", "<br>+ "))
    return "<br>".join(lines)


# Figures


def distances_figure(rows: Ranked) -> Figure:
    """How many candidates lie how far from the hull, and the part on it or below it."""
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
        told = chosen & np.isfinite(p)
        expected = np.histogram(d[told], edges, weights=p[told])[0]
        data.append(_outline(edges, expected))
    texts = _of_bars(edges, counts, stable, expected)
    for trace in data:
        trace["customdata"] = [*texts, texts[-1]][: len(trace["x"])]
    layout = _with_legend(360)
    layout |= {"barmode": "overlay", "bargap": 0, "shapes": [_upright(0.0)]}
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
    says = f"Histogram of distances to the hull, {low:.0f} to {high:.0f} meV/atom. {note}."
    return Figure("distances", "Distance to the hull", note, data, layout, says)


def window(values: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """A range that few values far away from all others do not stretch."""
    low, high = np.percentile(values, [1, 99])
    room = (high - low) / 2
    return max(values.min(), low - room), min(values.max(), high + room)


def _edges(low: float, high: float) -> Float[np.ndarray, " B+1"]:
    """Edges of bars, round numbers, 0 among them."""
    width = max((high - low) / BARS, 1e-3)
    power = 10.0 ** np.floor(np.log10(width))
    width = next(f * power for f in (1, 2, 5, 10) if f * power >= width * (1 - 1e-9))
    first, last = np.floor(low / width), np.floor(high / width) + 1
    return np.arange(int(first), int(last) + 1) * width


def _bars(
    edges: Float[np.ndarray, " B+1"], counts: np.ndarray, name: str, colour: str
) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": _short((edges[1:] + edges[:-1]) / 2),
        "y": counts.tolist(),
        "width": float(f"{edges[1] - edges[0]:.6g}"),
        "marker": {"color": colour, "line": {"width": 0}},
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _outline(edges: Float[np.ndarray, " B+1"], expected: np.ndarray) -> dict[str, Any]:
    """Expected stable ones in each bar, as steps."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "expected stable",
        "x": _short(edges),
        "y": _short(np.append(expected, expected[-1])),
        "line": {"color": "@second", "width": 2, "shape": "hv"},
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _of_bars(
    edges: Float[np.ndarray, " B+1"],
    counts: Int[np.ndarray, " B"],
    stable: Int[np.ndarray, " B"],
    expected: Float[np.ndarray, " B"] | None,
) -> list[str]:
    """What is told of each bar."""
    told = []
    for k, (a, b) in enumerate(pairwise(edges.tolist())):
        text = f"{a:,.6g} to {b:,.6g} meV/atom".replace("-", "−")
        text += f"<br>{plural(int(counts[k]), 'candidate')}"
        text += f", {stable[k]:,} on the hull or below it" if stable[k] else ""
        text += "" if expected is None else f"<br>{number(float(expected[k]))} expected stable"
        told.append(text)
    return told


def yield_figure(rows: Ranked, metrics: Mapping[str, Any]) -> Figure | None:
    """Σ P against the number of candidates that are computed; None without P."""
    found = _sums(rows, metrics)
    if found is None:
        return None
    expected, labelled = found
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
    says = f"Expected number of stable candidates among the first n of the ranking. {note}."
    return Figure("yield", "Stable among the first n", note, lines, layout, says)


def _sums(
    rows: Ranked, metrics: Mapping[str, Any]
) -> tuple[Float[np.ndarray, " m"], Int[np.ndarray, " m"] | None] | None:
    """Σ P up to each rank, of rows that have a P; and how many of these labels call stable.

    None of fewer than two.
    """
    p = rows.numbers.get("probability_stable")
    if p is None or np.isfinite(p).sum() < 2:
        return None
    known, truth = np.isfinite(p), rows.numbers.get("distance_labelled")
    if truth is None or not metrics:
        return np.cumsum(p[known]), None
    stable = metrics["true_positives"] + metrics["false_negatives"]
    lowest = np.sort(truth[np.isfinite(truth)])[:stable]  # those within the tolerance
    return np.cumsum(p[known]), np.cumsum(truth[known] <= lowest.max(initial=-np.inf))


def _ranks(m: int) -> Int[np.ndarray, " k"]:
    """All ranks of a few; of many, ranks close together at the start."""
    if m <= 2 * STEPS:
        return np.arange(1, m + 1)
    return np.unique(np.rint(np.geomspace(1, m, STEPS)).astype(int))


def _line(
    x: Int[np.ndarray, " k"], y: np.ndarray, name: str, colour: str, dash: str = "solid"
) -> dict[str, Any]:
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
    """Distance against σ of the candidates nearest to the hull; None without σ."""
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
    layout["shapes"], layout["annotations"] = _wedge(rows, near, (low - room, high + room), top)
    rest = int(np.isfinite(rows.distance).sum()) - len(near)
    note = f"the {len(near):,} below the hull or nearest above" if rest else "all candidates"
    beyond = int(((x < low - room) | (x > high + room) | (y > top)).sum())
    note += ", shaded by P(stable)" + (f"; {beyond:,} beyond the axes" if beyond else "")
    says = f"Distances to the hull against their standard deviations: {note}."
    return Figure("sigma", "How sure the distances are", note, [points], layout, says)


def _wedge(
    rows: Ranked, near: Sequence[int], across: tuple[float, float], top: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The hull, and lines where P(stable) is 5 % and 95 %, where d₉₅ tells that: d = ±z σ."""
    shapes, marks = [_upright(0.0)], [_mark(0.0, top, "50 %")]
    sigma, high = rows.numbers["distance_std"][near], rows.numbers.get("distance_95")
    wide = sigma > 1e-6
    if high is None or not wide.any():
        return shapes, marks
    z = ((high[near] - rows.distance[near])[wide]) / sigma[wide]
    if np.ptp(z) > 1e-6 * abs(z[0]):  # samples, which have no straight lines
        return shapes, marks
    for sign, text in ((1, "P = 5 %"), (-1, "95 %")):
        x, y = sign * z[0] * top, top
        edge = across[1] if sign > 0 else across[0]  # 0 is between them
        if abs(x) > abs(edge):  # leaves at the side
            x, y = edge, abs(edge) / z[0]
        shapes.append(_segment(0.0, 0.0, float(x), float(y)))
        if abs(x) > 0.1 * (across[1] - across[0]):  # else in the way of the hull's
            marks.append(_mark(float(x), float(y), text, "right" if sign > 0 else "left"))
    return shapes, marks


def labels_figure(rows: Ranked, metrics: Mapping[str, Any]) -> Figure | None:
    """Predicted distances against those by labels; None without labels."""
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
    layout["shapes"] += [_upright(0.0), _level(0.0)]
    if len(shown) <= FEW:
        for trace in figure.data:
            trace |= {"customdata": _hovers(rows, shown.tolist())}
            trace |= {"hovertemplate": "%{customdata}<extra></extra>"}
    note = f"MAE {_in_mev(metrics['mae'])} meV/atom · precision {number(metrics['precision'], 2)}"
    note += f", recall {number(metrics['recall'], 2)} · {metrics['compared']:,} labels"
    beyond = int(both.sum()) - len(shown)
    note += f", {beyond:,} of them beyond the axes" if beyond else ""
    says = f"Predicted distances to the hull against those by labels, errors below. {note}."
    return replace(figure, note=note, alternative=says)


def _in_mev(value: float | None) -> str:
    return number(None if value is None else MEV * value)


def reliability_figure(metrics: Mapping[str, Any]) -> Figure | None:
    """Which share was stable of those that got a P, by P; None without labels or P."""
    c = metrics.get("calibration")
    if c is None:
        return None
    edges, told, seen = (np.asarray(c[n], float) for n in ("edges", "predicted", "observed"))
    interval, counts = np.asarray(c["interval"], float), np.asarray(c["counts"], int)
    b = np.flatnonzero(counts)
    low, high = np.clip(interval[b], 0.0, 1.0).T
    reach = {"symmetric": False, "array": _short(high - seen[b])}
    reach |= {"arrayminus": _short(seen[b] - low), "color": "@accent", "thickness": 1.4, "width": 4}
    points = {"type": "scatter", "mode": "markers", "x": _short(told[b]), "y": _short(seen[b])}
    points |= {"marker": {"size": 9, "color": "@accent"}, "error_y": reach}
    points |= {"hovertemplate": "%{customdata}<extra></extra>"}
    points["customdata"] = [
        f"{counts[k]:,} with P {edges[k]:.2g} to {edges[k + 1]:.2g}, {told[k]:.3f} on average<br>"
        f"{seen[k]:.3f} are stable; 95 % interval {lo:.3f} to {hi:.3f}"
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
    says = f"Share of stable candidates against P(stable), with 95 % intervals. {note}."
    layout = _reliability_layout(counts)
    return Figure("reliability", "Reliability of P(stable)", note, [points, bars], layout, says)


def _reliability_layout(counts: Int[np.ndarray, " B"]) -> dict[str, Any]:
    """Shares above, counts below."""
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


# What figures share


def _with_legend(height: int) -> dict[str, Any]:
    layout = base_layout(height)
    layout["showlegend"] = True
    layout["legend"] = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    layout["margin"] |= {"t": 48}
    return layout


def _decades(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis whose ticks are powers of ten."""
    ticks = "~s" if low >= 0.5 else ",~r"  # 10k; 0.1
    return {"type": "log", "range": [log10(low), log10(high)], "dtick": 1, "tickformat": ticks}


def _segment(x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    ends = {"x0": x0, "y0": y0, "x1": x1, "y1": y1}
    return {"type": "line", "line": {"color": "@muted", "width": 1, "dash": "dot"}} | ends


def _upright(x: float) -> dict[str, Any]:
    """A line over the whole height: where the hull is."""
    line = _segment(x, 0, x, 1) | {"yref": "y domain"}
    return line | {"line": {"color": "@ink", "width": 1, "dash": "dot"}}


def _level(y: float) -> dict[str, Any]:
    line = _segment(0, y, 1, y) | {"xref": "x domain"}
    return line | {"line": {"color": "@ink", "width": 1, "dash": "dot"}}


def _mark(x: float, y: float, text: str, side: str = "center") -> dict[str, Any]:
    """Words at the end of a line."""
    place = {"x": x, "y": y, "text": text, "xanchor": side, "yanchor": "bottom"}
    return place | {"showarrow": False, "font": {"size": 11, "color": "@muted"}}


def _short(values: np.ndarray) -> list[float]:
    """Numbers of six digits: more cannot be seen."""
    return [float(f"{v:.6g}") for v in values]
