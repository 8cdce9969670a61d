"""DeepSplineRegressor: parameters, what they mean, and the choice of architecture and penalty. No loop, no tensor."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_htmc._automatic import automatic_batch, bounded_passes
from sklearn_htmc._base import NetworkRegressor
from sklearn_htmc._network import Floats, RegularizationPath, SparseNetwork

if TYPE_CHECKING:
    from scipy.interpolate import PPoly

    from sklearn_htmc._training.core.problems import Settings
    from sklearn_htmc._training.core.task import Family

_CHOICE_ROWS = 6_000  # on which alpha is chosen, at most
_STEPS = 28_000  # of the first-order phase at most
_ROUNDS = 12  # of the second-order phase of a composition ...
_PASSES = 25  # ... and passes of the first-order phase for each of them
_WIDE, _WIDE_PASSES = 8, 100  # inner coordinates at the start of training, if there are that many passes


class SplineLayer(NamedTuple):
    """One shallow network ``x -> V relu(W x - b) + C x + c``.

    Attributes
    ----------
    V : ndarray of shape (n_out, n_neurons)
        Outgoing weights.
    W : ndarray of shape (n_neurons, n_in)
        Incoming weights.
    b : ndarray of shape (n_neurons,)
        Thresholds.
    C : ndarray of shape (n_out, n_in)
        Linear part.
    c : ndarray of shape (n_out,)
        Constant part.
    """

    V: Floats
    W: Floats
    b: Floats
    C: Floats
    c: Floats


class DeepSplineRegressor(NetworkRegressor):
    r"""Composition of shallow ReLU networks with linear parts: a regularised fit over deep spline functions.

    With :math:`f_l(x) = V_l\,\mathrm{relu}(W_l x - b_l) + C_l x + c_l` of widths :math:`d_0, \ldots, d_L`, where the
    inner ones are the `ranks`, the function :math:`f = f_L \circ \cdots \circ f_1` is fitted to standardised data by

    .. math::

        \min \; \frac12 E_P \|y - f(x)\|^2 + \alpha \sum_{l=1}^L \Big( \sum_k \|v_{lk}\|_1 \|w_{lk}\|_2
        + \sum_j \|f_l(e_j) - f_l(0)\|_1 + \|f_l(0)\|_1 \Big)

    with the last :math:`f_L(0)` free, where :math:`E_P` is the weighted mean over training rows. The sum is that of the
    norms of :math:`RBV^2`, the functions of bounded second variation in the Radon domain; among all compositions of
    such functions some network of this form is a solution [1]_. For one input and ``ranks=()`` that is a linear spline
    with few knots, and the fit is the global optimum.

    Assumptions: squared error is what matters, features are numeric, and the target depends on a few nonlinear
    coordinates of the features.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Strength of the penalty, positive; useful values are 1e-5 to 1e-1, larger ones give fewer neurons. "auto"
        chooses it by held-out error inside fit, along one path of lassos over neurons (three folds up to 500 rows, one
        above; of more than 6,000 rows, 6,000 take part), and among compositions where a short training is better.
    selection : {"min", "one_se"}, default="min"
        What "auto" takes: the alpha with the least mean held-out error, along a path the largest within 2% of it, or
        the largest one, that of the smallest network, whose mean is within one standard error of it. With one fold both
        are the same.
    ranks : tuple of int, default=(8,)
        Widths between the shallow networks, which bound the ranks of the weights between their neurons. ``()`` is one
        shallow network, ``(2,)`` looks for two nonlinear coordinates. With 100 passes and more, training starts with
        eight coordinates where fewer are asked for, and condenses them to the most important ones on the way.
    n_neurons : int, default=128
        ReLU neurons of every shallow network before training. The second-order phase takes neurons out and in. A
        composition ends with at most twice as many in all, a single shallow network with those of its optimum.
    penalty : {"path_norm", "weight_decay", "multitask"}, default="path_norm"
        How neurons pay: ``||v||_1 ||w||_2``; ``(||v||_1^2 + ||w||_2^2) / 2``, which has the same minimisers and other
        training dynamics; or ``||v||_2 ||w||_2``, with which several outputs share neurons.
    skip : bool, default=True
        Whether shallow networks have a linear part. Without it neurons have to make up linear functions as well.
    max_neurons : int, default=None
        Budget of neurons. A fit with more is grown anew from a linear function, or cut where it has little more.
    max_iter : int, default=300
        Passes over the rows in the first-order phase, at most: on large tables as many as 28,000 steps take, but ten.
        Where 100 passes, or 1,200 steps, over at most 4,000 rows end above the lasso over equally many neurons of the
        first layer, training ends with them. With fewer than 300 passes the second-order phase of a composition has
        fewer rounds as well. ``ranks=()`` is solved without training.
    tol : float, default=1.2
        In units of alpha: a fit warns if the mean violation of the conditions for an optimum ends above it.
    batch_size : int or "auto", default="auto"
        Rows of a gradient step; "auto" takes 128 (all rows where they are fewer), 256 above 10,000 rows.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, keep the parameters with the best error on them, and stop after
        `n_iter_no_change` passes without a better one.
    validation_fraction : float, default=0.1
        Share of the rows held out by early stopping.
    n_iter_no_change : int, default=40
        Patience of early stopping, in passes.
    extrapolation : {"clip", "linear"}, default="linear"
        What happens outside the range of the features seen in fit: "linear" lets the function go on, as splines do;
        "clip" saturates every feature there, as a circuit does.
    warm_start : bool, default=False
        Start from the network of the previous fit.
    device : str or torch.device, default="auto"
        Where the first-order phase runs: "auto" takes a CUDA device when there is one and there are more than 10,000
        rows.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, row order, folds and the search for neurons.
    max_time : float, default=None
        Seconds of wall clock after which the fit ends, about; None takes as long as it takes. Where they are few, every
        phase gets a share: training runs through its schedule faster, so that edges are removed all the same, and the
        second-order phase ends early. A `ConvergenceWarning` says what was cut short; such fits are not reproducible.
    on_interrupt : {"keep", "raise"}, default="keep"
        What Ctrl-C does to a fit: "keep" finishes the best network so far, in up to five seconds, and warns; a second
        Ctrl-C raises, as the first one does before there is a network. "raise" leaves the estimator as it was, which is
        also what happens in worker processes and inside of searches and cross-validations, where no network is kept.
    verbose : bool or int, default=0
        Whether to show a progress bar, with the phase, an estimate of the time left, and data term and edges of every
        pass or round.

    Attributes
    ----------
    alpha_ : float
        The strength that was used.
    alphas_ : ndarray of shape (n_alphas,)
        Only where "auto" has chosen, like the next four: the strengths that were compared, falling, up to where the
        path has ended; those for which there was time.
    best_index_ : int
        Where `alpha_` is among them.
    mse_path_ : ndarray of shape (n_alphas, n_folds)
        Mean squared errors on the held-out rows, in squared units of y, averaged over outputs, of networks that are
        only to be ranked. The mean over folds that counts weights each by its rows, with outputs in units
        of their standard deviation.
    n_edges_path_ : ndarray of shape (n_alphas, n_folds)
        Edges of these networks.
    fold_weights_ : ndarray of shape (n_folds,)
        Share of each fold in the weight of all held-out rows.
    network_ : SparseNetwork
        The fitted function in raw units; `predict` is a call of it.
    layers_ : tuple of SplineLayer
        ``V, W, b, C, c`` of every shallow network: raw units at the features and targets, standardised ones between.
    weight_ranks_ : tuple of int
        Numerical ranks of the weights ``W_(l+1) V_l`` between neurons of consecutive layers; at most `ranks`.
    rbv2_norm_ : float
        The penalty at strength one, in standardised units.
    n_knots_ : int
        Only for one feature: knots of the fitted spline.
    n_edges_ : int
        Nonzero parameters, the free output constant not counted: ``network_.n_edges``.
    n_neurons_ : int
        ReLU neurons left.
    objective_ : float
        Data term plus alpha times the norm, in standardised units; for weight decay as well, at its balanced weights.
    stationarity_ : float
        Largest violation of the optimality conditions over outgoing weights, affine parts and all neurons that a search
        finds, those that are not there included. Comparable with alpha: for ``ranks=()`` zero is the global optimum.
    loss_curve_ : list of float
        Data term of every pass, on the rows of the short training where that was all.
    n_iter_ : int
        Passes done.
    feature_importances_ : ndarray of shape (n_features,)
        Share of the norm of the first layer that reads each feature.
    device_ : str
        Device of the first-order phase.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X had any.

    See Also
    --------
    ResNetNormRegressor : Networks with few edges.
    sklearn.preprocessing.SplineTransformer : Splines with given knots.

    Notes
    -----
    Neurons are counted less their affine interpolant at 0 and the unit vectors, so that the affine part of a layer is
    exactly ``f(0)`` and ``f(e_j) - f(0)``. Equal rows are merged before training, so weights equal repetition and the
    order of rows is irrelevant, bit for bit.

    References
    ----------
    .. [1] R. Parhi and R. D. Nowak, arXiv:2105.03361, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc import DeepSplineRegressor
    >>> x = np.linspace(0.0, 6.0, 80)
    >>> model = DeepSplineRegressor(alpha=0.001, ranks=(), random_state=0).fit(x[:, None], np.sin(x))
    >>> bool(model.score(x[:, None], np.sin(x)) > 0.99)
    True
    >>> spline = model.to_spline()
    >>> bool(np.allclose(spline(x), model.predict(x[:, None])))
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **NetworkRegressor._parameter_constraints,
        "ranks": [tuple, list],
        "n_neurons": [Interval(Integral, 1, None, closed="left")],
        "penalty": [StrOptions({"path_norm", "weight_decay", "multitask"})],
        "skip": ["boolean"],
        "max_neurons": [None, Interval(Integral, 0, None, closed="left")],
    }

    _choice_rows = _CHOICE_ROWS

    def __init__(
        self,
        alpha: float | str = "auto",
        *,
        selection: str = "min",
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
        warm_start: bool = False,
        device: Any = "auto",
        random_state: Any = None,
        max_time: float | None = None,
        on_interrupt: str = "keep",
        verbose: int | bool = 0,
    ) -> None:
        self.alpha = alpha
        self.selection = selection
        self.ranks = ranks
        self.n_neurons = n_neurons
        self.penalty = penalty
        self.skip = skip
        self.max_neurons = max_neurons
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

    def _validate_params(self) -> None:
        super()._validate_params()
        for rank in self.ranks:
            if not isinstance(rank, Integral) or isinstance(rank, bool) or rank < 1:
                raise ValueError(
                    f"ranks must be positive integers, one per inner width, like (8,) or (4, 4), got {self.ranks!r}."
                )

    def _family(self, n_features: int, n_outputs: int, fitted: SparseNetwork | None = None) -> Family:
        from sklearn_htmc._training.spline.finish import SplineFamily
        from sklearn_htmc._training.spline.network import SplineNetwork

        own = self._plain_params()
        widths = (n_features, *own.ranks, n_outputs)
        neurons = (own.n_neurons,) * (len(widths) - 1)
        if fitted is not None and len(fitted.blocks) == len(neurons):  # neurons have come in beyond the initial ones
            neurons = tuple(max(n, block.n_neurons) for n, block in zip(neurons, fitted.blocks, strict=True))
        network = SplineNetwork(widths, neurons, own.penalty, own.skip)
        # Training that comes down from more coordinates than the ranks needs time for it.
        wide = _WIDE if own.max_iter >= _WIDE_PASSES else 1
        rounds = max(1, min(_ROUNDS, own.max_iter // _PASSES))
        return SplineFamily(network, own.max_neurons, rounds=rounds, wide=wide)

    def _settings(self, n_rows: int) -> Settings:
        from sklearn_htmc._training.core.problems import Settings
        from sklearn_htmc._training.core.weightings import PATH

        own = self._plain_params()
        size = automatic_batch(own.batch_size, n_rows)
        most = bounded_passes(own.max_iter, n_rows, size, _STEPS)
        return Settings(
            max_iter=most if own.ranks else 1,  # a single shallow network is solved from anywhere
            batch_size=size,
            weighting=PATH,  # these norms do not depend on data
        )

    def _set_own_attributes(self, path: RegularizationPath) -> None:
        self.rbv2_norm_ = float(path.norm[0])
        layers = self.layers_
        between = zip(layers[1:], layers[:-1], strict=True)
        self.weight_ranks_ = tuple(_numerical_rank(later.W @ earlier.V) for later, earlier in between)
        self.__dict__.pop("n_knots_", None)
        if self.network_.n_features == 1:
            from sklearn_htmc._spline_form import knots

            self.n_knots_ = len(knots(self.network_))

    @property
    def layers_(self) -> tuple[SplineLayer, ...]:
        """``V, W, b, C, c`` of every shallow network."""
        if not hasattr(self, "network_"):
            raise AttributeError(f"{type(self).__name__} has no layers_ before fit.")
        return tuple(
            SplineLayer(b.outer.toarray(), b.inner.toarray(), -b.bias, b.matrix.toarray(), b.offset)
            for b in self.network_.uncentered().blocks
        )

    def to_spline(self) -> PPoly | list[PPoly]:
        """Return the fitted function of one feature as a linear spline.

        Returns
        -------
        scipy.interpolate.PPoly or list of scipy.interpolate.PPoly
            Equal to `predict` on the whole line, a list with one spline per output if y was 2-d. All breakpoints but
            the first and the last are knots.

        Raises
        ------
        ValueError
            If the model was fitted with several features.
        """
        check_is_fitted(self)
        if self.n_features_in_ != 1:
            raise ValueError(
                f"to_spline needs a model of one feature, got {self.n_features_in_}; "
                "layers_ holds the functions of several features."
            )
        from sklearn_htmc._spline_form import as_splines

        splines = as_splines(self.network_)
        return splines[0] if self._y_is_1d else splines

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on with more rows of the same problem, for data that do not fit in memory.

        Every call takes one pass over its rows with a small constant step size. The standardisation and the constant of
        the outputs follow all rows seen. Weights have single precision, and the optimiser starts each call anew but
        for the mean size of its gradients, so that a pickle is little more than the network. ``alpha="auto"`` uses
        `alpha_` where there is one, else 0.001. Fitted attributes are measured on the rows of the last call, and
        `stationarity_` leaves neurons out that are not there.

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


def _numerical_rank(matrix: Floats) -> int:
    return int(np.linalg.matrix_rank(matrix)) if matrix.size else 0
