"""Place the names of points in a figure so that they do not cover each other."""

from collections.abc import Sequence

import numpy as np

from kohn.typing import Float

PLACES = {
    "bottom center": (0, 1),
    "top center": (0, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "bottom right": (1, 1),
    "bottom left": (-1, 1),
    "top right": (1, -1),
    "top left": (-1, -1),
}
"""Text position next to a point (Plotly), best first -> direction to the right and down."""
LETTER, HEIGHT, MARKER = 6.0, 13.0, 6.0
"""Pixels: width of a letter, height of a line, radius of a point."""
COVERED = 2
"""Largest number of other points that a name may cover."""


def places_of_names(
    at: Float[np.ndarray, "n 2"],
    names: Sequence[str],
    others: Float[np.ndarray, "m 2"],
) -> list[str | None]:
    """Return a text position for each name, or None without room; earlier names choose first.

    A name never covers another name, a point that has a name, or more than `COVERED` other points;
    of the remaining positions, the name takes the one that covers the fewest points.

    Args:
        at: named points, pixels, y downwards.
        names: names of these points.
        others: points without names, pixels.
    """
    taken: list[tuple[float, float, float, float]] = []
    places: list[str | None] = []
    for point, name in zip(at, names, strict=True):
        free = []
        for place, (right, down) in PLACES.items():
            box = _box(point, LETTER * len(name), right, down)
            touched = any(_overlap(box, other) for other in taken)
            touched |= bool(_inside(box, at[np.abs(at - point).max(axis=1) > 1]).any())
            covered = int(_inside(box, others).sum())
            if not touched and covered <= COVERED:
                free.append((covered, len(free), place, box))
        if free:
            *_, place, box = min(free)
            taken.append(box)
        places.append(place if free else None)
    return places


def _box(
    point: Float[np.ndarray, " 2"], width: float, right: int, down: int
) -> tuple[float, float, float, float]:
    """Return the left, top, right and bottom edges of a name, pixels."""
    x = point[0] + right * (MARKER + width / 2 if down == 0 else width / 2)
    y = point[1] + down * (MARKER + HEIGHT / 2)
    return x - width / 2, y - HEIGHT / 2, x + width / 2, y + HEIGHT / 2


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(box: tuple[float, ...], points: Float[np.ndarray, "m 2"]) -> np.ndarray:
    """Return whether the marker of each point touches a box."""
    x, y = points.T
    return (x > box[0] - 3) & (x < box[2] + 3) & (y > box[1] - 3) & (y < box[3] + 3)
