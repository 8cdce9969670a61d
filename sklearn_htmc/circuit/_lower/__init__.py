"""From fitted models to the two forms that circuits are made of: sparse networks and ensembles of trees."""

from sklearn_htmc.circuit._lower import compose, networks, trees  # noqa: F401 - they register
from sklearn_htmc.circuit._lower._dispatch import lower
from sklearn_htmc.circuit._lower._forms import Tree, TreeEnsemble

__all__ = ["Tree", "TreeEnsemble", "lower"]
