"""Features that need no recurrent net, as options beside the stack.

ContextCounts    symbols: hashed n-grams of what was read, and with "all" of the events and of the segments
                 between two events, as tf-idf
RandomKernels    vectors: random dilated convolutions, share of positive values and maximum (ROCKET, Dempster
                 et al. 2020, with the weights and biases of MiniRocket, 2021)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from chunker.learning.history import History
from chunker.learning.observation import Array

SPACES = 8  # kinds of hashed contexts; each kind has hashes of its own
SPACE = 32  # the symbol between words
WEIGHTS = (0.5, 1.0, 1.4)  # of unexpected, inputs, words; found on validation parts
PRIME = np.uint64(0x9E3779B97F4A7C15)
GRAMS, EVENTS, SEGMENTS, WORDS, SKIPS, FIRSTS, PREFIXES = range(7)


def hashed_contexts(
    sequence: Array, history: History, features: str, sizes: tuple[int, ...], text: bool
) -> list[Array]:
    """Hashes of the contexts of one sequence, in parts: of events, and with "all" of inputs and of words.

    features: "top" counts n-grams of the top level's events alone; "all" those of what level 0 did not
    expect, segments, from one such event to before the next, and pairs of segments; n-grams of the inputs;
    and words, from one space (symbol 32) to the next: each, following two, two with one between, each with
    the first and with the first two, and the beginnings of up to four.
    sizes: the n of the n-grams. text: the inputs are bytes of UTF-8; n-grams are of its characters without
    case. Words keep their case, which marks names.
    """
    if features == "top":
        return [_grams(sequence[history.top], sizes, EVENTS)]
    events = history.levels[1] if len(history.levels) > 2 else history.top
    unexpected = [_grams(sequence[events], sizes, EVENTS), _segments(sequence, history.levels[1])]
    inputs = _characters(sequence) if text else sequence
    return [np.concatenate(unexpected), _grams(inputs, sizes, GRAMS), _words(sequence)]


def _mix(values: Array) -> Array:
    """splitmix64's finisher."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _characters(symbols: Array) -> Array:
    """Bytes (T,) -> code points in lower case; bytes that are no UTF-8 stand for themselves, each apart."""
    raw = np.minimum(symbols, 255).astype(np.uint8).tobytes()  # a symbol above is one that training never met
    lower = raw.decode("utf-8", "surrogateescape").lower()
    return np.frombuffer(lower.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)


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


def _pieces(symbols: Array, begins: Array, ends: Array, space: int) -> Array:
    """Hashes of the pieces symbols[begin:end]."""
    value = np.full(len(begins), space, np.uint64)
    marked = (symbols + 1).astype(np.uint64)
    for k in range(int((ends - begins).max(initial=0))):
        inside = begins + k < ends
        value = np.where(
            inside, _mix(value * PRIME + marked[np.minimum(begins + k, len(symbols) - 1)]), value
        )
    return value


def _follow(one: Array, other: Array, space: int) -> Array:
    """Hashes of pairs."""
    return _mix(_mix(one * PRIME + other) * PRIME + np.uint64(space))


def _segments(symbols: Array, at: Array) -> Array:
    """Hashes of the segments that begin at the times `at`, and of two following ones."""
    value = _pieces(symbols, at, np.append(at[1:], len(symbols))[: len(at)], SEGMENTS)
    return np.concatenate([value, _follow(value[:-1], value[1:], SEGMENTS)])


def _words(symbols: Array) -> Array:
    """Hashes of words and of their combinations; none for fewer than two words, which the n-grams cover."""
    filled = np.concatenate([[False], symbols != SPACE, [False]])
    steps = np.diff(filled.astype(np.int8))
    word = _pieces(symbols, np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), WORDS)
    if len(word) < 2:
        return np.zeros(0, np.uint64)
    beginnings = [word[:1]]
    for k in range(1, min(len(word), 4)):
        beginnings.append(_follow(beginnings[-1], word[k : k + 1], PREFIXES))
    first = [_follow(beginning, word[k + 1 :], FIRSTS) for k, beginning in enumerate(beginnings[:2])]
    return np.concatenate(
        [
            word,
            _follow(word[:-1], word[1:], WORDS),
            _follow(word[:-2], word[2:], SKIPS),
            *first,
            *(_mix(beginning + np.uint64(PREFIXES)) for beginning in beginnings),
        ]
    )


