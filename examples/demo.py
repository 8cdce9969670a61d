"""Real buildings, familiar models, and the gates that each of them takes: `make demo`."""

import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from sklearn.base import RegressorMixin
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_htmc import CircuitRegressor, ResNetNormRegressor
from sklearn_htmc.circuit import Circuit, compile_circuit, simulate, to_c, to_verilog
from sklearn_htmc.inspection import RulesDisplay

DATA = Path(__file__).parent / "data" / "energy.csv"
FOLDS = KFold(n_splits=5, shuffle=True, random_state=0)
EPSILON = 0.05  # of the standard deviation of the target: how far a circuit may be from its model
ROW = "{:<34} {:>9} {:>15} {:>9} {:>8}"
MODELS = {
    "CircuitRegressor(max_gates=60)": CircuitRegressor(max_gates=60),
    "CircuitRegressor()": CircuitRegressor(),
    "LinearRegression()": LinearRegression(),
    "GradientBoostingRegressor()": GradientBoostingRegressor(random_state=0),
    "MLPRegressor((32, 32)), scaled": make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(32, 32), max_iter=2000, random_state=0)
    ),
    "ResNetNormRegressor(alpha=0.003)": ResNetNormRegressor(alpha=0.003, random_state=0),
}


def circuit_of(model: RegressorMixin, X, y, **options) -> Circuit:
    """Return the circuit that a model is, or a small one that agrees with it."""
    if isinstance(model, CircuitRegressor):
        return model.circuit_
    return compile_circuit(model, X, epsilon=EPSILON, y=y, **options)


def print_row(name: str, model: RegressorMixin, X, y) -> None:
    """Fit, compile, and print one line of the table."""
    predicted = cross_val_predict(model, X, y, cv=FOLDS)
    error = np.sqrt(np.mean((predicted - y) ** 2)) / np.std(y)
    start = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - start
    rounded = circuit_of(model, X, y, method="round", effort=0).n_gates
    print(ROW.format(name, f"{error:.3f}", f"{rounded:,}", f"{circuit_of(model, X, y).n_gates:,}", f"{seconds:.1f} s"))


def write(circuit: Circuit) -> None:
    """Write the circuit for an FPGA and for a microcontroller."""
    for file, text in (("model.v", to_verilog(circuit)), ("model.c", to_c(circuit))):
        Path(file).write_text(text, encoding="utf-8")
        print(f"  {file}: {len(text.splitlines()):,} lines")


def draw(model: CircuitRegressor) -> None:
    """Draw the rules into a file."""
    mpl.use("agg")
    RulesDisplay.from_estimator(model, target_name="heating load").figure_.savefig("model.png", bbox_inches="tight")
    print("  model.png: its rules as a picture")


def main() -> None:
    """Print the comparison, the rules of a small circuit, and where to go from here."""
    X = pd.read_csv(DATA)
    y = X.pop("heating_load")
    print(f"Heating load of {len(X)} buildings from {X.shape[1]} features (Tsanas and Xifara 2012, CC BY 4.0).\n")
    print(ROW.format("", "error", "gates, rounded", "gates", "fit"))
    for name, model in MODELS.items():
        print_row(name, model, X, y)

    print("\nerror: on held-out rows (five folds), in standard deviations of the target. gates: two-input gates of an")
    print(f"integer circuit within {EPSILON:.0%} of the fitted model, measured bit for bit; a CircuitRegressor is one.")
    print('"rounded": only the numbers of the model are rounded. The last column grows and shrinks circuits as well.')

    small = MODELS["CircuitRegressor(max_gates=60)"]
    print(f"\nThe model of {small.n_gates_} gates, all of it:\n")
    print(small.rules_)

    circuit = small.circuit_
    error = np.abs(simulate(circuit, X) - small.predict(X)).max()
    print(f"\nFor hardware and for a microcontroller; what predict returns differs from the circuit by {error:g}:")
    write(circuit)
    draw(small)

    print("\nNext:")
    print("  read a model         python examples/plot_rules.py")
    print("  small networks       python examples/plot_alpha_grid_search.py")
    print("  size against error   python examples/plot_accuracy_against_edges.py")


if __name__ == "__main__":
    main()
