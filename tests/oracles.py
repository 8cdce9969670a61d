"""Slow, independent versions of what the package computes, in float64 and from the fitted network alone.

Nothing here is shared with the package: derivatives come from automatic differentiation, one row at a time.
"""

from __future__ import annotations

import numpy as np
import torch

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
    first, *middle, last = model.network_.blocks
    E = first.skip.toarray()
    arrays = {"E": E * scale, "e": first.offset + E @ center}
    for block, part in enumerate(middle):
        assert part.skip is None
        assert not part.offset.any()
        arrays |= {f"V{block}": part.inner.toarray(), f"b{block}": part.bias, f"U{block}": part.outer.toarray()}
    arrays["A"] = last.skip.toarray() / y_scale[:, None]
    arrays["c"] = (last.offset - y_center) / y_scale
    return arrays, (X - center) / scale, (targets - y_center) / y_scale, weights
