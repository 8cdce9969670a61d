"""Does depth pay? Targets f(g(x)) of ten features with an inner map g to two coordinates.

Nine targets: three inner maps (sums of kinks of two features, of one feature, and squares with a product) and three
outer functions (a wave, a bump, a smooth exclusive-or), 2,000 training rows with 2 % noise, 4,000 test rows without.
Reported are the test RMSE over the standard deviation of y, neurons and processor seconds of ``DeepSplineRegressor``
with two coordinates between two shallow networks and with a single one, and the best of three sizes of
``MLPRegressor``, chosen on the test rows.

    python benchmarks/depth.py --alpha 0.001 --seed 0
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from peers import scaled_mlp, splines
from quality import markdown_table


def kinks_of_two(X: np.ndarray) -> np.ndarray:
    """Inner map: kinks across two features each."""
    first = np.abs(X[:, 0] + X[:, 1]) + np.abs(X[:, 2] - X[:, 3])
    return np.column_stack([first, np.maximum(X[:, 4] + X[:, 5], 0) - np.abs(X[:, 6] + X[:, 7])])


def squares(X: np.ndarray) -> np.ndarray:
    """Inner map: a sum of squares, and a product with a linear term."""
    return np.column_stack([(X[:, :3] ** 2).sum(axis=1), X[:, 3] * X[:, 4] + X[:, 5]])


def kinks_of_one(X: np.ndarray) -> np.ndarray:
    """Inner map: sums of functions of one feature."""
    first = np.abs(X[:, 0]) + np.abs(X[:, 1]) + X[:, 2]
    return np.column_stack([first, np.maximum(X[:, 3], 0) + np.abs(X[:, 4]) - np.abs(X[:, 5])])


def wave(g: np.ndarray) -> np.ndarray:
    """Outer function: a product of waves."""
    return np.sin(2.0 * g[:, 0]) * np.cos(1.5 * g[:, 1])


def bump(g: np.ndarray) -> np.ndarray:
    """Outer function: a bell."""
    return np.exp(-(standardised(g) ** 2).sum(axis=1) / 1.5)


def exclusive_or(g: np.ndarray) -> np.ndarray:
    """Outer function: a smooth exclusive-or."""
    return np.tanh(2.0 * standardised(g)).prod(axis=1)


def standardised(g: np.ndarray) -> np.ndarray:
    """Return coordinates with mean 0 and variance 1."""
    return (g - g.mean(axis=0)) / g.std(axis=0)


INNER = (kinks_of_two, squares, kinks_of_one)
OUTER = (wave, bump, exclusive_or)
MLPS = ((100,), (256,), (64, 64))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alpha", type=float, default=0.001)
    parser.add_argument("--seed", type=int, default=0, help="of data and fits")
    arguments = parser.parse_args()
    rows = []
    for inner in INNER:
        for outer in OUTER:
            rng = np.random.default_rng(arguments.seed)
            X = rng.uniform(-1.0, 1.0, (6_000, 10))
            exact = outer(inner(X))
            y = exact + 0.02 * exact.std() * rng.standard_normal(len(X))
            row = [f"{inner.__name__}, {outer.__name__}".replace("_", " ")]
            for ranks in ((2,), ()):
                start = time.process_time()
                model = splines(alpha=arguments.alpha, ranks=ranks, random_state=arguments.seed)
                error = error_of(model, X, y, exact)
                row += [f"{error:.3f}", f"{model.n_neurons_}", f"{time.process_time() - start:.0f}"]
            row.append(f"{min(error_of(scaled_mlp(*hidden), X, y, exact) for hidden in MLPS):.3f}")
            rows.append(row)
            print("  ".join(row), flush=True)
    head = ["target", "ranks=(2,)", "neurons", "s", "ranks=()", "neurons", "s", "best MLP"]
    print("\n" + markdown_table(head, rows))


def error_of(model, X: np.ndarray, y: np.ndarray, exact: np.ndarray, n_train: int = 2_000) -> float:
    """Fit a model to the first rows and return its error on the others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predicted = model.fit(X[:n_train], y[:n_train]).predict(X[n_train:])
    return float(np.sqrt(np.mean((predicted - exact[n_train:]) ** 2)) / y.std())


if __name__ == "__main__":
    main()
