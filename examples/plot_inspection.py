"""
Understanding a fit
===================

A network of some dozen edges is no black box: it can be written down, drawn, and looked at feature by feature and
neuron by neuron. The data are the heating loads of 768 buildings (Tsanas and Xifara 2012, CC BY 4.0).
"""

# %%
# One fit with a budget of edges. Fewer passes than by default are enough here.
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, ResNetNormRegressor
from sklearn_htmc.inspection import EffectDisplay, NetworkDisplay, ParetoDisplay, SizePathDisplay, network_text

here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
X = pd.read_csv(here / "data" / "energy.csv")
y = X.pop("heating_load")
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = ResNetNormRegressor(alpha=0.003, max_edges=40, max_iter=60, random_state=0).fit(X_train, y_train)

# %%
# What does an edge buy? The fit remembers the best networks of all sizes that it has seen. Those that are larger than
# the budget were on the way to it.
SizePathDisplay.from_estimator(model, X_test, y_test)

# %%
# ``at_size`` returns the regressor with one of the smaller networks, which we look at from here on.
small = model.at_size(25)
print(f"{small.n_edges_} edges, R2 {small.score(X_test, y_test):.3f} on test rows")
print(network_text(small, target_names=["heating"]))

# %%
# The same as a picture: coordinates are white, neurons yellow, and lines are as wide as what passes through them.
NetworkDisplay.from_estimator(small, X_train, target_names=["heating"])

# %%
# What a feature does to the prediction, for single buildings and in the mean; and what one neuron adds to it, against
# the direction that it reads. Curves are exact: all kinks of the network are known.
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
feature = X.columns[small.feature_importances_.argmax()]
EffectDisplay.from_estimator(small, X_train, feature, kind="both", target_name="heating", ax=left)
EffectDisplay.from_neuron(small, X_train, "u4", target_name="heating", ax=right)

# %%
# Beside other models, all of them compiled to circuits, whose errors on the test rows are shown.
models = {
    "ridge": RidgeCV().fit(X_train, y_train),
    "tree of 8 leaves": DecisionTreeRegressor(max_leaf_nodes=8, random_state=0).fit(X_train, y_train),
    "network of 25 edges": small,
    "circuit of 100 gates": CircuitRegressor(max_gates=100, augment=False).fit(X_train, y_train),
}
ParetoDisplay.from_estimators(models, X_test, y_test, epsilon=0.1, effort=0)
plt.show()
