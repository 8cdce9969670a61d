"""
=============================
Choosing alpha by grid search
=============================

``alpha="auto"`` chooses the penalty strength inside ``fit``. A grid search does the same from
outside: it works with any splitter and any score, shows the whole curve, and lets preprocessing be
part of what is validated. Here the data are a :class:`pandas.DataFrame` with a column of strings.
"""

# %%
# A small table: what a used car of a given age, mileage and fuel might cost.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_htmc import ResNetNormRegressor

rng = np.random.default_rng(0)
n_cars = 240
cars = pd.DataFrame(
    {
        "age": rng.uniform(0, 15, n_cars),
        "mileage": rng.gamma(4.0, 25.0, n_cars),
        "fuel": rng.choice(["petrol", "diesel", "electric"], n_cars),
        "doors": rng.choice([3, 5], n_cars),
    }
)
electric = cars["fuel"] == "electric"
price = 30 * np.exp(-cars["age"] / np.where(electric, 4, 8)) - 0.03 * cars["mileage"]
price += rng.normal(0, 1.5, n_cars)

# %%
# The strings become 0/1 columns, the numbers pass unchanged: the estimator standardises its input
# itself, so no scaler is needed. With ``sparse_output=False`` and pandas output the column names
# reach the estimator, which keeps them in ``feature_names_in_``.
encoder = ColumnTransformer(
    [("fuel", OneHotEncoder(sparse_output=False), ["fuel"])],
    remainder="passthrough",
    verbose_feature_names_out=False,
).set_output(transform="pandas")
pipeline = Pipeline([("encode", encoder), ("network", ResNetNormRegressor(random_state=0))])

# %%
# Two scores are recorded for every strength, R2 and the number of edges; R2 decides.
alphas = [0.03, 0.01, 0.003, 0.001]
search = GridSearchCV(
    pipeline,
    {"network__alpha": alphas},
    cv=3,
    refit="r2",
    scoring={"r2": "r2", "n_edges": lambda model, X, y: model["network"].n_edges_},
)
search.fit(cars, price)
columns = ["param_network__alpha", "mean_test_r2", "std_test_r2", "mean_test_n_edges"]
pd.DataFrame(search.cv_results_)[columns].round(3)

# %%
# Beside the accuracy stands its price. If two strengths have about the same score, take the larger:
# its network is smaller. The dotted line is boosting with its defaults on the same folds.
boosting = Pipeline([("encode", encoder), ("trees", HistGradientBoostingRegressor(random_state=0))])
peer = cross_val_score(boosting, cars, price, cv=3).mean()
results = search.cv_results_
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.errorbar(alphas, results["mean_test_r2"], results["std_test_r2"], fmt="o-", capsize=3)
ax.set(xlabel="alpha", ylabel="R2, mean and deviation over folds", xscale="log")
ax.axhline(peer, color="0.4", linestyle=":", label="HistGradientBoostingRegressor")
ax.legend(loc="lower left")
edges = ax.twinx()
edges.plot(alphas, results["mean_test_n_edges"], "s--", color="C1")
edges.set_ylabel("edges (dashed)", color="C1")

# %%
# The refitted pipeline is ready to predict; the importances carry the names of the columns.
network = search.best_estimator_["network"]
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.barh(network.feature_names_in_, network.feature_importances_)
ax.set(xlabel="share of the norm", title=f"{network.n_edges_} edges, alpha={network.alpha}")
plt.show()
