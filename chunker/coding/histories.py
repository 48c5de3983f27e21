"""Histories of bits in one byte each: what followed a context, as counts of zeros and ones.

The first three bits are remembered in order, later ones as two counts, and the last one while the counts are
small. A bit that contradicts a long run of the other shortens it: what happened lately says more (Mahoney 2005,
"Adaptive weighing of context models", 4.1, nonstationary state).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REMEMBERED = 3
# The larger count's bound for each value of the smaller one.
BOUNDS = (44, 28, 12, 6, 5, 5)
LAST_UP_TO = 7

_State = tuple[int, int, str]


def _follow(state: _State, bit: int) -> _State:
    zeros, ones, past = state
    if len(past) < REMEMBERED and zeros + ones == len(past):
        return zeros + (bit == 0), ones + (bit == 1), past + "01"[bit]
    counts = [zeros, ones]
    counts[bit] += 1
    if counts[1 - bit] > 2:
        counts[1 - bit] = counts[1 - bit].bit_length()
    while min(counts) >= len(BOUNDS) or max(counts) > BOUNDS[min(counts)]:
        counts[bit] -= 1
    return counts[0], counts[1], "x" if max(counts) > LAST_UP_TO else "L" + "01"[bit]


def _all_states() -> tuple[list[_State], list[list[int]]]:
    states: list[_State] = [(0, 0, "")]
    number = {states[0]: 0}
    following = []
    for state in states:  # grows while it is read
        row = []
        for bit in (0, 1):
            then = _follow(state, bit)
            if then not in number:
                number[then] = len(states)
                states.append(then)
            row.append(number[then])
        following.append(row)
    return states, following


_STATES, _FOLLOWING = _all_states()
HISTORIES = len(_STATES)
NEXT: NDArray[np.uint8] = np.array(_FOLLOWING, dtype=np.uint8).T.copy()
"""NEXT[bit, history]: (2, HISTORIES). History 0 is the empty one."""


def initial_probabilities() -> NDArray[np.float64]:
    """(HISTORIES,): of a 1 after each history, before anything is known: (ones + 0.4) / (all + 0.8)."""
    counts = np.array([state[:2] for state in _STATES], dtype=np.float64)
    result: NDArray[np.float64] = (5 * counts[:, 1] + 2) / (5 * counts.sum(1) + 4)
    return result
