"""SizePathDisplay: error against size along the way of one fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from sklearn_htmc._network import Floats, SizePath
from sklearn_htmc.circuit._frames import numbers
from sklearn_htmc.circuit._simulate import simulated
from sklearn_htmc.inspection._axes import axes_of, log_axis, require_matplotlib, with_defaults
from sklearn_htmc.inspection._measure import relative_error, targets_of

_FIT, _HELD_OUT, _GIVEN = "rows of the fit", "rows held out by the fit", "given rows"
_MARKERS = {_FIT: ".", _HELD_OUT: "s", _GIVEN: "o"}


class SizePathDisplay:
    """Error against size along `path_`: what each edge, or gate, buys.

    It is recommended to use `from_estimator`. All parameters are attributes.

    Parameters
    ----------
    sizes : ndarray of shape (n_sizes,)
        Edges of the networks, or gates of the circuits, rising.
    errors : dict of str to ndarray of shape (n_sizes,)
        Root mean square errors by the name of the rows, in units of the standard deviation of y.
    size : int, default=None
        Size of the fitted model, to be marked.
    size_name : str, default="edges"
        What sizes are.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.
    lines_ : list of matplotlib Line2D
        One for each entry of `errors`.
    chosen_ : matplotlib Line2D or None
        The line at the size of the fitted model.

    See Also
    --------
    ResNetNormRegressor.at_size : The regressor with a network of another size.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_htmc import ResNetNormRegressor
    >>> from sklearn_htmc.inspection import SizePathDisplay
    >>> X, y = make_friedman1(n_samples=200, random_state=0)
    >>> model = ResNetNormRegressor(alpha=0.01, max_edges=20, max_iter=50, tol=0.5, random_state=0).fit(X, y)
    >>> display = SizePathDisplay.from_estimator(model)
    >>> display.ax_.get_xlabel()
    'edges'
    """

    ax_: Any
    figure_: Any
    lines_: list[Any]
    chosen_: Any

    def __init__(
        self,
        *,
        sizes: NDArray[np.int64],
        errors: Mapping[str, Floats],
        size: int | None = None,
        size_name: str = "edges",
    ) -> None:
        self.sizes = sizes
        self.errors = errors
        self.size = size
        self.size_name = size_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any = None, y: Any = None, sample_weight: Any = None, *, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Draw the models that a fit has seen on its way.

        Parameters
        ----------
        estimator : ResNetNormRegressor with max_edges, or CircuitRegressor
            Fitted.
        X : array-like of shape (n_samples, n_features), default=None
            Features of other rows to measure errors on.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Their weights.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        SizePathDisplay
            With the artists.

        Raises
        ------
        TypeError
            If the estimator has no such path.
        ValueError
            If only one of X and y is given.
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        if (X is None) != (y is None):
            raise ValueError(f"X and y must be given both or not at all, got {'X' if y is None else 'y'} alone.")
        path: Any = getattr(estimator, "path_", None)
        if isinstance(path, SizePath):
            sizes, size, name, unit = path.n_edges, estimator.n_edges_, "edges", 2.0
        elif hasattr(path, "n_gates"):
            sizes, size, name, unit = path.n_gates, estimator.n_gates_, "gates", 1.0
        else:
            raise TypeError(
                "the estimator must have a path_ of sizes, which ResNetNormRegressor(max_edges=...) and "
                f"CircuitRegressor have after fit, got a {type(estimator).__name__} without one."
            )
        errors = {_FIT: np.sqrt(unit * path.loss)}
        if np.isfinite(path.validation_loss).any():
            errors[_HELD_OUT] = np.sqrt(unit * path.validation_loss)
        if X is not None:
            targets, rows = targets_of(y, X), numbers(X, "X")
            values = [network(rows) for network in path.networks] if name == "edges" else _values(path, rows)
            errors[_GIVEN] = np.array([relative_error(targets, predicted, sample_weight) for predicted in values])
        return cls(sizes=sizes, errors=errors, size=size, size_name=name).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, line_kw: Mapping[str, Any] | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        line_kw : dict, default=None
            Keywords for ``plot`` of all lines.

        Returns
        -------
        SizePathDisplay
            With the artists as attributes.
        """
        self.ax_ = axes_of(ax, f"{type(self).__name__}.plot")
        self.figure_ = self.ax_.figure
        self.lines_, self.chosen_ = [], None
        for name, errors in self.errors.items():
            style = {"marker": _MARKERS.get(name, "o"), "markersize": 4, "label": name}
            self.lines_ += self.ax_.plot(self.sizes, errors, **with_defaults(line_kw, **style))
        if self.size is not None:
            label = f"the fitted model: {self.size} {self.size_name}"
            self.chosen_ = self.ax_.axvline(self.size, color="0.3", linestyle=":", linewidth=1, label=label)
        least = self.sizes[self.sizes > 0].min(initial=self.sizes.max())
        log_axis(self.ax_, "x", from_zero_to=max(1.0, float(least)))  # the constant has no edges
        log_axis(self.ax_, "y")
        self.ax_.set(xlabel=self.size_name, ylabel="error / standard deviation of y")
        self.ax_.legend(fontsize="small")
        return self


def _values(path: Any, X: Floats) -> list[Floats]:
    return [simulated(circuit, X) for circuit in path.circuits]
