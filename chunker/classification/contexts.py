"""Features that need no recurrent net, as options beside the stack: what each is worth is told apart.

ContextCounts    symbols: hashed n-grams of what was read, and with "all" of the events and of the segments
                 between two events, as tf-idf
RandomKernels    vectors: random dilated convolutions, share of positive values and maximum (ROCKET, Dempster
                 et al. 2020, with the weights and biases of MiniRocket, 2021)
LinearModel      the linear classifier on either: support vectors for sparse features, ridge for dense ones
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from chunker.classification.history import History
from chunker.classification.inputs import Array

SPACES = 4  # of features: inputs, events, segments, words
SPACE = 32  # the byte between words
PRIME = np.uint64(0x9E3779B97F4A7C15)


def hashed_counts(
    sequences: list[Array], histories: list[History], features: str, sizes: tuple[int, ...], buckets: int
) -> Any:
    """A scipy CSR matrix (n, buckets) of counts of hashed contexts.

    features: "top" counts n-grams of the top level's events alone; "all" n-grams of the inputs and of the
    events that level 0 did not expect, segments, from one such event to before the next, and words, from one
    space (symbol 32) to before the next; of segments and words also pairs.
    sizes: the n of the n-grams.
    """
    from scipy.sparse import csr_matrix

    rows, columns = [], []
    for i, (sequence, history) in enumerate(zip(sequences, histories, strict=True)):
        top = history.top if features == "top" or len(history.levels) < 3 else history.levels[1]
        hashes = [_grams(sequence[top], sizes, 1)]
        if features == "all":
            hashes.append(_grams(sequence, sizes, 0))
            hashes.append(_segments(sequence, history.levels[1], 2))
            hashes.append(_segments(sequence, _words(sequence), 3))
        found = np.concatenate(hashes) % np.uint64(buckets)
        rows.append(np.full(len(found), i))
        columns.append(found.astype(np.int64))
    row, column = np.concatenate(rows), np.concatenate(columns)
    return csr_matrix((np.ones(len(row)), (row, column)), shape=(len(sequences), buckets))


def _mix(values: Array) -> Array:
    """splitmix64's finisher."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _grams(symbols: Array, sizes: tuple[int, ...], space: int) -> Array:
    """Hashes of all n-grams, with one mark before the beginning and one after the end."""
    if not len(symbols):
        return np.zeros(0, np.uint64)
    marked = np.concatenate([[0], symbols + 1, [0]]).astype(np.uint64)
    found = []
    for n in sizes:
        if n > len(marked):
            continue
        value = np.full(len(marked) - n + 1, n * SPACES + space, np.uint64)
        for k in range(n):
            value = _mix(value * PRIME + marked[k : k + len(value)])
        found.append(value)
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def _words(symbols: Array) -> Array:
    """Where words begin: at the beginning, and at each space."""
    at: Array = np.flatnonzero(symbols == SPACE)
    return at if not len(symbols) or symbols[0] == SPACE else np.append(0, at)


def _segments(symbols: Array, at: Array, space: int) -> Array:
    """Hashes of the segments that begin at the times `at`, and of two following ones."""
    if not len(at):
        return np.zeros(0, np.uint64)
    ends = np.append(at[1:], len(symbols))
    value = np.full(len(at), space, np.uint64)
    marked = (symbols + 1).astype(np.uint64)
    for k in range(int((ends - at).max())):
        inside = at + k < ends
        value = np.where(inside, _mix(value * PRIME + marked[np.minimum(at + k, len(symbols) - 1)]), value)
    pairs = _mix(value[:-1] * PRIME + value[1:])
    return np.concatenate([value, pairs])


