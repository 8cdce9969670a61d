"""What the regressors share: validation, choice of alpha, fitted attributes, predict. Imports no torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sklearn_htmc._network import Floats, RegularizationPath, SparseNetwork
from sklearn_htmc._table import Moments, Scaling, Seen, Table
from sklearn_htmc._units import SINGLE, in_units

if TYPE_CHECKING:
    from sklearn_htmc._training.choice import Choice
    from sklearn_htmc._training.first_order import Problems, Report, Settings
    from sklearn_htmc._training.task import Begun, Family

_N_FOLDS = 3
_HOLD_OUT_ROWS = 10_000  # above this one hold-out of a tenth judges, below three folds
_N_STRENGTHS = 6  # half decades that training ranks
_PER_HALF_DECADE = 2  # steps of a path
_BATCH_ROWS = 128
_ONLINE_ALPHA = 0.001  # for partial_fit where nobody has chosen
_ONLINE_RATE = 0.002  # constant step size of partial_fit
_ONLINE_STEPS = 8  # of a call with few rows
_KNOWN_ROWS = 100  # that make units of features and targets known well enough to keep what was learnt in them
_DEFAULT_ALPHA = 0.01  # where there are too few rows to choose


def automatic_batch(batch_size: int | str, n_rows: int) -> int:
    """Return the rows of a batch for a parameter that may be "auto"."""
    if batch_size != "auto":
        return int(batch_size)
    return _BATCH_ROWS if n_rows <= _HOLD_OUT_ROWS else 2 * _BATCH_ROWS


def automatic_strengths(n_rows: int, n_between: int = 1) -> Floats:
    """Return the strengths that ``alpha="auto"`` tries: half decades, or parts of them, down from ``0.5 / sqrt(n)``.

    Alpha is a threshold on correlations, and a correlation with noise is about ``1 / sqrt(n)``.
    """
    largest = min(1.0, 0.5 / math.sqrt(n_rows))
    return np.asarray(
        largest * 10.0 ** (-0.5 * np.arange((_N_STRENGTHS - 1) * n_between + 1) / n_between), dtype=np.float64
    )


def _checked_weights(sample_weight: Any, n_rows: int) -> Floats:
    """Return float64 weights of the rows; raise ValueError for what cannot be weights."""
    if sample_weight is None or isinstance(sample_weight, Real):
        sample_weight = np.full(n_rows, 1.0 if sample_weight is None else sample_weight)
    weights = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight must have shape ({n_rows},), one weight per row of X, got {weights.shape}.")
    if weights.min() < 0:
        raise ValueError(
            f"sample_weight must not be negative, got {weights.min():g} in row {weights.argmin()}; "
            "a weight of 0 leaves a row out."
        )
    if not weights.any():
        raise ValueError("sample_weight must not be zero for all rows; give at least one row a positive weight.")
    return weights


def _taken_over(table: Table, before: Seen) -> Table:
    """Return a table with the units in which a network of earlier units is taken over.

    What was learnt is kept as a function of raw features where its units were well known. Where they came from a
    handful of rows, or from a column that was constant, it follows them.
    """

    def merged(earlier: Scaling, now: Scaling, moments: Moments) -> Scaling:
        follows = (moments.spread == 0) | (before.n_rows < _KNOWN_ROWS)
        return Scaling(np.where(follows, earlier.center, now.center), np.where(follows, earlier.scale, now.scale))

    features, targets = before.scalings()
    return replace(
        table,
        features=merged(features, table.features, before.features),
        targets=merged(targets, table.targets, before.targets),
    )


def _worthwhile_device(device: str, n_rows: int) -> str:
    """Resolve "auto": CUDA where there is one and the problem is large enough to gain by it."""
    if device != "auto":
        return device
    import torch

    return "cuda" if n_rows > _HOLD_OUT_ROWS and torch.cuda.is_available() else "cpu"


def plain(value: Any) -> Any:
    """Return a parameter as an object of Python itself: searches over arrays give scalars of numpy, of few bits."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


