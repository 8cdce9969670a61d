"""Trees: lowering says exactly what the models say, and circuits of trees are within epsilon."""

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor

from sklearn_htmc.circuit import (
    Format,
    Tree,
    TreeEnsemble,
    compile_circuit,
    count_gates,
    lower,
    simulate,
    verify,
)
from sklearn_htmc.circuit._gates import Netlist
from sklearn_htmc.circuit._quantise.dispatch import quantiser
from sklearn_htmc.circuit._quantise.sample import Sample
from sklearn_htmc.circuit._quantise.trees import Forest, graph_of
from sklearn_htmc.circuit._simulate import words_at_outputs

EPSILONS = (0.2, 0.05, 0.01, 0.001)
SKLEARN = {
    "tree": DecisionTreeRegressor(min_samples_leaf=3),
    "extra tree": ExtraTreeRegressor(random_state=0),
    "forest": RandomForestRegressor(4, random_state=0),
    "extra trees": ExtraTreesRegressor(5, max_depth=6, random_state=0),
    "boosting": GradientBoostingRegressor(n_estimators=20),
    "boosting from zero": GradientBoostingRegressor(n_estimators=5, init="zero"),
    "boosting from a quantile": GradientBoostingRegressor(
        n_estimators=5, init=DummyRegressor(strategy="quantile", quantile=0.3)
    ),
    "boosting, huber": GradientBoostingRegressor(n_estimators=5, loss="huber", learning_rate=0.3),
    "histograms": HistGradientBoostingRegressor(max_iter=20),
    "histograms, quantile": HistGradientBoostingRegressor(max_iter=5, loss="quantile", quantile=0.4),
}
LIGHTGBM = {
    "plain": {},
    "huber": {"objective": "huber"},
    "forest": {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "dart": {"boosting_type": "dart"},
}
XGBOOST = {
    "plain": {},
    "exact": {"tree_method": "exact"},
    "dart": {"booster": "dart", "rate_drop": 0.3},
    "absolute error": {"objective": "reg:absoluteerror"},
    "parallel trees": {"num_parallel_tree": 3},
}


def problem(n_samples=250, seed=0):
    """Features with ties and different scales, and a target that trees follow slowly."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 4)) * [1.0, 30.0, 0.01, 1.0] + [0.0, 500.0, 0.0, -3.0]
    X[:, 0] = np.round(X[:, 0], 1)
    X[:, 3] = np.round(X[:, 3])
    y = np.sin(2.0 * X[:, 0]) + 0.03 * np.abs(X[:, 1] - 480.0) + 0.3 * X[:, 3] * (X[:, 2] > 0)
    return X, y


def hard_rows(form, X):
    """Rows and, in other rows, the thresholds and their neighbours in double and single precision."""
    rng = np.random.default_rng(1)
    rows = [X, rng.permuted(X, axis=0)]
    for feature in range(form.n_features):
        at = np.unique(np.concatenate([tree.threshold[tree.feature == feature] for tree in form.trees]))
        single = at.astype(np.float32)
        for values in (
            at,
            single,
            *(np.nextafter(x, x.dtype.type(end)) for x in (at, single) for end in (-np.inf, np.inf)),
        ):
            part = X[rng.integers(len(X), size=len(values))]
            part[:, feature] = values
            rows.append(part)
    return np.concatenate(rows)


def assert_exact(model, X, rtol):
    form = lower(model)
    rows = hard_rows(form, X)
    expected = model.predict(rows).reshape(len(rows), -1)
    np.testing.assert_allclose(form(rows), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


# --- lowering -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SKLEARN)
def test_lowered_trees_say_what_the_model_says_even_at_thresholds(name):
    X, y = problem()
    assert_exact(SKLEARN[name].fit(X, y), X, 1e-13)


@pytest.mark.parametrize("name", ["tree", "extra tree", "forest", "extra trees"])
def test_trees_of_several_outputs_are_lowered(name):
    X, y = problem()
    model = SKLEARN[name].fit(X, np.stack([y, 50.0 * X[:, 2], -y * X[:, 0]], axis=1))
    assert lower(model).n_outputs == 3
    assert_exact(model, X, 1e-13)


@pytest.mark.parametrize("name", LIGHTGBM)
def test_lightgbm_is_lowered(name):
    lightgbm = pytest.importorskip("lightgbm")
    X, y = problem()
    model = lightgbm.LGBMRegressor(n_estimators=15, verbose=-1, n_jobs=1, **LIGHTGBM[name]).fit(X, y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "predict", model.booster_.predict)
        assert_exact(model, X, 1e-13)
    np.testing.assert_array_equal(lower(model)(X), lower(model.booster_)(X))


@pytest.mark.parametrize("name", XGBOOST)
def test_xgboost_is_lowered(name):
    xgboost = pytest.importorskip("xgboost")
    X, y = problem()
    model = xgboost.XGBRegressor(n_estimators=15, n_jobs=1, **XGBOOST[name]).fit(X, y)
    assert_exact(model, X, 2e-6)
    np.testing.assert_array_equal(lower(model)(X), lower(model.get_booster())(X))


def test_xgboost_with_several_outputs_is_lowered():
    xgboost = pytest.importorskip("xgboost")
    X, y = problem()
    assert_exact(xgboost.XGBRegressor(n_estimators=8, n_jobs=1).fit(X, np.stack([y, X[:, 1]], axis=1)), X, 2e-6)


def test_early_stopping_of_xgboost_is_respected():
    xgboost = pytest.importorskip("xgboost")
    X, y = problem()
    model = xgboost.XGBRegressor(n_estimators=100, n_jobs=1, early_stopping_rounds=2)
    model.fit(X, y, eval_set=[(X[:50], -y[:50])], verbose=False)
    assert len(lower(model).trees) == model.best_iteration + 1 < 100
    np.testing.assert_allclose(lower(model)(X)[:, 0], model.predict(X), rtol=2e-6)


@pytest.mark.parametrize("model", [*SKLEARN.values()], ids=[*SKLEARN])
def test_models_must_be_fitted(model):
    with pytest.raises(NotFittedError):
        lower(type(model)())


def test_what_is_no_sum_of_trees_is_refused():
    X, y = problem()
    y = np.abs(y) + 0.1
    with pytest.raises(
        TypeError, match=r"needs a constant start, got init=DecisionTreeRegressor\(\); fit with init=None"
    ):
        lower(GradientBoostingRegressor(n_estimators=2, init=DecisionTreeRegressor()).fit(X, y))
    with pytest.raises(TypeError, match=r"with loss='poisson' it is a transform of the sum; use one of squared_error"):
        lower(HistGradientBoostingRegressor(max_iter=2, loss="poisson").fit(X, y))
    with pytest.raises(TypeError, match=r"splits on categories, which this HistGradientBoostingRegressor has"):
        lower(HistGradientBoostingRegressor(max_iter=2, categorical_features=[3]).fit(X, y))


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"objective": "poisson"}, "objective='poisson' it is a transform of the sum"),
        ({"reg_sqrt": True}, "objective='regression sqrt' it is a transform of the sum"),
        ({"linear_tree": True}, "fit with linear_tree=False"),
        ({"zero_as_missing": True}, "fit with zero_as_missing=False"),
    ],
)
def test_lightgbm_that_is_no_sum_of_trees_is_refused(parameters, text):
    lightgbm = pytest.importorskip("lightgbm")
    X, y = problem()
    model = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1, n_jobs=1, **parameters).fit(X, np.abs(y) + 0.1)
    with pytest.raises(TypeError, match=text):
        lower(model)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"objective": "count:poisson"}, "objective='count:poisson' it is a transform of the sum"),
        ({"booster": "gblinear"}, "the booster must be one of trees, got 'gblinear'; fit with booster='gbtree'"),
        ({"missing": 0.0}, "numbers that count as missing, got missing=0.0"),
    ],
)
def test_xgboost_that_is_no_sum_of_trees_is_refused(parameters, text):
    xgboost = pytest.importorskip("xgboost")
    X, y = problem()
    model = xgboost.XGBRegressor(n_estimators=3, n_jobs=1, **parameters).fit(X, np.abs(y) + 0.1)
    with pytest.raises(TypeError, match=text):
        lower(model)


# --- circuits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tree", "forest", "boosting", "histograms"])
def test_smaller_epsilon_needs_more_gates_and_is_met(name):
    X, y = problem()
    model = SKLEARN[name].fit(X, y)
    circuits = [compile_circuit(model, X, epsilon=epsilon, effort=0) for epsilon in EPSILONS]
    for circuit, epsilon in zip(circuits, EPSILONS, strict=True):
        verify(circuit)
        difference = simulate(circuit, X) - model.predict(X)
        assert np.sqrt(np.mean(difference**2)) <= epsilon * model.predict(X).std() * (1 + 1e-9)
    gates = [circuit.n_gates for circuit in circuits]
    assert gates == sorted(gates)
    assert gates[0] < 0.7 * gates[-1]


@pytest.mark.parametrize("family", ["lightgbm", "xgboost"])
def test_boosted_trees_of_others_meet_epsilon(family):
    package = pytest.importorskip(family)
    X, y = problem()
    kind, quiet = (package.LGBMRegressor, {"verbose": -1}) if family == "lightgbm" else (package.XGBRegressor, {})
    model = kind(n_estimators=20, n_jobs=1, **quiet).fit(X, y)
    sizes = [compile_circuit(model, X, epsilon=epsilon, effort=0).n_gates for epsilon in (0.2, 0.01)]
    assert sizes[0] < sizes[1]


def test_trees_repair_what_trees_before_them_broke():
    X, y = problem()
    model = GradientBoostingRegressor(n_estimators=100).fit(X, y)
    step = 0.1 * y.std()
    form = lower(model)
    rounded = sum(np.rint(tree.value[tree.leaves(X)] / step) * step for tree in form.trees) + form.offset
    plain = np.sqrt(np.mean((rounded[:, 0] - model.predict(X)) ** 2)) / model.predict(X).std()
    weights = np.full(len(X), 1 / len(X))
    sample = Sample(X, weights, form(X), np.array([model.predict(X).std()]), np.array([X.min(axis=0), X.max(axis=0)]))
    error = sample.error(simulate(quantiser(form, sample)(0.1), X))
    assert error < 0.15 < 0.3 < plain


def test_noise_sets_the_error():
    X, y = problem()
    form = lower(SKLEARN["boosting"].fit(X, y))
    values = form(X)
    weights = np.full(len(X), 1 / len(X))
    sample = Sample(X, weights, values, values.std(axis=0), np.array([X.min(axis=0), X.max(axis=0)]))
    make = quantiser(form, sample)
    for noise in (0.3, 0.1, 0.03, 0.01, 0.003):
        assert noise / 4 < sample.error(simulate(make(noise), X)) < 2 * noise


def test_circuits_do_not_depend_on_the_order_of_rows():
    X, y = problem()
    model = SKLEARN["boosting"].fit(X, y)
    order = np.random.default_rng(3).permutation(len(X))
    one, other = (compile_circuit(model, rows, epsilon=0.05, effort=0) for rows in (X, X[order]))
    assert one.text() == other.text()


def test_circuits_of_several_outputs_share_comparisons():
    X, y = problem()
    Y = np.stack([y, 1000.0 * np.cos(X[:, 0])], axis=1)
    model = DecisionTreeRegressor(max_leaf_nodes=40).fit(X, Y)
    circuit = compile_circuit(model, X, epsilon=0.02, effort=0)
    difference = (simulate(circuit, X) - model.predict(X)) / model.predict(X).std(axis=0)
    assert circuit.error == pytest.approx(np.sqrt(np.mean(difference**2)))
    assert circuit.error <= 0.02
    one_by_one = [compile_circuit(_column(model, output), X, epsilon=0.02, effort=0).n_gates for output in range(2)]
    assert circuit.n_gates < sum(one_by_one)


def _column(model, output):
    form = lower(model)
    trees = tuple(
        Tree(tree.feature, tree.threshold, tree.left, tree.right, tree.value[:, [output]]) for tree in form.trees
    )
    return TreeEnsemble(trees, form.offset[[output]], form.n_features)


def test_thresholds_at_data_values_leave_every_row_on_its_side():
    X = np.array([[0.1], [0.2], [0.3], [0.4]])
    tree = Tree(
        np.array([0, -1, 0, -1, -1]),
        np.array([0.2, 0.0, 0.3, 0.0, 0.0]),
        np.array([1, -1, 3, -1, -1]),
        np.array([2, -1, 4, -1, -1]),
        np.array([[0.0], [-1.0], [0.0], [2.0], [3.0]]),
    )
    circuit = compile_circuit(TreeEnsemble((tree,), np.zeros(1), 1), X, epsilon=1e-6)
    np.testing.assert_array_equal(simulate(circuit, X)[:, 0], [-1.0, -1.0, 2.0, 3.0])


@pytest.mark.parametrize("offset", [0.0, 7.3])
def test_constant_trees_need_no_gates(offset):
    X = np.linspace(-1.0, 2.0, 20)[:, None]
    leaf = lower(DecisionTreeRegressor().fit(X, np.full(20, 2.6)))
    for form in (TreeEnsemble((), np.array([offset]), 1), TreeEnsemble(leaf.trees * 3, np.array([offset]), 1)):
        circuit = compile_circuit(form, X, epsilon=0.001)
        assert circuit.n_gates == 0
        np.testing.assert_allclose(simulate(circuit, X), form(X), atol=0.001)


def test_a_split_on_one_bit_is_one_comparison():
    X = np.arange(64.0)[:, None]
    model = DecisionTreeRegressor(max_depth=1).fit(X, X[:, 0] >= 32)
    assert compile_circuit(model, X, epsilon=0.01).n_gates <= 1


def test_deep_chains_of_splits_are_compiled():
    X = np.arange(1100.0)[:, None]
    chain = np.arange(1099)
    tree = Tree(
        np.concatenate([np.repeat([[0, -1]], 1099, axis=0).ravel(), [-1]]),
        np.concatenate([np.stack([chain + 0.5, chain], axis=1).ravel(), [0.0]]),
        np.concatenate([np.stack([2 * chain + 1, chain], axis=1).ravel(), [0]]),
        np.concatenate([np.stack([2 * chain + 2, chain], axis=1).ravel(), [0]]),
        np.random.default_rng(0).normal(size=(2199, 1)),
    )
    circuit = compile_circuit(TreeEnsemble((tree,), np.zeros(1), 1), X, epsilon=0.1, effort=0)
    assert circuit.error <= 0.1


def test_too_many_nodes_are_refused():
    nodes = 400_001
    blank = np.zeros(nodes, dtype=np.intp)
    tree = Tree(blank - 1, np.zeros(nodes), blank, blank, np.zeros((nodes, 1)))
    with pytest.raises(ValueError, match=r"the trees have 1,200,003 nodes together, .* at most 1,000,000; fit fewer"):
        Forest.of(TreeEnsemble((tree,) * 3, np.zeros(1), 1))


# --- graphs of integer trees ----------------------------------------------------------------------


def random_ensemble(rng, n_trees, n_outputs, n_features=3):
    """Trees of random shape with thresholds and leaves that are integers, some of them equal."""
    return TreeEnsemble(
        tuple(random_tree(rng, int(rng.integers(1, 12)), n_outputs, n_features) for _ in range(n_trees)),
        rng.integers(-9, 9, size=n_outputs).astype(float),
        n_features,
    )


def random_tree(rng, n_leaves, n_outputs, n_features):
    leaves, left, right = [0], [-1], [-1]
    for _ in range(n_leaves - 1):
        at = leaves.pop(int(rng.integers(len(leaves))))
        left[at], right[at] = len(left), len(left) + 1
        leaves += [left[at], right[at]]
        left, right = [*left, -1, -1], [*right, -1, -1]
    split = np.array(left) >= 0
    return Tree(
        np.where(split, rng.integers(n_features, size=len(left)), -1),
        rng.integers(-3, 14, size=len(left)).astype(float),
        np.array(left),
        np.array(right),
        rng.integers(-4, rng.integers(-3, 30), size=(len(left), n_outputs)).astype(float),
    )


@pytest.mark.parametrize("seed", range(25))
def test_graphs_gates_and_trees_say_the_same(seed):
    rng = np.random.default_rng(seed)
    n_outputs = int(rng.integers(1, 3))
    form = random_ensemble(rng, int(rng.integers(0, 9)), n_outputs)
    formats = [Format(-3, 12, 0), Format(0, 12, 0), Format(5, 11, 0)]
    forest = Forest.of(form)
    graph = graph_of(
        forest,
        formats,
        forest.threshold.astype(np.int64),
        form.offset.astype(np.int64),
        forest.value.astype(np.int64),
        [0] * n_outputs,
    )
    verify(graph)
    codes = [rng.integers(port.word[0], port.word[1] + 1, size=200) for port in formats]
    expected = form(np.stack(codes, axis=1)).T.astype(np.int64)
    words = words_at_outputs(graph, codes)
    np.testing.assert_array_equal(words, expected)
    np.testing.assert_array_equal(from_gates(graph, codes), expected)


def from_gates(graph, codes):
    """Evaluate the netlist: an integer holds one wire for all rows."""
    n_rows = len(codes[0])

    def packed(bits):
        return sum(int(bit) << row for row, bit in enumerate(bits))

    wires = [
        [packed(code >> place & 1) for place in range(port.width)]
        for code, port in zip(codes, graph.input_formats, strict=True)
    ]
    outputs = Netlist.of(graph).evaluate(wires, n_rows)
    numbers = []
    for wire, port in zip(outputs, graph.output_formats, strict=True):
        places = [1 << place for place in range(len(wire))]
        if port.signed:
            places[-1] *= -1
        numbers.append([sum(p * (w >> row & 1) for p, w in zip(places, wire, strict=True)) for row in range(n_rows)])
    return numbers


def test_equal_branches_and_impossible_splits_cost_nothing():
    tree = Tree(
        np.array([0, 0, 0, -1, -1, -1, -1]),
        np.array([4.0, 6.0, 9.0, 0.0, 0.0, 0.0, 0.0]),  # the second follows from the first
        np.array([1, 3, 5, -1, -1, -1, -1]),
        np.array([2, 4, 6, -1, -1, -1, -1]),
        np.array([[0.0], [0.0], [0.0], [1.0], [2.0], [3.0], [3.0]]),
    )
    forest = Forest.of(TreeEnsemble((tree,), np.zeros(1), 1))
    whole = forest.value.astype(np.int64)
    graph = graph_of(forest, [Format(0, 15, 0)], np.array([4, 6, 9]), np.zeros(1, dtype=np.int64), whole, [0])
    assert graph.text().count("at_most") == 1
    np.testing.assert_array_equal(simulate(graph, [[4.0], [5.0], [12.0]])[:, 0], [1.0, 3.0, 3.0])
    assert count_gates(graph) <= 4
