"""ParetoDisplay: the sizes of several models against their errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc._network import Floats
from sklearn_htmc.circuit import Circuit, compile_circuit
from sklearn_htmc.circuit._frames import numbers
from sklearn_htmc.circuit._simulate import simulated
from sklearn_htmc.inspection._axes import (
    POSITIVE,
    QUIET,
    axes_of,
    log_axis,
    require_matplotlib,
    with_defaults,
    with_labels,
)
from sklearn_htmc.inspection._measure import relative_error, targets_of
from sklearn_htmc.inspection._models import network_of


class ParetoDisplay:
    """Sizes of models against their errors, and the front of those that no other one beats in both.

    It is recommended to use `from_estimators`. All parameters are attributes.

    Parameters
    ----------
    names : sequence of str
        Names of the models.
    sizes : ndarray of shape (n_models,)
        Their sizes.
    errors : ndarray of shape (n_models,)
        Their errors.
    size_name : str, default="gates"
        What sizes are.
    error_name : str
        What errors are.

    Attributes
    ----------
    on_front : ndarray of bool of shape (n_models,)
        Whether no other model is at most as large and at most as wrong, and better in one of them.
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.
    points_ : matplotlib PathCollection
        The models.
    front_ : matplotlib Line2D
        The steps of the front.
    texts_ : list of matplotlib Annotation
        The names.

    See Also
    --------
    sklearn_htmc.CircuitSizeScorer : Gates as a score.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc.inspection import ParetoDisplay
    >>> display = ParetoDisplay(names=["a", "b", "c"], sizes=np.array([10, 20, 30]), errors=np.array([0.5, 0.2, 0.3]))
    >>> display.on_front
    array([ True,  True, False])
    """

    ax_: Any
    figure_: Any
    points_: Any
    front_: Any
    texts_: list[Any]

    def __init__(
        self,
        *,
        names: Sequence[str],
        sizes: NDArray[Any],
        errors: Floats,
        size_name: str = "gates",
        error_name: str = "error / standard deviation of y",
    ) -> None:
        self.names = names
        self.sizes = sizes
        self.errors = errors
        self.size_name = size_name
        self.error_name = error_name

    @property
    def on_front(self) -> NDArray[np.bool_]:
        """Whether no other model is at least as good in both ways, and better in one."""
        sizes, errors = np.asarray(self.sizes), np.asarray(self.errors)
        no_worse = (sizes[:, None] <= sizes) & (errors[:, None] <= errors)
        better = (sizes[:, None] < sizes) | (errors[:, None] < errors)
        return np.asarray(~(no_worse & better).any(axis=0))

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        size: str | Callable[[Any], float] = "gates",
        epsilon: float = 0.1,
        effort: int | str = "auto",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Measure fitted models on rows, best those that no model was fitted to, and draw.

        Parameters
        ----------
        estimators : dict of str to object
            Fitted regressors, or circuits, by name.
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        size : {"gates", "edges"} or callable, default="gates"
            "gates": models are compiled for these rows, at `epsilon`, unless they have a circuit already, and the
            errors are those of the circuits. "edges": nonzero weights of networks, linear models among them. A callable
            takes a fitted regressor and returns its size.
        epsilon : float, default=0.1
            Accuracy of circuits, see `sklearn_htmc.circuit.compile_circuit`.
        effort : {"auto", 0, 1, 2, 3}, default="auto"
            As in `sklearn_htmc.circuit.compile_circuit`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        ParetoDisplay
            With the artists.

        Raises
        ------
        ValueError
            If there is no model, or `size` is none of these.
        TypeError
            If a model has no edges.
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_estimators")
        if not estimators:
            raise ValueError("estimators must hold at least one fitted model, got none.")
        targets, sizes, errors = targets_of(y, X), list[float](), list[float]()
        for model in estimators.values():
            if size == "gates":
                circuit = _circuit_of(model)
                if circuit is None:
                    circuit = compile_circuit(
                        model, X, epsilon=epsilon, y=y, sample_weight=sample_weight, effort=effort
                    )
                sizes.append(circuit.n_gates)
                predicted = simulated(circuit, numbers(X, "X"))
            else:
                sizes.append(_size_of(model, size))
                predicted = model.predict(X)
            errors.append(relative_error(targets, predicted, sample_weight))
        name = size if isinstance(size, str) else getattr(size, "__name__", "size").strip("<>")
        display = cls(names=list(estimators), sizes=np.array(sizes), errors=np.array(errors), size_name=name)
        return display.plot(ax=ax, **kwargs)

    def plot(
        self, ax: Any = None, *, point_kw: Mapping[str, Any] | None = None, front_kw: Mapping[str, Any] | None = None
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        point_kw : dict, default=None
            Keywords for ``scatter`` of the models.
        front_kw : dict, default=None
            Keywords for ``plot`` of the front.

        Returns
        -------
        ParetoDisplay
            With the artists as attributes.
        """
        self.ax_ = axes_of(ax, f"{type(self).__name__}.plot")
        self.figure_ = self.ax_.figure
        on_front = self.on_front
        order = np.flatnonzero(on_front)[np.argsort(self.sizes[on_front])]
        style = {"color": POSITIVE, "linewidth": 1, "drawstyle": "steps-post", "zorder": 1, "label": "front"}
        (self.front_,) = self.ax_.plot(self.sizes[order], self.errors[order], **with_defaults(front_kw, **style))
        colors = [POSITIVE if best else QUIET for best in on_front]
        self.points_ = self.ax_.scatter(self.sizes, self.errors, **with_defaults(point_kw, c=colors, s=30, zorder=2))
        self.ax_.margins(x=0.15, y=0.12)
        log_axis(self.ax_, "x", from_zero_to=None if (self.sizes > 0).all() else 1.0)
        self.ax_.set(xlabel=self.size_name, ylabel=self.error_name)
        self.ax_.legend(fontsize="small")
        self.texts_ = with_labels(self.ax_, self.sizes.tolist(), self.errors.tolist(), self.names, [self.front_])
        return self


def _circuit_of(model: Any) -> Circuit | None:
    """Return the circuit that a model is, or has."""
    found = getattr(model, "circuit_", model)
    return found if isinstance(found, Circuit) else None


def _size_of(model: Any, size: str | Callable[[Any], float]) -> float:
    if callable(size):
        return float(size(model))
    if size != "edges":
        raise ValueError(f"size must be 'gates', 'edges' or a callable of a fitted regressor, got {size!r}.")
    known = getattr(model, "n_edges_", None)
    return network_of(model).n_edges if known is None else known
