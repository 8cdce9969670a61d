"""EffectDisplay: what one feature does to the prediction, exactly, and what one neuron does."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np

from sklearn_htmc._formulas import sum_text
from sklearn_htmc._network import Floats, SparseNetwork
from sklearn_htmc.circuit._frames import numbers
from sklearn_htmc.inspection._axes import QUIET, axes_of, require_matplotlib, with_defaults
from sklearn_htmc.inspection._curves import curves_along
from sklearn_htmc.inspection._models import feature_names_of, names_of_model, network_of
from sklearn_htmc.inspection._unrolled import Unrolled

_KINDS = ("average", "individual", "both")
_LABEL_WIDTH, _LABEL_LINES = 60, 3  # of the text below the axis


class EffectDisplay:
    """The prediction as a function of one feature, or the part of one neuron in it.

    It is recommended to use `from_estimator` or `from_neuron`. All parameters are attributes.

    Parameters
    ----------
    grid : ndarray of shape (n_points,)
        Points on the axis, all kinks among them, so that the lines between them are exact.
    average : ndarray of shape (n_points,), default=None
        The curve at the points.
    individual : ndarray of shape (n_curves, n_points), default=None
        Curves of single rows.
    rows : ndarray of shape (n_rows,), default=None
        Where the rows are on the axis.
    row_values : ndarray of shape (n_rows,), default=None
        Values of the rows; None marks the rows at the bottom.
    x_name, y_name : str
        Labels of the axes.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.
    line_ : matplotlib Line2D or None
        The curve.
    lines_ : matplotlib LineCollection or None
        The curves of single rows.
    rows_ : matplotlib Line2D or None
        The rows.

    See Also
    --------
    sklearn.inspection.PartialDependenceDisplay : The same on a grid, for any model.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc import ResNetNormRegressor
    >>> from sklearn_htmc.inspection import EffectDisplay
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> model = ResNetNormRegressor(alpha=0.05, max_iter=30, tol=1.0, random_state=0).fit(X, np.abs(X[:, 0]) + X[:, 1])
    >>> display = EffectDisplay.from_estimator(model, X, 0)
    >>> display.ax_.get_xlabel()
    'x0'
    """

    ax_: Any
    figure_: Any
    line_: Any
    lines_: Any
    rows_: Any

    def __init__(
        self,
        *,
        grid: Floats,
        average: Floats | None = None,
        individual: Floats | None = None,
        rows: Floats | None = None,
        row_values: Floats | None = None,
        x_name: str = "",
        y_name: str = "y",
    ) -> None:
        self.grid = grid
        self.average = average
        self.individual = individual
        self.rows = rows
        self.row_values = row_values
        self.x_name = x_name
        self.y_name = y_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        feature: int | str,
        *,
        kind: str = "average",
        target: int = 0,
        n_curves: int = 50,
        n_rows: int = 500,
        random_state: int = 0,
        feature_names: Sequence[Any] | None = None,
        target_name: str = "y",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the prediction as a function of one feature while the others stay as they are in the rows.

        A network with all features but one fixed is a piecewise linear function whose kinks are computed, so that
        curves are exact between the ends of the feature in X, not values on a grid.

        Parameters
        ----------
        estimator : object
            A fitted regressor that is a network, see `network_text`.
        X : array-like of shape (n_samples, n_features)
            Rows.
        feature : int or str
            Number or name of the feature.
        kind : {"average", "individual", "both"}, default="average"
            The mean over rows, which is the partial dependence, curves of single rows, or both.
        target : int, default=0
            Number of the output.
        n_curves : int, default=50
            Single rows that are drawn at most.
        n_rows : int, default=500
            Rows that are averaged at most; of more, so many are drawn at random.
        random_state : int, default=0
            Seed of the choice of rows.
        feature_names : sequence of str, default=None
            Names of the features; None takes those of the fit.
        target_name : str, default="y"
            Name of the output.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        EffectDisplay
            With the artists.

        Raises
        ------
        TypeError
            If the regressor is no network.
        ValueError
            If `feature`, `target` or `kind` do not exist, or numbers of rows are not positive.
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        network = network_of(estimator)
        rows = _checked_rows(X, network)
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, _KINDS))}, got {kind!r}.")
        if min(n_curves, n_rows) < 1:
            raise ValueError(f"n_curves and n_rows must be positive, got {n_curves} and {n_rows}.")
        names = feature_names_of(estimator, network.n_features, feature_names)
        number, output = _feature(feature, names), _output(target, network)
        everywhere = np.asarray(rows[:, number])
        some = rows[np.random.default_rng(random_state).permutation(len(rows))[:n_rows]]
        wanted = some[:n_curves] if kind == "individual" else some
        grid, curves = curves_along(network, wanted, number, output, (everywhere.min(), everywhere.max()))
        display = cls(
            grid=grid,
            average=None if kind == "individual" else curves.mean(axis=0),
            individual=None if kind == "average" else curves[:n_curves],
            rows=everywhere,
            x_name=names[number],
            y_name=target_name,
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_neuron(
        cls,
        estimator: Any,
        X: Any,
        neuron: int | str,
        *,
        target: int = 0,
        feature_names: Sequence[Any] | None = None,
        target_name: str = "y",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what one neuron adds to the prediction, along the direction that it reads.

        The axis is the input of the neuron, the sum in its line of `network_text` with coordinates written out. The
        line is what the neuron adds on its direct way to the output, the points are by how much the prediction of each
        row would fall without it. Points are off the line where later neurons read this one.

        Parameters
        ----------
        estimator : object
            A fitted regressor that is a network, see `network_text`.
        X : array-like of shape (n_samples, n_features)
            Rows.
        neuron : int or str
            The neuron, as it is called in `network_text`: 1 or "u1" is the first one.
        target : int, default=0
            Number of the output.
        feature_names : sequence of str, default=None
            Names of the features; None takes those of the fit.
        target_name : str, default="y"
            Name of the output.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        EffectDisplay
            With the artists.

        Raises
        ------
        TypeError
            If the regressor is no network.
        ValueError
            If there is no such neuron or output.
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_neuron")
        network = network_of(estimator)
        rows, output = _checked_rows(X, network), _output(target, network)
        unrolled = Unrolled.of(network, *names_of_model(estimator, network, feature_names, None))
        number = _neuron(neuron, unrolled)
        values = unrolled.values(rows)
        weights, constant = unrolled.input_of(number)
        inputs = constant + sum((weight * values[unit] for unit, weight in weights.items()), np.zeros(len(rows)))
        last = unrolled.numbers("output")[output]
        ends = inputs.min(), inputs.max()
        grid = np.unique([*ends, *([0.0] if ends[0] < 0 < ends[1] else [])])
        # No line of the label ends inside a name.
        terms = tuple((weight, unrolled.units[unit].name.replace(" ", "\xa0")) for unit, weight in weights.items())
        name = unrolled.units[number].name
        display = cls(
            grid=grid,
            average=unrolled.direct_slope(number, output) * np.maximum(grid, 0.0),
            rows=inputs,
            row_values=values[last] - unrolled.values(rows, without=number)[last],
            x_name=_wrapped(f"input of {name}: {sum_text(terms, constant, 3)}"),
            y_name=f"part of {name} in {target_name}",
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        line_kw: Mapping[str, Any] | None = None,
        individual_kw: Mapping[str, Any] | None = None,
        rows_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        line_kw, individual_kw, rows_kw : dict, default=None
            Keywords for ``plot`` of the curve, the ``LineCollection`` of single rows, and ``plot`` of the rows.

        Returns
        -------
        EffectDisplay
            With the artists as attributes.
        """
        self.ax_ = axes_of(ax, f"{type(self).__name__}.plot")
        self.figure_ = self.ax_.figure
        self.line_ = self.lines_ = self.rows_ = None
        if self.individual is not None:
            from matplotlib.collections import LineCollection

            curves = [np.column_stack([self.grid, curve]) for curve in self.individual]
            options = {"colors": "C0", "alpha": 0.3, "linewidths": 0.7, "zorder": 1, "label": "single rows"}
            style = with_defaults(individual_kw, **options)
            self.lines_ = self.ax_.add_collection(LineCollection(curves, **style), autolim=True)
            self.ax_.autoscale_view()
        if self.average is not None:
            color = "C1" if self.individual is not None else "C0"
            label = "mean over rows" if self.row_values is None else "on its direct way"
            style = {"color": color, "linewidth": 2, "zorder": 2, "label": label}
            (self.line_,) = self.ax_.plot(self.grid, self.average, **with_defaults(line_kw, **style))
        if self.rows is not None:
            self._plot_rows(self.rows, rows_kw)
        self.ax_.set(xlabel=self.x_name, ylabel=self.y_name)
        if self.average is not None and (self.individual is not None or self.row_values is not None):
            self.ax_.legend(fontsize="small")
        return self

    def _plot_rows(self, rows: Floats, rows_kw: Mapping[str, Any] | None) -> None:
        if self.row_values is not None:
            style = {"linestyle": "none", "marker": ".", "markersize": 4, "color": QUIET, "alpha": 0.5, "zorder": 1}
            options = with_defaults(rows_kw, **style, label="in all, by rows")
            (self.rows_,) = self.ax_.plot(rows, self.row_values, **options)
            return
        style = {"linestyle": "none", "marker": "|", "markersize": 8, "color": QUIET, "alpha": 0.5}
        options = with_defaults(rows_kw, **style, transform=self.ax_.get_xaxis_transform())
        (self.rows_,) = self.ax_.plot(rows, np.full(len(rows), 0.02), **options)


