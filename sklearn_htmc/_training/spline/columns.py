"""The columns of a shallow network as a lasso sees them: features and neurons, which come and go.

Every column is a function of the rows: a feature, or a neuron with a fixed hyperplane. Their Gram matrix is kept while
columns enter and leave, so that a round of the search costs one product with the new ones, not with all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_htmc._network import Floats
from sklearn_htmc._training.core.architecture import Arrays
from sklearn_htmc._training.core.objective import Rows
from sklearn_htmc._training.spline.lasso import lasso, shared_lasso
from sklearn_htmc._training.spline.network import SplineNetwork
from sklearn_htmc._training.spline.neurons import TOLERANCE, different
from sklearn_htmc._training.spline.violation import Measure, Neurons, most_violated

_ENTRIES = 4_000_000  # of the columns held at a time
_FEATURES = 256  # that enter together, at most
_KNOWN = 64  # neurons at hand, drawn anew in every round, from which the search climbs as well
_SAME = 1e-7  # distance of two hyperplanes that are one


@dataclass(frozen=True, eq=False)
class Missed:
    """Columns that violate the certificate.

    Attributes
    ----------
    features : ndarray of shape (n_new_features,)
        Numbers of features.
    W, b : ndarray of shape (n_new_neurons, n_features) and (n_new_neurons,)
        Neurons.
    """

    features: NDArray[np.intp]
    W: Floats
    b: Floats

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.features) + len(self.b)


@dataclass(frozen=True, eq=False)
class Columns:
    """A shallow network on some rows: features first, then neurons.

    Attributes
    ----------
    network : SplineNetwork
        Sizes of the shallow network without neurons.
    rows : Rows
        Rows.
    features : ndarray of shape (n_used,)
        Numbers of the features that are columns.
    W, b : ndarray of shape (n_neurons, n_features) and (n_neurons,)
        Unit normals and offsets.
    mean : ndarray of shape (n_columns,)
        Means of the columns.
    gram, target : ndarray of shape (n_columns, n_columns) and (n_columns, n_outputs)
        Covariances of the columns, and with the targets.
    x : ndarray of shape (n_columns, n_outputs)
        Coefficients.
    """

    network: SplineNetwork
    rows: Rows
    features: NDArray[np.intp]
    W: Floats
    b: Floats
    mean: Floats
    gram: Floats
    target: Floats
    x: Floats

    @classmethod
    def of(cls, network: SplineNetwork, rows: Rows, arrays: Arrays) -> Columns:
        """Return the columns of a shallow network; features beyond a few enter where they are missed."""
        size = np.linalg.norm(arrays["W0"], axis=1)
        alive = size > 0
        W, b = arrays["W0"][alive] / size[alive, None], arrays["b0"][alive] / size[alive]
        n_features, q = network.widths[0], network.n_outputs
        features = np.flatnonzero(network.skip & (arrays["C0"].any(axis=0) | (n_features <= _FEATURES)))
        none = cls(
            network,
            rows,
            np.zeros(0, dtype=np.intp),
            np.zeros((0, n_features)),
            np.zeros(0),
            np.zeros(0),
            np.zeros((0, 0)),
            np.zeros((0, q)),
            np.zeros((0, q)),
        )
        columns = none.entered(Missed(features, W, b))
        x = np.vstack([arrays["C0"][:, features].T, (arrays["V0"][:, alive] * size[alive]).T])
        return replace(columns, x=x)

    @property
    def center(self) -> Floats:
        """Means of the targets."""
        return np.asarray((self.rows.weights @ self.rows.y).numpy())

    @property
    def size(self) -> float:
        """Norm of the network, its constant left out."""
        n = len(self.features)
        order = 2 if self.network.penalty == "multitask" else 1
        return float(np.abs(self.x[:n]).sum() + np.linalg.norm(self.x[n:], order, axis=1).sum())

    def residual(self) -> torch.Tensor:
        """Return what is left of the targets, of shape (n_samples, n_outputs)."""
        constant = torch.as_tensor(self.center - self.mean @ self.x)
        x = torch.as_tensor(self.x)
        left = [y - constant - self._values(X) @ x for X, y, _ in self.rows.parts(self._part)]
        return torch.cat(left)

    def entered(self, missed: Missed) -> Columns:
        """Return the network with more columns, whose coefficients are zero."""
        if not len(missed):
            return self
        new = replace(self, features=missed.features, W=missed.W, b=missed.b)
        n, n_new, center = len(self.x), len(missed), self.center
        cross, own = np.zeros((n, n_new)), np.zeros((n_new, n_new))
        mean, target = np.zeros(n_new), np.zeros((n_new, len(center)))
        part = max(256, _ENTRIES // max(1, n + n_new))
        for X, _, w in self.rows.parts(part):
            mean += w.numpy() @ new._values(X).numpy()
        for X, y, w in self.rows.parts(part):
            columns = new._values(X).numpy() - mean
            weighted = columns * w.numpy()[:, None]
            own += columns.T @ weighted
            target += weighted.T @ (y.numpy() - center)
            if n:
                cross += (self._values(X).numpy() - self.mean).T @ weighted
        features = np.append(self.features, missed.features)
        # Features stay in front of neurons.
        kind = np.repeat([0, 1, 0, 1], [len(self.features), len(self.b), len(missed.features), len(missed.b)])
        order = np.argsort(kind, kind="stable")
        return replace(
            self,
            features=features,
            W=np.vstack([self.W, missed.W]),
            b=np.append(self.b, missed.b),
            mean=np.append(self.mean, mean)[order],
            gram=np.block([[self.gram, cross], [cross.T, own]])[np.ix_(order, order)],
            target=np.vstack([self.target, target])[order],
            x=np.vstack([self.x, np.zeros_like(target)])[order],
        )

    def solved(self, strength: float) -> Columns:
        """Return the network with the best coefficients; columns with zeros leave."""
        if self.network.penalty == "multitask" and self.network.n_outputs > 1:
            x = shared_lasso(self.gram, self.target, strength, self.x, len(self.features))
        else:
            each = zip(self.target.T, self.x.T, strict=True)
            x = np.array([lasso(self.gram, one, strength, before) for one, before in each]).T
        kept: NDArray[np.bool_] = np.any(x != 0, axis=1)
        n = len(self.features)
        return replace(
            self,
            features=self.features[kept[:n]],
            W=self.W[kept[n:]],
            b=self.b[kept[n:]],
            mean=self.mean[kept],
            gram=self.gram[np.ix_(kept, kept)],
            target=self.target[kept],
            x=x[kept],
        )

    def missed(
        self, residual: torch.Tensor, strength: float, generator: torch.Generator, effort: float, room: int | None
    ) -> Missed:
        """Return features and neurons that correlate more than the strength with the residual, worst first.

        Parameters
        ----------
        residual : Tensor of shape (n_samples, n_outputs)
            See the method.
        strength : float
            Strength.
        generator : torch.Generator
            Draws the starts of the search.
        effort : float
            See `violation.most_violated`.
        room : int or None
            Neurons, at most; None takes as many as are good for a step.
        """
        X, g = self.rows.X, -residual * self.rows.weights[:, None]
        threshold = strength * (1.0 + TOLERANCE)
        features = self.features[:0]
        if self.network.skip:
            slopes = (X.T @ g).abs().amax(1).numpy()
            slopes[self.features] = 0.0
            features = np.argsort(-slopes, kind="stable")[: min(_FEATURES, int((slopes > threshold).sum()))]
        W, b = np.zeros((0, X.shape[1])), np.zeros(0)
        if room is None or room > 0:
            measure = Measure.of(X, g, reduced=self.network.skip, shared=self.network.penalty == "multitask")
            known = torch.randperm(len(self.b), generator=generator)[:_KNOWN]
            at_hand = torch.as_tensor(self.W)[known], torch.as_tensor(self.b)[known]
            found = self._new(most_violated(measure, generator, at_hand, effort), threshold)
            found = different(found, threshold)
            W, b = found.W.numpy()[:room], found.b.numpy()[:room]
        return Missed(features, W, b)

    def arrays(self) -> Arrays:
        """Return the shallow network by name."""
        n, q = len(self.features), self.network.n_outputs
        C = np.zeros((q, self.network.widths[0]))
        C[:, self.features] = self.x[:n].T
        return {"W0": self.W, "b0": self.b, "V0": self.x[n:].T, "C0": C, "c": self.center - self.mean @ self.x}

    @property
    def _part(self) -> int:
        return max(256, _ENTRIES // max(1, len(self.x)))

    def _values(self, X: torch.Tensor) -> torch.Tensor:
        """Return the columns at some rows, of shape (n_samples, n_columns)."""
        single = replace(self.network, neurons=(len(self.b),))
        neurons = single.reduced({"W0": torch.as_tensor(self.W)[None], "b0": torch.as_tensor(self.b)[None]}, X)
        return torch.cat([X[:, torch.as_tensor(self.features)], neurons], dim=1)

    def _new(self, found: Neurons, threshold: float) -> Neurons:
        """Return neurons above the threshold that are not there yet, not even by rounding."""
        found = found.at((found.size > threshold).nonzero().squeeze(1))
        if not len(self.b) or not len(found.b):
            return found
        W, b = torch.as_tensor(self.W), torch.as_tensor(self.b)
        cosine = found.W @ W.T
        off = (b * cosine.sign() - found.b[:, None]).abs() + (1.0 - cosine.abs()).clamp(min=0).sqrt()
        return found.at((off.amin(1) > _SAME).nonzero().squeeze(1))