class TableRegressor(RegressorMixin, BaseEstimator):
    """Base of all regressors: what becomes of a table of data before a fit, and of predictions after it."""

    _y_is_1d: bool
    _y_fits_single: bool

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Put the attributes back when anything is raised: no half-fitted estimator."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _plain_params(self) -> SimpleNamespace:
        """Return the parameters as attributes, without scalars of numpy."""
        return SimpleNamespace(**{name: plain(value) for name, value in self.get_params(deep=False).items()})

    def _validated(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> tuple[Floats, Floats, Floats, bool]:
        """Return float64 X, 2-d y and weights, and whether y was 1-d."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=("csr", "csc"),
            dtype=np.float64,
            multi_output=True,
            y_numeric=True,
            reset=reset,
        )
        weights = _checked_weights(sample_weight, X.shape[0])
        y = np.asarray(y.toarray() if issparse(y) else y, dtype=np.float64)
        size = np.abs(y.reshape(len(y), -1)).max(axis=0)
        fits = bool(((size == 0) | ((SINGLE[0] < size) & (size < SINGLE[1]))).all())
        self._y_fits_single = fits if reset else fits and getattr(self, "_y_fits_single", True)
        return X.toarray() if issparse(X) else X, y.reshape(len(y), -1), weights, y.ndim == 1

    def _predicted(self, X: Any, function: Callable[[Any], Floats]) -> Floats:
        """Return the values of the fitted function, of the shape that y had; float32 if X is, and can hold targets."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False)
        y = function(X)
        if X.dtype == np.float32 and self._y_fits_single:
            with np.errstate(over="ignore"):
                y = y.astype(np.float32)
        return y.ravel() if self._y_is_1d else y

    def __sklearn_tags__(self) -> Any:
        """Say that sparse X and several outputs are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        return tags


class NetworkRegressor(TableRegressor):
    """Base of the regressors: everything between a table of data and a batch of problems, and back."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "extrapolation": [StrOptions({"clip", "linear"})],
        "warm_start": ["boolean"],
        "device": "no_validation",
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # What a subclass says about itself.

    _choice_rows: ClassVar[int | None] = None  # on which alpha is chosen, at most

    def _family(self, n_features: int, n_outputs: int, fitted: SparseNetwork | None = None) -> Family:
        """Return the networks to train; sizes that a fit may exceed have room for a fitted network."""
        raise NotImplementedError

    def _settings(self, n_rows: int) -> Settings:
        raise NotImplementedError

    def _set_own_attributes(self, path: RegularizationPath, table: Table) -> None:
        raise NotImplementedError

    # Fitting.

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the network to a table of data.

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
            For parameters out of range, NaN or infinity in X, y or the weights, negative or all-zero weights, shapes
            that do not fit, and devices that are unknown or absent. The estimator is then as it was before the call.
        """
        with self._all_or_nothing():
            self._validate_params()
            device = self._checked_device()
            table, is_1d = self._table(X, y, sample_weight)
            self._fit_table(table, device)
            self._memory: tuple[str, dict[str, Any]] | None = None
            self._y_is_1d = is_1d
        return self

    def _table(self, X: Any, y: Any, sample_weight: Any, *, reset: bool = True) -> tuple[Table, bool]:
        X, y, weights, is_1d = self._validated(X, y, sample_weight, reset=reset)
        return Table.build(X, y, weights), is_1d

    def _checked_device(self) -> str:
        """Return the device to use; raise ValueError for one that is unknown or absent."""
        import torch

        name = str(self.device)
        if name == "auto":
            return "auto"
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ValueError(
                f"device must be 'auto' or a torch device like 'cpu' or 'cuda:0', got {name!r}."
            ) from error
        available = {
            "cpu": True,
            "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
            "mps": torch.backends.mps.is_available(),
        }
        if not available.get(device.type, False):
            present = sorted(kind for kind, there in available.items() if there)
            raise ValueError(f"device must be present on this machine, got {name!r}; available: {', '.join(present)}.")
        return str(device)

    def _fit_table(self, table: Table, device: str) -> None:
        device = _worthwhile_device(device, len(table.X))
        random_state = check_random_state(self.random_state)
        initial = self._initial_network(table) if self.warm_start and self._beats_the_mean(table) else None
        with _Progress(self.verbose) as progress:
            alpha, choice = self._chosen_alpha(table, device, random_state, progress)
            problems, settings = self._one_problem(table, alpha, random_state)
            # What the choice has found, its trial among it, serves a plain fit.
            settings = replace(settings, trial=choice is None)
            begun = choice.begun if choice is not None and initial is None and settings.patience is None else None
            path = self._fit_problems(table, problems, settings, device, progress, initial, begun)
            progress.close(path)
        self.alpha_ = alpha
        self._set_fitted(table, path, device)
        if not self.stationarity_ <= self.tol:
            warnings.warn(
                f"stationarity_ is {self.stationarity_:.2g}, above tol={self.tol:g}, after {self.n_iter_} iterations: "
                "the network is usable but not an exact optimum. Increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=3,  # the line that calls fit
            )

    def _beats_the_mean(self, table: Table) -> bool:
        """Return whether there is a fitted network that is nearer to new rows than their mean."""
        network = getattr(self, "network_", None)
        if network is None or (network.n_features, network.n_outputs) != (table.X.shape[1], table.y.shape[1]):
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            raw = table.features.inverse().forward(table.X)
            error = table.targets.forward(network(raw)) - table.y
            return bool(table.weights @ (error**2).sum(axis=1) < 1.0)

    def _initial_network(self, table: Table) -> dict[str, Floats] | None:
        """Return the fitted network in the units of a new table of its shape, or None where there is none with room."""
        network = getattr(self, "network_", None)
        if network is None:
            return None
        standardised = in_units(
            network, table.features.inverse(), table.targets.inverse(), input_range=table.input_range, clip=False
        )
        return self._family(network.n_features, network.n_outputs, network).architecture.arrays_of(standardised)

    def _chosen_alpha(
        self, table: Table, device: str, random_state: np.random.RandomState, progress: _Progress
    ) -> tuple[float, Choice | None]:
        """Return alpha, chosen by held-out error if it is "auto", and what the choice has found."""
        if self.alpha != "auto":
            return float(self.alpha), None
        n_rows = len(table.X)
        if table.n_groups < 2 * _N_FOLDS or not table.y.any():
            return _DEFAULT_ALPHA, None
        from sklearn_htmc._training.choice import Question, choose

        if n_rows > _HOLD_OUT_ROWS:
            held_out = [table.folds(10, random_state) == 0]
        else:
            folds = table.folds(_N_FOLDS, random_state)
            held_out = [folds == fold for fold in range(_N_FOLDS)]
        judged_rows = n_rows
        weights = table.weights
        if self._choice_rows is not None and n_rows > self._choice_rows:
            judged_rows = self._choice_rows
            sample = random_state.permutation(n_rows)[:judged_rows]
            weights = np.zeros(n_rows)
            weights[sample] = table.weights[sample]
        settings = self._settings(judged_rows)
        # A part of the passes is enough to rank strengths, and the second-order phase changes no rank.
        share = 3 if n_rows > _HOLD_OUT_ROWS else 2
        strengths = automatic_strengths(judged_rows, _PER_HALF_DECADE)
        seed = int(random_state.randint(2**31 - 1))
        choice = choose(
            table.X,
            table.y,
            Question(strengths, weights, held_out, seed, _PER_HALF_DECADE, share, judged_rows < n_rows),
            family=self._family(table.X.shape[1], table.y.shape[1]),
            settings=settings,
            device=device,
            report=progress.start(_N_STRENGTHS * len(held_out) * (settings.max_iter // share)),
        )
        # Noise correlates with neurons by 1 / sqrt(n), so what is best on a part is that much smaller on the whole.
        return float(automatic_strengths(n_rows, _PER_HALF_DECADE)[choice.index]), choice

    def _one_problem(
        self, table: Table, alpha: float, random_state: np.random.RandomState
    ) -> tuple[Problems, Settings]:
        from sklearn_htmc._training.first_order import Problems

        settings = self._settings(len(table.X))
        weights, held_out = table.weights[None], None
        if self.early_stopping and table.n_groups > 1:
            out = table.hold_out(float(self.validation_fraction), random_state)
            weights, held_out = (table.weights * ~out)[None], (table.weights * out)[None]
            settings = replace(settings, patience=int(self.n_iter_no_change))
        seed = int(random_state.randint(2**31 - 1))
        return Problems((alpha,), (seed,), weights, held_out), settings

    def _fit_problems(
        self,
        table: Table,
        problems: Problems,
        settings: Settings,
        device: str,
        progress: _Progress,
        initial: dict[str, Floats] | None,
        begun: Begun | None,
    ) -> RegularizationPath:
        from sklearn_htmc._training.fit import fit_problems

        return fit_problems(
            table.X,
            table.y,
            problems,
            family=self._family(table.X.shape[1], table.y.shape[1], None if initial is None else self.network_),
            settings=settings,
            initial=initial,
            begun=begun,
            device=device,
            report=progress.start(len(problems) * settings.max_iter),
        )

    # Fitting on.

    def _fit_more(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Take one pass over new rows, in the units of the first ones."""
        with self._all_or_nothing():
            self._validate_params()
            device = self._checked_device()
            before = getattr(self, "_seen", None)
            if before is None:
                table, is_1d = self._table(X, y, sample_weight)
            else:
                X, y, weights, is_1d = self._validated(X, y, sample_weight, reset=False)
                if y.shape[1] != self.network_.n_outputs:
                    raise ValueError(f"y must have {self.network_.n_outputs} outputs as before, got {y.shape[1]}.")
                table = Table.build(X, y, weights, input_range=self.network_.input_range, before=before)
            self._advance(table, device, before)
            self._y_is_1d = is_1d
        return self

    def _advance(self, table: Table, device: str, before: Seen | None) -> None:
        device = _worthwhile_device(device, len(table.X))
        from sklearn_htmc._training.first_order import Memory, Problems
        from sklearn_htmc._training.fit import fit_more

        family = self._family(table.X.shape[1], table.y.shape[1], getattr(self, "network_", None))
        initial = self._initial_network(table if before is None else _taken_over(table, before))
        if initial is None and hasattr(self, "network_"):
            raise ValueError(
                f"partial_fit must have room for the fitted {self.network_}, got {family.architecture}; keep the "
                "sizes, or call fit to start anew."
            )
        sizes = repr(family.architecture)
        alpha = float(getattr(self, "alpha_", _ONLINE_ALPHA) if self.alpha == "auto" else self.alpha)
        remembered, numbers = getattr(self, "_memory", None) or (sizes, None)
        memory = Memory(**numbers) if numbers and remembered == sizes else None
        seed = int(check_random_state(self.random_state).randint(2**31 - 1)) if memory is None else memory.n_steps
        path, memory = fit_more(
            table.X,
            table.y,
            Problems((alpha,), (seed,), table.weights[None]),
            family=family,
            settings=replace(self._settings(len(table.X)), max_iter=1, min_steps=_ONLINE_STEPS, rate=_ONLINE_RATE),
            initial=initial,
            memory=memory,
            share=table.seen.share,
            idle=table.seen.features.spread == 0,
            device=device,
        )
        if not np.isfinite(path.objective[0]):
            raise ValueError(
                "partial_fit must see rows of a similar size as those of the first call, which fix the units, got rows "
                "on which training diverged; start anew with more representative first rows."
            )
        # Numbers, not the object: unpickling must not import torch.
        self._memory = None if memory is None else (sizes, vars(memory))
        self.alpha_ = alpha
        self._set_fitted(table, path, device, single=True)  # what is trained in single precision

    def _in_raw_units(self, network: SparseNetwork, table: Table, *, single: bool = False) -> SparseNetwork:
        clip, span = self.extrapolation == "clip", table.input_range
        return in_units(network, table.features, table.targets, input_range=span, clip=clip, single=single)

    def _set_fitted(self, table: Table, path: RegularizationPath, device: str, *, single: bool = False) -> None:
        self.network_ = self._in_raw_units(path.networks[0], table, single=single)
        self.n_edges_ = int(path.n_edges[0])
        self.n_neurons_ = self.network_.n_neurons
        self.objective_ = float(path.objective[0])
        self.stationarity_ = float(path.stationarity[0])
        self.loss_curve_ = path.loss_curves[0].tolist()
        self.n_iter_ = len(self.loss_curve_)
        total = path.feature_norms[0].sum()
        self.feature_importances_ = path.feature_norms[0] / (total if total > 0 else 1.0)
        self.device_ = device
        self._seen = table.seen
        self._set_own_attributes(path, table)

    # Using the fit.

    def predict(self, X: Any) -> Floats:
        """Predict targets: a call of ``network_``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Targets, of the shape that ``y`` had in fit; float32 if X is float32, else float64.
        """
        return self._predicted(X, lambda X: self.network_(X))


class _Progress:
    """A tqdm bar that is there only when asked for."""

    def __init__(self, verbose: int | bool) -> None:
        self.verbose = bool(verbose)
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, total: int) -> Report | None:
        """Open a bar, or lengthen the open one, and return what moves it."""
        if not self.verbose:
            return None
        from tqdm.auto import tqdm

        if self.bar is None:
            self.bar = tqdm(total=0, unit="pass", leave=True)
        self.bar.total += total
        return self._report

    def _report(self, n_done: int, loss: float, edges: float) -> None:
        self.bar.set_postfix(loss=f"{loss:.3g}", edges=f"{edges:.0f}", refresh=n_done == 0)
        self.bar.update(n_done)

    def close(self, path: RegularizationPath) -> None:
        """Show what the fit ended with."""
        if self.bar is not None:
            self.bar.total = self.bar.n  # passes that were not needed
            self.bar.set_postfix(
                loss=f"{path.loss[0]:.3g}",
                edges=int(path.n_edges[0]),
                stationarity=f"{path.stationarity[0]:.2g}",
            )
