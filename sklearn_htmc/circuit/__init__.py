"""Circuits: fitted regressors as integer programs whose gates are counted."""

from sklearn_htmc._network import Block, SparseNetwork
from sklearn_htmc.circuit._c import to_c
from sklearn_htmc.circuit._circuit import Circuit
from sklearn_htmc.circuit._compile import compile_circuit
from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._gates import count_gates
from sklearn_htmc.circuit._graph import Builder, Graph, Node, Op, verify
from sklearn_htmc.circuit._lower import Tree, TreeEnsemble, lower
from sklearn_htmc.circuit._luts import LutEstimate, estimate_luts
from sklearn_htmc.circuit._profile import CircuitProfile, circuit_profile
from sklearn_htmc.circuit._simulate import decode, encode, simulate, simulate_codes
from sklearn_htmc.circuit._testbench import to_testbench
from sklearn_htmc.circuit._verilog import to_verilog

__all__ = [
    "Block",
    "Builder",
    "Circuit",
    "CircuitProfile",
    "Format",
    "Graph",
    "LutEstimate",
    "Node",
    "Op",
    "SparseNetwork",
    "Tree",
    "TreeEnsemble",
    "circuit_profile",
    "compile_circuit",
    "count_gates",
    "decode",
    "encode",
    "estimate_luts",
    "lower",
    "simulate",
    "simulate_codes",
    "to_c",
    "to_testbench",
    "to_verilog",
    "verify",
]
