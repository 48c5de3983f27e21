"""Heads that are linear models of counted contexts or random convolutions, and the weights of all heads.

LinearModel  support vectors for sparse features, ridge for dense ones
NaiveBayes   n-grams by class, as a compressor of each class would count them
pool_weights log p(c) = sum over parts of weight times score; the weights come from cases held out

They owe nothing to recurrent nets: what they carry alone is seen where they are the only heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from chunker.classification.contexts import ContextCounts, RandomKernels
from chunker.classification.heads import Cases, Head, Task
from chunker.classification.inputs import Array
from chunker.errors import UsageError
from chunker.learning.config import check_count

HELD_OUT = 0.15
FEWEST_HELD = 40  # cases; with fewer the weights would be chance
MOST_BUCKETS = 1 << 40  # numbers of buckets are int64
LONGEST = 1000  # n-grams
SMOOTHING = 0.1  # counts that naive Bayes adds


def hold_out(labels: Array, classes: int, random: np.random.Generator) -> Array:
    """(n,) bool: cases kept for the heads' weights, none of rare classes; all False if they are too few."""
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

    def fit(self, counts: Any, labels: Array, classes: int, buckets: int) -> NaiveBayes:
        """counts: (n, F) sparse, of the F of so many buckets that training met."""
        from scipy.sparse import csr_matrix

        n = len(labels)
        member = csr_matrix((np.ones(n), (labels, np.arange(n))), shape=(classes, n))
        table = (member @ counts).toarray().T + SMOOTHING  # (F, C)
        total = table.sum(0) + SMOOTHING * (buckets - len(table))
        self.weights = np.log(table / total).astype(np.float32)
        self.weights[np.asarray(counts.sum(0)).ravel() == 0] = 0.0  # n-grams that training never met
        return self

    def scores(self, counts: Any) -> Array:
        """(n, C)."""
        return np.asarray(counts @ self.weights, dtype=np.float64)


class LinearModel:
    """scores = features W + b; probabilities = softmax(sharpness scores), sharpness from held-out cases.

    W: (F, C), b: (C,), sharpness: scalar; for two classes C is 2 all the same.
    """

    def __init__(self, sharpness: float = 1.0) -> None:
        self.weights: Array = np.zeros((0, 0))
        self.bias: Array = np.zeros(0)
        self.sharpness = sharpness

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

        center = np.zeros(features.shape[1])
        scale = np.ones(features.shape[1])
        if issparse(features):
            model = LinearSVC(C=1.0, random_state=seed)
        else:
            center, scale = features.mean(0), features.std(0)
            scale = np.where(scale < 1e-8, 1.0, scale)
            features = (features - center) / scale
            model = RidgeClassifierCV(alphas=np.logspace(-3, 4, 12))
        model.fit(features, labels)
        weights, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        if classes == 2:
            weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
        self.weights = weights.T / scale[:, None]
        if issparse(features):  # the many of them are saved
            self.weights = self.weights.astype(np.float32)
        self.bias = bias - center @ self.weights

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


