"""The rows on which a circuit is changed, and the squared error on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sklearn_htmc.circuit._fixed_point import Floats, Format, Integers
from sklearn_htmc.circuit._quantise.sample import Sample


@dataclass(frozen=True, eq=False)
class Rows:
    """Weighted rows in two groups: those for which an error is promised, and others near them.

    The squared error of a group is the weighted mean over its rows and over outputs of squared differences from the
    reference in units of the scale times the tolerance.

    Attributes
    ----------
    codes : list of ndarray of shape (n_rows,)
        Integers at the input ports.
    reference : ndarray of shape (n_outputs, n_rows)
        What the outputs should be, in units of the scale times the tolerance, divided by the root of the number of
        outputs.
    steps : ndarray of shape (n_outputs,)
        Last places of the outputs in the same unit.
    weights : ndarray of shape (2, n_rows)
        Weights of the rows in either group; each sums to one, and a row is in one group.
    """

    codes: list[Integers]
    reference: Floats
    steps: Floats
    weights: Floats

    @classmethod
    def of(
        cls,
        inputs: Sequence[Format],
        outputs: Sequence[Format],
        samples: tuple[Sample, Sample],
        references: tuple[Floats, Floats],
        tolerance: float,
    ) -> Rows:
        """Encode the rows of two samples in the formats of a circuit, to be compared with references.

        Errors come in units of a tolerance.
        """
        unit = samples[0].scale * (tolerance * np.sqrt(len(outputs)))
        X = np.concatenate([sample.X for sample in samples])
        weights = np.zeros((2, len(X)))
        weights[0, : len(samples[0].X)], weights[1, len(samples[0].X) :] = (sample.weights for sample in samples)
        return cls(
            [form.encode(X[:, port]) for port, form in enumerate(inputs)],
            (np.concatenate(references) / unit).T,
            np.array([form.step for form in outputs]) / unit,
            weights,
        )

    def errors(self, words: Sequence[Integers]) -> Floats:
        """Return the differences of integers at the outputs from the reference, of shape (n_outputs, n_rows)."""
        values = [word * step for word, step in zip(words, self.steps, strict=True)]
        return np.asarray(np.broadcast_arrays(*values, self.reference[0])[:-1]) - self.reference

    def squares(self, errors: Floats) -> Floats:
        """Return the squared error of either group, of shape (2,)."""
        return np.asarray(self.weights @ np.square(errors).sum(axis=0))
