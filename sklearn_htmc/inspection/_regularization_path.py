"""RegularizationPathDisplay: error and size against the strength of the penalty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from sklearn_htmc._network import Floats, RegularizationPath
from sklearn_htmc.inspection._axes import QUIET, axes_of, log_axis, require_matplotlib, with_defaults
from sklearn_htmc.inspection._measure import squared_errors, targets_of

_ERROR = "held-out mean squared error"
_FEW = 10.0  # edges; above that the axis is logarithmic
_SCORES = {  # of scikit-learn, minus an error each
    "neg_mean_squared_error": _ERROR,
    "neg_root_mean_squared_error": "held-out root mean squared error",
    "neg_mean_absolute_error": "held-out mean absolute error",
    "neg_median_absolute_error": "held-out median absolute error",
}


class RegularizationPathDisplay:
    """Held-out error and number of edges against alpha.

    It is recommended to use `from_estimator`, `from_search` or `from_path`. All parameters are attributes.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        Strengths.
    errors : ndarray of shape (n_alphas,)
        Mean held-out errors.
    standard_errors : ndarray of shape (n_alphas,), default=None
        Standard errors of these means.
    sizes : ndarray of shape (n_alphas,), default=None
        Sizes of the models.
    chosen : int, default=None
        Number of the strength that was chosen.
    error_name, size_name : str
        What errors and sizes are, for the labels of the axes.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Where the errors are drawn.
    line_, band_, chosen_ : matplotlib artists
        The errors, the band of one standard error about them, and the mark of the chosen strength; None where there is
        none of them.
    size_ax_, size_line_ : matplotlib Axes and Line2D
        The axis on the right and the sizes on it; None where there are none.

    See Also
    --------
    ResNetNormRegressorCV : Chooses the strength by a cross-validated path.
    SizePathDisplay : Error against edges along one fit.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc import DeepSplineRegressorCV
    >>> from sklearn_htmc.inspection import RegularizationPathDisplay
    >>> x = np.linspace(0.0, 6.0, 60)[:, None]
    >>> model = DeepSplineRegressorCV([0.1, 0.01, 0.001], ranks=(), cv=3, random_state=0).fit(x, np.sin(x[:, 0]))
    >>> display = RegularizationPathDisplay.from_estimator(model)
    >>> display.errors.shape
    (3,)
    """

    ax_: Any
    figure_: Any
    line_: Any
    band_: Any
    chosen_: Any
    size_ax_: Any
    size_line_: Any

    def __init__(
        self,
        *,
        alphas: Floats,
        errors: Floats,
        standard_errors: Floats | None = None,
        sizes: NDArray[Any] | None = None,
        chosen: int | None = None,
        error_name: str = _ERROR,
        size_name: str = "edges",
    ) -> None:
        self.alphas = alphas
        self.errors = errors
        self.standard_errors = standard_errors
        self.sizes = sizes
        self.chosen = chosen
        self.error_name = error_name
        self.size_name = size_name

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw what a search over alpha has found.

        Parameters
        ----------
        estimator : regressor
            A fitted `ResNetNormRegressorCV` or `DeepSplineRegressorCV`, or a `ResNetNormRegressor` or
            `DeepSplineRegressor` that was fitted with ``alpha="auto"``. The error of a strength is the mean over the
            folds by the weights of their rows, as in the choice; the edges are those of the networks of all rows, of
            ``alpha="auto"`` the mean of those of the folds.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        RegularizationPathDisplay
            With the artists.

        Raises
        ------
        TypeError
            If the estimator has made no search.
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        if not hasattr(estimator, "mse_path_"):
            raise TypeError(
                "the estimator must be a fitted ResNetNormRegressorCV or DeepSplineRegressorCV with its search, or one "
                f"whose fit has chosen alpha='auto', got a {type(estimator).__name__} without mse_path_; from_path "
                "draws path(X, y), from_search a GridSearchCV."
            )
        weights = estimator.fold_weights_
        judged = weights > 0
        losses = estimator.mse_path_[:, judged]
        path = getattr(estimator, "path_", None)  # of a plain regressor the way to a budget, if any
        sizes = path.n_edges if isinstance(path, RegularizationPath) else estimator.n_edges_path_ @ weights
        display = cls(
            alphas=estimator.alphas_,
            errors=losses @ weights[judged],
            standard_errors=_standard_errors(losses),
            sizes=sizes,
            chosen=estimator.best_index_,
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_search(
        cls,
        search: Any,
        *,
        param: str | None = None,
        score: str = "score",
        size: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a search of scikit-learn over alpha.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV or the like
            Fitted, with candidates that differ in one parameter only.
        param : str, default=None
            Its name; None takes the one that there is.
        score : str, default="score"
            Name of the score in ``cv_results_``. For scores of scikit-learn that are minus an error, the error is
            drawn, else the score itself.
        size : str, default=None
            Name of a score that is minus a size, like that of a `CircuitSizeScorer`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        RegularizationPathDisplay
            With the artists.

        Raises
        ------
        ValueError
            If candidates differ in several parameters, or in one that is not a number, or there is no such score.
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_search")
        check_is_fitted(search, "cv_results_")
        results = search.cv_results_
        alphas = _only_parameter(results, param)
        order = np.argsort(alphas)[::-1]
        folds = _folds(results, score)[order]
        name = search.scoring if score == "score" else score
        error_name = _SCORES.get(name) if isinstance(name, str) else None
        best = getattr(search, "best_index_", None)
        display = cls(
            alphas=alphas[order],
            errors=(-1.0 if error_name else 1.0) * folds.mean(axis=1),
            standard_errors=_standard_errors(folds),
            sizes=None if size is None else -_folds(results, size)[order].mean(axis=1),
            chosen=None if best is None else int(np.flatnonzero(order == best)[0]),
            error_name=error_name or f"held-out {name if isinstance(name, str) else 'score'}",
            size_name="gates",
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_path(
        cls,
        path: RegularizationPath,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        chosen: int | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the errors of the networks of a path on rows that it was not fitted to.

        Parameters
        ----------
        path : RegularizationPath
            What ``path(X, y)`` of a regressor returns.
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        chosen : int, default=None
            Number of a strength to mark.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        RegularizationPathDisplay
            With the artists. The standard errors are those of a mean over rows.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_path")
        targets = targets_of(y, X)
        pairs = np.array([squared_errors(targets, network(X), sample_weight) for network in path.networks])
        display = cls(
            alphas=path.strengths, errors=pairs[:, 0], standard_errors=pairs[:, 1], sizes=path.n_edges, chosen=chosen
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self, ax: Any = None, *, line_kw: Mapping[str, Any] | None = None, size_kw: Mapping[str, Any] | None = None
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        line_kw, size_kw : dict, default=None
            Keywords for ``plot`` of the errors and of the sizes.

        Returns
        -------
        RegularizationPathDisplay
            With the artists as attributes.
        """
        self.ax_ = axes_of(ax, f"{type(self).__name__}.plot")
        self.figure_ = self.ax_.figure
        self.band_ = self.chosen_ = self.size_ax_ = self.size_line_ = None
        if self.sizes is not None:
            self._plot_sizes(size_kw)
        options = with_defaults(line_kw, marker="o", markersize=4, label=self.error_name)
        (self.line_,) = self.ax_.plot(self.alphas, self.errors, **options)
        color = self.line_.get_color()
        if self.standard_errors is not None:
            low, high = self.errors - self.standard_errors, self.errors + self.standard_errors
            self.band_ = self.ax_.fill_between(
                self.alphas, low, high, color=color, alpha=0.2, linewidth=0, label="one standard error"
            )
        if self.chosen is not None:
            alpha = self.alphas[self.chosen]
            self.ax_.axvline(alpha, color=color, linestyle=":", linewidth=1)
            (self.chosen_,) = self.ax_.plot(
                [alpha],
                [self.errors[self.chosen]],
                linestyle="none",
                marker="o",
                markersize=9,
                markerfacecolor="white",
                markeredgecolor=color,
                markeredgewidth=2,
                label=f"chosen: {alpha:.3g}",
            )
        self.ax_.set(xscale="log", xlabel="alpha", ylabel=self.error_name)
        handles = [artist for artist in (self.line_, self.band_, self.chosen_, self.size_line_) if artist is not None]
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 2, "frameon": False}
        self.ax_.legend(handles=handles, fontsize="small", **place)
        return self

    def _plot_sizes(self, size_kw: Mapping[str, Any] | None) -> None:
        self.size_ax_ = self.ax_.twinx()
        options = with_defaults(size_kw, color=QUIET, linestyle="--", marker=".", label=self.size_name)
        (self.size_line_,) = self.size_ax_.plot(self.alphas, self.sizes, **options)
        self.size_ax_.set_ylabel(self.size_name, color=options["color"])
        self.size_ax_.tick_params(axis="y", colors=options["color"])
        log_axis(self.size_ax_, "y", from_zero_to=_FEW)