def _checked_rows(X: Any, network: SparseNetwork) -> Floats:
    rows = numbers(X, "X")
    if rows.shape[1] != network.n_features:
        raise ValueError(f"X must have {network.n_features} features, as in fit, got {rows.shape[1]}.")
    return rows


def _feature(feature: int | str, names: Sequence[str]) -> int:
    if isinstance(feature, str) and feature in names:
        return list(names).index(feature)
    if isinstance(feature, Integral) and not isinstance(feature, bool) and 0 <= feature < len(names):
        return int(feature)
    raise ValueError(
        f"feature must be a number below {len(names)} or one of the names {', '.join(names)}, got {feature!r}."
    )


def _output(target: int, network: SparseNetwork) -> int:
    if not isinstance(target, Integral) or isinstance(target, bool) or not 0 <= target < network.n_outputs:
        raise ValueError(f"target must be the number of an output, below {network.n_outputs}, got {target!r}.")
    return int(target)


def _neuron(neuron: int | str, unrolled: Unrolled) -> int:
    """Return the number of the unit that is a neuron, by number from 1 on, or by name."""
    numbers_ = unrolled.numbers("neuron")
    names = [unrolled.units[number].name for number in numbers_]
    if isinstance(neuron, str) and neuron in names:
        return numbers_[names.index(neuron)]
    if isinstance(neuron, Integral) and not isinstance(neuron, bool) and 1 <= neuron <= len(names):
        return numbers_[int(neuron) - 1]
    there = f"from {names[0]} to {names[-1]}, or a number from 1 on" if names else "but the network has none"
    raise ValueError(f"neuron must be one of the network, {there}, got {neuron!r}.")


def _wrapped(text: str) -> str:
    """Return a label in a few lines."""
    return "\n".join(textwrap.wrap(text, _LABEL_WIDTH, max_lines=_LABEL_LINES, placeholder=" ..."))
