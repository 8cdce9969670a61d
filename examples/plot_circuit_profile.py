"""
How many gates does a function need?
====================================

A fitted model is compiled into circuits of two-input gates that agree with it more and more closely. How fast the
gates grow as epsilon shrinks says what kind of function it is: a line needs a few more digits, so its gates grow like
a power of log(1 / epsilon), and in trees nothing is left to refine at some point.
"""

# %%
# Three models of one smooth function
# -----------------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_friedman1
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from sklearn_htmc import ResNetNormRegressor
from sklearn_htmc.circuit import circuit_profile

X, y = make_friedman1(n_samples=400, n_features=6, noise=0.5, random_state=0)
X_test, y_test = make_friedman1(n_samples=1000, n_features=6, random_state=1)
models = {
    "RidgeCV": RidgeCV(),
    "GradientBoostingRegressor": GradientBoostingRegressor(random_state=0),
    "ResNetNormRegressor": ResNetNormRegressor(alpha=0.003, max_edges=150, random_state=0),
}

# %%
# Their profiles
# --------------
# Epsilon is the root mean square difference between circuit and model, as a fraction of the standard deviation of the
# predictions. The error is measured by simulating the finished circuit, bit for bit.
fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for (name, model), marker in zip(models.items(), "so^", strict=True):
    model.fit(X, y)
    profile = circuit_profile(model, X, epsilons=2.0 ** -np.arange(2, 10))
    label = f"{name}: test R2 {model.score(X_test, y_test):.2f}, gamma {profile.gamma:.2f}"
    ax.plot(profile.epsilons, profile.n_gates, marker + "-", label=label)
ax.set(xscale="log", yscale="log", xlabel="epsilon", ylabel="gates")
ax.invert_xaxis()
fig.legend(loc="outside upper center")
plt.show()
