"""Draw convex hulls: energies against composition, a triangle, or a tetrahedron and its faces.

Stable entries have their names next to them if there is room, and an entry shows a text when it is
pointed at. Fewer names fit on narrow screens: `meta.narrow` of a trace holds the settings for them.
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
"""Positions of the elements in the triangle and in the tetrahedron."""
EYE = np.array([1.25, -1.15, 0.3])
"""Initial viewpoint of the tetrahedron."""
SHADED = 0.2
"""Height above the hull from which points are palest, eV/atom."""
ALSO = 3
"""Largest number of further entries at one point that a hover text names."""
FEW = 20
"""Largest number of candidates above the hull that still get names."""
WIDTHS = {"wide": 1100.0, "narrow": 330.0}
"""Approximate width of a figure, pixels."""

NOTE = (
    "lines join phases that coexist; entries above the hull are paler the higher they are, palest "
    f"from {SHADED:g} eV/atom on; point at an entry to see what it falls into"
)

Entry = Document


def hull_figures(document: Document) -> list[Figure]:
    """Return the figures of a hull of two to four elements (of four: also its faces), or none."""
    whole = hull_figure(document)
    if whole is None:
        return []
    faces = combinations(document["elements"], 3) if len(document["elements"]) == 4 else ()
    return [whole, *(replace(_simplex(face(document, f), 440), note="") for f in faces)]


def hull_figure(document: Document) -> Figure | None:
    """Return the main figure of a hull of two, three or four elements, or None for other hulls."""
    if len(document["elements"]) == 2:
        return _binary(document)
    return _simplex(document, 620) if len(document["elements"]) in CORNERS else None


def face(document: Document, elements: Sequence[str]) -> Document:
    """Return the entries and tie-lines of a hull that have only the given elements."""
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
    """Return a figure of formation energies against composition, with the tie-lines of the hull."""
    elements, entries = document["elements"], document["entries"]
    y = np.array([e["formation_energy_per_atom"] for e in entries])
    at = np.column_stack([_fractions(document)[:, 1], y])
    low, high = min(0.0, y.min()), max(0.0, y.max())
    high = min(high, 0.3 - 1.5 * low)  # entries far above the hull would flatten it
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
    """Return a figure of compositions in a triangle or tetrahedron, shaded by height above hull."""
    elements, entries = document["elements"], document["entries"]
    corners = CORNERS[len(elements)]
    at = _fractions(document) @ corners
    flat = at if len(elements) == 3 else _projected(at)
    share = 0.8 if len(elements) == 3 else 0.6  # perspective shrinks the back
    across = {"wide": share * height, "narrow": share * WIDTHS["narrow"]}
    pixels = {name: flat * [length, -length] for name, length in across.items()}
    if len(elements) == 4:
        pixels.pop("narrow")  # no room for the names of a tetrahedron
    edges = list(combinations(range(len(elements)), 2))
    data = [_lines(corners, edges, "@line"), _lines(at, document["tie_lines"])]
    compounds = np.array([len(e["fractions"]) > 1 for e in entries], bool)  # corners have names
    data += [*_points(at, entries, pixels, compounds), _element_names(corners, elements)]
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


def _projected(at: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
    """Return the coordinates to the right and up of points seen from `EYE`, without perspective."""
    ahead = -EYE / np.linalg.norm(EYE)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return at @ np.column_stack([right, np.cross(right, ahead)])


def _layout(height: int, **margin: int) -> Document:
    """Return a layout with a legend above the figure."""
    layout = base_layout(height)
    layout["showlegend"] = True
    layout["legend"] = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    layout["legend"] |= {"itemsizing": "constant"}
    layout["margin"] |= {"t": 48, **margin}
    return layout


def _figure(document: Document, data: list[Document], layout: Document, more: str = "") -> Figure:
    elements = document["elements"]
    stable = [e["formula"] for e in document["entries"] if e["stable"]]
    lines = sum(trace.get("showlegend", True) for trace in data)  # lines of the legend
    narrow = {"height": min(layout["height"], 470)}
    layout["meta"] = {"narrow": narrow | {"margin": layout["margin"] | {"t": 30 + 19 * lines}}}
    notes = [NOTE, more]
    text = f"Convex hull of {', '.join(elements)}; stable: {', '.join(dict.fromkeys(stable))}."
    key, title = f"hull-{'-'.join(elements)}", f"Convex hull of {'–'.join(elements)}"
    return Figure(key, title, "; ".join(filter(None, notes)), data, layout, text)


def _trace_type(at: np.ndarray) -> str:
    return "scatter3d" if at.shape[1] == 3 else "scatter"


def _coordinates(at: np.ndarray) -> dict[str, list]:
    return {k: np.round(v, 6).tolist() for k, v in zip("xyz", at.T, strict=False)}


def _lines(at: np.ndarray, pairs: Sequence[Sequence[int]], colour: str = "@muted") -> Document:
    """Return line segments between pairs of points, as one trace with gaps."""
    gap = np.full((1, at.shape[1]), np.nan)
    joined = np.concatenate([p for i, j in pairs for p in (at[[i, j]], gap)] or [gap])
    places = {
        k: [None if np.isnan(v) else round(float(v), 6) for v in column]
        for k, column in zip("xyz", joined.T, strict=False)
    }
    line = {"color": colour, "width": 1.2}
    trace = {"type": _trace_type(at), "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    return trace | {"line": line, **places}


def _points(
    at: np.ndarray,
    entries: Sequence[Entry],
    pixels: Mapping[str, np.ndarray],
    nameable: np.ndarray | bool = True,
) -> list[Document]:
    """Return traces of entries above the hull (shaded), stable entries, candidates (diamonds)."""
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
    texts = {name: _names_by_row(at, entries, first, xy) for name, xy in pixels.items()}
    traces = []
    for rank, (name, mask, marker) in zip((4, 1, 3, 2), kinds, strict=True):
        rows = np.flatnonzero(mask)
        if len(rows):
            trace = _markers(at, rows, hovers, marker, f"{name} ({len(rows):,})")
            colour = "@second" if name.startswith("candidate") else "@muted"
            traces.append(trace | {"legendrank": rank} | _name_settings(texts, rows, colour))
    return traces


def _names_by_row(
    at: np.ndarray, entries: Sequence[Entry], first: Sequence[np.ndarray], pixels: np.ndarray
) -> dict[int, tuple[str, str]]:
    """Return row -> (name, text position) if the name has room; one for each formula and point."""
    rows: dict[tuple, int] = {}
    for mask in first:
        order = sorted(np.flatnonzero(mask).tolist(), key=lambda i: -len(entries[i]["fractions"]))
        for i in order:
            key = (entries[i]["formula"], *np.round(at[i], 6).tolist())
            rows.setdefault(key, i)
    named = list(rows.values())
    hidden = np.array([not e["stable"] and not e.get("candidate") for e in entries], bool)
    unnamed = ~hidden if at.shape[1] == 3 else np.ones(len(at), bool)
    unnamed[named] = False
    others = pixels[unnamed]
    names = [entries[i]["formula"] for i in named]
    places = places_of_names(pixels[named].reshape(-1, 2), names, others)
    return {
        i: (str(subscripts(name)), place)
        for i, name, place in zip(named, names, places, strict=True)
        if place is not None
    }


def _name_settings(
    texts: Mapping[str, Mapping[int, tuple[str, str]]], rows: np.ndarray, colour: str
) -> Document:
    """Return the settings of a trace that draw the names of points, on wide and narrow screens."""
    labels = {"narrow": {"text": []}}
    for name, named in texts.items():
        pairs = [named.get(int(i), ("", "bottom center")) for i in rows]
        labels[name] = {"text": [t for t, _ in pairs], "textposition": [p for _, p in pairs]}
    if not any(labels["wide"]["text"]):
        return {}
    font = {"size": 11, "color": colour}
    narrow = {"narrow": labels["narrow"]}
    return {"mode": "markers+text", "textfont": font, "meta": narrow, **labels["wide"]}


def _markers(
    at: np.ndarray, chosen: np.ndarray, hovers: Sequence[str], marker: Document, name: str
) -> Document:
    return {
        "type": _trace_type(at),
        "mode": "markers",
        "name": name,
        "marker": marker,
        "customdata": [hovers[int(i)] for i in chosen],
        "hovertemplate": "%{customdata}<extra></extra>",
        **_coordinates(at[chosen]),
    }


def _hovers(at: np.ndarray, entries: Sequence[Entry]) -> list[str]:
    """Return the hover text of each entry; entries at one point share one text."""
    places: dict[tuple, list[int]] = {}
    for i, place in enumerate(np.round(at, 6).tolist()):
        places.setdefault(tuple(place), []).append(i)
    texts = [""] * len(entries)
    for rows in places.values():
        lowest, *others = sorted(rows, key=lambda i: _height(entries[i]))
        lines = [_hover(entries[lowest]), *(_also(entries[i]) for i in others[:ALSO])]
        lines += [f"and {len(others) - ALSO:,} more here"] if len(others) > ALSO else []
        for i in rows:
            texts[i] = "<br>".join(lines)
    return texts


def _height(entry: Entry) -> float:
    """Return the height of an entry above the hull, negative for candidates below the hull."""
    return entry.get("distance", entry["e_above_hull"])


def _height_in_words(entry: Entry) -> str:
    """Return the height of an entry above or below the hull in words."""
    height = _height(entry)
    if entry["stable"] and abs(height) < 5e-5:
        return "on the hull"
    side = "below" if height < 0 else "above"
    return f"{fixed(abs(height), 4)} eV/atom {side} the hull"


def _id(entry: Entry) -> str:
    return ("candidate " if entry.get("candidate") else "") + escape(entry["id"])


def _also(entry: Entry) -> str:
    return f"also {_id(entry)}, {_height_in_words(entry)}"


def _hover(entry: Entry) -> str:
    lines = [
        f"<b>{subscripts(entry['formula'])}</b> {_id(entry)}",
        f"formation energy {fixed(entry['formation_energy_per_atom'], 4)} eV/atom",
        _height_in_words(entry),
    ]
    if not entry["stable"]:
        parts = str(decomposition(falls_into(entry)))
        lines.append("falls into " + parts.replace(" + ", "<br>+ "))
    return "<br>".join(lines)


def falls_into(entry: Entry) -> str:
    """Return the decomposition of an entry by shares of atoms: '0.250 Li2O + 0.750 FeO'."""
    parts = entry["decomposition"].items()
    return " + ".join(f"{share:.3f} {formula}" for formula, share in parts)


def _element_names(corners: np.ndarray, elements: Sequence[str]) -> Document:
    """Return a trace with the names of the elements next to their corners."""
    middle = corners.mean(axis=0)
    out = middle + 1.12 * (corners - middle)
    return {
        "type": _trace_type(corners),
        "mode": "text",
        "text": [f"<b>{e}</b>" for e in elements],
        "hoverinfo": "skip",
        "showlegend": False,
        "textfont": {"size": 14, "color": "@ink"},
        **_coordinates(out),
    }