def _standard_errors(folds: Floats) -> Floats | None:
    """Return the standard errors of the means over folds; None where there is one fold."""
    n_folds = folds.shape[1]
    return None if n_folds < 2 else folds.std(axis=1, ddof=1) / np.sqrt(n_folds)


def _folds(results: Mapping[str, Any], score: str) -> Floats:
    """Return a score of all candidates, of shape (n_candidates, n_folds)."""
    pattern = re.compile(rf"split(\d+)_test_{re.escape(score)}")
    found = {int(match[1]): key for key in results if (match := pattern.fullmatch(key))}
    if not found:
        known = sorted(key.removeprefix("mean_test_") for key in results if key.startswith("mean_test_"))
        raise ValueError(f"the search must have a score named {score!r}, got {', '.join(known)}; name one of these.")
    return np.column_stack([results[found[fold]] for fold in sorted(found)]).astype(np.float64)


def _only_parameter(results: Mapping[str, Any], param: str | None) -> Floats:
    """Return the values of the parameter in which candidates differ."""
    names = sorted({name for candidate in results["params"] for name in candidate})
    varied = [name for name in names if len({str(candidate.get(name)) for candidate in results["params"]}) > 1]
    param = param or (varied[0] if varied else names[0])
    if param not in names or set(varied) - {param}:
        raise ValueError(f"candidates of the search must differ in {param!r} alone, got {', '.join(varied)}.")
    values = [candidate.get(param) for candidate in results["params"]]
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{param!r} must be a number in all candidates of the search, got {values!r}.") from error
