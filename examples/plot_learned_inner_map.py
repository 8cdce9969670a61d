"""
===================
A learned inner map
===================

Ten features act on the target through two nonlinear coordinates. :class:`~sklearn_htmc.DeepSplineRegressor` with
``ranks=(2,)`` composes two shallow networks with a width of two between them, so the first one has to find such
coordinates. Here they are compared with the true ones.
"""

# %%
# The target is f(g(x))
# ---------------------
# The inner map g has two outputs and reads six of the ten features, five of them through kinks. The outer function is
# a smooth exclusive-or of the two coordinates, which no sum of functions of single coordinates can mimic.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import root_mean_squared_error
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_htmc import DeepSplineRegressor


def inner(X):
    first = np.abs(X[:, 0]) + np.abs(X[:, 1]) + X[:, 2] - 1.0
    second = np.maximum(X[:, 3], 0.0) + np.abs(X[:, 4]) - np.abs(X[:, 5]) - 0.25
    return np.column_stack([first, second])


def target(X):
    return np.tanh(3.0 * inner(X)).prod(axis=1)


rng = np.random.default_rng(0)
X, X_test = rng.uniform(-1.0, 1.0, (2000, 10)), rng.uniform(-1.0, 1.0, (2000, 10))
y = target(X) + rng.normal(0.0, 0.01, len(X))

# %%
# Three regressors
# ----------------
# A single shallow network, ``ranks=()``, has to build the composition from ridges of the ten features. A smaller alpha
# gives it hundreds of neurons, takes longer and leaves it far behind all the same.
models = {
    "ranks=(2,)": DeepSplineRegressor(alpha=0.0003, ranks=(2,), random_state=0),
    "ranks=()": DeepSplineRegressor(alpha=0.01, ranks=(), max_iter=10, random_state=0),
    "MLPRegressor": make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(64, 64), max_iter=1000, random_state=0)
    ),
}
errors = {
    name: root_mean_squared_error(target(X_test), model.fit(X, y).predict(X_test)) for name, model in models.items()
}
fig, ax = plt.subplots(figsize=(6.4, 2.2), layout="constrained")
ax.bar_label(ax.barh(list(errors), list(errors.values()), height=0.6), fmt="%.3f", padding=4)
ax.axvline(target(X_test).std(), color="0.5", linestyle="--", label="standard deviation of the target")
ax.set(xlabel="test RMSE", xlim=(0.0, 1.15 * target(X_test).std()))
ax.invert_yaxis()
fig.legend(loc="outside upper center")

# %%
# Learned against true coordinates
# --------------------------------
# The first of ``layers_`` is the learned inner map. Coordinates are determined at best up to an affine map, which
# the next layer can undo; so each true coordinate is compared with the affine function of the learned ones that is
# nearest to it on the training rows.
layer = models["ranks=(2,)"].layers_[0]


def learned(X):
    return np.maximum(X @ layer.W.T - layer.b, 0.0) @ layer.V.T + X @ layer.C.T + layer.c


def with_one(H):
    return np.column_stack([H, np.ones(len(H))])


alignment = np.linalg.lstsq(with_one(learned(X)), inner(X), rcond=None)[0]
aligned, true = with_one(learned(X_test)) @ alignment, inner(X_test)
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.9), layout="constrained")
for j, (ax, name) in enumerate(zip(axes, ("first", "second"), strict=True)):
    ax.plot(true[:, j], aligned[:, j], ".", markersize=3, alpha=0.5)
    ends = [true[:, j].min(), true[:, j].max()]
    ax.plot(ends, ends, color="0.3", linewidth=1)
    ax.set(title=f"{name} coordinate", xlabel="true", ylabel="learned, aligned", aspect="equal")

# %%
# How little of the first layer reads the four features that do nothing:
fig, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
ax.bar(np.arange(10), models["ranks=(2,)"].feature_importances_)
ax.set(xlabel="feature", ylabel="share of the norm", xticks=np.arange(10))
plt.show()
