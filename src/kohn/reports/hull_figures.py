"""Pictures of hulls: energies against composition, a triangle, or a tetrahedron and its faces.

What is stable has its name beside it where there is room, and everything tells of itself when it is
pointed at. On narrow screens fewer names have room: traces say in `meta.narrow` what is different.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import combinations
from math import sqrt

import numpy as np

from kohn.reports.figures import Figure, axis_title, base_layout
from kohn.reports.formulas import decomposition, subscripts
from kohn.reports.labels import places_of_names
from kohn.reports.text import fixed
from kohn.typing import Document, Float

CORNERS = {
    3: np.array([[0.0, 0.0], [1.0, 0.0], [0.5, sqrt(3) / 2]]),
    4: np.array([[0, 0, 0], [1, 0, 0], [0.5, sqrt(3) / 2, 0], [0.5, sqrt(3) / 6, sqrt(2 / 3)]]),
}
"""Where the elements stand in the triangle and in the tetrahedron."""
EYE = np.array([1.25, -1.15, 0.3])
"""From where the tetrahedron is seen at first."""
SHADED = 0.2
"""eV/atom above the hull at which points are palest."""
ALSO = 3
"""Further entries at one place that are named."""
FEW = 20
"""Up to so many candidates above the hull have names too."""
WIDTHS = {"wide": 1100.0, "narrow": 330.0}
"""Pixels across a figure, about."""

NOTE = (
    "lines join phases that coexist; what is above the hull is paler the higher it is, palest from "
    f"{SHADED:g} eV/atom on; point at something to see what it falls into"
)

Document = Document
Entry = Document


def hull_figures(document: Document) -> list[Figure]:
    """All pictures of a hull of two to four elements; of others there are none."""
    whole = hull_figure(document)
    if whole is None:
        return []
    faces = combinations(document["elements"], 3) if len(document["elements"]) == 4 else ()
    return [whole, *(replace(_simplex(face(document, f), 440), note="") for f in faces)]


def hull_figure(document: Document) -> Figure | None:
    """The hull of two, three or four elements."""
    if len(document["elements"]) == 2:
        return _binary(document)
    return _simplex(document, 620) if len(document["elements"]) in CORNERS else None


def face(document: Document, elements: Sequence[str]) -> Document:
    """The hull of some of the elements: a face of the whole hull, with its tie-lines."""
    rows = [i for i, e in enumerate(document["entries"]) if set(e["fractions"]) <= set(elements)]
    new = {row: k for k, row in enumerate(rows)}
    return {
        "elements": list(elements),
        "entries": [document["entries"][i] for i in rows],
        "tie_lines": [[new[i], new[j]] for i, j in document["tie_lines"] if {i, j} <= new.keys()],
    }


def _fractions(document: Document) -> Float[np.ndarray, "N D"]:
    elements = document["elements"]
    rows = [[e["fractions"].get(k, 0.0) for k in elements] for e in document["entries"]]
    return np.array(rows, float).reshape(-1, len(elements))


def _binary(document: Document) -> Figure:
    """Formation energies against composition, with the tie-lines of the hull."""
    elements, entries = document["elements"], document["entries"]
    y = np.array([e["formation_energy_per_atom"] for e in entries])
    at = np.column_stack([_fractions(document)[:, 1], y])
    low, high = min(0.0, y.min()), max(0.0, y.max())
    high = min(high, 0.3 - 1.5 * low)  # what is far above the hull would flatten it
    room = 0.1 * (high - low) or 0.1
    range_ = [low - room, high + room]
    scale = {
        name: np.array([0.85 * width, -400 / (range_[1] - range_[0])])
        for name, width in WIDTHS.items()
    }
    data = [_lines(at, document["tie_lines"])]
    data += _points(at, entries, {name: at * scale[name] for name in scale})
    layout = _layout(540)
    layout["xaxis"] |= {"title": axis_title(f"fraction of {elements[1]}"), "range": [-0.04, 1.04]}
    layout["yaxis"] |= {"title": axis_title("formation energy, eV/atom"), "range": range_}
    beyond = int((y > range_[1]).sum())
    return _figure(document, data, layout, f"{beyond:,} beyond the axis" if beyond else "")


def _simplex(document: Document, height: int) -> Figure:
    """Compositions in a triangle or a tetrahedron; energies as shades."""
    elements, entries = document["elements"], document["entries"]
    corners = CORNERS[len(elements)]
    at = _fractions(document) @ corners
    flat = at if len(elements) == 3 else _seen(at)
    share = 0.8 if len(elements) == 3 else 0.6  # perspective makes what is behind smaller
    across = {"wide": share * height, "narrow": share * WIDTHS["narrow"]}
    pixels = {name: flat * [length, -length] for name, length in across.items()}
    if len(elements) == 4:
        pixels.pop("narrow")  # no names where there is no room for a tetrahedron of them
    edges = list(combinations(range(len(elements)), 2))
    data = [_lines(corners, edges, "@line"), _lines(at, document["tie_lines"])]
    compounds = np.array([len(e["fractions"]) > 1 for e in entries], bool)  # corners have names
    data += [*_points(at, entries, pixels, compounds), _names(corners, elements)]
    layout = _layout(height, l=8, r=8, b=8)
    hidden = {"visible": False, "showgrid": False, "zeroline": False}
    if len(elements) == 3:
        layout["xaxis"] |= {**hidden, "range": [-0.1, 1.1]}
        layout["yaxis"] |= {**hidden, "range": [-0.08, 0.96], "scaleanchor": "x"}
        return _figure(document, data, layout)
    for name in ("xaxis", "yaxis"):
        layout.pop(name)
    eye = dict(zip("xyz", EYE.tolist(), strict=True))
    camera = {"eye": eye, "center": {"x": 0.0, "y": 0.0, "z": -0.1}}
    axes = {f"{k}axis": hidden for k in "xyz"}
    layout["scene"] = {"aspectmode": "data", "camera": camera, **axes}
    for trace in data:
        if trace.get("name", "").startswith("above the hull"):
            trace["visible"] = "legendonly"
    return _figure(document, data, layout, "drag to turn it")


def _seen(at: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
    """To the right and up, as seen from `EYE`, without perspective."""
    ahead = -EYE / np.linalg.norm(EYE)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return at @ np.column_stack([right, np.cross(right, ahead)])


def _layout(height: int, **margin: int) -> Document:
    """With a legend above."""
    layout = base_layout(height)
    layout["showlegend"] = True
    layout["legend"] = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    layout["legend"] |= {"itemsizing": "constant"}
    layout["margin"] |= {"t": 48, **margin}
    return layout


def _figure(document: Document, data: list[Document], layout: Document, more: str = "") -> Figure:
    elements = document["elements"]
    stable = [e["formula"] for e in document["entries"] if e["stable"]]
    lines = sum(trace.get("showlegend", True) for trace in data)  # of the legend
    narrow = {"height": min(layout["height"], 470)}
    layout["meta"] = {"narrow": narrow | {"margin": layout["margin"] | {"t": 30 + 19 * lines}}}
    notes = [NOTE, more]
    says = f"Convex hull of {', '.join(elements)}; stable: {', '.join(dict.fromkeys(stable))}."
    key, title = f"hull-{'-'.join(elements)}", f"Convex hull of {'–'.join(elements)}"
    return Figure(key, title, "; ".join(filter(None, notes)), data, layout, says)


def _kind(at: np.ndarray) -> str:
    return "scatter3d" if at.shape[1] == 3 else "scatter"


def _coordinates(at: np.ndarray) -> dict[str, list]:
    return {k: np.round(v, 6).tolist() for k, v in zip("xyz", at.T, strict=False)}


def _lines(at: np.ndarray, pairs: Sequence[Sequence[int]], colour: str = "@muted") -> Document:
    """Line segments between points, as one trace with gaps."""
    gap = np.full((1, at.shape[1]), np.nan)
    joined = np.concatenate([p for i, j in pairs for p in (at[[i, j]], gap)] or [gap])
    places = {
        k: [None if np.isnan(v) else round(float(v), 6) for v in column]
        for k, column in zip("xyz", joined.T, strict=False)
    }
    line = {"color": colour, "width": 1.2}
    trace = {"type": _kind(at), "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    return trace | {"line": line, **places}


def _points(
    at: np.ndarray,
    entries: Sequence[Entry],
    pixels: Mapping[str, np.ndarray],
    nameable: np.ndarray | bool = True,
) -> list[Document]:
    """Entries above the hull, shaded; candidates as diamonds; what is stable on top, with names."""
    stable = np.array([e["stable"] for e in entries], bool)
    chosen = np.array([e.get("candidate", False) for e in entries], bool)
    above = np.array([e["e_above_hull"] for e in entries])
    flat, hovers = at.shape[1] == 2, _hovers(at, entries)
    big = 9 if flat else 5
    shade = {
        "color": np.round(np.minimum(above[~stable & ~chosen], SHADED), 4).tolist(),
        "cmin": 0,
        "cmax": SHADED,
        "colorscale": [[0, "@dense"], [1, "@sparse"]],
        "size": 6 if flat else 3.5,
    }
    kinds = (
        ("above the hull", ~stable & ~chosen, shade),
        ("stable", stable & ~chosen, {"color": "@accent", "size": big}),
        (
            "candidate above the hull",
            ~stable & chosen,
            {"color": "@second", "size": big, "symbol": "diamond-open"},
        ),
        (
            "candidate on the hull or below it",
            stable & chosen,
            {"color": "@second", "size": big + 1, "symbol": "diamond"},
        ),
    )
    first = [stable & chosen & nameable, stable & ~chosen & nameable]
    first += [~stable & chosen & nameable] if (~stable & chosen).sum() <= FEW else []
    texts = {name: _texts(at, entries, first, of) for name, of in pixels.items()}
    traces = []
    for rank, (name, those, marker) in zip((4, 1, 3, 2), kinds, strict=True):
        rows = np.flatnonzero(those)
        if len(rows):
            trace = _markers(at, rows, hovers, marker, f"{name} ({len(rows):,})")
            colour = "@second" if name.startswith("candidate") else "@muted"
            traces.append(trace | {"legendrank": rank} | _named(texts, rows, colour))
    return traces


def _texts(
    at: np.ndarray, entries: Sequence[Entry], first: Sequence[np.ndarray], pixels: np.ndarray
) -> dict[int, tuple[str, str]]:
    """Row -> name and place of those that have room; one for each formula and place."""
    rows: dict[tuple, int] = {}
    for those in first:
        order = sorted(np.flatnonzero(those).tolist(), key=lambda i: -len(entries[i]["fractions"]))
        for i in order:
            key = (entries[i]["formula"], *np.round(at[i], 6).tolist())
            rows.setdefault(key, i)
    named = list(rows.values())
    hidden = np.array([not e["stable"] and not e.get("candidate") for e in entries], bool)
    kept = ~hidden if at.shape[1] == 3 else np.ones(len(at), bool)
    kept[named] = False
    others = pixels[kept]
    names = [entries[i]["formula"] for i in named]
    places = places_of_names(pixels[named].reshape(-1, 2), names, others)
    return {
        i: (str(subscripts(name)), place)
        for i, name, place in zip(named, names, places, strict=True)
        if place is not None
    }


def _named(
    texts: Mapping[str, Mapping[int, tuple[str, str]]], rows: np.ndarray, colour: str
) -> Document:
    """The names of points of a trace, on wide screens and on narrow ones."""
    found = {"narrow": {"text": []}}
    for name, of in texts.items():
        told = [of.get(int(i), ("", "bottom center")) for i in rows]
        found[name] = {"text": [t for t, _ in told], "textposition": [p for _, p in told]}
    if not any(found["wide"]["text"]):
        return {}
    font = {"size": 11, "color": colour}
    narrow = {"narrow": found["narrow"]}
    return {"mode": "markers+text", "textfont": font, "meta": narrow, **found["wide"]}


def _markers(
    at: np.ndarray, chosen: np.ndarray, hovers: Sequence[str], marker: Document, name: str
) -> Document:
    return {
        "type": _kind(at),
        "mode": "markers",
        "name": name,
        "marker": marker,
        "customdata": [hovers[int(i)] for i in chosen],
        "hovertemplate": "%{customdata}<extra></extra>",
        **_coordinates(at[chosen]),
    }


def _hovers(at: np.ndarray, entries: Sequence[Entry]) -> list[str]:
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


def _height(entry: Entry) -> float:
    """How far above the hull; below it for candidates that are."""
    return entry.get("distance", entry["e_above_hull"])


def _where(entry: Entry) -> str:
    """How far from the hull, in words."""
    height = _height(entry)
    if entry["stable"] and abs(height) < 5e-5:
        return "on the hull"
    side = "below" if height < 0 else "above"
    return f"{fixed(abs(height), 4)} eV/atom {side} the hull"


def _id(entry: Entry) -> str:
    return ("candidate " if entry.get("candidate") else "") + escape(entry["id"])


def _also(entry: Entry) -> str:
    return f"also {_id(entry)}, {_where(entry)}"


def _hover(entry: Entry) -> str:
    lines = [
        f"<b>{subscripts(entry['formula'])}</b> {_id(entry)}",
        f"formation energy {fixed(entry['formation_energy_per_atom'], 4)} eV/atom",
        _where(entry),
    ]
    if not entry["stable"]:
        parts = str(decomposition(falls_into(entry)))
        lines.append("falls into " + parts.replace(" + ", "<br>+ "))
    return "<br>".join(lines)


def falls_into(entry: Entry) -> str:
    """'0.250 Li2O + 0.750 FeO', by shares of atoms."""
    parts = entry["decomposition"].items()
    return " + ".join(f"{share:.3f} {formula}" for formula, share in parts)


def _names(corners: np.ndarray, elements: Sequence[str]) -> Document:
    """The elements beside their corners."""
    middle = corners.mean(axis=0)
    out = middle + 1.12 * (corners - middle)
    return {
        "type": _kind(corners),
        "mode": "text",
        "text": [f"<b>{e}</b>" for e in elements],
        "hoverinfo": "skip",
        "showlegend": False,
        "textfont": {"size": 14, "color": "@ink"},
        **_coordinates(out),
    }
