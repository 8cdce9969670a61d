"""CircuitSizeScorer: the gates of a fitted regressor as a score, and a regressor that predicts with its circuit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from sklearn_htmc._columns import only_numbers
from sklearn_htmc._links import DocumentationLink
from sklearn_htmc._network import Floats
from sklearn_htmc.circuit import Circuit, Format, lower
from sklearn_htmc.circuit._compile import Search, Way, no_circuit, search_circuit
from sklearn_htmc.circuit._frames import names_of_fit, require_names
from sklearn_htmc.circuit._given import Asked
from sklearn_htmc.circuit._lower._forms import Wired
from sklearn_htmc.circuit._rows import error_to_targets
from sklearn_htmc.circuit._simulate import simulated

INFEASIBLE = -1e12  # below minus the gates of every circuit


class CircuitSizeScorer(DocumentationLink, MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Number of gates of a regressor: a scorer, and an estimator that predicts with the circuit itself.

    As a scorer, ``CircuitSizeScorer(epsilon=0.3)(fitted_estimator, X, y)`` is minus the number of two-input gates of
    a circuit that is made for the occasion and verified by simulation, so larger is better, for every family of models
    that `sklearn_htmc.circuit.lower` knows; see there. Use it as ``scoring`` of a search, alone or in a dict.
    `estimator` is not used then.

    As an estimator, `fit` fits a clone of `estimator` and compiles it, `predict` gives what the circuit computes bit
    for bit, and `score` judges the fitted function as the scorer does, so a search needs no ``scoring``.

    Parameters
    ----------
    estimator : estimator object, default=None
        Regressor to fit and compile. None takes ``ResNetNormRegressor(random_state=0)``.
    epsilon : float, default=0.1
        Root mean square error allowed, as a fraction of the standard deviation of y (1 where that is zero).
    target : {"y", "prediction"}, default="y"
        What the circuit has to agree with. "y": the targets, so the circuit is the smallest one *that fits the data*:
        what the model leaves of epsilon is spent on coarser numbers. This is the rule to use alone. "prediction": the
        fitted function, so the score is its circuit complexity; the one to put beside "r2" in a search.
    effort : {"auto", 0, 1, 2, 3}, default="auto"
        How thoroughly circuits are resynthesised; see `sklearn_htmc.circuit.compile_circuit`. 0 takes a fraction of the
        time, say for a first look over a large grid, and finds circuits of up to twice the size.

    input_formats, output_format, saturate_inputs
        Of the ports of circuits; see `sklearn_htmc.circuit.compile_circuit`.

    Attributes
    ----------
    estimator_ : estimator object
        The fitted clone.
    circuit_ : Circuit
        Its circuit. With ``target="y"`` its `error` is the one to the targets, provided that `reaches_epsilon_`.
    reaches_epsilon_ : bool
        Whether the circuit is within epsilon of the target on the rows of fit. Where the fitted function itself is
        not, the circuit is within epsilon of the function instead.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X had any.

    See Also
    --------
    sklearn_htmc.model_selection.smallest_circuit : Rule for ``refit`` of a search with several scores.
    sklearn_htmc.circuit.compile_circuit : The circuit of a fitted model.

    Notes
    -----
    With ``target="y"``, a function whose own error is above epsilon scores ``-1e12`` times its error in units of
    epsilon. That is below every feasible score, and a better fit scores higher, so if nothing is feasible the most
    accurate model wins.

    A fitted `CircuitSizeScorer` that is itself scored by one, and a fitted `CircuitRegressor`, are not compiled anew:
    their score is that of `circuit_`, on the given rows. The own `score` of the former in contrast compiles the fitted
    function for the given rows, because a circuit that has spent epsilon on the training rows has nothing left for
    others; minus the gates of `circuit_` itself is ``CircuitSizeScorer(epsilon=...)(model, X, y)``, and R2 of what it
    computes is ``sklearn.metrics.r2_score(y, model.predict(X))``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Lasso
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_htmc import CircuitSizeScorer
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 8))
    >>> y = 4.0 * X[:, 0] + 2.0 * X[:, 1] + 0.1 * rng.normal(size=200)
    >>> search = GridSearchCV(Lasso(), {"alpha": [0.1, 10.0]}, scoring=CircuitSizeScorer(epsilon=0.2))
    >>> search.fit(X, y).best_params_  # 10.0 gives a constant, which is smaller but does not fit
    {'alpha': 0.1}
    >>> model = CircuitSizeScorer(Lasso(alpha=0.1), epsilon=0.2).fit(X, y)
    >>> bool(np.std(model.predict(X) - y) <= 0.2 * np.std(y))
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "target": [StrOptions({"y", "prediction"})],
        "effort": [StrOptions({"auto"}), Interval(Integral, 0, 3, closed="both")],
        "input_formats": [Mapping, None],
        "output_format": [Format, Sequence, None],
        "saturate_inputs": ["boolean", "array-like"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        epsilon: float = 0.1,
        target: str = "y",
        effort: int | str = "auto",
        input_formats: Mapping[int | str, Format] | None = None,
        output_format: Format | Sequence[Format | None] | None = None,
        saturate_inputs: bool | Sequence[int | str] = True,
    ) -> None:
        self.estimator = estimator
        self.epsilon = epsilon
        self.target = target
        self.effort = effort
        self.input_formats = input_formats
        self.output_format = output_format
        self.saturate_inputs = saturate_inputs

    # As a scorer.

    def __call__(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return minus the gates of a fitted regressor.

        Parameters
        ----------
        estimator : object
            Fitted regressor of a type that `sklearn_htmc.circuit.lower` knows.
        X : array-like of shape (n_samples, n_features)
            Rows on which circuits are compared with the target.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets. With ``target="prediction"`` only their standard deviation is used, and None takes that of the
            predictions.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        float
            The larger, the better.

        Raises
        ------
        TypeError
            If the type of the estimator is not supported; the text lists what is.
        ValueError
            If epsilon is not positive, X does not fit the estimator or holds NaN, or y is missing where it is needed.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        self._validate_params()
        require_names(names_of_fit(estimator), X)
        if isinstance(estimator, CircuitSizeScorer):
            X = estimator._validated(X)  # refuses an unfitted estimator
            return self._score_of_circuit(estimator.circuit_, X, y, sample_weight)
        if isinstance(circuit := getattr(estimator, "circuit_", None), Circuit):
            return self._score_of_circuit(circuit, X, y, sample_weight)
        rows = {"X": X, "y": y, "sample_weight": sample_weight}
        if self.target == "prediction":
            return -float(self._circuit(estimator, rows).n_gates)
        search = self._search(estimator, rows, to_targets=True)
        return self._score(search.error) if search.circuit is None else -float(search.circuit.n_gates)

    def _search(self, estimator: Any, rows: dict[str, Any], *, to_targets: bool) -> Search:
        asked = Asked(self.input_formats, self.output_format, self.saturate_inputs)
        way = Way(effort=self.effort)
        return search_circuit(estimator, **rows, epsilon=self.epsilon, to_targets=to_targets, way=way, asked=asked)

    def _circuit(self, estimator: Any, rows: dict[str, Any]) -> Circuit:
        """Return the circuit of a fitted function."""
        search = self._search(estimator, rows, to_targets=False)
        if search.circuit is None:
            raise no_circuit(self.epsilon, search)
        return search.circuit

    def _score_of_circuit(self, circuit: Circuit, X: Any, y: Any, sample_weight: Any) -> float:
        """Return minus the gates of a circuit that is there already."""
        error = error_to_targets(circuit, X, y, sample_weight) if self.target == "y" else 0.0
        return -float(circuit.n_gates) if error <= self.epsilon else self._score(error)

    def _score(self, error: float) -> float:
        """Return the score of an error that is not allowed."""
        return INFEASIBLE * error / self.epsilon

    def _accept_sample_weight(self) -> bool:
        """Tell searches of scikit-learn 1.9 that the scorer takes weights."""
        return True

    # As an estimator.

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit a clone of the regressor and compile it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, for the regressor and for the error of the circuit.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError
            If the type of the regressor is not supported; the text lists what is.
        ValueError
            For parameters out of range, NaN or infinity in the data, weights that the regressor does not take, and if
            no circuit is found.
        """
        self._validate_params()
        with only_numbers(X, y):
            checked, y = validate_data(
                self, X, y, accept_sparse=("csr", "csc"), dtype=np.float64, multi_output=True, y_numeric=True
            )
        # The regressor gets X as it came, with the names of its columns.
        self.estimator_ = clone(self._regressor()).fit(X, y, **self._fit_params(sample_weight))
        rows = {"X": checked, "y": y, "sample_weight": sample_weight}
        found = self._search(self.estimator_, rows, to_targets=self.target == "y").circuit
        self.reaches_epsilon_ = found is not None
        self.circuit_ = self._circuit(self.estimator_, rows) if found is None else found
        self._y_is_1d = y.ndim == 1
        return self

    def _regressor(self) -> Any:
        if self.estimator is not None:
            return self.estimator
        from sklearn_htmc._resnet_norm import ResNetNormRegressor

        # A search compares equals only if the seed does not change.
        regressor = ResNetNormRegressor(random_state=0)
        return regressor.set_fit_request(sample_weight=True) if _routing() else regressor

    def _fit_params(self, sample_weight: Any) -> dict[str, Any]:
        if sample_weight is None:
            return {}
        if _routing():
            return dict(process_routing(self, "fit", sample_weight=sample_weight).estimator.fit)
        if not has_fit_parameter(self._regressor(), "sample_weight"):
            raise ValueError(
                f"sample_weight must be None for a {type(self._regressor()).__name__}, whose fit does not take it; "
                "with metadata routing enabled, pipelines hand it on."
            )
        return {"sample_weight": sample_weight}

    def predict(self, X: Any) -> Floats:
        """Return what the circuit computes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features; outside the range of the rows of fit they saturate.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Targets, of the shape that ``y`` had in fit.
        """
        X = self._validated(X)  # refuses an unfitted estimator
        y = simulated(self.circuit_, X)
        return y.ravel() if self._y_is_1d else y

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the score of the fitted regressor: minus the gates of its circuit for these rows.

        The fitted function is compiled anew for them: the score is not that of `circuit_`, which
        ``CircuitSizeScorer(epsilon=...)(model, X, y)`` gives.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        float
            The larger, the better; not an R2.
        """
        return self(self.estimator_, self._validated(X), y, sample_weight)

    def _validated(self, X: Any) -> Floats:
        check_is_fitted(self)
        with only_numbers(X):
            X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        return X if isinstance(X, np.ndarray) else X.toarray()

    def get_metadata_routing(self) -> MetadataRouter:
        """Return what happens to metadata: weights are used here and handed on to the fit of the regressor."""
        router = MetadataRouter(owner=self).add_self_request(self)
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return router.add(estimator=self._regressor(), method_mapping=mapping)

    def __sklearn_tags__(self) -> Any:
        """Take over what the regressor can do, and say that the score is not R2."""
        tags = super().__sklearn_tags__()
        inner = get_tags(self._regressor())
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.target_tags = inner.target_tags
        tags.non_deterministic = inner.non_deterministic
        tags.regressor_tags.poor_score = True
        return tags


def _routing() -> bool:
    return bool(get_config()["enable_metadata_routing"])


@lower.register
def _(model: CircuitSizeScorer) -> Any:
    """Lower the circuit: it is the function."""
    check_is_fitted(model)
    return Wired(model.circuit_)
