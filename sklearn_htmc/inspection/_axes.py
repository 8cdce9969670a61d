"""Where displays draw: axes of matplotlib, which is imported only when something is drawn."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

POSITIVE, NEGATIVE, QUIET = "#0072b2", "#d55e00", "0.45"  # colours that differ for everybody
_GAP = 6.0  # points between a marker and its label
_MARK = 4.0  # pixels from the middle of a marker to its ends

Box = tuple[float, float, float, float]  # left, bottom, right and top, in pixels


def require_matplotlib(what: str) -> None:
    """Raise ImportError where there is no matplotlib, before anything is computed in vain."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(f'{what} needs matplotlib, which is not installed; pip install "sklearn-htmc[plot]".')


def axes_of(ax: Any, what: str, figsize: tuple[float, float] | None = None) -> Any:
    """Return the given axes, or those of a new figure."""
    require_matplotlib(what)
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def with_defaults(given: Mapping[str, Any] | None, **defaults: Any) -> dict[str, Any]:
    """Return keywords of an artist: those given, and defaults for the others."""
    return defaults | dict(given or {})


def next_color(ax: Any) -> str:
    """Return the next colour of the cycle of some axes."""
    return str(ax._get_lines.get_next_color())


def with_labels(ax: Any, x: Sequence[float], y: Sequence[float], labels: Sequence[str]) -> list[Any]:
    """Write a label beside every point, on the side where it hides least, and return the texts."""
    texts = [
        ax.annotate(label, (x_, y_), xytext=(_GAP, 0), textcoords="offset points", va="center", fontsize="small")
        for x_, y_, label in zip(x, y, labels, strict=True)
    ]
    ax.figure.canvas.draw()  # the layout is settled, and sizes of texts are known
    points = ax.transData.transform(np.column_stack([x, y]))
    inside = ax.get_window_extent()
    taken: list[Box] = [(px - _MARK, py - _MARK, px + _MARK, py + _MARK) for px, py in points]
    for text, point in zip(texts, points, strict=True):
        extent = text.get_window_extent()
        best = min(_places(text, point, extent.width, extent.height), key=lambda place: _cost(place[1], taken, inside))
        (dx, dy), box = best
        text.set_position((dx, dy))
        taken.append(box)
    return texts


def _places(text: Any, point: Any, width: float, height: float) -> list[tuple[tuple[float, float], Box]]:
    """Return offsets in points, to the left of the text and the middle of its height, and boxes in pixels."""
    pixel = text.figure.dpi / 72.0
    found = list[tuple[tuple[float, float], Box]]()
    for side, level in product((1, -1, 0), (0, 1, -1)):
        if side == level == 0:
            continue
        dx = {1: _GAP * pixel, -1: -_GAP * pixel - width, 0: -width / 2}[side]
        dy = level * (height / 2 + (_GAP * pixel if side == 0 else _GAP * pixel / 2))
        left, middle = point[0] + dx, point[1] + dy
        found.append(((dx / pixel, dy / pixel), (left, middle - height / 2, left + width, middle + height / 2)))
    return found


def _cost(box: Box, taken: Sequence[Box], inside: Any) -> float:
    """Return how much of other boxes a box hides, and how far it leaves the axes."""
    hidden = sum(
        max(0.0, min(box[2], b[2]) - max(box[0], b[0])) * max(0.0, min(box[3], b[3]) - max(box[1], b[1])) for b in taken
    )
    over = max(0.0, box[2] - inside.x1) + max(0.0, inside.x0 - box[0])
    over += max(0.0, box[3] - inside.y1) + max(0.0, inside.y0 - box[1])
    return hidden + 10.0 * over
