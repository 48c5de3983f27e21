"""Look-up tables of sigmoid, tanh and powers of two, from integer arithmetic only.

The last bit of a libm's results differs between machines, so none is used: e**(-1/STEPS) comes from its
Taylor series in 128-bit fixed point, every other entry by integer multiplication and division, rounded once
at the end.
`digest()` is what a test, and the self-check at start-up, compare.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

STEPS = 256  # table entries per unit of a pre-activation
SIGMOID_REACH = 12  # the sigmoid's table covers [-12, 12]; beyond, its ends
TANH_REACH = 6
STATE_BITS = 15  # sigmoid, tanh and states are multiples of 2**-15
STATE_LIMIT = 2**STATE_BITS - 1  # the largest: 1.0 itself would not fit into 16 bits
LOG_STEPS = 128  # weights per factor of two: logits are in units of 1/128 bit
WEIGHT_BITS = 23  # the largest weight is 2**23, the smallest 1

LOWER = tuple(c + 1 if c >= 128 else (c | 32) + 1 if chr(c).isalpha() else 0 for c in range(256))
"""Of the letters of words the byte made small plus one, of all others 0."""

_POINT = 128  # bits after the point
_Scalar = TypeVar("_Scalar", bound=np.generic)


def exp_of_minus(numerator: int, denominator: int) -> int:
    """e**(-numerator/denominator) in units of 2**-128, by Taylor's series; for arguments below 1."""
    term = total = 1 << _POINT
    k = 1
    while term:
        term = term * numerator // (denominator * k)
        total += term if k % 2 == 0 else -term
        k += 1
    return total


def powers(base: int, count: int) -> list[int]:
    """base**0 .. base**count, all in units of 2**-128."""
    powers = [1 << _POINT]
    for _ in range(count):
        powers.append(powers[-1] * base >> _POINT)
    return powers


def divide(a: int, b: int) -> int:
    """a / b rounded to the nearest integer, halves upwards."""
    return (2 * a + b) // (2 * b)


@cache
def sigmoid_table() -> NDArray[np.int16]:
    """Entry i is min(2**15 - 1, 2**15 * sigmoid(i / STEPS - SIGMOID_REACH)), i = 0 .. 2 * 12 * STEPS."""
    one, unit = 1 << _POINT, 1 << STATE_BITS
    upper = [divide(unit * one, one + p) for p in powers(exp_of_minus(1, STEPS), SIGMOID_REACH * STEPS)]
    values = [unit - v for v in reversed(upper[1:])] + upper
    return _frozen(np.array([min(v, STATE_LIMIT) for v in values], dtype=np.int16))


@cache
def tanh_table() -> NDArray[np.int16]:
    """Entry i is 2**15 * tanh(i / STEPS - TANH_REACH), at most 2**15 - 1 in size, i = 0 .. 2 * 6 * STEPS."""
    one, unit = 1 << _POINT, 1 << STATE_BITS
    squares = powers(exp_of_minus(2, STEPS), TANH_REACH * STEPS)  # e**(-2x)
    upper = [min(divide(unit * (one - p), one + p), STATE_LIMIT) for p in squares]
    return _frozen(np.array([-v for v in reversed(upper[1:])] + upper, dtype=np.int16))


@cache
def weight_table() -> NDArray[np.int32]:
    """Entry k is the integer nearest to 2**(23 - k/128), k = 0 .. 23 * 128: from 2**23 down to 1."""
    root = 1 << (_POINT - 1)  # 1/2; its 128th root by seven integer square roots
    for _ in range(LOG_STEPS.bit_length() - 1):
        root = math.isqrt(root << _POINT)
    fractions = powers(root, LOG_STEPS - 1)
    shift = _POINT - WEIGHT_BITS
    values = [
        divide(fractions[k % LOG_STEPS], 1 << (shift + k // LOG_STEPS))
        for k in range(WEIGHT_BITS * LOG_STEPS + 1)
    ]
    return _frozen(np.array(values, dtype=np.int32))


def _frozen(table: NDArray[_Scalar]) -> NDArray[_Scalar]:
    table.flags.writeable = False
    return table


def digest() -> str:
    """BLAKE2b-128 over sigmoid, tanh (int16) and weights (int32),
    little-endian: the same on every machine."""
    hasher = hashlib.blake2b(digest_size=16)
    for table in (sigmoid_table().astype("<i2"), tanh_table().astype("<i2"), weight_table().astype("<i4")):
        hasher.update(table.tobytes())
    return hasher.hexdigest()
