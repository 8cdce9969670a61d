"""What the regressors of networks share: choice of alpha, paths, fitted attributes, predict. Imports no torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_htmc._absent import Absent
from sklearn_htmc._automatic import DEFAULT_ALPHA, question_of, too_few_to_choose, tried_strengths, worthwhile_device
from sklearn_htmc._interrupts import timed
from sklearn_htmc._network import Floats, RegularizationPath, SparseNetwork
from sklearn_htmc._paths import best_of, in_shards, strengths_of
from sklearn_htmc._progress import Progress
from sklearn_htmc._table import SINGLE_ENTRIES, Moments, Scaling, Seen, Table, power_of_two, slices
from sklearn_htmc._table_regressor import TableRegressor
from sklearn_htmc._units import in_units

if TYPE_CHECKING:
    from sklearn_htmc._training.choice import Choice
    from sklearn_htmc._training.core.deadline import Deadline
    from sklearn_htmc._training.core.problems import Problems, Settings
    from sklearn_htmc._training.core.task import Begun, Family
    from sklearn_htmc._training.paths import Rows

_SEARCH = 0.6  # share of the time for the choice of alpha, where it is short
_ONLINE_ALPHA = 0.001  # for partial_fit where nobody has chosen
_ONLINE_RATE = 0.002  # constant step size of partial_fit
_ONLINE_STEPS = 8  # of a call with few rows
_KNOWN_ROWS = 100  # that make units of features and targets known well enough to keep what was learnt in them
_UNCHOSEN = "unless fit has chosen alpha: with alpha='auto', rows enough to choose, and no partial_fit after it"


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


def _raw_errors(squares: Floats, targets: Scaling) -> Floats:
    """Return means over outputs, in squared raw units, of squared errors with a last axis of outputs."""
    unit = float(power_of_two(np.array([targets.scale.max()]))[0])  # whose square may be too large for a double
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray((squares * np.square(targets.scale / unit)).mean(axis=-1) * unit * unit)


class NetworkRegressor(TableRegressor):
    """Base of the regressors: everything between a table of data and a batch of problems, and back."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "selection": [StrOptions({"min", "one_se"})],
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
        "max_time": [None, Interval(Real, 0, None, closed="neither")],
        "on_interrupt": [StrOptions({"keep", "raise"})],
        "verbose": ["verbose"],
    }

    alphas_: Any = Absent(_UNCHOSEN)
    best_index_: Any = Absent(_UNCHOSEN)
    mse_path_: Any = Absent(_UNCHOSEN)
    n_edges_path_: Any = Absent(_UNCHOSEN)
    fold_weights_: Any = Absent(_UNCHOSEN)

    # What a subclass says about itself.

    _largest_alpha: ClassVar[float] = math.inf  # from which on nothing but the mean is left
    _choice_rows: ClassVar[int | None] = None  # on which alpha is chosen, at most
    _stays_single: ClassVar[bool] = False  # whether a large X in single precision is not made double

    def _family(self, n_features: int, n_outputs: int, fitted: SparseNetwork | None = None) -> Family:
        """Return the networks to train; sizes that a fit may exceed have room for a fitted network."""
        raise NotImplementedError

    def _settings(self, n_rows: int) -> Settings:
        raise NotImplementedError

    def _set_own_attributes(self, path: RegularizationPath) -> None:
        raise NotImplementedError

    # Fitting.

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the network to a table of data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features; a sparse matrix is made dense. `ResNetNormRegressor` makes no double copy of more than 100,000
            float32 entries, in memory or in a file that is mapped into it.
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
        KeyboardInterrupt
            With ``on_interrupt="raise"``, before there is a network, or for a second interrupt; the same holds then.
        """
        with self._all_or_nothing():
            self._validate_params()
            with self._timed() as deadline:
                device = self._checked_device()
                table, is_1d = self._table(X, y, sample_weight)
                self._fit_table(table, device, deadline)
            self._memory: tuple[str, dict[str, Any]] | None = None
            self._y_is_1d = is_1d
        return self

    def _timed(self) -> AbstractContextManager[Deadline]:
        return timed(None if self.max_time is None else float(self.max_time), self.on_interrupt)

    def _table(self, X: Any, y: Any, sample_weight: Any, *, reset: bool = True) -> tuple[Table, bool]:
        X, y, weights, is_1d = self._validated(X, y, sample_weight, reset=reset, most=self._most_double)
        return Table.build(X, y, weights), is_1d

    @property
    def _most_double(self) -> int | None:
        """Entries of a single X that are made double, at most; None: all."""
        return SINGLE_ENTRIES if self._stays_single else None

    def _checked_device(self) -> str:
        """Return the device to use; raise ValueError for one that is unknown or absent."""
        import torch

        name = str(self.device)
        if name == "auto":
            return "auto"
        try:
            device = torch.device(name)
        except RuntimeError as error:
            hint = "; say 'cuda' for a GPU" if "gpu" in name.lower() else ""
            raise ValueError(
                f"device must be 'auto' or a torch device like 'cpu' or 'cuda:0', got {name!r}{hint}."
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

    def _fit_table(self, table: Table, device: str, deadline: Deadline) -> None:
        device = worthwhile_device(device, len(table.X))
        random_state = check_random_state(self.random_state)
        initial = self._initial_network(table) if self.warm_start and self._beats_the_mean(table) else None
        with Progress(self.verbose, deadline) as progress:
            with_start = initial is None and not self.early_stopping and getattr(self, "max_edges", None) is None
            alpha, choice = self._chosen_alpha(table, device, random_state, progress, with_start=with_start)
            problems, settings = self._one_problem(table, alpha, random_state)
            # What the choice has found, its trial among it, serves a plain fit.
            settings = replace(settings, trial=choice is None)
            begun = None
            if choice is not None and initial is None and settings.patience is None:
                is_late = deadline.is_interrupted or deadline.left <= 0
                begun = choice.begun or (choice.spare if is_late else None)
            path = self._fit_problems(table, problems, settings, device, progress, initial, begun)
            progress.close(path)
        self.alpha_ = alpha
        self._forget_search()
        if choice is not None:
            self._set_search(choice, table)
        self._set_fitted(table, self._in_raw_units(path, table), device)
        self._warn_if_not_optimal(deadline)

    def _set_search(self, choice: Choice, table: Table) -> None:
        """Set what the choice of alpha has found."""
        ranking = choice.ranking
        self.alphas_ = tried_strengths(len(table.X))[ranking.numbers]
        self.best_index_ = int(np.searchsorted(ranking.numbers, choice.index))
        self.mse_path_ = _raw_errors(ranking.squares, table.targets)
        self.n_edges_path_ = ranking.n_edges
        self.fold_weights_ = ranking.shares

    def _forget_search(self) -> None:
        """Remove what belongs to the choice of alpha."""
        for name in ("alphas_", "best_index_", "mse_path_", "n_edges_path_", "fold_weights_"):
            self.__dict__.pop(name, None)

    def _warn_if_not_optimal(self, deadline: Deadline) -> None:
        """Warn where more passes would find a better network, or alpha leaves none; for callers that fit calls."""
        if self.alpha_ > self._largest_alpha:
            warnings.warn(
                f"alpha is {self.alpha_:g}, above {self._largest_alpha:g}: nothing is left but the mean of y, since "
                "alpha is a threshold on correlations. Decrease alpha; useful values are 1e-4 to 1e-1.",
                UserWarning,
                stacklevel=4,
            )
        has_stopped = self.early_stopping and self.n_iter_ < self.max_iter
        if deadline.is_interrupted or deadline.refused:
            state = (
                f"network_ is the best one so far, after {self.n_iter_} of at most max_iter={self.max_iter} passes, "
                f"with stationarity_ {self.stationarity_:.2g}"
            )
            warnings.warn(self._cut_short(deadline, state), ConvergenceWarning, stacklevel=4)
        elif self._typical_violation > self.tol and not has_stopped:
            warnings.warn(
                f"stationarity_ is {self.stationarity_:.2g}, and after {self.n_iter_} iterations the conditions for an "
                f"optimum were typically missed by {self._typical_violation:.2g} * alpha, above tol={self.tol:g}: "
                "training was too short for this alpha. Increase max_iter or alpha.",
                ConvergenceWarning,
                stacklevel=4,  # the line that calls fit
            )

    def _cut_short(self, deadline: Deadline, state: str) -> str:
        """Say what there was no time for, and what can be done."""
        found = f"cut short {', '.join(deadline.refused) or 'nothing'}: {state}."
        if deadline.is_interrupted:
            return f"An interrupt has {found} Call again for more, or set on_interrupt='raise' to keep nothing."
        return f"max_time={self.max_time:g} seconds have {found} Increase max_time, or decrease max_iter."

    def _beats_the_mean(self, table: Table) -> bool:
        """Return whether there is a fitted network that is nearer to new rows than their mean."""
        network = getattr(self, "network_", None)
        if network is None or (network.n_features, network.n_outputs) != (table.X.shape[1], table.y.shape[1]):
            return False
        total, to_raw = 0.0, table.features.inverse()
        with np.errstate(over="ignore", invalid="ignore"):
            for part in slices(table.X):
                error = table.targets.forward(network(to_raw.forward(table.X[part]))) - table.y[part]
                total += table.weights[part] @ (error**2).sum(axis=1)
            return bool(total < 1.0)

    def _initial_network(self, table: Table) -> dict[str, Floats] | None:
        """Return the fitted network in the units of a new table of its shape, or None where there is none with room."""
        network = getattr(self, "network_", None)
        if network is None:
            return None
        standardised = in_units(
            network, table.features.inverse(), table.targets.inverse(), input_range=table.input_range, clip=False
        )
        architecture = self._family(network.n_features, network.n_outputs, network).architecture
        return architecture.arrays_of(standardised.uncentered())

    def _chosen_alpha(
        self,
        table: Table,
        device: str,
        random_state: np.random.RandomState,
        progress: Progress,
        *,
        with_start: bool,
    ) -> tuple[float, Choice | None]:
        """Return alpha, chosen by held-out error if it is "auto", and what the choice has found."""
        if self.alpha != "auto":
            return float(self.alpha), None
        if too_few_to_choose(table):
            return DEFAULT_ALPHA, None
        from sklearn_htmc._training.choice import choose
        from sklearn_htmc._training.core.deadline import SEARCH

        question, judged_rows = question_of(
            table, random_state, self._choice_rows, str(self.selection), with_start=with_start
        )
        settings = replace(self._settings(judged_rows), deadline=progress.deadline.part(_SEARCH, SEARCH))
        choice = choose(
            table.X,
            table.y,
            question,
            family=self._family(table.X.shape[1], table.y.shape[1]),
            settings=settings,
            device=device,
            report=progress.start(question.n_passes(settings), SEARCH),
        )
        # Noise correlates with neurons by 1 / sqrt(n), so what is best on a part is that much smaller on the whole.
        return float(tried_strengths(len(table.X))[choice.index]), choice

    def _one_problem(
        self, table: Table, alpha: float, random_state: np.random.RandomState
    ) -> tuple[Problems, Settings]:
        from sklearn_htmc._training.core.problems import Problems

        settings = self._settings(len(table.X))
        weights, held_out = self._held_back(table, random_state)
        if held_out is not None:
            settings = replace(settings, patience=int(self.n_iter_no_change))
        seed = int(random_state.randint(2**31 - 1))
        judges = None if held_out is None else held_out[None]
        return Problems((alpha,), (seed,), weights[None], judges), settings

    def _held_back(self, table: Table, random_state: np.random.RandomState) -> tuple[Floats, Floats | None]:
        """Return the weights of the rows to train on, and of those with which early stopping judges, if it does."""
        if not self.early_stopping or table.n_groups < 2:
            return table.weights, None
        out = table.hold_out(float(self.validation_fraction), random_state)
        return table.weights * ~out, table.weights * out

    def _fit_problems(
        self,
        table: Table,
        problems: Problems,
        settings: Settings,
        device: str,
        progress: Progress,
        initial: dict[str, Floats] | None,
        begun: Begun | None,
    ) -> RegularizationPath:
        from sklearn_htmc._training.fit import first_order_share, fit_problems

        return fit_problems(
            table.X,
            table.y,
            problems,
            family=self._family(table.X.shape[1], table.y.shape[1], None if initial is None else self.network_),
            settings=replace(settings, deadline=progress.deadline),
            initial=initial,
            begun=begun,
            device=device,
            report=progress.start(len(problems) * settings.max_iter, share=first_order_share(settings)),
        )

    def path(self, X: Any, y: Any, alphas: Any = 20, sample_weight: Any = None) -> RegularizationPath:
        """Fit networks at many strengths; the estimator stays as it is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        alphas : int or array-like of shape (n_alphas,), default=20
            Strengths, or how many of them; `alpha` is not used.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        RegularizationPath
            `strengths`, falling, `networks` in raw units, `n_edges`, `loss`, `objective` and the like; each network
            goes on from that of the next smaller strength.
        """
        twin = clone(self)
        twin._validate_params()
        with twin._timed() as deadline, Progress(self.verbose, deadline) as progress:
            device = twin._checked_device()
            table, _ = twin._table(X, y, sample_weight)
            strengths = strengths_of(alphas, len(table.X))
            path = twin._paths([table], strengths, worthwhile_device(device, len(table.X)), progress)[0]
        if deadline.is_interrupted or deadline.refused:
            warnings.warn(
                self._cut_short(deadline, f"{len(path.strengths)} of {len(strengths)} strengths are there"),
                ConvergenceWarning,
                stacklevel=2,
            )
        return path

    def _paths(
        self,
        tables: Sequence[Table],
        strengths: Floats,
        device: str,
        progress: Progress,
        *,
        n_restarts: int = 1,
        is_warm: bool = True,
        n_jobs: int | None = 1,
    ) -> list[RegularizationPath]:
        """Return a path in raw units for every table: for every strength, falling, the best one of the restarts.

        The last table is that of all rows; those before it are of folds, whose networks are only to be ranked.
        """
        rows = [
            part
            for number, table in enumerate(tables, start=1)
            for part in self._rows(table, n_restarts, is_brief=is_warm and number < len(tables))
        ]
        family = self._family(tables[0].X.shape[1], tables[0].y.shape[1])
        settings = replace(self._settings(max(len(table.X) for table in tables)), deadline=progress.deadline)
        if self.early_stopping:
            settings = replace(settings, patience=int(self.n_iter_no_change))
        options = {"family": family, "settings": settings, "is_warm": is_warm, "device": device}
        found = in_shards(rows, strengths[::-1].tolist(), options, n_jobs, progress)
        falling = np.arange(min(len(path.strengths) for path in found))[::-1]
        found = [path.entries(falling[::-1]) for path in found]
        bests = [best_of(found[k * n_restarts : (k + 1) * n_restarts]) for k in range(len(tables))]
        return [self._in_raw_units(path.entries(falling), table) for path, table in zip(bests, tables, strict=True)]

    def _rows(self, table: Table, n_restarts: int, *, is_brief: bool) -> list[Rows]:
        """Return the rows of a table, once with every seed."""
        from sklearn_htmc._training.paths import Rows

        random_state = check_random_state(self.random_state)
        weights, held_out = self._held_back(table, random_state)
        seeds = [int(random_state.randint(2**31 - 1)) for _ in range(n_restarts)]
        return [Rows(table.X, table.y, weights, held_out, seed, is_brief) for seed in seeds]

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
                X, y, weights, is_1d = self._validated(X, y, sample_weight, reset=False, most=self._most_double)
                if y.shape[1] != self.network_.n_outputs:
                    raise ValueError(f"y must have {self.network_.n_outputs} outputs as before, got {y.shape[1]}.")
                table = Table.build(X, y, weights, input_range=self.network_.input_range, before=before)
            self._advance(table, device, before)
            self._y_is_1d = is_1d
        return self

    def _advance(self, table: Table, device: str, before: Seen | None) -> None:
        device = worthwhile_device(device, len(table.X))
        from sklearn_htmc._training.core.problems import Problems
        from sklearn_htmc._training.first_order.loop import Memory
        from sklearn_htmc._training.fit import fit_more

        family = self._family(table.X.shape[1], table.y.shape[1], getattr(self, "network_", None))
        initial = self._initial_network(table if before is None else _taken_over(table, before))
        if initial is None and hasattr(self, "network_"):
            raise ValueError(
                f"partial_fit must have room for the fitted {self.network_!r}, got {family.architecture}; keep the "
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
        self._forget_search()
        # What is trained in single precision.
        self._set_fitted(table, self._in_raw_units(path, table, single=True), device)

    def _in_raw_units(self, path: RegularizationPath, table: Table, *, single: bool = False) -> RegularizationPath:
        clip, span = self.extrapolation == "clip", table.input_range

        def raw(networks: tuple[SparseNetwork, ...]) -> tuple[SparseNetwork, ...]:
            return tuple(
                in_units(n, table.features, table.targets, input_range=span, clip=clip, single=single) for n in networks
            )

        sizes = tuple(None if size is None else replace(size, networks=raw(size.networks)) for size in path.sizes)
        return replace(path, networks=raw(path.networks), sizes=sizes)

    def _set_fitted(self, table: Table, path: RegularizationPath, device: str) -> None:
        """Take over the only entry of a path in raw units."""
        self.device_ = device
        self._seen = table.seen
        self._set_network(path)

    def _set_network(self, path: RegularizationPath) -> None:
        """Set what a fit says about its network."""
        self.network_ = path.networks[0]
        self.n_edges_ = self.network_.n_edges
        self.n_neurons_ = self.network_.n_neurons
        self.objective_ = float(path.objective[0])
        self.stationarity_ = float(path.stationarity[0])
        self._typical_violation = float(path.typical_violation[0])
        self.loss_curve_ = path.loss_curves[0].tolist()
        self.n_iter_ = len(self.loss_curve_)
        total = path.feature_norms[0].sum()
        self.feature_importances_ = path.feature_norms[0] / (total if total > 0 else 1.0)
        self._set_own_attributes(path)

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
