"""NetworkDisplay: a picture of a small network, from the features on the left to the outputs on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc._network import Floats, SparseNetwork
from sklearn_htmc.circuit._frames import numbers
from sklearn_htmc.inspection._axes import NEGATIVE, POSITIVE, axes_of, require_matplotlib, with_defaults
from sklearn_htmc.inspection._models import names_of_model, network_of
from sklearn_htmc.inspection._unrolled import Unrolled

_MOST_EDGES = 150  # that can be told apart
_N_ROWS = 1_000  # drawn from the range of the features where no rows are given
_SWEEPS = 12  # of the order of units, each from left to right and back
_FACES = {"coordinate": "white", "neuron": "#f0e442"}
_THIN, _WIDE = 0.4, 4.0  # widths of lines, in points


class NetworkDisplay:
    """A small network as a diagram: what its text says, one line per edge.

    Lines are blue where weights are positive and orange where they are negative. They are as wide as what passes
    through them: the root mean square of weight times deviation of the source from its mean times derivative of the
    output. Neurons are yellow, coordinates white; a grey line joins the states of a coordinate that gets more.

    It is recommended to use `from_estimator`. All parameters are attributes.

    Parameters
    ----------
    unrolled : Unrolled
        The units of the network.
    X : ndarray of shape (n_samples, n_features)
        Rows on which widths are measured.

    Attributes
    ----------
    positions_ : ndarray of shape (n_units, 2)
        Where units are drawn.
    edges_ : matplotlib LineCollection
        The edges, in the order of the text.
    states_ : matplotlib LineCollection
        The grey lines.
    nodes_ : matplotlib PathCollection
        Coordinates and neurons.
    texts_ : list of matplotlib Text
        Names of all units.
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.

    See Also
    --------
    network_text : The same in words, for networks of any size.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc import ResNetNormRegressor
    >>> from sklearn_htmc.inspection import NetworkDisplay
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> model = ResNetNormRegressor(alpha=0.05, max_iter=30, tol=1.0, random_state=0).fit(X, np.abs(X[:, 0]) + X[:, 1])
    >>> display = NetworkDisplay.from_estimator(model, X)
    >>> len(display.edges_.get_segments()) < 50
    True
    """

    positions_: Floats
    edges_: Any
    states_: Any
    nodes_: Any
    texts_: list[Any]
    ax_: Any
    figure_: Any

    def __init__(self, *, unrolled: Unrolled, X: Floats) -> None:
        self.unrolled = unrolled
        self.X = X

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        feature_names: Sequence[Any] | None = None,
        target_names: Sequence[Any] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the network of a fitted regressor.

        Parameters
        ----------
        estimator : object
            A fitted regressor that is a network, see `network_text`, or a `SparseNetwork`.
        X : array-like of shape (n_samples, n_features), default=None
            Rows on which widths are measured; None takes random ones from the range of the features.
        feature_names, target_names : sequence of str, default=None
            Names of features and outputs; None takes those of the fit.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        NetworkDisplay
            With the artists.

        Raises
        ------
        TypeError
            If the regressor is no network.
        ValueError
            If there are more than 150 edges, names do not fit, or X is needed because no range is known.
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        network = network_of(estimator)
        unrolled = Unrolled.of(network, *names_of_model(estimator, network, feature_names, target_names))
        n_edges = sum(1 for _ in unrolled.edges())
        if n_edges > _MOST_EDGES:
            raise ValueError(
                f"the network must have at most {_MOST_EDGES} edges between units to be drawn, got {n_edges}; fit with "
                "max_edges or a larger alpha, take at_size(100) of a fit with max_edges, or print network_text(model)."
            )
        return cls(unrolled=unrolled, X=_rows(X, network)).plot(ax=ax, **kwargs)

    def plot(
        self, ax: Any = None, *, edge_kw: Mapping[str, Any] | None = None, node_kw: Mapping[str, Any] | None = None
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure, large enough for the names.
        edge_kw : dict, default=None
            Keywords for the ``LineCollection`` of the edges.
        node_kw : dict, default=None
            Keywords for ``scatter`` of coordinates and neurons.

        Returns
        -------
        NetworkDisplay
            With the artists as attributes.
        """
        columns = _columns(self.unrolled)
        self.positions_ = _positions(self.unrolled, columns)
        n_rows = int(np.bincount(columns).max())
        size = (2.5 + 1.5 * int(columns.max()), max(2.5, 0.8 + 0.33 * n_rows))
        self.ax_ = axes_of(ax, f"{type(self).__name__}.plot", size)
        self.figure_ = self.ax_.figure
        self._plot_edges(edge_kw)
        self._plot_units(node_kw)
        self.ax_.set_axis_off()
        self.ax_.set(xlim=(-0.15, columns.max() + 0.15), ylim=(-0.8, n_rows - 0.2))
        return self

    def _plot_edges(self, edge_kw: Mapping[str, Any] | None) -> None:
        from matplotlib.collections import LineCollection
        from matplotlib.lines import Line2D

        edges = list(self.unrolled.edges())
        effects, states = self.unrolled.effects(self.X)
        largest = max(effects.max(initial=0.0), states.max(initial=0.0)) or 1.0
        widths = _THIN + (_WIDE - _THIN) * effects / largest
        colors = [POSITIVE if weight > 0 else NEGATIVE for _, _, weight in edges]
        curves = [self._curve(source, target) for source, target, _ in edges]
        style = with_defaults(edge_kw, linewidths=widths, colors=colors, alpha=0.7, zorder=1, capstyle="round")
        self.edges_ = self.ax_.add_collection(LineCollection(curves, **style))
        joined = [(unit.before, number) for number, unit in enumerate(self.unrolled.units) if unit.before is not None]
        grey = [_THIN + (_WIDE - _THIN) * states[target] / largest for _, target in joined]
        curves = [self._curve(source, target) for source, target in joined]
        self.states_ = self.ax_.add_collection(
            LineCollection(curves, linewidths=grey, colors="0.6", alpha=0.7, zorder=1, capstyle="round")
        )
        signs = [("positive weight", POSITIVE), ("negative weight", NEGATIVE)]
        handles = [Line2D([], [], color=color, linewidth=2, label=label) for label, color in signs]
        self.ax_.legend(
            handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize="small"
        )

    def _curve(self, source: int, target: int) -> Floats:
        """Return points of a line that leaves and arrives horizontally."""
        (x0, y0), (x1, y1) = self.positions_[source], self.positions_[target]
        t = np.linspace(0.0, 1.0, 30)
        return np.column_stack([x0 + (x1 - x0) * t, y0 + (y1 - y0) * t**2 * (3.0 - 2.0 * t)])

    def _plot_units(self, node_kw: Mapping[str, Any] | None) -> None:
        units = self.unrolled.units
        inner = [number for number, unit in enumerate(units) if unit.kind in _FACES]
        faces = [_FACES[units[number].kind] for number in inner]
        style = with_defaults(node_kw, s=300, facecolors=faces, edgecolors="0.3", linewidths=0.8, zorder=2)
        self.nodes_ = self.ax_.scatter(*self.positions_[inner].T, **style)
        self.texts_ = []
        for unit, (x, y) in zip(units, self.positions_, strict=True):
            if unit.kind in _FACES:
                placed = {"xy": (x, y), "ha": "center", "fontsize": 7, "zorder": 3}
            else:  # beside the diagram; the layout makes room for it
                side = -1 if unit.kind == "feature" else 1
                placed = {
                    "xy": (x, y),
                    "xytext": (6 * side, 0),
                    "textcoords": "offset points",
                    "ha": "right" if side < 0 else "left",
                }
            self.texts_.append(self.ax_.annotate(unit.name, va="center", annotation_clip=False, **placed))


