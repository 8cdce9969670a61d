"""The picture in doc/architecture.md, enforced: who imports whom, what is where, and how large it may get."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sklearn_htmc
from sklearn_htmc import circuit, export, inspection, model_selection

PACKAGE = Path(sklearn_htmc.__file__).parent
PICTURE = Path(__file__).parents[1] / "doc" / "architecture.md"


@dataclass(frozen=True)
class Layer:
    """What a layer may import; deferred imports are those inside functions and for type checking."""

    own: set[str] = field(default_factory=set)
    deferred: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)
    deferred_outside: set[str] = field(default_factory=set)


LAYERS = {
    "_version": Layer(),
    "_formulas": Layer(outside={"numpy"}),
    "_network": Layer({"_formulas"}, outside={"numpy", "scipy"}),
    "_table": Layer({"_network"}, outside={"numpy"}),
    "_threads": Layer(outside={"threadpoolctl"}, deferred_outside={"torch"}),
    "_training": Layer({"_network", "_threads", "_training"}, outside={"numpy", "scipy", "sklearn", "torch"}),
    "_links": Layer(),
    "_units": Layer({"_network", "_table"}, outside={"numpy", "scipy"}),
    "_interrupts": Layer(set(), {"_training"}),
    "_progress": Layer({"_network"}, {"_training"}, deferred_outside={"tqdm"}),
    "_paths": Layer({"_network", "_progress", "_threads"}, {"_training"}, {"joblib", "numpy", "sklearn"}),
    "_columns": Layer(outside={"numpy"}),
    "_table_regressor": Layer({"_columns", "_links", "_network", "_units"}, outside={"numpy", "scipy", "sklearn"}),
    "_absent": Layer(),
    "_selection": Layer({"_network"}, outside={"numpy"}),
    "_automatic": Layer({"_network", "_selection", "_table"}, {"_training"}, {"numpy"}, {"torch"}),
    "_base": Layer(
        {
            "_absent",
            "_automatic",
            "_interrupts",
            "_network",
            "_paths",
            "_progress",
            "_table",
            "_table_regressor",
            "_units",
        },
        {"_training"},
        {"numpy", "sklearn"},
        {"torch"},
    ),
    "_search": Layer(
        {"_absent", "_automatic", "_base", "_network", "_paths", "_progress", "_selection", "_table"},
        {"_training"},
        outside={"numpy", "sklearn"},
    ),
    "_resnet_norm": Layer({"_absent", "_automatic", "_base", "_network"}, {"_training"}, {"numpy", "sklearn"}),
    "_resnet_norm_cv": Layer({"_network", "_resnet_norm", "_search"}),
    "_deep_spline_cv": Layer({"_deep_spline", "_search"}),
    "_spline_form": Layer({"_network"}, outside={"numpy", "scipy"}),
    "_deep_spline": Layer(
        {"_automatic", "_base", "_network", "_table"}, {"_spline_form", "_training"}, {"numpy", "sklearn"}, {"scipy"}
    ),
    "circuit": Layer(
        {"_network", "_threads", "_version", "circuit"},
        outside={"numpy", "scipy", "sklearn"},
        deferred_outside={"lightgbm", "tqdm", "xgboost"},
    ),
    "_circuit_size": Layer({"_columns", "_links", "_network", "circuit"}, {"_resnet_norm"}, {"numpy", "sklearn"}),
    "export": Layer({"_network", "circuit", "export"}, outside={"numpy"}, deferred_outside={"onnx"}),
    "model_selection": Layer({"_network"}, outside={"numpy"}),
    "_circuit_task": Layer({"_network", "_table", "circuit"}, outside={"numpy", "sklearn"}),
    "_circuit_regressor": Layer(
        {"_circuit_task", "_network", "_table_regressor", "_threads", "circuit"},
        {"_resnet_norm"},
        {"numpy", "scipy", "sklearn"},
        {"tqdm"},
    ),
    "inspection": Layer(
        {"_formulas", "_network", "circuit", "inspection"},
        outside={"numpy", "sklearn"},
        deferred_outside={"matplotlib"},
    ),
    "__init__": Layer(
        {"_version"},
        {"_circuit_regressor", "_circuit_size", "_deep_spline", "_deep_spline_cv", "_resnet_norm", "_resnet_norm_cv"},
    ),
}

# Who must not know of whom, not even through others.
STRANGERS = {
    # The rooms of training: the core knows no phase, a phase no family, and no family another one or a phase it does
    # not need; a fit knows families by their protocol only.
    "_training.core.penalties": {"core.objective", "first_order", "second_order", "residual", "spline"},
    "_training.core.objective": {"core.penalties", "first_order", "second_order", "residual", "spline"},
    "_training.core.certificate": {"first_order", "second_order", "residual", "spline"},
    "_training.core.task": {"first_order", "second_order", "residual", "spline", "fit"},
    "_training.core.deadline": {"first_order", "second_order", "residual", "spline", "fit"},
    "_training.first_order.pace": {"second_order", "residual", "spline", "fit"},
    "_training.core.threads": {"first_order", "second_order", "residual", "spline", "fit"},
    "_training.first_order.loop": {"core.certificate", "second_order", "residual", "spline", "fit"},
    "_training.second_order.gauss_newton": {"core.certificate", "first_order", "residual", "spline", "fit"},
    "_training.second_order.surgery": {"core.certificate", "first_order", "residual", "spline", "fit"},
    "_training.fit": {"second_order", "residual", "spline"},
    "_training.paths": {"second_order", "residual", "spline"},
    "_training.choice": {"second_order", "residual", "spline"},
    "_training.residual.network": {"core.objective", "core.penalties", "first_order", "second_order", "spline"},
    "_training.residual.finish": {"first_order", "spline"},
    "_training.spline.network": {"core.objective", "core.penalties", "first_order", "second_order", "residual"},
    "_training.spline.calculus": {"first_order", "second_order", "residual", "fit"},
    "_training.spline.violation": {"core.objective", "first_order", "second_order", "spline.network"},
    "_training.spline.lasso": {"core.objective", "first_order", "second_order", "spline.network"},
    "_training.spline.finish": {"residual", "fit"},
    # The integer program knows neither models nor how they became one, and models do not know of it.
    "circuit._graph": {"_lower", "_quantise", "_compile", "_circuit", "_gates", "_simulate"},
    "circuit._simulate": {"_lower", "_quantise", "_compile", "_circuit", "_gates"},
    "circuit._gates": {"_lower", "_quantise", "_compile", "_circuit", "_simulate"},
    # Resynthesis knows circuits and rows, but neither models nor how they were rounded.
    "circuit._resynthesis.refine": {"_lower", "_quantise.networks", "_quantise.trees", "_rounding", "_compile"},
    "circuit._resynthesis.search": {"_elsewhere", "_lower", "_quantise.dispatch", "_rounding", "_compile"},
    # Growth knows graphs and prices, but no models, and not what others do to a circuit afterwards.
    "circuit._grow.growth": {"_elsewhere", "_lower", "_quantise", "_resynthesis", "_rounding", "_compile", "_circuit"},
    "circuit._grow.path": {"_elsewhere", "_lower", "_quantise", "_resynthesis", "_rounding", "_compile"},
    # What is exported is what is computed: an exporter of networks knows no circuits, one of circuits no models.
    "export._circuits": {"_networks", "_onnx"},
    "export._networks": {"_circuits", "_onnx"},
    "circuit._verilog.structure": {"_lower", "_quantise", "_compile", "_simulate", "_circuit"},
    "circuit._verilog.stages": {"_lower", "_quantise", "_compile", "_simulate", "_circuit"},
    "circuit._verilog.writing": {"_lower", "_quantise", "_compile", "_simulate", "_circuit"},
    "circuit._c": {"_lower", "_quantise", "_compile", "_simulate"},
    "circuit._lower.networks": {"_quantise", "_compile", "_gates"},
    "circuit._lower.compose": {"_quantise", "_compile", "_gates"},
    "circuit._lower.trees": {"_quantise", "_compile", "_gates"},
    "circuit._quantise.networks": {"_lower.networks", "_lower.trees", "_lower.compose", "_compile"},
}


def modules():
    """Return the path of every module of the package by its dotted name without that of the package."""
    paths = {path.relative_to(PACKAGE).with_suffix(""): path for path in PACKAGE.rglob("*.py")}
    return {".".join(name.parts): path for name, path in sorted(paths.items())}


def imports(tree):
    """Yield (absolute name of the imported module, whether the import is deferred)."""

    def visit(node, deferred):
        for child in ast.iter_child_nodes(node):
            later = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                later = True
            if isinstance(child, ast.Import):
                yield from ((alias.name, later) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                # "from package import module" and "from package.module import name" both name a module.
                yield (
                    (child.module or "", later)
                    if child.level == 0
                    else (f"{'.' * child.level}{child.module or ''}", later)
                )
            else:
                yield from visit(child, later)

    return visit(tree, False)


def absolute(name, module):
    """Resolve a relative import."""
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    folder = ["sklearn_htmc", *module.split(".")][:-level]
    return ".".join([*folder, name.lstrip(".")]).rstrip(".")


def edges():
    """Yield (module, imported module, whether deferred), names as Python spells them."""
    for module, path in modules().items():
        for name, deferred in imports(ast.parse(path.read_text(encoding="utf-8"))):
            yield module, absolute(name, module), deferred


def own_name(name):
    """Return the name inside the package, or None for a module from outside."""
    return name.partition("sklearn_htmc.")[2] if name.startswith("sklearn_htmc.") else None


def functions(tree):
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def code_lines(node, text):
    """Count the lines of a piece of code that are neither blank nor docstring."""
    last = getattr(node, "end_lineno", None) or len(text)
    lines = {n for n in range(getattr(node, "lineno", 1), last + 1) if text[n - 1].strip()}
    for part in ast.walk(node):
        documented = isinstance(part, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(part)
        if documented:
            lines -= set(range(part.body[0].lineno, part.body[0].end_lineno + 1))
    return len(lines)


def trees():
    for module, path in modules().items():
        text = path.read_text(encoding="utf-8")
        yield module, ast.parse(text), text.splitlines()


def test_every_module_belongs_to_a_layer():
    assert {name.partition(".")[0] for name in modules()} == set(LAYERS)


def test_imports_follow_the_arrows():
    wrong = []
    for module, name, deferred in edges():
        layer, own = LAYERS[module.partition(".")[0]], own_name(name)
        top = name.partition(".")[0]
        if own is not None:
            allowed = own.partition(".")[0] in layer.own | (layer.deferred if deferred else set())
        else:
            allowed = top in sys.stdlib_module_names
            allowed |= top in layer.outside | (layer.deferred_outside if deferred else set())
        if not allowed:
            wrong.append(f"{module} imports {name}{' in a function' if deferred else ''}")
    assert not wrong, "\n".join(wrong)


def test_imports_have_no_cycle():
    graph = {module: set() for module in modules()}
    for module, name, _ in edges():
        if own_name(name) in graph:
            graph[module].add(own_name(name))
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("_network") < order.index("_training.fit") < order.index("_base")


def test_modules_do_not_know_their_strangers():
    known = {module: set() for module in modules()}
    for module, name, _ in edges():
        if own_name(name) in known:
            known[module].add(own_name(name))
    for _ in known:
        for names in known.values():
            names |= set().union(*(known[name] for name in names))
    for module, strangers in STRANGERS.items():
        top = module.partition(".")[0]
        names = tuple(f"{top}.{stranger}" for stranger in strangers)
        met = {name for name in known[module] if f"{name}.".startswith(tuple(f"{name}." for name in names))}
        assert not met, f"{module} imports {met}, perhaps through others"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import torch.nn", [("torch.nn", False)]),
        ("from sklearn_htmc import _base", [("sklearn_htmc", False)]),
        ("from ._network import Block", [("._network", False)]),
        ("class A:\n    def f(self):\n        import torch", [("torch", True)]),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import numpy", [("torch", True), ("numpy", True)]),
        ("try:\n    import torch\nexcept ImportError:\n    pass", [("torch", False)]),
    ],
)
def test_the_walk_sees_imports_everywhere(code, expected):
    assert list(imports(ast.parse(code))) == expected


def test_relative_imports_are_resolved():
    assert absolute("._network", "_base") == "sklearn_htmc._network"
    assert absolute("..fit", "_training.core.certificate") == "sklearn_htmc._training.fit"
    assert absolute(".._network", "_training.fit") == "sklearn_htmc._network"


def test_the_package_itself_is_not_imported_by_its_modules():
    """That would be a cycle which the arrows cannot show."""
    assert not [module for module, name, _ in edges() if name == "sklearn_htmc"]


def test_nothing_prints_and_nothing_is_validated_by_assert():
    found = []
    for module, tree, _ in trees():
        for node in ast.walk(tree):
            printing = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if printing or isinstance(node, ast.Assert):
                found.append(f"{module}:{node.lineno}")
    assert not found


def test_modules_have_at_most_400_lines_of_code():
    sizes = {module: code_lines(tree, text) for module, tree, text in trees()}
    assert not {module: size for module, size in sizes.items() if size > 400}
    assert sizes["_network"] > 50  # the count counts


def test_functions_have_at_most_60_lines_of_code():
    sizes = {
        f"{module}.{node.name}": code_lines(node, text) for module, tree, text in trees() for node in functions(tree)
    }
    assert not {name: size for name, size in sizes.items() if size > 60}


def test_there_is_no_module_for_odds_and_ends():
    assert not {name.rpartition(".")[2].strip("_") for name in modules()} & {
        "utils",
        "util",
        "common",
        "helpers",
        "misc",
    }


def test_every_name_that_is_promised_is_there():
    assert sorted(sklearn_htmc.__all__) == [
        "CircuitRegressor",
        "CircuitSizeScorer",
        "DeepSplineRegressor",
        "DeepSplineRegressorCV",
        "ResNetNormRegressor",
        "ResNetNormRegressorCV",
        "__version__",
    ]
    assert export.__all__ == ["to_onnx"]
    assert sorted(model_selection.__all__) == ["best_within_budget", "smallest_circuit"]
    promised = {
        "circuit_profile",
        "compile_circuit",
        "count_gates",
        "estimate_luts",
        "lower",
        "simulate",
        "to_c",
        "to_testbench",
        "to_verilog",
    }
    assert promised | {"Block", "SparseNetwork", "Tree", "TreeEnsemble"} <= set(circuit.__all__)
    assert sorted(inspection.__all__) == [
        "CircuitProfileDisplay",
        "EffectDisplay",
        "NetworkDisplay",
        "ParetoDisplay",
        "RegularizationPathDisplay",
        "RulesDisplay",
        "SizePathDisplay",
        "network_text",
    ]
    for module in (sklearn_htmc, model_selection, circuit, export, inspection):
        assert all(hasattr(module, name) for name in module.__all__)


def test_the_picture_in_the_documentation_shows_every_file():
    text = PICTURE.read_text(encoding="utf-8")
    tree = text[text.index("    sklearn_htmc/") : text.index("    tests/")]
    shown = set(re.findall(r"(\w+)\.py", tree))
    assert shown == {name.rpartition(".")[2] for name in modules()}


def test_the_table_in_the_documentation_names_every_layer():
    text = PICTURE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?) \|", text, flags=re.MULTILINE)
    for layer in LAYERS:
        assert any(f"`{layer}`" in row for row in rows), layer
