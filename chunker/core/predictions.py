"""From logits to integer frequencies, the only thing that the entropy coder and the gates ever see.

Logits are float32 in units of 1/128 bit. A symbol's weight is a table entry, an integer from 2**32 (the most
probable symbol) down to 1; sums of weights are exact in float64 (below 2**53 in any order).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chunker.core.tables import weight_table

TOTAL = 2**24  # frequencies of all symbols sum to this

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Weighed:
    """Weights of one level's prediction for n lanes.

    weights: (n, V) integers >= 1 held in float64. total: (n, 1) their exact sums.
    best: (n,) the most probable symbol, the first of equals.
    """

    weights: Weights
    total: Weights
    best: NDArray[np.intp]


def weigh(logits: NDArray[np.float32]) -> Weighed:
    """Weights from logits (n, V) in units of 1/128 bit."""
    best = logits.argmax(1)
    top = logits[np.arange(len(best)), best]
    steps = top[:, None] - logits  # >= 0
    steps += np.float32(0.5)
    weights = weight_table().take(steps.astype(np.intp), mode="clip")
    return Weighed(weights, weights.sum(1, keepdims=True), best)


def frequencies(weighed: Weighed) -> Weights:
    """f - 1 for frequencies f >= 1 that sum to 2**24: (n, V) integers held in float64.

    Each symbol gets floor(weight * R), R = (2**24 - V) / total rounded once; what is left over goes to the
    most probable symbol. Division and product are correctly rounded, so the floor is the same everywhere.
    """
    return _share(weighed.weights, weighed.total, TOTAL - weighed.weights.shape[1], weighed.best)


def _share(weights: Weights, total: Weights, amount: float | Weights, best: NDArray[np.intp]) -> Weights:
    """Split the integer `amount` of each lane in proportion to its weights, exactly."""
    shares = weights * (amount / total)
    np.floor(shares, out=shares)
    left = amount - shares.sum(1, keepdims=True)
    lanes = np.arange(len(best))
    shares[lanes, best] += left[:, 0]
    return shares


def threshold(threshold_steps: int) -> float:
    """The probability below which an input is unexpected: 2**-(steps/128), exact by the table."""
    table = weight_table()
    return float(table[min(threshold_steps, len(table) - 1)] / table[0])


def expected(weighed: Weighed, rule: str, limit: float) -> NDArray[np.bool_]:
    """(n, V): which symbols a level would count as expected (chunker.learning.gate.expected_set)."""
    settled: NDArray[np.bool_]
    if rule == "argmax":
        settled = np.arange(weighed.weights.shape[1]) == weighed.best[:, None]
    else:
        settled = weighed.weights / weighed.total >= limit
        if limit >= 0.5:  # one symbol at most: of two at exactly 1/2 the first
            settled &= np.arange(weighed.weights.shape[1]) == weighed.best[:, None]
    return settled


def unexpected(weighed: Weighed, symbols: NDArray[np.intp], rule: str, limit: float) -> NDArray[np.bool_]:
    """(n,): which of the symbols that came go up to the next level."""
    missed: NDArray[np.bool_]
    if rule == "argmax":
        missed = weighed.best != symbols
    else:
        picked = np.take_along_axis(weighed.weights, symbols[:, None], 1)
        missed = (picked / weighed.total < limit)[:, 0]
        if limit >= 0.5:
            missed |= weighed.best != symbols
    return missed


def nested(levels: list[Weighed], rule: str, limits: list[float]) -> Weights:
    """Frequencies minus one of a faithful stack, (n, V).

    What level 0 expects keeps level 0's frequency; the rest of its mass is shared out as level 1 predicts,
    among the symbols that level 0 did not expect; and so on upwards (chunker.learning.stack._combine).
    """
    result = frequencies(levels[0])
    settled = np.zeros(result.shape, dtype=bool)
    for lower, upper, limit in zip(levels[:-1], levels[1:], limits, strict=True):
        settled |= expected(lower, rule, limit)
        open_ = ~settled
        weights = upper.weights * open_
        total = np.maximum(weights.sum(1, keepdims=True), 1)  # 0 only where no symbol is open
        amount = (result * open_).sum(1, keepdims=True)
        shares = _share(weights, total, amount, weights.argmax(1))
        result = np.where(open_, shares, result)
    return result
