"""Circuit size against accuracy: the curve on which the norm of a function for circuits is defined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._compile import compile_circuit
from sklearn_htmc.circuit._fixed_point import Floats

_NEAR_ZERO = 0.5  # exponents below it are those of logarithms over the usual range of epsilon
_EPSILONS = tuple(2.0**-k for k in range(1, 11))


@dataclass(frozen=True, eq=False, repr=False)
class CircuitProfile:
    """Gates of the circuits of one function at several accuracies.

    The sizes are upper bounds of the circuit complexity ``C(f, epsilon)``: circuits that were made.

    Attributes
    ----------
    epsilons : ndarray of shape (n_epsilons,)
        Accuracies, falling.
    n_gates : ndarray of shape (n_epsilons,)
        Gates of the smallest circuits found, rising.
    """

    epsilons: Floats
    n_gates: NDArray[np.int64]

    @property
    def gamma(self) -> float:
        """Exponent: minus the slope of log gates against log epsilon, by least squares over circuits with gates.

        It is near 0 where gates grow like a power of ``log(1 / epsilon)``, as for affine functions, and where they do
        not grow any more, as for trees. It is 0 where there are fewer than two circuits with gates.
        """
        used = self.n_gates > 0
        if used.sum() < 2:
            return 0.0
        x, y = np.log(self.epsilons[used]), np.log(self.n_gates[used])
        x = x - x.mean()
        return float(-(x @ y) / (x @ x))

    @property
    def htmc_norm(self) -> float:
        """Norm ``(max over epsilon of epsilon^gamma n_gates)^(1 / gamma)``.

        The sizes are then at most ``(htmc_norm / epsilon)^gamma``. It is 0 without any gates, and infinite where gamma
        is so near 0, or below, that no finite number does.
        """
        used = self.n_gates > 0
        if not used.any():
            return 0.0
        gamma = self.gamma
        if gamma <= 0:
            return math.inf
        logarithm = np.max(np.log(self.epsilons[used]) + np.log(self.n_gates[used]) / gamma)
        return math.exp(logarithm) if logarithm < math.log(np.finfo(np.float64).max) else math.inf

    def __repr__(self) -> str:
        """Say the sizes and what the exponent means."""
        pairs = ", ".join(f"{epsilon:.3g}: {n}" for epsilon, n in zip(self.epsilons, self.n_gates, strict=True))
        growth = f"gamma={self.gamma:.2f}, htmc_norm={self.htmc_norm:.3g}"
        if self.gamma < _NEAR_ZERO:
            growth += " (gamma near 0: gates grow with log(1 / epsilon), as for an affine function, or not at all)"
        return f"CircuitProfile({{{pairs}}}, {growth})"


def circuit_profile(
    model: Any,
    X: Any,
    epsilons: Any = None,
    *,
    y: Any = None,
    sample_weight: Any = None,
    effort: int | str = "auto",
) -> CircuitProfile:
    """Return the sizes of circuits of a fitted regressor at several accuracies.

    Parameters
    ----------
    model : object
        Fitted regressor; see `lower` for the families.
    X : array-like of shape (n_samples, n_features)
        Rows on which circuits and model are compared.
    epsilons : array-like of shape (n_epsilons,), default=None
        Accuracies, positive; equal ones count once. None takes 1/2, 1/4, ..., 1/1024.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets, whose standard deviation is the unit of the accuracies; None takes that of the predictions.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    effort : {"auto", 0, 1, 2, 3}, default="auto"
        As in `compile_circuit`.

    Returns
    -------
    CircuitProfile
        With the exponent `gamma` and the norm `htmc_norm` that go with the sizes.

    Raises
    ------
    ValueError
        If there is no epsilon, or for what `compile_circuit` raises it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from sklearn_htmc.circuit import circuit_profile
    >>> X = np.linspace(0.0, 1.0, 50)[:, None]
    >>> tree = DecisionTreeRegressor(max_leaf_nodes=4).fit(X, np.sin(6.0 * X[:, 0]))
    >>> profile = circuit_profile(tree, X, [0.2, 0.05])
    >>> bool(profile.n_gates[1] >= profile.n_gates[0])
    True
    """
    chosen = np.unique(np.asarray(_EPSILONS if epsilons is None else epsilons, dtype=np.float64))[::-1]
    if not chosen.size:
        raise ValueError("epsilons must hold at least one number, got none.")
    sizes = [
        compile_circuit(model, X, epsilon=float(epsilon), y=y, sample_weight=sample_weight, effort=effort).n_gates
        for epsilon in chosen
    ]
    # A circuit for a smaller epsilon will do for a larger one, too.
    least = np.minimum.accumulate(np.array(sizes, dtype=np.int64)[::-1])[::-1]
    return CircuitProfile(chosen, least)
