"""Looking at fitted models: their functions as text and as pictures. Drawing needs matplotlib (extra ``plot``)."""

from sklearn_htmc.inspection._diagram import NetworkDisplay
from sklearn_htmc.inspection._effect import EffectDisplay
from sklearn_htmc.inspection._models import network_text
from sklearn_htmc.inspection._pareto import ParetoDisplay
from sklearn_htmc.inspection._profile import CircuitProfileDisplay
from sklearn_htmc.inspection._regularization_path import RegularizationPathDisplay
from sklearn_htmc.inspection._rules import RulesDisplay
from sklearn_htmc.inspection._size_path import SizePathDisplay

__all__ = [
    "CircuitProfileDisplay",
    "EffectDisplay",
    "NetworkDisplay",
    "ParetoDisplay",
    "RegularizationPathDisplay",
    "RulesDisplay",
    "SizePathDisplay",
    "network_text",
]