@dataclass(eq=False, repr=False, kw_only=True)
class NgramHead(Head):
    """Support vectors and naive Bayes on hashed n-grams, words and what was unexpected, of symbols.

    The classifier's parts are weighted by what they say of cases held out, if these are 40 or more; else
    support vectors alone are trained. With features="top" n-grams of the top level's events only are
    counted.

    Parameters
    ----------
    buckets: of the hashes, of each kind of contexts.
    longest: n of the longest n-grams.
    """

    needs = "symbols"

    buckets: int = 2**17
    longest: int = 5

    def check(self) -> None:
        check_count("buckets", self.buckets, 1)
        check_count("longest", self.longest, 1)
        if self.buckets > MOST_BUCKETS or self.longest > LONGEST:
            raise UsageError(f"buckets are {MOST_BUCKETS} at most, longest {LONGEST}; give less")

    def fit(self, task: Task, cases: Cases, held: Array, random: np.random.Generator) -> list[Array]:
        self.counts_ = self._counts(task)
        features, counts = self.counts_.fit(cases.sequences, cases.histories)
        self.linear_ = LinearModel()
        self.bayes_: NaiveBayes | None = None
        if not held.any():
            self.linear_.fit(features, cases.labels, task.classes, task.seed)
            return []
        own = np.flatnonzero(~held)
        self._fit_both(features[own], counts[own], cases.labels[own], task)
        found = self._scores(features[held], counts[held])
        self._fit_both(features, counts, cases.labels, task)
        return found

    def _counts(self, task: Task) -> ContextCounts:
        sizes = tuple(range(1, self.longest + 1))
        return ContextCounts(task.features, sizes, self.buckets, task.preparation.text)

    def _fit_both(self, features: Any, counts: Any, labels: Array, task: Task) -> None:
        self.linear_ = LinearModel().fit_plain(features, labels, task.classes, task.seed)
        self.bayes_ = NaiveBayes().fit(counts, labels, task.classes, self.buckets)

    def _scores(self, features: Any, counts: Any) -> list[Array]:
        if self.bayes_ is None:
            return [self.linear_.log_probabilities(features)]
        return [self.linear_.scores(features), self.bayes_.scores(counts)]

    def scores(self, cases: Cases) -> list[Array]:
        return self._scores(*self.counts_.transform(cases.sequences, cases.histories))

    def saved(self) -> tuple[dict[str, Any], dict[str, Array]]:
        used = self.counts_.used
        tensors = {
            "used": used,
            "idf": self.counts_.idf,
            "weights": self.linear_.weights,
            "bias": self.linear_.bias,
        }
        if self.bayes_ is not None:
            counted = np.flatnonzero(self.bayes_.weights.any(1))
            bucket = used[self.counts_.plain][counted] - self.counts_.plain_begin
            tensors |= {"counted": bucket, "bayes": self.bayes_.weights[counted]}
        return {"sharpness": self.linear_.sharpness}, tensors

    def restore(self, task: Task, facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        counts = self.counts_ = self._counts(task)
        counts.used, counts.idf = tensors["used"], tensors["idf"]
        _check_rows(counts.used, counts.parts * self.buckets)
        self.linear_ = LinearModel(float(facts["sharpness"]))
        self.linear_.weights, self.linear_.bias = tensors["weights"], tensors["bias"]
        _check_shape(counts.idf, len(counts.used))
        _check_shape(self.linear_.weights, len(counts.used), task.classes)
        _check_shape(self.linear_.bias, task.classes)
        self.bayes_ = None
        if "bayes" in tensors:
            ngrams, counted = counts.used[counts.plain] - counts.plain_begin, tensors["counted"]
            _check_rows(counted, self.buckets)
            _check_shape(tensors["bayes"], len(counted), task.classes)
            if not np.isin(counted, ngrams).all():
                raise ValueError("n-grams are weighed that training did not meet")
            self.bayes_ = NaiveBayes()
            self.bayes_.weights = np.zeros((len(ngrams), task.classes), tensors["bayes"].dtype)
            self.bayes_.weights[np.searchsorted(ngrams, counted)] = tensors["bayes"]


def _check_rows(rows: Array, end: int) -> None:
    """Raise ValueError unless they are int64 (R,) that rise, from 0 on and below `end`."""
    if rows.ndim != 1 or rows.dtype != np.int64 or (np.diff(rows, prepend=-1, append=end) < 1).any():
        raise ValueError(f"the rows of a table of {end} are not told by rising numbers")


def _check_shape(tensor: Array, *shape: int) -> None:
    if tensor.shape != shape or tensor.dtype.kind != "f":
        raise ValueError(f"a tensor of {shape} numbers is {tensor.shape} of {tensor.dtype}")


@dataclass(eq=False, repr=False, kw_only=True)
class RandomKernelHead(Head):
    """Ridge regression on random dilated convolutions of vectors (ROCKET, Dempster et al. 2020).

    With features="top" the convolutions see the top level's events only.

    Parameters
    ----------
    kernels: how many are drawn; each gives two features.
    """

    needs = "vectors"

    kernels: int = 2000

    def check(self) -> None:
        check_count("kernels", self.kernels, 1)

    def fit(self, task: Task, cases: Cases, held: Array, random: np.random.Generator) -> list[Array]:
        own = cases.take(np.flatnonzero(~held))
        self.kernels_ = RandomKernels(task.features, self.kernels)
        features = self.kernels_.fit(own.sequences, own.histories, random)
        self.linear_ = LinearModel().fit(features, own.labels, task.classes, task.seed)
        return self.scores(cases.take(np.flatnonzero(held))) if held.any() else []

    def scores(self, cases: Cases) -> list[Array]:
        return [self.linear_.log_probabilities(self.kernels_.transform(cases.sequences, cases.histories))]

    def saved(self) -> tuple[dict[str, Any], dict[str, Array]]:
        tensors = {"weights": self.linear_.weights, "bias": self.linear_.bias}
        for i, (_, weights, biases) in enumerate(self.kernels_.groups):
            tensors |= {f"{i}.weights": weights, f"{i}.biases": biases}
        dilations = [dilation for dilation, _, _ in self.kernels_.groups]
        return {"sharpness": self.linear_.sharpness, "dilations": dilations}, tensors

    def restore(self, task: Task, facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        self.kernels_ = RandomKernels(task.features, self.kernels)
        self.kernels_.groups = [
            (int(dilation), tensors[f"{i}.weights"], tensors[f"{i}.biases"])
            for i, dilation in enumerate(facts["dilations"])
        ]
        if sum(len(weights) for _, weights, _ in self.kernels_.groups) != self.kernels:
            raise ValueError(f"there are no {self.kernels} kernels")
        self.linear_ = LinearModel(float(facts["sharpness"]))
        self.linear_.weights, self.linear_.bias = tensors["weights"], tensors["bias"]
