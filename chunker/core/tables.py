"""Look-up tables of sigmoid, tanh and powers of two, from integer arithmetic only.

A libm's last bit differs between machines, so none is asked: e**(-1/STEPS) comes from its Taylor series in
128-bit fixed point, every other entry by integer multiplication and division, rounded once at the end.
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
VALUE_BITS = 16  # sigmoid and tanh are multiples of 2**-16
LOG_STEPS = 128  # weights per factor of two: logits are in units of 1/128 bit
WEIGHT_BITS = 32  # the largest weight is 2**32, the smallest 1

_POINT = 128  # bits after the point
_Scalar = TypeVar("_Scalar", bound=np.generic)


def _exp_of_minus(numerator: int, denominator: int) -> int:
    """e**(-numerator/denominator) in units of 2**-128, by Taylor's series; for arguments below 1."""
    term = total = 1 << _POINT
    k = 1
    while term:
        term = term * numerator // (denominator * k)
        total += term if k % 2 == 0 else -term
        k += 1
    return total


def _powers(base: int, count: int) -> list[int]:
    """base**0 .. base**count, all in units of 2**-128."""
    powers = [1 << _POINT]
    for _ in range(count):
        powers.append(powers[-1] * base >> _POINT)
    return powers


def _divide(a: int, b: int) -> int:
    """a / b rounded to the nearest integer, halves upwards."""
    return (2 * a + b) // (2 * b)


@cache
def sigmoid_table() -> NDArray[np.float32]:
    """Entry i is sigmoid(i / STEPS - SIGMOID_REACH), a multiple of 2**-16."""
    one, unit = 1 << _POINT, 1 << VALUE_BITS
    upper = [_divide(unit * one, one + p) for p in _powers(_exp_of_minus(1, STEPS), SIGMOID_REACH * STEPS)]
    values = [unit - v for v in reversed(upper[1:])] + upper
    return _frozen(np.array(values, dtype=np.float32) / np.float32(unit))


@cache
def tanh_table() -> NDArray[np.float32]:
    """Entry i is tanh(i / STEPS - TANH_REACH), a multiple of 2**-16."""
    one, unit = 1 << _POINT, 1 << VALUE_BITS
    squares = _powers(_exp_of_minus(2, STEPS), TANH_REACH * STEPS)  # e**(-2x)
    upper = [_divide(unit * (one - p), one + p) for p in squares]
    values = [-v for v in reversed(upper[1:])] + upper
    return _frozen(np.array(values, dtype=np.float32) / np.float32(unit))


@cache
def weight_table() -> NDArray[np.float64]:
    """Entry k is the integer nearest to 2**(32 - k/128), for k = 0 .. 32 * 128: from 2**32 down to 1."""
    root = 1 << (_POINT - 1)  # 1/2; its 128th root by seven integer square roots
    for _ in range(LOG_STEPS.bit_length() - 1):
        root = math.isqrt(root << _POINT)
    fractions = _powers(root, LOG_STEPS - 1)
    shift = _POINT - WEIGHT_BITS
    values = [
        _divide(fractions[k % LOG_STEPS], 1 << (shift + k // LOG_STEPS))
        for k in range(WEIGHT_BITS * LOG_STEPS + 1)
    ]
    return _frozen(np.array(values, dtype=np.float64))


@cache
def log_table() -> tuple[NDArray[np.float64], float]:
    """ln((1/2 + i / 2048)) and ln(2) in units of 2**-16 / STEPS, for i = 0 .. 1023: from
    the first 32 binary digits of log2, found by squaring (Knuth, The Art of Computer Programming, 1.2.2, ex. 25)."""
    digits, point = 32, 64
    ln2 = 2 * sum(_divide(1 << _POINT, (2 * k + 1) * 3 ** (2 * k + 1)) for k in range(40))  # 2 artanh(1/3)
    unit = STEPS << 16
    values = []
    for i in range(1024):
        x, log2 = (1024 + i) << (point - 10), 0
        for _ in range(digits):
            x = x * x >> point
            carry = x >> (point + 1)
            x >>= carry
            log2 = 2 * log2 + carry
        values.append(_divide(unit * ln2 * (log2 - (1 << digits)), 1 << (_POINT + digits)))
    return _frozen(np.array(values, dtype=np.float64)), float(_divide(unit * ln2, 1 << _POINT))


def _frozen(table: NDArray[_Scalar]) -> NDArray[_Scalar]:
    table.flags.writeable = False
    return table


def digest() -> str:
    """A hash of all tables' values, the same on every machine."""
    hasher = hashlib.blake2b(digest_size=16)
    for table in (sigmoid_table(), tanh_table(), weight_table(), *log_table()):
        hasher.update(np.ascontiguousarray(table, dtype="<f8").tobytes())
    return hasher.hexdigest()