class ContextCounts:
    """Counts of hashed contexts, weighted by log counts and by rarity in the training data.

    Each part of `hashed_contexts` has its own `buckets` and unit length, so that no part dominates. Columns
    are the buckets that training met, so that memory goes by the data and not by the buckets.

    used: (F,) int64, their numbers, rising, over all parts. idf: (F,).
    """

    def __init__(self, features: str, sizes: tuple[int, ...], buckets: int, text: bool) -> None:
        self.features, self.sizes, self.buckets, self.text = features, sizes, buckets, text
        self.used: Array = np.zeros(0, np.int64)
        self.idf: Array = np.zeros(0)

    @property
    def parts(self) -> int:
        """How many matrices (n, buckets) stand side by side."""
        return 1 if self.features == "top" else 3

    def fit(self, sequences: list[Array], histories: list[History]) -> tuple[Any, Any]:
        """Learn the rarities; what `transform` makes of the training data."""
        columns = self._columns(sequences, histories)
        self.used = np.unique(np.concatenate(columns))
        if not len(self.used):
            self.used = np.zeros(1, np.int64)  # linear models need a column
        counts = self._count(columns)
        seen = np.bincount(counts.indices, minlength=counts.shape[1])
        # The square root: full inverse frequencies overrate what occurs in a short sequence by chance.
        self.idf = np.sqrt(np.log((1 + len(sequences)) / (1 + seen)) + 1)
        return self._weigh(counts), self._plain(counts)

    def transform(self, sequences: list[Array], histories: list[History]) -> tuple[Any, Any]:
        """Sparse: all parts weighted (n, F), and plain counts of n-grams (n, columns in `plain`)."""
        counts = self._count(self._columns(sequences, histories))
        return self._weigh(counts), self._plain(counts)

    @property
    def plain_begin(self) -> int:
        """The number of the first bucket of n-grams."""
        return min(self.parts - 1, 1) * self.buckets

    @property
    def plain(self) -> slice:
        """The columns of n-grams."""
        ends = np.searchsorted(self.used, [self.plain_begin, self.plain_begin + self.buckets])
        return slice(int(ends[0]), int(ends[1]))

    def _plain(self, counts: Any) -> Any:
        return counts[:, self.plain]

    def _columns(self, sequences: list[Array], histories: list[History]) -> list[Array]:
        """The bucket of each context of each sequence."""
        columns: list[Array] = []
        for sequence, history in zip(sequences, histories, strict=True):
            hashes = hashed_contexts(sequence, history, self.features, self.sizes, self.text)
            found = [h % np.uint64(self.buckets) + np.uint64(i * self.buckets) for i, h in enumerate(hashes)]
            columns.append(np.concatenate(found).astype(np.int64))
        return columns

    def _count(self, columns: list[Array]) -> Any:
        from scipy.sparse import csr_matrix

        row = np.repeat(np.arange(len(columns)), [len(found) for found in columns])
        column = np.concatenate(columns)
        met = np.isin(column, self.used)
        row, column = row[met], np.searchsorted(self.used, column[met])
        counts = csr_matrix((np.ones(len(row)), (row, column)), shape=(len(columns), len(self.used)))
        counts.sum_duplicates()
        return counts

    def _weigh(self, counts: Any) -> Any:
        from scipy.sparse import csr_matrix

        row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        data = (1 + np.log(counts.data)) * self.idf[counts.indices]
        part = row * self.parts + self.used[counts.indices] // self.buckets
        norms = np.sqrt(np.bincount(part, data * data, minlength=counts.shape[0] * self.parts))
        weights = np.array(WEIGHTS if self.parts > 1 else (1.0,))
        data = data * (weights[part % self.parts] / np.where(norms > 0, norms, 1.0)[part])
        return csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)


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
