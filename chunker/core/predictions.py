"""From logits to integer weights, the only numbers of a prediction that coder and gates read.

Logits are integers in units of 1/128 bit. Weights come from a table; sums and comparisons have 64 bits:

    weight(s) = max(1, round(2**(23 - (max logit - logit(s)) / 128))),    p(s) = weight(s) / sum of weights
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chunker.core.ngrams import LOWER
from chunker.core.products import Integers
from chunker.core.tables import LOG_STEPS, WEIGHT_BITS, weight_table

Weights = NDArray[np.int64]


@dataclass(frozen=True)
class UnnormalizedPmf:
    """One level's prediction for n lanes: probabilities that are not divided by their sum.

    weights: (n, V) integers, 1 to 2**23. total: (n, 1) their sums. best: (n,) the most probable symbol, the
    first of equals.
    """

    weights: Weights
    total: Weights
    best: NDArray[np.intp]


@dataclass(frozen=True)
class Limit:
    """The probability below which an input is unexpected, 2**-(steps/128), as weight / 2**23.

    strict: only the most probable symbol can be expected (thresholds of at most 1 bit), so that one of two
    symbols at exactly 1/2 is.
    """

    weight: int
    strict: bool


def unnormalized_pmf(logits: Integers) -> UnnormalizedPmf:
    """Weights from logits (n, V) in units of 1/128 bit."""
    best = logits.argmax(1)
    steps = logits[np.arange(len(best)), best].astype(np.int64)[:, None] - logits  # >= 0
    weights = weight_table().take(steps, mode="clip").astype(np.int64)
    return UnnormalizedPmf(weights, weights.sum(1, keepdims=True), best)


def threshold(threshold_steps: int) -> Limit:
    """The limit of a gate whose threshold is that many steps of 1/128 bit."""
    table = weight_table()
    return Limit(int(table[min(threshold_steps, len(table) - 1)]), threshold_steps <= LOG_STEPS)


def expected(pmf: UnnormalizedPmf, rule: str, limit: Limit) -> NDArray[np.bool_]:
    """(n, V): which symbols a level would count as expected (chunker.learning.gate.expected_set)."""
    first: NDArray[np.bool_] = np.arange(pmf.weights.shape[1]) == pmf.best[:, None]
    if rule == "argmax":
        return first
    settled: NDArray[np.bool_] = (pmf.weights << WEIGHT_BITS) >= pmf.total * limit.weight
    return settled & first if limit.strict else settled


def unexpected(pmf: UnnormalizedPmf, symbols: NDArray[np.intp], rule: str, limit: Limit) -> NDArray[np.bool_]:
    """(n,): which of the symbols that came go up to the next level (chunker.config.GateRule)."""
    if rule == "word":
        no_letter: NDArray[np.bool_] = LOWER[symbols] == 0
        return no_letter
    missed: NDArray[np.bool_] = pmf.best != symbols
    if rule == "argmax":
        return missed
    picked = np.take_along_axis(pmf.weights, symbols[:, None], 1)
    unlikely: NDArray[np.bool_] = ((picked << WEIGHT_BITS) < pmf.total * limit.weight)[:, 0]
    return unlikely | missed if limit.strict else unlikely


def combined(levels: list[UnnormalizedPmf], rule: str, limits: list[Limit]) -> NDArray[np.float64]:
    """The probabilities (n, V) that a faithful stack gives. No coder and no gate uses them.

    What level 0 expects keeps level 0's probability; the rest of its mass is shared out as level 1 predicts,
    among the symbols that level 0 did not expect; and so on upwards (chunker.learning.stack.Stack.combine).
    """
    result: NDArray[np.float64] = levels[0].weights / levels[0].total
    left = np.ones(result.shape, dtype=bool)
    for lower, upper, limit in zip(levels[:-1], levels[1:], limits, strict=True):
        left &= ~expected(lower, rule, limit)
        weights = upper.weights * left
        total = np.maximum(weights.sum(1, keepdims=True), 1)  # 0 only where no symbol is left
        result = np.where(left, weights / total * (result * left).sum(1, keepdims=True), result)
    return result
