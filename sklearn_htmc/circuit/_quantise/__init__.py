"""From exact functions to integer graphs that are as coarse as an error allows."""

from sklearn_htmc.circuit._quantise import networks as networks
from sklearn_htmc.circuit._quantise import trees as trees
