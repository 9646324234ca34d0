"""A convex hull as one HTML page: the picture, what is on it, and what lies how far above."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

import kohn
from kohn.records import write_atomically
from kohn.reports.figures import Figure, axis_title, base_layout
from kohn.reports.page import _environment, _file, _plotly, script_json
from kohn.reports.sections import Cell, Table
from kohn.reports.text import fixed, plural

CORNERS = {
    3: np.array([[0.0, 0.0], [1.0, 0.0], [0.5, sqrt(3) / 2]]),
    4: np.array([[0, 0, 0], [1, 0, 0], [0.5, sqrt(3) / 2, 0], [0.5, sqrt(3) / 6, sqrt(2 / 3)]]),
}
"""Where the elements stand in the triangle and in the tetrahedron."""
SHADED = 0.2
"""eV/atom above the hull at which points are palest."""
MOST = 500
"""Entries above the hull in the table."""
ALSO = 3
"""Further entries at one place that are named."""


def hull_page(document: Mapping[str, Any], out: str | Path) -> Path:
    """Draw the page of a hull.

    Args:
        document: what `kohn hull --json` prints: `elements`, `entries` (each with id, formula,
            fractions, formation_energy_per_atom, e_above_hull, stable, candidate, decomposition),
            `tie_lines` (pairs of indices of entries), and `remarks`.
        out: file to write, or a folder to write `hull.html` in.

    Returns:
        The path of the page.

    Raises:
        TrainingError: the disk refuses.
    """
    target = Path(out)
    if target.is_dir():
        target = target / "hull.html"
    figures = [f for f in (hull_figure(document),) if f is not None]
    text = (
        _environment()
        .get_template("hull.html")
        .render(
            title=" – ".join(document["elements"]),
            verdict=sentence(document),
            remarks=document["remarks"],
            figures=figures,
            tables=[t for t in (stable_table(document), unstable_table(document)) if t.rows],
            figures_json=script_json(figures),
            plotly=_plotly() if figures else "",
            css=_file("page.css"),
            drawn_by=f"Kohn {kohn.__version__}",
        )
    )
    write_atomically(target, text.encode())
    return target


def sentence(document: Mapping[str, Any]) -> str:
    """What came out, in one sentence."""
    entries = document["entries"]
    stable = sum(e["stable"] for e in entries)
    return f"{stable} of {plural(len(entries), 'entry', 'entries')} are stable."


def hull_figure(document: Mapping[str, Any]) -> Figure | None:
    """The hull of two, three or four elements; of others there is no picture."""
    draw = {2: _binary, 3: _simplex, 4: _simplex}.get(len(document["elements"]))
    return None if draw is None else draw(document)


def _fractions(document: Mapping[str, Any]) -> np.ndarray:
    elements = document["elements"]
    return np.array([[e["fractions"].get(k, 0.0) for k in elements] for e in document["entries"]])


def _binary(document: Mapping[str, Any]) -> Figure:
    """Formation energies against composition, with the tie-lines of the hull."""
    elements, entries = document["elements"], document["entries"]
    x = _fractions(document)[:, 1]
    y = np.array([e["formation_energy_per_atom"] for e in entries])
    data = [_lines(np.column_stack([x, y]), document["tie_lines"])]
    data += _points(np.column_stack([x, y]), entries)
    layout = base_layout(520)
    layout["xaxis"] |= {"title": axis_title(f"fraction of {elements[1]}"), "range": [-0.03, 1.03]}
    layout["yaxis"] |= {"title": axis_title("formation energy, eV/atom")}
    return _figure(document, data, layout)


def _simplex(document: Mapping[str, Any]) -> Figure:
    """Compositions in a triangle or a tetrahedron; energies as shades."""
    elements, entries = document["elements"], document["entries"]
    corners = CORNERS[len(elements)]
    at = _fractions(document) @ corners
    edges = list(combinations(range(len(elements)), 2))
    data = [_lines(corners, edges, "@grid"), _lines(at, document["tie_lines"])]
    data += [*_points(at, entries), _names(corners, elements)]
    layout = base_layout(620)
    hidden = {"visible": False, "showgrid": False, "zeroline": False}
    if len(elements) == 3:
        layout["xaxis"] |= {**hidden, "range": [-0.1, 1.1]}
        layout["yaxis"] |= {**hidden, "range": [-0.08, 0.96], "scaleanchor": "x"}
    else:
        for name in ("xaxis", "yaxis"):
            layout.pop(name)
        layout["scene"] = {f"{k}axis": hidden for k in "xyz"} | {"aspectmode": "data"}
        camera = {"eye": {"x": 1.25, "y": -1.15, "z": 0.3}, "center": {"x": 0, "y": 0, "z": -0.1}}
        layout["scene"] |= {"camera": camera}
        layout["margin"] = dict.fromkeys("lrtb", 0)
    return _figure(document, data, layout)


def _figure(
    document: Mapping[str, Any], data: list[dict[str, Any]], layout: dict[str, Any]
) -> Figure:
    stable = [e["formula"] for e in document["entries"] if e["stable"]]
    note = "lines join phases that coexist; point at one to see what it falls into"
    alternative = (
        f"Convex hull of {', '.join(document['elements'])}; stable: "
        f"{', '.join(dict.fromkeys(stable))}."
    )
    return Figure("hull", "Convex hull", note, data, layout, alternative)


def _kind(at: np.ndarray) -> str:
    return "scatter3d" if at.shape[1] == 3 else "scatter"


def _places(at: np.ndarray) -> dict[str, list]:
    return {k: np.round(v, 6).tolist() for k, v in zip("xyz", at.T, strict=False)}


def _lines(
    at: np.ndarray, pairs: Sequence[Sequence[int]], colour: str = "@muted"
) -> dict[str, Any]:
    """Line segments between points, as one trace with gaps."""
    gap = np.full((1, at.shape[1]), np.nan)
    joined = np.concatenate([p for i, j in pairs for p in (at[[i, j]], gap)] or [gap])
    places = {
        k: [None if np.isnan(v) else round(float(v), 6) for v in column]
        for k, column in zip("xyz", joined.T, strict=False)
    }
    line = {"color": colour, "width": 1.2 if at.shape[1] == 2 else 3}
    return {"type": _kind(at), "mode": "lines", "hoverinfo": "skip", "line": line, **places}


def _points(at: np.ndarray, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries above the hull, shaded; candidates; and what is stable on top, with names."""
    stable = np.array([e["stable"] for e in entries], bool)
    chosen = np.array([e.get("candidate", False) for e in entries], bool)
    above = np.array([e["e_above_hull"] for e in entries])
    traces, hovers = [], _hovers(at, entries)
    rest = np.flatnonzero(~stable & ~chosen)
    shade = {
        "color": np.round(np.minimum(above[rest], SHADED), 4).tolist(),
        "cmin": 0,
        "cmax": SHADED,
        "colorscale": [[0, "@dense"], [1, "@sparse"]],
        "size": 6 if at.shape[1] == 2 else 3.5,
    }
    traces.append(_markers(at, rest, hovers, shade, "above the hull"))
    big = 9 if at.shape[1] == 2 else 5
    candidates = {"color": "@second", "size": big, "symbol": "diamond"}
    traces.append(_markers(at, np.flatnonzero(chosen & ~stable), hovers, candidates, "candidate"))
    on = np.flatnonzero(stable)
    traces.append(_markers(at, on, hovers, {"color": "@accent", "size": big}, "stable"))
    if len(on) <= 60:
        traces[-1] |= {"mode": "markers+text", "textposition": "bottom center"}
        traces[-1] |= {"text": [entries[int(i)]["formula"] for i in on]}
        traces[-1] |= {"textfont": {"size": 10, "color": "@muted"}}
    return [t for t in traces if t["x"]]