def _rows(X: Any, network: SparseNetwork) -> Floats:
    """Return the given rows, or random ones in the range of the features."""
    if X is not None:
        rows = numbers(X, "X")
        if rows.shape[1] != network.n_features:
            raise ValueError(f"X must have {network.n_features} features, as in fit, got {rows.shape[1]}.")
        return rows
    if not np.isfinite(network.input_range).all():
        raise ValueError("X must be given, got None: the model does not know the range of its features.")
    low, high = network.input_range
    return np.asarray(np.random.default_rng(0).uniform(low, high, size=(_N_ROWS, network.n_features)))


def _columns(unrolled: Unrolled) -> NDArray[np.intp]:
    """Return the columns of units: right of all that they read, outputs in the last one."""
    columns = np.zeros(len(unrolled.units), dtype=np.intp)
    for number, unit in enumerate(unrolled.units):
        columns[number] = max((columns[source] + 1 for _, source in unit.sources), default=0)
        if unit.kind != "feature":
            columns[number] = max(columns[number], 1)
    columns[unrolled.numbers("output")] = columns.max()
    return columns


def _positions(unrolled: Unrolled, columns: NDArray[np.intp]) -> Floats:
    """Return places where neighbours in the graph are neighbours in height, as far as that is easy."""
    pairs = [(source, number) for number, unit in enumerate(unrolled.units) for _, source in unit.sources]
    members = [np.flatnonzero(columns == column) for column in range(int(columns.max()) + 1)]
    tallest = max(len(column) for column in members)
    height = np.zeros(len(columns))
    for column in members:
        height[column] = _spread(len(column), tallest)
    near: list[list[list[int]]] = [[[] for _ in columns] for _ in range(2)]  # what a unit reads, and what reads it
    for pair in pairs:
        near[0][pair[1]].append(pair[0])
        near[1][pair[0]].append(pair[1])
    for _ in range(_SWEEPS):
        for side, order in ((0, members[1:]), (1, members[-2::-1])):
            for column in order:
                wanted = [np.mean(height[near[side][unit] or [unit]]) for unit in column.tolist()]
                height[column[np.argsort(wanted, kind="stable")]] = _spread(len(column), tallest)
    return np.column_stack([columns.astype(np.float64), height])


def _spread(n: int, tallest: int) -> Floats:
    """Return heights from the top down, about the middle of the tallest column; short ones are spread a little."""
    gap = (tallest / n) ** 0.5
    middle = (tallest - 1) / 2
    return np.asarray(middle + gap * (np.arange(n) - (n - 1) / 2))
