"""The second classifier: linear models on the features of contexts.py, and the pool of all classifiers.

LinearModel  support vectors for sparse features, ridge for dense ones
NaiveBayes   n-grams by class, as a compressor of each class would count them
Pool         log p(c) = sum over classifiers of weight times score; the weights come from cases held out
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from chunker.classification.inputs import Array

HELD_OUT = 0.15
FEWEST_HELD = 40  # cases; with fewer the weights would be chance
SMOOTHING = 0.1  # counts that naive Bayes adds


def hold_out(labels: Array, classes: int, random: np.random.Generator) -> Array:
    """(n,) bool: cases that only weigh the classifiers, none of rare classes; all False if they are too few."""
    counts = np.bincount(labels, minlength=classes)
    held: Array = (random.uniform(size=len(labels)) < HELD_OUT) & (counts[labels] >= 5)
    if held.sum() < FEWEST_HELD or len(np.unique(labels[~held])) < classes:
        return np.zeros(len(labels), bool)
    return held


def pool_weights(scores: list[Array], labels: Array) -> tuple[float, ...]:
    """Weights, none negative, of (n, C) scores side by side under which the labels are most probable."""
    parts = [torch.from_numpy(np.ascontiguousarray(part, dtype=np.float64)) for part in scores]
    target = torch.from_numpy(labels)
    raw = torch.zeros(len(parts), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        weights = torch.nn.functional.softplus(raw)
        logits = torch.stack([w * part for w, part in zip(weights, parts, strict=True)]).sum(0)
        value = torch.nn.functional.cross_entropy(logits, target)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return tuple(torch.nn.functional.softplus(raw.detach()).tolist())


class NaiveBayes:
    """scores = counts W: the bits, in nats, that each class's own counts of n-grams save (F, C)."""

    def __init__(self) -> None:
        self.weights: Array = np.zeros((0, 0), np.float32)

    def fit(self, counts: Any, labels: Array, classes: int) -> NaiveBayes:
        """counts: (n, F) sparse."""
        from scipy.sparse import csr_matrix

        n = len(labels)
        member = csr_matrix((np.ones(n), (labels, np.arange(n))), shape=(classes, n))
        table = (member @ counts).toarray().T + SMOOTHING  # (F, C)
        self.weights = np.log(table / table.sum(0)).astype(np.float32)
        self.weights[np.asarray(counts.sum(0)).ravel() == 0] = 0.0  # n-grams that training never met
        return self

    def scores(self, counts: Any) -> Array:
        """(n, C)."""
        return np.asarray(counts @ self.weights, dtype=np.float64)


class LinearModel:
    """scores = features W + b; probabilities are a softmax of scores times a sharpness found on held-out cases.

    W: (F, C), b: (C,), sharpness: scalar; for two classes C is 2 all the same.
    """

    def __init__(self) -> None:
        self.weights: Array = np.zeros((0, 0))
        self.bias: Array = np.zeros(0)
        self.center: Array = np.zeros(0)
        self.sharpness = 1.0

    def fit(self, features: Any, labels: Array, classes: int, seed: int) -> LinearModel:
        """features: (n, F) dense or sparse; labels (n,) numbers below `classes`."""
        random = np.random.default_rng(seed)
        counts = np.bincount(labels, minlength=classes)
        rare = counts[labels] < 4
        held = ~rare & (random.uniform(size=len(labels)) < 0.2)
        self.sharpness = 1.0
        if held.sum() >= 5 and len(np.unique(labels[~held])) == classes:
            self._fit(features[~held], labels[~held], classes, seed)
            self.sharpness = _sharpen(self.scores(features[held]), labels[held])
        self._fit(features, labels, classes, seed)
        return self

    def fit_plain(self, features: Any, labels: Array, classes: int, seed: int) -> LinearModel:
        """Without a sharpness of its own, for a pool that weighs the scores."""
        self.sharpness = 1.0
        self._fit(features, labels, classes, seed)
        return self

    def _fit(self, features: Any, labels: Array, classes: int, seed: int) -> None:
        from scipy.sparse import issparse
        from sklearn.linear_model import RidgeClassifierCV
        from sklearn.svm import LinearSVC

        self.center = np.zeros(features.shape[1])
        scale = np.ones(features.shape[1])
        if issparse(features):
            model = LinearSVC(C=1.0, random_state=seed)
        else:
            self.center, scale = features.mean(0), features.std(0)
            scale = np.where(scale < 1e-8, 1.0, scale)
            features = (features - self.center) / scale
            model = RidgeClassifierCV(alphas=np.logspace(-3, 4, 12))
        model.fit(features, labels)
        weights, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        if classes == 2:
            weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
        self.weights = weights.T / scale[:, None]
        if issparse(features):  # the many of them are saved
            self.weights = self.weights.astype(np.float32)
        self.bias = bias - self.center @ self.weights

    def scores(self, features: Any) -> Array:
        """(n, C)."""
        return np.asarray(features @ self.weights + self.bias)

    def log_probabilities(self, features: Any) -> Array:
        """(n, C)."""
        scores = self.scores(features) * self.sharpness
        return np.asarray(torch.log_softmax(torch.from_numpy(scores), -1).numpy())


def _sharpen(scores: Array, labels: Array) -> float:
    """The factor under which the labels are most probable."""
    values, target = torch.from_numpy(scores), torch.from_numpy(labels)
    factors = np.geomspace(0.25, 64, 33)
    costs = [float(torch.nn.functional.cross_entropy(values * f, target)) for f in factors]
    return float(factors[int(np.argmin(costs))])
