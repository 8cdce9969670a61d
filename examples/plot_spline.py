"""
==============================
Splines that place their knots
==============================

With one input and ``ranks=()`` :class:`~sklearn_htmc.DeepSplineRegressor` fits a linear spline. Every knot pays for
the change of slope that it makes, so knots appear where they are worth it: neither their number nor their places are
given. The problem is convex and solved exactly.
"""

# %%
# A wave that dies away, a corner, and a straight line
# ----------------------------------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from sklearn_htmc import DeepSplineRegressor

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(0.0, 10.0, 200))


def truth(x):
    return np.where(x < 6.0, np.exp(-0.3 * x) * np.cos(2.5 * x), 0.5 * (x - 6.0) - 0.12)


y = truth(x) + rng.normal(0.0, 0.15, x.size)
alphas = (0.01, 0.001, 0.0001)
models = [DeepSplineRegressor(alpha=alpha, ranks=(), random_state=0).fit(x[:, None], y) for alpha in alphas]

# %%
# Fits and knots
# --------------
# ``to_spline`` returns the fitted function as a :class:`scipy.interpolate.PPoly`; its breakpoints between the first and
# the last one are the knots. Outside the data the function goes on with its last slope. The thin line is a spline with
# equally many knots at equal distances, by least squares: it does not know where they are needed.
grid = np.linspace(-0.5, 10.5, 500)
fig, axes = plt.subplots(3, 1, figsize=(6.4, 7.2), sharex=True, sharey=True, layout="constrained")
for ax, model in zip(axes, models, strict=True):
    spline = model.to_spline()
    knots = spline.x[1:-1]
    ax.plot(x, y, ".", color="0.7", markersize=4, label="data")
    ax.plot(grid, truth(grid), "--", color="0.4", linewidth=1, label="truth")
    ax.plot(grid, spline(grid), color="C0", label="fit")
    even = make_pipeline(SplineTransformer(len(knots) + 2, degree=1, extrapolation="linear"), LinearRegression())
    ax.plot(grid, even.fit(x[:, None], y).predict(grid[:, None]), color="C2", linewidth=1, label="even knots")
    ax.plot(knots, spline(knots), "o", color="C1", markersize=5, label="knots")
    ax.set(ylabel="y", title=f"alpha = {model.alpha:g}: {model.n_knots_} knots")
axes[-1].set_xlabel("x")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
plt.show()