def _markers(
    at: np.ndarray,
    chosen: np.ndarray,
    hovers: Sequence[str],
    marker: dict[str, Any],
    name: str,
) -> dict[str, Any]:
    return {
        "type": _kind(at),
        "mode": "markers",
        "name": name,
        "marker": marker,
        "customdata": [hovers[int(i)] for i in chosen],
        "hovertemplate": "%{customdata}<extra></extra>",
        **_places(at[chosen]),
    }


def _hovers(at: np.ndarray, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is told of each entry; the same of those at one place, of which only one is seen."""
    places: dict[tuple, list[int]] = {}
    for i, place in enumerate(np.round(at, 6).tolist()):
        places.setdefault(tuple(place), []).append(i)
    told = [""] * len(entries)
    for found in places.values():
        lowest, *others = sorted(found, key=lambda i: _height(entries[i]))
        lines = [_hover(entries[lowest]), *(_also(entries[i]) for i in others[:ALSO])]
        lines += [f"and {len(others) - ALSO:,} more here"] if len(others) > ALSO else []
        for i in found:
            told[i] = "<br>".join(lines)
    return told


def _height(entry: Mapping[str, Any]) -> float:
    """How far above the hull; below it for candidates that are."""
    return entry.get("distance", entry["e_above_hull"])


def _also(entry: Mapping[str, Any]) -> str:
    return f"also {escape(entry['id'])}, {fixed(entry['e_above_hull'], 4)} eV/atom above the hull"


def _hover(entry: Mapping[str, Any]) -> str:
    lines = [
        f"<b>{escape(entry['formula'])}</b> {escape(entry['id'])}",
        f"formation energy {fixed(entry['formation_energy_per_atom'], 4)} eV/atom",
        f"{fixed(entry['e_above_hull'], 4)} eV/atom above the hull",
    ]
    if not entry["stable"]:
        lines.append("falls into " + escape(_falls_into(entry)).replace(" + ", "<br>+ "))
    return "<br>".join(lines)


def _falls_into(entry: Mapping[str, Any]) -> str:
    parts = entry["decomposition"].items()
    return " + ".join(f"{share:.3f} {formula}" for formula, share in parts)


def _names(corners: np.ndarray, elements: Sequence[str]) -> dict[str, Any]:
    """The elements beside their corners."""
    middle = corners.mean(axis=0)
    out = middle + 1.12 * (corners - middle)
    return {
        "type": _kind(corners),
        "mode": "text",
        "text": [f"<b>{e}</b>" for e in elements],
        "hoverinfo": "skip",
        "textfont": {"size": 14, "color": "@ink"},
        **_places(out),
    }


def stable_table(document: Mapping[str, Any]) -> Table:
    """What is on the hull."""
    rows = [
        (Cell(e["formula"]), Cell(e["id"], code=True), _number(e["formation_energy_per_atom"]))
        for e in document["entries"]
        if e["stable"]
    ]
    head = ("formula", "id", "formation energy, eV/atom")
    return Table("Stable", head, tuple(rows), frozenset({1}))


def unstable_table(document: Mapping[str, Any]) -> Table:
    """What lies above the hull, nearest first."""
    above = sorted(
        (e for e in document["entries"] if not e["stable"]), key=lambda e: e["e_above_hull"]
    )
    rows = [
        (
            Cell(e["formula"]),
            Cell(e["id"], code=True),
            _number(e["formation_energy_per_atom"]),
            _number(e["e_above_hull"]),
            Cell(_falls_into(e), wraps=True),
        )
        for e in above[:MOST]
    ]
    head = ("formula", "id", "formation energy, eV/atom", "above the hull, eV/atom")
    more = f"and {len(above) - MOST:,} more" if len(above) > MOST else ""
    columns = (*head, "falls into, by share of atoms")
    return Table("Above the hull", columns, tuple(rows), frozenset({1, 4}), more)


def _number(value: float) -> Cell:
    return Cell(fixed(value, 4))
