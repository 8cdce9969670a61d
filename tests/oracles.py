"""Slow, independent versions of what the package computes, in float64 and from the fitted network alone.

Nothing here is shared with the package: derivatives come from automatic differentiation, one row at a time.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoLars

Arrays = dict[str, np.ndarray]


def random_arrays(rng, *, n_features=4, n_outputs=1, width=6, neurons=(7, 5)) -> Arrays:
    """Return random, non-uniform parameters of a residual network."""
    arrays = {
        "E": rng.normal(size=(width, n_features)) * rng.uniform(0.2, 2.0, (width, 1)),
        "e": rng.normal(size=width),
    }
    for block, m in enumerate(neurons):
        arrays[f"V{block}"] = rng.normal(size=(m, width)) * rng.uniform(0.2, 1.5, (m, 1))
        arrays[f"b{block}"] = rng.normal(size=m)
        arrays[f"U{block}"] = rng.normal(size=(width, m)) * rng.uniform(0.1, 0.8, (1, m))
    return arrays | {"A": rng.normal(size=(n_outputs, width)), "c": rng.normal(size=n_outputs)}


def forward(arrays, x):
    """Evaluate one row; ``arrays`` may hold numpy arrays or tensors."""
    relu = torch.relu if isinstance(x, torch.Tensor) else lambda z: np.maximum(z, 0.0)
    a = arrays["E"] @ x + arrays["e"]
    for block in range(sum(name.startswith("b") for name in arrays)):
        a = a + arrays[f"U{block}"] @ relu(arrays[f"V{block}"] @ a + arrays[f"b{block}"])
    return arrays["A"] @ a + arrays["c"]


def values(arrays: Arrays, X: np.ndarray) -> np.ndarray:
    """Return outputs of shape (n_samples, n_outputs)."""
    return np.array([forward(arrays, x) for x in X])


def jacobian(arrays: Arrays, X: np.ndarray) -> dict[str, np.ndarray]:
    """Return df/dt of shape (n_samples, n_outputs, *shape) for every parameter by name."""
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    out = {name: np.zeros((len(X), arrays["c"].size, *array.shape)) for name, array in arrays.items()}
    for i, x in enumerate(X):
        f = forward(tensors, torch.tensor(x))
        for j in range(len(f)):
            gradients = torch.autograd.grad(f[j], list(tensors.values()), retain_graph=True, allow_unused=True)
            for name, gradient in zip(tensors, gradients, strict=True):
                if gradient is not None:
                    out[name][i, j] = gradient.numpy()
    return out


def sensitivity(arrays: Arrays, X: np.ndarray, weights: np.ndarray) -> Arrays:
    """Return ``omega`` of every parameter by name; zero for the free constant."""
    J = jacobian(arrays, X)
    omega = {name: np.sqrt(np.einsum("i,ij...->...", weights, j**2)) for name, j in J.items()}
    return omega | {"c": np.zeros_like(arrays["c"])}


def resnet_norm(arrays: Arrays, X: np.ndarray, weights: np.ndarray) -> float:
    """Return ``sum_p omega_p |t_p|``."""
    omega = sensitivity(arrays, X, weights)
    return float(sum((omega[name] * np.abs(arrays[name])).sum() for name in arrays))


def measure(arrays: Arrays, X: np.ndarray, y: np.ndarray, weights: np.ndarray, alpha: float) -> tuple[float, float]:
    """Return objective and stationarity by the definitions of the theory, edge by edge."""
    residual = y - values(arrays, X)  # (n_samples, n_outputs)
    J, omega = jacobian(arrays, X), sensitivity(arrays, X, weights)
    worst = 0.0
    for name, t in arrays.items():
        gradient = -np.einsum("i,ij,ij...->...", weights, residual, J[name])
        if name == "c":
            worst = max(worst, np.abs(gradient).max())
            continue
        for g, w, value in zip(gradient.ravel(), omega[name].ravel(), t.ravel(), strict=True):
            if w > 0:
                # Raw units and back leave rounding where an exact zero was.
                active = abs(value) > 1e-12
                distance = abs(g + alpha * w * np.sign(value)) if active else max(0.0, abs(g) - alpha * w)
                worst = max(worst, distance / w)
    loss = 0.5 * float(weights @ (residual**2).sum(axis=1))
    return loss + alpha * resnet_norm(arrays, X, weights), worst


def standardised_problem(model, X, y, sample_weight=None):
    """Return arrays, X, y and weights of a fitted regressor in standardised units, from its raw network."""
    weights = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    weights = weights / weights.sum()
    center, targets = weights @ X, np.asarray(y, dtype=float).reshape(len(X), -1)
    scale = np.sqrt(weights @ (X - center) ** 2)
    scale[scale == 0] = 1.0
    y_center = weights @ targets
    y_scale = np.sqrt(weights @ (targets - y_center) ** 2) * np.sqrt(targets.shape[1])
    first, *middle, last = model.network_.uncentered().blocks
    E = first.skip.toarray()
    arrays = {"E": E * scale, "e": first.offset + E @ center}
    for block, part in enumerate(middle):
        assert part.skip is None
        assert not part.offset.any()
        arrays |= {f"V{block}": part.inner.toarray(), f"b{block}": part.bias, f"U{block}": part.outer.toarray()}
    arrays["A"] = last.skip.toarray() / y_scale[:, None]
    arrays["c"] = (last.offset - y_center) / y_scale
    return arrays, (X - center) / scale, (targets - y_center) / y_scale, weights


# Splines


def spline_oracle(x, y, alpha):
    """Solve the one-input problem with sklearn's LARS: a lasso over the slope and the reduced hinges at rows, 0 and 1.

    Features and targets are standardised. Returns a lower bound of the optimum by duality, the objective reached, and
    the predictions.
    """
    knots = np.unique(np.concatenate([x, [0.0, 1.0]]))

    def reduced(z):
        hinge = lambda t: np.maximum(t - knots, 0.0)  # noqa: E731
        return hinge(z[:, None]) - hinge(0.0) - z[:, None] * (hinge(1.0) - hinge(0.0))

    design = np.column_stack([x, reduced(x)])
    design -= design.mean(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = LassoLars(alpha=alpha, fit_intercept=False, max_iter=10_000).fit(design, y)
    residual = y - design @ fit.coef_
    objective = 0.5 * np.mean(residual**2) + alpha * np.abs(fit.coef_).sum()
    dual = residual * min(1.0, alpha / np.abs(design.T @ residual / len(x)).max())
    return np.mean(y * dual) - 0.5 * np.mean(dual**2), objective, y - residual


def strongest_neuron(X, residual, rng, *, n_starts=3000, n_steps=250):
    """Search for the reduced neuron that correlates most with a residual: random starts, gradient steps on the best.

    X is standardised; the correlation of every neuron is taken from its definition.
    """
    n_features = X.shape[1]
    corners = np.eye(n_features)

    def correlation(W, b):
        relu = lambda z: np.maximum(z @ W.T - b, 0.0)  # noqa: E731
        at_zero = relu(np.zeros((1, n_features)))
        return residual @ (relu(X) - at_zero - X @ (relu(corners) - at_zero)) / len(X)

    W = rng.normal(size=(n_starts, n_features)) * (rng.random((n_starts, n_features)) < 0.7)
    W[~W.any(axis=1), 0] = 1.0
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    b = (W * X[rng.integers(len(X), size=n_starts)]).sum(axis=1)
    top = np.argsort(-np.abs(correlation(W, b)))[:100]
    W, b = W[top], b[top]
    strongest = np.abs(correlation(W, b)).max()
    for step in range(n_steps):
        sign = np.sign(correlation(W, b))
        on, on_corner, on_zero = b < X @ W.T, b[:, None] < W, b < 0
        mean, slope = residual.mean(), X.T @ residual / len(X)
        dW = ((on * residual[:, None]).T @ X / len(X) - on_corner * slope) * sign[:, None]
        db = -(residual @ on / len(X)) + on_corner @ slope + on_zero * (mean - slope.sum())
        length = np.sqrt((dW**2).sum(axis=1) + db**2) + 1e-12
        rate = 0.15 * (1.0 + np.cos(np.pi * step / n_steps)) / length
        W, b = W + rate[:, None] * dW, b + rate * db * sign
        size = np.linalg.norm(W, axis=1)
        W, b = W / size[:, None], b / size
        strongest = max(strongest, np.abs(correlation(W, b)).max())
    return strongest
