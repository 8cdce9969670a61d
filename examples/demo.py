"""Real data, a grid of alphas, and two models that everyone knows: `make demo`."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_htmc import ResNetNormRegressor
from sklearn_htmc.circuit import Circuit, compile_circuit, simulate, to_c, to_verilog

ALPHAS = [0.1, 0.05, 0.02, 0.01, 0.003]
FOLDS = KFold(n_splits=5, shuffle=True, random_state=0)
ROW = "{:<34} {:>15} {:>8} {:>9}"
EPSILON = 0.05  # of the standard deviation of the target: how far a circuit may be from its model


def scaled_mlp() -> Pipeline:
    """Return a multi-layer perceptron on standardised features."""
    mlp = MLPRegressor(hidden_layer_sizes=(64, 64), max_iter=500, random_state=0)
    return make_pipeline(StandardScaler(), mlp)


def linear_weights(model: LinearRegression) -> int:
    """Count the coefficients."""
    return model.coef_.size


def mlp_weights(model: Pipeline) -> int:
    """Count the weights and biases of the network inside the pipeline."""
    mlp = model[-1]
    return sum(part.size for part in [*mlp.coefs_, *mlp.intercepts_[:-1]])


def network_edges(model: ResNetNormRegressor) -> int:
    """Count the edges that survived."""
    return model.n_edges_


def print_row(name: str, r2: float, spread: float, size: float, seconds: float) -> None:
    """Print one line of the table."""
    print(ROW.format(name, f"{r2:.3f} ± {spread:.3f}", f"{size:.0f}", f"{seconds:.2f}"))


def compare(name: str, model: RegressorMixin, size: Callable, X, y) -> None:
    """Cross-validate one model and print its line."""
    scores = cross_validate(model, X, y, cv=FOLDS, return_estimator=True)
    r2, sizes = scores["test_score"], [size(fitted) for fitted in scores["estimator"]]
    print_row(name, r2.mean(), r2.std(), np.mean(sizes), scores["fit_time"].mean())


def search_alpha(X, y) -> GridSearchCV:
    """Search over the penalty strength, print a line for each and return the fitted search."""
    search = GridSearchCV(
        ResNetNormRegressor(random_state=0),
        {"alpha": ALPHAS},
        cv=FOLDS,
        refit="r2",
        scoring={"r2": "r2", "edges": lambda model, X, y: model.n_edges_},
    ).fit(X, y)
    results = search.cv_results_
    for i, alpha in enumerate(ALPHAS):
        print_row(
            f"ResNetNormRegressor(alpha={alpha})",
            results["mean_test_r2"][i],
            results["std_test_r2"][i],
            results["mean_test_edges"][i],
            results["mean_fit_time"][i],
        )
    return search


def print_importances(model: ResNetNormRegressor, meanings: dict[str, str]) -> None:
    """Draw the share of the norm that flows through each feature as a bar of characters."""
    shares = dict(zip(model.feature_names_in_, model.feature_importances_, strict=True))
    largest = max(*shares.values(), np.finfo(float).tiny)
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        bar = "#" * max(1, round(30 * share / largest)) if share > 0 else "(not used)"
        print(f"  {name:<4} {meanings.get(name, ''):<28} {100 * share:4.0f} %  {bar}")


def compile_all(models: dict[str, RegressorMixin], X, y) -> Circuit:
    """Print the gates of every model and return the circuit of the last one."""
    print(f"{'':<34} {'gates':>9} {'depth':>6} {'error':>7} {'R2, same rows':>14}")
    for name, model in models.items():
        circuit = compile_circuit(model, X, epsilon=EPSILON, y=y)
        r2 = r2_score(y, simulate(circuit, X)[:, 0])
        print(f"{name:<34} {circuit.n_gates:>9,} {circuit.depth:>6} {circuit.error:>7.3f} {r2:>14.3f}")
    return circuit


def write(circuit: Circuit) -> None:
    """Write the circuit for an FPGA and for a microcontroller."""
    for file, text in (("model.v", to_verilog(circuit)), ("model.c", to_c(circuit))):
        Path(file).write_text(text, encoding="utf-8")
        print(f"  {file}: {len(text.splitlines()):,} lines")


MEANINGS = {
    "age": "age",
    "sex": "sex",
    "bmi": "body mass index",
    "bp": "mean blood pressure",
    "s1": "total cholesterol",
    "s2": "LDL cholesterol",
    "s3": "HDL cholesterol",
    "s4": "total / HDL cholesterol",
    "s5": "log of triglycerides",
    "s6": "blood sugar",
}


def main() -> None:
    """Print the comparison, what the network looks at, and where to go from here."""
    X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    print(f"load_diabetes: {X.shape[0]} patients, {X.shape[1]} features; the target is how far the")
    print("disease has advanced after a year. R2 on the same five folds for every model.\n")
    print(ROW.format("", "R2", "edges", "seconds"))

    compare("LinearRegression()", LinearRegression(), linear_weights, X, y)
    compare("MLPRegressor((64, 64)), scaled", scaled_mlp(), mlp_weights, X, y)
    search = search_alpha(X, y)
    auto = ResNetNormRegressor(random_state=0)
    compare('ResNetNormRegressor(alpha="auto")', auto, network_edges, X, y)

    print("\nedges: weights and biases that are not zero, mean over folds (the constant of the")
    print("output is not counted); seconds: one fit.")
    print('alpha="auto" never saw the rows it is scored on; the best line of the grid is the best')
    print("of several on these folds, so expect a little less from it on new data.\n")

    best = search.best_estimator_
    print(f"The network of alpha={search.best_params_['alpha']}, fitted to all rows, has")
    print(f"{best.n_edges_} edges and {best.n_neurons_} neurons.")
    if best.n_neurons_ == 0:
        print("Without neurons it is a linear function: no bend was worth its price here.")
    print("What it looks at:\n")
    print_importances(best, MEANINGS)

    print(f"\nAs circuits of two-input gates within {EPSILON:.0%} of the standard deviation of the target,")
    print("all fitted to all rows, compiled, and measured by simulation bit for bit:\n")
    models = {
        "LinearRegression()": LinearRegression().fit(X, y),
        "MLPRegressor((64, 64)), scaled": scaled_mlp().fit(X, y),
        f"ResNetNormRegressor(alpha={best.alpha})": best,
    }
    circuit = compile_all(models, X, y)
    print("\nThe last one, written for hardware and for a microcontroller:")
    write(circuit)

    print("\nNext:")
    print("  fewer edges still    ResNetNormRegressor(max_edges=30)")
    print("  from a DataFrame     python examples/plot_alpha_grid_search.py")
    print("  size against error   python examples/plot_accuracy_against_edges.py")


if __name__ == "__main__":
    with warnings.catch_warnings():
        # Some fits stop at max_iter and say so; the table shows what they are worth all the same.
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        main()
