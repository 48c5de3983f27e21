"""From logits to integer frequencies, the only thing that coders and gates ever see.

Logits are integers in units of 1/128 bit. A symbol's weight is a table entry, an integer from 2**23 (the most
probable symbol) down to 1; all that follows is integer arithmetic on weights, in 64 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chunker.core.products import Integers
from chunker.core.tables import LOG_STEPS, WEIGHT_BITS, weight_table

TOTAL = 2**24  # frequencies of all symbols sum to this

Weights = NDArray[np.int64]


@dataclass(frozen=True)
class Weighed:
    """Weights of one level's prediction for n lanes.

    weights: (n, V) integers, 1 to 2**23. total: (n, 1) their sums. best: (n,) the most probable symbol, the
    first of equals.
    """

    weights: Weights
    total: Weights
    best: NDArray[np.intp]


@dataclass(frozen=True)
class Limit:
    """The probability below which an input is unexpected, 2**-(steps/128), as weight / 2**23.

    strict: of two symbols at exactly 1/2 only the first is expected, so that one is at most.
    """

    weight: int
    strict: bool


def weigh(logits: Integers) -> Weighed:
    """Weights from logits (n, V) in units of 1/128 bit."""
    best = logits.argmax(1)
    steps = logits[np.arange(len(best)), best].astype(np.int64)[:, None] - logits  # >= 0
    weights = weight_table().take(steps, mode="clip").astype(np.int64)
    return Weighed(weights, weights.sum(1, keepdims=True), best)


def frequencies(weighed: Weighed) -> Weights:
    """f - 1 for frequencies f >= 1 that sum to 2**24: (n, V).

    Each symbol gets floor(weight * (2**24 - V) / total); what is left over goes to the most probable symbol.
    """
    amount = np.full_like(weighed.total, TOTAL - weighed.weights.shape[1])
    return _share(weighed.weights, weighed.total, amount, weighed.best)


def _share(weights: Weights, total: Weights, amount: Weights, best: NDArray[np.intp]) -> Weights:
    """Split the `amount` (n, 1) of each lane in proportion to its weights."""
    shares = weights * amount // total
    left = amount - shares.sum(1, keepdims=True)
    shares[np.arange(len(best)), best] += left[:, 0]
    return shares


def threshold(threshold_steps: int) -> Limit:
    """The limit of a gate whose threshold is that many steps of 1/128 bit."""
    table = weight_table()
    return Limit(int(table[min(threshold_steps, len(table) - 1)]), threshold_steps <= LOG_STEPS)


def expected(weighed: Weighed, rule: str, limit: Limit) -> NDArray[np.bool_]:
    """(n, V): which symbols a level would count as expected (chunker.learning.gate.expected_set)."""
    first: NDArray[np.bool_] = np.arange(weighed.weights.shape[1]) == weighed.best[:, None]
    if rule == "argmax":
        return first
    settled: NDArray[np.bool_] = (weighed.weights << WEIGHT_BITS) >= weighed.total * limit.weight
    return settled & first if limit.strict else settled


def unexpected(weighed: Weighed, symbols: NDArray[np.intp], rule: str, limit: Limit) -> NDArray[np.bool_]:
    """(n,): which of the symbols that came go up to the next level."""
    missed: NDArray[np.bool_] = weighed.best != symbols
    if rule == "argmax":
        return missed
    picked = np.take_along_axis(weighed.weights, symbols[:, None], 1)
    unlikely: NDArray[np.bool_] = ((picked << WEIGHT_BITS) < weighed.total * limit.weight)[:, 0]
    return unlikely | missed if limit.strict else unlikely


def nested(levels: list[Weighed], rule: str, limits: list[Limit]) -> Weights:
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
