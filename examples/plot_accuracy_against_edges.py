"""
=====================================
Accuracy against the number of edges
=====================================

The penalty strength ``alpha`` decides how large the network is. This example fits
:class:`~sklearn_htmc.ResNetNormRegressor` along a grid of strengths on Friedman's first function,

.. math:: y = 10 \\sin(\\pi x_0 x_1) + 20 (x_2 - 1/2)^2 + 10 x_3 + 5 x_4 + \\text{noise},

where five of the ten features play no role, and draws what each edge buys, beside boosted trees and perceptrons of
several sizes.
"""

# %%
# The data: 300 rows to fit, 2000 fresh rows to judge by.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_friedman1
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_htmc import ResNetNormRegressor

X, y = make_friedman1(300, n_features=10, noise=1.0, random_state=0)
X_test, y_test = make_friedman1(2000, n_features=10, noise=1.0, random_state=1)

# %%
# One fit for each strength. ``n_edges_`` counts the non-zero weights of the fitted network;
# ``score`` is R2, as for every regressor.
alphas = [0.03, 0.01, 0.003, 0.001]
models = [ResNetNormRegressor(alpha, random_state=0).fit(X, y) for alpha in alphas]
n_edges = [model.n_edges_ for model in models]
scores = [model.score(X_test, y_test) for model in models]

# %%
# Peers of several sizes: leaves of all trees, and weights.
boosted = [GradientBoostingRegressor(n_estimators=n, random_state=0).fit(X, y) for n in (10, 30, 100, 300)]
leaves = [sum(tree.tree_.n_leaves for tree in model.estimators_[:, 0]) for model in boosted]
perceptrons = [
    make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(width,), max_iter=3000, random_state=0)).fit(X, y)
    for width in (2, 5, 20, 100)
]
weights = [sum(matrix.size for matrix in model[-1].coefs_) for model in perceptrons]

# %%
# The noise alone limits R2 on fresh rows: nothing scores above the dotted line, but for chance. The
# largest alpha is too rigid. The smallest ones spend many more edges, in part on the noise.
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.axhline(1 - 1.0 / np.var(y_test), color="0.5", linestyle=":", label="limit set by the noise")
ax.plot(n_edges, scores, "o-", label="ResNetNormRegressor, alpha at the points")
ax.plot(leaves, [model.score(X_test, y_test) for model in boosted], "^--", label="GradientBoostingRegressor")
ax.plot(weights, [model.score(X_test, y_test) for model in perceptrons], "s--", label="MLPRegressor")
for alpha, size, score in zip(alphas, n_edges, scores, strict=True):
    ax.annotate(f"{alpha}", (size, score), xytext=(4, -14), textcoords="offset points")
ax.set(xlabel="edges, leaves or weights", ylabel="R2 on fresh rows", xscale="log")
ax.set_ylim(0.4, 1.0)
ax.margins(x=0.1)
ax.legend(loc="lower right", fontsize="small")

# %%
# ``feature_importances_`` is the share of the norm that flows through each input. The features
# ``x5`` to ``x9`` are noise: as alpha grows, their edges are the first to go.
shares = np.array([model.feature_importances_ for model in models])  # (n_alphas, n_features)
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
image = ax.imshow(shares, aspect="auto", cmap="Blues", vmin=0)
ax.set_xticks(range(10), [f"x{j}" for j in range(10)])
ax.set_yticks(range(len(alphas)), [f"alpha={alpha}" for alpha in alphas])
fig.colorbar(image, label="share of the norm")
plt.show()
