"""Where displays draw: axes of matplotlib, which is imported only when something is drawn."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np

POSITIVE, NEGATIVE, QUIET = "#0072b2", "#d55e00", "0.45"  # colours that differ for everybody
_SUBS = (1.0, 2.0, 5.0)  # where a logarithmic axis has numbers ...
_DECADES = 12  # ... in that many decades at most, where it begins at zero
_GAP = 6.0  # points between a marker and its label
_ROUNDS = 3  # in which labels are placed, each beside all others
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


def log_axis(ax: Any, which: str, from_zero_to: float | None = None) -> None:
    """Make the axis "x" or "y" logarithmic, with plain numbers; below a number it may be linear, down to zero."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    set_scale, axis = (ax.set_xscale, ax.xaxis) if which == "x" else (ax.set_yscale, ax.yaxis)
    if from_zero_to is None:
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=_SUBS))
        axis.set_minor_formatter(NullFormatter())
    else:
        set_scale("symlog", linthresh=from_zero_to, linscale=0.3)
        ticks = [sub * 10.0**decade for decade in range(_DECADES) for sub in _SUBS]
        axis.set_major_locator(FixedLocator([0.0, *(tick for tick in ticks if tick >= from_zero_to)]))
        (ax.set_xlim if which == "x" else ax.set_ylim)(-0.1 * from_zero_to)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def with_labels(
    ax: Any, x: Sequence[float], y: Sequence[float], labels: Sequence[str], around: Sequence[Any] = ()
) -> list[Any]:
    """Write a label beside every point, where it hides least of the others and of some lines, and return the texts."""
    style = {"textcoords": "offset points", "va": "center", "fontsize": "small", "in_layout": False}
    texts = [
        ax.annotate(label, (x_, y_), xytext=(_GAP, 0), **style) for x_, y_, label in zip(x, y, labels, strict=True)
    ]
    ax.figure.canvas.draw()  # the layout is settled, and sizes of texts are known
    points, inside = ax.transData.transform(np.column_stack([x, y])), ax.get_window_extent()
    marks: list[Box] = [(px - _MARK, py - _MARK, px + _MARK, py + _MARK) for px, py in points]
    lines = [box for line in around for box in _boxes(line)]
    boxes = dict[int, Box]()
    for number in [*range(len(texts))] * _ROUNDS:
        others = marks + [box for other, box in boxes.items() if other != number]
        found = _places(texts[number], points[number])
        costs = [_hidden(box, others) + 0.1 * _hidden(box, lines) + 10.0 * _outside(box, inside) for _, box in found]
        place, boxes[number] = found[int(np.argmin(costs))]
        texts[number].set_position(place)
    return texts


def _boxes(line: Any) -> list[Box]:
    """Return boxes around the pieces of a line, all of which are horizontal or vertical."""
    path = line.get_path()
    points = line.get_transform().transform(path.vertices)
    return [
        (min(a[0], b[0]) - _MARK, min(a[1], b[1]) - _MARK, max(a[0], b[0]) + _MARK, max(a[1], b[1]) + _MARK)
        for a, b in pairwise(points)
    ]


def _places(text: Any, point: Any) -> list[tuple[tuple[float, float], Box]]:
    """Return offsets in points, to the left of the text and the middle of its height, and boxes in pixels."""
    pixel, extent = text.figure.dpi / 72.0, text.get_window_extent()
    found = list[tuple[tuple[float, float], Box]]()
    for gap, side, level in product((_GAP * pixel, 3.0 * _GAP * pixel), (1, -1, 0), (1, -1, 0)):
        if side == level == 0:
            continue
        dx = {1: gap, -1: -gap - extent.width, 0: -extent.width / 2}[side]
        dy = level * (extent.height / 2 + (gap if side == 0 else gap / 2))
        left, middle, half = point[0] + dx, point[1] + dy, extent.height / 2
        found.append(((dx / pixel, dy / pixel), (left, middle - half, left + extent.width, middle + half)))
    return found


def _hidden(box: Box, others: Sequence[Box]) -> float:
    """Return how much of other boxes a box hides."""
    widths = [max(0.0, min(box[2], other[2]) - max(box[0], other[0])) for other in others]
    heights = [max(0.0, min(box[3], other[3]) - max(box[1], other[1])) for other in others]
    return sum(width * height for width, height in zip(widths, heights, strict=True))


def _outside(box: Box, axes: Any) -> float:
    """Return by how far a box leaves the axes."""
    over = max(0.0, box[2] - axes.x1) + max(0.0, axes.x0 - box[0])
    return float(over + max(0.0, box[3] - axes.y1) + max(0.0, axes.y0 - box[1]))
