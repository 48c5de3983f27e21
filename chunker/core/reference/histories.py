"""Bit histories: what bits followed a context, as a state of one byte.

Mahoney 2005, "Adaptive Weighing of Context Models for Lossless Data Compression", section 4.1;
FORMAT.md, "Constants".

    0 .. 30     all histories of up to four bits, in order: 2**length - 1 + the bits, the first the highest
    31 .. 252   how many zeros, how many ones, and which bit came last, numbered as they are met
    253 .. 255  unused

After a bit of one kind a large count of the other kind shrinks, because recent bits predict better.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

_IN_ORDER = 4  # so many bits are remembered one by one
_FIRST_COUNTED = 2 ** (_IN_ORDER + 1) - 1  # the first state that only counts
_MOST = (40, 24, 12, 6)  # largest count of one kind of bit if the other was seen 0, 1, 2, 3 times


class _Counts(NamedTuple):
    """A state from 31 on."""

    zeros: int
    ones: int
    last: int


def _fits(a: int, b: int) -> bool:
    """Whether there is a state for a of one bit and b of the other."""
    return min(a, b) < len(_MOST) and max(a, b) <= _MOST[min(a, b)]


def _faded(n: int) -> int:
    """What is left of n bits of one kind after a bit of the other kind: n up to 2,
    then 1 + floor(log2(n))."""
    return n if n <= 2 else n.bit_length()


def _first_counted(zeros: int, ones: int, bit: int) -> _Counts:
    """The fifth bit: from here on bits are counted."""
    zeros, ones = zeros + 1 - bit, ones + bit
    while not _fits(zeros, ones):
        zeros, ones = (zeros - 1, ones) if zeros > ones else (zeros, ones - 1)
    return _Counts(zeros, ones, bit)


def _next_counted(state: _Counts, bit: int) -> _Counts:
    """One more bit: its count grows, the other one fades, and both shrink to what there is a state for."""
    before, other = (state.ones, state.zeros) if bit else (state.zeros, state.ones)
    same, other = before + 1, _faded(other)
    while not _fits(same, other):
        if same > before or other <= same:
            same -= 1
        else:
            other -= 1
    return _Counts(other, same, 1) if bit else _Counts(same, other, 0)


@cache
def _machine() -> tuple[list[tuple[int, int]], tuple[list[int], list[int]]]:
    """(zeros, ones) of each state; and the next state of each after a 0, after a 1."""
    counts = [
        (length - bits.bit_count(), bits.bit_count())
        for length in range(_IN_ORDER + 1)
        for bits in range(2**length)
    ]
    numbers: dict[_Counts, int] = {}
    counted: list[_Counts] = []
    after: tuple[list[int], list[int]] = ([], [])

    def number(state: _Counts) -> int:
        if state not in numbers:
            numbers[state] = len(counts)
            counts.append((state.zeros, state.ones))
            counted.append(state)
        return numbers[state]

    state = 0
    while state < len(counts):  # which grows on the way
        for bit in (0, 1):
            if state < _FIRST_COUNTED // 2:  # 2**length - 1 + bits becomes 2**(length + 1) - 1 + 2 bits + bit
                after[bit].append(2 * state + 1 + bit)
            elif state < _FIRST_COUNTED:
                after[bit].append(number(_first_counted(*counts[state], bit)))
            else:
                after[bit].append(number(_next_counted(counted[state - _FIRST_COUNTED], bit)))
        state += 1
    return counts, after


def _padded(table: list[int], value: int = 0) -> list[int]:
    """For 256 states."""
    return table + [value] * (256 - len(table))


_counts, _after = _machine()

NEXT_HISTORY = (_padded(_after[0]), _padded(_after[1]))  # [bit][state]
HISTORY_COUNT = _padded([zeros + ones for zeros, ones in _counts])  # bits that a state stands for
HISTORY_MIXED = _padded([int(zeros > 0 and ones > 0) for zeros, ones in _counts])  # 1: it has seen both
# 2**16 (ones + 0.4) / (zeros + ones + 0.8): the chance of a 1 before anything is learnt of the state
HISTORY_CHANCE = _padded(
    [(5 * ones + 2) * 65536 // (5 * (zeros + ones) + 4) for zeros, ones in _counts], 32768
)
