"""
Reading a small circuit
=======================

`CircuitRegressor` grows its model bit by bit, and every bit is a rule: a weight that is a power of two, and a condition
on one, two or a few features. Here it learns what heating a building takes (768 buildings, Tsanas and Xifara 2012, CC
BY 4.0), at several prices of a gate.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import train_test_split

from sklearn_htmc import CircuitRegressor
from sklearn_htmc.circuit import compile_circuit, simulate

here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
X = pd.read_csv(here / "data" / "energy.csv")
y = X.pop("heating_load")
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# Fifty gates are enough for a model that fits on a page. Every line is one term: the weight in kWh per square metre,
# the share of the buildings for which the condition holds, and the gates that go if the line goes.

small = CircuitRegressor(max_gates=50).fit(X_train, y_train)
print(f"R2 {small.score(X_test, y_test):.3f} with {small.n_gates_} gates\n")
print(small.rules_)

# %%
# Without a budget, held-out rows say how many gates are worth while. ``path_`` keeps the circuits of all sizes, so that
# a smaller one can be taken later. A gate costs ``alpha`` variances; where the curves part, rules are about chance.
# Beside them are boosted trees of three sizes, compiled within 5 %: their circuits predict the test rows, too.

model = CircuitRegressor().fit(X_train, y_train)
path = model.path_


def test_loss(circuit):
    return np.mean((simulate(circuit, X_test) - y_test) ** 2) / np.var(y_train)


test = [test_loss(circuit) for circuit in path.circuits]
boosted = [GradientBoostingRegressor(n_estimators=n, random_state=0).fit(X_train, y_train) for n in (10, 30, 100)]
compiled = [compile_circuit(peer, X_train, epsilon=0.05, y=y_train) for peer in boosted]

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for losses, name in ((path.loss, "rows of fit"), (path.validation_loss, "held out in fit"), (test, "test rows")):
    left.loglog(np.maximum(path.n_gates, 1), np.sqrt(losses), "o-", markersize=3, label=name)
left.loglog(
    [peer.n_gates for peer in compiled], np.sqrt([test_loss(peer) for peer in compiled]), "^--", label="boosting, test"
)
left.set(xlabel="gates", ylabel="error / standard deviation")
left.legend()

shares = pd.Series(model.feature_importances_, model.feature_names_in_).sort_values()
right.barh(shares.index, shares)
right.set(xlabel="share of the variance of the terms")
plt.show()