class ContextCounts:
    """Counts of hashed contexts, weighted by log counts and by rarity in the training data, of unit length."""

    def __init__(self, features: str, sizes: tuple[int, ...], buckets: int) -> None:
        self.features, self.sizes, self.buckets = features, sizes, buckets
        self.idf: Array = np.zeros(0)

    def fit(self, sequences: list[Array], histories: list[History]) -> Any:
        """Learn the rarities; the training data's matrix (n, buckets)."""
        counts = hashed_counts(sequences, histories, self.features, self.sizes, self.buckets)
        counts.sum_duplicates()
        seen = np.bincount(counts.indices, minlength=self.buckets)
        self.idf = np.where(seen > 0, np.log((1 + len(sequences)) / (1 + seen)) + 1, 0.0)
        return self._weigh(counts)

    def transform(self, sequences: list[Array], histories: list[History]) -> Any:
        """(n, buckets) sparse."""
        counts = hashed_counts(sequences, histories, self.features, self.sizes, self.buckets)
        counts.sum_duplicates()
        return self._weigh(counts)

    def _weigh(self, counts: Any) -> Any:
        from scipy.sparse import diags

        counts.data = 1 + np.log(counts.data)
        weighed = counts @ diags(self.idf)
        norms = np.sqrt(np.asarray(weighed.multiply(weighed).sum(1)).ravel())
        return (diags(1 / np.where(norms > 0, norms, 1.0)) @ weighed).tocsr()


class RandomKernels:
    """Random convolutions of nine taps, weights -1 and 2, dilated, over random sets of channels."""

    def __init__(self, features: str, kernels: int) -> None:
        self.features, self.kernels = features, kernels
        self.groups: list[tuple[int, Array, Array]] = []  # dilation, weights (K, D, 9), biases (K,)

    def _rows(self, sequences: list[Array], histories: list[History]) -> list[Array]:
        if self.features == "all":
            return sequences
        rows = []
        for sequence, history in zip(sequences, histories, strict=True):
            at = history.top
            rows.append(np.concatenate([sequence[at], np.log1p(np.diff(at, prepend=-1))[:, None] / 2], 1))
        return rows

    def fit(self, sequences: list[Array], histories: list[History], random: np.random.Generator) -> Array:
        """Draw kernels, their biases from the training data; the training data's features."""
        rows = self._rows(sequences, histories)
        D = rows[0].shape[1]
        length = max(int(np.quantile([len(row) for row in rows], 0.8)), 2)
        longest = max(int(np.log2(max((length - 1) / 8, 1))), 0)
        dilations = np.sort(2 ** random.integers(0, longest + 1, self.kernels))
        samples = [rows[i] for i in random.permutation(len(rows))[:64] if len(rows[i])]
        self.groups = []
        for dilation in np.unique(dilations).tolist():
            K = int((dilations == dilation).sum())
            weights = np.zeros((K, D, 9))
            for k in range(K):
                taps = np.full(9, -1.0)
                taps[random.choice(9, 3, replace=False)] = 2.0
                many = min(D, int(2 ** random.uniform(0, np.log2(min(D, 9) + 1))))
                weights[k, random.choice(D, many, replace=False)] = taps
            biases = np.zeros(K)
            if samples:
                values = [self._convolve(samples[i], weights, dilation) for i in range(min(len(samples), 24))]
                for k in range(K):
                    biases[k] = np.quantile(values[int(random.integers(len(values)))][k], random.uniform())
            self.groups.append((dilation, weights, biases))
        return self.transform(sequences, histories)

    @staticmethod
    def _convolve(row: Array, weights: Array, dilation: int) -> Array:
        """(K, T) of a row (T, D), zeros beyond both ends."""
        signal = torch.from_numpy(np.ascontiguousarray(row.T)).float().unsqueeze(0)
        kernel = torch.from_numpy(weights).float()
        out = torch.nn.functional.conv1d(signal, kernel, dilation=dilation, padding=4 * dilation)
        values: Array = out[0].numpy()
        return values

    def transform(self, sequences: list[Array], histories: list[History]) -> Array:
        """(n, 2 kernels): share of the time above the bias, and the maximum less the bias."""
        rows = self._rows(sequences, histories)
        found = np.zeros((len(rows), 2 * self.kernels))
        for i, row in enumerate(rows):
            if not len(row):
                continue
            done = 0
            for dilation, weights, biases in self.groups:
                values = self._convolve(row, weights, dilation) - biases[:, None]
                K = len(biases)
                found[i, done : done + K] = (values > 0).mean(1)
                found[i, self.kernels + done : self.kernels + done + K] = values.max(1)
                done += K
        return found


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
