"""The search: a circuit is found or the best error is said, on inputs and with epsilons of any size."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc.circuit import Format, _growing, compile_circuit, count_gates, simulate, to_c, to_verilog, verify
from sklearn_htmc.circuit._advice import finer
from sklearn_htmc.circuit._grow.growth import Level

WEIGHTS = np.array([1.0, -2.0, 0.5])


@pytest.fixture
def X(rng):
    return rng.normal(size=(200, 3))


@pytest.fixture
def ridge(X):
    return Ridge().fit(X, X @ WEIGHTS)


@pytest.fixture
def trees(X):
    return HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=5).fit(X, X @ WEIGHTS)


def error_of(circuit, model, X):
    values = model.predict(X)
    return np.sqrt(np.mean((simulate(circuit, X) - values) ** 2)) / values.std()


# --- features far from zero -----------------------------------------------------------------------


@pytest.mark.parametrize("regressor", [Ridge(), HistGradientBoostingRegressor(max_iter=3)], ids=["ridge", "trees"])
@pytest.mark.parametrize("offset", [-1e8, 1e8])
@pytest.mark.filterwarnings("ignore:words of 24 bits or more:UserWarning")
def test_inputs_are_as_fine_as_their_bits_allow_where_that_is_enough(X, regressor, offset):
    """The first level asks for more than 31 bits per input, and is met by less."""
    model = regressor.fit(X + offset, X @ WEIGHTS)
    circuit = compile_circuit(model, X + offset, epsilon=0.25, effort=0)
    assert circuit.error == pytest.approx(error_of(circuit, model, X + offset), rel=1e-9)
    assert circuit.error <= 0.25
    assert 26 <= max(form.width for form in circuit.input_formats) <= 31


@pytest.mark.filterwarnings("ignore:words of 24 bits or more:UserWarning")
def test_what_needs_31_bits_per_input_is_found(X, ridge):
    circuit = compile_circuit(ridge, X, epsilon=1e-8, effort=0)
    assert circuit.error <= 1e-8


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("regressor", [Ridge(), HistGradientBoostingRegressor(max_iter=3)], ids=["ridge", "trees"])
@pytest.mark.filterwarnings("ignore:words of 24 bits or more:UserWarning")
def test_where_inputs_cannot_be_fine_enough_the_best_error_and_the_remedy_are_said(X, regressor, offset):
    model = regressor.fit(X + offset, X @ WEIGHTS)
    epsilon = 1e-15 if offset == 0.0 else 1e-4 if isinstance(regressor, Ridge) else 1e-2
    if offset == 1e6:
        epsilon = 1e-10 if isinstance(regressor, Ridge) else 1e-15
    with pytest.raises(ValueError, match=r"^no circuit within epsilon=.* the best error reached is ") as failure:
        compile_circuit(model, X + offset, epsilon=epsilon)
    best = float(str(failure.value).split("reached is ")[1].split(";")[0])
    assert epsilon < best <= 1.01
    remedy = "x0, x1, x2 use up the 31 bits of an input: centre or rescale such features before the fit"
    assert (remedy in str(failure.value)) == (offset >= 1e9 or isinstance(regressor, Ridge))
    assert str(failure.value).endswith("take a larger epsilon.")
    if best < 0.5:
        assert compile_circuit(model, X + offset, epsilon=1.2 * best, effort=0).error <= 1.2 * best


def test_many_features_are_not_all_named():
    names = [f"x{port}" for port in range(7)]
    assert finer([Format(0, 1 << 30, 0)] * 7, names).startswith("x0, x1, x2, x3, x4 and 2 more use up")


@pytest.mark.parametrize("size", [1e16, 1e100, 1e300])
def test_a_constant_reads_no_input_however_large_the_inputs_are(X, size):
    model = LinearRegression().fit(X, np.full(200, 3.7))
    model.coef_ = np.full(3, 1e-3 / size)
    circuit = compile_circuit(model, size * X, epsilon=0.1, y=X @ WEIGHTS)
    assert circuit.n_gates == 0
    assert abs(simulate(circuit, size * X) - 3.7).max() < 0.2


def test_a_constant_has_few_bits(X):
    model = LinearRegression().fit(X, np.full(200, 3.7))
    (form,) = compile_circuit(model, X, epsilon=0.1).output_formats
    assert form.width == 4
    assert compile_circuit(model, X, epsilon=1e-300).error == 0.0


# --- epsilon --------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [5e-324, 1e-300, 1e-20])
def test_an_epsilon_that_no_double_resolves_is_not_reached(X, ridge, trees, epsilon):
    for model, best in ((ridge, 1e-8), (trees, 1e-13)):
        with pytest.raises(ValueError, match="the best error reached is ") as failure:
            compile_circuit(model, X, epsilon=epsilon)
        assert 0.0 < float(str(failure.value).split("reached is ")[1].split(";")[0]) < best


def test_an_exact_circuit_reaches_every_epsilon(X):
    tree = DecisionTreeRegressor(max_leaf_nodes=8).fit(X, np.round(8.0 * X[:, 0]))
    tree.tree_.value[:] = np.round(4.0 * tree.tree_.value) / 4.0
    assert compile_circuit(tree, X, epsilon=1e-300).error == 0.0


@pytest.mark.parametrize("epsilon", [1.1, 1e10, 1e300])
def test_an_epsilon_above_one_takes_a_constant(X, ridge, trees, epsilon):
    for model in (ridge, trees):
        circuit = compile_circuit(model, X, epsilon=epsilon)
        assert circuit.n_gates == 0
        assert circuit.error <= 1.01


@pytest.mark.parametrize("epsilon", [True, np.True_, "0.1", np.inf, np.nan, None, 0, -0.1], ids=repr)
def test_other_epsilons_are_refused(X, ridge, epsilon):
    with pytest.raises(ValueError, match=r"^epsilon must be a positive, finite number, got "):
        compile_circuit(ridge, X, epsilon=epsilon)


def test_several_outputs_have_the_error_together(X):
    model = LinearRegression().fit(X, np.column_stack([X @ WEIGHTS, 1000.0 * X[:, 1] + 1e-4 * X[:, 0]]))
    circuit = compile_circuit(model, X, epsilon=0.1)
    values = model.predict(X)
    squares = np.mean((simulate(circuit, X) - values) ** 2, axis=0) / values.var(axis=0)
    assert circuit.error == pytest.approx(np.sqrt(squares.mean()), rel=1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_gates_of_tiny_circuits_hardly_grow_with_epsilon(rng):
    X = rng.normal(size=(120, 2))
    models = [
        MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs", random_state=0).fit(X, np.abs(X[:, 0]) - X[:, 1]),
        Ridge().fit(X, X @ [1.3, -0.4]),
    ]
    for model in models:
        for effort, epsilons in ((0, np.geomspace(0.5, 0.02, 9)), ("auto", [0.5, 0.25, 0.15])):
            gates = [compile_circuit(model, X, epsilon=epsilon, effort=effort).n_gates for epsilon in epsilons]
            assert gates[0] < 0.5 * gates[-1]
            fewest = np.minimum.accumulate(gates[::-1])[::-1]
            assert (gates <= 1.03 * fewest).all()


# --- what is no circuit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use", [count_gates, to_c, to_verilog, verify, lambda model: simulate(model, [[0.0]])], ids=lambda use: use.__name__
)
def test_a_model_is_no_circuit(ridge, use):
    with pytest.raises(TypeError, match=r"^circuit must be what compile_circuit returns, got a Ridge; .*compile_circ"):
        use(ridge)


def test_sparse_features_are_simulated(X, ridge):
    circuit = compile_circuit(ridge, X, epsilon=0.1)
    assert np.array_equal(simulate(circuit, sparse.csr_array(X)), simulate(circuit, X))


# --- what takes long says so, and is bounded -------------------------------------------------------


def test_every_stage_shows_progress_if_asked_to(capsys):
    X = np.random.default_rng(3).uniform(-1.0, 1.0, (200, 2))
    y = X[:, 0] * X[:, 1]
    model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0).fit(X, y)
    compile_circuit(model, X, epsilon=0.3)
    assert capsys.readouterr() == ("", "")
    compile_circuit(model, X, epsilon=0.3, verbose=1)
    shown = capsys.readouterr().err
    assert [stage for stage in ("rounding", "growth", "resynthesis") if f"{stage}: " not in shown] == []


@pytest.mark.parametrize(
    ("loss", "gates", "best_gates", "hopeless"),
    [
        (0.25, 1_000, 100_000, True),  # 0.5 may fall to 0.05, more than twice 0.01
        (0.25, 999, 100_000, False),  # too early to tell
        (0.03, 1_000, 100_000, False),
        (0.03, 2_000, 100_000, True),
        (0.25, 1_000, 9_999, False),  # growth ends at the rounded circuit anyway
        (0.25, 1_000, np.inf, False),  # there is no other circuit
    ],
)
def test_growth_ends_early_where_a_large_model_is_too_fine(loss, gates, best_gates, hopeless):
    level = Level(0.01, np.zeros(0, dtype=np.intp), np.zeros((0, 1)), np.zeros(1), loss, gates)
    assert _growing._hopeless(level, SimpleNamespace(best_gates=best_gates, tolerance=0.01)) == hopeless
