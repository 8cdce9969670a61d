"""ResNetNormRegressor: parameters, what they mean, and the choice of architecture and penalty. No loop, no tensor."""

from __future__ import annotations

import math
from copy import copy
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_htmc._absent import Absent
from sklearn_htmc._automatic import automatic_batch, bounded_passes
from sklearn_htmc._base import NetworkRegressor
from sklearn_htmc._network import RegularizationPath, SizePath, SparseNetwork

if TYPE_CHECKING:
    from sklearn_htmc._training.core.problems import Settings
    from sklearn_htmc._training.core.task import Family

_LARGE = 10_000  # rows, above which the first-order phase takes ...
_STEPS = 20_000  # ... so many steps at most


class ResNetNormRegressor(NetworkRegressor):
    r"""Small residual ReLU network, fitted by a penalty on its circuit size.

    The network ``a_0 = E x + e``, ``a_l = a_(l-1) + U_l relu(V_l a_(l-1) + b_l)``, ``f = A a_L + c`` is fitted to
    standardised data by

    .. math::

        \min_t \; \frac12 E_P \|y - f_t(x)\|^2 + \alpha \sum_p \omega_p |t_p|,
        \qquad \omega_p = \Big\|\frac{\partial f}{\partial t_p}\Big\|_P

    over all parameters t but c, where :math:`E_P` is the weighted mean over training rows. The sum is the *ResNet
    norm* R; about :math:`(R / \epsilon)^2` edges are enough for accuracy :math:`\epsilon`. A fit is a self-consistent
    minimiser: stationary with the weights :math:`\omega` taken at the solution. Since an edge stays out exactly if
    the normalised correlation of the residual with what the edge can do is at most alpha, alpha is free of units and
    1 always gives the constant.

    Assumptions: squared error is what matters, features are numeric, and the target is a function of features on
    their scale (take logarithms of features that span decades, as for any network).

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Strength of the penalty, positive; useful values are 1e-4 to 1e-1, larger ones give smaller networks. "auto"
        chooses it by held-out error inside fit: networks of three folds (of one hold-out of a tenth above 10,000 rows)
        are trained along six rising values, and one of all rows goes the same way up to the best of them.
    selection : {"min", "one_se"}, default="min"
        What "auto" takes: the alpha with the least mean held-out error, or the largest one, that of the
        smallest network, whose mean is within one standard error of it. With one fold both are the same.
    n_blocks : int, default=2
        Residual blocks. One is enough for smooth additive-like targets. ``network_.n_blocks`` are those that have
        kept neurons.
    width : int, default=32
        Coordinates of the stream. Increase it with the number of features that matter.
    n_neurons : int, default=64
        ReLU neurons of a block before training. Increase it for large data sets.
    weighting : {"sensitivity", "path"}, default="sensitivity"
        Weights of the norm: measured on the data, or their data-free upper bound by sums of absolute values over paths.
        The second is more conservative off the data and usually needs more edges for the same error.
    max_edges : int, default=None
        Budget. The fit removes edges from the trained network, lets others grow from a linear one, and takes the better
        network within the budget; `path_` then has the best ones of all sizes.
    max_iter : int, default=300
        Passes over the rows in the first-order phase, at most: above 10,000 rows as many as 20,000 steps take, but ten.
    tol : float, default=1.2
        In units of alpha: a fit warns if the median violation of the conditions for an optimum was above it when
        training ended. Then more passes find a better network. With enough of them it ends near 0.1. Fits with
        `max_edges` do not warn.
    batch_size : int or "auto", default="auto"
        Rows of a gradient step; "auto" takes 128 (all rows where they are fewer), 256 above 10,000 rows.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, keep the parameters with the best error on them, and stop after
        `n_iter_no_change` passes without a better one.
    validation_fraction : float, default=0.1
        Share of the rows held out by early stopping.
    n_iter_no_change : int, default=40
        Patience of early stopping, in passes.
    extrapolation : {"clip", "linear"}, default="clip"
        What happens outside the range of the features seen in fit: "clip" saturates every feature there, as a circuit
        does; "linear" lets the network go on.
    warm_start : bool, default=False
        Start from the network of the previous fit.
    device : str or torch.device, default="auto"
        Where the first-order phase runs: "auto" takes a CUDA device when there is one and there are more than 10,000
        rows.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, row order and folds.
    max_time : float, default=None
        Seconds of wall clock after which the fit ends, about; None takes as long as it takes. Where they are few, every
        phase gets a share: training runs through its schedule faster, so that edges are removed all the same, and the
        second-order phase ends early. A `ConvergenceWarning` says what was cut short; such fits are not reproducible.
    on_interrupt : {"keep", "raise"}, default="keep"
        What Ctrl-C does to a fit: "keep" finishes the best network so far, in up to five seconds, and warns; a second
        Ctrl-C raises, as the first one does before there is a network. "raise" leaves the estimator as it was, which is
        also what happens in worker processes and inside of searches and cross-validations, where no network is kept.
    verbose : bool or int, default=0
        Whether to show a progress bar, with the phase and an estimate of the time left.

    Attributes
    ----------
    alpha_ : float
        The strength that was used.
    alphas_ : ndarray of shape (n_alphas,)
        Only where "auto" has chosen, like the next four: the strengths that were compared, falling; those for which
        there was time.
    best_index_ : int
        Where `alpha_` is among them.
    mse_path_ : ndarray of shape (n_alphas, n_folds)
        Mean squared errors on the held-out rows, in squared units of y, averaged over outputs, of networks that are
        only to be ranked, without clipping. The mean over folds that counts weights each by its rows, with outputs in
        units of their standard deviation.
    n_edges_path_ : ndarray of shape (n_alphas, n_folds)
        Edges of these networks.
    fold_weights_ : ndarray of shape (n_folds,)
        Share of each fold in the weight of all held-out rows.
    network_ : SparseNetwork
        The fitted function in raw units; `predict` is a call of it.
    n_edges_ : int
        Nonzero parameters, biases included and the free output constant not: ``network_.n_edges``.
    n_neurons_ : int
        ReLU neurons left.
    resnet_norm_ : float
        The norm R, in standardised units.
    path_ : SizePath
        Only with `max_edges`: the best networks of all sizes on the way to the budget, with their numbers of edges,
        training losses and (with `early_stopping`) validation losses; ``path_.within(100)`` is the best one with at
        most 100 edges, and ``at_size(100)`` the regressor that has it.
    objective_ : float
        Data term plus alpha times the norm, in standardised units.
    stationarity_ : float
        Largest violation of the optimality conditions over all edges between living units, zeros included, relative
        to their weight. Comparable with alpha: 0 is an exact stationary point.
    loss_curve_ : list of float
        Data term of every pass with `alpha_`.
    n_iter_ : int
        Passes done.
    feature_importances_ : ndarray of shape (n_features,)
        Share of the norm that enters through each feature.
    device_ : str
        Device of the first-order phase.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X had any.

    See Also
    --------
    sklearn.neural_network.MLPRegressor : Dense networks.
    sklearn.linear_model.Lasso : The same idea for linear functions.

    Notes
    -----
    The relation of circuit size and weighted l1 norms of residual networks is due to [1]_. The concrete weights here
    are a choice of this package, derived from a pruning argument (see the page on theory in the documentation).

    Equal rows are merged before training, so weights equal repetition and the order of rows is irrelevant, bit for bit.

    References
    ----------
    .. [1] A. Jacot, arXiv:2511.20888, 2025.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_htmc import ResNetNormRegressor
    >>> X, y = make_friedman1(n_samples=300, random_state=0)
    >>> model = ResNetNormRegressor(alpha=0.01, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    >>> model.predict(X[:2]).shape
    (2,)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **NetworkRegressor._parameter_constraints,
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_neurons": [Interval(Integral, 1, None, closed="left")],
        "weighting": [StrOptions({"sensitivity", "path"})],
        "max_edges": [None, Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        alpha: float | str = "auto",
        *,
        selection: str = "min",
        n_blocks: int = 2,
        width: int = 32,
        n_neurons: int = 64,
        weighting: str = "sensitivity",
        max_edges: int | None = None,
        max_iter: int = 300,
        tol: float = 1.2,
        batch_size: int | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 40,
        extrapolation: str = "clip",
        warm_start: bool = False,
        device: Any = "auto",
        random_state: Any = None,
        max_time: float | None = None,
        on_interrupt: str = "keep",
        verbose: int | bool = 0,
    ) -> None:
        self.alpha = alpha
        self.selection = selection
        self.n_blocks = n_blocks
        self.width = width
        self.n_neurons = n_neurons
        self.weighting = weighting
        self.max_edges = max_edges
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.extrapolation = extrapolation
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.max_time = max_time
        self.on_interrupt = on_interrupt
        self.verbose = verbose

    _stays_single = True

    def _family(self, n_features: int, n_outputs: int, fitted: SparseNetwork | None = None) -> Family:
        from sklearn_htmc._training.residual.finish import ResidualFamily
        from sklearn_htmc._training.residual.network import ResidualNetwork

        own = self._plain_params()
        return ResidualFamily(ResidualNetwork(n_features, n_outputs, own.width, (own.n_neurons,) * own.n_blocks))

    def _settings(self, n_rows: int) -> Settings:
        from sklearn_htmc._training.core.problems import Settings
        from sklearn_htmc._training.core.weightings import WEIGHTINGS

        own = self._plain_params()
        size = automatic_batch(own.batch_size, n_rows)
        return Settings(
            max_iter=own.max_iter if n_rows <= _LARGE else bounded_passes(own.max_iter, n_rows, size, _STEPS),
            batch_size=size,
            weighting=WEIGHTINGS[own.weighting],
            max_edges=own.max_edges,
        )

    _largest_alpha: ClassVar[float] = 1.0
    path_: Any = Absent(
        "before a fit with max_edges, like max_edges=200; for networks at many values of alpha call path(X, y)"
    )

    def _set_own_attributes(self, path: RegularizationPath) -> None:
        self.resnet_norm_ = float(path.norm[0])
        self.__dict__.pop("path_", None)
        if self.max_edges is not None and path.sizes and path.sizes[0] is not None:
            self.path_ = path.sizes[0]

    def circuit_size_bound(self, epsilon: float) -> int:
        """Bound the edges that are enough for an accuracy: ``min(n_edges_, ceil((R / epsilon)^2))``.

        The statement behind it is asymptotic: a random pruning of the network to N edges, each kept with probability
        proportional to its part of the norm, has an expected squared error of at most ``R^2 / N + o(1 / N)``. For N
        of the order of the number of edges of a path through the network products of several kept edges dominate and
        the error is larger.

        Parameters
        ----------
        epsilon : float
            Root mean square error allowed, as a fraction of the standard deviation of y; positive.

        Returns
        -------
        int
            Number of edges.

        Raises
        ------
        ValueError
            If epsilon is not positive.
        """
        check_is_fitted(self)
        if not (isinstance(epsilon, Real) and epsilon > 0):
            raise ValueError(
                f"epsilon must be a positive number, like 0.1 for a tenth of the spread of y, got {epsilon!r}."
            )
        ratio = min(self.resnet_norm_ / float(epsilon), 1e9)  # its square is an ordinary number
        return min(self.n_edges_, math.ceil(ratio**2))

    def at_size(self, max_edges: int) -> Self:
        """Return the regressor with the network of another size that the fit has seen on its way to a budget.

        Parameters
        ----------
        max_edges : int
            Number of edges allowed.

        Returns
        -------
        ResNetNormRegressor
            A fitted copy with this `max_edges`, the network ``path_.within(max_edges)``, and all attributes that
            describe a network those of this one, measured on the rows of `fit`; `path_`, `loss_curve_` and the like are
            those of the fit. Networks on the way are less polished than the one at the budget, see `stationarity_`.

        Raises
        ------
        ValueError
            If there is no `path_`, or every network on it is larger.

        Examples
        --------
        >>> from sklearn.datasets import make_friedman1
        >>> from sklearn_htmc import ResNetNormRegressor
        >>> X, y = make_friedman1(n_samples=200, random_state=0)
        >>> model = ResNetNormRegressor(alpha=0.01, max_edges=30, max_iter=50, tol=0.5, random_state=0).fit(X, y)
        >>> small = model.at_size(12)
        >>> small.n_edges_ <= 12 < model.n_edges_
        True
        """
        check_is_fitted(self)
        sizes = self._sizes()
        if sizes is None:
            raise ValueError(
                "at_size needs path_, the networks of all sizes, which fit leaves where it has a budget, got "
                f"max_edges={self.max_edges!r}; fit with max_edges={max_edges} or larger."
            )
        place = sizes.index_within(max_edges)
        twin = copy(self).set_params(max_edges=max(1, int(max_edges)))
        twin._memory = None  # of another network
        path = RegularizationPath(
            strengths=np.array([self.alpha_]),
            networks=(sizes.networks[place],),
            loss_curves=(np.array(self.loss_curve_),),
            sizes=(sizes,),
            objective=sizes.objective[[place]],
            loss=sizes.loss[[place]],
            norm=sizes.norm[[place]],
            stationarity=sizes.stationarity[[place]],
            typical_violation=np.array([np.nan]),
            n_edges=sizes.n_edges[[place]],
            validation_loss=sizes.validation_loss[[place]],
            feature_norms=sizes.feature_norms[[place]],
        )
        twin._set_network(path)
        return twin

    def _sizes(self) -> SizePath | None:
        """Return the way to the budget, where there was one."""
        return getattr(self, "path_", None)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on with more rows of the same problem, for data that do not fit in memory.

        Every call takes one pass over its rows with a small constant step size. The standardisation and the constant of
        the outputs follow all rows seen. Weights have single precision, and the optimiser starts each call anew but
        for the mean size of its gradients, so that a pickle is little more than the network. ``alpha="auto"`` uses
        `alpha_` where there is one, else 0.001. Fitted attributes are measured on the rows of the last call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            As for `fit`; for another number of features or outputs than before; if sizes were changed so that the
            fitted network has no room; if training diverges. The estimator is then as it was before the call.
        """
        return self._fit_more(X, y, sample_weight)
