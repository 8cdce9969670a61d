"""CircuitRegressor: an integer circuit grown on the data, gate by gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor, VotingRegressor
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_htmc._circuit_task import Labels, Task
from sklearn_htmc._network import Floats
from sklearn_htmc._table_regressor import TableRegressor
from sklearn_htmc._threads import one_blas_thread
from sklearn_htmc.circuit import Circuit, Format, lower
from sklearn_htmc.circuit._frames import names_of_fit
from sklearn_htmc.circuit._given import Asked
from sklearn_htmc.circuit._grow.growth import FACTOR, Level, prices_down_to
from sklearn_htmc.circuit._grow.path import CircuitPath, Report, Validation, levels, validated
from sklearn_htmc.circuit._grow.pool import Definition
from sklearn_htmc.circuit._lower._forms import Wired
from sklearn_htmc.circuit._rules import Rules, importances, moments_of_terms, rules_of, terms_of
from sklearn_htmc.circuit._simulate import simulated

_DEFAULT_ALPHA = 1e-3  # where there are too few rows to choose
_SHARES = (1.0, 0.5, 0.0)  # of the values of the teacher in what is grown on, that are tried
_OWN_ROWS = 0.3  # weight of the rows where perturbed rows stand beside them
_TREES, _LEAF = 300, 10  # trees of the boosted half of the teacher "auto", and rows in their leaves
_BEYOND = 1.2  # times a budget: circuits up to there may fit into it after resynthesis
_MOST_GATES = 10_000.0  # about, after which growth on many rows ends
_FEW = 50.0  # gates by which the estimate during growth may be too large


@dataclass(frozen=True, eq=False)
class _Plan:
    """What to grow on, and how far.

    Attributes
    ----------
    validation : Validation or None
        Held-out errors of growth on parts of the rows.
    ratio : float
        Price of a gate on all rows where it is one on those parts: what a term gains by chance falls with the number of
        rows, and with the weight of their own targets in what is grown on.
    labels : callable or None
        A smoother function; it labels perturbed rows.
    share : float
        Of its labels in what is grown on at the rows.
    teacher : regressor or None
        That it comes from.
    is_grown : bool
        Whether the circuits of validation are those that are wanted.
    """

    validation: Validation | None = None
    ratio: float = 1.0
    labels: Labels | None = None
    share: float = 0.0
    teacher: Any = None
    is_grown: bool = False


class CircuitRegressor(TableRegressor):
    """Regression by an integer circuit that is grown on the data, gate by gate.

    The model is a constant and a sum of bits, each times a signed power of two: comparisons of a feature with a
    constant, bits of a feature, and conjunctions of such bits in all polarities. Terms come and go so as to minimise

        mean squared error / variance of y + alpha * gates

    greedily, at a price of a gate that falls to alpha; gates are those of two inputs of the finished circuit. The
    circuit is then resynthesised. Rows that are perturbed, with labels of a smoother function, stand beside those given
    (`augment`, `teacher`). What `predict` returns is what the circuit computes, bit for bit.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Price of a gate in units of the variance of y: the regularisation strength. Useful values go from 1e-2 (a few
        rules) to 1e-6 (thousands of gates). "auto" chooses it by the error on held-out rows inside `fit`: by folds,
        or, above 10,000 rows, by a tenth of them; the circuit is then the one grown on the others, of at most about
        10,000 gates.
    max_gates : int, default=None
        Budget: the circuit has at most so many gates. None sets no limit.
    teacher : None, "auto" or regressor, default=None
        A regressor that is fitted first and whose predictions, also between and beside the rows, are what is grown on,
        mixed with y as held-out rows say. A smooth teacher helps most where rows are few. "auto" takes the mean of
        ``ResNetNormRegressor(random_state=0)`` and boosted trees; the network alone where there are several outputs.
    augment : bool, default=True
        Without a teacher: whether to grow on perturbed rows as well, which the circuits grown on parts of the rows
        label in the mean. That smooths the function and costs little where those parts choose alpha anyway; with a
        given alpha, a fit takes several times as long. Above 10,000 rows nothing is added.
    input_formats : mapping, default=None
        Formats of some features, by number or name: the words that sensors deliver; see `Format`. Growth is on their
        codes. The others are chosen such that values that differ have different codes.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    circuit_ : Circuit
        The circuit. Its `error` is the root mean square error on the rows of fit, as a fraction of the standard
        deviation of y.
    n_gates_ : int
        Gates of the circuit.
    alpha_ : float
        Price of a gate.
    path_ : CircuitPath
        Circuits of all sizes on the way, without resynthesis: `n_gates`, `loss`, `validation_loss`, `alphas`,
        `circuits` and `within(max_gates)`.
    rules_ : Rules
        The circuit as a table, one line per term: weight in raw units, condition in raw units, share of the rows, and
        gates that go with it. ``print(model.rules_)`` prints it, ``pandas.DataFrame(model.rules_)`` takes it.
    teacher_ : object or None
        The fitted teacher; None where there is none or held-out rows speak against it.
    feature_importances_ : ndarray of shape (n_features,)
        Share of every feature in the variance of the terms; a term counts for its features in equal parts.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X had any.

    See Also
    --------
    ResNetNormRegressor : Smooth functions, by a norm that measures circuit size.
    sklearn_htmc.circuit.compile_circuit : The circuit of any fitted model.

    Notes
    -----
    Sums of circuits are the convex hull of circuits, so this is the conditional-gradient method on the set that the
    theory of functions harder than Monte Carlo [1]_ finds nearly convex; see the theory page. Features saturate at
    the ends of the range seen in `fit`, as the circuit does.

    References
    ----------
    .. [1] A. Jacot, "Deep Learning as a Convex Paradigm of Computation: Minimizing Circuit Size with ResNets", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc import CircuitRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(0, 10, size=(500, 3)).astype(float)
    >>> y = np.where((X[:, 0] > 5) & (X[:, 1] > 2), 8.0, 0.0) + 0.1 * rng.normal(size=500)
    >>> model = CircuitRegressor(max_gates=30).fit(X, y)
    >>> model.n_gates_ <= 30, bool(model.score(X, y) > 0.99)
    (True, True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "max_gates": [Interval(Integral, 0, None, closed="left"), None],
        "teacher": [StrOptions({"auto"}), HasMethods(["fit", "predict"]), None],
        "augment": ["boolean"],
        "input_formats": [Mapping, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        alpha: float | str = "auto",
        *,
        max_gates: int | None = None,
        teacher: Any = None,
        augment: bool = True,
        input_formats: Mapping[int | str, Format] | None = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.max_gates = max_gates
        self.teacher = teacher
        self.augment = augment
        self.input_formats = input_formats
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Grow a circuit on a table of data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features; a sparse matrix is made dense.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows. An integer weight equals that many copies of the row, exactly.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For parameters out of range, formats of features that do not exist, NaN or infinity in the data, and shapes
            that do not fit. The estimator is then as it was before the call.
        """
        with self._all_or_nothing():
            self._validate_params()
            X, y, weights, is_1d = self._validated(X, y, sample_weight, reset=True)
            names = names_of_fit(self)
            given = Asked(self.input_formats).checked(names, X.shape[1], y.shape[1])
            task = Task.of(X, y, weights, given)
            # Matrices are small, and threads could change the last bit of a sum.
            with one_blas_thread(), _progress(self.verbose) as report:
                self._fit_task(task, report, {"_feature_names": names, "_prediction_ndim": 2 - is_1d})
            self._y_is_1d = is_1d
        return self

    def _fit_task(self, task: Task, report: Report, interface: dict[str, Any]) -> None:
        most = np.inf if self.max_gates is None else _BEYOND * self.max_gates
        beyond = 2.0 * most + _FEW  # levels count about, a circuit exactly
        plan = self._plan(task, report, beyond)
        alpha, found, definitions = self._grown(task, plan, report, beyond)
        path = CircuitPath.of(found, definitions, task.ports, task.center, task.places, plan.validation, plan.ratio)
        self.path_ = replace(path, **interface)
        self.circuit_ = self._chosen(task, alpha, most)
        self.n_gates_ = self.circuit_.n_gates
        self.alpha_ = alpha
        self.teacher_ = plan.teacher
        _, terms = terms_of(self.circuit_)
        self._shares, variances = moments_of_terms(self.circuit_, terms, task.X, task.weights)
        self.feature_importances_ = importances(self.circuit_, terms, variances)

    def _grown(
        self, task: Task, plan: _Plan, report: Report, beyond: float
    ) -> tuple[float, list[Level], Sequence[Definition]]:
        """Return the price of a gate, the levels down to it or to some gates, and the pool that they refer to."""
        validation = plan.validation
        if validation is not None and plan.is_grown:
            levels_there, definitions = validation.grown[0]
            return validation.price, levels_there[: validation.best + 1], definitions
        if self.alpha != "auto":
            alpha = float(self.alpha)
        else:
            alpha = _DEFAULT_ALPHA if validation is None else validation.price * plan.ratio
        growth = task.grown_on(task.everywhere(), plan.labels, plan.share).grown(task.ports, task.importance)
        found = list[Level]()
        for level in levels(growth, prices_down_to(alpha)):
            report(level)
            found.append(level)
            if level.gates > beyond:
                break
        return alpha, found, growth.pool.definitions

    def _plan(self, task: Task, report: Report, beyond: float) -> _Plan:
        """Grow on parts of the rows, to learn from the others how far to go, and what to grow on."""
        taught = None if self.teacher is None else self._taught_plan(task, report)
        if taught is not None:
            return taught
        held_out = task.held_out() if task.can_be_judged else []
        is_large = len(held_out) == 1
        augment = self.augment and not is_large and bool(held_out)
        if not augment and (self.alpha != "auto" or not held_out):
            return _Plan()
        parts = [(task.measured(~out), task.measured(out)) for out in held_out]
        if is_large:
            # What is grown on nine tenths of many rows is as good.
            most = min(beyond, _MOST_GATES)
            validation = validated(task.ports, parts, task.importance, factor=FACTOR, most=most, report=report)
            return _Plan(validation, is_grown=True)
        ratio = task.share_inside * (_OWN_ROWS if augment else 1.0)
        validation = validated(task.ports, parts, task.importance, report=report)
        return _Plan(validation, ratio, labels=task.labels_of_folds(validation) if augment else None)

    def _taught_plan(self, task: Task, report: Report) -> _Plan | None:
        """Find out how much of a teacher to take; return None where it is no use."""
        if not task.can_be_judged:
            teacher = task.taught(self._teacher(task), task.everywhere())
            return _Plan(labels=task.labels_of(teacher), share=1.0, teacher=teacher)
        ratio = task.share_inside
        folds = [(out, task.labels_of(task.taught(self._teacher(task), ~out))) for out in task.held_out()]
        last = None if self.alpha == "auto" else float(self.alpha) / ratio
        plans = list[tuple[float, _Plan]]()
        for share in _SHARES:
            parts = [
                (task.grown_on(~out, labels if share else None, share), task.measured(out)) for out, labels in folds
            ]
            validation = validated(task.ports, parts, task.importance, last=last, report=report)
            loss = float(validation.losses[validation.best if self.alpha == "auto" else -1])
            plans.append((loss, _Plan(validation, ratio, share=share)))
        best = min(plans, key=lambda plan: plan[0])[1]
        if not best.share:
            return None
        teacher = task.taught(self._teacher(task), task.everywhere())
        return replace(best, labels=task.labels_of(teacher), teacher=teacher)

    def _teacher(self, task: Task) -> Any:
        if self.teacher != "auto":
            return clone(self.teacher)
        from sklearn_htmc._resnet_norm import ResNetNormRegressor

        network = ResNetNormRegressor(random_state=0, on_interrupt="raise")  # which is to end all of this fit
        if task.table.y.shape[1] > 1:
            return network
        trees = HistGradientBoostingRegressor(max_iter=_TREES, min_samples_leaf=_LEAF, random_state=0)
        return VotingRegressor([("network", network), ("trees", trees)])

    def _chosen(self, task: Task, alpha: float, most: float) -> Circuit:
        """Return the best circuit within the budget, of the last level and of those that resynthesis brings into it."""
        path = self.path_
        budget = np.inf if self.max_gates is None else float(self.max_gates)
        starts = [path.within(budget), *(path.circuit(k) for k in np.flatnonzero(path.n_gates > budget).tolist())]
        found = [
            circuit
            for start in starts
            if start.n_gates <= most
            if (circuit := task.resynthesised(start, alpha, budget)) is not None
        ]
        best = min(found, key=lambda circuit: circuit.error**2 + alpha * circuit.n_gates)
        return replace(best, feature_names=starts[0].feature_names, prediction_ndim=starts[0].prediction_ndim)

    def predict(self, X: Any) -> Floats:
        """Return what the circuit computes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features; outside the range of the rows of fit they saturate.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Targets, of the shape that ``y`` had in fit; float32 if X is float32, else float64.
        """
        return self._predicted(X, lambda X: simulated(self.circuit_, X))

    @property
    def rules_(self) -> Rules:
        """The circuit as a readable table."""
        check_is_fitted(self)
        return rules_of(self.circuit_, getattr(self, "feature_names_in_", None), self._shares)


@lower.register
def _(model: CircuitRegressor) -> Any:
    """Lower the circuit: it is the function."""
    check_is_fitted(model)
    return Wired(model.circuit_)


@contextmanager
def _progress(verbose: int | bool) -> Iterator[Report]:
    """Show a bar with gates and error of the last level, if asked for."""
    if not verbose:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(desc="growth", unit="level") as bar:

        def report(level: Level) -> None:
            bar.set_postfix_str(f"about {level.gates:,.0f} gates, error {level.loss**0.5:.3g}, alpha {level.price:.2g}")
            bar.update()

        yield report
