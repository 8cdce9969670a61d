"""DeepSplineRegressorCV: the strength chosen by cross-validated paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sklearn_htmc._deep_spline import DeepSplineRegressor
from sklearn_htmc._search import CrossValidatedRegressor, with_search


class DeepSplineRegressorCV(CrossValidatedRegressor, DeepSplineRegressor):
    """`DeepSplineRegressor` with alpha chosen by cross-validation, a path of networks per fold.

    Parameters
    ----------
    alphas : int or array-like of shape (n_alphas,), default=20
        Strengths to try, or how many: then they fall over three decades from ``1 / sqrt(n_samples)``.
    cv : int, splitter or iterable, default=None
        As for `sklearn.model_selection.GridSearchCV`, but that None deals rows to five folds at random, by
        `random_state`, and keeps rows of equal features together; it does not depend on the order of rows.
    selection : {"min", "one_se"}, default="min"
        The alpha with the least mean held-out squared error, or the largest one, that of the smallest networks, whose
        mean is within one standard error of it.
    n_restarts : int, default=1
        Random starts of every path; of each strength the one with the least objective counts.
    ranks, n_neurons, penalty, skip, max_neurons, max_iter, tol, batch_size : object
        See `DeepSplineRegressor`.
    early_stopping, validation_fraction, n_iter_no_change, extrapolation, device, random_state, verbose : object
        See `DeepSplineRegressor`.
    warm_start : bool, default=True
        Whether every network starts from that of the next smaller alpha in the same fold, in fewer passes; no fold sees
        the weights of another one. False trains all of them from random weights, as separate fits do.
    n_jobs : int, default=None
        Workers of joblib that share the paths; ``joblib.parallel_config`` chooses which, a cluster for example. None
        uses the threads that torch has in this process.
    max_time, on_interrupt : object
        See `DeepSplineRegressor`. Where time is short all paths run through their training faster; then the largest
        alphas are left out. While other processes do the work an interrupt raises.

    Attributes
    ----------
    alpha_ : float
        The chosen strength.
    alphas_ : ndarray of shape (n_alphas,)
        All strengths, falling; those for which there was time.
    best_index_ : int
        Where `alpha_` is among them.
    mse_path_ : ndarray of shape (n_alphas, n_folds)
        Mean squared errors on the held-out rows, in squared units of y, averaged over outputs. The mean over folds
        that counts weights each by its rows. With `warm_start`, networks of folds are only ranked: they take fewer
        passes and are less polished than those of all rows.
    n_edges_path_ : ndarray of shape (n_alphas, n_folds)
        Edges of the networks of the folds.
    fold_weights_ : ndarray of shape (n_folds,)
        Share of each fold in the weight of all held-out rows.
    path_ : RegularizationPath
        The networks of all strengths on all rows, in raw units; `network_` is one of them.
    network_, layers_, rbv2_norm_, weight_ranks_, n_knots_, n_edges_, n_neurons_, objective_ : object
        See `DeepSplineRegressor`: of the network of `alpha_`, which saw all rows.
    stationarity_, loss_curve_, n_iter_, feature_importances_, device_, n_features_in_, feature_names_in_ : object
        See `DeepSplineRegressor`.

    See Also
    --------
    DeepSplineRegressor : One strength, or ``alpha="auto"``.

    Notes
    -----
    `partial_fit` goes on with `alpha_` and removes what belongs to the search; without a fit before it does not search.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc import DeepSplineRegressorCV
    >>> x = np.linspace(0.0, 6.0, 80)[:, None]
    >>> model = DeepSplineRegressorCV([0.1, 0.01, 0.001], ranks=(), cv=4, random_state=0).fit(x, np.sin(x[:, 0]))
    >>> model.mse_path_.shape, model.n_knots_ > 3
    ((3, 4), True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = with_search(DeepSplineRegressor._parameter_constraints)

    def __init__(
        self,
        alphas: Any = 20,
        *,
        cv: Any = None,
        selection: str = "min",
        n_restarts: int = 1,
        ranks: Sequence[int] = (8,),
        n_neurons: int = 128,
        penalty: str = "path_norm",
        skip: bool = True,
        max_neurons: int | None = None,
        max_iter: int = 300,
        tol: float = 1.2,
        batch_size: int | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 40,
        extrapolation: str = "linear",
        warm_start: bool = True,
        device: Any = "auto",
        random_state: Any = None,
        n_jobs: int | None = None,
        max_time: float | None = None,
        on_interrupt: str = "keep",
        verbose: int | bool = 0,
    ) -> None:
        super().__init__(
            selection=selection,
            ranks=ranks,
            n_neurons=n_neurons,
            penalty=penalty,
            skip=skip,
            max_neurons=max_neurons,
            max_iter=max_iter,
            tol=tol,
            batch_size=batch_size,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            extrapolation=extrapolation,
            warm_start=warm_start,
            device=device,
            random_state=random_state,
            max_time=max_time,
            on_interrupt=on_interrupt,
            verbose=verbose,
        )
        self.alphas = alphas
        self.cv = cv
        self.n_restarts = n_restarts
        self.n_jobs = n_jobs
