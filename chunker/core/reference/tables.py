"""Constants of level 0, from integer arithmetic alone: squash and stretch, logarithms, bit histories,
kinds of bytes.

FORMAT.md, "Constants". All are made once, when this module is imported, and never change. `digest()` compares
them, and those of the recurrent levels, with every other implementation's.
"""

from __future__ import annotations

from chunker.config import TIME_BOUNDS
from chunker.core.reference.histories import (
    HISTORY_CHANCE,
    HISTORY_COUNT,
    HISTORY_MIXED,
    NEXT_HISTORY,
)
from chunker.core.tables import divide, exp_of_minus, powers, sigmoid_table, tanh_table, weight_table

NAT = 256  # logarithms of odds are in units of 1/256 nat
STRETCH_LIMIT = 11 * NAT - 1
LOG_BITS = 12  # `log2` counts 4096 to an octave

_ONE = 1 << 128  # the unit of what `powers` returns


def clamp(x: int, limit: int) -> int:
    """x, or the nearest number of -limit .. limit."""
    return max(-limit, min(x, limit))


def _squash() -> list[int]:
    """Entry x + STRETCH_LIMIT is 2**16 / (1 + exp(-x / 256)), rounded, at most 65535."""
    upper = [divide(_ONE << 16, _ONE + e) for e in powers(exp_of_minus(1, NAT), STRETCH_LIMIT)]
    return [(1 << 16) - p for p in reversed(upper[1:])] + [min(p, 65535) for p in upper]


def _stretch() -> list[int]:
    """Entry i is the first x whose squash(x) reaches 16 i; so the odds of 1/2 are 0."""
    table, x = [], -STRETCH_LIMIT
    for i in range(4096):
        while x < STRETCH_LIMIT and SQUASH[x + STRETCH_LIMIT] < 16 * i:
            x += 1
        table.append(x)
    return table


def _log2() -> list[int]:
    """Entry i is 2**12 log2(1 + i / 4096), rounded; digit by digit,
    for squaring a number doubles its logarithm."""
    table = []
    for i in range(4096):
        x, digits = (4096 + i) << 19, 0  # x from 1 to below 2, in units of 2**-31
        for _ in range(LOG_BITS + 1):
            x = x * x >> 31
            digit = x >> 32
            x >>= digit
            digits = 2 * digits + digit
        table.append((digits + 1) >> 1)
    return [*table, 4096]


def _kind(c: int) -> int:
    """What sort of byte c is, 0 .. 13."""
    if c >= 128:
        return 1
    character = chr(c)
    if character.isalpha():
        return 2 if character.islower() else 3
    if character.isdigit():
        return 4
    if c < 32 and character not in "\n\t":
        return 0
    kinds = {5: " ", 6: "\n", 7: "_-.", 8: ",;\t", 9: "\"'", 10: "([{<", 11: ")]}>", 12: ":="}
    return next((kind for kind, members in kinds.items() if character in members), 13)


def _coarse(c: int) -> int:
    """One byte for all digits, one for all capitals, for all small letters, for all bytes from 128 on."""
    if c >= 128:
        return 128
    if chr(c).isalpha():
        return ord("a") if chr(c).islower() else ord("A")
    return ord("0") if chr(c).isdigit() else c


SQUASH = _squash()
STRETCH = _stretch()
LOG2 = _log2()
RECIPROCAL = [(1 << 17) // (2 * n + 3) for n in range(1024)]  # 2**16 / (n + 1.5)
KIND = [_kind(c) for c in range(256)]
COARSE = [_coarse(c) for c in range(256)]


def squash(x: int) -> int:
    """The probability of a 1, 16 bits, whose logarithm of odds is x / 256."""
    return SQUASH[clamp(x, STRETCH_LIMIT) + STRETCH_LIMIT]


def stretch(p: int) -> int:
    """The logarithm of odds, in 1/256 nat, of a probability of 16 bits; only its highest 12 count."""
    return STRETCH[p >> 4]


def bits_for(n: int, least: int, most: int) -> int:
    """How many bits number a table of at least n rows, within limits: the smallest b >= least with 2**b >= n,
    or most."""
    return max(least, min((n - 1).bit_length(), most)) if n > 0 else least


def log2(x: int) -> int:
    """2**12 log2(x), x >= 1; of x the bits below its highest 13 do not count."""
    octave = x.bit_length() - 1
    return (octave << LOG_BITS) + LOG2[(x << LOG_BITS >> octave) & 4095]


def digest() -> int:
    """FNV-1a, 64 bits, over all constants of the codec: 32 bits each, lowest byte first, in this order."""
    h = 0xCBF29CE484222325
    for table in (
        SQUASH,
        STRETCH,
        RECIPROCAL,
        LOG2,
        sigmoid_table().tolist(),
        tanh_table().tolist(),
        weight_table().tolist(),
        TIME_BOUNDS,
        *NEXT_HISTORY,
        HISTORY_COUNT,
        HISTORY_MIXED,
        HISTORY_CHANCE,
        KIND,
        COARSE,
    ):
        for value in table:
            for byte in (value & 0xFFFFFFFF).to_bytes(4, "little"):
                h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h
